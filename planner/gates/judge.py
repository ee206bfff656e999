"""Judges what the probe saw of a node's GPUs. Pure, and standard library only: every bundle carries this very file.

The probe observes and proves; nothing it says of itself is believed. Each kernel's whole output is computed again here
from the run's nonce and compared bit for bit: a return code of zero, a remembered answer or a constant is no pass.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from array import array
from collections.abc import Mapping
from typing import Any

SCHEMA = "planner.gate/1"
ENTRY = "planner_mix"
STAND_IN = "(stand-in)"

# Threads and rounds of the kernel, by profile: enough to prove work, little enough to compute again on a controller.
SIZES = {"quick": (1024, 64), "full": (4096, 64)}

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
_MASK = 0xFFFFFFFF


class Findings:
    """Reasons found so far, and the verdict they add up to: a failure outweighs what could not be told."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.unclear: list[str] = []
        self.notes: list[str] = []
        self.wrong_results = False

    def as_dict(self) -> dict[str, Any]:
        """Return ``verdict``, ``reasons``, ``wrong_results`` and ``notes``."""
        verdict = FAIL if self.failed else INCONCLUSIVE if self.unclear else PASS
        return {"verdict": verdict, "reasons": self.failed + self.unclear, "wrong_results": self.wrong_results,
                "notes": self.notes}


def seed_of(nonce: object, host: object, gpu_index: object) -> int:
    """Return the kernel's seed for one GPU of one run: the first four bytes, big endian, of a SHA-256."""
    return int.from_bytes(hashlib.sha256(f"{nonce}:{host}:{gpu_index}".encode()).digest()[:4], "big")


def expected_output(seed: int, count: int, rounds: int) -> array[int]:
    """Return what ``planner_mix`` writes: see ARCHITECTURE.md for the function.

    All threads at once in one big integer, 64 bits each: no product of two 32-bit numbers reaches the next one.
    """
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    low = ones * _MASK
    starts = array("Q", (seed ^ (i * 0x9E3779B9 & _MASK) for i in range(count)))
    x = int.from_bytes(_little(starts).tobytes(), "little")
    for _ in range(rounds):
        x ^= x << 13 & low
        x ^= x >> 17 & low
        x ^= x << 5 & low
        x = x * 0x85EBCA6B + ones * 0xC2B2AE35 & low
    out = array("Q", x.to_bytes(8 * count, "little"))
    return array("I", _little(out))


def _little(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


def judge_gate(text: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a gate report.

    Args:
        text: What the probe printed.
        request: What it was asked: ``profile``, ``nonce``, ``host``, ``expect`` (``gpus``, and versions that must run).

    Returns:
        ``verdict`` (pass | fail | inconclusive), ``reasons`` (empty for pass), ``wrong_results`` (kernels ran and gave
        another result than arithmetic does) and ``notes``. Missing evidence is never a pass.
    """
    found = Findings()
    report = _read(text, found)
    if report is not None:
        _same_run(report, request, found)
    if report is not None and not found.failed:
        expect = request.get("expect") or {}
        _versions(report, expect, found)
        _gpus(report, request, expect, found)
    return found.as_dict()


def _read(text: str, found: Findings) -> dict[str, Any] | None:
    try:
        report: dict[str, Any] = json.loads(text)
        if report["schema"] != SCHEMA:
            raise ValueError(f"schema {report['schema']!r}")
        for key, kind in (("gpus", list), ("versions", dict), ("nvml", dict)):
            if not isinstance(report[key], kind):
                raise ValueError(f"{key} is no {kind.__name__}")
    except (ValueError, KeyError, TypeError) as exc:
        words = "it printed nothing" if not str(text or "").strip() else f"its report cannot be read ({exc})"
        found.unclear.append(f"the probe gave no report: {words}")
        return None
    return report


def _same_run(report: Mapping[str, Any], request: Mapping[str, Any], found: Findings) -> None:
    for key, words in (("nonce", "the report is of another run"), ("host", "the report is of another host"),
                       ("profile", "the report is of another profile")):
        if report.get(key) != request.get(key):
            found.failed.append(f"{words}: {key} {report.get(key)!r}, asked {request.get(key)!r}")


def _versions(report: Mapping[str, Any], expect: Mapping[str, Any], found: Findings) -> None:
    """The loaded module, the library and the fabric manager must be the planned ones, and agree."""
    seen = report["versions"]
    wanted = expect.get("driver")
    if wanted:
        for key, words in (("loaded", "loaded driver"), ("nvml", "NVML"), ("libcuda", "libcuda")):
            have = seen.get(key)
            if have and have != wanted:
                found.failed.append(f"{words} is {have}, planned is {wanted}")
        if not seen.get("loaded"):
            found.failed.append(f"no driver is loaded, planned is {wanted}")
    manager = expect.get("fabric_manager")
    if manager:
        have, active = seen.get("fabric_manager"), seen.get("fabric_manager_active")
        if have and have != manager:
            found.failed.append(f"fabric manager is {have}, planned is {manager}")
        elif not have:
            found.unclear.append(f"the fabric manager's version could not be read, planned is {manager}")
        if active is False:
            found.failed.append("the fabric manager is not running")


def _gpus(report: Mapping[str, Any], request: Mapping[str, Any], expect: Mapping[str, Any], found: Findings) -> None:
    nvml = report["nvml"]
    if nvml.get("error"):
        found.failed.append(f"NVML: {nvml['error']}")
    count = expect.get("gpus")
    for source, have in (("NVML", len(nvml.get("gpus") or ())), ("the PCI bus", report.get("pci_gpus"))):
        if isinstance(count, int) and isinstance(have, int) and have < count:
            found.failed.append(f"{source} shows {have} of {count} GPUs")
    if not report["gpus"] and not found.failed:
        found.failed.append("no kernel ran on any GPU")
    if any(STAND_IN in str(gpu.get("name", "")) for gpu in report["gpus"] if isinstance(gpu, dict)):
        found.notes.append("stand-in GPUs: the driver API answered, no real GPU was proved")
    listed = [gpu.get("index") for gpu in nvml.get("gpus") or ()]
    tried = [gpu.get("index") for gpu in report["gpus"] if isinstance(gpu, dict)]
    for index in listed:
        if tried.count(index) != 1:
            found.failed.append(f"GPU {index}: {tried.count(index)} results instead of one")
    for gpu in report["gpus"]:
        _gpu(gpu if isinstance(gpu, dict) else {}, request, found)


def _gpu(gpu: Mapping[str, Any], request: Mapping[str, Any], found: Findings) -> None:
    label = f"GPU {gpu.get('index')}"
    if gpu.get("busy"):
        found.unclear.append(f"{label} is used by {gpu['busy']}; no kernel was started there")
        return
    if gpu.get("unsuited"):
        found.unclear.append(f"{label}: {gpu['unsuited']}")
        return
    if gpu.get("error"):
        found.failed.append(f"{label}: {gpu['error']}")
        return
    if gpu.get("uuid") and gpu.get("nvml_uuid") and gpu["uuid"] != gpu["nvml_uuid"]:
        found.failed.append(f"{label}: CUDA says {gpu['uuid']}, NVML says {gpu['nvml_uuid']}")
    size = SIZES.get(str(request.get("profile")))
    try:
        output: array[int] | None = array("I", base64.b64decode(gpu["output"], validate=True))
        if output is not None and sys.byteorder == "big":
            output.byteswap()
    except (KeyError, ValueError, TypeError):
        output = None
    if output is None or size is None:
        found.failed.append(f"{label}: the kernel's output is missing")
        return
    wanted = expected_output(seed_of(request.get("nonce"), request.get("host"), gpu["index"]), *size)
    if len(output) != len(wanted):
        found.failed.append(f"{label}: the kernel wrote {len(output)} values, {len(wanted)} were asked")
        return
    wrong = [i for i in range(len(wanted)) if output[i] != wanted[i]]
    if wrong:
        found.wrong_results = True
        first = wrong[0]
        found.failed.append(f"{label}: {len(wrong)} of {len(wanted)} results of {ENTRY} are wrong "
                            f"(the first: number {first} is {output[first]:08x}, must be {wanted[first]:08x})")
