"""``plan.json``: the one document that a bundle carries and the engine executes."""

# Annotations are objects here, not text that pydantic would have to compile at every start.
from typing import Literal

from pydantic import Field

from planner.documents import Document
from planner.model.target import Accept, RolloutPolicy

PHASES = ("preflight", "prefetch", "drain", "baseline", "change", "reboot", "gate", "undrain", "record")


class Claimed(Document):
    """One claim that a step or a refusal rests on."""

    claim: str                        # name of the claim, family or release
    statement: str
    source: str                       # "matrices/cuda.yml:claim-name" and the vendor's URL, one line


class KnownProblem(Claimed):
    """A named problem of the goal that does not block it: people decide whether they can live with it."""

    hint: str = ""
    at_start: bool = False            # the nodes have it already


class PackageAct(Document):
    """Exactly what the package manager is told to do; beside it only what matches ``brings`` may be touched."""

    manager: Literal["apt", "dnf", "none"]
    install: dict[str, str] = Field(default_factory=dict)   # name -> exact package version
    remove: tuple[str, ...] = ()
    brings: tuple[str, ...] = ()      # globs of dependencies that may come, change or go along, sorted


class Change(Document):
    """One component's move. ``from``/``to`` are "" for absent; side-by-side components add or remove one version."""

    component: str
    from_: str = Field(alias="from")
    to: str


class StepProof(Document):
    """How a node shows, without planner, that a component is where a step leaves it."""

    component: str
    wanted: tuple[str, ...]           # must show
    unwanted: tuple[str, ...] = ()    # must not show any more
    file: str = ""
    argv: tuple[str, ...] = ()
    variable: str = ""
    where: Literal["node", "cluster"] = "node"
    fields: dict[str, str] = Field(default_factory=dict)
    value: str = ""


class StepRefresh(Document):
    """Something generated from what the step changes, made again where it is there."""

    file: str = ""
    argv: tuple[str, ...] = ()
    unit: str = ""


class Step(Document):
    """One edge of the path."""

    id: str                           # "s1" …, unique in its cohort
    move: str                         # name of the move in the matrices
    title: str                        # one line for people: "driver 535.104.05 -> 580.159.04 with fabric_manager"
    changes: tuple[Change, ...]
    packages: PackageAct
    disruption: Literal["none", "restart", "drain", "module-reload", "reboot"]
    minutes: int
    quick_gate: bool                  # a kernel gate follows before the next step
    links: dict[str, str] = Field(default_factory=dict)   # symlinks: {"/usr/local/cuda": "/usr/local/cuda-13.0"}
    restarts: tuple[str, ...] = ()    # systemd units to restart after the change
    because: tuple[Claimed, ...] = ()
    notes: tuple[str, ...] = ()       # release notes, CVEs and deprecations crossed
    risks: tuple[str, ...] = ()
    # What no package manager of the node does: a person, or their own automation. Absent from other steps' documents.
    handover: Literal[True] | None = None
    instructions: tuple[str, ...] | None = None
    proofs: tuple[StepProof, ...] | None = None     # what shows afterwards that it was done
    remarks: tuple[str, ...] | None = None          # what people should know or do about it: firmware, engines
    ends: Literal[True] | None = None               # what nodes can have afterwards is not known: discover, plan again
    unpredicted: tuple[str, ...] | None = None      # components that it changes, too, nobody knows to what
    refresh: tuple[StepRefresh, ...] | None = None
    awaits: str | None = None                       # move that all other nodes with it have behind them before


class Cohort(Document):
    """Nodes with equal stack, hardware class, workloads and target; one path for all of them."""

    id: str                           # stable short name: "c-h100-a1b2c3"
    pools: tuple[str, ...]
    gpu: str                          # for people: "8x h100-sxm"
    hardware_class: str               # canary class: GPU model x firmware x OS/kernel x NIC x role
    nodes: tuple[str, ...]            # sorted
    start: dict[str, tuple[str, ...]]
    goal: dict[str, tuple[str, ...]]  # the state after the last step
    installed: dict[str, str] = Field(default_factory=dict)   # packages the matrices speak of, at the start
    gpu_names: tuple[str, ...] = ()   # NVML names, one a GPU
    links: dict[str, str] | None = None   # default links at the start, as far as the steps turn them elsewhere
    steps: tuple[Step, ...]           # empty: already there
    way_back: tuple[Step, ...] = ()   # steps from goal to start, in order
    no_return_after: str | None = None   # id of the first step without a way back, and why in `no_return_why`
    no_return_why: str = ""
    no_return_packages: tuple[str, ...] = ()   # "name version" of old packages that no repository has any more
    inherited: tuple[Claimed, ...] = ()  # violations the nodes already had
    warnings: tuple[KnownProblem, ...] = ()   # known problems of the goal that block nothing
    cost: dict[str, int] = Field(default_factory=dict)   # reboots, drains, risks, steps, minutes


class Batch(Document):
    """Nodes that move together; one cohort may appear in many batches."""

    id: str                           # "w2b1"
    nodes: tuple[str, ...]            # sorted; all wave nodes of an NVLink domain are in one batch
    minutes: int                      # worst case, drain excluded


class Wave(Document):
    """One play file. Batches of a wave run one after another; the soak follows the last one."""

    id: str                           # "w1"
    kind: Literal["staging", "canary", "batch"]
    play: str                         # "plays/w1-canary.yml"
    batches: tuple[Batch, ...]
    soak_minutes: int
    approval: bool                    # the engine pauses here after the soak


class PoolLimit(Document):
    """The absolute numbers a policy came to."""

    nodes: int                        # those that are down included
    max_unavailable: int
    max_unavailable_per_domain: int | None = None
    already_down: tuple[str, ...] = ()
    down_domains: dict[str, str] | None = None       # failure domains of these; None: none has one
    windows: tuple[str, ...] = ()     # weekly maintenance windows; empty: at any time
    canary_command: tuple[str, ...] | None = None    # argv that each node runs after its standard gate; None: nothing
    canary_command_timeout_minutes: int | None = None
    canary_command_minutes: int | None = None        # planning figure of it; None in plans of older versions


class NodePlan(Document):
    """What the engine must know of one node; no connection data, no secrets."""

    cohort: str
    pool: str
    environment: str
    failure_domain: str = ""
    nvlink_domain: str = ""
    comm_domain: str = ""
    scheduler: str = "none"           # none | slurm | kubernetes | hook
    machine_id: str
    facts: str                        # digest of the fact set the plan relies on


class Excluded(Document):
    """A node that no step touches, and why."""

    node: str
    reason: str                       # unreadable | no-gpu | controller | not-selected | diskless | unknown-owner …
    detail: str = ""
    hint: str = ""


class Gain(Claimed):
    """A problem that the nodes have today and that the goal is free of."""

    cohorts: tuple[str, ...]          # ids, in the order of the plan


class MeasuredTime(Document):
    """What earlier rollouts say of a time on one node."""

    # around: preflight and undrain, one call for a whole batch; command: the site's own; pair: one all-reduce of two
    kind: Literal["move", "drain", "around", "command", "pair"]
    name: str = ""                    # of the move; of a command the digest of its argument vector
    nodes: int                        # how many were measured
    median_minutes: float
    p90_minutes: float


class Eta(Document):
    """How long the rollout is expected to take, soaks included, waits for approval excluded; and what it costs."""

    p10_minutes: int
    p50_minutes: int
    p90_minutes: int
    at_worst_minutes: int | None = None    # the worst case with closed hours between windows; None: no windows
    guessed: Literal[True] | None = None   # there is a history, and for some of the plan planning figures stand
    measured_nodes: int = 0           # of earlier rollouts, behind the best known time; 0: planning figures alone
    gpu_hours: int                    # out of service, as expected
    gpu_hours_at_worst: int           # by the planning figures
    peak_nodes_out: int               # at once, those that are down already included


class MixedWindow(Document):
    """A communication domain that runs two versions of what must be equal within a job, from one batch to another.

    Jobs must not span its changed and its other nodes while it is open: ``fences`` names the schedulers in which nodes
    carry a mark of their half meanwhile.
    """

    domain: str
    components: tuple[str, ...]       # sorted
    opens: str                        # batch whose nodes go back changed first
    closes: str                       # batch after which the domain is one again
    batches: int                      # from one to the other, both counted
    minutes: int                      # these batches and the soaks between them
    approval: bool                    # a wait for a person's approval lies between them
    fences: tuple[Literal["kubernetes", "slurm"], ...] = ()   # sorted; empty: fencing is up to people
    unfenced: int = 0                 # nodes of the domain whose jobs nothing fences
    because: tuple[Claimed, ...] = ()   # what says that the components must be equal


class Plan(Document):
    """The whole document. ``digest`` is over everything else; ``seal`` is set by the validator alone."""

    schema_: Literal["planner.plan/1"] = Field("planner.plan/1", alias="schema")
    planner_version: str
    name: str
    inputs: dict[str, str]            # facts, target, matrices, inventory -> sha256 digests
    inventory: str = ""               # path as given, relative if it was
    policy: Literal["production", "development"]
    accepted: tuple[Accept, ...] = ()
    rollout: RolloutPolicy
    pools: dict[str, PoolLimit]
    cohorts: tuple[Cohort, ...]
    waves: tuple[Wave, ...]
    nodes: dict[str, NodePlan]
    excluded: tuple[Excluded, ...] = ()
    risks: tuple[Claimed, ...] = ()
    warnings: tuple[str, ...] = ()    # production classes absent from staging, unknowns at the start …
    eta_minutes: int = 0              # worst case, soaks included, drains excluded
    bound_minutes: int = 0            # what no order of the nodes can undercut, soaks and drains excluded; 0: not known
    eta: Eta | None = None            # what is expected, with its spread; None in plans of older versions
    measured: tuple[MeasuredTime, ...] | None = None   # what earlier rollouts took; None: nobody was asked
    gains: tuple[Gain, ...] | None = None              # what the fleet gets rid of; None: nobody looked
    optimize: tuple[str, ...] | None = None            # fields of the cost, in the order they were compared in
    mixed: tuple[MixedWindow, ...] | None = None       # by domain; None: no domain is ever mixed
    pair_minutes: int | None = None   # planning figure of one all-reduce of a pair; None: there are none
    seal: str = ""                    # digest of what the validator replayed; "" is never written
    digest: str = ""
