"""What the timetable is made from and what it is: bunches of alike nodes, rules, placements, refusals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What one act does to one component kind.

    ``old`` and ``new`` are the installed versions before and after, as places in the kind's order of versions
    (0 is the oldest), ascending; a kind with one version at a time has tuples of one.
    """

    kind: str
    old: tuple[int, ...]
    new: tuple[int, ...]

    @property
    def adds(self) -> tuple[int, ...]:
        """Return the places that are put on."""
        return tuple(place for place in self.new if place not in self.old)


@dataclass(frozen=True, slots=True)
class Act:
    """One step of a path: what changes, how many minutes it takes, and whether the node is out of service."""

    changes: tuple[Change, ...]
    minutes: int
    down: bool


@dataclass(frozen=True, slots=True)
class Chain:
    """The path of one cohort. ``start`` holds the places of every kind that a fleet rule watches."""

    acts: tuple[Act, ...]
    start: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Bunch:
    """Nodes that differ in nothing the timetable looks at.

    ``nodes`` are index ranges, both ends included; ``chain`` is an index into the fleet's chains. Nodes that have
    nothing to do belong here, too: they count in their domains.
    """

    nodes: Ranges
    pool: int
    failure_domain: int
    chain: int
    comm_domain: int | None = None
    nvlink_domain: int | None = None

    @property
    def size(self) -> int:
        """Return how many nodes there are."""
        return sum(hi - lo + 1 for lo, hi in self.nodes)


@dataclass(frozen=True, slots=True)
class Window:
    """Maintenance windows that repeat every ``period_minutes``; ``open`` are intervals inside one period."""

    period_minutes: int
    open: Ranges

    def next_start(self, minute: int, minutes: int) -> int | None:
        """Return the first start at or after ``minute`` from which ``minutes`` fit; None if no window is that long."""
        base = minute - minute % self.period_minutes
        found = []
        for opens, closes in self.open:
            last = min(closes - minutes, self.period_minutes - 1)
            for begin in (base, base + self.period_minutes):
                start = max(minute, begin + max(opens, 0))
                if start <= begin + last:
                    found.append(start)
                    break
        return min(found, default=None)


@dataclass(frozen=True, slots=True)
class PoolRule:
    """How many nodes of a pool may be out of service, and how fast a new version may spread in it.

    At the start of an act, the nodes that have started to put a version on are at most the canary or ``growth``
    times the nodes that finished it ``soak_minutes`` ago. The canary is at least the pool's largest NVLink domain.
    """

    max_unavailable: int
    canary: int
    growth: float
    soak_minutes: int
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class FleetRule:
    """What holds across pools.

    Within a communication domain, ``equal`` kinds differ for at most ``max_mixed_minutes`` at a time and ``skew`` kinds
    by at most the given places. An act that changes a ``nvlink_atomic`` kind is done on a whole NVLink domain at once.
    """

    failure_domain_max_unavailable: int
    equal: tuple[str, ...] = ()
    max_mixed_minutes: int = 0
    skew: tuple[tuple[str, int], ...] = ()
    nvlink_atomic: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything that is known before the first act."""

    chains: tuple[Chain, ...]
    bunches: tuple[Bunch, ...]
    pools: tuple[PoolRule, ...]
    rule: FleetRule


@dataclass(frozen=True, slots=True, order=True)
class Placement:
    """Act number ``act`` of a chain starts at minute ``start`` on ``nodes`` (index ranges, both ends included)."""

    start: int
    chain: int
    act: int
    nodes: Ranges


class Cause(Enum):
    """Why no timetable exists, or why none was found."""

    NVLINK_SIZE = "an NVLink domain is larger than a limit on nodes out of service"
    NVLINK_STEPS = "the nodes of an NVLink domain do not take the same steps"
    WINDOW = "an act is longer than every window"
    EQUAL_STARTS = "the nodes of a communication domain start with versions that must be equal, and are not"
    EQUAL_STEPS = "the nodes of a communication domain do not take the same steps in a kind that must be equal"
    EQUAL_SIZE = "a communication domain that must switch at once is larger than a limit on nodes out of service"
    SKEW_STARTS = "the nodes of a communication domain start further apart than allowed"
    SKEW_HOP = "a hop is larger than the distance allowed in the communication domain"
    NO_CAPACITY = "a pool or failure domain lets no node out of service"
    STUCK = "acts wait for each other, or for a share of finished nodes that cannot be reached"


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """One reason. ``size`` is what was found and ``limit`` what is allowed, in nodes, minutes or places."""

    cause_name: str
    pool: int
    kinds: tuple[str, ...]
    chains: tuple[int, ...]
    domain: int
    size: int
    limit: int

    @property
    def cause(self) -> Cause:
        """Return the cause."""
        return Cause[self.cause_name]


@dataclass(frozen=True, slots=True, order=True)
class HopLimit:
    """A new path would help: hops of ``kind`` of at most ``places`` for the cohort of ``chain``."""

    chain: int
    kind: str
    places: int


@dataclass(frozen=True, slots=True, order=True)
class LengthLimit:
    """A new path would help: no act on ``kinds`` together longer than ``minutes`` for the cohort of ``chain``."""

    chain: int
    kinds: tuple[str, ...]
    minutes: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """Minutes that no timetable can undercut, each for its own reason; 0 where a reason says nothing."""

    chain: int = 0
    capacity: int = 0
    growth: int = 0
    joint: int = 0

    @property
    def best(self) -> int:
        """Return the largest."""
        return max(self.chain, self.capacity, self.growth, self.joint)


@dataclass(frozen=True, slots=True)
class Timetable:
    """A schedule that keeps every rule, its length in minutes, and bounds per pool (pool -> bounds, makespan)."""

    placements: tuple[Placement, ...]
    makespan: int
    bounds: tuple[Bounds, ...]
    pool_makespans: tuple[int, ...]

    @property
    def lower_bound(self) -> int:
        """Return minutes that no timetable of this fleet can undercut."""
        return max((bound.best for bound in self.bounds), default=0)


@dataclass(frozen=True, slots=True)
class Refused:
    """No timetable: reasons, and the limits under which a new search for paths may help."""

    refusals: tuple[Refusal, ...]
    hops: tuple[HopLimit, ...] = ()
    lengths: tuple[LengthLimit, ...] = ()


def joined(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Return ranges in order, neighbours joined."""
    found: list[tuple[int, int]] = []
    for lo, hi in sorted(ranges):
        if found and lo <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(hi, found[-1][1]))
        else:
            found.append((lo, hi))
    return tuple(found)
