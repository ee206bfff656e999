"""The format of matrix files: components, moves, packages, releases, claims. Knowledge is data.

A *state* is a mapping from component name to a tuple of values: ``()`` means known to be absent, a missing key means
unknown. Single components have at most one value. Attributes (hardware, OS, workloads) use the same form, never move.
"""

# Annotations are objects here, not text that pydantic would have to compile at every start.
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from planner.documents import Document

State = Mapping[str, tuple[str, ...]]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Iso = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}(-\d{2})?$")]

# A condition on one component: a version range or glob (any value may match), a list of them (any of), or one of
# ``present`` (at least one value) and ``absent`` (known to have none).
Condition = str | tuple[str, ...]

MOVE_MINUTES_MAX = 100_000     # ten weeks: what is longer is a slip, and sums of a path must fit a field of its cost


class Provenance(Document):
    """Where a claim comes from."""

    title: str = ""
    url: str = ""
    locator: str = ""                 # section, table row, line
    retrieved: Iso
    kind: Literal["vendor", "measured", "field-report", "derived"]
    confidence: Literal["documented", "measured", "derived", "recalled"] = "documented"

    @field_validator("url")
    @classmethod
    def _web_or_empty(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("url must start with https:// or http://")
        return value


class Component(Document):
    """Something that has a version (or an attribute of the node that rules look at)."""

    name: Slug
    title: str
    role: Literal["component", "attribute"] = "component"
    many: bool = False                # several values side by side (toolkits)
    slot_parts: int = 0               # leading numbers that name a place: of one place the new value replaces; 0: all
    values: Literal["version", "text"] = "version"
    equal_in_job: bool = False        # must be equal on all nodes of one job
    owner: Slug | None = None         # attribute that says who owns it; only package managers' components are moved
    carrier: Slug | None = None       # component whose packages bring this value: its sets' ``when`` name it
    declared: str = ""                # inventory variable, prefix removed, that tells it where no probe can
    options: tuple[str, ...] = ()     # texts that it may be; empty: any
    origin_of: Slug | None = None     # component whose packages' publisher it tells (``PackageSet.origins``)
    default_of: Slug | None = None    # side-by-side component of which it is the version that the default link leads to
    loaded_of: Slug | None = None     # component of which it is what runs: the installed version does after a reboot
    next_of: Slug | None = None       # component of which it is the value that the next boot brings
    parts_of: Slug | None = None      # component whose packages it tells the versions of, where these are not equal
    told_by: dict[str, tuple[str, ...]] = Field(default_factory=dict)   # value -> globs of packages that tell it
    asked: bool = False               # part of a node's state only where a target names it
    releases_of: Slug | None = None   # component whose releases are this one's, too
    description: str = ""


class Proof(Document):
    """How a component's value shows outside of planner's own probe: a file or a command's output, or the inventory.

    Exactly one of ``file``, ``argv`` and ``variable``. ``fields`` are regular expressions, line by line; the first
    group of each is put into the template ``value`` under its name. Without a match the component is absent.
    """

    component: Slug
    file: str = ""                    # absolute path
    argv: tuple[str, ...] = ()        # a command that changes nothing
    variable: str = ""                # inventory variable with its prefix: people keep it
    where: Literal["node", "cluster"] = "node"   # cluster: where the cluster's own command line is
    fields: dict[str, str] = Field(default_factory=dict)
    value: str = ""                   # template over the fields


class Unfit(Document):
    """A start state in which a move must not be made, and why."""

    when: dict[Slug, Condition]
    because: str                      # one sentence for people
    hint: str = ""                    # what to do first


class StepNote(Document):
    """What people should know of a step, where the node's state meets the conditions."""

    when: dict[Slug, Condition] = Field(default_factory=dict)
    text: str                         # template: {from} {to} of the move's first component


class Refresh(Document):
    """Something generated from what a step changes, made again where it is there: a file by a command, or by a unit."""

    file: str = ""
    argv: tuple[str, ...] = ()
    unit: str = ""


class Move(Document):
    """One legal step: the listed components change together, at once.

    ``instructions`` and ``undo`` are templates: ``{from}``, ``{to}`` of the first component that the step changes,
    ``{components}`` all changes in words.
    """

    name: Slug
    title: str
    components: tuple[Slug, ...] = Field(min_length=1)
    lead: Slug | None = None          # lockstep: companions that are installed follow the lead's version
    disruption: Literal["none", "restart", "drain", "module-reload", "reboot"]
    minutes: int = Field(ge=0, le=MOVE_MINUTES_MAX)
    downgrade: bool = False
    # handover: people, or their own automation, do it; links: the default link of what is there is turned;
    # boot: what is installed is loaded
    act: Literal["packages", "handover", "links", "boot"] = "packages"
    when: dict[Slug, Condition] = Field(default_factory=dict)   # of a node at the start: others have no such move
    unfit: tuple[Unfit, ...] = ()
    instructions: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()        # the way back, by hand
    no_return: str = ""               # why no way leads back; "" where one does
    proofs: tuple[Proof, ...] = ()
    hops: dict[str, tuple[str, ...]] = Field(default_factory=dict)   # value -> those that may follow it directly
    lines: tuple[str, ...] = ()       # release lines (leading numbers), oldest first: only the same and the next one
    ends: bool = False                # what nodes can have afterwards is not known before: no step follows
    forgets: tuple[Slug, ...] = ()    # what it leaves open; nothing else may be wanted of these in the same plan
    unpredicted: tuple[Slug, ...] = ()     # what it changes, too, nobody knows to what: gates ask for none of these
    awaits: Slug | None = None        # move that other nodes of a plan have behind them before this one is begun
    notes: tuple[StepNote, ...] = ()
    refresh: tuple[Refresh, ...] = ()
    provenance: Provenance | None = None


class PlannedTime(Document):
    """A time beside those of moves, drains excluded: a planning figure, until a rollout has measured it.

    ``minutes`` says it outright, ``timeout_percent`` as a share of the deadline that the target gives it.
    """

    name: Slug
    title: str
    minutes: int | None = Field(None, ge=1, le=MOVE_MINUTES_MAX)
    timeout_percent: int | None = Field(None, ge=1, le=100)
    provenance: Provenance


class Lockstep(Document):
    """Components whose versions are tied to each other while both are there.

    ``not-older`` and ``not-newer`` compare the first component with each other one; ``parts`` says how many leading
    numbers count (0: all). A version that is written shorter than the other (a bare branch) is equal to what it begins.
    """

    name: Slug
    components: tuple[Slug, ...] = Field(min_length=2)
    relation: Literal["equal", "same-branch", "same-major", "same-minor", "not-older", "not-newer"]
    parts: int = Field(0, ge=0)
    family: Slug
    when: dict[Slug, Condition] = Field(default_factory=dict)
    unless: dict[Slug, Condition] = Field(default_factory=dict)    # any that holds: not about this state
    severity: Literal["error", "warning", "info"] = "error"
    risk: Slug | None = None
    root_cause: str = ""
    hint: str = ""
    statement: str
    provenance: Provenance
    accepts: dict[Slug, tuple[str, ...]]
    rejects: dict[Slug, tuple[str, ...]]


class Family(Document):
    """A family of claims; *closed* means that without positive evidence the verdict is UNKNOWN."""

    name: Slug
    title: str
    closed: bool = False
    over: Slug | None = None          # closed: every value of this component needs a claim whose ``if`` covers it …
    against: Slug | None = None       # … as soon as this component is present, too


class Claim(Document):
    """If the ``if`` conditions hold, every ``then`` condition must hold; an empty ``then`` with ``forbids`` bans."""

    name: Slug
    family: Slug
    statement: str                    # one sentence, no full stop, names the versions
    if_: dict[Slug, Condition] = Field(alias="if")
    unless: dict[Slug, Condition] = Field(default_factory=dict)    # any that holds: not about this state
    then: dict[Slug, Condition] = Field(default_factory=dict)
    forbids: bool = False             # the ``if`` combination itself is what must not be
    severity: Literal["error", "warning", "info"] = "error"
    risk: Slug | None = None          # a named risk that a target may accept with a reason
    root_cause: str = ""              # word of the answer format of ``check``
    hint: str = ""
    fixed_in: str = ""
    provenance: Provenance
    accepts: dict[Slug, tuple[str, ...]]   # a state that the claim judges and accepts
    # A state that it rejects; required unless severity is info.
    rejects: dict[Slug, tuple[str, ...]] = Field(default_factory=dict)
    tombstone: str = ""               # why the claim no longer holds; kept, never judged
    redundant: str = ""               # why removing it changes no answer (another claim says as much)


class Across(Document):
    """What must be alike on the nodes of one domain."""

    name: Slug
    family: Slug
    domain: Literal["job", "nvlink", "vgpu", "fleet"]
    component: Slug
    relation: Literal["equal", "same-branch", "same-major", "same-minor"]
    when: dict[Slug, Condition] = Field(default_factory=dict)      # nodes that do not meet it do not count
    severity: Literal["error", "warning", "info"] = "warning"
    root_cause: str = ""
    hint: str = ""
    statement: str
    provenance: Provenance
    accepts: tuple[dict[Slug, tuple[str, ...]], ...] = Field(min_length=2)
    rejects: tuple[dict[Slug, tuple[str, ...]], ...] = Field(min_length=2)


class Release(Document):
    """One release of a component."""

    component: Slug
    version: str
    date: Iso | None = None
    branch_type: str | None = None    # LTSB | PB | NFB
    eol: Iso | None = None
    aliases: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()       # release notes worth showing when this version is crossed
    cves_fixed: tuple[str, ...] = ()
    withdrawn: str = ""
    attributes: dict[str, str] = Field(default_factory=dict)   # max_cuda, paired_driver …
    provenance: Provenance


class PackageSet(Document):
    """How one version of a component is installed by one package manager.

    Templates may use ``{version}``, ``{branch}`` (leading number), ``{dashed}`` (12.8.1 -> 12-8), ``{dotted}``
    (12.8.1 -> 12.8), ``{abi}`` (6.8.0-45-generic -> 6.8.0-45) and ``{cuda_major}`` (of the node's default toolkit in
    the goal). ``version`` is a glob over package versions.
    """

    name: Slug
    component: Slug
    manager: Literal["apt", "dnf"]
    detect: tuple[str, ...] = ()      # globs over installed names; the first set with a match owns the component
    when: dict[Slug, Condition] = Field(default_factory=dict)   # attributes that a fresh install in this way needs
    install: tuple[str, ...] = Field(min_length=1)    # required packages
    optional: tuple[str, ...] = ()    # pinned too where the repository has them and they are installed now
    heirs: dict[str, str] = Field(default_factory=dict)   # glob over installed names -> the optional that follows it
    replaces: tuple[str, ...] = ()    # globs over installed names that must go when the branch changes
    brings: tuple[str, ...] = ()      # glob templates: dependencies that may come, change and go with these packages
    sweep: tuple[str, ...] = ()       # glob templates: installed packages that leave when this version is removed
    boot_entries: bool = False        # versions lie beside each other, the boot loader chooses: none is ever removed
    version: str                      # "{version}-*"
    built: str = ""                   # template over versions of detected packages whose names do not tell their build
    version_suffix: str = ""          # ends the component's version, not the package's: ".{arch}" of a kernel's release
    default_links: dict[str, str] = Field(default_factory=dict)   # link -> target template, set for the wanted default
    line: str = ""                    # sets of one line differ in what their ``when`` names, and take over
    origins: dict[str, str] = Field(default_factory=dict)   # glob over the package's version -> who publishes it
    provenance: Provenance


class GpuModel(Document):
    """What a GPU model implies; the NVML name is matched by glob."""

    match: str                        # glob over the NVML name, lab suffix removed
    people: tuple[str, ...] = ()      # globs over the name as people write it (``MatrixSet.gpu_model_of_people``)
    name: Slug                        # h100-sxm
    compute_capability: str
    gpu_class: Literal["data-center", "workstation", "geforce", "jetson"]
    nvswitch: bool = False            # HGX/DGX baseboards of this model carry NVSwitches
    provenance: Provenance


class Evidence(Document):
    """What speaks for or against a cause: facts (every condition holds), or words in the message; never both empty."""

    facts: dict[Slug, Condition] = Field(default_factory=dict)
    text: str = ""                    # regular expression over the whole message, case ignored
    times: float = Field(gt=0)        # the odds of the cause are multiplied by this; below 1 speaks against it
    because: str = ""                 # one sentence for people


class Cause(Document):
    """One possible cause of a message."""

    root_cause: str
    prior: float = Field(gt=0, le=1)  # share of this cause among all reports of the message, facts unknown
    summary: str                      # one sentence; {component} is replaced by its value in the stack
    why: tuple[str, ...] = ()         # the chain of reasoning, one step an entry
    fix: str                          # the safe fix: a command or an edit
    evidence: tuple[Evidence, ...] = ()
    facts: tuple[Slug, ...] = ()      # components whose values decide, asked for where they are not known
    judged_by: tuple[Slug, ...] = ()  # families of rules: a broken one proves the cause, kept ones refute it


class Signature(Document):
    """A message that people see, and what is behind it."""

    name: Slug
    title: str
    match: tuple[str, ...] = Field(min_length=1)      # regular expressions over one line, case ignored; any of them
    # Named groups of ``match`` that are component names become facts read off the message.
    strength: float = Field(1.0, gt=0)                # weight beside other signatures in one log; generic ones below 1
    spoken: bool = False              # people's own words: read at both ends of a long log only, light beside its lines
    causes: tuple[Cause, ...] = Field(min_length=1)
    provenance: Provenance
    examples: tuple[str, ...] = Field(min_length=1)   # lines that match
    counter_examples: tuple[str, ...] = ()            # lines that look alike and do not match


class Question(Document):
    """How a person reads a fact that is missing."""

    component: Slug
    read: str                         # the command, or where to look


class Term(Document):
    """How people write something in a stack description, and the component that it means."""

    kind: Literal["library", "framework", "os", "hypervisor", "image"]
    write: str                        # regular expression over the whole text, case ignored
    component: Slug
    # Template with {1} {2} for groups; "": the version that stands beside it. Of a framework: the build it means.
    value: str = ""


class MatrixFile(Document):
    """One file under ``matrices/``."""

    schema_: Literal["planner.matrix/1"] = Field(alias="schema")
    topic: str
    sources: dict[str, Provenance] = Field(default_factory=dict)
    components: tuple[Component, ...] = ()
    moves: tuple[Move, ...] = ()
    times: tuple[PlannedTime, ...] = ()
    families: tuple[Family, ...] = ()
    lockstep: tuple[Lockstep, ...] = ()
    claims: tuple[Claim, ...] = ()
    releases: tuple[Release, ...] = ()
    packages: tuple[PackageSet, ...] = ()
    gpu_models: tuple[GpuModel, ...] = ()
    across: tuple[Across, ...] = ()
    signatures: tuple[Signature, ...] = ()
    questions: tuple[Question, ...] = ()
    vocabulary: tuple[Term, ...] = ()
