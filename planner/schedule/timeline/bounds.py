"""Minutes that no timetable of a pool can undercut.

Four reasons, each proven by itself: the longest chain of one node; node-minutes out of service against the room for
them; the spread of each version by canary, growth and soak; and the three together: spread along chains, and the room
that lies idle while versions have not spread yet. Windows count in all of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from planner.schedule.timeline.curves import Curve, Key, Stage, arrivals, rises, spread
from planner.schedule.timeline.gangs import Ties, canary_nodes
from planner.schedule.timeline.model import Act, Bounds, Chain, Fleet, PoolRule

_ROUNDS = 2                           # how many acts of a chain a curve looks back
_LOOKS = 40                           # minutes at which idle room is looked at; any choice gives a bound
_RATIOS = (1, 2, 3, 4, 5, 6, 8, 10)   # how gangs fill the room, rounded at these fractions


def pool_bounds(fleet: Fleet, ties: Ties) -> tuple[Bounds, ...]:
    """Return bounds for each pool."""
    cohorts: list[dict[int, list[tuple[int, int]]]] = [{} for _ in fleet.pools]      # chain -> (domain or -1, nodes)
    for bunch in fleet.bunches:
        domain = -1 if bunch.comm_domain is None else bunch.comm_domain
        cohorts[bunch.pool].setdefault(bunch.chain, []).append((domain, bunch.size))
    equal = frozenset(fleet.rule.equal if fleet.rule.max_mixed_minutes == 0 else ())
    gangs = _gang_minutes(fleet, ties)
    canaries = canary_nodes(fleet)
    return tuple(
        _Pool(rule, canaries[pool], gangs[pool], equal).bounds([(fleet.chains[c], n) for c, n in sorted(sizes.items())])
        for pool, (rule, sizes) in enumerate(zip(fleet.pools, cohorts, strict=True))
    )


def _gang_minutes(fleet: Fleet, ties: Ties) -> list[Counter[int]]:
    """Return for each pool: nodes that go out of service at one instant -> minutes of all such gangs."""
    found: list[Counter[int]] = [Counter() for _ in fleet.pools]
    for gang in ties.gangs:
        nodes: Counter[int] = Counter()
        minutes = 0
        for number, position in gang:
            bunch = fleet.bunches[number]
            act = fleet.chains[bunch.chain].acts[position]
            if act.down:
                nodes[bunch.pool] += bunch.size
                minutes = act.minutes
        for pool, size in nodes.items():
            found[pool][size] += minutes
    return found


def _keys(act: Act) -> tuple[Key, ...]:
    return tuple(sorted((change.kind, place) for change in act.changes for place in change.adds))


@dataclass(slots=True)
class _Pool:
    rule: PoolRule
    canary: int
    gangs: Counter[int]
    equal: frozenset[str]
    stages: list[Stage] = field(default_factory=list)
    usable: list[int] = field(default_factory=list)       # a window: minutes that acts can fill

    def bounds(self, cohorts: list[tuple[Chain, list[tuple[int, int]]]]) -> Bounds:
        """Return the bounds of the pool; cohorts are (chain, (communication domain or -1, nodes) of its bunches)."""
        longest = max((self._walk(chain, nodes) for chain, nodes in cohorts), default=0)
        if not self.stages:
            return Bounds(chain=longest)
        self._fill_windows()
        head, after = min(stage.head for stage in self.stages), min(stage.after for stage in self.stages)
        by_key: dict[Key, list[Stage]] = {}
        for stage in self.stages:
            for key in stage.keys:
                by_key.setdefault(key, []).append(stage)
        curves: dict[Key, Curve] = {}
        growth = 0
        for turn in range(_ROUNDS):
            curves = {key: self._curve(stages, curves) for key, stages in sorted(by_key.items())}
            growth = growth if turn else self._last(by_key, curves)
        capacity = max(self._until(head, minutes) for minutes in self._loads()) + after
        return Bounds(longest, capacity, growth, max(self._last(by_key, curves), self._ramp(curves) + after))

    def _walk(self, chain: Chain, bunches: list[tuple[int, int]]) -> int:
        """Add the stages of a cohort and return the first minute at which one node of it can be done."""
        minute, free, rest, whole = 0, 0, sum(act.minutes for act in chain.acts), False
        nodes, domains = sum(size for _, size in bunches), _sizes(bunches)
        before: tuple[Key | None, int] = (None, 0)
        for act in chain.acts:
            rest -= act.minutes
            if act.down:
                window = self.rule.window
                minute = (window.next_start(minute, act.minutes) or 0) if window else minute
                keys = _keys(act)
                self.stages.append(Stage(nodes, minute, act.minutes, rest, keys, before[0], before[1] + free,
                                         domains if whole else ()))  # fmt: skip
                before, free, whole = (keys[0] if keys else None, act.minutes), 0, False
            else:
                free += act.minutes
                whole = whole or any(change.kind in self.equal for change in act.changes)
            minute += act.minutes
        return minute

    def _curve(self, stages: list[Stage], curves: dict[Key, Curve]) -> Curve:
        return spread(self.rule, self.canary, arrivals(stages, curves), min(stage.minutes for stage in stages))

    @staticmethod
    def _last(by_key: dict[Key, list[Stage]], curves: dict[Key, Curve]) -> int:
        """Return the first minute at which the last node to put on some version can be at its chain's end."""
        return max((curve.minutes[-1] + min(s.minutes + s.after for s in by_key[key])
                    for key, curve in curves.items() if curve.minutes), default=0)  # fmt: skip

    def _loads(self) -> list[float]:
        """Return minutes for which the whole room must be in use, one for each way to count how gangs fill it."""
        work = sum(stage.nodes * stage.minutes for stage in self.stages)
        single = work - sum(size * minutes for size, minutes in self.gangs.items())
        room = self.rule.max_unavailable
        return [work / room, *(
            single * _rounded(1, room, k) + sum(m * _rounded(size, room, k) for size, m in self.gangs.items())
            for k in _RATIOS
        )]  # fmt: skip

    def _fill_windows(self) -> None:
        if self.rule.window is None:
            return
        lengths = sorted({stage.minutes for stage in self.stages})
        for opens, closes in self.rule.window.open:
            sums = 1
            for length in lengths:
                shift = length
                while 0 < shift <= closes - opens:
                    sums |= sums << shift
                    shift *= 2
            self.usable.append((sums & ((1 << (closes - opens + 1)) - 1)).bit_length() - 1)

    def _until(self, minute: int, load: float) -> int:
        """Return the first minute by which windows have been open for ``load`` minutes of acts since ``minute``."""
        window = self.rule.window
        if load <= 0:
            return minute
        if window is None:
            return minute + _up(load)
        base = minute - minute % window.period_minutes
        while True:
            for (opens, closes), usable in sorted(zip(window.open, self.usable, strict=True)):
                begin = max(minute, base + opens)
                room = min(base + closes - begin, usable) if begin > minute else base + closes - begin
                if room >= load:
                    return begin + _up(load)
                load -= max(0, room)
            base += window.period_minutes

    def _ramp(self, curves: dict[Key, Curve]) -> int:
        """Return when the work is done at best: what can be done while versions spread, then the whole room in use.

        An act that puts several versions on is counted under one of them; each way to choose gives a bound.
        """
        slow = {key: _slowness(curve) for key, curve in curves.items()}
        choices = {tuple(choose(stage.keys) for stage in self.stages if stage.keys)
                   for choose in (min, max, lambda keys: max(keys, key=lambda key: (slow[key], key)))}  # fmt: skip
        return max(self._ramp_by(curves, chosen) for chosen in sorted(choices))

    def _ramp_by(self, curves: dict[Key, Curve], chosen: tuple[Key, ...]) -> int:
        parts: dict[Key, list[Stage]] = {}
        for stage, key in zip((stage for stage in self.stages if stage.keys), chosen, strict=True):
            parts.setdefault(key, []).append(stage)
        work = sum(stage.nodes * stage.minutes for stage in self.stages)
        free = sum(stage.nodes * stage.minutes for stage in self.stages if not stage.keys)
        times = sorted({m + d for key in parts for m in curves[key].minutes for d in (0, parts[key][0].minutes)})
        times = times[::1 + len(times) // _LOOKS]
        done = [free] * len(times)
        for key, stages in sorted(parts.items()):
            lengths, starts = sorted(((s.minutes, s.nodes) for s in stages), reverse=True), rises(curves[key])
            for number, minute in enumerate(times):
                done[number] += _most(starts, lengths, minute)
        room = self.rule.max_unavailable
        return max((self._until(m, (work - d) / room) for m, d in zip(times, done, strict=True) if d < work), default=0)


def _sizes(bunches: list[tuple[int, int]]) -> tuple[int, ...]:
    """Return the sizes of communication domains; nodes without one count for themselves."""
    sizes: Counter[int] = Counter()
    for domain, nodes in bunches:
        sizes[domain] += nodes
    alone = sizes.pop(-1, 0)
    return (*sorted(sizes.values()), *[1] * alone)


def _slowness(curve: Curve) -> float:
    """Return the mean minute at which nodes start."""
    return sum(minute * nodes for minute, nodes in rises(curve)) / max(1, curve.counts[-1] if curve.counts else 1)


def _most(starts: list[tuple[int, int]], lengths: list[tuple[int, int]], until: int) -> int:
    """Return the most node-minutes that acts can have had by a minute: the longest acts start first."""
    total, position, left = 0, 0, lengths[0][1] if lengths else 0
    for minute, nodes in starts:
        if minute >= until:
            break
        while nodes > 0 and position < len(lengths):
            count = min(nodes, left)
            total += count * min(lengths[position][0], until - minute)
            nodes, left = nodes - count, left - count
            if left == 0:
                position += 1
                left = lengths[position][1] if position < len(lengths) else 0
    return total


def _rounded(size: int, room: int, k: int) -> float:
    """Return the share of the room that ``size`` nodes take, rounded so that what fits together stays within 1."""
    if (k + 1) * size % room == 0:
        return size / room
    return (k + 1) * size // room / k


def _up(load: float) -> int:
    """Return whole minutes, upwards; a hair of rounding error is not a minute."""
    return -int(-(load - 1e-6) // 1)
