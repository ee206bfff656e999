"""What a node's GPUs could do, and under which conditions, as it is compared. Pure, and standard library only."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from .load import load_figures
from .pairs import all_reduce_figures, pair_figures
from .samples import numbers
from .statistics import SAMPLES_LEAST, Surroundings

GATE = "planner.gate/2"
RANK = "planner.nccl/1"
STAND_IN = "(stand-in)"
LOCAL_MOST = 64         # GPUs of one process
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

# Parts of a gate whose figures come from one process: copies between two GPUs, all-reduces of one process and of ranks
# in processes of their own, the load. Where a part has no name the figure is a GPU's own, of several processes.
PAIRS, COLLECTIVE, RANKS, LOAD = "pairs", "collective", "ranks", "load"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a GPU, or of several together.

    Attributes:
        name: For example ``copy_device_to_device``; the same before and after.
        kind: Class of tolerance: bandwidth, compute, collective, latency or latency-async.
        unit: SI base unit of the samples: B/s, op/s, s; 1 for a share.
        better: ``higher`` or ``lower``.
        samples: One tuple a process, its warm-up left out.
    """

    name: str
    kind: str
    unit: str
    better: str
    samples: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: who it is, the conditions, its figures; ``slot`` is its PCI address, "" where nobody told it."""

    uuid: str
    name: str
    driver: str
    power_limit_w: float
    sm_clock_mhz: float
    memory_clock_mhz: float
    temperature_c: float
    throttled: tuple[str, ...]
    foreign: tuple[str, ...]
    figures: tuple[Figure, ...]
    slot: str = ""

    @property
    def surroundings(self) -> Surroundings:
        """The conditions of the measurement."""
        return Surroundings(self.power_limit_w, self.sm_clock_mhz, self.memory_clock_mhz, self.temperature_c,
                            self.throttled, self.foreign)

    def figure(self, name: str) -> Figure | None:
        """Return a figure by name."""
        return next((figure for figure in self.figures if figure.name == name), None)


@dataclass(frozen=True, slots=True)
class Group:
    """Figures of several GPUs together.

    Attributes:
        part: ``pairs``, ``collective`` or ``ranks``.
        gpus: UUIDs, sorted; of a pair, ``…_forth`` goes from the first to the second and ``…_back`` the other way.
        figures: The size of an all-reduce is in the figure's name.
    """

    part: str
    gpus: tuple[str, ...]
    figures: tuple[Figure, ...]

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What it has in common with the same figures at another time."""
        return self.part, self.gpus

    def figure(self, name: str) -> Figure | None:
        """Return a figure by name."""
        return next((figure for figure in self.figures if figure.name == name), None)


@dataclass(frozen=True, slots=True)
class Absent:
    """A part without figures, and why; ``tried`` where it should have given some."""

    part: str
    tried: bool
    why: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """All GPUs of a node at one time, measured by one version of the gate.

    Attributes:
        host: Name of the node; of ranks on several nodes, all their names.
        taken_at: In UTC; None where the reports tell no time.
        gate: Version and profile of the gate, and with it method and parameters.
        kernels: Digest of the kernels.
        gpus: One entry a GPU; none where only ranks were measured.
        stand_in: True where no real GPU was measured.
        groups: Pairs and all-reduces.
        absent: Parts that have no figures.
    """

    host: str
    taken_at: datetime | None
    gate: str
    kernels: str
    gpus: tuple[Gpu, ...]
    stand_in: bool = False
    groups: tuple[Group, ...] = ()
    absent: tuple[Absent, ...] = ()

    def gpu(self, uuid: str) -> Gpu | None:
        """Return a GPU by UUID."""
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)

    def group(self, key: tuple[str, tuple[str, ...]]) -> Group | None:
        """Return figures of several GPUs by part and UUIDs."""
        return next((group for group in self.groups if group.key == key), None)


# samples of a measurement -> name of the figure, class, SI unit, factor to that unit, and which is better
FIGURES: dict[str, tuple[str, str, str, float, str]] = {
    "d2d_gbps": ("copy_device", "bandwidth", "B/s", 1e9, "higher"),
    "copy_kernel_gbps": ("copy_kernel", "bandwidth", "B/s", 1e9, "higher"),
    "h2d_gbps": ("copy_to_device", "bandwidth", "B/s", 1e9, "higher"),
    "d2h_gbps": ("copy_to_host", "bandwidth", "B/s", 1e9, "higher"),
    "fma_tflops": ("fma_f32", "compute", "op/s", 1e12, "higher"),
    "wmma_f16_tflops": ("wmma_f16", "compute", "op/s", 1e12, "higher"),
    "wmma_s8_tops": ("wmma_s8", "compute", "op/s", 1e12, "higher"),
    "launch_async_us": ("launch_async", "latency-async", "s", 1e-6, "lower"),
    "launch_sync_us": ("launch_sync", "latency", "s", 1e-6, "lower"),
    "launch_cpu_us": ("launch_cpu", "latency-async", "s", 1e-6, "lower"),
}
_LEAST, _MOST = 1e-12, 1e21


def part_of(figure: str) -> str:
    """Return the part of a figure of one GPU: the load's, or "" for a figure of its own processes."""
    return LOAD if figure.startswith("load_") else ""


def baseline_of(report: Mapping[str, Any]) -> Baseline:
    """Return the figures of a gate report.

    Args:
        report: A report ``planner.gate/2``; GPUs without measurements are left out.

    Raises:
        ValueError: It cannot be read as one, or a sample is no number above zero.
    """
    try:
        if report["schema"] != GATE:
            raise ValueError(f"its schema is {str(report['schema'])[:80]!r}, not {GATE}")
        profile = str(report["profile"])
        driver = str(report["versions"].get("loaded") or report["nvml"].get("driver") or "unknown")
        slots = {str(gpu.get("uuid")): str(gpu.get("bus_id") or "") for gpu in report["nvml"].get("gpus") or ()}
        load, no_load = _read(LOAD, report, _load_figures)
        pairs, no_pairs = _read(PAIRS, report, _pair_groups)
        collective, no_collective = _read(COLLECTIVE, report, _collective_groups)
        gpus = tuple(_gpu(gpu, (report.get("conditions") or {}).get(gpu.get("nvml_uuid")) or {}, driver, slots, load)
                     for gpu in report["gpus"] if gpu.get("processes"))
        return Baseline(
            host=str(report["host"]), taken_at=datetime.fromisoformat(str(report["started_at"])).astimezone(UTC),
            gate=f"2 {'standard' if profile == 'deep' else profile}", kernels=str(report["pack"]), gpus=gpus,
            stand_in=any(STAND_IN in gpu.name for gpu in gpus), groups=(*pairs, *collective),
            absent=tuple(each for each in (no_pairs, no_collective, no_load) if each))
    except (KeyError, TypeError, AttributeError, ArithmeticError) as exc:
        raise ValueError(f"it lacks {exc}") from exc


def _gpu(gpu: Mapping[str, Any], conditions: Mapping[str, Any], driver: str, slots: Mapping[str, str],
         load: Mapping[str, tuple[Figure, ...]]) -> Gpu:
    uuid = str(gpu["nvml_uuid"] or gpu["uuid"])
    groups: dict[str, list[tuple[float, ...]]] = {}
    played = STAND_IN in str(gpu.get("name", ""))
    for process in gpu["processes"]:
        for result in process["results"]:
            for key, samples in result["samples"].items():
                # A stand-in's launches take as long as the processor happens to take.
                if key in FIGURES and samples and not (played and FIGURES[key][1].startswith("latency")):
                    groups.setdefault(key, []).append(_group(key, samples))
    figures = tuple(Figure(FIGURES[key][0], FIGURES[key][1], FIGURES[key][2], FIGURES[key][4], tuple(groups[key]))
                    for key in sorted(groups))
    return Gpu(
        uuid=uuid, slot=slots.get(uuid, ""), name=str(gpu["name"]), driver=driver,
        power_limit_w=_number(conditions.get("power_limit_w")), sm_clock_mhz=_number(conditions.get("sm_clock_mhz")),
        memory_clock_mhz=_number(conditions.get("memory_clock_mhz")),
        temperature_c=_number(conditions.get("temperature_c")),
        throttled=tuple(sorted(str(word) for word in conditions.get("throttled") or ())),
        foreign=tuple(sorted(str(word) for word in conditions.get("foreign") or ())),
        figures=(*figures, *load.get(uuid, ())))


def _group(key: str, samples: Any) -> tuple[float, ...]:
    scale = FIGURES[key][3]
    values = tuple(float(value) * scale for value in samples)
    if not all(isfinite(value) and _LEAST <= value <= _MOST for value in values):
        raise ValueError(f"a sample of {key} is no number above zero")
    return values


def _number(value: Any) -> float:
    """Return a number that NVML told; 0 where it told none: nothing is compared with what nobody knows."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    return float(value) if known else 0.0


# --- figures of one process: pairs, all-reduces, the load


def _read(part: str, report: Mapping[str, Any], reader: Callable[[Any], Any]) -> tuple[Any, Absent | None]:
    """Return what the reader finds in a part of the report, or why there is nothing to find."""
    seen = report.get(part)
    if seen is None:
        profile = str(report.get("profile"))
        if profile == "quick" or (part == LOAD and profile != "deep"):
            return {}, Absent(part, False, f"the {profile} profile has none")
        measured = sum(bool(gpu.get("processes")) for gpu in report["gpus"])
        if part != LOAD and measured < 2:
            return {}, Absent(part, False, f"it needs two GPUs, {measured} could be used")
        return {}, Absent(part, False, "it was not asked for")
    try:
        found = reader(seen)
        why, tried = _refusal(seen)
    except _MALFORMED as exc:
        found, why, tried = {}, f"the report cannot be read ({type(exc).__name__})", True
    return found, None if found else Absent(part, tried, why or "no figure was taken")


def _refusal(seen: Any) -> tuple[str, bool]:
    """Return the words of a part that gave no figures, and whether it should have given some."""
    for entry in seen if isinstance(seen, list) else [seen]:
        if why := next((entry[key] for key in ("error", "short", "reason", "skip") if entry.get(key)), ""):
            return str(why)[:200], not entry.get("skip") and entry.get("status") != "skip"
    return "", True


def _one_process(taken: Sequence[tuple[str, str, str, float, str, Any]]) -> tuple[Figure, ...]:
    """Return figures of one process by name; one with a sample that is no number above zero, or with few, is none."""
    kept: dict[str, Figure] = {}
    for name, kind, unit, scale, better, values in taken:
        known = numbers(values)
        if known is not None and len(known) >= SAMPLES_LEAST:
            kept.setdefault(name, Figure(name, kind, unit, better, (tuple(value * scale for value in known),)))
    return tuple(kept[name] for name in sorted(kept))


def _pair_groups(seen: Mapping[str, Any]) -> list[Group]:
    found = [Group(PAIRS, gpus, _one_process(taken)) for gpus, taken in sorted(pair_figures(seen).items())]
    return [group for group in found if group.figures]


def _collective_groups(seen: Mapping[str, Any]) -> list[Group]:
    if seen.get("status") != "ok":
        return []
    figures = _one_process(all_reduce_figures([seen["sizes"]], played=_played(seen), apart=False))
    gpus = tuple(sorted(str(gpu.get("asked") or gpu["uuid"]) for gpu in seen["gpus"]))
    return [Group(COLLECTIVE, gpus, figures)] if figures else []


def _load_figures(seen: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Figure, ...]]:
    found = {str(entry["uuid"]): _one_process(load_figures(entry)) for entry in seen}
    return {uuid: figures for uuid, figures in found.items() if figures}


def _played(seen: Mapping[str, Any]) -> bool:
    return any(STAND_IN in str(gpu.get("name", "")) for gpu in seen["gpus"])


def ranks_of(reports: Sequence[Mapping[str, Any]]) -> Baseline:
    """Return the figures of an all-reduce by ranks in processes of their own, on one node or several.

    Args:
        reports: The ``planner.nccl/1`` of every process that took part, in any order.

    Raises:
        ValueError: One is missing, failed, or is of another run.
    """
    try:
        for report in reports:
            if report["schema"] != RANK:
                raise ValueError(f"its schema is {str(report['schema'])[:80]!r}, not {RANK}")
            if report["status"] != "ok":
                raise ValueError(f"rank {report.get('rank')} ended with {report['status']}: {report.get('reason')}")
            if not 0 < report["local"] <= LOCAL_MOST:
                raise ValueError(f"{report['local']} GPUs of one process")
        if len({json.dumps([each[key] for key in ("nonce", "label", "ranks", "parameters", "pack")], sort_keys=True)
                for each in reports}) != 1:
            raise ValueError("no reports of one and the same run")
        ranks = sorted(rank for each in reports for rank in range(each["rank"], each["rank"] + each["local"]))
        if ranks != list(range(reports[0]["ranks"])):
            raise ValueError(f"ranks {ranks} of {reports[0]['ranks']}")
        gpus = tuple(sorted(str(gpu.get("asked") or gpu["uuid"]) for each in reports for gpu in each["gpus"]))
        played = any(_played(each) for each in reports)
        figures = _one_process(all_reduce_figures([each["sizes"] for each in reports], played=played, apart=True))
        if not figures or len(set(gpus)) != len(ranks):
            raise ValueError(f"{len(figures)} figures of {len(set(gpus))} GPUs and {len(ranks)} ranks")
        return Baseline(host=" and ".join(sorted({str(each.get("host") or "-") for each in reports})), taken_at=None,
                        gate="1 ranks", kernels=str(reports[0]["pack"]), gpus=(), stand_in=played,
                        groups=(Group(RANKS, gpus, figures),))
    except (LookupError, TypeError, AttributeError, ArithmeticError) as exc:
        raise ValueError(f"it lacks {exc}") from exc


def read_report(text: str) -> dict[str, Any]:
    """Return a gate report from its text.

    Raises:
        ValueError: It is no JSON object, or no ``planner.gate/2``.
    """
    try:
        value = json.loads(text)
    except RecursionError as exc:
        raise ValueError("nested too deep") from exc
    if not isinstance(value, dict):
        raise ValueError(f"it holds no object but {type(value).__name__}")
    if value.get("schema") != GATE:
        raise ValueError(f"its schema is {str(value.get('schema'))[:80]!r}, not {GATE}")
    return value
