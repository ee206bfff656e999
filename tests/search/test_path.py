"""The search: lockstep, order, side by side, inherited problems, hops, costs, and its use of networkx."""

from __future__ import annotations

import networkx as nx
import pytest

from planner.search.core.task import SearchLimitError
from planner.search.judge import Judge
from planner.search.moves import transitions
from planner.search.path import find_path
from planner.search.problem import COST_ORDER
from tests.search.worlds import claim, matrices, problem, raw

START = {"base": ("1",), "engine": ("1",), "twin": ("1",), "tools": ("1.2",), "lib": ("1",), "arch": ("x",)}
CANDIDATES = {"base": ("2", "1"), "engine": ("3", "2", "1"), "twin": ("3", "2", "1"), "tools": ("2.0", "1.8"),
              "lib": ("2", "1")}
TOOLS_NEED_ENGINE = claim("tools-need-engine", {"tools": "2"}, {"engine": ">=3"})


def moves(path):
    return [t.move for t in path.transitions]


def test_lockstep_members_move_together():
    path = find_path(problem(START, {"engine": "3"}, CANDIDATES), matrices(raw()))
    assert path is not None
    assert path.transitions[0].changes == (("engine", "1", "3"), ("twin", "1", "3"))
    assert all(s["engine"] == s["twin"] for s in path.states)


def test_lockstep_companion_that_is_absent_stays_absent():
    path = find_path(problem({**START, "twin": ()}, {"engine": "3"}, CANDIDATES), matrices(raw()))
    assert path is not None
    assert path.states[-1]["twin"] == ()


def test_no_path_when_the_companion_cannot_be_had():
    assert find_path(problem(START, {"engine": "3"}, {**CANDIDATES, "twin": ("2",)}), matrices(raw())) is None


def test_what_reboots_goes_first_when_rules_leave_the_order_open():
    path = find_path(problem(START, {"engine": "3", "lib": "2"}, CANDIDATES), matrices(raw()))
    assert path is not None
    assert moves(path) == ["engine", "lib"]


SIDE_BY_SIDE = {"lib": "2", "tools": {"present": ("1.8", "2.0"), "absent": ("1.2",)}}


def test_ties_are_settled_by_the_order_of_the_matrices():
    """All orders of these four steps cost the same otherwise; the moves' own order is what people expect to read."""
    path = find_path(problem(START, SIDE_BY_SIDE, CANDIDATES), matrices(raw()))
    assert path is not None
    assert moves(path) == ["tools", "tools", "lib", "tools"]      # what goes, goes when all else is there
    assert path.transitions[-1].changes[0][2] == ""
    document = raw()
    document["moves"].reverse()
    turned = find_path(problem(START, SIDE_BY_SIDE, CANDIDATES), matrices(document))
    assert turned is not None
    assert moves(turned) == ["lib", "tools", "tools", "tools"]


def test_the_matrices_order_yields_to_rules_and_only_as_far_as_it_must():
    rules = [claim("new-tools-need-lib", {"tools": "2"}, {"lib": "2"})]
    path = find_path(problem(START, SIDE_BY_SIDE, CANDIDATES), matrices(raw(rules)))
    assert path is not None
    assert moves(path) == ["tools", "lib", "tools", "tools"]
    assert path.cost["order"] == 2      # the library, while a tool is to come yet and one to go


@pytest.mark.parametrize("rules", [
    [], [claim("new-tools-need-lib", {"tools": "2"}, {"lib": "2"})],
    [claim("lib-needs-tools", {"lib": "2"}, {"tools": "2"}), TOOLS_NEED_ENGINE],
])
def test_no_other_path_is_cheaper_in_any_field(rules):
    """Every order and every choice is tried by hand; the search's cost is the least of them, field by field."""
    world, task = matrices(raw(rules)), problem(START, {**SIDE_BY_SIDE, "engine": "3"}, CANDIDATES)
    judge = Judge(world, task.start, frozenset(CANDIDATES))
    found = []

    def walk(state, cost, depth):
        if all(goal.met_by(state[name]) for name, goal in task.goals.items()):
            found.append(cost)
        elif depth:
            for transition, after in transitions(state, task, world):
                if not judge.blocking(after):
                    step = (transition.cost.get(name, 0) for name in COST_ORDER)
                    walk(after, tuple(map(sum, zip(cost, step, strict=True))), depth - 1)

    walk(task.start, (0,) * len(COST_ORDER), 5)
    path = find_path(task, world)
    assert path is not None
    assert tuple(path.cost.get(name, 0) for name in COST_ORDER) == min(found)


def test_order_follows_from_rules_not_from_names():
    """The library must go first where a rule says that the new engine needs it."""
    rules = [claim("engine-needs-lib", {"engine": ">=3"}, {"lib": "2"})]
    path = find_path(problem(START, {"engine": "3", "lib": "2"}, CANDIDATES), matrices(raw(rules)))
    assert path is not None
    assert moves(path) == ["lib", "engine"]


def test_tools_side_by_side_are_added_before_old_ones_go():
    goals = {"engine": "3", "tools": {"present": ("1.8", "2.0"), "absent": ("1.2",)}}
    path = find_path(problem(START, goals, CANDIDATES), matrices(raw([TOOLS_NEED_ENGINE])))
    assert path is not None
    assert moves(path)[0] == "engine"
    assert path.states[-1]["tools"] == ("1.8", "2.0")


def test_one_reboot_is_shared_where_a_move_allows_it():
    path = find_path(problem(START, {"engine": "3", "base": "2"}, CANDIDATES), matrices(raw()))
    assert path is not None
    assert moves(path) == ["base-and-engine"]
    assert path.cost["reboots"] == 1


def test_a_hop_through_an_intermediate_version_is_found():
    rules = [claim("no-big-jump", {"engine": ">=3", "lib": "<2"}, forbids=True),
             claim("lib-needs-two", {"lib": "2"}, {"engine": ">=2"})]
    path = find_path(problem(START, {"engine": "3", "lib": "2"}, CANDIDATES), matrices(raw(rules)))
    assert path is not None
    assert [s["engine"] for s in path.states] == [("1",), ("2",), ("2",), ("3",)]


def test_every_intermediate_state_keeps_workload_rules():
    """An attribute that a workload carries is judged in every state, not only at the end."""
    rules = [claim("workload", {"arch": "x", "tools": "1.2"}, {"engine": ">=1"}),
             claim("old-tool-breaks-engine-2", {"engine": "2"}, {"tools": "1.8"})]
    goals = {"engine": "3", "tools": {"present": ("1.8",), "absent": ("1.2",)}}
    path = find_path(problem(START, goals, CANDIDATES), matrices(raw(rules)))
    assert path is not None
    assert all(s["engine"] != ("2",) or "1.8" in s["tools"] for s in path.states)


def test_inherited_problem_does_not_stop_the_path_but_must_be_cleared():
    broken = [claim("old-engine-is-bad", {"engine": "1"}, forbids=True)]
    assert find_path(problem(START, {"engine": "3"}, CANDIDATES), matrices(raw(broken))) is not None
    only_lib = {"lib": ("2", "1")}
    assert find_path(problem(START, {"lib": "2"}, only_lib), matrices(raw(broken))) is None


def test_accepted_risk_opens_the_path_and_is_counted():
    risky = [claim("three-is-risky", {"engine": "3"}, forbids=True, risk="engine-three")]
    assert find_path(problem(START, {"engine": "3"}, CANDIDATES), matrices(raw(risky))) is None
    taken = problem(START, {"engine": "3"}, CANDIDATES, accepted=frozenset({"engine-three"}))
    path = find_path(taken, matrices(raw(risky)))
    assert path is not None
    assert path.cost["risks"] == 1


def test_unknown_in_a_closed_family_closes_the_edge():
    closed = [{"name": "engine-arch", "title": "engine on arch", "closed": True, "over": "engine", "against": "arch"}]
    known = claim("engine-1-2", {"engine": "<3"}, {"arch": "x"}, family="engine-arch")
    world = matrices(raw([known], families=closed))
    assert find_path(problem(START, {"engine": "3"}, CANDIDATES), world) is None
    assert find_path(problem(START, {"engine": "2"}, CANDIDATES), world) is not None


def test_unknown_component_is_never_moved_on_a_guess():
    start = {k: v for k, v in START.items() if k != "lib"}
    assert find_path(problem(start, {"lib": "2"}, CANDIDATES), matrices(raw())) is None


def test_already_there_is_an_empty_path():
    path = find_path(problem(START, {"engine": ">=1"}, CANDIDATES), matrices(raw()))
    assert path is not None
    assert path.transitions == ()


def test_fewer_risks_are_preferred_when_asked_to_come_first():
    rules = [claim("skip-two", {"engine": "3", "lib": "1"}, forbids=True, risk="r")]
    both = problem(START, {"engine": "3", "lib": "2"}, CANDIDATES, accepted=frozenset({"r"}))
    first = find_path(both, matrices(raw(rules)))
    assert first is not None
    assert first.cost["risks"] == 0
    assert moves(first) == ["lib", "engine"]


def test_search_uses_networkx(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("networkx is off")

    monkeypatch.setattr(nx, "astar_path", broken)
    with pytest.raises(RuntimeError, match="networkx is off"):
        find_path(problem(START, {"engine": "3"}, CANDIDATES), matrices(raw()))


def test_only_the_part_of_the_graph_that_is_needed_is_grown():
    """A search that meets its bound says so and never answers 'impossible'."""
    with pytest.raises(SearchLimitError):
        find_path(problem(START, {"engine": "3", "lib": "2", "base": "2"}, CANDIDATES, expansions_max=1),
                  matrices(raw()))


def test_an_older_version_is_put_on_only_where_it_is_asked_for_and_the_move_may_go_down():
    start = {**START, "engine": ("3",), "twin": ("3",), "lib": ("2",)}
    document = raw([claim("lib-one-needs-engine-two", {"lib": "1"}, {"engine": "<3"})])
    assert find_path(problem(start, {"engine": "2"}, CANDIDATES), matrices(document)) is None
    for move in document["moves"]:
        move["downgrade"] = move["name"] in ("engine", "lib")
    path = find_path(problem(start, {"engine": "2"}, CANDIDATES), matrices(document))
    assert path is not None
    assert path.transitions[0].changes == (("engine", "3", "2"), ("twin", "3", "2"))
    assert path.states[-1]["lib"] == ("2",)
    both = find_path(problem(start, {"engine": "2", "lib": "1"}, CANDIDATES), matrices(document))
    assert both is not None
    assert moves(both) == ["engine", "lib"]
    assert find_path(problem(start, {"lib": "1"}, CANDIDATES), matrices(document)) is None


def test_a_version_with_a_known_problem_is_taken_only_where_no_other_fits():
    """Of two that meet a range the newer one is taken, unless something is known about it."""
    known = [claim("engine-three-stutters", {"engine": "3"}, forbids=True, severity="warning")]
    task = problem(START, {"engine": ">=2"}, CANDIDATES)
    newest, other = find_path(task, matrices(raw())), find_path(task, matrices(raw(known)))
    assert newest is not None
    assert newest.states[-1]["engine"] == ("3",)
    assert other is not None
    assert other.states[-1]["engine"] == ("2",)
    asked = find_path(problem(START, {"engine": "3"}, CANDIDATES), matrices(raw(known)))
    assert asked is not None
    assert asked.cost["warnings"] == 1
