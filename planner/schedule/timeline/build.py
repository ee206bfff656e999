"""From a fleet to its timetable: what binds, parts, placing, bounds, and reasons where nothing fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from planner.schedule.timeline.bounds import pool_bounds
from planner.schedule.timeline.compiled import Part, split
from planner.schedule.timeline.engine import Run
from planner.schedule.timeline.gangs import Ties, find_ties
from planner.schedule.timeline.mixing import mixed_too_long
from planner.schedule.timeline.model import (
    Bounds,
    Bunch,
    Fleet,
    HopLimit,
    Placement,
    Ranges,
    Refusal,
    Refused,
    Timetable,
    joined,
)
from planner.schedule.timeline.search import improve, place

TRIALS = 1500         # for each part of a fleet
GREEDY_TRIALS = 7     # orders to begin with
FINE_NODES = 64       # parts up to this size are placed node by node, too
WORK = 100_000        # placed acts in all trials of a fleet, one to two seconds: longest parts first


def build_timetable(fleet: Fleet, trials: int = TRIALS) -> Timetable | Refused:
    """Return a timetable that keeps every rule, or why there is none.

    The order of ``fleet.bunches`` does not matter. ``trials`` limits the local search in each part of the fleet that
    shares nothing with the rest. ``Refused`` with the cause ``STUCK`` means that none was found; all other causes prove
    that these paths have none.
    """
    fleet = replace(fleet, bunches=gathered(fleet.bunches))
    ties = find_ties(fleet)
    if isinstance(ties, Refused):
        return ties
    bounds = pool_bounds(fleet, ties)
    placements: list[Placement] = []
    ends = [0] * len(fleet.pools)
    for part, run in _placed(split(fleet, ties), bounds, trials):
        if run.stuck:
            return _stuck(part, run, ties)
        placements += _placements(part, run)
        for number, end in zip(part.bunches, run.ends, strict=True):
            pool = part.fleet.bunches[number].pool
            ends[pool] = max(ends[pool], end)
    late = mixed_too_long(fleet, ties.mixed, placements) if ties.mixed else ()
    if late:
        return Refused(late)
    return Timetable(tuple(sorted(placements)), max(ends, default=0), bounds, tuple(ends))


def _placed(parts: list[Part], bounds: tuple[Bounds, ...], trials: int) -> list[tuple[Part, Run]]:
    """Place every part, then improve them within the limits of work, those that end last first.

    A part that ends before the fleet can is not worth a search: it gets the greedy orders only.
    """
    runs = [place(part) for part in parts]
    work, floor = WORK, max((bound.best for bound in bounds), default=0)
    for number in sorted(range(len(parts)), key=lambda n: (not runs[n].stuck, -runs[n].makespan, n)):
        bound = max((bounds[pool].best for pool in parts[number].pools), default=0)
        cost = max(1, len(runs[number].starts))
        allowed = min(trials, work // cost, trials if runs[number].makespan > floor else GREEDY_TRIALS)
        small = sum(parts[number].sizes) <= FINE_NODES
        runs[number], made = improve(parts[number], runs[number], bound, allowed // 2 if small else allowed)
        work -= made * cost
        if small and made < allowed and (runs[number].stuck or runs[number].makespan > bound):
            parts[number], runs[number] = _finer(parts[number], runs[number], bound, allowed - made)
            work -= (allowed - made) * cost
        floor = max(floor, runs[number].makespan)
    return list(zip(parts, runs, strict=True))


def _finer(part: Part, run: Run, bound: int, trials: int) -> tuple[Part, Run]:
    """Place a small part node by node, where alike nodes may go separate ways; return it if that is shorter."""
    singles = [replace(part.fleet.bunches[number], nodes=((node, node),))
               for number in part.bunches for lo, hi in part.fleet.bunches[number].nodes for node in range(lo, hi + 1)]
    fleet = replace(part.fleet, bunches=tuple(sorted(singles, key=lambda bunch: bunch.nodes)))
    ties = find_ties(fleet)
    if isinstance(ties, Refused):
        return part, run
    fine = split(fleet, ties)[0]
    found, _ = improve(fine, place(fine), bound, trials)
    better = (len(found.stuck), found.makespan) < (len(run.stuck), run.makespan)
    return (fine, found) if better else (part, run)


def gathered(bunches: Iterable[Bunch]) -> tuple[Bunch, ...]:
    """Return bunches in the order of their first nodes, those that differ in nothing but nodes made one."""
    groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for bunch in bunches:
        key = (bunch.pool, bunch.failure_domain, bunch.chain, -1 if bunch.comm_domain is None else bunch.comm_domain,
               -1 if bunch.nvlink_domain is None else bunch.nvlink_domain)  # fmt: skip
        groups.setdefault(key, []).extend(bunch.nodes)
    made = [
        Bunch(joined(nodes), pool, failure, chain, None if comm < 0 else comm, None if nvlink < 0 else nvlink)
        for (pool, failure, chain, comm, nvlink), nodes in groups.items()
    ]
    return tuple(sorted(made, key=lambda bunch: bunch.nodes))


def _stuck(part: Part, run: Run, ties: Ties) -> Refused:
    """Say what never started; hops that had to be taken by a whole domain at once may be what holds it up."""
    fleet = part.fleet
    found: set[Refusal] = set()
    chains: set[int] = set()
    for slot in run.stuck:
        bunch = fleet.bunches[part.bunches[part.bunch[slot]]]
        act = fleet.chains[bunch.chain].acts[part.act[slot]]
        chains.add(bunch.chain)
        kinds = tuple(sorted(change.kind for change in act.changes))
        domain = -1 if bunch.comm_domain is None else bunch.comm_domain
        found.add(Refusal("STUCK", bunch.pool, kinds, (bunch.chain,), domain, bunch.size, 0))
    hops: tuple[HopLimit, ...] = tuple(hop for hop in ties.hopping if hop.chain in chains and hop.places > 0)
    return Refused(tuple(sorted(found)), hops)


def _placements(part: Part, run: Run) -> list[Placement]:
    """Return a part's placements: decided acts, the free ones that follow on them, and those that chains begin with."""
    fleet = part.fleet
    nodes: dict[tuple[int, int, int], list[tuple[int, int]]] = {}

    def add(local: int, act: int, minute: int, chosen: Ranges) -> None:
        nodes.setdefault((minute, fleet.bunches[part.bunches[local]].chain, act), []).extend(chosen)

    def add_free(local: int, act: int, minute: int, until: int, chosen: Ranges) -> None:
        acts = fleet.chains[fleet.bunches[part.bunches[local]].chain].acts
        for position in range(act, until if until >= 0 else len(acts)):
            add(local, position, minute, chosen)
            minute += acts[position].minutes

    for local, slot in enumerate(part.first):
        add_free(local, 0, 0, part.act[slot] if slot >= 0 else -1, fleet.bunches[part.bunches[local]].nodes)
    for slot, minute, first, count in run.starts:
        local = part.bunch[slot]
        bunch = fleet.bunches[part.bunches[local]]
        chosen = bunch.nodes if count == part.sizes[local] else _sliced(bunch.nodes, first, count)
        add(local, part.act[slot], minute, chosen)
        follows = part.follows[slot]
        if part.delay[slot] or follows < 0 or part.act[follows] > part.act[slot] + 1:
            until = part.act[follows] if follows >= 0 else -1
            add_free(local, part.act[slot] + 1, minute + part.minutes[slot], until, chosen)
    return [Placement(start, chain, act, joined(ranges)) for (start, chain, act), ranges in nodes.items()]


def _sliced(nodes: Ranges, first: int, count: int) -> Ranges:
    """Return ``count`` nodes from number ``first`` on."""
    found = []
    for lo, hi in nodes:
        size = hi - lo + 1
        if first < size and count > 0:
            taken = min(size - first, count)
            found.append((lo + first, lo + first + taken - 1))
            count -= taken
        first = max(0, first - size)
    return tuple(found)
