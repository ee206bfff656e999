"""Judges the probe's own load: every slice exact, memory whole, speed as before and steady, the processor's part small.

Pure, and standard library only. One figure a slice: the median may be right where a third of the slices are slow.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from statistics import median
from typing import Any

from .asked import STAND_IN
from .expect import NO_INDEX, WARP_WORDS, copy_sums, data_of, seed_of, wrong
from .samples import compare_figure, cuda_code, guarded, numbers, refused
from .statistics import TOLERANCES, Tolerance, deviation, loss_of
from .verdicts import GateResult

MIB, M64 = 1 << 20, (1 << 64) - 1
SIZES = {"rounds": 8000, "copy_bytes": 1024 * MIB, "tensor_ms": 650, "copy_ms": 250, "queued_most": 800,
         "memory_percent": 90}
STAND_IN_SIZES = {"rounds": 4, "copy_bytes": MIB // 16, "tensor_ms": 1, "copy_ms": 1, "queued_most": 4,
                  "memory_percent": 0}
STAND_IN_TEST_BYTES = MIB // 16
KINDS = 16
LASTED = 0.5                # part of the asked time that the slices must fill
TESTED_OF_FREE = 0.88       # a hair under 90 %: sizes are cut to whole blocks
TESTED_OF_ALL = 0.80
SLICES_TO_JUDGE = 10        # fewer tell nothing of steadiness
ODD_SHARE = 0.1
DRIFT_MOST = 0.05           # between the first and the last tenth of the slices
CPU_FACTOR, CPU_LEAST_US = 1.75, 1.0        # two idle processes differ by up to a half
BUSY_LEAST, UTILISATION_LEAST = 0.7, 90.0   # checks between the slices take the rest
FIGURES = (("tflops", "compute", 1e12), ("gbps", "bandwidth", 1e9))
# key of a slice -> name of the figure, class, SI unit, factor to that unit, and which is better
COMPARED: Mapping[str, tuple[str, str, str, float, str]] = {
    "tflops": ("load_tensor", "compute", "op/s", 1e12, "higher"),
    "gbps": ("load_copy", "bandwidth", "B/s", 1e9, "higher"),
    "busy": ("load_busy", "compute", "1", 1.0, "higher"),
    "launch_cpu_us": ("load_launch_cpu", "latency-async", "s", 1e-6, "lower"),
    "copy_cpu_us": ("load_copy_cpu", "latency-async", "s", 1e-6, "lower"),
}


def judge_load(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None
               ) -> list[GateResult]:
    """Judge ``report["load"]``; nothing is said where the profile has no load.

    Gates, for each GPU: ``load`` (results), ``load.memory``, ``load.speed`` (against the load before), ``load.steady``,
    ``load.cpu`` and ``load.utilisation``.
    """
    if request.get("profile") != "deep":
        return []
    host = str(request.get("host", ""))
    return guarded("load", host, lambda: list(_load(report, request, before, host)))


def _load(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None, host: str
          ) -> Iterator[GateResult]:
    ready = [gpu for gpu in report.get("gpus", ()) if not {"error", "busy", "unsuited"} & set(gpu)]
    entries = report.get("load")
    if not isinstance(entries, list) or not entries:
        words = "no GPU could be used" if not ready else "the report has no load"
        yield GateResult("load", host, "GATE_NO_RESULT" if ready else "PART_MISSING", (words,))
        return
    silent = {str(gpu["nvml_uuid"]) for gpu in ready} - {str(entry["uuid"]) for entry in entries}
    for uuid in sorted(silent):
        yield GateResult("load", uuid, "GATE_NO_RESULT", ("the report has no load of this GPU",))
    was = before.get("load") if isinstance(before, Mapping) else None
    old = {str(entry["uuid"]): entry for entry in was if isinstance(entry, Mapping) and "uuid" in entry} if (
        isinstance(was, list)) else {}
    for entry in entries:
        uuid = str(entry["uuid"])
        yield from guarded("load", uuid, lambda entry=entry, uuid=uuid: list(       # type: ignore[misc]
            _one(entry, old.get(uuid), uuid, report, request, before)))


def _one(entry: Mapping[str, Any], old: Mapping[str, Any] | None, uuid: str, report: Mapping[str, Any],
         request: Mapping[str, Any], before: Mapping[str, Any] | None) -> Iterator[GateResult]:
    if trouble := refused("load", uuid, entry, "GATE_TIMEOUT"):
        yield trouble
        return
    if entry.get("skip"):
        yield GateResult("load", uuid, "PART_MISSING", (str(entry["skip"]),))
        return
    nonce, label = str(request.get("nonce", "")), f"{request.get('host', '')}:{entry['index']}"
    if (entry["nonce"], entry["label"]) != (nonce, label):
        yield GateResult("load", uuid, "REPORT_FOREIGN", (f"nonce {entry['nonce']!r}, label {entry['label']!r}",))
        return
    played, slices = STAND_IN in str(entry.get("name", "")), entry["slices"]
    sizes = STAND_IN_SIZES if played else SIZES
    if entry["parameters"] != sizes:
        yield GateResult("load", uuid, "GATE_BUG", (f"sizes {entry['parameters']}, asked {sizes}",))
        return
    yield _results(entry, slices, sizes, nonce, label, uuid)
    yield _memory(entry, played, nonce, label, uuid)
    yield _speed(slices, old["slices"] if old and "slices" in old else None, uuid)
    yield _steady(slices, uuid)
    yield _cpu(report, before, uuid)
    yield _utilisation(slices, report, played, uuid)


def _results(entry: Mapping[str, Any], slices: list[Mapping[str, Any]], sizes: Mapping[str, int], nonce: str,
             label: str, uuid: str) -> GateResult:
    warps, found = entry["warps"], []
    if type(warps) is not int or warps <= 0 or [part["number"] for part in slices] != list(range(len(slices))):
        raise ValueError("slices or warps that cannot be")
    for part in slices:
        same, first, sums = expected_slice(nonce, label, part["number"] % KINDS, sizes["rounds"],
                                           sizes["copy_bytes"], warps)
        for what, have, want in (("all warps", part["same"], same), ("the first warp", part["first"], first),
                                 ("the copy", part["sums"], sums)):
            if have != want:
                found.append(f"slice {part['number']}: {what}: {have}, must be {want}")
    if found:
        return GateResult("load", uuid, "RESULT_WRONG", (*found[:3], f"{len(found)} wrong results in all"))
    lasted = sum(part["wall_s"] for part in slices)
    words = f"{len(slices)} slices, {lasted:.0f} of {entry['seconds_asked']:g} s"
    enough = slices and lasted + entry["memory"]["seconds"] >= LASTED * entry["seconds_asked"]
    return GateResult("load", uuid, "OK" if enough else "GATE_NO_RESULT", (words,))


@lru_cache(maxsize=256)
def _products(nonce: str, label: str) -> tuple[int, ...]:
    """Return the 1024 sums of one round."""
    signed = [byte % 7 - 3 for byte in data_of(nonce, label, "wmma_f16", 5 * 256)]
    left = signed[:256]
    return tuple(sum(left[16 * row + k] * signed[256 * j + 16 * column + k] for k in range(16))
                 for j in range(1, 5) for row in range(16) for column in range(16))


@lru_cache(maxsize=256)
def expected_slice(nonce: str, label: str, kind: int, least_rounds: int, copy_bytes: int, warps: int
                   ) -> tuple[list[int], list[int], list[int]]:
    """Return the right evidence of a slice of this kind: ``same``, ``first`` and ``sums``."""
    rounds = least_rounds + seed_of(nonce, label, f"load rounds {kind}") % KINDS
    values = [float(rounds * product) for product in _products(nonce, label)]
    bits = struct.unpack(f"<{WARP_WORDS}I", struct.pack(f"<{WARP_WORDS}f", *values))
    same = [0, WARP_WORDS * warps, sum(bits) * warps & M64, NO_INDEX, 0]
    first = [sum(bits) & M64, sum((i + 1) * word for i, word in enumerate(bits)) & M64, WARP_WORDS]
    return same, first, copy_sums(seed_of(nonce, label, f"load copy {kind}"), copy_bytes // 4)


def _memory(entry: Mapping[str, Any], played: bool, nonce: str, label: str, uuid: str) -> GateResult:
    result, space = entry["memory"], entry["memory_bytes"]
    if result["status"] == "inconclusive":
        return GateResult("load.memory", uuid, "MEMORY_SHORT", (str(result.get("reason")),))
    if result["status"] != "ok":
        return GateResult("load.memory", uuid, cuda_code(result), (str(result.get("reason")),))
    tested = result["parameters"]["bytes"]
    if type(tested) is not int or tested <= 0 or tested % 16384 or (played and tested != STAND_IN_TEST_BYTES):
        raise ValueError(f"a test of {tested} bytes")
    if bad := wrong(result, {"bytes": tested}, nonce, label):
        return GateResult("load.memory", uuid, "RESULT_WRONG", tuple(bad[:4]))
    words = f"{tested / 2**30:.1f} GiB tested, {space['free'] / 2**30:.1f} were free of {space['total'] / 2**30:.1f}"
    short = not played and (tested < TESTED_OF_FREE * space["free"] or tested < TESTED_OF_ALL * space["total"])
    return GateResult("load.memory", uuid, "MEMORY_SHORT" if short else "OK", (words,))


def _values(slices: list[Mapping[str, Any]], key: str) -> list[float]:
    values = numbers([part[key] for part in slices])
    if values is None:
        raise ValueError(f"{key} of a slice is no number above zero")
    return values


def _speed(slices: list[Mapping[str, Any]], old: list[Mapping[str, Any]] | None, uuid: str) -> GateResult:
    if old is None:
        return GateResult("load.speed", uuid, "BASELINE_MISSING", ("no load of this GPU before the change",))
    found = [compare_figure(key, kind, _values(old, key), _values(slices, key), unit) for key, kind, unit in FIGURES]
    bad = [each for each in found if each[0] != "OK"]
    order = ("PERF_COLLAPSE", "PERF_DROP", "BASELINE_NOISY", "BASELINE_OTHER")
    bad.sort(key=lambda each: (order.index(each[0]) if each[0] in order else len(order), each))
    return GateResult("load.speed", uuid, bad[0][0] if bad else "OK", tuple(words for _, words in bad),
                      passed_before=True)


def _steady(slices: list[Mapping[str, Any]], uuid: str) -> GateResult:
    if len(slices) < SLICES_TO_JUDGE:
        words = f"{len(slices)} slices, at least {SLICES_TO_JUDGE} tell whether a figure is steady"
        return GateResult("load.steady", uuid, "PART_MISSING", (words,))
    found = [words for key, kind, _ in FIGURES for words in unsteady(key, _values(slices, key), TOLERANCES[kind])]
    return GateResult("load.steady", uuid, "PERF_UNSTEADY" if found else "OK", tuple(found))


def unsteady(name: str, values: list[float], tolerance: Tolerance) -> list[str]:
    """Return what is unsteady about a figure of which more is better; one value a slice, in their order."""
    found, middle, tenth = [], median(values), max(1, len(values) // 10)
    if (spread := deviation(values)) > tolerance.unsteady:
        found.append(f"{name}: spread {100 * spread:.1f} % of {middle:.4g}")
    odd = [value for value in values if loss_of(middle, value, higher_is_better=True) > tolerance.tail]
    if len(odd) >= 2 and len(odd) >= ODD_SHARE * len(values):
        found.append(f"{name}: {len(odd)} of {len(values)} slices far below {middle:.4g}, the lowest {min(odd):.4g}")
    first, last = median(values[:tenth]), median(values[-tenth:])
    if loss_of(first, last, higher_is_better=True) > DRIFT_MOST:
        found.append(f"{name}: from {first:.4g} at the beginning to {last:.4g} at the end")
    return found


def _cpu(report: Mapping[str, Any], before: Mapping[str, Any] | None, uuid: str) -> GateResult:
    """Compare the processor's time for a launch and for a copy, as the same measurement saw it before."""
    if before is None:
        return GateResult("load.cpu", uuid, "BASELINE_MISSING", ("nobody knows the processor's time before",))
    words, known = [], 0
    for key in ("launch_cpu_us", "copy_cpu_us"):
        old, now = _measured(before, uuid, key), _measured(report, uuid, key)
        if not old or not now:
            continue
        known += 1
        was, is_ = median(old), median(now)
        if is_ > CPU_FACTOR * was and is_ - was > CPU_LEAST_US:
            words.append(f"{key} {is_:.2f}, before {was:.2f}")
    if not known:
        return GateResult("load.cpu", uuid, "BASELINE_MISSING", ("it was not measured on both sides",))
    return GateResult("load.cpu", uuid, "CPU_OVERHEAD" if words else "OK", tuple(words), passed_before=True)


def _measured(report: Mapping[str, Any], uuid: str, key: str) -> list[float]:
    found: list[float] = []
    for gpu in report.get("gpus", ()):
        if gpu.get("nvml_uuid") == uuid:
            for process in gpu.get("processes") or ():
                for result in process["results"]:
                    found += numbers(result["samples"].get(key)) or []
    return found


def _utilisation(slices: list[Mapping[str, Any]], report: Mapping[str, Any], played: bool, uuid: str) -> GateResult:
    """Look whether the GPU was as busy as a load that queues everything ahead must make it.

    Of a stand-in the slices are the processor's time, and NVML tells 0 where nobody plays a utilisation.
    """
    conditions = report.get("conditions")
    seen = conditions.get(uuid, {}) if isinstance(conditions, Mapping) else {}
    told = seen.get("utilisation_percent_max")
    highest = told if isinstance(told, (int, float)) and (told > 0 or not played) else None
    if not slices or (played and highest is None):
        return GateResult("load.utilisation", uuid, "PART_MISSING", ("a stand-in, or no slice",))
    words = []
    if not played:
        pairs = zip(_values(slices, "gpu_s"), _values(slices, "wall_s"), strict=True)
        if (share := median(gpu / wall for gpu, wall in pairs)) < BUSY_LEAST:
            words.append(f"work on the GPU fills {100 * share:.0f} % of a slice")
    if highest is not None and highest < UTILISATION_LEAST:
        words.append(f"NVML saw at most {highest:g} % utilisation")
    return GateResult("load.utilisation", uuid, "LOW_UTILISATION" if words else "OK", tuple(words))


def load_figures(entry: Mapping[str, Any]) -> list[tuple[str, str, str, float, str, list[Any]]]:
    """Return what a GPU's load can be compared by: name, class, unit, factor to it, which is better, one value a slice.

    ``load_busy`` is the part of a slice in which queued work runs. Of a stand-in the processor's times are left out.
    """
    slices, played, found = entry.get("slices") or (), STAND_IN in str(entry.get("name", "")), []
    for key, (name, kind, unit, scale, better) in COMPARED.items():
        if not (played and (key == "busy" or kind.startswith("latency"))):
            values = [part["gpu_s"] / part["wall_s"] if key == "busy" else part.get(key) for part in slices]
            found.append((name, kind, unit, scale, better, values))
    return found
