"""What nodes said: the documents of discovery.

Facts are stored by content: a node refers to its fact set by digest; identity (machine-id, UUIDs) stays apart, so
equal stacks share one fact set however many nodes carry it.
"""

# Annotations are objects here, not text that pydantic would have to compile at every start.
from typing import Literal

from pydantic import Field

from planner.documents import Evidence

FACTS_SCHEMA: Literal["planner.facts/1"] = "planner.facts/1"


class OsFacts(Evidence):
    """``/etc/os-release`` and what tells how the system is kept."""

    id: str = ""                      # debian, ubuntu, rhel …
    version_id: str = ""
    pretty_name: str = ""
    arch: str = ""                    # x86_64, aarch64
    family: str = ""                  # apt | dnf | "" (unknown)
    glibc: str | None = None
    python: str | None = None         # the interpreter the probe ran under
    virtualisation: str | None = None  # none, kvm, container, wsl …
    root_diskless: bool | None = None
    secure_boot: bool | None = None   # None: cannot be told
    auto_upgrades: tuple[str, ...] = ()  # active mechanisms: unattended-upgrades, dnf-automatic …


class KernelFacts(Evidence):
    """Running kernel, the one that will boot, and for which kernels an nvidia module is built."""

    running: str = ""
    next_boot: str | None = None
    modules_built: dict[str, str] = Field(default_factory=dict)  # kernel release -> nvidia module version on disk


class DriverFacts(Evidence):
    """Loaded, on-disk and packaged driver are separate facts."""

    loaded: str | None = None         # /sys/module/nvidia/version
    on_disk: str | None = None        # modinfo of the running kernel's module
    userspace: str | None = None      # libcuda / libnvidia-ml file version
    package: str | None = None        # package version, verbatim
    flavour: str | None = None        # open | proprietary
    owner: str | None = None          # apt | dnf | runfile | operator | image | none
    cuda_reported: str | None = None  # highest CUDA the driver reports
    nvml_error: str | None = None     # why NVML could not be read


class GpuFacts(Evidence):
    """One GPU as NVML tells it."""

    index: int
    model: str                        # NVML name, verbatim
    compute_capability: str | None = None
    memory_mib: int | None = None
    mig_enabled: bool | None = None
    vgpu: bool | None = None
    stand_in: bool = False            # a lab GPU; its name says so
    vbios: str | None = None


class ServiceFacts(Evidence):
    """A companion daemon of the driver (fabric manager, IMEX, persistenced …)."""

    version: str | None = None        # None: not installed
    active: bool | None = None
    package: str | None = None


class ToolkitFacts(Evidence):
    """One CUDA toolkit found on the node."""

    version: str                      # 12.8.1 where version.json tells, else from the path: 12.8
    path: str
    source: str = ""                  # usr-local | module | PATH | LD_LIBRARY_PATH
    default: bool = False             # /usr/local/cuda points here


class LibraryFacts(Evidence):
    """One library file found (cuDNN, NCCL, TensorRT …)."""

    name: str                         # cudnn | nccl | tensorrt
    version: str
    path: str
    package: str | None = None


class PythonEnvFacts(Evidence):
    """A Python environment that carries a framework."""

    path: str
    python: str | None = None
    frameworks: dict[str, str] = Field(default_factory=dict)      # torch: 2.7.0+cu126
    nvidia_wheels: dict[str, str] = Field(default_factory=dict)   # nvidia-nccl-cu12: 2.26.2


class FactSet(Evidence):
    """Everything about a node that two equal nodes share. No UUID, time, pid or temperature may enter."""

    os: OsFacts = OsFacts.model_construct()
    kernel: KernelFacts = KernelFacts.model_construct()
    driver: DriverFacts = DriverFacts.model_construct()
    gpus: tuple[GpuFacts, ...] = ()
    nvswitch: bool | None = None
    pci_gpus: int | None = None       # on the PCI bus, whether NVML sees them or not; None: not the node's own bus
    nics: tuple[str, ...] = ()        # models of RDMA adapters
    fabric_manager: ServiceFacts = ServiceFacts.model_construct()
    imex: ServiceFacts = ServiceFacts.model_construct()
    services: dict[str, ServiceFacts] = Field(default_factory=dict)
    toolkits: tuple[ToolkitFacts, ...] = ()
    libraries: tuple[LibraryFacts, ...] = ()
    python_envs: tuple[PythonEnvFacts, ...] = ()
    container_runtimes: dict[str, str] = Field(default_factory=dict)  # docker: 27.1, apptainer: 1.3
    container_toolkit: str | None = None
    packages: dict[str, str] = Field(default_factory=dict)   # relevant installed packages -> verbatim version
    holds: tuple[str, ...] = ()
    available: dict[str, tuple[str, ...]] | None = None      # what the node's repositories offer; None: not read
    scheduler: dict[str, str] = Field(default_factory=dict)  # slurm: 22.05.8, kubelet: v1.30.1
    problems: tuple[str, ...] = ()    # dpkg audit, half-installed packages …
    sources: dict[str, str] = Field(default_factory=dict)    # field -> command or file it was read from


class Identity(Evidence):
    """What tells one machine from another."""

    machine_id: str | None = None
    boot_id: str | None = None
    serials: tuple[str, ...] = ()
    gpu_uuids: tuple[str, ...] = ()


class NodeRecord(Evidence):
    """One node: who it is, which fact set it has, what people declared about it."""

    name: str
    facts: str                        # digest of its fact set
    identity: Identity = Identity.model_construct()
    observed_at: str = ""             # ISO 8601, UTC
    declared: dict[str, str | tuple[str, ...] | bool] = Field(default_factory=dict)  # planner_* variables
    groups: tuple[str, ...] = ()


class UnreadableNode(Evidence):
    """A node that could not be read; it is left out of every step."""

    name: str
    reason: str
    hint: str = ""
    declared: dict[str, str | tuple[str, ...] | bool] = Field(default_factory=dict)


class FactDocument(Evidence):
    """``facts.json``."""

    schema_: Literal["planner.facts/1"] = Field(FACTS_SCHEMA, alias="schema")
    created_at: str = ""
    inventory: str = ""               # path as the user gave it
    inventory_digest: str = ""        # over names, groups and planner_* variables only
    fact_sets: dict[str, FactSet] = Field(default_factory=dict)
    nodes: tuple[NodeRecord, ...] = ()          # sorted by name
    unreadable: tuple[UnreadableNode, ...] = ()  # sorted by name
