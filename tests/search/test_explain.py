"""Refusals: minimal, with sources, and with the nearest feasible target."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.matrix.schema import Release
from planner.search.explain import explain_refusal
from planner.search.nearest import Trial
from tests.search.test_path import CANDIDATES, START
from tests.search.worlds import PROVENANCE, claim, matrices, problem, raw

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


@pytest.mark.parametrize(("start", "wanted", "first"), [
    ("3.2", "1", "keep engine 3.2"),            # an older one of the branch that is there is no step towards another
    ("1.0", "9", "engine 3.2 instead of 9"),    # the newest is
    ("3.1", "9", "engine 3.2 instead of 9"),    # so is a newer one of it
    ("3.1", "3.9", "engine 3.2 instead of 3.9"),
    ("3.2", "3.0", "engine 3.1 instead of 3.0"),
])
def test_what_is_there_is_nearer_than_a_step_that_leads_nowhere(start, wanted, first):
    out = "1|9|3.9|3.0" if wanted != "9" else "9|3.9"
    never = claim("not-what-is-wanted", {"engine": out}, forbids=True)
    given = problem({**START, "engine": (start,), "twin": ()}, {"engine": wanted}, {
        "engine": tuple(v for v in ("9", "3.9", "3.2", "3.1", "3.0", "1") if v != start)})
    moves = raw([never])
    for move in moves["moves"]:
        move["downgrade"] = True
    assert explain_refusal(given, matrices(moves)).nearest[0] == first


def test_where_no_single_goal_helps_the_nearest_target_gives_up_a_little_of_several():
    rules = [BLOCKS, claim("lib-two-is-bad", {"lib": "2"}, forbids=True)]
    given = problem(START, {"engine": "3", "lib": "2", "base": "2"}, {**CANDIDATES, "lib": ("2", "1"), "base": ("2",)})
    refusal = explain_refusal(given, matrices(raw(rules)))
    assert refusal.nearest == ("engine 2 instead of 3, and keep lib 1",)


def test_everything_that_is_wrong_from_the_start_is_offered_for_acceptance_at_once():
    bad = [claim("one-is-bad", {"engine": "1"}, forbids=True, risk="engine-one"),
           claim("base-is-bad", {"base": "1"}, forbids=True)]
    refusal = explain_refusal(problem(START, {"lib": "2"}, {"lib": ("2", "1")}), matrices(raw(bad)))
    assert refusal.nearest == ("accept base-is-bad and engine-one by name, with a reason (accept: in the target)",)
    assert refusal.why[-1].startswith("so nothing can be planned for these nodes while that is so")


def test_where_a_version_could_be_had_the_other_goals_are_taken_as_met():
    """A rule that another goal of the same target keeps is no reason against this one."""
    world = matrices(raw([claim("lib-nine-needs-engine-two", {"lib": "9"}, {"engine": ">=2"})]))
    releases = {"lib": (Release.model_validate({"component": "lib", "version": "9", "provenance": PROVENANCE}),)}
    told = replace(world, releases=releases)
    alone = explain_refusal(problem(START, {"lib": "9"}, CANDIDATES), told)
    assert "lib-nine-needs-engine-two" in " ".join(alone.why)
    both = explain_refusal(problem(START, {"lib": "9", "engine": "2"}, CANDIDATES), told)
    assert "lib-nine-needs-engine-two" not in " ".join(both.why)


def test_a_target_that_wants_and_forbids_the_same_is_told_so():
    goals = {"tools": {"present": ("2.0",), "absent": ("2",)}}
    refusal = explain_refusal(problem(START, goals, CANDIDATES), matrices(raw()))
    assert refusal.code == "no-move"
    assert refusal.why == ("tools 2.0 is wanted, and the same target takes away 2",)


def test_what_is_there_may_be_nearer_than_anything_else_that_could_be_added():
    start = {**START, "tools": ("1.8.1",)}
    refusal = explain_refusal(problem(start, {"tools": {"present": ("1.8.0",)}}, {"tools": ("2.0",)}), matrices(raw()))
    assert refusal.nearest == ("tools 1.8.1 instead of 1.8.0",)


def test_only_what_a_caller_can_plan_is_called_nearest():
    """A caller may know more than candidates say: goals that are left out of this problem, or other moves."""
    given, world, asked = problem(START, {"engine": "3"}, CANDIDATES), matrices(raw([BLOCKS])), []

    def feasible(goals, accepted):
        asked.append(goals["engine"].want)
        return goals["engine"].want == "==1"

    assert explain_refusal(given, world, Trial(given, feasible)).nearest == ("keep engine 1",)
    assert asked == ["==2", "==1"]


def test_where_the_last_resort_is_out_of_reach_what_is_there_may_stay():
    """Toolkits that nobody can take away: the target that changes nothing is one."""
    never = claim("tools-two-never", {"tools": "2"}, forbids=True)
    start = {**START, "tools": ("1.8",)}
    given = problem(start, {"engine": "3", "tools": {"present": ("2.0",)}}, {"engine": ("3", "2"), "twin": ("3", "2"),
                                                                              "tools": ("2.0",)})

    def feasible(goals, accepted):
        return not goals["tools"].absent and goals["engine"].want == "==1" and "2.0" not in goals["tools"].present

    refusal = explain_refusal(given, matrices(raw([never, BLOCKS])), Trial(given, feasible))
    assert refusal.nearest == ("keep engine 1, and tools 1.8 instead of 2.0",)
