"""Why a group has no plan, and what is nearest: every target that is named there was planned like the one asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from planner.matrix.index import MatrixSet
from planner.model.target import ToolkitWant, Want
from planner.search.core.task import SearchLimitError
from planner.search.explain import Refusal, explain_refusal, given_up
from planner.search.nearest import Trial, nearest_targets, relaxed
from planner.search.problem import Goal, Problem


class Stuck(NamedTuple):
    """A group that has no plan.

    Attributes:
        whole: Every goal of its target.
        tried: The part of it that has no path: all of it, or what comes before or with the end of the plan.
        ending: Goals after which nothing can be planned.
        matrices: Those with the moves of these goals.
        apart: A goal and others that cannot be in one plan with it.
        refusal: A reason that was found behind the search: steps that cannot be made.
        limited: Whether the search was given up.
    """

    whole: Problem
    tried: Problem
    ending: tuple[str, ...]
    matrices: MatrixSet
    apart: tuple[str, tuple[str, ...]] | None = None
    refusal: Refusal | None = None
    limited: bool = False


def want_of(goals: Mapping[str, Goal], want: Want, before: Mapping[str, Goal]) -> Want:
    """Return what a target would say for these goals; what they leave as it was is said as it was.

    Args:
        goals: What is tried instead.
        want: What the target says.
        before: Its goals.
    """
    return {name: want[name] if goal == before.get(name) else _said(goal, want.get(name)) for name, goal in
            goals.items()}


def _said(goal: Goal, now: str | ToolkitWant | None) -> str | ToolkitWant:
    if goal.want:
        return goal.want
    default = now.default if isinstance(now, ToolkitWant) else None
    stays = default in goal.present or (isinstance(now, ToolkitWant) and now.present == goal.present)
    return ToolkitWant(present=goal.present, absent=goal.absent, default=default if stays else None)


def refuse(stuck: Stuck, trial: Trial) -> Refusal:
    """Return why a group has no plan."""
    if stuck.limited:
        return given_up(stuck.tried)
    try:
        if stuck.apart:
            return _together(*stuck.apart, trial, stuck.matrices)
        if stuck.refusal is not None:
            return _behind(stuck.refusal, trial, stuck.matrices)
        refusal = explain_refusal(stuck.tried, stuck.matrices, trial)
        return _before_end(refusal, stuck, trial) if stuck.ending and refusal.code != "search-limit" else refusal
    except SearchLimitError:
        return given_up(stuck.tried)


def _behind(refusal: Refusal, trial: Trial, matrices: MatrixSet) -> Refusal:
    """Return a refusal that steps gave, with the goals that take part in it and with what is nearest."""
    goals = trial.problem.goals
    unmet = [name for name, goal in goals.items() if not goal.met_by(trial.problem.start.get(name, ()))]
    alone = [name for name in unmet if trial.without(name)]
    return refusal._replace(goals=tuple(goals[name].describe() for name in alone or unmet),
                            nearest=tuple(nearest_targets(trial, matrices)))


def _together(first: str, others: tuple[str, ...], trial: Trial, matrices: MatrixSet) -> Refusal:
    """Return why two things cannot be in one plan: after one of them nobody knows what the other can be."""
    names, verb, goals = " and ".join(others), "are" if len(others) > 1 else "is", trial.problem.goals
    nearest = (f"leave out {names}, apply that, then discover and plan again for {names}",) if trial.without(*others) \
        else (*_alone(first, trial, matrices), *([f"leave out {first}"] if trial.without(first) else ()))
    return Refusal(
        code="ends-the-plan", goals=tuple(goals[n].describe() for n in (first, *others)), sources=(), nearest=nearest,
        why=(f"after a change of {first} nobody knows beforehand which {names} the nodes have or can get",
             f"so nothing follows {first} in a plan, and {names} {verb} planned from what the nodes say then"))


def _before_end(refusal: Refusal, stuck: Stuck, trial: Trial) -> Refusal:
    """Return a refusal with the word that what comes last cannot help what has to come before it."""
    name = stuck.ending[0]
    if set(stuck.tried.goals) & set(stuck.ending):
        return refusal
    goal = stuck.whole.goals[name]
    wanted = " and ".join(refusal.goals) or "the rest"
    told = [f"{name} comes last: what nodes can get after it is not known before, so it cannot help with {wanted}"]
    told += [f"besides, {reason}" for (c, v), reason in stuck.whole.unobtainable.items() if (c, v) == (name, goal.want)]
    return refusal._replace(why=(*refusal.why[:-1], *told, *refusal.why[-1:]),
                            nearest=(*refusal.nearest, *_alone(name, trial, stuck.matrices)))


def _alone(name: str, trial: Trial, matrices: MatrixSet) -> Iterator[str]:
    """Yield a change of one component alone that can be planned: what is wanted of it, else what is nearest to that."""
    goal, start = trial.problem.goals[name], trial.problem.start.get(name, ())
    for changed, _ in ((goal, ""), *relaxed(goal, trial.problem, matrices)):
        if changed.met_by(start) or not trial.feasible({name: changed}, trial.problem.accepted):
            continue
        which = name if changed == goal else f"{name} {changed.want.removeprefix('==')}"
        yield f"{which} alone, apply that, then discover and plan again for the rest"
        return
