"""A part of a fleet that shares nothing with the rest, ready for placing: acts that need deciding, as columns."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from planner.schedule.timeline.gangs import Ties, canary_nodes
from planner.schedule.timeline.model import Act, Fleet

NONE = -1

Value = tuple[int, ...]
Key = tuple[int, str, int]     # pool, kind, place


@dataclass(slots=True)
class Gate:
    """How fast one version spreads in one pool. ``nodes`` is how many will ever put it on."""

    pool: int
    canary: int
    growth: float
    soak_minutes: int
    nodes: int


@dataclass(slots=True)
class Tracker:
    """Versions of one kind in one communication domain that must stay within ``places``."""

    places: int
    start: Counter[Value]


@dataclass(slots=True)
class Part:
    """Bunches, and those acts of theirs that need a decision ("slots"); free acts follow at once on the act before.

    Columns have one entry a slot where nothing else is said. An item is what starts at one instant: a slot (some
    nodes of one bunch) or a gang, whose item number is the number of slots plus the gang's number.
    """

    fleet: Fleet
    bunches: list[int]                                        # of the fleet
    pools: list[int] = field(default_factory=list)            # ascending
    sizes: list[int] = field(default_factory=list)            # a bunch
    first: list[int] = field(default_factory=list)            # a bunch: its first slot, or NONE
    lead: list[int] = field(default_factory=list)             # a bunch: minutes of free acts at its start
    bunch: list[int] = field(default_factory=list)
    act: list[int] = field(default_factory=list)
    minutes: list[int] = field(default_factory=list)
    down: list[bool] = field(default_factory=list)
    pool: list[int] = field(default_factory=list)
    failure: list[int] = field(default_factory=list)          # failure domains, counted from 0 in the part
    failures: int = 0
    follows: list[int] = field(default_factory=list)          # next slot of the bunch, or NONE
    delay: list[int] = field(default_factory=list)            # minutes of free acts after the slot
    tail: list[int] = field(default_factory=list)             # minutes from the start of the slot to the chain's end
    gates: list[tuple[int, ...]] = field(default_factory=list)
    gate: list[Gate] = field(default_factory=list)            # a gate
    gang: list[int] = field(default_factory=list)             # or NONE
    members: list[list[int]] = field(default_factory=list)    # a gang: its slots
    watch: list[tuple[tuple[int, Value, Value], ...]] = field(default_factory=list)      # tracker, old, new
    trackers: list[Tracker] = field(default_factory=list)

    @property
    def items(self) -> int:
        """Return how many items there are."""
        return len(self.bunch) + len(self.members)


def split(fleet: Fleet, ties: Ties) -> list[Part]:
    """Return the parts of a fleet that share no pool, failure domain, communication domain or NVLink domain."""
    parent: dict[tuple[str, int], tuple[str, int]] = {}

    def root(key: tuple[str, int]) -> tuple[str, int]:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for bunch in fleet.bunches:
        keys = [("failure", bunch.failure_domain)]
        keys += [("comm", bunch.comm_domain)] if bunch.comm_domain is not None else []
        keys += [("nvlink", bunch.nvlink_domain)] if bunch.nvlink_domain is not None else []
        for key in keys:
            parent[root(key)] = root(("pool", bunch.pool))
    groups: dict[tuple[str, int], list[int]] = {}
    for number, bunch in enumerate(fleet.bunches):
        groups.setdefault(root(("pool", bunch.pool)), []).append(number)
    gang_of = {member: number for number, gang in enumerate(ties.gangs) for member in gang
               if sum(fleet.bunches[n].size for n, _ in gang) > 1}  # fmt: skip
    canaries = canary_nodes(fleet)
    return [_compile(fleet, ties, numbers, gang_of, canaries) for numbers in groups.values()]


def _compile(fleet: Fleet, ties: Ties, numbers: list[int], gang_of: dict[tuple[int, int], int],
             canaries: tuple[int, ...]) -> Part:  # fmt: skip
    part = Part(fleet, numbers, sorted({fleet.bunches[n].pool for n in numbers}))
    part.sizes = [fleet.bunches[n].size for n in numbers]
    gate_of = _gates(part, canaries)
    tracker_of = _trackers(part, ties)
    failures: dict[int, int] = {}
    gangs: dict[int, int] = {}
    for local, number in enumerate(numbers):
        bunch = fleet.bunches[number]
        acts = fleet.chains[bunch.chain].acts
        domain = NONE if bunch.comm_domain is None else bunch.comm_domain
        left = sum(act.minutes for act in acts)
        last, free = NONE, 0
        part.first.append(NONE)
        part.lead.append(0)
        for position, act in enumerate(acts):
            gang = gang_of.get((number, position), NONE)
            watch = tuple((tracker_of[domain, c.kind], c.old, c.new) for c in act.changes
                          if (domain, c.kind) in tracker_of) if tracker_of else ()  # fmt: skip
            if act.down or gang != NONE or watch:
                slot = len(part.bunch)
                _add_slot(part, local, position, act, failures.setdefault(bunch.failure_domain, len(failures)))
                part.tail.append(left)
                part.watch.append(watch)
                part.gates.append(tuple(gate_of[key] for key in _added(bunch.pool, act) if key in gate_of)
                                  if act.down else ())  # fmt: skip
                _join_gang(part, slot, gang, gangs)
                _link(part, local, last, slot, free)
                last, free = slot, 0
            else:
                free += act.minutes
            left -= act.minutes
        _link(part, local, last, NONE, free)
    part.failures = len(failures)
    return part


def _add_slot(part: Part, local: int, position: int, act: Act, failure: int) -> None:
    part.bunch.append(local)
    part.act.append(position)
    part.minutes.append(act.minutes)
    part.down.append(act.down)
    part.pool.append(part.fleet.bunches[part.bunches[local]].pool)
    part.failure.append(failure)
    part.follows.append(NONE)
    part.delay.append(0)


def _link(part: Part, local: int, last: int, slot: int, free: int) -> None:
    """Say what comes after the last slot of a bunch, and how many minutes of free acts lie between."""
    if last == NONE:
        part.first[local], part.lead[local] = slot, free
    else:
        part.follows[last], part.delay[last] = slot, free


def _join_gang(part: Part, slot: int, gang: int, gangs: dict[int, int]) -> None:
    if gang == NONE:
        part.gang.append(NONE)
        return
    if gang not in gangs:
        gangs[gang] = len(part.members)
        part.members.append([])
    part.gang.append(gangs[gang])
    part.members[gangs[gang]].append(slot)


def _added(pool: int, act: Act) -> list[Key]:
    return [(pool, change.kind, place) for change in act.changes for place in change.adds]


def _gates(part: Part, canaries: tuple[int, ...]) -> dict[Key, int]:
    """Number the versions that spread step by step; no gate where the canary covers all nodes."""
    cohorts: Counter[tuple[int, int]] = Counter()
    for number, size in zip(part.bunches, part.sizes, strict=True):
        bunch = part.fleet.bunches[number]
        cohorts[bunch.pool, bunch.chain] += size
    nodes: Counter[Key] = Counter()
    for (pool, chain), size in cohorts.items():
        for act in part.fleet.chains[chain].acts:
            for key in _added(pool, act) if act.down else ():
                nodes[key] += size
    held = sorted(key for key, count in nodes.items() if count > canaries[key[0]])
    for key in held:
        rule = part.fleet.pools[key[0]]
        part.gate.append(Gate(key[0], canaries[key[0]], rule.growth, rule.soak_minutes, nodes[key]))
    return {key: number for number, key in enumerate(held)}


def _trackers(part: Part, ties: Ties) -> dict[tuple[int, str], int]:
    if not ties.tracked:
        return {}
    places = dict(part.fleet.rule.skew)
    found = {key: Counter[Value]() for key in ties.tracked}
    mine: set[tuple[int, str]] = set()
    for number, size in zip(part.bunches, part.sizes, strict=True):
        bunch = part.fleet.bunches[number]
        for kind, value in part.fleet.chains[bunch.chain].start:
            if bunch.comm_domain is not None and (bunch.comm_domain, kind) in found:
                found[bunch.comm_domain, kind][value] += size
                mine.add((bunch.comm_domain, kind))
    part.trackers = [Tracker(places[kind], found[domain, kind]) for domain, kind in sorted(mine)]
    return {key: number for number, key in enumerate(sorted(mine))}
