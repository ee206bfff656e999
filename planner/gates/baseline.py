"""The document ``planner.baseline/1``: what each GPU, and several together, could do, as a file. Pure.

docs/gates.md describes its keys. ``pairs``, ``collectives``, ``absent`` and ``slot`` came later than the rest:
documents without them are read as they always were.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from planner.diagnostics import Diagnostic
from planner.documents import Evidence, validate
from planner.errors import InputError
from planner.gates import figures
from planner.gates.statistics import SAMPLES_LEAST

SCHEMA = "planner.baseline/1"
TEXT_MOST = 64 * 1024 * 1024

_Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]
# From a picosecond to a zettabyte a second: whatever lies outside was not measured, and its quotients may overflow.
_Positive = Annotated[float, Field(ge=1e-12, le=1e21, allow_inf_nan=False, strict=True)]
_Group = Annotated[tuple[_Positive, ...], Field(max_length=10_000)]


class _Figure(Evidence):
    name: _Name
    kind: Literal["bandwidth", "compute", "collective", "latency", "latency-async"] = Field(alias="class")
    unit: _Name
    better: Literal["higher", "lower"]
    samples: Annotated[tuple[_Group, ...], Field(max_length=1_000)]

    # Not as a field's constraint: one bad sample would be followed by the complaint that none is left.
    @model_validator(mode="after")
    def _enough(self) -> _Figure:
        if not self.samples:
            raise ValueError("a figure without samples")
        if min(len(group) for group in self.samples) < SAMPLES_LEAST:
            raise ValueError(f"a process with fewer than {SAMPLES_LEAST} samples")
        return self


class _Gpu(Evidence):
    uuid: _Name
    name: _Name
    driver: _Name
    power_limit_w: _Positive | None         # null: NVML does not tell it here
    sm_clock_mhz: _Positive | None
    memory_clock_mhz: _Positive | None
    temperature_c: Annotated[float, Field(ge=-50, le=200, allow_inf_nan=False, strict=True)] | None
    throttled: Annotated[tuple[_Name, ...], Field(max_length=64)]
    foreign: Annotated[tuple[_Name, ...], Field(max_length=10_000)]
    figures: Annotated[tuple[_Figure, ...], Field(max_length=1_000)]
    slot: Annotated[str, Field(max_length=120, pattern=r"^[^\x00-\x1f\x7f]*$")] = ""

    @model_validator(mode="after")
    def _each_once(self) -> _Gpu:
        _check_names(self.figures, "a GPU")
        return self


class _Together(Evidence):
    gpus: Annotated[tuple[_Name, ...], Field(min_length=2, max_length=10_000)]
    figures: Annotated[tuple[_Figure, ...], Field(max_length=1_000)]

    @model_validator(mode="after")
    def _whole(self) -> _Together:
        if list(self.gpus) != sorted(set(self.gpus)):
            raise ValueError("UUIDs that are not sorted, or one that is there twice")
        _check_names(self.figures, "a group")
        return self


class _Pair(_Together):
    gpus: Annotated[tuple[_Name, ...], Field(min_length=2, max_length=2)]


class _Collective(_Together):
    by: Literal["one process", "ranks"]


class _Absent(Evidence):
    part: Literal["pairs", "collective", "load"]
    tried: bool
    why: Annotated[str, Field(max_length=400)]


def _check_names(found: tuple[_Figure, ...], what: str) -> None:
    names = [figure.name for figure in found]
    if not names:
        raise ValueError(f"{what} without figures")
    if len(set(names)) != len(names):
        raise ValueError("a figure is there twice")


class _Baseline(Evidence):
    schema_: Literal["planner.baseline/1"] = Field(alias="schema")
    host: _Name
    taken_at: datetime | None               # null: of ranks, whose reports tell no time
    gate: _Name
    kernels: _Name
    gpus: Annotated[tuple[_Gpu, ...], Field(max_length=1_000)]
    stand_in: bool = False
    pairs: Annotated[tuple[_Pair, ...], Field(max_length=10_000)] = ()
    collectives: Annotated[tuple[_Collective, ...], Field(max_length=100)] = ()
    absent: Annotated[tuple[_Absent, ...], Field(max_length=3)] = ()

    @field_validator("taken_at")
    @classmethod
    def _utc(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC) if value else None

    @model_validator(mode="after")
    def _each_once(self) -> _Baseline:
        if not self.gpus and not self.collectives:
            raise ValueError("no GPU at all")
        if len({gpu.uuid for gpu in self.gpus}) != len(self.gpus):
            raise ValueError("a GPU is there twice")
        if len({pair.gpus for pair in self.pairs}) != len(self.pairs):
            raise ValueError("a pair is there twice")
        if len({(each.by, each.gpus) for each in self.collectives}) != len(self.collectives):
            raise ValueError("a collective is there twice")
        return self


def read_baseline(text: str, *, name: str) -> figures.Baseline:
    """Return a baseline from its JSON text.

    Args:
        text: What a file holds: a document ``planner.baseline/1``. It may come from a broken or hostile node.
        name: Of the file, for messages.

    Raises:
        InputError: One diagnostic for each thing that is wrong or missing.
    """
    try:
        if len(text) > TEXT_MOST:
            raise ValueError(f"{len(text)} characters, at most {TEXT_MOST} are read")
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError(f"it holds no object but {type(value).__name__}")
        if value.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {str(value.get('schema'))[:80]!r}, not {SCHEMA}")
    except (ValueError, RecursionError) as exc:
        words = "nested too deep" if isinstance(exc, RecursionError) else str(exc)
        raise InputError(Diagnostic(code="baseline-unreadable", subject=name, summary=f"not a baseline: {words}",
                                    hint="take one: planner gate baseline --out FILE")) from exc
    return _converted(validate(_Baseline, value, name=name))


def _converted(document: _Baseline) -> figures.Baseline:
    pairs = [figures.Group(figures.PAIRS, each.gpus, _figures(each.figures)) for each in document.pairs]
    collectives = [figures.Group(figures.RANKS if each.by == "ranks" else figures.COLLECTIVE, each.gpus,
                                 _figures(each.figures)) for each in document.collectives]
    return figures.Baseline(
        host=document.host, taken_at=document.taken_at, gate=document.gate, kernels=document.kernels,
        stand_in=document.stand_in, groups=(*pairs, *collectives),
        absent=tuple(figures.Absent(each.part, each.tried, each.why) for each in document.absent),
        gpus=tuple(
            figures.Gpu(gpu.uuid, gpu.name, gpu.driver, gpu.power_limit_w or 0.0, gpu.sm_clock_mhz or 0.0,
                        gpu.memory_clock_mhz or 0.0, gpu.temperature_c or 0.0, gpu.throttled, gpu.foreign,
                        _figures(gpu.figures), gpu.slot)
            for gpu in document.gpus))


def _figures(found: tuple[_Figure, ...]) -> tuple[figures.Figure, ...]:
    return tuple(figures.Figure(each.name, each.kind, each.unit, each.better, each.samples) for each in found)


def baseline_json(baseline: figures.Baseline) -> dict[str, Any]:
    """Return the document as plain JSON values; ``read_baseline`` reads the same figures from it.

    Args:
        baseline: Of a report or of ranks. What would be refused when it is read is left out: a GPU without figures.
    """
    by = {figures.COLLECTIVE: "one process", figures.RANKS: "ranks"}
    taken_at = baseline.taken_at.isoformat().replace("+00:00", "Z") if baseline.taken_at else None
    return {
        "schema": SCHEMA, "host": baseline.host, "taken_at": taken_at, "gate": baseline.gate,
        "kernels": baseline.kernels, "stand_in": baseline.stand_in,
        "gpus": [{"uuid": gpu.uuid, "name": gpu.name, "driver": gpu.driver, "slot": gpu.slot,
                  "power_limit_w": gpu.power_limit_w or None, "sm_clock_mhz": gpu.sm_clock_mhz or None,
                  "memory_clock_mhz": gpu.memory_clock_mhz or None, "temperature_c": gpu.temperature_c or None,
                  "throttled": list(gpu.throttled), "foreign": list(gpu.foreign),
                  "figures": _figures_json(gpu.figures)} for gpu in baseline.gpus if gpu.figures],
        "pairs": [{"gpus": list(group.gpus), "figures": _figures_json(group.figures)}
                  for group in _groups(baseline) if group.part == figures.PAIRS],
        "collectives": [{"gpus": list(group.gpus), "by": by[group.part], "figures": _figures_json(group.figures)}
                        for group in _groups(baseline) if group.part in by],
        "absent": [{"part": each.part, "tried": each.tried, "why": each.why} for each in baseline.absent],
    }


def _groups(baseline: figures.Baseline) -> list[figures.Group]:
    return sorted(baseline.groups, key=lambda group: group.key)


def _figures_json(found: tuple[figures.Figure, ...]) -> list[dict[str, Any]]:
    return [{"name": each.name, "class": each.kind, "unit": each.unit, "better": each.better,
             "samples": [list(group) for group in each.samples]} for each in found]
