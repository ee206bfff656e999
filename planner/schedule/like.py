"""Replanning: nodes that did not change stay in the batches of an earlier plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from planner.model.target import RolloutPolicy
from planner.schedule.limits import Ceilings, Room, Unit
from planner.schedule.plan import Plan
from planner.schedule.waves import Key, UnitBatch, grow

Waves = tuple[tuple[UnitBatch, ...], ...]


def old_canaries(old: Plan, units: Iterable[Unit]) -> tuple[Unit, ...]:
    """Return the units that were canaries before."""
    names = {n for w in old.waves if w.kind == "canary" for b in w.batches for n in b.nodes}
    return tuple(u for u in units if names.issuperset(u.nodes))


def keep_batches(old: Plan, later: Iterable[Unit], ceilings: Ceilings, key: Key,
                 policies: Mapping[str, RolloutPolicy], canaries: Mapping[str, int]) -> Waves:
    """Return waves of batches in which as many units as possible are where an earlier plan had them.

    What left a batch is replaced by units that have no place yet, else by units of the last batches: a batch that
    shrank would let the next one grow less. What is left over moves at the end.

    Args:
        old: The earlier plan.
        later: Units that move behind the canaries.
        ceilings: What a batch may take.
        key: Order of communication domains.
        policies: Policy of every pool.
        canaries: Canary nodes per pool.
    """
    units = {n: u for u in later for n in u.nodes}
    shape = [list(w.batches) for w in old.waves if w.kind == "batch"]
    sizes = [Counter(old.nodes[n].pool for n in b.nodes) for wave in shape for b in wave]
    batches: list[list[Unit]] = []
    for batch in (b for wave in shape for b in wave):
        members = dict.fromkeys(units[n] for n in batch.nodes if n in units)
        batches.append([u for u in members if set(u.nodes) <= set(batch.nodes)])
    placed = {u for batch in batches for u in batch}
    free = sorted((u for u in dict.fromkeys(units.values()) if u not in placed), key=lambda u: (key(u), u.nodes))
    for at, size in enumerate(sizes):
        _fill(batches, at, size, free, ceilings)
    waves: list[tuple[UnitBatch, ...]] = []
    for wave in shape:
        kept = tuple(tuple(batches.pop(0)) for _ in wave)
        waves.append(tuple(batch for batch in kept if batch))
    if free:
        before = _last(waves, canaries)
        waves += [(batch,) for batch in grow(free, ceilings, key, policies, before)]
    return tuple(wave for wave in waves if wave)


def _fill(batches: list[list[Unit]], at: int, size: Counter[str], free: list[Unit], ceilings: Ceilings) -> None:
    """Make a batch as large as it was: from what has no place, else from the last batches."""
    room = Room(ceilings)
    for unit in batches[at]:
        room.take(unit)

    def fits(unit: Unit) -> bool:
        return room.fits(unit, {}) and all(room.taken[p] + n <= size[p] for p, n in unit.pools)

    for source in (free, *batches[:at:-1]):
        for unit in [u for u in source if fits(u)]:
            if fits(unit):
                source.remove(unit)
                batches[at].append(unit)
                room.take(unit)


def _last(waves: Iterable[tuple[UnitBatch, ...]], canaries: Mapping[str, int]) -> dict[str, int]:
    """Return how many nodes the last batch of each pool has; canaries count where there is none."""
    found = dict(canaries)
    for batch in (b for wave in waves for b in wave):
        found |= Counter({p: n for p, n in _counts(batch).items() if n})
    return found


def _counts(batch: UnitBatch) -> Counter[str]:
    total: Counter[str] = Counter()
    for unit in batch:
        total.update(dict(unit.pools))
    return total
