"""How long a plan takes, with its spread, and what it costs in capacity. Pure: the same plan gives the same numbers.

Times of earlier rollouts (``Plan.measured``) are log-normal, independent from node to node; a batch lasts as long as
its slowest node. Where nobody measured, the planning figures of the matrices stand: they are right or wrong for all
nodes alike, so one factor for the whole plan carries their spread. What is more than the engine does at a time takes
turns (``turns``). Pairs of half upgraded communication domains take their time from the soak that runs meanwhile. Soaks
are exact; waits for approval are nobody's to foresee, and so are drains that were never measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from statistics import NormalDist
from typing import NamedTuple

from planner.model.window import common_start
from planner.schedule.canary import command_digest
from planner.schedule.opening import first_opening, has_windows
from planner.schedule.pairs import expected_pairs, pair_minutes, plan_domains
from planner.schedule.plan import Cohort, Eta, MeasuredTime, Plan, PoolLimit, Step
from planner.schedule.turns import CALLS, FORKS

# A planning figure is a number to count on, not an average: of ten rollouts nine keep it, one needs half of it.
PLANNED_P10 = 0.5

_NORMAL = NormalDist()
_Z90 = _NORMAL.inv_cdf(0.9)
_LEAST_SIGMA = 0.02      # a handful of equal measurements is no proof of a clockwork
_SLICES = 16             # equally likely slices of a distribution that moments are taken from, …
_FACTORS = 25            # … and of the factor of planning figures


class Duration(NamedTuple):
    """A log-normal time: ``exp(mu)`` is its median in minutes; ``sigma`` the spread of its logarithm."""

    mu: float
    sigma: float

    @classmethod
    def of_moments(cls, mean: float, variance: float) -> Duration:
        """Return the log-normal with this mean (minutes, positive) and variance."""
        square = math.log1p(variance / mean**2)
        return cls(math.log(mean) - square / 2, math.sqrt(square))

    @property
    def mean(self) -> float:
        """The mean, in minutes."""
        return math.exp(self.mu + self.sigma**2 / 2)

    @property
    def variance(self) -> float:
        """The variance, in square minutes."""
        return math.expm1(self.sigma**2) * self.mean**2

    def quantile(self, share: float) -> float:
        """Return the time, in minutes, that this share (between 0 and 1) of all cases keeps."""
        return math.exp(self.mu + self.sigma * _NORMAL.inv_cdf(share))

    def share(self, minutes: float) -> float:
        """Return the share of cases that are done by then."""
        return _NORMAL.cdf((math.log(minutes) - self.mu) / self.sigma) if minutes > 0 else 0.0


# What planning figures have to be multiplied with.
FACTOR = Duration((math.log(PLANNED_P10)) / 2, -math.log(PLANNED_P10) / (2 * _Z90))


class NodeTime(NamedTuple):
    """The time of a path on one node: ``planned`` minutes that carry the plan's factor, and what was measured."""

    planned: int
    measured: Duration | None

    def quantile(self, share: float, factor: float) -> float:
        """Return the minutes that this share of nodes keeps under a factor."""
        return self.planned * factor + (self.measured.quantile(share) if self.measured else 0.0)

    def mean(self, factor: float) -> float:
        """Return the mean, in minutes, under a factor."""
        return self.planned * factor + (self.measured.mean if self.measured else 0.0)

    @property
    def variance(self) -> float:
        """The variance under one factor, in square minutes."""
        return self.measured.variance if self.measured else 0.0

    def share(self, minutes: float, factor: float) -> float:
        """Return the share of nodes that are done by then."""
        left = minutes - self.planned * factor
        return self.measured.share(left) if self.measured else float(left >= 0)


class Group(NamedTuple):
    """Nodes of one cohort in one call; ``pool`` is the one whose own command takes longest there, "" without any."""

    cohort: str
    pool: str
    nodes: int


class Span(NamedTuple):
    """One stretch of the expected course, in minutes from the start.

    ``kind``: batch, soak, wait (for a window), or pair: an all-reduce of two nodes while the wave soaks.
    """

    kind: str
    wave: str
    batch: str                         # "" for a soak or a pair; of a wait the one that has to wait
    start: float
    end: float
    nodes: tuple[str, ...] = ()
    gpus: int = 0


class Forecast(NamedTuple):
    """What a plan is expected to take and to cost."""

    eta: Eta
    spans: tuple[Span, ...]            # in order, without gaps
    approvals: tuple[tuple[float, str], ...]     # minute, wave: where a person is waited for
    peak_of_pool: Mapping[str, int]    # pool -> most nodes out at once, those that are down already included


class Durations:
    """The times of one plan's paths: measured ones where there are any, planning figures elsewhere."""

    def __init__(self, plan: Plan) -> None:
        self._measured = {(m.kind, m.name): measured(m) for m in plan.measured or ()}
        self._node_of = {name: node.cohort for name, node in plan.nodes.items()}
        self._pool_of = {name: node.pool for name, node in plan.nodes.items()}
        self._commands = {pool: self._command(limit) for pool, limit in sorted(plan.pools.items())
                          if limit.canary_command}
        paths = {c.id: self.path(c.steps) for c in plan.cohorts}
        moving = [c for c in plan.cohorts if c.steps]
        self._times = {(c.id, ""): paths[c.id] for c in plan.cohorts} | {
            (c.id, pool): _plus(paths[c.id], self._commands[pool]) for c in moving for pool in sorted(
                {plan.nodes[n].pool for n in c.nodes} & set(self._commands) if self._commands else ())}
        pair = self._measured.get(("pair", ""))
        self.pair = NodeTime(0 if pair else pair_minutes(plan), pair)
        self.around = self._measured.get(("around", ""))      # preflight and undrain of a batch
        pairs = [self.pair] * bool(plan_domains(plan))
        self.certain = not any(t.planned for t in (*self._times.values(), *pairs))     # no planning figure is left
        steps = {("move", s.move) for c in plan.cohorts for s in c.steps}
        commands = {("command", command_digest(limit.canary_command)) for limit in plan.pools.values()
                    if limit.canary_command}
        told = steps | commands | ({("pair", "")} if pairs else set())
        self.measured_nodes = max((m.nodes for m in plan.measured or () if (m.kind, m.name) in told), default=0)
        self._groups: dict[tuple[str, ...], tuple[Group, ...]] = {}
        self._batches: dict[tuple[tuple[Group, ...], float], tuple[float, float]] = {}

    def path(self, steps: Sequence[Step]) -> NodeTime:
        """Return the time of some steps on one node, with the drain before them where drains were measured."""
        found = [(s, self._measured.get(("move", s.move))) for s in steps]
        parts = [time for _, time in found if time is not None]
        if found and (drain := self._measured.get(("drain", ""))) is not None:
            parts.append(drain)
        return NodeTime(sum(s.minutes for s, time in found if time is None), _sum(parts))

    def _command(self, limit: PoolLimit) -> NodeTime:
        """Return the time of a pool's own command on one node."""
        found = self._measured.get(("command", command_digest(limit.canary_command or ())))
        guess = limit.canary_command_minutes or limit.canary_command_timeout_minutes or 0
        return NodeTime(0 if found else guess, found)

    def groups(self, nodes: Iterable[str]) -> tuple[Group, ...]:
        """Return how many of these nodes are of which cohort, sorted, each with the pool of its longest command."""
        key = tuple(nodes)
        if key not in self._groups:
            self._groups[key] = self._grouped(key)
        return self._groups[key]

    def _grouped(self, nodes: tuple[str, ...]) -> tuple[Group, ...]:
        counts: Counter[str] = Counter()
        pools: dict[str, set[str]] = {}
        for name in nodes:
            cohort = self._node_of[name]
            counts[cohort] += 1
            if (pool := self._pool_of[name]) in self._commands:
                pools.setdefault(cohort, set()).add(pool)
        return tuple(Group(cohort, self._longest(pools.get(cohort, ())), count)
                     for cohort, count in sorted(counts.items()))

    def _longest(self, pools: Iterable[str]) -> str:
        return max(sorted(pools), key=lambda pool: self._commands[pool].quantile(0.5, 1.0), default="")

    def time(self, group: Group) -> NodeTime:
        """Return the time of one node of a group."""
        return self._times[group.cohort, group.pool]

    def command(self, group: Group) -> NodeTime | None:
        """Return how much of a group's time is the command of its pool; None where it has none."""
        return self._commands.get(group.pool)

    def batch(self, nodes: Iterable[str], factor: float) -> tuple[float, float]:
        """Return mean and variance, in minutes, of a batch: of its slowest node, and of the calls around it."""
        key = (self.groups(nodes), factor)
        if key not in self._batches:
            parts = self._lanes(key[0])
            times = [largest(parts, (i + 0.5) / _SLICES, factor) for i in range(_SLICES)]
            mean = math.fsum(times) / _SLICES
            variance = math.fsum((t - mean) ** 2 for t in times) / _SLICES
            if self.around is not None:
                mean, variance = mean + self.around.mean, variance + self.around.variance
            self._batches[key] = mean, variance
        return self._batches[key]

    def _lanes(self, groups: tuple[Group, ...]) -> list[tuple[NodeTime, int]]:
        """Return what runs side by side in a batch: cohorts, or where they take turns, one cohort after another."""
        if len(groups) <= CALLS and all(group.nodes <= FORKS for group in groups):
            return [(self.time(group), group.nodes) for group in groups]
        lanes: list[list[NodeTime]] = [[] for _ in range(CALLS)]
        busy = [0.0] * CALLS
        for group in groups:
            times = [_slowest(self.time(group), min(FORKS, group.nodes - begun))
                     for begun in range(0, group.nodes, FORKS)]
            lane = busy.index(min(busy))
            lanes[lane] += times
            busy[lane] += math.fsum(time.quantile(0.5, 1.0) for time in times)
        return [(NodeTime(sum(t.planned for t in lane), _sum([t.measured for t in lane if t.measured])), 1)
                for lane in lanes if lane]


def _slowest(time: NodeTime, nodes: int) -> NodeTime:
    """Return about the time of the slowest of some nodes, as if it were one node's."""
    if time.measured is None or nodes < 2:
        return time
    return NodeTime(time.planned, Duration(math.log(time.measured.quantile(0.5 ** (1 / nodes))), time.measured.sigma))


def measured(item: MeasuredTime) -> Duration:
    """Return what measurements say of a time."""
    median = max(item.median_minutes, 1 / 60)
    return Duration(math.log(median), max(_LEAST_SIGMA, math.log(max(item.p90_minutes, median) / median) / _Z90))


def _plus(path: NodeTime, command: NodeTime) -> NodeTime:
    """Return the time of a path with the command behind it."""
    return NodeTime(path.planned + command.planned, _sum([p for p in (path.measured, command.measured) if p]))


def _sum(parts: list[Duration]) -> Duration | None:
    if len(parts) < 2:
        return parts[0] if parts else None
    return Duration.of_moments(math.fsum(p.mean for p in parts), math.fsum(p.variance for p in parts))


def largest(parts: Sequence[tuple[NodeTime, int]], share: float, factor: float) -> float:
    """Return the minutes by which, with probability ``share``, all nodes are done; ``count`` nodes of each time."""
    low = max((time.quantile(share ** (1 / count), factor) for time, count in parts), default=0.0)
    random = [(time, count) for time, count in parts if time.measured is not None]
    if len(parts) < 2 or not random:
        return low
    high = max(low, *(time.quantile(share ** (1 / (count * len(random))), factor) for time, count in random))
    while high - low > 0.01:
        middle = (low + high) / 2
        done = math.prod(time.share(middle, factor) ** count for time, count in parts)
        low, high = (middle, high) if done < share else (low, middle)
    return high


def forecast(plan: Plan) -> Forecast:
    """Return how long a plan is expected to take, with its spread, and the capacity it costs.

    The course begins with the first batch: at the plan's earliest start, in the first maintenance window.
    """
    durations, calls = Durations(plan), _Calls.of(plan)
    spans, approvals, _ = _course(plan, durations, calls, math.exp(FACTOR.mu))
    factors = [1.0] if durations.certain else [FACTOR.quantile((i + 0.5) / _FACTORS) for i in range(_FACTORS)]
    courses = [_course(plan, durations, calls, factor) for factor in factors]
    p10, p50, p90 = _quantiles([(course[-1].end, variance) for course, _, variance in courses if course])
    worst = _course(plan, durations, calls, None).spans
    busy, busy_at_worst = ([s for s in found if s.nodes] for found in (spans, worst))
    eta = Eta(
        p10_minutes=p10, p50_minutes=p50, p90_minutes=p90,
        at_worst_minutes=round(worst[-1].end) if worst and has_windows(plan) else None,
        guessed=True if plan.measured and not durations.certain else None,
        measured_nodes=durations.measured_nodes,
        gpu_hours=round(math.fsum(s.gpus * (s.end - s.start) for s in busy) / 60),
        gpu_hours_at_worst=round(math.fsum(s.gpus * (s.end - s.start) for s in busy_at_worst) / 60),
        peak_nodes_out=max((len(s.nodes) for s in spans), default=0)
        + sum(len(p.already_down) for p in plan.pools.values()))
    return Forecast(eta=eta, spans=spans, approvals=approvals, peak_of_pool=_peaks(plan, spans))


class _Call(NamedTuple):
    nodes: tuple[str, ...]             # those that change
    gpus: int
    windows: tuple[tuple[str, ...], ...]      # of their pools


class _Calls(NamedTuple):
    """What a plan does to nodes: its batches by id, and the pairs behind its waves."""

    batches: Mapping[str, _Call]
    pairs: Mapping[str, tuple[_Call, ...]]

    @classmethod
    def of(cls, plan: Plan) -> _Calls:
        """Return the calls of a plan."""
        gpus = {c.id: gpu_count(c) for c in plan.cohorts}
        moving = {c.id for c in plan.cohorts if c.steps}

        def call(names: Iterable[str]) -> _Call:
            nodes = tuple(n for n in names if plan.nodes[n].cohort in moving)
            pools = sorted({plan.nodes[n].pool for n in nodes} & set(plan.pools))
            return _Call(nodes, sum(gpus[plan.nodes[n].cohort] for n in nodes),
                         tuple(plan.pools[pool].windows for pool in pools))

        return cls({b.id: call(b.nodes) for w in plan.waves for b in w.batches},
                   {wave: tuple(call(pair.nodes) for pair in found) for wave, found in expected_pairs(plan).items()})


class _Course(NamedTuple):
    spans: tuple[Span, ...]
    approvals: tuple[tuple[float, str], ...]
    variance: float


def _course(plan: Plan, durations: Durations, calls: _Calls, factor: float | None) -> _Course:
    """Return spans and approvals as they come with mean durations under a factor, and the variance of the whole.

    Without a factor everything takes as long as it may: planning figures, and timeouts of commands.
    """
    begin = first_opening(plan) if has_windows(plan) else None
    spans: list[Span] = []
    approvals: list[tuple[float, str]] = []
    at = variance = 0.0

    def wait(call: _Call, minutes: int, wave: str, batch: str) -> float:
        if begin is None:
            return at
        now = begin + timedelta(minutes=at)
        start = at + ((common_start(call.windows, now, minutes) or now) - now).total_seconds() / 60
        spans.extend([Span(kind="wait", wave=wave, batch=batch, start=at, end=start)] if start > at else [])
        return start

    for wave in plan.waves:
        for batch in wave.batches:
            call = calls.batches[batch.id]
            at = wait(call, batch.minutes, wave.id, batch.id)
            mean, spread = (batch.minutes, 0.0) if factor is None else durations.batch(call.nodes, factor)
            spans.append(Span(kind="batch", wave=wave.id, batch=batch.id, start=at, end=at + mean, nodes=call.nodes,
                              gpus=call.gpus))
            at, variance = at + mean, variance + spread
        soaked = at + wave.soak_minutes
        for call in calls.pairs.get(wave.id, ()):
            at = wait(call, pair_minutes(plan), wave.id, "")
            mean = pair_minutes(plan) if factor is None else durations.pair.mean(factor)
            spans.append(Span(kind="pair", wave=wave.id, batch="", start=at, end=at + mean, nodes=call.nodes,
                              gpus=call.gpus))
            at, variance = at + mean, variance + (0.0 if at + mean < soaked else durations.pair.variance)
        if at < soaked:
            spans.append(Span(kind="soak", wave=wave.id, batch="", start=at, end=soaked))
            at = soaked
        if wave.approval:
            approvals.append((at, wave.id))
    return _Course(tuple(spans), tuple(approvals), variance)


def _quantiles(courses: Sequence[tuple[float, float]]) -> tuple[int, int, int]:
    """Return the 10th, 50th and 90th percentile of a mixture of normal times, given by mean and variance."""
    normals = [NormalDist(mean, math.sqrt(max(variance, 0.01))) for mean, variance in courses]

    def quantile(share: float) -> int:
        low, high = 0.0, max(n.mean + 6 * n.stdev for n in normals)
        while high - low > 0.01:
            middle = (low + high) / 2
            done = math.fsum(n.cdf(middle) for n in normals) / len(normals)
            low, high = (middle, high) if done < share else (low, middle)
        return round(high)

    return (quantile(0.1), quantile(0.5), quantile(0.9)) if normals else (0, 0, 0)


def _peaks(plan: Plan, spans: Iterable[Span]) -> dict[str, int]:
    peaks = {pool: len(limit.already_down) for pool, limit in sorted(plan.pools.items())}
    for span in spans:
        for pool, count in Counter(plan.nodes[n].pool for n in span.nodes).items():
            peaks[pool] = max(peaks.get(pool, 0), count + len(plan.pools[pool].already_down))
    return peaks


def gpu_count(cohort: Cohort) -> int:
    """Return how many GPUs one node of a cohort has: by their names, else by what is written for people."""
    written = cohort.gpu.partition("x")[0]
    return len(cohort.gpu_names) or (int(written) if written.isdecimal() else 1)
