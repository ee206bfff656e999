"""What a plan says the fleet gets rid of, against what the matrices say of start and goal."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.check.evaluate import judge_state
from planner.check.verdict import Verdict
from planner.cli.inputs import load_facts, load_rules, load_target
from planner.matrix.index import MatrixSet
from planner.schedule.assemble import make_plan
from planner.schedule.gains import gains_of
from planner.schedule.judged import known_problems
from planner.schedule.plan import Plan

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "02-one-node"


@pytest.fixture(scope="module")
def matrices() -> MatrixSet:
    """Return the shipped matrices."""
    return load_rules(())


@pytest.fixture(scope="module")
def plan(matrices: MatrixSet) -> Plan:
    """Return the plan of the small example."""
    return make_plan(load_facts(EXAMPLE / "facts.json"), load_target(EXAMPLE / "target.yml"), matrices,
                     planner_version="0")


def test_each_gain_holds_at_the_start_and_not_at_the_goal(plan: Plan, matrices: MatrixSet) -> None:
    """The example's driver branch is past its end: that goes away, and is named with its source."""
    (cohort,) = plan.cohorts
    broken = [{j.rule for j in judge_state(state, matrices) if j.verdict is Verdict.UNSUPPORTED}
              for state in (cohort.start, cohort.goal)]
    assert plan.gains
    for gain in plan.gains:
        assert gain.claim in broken[0] - broken[1]
        assert gain.source.startswith("matrices/")
        assert gain.cohorts == (cohort.id,)
        assert "(here:" not in gain.statement


def test_what_a_goal_still_has_is_no_gain(plan: Plan, matrices: MatrixSet) -> None:
    """A goal with the problems of the start gains nothing, nor does a cohort that nothing is changed in."""
    (cohort,) = plan.cohorts
    same = known_problems(cohort.start, cohort.start, matrices)
    assert gains_of([cohort.model_copy(update={"goal": cohort.start, "warnings": same})], matrices) == ()
    assert gains_of([cohort.model_copy(update={"steps": ()})], matrices) == ()
    assert {gain.claim for gain in plan.gains or ()}.isdisjoint(w.claim for w in cohort.warnings)


def test_cohorts_that_gain_the_same_share_one_entry(plan: Plan, matrices: MatrixSet) -> None:
    """Said once, with both ids in the order of the plan."""
    (cohort,) = plan.cohorts
    twin = cohort.model_copy(update={"id": "c-twin"})
    assert {gain.cohorts for gain in gains_of([cohort, twin], matrices)} == {(cohort.id, "c-twin")}
