"""The pairs of a played rollout: whom the engine would try after a wave, and what it would come to. Pure.

A pair fails because of its upgraded node: it does so with every partner, as ``planner.gates.multi_node`` finds out by
swapping them. While nothing is broken the pairs are those that the plan's own forecast has, looked up in a list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import Enum

from planner.gates.multi_node import Attempt, next_pair
from planner.schedule.pairs import expected_pairs, pair_minutes, plan_domains
from planner.schedule.plan import Plan

Nodes = tuple[str, str]

_PASSES, _FAILS = "OK", "NCCL_HANG"


class Verdict(Enum):
    """What the pairs of a domain came to after a wave."""

    GOOD = "good"
    BAD = "bad"
    UNCLEAR = "unclear"                # no room, or no window: nobody tried


class PairCourse:
    """One plan's pairs, ready to be played."""

    def __init__(self, plan: Plan, moving: Collection[str]) -> None:
        self.domains = plan_domains(plan)
        self.minutes = pair_minutes(plan)      # that a window has to have room for
        self._expected = {(wave, pair.domain): pair.nodes for wave, found in expected_pairs(plan).items()
                          for pair in found}
        self._places: dict[str, list[tuple[int, str]]] = {}      # domain -> place of the wave, node, in order
        self._wave = {wave.id: at for at, wave in enumerate(plan.waves)}
        names = ((at, n) for at, wave in enumerate(plan.waves) for b in wave.batches for n in b.nodes if n in moving)
        for at, name in names if self.domains else ():
            self._places.setdefault(plan.nodes[name].comm_domain, []).append((at, name))

    def expected(self, wave: str, domain: str) -> Nodes | None:
        """Return the pair that is tried while all goes well; None where it has no room."""
        return self._expected.get((wave, domain))

    def halves(self, wave: str, domain: str, done: Callable[[str], bool], away: Collection[str]
               ) -> tuple[list[str], list[str]]:
        """Return the upgraded nodes of a domain after a wave, and those that wait; none of either where it has no news.

        Args:
            wave: That has ended.
            domain: Communication domain.
            done: Tells whether a node is done.
            away: Nodes that are broken, or wait for their NVLink domain: they are on no side.
        """
        at, places = self._wave[wave], self._places[domain]
        upgraded = [n for place, n in places if place <= at and done(n)]
        news = any(place == at and done(n) for place, n in places)
        waiting = [n for place, n in places if place > at and not done(n) and n not in away]
        return (upgraded, waiting) if news and waiting else ([], [])


def play_series(first: Nodes, sides: Callable[[], tuple[Sequence[str], Sequence[str]]], earlier: list[Attempt], *,
                fails: Callable[[], bool], attempt: Callable[[Nodes], bool]) -> Verdict:
    """Play one series of pairs, as long as the engine would go on.

    Args:
        first: The pair that it begins with.
        sides: Gives the nodes of the domain that are done, in order, and those that wait; asked for after a failure.
        earlier: What was tried before in this rollout; what is tried now is added.
        fails: Draws whether the upgraded node of the first pair fails with everybody; asked once.
        attempt: Lets one pair happen; False where there is no room or no window for it.
    """
    if not attempt(first):
        return Verdict.UNCLEAR
    bad = fails()
    tried = [Attempt(first, _FAILS if bad else _PASSES)]
    earlier += tried
    if not bad:
        return Verdict.GOOD
    upgraded, waiting = sides()
    while isinstance((found := next_pair(tried, upgraded, waiting))[0], str):
        pair = str(found[0]), str(found[1])
        if not attempt(pair):
            return Verdict.UNCLEAR
        tried.append(Attempt(pair, _FAILS if first[0] in pair else _PASSES))
        earlier.append(tried[-1])
    return Verdict.BAD
