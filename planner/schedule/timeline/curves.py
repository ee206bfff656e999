"""How early nodes can have started a version: one version in one pool, placed as if nothing else were going on.

Acts are taken as equal and as short as the shortest, nodes arrive as early as they can, and canary, growth, soak, room
and windows are kept. With equal acts "as early as possible" is pointwise the most: a curve holds for every timetable.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import pairwise
from math import floor

from planner.schedule.timeline.model import PoolRule

Key = tuple[str, int]         # kind, place


@dataclass(frozen=True, slots=True)
class Stage:
    """One act out of service of one cohort.

    ``head`` is the first minute at which a node can start it, ``after`` the minutes of all acts after it. ``before`` is
    a version that the act out of service before it puts on, and ``lag`` the minutes from that act's start to this one.
    ``domains`` are the sizes of the cohort's communication domains if nodes come from there by whole domains only: a
    kind that must be equal changes on the way.
    """

    nodes: int
    head: int
    minutes: int
    after: int
    keys: tuple[Key, ...]
    before: Key | None = None
    lag: int = 0
    domains: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """``counts[i]`` nodes can have started by ``minutes[i]``; both ascend."""

    minutes: tuple[int, ...]
    counts: tuple[int, ...]

    def by(self, minute: int) -> int:
        """Return how many nodes can have started by a minute."""
        position = bisect_right(self.minutes, minute)
        return self.counts[position - 1] if position else 0


def arrivals(stages: list[Stage], curves: dict[Key, Curve]) -> Curve:
    """Return how many nodes can have reached the act of a version, given the curves of the acts before."""
    groups: dict[Key | None, list[Stage]] = {}
    for stage in stages:
        groups.setdefault(stage.before if stage.before in curves else None, []).append(stage)
    steps: list[tuple[int, int]] = []
    for before in sorted(groups, key=lambda key: (key is not None, key or ("", 0))):
        group = groups[before]
        own = _summed([(stage.head, stage.nodes) for stage in group])
        if before is None:
            steps += rises(own)
            continue
        earlier, lag = curves[before], min(stage.lag for stage in group)
        times = sorted({*own.minutes, *(minute + lag for minute in earlier.minutes)})
        counts = [min(own.by(t), earlier.by(t - lag)) for t in times]
        if all(stage.domains for stage in group):
            sums = 1
            for size in sorted(size for stage in group for size in stage.domains):
                sums |= sums << size
            counts = [(sums & ((2 << count) - 1)).bit_length() - 1 for count in counts]
        steps += rises(Curve(tuple(times), tuple(counts)))
    return _summed(steps)


def rises(curve: Curve) -> list[tuple[int, int]]:
    """Return a curve as (minute, nodes more than before)."""
    return [(minute, after - before) for minute, (before, after) in
            zip(curve.minutes, pairwise((0, *curve.counts)), strict=True)]  # fmt: skip


def _summed(steps: list[tuple[int, int]]) -> Curve:
    total, sums = 0, dict[int, int]()
    for minute, nodes in sorted(steps):
        total += nodes
        sums[minute] = total
    return Curve(tuple(sums), tuple(sums.values()))


def spread(rule: PoolRule, canary: int, arriving: Curve, minutes: int) -> Curve:
    """Return the curve of one version whose shortest act takes ``minutes``."""
    total, room, started, soaked = arriving.counts[-1], max(1, rule.max_unavailable), 0, 0
    times = list(arriving.minutes)
    heapify(times)
    frees: dict[int, int] = {}
    soaks: dict[int, int] = {}
    at: list[int] = []
    counts: list[int] = []
    now = -1
    while times and started < total:
        minute = heappop(times)
        if minute == now:
            continue
        now = minute
        room += frees.pop(now, 0)
        soaked += soaks.pop(now, 0)
        begin = rule.window.next_start(now, minutes) if rule.window else now
        if begin is None:
            break
        if begin > now:
            heappush(times, begin)
            continue
        allowed = max(canary, floor(rule.growth * soaked)) - started
        nodes = min(room, allowed, arriving.by(now) - started)
        if nodes <= 0:
            continue
        started, room = started + nodes, room - nodes
        at.append(now)
        counts.append(started)
        end = now + minutes
        frees[end] = frees.get(end, 0) + nodes
        soaks[end + rule.soak_minutes] = soaks.get(end + rule.soak_minutes, 0) + nodes
        heappush(times, end)
        heappush(times, end + rule.soak_minutes)
    return Curve(tuple(at), tuple(counts))
