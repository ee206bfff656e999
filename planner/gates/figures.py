"""What a node's GPUs could do, and under which conditions, as it is compared. Pure, and standard library only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from .statistics import Surroundings

GATE = "planner.gate/2"
STAND_IN = "(stand-in)"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one GPU.

    Attributes:
        name: For example ``copy_device_to_device``; the same before and after.
        kind: Class of tolerance: bandwidth, compute, collective, latency or latency-async.
        unit: SI base unit of the samples: B/s, op/s, s.
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
    """One GPU: who it is, the conditions, its figures."""

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

    @property
    def surroundings(self) -> Surroundings:
        """The conditions of the measurement."""
        return Surroundings(self.power_limit_w, self.sm_clock_mhz, self.memory_clock_mhz, self.temperature_c,
                            self.throttled, self.foreign)

    def figure(self, name: str) -> Figure | None:
        """Return a figure by name."""
        return next((figure for figure in self.figures if figure.name == name), None)


@dataclass(frozen=True, slots=True)
class Baseline:
    """All GPUs of a node at one time, measured by one version of the gate.

    Attributes:
        host: Name of the node.
        taken_at: In UTC.
        gate: Version and profile of the gate, and with it method and parameters.
        kernels: Digest of the kernels.
        gpus: One entry a GPU.
        stand_in: True where no real GPU was measured.
    """

    host: str
    taken_at: datetime
    gate: str
    kernels: str
    gpus: tuple[Gpu, ...]
    stand_in: bool = False

    def gpu(self, uuid: str) -> Gpu | None:
        """Return a GPU by UUID."""
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)


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
        gpus = tuple(_gpu(gpu, (report.get("conditions") or {}).get(gpu.get("nvml_uuid")) or {}, driver)
                     for gpu in report["gpus"] if gpu.get("processes"))
        return Baseline(
            host=str(report["host"]), taken_at=datetime.fromisoformat(str(report["started_at"])).astimezone(UTC),
            gate=f"2 {'standard' if profile == 'deep' else profile}", kernels=str(report["pack"]), gpus=gpus,
            stand_in=any(STAND_IN in gpu.name for gpu in gpus))
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"it lacks {exc}") from exc


def _gpu(gpu: Mapping[str, Any], conditions: Mapping[str, Any], driver: str) -> Gpu:
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
        uuid=str(gpu["nvml_uuid"] or gpu["uuid"]), name=str(gpu["name"]), driver=driver,
        power_limit_w=_number(conditions.get("power_limit_w")), sm_clock_mhz=_number(conditions.get("sm_clock_mhz")),
        memory_clock_mhz=_number(conditions.get("memory_clock_mhz")),
        temperature_c=_number(conditions.get("temperature_c")),
        throttled=tuple(sorted(str(word) for word in conditions.get("throttled") or ())),
        foreign=tuple(sorted(str(word) for word in conditions.get("foreign") or ())), figures=figures)


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
