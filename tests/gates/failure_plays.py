"""For every row of the failure table how a stand-in node plays it, or why stand-in libraries cannot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.gates.standin_libraries import DRIVER

OLD_DRIVER = "570.195.03"
QUICK, STANDARD, DEEP = "quick", "standard", "deep"
# Longer than the watcher needs for its first looks: conditions are what NVML shows while kernels run.
WATCHED = "pause cuCtxSetCurrent 900"
Report = dict[str, Any]


@dataclass(frozen=True)
class Play:
    """How a node is made to show one row.

    Attributes:
        plays: Lines of tests/gates/standin/plays.h.
        faults: The lab's own faults.
        config: The lab's configuration.
        loaded: The driver that runs.
        gpus: GPUs of the node, as NVML and the bus show them.
        log: A line of the kernel's log.
        programs: Program of the node -> its text. ``first`` runs beside the probe: it gets a file to write when it is
            ready, and the probe's number; ``STUCK`` in it is the compiled ``stuck``.
        libraries: Library below ``SITE`` -> stand-in of standin_software.c, its version and fault: ``cudart 13000``.
            ``torn`` before that: the file ends early.
        files: More files of the node -> text; a text that begins with ``#!`` is a program.
        environment: Set for the probe.
        profile: Asked for.
        request: More of the request.
        attempts: How often the gate runs; only the first is played where ``once`` is set.
        once: See ``attempts``.
        before: The node before the change; None is no record. Its own fields say how it was.
        edit: Changes the record from before.
        spoil: Changes the report: for what happens on the way to the controller.
        part: The row shows in a result, not in the verdict on the node: nothing asks for a skipped gate.
        also: Codes of the same verdict that follow from this one.
        times: How many results at least show the row.
        kept: Figures that this machine's processor makes, which this play is about.
    """

    plays: tuple[str, ...] = ()
    faults: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    loaded: str | None = DRIVER
    gpus: int = 2
    log: str = ""
    programs: Mapping[str, str] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    profile: str = QUICK
    request: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 1
    once: bool = False
    before: Play | None = None
    edit: Callable[[Report], None] | None = None
    spoil: Callable[[str], str] | None = None
    part: bool = False
    also: tuple[str, ...] = ()
    times: int = 1
    kept: tuple[str, ...] = ()


def slow(percent: float, **more: Any) -> Play:
    """A node whose every figure is slower than before."""
    return Play(faults={"slow-percent": str(percent)}, profile=STANDARD, before=STEADY, **more)


def watched(line: str, **more: Any) -> Play:
    """A node on which NVML shows something else than before while kernels run."""
    return Play(plays=(WATCHED, line), profile=STANDARD, before=WATCHED_BEFORE, **more)


def year_ago(report: Report) -> None:
    """Make a record older than any that counts."""
    taken = datetime.fromisoformat(report["started_at"]) - timedelta(days=365)
    report["started_at"] = taken.strftime("%Y-%m-%dT%H:%M:%SZ")


def other_kernels(report: Report) -> None:
    """Make a record of other kernels than ours."""
    report["pack"] = "0" * 64


def other_serial(report: Report) -> None:
    """Make a record of another card in the same slot."""
    report["nvml"]["gpus"][1]["serial"] = "standin-another"


def foreign(text: str) -> str:
    """Put in the report of another run."""
    return json.dumps({**json.loads(text), "nonce": "00"})


def cuda(call: str, code: int, **more: Any) -> Play:
    """A call of the driver API that answers with an error."""
    return Play(plays=(f"call {call} {code}",), **more)


HEALTHY = Play()
STEADY = Play(profile=STANDARD)
WATCHED_BEFORE = Play(plays=(WATCHED,), profile=STANDARD)
NOISY = Play(faults={"jitter-percent": "60"}, profile=STANDARD)
XID = "NVRM: Xid (PCI:0000:11:00): {}, pid={}, name=python3, stand-in"


PLAYS: dict[str, list[Play]] = {
    "OK": [HEALTHY, Play(before=HEALTHY), Play(profile=STANDARD, before=STEADY),
           Play(profile=DEEP, request={"load_seconds": 1})],
    "DRV_NOT_LOADED": [Play(loaded=None), cuda("nvmlInitWithFlags", 9), cuda("cuInit", 100)],
    "DRV_REBOOT_PENDING": [Play(loaded=OLD_DRIVER, programs={"modinfo": f"#!/bin/sh\necho 'version: {DRIVER}'"},
                                request={"expect": {"gpus": 2, "driver": DRIVER}}, part=True)],
    "DRV_LIB_MISMATCH": [Play(loaded=OLD_DRIVER), cuda("nvmlInitWithFlags", 18),
                         cuda("cuInit", 803)],
    "UVM_MISSING": [cuda("cuInit", 999)],
    "COMPAT_BAD": [cuda("cuInit", 804)],
    "FABRIC_NOT_READY": [Play(config={"nvswitch": ""}), cuda("cuInit", 802)],
    "MPS_BAD": [cuda("cuInit", 805), cuda("cuDevicePrimaryCtxRetain", 46)],
    "JIT_MISSING": [cuda("cuModuleLoadDataEx", 221)],
    "SETTING_CHANGED": [Play(plays=(f"value {name} {number}",), before=HEALTHY) for name, number in (
        ("persistence", 0), ("compute_mode", 3), ("ecc_mode", 0))] + [Play(plays=("later persistence 0",))],
    "LICENCE_MISSING": [Play(plays=("value virtualization 2", "value licence 0"))],
    "GPU_MISSING": [Play(plays=("value hidden_from_nvml 1 1",)), Play(gpus=1), Play(gpus=1, before=HEALTHY)],
    "GPU_LOST": [Play(plays=("call nvmlDeviceGetHandleByIndex_v2 15 1",)), Play(faults={"gpu-lost": "1"}),
                 Play(log=XID.format(79, 4242))],
    "GPU_RESET_REQUIRED": [Play(plays=("call nvmlDeviceGetHandleByIndex_v2 16 1",)),
                           Play(plays=("value recovery_action 1 1",))],
    "ROW_REMAP_PENDING": [Play(plays=("value remap_pending 1 1",)), Play(plays=("later remap_pending 1 1",))],
    "ROW_REMAP_FAILED": [Play(plays=("value remap_failed 1 1",))],
    "ECC_UNCORRECTED": [Play(faults={"ecc": "1 3"}), Play(plays=("later ecc_uncorrected 3 1",)),
                        cuda("cuCtxSynchronize", 214)],
    "XID_CRITICAL": [Play(log=XID.format(number, 4242)) for number in (48, 74, 95, 119)],
    "PCIE_DOWN": [Play(plays=("value pcie_width 4 1",), before=HEALTHY, attempts=2)],
    "GPU_CHANGED": [Play(before=HEALTHY, edit=other_serial)],
    "ECC_CORRECTED": [Play(plays=("value ecc_corrected 12 1",), before=HEALTHY)],
    "LINK_ERRORS": [Play(plays=("later pcie_replays 500 1",), before=HEALTHY)],
    "XID_OTHER": [Play(log=XID.format(61, 4242))],
    "RESULT_WRONG": [Play(faults={"gate-wrong": "1"}), Play(plays=("idle *",)), Play(plays=("constant * 0",)),
                     Play(plays=("flip planner_copy 77 1",)), Play(plays=("flip planner_wmma_s8 3 1",))],
    "TENSOR_CORES_OFF": [Play(plays=("value tensor_cores_off 1 1",)),
                         Play(plays=("value tensor_cores_off 1",), before=HEALTHY)],
    "P2P_CHANGED": [Play(plays=("value hidden_from_peers 1 1",), profile=STANDARD,
                         before=STEADY)],
    "PTX_TOO_NEW": [cuda("cuModuleLoadDataEx", 222)],
    "NO_KERNEL_IMAGE": [cuda("cuLaunchKernel", 209)],
    "ENV_FORGED": [Play(environment={"CUDA_DISABLE_PTX_JIT": "1"})],
    "ENV_SUSPECT": [Play(environment={"CUDA_INJECTION64_PATH": "/opt/profiler.so"})],
    "PERF_SLOWER": [slow(4)],
    "PERF_DROP": [slow(15, attempts=2)],
    "PERF_COLLAPSE": [slow(45, attempts=2)],
    "PERF_FLAKY": [slow(15, attempts=2, once=True)],
    "PERF_UNSTEADY": [Play(faults={"jitter-percent": "12"}, profile=STANDARD, before=STEADY)],
    "PERF_FASTER": [Play(profile=STANDARD,
                         before=Play(faults={"slow-percent": "20"}, profile=STANDARD))],
    "PEER_OUTLIER": [Play(faults={"slow-percent": "4 0"}, gpus=6, profile=STANDARD,
                          before=Play(faults={"slow-percent": "2 0"}, gpus=6, profile=STANDARD))],
    "ENV_THROTTLED": [Play(plays=("value throttle_reasons 0x8 1",)), watched("value throttle_reasons 0x40 1")],
    "ENV_FOREIGN_PROCESS": [Play(faults={"gpu-busy": "1 1"})],
    "ENV_POWER_CAP": [watched("value power_limit_mw 500000", request={"expect": {
        "gpus": 2, "may_change": ["power_limit_w", "power_enforced_w"]}})],
    "ENV_CLOCKS": [watched("value sm_clock_mhz 1200")],
    "ENV_TEMPERATURE": [watched("value temperature_c 84")],
    "BASELINE_MISSING": [Play(profile=STANDARD, part=True), Play(part=True)],
    "BASELINE_OTHER": [Play(profile=STANDARD, before=STEADY, edit=other_kernels)],
    "BASELINE_OLD": [Play(profile=STANDARD, before=STEADY, edit=year_ago)],
    "BASELINE_NOISY": [Play(profile=STANDARD, before=NOISY)],
    "MEMORY_SHORT": [Play(config={"memory-mib": "1"}), cuda("cuMemAlloc_v2", 2)],
    "PART_MISSING": [Play(config={"compute-capability": "6.1"}, part=True), Play(plays=("value mig 1",), part=True)],
    "REQUIRED_SKIPPED": [Play(config={"compute-capability": "6.1"}, request={"required": ["wmma_f16"]})],
    "GATE_NO_RESULT": [Play(request={"required": ["canary"]}), Play(spoil=lambda _: ""),
                       Play(spoil=lambda text: text[:500])],
    "GATE_TIMEOUT": [Play(plays=("hang cuLaunchKernel 600 1",), request={"kernel_seconds": 1.5}, attempts=2),
                     Play(plays=("stubborn cuInit 600",), request={"kernel_seconds": 1.5}, attempts=2)],
    "GATE_CRASHED": [Play(plays=("crash cuLaunchKernel 11 1",), attempts=2)],
    "REPORT_FOREIGN": [Play(spoil=foreign)],
    "XID_APP": [Play(plays=("xid planner_fma 13 1",)), Play(plays=("xid planner_copy 31 1",))],
    "GATE_BUG": [cuda("cuModuleLoadDataEx", 218)],
    "UNKNOWN_CODE": [cuda("cuInit", 12345), cuda("nvmlInitWithFlags", 777)],
}

# Another gate of this node holds the lock that all have.
HOLDER = """#!{python}
import os, socket, sys, time
lock = socket.socket(socket.AF_UNIX)
lock.bind("\\0planner-gate")
open(sys.argv[1], "w").close()
while os.path.exists("/proc/" + sys.argv[2]):
    time.sleep(0.02)
"""
DIAGNOSTIC = """#!{python}
import ctypes, os, sys, time
device = open("/dev/nvidia-uvm")
ctypes.CDLL(None).prctl(15, b"dcgmproftester")
open(sys.argv[1], "w").close()
while os.path.exists("/proc/" + sys.argv[2]):
    time.sleep(0.02)
"""
STUCK_LINE = '#!/bin/sh\nexec {stuck} "$PLANNER_STANDIN_DIR/dev/kmsg" "$2" "$1"\n'
PLAYS["GATE_BUSY"] = [Play(programs={"first": HOLDER}, request={"busy_wait_seconds": 0.3}),
                      Play(programs={"first": DIAGNOSTIC})]
PLAYS["GATE_HUNG_D"] = [Play(programs={"first": STUCK_LINE}, request={"stuck_look_s": 0.6})]
PLAYS["GATE_RESIDUE"] = [Play(plays=("later busy_pid 4242 1",))]

LOADED = Play(gpus=1, profile=DEEP, request={"load_seconds": 1, "expect": {"gpus": 1}})
CPU_BEFORE = replace(LOADED, kept=("launch_cpu_us",))
PLAYS["CPU_OVERHEAD"] = [replace(CPU_BEFORE, plays=("spin cuLaunchKernel 150",), before=CPU_BEFORE)]
PLAYS["LOW_UTILISATION"] = [replace(LOADED, plays=("value utilisation_percent 40",))]
