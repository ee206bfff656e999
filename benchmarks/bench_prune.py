"""Versions that cannot matter to any cheapest path are left out before the search: ranges and dominance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Parts = tuple[tuple[int, int], ...]       # (variable, mask of versions)


@dataclass(frozen=True, slots=True)
class Clause:
    """Broken where every ``wanted`` part has a version installed and no ``then`` part has."""

    name: str
    wanted: Parts
    then: Parts

    def moved(self, place: Mapping[int, int]) -> Clause:
        """Return the clause over renumbered variables."""
        return Clause(self.name, tuple((place[v], m) for v, m in self.wanted),
                      tuple((place[v], m) for v, m in self.then))

    def broken(self, values: Sequence[int]) -> bool:
        """Tell whether a whole state breaks it."""
        return all(values[v] & m for v, m in self.wanted) and not any(values[v] & m for v, m in self.then)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is wanted of a kind: one of ``within``, or all of ``has`` and none of ``without``."""

    within: int = 0
    has: int = 0
    without: int = 0

    def met(self, value: object) -> bool:
        """Tell whether installed versions meet it."""
        assert isinstance(value, int)
        if self.within:
            return not value & ~self.within
        return value & self.has == self.has and not value & self.without


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of component as the search sees it; versions are bits, the oldest lowest."""

    count: int
    several: bool
    least: int
    most: int
    down: bool
    hop: int | None
    start: int
    goal: Goal | None
    cost: Mapping[str, int]

    def moves(self, value: int, kept: int) -> Iterator[int]:
        """Yield what one legal change makes of some installed versions, ``kept`` ones only."""
        if not self.several:
            here = value.bit_length() - 1
            for at in bits(kept):
                if at != here and (self.down or at > here) and (self.hop is None or abs(at - here) <= self.hop):
                    yield 1 << at
            return
        size = value.bit_count()
        for at in bits(kept):
            other = value ^ (1 << at)
            if (other & ~value and size < self.most) or (not other & ~value and size > self.least):
                yield other


def bits(mask: int) -> Iterator[int]:
    """Yield the places of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def useful(kind: Kind, variable: int, clauses: Sequence[Clause]) -> int:
    """Return the versions of a kind that a cheapest path may need.

    Left out are versions that no path can come back from, and versions that another one can stand in for: it breaks no
    clause that they keep, and helps every clause that they help.
    """
    full = (1 << kind.count) - 1
    against = [0] * kind.count      # clauses that a version helps to break, as bits
    helps = [0] * kind.count
    for number, clause in enumerate(clauses):
        for parts, memory in ((clause.wanted, against), (clause.then, helps)):
            for v, mask in parts:
                if v == variable:
                    for at in bits(mask):
                        memory[at] |= 1 << number

    def stands_in(w: int, v: int) -> bool:
        return not against[w] & ~against[v] and not helps[v] & ~helps[w]

    if kind.several:
        return _useful_of_several(kind, full, stands_in)
    start = kind.start.bit_length() - 1
    kept = [at for at in range(kind.count) if kind.down or at >= start]
    if kind.goal and kind.goal.within and not kind.down:
        last = kind.goal.within.bit_length() - 1
        kept = [at for at in kept if at <= max(last, start)]
    if kind.hop is not None and kind.hop < kind.count - 1:
        return sum(1 << at for at in kept)      # a neighbour further on may be out of reach
    goal = kind.goal.within if kind.goal and kind.goal.within else full
    place = 0
    while place < len(kept):
        v = kept[place]
        neighbours = [kept[p] for p in (place - 1, place + 1) if 0 <= p < len(kept)]
        if v != start and any(stands_in(w, v) and (not goal >> v & 1 or goal >> w & 1) for w in neighbours):
            kept.pop(place)
            place = max(0, place - 1)
        else:
            place += 1
    return sum(1 << at for at in kept)


def _useful_of_several(kind: Kind, full: int, stands_in) -> int:  # type: ignore[no-untyped-def]
    if kind.least > 1:
        return full
    goal = kind.goal or Goal()
    kept = list(bits(full))
    for v in bits(full & ~kind.start & ~goal.has):
        others = (w for w in kept if w != v)
        if any(stands_in(w, v) and (not goal.without >> w & 1 or goal.without >> v & 1) for w in others):
            kept.remove(v)
    return sum(1 << at for at in kept)
