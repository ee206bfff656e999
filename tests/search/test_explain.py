"""Refusals: minimal, with sources, and with the nearest feasible target."""

from __future__ import annotations

from planner.search.explain import explain_refusal
from tests.search.test_path import CANDIDATES, START
from tests.search.worlds import claim, matrices, problem, raw

BLOCKS = claim("arch-x-refuses-three", {"engine": ">=3"}, {"arch": "y"})
NOISE = claim("noise", {"lib": "2"}, {"engine": ">=2"})


def test_conflict_is_minimal_and_names_only_goals_that_take_part():
    refusal = explain_refusal(problem(START, {"engine": "3", "lib": "2"}, CANDIDATES), matrices(raw([BLOCKS, NOISE])))
    assert refusal.code == "conflict"
    assert refusal.goals == ("engine 3",)
    assert len(refusal.why) == 2
    assert "arch-x-refuses-three" in refusal.why[0]
    assert "arch-x-refuses-three" in refusal.sources[0]


def test_nearest_feasible_target_is_the_newest_that_works():
    refusal = explain_refusal(problem(START, {"engine": "3"}, CANDIDATES), matrices(raw([BLOCKS])))
    assert refusal.nearest[0] == "engine 2 instead of 3"


def test_missing_companion_is_told_with_its_lockstep_rule():
    refusal = explain_refusal(problem(START, {"engine": "3"}, {**CANDIDATES, "twin": ("2",)}), matrices(raw()))
    assert refusal.code == "not-obtainable"
    assert "engine and twin are equal" in refusal.why[0]
    assert "twin 3 cannot be installed" in refusal.why[0]
    assert refusal.nearest == ("engine 2 instead of 3",)


def test_version_that_no_repository_has_is_told_as_such():
    refusal = explain_refusal(problem(START, {"lib": "9"}, CANDIDATES), matrices(raw()))
    assert refusal.code == "not-obtainable"
    assert "lib" in refusal.why[0]
    assert "2, 1" in refusal.why[0]


def test_inherited_problem_that_the_target_keeps_is_told_as_inherited():
    bad = claim("one-is-bad", {"engine": "1"}, forbids=True, risk="engine-one")
    refusal = explain_refusal(problem(START, {"lib": "2"}, {"lib": ("2", "1")}), matrices(raw([bad])))
    assert "already so at the start" in refusal.why[0]
    assert "engine-one" in refusal.why[0]


def test_side_by_side_goal_is_relaxed_item_by_item():
    rule = claim("two-needs-engine-nine", {"tools": "2"}, {"engine": "9"})
    goals = {"tools": {"present": ("1.8", "2.0")}}
    refusal = explain_refusal(problem(START, goals, CANDIDATES), matrices(raw([rule])))
    assert refusal.nearest == ("leave out tools 2.0 (keep 1.8)",)
