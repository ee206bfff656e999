"""Known problems of a plan's goals, gathered for people: one entry for a claim, however many cohorts and values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from planner.schedule.plan import Cohort, KnownProblem

_VALUES = " (here: "      # ends a judgement's statement: the values that were judged


class GoalProblem(NamedTuple):
    """One claim that warns of the goal.

    Attributes:
        at_start: The nodes have it already; False: this plan brings it.
        here: The values it is about, each written once.
        cohorts: Ids, in the order of the plan.
    """

    claim: str
    at_start: bool
    statement: str
    here: tuple[str, ...]
    source: str
    hint: str
    cohorts: tuple[str, ...]


def goal_problems(cohorts: Iterable[Cohort]) -> tuple[GoalProblem, ...]:
    """Return the known problems of all cohorts' goals; what a plan brings comes first."""
    found: dict[tuple[bool, str], list[tuple[str, KnownProblem]]] = {}
    for cohort in cohorts:
        for problem in cohort.warnings:
            found.setdefault((problem.at_start, problem.claim), []).append((cohort.id, problem))
    return tuple(_gathered(places) for _, places in sorted(found.items(), key=lambda item: item[0][0]))


def _gathered(places: list[tuple[str, KnownProblem]]) -> GoalProblem:
    first = places[0][1]
    parts = [problem.statement.rpartition(_VALUES) for _, problem in places]
    here = dict.fromkeys(values.removesuffix(")") for before, _, values in parts if before)
    return GoalProblem(
        claim=first.claim, at_start=first.at_start, statement=parts[0][0] or first.statement, here=tuple(here),
        source=first.source, hint=first.hint, cohorts=tuple(dict.fromkeys(id_ for id_, _ in places)))
