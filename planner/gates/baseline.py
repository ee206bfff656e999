"""The document ``planner.baseline/1``: what each GPU could do, under which conditions, as a file. Pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Literal

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
    power_limit_w: _Positive
    sm_clock_mhz: _Positive
    memory_clock_mhz: _Positive
    temperature_c: Annotated[float, Field(ge=-50, le=200, allow_inf_nan=False, strict=True)]
    throttled: Annotated[tuple[_Name, ...], Field(max_length=64)]
    foreign: Annotated[tuple[_Name, ...], Field(max_length=10_000)]
    figures: Annotated[tuple[_Figure, ...], Field(max_length=1_000)]

    @model_validator(mode="after")
    def _each_once(self) -> _Gpu:
        names = [figure.name for figure in self.figures]
        if not names:
            raise ValueError("a GPU without figures")
        if len(set(names)) != len(names):
            raise ValueError("a figure is there twice")
        return self


class _Baseline(Evidence):
    schema_: Literal["planner.baseline/1"] = Field(alias="schema")
    host: _Name
    taken_at: datetime
    gate: _Name
    kernels: _Name
    gpus: Annotated[tuple[_Gpu, ...], Field(max_length=1_000)]
    stand_in: bool = False

    @field_validator("taken_at")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC)

    @model_validator(mode="after")
    def _each_once(self) -> _Baseline:
        if not self.gpus:
            raise ValueError("no GPU at all")
        if len({gpu.uuid for gpu in self.gpus}) != len(self.gpus):
            raise ValueError("a GPU is there twice")
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
    return figures.Baseline(
        host=document.host, taken_at=document.taken_at, gate=document.gate, kernels=document.kernels,
        stand_in=document.stand_in, gpus=tuple(
            figures.Gpu(gpu.uuid, gpu.name, gpu.driver, gpu.power_limit_w, gpu.sm_clock_mhz, gpu.memory_clock_mhz,
                        gpu.temperature_c, gpu.throttled, gpu.foreign, tuple(
                            figures.Figure(f.name, f.kind, f.unit, f.better, f.samples) for f in gpu.figures))
            for gpu in document.gpus))
