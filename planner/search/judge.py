"""Judges many similar states quickly: each rule is evaluated once per distinct values of the components it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from planner.check.judge import Rule, rules_of
from planner.check.verdict import Judgement, Verdict
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State

_Values = tuple[tuple[str, ...] | None, ...]
_Judged = tuple[tuple[int, tuple[Judgement, ...]], ...]


@dataclass(slots=True)
class _Group:
    """Rules that read the same movable components, each with its place in the matrices, and their answers so far."""

    rules: list[tuple[int, Rule]] = field(default_factory=list)
    memory: dict[_Values, _Judged] = field(default_factory=dict)


class Judge:
    """Finds what blocks a state; remembers every answer. One judge serves one cohort.

    Attributes:
        seen: Every blocking judgement met so far, by rule; explanations start from these.
    """

    def __init__(self, matrices: MatrixSet, start: State, movable: frozenset[str]) -> None:
        self.seen: dict[str, Judgement] = {}
        self._start = start
        self._names = tuple(sorted(movable))
        self._states: dict[_Values, tuple[Judgement, ...]] = {}
        self._groups: dict[tuple[str, ...], _Group] = {}
        self._fixed: tuple[Judgement, ...] = ()
        known = {*start, *movable}
        for place, (needs, reads, rule) in enumerate(rules_of(matrices)):
            if not known.issuperset(needs):
                continue      # no state of this cohort ever says what the rule is about
            moving = tuple(sorted(movable.intersection({*needs, *reads})))
            if moving:
                self._groups.setdefault(moving, _Group()).rules.append((place, rule))
            else:
                self._fixed += _blocking(rule(start))

    def blocking(self, state: State) -> tuple[Judgement, ...]:
        """Return every blocking judgement on a state, in the order of the matrices behind those that never change.

        What does not move must be as it was at the start: only what moves tells two states apart.
        """
        values = tuple(state.get(name) for name in self._names)
        found = self._states.get(values)
        if found is None:
            found = self._states[values] = self._judge(state)
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
        for _, judgements in self._of(self._groups[scope], scope, values):
            yield from judgements

    def _of(self, group: _Group, reads: tuple[str, ...], values: _Values) -> _Judged:
        known = group.memory.get(values)
        if known is None:
            state = dict(self._start)
            for name, value in zip(reads, values, strict=True):
                if value is None:
                    state.pop(name, None)
                else:
                    state[name] = value
            judged = ((place, _blocking(rule(state))) for place, rule in group.rules)
            known = group.memory[values] = tuple(item for item in judged if item[1])
            for judgement in (j for _, judgements in known for j in judgements):
                self.seen.setdefault(judgement.rule, judgement)
        return known

    def _judge(self, state: State) -> tuple[Judgement, ...]:
        broken: list[tuple[int, tuple[Judgement, ...]]] = []
        for reads, group in self._groups.items():
            broken.extend(self._of(group, reads, tuple(state.get(name) for name in reads)))
        return (*self._fixed, *(j for _, judgements in sorted(broken, key=itemgetter(0)) for j in judgements))


def _blocking(judgements: Iterator[Judgement]) -> tuple[Judgement, ...]:
    return tuple(j for j in judgements if j.blocking and j.verdict is not Verdict.SUPPORTED)
