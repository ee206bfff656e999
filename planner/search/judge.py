"""Judges many similar states quickly: each rule is evaluated once per distinct values of the components it reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from planner.check.evaluate import judge_claim, judge_coverage, judge_lockstep
from planner.check.verdict import Judgement, Verdict
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State


class Judge:
    """Finds what blocks a state; remembers every answer. One judge serves one cohort.

    Attributes:
        seen: Every blocking judgement met so far, by rule; explanations start from these.
    """

    def __init__(self, matrices: MatrixSet, start: State, movable: frozenset[str]) -> None:
        self.seen: dict[str, Judgement] = {}
        self._rules: list[tuple[tuple[str, ...], Callable[[State], tuple[Judgement, ...]]]] = []
        self._memory: list[dict[tuple[tuple[str, ...] | None, ...], tuple[Judgement, ...]]] = []
        self._fixed: tuple[Judgement, ...] = ()
        for reads, judge in _rules(matrices):
            moving = tuple(name for name in reads if name in movable)
            if moving:
                self._rules.append((moving, judge))
                self._memory.append({})
            else:
                self._fixed += judge(start)

    def blocking(self, state: State) -> tuple[Judgement, ...]:
        """Return every blocking judgement on a state."""
        found = list(self._fixed)
        for (reads, judge), memory in zip(self._rules, self._memory, strict=True):
            key = tuple(state.get(name) for name in reads)
            if key not in memory:
                memory[key] = judge(state)
                for judgement in memory[key]:
                    self.seen.setdefault(judgement.rule, judgement)
            found.extend(memory[key])
        return tuple(found)


def _rules(matrices: MatrixSet) -> Iterator[tuple[tuple[str, ...], Callable[[State], tuple[Judgement, ...]]]]:
    for claim in matrices.claims:
        yield ((*claim.if_, *claim.then), lambda s, c=claim: _blocking(judge_claim(c, s, matrices)))  # type: ignore[misc]
    for group in matrices.lockstep:
        yield (
            (*group.when, *group.components),
            lambda s, g=group: _blocking(filter(None, [judge_lockstep(g, s, matrices)])),  # type: ignore[misc]
        )
    for family in matrices.families.values():
        reads = {name for c in matrices.claims if c.family == family.name for name in c.if_}
        reads |= {name for name in (family.over, family.against) if name}
        yield (tuple(sorted(reads)), lambda s, f=family: _blocking(judge_coverage(f, s, matrices)))  # type: ignore[misc]


def _blocking(judgements: Iterator[Judgement]) -> tuple[Judgement, ...]:
    return tuple(j for j in judgements if j.blocking and j.verdict is not Verdict.SUPPORTED)
