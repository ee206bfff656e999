"""Judges many states: rules that read the same components are evaluated once per distinct values of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from operator import itemgetter

from planner.check.evaluate import judge_claim, judge_coverage, judge_lockstep
from planner.check.verdict import Judgement
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State

_Values = tuple[tuple[str, ...] | None, ...]
Rule = Callable[[State], Iterator[Judgement]]
Judged = tuple[tuple[int, Judgement], ...]


class Group:
    """Rules that read the same components, each with its place in the matrices, and their answers so far.

    Attributes:
        needs: What must be known before any of the rules says anything.
        reads: Everything the rules look at, sorted.
    """

    __slots__ = ("memory", "needs", "reads", "rules")

    def __init__(self, needs: frozenset[str], reads: tuple[str, ...]) -> None:
        self.needs = needs
        self.reads = reads
        self.rules: list[tuple[int, Rule]] = []
        self.memory: dict[_Values, Judged] = {}

    def judge(self, state: State) -> Judged:
        """Return the judgements on a state with the places of their rules."""
        values = tuple(map(state.get, self.reads))
        known = self.memory.get(values)
        if known is None:
            known = self.memory[values] = tuple((place, j) for place, rule in self.rules for j in rule(state))
        return known


class StateJudge:
    """Gives the same judgements as ``judge_state``, and remembers them."""

    def __init__(self, matrices: MatrixSet) -> None:
        """Group the rules; a claim without all its conditions known says nothing, so its group is not asked."""
        groups: dict[tuple[str, ...], Group] = {}
        for place, (needs, reads, rule) in enumerate(rules_of(matrices)):
            key = (*sorted(needs), "|", *sorted({*reads} - needs))
            if key not in groups:
                groups[key] = Group(needs, tuple(sorted({*reads} | needs)))
            groups[key].rules.append((place, rule))
        self.groups: tuple[Group, ...] = tuple(groups.values())

    def judge(self, state: State) -> tuple[Judgement, ...]:
        """Return every judgement on a state, in the order of the matrices."""
        known = state.keys()
        found = chain.from_iterable(group.judge(state) for group in self.groups if group.needs <= known)
        return tuple(judgement for _, judgement in sorted(found, key=itemgetter(0)))


_SHARED_MAX = 4
_shared: list[tuple[tuple[object, ...], StateJudge]] = []     # the objects are kept, so that they stay themselves


def shared_judge(matrices: MatrixSet) -> StateJudge:
    """Return the judge of some rules: what it has remembered serves everybody who asks for the same rules.

    Sets that differ in moves, packages or releases only are the same rules.
    """
    key = (matrices.claims, matrices.lockstep, matrices.families, matrices.components)
    for known, judge in _shared:
        if all(a is b for a, b in zip(known, key, strict=True)):
            return judge
    judge = StateJudge(matrices)
    _shared.append((key, judge))
    del _shared[:-_SHARED_MAX]
    return judge


def judgements_of(state: State, matrices: MatrixSet) -> tuple[Judgement, ...]:
    """Return what ``judge_state`` returns, remembered."""
    return shared_judge(matrices).judge(state)


def rules_of(matrices: MatrixSet) -> Iterator[tuple[frozenset[str], tuple[str, ...], Rule]]:
    """Yield every rule in the order of the matrices: what it must know to speak, what else it reads, how it judges."""
    for claim in matrices.claims:
        yield (frozenset(claim.if_), (*claim.then, *claim.unless),
               lambda s, c=claim: judge_claim(c, s, matrices))  # type: ignore[misc]
    for group in matrices.lockstep:
        yield (frozenset(group.when), (*group.components, *group.unless),
               lambda s, g=group: filter(None, [judge_lockstep(g, s, matrices)]))  # type: ignore[misc]
    for family in matrices.families.values():
        if not family.closed:
            continue
        reads = {name for c in matrices.claims_of(family.name) for name in (*c.if_, *c.unless)}
        reads |= {name for name in (family.over, family.against) if name}
        yield frozenset(), tuple(reads), lambda s, f=family: judge_coverage(f, s, matrices)  # type: ignore[misc]
