"""Batches: as many units at once as limits and growth allow, pools side by side, communication domains one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import groupby

from planner.model.target import RolloutPolicy
from planner.schedule.limits import Ceilings, Room, Unit

Key = Callable[[Unit], tuple[int, str, str]]     # place of a unit's communication domain, and of its cohort
UnitBatch = tuple[Unit, ...]


_SORTS = 16      # the buckets of a queue are sorted again when as many units left as this part of them


class _Queue:
    """Units of one pool in rollout order.

    Alike units (same communication domain, same counts) share a bucket: when its head does not fit into a batch, none
    of it does, and the whole bucket is passed over. That keeps 10,000 nodes with a limit of one fast. Where failure
    domains have limits, the one with most left to do for its limit comes first: what is left of one domain at the end
    would go in as many small batches.
    """

    def __init__(self, units: Iterable[Unit], pool: str, key: Key, ceilings: Ceilings) -> None:
        def alike(unit: Unit) -> tuple[object, ...]:
            return (key(unit), unit.failure_domains, unit.pools, unit.places)

        ordered = sorted(units, key=lambda u: (key(u), u.failure_domains, u.pools, u.nodes))
        self.pool = pool
        self.length = len(ordered)
        self._buckets = [deque(found) for _, found in groupby(ordered, key=alike)]
        self._parts = [list(found) for _, found in groupby(self._buckets, key=lambda bucket: key(bucket[0]))]
        # Of each bucket, what its failure domains allow; 0: anything.
        limits = {id(bucket): min((limit for place in bucket[0].places if (
            limit := ceilings.failure_domains.get(place)) is not None), default=0) for bucket in self._buckets}
        self._sorted_at = self.length + len(ordered)      # nodes that were left when the buckets were last sorted
        self._limits, self._spread = limits, any(limits.values())
        self._smallest = min(dict(u.pools)[pool] for u in ordered)
        self._head = self._cursor = 0

    def rewind(self) -> None:
        """Start again at the front, for a new batch."""
        if self._spread and (self._sorted_at - self.length) * _SORTS >= len(self._buckets):
            self._parts = [left for part in self._parts if (left := [b for b in part if b])]
            self._buckets = [b for part in self._parts for b in sorted(part, key=self._least_left)]
            self._sorted_at, self._head = self.length, 0
        while self._head < len(self._buckets) and not self._buckets[self._head]:
            self._head += 1
        self._cursor = self._head

    def _least_left(self, bucket: deque[Unit]) -> float:
        """Return how much is left to do in the failure domains of a bucket, for their limit; most is least."""
        limit = self._limits[id(bucket)]
        return -len(bucket) / limit if limit else 0.0

    def pop_fitting(self, room: Room, caps: Mapping[str, int]) -> Unit | None:
        """Return the next unit that the batch has room for, counted there; None when there is none."""
        cap = caps.get(self.pool)
        left = room.left(self.pool) if cap is None else min(room.left(self.pool), cap - room.taken[self.pool])
        if left < self._smallest:
            return None
        while self._cursor < len(self._buckets):
            bucket = self._buckets[self._cursor]
            if bucket and room.fits(bucket[0], caps):
                room.take(bucket[0])
                self.length -= 1
                return bucket.popleft()
            self._cursor += 1
        return None


class Packer:
    """Takes batch after batch from units that each fit the ceilings alone, so that every batch takes something."""

    def __init__(self, units: Iterable[Unit], ceilings: Ceilings, key: Key) -> None:
        by_pool: dict[str, list[Unit]] = {}
        for unit in units:
            by_pool.setdefault(unit.pools[0][0], []).append(unit)
        self._ceilings = ceilings
        self._queues = [_Queue(found, pool, key, ceilings) for pool, found in sorted(by_pool.items())]

    def next_batch(self, caps: Mapping[str, int]) -> tuple[UnitBatch, Room]:
        """Return the next batch and what it took; an empty one when nothing is left.

        Args:
            caps: Pool -> nodes that growth allows. A pool whose next unit is larger than its cap moves that unit alone,
                because an NVLink domain cannot be split.
        """
        room = Room(self._ceilings)
        batch: list[Unit] = []
        active = [q for q in self._queues if q.length]
        for queue in active:
            queue.rewind()
        while active:
            taken = [(queue, queue.pop_fitting(room, caps)) for queue in active]
            batch += [unit for _, unit in taken if unit is not None]
            active = [queue for queue, unit in taken if unit is not None]
        for queue in self._queues:
            if queue.length and not room.taken[queue.pool]:
                queue.rewind()
                unit = queue.pop_fitting(room, {p: c for p, c in caps.items() if room.taken[p]})
                batch += [unit] if unit is not None else []
        return tuple(batch), room


def pack(units: Iterable[Unit], ceilings: Ceilings, key: Key) -> tuple[UnitBatch, ...]:
    """Return batches of a staging or canary wave: limits hold, growth does not matter."""
    packer = Packer(units, ceilings, key)
    batches: list[UnitBatch] = []
    while batch := packer.next_batch({})[0]:
        batches.append(batch)
    return tuple(batches)


def grow(units: Iterable[Unit], ceilings: Ceilings, key: Key, policies: Mapping[str, RolloutPolicy],
         canaries: Mapping[str, int]) -> tuple[UnitBatch, ...]:
    """Return batches after the canaries; in each pool at most ``growth`` times as many nodes as in its batch before.

    Args:
        units: What is left to move.
        ceilings: What a batch may take.
        key: Order of communication domains.
        policies: Policy of every pool.
        canaries: Canary nodes per pool; the first batch grows from these, at least from one.
    """
    units = tuple(units)
    before = {pool: max(1, canaries.get(pool, 0)) for pool in sorted({p for u in units for p, _ in u.pools})}
    packer = Packer(units, ceilings, key)
    batches: list[UnitBatch] = []
    while True:
        caps = {pool: growth_cap(policies[pool].growth, count) for pool, count in before.items()}
        batch, room = packer.next_batch(caps)
        if not batch:
            return tuple(batches)
        batches.append(batch)
        before |= {pool: count for pool, count in room.taken.items() if count}


def growth_cap(growth: float, before: int) -> int:
    """Return the size of a batch after one of ``before`` nodes, rounded down; decimals as written (1.1 * 10 is 11)."""
    return int(Fraction(str(growth)) * before)


def waves_of(batches: Iterable[UnitBatch], *, alone: bool) -> tuple[tuple[UnitBatch, ...], ...]:
    """Split batches into waves: each larger batch than any before starts one; with ``alone`` every batch does."""
    waves: list[list[UnitBatch]] = []
    largest = 0
    for batch in batches:
        size = sum(len(u.nodes) for u in batch)
        if alone or size > largest:
            waves.append([])
        largest = max(largest, size)
        waves[-1].append(batch)
    return tuple(tuple(w) for w in waves)
