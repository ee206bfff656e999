"""The traps of planning over several components, one small instance each; what is right is known by construction.

All instances are invented. Every optimum is also that of plain Dijkstra (``Truth``), so none is right by opinion alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bench_task import Universe
from benchmarks.solve import path_of
from planner.search.core.solve import solve
from planner.search.core.task import Solution, unpack
from tests.search.core.bench import WHOLE, Instance, Step, Truth, instance, is_minimal_conflict, kind, rule

ROOT = Path(__file__).resolve().parents[3]


def plan(made: Instance, cost: tuple[int, ...], arch: int = 0) -> list[Step]:
    """Return the steps of an instance; they are legal, safe, and cost what they should."""
    answer = path_of(Universe(made), (0, arch, 0), [])
    assert answer["status"] == "ok", answer
    truth = Truth(made, arch=arch)
    replayed, states = truth.replay(answer["steps"])
    assert truth.ends(states[-1])
    assert replayed == tuple(answer["cost"]) == truth.optimum() == cost
    steps: list[Step] = answer["steps"]
    return steps


def conflict(made: Instance, arch: int = 0) -> set[str]:
    """Return why there is no path; it is right and minimal."""
    answer = path_of(Universe(made), (0, arch, 0), [])
    assert answer["status"] == "infeasible", answer
    assert is_minimal_conflict(made, answer["conflict"], arch)
    return set(answer["conflict"])


def told(steps: list[Step]) -> list[str]:
    """Return steps as words: ``a+1``, ``tools-0``; a version that another one follows is not told."""
    return [" ".join([f"{k}+{v}" for k, vs in s["add"].items() for v in vs]
                     + [f"{k}-{v}" for k, vs in s["remove"].items() if k not in s["add"] for v in vs]) for s in steps]


# --- 1 to 4: order, hops, lockstep, side by side ---------------------------------------------------------------------


def test_order_what_the_target_names_first_may_have_to_go_last() -> None:
    """1: the new driver needs the new kernel, whatever stands first; taken alone the driver is stuck."""
    made = instance({"driver": kind(2, reboot=1), "kernel": kind(2, reboot=1)},
                    [rule("driver-needs-kernel", {"driver": "1"}, {"kernel": "1"})],
                    {"driver": "0", "kernel": "0"}, {"driver": "1", "kernel": "1"})
    assert told(plan(made, (2, 2, 2, 20, 0))) == ["kernel+1", "driver+1"]


def test_hop_through_a_version_in_neither_start_nor_goal() -> None:
    """2: the library never fits the step from 0 to 2 at once."""
    made = instance({"a": kind(3), "b": kind(2)},
                    [rule("new-b", {"b": "1"}, {"a": "1 2"}), rule("new-a", {"a": "2"}, {"b": "1"})],
                    {"a": "0", "b": "0"}, {"a": "2"})
    assert told(plan(made, (0, 3, 3, 30, 0))) == ["a+1", "b+1", "a+2"]


def test_hop_limit_makes_the_hops() -> None:
    """2: two places at most in one step."""
    made = instance({"a": kind(6, hop=2)}, [], {"a": "0"}, {"a": "5"})
    assert len(plan(made, (0, 3, 3, 30, 0))) == 3


@pytest.mark.parametrize("height", [4, 31])
def test_staircase_each_kind_in_turn_one_version_at_a_time(height: int) -> None:
    """2: neither may be more than one version ahead; 62 steps for 31 versions more."""
    rules = [rule(f"{k}-{v}", {k: f"{v}"}, {other: " ".join(map(str, range(v - ahead, height + 1)))})
             for v in range(1, height + 1) for k, other, ahead in (("a", "b", 1), ("b", "a", 0))]
    made = instance({"a": kind(height + 1), "b": kind(height + 1)}, rules, {"a": "0", "b": "0"}, {"b": str(height)})
    steps = told(plan(made, (0, 2 * height, 2 * height, 20 * height, 0)))
    assert steps == [f"{k}+{v}" for v in range(1, height + 1) for k in ("a", "b")]


def _lockstep(archs: list[str], on: list[str]) -> Instance:
    rules = [rule(f"{a}-{v}", {a: f"{v}"}, {b: f"{v}"}, on) for v in (0, 1, 2) for a, b in (("d", "f"), ("f", "d"))]
    return instance({"d": kind(3, reboot=1), "f": kind(3)}, rules, {"d": "0", "f": "0"}, {"d": "2"}, [["d", "f"]],
                    archs)


def test_lockstep_pair_moves_as_one_and_is_equal_in_every_state() -> None:
    """3: no order of single steps keeps them equal."""
    assert plan(_lockstep(["sw"], ["sw"]), (1, 1, 1, 20, 0)) == [
        {"add": {"d": ["2"], "f": ["2"]}, "remove": {"d": ["0"], "f": ["0"]}}]


def test_lockstep_without_a_bundle_is_refused() -> None:
    """3: only one step for both can move them."""
    made = _lockstep(["sw"], ["sw"])
    made["bundles"] = []
    assert "goal:d" in conflict(made)


def test_lockstep_may_hold_on_some_architectures_only() -> None:
    """3: elsewhere the follower stays."""
    made = _lockstep(["sw", "plain"], ["sw"])
    assert told(plan(made, (1, 1, 1, 20, 0), arch=0)) == ["d+2 f+2"]
    assert told(plan(made, (1, 1, 1, 10, 0), arch=1)) == ["d+2"]


def test_old_version_leaves_before_what_it_does_not_fit() -> None:
    """4: the new driver ends what the old toolkit needs."""
    made = instance({"driver": kind(2), "tools": kind(2, several=True, least=1)},
                    [rule("old-tools", {"tools": "0"}, {"driver": "0"})],
                    {"driver": "0", "tools": "0"}, {"driver": "1", "tools": {"has": ["1"]}})
    assert told(plan(made, (0, 2, 3, 30, 0))) == ["tools+1", "tools-0", "driver+1"]


def test_old_version_leaves_for_room() -> None:
    """4: two side by side at most; a removal costs what it costs and drains nobody."""
    made = instance({"tools": kind(3, several=True, least=1, most=2, remove_minutes=3)}, [], {"tools": "0 1"},
                    {"tools": {"has": ["2"], "not": ["0"]}})
    assert told(plan(made, (0, 1, 2, 13, 0))) == ["tools-0", "tools+2"]


def test_detour_through_a_toolkit_in_neither_start_nor_goal() -> None:
    """4: a framework always needs a toolkit that fits; 1 fits both drivers, is in no goal, and must come and go."""
    made = instance(
        {"driver": kind(2), "tools": kind(3, several=True, least=1)},
        [rule("old-tools", {"tools": "0"}, {"driver": "0"}), rule("new-tools", {"tools": "2"}, {"driver": "1"})],
        {"driver": "0", "tools": "0"}, {"driver": "1", "tools": {"has": ["2"], "not": ["0", "1"]}})
    assert told(plan(made, (0, 3, 5, 50, 0))) == ["tools+1", "tools-0", "driver+1", "tools+2", "tools-1"]


# --- 5 to 9: capacity, downgrades, bundles, lexicographic costs, collateral ------------------------------------------


def test_capacity_of_one_makes_a_swap_impossible() -> None:
    """5: at least one and at most one, one at a time; the capacity is named."""
    made = instance({"tools": kind(2, several=True, least=1, most=1)}, [], {"tools": "0"}, {"tools": {"has": ["1"]}})
    assert conflict(made) == {"cap:tools", "goal:tools"}


def test_capacity_of_one_with_room_for_none_is_a_swap() -> None:
    """5: without a least number the old one goes first."""
    made = instance({"tools": kind(2, several=True, least=0, most=1)}, [], {"tools": "0"}, {"tools": {"has": ["1"]}})
    assert told(plan(made, (0, 1, 2, 20, 0))) == ["tools-0", "tools+1"]


def _withdrawn(*, down: bool) -> Instance:
    return instance({"fw": kind(3, down=down), "driver": kind(2)}, [rule("fits", {"driver": "1"}, {"fw": "1"})],
                    {"fw": "2", "driver": "0"}, {"driver": "1"})


def test_downgrade_where_allowed() -> None:
    """6: the way leads down."""
    assert told(plan(_withdrawn(down=True), (0, 2, 2, 20, 0))) == ["fw+1", "driver+1"]


def test_downgrade_where_not_allowed_is_named() -> None:
    """6: the limit of moves is part of the reason."""
    assert conflict(_withdrawn(down=False)) == {"moves:fw", "rule:fits", "goal:driver"}


def test_down_and_up_again() -> None:
    """6: the firmware must go down for the driver's step and stand at its old version at the end."""
    made = instance(
        {"fw": kind(2, down=True), "driver": kind(3, hop=1)},
        [rule("only-with-old", {"driver": "1"}, {"fw": "0"})], {"fw": "1", "driver": "0"}, {"driver": "2", "fw": "1"})
    assert told(plan(made, (0, 4, 4, 40, 0))) == ["fw+0", "driver+1", "driver+2", "fw+1"]


def test_bundle_saves_reboots_and_drains() -> None:
    """7: one reboot for two kinds, one drain for the rest."""
    made = instance({"a": kind(2, reboot=1), "b": kind(2, reboot=1), "c": kind(2)}, [], dict.fromkeys("abc", "0"),
                    dict.fromkeys("abc", "1"), [["a", "b"]])
    assert sorted(told(plan(made, (1, 2, 2, 30, 0)))) == ["a+1 b+1", "c+1"]


def test_bundle_of_many_kinds_with_many_versions() -> None:
    """7: 5^6 ways to take the one step."""
    names = list("abcdef")
    made = instance({k: kind(5, hop=4) for k in names}, [rule("ban", {"a": "4", "b": "4"})], dict.fromkeys(names, "0"),
                    dict.fromkeys(names, "3 4"), [names])
    assert len(solve(Universe(made).task(WHOLE)[0]).steps) == 1  # type: ignore[union-attr]


def test_fewer_reboots_with_more_steps() -> None:
    """8: one reboot and four steps are better than two reboots and two steps."""
    made = instance(
        {"driver": kind(3, reboot=1), "x": kind(2), "y": kind(2), "z": kind(2)},
        [rule("jump", {"driver": "2"}, {"x": "1"}), rule("x-y", {"x": "1"}, {"y": "1", "driver": "1 2"}),
         rule("y-z", {"y": "1"}, {"z": "1"})],
        {"driver": "0", "x": "0", "y": "0", "z": "0"}, {"driver": "2"})
    assert told(plan(made, (1, 4, 4, 40, 0)))[-1] == "driver+2"
    assert len(plan({**made, "rules": [*made["rules"], rule("no-z", {"z": "1"})]}, (2, 3, 3, 30, 0))) == 3


@pytest.mark.parametrize(("field", "dear"), [("reboot", {"reboot": 1}), ("drain", {"drain": 1})])
def test_each_field_of_the_cost_outweighs_all_behind_it(field: str, dear: dict[str, int]) -> None:
    """8: a hundred thousand minutes, three more steps and a risk for one reboot or drain less."""
    cheap = {"drain": 0, "minutes": 100_000, "risk": 1}
    made = instance(
        {"a": kind(2, drain=0), "dear": kind(2, **{"drain": 0, **dear}), "x": kind(2, **cheap), "y": kind(2, **cheap)},
        [rule("either", {"a": "1"}, {"dear": "1", "y": "1"}), rule("y-x", {"y": "1"}, {"x": "1"})],
        dict.fromkeys(("a", "dear", "x", "y"), "0"), {"a": "1"})
    assert told(plan(made, (0, 0, 3, 200_010, 2))) == ["x+1", "y+1", "a+1"], field


def test_kinds_that_the_target_does_not_name_move_where_they_must() -> None:
    """9: through two free kinds, one of which is tied to the other only."""
    made = instance(
        {"driver": kind(2), "ofed": kind(3), "kernel": kind(3), "idle": kind(3)},
        [rule("driver", {"driver": "1"}, {"ofed": "1 2"}), rule("ofed", {"ofed": "1 2"}, {"kernel": "2"})],
        dict.fromkeys(("driver", "ofed", "kernel", "idle"), "0"), {"driver": "1"})
    steps = told(plan(made, (0, 3, 3, 30, 0)))
    assert [s.partition("+")[0] for s in steps] == ["kernel", "ofed", "driver"]


# --- 10, 11: bans with a single kind, dominance ----------------------------------------------------------------------


def test_ban_of_one_version_of_one_kind() -> None:
    """10: withdrawn is withdrawn, also as a stop on the way."""
    made = instance({"a": kind(3, hop=2)}, [rule("withdrawn", {"a": "1"})], {"a": "0"}, {"a": "1 2"})
    assert told(plan(made, (0, 1, 1, 10, 0))) == ["a+2"]
    made["kinds"]["a"]["moves"]["max_hop"] = 1
    assert conflict(made) == {"rule:withdrawn", "goal:a", "moves:a"}


def test_ban_on_one_architecture() -> None:
    """10: the same cohort elsewhere is free to take it."""
    made = instance({"a": kind(3)}, [rule("not-here", {"a": "2"}, arch=["old"])], {"a": "0"}, {"a": "2"},
                    archs=["old", "new"])
    assert conflict(made, arch=0) == {"rule:not-here", "goal:a"}
    assert told(plan(made, (0, 1, 1, 10, 0), arch=1)) == ["a+2"]


def test_version_that_is_dominated_is_still_a_stop_under_a_hop_limit() -> None:
    """11: 1 breaks more than its neighbours and is the only way between them."""
    made = instance({"a": kind(3, hop=1), "b": kind(2)}, [rule("one-is-worse", {"a": "1", "b": "1"})],
                    {"a": "0", "b": "0"}, {"a": "2"})
    assert told(plan(made, (0, 2, 2, 20, 0))) == ["a+1", "a+2"]


def test_version_that_dominates_but_is_no_goal_does_not_replace_one_that_is() -> None:
    """11: 2 is better than 1 in every rule; 1 is asked for."""
    made = instance({"a": kind(3), "b": kind(2)}, [rule("one-needs-b", {"a": "1"}, {"b": "1"})],
                    {"a": "0", "b": "0"}, {"a": "1"})
    assert told(plan(made, (0, 2, 2, 20, 0))) == ["b+1", "a+1"]


def test_version_that_dominates_but_must_not_stay_does_not_replace_one_that_may() -> None:
    """11: side by side, what the goal forbids is no stand-in for what it leaves open."""
    made = instance({"tools": kind(3, several=True, least=1), "b": kind(2)},
                    [rule("b", {"b": "1"}, {"tools": "1 2"}),
                     rule("one-is-worse", {"tools": "1", "b": "0"}, {"tools": "0"})],
                    {"tools": "0", "b": "0"}, {"b": "1", "tools": {"not": ["2"]}})
    assert told(plan(made, (0, 2, 2, 20, 0))) == ["tools+1", "b+1"]


def test_versions_that_stand_in_for_each_other_do_not_both_vanish() -> None:
    """11: with a least number of two, alike versions are not one version."""
    made = instance({"tools": kind(4, several=True, least=2, most=3)}, [], {"tools": "0 1"},
                    {"tools": {"not": ["0", "1"]}})
    assert len(plan(made, (0, 2, 4, 40, 0))) == 4


# --- 16 to 18: nothing to do, wrong starts, widths, determinism ------------------------------------------------------


def test_already_at_the_target_is_a_path_without_steps() -> None:
    """16: nothing to do is an answer; so is a target that names nothing that moves."""
    made = instance({"a": kind(3), "tools": kind(2, several=True)}, [], {"a": "1", "tools": ""},
                    {"a": "0 1", "tools": {"not": ["1"]}})
    assert plan(made, (0, 0, 0, 0, 0)) == []
    assert plan(instance({"a": kind(2)}, [], {"a": "0"}, {}), (0, 0, 0, 0, 0)) == []


def test_start_that_breaks_a_rule_is_explained_by_that_rule_alone() -> None:
    """16: no goal takes part, and the rule wins over everything else that is in the way as well."""
    made = instance({"a": kind(3), "b": kind(2), "c": kind(2)},
                    [rule("banned", {"a": "2"}), rule("wrong", {"a": "0"}, {"b": "1"}), rule("c-never", {"c": "1"})],
                    {"a": "0", "b": "0", "c": "0"}, {"a": "2", "c": "1"})
    assert conflict(made) == {"rule:wrong"}


def test_start_that_breaks_a_rule_about_kinds_that_no_goal_is_tied_to() -> None:
    """16: even what could stay as it is must be right at the start."""
    made = instance({"a": kind(2), "b": kind(2)}, [rule("wrong", {"b": "0"})], {"a": "0", "b": "0"}, {"a": "1"})
    assert conflict(made) == {"rule:wrong"}


def test_start_at_the_target_that_breaks_a_rule_is_refused() -> None:
    """16: nothing to do does not make a wrong state right."""
    made = instance({"a": kind(2)}, [rule("wrong", {"a": "1"})], {"a": "1"}, {"a": "1"})
    assert conflict(made) == {"rule:wrong"}


def test_goals_that_nothing_can_meet() -> None:
    """16: behind the start, or wanted and unwanted at once by capacity."""
    made = instance({"a": kind(2)}, [], {"a": "1"}, {"a": "0"})
    assert conflict(made) == {"moves:a", "goal:a"}
    made = instance({"tools": kind(2, several=True, most=1)}, [], {"tools": ""}, {"tools": {"has": ["0", "1"]}})
    assert conflict(made) == {"cap:tools", "goal:tools"}


def test_many_cheap_steps_stay_within_the_widths_of_the_cost() -> None:
    """17: more than 1 024 drains and steps, and more than 65 536 minutes, in one path."""
    made = instance({"a": kind(1201, hop=1, minutes=100)}, [], {"a": "0"}, {"a": "1200"})
    found = solve(Universe(made).task(WHOLE)[0])
    assert isinstance(found, Solution)
    assert unpack(found.cost, 5) == (0, 1200, 1200, 120_000, 0)


SCRIPT = """
import json, sys
from tests.search.core.test_traps import _lockstep, many_ties
from benchmarks.bench_task import Universe
from benchmarks.solve import path_of
made = (many_ties(True), many_ties(False), _lockstep(["s"], ["s"]))
print(json.dumps([path_of(Universe(m), (0, 0, 0), []) for m in made]))
"""


def many_ties(possible: bool) -> Instance:
    """Return an instance with a hundred equally good orders, or with several equally good reasons against it."""
    names = [f"kind-{n}" for n in "edcba"]
    goal: dict[str, Any] = {**dict.fromkeys(names, "1 2"), "tools": {"has": ["x", "y"], "not": ["w"]}}
    rules = [rule("order", {names[0]: "1 2"}, {names[3]: "1 2"})]
    if not possible:
        rules += [rule(f"never-{n}", {n: "1 2"}) for n in names]
    return instance({**{n: kind(3) for n in names}, "tools": kind(["z", "y", "x", "w"], several=True)}, rules,
                    {**dict.fromkeys(names, "0"), "tools": "w"}, goal, [names[:2]])


def test_same_bytes_over_processes_and_hash_seeds() -> None:
    """18: paths and conflicts."""
    answers = set()
    for seed in ("0", "1", "42"):
        run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed},
                             capture_output=True, check=True, timeout=120)
        answers.add(run.stdout)
    assert len(answers) == 1


@pytest.mark.parametrize(("minutes", "bundles"), [((1 << 20, 0), []), ((1 << 19, 1 << 19), [["a", "b"]])])
def test_a_step_too_wide_for_its_field_is_refused_not_miscounted(minutes: tuple[int, int], bundles: list[list[str]]
                                                                 ) -> None:
    """17: one kind alone, or a bundle's sum."""
    made = instance({k: kind(2, minutes=m) for k, m in zip("ab", minutes, strict=True)}, [], {"a": "0", "b": "0"},
                    {"a": "1", "b": "1"}, bundles)
    with pytest.raises(ValueError, match="out of range: 1048576"):
        solve(Universe(made).task(WHOLE)[0])


def _wide(minutes: int) -> Instance:
    free, dear = {"drain": 0, "minutes": 0}, {"drain": 0, "minutes": minutes}
    return instance(
        {"a": kind(2, **free), "x": kind(2, **dear), "u": kind(2, **dear), "y": kind(3, hop=1, **free),
         "z": kind(2, **free)},
        [rule("either", {"a": "1"}, {"u": "1", "z": "1"}), rule("u", {"u": "1"}, {"x": "1"}),
         rule("z", {"z": "1"}, {"y": "2"})], dict.fromkeys("axuyz", "0"), {"a": "1"})


def test_minutes_below_the_width_of_their_field_decide_nothing_before_it() -> None:
    """17: three steps of a year are better than four of no time."""
    assert len(plan(_wide(1 << 18), (0, 0, 3, 1 << 19, 0))) == 3


def test_sums_of_many_steps_do_not_overflow_silently() -> None:
    """17: every step fits its field, the sum does not; the answer is right, or the search says that it cannot tell."""
    try:
        found = solve(Universe(_wide(1_048_575)).task(WHOLE)[0])
    except ValueError:
        return
    assert isinstance(found, Solution)
    assert len(found.steps) == 3
