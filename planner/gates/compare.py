"""Compares a node with itself: figures of its GPUs, one by one and together, before a change and after it.

Pure, and standard library only.

Nothing is compared that was not measured alike: another gate or kernel, a throttled or shared GPU give no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from .figures import LOAD, PAIRS, RANKS, Baseline, Figure, Gpu, Group, part_of
from .pairs import DIRECTIONS
from .statistics import (
    PROCESSES_LEAST,
    SPOILERS,
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
    """One figure before and after; ``before`` or ``after`` is None where it was not measured.

    Attributes:
        gpu: UUID; of several GPUs what they are called together.
        figure: Name.
        unit: Of the medians in ``change``.
        attempts: The answer of each measurement.
        change: The arithmetic of the last measurement, where there was one.
        before: The figure in the baseline.
        after: The figure in the last measurement.
        part: pairs, collective, ranks or load; "" for a figure of the GPU's own processes.
        gpus: UUIDs, sorted.
    """

    gpu: str
    figure: str
    unit: str
    attempts: tuple[GateResult, ...]
    change: Change | None = None
    before: Figure | None = None
    after: Figure | None = None
    part: str = ""
    gpus: tuple[str, ...] = ()

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
        """What a gate adds to its parts' own answers (``pairs.bandwidth``, ``collective.speed``, ``load.speed``).

        That is every answer of every attempt on GPUs and their own figures; ``fold`` settles them.
        """
        return (*self.others, *(result for row in self.rows if not row.part for result in row.attempts))

    @property
    def everything(self) -> tuple[GateResult, ...]:
        """Every answer of every attempt, those on pairs, all-reduces and load as well."""
        return (*self.others, *(result for row in self.rows for result in row.attempts))


def compare(before: Baseline, *after: Baseline) -> Comparison:
    """Compare a node with itself. GPUs are known by UUID, whatever their number or slot.

    Args:
        before: Taken before the change.
        after: Taken after it: the first, and its repetitions in their order. A failure counts when it repeats.

    Raises:
        ValueError: No measurement after the change.
    """
    if not after:
        raise ValueError("nothing to compare with")
    reason = _incomparable(before, after)
    gone = [gpu.uuid for gpu in before.gpus if any(attempt.gpu(gpu.uuid) is None for attempt in after)]
    rows: list[Compared] = []
    for uuid in sorted({gpu.uuid for gpu in before.gpus} - set(gone)):
        names = _names([document.gpu(uuid) for document in (before, *after)])
        rows += [_row(uuid, (uuid,), part_of(name), name, before, after, reason) for name in names]
    rows += _together(before, after, set(gone), reason)
    return Comparison(before, after[-1], tuple(rows), (*_inventory(before, after, gone), *_outliers(before, after[-1])))


def _inventory(before: Baseline, after: Sequence[Baseline], gone: Sequence[str]) -> list[GateResult]:
    """Name the GPUs that are gone and those that are new, and who stands in whose slot."""
    found = []
    new = sorted((gpu for gpu in after[-1].gpus if before.gpu(gpu.uuid) is None), key=lambda gpu: gpu.uuid)
    lost = sorted((gpu for gpu in before.gpus if gpu.uuid in gone), key=lambda gpu: gpu.uuid)
    for old in lost:
        words = [f"{gpu.uuid} ({gpu.name}) is in its slot {old.slot}" for gpu in new
                 if gpu.slot and gpu.slot == old.slot]
        found.append(GateResult("inventory", old.uuid, "GPU_MISSING", (f"{old.name} is gone", *words), len(after),
                                True))
    for gpu in new:
        words = [f"it is in the slot of {old.uuid}, {old.slot}" for old in lost if gpu.slot and gpu.slot == old.slot]
        found.append(GateResult("inventory", gpu.uuid, "BASELINE_MISSING",
                                (f"{gpu.name} was not there before", *words)))
    return found


def _names(found: Sequence[Gpu | Group | None]) -> list[str]:
    return sorted({figure.name for each in found if each for figure in each.figures})


def _together(before: Baseline, after: Sequence[Baseline], gone: set[str], reason: tuple[str, str] | None
              ) -> list[Compared]:
    """Compare pairs and all-reduces. What a GPU that is gone or new had with others is told by the inventory."""
    keys = {group.key for document in (before, *after) for group in document.groups}
    fresh = {gpu.uuid for document in after for gpu in document.gpus if before.gpu(gpu.uuid) is None}
    rows: list[Compared] = []
    for key in sorted(keys, key=lambda each: (each[0] != PAIRS, each)):
        part, gpus = key
        if part == PAIRS and set(gpus) & (gone | fresh):
            continue
        alone = sum(part == other and len(gpus) == len(others) for other, others in keys) == 1
        label = f"{len(gpus)} GPUs" if alone and len(gpus) > 2 else " ".join(gpus)
        names = _names([document.group(key) for document in (before, *after)])
        rows += [_row(label + (" (ranks)" if part == RANKS else ""), gpus, part, name, before, after, reason)
                 for name in names]
    return rows


def _incomparable(before: Baseline, after: Sequence[Baseline]) -> tuple[str, str] | None:
    for new in after:
        aged = new.taken_at - before.taken_at if new.taken_at and before.taken_at else timedelta(0)
        for what, was, is_ in (("host", before.host, new.host), ("gate", before.gate, new.gate),
                               ("kernels", before.kernels, new.kernels), ("stand-in", before.stand_in, new.stand_in)):
            if was != is_:
                return "BASELINE_OTHER", f"{what} {was} before, {is_} after"
        if aged < timedelta(0):
            return "BASELINE_OTHER", f"the baseline was taken later ({before.taken_at:%Y-%m-%d %H:%M} UTC)"
        if aged > timedelta(days=AGE_DAYS_MOST):
            return "BASELINE_OLD", f"taken on {before.taken_at:%Y-%m-%d}, {aged.days} days"
    return None


def _row(label: str, gpus: tuple[str, ...], part: str, name: str, before: Baseline, after: Sequence[Baseline],
         reason: tuple[str, str] | None) -> Compared:
    """Judge one figure over all attempts."""
    def find(document: Baseline) -> Figure | None:
        holder = document.gpu(gpus[0]) if part in ("", LOAD) else document.group((part, gpus))
        return holder.figure(name) if holder else None

    was, now, change, attempts = find(before), None, None, []
    for number, document in enumerate(after, start=1):
        now = find(document)
        spoiled, missing = _spoiled(gpus, before, document), _missing(part, gpus, document)
        result, change = _judged(was, now, part, reason, spoiled, missing)
        if part == PAIRS and change is not None and result[0] != "OK":
            ends = gpus if name.endswith(DIRECTIONS[0]) else gpus[::-1]
            result = (*result, f"from {ends[0]} to {ends[1]}")
        attempts.append(GateResult(name, label, result[0], result[1:], number, True if was else None))
    shown = was or now
    return Compared(label, name, shown.unit if shown else "", tuple(attempts), change, was, now, part, gpus)


def _missing(part: str, gpus: Sequence[str], after: Baseline) -> tuple[str, str]:
    """Return (code, sentence) for a figure that was measured before and is not there now."""
    away = [uuid for uuid in gpus if after.gpus and after.gpu(uuid) is None]
    if away:
        return "PART_MISSING", f"measured before, not after: {', '.join(away)} is gone"
    absent = next((each for each in after.absent if each.part == part), None)
    if absent:
        return "GATE_NO_RESULT" if absent.tried else "PART_MISSING", f"measured before, not after: {absent.why}"
    return "GATE_NO_RESULT", "measured before, not after"


def _spoiled(gpus: Sequence[str], before: Baseline, after: Baseline) -> list[tuple[str, str]]:
    """Return what spoiled the measurement on any of the GPUs: (code, sentence), the gravest first."""
    found = []
    for uuid in gpus:
        old, new = before.gpu(uuid), after.gpu(uuid)
        if old and new:
            found += [(code, words if len(gpus) == 1 else f"{uuid}: {words}")
                      for code, words in spoiled_by(old.surroundings, new.surroundings)]
    return sorted(found, key=lambda each: SPOILERS.index(each[0]))


def _judged(was: Figure | None, now: Figure | None, part: str, reason: tuple[str, str] | None,
            spoiled: Sequence[tuple[str, str]], missing: tuple[str, str]
            ) -> tuple[tuple[str, ...], Change | None]:
    """Return ((code, sentences …), change) of one measurement."""
    if now is None:
        return missing if was else ("BASELINE_MISSING", "not measured before, nor in this attempt"), None
    if was is None:
        return ("BASELINE_MISSING", "not measured before"), None
    if reason:
        return reason, None
    if (was.kind, was.unit, was.better) != (now.kind, now.unit, now.better):
        return ("BASELINE_OTHER", f"{was.kind} in {was.unit} before, {now.kind} in {now.unit} after"), None
    for when, figure in (("before", was), ("after", now)):
        if trouble := usable(figure.samples, 1 if part else PROCESSES_LEAST):
            return ("BASELINE_OTHER", f"{when}: {trouble}"), None
    change = change_of(was.samples, now.samples, TOLERANCES[was.kind], higher_is_better=was.better == "higher")
    if spoiled:
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
        if change.apart_after:
            words.append(f"its processes, or beginning and end, lie {100 * change.apart_after:.1f} % apart, before "
                         f"{100 * change.apart_before:.1f} %")
    return tuple(words)


def signed(change: Change) -> str:
    """Return what happened to the figure itself, with its sign: ``−5.0 %`` for less, whether or not that is better."""
    share = 100 * (change.after / change.before - 1)
    text = f"{abs(share):.1f} %"
    return text if text == "0.0 %" else ("+" if share > 0 else "−") + text


def si(value: float, unit: str) -> str:
    """Return a positive value with four digits and the unit's prefix; a share in per cent."""
    if unit == "1":
        return f"{100 * value:.4g} %"
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
    """Return the wave rule's answer for each figure over a whole wave; spoiled measurements are left out.

    A loss of the whole wave fails although each GPU passes alone, and nothing has to repeat: many GPUs repeated it. One
    process measures all pairs and all-reduces of a node, and what it sees they share: there a node has one voice, the
    median of its pairs.
    """
    losses: dict[tuple[str, str, str], list[float]] = {}
    for node in nodes:
        voices: dict[tuple[str, str, str], list[float]] = {}
        for row in node.rows:
            if row.change is not None and row.before is not None and row.result.row.kind in ("none", "performance"):
                voices.setdefault((_family(row.figure), row.before.kind, _voter(row)), []).append(row.change.loss)
        for key, values in voices.items():
            losses.setdefault(key, []).extend(values if key[2] == "GPUs" else [median(values)])
    found = []
    for (name, kind, voters), values in sorted(losses.items()):
        change = wave_of(values, TOLERANCES[kind], voters)
        words = (f"median loss {100 * change.loss:.1f} % ± {100 * change.margin:.1f} %",
                 f"{change.slower} of {change.count} {voters} lost")
        found.append((GateResult(f"wave:{name}", "wave", change.code, () if change.code == "OK" else words, 1, True),
                      change))
    return tuple(found)


def _family(figure: str) -> str:
    """Return the name without its direction, which only tells which UUID is sorted first."""
    return next((figure.removesuffix(end) for end in DIRECTIONS if figure.endswith(end)), figure)


def _voter(row: Compared) -> str:
    return "GPUs" if row.part in ("", LOAD) else "nodes"
