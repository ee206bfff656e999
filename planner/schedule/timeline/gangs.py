"""Acts that several bunches must take at one instant, and what shows before any placing that no timetable exists.

A gang is a set of (bunch, act) that ends at one minute on every node: an act on an NVLink domain, a switch of a kind
that must be equal in a communication domain, and a hop that is larger than the skew allowed there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from planner.schedule.timeline.model import (
    Act,
    Bunch,
    Chain,
    Change,
    Fleet,
    HopLimit,
    LengthLimit,
    PoolRule,
    Refusal,
    Refused,
)

Member = tuple[int, int]      # bunch, act


@dataclass(slots=True)
class Ties:
    """What binds bunches together.

    ``gangs`` are sorted tuples of members; ``tracked`` are (communication domain, kind) whose skew is watched while
    placing; ``mixed`` those whose time of unequal versions must be checked afterwards; ``hopping`` are hops that were
    put into gangs because they are larger than the skew.
    """

    gangs: tuple[tuple[Member, ...], ...] = ()
    tracked: tuple[tuple[int, str], ...] = ()
    mixed: tuple[tuple[int, str], ...] = ()
    hopping: tuple[HopLimit, ...] = ()


@dataclass(slots=True)
class _Found:
    fleet: Fleet
    parent: dict[Member, Member] = field(default_factory=dict)
    refusals: set[Refusal] = field(default_factory=set)
    hops: set[HopLimit] = field(default_factory=set)
    lengths: set[LengthLimit] = field(default_factory=set)
    hopping: set[HopLimit] = field(default_factory=set)
    tracked: set[tuple[int, str]] = field(default_factory=set)
    mixed: set[tuple[int, str]] = field(default_factory=set)

    def root(self, member: Member) -> Member:
        """Return the representative of a member's gang."""
        self.parent.setdefault(member, member)
        while self.parent[member] != member:
            self.parent[member] = self.parent[self.parent[member]]
            member = self.parent[member]
        return member

    def bind(self, members: Iterable[Member]) -> None:
        """Put members into one gang."""
        first, *others = [self.root(m) for m in members]
        for other in others:
            self.parent[max(first, self.root(other))] = first = min(first, self.root(other))

    def act(self, member: Member) -> Act:
        """Return the act of a member."""
        return self.fleet.chains[self.fleet.bunches[member[0]].chain].acts[member[1]]

    def chains_of(self, numbers: Iterable[int]) -> tuple[int, ...]:
        """Return the chains of bunches."""
        return tuple(sorted({self.fleet.bunches[n].chain for n in numbers}))


def find_ties(fleet: Fleet) -> Ties | Refused:
    """Return what binds bunches together, or every static reason why there is no timetable."""
    found = _Found(fleet)
    _check_lengths(found)
    nvlink, comm = _domains(fleet, lambda b: b.nvlink_domain), _domains(fleet, lambda b: b.comm_domain)
    for domain, numbers in nvlink:
        _bind_nvlink(found, domain, numbers)
    for domain, numbers in comm:
        if sum(fleet.bunches[n].size for n in numbers) > 1:
            for kind in sorted(set(fleet.rule.equal)):
                _bind_equal(found, domain, kind, numbers)
            for kind, places in sorted(fleet.rule.skew):
                _bind_skew(found, domain, kind, places, numbers)
    gangs: dict[Member, list[Member]] = {}
    for member in sorted(found.parent):
        gangs.setdefault(found.root(member), []).append(member)
    for members in gangs.values():
        _check_alike(found, members)
    if found.refusals or found.hops or found.lengths:
        return Refused(tuple(sorted(found.refusals)), tuple(sorted(found.hops)), tuple(sorted(found.lengths)))
    return Ties(tuple(tuple(m) for m in gangs.values()), tuple(sorted(found.tracked)), tuple(sorted(found.mixed)),
                tuple(sorted(found.hopping)))


def canary_nodes(fleet: Fleet) -> tuple[int, ...]:
    """Return for each pool how many nodes may start a version first: its canary or its largest NVLink domain."""
    sizes: Counter[int] = Counter()
    for bunch in fleet.bunches:
        if bunch.nvlink_domain is not None:
            sizes[bunch.nvlink_domain] += bunch.size
    canaries = [pool.canary for pool in fleet.pools]
    for bunch in fleet.bunches:
        if bunch.nvlink_domain is not None:
            canaries[bunch.pool] = max(canaries[bunch.pool], sizes[bunch.nvlink_domain])
    return tuple(canaries)


def _domains(fleet: Fleet, of: Callable[[Bunch], int | None]) -> list[tuple[int, list[int]]]:
    found: dict[int, list[int]] = {}
    for number, bunch in enumerate(fleet.bunches):
        domain = of(bunch)
        if domain is not None:
            found.setdefault(domain, []).append(number)
    return sorted(found.items())


def _kinds(act: Act) -> tuple[str, ...]:
    return tuple(sorted(change.kind for change in act.changes))


def _check_lengths(found: _Found) -> None:
    """Refuse acts longer than every window, and pools or failure domains that let no node go."""
    fleet = found.fleet
    pairs = sorted({(bunch.pool, bunch.chain) for bunch in fleet.bunches})
    for pool, chain in pairs:
        rule: PoolRule = fleet.pools[pool]
        for act in fleet.chains[chain].acts:
            if not act.down:
                continue
            limit = min(rule.max_unavailable, fleet.rule.failure_domain_max_unavailable)
            if limit < 1:
                found.refusals.add(Refusal("NO_CAPACITY", pool, _kinds(act), (chain,), -1, 1, limit))
            if rule.window and rule.window.next_start(0, act.minutes) is None:
                longest = max((b - a for a, b in rule.window.open), default=0)
                found.refusals.add(Refusal("WINDOW", pool, _kinds(act), (chain,), -1, act.minutes, longest))
                if len(act.changes) > 1:
                    found.lengths.add(LengthLimit(chain, _kinds(act), longest))


def _overload(found: _Found, members: Sequence[Member]) -> tuple[int, int, int] | None:
    """Return (pool, nodes out of service, limit) where a gang breaks a limit, else None."""
    fleet = found.fleet
    pools: Counter[int] = Counter()
    failure: Counter[int] = Counter()
    for member in members:
        if found.act(member).down:
            bunch = fleet.bunches[member[0]]
            pools[bunch.pool] += bunch.size
            failure[bunch.failure_domain] += bunch.size
    for pool, nodes in sorted(pools.items()):
        if nodes > fleet.pools[pool].max_unavailable:
            return pool, nodes, fleet.pools[pool].max_unavailable
    worst = max(failure.values(), default=0)
    if worst > fleet.rule.failure_domain_max_unavailable:
        return min(pools), worst, fleet.rule.failure_domain_max_unavailable
    return None


def _bind_nvlink(found: _Found, domain: int, numbers: list[int]) -> None:
    fleet, atomic = found.fleet, set(found.fleet.rule.nvlink_atomic)
    sequences = {}
    for number in numbers:
        acts = fleet.chains[fleet.bunches[number].chain].acts
        sequences[number] = [i for i, act in enumerate(acts) if any(c.kind in atomic for c in act.changes)]
    signatures = {
        n: [(sorted((c.kind, c.adds) for c in found.act((n, i)).changes if c.adds), found.act((n, i)).minutes)
            for i in acts]
        for n, acts in sequences.items()
    }
    first = signatures[numbers[0]]
    kinds = tuple(sorted({c.kind for n, acts in sequences.items() for i in acts for c in found.act((n, i)).changes}))
    if any(signatures[n] != first for n in numbers):
        pool = fleet.bunches[numbers[0]].pool
        found.refusals.add(Refusal("NVLINK_STEPS", pool, kinds, found.chains_of(numbers), domain, 0, 0))
        return
    for position in range(len(first)):
        members = [(n, sequences[n][position]) for n in numbers]
        over = _overload(found, members)
        if over:
            found.refusals.add(Refusal("NVLINK_SIZE", over[0], _kinds(found.act(members[0])), found.chains_of(numbers),
                                       domain, over[1], over[2]))  # fmt: skip
        found.bind(members)


def _course(chain: Chain, kind: str) -> tuple[tuple[int, ...], list[tuple[int, Change]]]:
    """Return the first version of a kind and its changes as (act, change)."""
    changes = [(i, c) for i, act in enumerate(chain.acts) for c in act.changes if c.kind == kind and c.old != c.new]
    start = dict(chain.start).get(kind, changes[0][1].old if changes else ())
    return start, changes


def _bind_equal(found: _Found, domain: int, kind: str, numbers: list[int]) -> None:
    fleet = found.fleet
    courses = {n: _course(fleet.chains[fleet.bunches[n].chain], kind) for n in numbers}
    starts = {start for start, _ in courses.values()}
    lengths = {len(changes) for _, changes in courses.values()}
    pool, chains, mixed = fleet.bunches[numbers[0]].pool, found.chains_of(numbers), fleet.rule.max_mixed_minutes
    if len(starts) > 1 and mixed == 0:
        found.refusals.add(Refusal("EQUAL_STARTS", pool, (kind,), chains, domain, len(starts), 1))
        return
    steps: dict[int, list[Member]] = {}
    news: dict[int, set[tuple[int, ...]]] = {}
    for n, (start, changes) in courses.items():
        ends = [change.new for _, change in changes] or [start]
        news.setdefault(0, set()).add(ends[-1])
        for back, (act, change) in enumerate(reversed(changes)):
            steps.setdefault(back, []).append((n, act))
            news.setdefault(back, set()).add(change.new)
    uneven = len(lengths) > 1 or any(len(values) > 1 for values in news.values())
    if len(news[0]) > 1 or (uneven and mixed == 0):
        found.refusals.add(Refusal("EQUAL_STEPS", pool, (kind,), chains, domain, len(lengths), 1))
        return
    if uneven or len(starts) > 1:
        found.mixed.add((domain, kind))
    for members in steps.values():
        over = _overload(found, members)
        if over and mixed == 0:
            found.refusals.add(Refusal("EQUAL_SIZE", over[0], (kind,), chains, domain, over[1], over[2]))
        elif over or not _same_shape(found, members):
            found.mixed.add((domain, kind))
        else:
            found.bind(members)


def _same_shape(found: _Found, members: Sequence[Member]) -> bool:
    acts = [found.act(m) for m in members]
    return not any(a.down for a in acts) or len({(a.down, a.minutes) for a in acts}) == 1


def _check_alike(found: _Found, members: Sequence[Member]) -> None:
    """Refuse a gang whose acts cannot be out of service together, and one that holds a bunch twice."""
    numbers = [n for n, _ in members]
    if not _same_shape(found, members) or len(set(numbers)) < len(numbers):
        bunch = found.fleet.bunches[numbers[0]]
        domain = bunch.nvlink_domain if bunch.comm_domain is None else bunch.comm_domain
        kinds = tuple(sorted({kind for m in members for kind in _kinds(found.act(m))}))
        found.refusals.add(Refusal("EQUAL_STEPS", bunch.pool, kinds, found.chains_of(numbers),
                                   -1 if domain is None else domain, 0, 0))  # fmt: skip


def _bind_skew(found: _Found, domain: int, kind: str, places: int, numbers: list[int]) -> None:
    fleet = found.fleet
    courses = {n: _course(fleet.chains[fleet.bunches[n].chain], kind) for n in numbers}
    ever = [p for start, changes in courses.values() for value in (start, *(c.new for _, c in changes)) for p in value]
    if not ever or max(ever) - min(ever) <= places:
        return
    starts = [p for start, _ in courses.values() for p in start]
    pool, chains = fleet.bunches[numbers[0]].pool, found.chains_of(numbers)
    if max(starts) - min(starts) > places:
        found.refusals.add(
            Refusal("SKEW_STARTS", pool, (kind,), chains, domain, max(starts) - min(starts), places))  # fmt: skip
        return
    found.tracked.add((domain, kind))
    wide = [(n, i) for n, (_, changes) in courses.items() for i, (_, c) in enumerate(changes)
            if max(*c.old, *c.new) - min(*c.old, *c.new) > places]
    for n, position in wide:
        change = courses[n][1][position][1]
        alike = all(len(course) > position and (course[position][1].old, course[position][1].new) ==
                    (change.old, change.new) for _, course in courses.values())  # fmt: skip
        members = [(m, courses[m][1][position][0]) for m in numbers] if alike else []
        limit = HopLimit(fleet.bunches[n].chain, kind, places)
        if alike and not _overload(found, members) and _same_shape(found, members):
            found.bind(members)
            found.hopping.add(limit)
        elif places < 1:
            hop = max(*change.old, *change.new) - min(*change.old, *change.new)
            found.refusals.add(Refusal("SKEW_HOP", pool, (kind,), chains, domain, hop, places))
        else:
            found.hops.add(limit)
