"""Failure domains: nodes of all pools count in them, and so do nodes that are down; in schedule and engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.documents import dump_model
from planner.errors import ScheduleError
from planner.execute.course import Course
from planner.execute.room import Room
from planner.execute.states import NodeState, start_state
from planner.model.target import Target
from planner.schedule.assemble import make_plan
from planner.schedule.plan import Plan
from planner.schedule.verify import verify_schedule
from tests.schedule.fleets import World, batches, world
from tests.schedule.machines import NEW, fleet, shipped, ubuntu

ONE_EACH = {"max_unavailable": 3, "max_unavailable_per_domain": 1, "soak_minutes": 0}


def racks(**rollout: Any) -> World:
    """Return four nodes in two racks; a fifth one, in rack a, is down."""
    made = world({f"n{i}": {"failure_domain": "ab"[i % 2]} for i in range(4)}, None, None, {"p": ("lost",)}, **rollout)
    made.down_domains["lost"] = "a"
    return made


def test_a_node_that_is_down_uses_up_the_limit_of_its_failure_domain() -> None:
    with pytest.raises(ScheduleError) as refused:
        racks(**ONE_EACH).schedule()
    found = refused.value.diagnostics[0]
    assert found.subject == "failure domain a"
    assert "1 of its nodes are down already" in found.summary or "1 of its nodes is down already" in found.summary


def test_what_is_left_of_a_failure_domain_may_move() -> None:
    made = racks(max_unavailable=4, max_unavailable_per_domain=2, growth=10)
    plan = made.plan()
    assert plan.pools["p"].down_domains == {"lost": "a"}
    assert verify_schedule(plan, made.own) == ()
    assert all(sum(plan.nodes[n].failure_domain == "a" for n in batch) <= 1 for batch in batches(plan))


def test_a_batch_that_forgets_who_is_down_is_found_out() -> None:
    made = racks(max_unavailable=4, max_unavailable_per_domain=2, growth=10)
    document = dump_model(made.plan())
    waves = document["waves"]
    waves[1:] = [{**waves[1], "batches": [{**waves[1]["batches"][0], "nodes": [
        n for w in waves[1:] for b in w["batches"] for n in b["nodes"]]}]}]
    document["waves"][0]["batches"][0]["nodes"] = ["n1"]
    document["waves"][1]["batches"][0]["nodes"] = ["n0", "n2", "n3"]
    complaints = verify_schedule(Plan.model_validate(document), made.own)
    assert any("failure domain a, 1 are down" in c for c in complaints), complaints


def test_discovery_tells_the_failure_domain_of_a_node_that_cannot_be_read() -> None:
    facts = ubuntu()
    nodes = {f"n{i}": (facts, {"failure_domain": f"rack-{i % 2}"}) for i in range(4)}
    target = Target.model_validate({"schema": "planner.target/1", "name": "t", "want": {"driver": NEW},
                                    "rollout": {"max_unavailable": 3, "max_unavailable_per_domain": 2}})
    plan = make_plan(fleet(nodes, {"lost": {"failure_domain": "rack-1"}, "gone": {}}), target, shipped(),
                     planner_version="0")
    assert plan.pools["default"].down_domains == {"lost": "rack-1"}
    assert plan.pools["default"].already_down == ("gone", "lost")


def shared() -> Plan:
    """Return two pools in one failure domain, one of which limits it."""
    table = {f"{pool}{i}": {"pool": pool, "failure_domain": "pdu"} for pool in "xy" for i in range(3)}
    made = world(table, None, {"y": {"max_unavailable": 3, "max_unavailable_per_domain": 1, "soak_minutes": 0}},
                 max_unavailable=3, soak_minutes=0)
    return made.plan()


def test_the_engine_counts_nodes_of_all_pools_in_a_failure_domain() -> None:
    """While a node of the other pool is held back, failed, no node of this pool may leave the domain they share."""
    plan = shared()
    state = start_state(plan)
    assert Room(plan, state).take(("y1",)) == ""
    failed = replace(state.nodes["x0"], state=NodeState.FAILED, started=True)
    held = replace(state, nodes={**state.nodes, "x0": failed})
    assert "failure domain pdu" in Room(plan, held).take(("y1",))
    assert Room(plan, held).take(("x1",)) == ""
    course = Course(plan)
    assert course.with_room(["y1"], {"x0"}) == ()
    assert course.with_room(["x1"], {"x0"}) == ("x1",)


def test_the_engine_counts_nodes_that_are_down_in_their_failure_domain() -> None:
    made = racks(max_unavailable=4, max_unavailable_per_domain=2, growth=10)
    plan = made.plan()
    assert "failure domain a" in Room(plan, start_state(plan)).take(("n0", "n2"))
    assert Course(plan).with_room(["n0", "n2"], {"lost"}) == ("n0",)


def test_a_domain_that_leaves_a_node_behind_is_told() -> None:
    """The node that is down keeps the old driver: when it comes back, its domain is not equal any more."""
    facts = ubuntu()
    nodes = {f"n{i}": (facts, {"nvlink_domain": f"rack-{i % 2}", "pool": "ab"[i % 2]}) for i in range(4)}
    document = {"schema": "planner.target/1", "name": "t", "want": {"driver": NEW}, "rollout": {"max_unavailable": 3}}
    down = {"lost": {"nvlink_domain": "rack-1", "pool": "b"}}
    told = [w for w in make_plan(fleet(nodes, down), Target.model_validate(document), shipped(),
                                 planner_version="0").warnings if "NVLink" in w]
    assert len(told) == 1
    assert told[0].startswith("NVLink domain rack-1 moves without lost, which this plan leaves out: bring it")
    part = Target.model_validate({**document, "select": ["n0"]})
    told = [w for w in make_plan(fleet(nodes), part, shipped(), planner_version="0").warnings if "NVLink" in w]
    assert len(told) == 1
    assert told[0].startswith("NVLink domain rack-0 moves without n2, which")


def test_canaries_are_spread_over_failure_domains() -> None:
    """Four cohorts in four racks: a canary in each rack, in one batch, and not four after another in the first."""
    table = {f"n{i:02}": {"cohort": f"c{i % 4}", "failure_domain": f"rack-{i // 4}"} for i in range(16)}
    plan = world(table, max_unavailable=4, max_unavailable_per_domain=1).plan()
    (chosen,) = batches(plan, "canary")
    assert len({plan.nodes[n].failure_domain for n in chosen}) == len({plan.nodes[n].cohort for n in chosen}) == 4


def test_a_pool_that_says_less_of_a_rack_does_not_bind_the_others_once_it_is_done() -> None:
    """Pool x lets one node of a rack go at once, y three: with x in the batch one, without it three."""
    table = {**{f"x{i}": {"pool": "x", "failure_domain": "r"} for i in range(2)},
             **{f"y{i}": {"pool": "y", "failure_domain": "r", "cohort": "d"} for i in range(8)}}
    own = {"x": {"max_unavailable": 2, "max_unavailable_per_domain": 1, "soak_minutes": 0},
           "y": {"max_unavailable": 8, "max_unavailable_per_domain": 3, "growth": 10, "soak_minutes": 0}}
    made = world(table, own=own)
    plan = made.plan()
    assert verify_schedule(plan, made.own) == ()
    sizes = [(len(b.nodes), len({plan.nodes[n].pool for n in b.nodes})) for w in plan.waves for b in w.batches]
    assert sorted(sizes) == [(1, 1)] * 4 + [(3, 1)] * 2, sizes


def test_who_is_down_is_named_and_the_floor_is_told_where_it_binds() -> None:
    with pytest.raises(ScheduleError) as refused:
        racks(**ONE_EACH).schedule()
    assert "1 of its nodes is down already: lost" in refused.value.diagnostics[0].summary
    made = world({f"n{i:02}": {} for i in range(18)}, None, None, {"p": ("x1", "x2")}, max_unavailable=9,
                 min_in_service=18)
    with pytest.raises(ScheduleError) as refused:
        made.schedule()
    assert refused.value.diagnostics[0].hint.endswith("or lower min_in_service to 17")
    both = replace(made, rollout=made.rollout.model_copy(update={"max_unavailable": 1}))
    with pytest.raises(ScheduleError) as refused:
        both.schedule()
    assert refused.value.diagnostics[0].hint.endswith("raise max_unavailable to 3 and lower min_in_service to 17")


def test_a_named_canary_that_is_down_is_told_as_that() -> None:
    with pytest.raises(ScheduleError) as refused:
        world({f"n{i}": {} for i in range(4)}, None, None, {"p": ("c1",)}, max_unavailable=3,
              canary=("c1", "n0")).schedule()
    found = refused.value.diagnostics[0]
    assert (found.code, found.summary) == ("canary-down", "canary 'c1' is down: it could not be read")


def test_racks_empty_evenly_so_that_the_last_one_does_not_go_alone() -> None:
    """Four racks of six, one node of each at a time: six batches of four, not many of the last rack's nodes alone."""
    table = {f"n{i:02}": {"failure_domain": f"r{i // 6}"} for i in range(24)}
    made = world(table, max_unavailable=3, max_unavailable_per_domain=1, soak_minutes=0, growth=10)
    plan = made.plan()
    assert verify_schedule(plan, made.own) == ()
    sizes = [len(b.nodes) for w in plan.waves for b in w.batches]
    assert sum(sizes) == 24
    assert len(sizes) == 1 + 8, sizes      # a canary, then 23 nodes, three at a time


def test_domains_of_another_order_stay_in_theirs() -> None:
    """Communication domains go one after another, whatever their racks hold."""
    table = {f"n{i:02}": {"failure_domain": f"r{i % 3}", "comm_domain": f"m{i // 6}", "cohort": "l"} for i in range(18)}
    made = world(table, {"l": {"component": "lib"}}, max_unavailable=3, max_unavailable_per_domain=1, soak_minutes=0,
                 growth=10)
    plan = made.plan()
    order = [plan.nodes[n].comm_domain for batch in batches(plan) for n in batch]
    assert order == sorted(order)
