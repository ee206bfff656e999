"""The order in which a part of a fleet is placed: the best of a few greedy orders, then a short local search.

The search counts trials, never time, and draws from a generator of its own, so that equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from planner.schedule.timeline.compiled import NONE, Part
from planner.schedule.timeline.engine import Run, Style, simulate

_SHIFTS_PERCENT = 25      # of trials that hold an item back, against those that change the order
_NEXT_STARTS = 6          # how many starts of others an item may be held for
_SEED = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


@dataclass(slots=True)
class _Draw:
    """A small generator of numbers (xorshift), the same everywhere."""

    state: int = _SEED

    def below(self, limit: int) -> int:
        """Return a number from 0 to below ``limit``."""
        x = self.state
        x ^= (x << 13) & _MASK
        x ^= x >> 7
        x ^= (x << 17) & _MASK
        self.state = x
        return (x >> 11) % limit


def _score(run: Run) -> tuple[int, int, int]:
    """Return what is to be small: what never starts, the makespan, then the sum of the ends."""
    return len(run.stuck), run.makespan, sum(run.ends)


def place(part: Part) -> Run:
    """Return the timetable of the first greedy order: longest remaining chain first."""
    return simulate(part, _ordered(part, _keys(part)[0]))


def improve(part: Part, run: Run, bound: int, trials: int) -> tuple[Run, int]:
    """Return the best timetable of at most ``trials`` trials, and how many were made; stops at ``bound`` minutes."""
    tried = [(_ordered(part, key), Style(quick=quick)) for key in _keys(part) for quick in (False, True)]
    best, made = (run, *tried[0]), 0
    for order, style in tried[1:]:
        if made >= trials or (best[0].makespan <= bound and not best[0].stuck):
            return best[0], made
        best = min(best, (simulate(part, order, style), order, style), key=lambda r: _score(r[0]))
        made += 1
    if part.members and made < trials:
        patient = Style(True, best[2].quick)
        best = min(best, (simulate(part, best[1], patient), best[1], patient), key=lambda r: _score(r[0]))
        made += 1
    found, climbed = _climb(part, *best, bound, trials - made)
    return found, made + climbed


def _ordered(part: Part, key: Callable[[int], tuple[int, ...]]) -> list[int]:
    return sorted(range(part.items), key=lambda item: (*key(item), item))


def _keys(part: Part) -> list[Callable[[int], tuple[int, ...]]]:
    """Return sort keys of items: longest remaining chain first, domain by domain, and the furthest node first."""
    slots = len(part.bunch)
    heads = [*range(slots), *(members[0] for members in part.members)]
    whole = [sum(act.minutes for act in part.fleet.chains[part.fleet.bunches[n].chain].acts) for n in part.bunches]
    domains = [part.fleet.bunches[n].comm_domain for n in part.bunches]
    domain = [NONE if d is None else d for d in domains]
    nodes: dict[int, int] = {}
    for local, d in enumerate(domain):
        nodes[d] = nodes.get(d, 0) + part.sizes[local]

    def longest(item: int) -> tuple[int, ...]:
        slot = heads[item]
        return -part.tail[slot], domain[part.bunch[slot]], part.bunch[slot]

    def by_domain(item: int) -> tuple[int, ...]:
        slot = heads[item]
        bunch = part.bunch[slot]
        return -whole[bunch], domain[bunch], -part.tail[slot], bunch

    def small_first(item: int) -> tuple[int, ...]:
        slot = heads[item]
        bunch = part.bunch[slot]
        return -part.tail[slot], nodes[domain[bunch]], domain[bunch], bunch

    def furthest(item: int) -> tuple[int, ...]:
        slot = heads[item]
        return part.tail[slot], domain[part.bunch[slot]], part.bunch[slot]

    pilots = _pilots(part, domain, nodes)

    def pilots_first(item: int) -> tuple[int, ...]:
        slot = heads[item]
        bunch = part.bunch[slot]
        return int(domain[bunch] not in pilots), -part.tail[slot], nodes[domain[bunch]], domain[bunch], bunch

    def by_size(item: int) -> tuple[int, ...]:
        slot = heads[item]
        bunch = part.bunch[slot]
        return nodes[domain[bunch]], domain[bunch], -part.tail[slot], bunch

    return [longest, pilots_first, by_size, small_first, by_domain, furthest]


def _pilots(part: Part, domain: list[int], nodes: dict[int, int]) -> set[int]:
    """Return small communication domains that together put on every version that has to spread."""
    puts: dict[int, set[int]] = {}
    for slot, gates in enumerate(part.gates):
        puts.setdefault(domain[part.bunch[slot]], set()).update(gates)
    missing, chosen = set().union(*puts.values()) if puts else set(), set()
    for number in sorted(puts, key=lambda d: (nodes[d], d)):
        if missing & puts[number]:
            chosen.add(number)
            missing -= puts[number]
    return chosen


@dataclass(frozen=True, slots=True)
class _At:
    """Where the search stands: an order, first minutes of some items, and what they lead to."""

    order: list[int]
    hold: tuple[tuple[int, int], ...]
    run: Run

    @property
    def score(self) -> tuple[int, int, int]:
        """Return what is to be small."""
        return _score(self.run)


def _climb(part: Part, run: Run, order: list[int], style: Style, bound: int, trials: int) -> tuple[Run, int]:
    """Change order and first minutes where it may help, keep what is no worse, and return the best timetable seen."""
    best, here, draw = run, _At(order, style.hold, run), _Draw()
    late = _last(part, run)
    for made in range(trials):
        if best.makespan <= bound and not best.stuck:
            return best, made
        order, hold = here.order, here.hold
        shifts = draw.below(100) < _SHIFTS_PERCENT
        if shifts:
            hold = _shifted(part, here, draw)
        if not shifts or draw.below(3) == 0:
            order = _moved(part, order, late, draw)
        trial = _At(order, hold, simulate(part, order, Style(style.patient, style.quick, hold)))
        if trial.score <= here.score:
            here, late = trial, _last(part, trial.run)
            if trial.score[:2] <= _score(best)[:2]:
                best = trial.run
    return best, max(0, trials)


def _last(part: Part, run: Run) -> list[int]:
    """Return the items of the bunches that end last."""
    late = {bunch for bunch, end in enumerate(run.ends) if end == run.makespan}
    return [_item(part, s) for s in range(len(part.bunch)) if part.bunch[s] in late]


def _item(part: Part, slot: int) -> int:
    return slot if part.gang[slot] == NONE else part.gang[slot] + len(part.bunch)


def _domain(part: Part, item: int) -> tuple[int, int]:
    """Return the communication domain of an item, or the bunch where there is none."""
    slots = len(part.bunch)
    bunch = part.bunch[item if item < slots else part.members[item - slots][0]]
    domain = part.fleet.bunches[part.bunches[bunch]].comm_domain
    return (NONE, bunch) if domain is None else (domain, NONE)


def _moved(part: Part, order: list[int], late: list[int], draw: _Draw) -> list[int]:
    """Return an order with a communication domain, or one or two items, elsewhere; half the time of a late bunch."""
    changed = list(order)
    item = late[draw.below(len(late))] if late and draw.below(2) else changed[draw.below(len(changed))]
    if draw.below(3) == 0:
        home = _domain(part, item)
        mates = [other for other in order if _domain(part, other) == home]
        left = [other for other in order if _domain(part, other) != home]
        towards = draw.below(len(left) + 1) if draw.below(2) else 0
        return left[:towards] + mates + left[towards:]
    for turn in range(1 + draw.below(2)):
        if turn:
            item = changed[draw.below(len(changed))]
        position = changed.index(item)
        changed.pop(position)
        towards = draw.below(position + 1) if draw.below(2) else draw.below(len(changed) + 1)
        changed.insert(towards, item)
    return changed


def _shifted(part: Part, here: _At, draw: _Draw) -> tuple[tuple[int, int], ...]:
    """Return first minutes with one item held until one of the next starts of others, or with one set free."""
    hold = dict(here.hold)
    if hold and draw.below(3) == 0:
        del hold[sorted(hold)[draw.below(len(hold))]]
        return tuple(sorted(hold.items()))
    item = here.order[draw.below(len(here.order))]
    first = min((minute for slot, minute, _, _ in here.run.starts if _item(part, slot) == item), default=0)
    later = sorted({minute for _, minute, _, _ in here.run.starts if minute > first})
    if later:
        hold[item] = later[min(len(later) - 1, draw.below(_NEXT_STARTS))]
    return tuple(sorted(hold.items()))
