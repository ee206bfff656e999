"""From a problem in the words of the matrices to a task of the search core: values are those of states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple, cast

from planner.check.verdict import Judgement, ProblemKey
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Move, State
from planner.model.version import version_key
from planner.search.core.task import FIELD_BITS, Allowed, Constraint, MoveGroup, Step, Task, Value, pack
from planner.search.judge import Judge
from planner.search.moves import apply_changes as applied
from planner.search.moves import changed_early, changes_of, cost_of, guests_of, overtaken, sooner
from planner.search.problem import COST_ORDER, Goal, Problem, Transition

StateValue = tuple[str, ...] | None         # None: not known


class _Named(NamedTuple):
    """Names of the variables, and how a whole state is made of their values."""

    names: tuple[str, ...]
    start: State

    def state(self, values: Sequence[Value], places: Sequence[int] | None = None) -> dict[str, tuple[str, ...]]:
        """Return the start with some variables replaced."""
        names = self.names if places is None else [self.names[p] for p in places]
        moving = {n: cast("tuple[str, ...]", v) for n, v in zip(names, values, strict=True) if v is not None}
        return {**self.start, **moving}


class _MoveSteps:
    """One move of the matrices as a group of steps."""

    def __init__(self, number: int, move: Move, named: _Named, problem: Problem, matrices: MatrixSet,
                 order: Sequence[str], guests: frozenset[str]) -> None:
        place = {name: at for at, name in enumerate(named.names)}
        self.number = number
        self.move = move
        read = {*move.components, *([move.lead] if move.lead else [])}      # a lead that stays decides what follows it
        self.variables = tuple(sorted(place[c] for c in read if c in place))
        self._named, self._problem, self._matrices, self._order = named, problem, matrices, order
        self._guests = guests

    def steps(self, values: Sequence[Value], allowed: Allowed) -> Iterator[Step]:
        """Yield what the move can make of some values of its components."""
        state = self._named.state(values, self.variables)
        names = [self._named.names[v] for v in self.variables]
        for changes in changes_of(self.move, state, self._problem, self._matrices, self._guests):
            after_state = applied(state, changes, self._matrices)
            after = tuple(after_state.get(name) for name in names)
            if after == tuple(values) or not all(allowed(after[:depth]) for depth in range(1, len(after) + 1)):
                continue
            cost = cost_of(self.move, changes, self._problem, self._matrices)
            yield Step(after, pack(cost.get(f, 0) for f in self._order), group=self.number,
                       label=Transition(move=self.move.name, changes=changes, cost=cost))


class _Anything:
    """Every value of some components at once: what could stand side by side, whatever leads there."""

    def __init__(self, names: frozenset[str], named: _Named, problem: Problem, matrices: MatrixSet) -> None:
        self.variables = tuple(at for at, name in enumerate(named.names) if name in names)
        self._offers = [self._offer(named.names[v], problem, matrices) for v in self.variables]

    @staticmethod
    def _offer(name: str, problem: Problem, matrices: MatrixSet) -> list[StateValue]:
        now, offered = problem.start.get(name), problem.candidates.get(name, ())
        if now is None:
            return [None]
        if not matrices.is_many(name):
            return list(dict.fromkeys([now, *((v,) for v in offered)]))
        goal = problem.goals.get(name)
        wanted = [v for v in offered if goal and v not in now and any(goal.matches(p, v) for p in goal.present)]
        kept = tuple(v for v in now if not goal or not any(goal.matches(a, v) for a in goal.absent))
        return [tuple(sorted({*base, *added}, key=version_key)) for base in dict.fromkeys((now, kept))
                for size in range(len(wanted) + 1) for added in combinations(wanted, size)]

    def steps(self, values: Sequence[Value], allowed: Allowed) -> Iterator[Step]:
        """Yield every combination that differs from where the path began."""
        chosen: list[Value] = []

        def choose(depth: int) -> Iterator[Step]:
            if depth == len(self._offers):
                if tuple(chosen) != tuple(values):
                    yield Step(tuple(chosen), pack((1,)))
                return
            for value in self._offers[depth]:
                chosen.append(value)
                if allowed(chosen):
                    yield from choose(depth + 1)
                chosen.pop()

        yield from choose(0)


class _Rules(NamedTuple):
    """The rules that read the same moving components."""

    scope: tuple[int, ...]
    names: tuple[str, ...]
    judge: Judge
    view: _View

    def blocks(self, values: Sequence[Value]) -> bool:
        """Tell whether something is wrong that was not wrong at the start."""
        return any(j.key not in self.view.inherited for j in self._open(values))

    def blocks_goal(self, values: Sequence[Value]) -> bool:
        """Tell whether anything is wrong that nobody has accepted."""
        return any(True for _ in self._open(values))

    def _open(self, values: Sequence[Value]) -> Iterator[Judgement]:
        return filter(self.view.counts, self.judge.of(self.names, cast("tuple[StateValue, ...]", tuple(values))))


class _View(NamedTuple):
    """Which judgements count: those that nobody has accepted, and of rules that are in force."""

    accepted: frozenset[str]
    enforced: frozenset[str] | None
    inherited: frozenset[ProblemKey]

    def counts(self, judgement: Judgement) -> bool:
        """Tell whether a judgement stands in the way."""
        return not judgement.names & self.accepted and (self.enforced is None or judgement.rule in self.enforced)


class _Extras:
    """What a step costs because of everything around it."""

    def __init__(self, named: _Named, problem: Problem, matrices: MatrixSet, judge: Judge,
                 order: Sequence[str]) -> None:
        self._named, self._problem, self._matrices, self._judge, self._order = named, problem, matrices, judge, order
        self._reboots = {m.name for m in matrices.moves if m.disruption == "reboot"}
        self._warned = judge.warned(problem.start)

    def fields(self, whole: Sequence[Value], transition: Transition) -> dict[str, int]:
        """Return risks and warnings behind a step, what a reboot finds changed already, and what the step overtakes."""
        state = self._named.state(whole)
        early = changed_early(state, self._problem, self._matrices) if transition.move in self._reboots else 0
        after = applied(state, transition.changes, self._matrices)
        order = overtaken(state, self._problem, self._matrices)[transition.move]
        return {"early": early, "order": order + sooner(transition.changes, state, self._problem),
                "warnings": len(self._judge.warned(after) - self._judge.warned(state) - self._warned),
                "risks": self._risks(after)}

    def _risks(self, after: State) -> int:
        if not self._problem.accepted:
            return 0
        return sum(bool(j.names & self._problem.accepted) for j in self._judge.blocking(after))

    def packed(self, whole: Sequence[Value], step: Step) -> int:
        """Return the same as a packed cost."""
        fields = self.fields(whole, cast("Transition", step.label))
        return pack(fields.get(name, 0) for name in self._order)


class Compiled(NamedTuple):
    """A task, and how its answers are read."""

    task: Task
    extras: _Extras
    state: _Named


def movable(problem: Problem) -> frozenset[str]:
    """Return the components whose values tell two states of a search apart."""
    return frozenset(problem.candidates) | frozenset(problem.goals)


def _met_by(goal: Goal) -> Callable[[Value], bool]:
    return lambda value: goal.met_by(cast("StateValue", value) or ())


def compile_task(problem: Problem, matrices: MatrixSet, judge: Judge, *, enforced: frozenset[str] | None = None,
                 goals: frozenset[str] | None = None, at_once: frozenset[str] | None = None) -> Compiled:
    """Return the task of a problem.

    Args:
        problem: Start, goals, candidates, accepted names.
        matrices: Moves and lockstep groups.
        judge: Judges the states of this cohort; remembers over several tasks.
        enforced: Names of the rules that count; None for all.
        goals: Components whose goals count; None for all.
        at_once: Components that one step may change together, at will: then a path exists where any allowed goal state
            does. None: only the moves of the matrices.
    """
    names = tuple(sorted(movable(problem)))
    place = {name: at for at, name in enumerate(names)}
    named = _Named(names, problem.start)
    order = (*problem.optimize, *(f for f in COST_ORDER if f not in problem.optimize))
    wrong = judge.blocking(problem.start)
    view = _View(accepted=problem.accepted, enforced=enforced, inherited=frozenset(j.key for j in wrong))
    guests = guests_of(problem, matrices)
    constraints: list[Constraint] = [
        _Rules(tuple(place[n] for n in scope), scope, judge, view) for scope in judge.scopes]
    extras = _Extras(named, problem, matrices, judge, order)
    wanted = {n: g for n, g in problem.goals.items() if goals is None or n in goals}
    moves = [m for m in matrices.moves if any(c in place for c in m.components)]
    groups: list[MoveGroup] = [_MoveSteps(number, m, named, problem, matrices, order, guests)
                               for number, m in enumerate(moves)]
    if at_once is not None:
        groups = [_Anything(at_once, named, problem, matrices)]
    return Compiled(
        task=Task(
            start=tuple(problem.start.get(n) for n in names),
            goals=[_met_by(wanted[n]) if n in wanted else None for n in names],
            groups=groups, constraints=constraints, extra=extras.packed if at_once is None else None,
            steps_field=FIELD_BITS * (len(order) - 1 - order.index("steps")), expansions_max=problem.expansions_max),
        extras=extras, state=named)
