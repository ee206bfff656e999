"""Compares a node with itself: figures of each GPU before a change and after it. Pure, and standard library only.

Nothing is compared that was not measured alike: another gate or kernel, a throttled or shared GPU give no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from .figures import Baseline, Figure, Gpu
from .statistics import (
    TOLERANCES,
    Change,
    WaveChange,
    change_of,
    outlying,
    pooled,
    spoiled_by,
    temperature_class,
    usable,
    wave_of,
)
from .verdicts import GateResult, settle

AGE_DAYS_MOST = 30


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
