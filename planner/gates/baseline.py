"""The document ``planner.baseline/1``: what each GPU could do, under which conditions; and its comparison. Pure.

Nothing is compared that was not measured alike: another gate or kernel, a throttled or shared GPU give no verdict.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from planner.diagnostics import Diagnostic
from planner.documents import Evidence, validate
from planner.errors import InputError
from planner.gates.statistics import (
    SAMPLES_LEAST,
    TOLERANCES,
    Change,
    Surroundings,
    WaveChange,
    change_of,
    outlying,
    pooled,
    spoiled_by,
    temperature_class,
    usable,
    wave_of,
)
from planner.gates.verdicts import GateResult, settle

SCHEMA = "planner.baseline/1"
AGE_DAYS_MOST = 30
TEXT_MOST = 64 * 1024 * 1024

_Name = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]
# From a picosecond to a zettabyte a second: whatever lies outside was not measured, and its quotients may overflow.
_Positive = Annotated[float, Field(ge=1e-12, le=1e21, allow_inf_nan=False, strict=True)]
_Group = Annotated[tuple[_Positive, ...], Field(max_length=10_000)]


class Figure(Evidence):
    """One figure of one GPU.

    Attributes:
        name: For example ``copy_device_to_device``; the same before and after.
        kind: Class of tolerance.
        unit: SI base unit of the samples: B/s, op/s, s.
        better: Whether more or less is better.
        samples: One list a process, its first (warm-up) sample left out.
    """

    name: _Name
    kind: Literal["bandwidth", "compute", "collective", "latency", "latency-async"] = Field(alias="class")
    unit: _Name
    better: Literal["higher", "lower"]
    samples: Annotated[tuple[_Group, ...], Field(max_length=1_000)]

    # Not as a field's constraint: one bad sample would be followed by the complaint that none is left.
    @model_validator(mode="after")
    def _enough(self) -> Figure:
        if not self.samples:
            raise ValueError("a figure without samples")
        if min(len(group) for group in self.samples) < SAMPLES_LEAST:
            raise ValueError(f"a process with fewer than {SAMPLES_LEAST} samples")
        return self


class Gpu(Evidence):
    """One GPU: who it is, the conditions, its figures."""

    uuid: _Name
    name: _Name
    driver: _Name
    power_limit_w: _Positive
    sm_clock_mhz: _Positive
    memory_clock_mhz: _Positive
    temperature_c: Annotated[float, Field(ge=-50, le=200, allow_inf_nan=False, strict=True)]
    throttled: Annotated[tuple[_Name, ...], Field(max_length=64)]
    foreign: Annotated[tuple[_Name, ...], Field(max_length=10_000)]
    figures: Annotated[tuple[Figure, ...], Field(max_length=1_000)]

    @property
    def surroundings(self) -> Surroundings:
        """The conditions of the measurement."""
        return Surroundings(self.power_limit_w, self.sm_clock_mhz, self.memory_clock_mhz, self.temperature_c,
                            self.throttled, self.foreign)

    def figure(self, name: str) -> Figure | None:
        """Return a figure by name."""
        return next((figure for figure in self.figures if figure.name == name), None)

    @model_validator(mode="after")
    def _each_once(self) -> Gpu:
        names = [figure.name for figure in self.figures]
        if not names:
            raise ValueError("a GPU without figures")
        if len(set(names)) != len(names):
            raise ValueError("a figure is there twice")
        return self


class Baseline(Evidence):
    """All GPUs of a node at one time, measured by one version of the gate.

    Attributes:
        host: Name of the node.
        taken_at: UTC, ISO 8601.
        gate: Version of the gate, and with it method and parameters.
        kernels: Digest of the kernels.
        gpus: One entry a GPU.
        stand_in: True where no real GPU was measured.
    """

    schema_: Literal["planner.baseline/1"] = Field(alias="schema")
    host: _Name
    taken_at: datetime
    gate: _Name
    kernels: _Name
    gpus: Annotated[tuple[Gpu, ...], Field(max_length=1_000)]
    stand_in: bool = False

    @field_validator("taken_at")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("a time without a time zone")
        return value.astimezone(UTC)

    @model_validator(mode="after")
    def _each_once(self) -> Baseline:
        if not self.gpus:
            raise ValueError("no GPU at all")
        if len({gpu.uuid for gpu in self.gpus}) != len(self.gpus):
            raise ValueError("a GPU is there twice")
        return self

    def gpu(self, uuid: str) -> Gpu | None:
        """Return a GPU by UUID."""
        return next((gpu for gpu in self.gpus if gpu.uuid == uuid), None)


def read_baseline(text: str, *, name: str) -> Baseline:
    """Return a baseline from its JSON text.

    Args:
        text: What a file holds; it may come from a broken or hostile node.
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
    return validate(Baseline, value, name=name)


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of one GPU before and after; ``before`` or ``after`` is None where it was not measured.

    Attributes:
        gpu: UUID.
        figure: Name.
        unit: Of the medians in ``change``.
        attempts: The answer of each measurement.
        change: The arithmetic of the last measurement, where there was one.
        before: The figure in the baseline.
        after: The figure in the last measurement.
    """

    gpu: str
    figure: str
    unit: str
    attempts: tuple[GateResult, ...]
    change: Change | None = None
    before: Figure | None = None
    after: Figure | None = None

    @property
    def result(self) -> GateResult:
        """What counts of all attempts."""
        return settle(self.attempts)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A node before and after: ``rows`` for people and charts, ``results`` for the verdict."""

    before: Baseline
    after: Baseline
    rows: tuple[Compared, ...]
    others: tuple[GateResult, ...] = ()

    @property
    def results(self) -> tuple[GateResult, ...]:
        """Every answer of every attempt, in the order of GPU and figure; ``fold`` settles them."""
        return (*self.others, *(result for row in self.rows for result in row.attempts))


def compare(before: Baseline, *after: Baseline) -> Comparison:
    """Compare a node with itself.

    Args:
        before: Taken before the change.
        after: Taken after it: the first, and its repetitions in their order. A failure counts when it repeats.

    Raises:
        ValueError: No measurement after the change.
    """
    if not after:
        raise ValueError("nothing to compare with")
    last = after[-1]
    reason = _incomparable(before, after)
    rows: list[Compared] = []
    others: list[GateResult] = []
    for old in sorted(before.gpus, key=lambda gpu: gpu.uuid):
        if any(attempt.gpu(old.uuid) is None for attempt in after):
            others.append(GateResult("inventory", old.uuid, "GPU_MISSING", (f"{old.name} is gone",), len(after), True))
            continue
        new_names = {figure.name for attempt in after for gpu in attempt.gpus if gpu.uuid == old.uuid
                     for figure in gpu.figures}
        rows += [_row(old, name, after, reason) for name in sorted({figure.name for figure in old.figures} | new_names)]
    others += [GateResult("inventory", new.uuid, "BASELINE_MISSING", (f"{new.name} was not there before",))
               for new in sorted(last.gpus, key=lambda gpu: gpu.uuid) if before.gpu(new.uuid) is None]
    others += _outliers(before, last)
    return Comparison(before, last, tuple(rows), tuple(others))


def _incomparable(before: Baseline, after: Sequence[Baseline]) -> tuple[str, str] | None:
    for new in after:
        for what, was, is_ in (("host", before.host, new.host), ("gate", before.gate, new.gate),
                               ("kernels", before.kernels, new.kernels), ("stand-in", before.stand_in, new.stand_in)):
            if was != is_:
                return "BASELINE_OTHER", f"{what} {was} before, {is_} after"
        if new.taken_at < before.taken_at:
            return "BASELINE_OTHER", f"the baseline was taken later ({before.taken_at:%Y-%m-%d %H:%M} UTC)"
        if new.taken_at - before.taken_at > timedelta(days=AGE_DAYS_MOST):
            return "BASELINE_OLD", f"taken on {before.taken_at:%Y-%m-%d}, {(new.taken_at - before.taken_at).days} days"
    return None


def _row(old: Gpu, name: str, after: Sequence[Baseline], reason: tuple[str, str] | None) -> Compared:
    """Judge one figure over all attempts."""
    was, attempts = old.figure(name), []
    last: tuple[Figure | None, Change | None] = None, None
    for number, document in enumerate(after, start=1):
        new = document.gpu(old.uuid)
        now = new.figure(name) if new else None
        result, change = _judged(old, was, new, now, reason)
        attempts.append(GateResult(name, old.uuid, result[0], result[1:], number, True if was else None))
        last = now, change
    shown = was or last[0]
    return Compared(old.uuid, name, shown.unit if shown else "", tuple(attempts), last[1], was, last[0])


def _judged(old: Gpu, was: Figure | None, new: Gpu | None, now: Figure | None,
            reason: tuple[str, str] | None) -> tuple[tuple[str, ...], Change | None]:
    """Return ((code, sentences …), change) of one measurement."""
    if now is None or new is None:
        return ("GATE_NO_RESULT", "measured before, not after"), None
    if was is None:
        return ("BASELINE_MISSING", "not measured before"), None
    if reason:
        return reason, None
    if (was.kind, was.unit, was.better) != (now.kind, now.unit, now.better):
        return ("BASELINE_OTHER", f"{was.kind} in {was.unit} before, {now.kind} in {now.unit} after"), None
    for when, figure in (("before", was), ("after", now)):
        if trouble := usable(figure.samples):
            return ("BASELINE_OTHER", f"{when}: {trouble}"), None
    change = change_of(was.samples, now.samples, TOLERANCES[was.kind], higher_is_better=was.better == "higher")
    if spoiled := spoiled_by(old.surroundings, new.surroundings):
        return (spoiled[0][0], *(words for _, words in spoiled)), change
    return (change.code, *_told(change, now.unit)), change


def _told(change: Change, unit: str) -> tuple[str, ...]:
    if change.code == "OK":
        return ()
    words = [f"{si(change.after, unit)}, before {si(change.before, unit)} ({signed(change)})",
             f"warning beyond {100 * change.warn:.1f} %, failure beyond {100 * change.fail:.1f} %"]
    if change.unsteady:
        words.append(f"spread {100 * change.spread_after:.1f} %, before {100 * change.spread_before:.1f} %, "
                     f"{change.odd} odd samples")
    return tuple(words)


def signed(change: Change) -> str:
    """Return what happened to the figure itself, with its sign: ``−5.0 %`` for less, whether or not that is better."""
    share = 100 * (change.after / change.before - 1)
    text = f"{abs(share):.1f} %"
    return text if text == "0.0 %" else ("+" if share > 0 else "−") + text


def si(value: float, unit: str) -> str:
    """Return a positive value with four digits and the unit's prefix."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if value >= size:
            return f"{value / size:.4g} {prefix}{unit}"
    return f"{value / 1e-9:.4g} n{unit}"


def _outliers(before: Baseline, after: Baseline) -> list[GateResult]:
    """Return GPUs that are far from their equals now and were not before."""
    found = []
    for gpu in sorted(after.gpus, key=lambda each: each.uuid):
        for figure in sorted(gpu.figures, key=lambda each: each.name):
            z = _z(after, gpu, figure)
            old = before.gpu(gpu.uuid)
            known = old.figure(figure.name) if old else None
            if z is None or (old and known and _z(before, old, known) is not None):
                continue
            found.append(GateResult(f"peers:{figure.name}", gpu.uuid, "PEER_OUTLIER",
                                    (f"robust z {z:.1f} among GPUs of the same model, power cap and temperature",)))
    return found


def _z(document: Baseline, gpu: Gpu, figure: Figure) -> float | None:
    if gpu.throttled or gpu.foreign:
        return None
    peers = [median(pooled(other.samples)) for each in document.gpus if each.uuid != gpu.uuid and _alike(each, gpu)
             for other in each.figures if (other.name, other.unit) == (figure.name, figure.unit)]
    return outlying(median(pooled(figure.samples)), peers, TOLERANCES[figure.kind],
                    higher_is_better=figure.better == "higher")


def _alike(one: Gpu, other: Gpu) -> bool:
    return not one.throttled and not one.foreign and (
        one.name, one.power_limit_w, one.driver, temperature_class(one.temperature_c)) == (
        other.name, other.power_limit_w, other.driver, temperature_class(other.temperature_c))


def compare_wave(nodes: Sequence[Comparison]) -> tuple[tuple[GateResult, WaveChange], ...]:
    """Return the wave rule's answer for each figure over all GPUs of a wave; spoiled measurements are left out.

    A loss of the whole wave fails although each GPU passes alone, and nothing has to repeat: many GPUs repeated it.
    """
    losses: dict[tuple[str, str], list[float]] = {}
    for node in nodes:
        for row in node.rows:
            if row.change is not None and row.before is not None and row.result.row.kind in ("none", "performance"):
                losses.setdefault((row.figure, row.before.kind), []).append(row.change.loss)
    found = []
    for (name, kind), values in sorted(losses.items()):
        change = wave_of(values, TOLERANCES[kind])
        words = (f"median loss {100 * change.loss:.1f} % ± {100 * change.margin:.1f} %",
                 f"{change.slower} of {change.count} GPUs lost")
        found.append((GateResult(f"wave:{name}", "wave", change.code, () if change.code == "OK" else words, 1, True),
                      change))
    return tuple(found)
