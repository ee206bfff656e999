"""A stand-in node for judges of its state: the probe's own readers look at made-up files and at a stand-in for NVML."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from planner.gates.node_state import judge_state
from planner.gates.verdicts import GateResult
from planner.probe.host import read_host, read_versions
from planner.probe.state import read_state
from tests.gates.standin_nvml import DRIVER, make
from tests.gates.test_probe_host import healthy, kmsg, write

HOST = "gpu-17"
GPUS = ("GPU-stand-in-0", "GPU-stand-in-1")
HEALTHY = {"TotalEccErrors": 0, "RemappedRows": (0, 0, 0, 0), "ComputeRunningProcesses": [], "EccMode": [1, 1],
           "PciInfo": lambda gpu: SimpleNamespace(busId=f"00000000:3{gpu}:00.0")}


def build(root: Path) -> dict[str, Any]:
    """Return the report of a healthy stand-in node, as the probe's readers see it."""
    place = healthy(root)
    write(root, "/dev/kmsg", kmsg((0, 1.0, "Linux")))
    for number in (0, 1):
        write(root, f"/sys/bus/pci/devices/0000:3{number}:00.0/vendor", "0x10de")
        write(root, f"/sys/bus/pci/devices/0000:3{number}:00.0/class", "0x030200")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pynvml", make(2, **HEALTHY))
        nvml = read_state(place)
    host = read_host({}, place)
    for part in (host, nvml):
        part["read_at_s"] = 100.0
    return {"schema": "planner.gate/2", "host": HOST, "boot_id": "boot-a", "host_state": host, "nvml": nvml,
            "nvml_after": copy.deepcopy(nvml), "pci_gpus": len(host["pci"]), "versions": read_versions(nvml, [], place),
            "gpus": [{"index": n, "processes": [{"libcuda": DRIVER}]} for n in (0, 1)], "conditions": {}}


def changed(report: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """Return a copy with one value replaced, made where it is missing, or removed where ``to`` is ``...``."""
    result = copy.deepcopy(report)
    place: Any = result
    for step in path[:-1]:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    if to is ...:
        place.pop(path[-1], None)
    else:
        place[path[-1]] = to
    return result


def gpu_changed(report: dict[str, Any], *path: str, to: Any, after: bool = True) -> dict[str, Any]:
    """Change the first GPU, before and after the kernels."""
    report = changed(report, "nvml", "gpus", 0, *path, to=to)
    return changed(report, "nvml_after", "gpus", 0, *path, to=to) if after else report


def judged(report: Any, before: Any = None, **expect: Any) -> list[GateResult]:
    """Judge a report of the stand-in node."""
    return judge_state(report, {"host": HOST, "expect": expect}, before)


def one(results: list[GateResult], gate: str, subject: str = HOST) -> GateResult:
    """Return the only answer of a gate for a subject."""
    found = [r for r in results if r.key == (gate, subject)]
    assert len(found) == 1, [r.key for r in results]
    return found[0]


def seen(report: Any, gate: str, subject: str = HOST, before: Any = None, **expect: Any) -> tuple[str, str]:
    """Return code and evidence of one gate."""
    found = one(judged(report, before, **expect), gate, subject)
    return found.code, "; ".join(found.evidence)
