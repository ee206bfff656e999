"""Judges the states of one cohort: which rules read what may move, and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter

from planner.check.judge import Group, Judged, shared_judge
from planner.check.verdict import Judgement, ProblemKey, Verdict
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State

_Values = tuple[tuple[str, ...] | None, ...]


class Judge:
    """Finds what blocks a state; remembers every answer. One judge serves one cohort.

    Attributes:
        seen: Every blocking judgement met so far, by rule; explanations start from these.
        scope_of: The moving components that such a rule is judged by.
    """

    def __init__(self, matrices: MatrixSet, start: State, movable: frozenset[str]) -> None:
        """Sort the rules by what they read of the movable components.

        Args:
            matrices: Rules.
            start: The whole state; what does not move stays as it is here.
            movable: Components whose values tell two states apart.
        """
        self.seen: dict[str, Judgement] = {}
        self.scope_of: dict[str, tuple[str, ...]] = {}
        self._start = start
        self._names = tuple(sorted(movable))
        self._states: dict[_Values, tuple[Judgement, ...]] = {}
        self._groups: dict[tuple[str, ...], list[Group]] = {}
        self._memory: dict[tuple[str, ...], dict[_Values, Judged]] = {}
        self._warned: dict[tuple[str, ...], dict[_Values, frozenset[ProblemKey]]] = {}
        known = {*start, *movable}
        fixed: list[Group] = []
        for group in shared_judge(matrices).groups:
            if not known.issuperset(group.needs):
                continue      # no state of this cohort ever says what the rules are about
            moving = tuple(sorted(movable.intersection(group.reads)))
            (self._groups.setdefault(moving, []) if moving else fixed).append(group)
        self._fixed = tuple(j for _, j in _blocking(fixed, start))

    def blocking(self, state: State) -> tuple[Judgement, ...]:
        """Return every blocking judgement on a state, in the order of the matrices behind those that never change.

        What does not move must be as it was at the start: only what moves tells two states apart.
        """
        values = tuple(state.get(name) for name in self._names)
        found = self._states.get(values)
        if found is None:
            broken = [item for scope in self._groups for item in self._of(scope, tuple(map(state.get, scope)))]
            found = self._states[values] = (*self._fixed, *(j for _, j in sorted(broken, key=itemgetter(0))))
        return found

    @property
    def scopes(self) -> tuple[tuple[str, ...], ...]:
        """Return which moving components are read together, sorted names; ``()`` where the start alone decides."""
        return (*self._groups, *([()] if self._fixed else []))

    def of(self, scope: tuple[str, ...], values: _Values) -> Iterator[Judgement]:
        """Yield the blocking judgements of the rules of one scope; the rest is as it was at the start."""
        if not scope:
            yield from self._fixed
            return
        for _, judgement in self._of(scope, values):
            yield judgement

    def warned(self, state: State) -> frozenset[ProblemKey]:
        """Return the known problems of a state that block nothing and depend on what moves."""
        return frozenset().union(*(self._warned_of(scope, tuple(map(state.get, scope))) for scope in self._groups))

    def _warned_of(self, scope: tuple[str, ...], values: _Values) -> frozenset[ProblemKey]:
        memory = self._warned.setdefault(scope, {})
        known = memory.get(values)
        if known is None:
            state = self._state(scope, values)
            known = memory[values] = frozenset(
                j.key for group in self._groups[scope] if group.needs <= state.keys() for _, j in group.judge(state)
                if j.severity == "warning" and j.verdict is Verdict.UNSUPPORTED)
        return known

    def _state(self, scope: tuple[str, ...], values: _Values) -> dict[str, tuple[str, ...]]:
        state = {**self._start, **dict(zip(scope, values, strict=True))}
        return {name: value for name, value in state.items() if value is not None}

    def _of(self, scope: tuple[str, ...], values: _Values) -> Judged:
        memory = self._memory.setdefault(scope, {})
        known = memory.get(values)
        if known is None:
            known = memory[values] = _blocking(self._groups[scope], self._state(scope, values))
            for _, judgement in known:
                self.seen.setdefault(judgement.rule, judgement)
                self.scope_of[judgement.rule] = scope
        return known


def _blocking(groups: Iterable[Group], state: State) -> Judged:
    known = state.keys()
    return tuple(
        (place, j) for group in groups if group.needs <= known for place, j in group.judge(state)
        if j.blocking and j.verdict is not Verdict.SUPPORTED)
