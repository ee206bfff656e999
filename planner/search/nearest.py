"""What is nearest to a target that is out of reach: other goals for the same nodes, each of them tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from planner.matrix.conditions import matches_value
from planner.matrix.index import MatrixSet
from planner.model.version import version_key
from planner.search.path import find_path
from planner.search.problem import Goal, Problem

ALTERNATIVES_MAX = 8      # each is a search of its own
_NUMBER = re.compile(r"\d+")

Relaxed = tuple[Goal, str]      # what is wanted instead, and how that is told


def nearest_targets(problem: Problem, matrices: MatrixSet) -> Iterator[str]:
    """Yield feasible targets, one sentence each: those that differ in one goal, else one that differs in several."""
    found = False
    for name, goal in problem.goals.items():
        for changed, sentence in relaxed(goal, problem, matrices):
            if _feasible(problem, {name: changed}, matrices):
                found = True
                yield sentence
                break
    if not found and len(problem.goals) > 1:
        yield from _several(problem, matrices)


def _several(problem: Problem, matrices: MatrixSet) -> Iterator[str]:
    """Yield a target that gives up as little as possible of several goals: nothing of it can be tightened alone.

    It begins where every goal is given up as far as it goes, and takes them back one by one as far as they hold.
    """
    ways = {name: [(goal, ""), *relaxed(goal, problem, matrices)] for name, goal in problem.goals.items()}
    chosen = {name: options[-1] for name, options in ways.items()}
    if not _feasible(problem, {name: goal for name, (goal, _) in chosen.items()}, matrices):
        return
    for name, options in ways.items():
        for option in options[:-1]:
            tried = {**chosen, name: option}
            if _feasible(problem, {n: goal for n, (goal, _) in tried.items()}, matrices):
                chosen = tried
                break
    if told := [sentence for _, sentence in chosen.values() if sentence]:
        yield ", and ".join(told)


def _feasible(problem: Problem, changed: dict[str, Goal], matrices: MatrixSet) -> bool:
    return find_path(replace(problem, goals={**problem.goals, **changed}), matrices) is not None


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
