"""What a gate can say, as data: seven verdicts, and for every code its cause, what may be done, and the exit code.

Standard library only and pure: a bundle may carry this file. Nothing here decides; ``planner.gates.verdicts`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Verdict(StrEnum):
    """One gate's answer. ``inconclusive``: it ran, its surroundings spoiled it; ``error``: the gate itself broke."""

    PASS = "pass"  # noqa: S105
    WARN = "warn"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    SKIP = "skip"
    HUNG = "hung"


class Action(StrEnum):
    """What may be done about an answer."""

    CONTINUE = "continue"
    RETRY = "retry-after-idle"
    PAUSE = "pause"
    ROLLBACK = "rollback"
    QUARANTINE = "quarantine"
    HALT = "halt"


class Kind(StrEnum):
    """Where a cause sits. Only ``software`` may ever be rolled back; ``hardware`` is never blamed on the change."""

    NONE = "none"
    SOFTWARE = "software"
    HARDWARE = "hardware"
    PERFORMANCE = "performance"
    ENVIRONMENT = "environment"
    APPLICATION = "application"
    PLAN = "plan"
    GATE = "gate"
    UNKNOWN = "unknown"


# The worst first; skip comes last because it proves nothing, which is why alone it is no pass (exit code 8).
WORST_FIRST = (Verdict.HUNG, Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.WARN, Verdict.PASS,
               Verdict.SKIP)

# The heaviest last. A node with broken hardware is set apart rather than changed once more.
LIGHTEST_FIRST = (Action.CONTINUE, Action.RETRY, Action.PAUSE, Action.ROLLBACK, Action.QUARANTINE, Action.HALT)

EXIT_CODES: Mapping[Verdict, int] = MappingProxyType({
    Verdict.PASS: 0, Verdict.WARN: 0, Verdict.FAIL: 7, Verdict.INCONCLUSIVE: 8, Verdict.ERROR: 1, Verdict.SKIP: 8,
    Verdict.HUNG: 7,
})


@dataclass(frozen=True, slots=True)
class Failure:
    """One row of the table.

    Attributes:
        code: Stable name.
        verdict: What a gate answers with this code.
        kind: Where the cause sits.
        seen_as: How it shows.
        cause: The usual cause after an upgrade.
        remedy: What to do, for people.
        actions: What it allows, the proposed one first.
        exit_code: Of ``planner gate run`` where this code decides.
        must_repeat: A failure counts only when a fresh process after idle sees it again.
    """

    code: str
    verdict: Verdict
    kind: Kind
    seen_as: str
    cause: str
    remedy: str
    actions: tuple[Action, ...]
    exit_code: int
    must_repeat: bool = False


_PASS, _WARN, _FAIL, _UNCLEAR = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.INCONCLUSIVE
_ERROR, _SKIP, _HUNG = Verdict.ERROR, Verdict.SKIP, Verdict.HUNG
_CONTINUE, _RETRY, _PAUSE = Action.CONTINUE, Action.RETRY, Action.PAUSE
_ROLLBACK, _QUARANTINE, _HALT = Action.ROLLBACK, Action.QUARANTINE, Action.HALT
_SOFT, _HARD, _PERF, _ENV = Kind.SOFTWARE, Kind.HARDWARE, Kind.PERFORMANCE, Kind.ENVIRONMENT
_APP, _PLAN, _GATE = Kind.APPLICATION, Kind.PLAN, Kind.GATE

_ROWS = (
    Failure("OK", _PASS, Kind.NONE, "the work was done and its result is right", "none", "none", (_CONTINUE,), 0),
    # --- the driver and its parts
    Failure("DRV_NOT_LOADED", _FAIL, _SOFT, "NVML 9, no /proc/driver/nvidia, cuInit 100",
            "module not built for this kernel, Secure Boot key, or nouveau holds the device",
            "mend module and boot once, else roll back", (_HALT, _ROLLBACK), 7),
    Failure("DRV_REBOOT_PENDING", _UNCLEAR, _SOFT, "running version is the old one, the one on disk is new",
            "module in use, no reboot yet", "reboot, then gate again", (_PAUSE,), 8),
    Failure("DRV_LIB_MISMATCH", _FAIL, _SOFT, "NVML 18, CUDA 803, API mismatch in the kernel log",
            "userspace is new and the module old, or two packages are mixed",
            "reboot; if it stays reinstall or roll back", (_HALT, _ROLLBACK), 7),
    Failure("UVM_MISSING", _FAIL, _SOFT, "cuInit 999 while NVML works", "nvidia_uvm or its device nodes are absent",
            "load the module, then gate again", (_RETRY, _HALT, _ROLLBACK), 7),
    Failure("COMPAT_BAD", _FAIL, _SOFT, "CUDA 804",
            "a stray forward-compatibility libcuda on a GPU or driver that does not take it",
            "remove its path from the loader's", (_HALT, _ROLLBACK), 7),
    Failure("FABRIC_NOT_READY", _FAIL, _SOFT, "CUDA 802, state of the fabric manager",
            "fabric manager missing, of another version, or still training",
            "wait 120 s, install the matching fabric manager", (_RETRY, _HALT), 7),
    Failure("MPS_BAD", _FAIL, _SOFT, "CUDA 805 or 46", "stale MPS daemon, or exclusive-process mode",
            "restart MPS by the plan, then gate again", (_RETRY, _HALT), 7),
    Failure("JIT_MISSING", _FAIL, _SOFT, "CUDA 221", "libnvidia-ptxjitcompiler is not installed or not injected",
            "reinstall the driver's userspace; check the container's capabilities", (_HALT, _ROLLBACK), 7),
    Failure("SETTING_CHANGED", _FAIL, _SOFT, "a setting differs from the record before the change",
            "a reinstall lost persistence, ECC, MIG or clocks", "let the plan apply the recorded value again",
            (_PAUSE, _HALT), 7),
    Failure("LICENCE_MISSING", _WARN, _SOFT, "vGPU licence state", "no licence server answered yet",
            "check the licence before the grace time ends", (_CONTINUE, _PAUSE), 0),
    # --- hardware
    Failure("GPU_MISSING", _FAIL, _HARD, "fewer GPUs than before", "hardware or PCIe; sometimes old firmware",
            "reboot once; if it stays away set the node apart", (_QUARANTINE, _HALT), 7),
    Failure("GPU_LOST", _FAIL, _HARD, "NVML 15, Xid 79", "the GPU fell off the bus",
            "reboot once; if it comes again set the node apart", (_QUARANTINE, _HALT), 7),
    Failure("GPU_RESET_REQUIRED", _FAIL, _HARD, "NVML 16, recovery action other than none", "a pending fault",
            "reset or reboot as the recovery action says", (_PAUSE, _QUARANTINE), 7),
    Failure("ROW_REMAP_PENDING", _WARN, _HARD, "row remap pending", "a row was replaced; the next reset applies it",
            "reset or reboot when the node is next empty; no reason to roll back", (_CONTINUE, _PAUSE), 0),
    Failure("ROW_REMAP_FAILED", _FAIL, _HARD, "row remap failure", "memory has no spare rows left",
            "set the node apart, replace the GPU", (_QUARANTINE,), 7),
    Failure("ECC_UNCORRECTED", _FAIL, _HARD, "uncorrected ECC errors since the step began", "memory fault",
            "set the node apart", (_QUARANTINE, _HALT), 7),
    Failure("XID_CRITICAL", _FAIL, _HARD, "Xid 48, 63, 64, 74, 79, 94, 95, 119, 120",
            "hardware, or the GSP firmware (119, 120)", "set the node apart; on several nodes suspect the driver",
            (_QUARANTINE, _HALT), 7),
    Failure("PCIE_DOWN", _FAIL, _HARD, "the PCIe link has fewer lanes or a lower generation than before",
            "riser, slot, cable or firmware", "set the node apart, reseat or replace", (_QUARANTINE, _HALT), 7, True),
    Failure("GPU_CHANGED", _WARN, _HARD, "another GPU, slot, serial number or firmware than before",
            "somebody worked on the node, or a GPU came back", "take a new baseline", (_CONTINUE, _PAUSE), 0),
    Failure("ECC_CORRECTED", _WARN, _HARD, "corrected ECC errors since the record before", "memory ages",
            "watch the node", (_CONTINUE, _PAUSE), 0),
    Failure("LINK_ERRORS", _WARN, _HARD, "PCIe replays, NVLink errors or reduced health of the fabric",
            "a cable, a slot, dust or firmware", "watch the node; compare with its neighbours", (_CONTINUE, _PAUSE), 0),
    Failure("XID_OTHER", _WARN, _HARD, "an Xid or SXid line that is neither critical nor of the gate",
            "a job of somebody, or an event that the table does not know", "look the number up", (_CONTINUE, _PAUSE),
            0),
    Failure("RESULT_WRONG", _FAIL, Kind.UNKNOWN, "a result differs from arithmetic", "silent corruption, or the gate",
            "keep the node as it is, run on a second GPU to tell them apart", (_HALT, _QUARANTINE), 7),
    Failure("TENSOR_CORES_OFF", _FAIL, _SOFT, "matrix product to FMA below 0.7 of the ratio before",
            "Tensor Cores disabled", "compare driver and firmware with the record", (_HALT, _ROLLBACK), 7),
    Failure("P2P_CHANGED", _FAIL, _SOFT, "another set of peers than before", "IOMMU, ACS or topology",
            "compare kernel command line and BIOS with the record", (_HALT, _ROLLBACK), 7),
    # --- applications and libraries
    Failure("PTX_TOO_NEW", _FAIL, _PLAN, "CUDA 222", "the toolkit is newer than the driver",
            "raise the driver or lower the toolkit", (_HALT,), 7),
    Failure("NO_KERNEL_IMAGE", _FAIL, _APP, "CUDA 209 at launch, though the next synchronize succeeds",
            "the code was built for other architectures only", "build it again for this GPU; the driver is fine",
            (_PAUSE, _HALT), 7),
    Failure("LIB_LOAD", _FAIL, _SOFT, "the loader's own words", "mixed repositories, alternatives or ldconfig",
            "compare the loader's path with the plan", (_HALT, _ROLLBACK), 7),
    Failure("LIB_VERSION", _FAIL, _SOFT, "the library's own version call", "another copy is found first",
            "compare the loader's path with the plan", (_HALT, _ROLLBACK), 7),
    Failure("LIB_CALL", _FAIL, _SOFT, "a call of a library or compiler failed with its own status",
            "mixed versions, or a part of it is missing", "compare the packages with the plan", (_HALT, _ROLLBACK), 7),
    Failure("RUNTIME_TOO_NEW", _FAIL, _PLAN, "CUDA 35 or 36", "the CUDA runtime is newer than the driver",
            "raise the driver or lower the toolkit", (_HALT,), 7),
    Failure("FW_GPU_COUNT", _FAIL, _SOFT, "software sees another number of GPUs than NVML",
            "CUDA_VISIBLE_DEVICES or a GPU that cannot be opened", "compare the environment and NVML's list",
            (_HALT, _ROLLBACK), 7),
    Failure("INHERITED", _WARN, _ENV, "the same failure was there before the change", "not the change",
            "mend it apart from this rollout; it stays until then", (_CONTINUE, _PAUSE), 0),
    Failure("FW_CPU_FALLBACK", _FAIL, _SOFT, "the framework sees no GPU and computes on the CPU",
            "the wheel needs a newer driver, or libraries are missing", "planner explain with the framework's message",
            (_HALT, _ROLLBACK), 7),
    Failure("CDI_STALE", _FAIL, _SOFT, "a CDI file names paths that are gone", "not generated again after the change",
            "generate it again, restart containers", (_RETRY, _HALT), 7),
    Failure("CTR_NO_GPU", _FAIL, _SOFT, "NVML Unknown Error inside a container", "cgroups were reloaded",
            "restart the container", (_RETRY, _HALT), 7),
    Failure("NCCL_VERSION_MIX", _FAIL, _PLAN, "NCCL's warning", "NCCL, plug-in or driver are mixed in one job",
            "keep old and new nodes in separate pools", (_HALT,), 7),
    Failure("NCCL_HANG", _FAIL, Kind.UNKNOWN, "no end of an all-reduce in time", "mixed stacks, or the network",
            "swap the partner, keep old and new nodes apart", (_HALT,), 7),
    Failure("NCCL_ERROR", _FAIL, _SOFT, "a call of NCCL fails, in NCCL's own words",
            "library, driver or transport do not fit together", "planner explain with NCCL's message",
            (_HALT, _ROLLBACK), 7),
    Failure("CANARY_FAILED", _FAIL, _APP, "the user's own command ended with another status than 0",
            "what the command itself says", "read its output in the evidence", (_HALT,), 7),
    Failure("ENV_FORGED", _FAIL, _ENV, "CUDA_DISABLE_PTX_JIT is set", "the environment forges the result",
            "unset it, then gate again", (_PAUSE,), 7),
    Failure("ENV_SUSPECT", _WARN, _ENV, "debugger or profiler variables are set", "left over from somebody's work",
            "unset them", (_CONTINUE, _PAUSE), 0),
    # --- performance
    Failure("PERF_SLOWER", _WARN, _PERF, "slower than before, inside the limit of failure", "noise, or a small loss",
            "watch the wave", (_CONTINUE,), 0),
    Failure("PERF_DROP", _FAIL, _PERF, "slower than before by more than the limit",
            "PCIe link trained down, power cap, IOMMU, driver", "set the node apart", (_QUARANTINE, _HALT), 7, True),
    Failure("PERF_COLLAPSE", _FAIL, _PERF, "slower than before by more than 30 %",
            "PCIe link trained down, missing NVLink, or the gate", "stop; look at links and clocks first",
            (_HALT, _QUARANTINE), 7),
    Failure("PERF_DROP_WAVE", _FAIL, _PERF, "a whole wave is slower, though each GPU may pass alone",
            "the change itself", "stop; a person or the policy decides about going back", (_HALT, _ROLLBACK), 7),
    Failure("PERF_FLAKY", _WARN, _PERF, "failed once, not again", "the host was busy, or a fault that comes and goes",
            "watch the node", (_CONTINUE, _PAUSE), 0),
    Failure("PERF_UNSTEADY", _WARN, _PERF, "the samples spread far more than before",
            "power or clock control, interrupts, a busy host", "watch the node; its median alone says nothing",
            (_CONTINUE, _PAUSE), 0),
    Failure("CPU_OVERHEAD", _WARN, _PERF, "a launch or a copy costs the processor more than before",
            "mitigations, a debug build, a profiler, interrupts", "compare kernel command line and driver options",
            (_CONTINUE, _PAUSE), 0),
    Failure("LOW_UTILISATION", _WARN, _PERF, "the GPU idles under a load that should fill it",
            "a busy host, or a driver that submits slowly", "watch the node; look at the host's processors",
            (_CONTINUE, _PAUSE), 0),
    Failure("PERF_FASTER", _WARN, _PERF, "clearly faster than before", "wrong baseline, clocks or power cap unlocked",
            "check the baseline", (_CONTINUE,), 0),
    Failure("PEER_OUTLIER", _WARN, _PERF, "far from its equal neighbours, and was not before",
            "one slot, link or cooler", "watch the node", (_CONTINUE, _PAUSE), 0),
    # --- what spoils a measurement
    Failure("ENV_THROTTLED", _UNCLEAR, _ENV, "hardware, thermal or power-brake slowdown", "cooling or power supply",
            "let it cool, then gate again", (_RETRY, _PAUSE), 8),
    Failure("ENV_FOREIGN_PROCESS", _UNCLEAR, _ENV, "somebody else's process holds the GPU", "not drained",
            "drain, then gate again", (_RETRY, _PAUSE), 8),
    Failure("ENV_POWER_CAP", _UNCLEAR, _ENV, "another power cap than in the baseline", "set by somebody, or lost",
            "restore it by the plan, or take a new baseline", (_PAUSE,), 8),
    Failure("ENV_CLOCKS", _UNCLEAR, _ENV, "other clocks than in the baseline", "locked, unlocked, or limited",
            "compare the clock settings with the record", (_RETRY, _PAUSE), 8),
    Failure("ENV_TEMPERATURE", _UNCLEAR, _ENV, "another class of temperature than in the baseline", "cooling or load",
            "measure again when it is as warm as then", (_RETRY, _PAUSE), 8),
    Failure("BASELINE_MISSING", _SKIP, _ENV, "no measurement from before the change", "not taken, or new",
            "planner gate baseline before the change", (_CONTINUE, _PAUSE), 8),
    Failure("BASELINE_OTHER", _UNCLEAR, _ENV, "the baseline was measured in another way", "another gate or kernel",
            "take both with the same version of planner", (_PAUSE,), 8),
    Failure("BASELINE_OLD", _UNCLEAR, _ENV, "the baseline is older than 30 days", "taken long before the change",
            "take it again before the next change", (_PAUSE,), 8),
    Failure("BASELINE_NOISY", _UNCLEAR, _ENV, "the baseline spreads so far that no limit holds", "the host was busy",
            "take it again on an idle node", (_PAUSE,), 8),
    Failure("MEMORY_SHORT", _UNCLEAR, _ENV, "too little GPU memory could be allocated", "something else holds it",
            "drain, then gate again", (_RETRY, _PAUSE), 8),
    # --- the gate itself
    Failure("PART_MISSING", _SKIP, _GATE, "what the gate needs is not on this node", "not installed", "none",
            (_CONTINUE, _PAUSE), 8),
    Failure("REQUIRED_SKIPPED", _UNCLEAR, _GATE, "a gate that the policy asks for was skipped", "a part is missing",
            "install the part, or do not ask for the gate", (_PAUSE,), 8),
    Failure("GATE_NO_RESULT", _ERROR, _GATE, "a gate that the policy asks for gave no answer", "it did not run",
            "run it again", (_RETRY, _PAUSE), 1),
    Failure("GATE_BUSY", _UNCLEAR, _ENV, "another diagnostic runs", "two tools at once", "wait up to 300 s",
            (_RETRY, _PAUSE), 8),
    Failure("GATE_TIMEOUT", _FAIL, Kind.UNKNOWN, "no answer in time; the process died when told to",
            "slow node, or a hang outside the kernel", "repeat once with twice the time", (_HALT,), 7, True),
    Failure("GATE_HUNG_D", _HUNG, Kind.UNKNOWN, "the process stays in state D after SIGKILL",
            "the driver is stuck in the kernel", "no more gates here; a reboot is the only way out", (_HALT,), 7),
    Failure("GATE_CRASHED", _FAIL, _SOFT, "the process was killed by a signal that nobody sent",
            "a library of the driver or of the software crashed", "look at the kernel log; compare versions",
            (_HALT, _ROLLBACK), 7, True),
    Failure("REPORT_FOREIGN", _FAIL, _GATE, "nonce, host or profile are not those that were asked for",
            "an old report, or one of somebody else", "run it again; look who answers on this node", (_HALT,), 7),
    Failure("GATE_RESIDUE", _ERROR, _GATE, "a process or more than 64 MiB stay on the GPU after the gate",
            "the gate, or somebody who began meanwhile", "see who it is, then gate again", (_RETRY, _PAUSE), 1),
    Failure("XID_APP", _ERROR, _GATE, "Xid 13, 31, 43 or 45 of our own process", "the gate, or a user's job",
            "report it", (_PAUSE,), 1),
    Failure("GATE_BUG", _ERROR, _GATE, "an exception, or an answer that is no JSON", "the gate", "report it",
            (_PAUSE,), 1),
    Failure("UNKNOWN_CODE", _FAIL, Kind.UNKNOWN, "a code that this version does not know", "a newer probe",
            "use the planner that made the bundle", (_HALT,), 7),
)

FAILURES: Mapping[str, Failure] = MappingProxyType({row.code: row for row in _ROWS})


# What the driver API, NVML and the kernel log say, as codes of the table. 46 and 805 are of MPS only where it runs, and
# 999 speaks of nvidia_uvm only where NVML works; the caller knows.
_CUDA = {2: "MEMORY_SHORT", 35: "RUNTIME_TOO_NEW", 36: "RUNTIME_TOO_NEW", 46: "MPS_BAD", 100: "DRV_NOT_LOADED",
         209: "NO_KERNEL_IMAGE", 214: "ECC_UNCORRECTED", 218: "GATE_BUG", 221: "JIT_MISSING", 222: "PTX_TOO_NEW",
         802: "FABRIC_NOT_READY", 803: "DRV_LIB_MISMATCH", 804: "COMPAT_BAD", 805: "MPS_BAD", 999: "UVM_MISSING"}
_NVML = {9: "DRV_NOT_LOADED", 15: "GPU_LOST", 16: "GPU_RESET_REQUIRED", 18: "DRV_LIB_MISMATCH"}
_XID = {79: "GPU_LOST", **dict.fromkeys((13, 31, 43, 45), "XID_APP"),
        **dict.fromkeys((48, 63, 64, 74, 94, 95, 119, 120), "XID_CRITICAL")}
_SOURCES: Mapping[str, Mapping[int, str]] = MappingProxyType({"cuda": _CUDA, "nvml": _NVML, "xid": _XID})


def code_of(source: str, number: int) -> str:
    """Return the code for an error number.

    Args:
        source: cuda (a CUresult), nvml (an nvmlReturn) or xid (of one of our own processes, or with no process).
        number: The number; one that the table does not know is ``UNKNOWN_CODE``, which halts.
    """
    return _SOURCES[source].get(number, "UNKNOWN_CODE")


def failure(code: str) -> Failure:
    """Return the row of a code; a code that is not known counts as the worst: it fails and halts."""
    return FAILURES.get(code, FAILURES["UNKNOWN_CODE"])
