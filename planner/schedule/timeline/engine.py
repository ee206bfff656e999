"""Event-driven list scheduling of one part of a fleet: at every event, items start in order of rank as rules allow.

Events are ends of acts, ends of soaks, arrivals at an act that needs a decision, and openings of windows. An order is a
permutation of items; everything else follows from it, so equal orders give equal timetables.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import floor

from planner.schedule.timeline.compiled import NONE, Part, Value

_RELEASE, _SOAKED, _ARRIVE, _OPEN = 0, 1, 2, 3
_NO_HURRY = 1 << 30
_TRIES = 1000     # windows that have not met by then do not meet


@dataclass(frozen=True, slots=True)
class Run:
    """What one order leads to.

    ``starts`` are (slot, minute, first node of the bunch, nodes); ``ends`` are the minutes at which bunches are done;
    ``stuck`` are slots that could never start.
    """

    makespan: int
    starts: list[tuple[int, int, int, int]]
    ends: list[int]
    stuck: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """How an order is read.

    ``patient``: nothing of lower rank takes the room that a gang waits for. ``quick``: where canary and growth leave
    less than the room, the shortest acts go first: a version spreads sooner. ``hold``: first minutes of items.
    """

    patient: bool = False
    quick: bool = False
    hold: tuple[tuple[int, int], ...] = ()


def simulate(part: Part, order: list[int], style: Style = Style()) -> Run:
    """Return the timetable of an order (items, most urgent first)."""
    return _Simulation(part, order, style).run()


class _Simulation:
    def __init__(self, part: Part, order: list[int], style: Style) -> None:
        self.part, self.order, self.style, self.hold = part, order, style, dict(style.hold)
        self.slots = slots = len(part.bunch)
        self.rank = [0] * part.items
        for rank, item in enumerate(order):
            self.rank[item] = rank
        self.ready, self.taken = [0] * slots, [0] * slots
        self.gathered = [0] * len(part.members)
        self.wanted = [sum(part.sizes[part.bunch[s]] for s in members) for members in part.members]
        self.room = {pool: part.fleet.pools[pool].max_unavailable for pool in part.pools}
        self.failure_room = [part.fleet.rule.failure_domain_max_unavailable] * part.failures
        self.started, self.soaked = [0] * len(part.gate), [0] * len(part.gate)
        self.quota = [gate.canary for gate in part.gate]
        self.queues: dict[int, dict[tuple[int, ...], list[int]]] = {pool: {} for pool in part.pools}
        self.soft: list[int] = []
        self.events: dict[int, list[tuple[int, int, int]]] = {}
        self.times: list[int] = []
        self.starts: list[tuple[int, int, int, int]] = []
        self.ends = [0] * len(part.sizes)
        self.versions = [Counter(tracker.start) for tracker in part.trackers]
        self.flying: list[list[tuple[int, Value, Value, int]]] = [[] for _ in part.trackers]

    def run(self) -> Run:
        part = self.part
        for bunch, (slot, lead) in enumerate(zip(part.first, part.lead, strict=True)):
            self._after(bunch, slot, lead, part.sizes[bunch])
        while self.times:
            now = heappop(self.times)
            for kind, what, nodes in self.events.pop(now):
                if kind == _ARRIVE:
                    self._arrive(what, nodes)
                elif kind == _RELEASE:
                    self._release(what, nodes)
                elif kind == _SOAKED:
                    self._soak(what, nodes)
            if self.soft:
                self._dispatch_soft(now)
            for pool in part.pools:
                if self.room[pool] > 0 and self.queues[pool]:
                    self._dispatch(pool, now)
        stuck = tuple(s for s in range(self.slots) if self.taken[s] < part.sizes[part.bunch[s]])
        return Run(max(self.ends, default=0), self.starts, self.ends, stuck)

    # --- events ---------------------------------------------------------------------------------------------------

    def _at(self, minute: int, kind: int, what: int, nodes: int) -> None:
        events = self.events.get(minute)
        if events is None:
            self.events[minute] = [(kind, what, nodes)]
            heappush(self.times, minute)
        else:
            events.append((kind, what, nodes))

    def _wake(self, minute: int) -> None:
        """Look again at a minute."""
        if minute not in self.events:
            self._at(minute, _OPEN, 0, 0)

    def _after(self, bunch: int, slot: int, minute: int, nodes: int) -> None:
        """Nodes of a bunch reach their next slot, or their end."""
        if slot != NONE:
            self._at(minute, _ARRIVE, slot, nodes)
        elif minute > self.ends[bunch]:
            self.ends[bunch] = minute

    def _arrive(self, slot: int, nodes: int) -> None:
        part, gang = self.part, self.part.gang[slot]
        fresh = self.ready[slot] == self.taken[slot]
        self.ready[slot] += nodes
        if gang != NONE:
            self.gathered[gang] += nodes
            if self.gathered[gang] < self.wanted[gang]:
                return
            fresh, slot, item = True, part.members[gang][0], self.slots + gang
        else:
            item = slot
        if not fresh:
            return
        if part.down[slot]:
            key = (len(part.members[gang]) if gang != NONE else 0, part.minutes[slot], *part.gates[slot])
            queue = self.queues[part.pool[slot]].setdefault(key, [])
            _insert(queue, self.rank[item])
        else:
            _insert(self.soft, self.rank[item])

    def _release(self, slot: int, nodes: int) -> None:
        part = self.part
        if part.down[slot]:
            self.room[part.pool[slot]] += nodes
            self.failure_room[part.failure[slot]] += nodes
        for tracker, old, new in part.watch[slot]:
            versions = self.versions[tracker]
            versions[old] -= nodes
            versions[new] += nodes
            flying = self.flying[tracker]
            flying.remove(min(f for f in flying if f[1:] == (old, new, nodes)))

    def _soak(self, slot: int, nodes: int) -> None:
        for number in self.part.gates[slot]:
            gate = self.part.gate[number]
            self.soaked[number] += nodes
            self.quota[number] = max(gate.canary, floor(gate.growth * self.soaked[number])) - self.started[number]

    # --- starting -------------------------------------------------------------------------------------------------

    def _start(self, slot: int, minute: int, nodes: int) -> None:
        part = self.part
        self.starts.append((slot, minute, self.taken[slot], nodes))
        self.taken[slot] += nodes
        end = minute + part.minutes[slot]
        watch = part.watch[slot]
        if part.down[slot]:
            self.room[part.pool[slot]] -= nodes
            self.failure_room[part.failure[slot]] -= nodes
            self._at(end, _RELEASE, slot, nodes)
            gates = part.gates[slot]
            if gates:
                for number in gates:
                    self.started[number] += nodes
                    self.quota[number] -= nodes
                self._at(end + part.gate[gates[0]].soak_minutes, _SOAKED, slot, nodes)
        elif watch:
            self._at(end, _RELEASE, slot, nodes)
        for tracker, old, new in watch:
            self.flying[tracker].append((end, old, new, nodes))
        self._after(part.bunch[slot], part.follows[slot], end + part.delay[slot], nodes)

    def _begin(self, item: int, now: int, nodes: int) -> None:
        """Start an item; members of a gang that need no room end together even if they differ in length."""
        if item < self.slots:
            self._start(item, now, nodes)
            return
        members = self.part.members[item - self.slots]
        longest = max(self.part.minutes[s] for s in members)
        for slot in members:
            self._start(slot, now + longest - self.part.minutes[slot], self.part.sizes[self.part.bunch[slot]])

    def _dispatch_soft(self, now: int) -> None:
        """Start what needs no room: switches of whole domains, and acts that only the skew holds back."""
        left = []
        for rank in self.soft:
            item = self.order[rank]
            if self.hold.get(item, 0) > now:
                self._wake(self.hold[item])
            elif self._in_step(item, now, all_nodes := self._waiting(item)):
                self._begin(item, now, all_nodes)
                continue
            left.append(rank)
        self.soft = left

    def _waiting(self, item: int) -> int:
        return self.wanted[item - self.slots] if item >= self.slots else self.ready[item] - self.taken[item]

    def _dispatch(self, pool: int, now: int) -> None:
        queues, room = self.queues[pool], self.room
        heads = [(self._turn(pool, key), queue[0], 0, key)
                 for key, queue in queues.items() if self._open(pool, key, now)]  # fmt: skip
        heapify(heads)
        gone: dict[tuple[int, ...], set[int]] = {}
        while heads and room[pool] > 0:
            turn, rank, position, key = heappop(heads)
            quota = min((self.quota[g] for g in key[2:]), default=room[pool])
            if quota <= 0:
                continue
            item = self.order[rank]
            nodes, full = self._fitting(item, now, quota)
            if nodes:
                whole = nodes == self._waiting(item)
                self._begin(item, now, nodes)
                if whole:
                    gone.setdefault(key, set()).add(rank)
            elif full and self.style.patient:
                break
            if position + 1 < len(queues[key]):
                heappush(heads, (turn, queues[key][position + 1], position + 1, key))
        for key, ranks in gone.items():
            left = [rank for rank in queues[key] if rank not in ranks]
            if left:
                queues[key] = left
            else:
                del queues[key]

    def _turn(self, pool: int, key: tuple[int, ...]) -> int:
        """Return what goes before rank: minutes where versions must spread first, and as much for all others."""
        if not self.style.quick or all(self.quota[gate] >= self.room[pool] for gate in key[2:]):
            return _NO_HURRY
        return key[1]

    def _open(self, pool: int, key: tuple[int, ...], now: int) -> bool:
        """Tell whether a group may start now; if only the window is shut, come back when it opens."""
        for gate in key[2:]:
            if self.quota[gate] <= 0:
                return False
        window = self.part.fleet.pools[pool].window
        if window is None:
            return True
        start = window.next_start(now, key[1])
        if start is not None and start > now:
            self._wake(start)
        return start == now

    def _fitting(self, item: int, now: int, quota: int) -> tuple[int, bool]:
        """Return how many nodes of an item may start now, and whether a gang found no room out of service."""
        part = self.part
        if self.hold and self.hold.get(item, 0) > now:
            self._wake(self.hold[item])
            return 0, False
        if item < self.slots:
            nodes = min(self.ready[item] - self.taken[item], quota, self.room[part.pool[item]],
                        self.failure_room[part.failure[item]])  # fmt: skip
            if nodes <= 0 or (part.watch[item] and not self._in_step(item, now, nodes)):
                return 0, False
            return nodes, False
        members = part.members[item - self.slots]
        if len(members) == 1:
            slot, nodes = members[0], self.wanted[item - self.slots]
            full = nodes > min(self.room[part.pool[slot]], self.failure_room[part.failure[slot]])
            fits = nodes <= quota and not full
        else:
            fits, full = self._gang_fits(members, now)
        if not fits or not self._in_step(item, now, self.wanted[item - self.slots]):
            return 0, full
        return self.wanted[item - self.slots], False

    def _gang_fits(self, members: list[int], now: int) -> tuple[bool, bool]:
        part = self.part
        pools: Counter[int] = Counter()
        failures: Counter[int] = Counter()
        gates: Counter[int] = Counter()
        for slot in members:
            size = part.sizes[part.bunch[slot]]
            pools[part.pool[slot]] += size
            failures[part.failure[slot]] += size
            for gate in part.gates[slot]:
                gates[gate] += size
        full = any(n > self.room[p] for p, n in pools.items()) or any(
            n > self.failure_room[f] for f, n in failures.items())  # fmt: skip
        if full or any(n > self.quota[g] for g, n in gates.items()):
            return False, full
        if len(pools) > 1:
            start = self._common_start(sorted(pools), now, part.minutes[members[0]])
            if start is not None and start > now:
                self._wake(start)
            return start == now, False
        return True, False

    def _common_start(self, pools: list[int], now: int, minutes: int) -> int | None:
        """Return the first minute at which the windows of several pools are open; None if none is found soon."""
        windows = [w for w in (self.part.fleet.pools[p].window for p in pools) if w is not None]
        start = now
        for _ in range(_TRIES):
            starts = [window.next_start(start, minutes) or 0 for window in windows]
            if max(starts, default=start) <= start:
                return start
            start = max(starts)
        return None

    def _in_step(self, item: int, now: int, nodes: int) -> bool:
        """Tell whether the skew stays allowed whatever ends first: what is there, what is under way, and this."""
        part = self.part
        slots = [item] if item < self.slots else part.members[item - self.slots]
        if not any(part.watch[slot] for slot in slots):
            return True
        end = now + max(part.minutes[slot] for slot in slots)
        moving: dict[int, list[tuple[Value, Value, int]]] = {}
        for slot in slots:
            count = nodes if item < self.slots else part.sizes[part.bunch[slot]]
            for tracker, old, new in part.watch[slot]:
                moving.setdefault(tracker, []).append((old, new, count))
        for tracker, moves in moving.items():
            idle = Counter(self.versions[tracker])
            seen: set[Value] = set()
            for old, new, count in moves:
                idle[old] -= count
                seen.add(new)
            for other_end, old, new, count in self.flying[tracker]:
                idle[old] -= count
                seen.add(new)
                if other_end > end:
                    seen.add(old)
            seen |= {value for value, count in idle.items() if count > 0}
            places = [place for value in seen for place in value]
            if max(places) - min(places) > part.trackers[tracker].places:
                return False
        return True


def _insert(queue: list[int], rank: int) -> None:
    """Insert into an ascending list."""
    low, high = 0, len(queue)
    while low < high:
        middle = (low + high) // 2
        if queue[middle] < rank:
            low = middle + 1
        else:
            high = middle
    queue.insert(low, rank)
