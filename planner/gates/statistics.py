"""The arithmetic of before and after: robust figures, limits, when to measure again, and what a whole wave shows.

Standard library only and pure. Samples come in groups, one per process: what differs between processes (memory
placement, clocks, a busy host) is most of the noise, and no number of samples inside one process averages it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, inf, isfinite, sqrt
from statistics import median
from types import MappingProxyType

Samples = Sequence[Sequence[float]]

SIGMA_PER_MAD = 1.4826          # of a normal distribution
SIGMA_PER_MEDIAN = 1.2533       # standard error of a median, in standard errors of a mean
PEERS_LEAST = 5
OUTLIER_Z = 3.5
COLLAPSE = 0.30
FASTER = 0.05

SAMPLES_LEAST = 5               # of one process, one more before them to warm up
PROCESSES_LEAST = 2
PROCESSES_MOST = 6
RETRIES_MOST = 3                # of a spoiled measurement
IDLE_S = 30.0                   # before a failure is measured again
BUSY_S = 60.0                   # before a spoiled measurement is taken again

LONG_LEAST = 100                # samples of one process from which its beginning and its end are compared

WAVE_LEAST = 6                  # fewer GPUs cannot carry the sign test: 1/64 at six
WAVE_LOSS = 0.02
WAVE_SHARE = 0.9
WAVE_MARGIN_MOST = 0.005


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Limits of one figure; all are fractions of the value before, except where a unit is in the name.

    Attributes:
        floor: Noise that is assumed even where the baseline shows less: standard deviation between processes.
        warn: Loss above which a GPU is watched, or three deviations if that is more.
        fail: Loss above which it fails, or five deviations if that is more.
        warn_least: Smallest absolute loss that is worth a warning, in the figure's own unit.
        fail_least: Smallest absolute loss that may fail.
        unsteady: Spread inside a process above which the figure is unsteady.
        tail: A sample that is worse than the median by more is an odd one; two of them in ten are a finding.
        wave: Whether the wave rule applies.
    """

    floor: float
    warn: float
    fail: float
    warn_least: float = 0.0
    fail_least: float = 0.0
    unsteady: float = 0.02
    tail: float = 0.10
    wave: bool = True


# Throughput repeated within 1.2 % over 21 processes of an idle H200 (a deviation of 0.3 %); asynchronous launches
# within 63 % (a deviation of 17 %), launches with synchronisation within 28 % (7.4 %). Collectives were not measured so
# often: their limits are those of SuperBench and nccl-tests.
TOLERANCES: Mapping[str, Tolerance] = MappingProxyType({
    "bandwidth": Tolerance(floor=0.005, warn=0.03, fail=0.05),
    "compute": Tolerance(floor=0.005, warn=0.03, fail=0.05),
    "collective": Tolerance(floor=0.01, warn=0.05, fail=0.10, unsteady=0.05, tail=0.20),
    "latency": Tolerance(floor=0.08, warn=0.10, fail=0.25, warn_least=1e-6, fail_least=2e-6, unsteady=0.25, tail=1.0,
                         wave=False),
    "latency-async": Tolerance(floor=0.18, warn=0.10, fail=0.25, warn_least=1e-6, fail_least=2e-6, unsteady=0.30,
                               tail=1.5, wave=False),
})


def mad(values: Sequence[float]) -> float:
    """Return the median of the distances from the median, in the unit of ``values``."""
    middle = median(values)
    return median(abs(value - middle) for value in values)


def deviation(values: Sequence[float]) -> float:
    """Return the spread as a fraction of the median; of MAD and quartiles the wider, as if it were normal noise.

    Where a third of all samples is slow the MAD does not see it, the quartiles do.
    """
    middle = abs(median(values))
    if middle == 0 or len(values) < 2:
        return 0.0
    return max(SIGMA_PER_MAD * mad(values), (_quantile(values, 0.75) - _quantile(values, 0.25)) / 1.349) / middle


def _quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def robust_z(value: float, peers: Sequence[float], floor: float = 0.0) -> float:
    """Return how many deviations a value is from the median of its peers.

    Args:
        value: The value to judge; not one of ``peers``.
        peers: The others, at least one.
        floor: Smallest deviation that is assumed, as a fraction of the peers' median: equal peers prove no precision.
    """
    middle = median(peers)
    sigma = max(SIGMA_PER_MAD * mad(peers), floor * abs(middle))
    if sigma == 0:
        return 0.0 if value == middle else inf if value > middle else -inf
    return (value - middle) / sigma


def outlying(value: float, peers: Sequence[float], tolerance: Tolerance, *, higher_is_better: bool) -> float | None:
    """Return the robust z of a value that is worse than its peers by more than the warning, else None.

    None as well with fewer than five peers: four cannot say which of them is the odd one.
    """
    if len(peers) < PEERS_LEAST:
        return None
    z = robust_z(value, peers, tolerance.floor)
    loss = loss_of(median(peers), value, higher_is_better=higher_is_better)
    return z if abs(z) > OUTLIER_Z and loss > tolerance.warn else None


def pooled(samples: Samples) -> list[float]:
    """Return all samples of all processes."""
    return [value for group in samples for value in group]


def within(samples: Samples) -> float:
    """Return the spread inside a process: the median over processes, as a fraction."""
    return median(deviation(group) for group in samples)


def between(samples: Samples) -> float:
    """Return the spread of the processes' medians as a fraction; 0 where fewer than four processes tell nothing."""
    return deviation([median(group) for group in samples]) if len(samples) >= 4 else 0.0


def apart(samples: Samples) -> float:
    """Return how far the parts of a measurement lie apart, as a fraction of its median.

    The parts are its processes; of one long process its first and its last tenth, so that a slow fall is seen too. What
    steady processes do not show in themselves shows between them.
    """
    groups = list(samples)
    if len(groups) == 1 and len(groups[0]) >= LONG_LEAST:
        tenth = len(groups[0]) // 10
        groups = [groups[0][:tenth], groups[0][-tenth:]]
    middles = [median(group) for group in groups]
    return (max(middles) - min(middles)) / median(pooled(samples))


def loss_of(before: float, after: float, *, higher_is_better: bool) -> float:
    """Return how much was lost as a fraction of ``before``: 0.05 is 5 % slower, negative is faster."""
    return 1 - after / before if higher_is_better else after / before - 1


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after.

    Attributes:
        code: OK, PERF_SLOWER, PERF_DROP, PERF_COLLAPSE, PERF_FASTER, PERF_UNSTEADY or BASELINE_NOISY.
        before: Median of all samples, in the figure's unit.
        after: Likewise.
        loss: Fraction lost; negative is faster.
        sigma: Noise of one process, as a fraction.
        warn: Limit of the warning that was applied, as a fraction.
        fail: Limit of failure that was applied.
        spread_before: Spread inside a process, as a fraction.
        spread_after: Likewise.
        odd: Samples after the change that are worse than their median by more than the tail.
        unsteady: Whether the spread is a finding, whatever ``code`` says of the median.
        apart_before: How far processes, or beginning and end of a long one, lie apart, as a fraction.
        apart_after: Likewise.
    """

    code: str
    before: float
    after: float
    loss: float
    sigma: float
    warn: float
    fail: float
    spread_before: float
    spread_after: float
    odd: int
    unsteady: bool
    apart_before: float = 0.0
    apart_after: float = 0.0


def change_of(before: Samples, after: Samples, tolerance: Tolerance, *, higher_is_better: bool,
              between_known: float = 0.0) -> Change:
    """Compare two sets of samples.

    The limits follow from the noise *before* alone: a figure that became unsteady must not widen its own limits.

    Args:
        before: One sequence a process, all values above zero.
        after: Likewise; both may differ in number.
        tolerance: The figure's limits.
        higher_is_better: False for times.
        between_known: Deviation between processes from an A/A run, as a fraction; the floor holds where it is lower.
    """
    old, new = median(pooled(before)), median(pooled(after))
    sigma = max(tolerance.floor, hypot(within(before), max(between(before), between_known)))
    warn, fail = max(tolerance.warn, 3 * sigma), max(tolerance.fail, 5 * sigma)
    loss = loss_of(old, new, higher_is_better=higher_is_better)
    spread_before, spread_after = within(before), within(after)
    odd, odd_before = (_odd(samples, tolerance, higher_is_better=higher_is_better) for samples in (after, before))
    count = len(pooled(after))
    apart_before, apart_after = apart(before), apart(after)
    unsteady = (spread_after > max(tolerance.unsteady, 3 * spread_before)
                or (odd >= 2 and odd * 10 >= 2 * count and odd > odd_before)
                or apart_after > max(tolerance.fail, 5 * tolerance.floor, 3 * apart_before))
    code = _code(loss, abs(new - old), warn, fail, tolerance)
    if code == "OK" and unsteady:
        code = "PERF_UNSTEADY"
    return Change(code, old, new, loss, sigma, warn, fail, spread_before, spread_after, odd, unsteady,
                  apart_before, apart_after)


def _odd(samples: Samples, tolerance: Tolerance, *, higher_is_better: bool) -> int:
    values = pooled(samples)
    middle = median(values)
    return sum(loss_of(middle, value, higher_is_better=higher_is_better) > tolerance.tail for value in values)


def _code(loss: float, absolute: float, warn: float, fail: float, tolerance: Tolerance) -> str:
    # A collapse needs no repetition, so it lies far outside of what noise alone can do.
    if loss > max(COLLAPSE, 2 * fail) and absolute > tolerance.fail_least:
        return "PERF_COLLAPSE"
    if fail > max(COLLAPSE, 10 * tolerance.floor):
        return "BASELINE_NOISY"
    if loss > fail and absolute > tolerance.fail_least:
        return "PERF_DROP"
    if loss > warn and absolute > tolerance.warn_least:
        return "PERF_SLOWER"
    if loss < -max(FASTER, warn) and absolute > tolerance.warn_least:
        return "PERF_FASTER"
    return "OK"


@dataclass(frozen=True, slots=True)
class Again:
    """Measure again: after ``wait_s`` seconds of idle, in ``processes`` fresh processes."""

    wait_s: float
    processes: int
    why: str


def again(changes: Sequence[Change], *, spoiled: int = 0, processes: int = PROCESSES_LEAST) -> Again | None:
    """Return whether to measure a figure again, given its measurements of this run in their order.

    Args:
        changes: What was found so far, each against the same baseline.
        spoiled: How often the surroundings spoiled the measurement in a row, the last time included.
        processes: Fresh processes of the last measurement.
    """
    if spoiled:
        left = RETRIES_MOST - spoiled
        words = f"the surroundings spoiled it; {left} more attempts"
        return Again(BUSY_S, PROCESSES_LEAST, words) if left > 0 else None
    if not changes:
        return Again(0.0, PROCESSES_LEAST, "nothing is measured yet")
    last = changes[-1]
    if last.code == "PERF_DROP" and sum(change.code == "PERF_DROP" for change in changes) < 2:
        return Again(IDLE_S, PROCESSES_LEAST, "a failure counts when fresh processes see it again")
    # Too near to a limit for so few processes: a limit is told from the loss only from two standard errors on.
    error = SIGMA_PER_MEDIAN * last.sigma / sqrt(max(1, processes))
    nearest = min(abs(last.loss - last.warn), abs(last.loss - last.fail))
    if nearest < 2 * error and last.code in ("OK", "PERF_SLOWER") and len(changes) == 1 and processes < PROCESSES_MOST:
        return Again(IDLE_S, PROCESSES_MOST, "too near to a limit for so few processes")
    return None


@dataclass(frozen=True, slots=True)
class WaveChange:
    """One figure over a whole wave.

    Attributes:
        code: OK, PERF_DROP_WAVE or PERF_FASTER.
        loss: Median loss, a fraction.
        margin: What the error of measurement may add to it, a fraction.
        slower: GPUs, or nodes, that lost anything.
        count: Those in all.
        voters: ``GPUs`` or ``nodes``.
    """

    code: str
    loss: float
    margin: float
    slower: int
    count: int
    voters: str = "GPUs"


def wave_of(losses: Iterable[float], tolerance: Tolerance, voters: str = "GPUs") -> WaveChange:
    """Return whether a wave as a whole became slower, though each GPU alone, or each node, may pass.

    It did where at least nine of ten GPUs lost something (a sign test: 1/64 by chance at six) and the median loss may
    be 2 %: as large as that within its error of measurement, half a per cent at most. Without that margin a loss of
    exactly 2 % would be seen in every other wave only.
    """
    values = sorted(losses)
    count, slower = len(values), sum(value > 0 for value in values)
    loss = median(values) if values else 0.0
    spread = SIGMA_PER_MAD * mad(values) if values else 0.0
    margin = min(WAVE_MARGIN_MOST, 1.645 * SIGMA_PER_MEDIAN * max(spread, tolerance.floor) / sqrt(max(1, count)))
    code = "OK"
    if tolerance.wave and count >= WAVE_LEAST:
        if loss + margin >= WAVE_LOSS and slower >= WAVE_SHARE * count:
            code = "PERF_DROP_WAVE"
        elif values[-1] < -FASTER:
            code = "PERF_FASTER"
    return WaveChange(code, loss, margin, slower, count, voters)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a measurement was taken under.

    Attributes:
        power_limit_w: Enforced power cap.
        sm_clock_mhz: Clock of the multiprocessors under load.
        memory_clock_mhz: Clock of the memory under load.
        temperature_c: Of the GPU at the end.
        throttled: Names of slowdowns that were active: hw-slowdown, hw-thermal, sw-thermal, power-brake.
        foreign: Processes of others that held the GPU.
    """

    power_limit_w: float
    sm_clock_mhz: float
    memory_clock_mhz: float
    temperature_c: float
    throttled: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


# Codes of what spoils a measurement, the gravest first.
SPOILERS = ("ENV_FOREIGN_PROCESS", "ENV_THROTTLED", "ENV_POWER_CAP", "ENV_CLOCKS", "ENV_TEMPERATURE")
POWER_STEP_W = 1.0              # caps are read back rounded
CLOCK_STEP = 0.02               # boost clocks move by steps of 15 MHz: 0.8 % of 1980
TEMPERATURE_CLASSES_C = (60.0, 75.0)
TEMPERATURE_STEP_C = 5.0


def temperature_class(celsius: float) -> int:
    """Return 0 for cool, 1 for warm, 2 for hot."""
    return sum(celsius >= bound for bound in TEMPERATURE_CLASSES_C)


def spoiled_by(before: Surroundings, after: Surroundings) -> tuple[tuple[str, str], ...]:
    """Return why two measurements cannot be compared: (code, sentence), the gravest first; empty where they can.

    What is 0 was not told by NVML; nothing is compared with it.
    """
    found = []
    for when, seen in (("before", before), ("after", after)):
        if seen.foreign:
            found.append(("ENV_FOREIGN_PROCESS", f"{when}: {', '.join(sorted(seen.foreign))} held the GPU"))
        if seen.throttled:
            found.append(("ENV_THROTTLED", f"{when}: {', '.join(sorted(seen.throttled))} was active"))
    if min(before.power_limit_w, after.power_limit_w) > 0 and abs(
            before.power_limit_w - after.power_limit_w) > POWER_STEP_W:
        found.append(("ENV_POWER_CAP", f"power cap {before.power_limit_w:g} W before, {after.power_limit_w:g} W after"))
    for name, old, new in (("SM", before.sm_clock_mhz, after.sm_clock_mhz),
                           ("memory", before.memory_clock_mhz, after.memory_clock_mhz)):
        if min(old, new) > 0 and abs(new - old) > CLOCK_STEP * max(old, new):
            found.append(("ENV_CLOCKS", f"{name} clock {old:g} MHz before, {new:g} MHz after"))
    if (min(before.temperature_c, after.temperature_c) > 0
            and temperature_class(before.temperature_c) != temperature_class(after.temperature_c)
            and abs(before.temperature_c - after.temperature_c) > TEMPERATURE_STEP_C):
        found.append(("ENV_TEMPERATURE", f"{before.temperature_c:g} °C before, {after.temperature_c:g} °C after"))
    return tuple(sorted(found, key=lambda item: SPOILERS.index(item[0])))


def usable(samples: Samples, processes: int = PROCESSES_LEAST) -> str:
    """Return what is wrong with samples of at least so many processes for a comparison; "" where nothing is."""
    if len(samples) < processes:
        return f"{len(samples)} processes, at least {processes} are needed"
    short = min(len(group) for group in samples)
    if short < SAMPLES_LEAST:
        return f"a process with {short} samples, at least {SAMPLES_LEAST} are needed"
    if any(not isfinite(value) or value <= 0 for value in pooled(samples)):
        return "a sample that is not above zero"
    return ""
