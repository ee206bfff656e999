"""What is nearest to a target that is out of reach: other goals for the same nodes, each of them tried."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

from planner.matrix.conditions import matches_value
from planner.matrix.index import MatrixSet
from planner.model.version import version_key
from planner.search.path import find_path
from planner.search.problem import Goal, Problem

ALTERNATIVES_MAX = 8      # each is a search of its own
_NUMBER = re.compile(r"\d+")

Relaxed = tuple[Goal, str]      # what is wanted instead, and how that is told


class Trial(NamedTuple):
    """How other goals are tried.

    Attributes:
        problem: Every goal of the target, and what the nodes can get.
        feasible: Tells whether nodes can be brought to all of these goals when these risks are accepted; may raise
            ``SearchLimitError``.
    """

    problem: Problem
    feasible: Callable[[Mapping[str, Goal], frozenset[str]], bool]

    def with_goals(self, changed: Mapping[str, Goal]) -> bool:
        """Tell whether the target is feasible with some of its goals changed."""
        return self.feasible({**self.problem.goals, **changed}, self.problem.accepted)

    def without(self, *names: str) -> bool:
        """Tell whether the target is feasible without some of its goals."""
        return self.feasible({n: g for n, g in self.problem.goals.items() if n not in names}, self.problem.accepted)


def by_search(problem: Problem, matrices: MatrixSet) -> Trial:
    """Return trials among the candidates of a problem alone."""
    def feasible(goals: Mapping[str, Goal], accepted: frozenset[str]) -> bool:
        return find_path(replace(problem, goals=goals, accepted=accepted), matrices) is not None

    return Trial(problem, feasible)


def nearest_targets(trial: Trial, matrices: MatrixSet) -> Iterator[str]:
    """Yield feasible targets, one sentence each: those that differ in one goal, else one that differs in several."""
    found, goals = False, trial.problem.goals
    for name, goal in goals.items():
        for changed, sentence in relaxed(goal, trial.problem, matrices):
            if trial.with_goals({name: changed}):
                found = True
                yield sentence
                break
    if not found and len(goals) > 1:
        yield from _several(trial, matrices)


def _several(trial: Trial, matrices: MatrixSet) -> Iterator[str]:
    """Yield a target that gives up as little as possible of several goals: nothing of it can be tightened alone.

    It begins where every goal is given up as far as it goes, and takes them back one by one as far as they hold.
    """
    start = trial.problem.start
    ways = {name: [(goal, ""), *relaxed(goal, trial.problem, matrices)] for name, goal in trial.problem.goals.items()}
    last = {name: len(options) - 1 for name, options in ways.items()}
    as_it_is = {name: max((i for i, (goal, _) in enumerate(options) if goal.met_by(start.get(name, ()))),
                          default=last[name]) for name, options in ways.items()}

    def holds(places: Mapping[str, int]) -> bool:
        return trial.with_goals({name: ways[name][place][0] for name, place in places.items()})

    floor = next((places for places in (last, as_it_is) if holds(places)), None)
    if floor is None:
        return
    for name in ways:
        better = (place for place in range(floor[name]) if holds({**floor, name: place}))
        floor = {**floor, name: next(better, floor[name])}
    chosen = {name: ways[name][place] for name, place in floor.items()}
    if told := [sentence for _, sentence in chosen.values() if sentence]:
        yield ", and ".join(told)


def relaxed(goal: Goal, problem: Problem, matrices: MatrixSet) -> Iterator[Relaxed]:
    """Yield goals that ask for less or for something else of one component, the nearest first, the last resort last."""
    if goal.want:
        yield from _instead(goal, problem, matrices)
        return
    name, current = goal.component, problem.start.get(goal.component, ())
    for wanted in goal.present:
        rest = tuple(p for p in goal.present if p != wanted)
        if not rest:      # nothing would be left of the goal: first what could stand in for it
            others = [v for v in dict.fromkeys((*problem.candidates.get(name, ()), *current))
                      if not goal.matches(wanted, v)]
            for version in _closest(wanted, others):
                yield goal._replace(present=(_exactly(version, goal),)), f"{name} {version} instead of {wanted}"
        yield goal._replace(present=rest), f"leave out {name} {wanted}" + (f" (keep {', '.join(rest)})" if rest else "")
        if stale := [v for v in current if not any(goal.matches(p, v) for p in rest)]:
            gone = tuple(_exactly(v, goal) for v in stale)
            yield (goal._replace(present=rest, absent=(*goal.absent, *gone)),
                   f"leave out {name} {wanted} and take {', '.join(stale)} away")
    if goal.absent:
        yield goal._replace(absent=()), f"let {name} {', '.join(goal.absent)} stay"


def _instead(goal: Goal, problem: Problem, matrices: MatrixSet) -> Iterator[Relaxed]:
    """Yield other versions: first those that lead from what is there towards what is wanted, then what is there."""
    name, current = goal.component, problem.start.get(goal.component, ())
    others = [v for v in problem.candidates.get(name, ()) if not goal.met_by((v,)) and v not in current]
    ordered = _closest(goal.want, others)
    if goal.text:
        ordered.sort(key=lambda v: not _leads_on(v, goal, matrices))
    towards = [v for v in ordered if not current or goal.text or _towards(goal.want, current[0], v)]
    kept = [(goal._replace(want=_exactly(current[0], goal)), f"keep {name} {current[0]}")] if current else []

    def named(versions: list[str]) -> Iterator[Relaxed]:
        for version in versions:
            yield goal._replace(want=_exactly(version, goal)), f"{name} {version} instead of {goal.want}"

    yield from named(towards)
    yield from kept
    yield from named([v for v in ordered if v not in towards])
    yield from kept      # the last resort


def _exactly(version: str, goal: Goal) -> str:
    return version if goal.text else f"=={version}"


def _leads_on(value: str, goal: Goal, matrices: MatrixSet) -> bool:
    """Tell whether what is wanted can follow a value, one hop after another."""
    hops = {k: v for m in matrices.moves if goal.component in m.components for k, v in m.hops.items()}
    seen, todo = {value}, [value]
    while todo:
        after = [v for v in hops.get(todo.pop(), ()) if v not in seen]
        seen.update(after)
        todo += after
    return any(matches_value(goal.want, v, text=True) for v in seen)


def _towards(wanted: str, current: str, version: str) -> bool:
    """Tell whether a version is nearer than the current one to what is wanted, by their first numbers.

    Within the wanted branch: whether it lies between the two. Of the branch that is there a newer version is a step
    towards a newer branch; an older one is none towards an older branch.
    """
    goal, now, then = (_numbers(text) for text in (wanted, current, version))
    if not goal or not now or not then:
        return True
    before, after = abs(now[0] - goal[0]), abs(then[0] - goal[0])
    if before or after:
        return after < before or (after == before and goal[0] > now[0] and version_key(version) > version_key(current))
    low, high = sorted((version_key(current), version_key(_first(wanted))))
    return low < version_key(version) < high or _shared(goal, then) > _shared(goal, now)


def _first(wanted: str) -> str:
    return wanted.partition("|")[0].split(" ")[0].lstrip("=<>!~")


def _numbers(text: str) -> list[int]:
    return [int(n) for n in _NUMBER.findall(_first(text))]


def _shared(wanted: list[int], version: list[int]) -> int:
    pairs = zip(wanted, version, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(wanted), len(version)))


def _closest(wanted: str, versions: list[str]) -> list[str]:
    """Return versions, those that share most leading numbers with the wanted one first, else in the order given."""
    numbers = _numbers(wanted)
    return list(islice(sorted(versions, key=lambda v: _shared(numbers, _numbers(v)), reverse=True), ALTERNATIVES_MAX))
