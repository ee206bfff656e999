"""The table of node states, the prediction of what a node must look like, and the order of decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from planner.errors import ExitCode
from planner.execute.decide import Act, Note, Stop, Wait, decide, failure_budget
from planner.execute.predict import at_goal, differences, minutes_left, path_values
from planner.execute.states import FINAL, TRANSITIONS, Entry, Event, NodeState, replay, start_state, transition
from tests.execute.world import START, make_plan

PLAN = make_plan()
COHORT = PLAN.cohorts[0]


def test_every_state_but_done_can_be_left_and_done_cannot() -> None:
    leaving = {state for state, _ in TRANSITIONS}
    assert leaving == set(NodeState) - {NodeState.DONE}


def test_every_state_can_be_reached_and_every_event_is_used() -> None:
    assert set(TRANSITIONS.values()) == set(NodeState) - {NodeState.PENDING}
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_the_only_ways_to_done_are_an_undrain_after_a_gate_and_being_there_already() -> None:
    assert {pair for pair, to in TRANSITIONS.items() if to is NodeState.DONE} == {
        (NodeState.UNDRAIN_REQUIRED, Event.UNDRAINED), (NodeState.PREFLIGHT_REQUIRED, Event.AT_GOAL)}
    assert {event for (_, event), to in TRANSITIONS.items() if to is NodeState.UNDRAIN_REQUIRED} == {
        Event.GATE_PASSED, Event.AT_GOAL_GATED, Event.UNREACHABLE, Event.RESUMED}


def test_a_failed_node_is_moved_by_nobody_but_a_person() -> None:
    for state in (NodeState.FAILED, NodeState.LOST):
        assert {event for s, event in TRANSITIONS if s is state} == {Event.RETRY, Event.SKIP}


def test_a_pair_that_is_not_in_the_table_is_a_programmer_error() -> None:
    with pytest.raises(AssertionError, match="illegal"):
        transition(NodeState.DONE, Event.RETRY)


def found(**values: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {**COHORT.start, **values}


def test_a_path_knows_every_value_on_the_way() -> None:
    values = path_values(COHORT)
    assert values["driver"] == {frozenset({"570.1"}), frozenset({"580.2"})}
    assert values["cuda_toolkits"] == {frozenset({"12.8.1"}), frozenset({"12.8.1", "13.0.2"})}


@pytest.mark.parametrize(("values", "started", "expected"), [
    ({}, False, []),
    ({"driver": ("575.9",)}, False, [("driver", "570.1", "575.9")]),
    ({"os": ("debian-13",)}, False, [("os", "debian-12", "debian-13")]),
    ({"driver": ("580.2",)}, False, [("driver", "570.1", "580.2")]),
    ({"driver": ("580.2",)}, True, []),                                   # half way: both ends are on the path
    ({"os": ("debian-13",)}, True, []),                                   # begun: only what the steps move
    ({"driver": ("575.9",)}, True, [("driver", "570.1 or 580.2", "575.9")]),
    ({"cuda_toolkits": ()}, True, [("cuda_toolkits", "12.8.1 or 12.8.1, 13.0.2", "absent")]),
])
def test_differences_are_told_by_component(values: dict[str, tuple[str, ...]], started: bool,
                                           expected: list[tuple[str, str, str]]) -> None:
    unlike = differences("n1", COHORT, found(**values), started=started)
    assert [(d.component, d.planned, d.found) for d in unlike] == expected


def test_what_cannot_be_read_any_more_differs_and_what_nobody_says_is_ignored() -> None:
    state = {name: values for name, values in COHORT.start.items() if name != "os"}
    assert [d.found for d in differences("n1", COHORT, state, started=False)] == ["unknown"]
    assert not differences("n1", COHORT, state, started=False, ignored=frozenset({"os"}))


def test_the_goal_is_reached_only_with_the_new_module_loaded() -> None:
    there = {**COHORT.start, **COHORT.goal, "loaded_driver": ("580.2",)}
    assert at_goal(COHORT, there)
    assert not at_goal(COHORT, {**there, "loaded_driver": ("570.1",)})
    assert not at_goal(COHORT, {**there, "cuda_toolkits": ("12.8.1",)})
    assert not at_goal(COHORT, {name: v for name, v in there.items() if name != "driver"})


def entries(*items: dict[str, object]) -> tuple[Entry, ...]:
    at = START.isoformat()
    return tuple(Entry(seq=i + 1, at=at, **item) for i, item in enumerate(items))  # type: ignore[arg-type]


def node(name: str, *events: Event) -> list[dict[str, object]]:
    return [{"kind": "node", "node": name, "data": {"event": e.value}} for e in events]


DONE = (Event.PREFLIGHT_BEGUN, Event.FACTS_FIT, Event.CHANGE_BEGUN, Event.GATE_PASSED, Event.UNDRAINED)


def test_a_rollout_begins_with_the_first_batch_of_the_first_wave() -> None:
    assert decide(PLAN, start_state(PLAN), START) == Act(call="preflight", wave="w1", batch="w1b1", nodes=("n0",))


def test_a_wave_is_closed_soaked_and_approved_in_this_order() -> None:
    done = node("n0", *DONE)
    assert decide(PLAN, replay(PLAN, entries(*done)), START) == Note(kind="wave-finished", wave="w1")
    closed = [*done, {"kind": "wave-finished", "wave": "w1"}]
    state = replay(PLAN, entries(*closed))
    soaked = START + timedelta(minutes=60)
    waiting = decide(PLAN, state, soaked - timedelta(seconds=1))
    assert isinstance(waiting, Wait)
    assert waiting.until == soaked
    asked = decide(PLAN, state, soaked)
    assert isinstance(asked, Stop)
    assert (asked.code, asked.kind, asked.wave) == (ExitCode.PAUSED, "approval", "w1")
    approved = replay(PLAN, entries(*closed, {"kind": "approved", "wave": "w1"}))
    assert decide(PLAN, approved, soaked) == Act(call="preflight", wave="w2", batch="w2b1", nodes=("n1", "n2"))


def test_an_approval_does_not_shorten_the_soak() -> None:
    state = replay(PLAN, entries(*node("n0", *DONE), {"kind": "wave-finished", "wave": "w1"},
                                 {"kind": "approved", "wave": "w1"}))
    assert isinstance(decide(PLAN, state, START), Wait)


def test_nothing_starts_before_the_planned_time() -> None:
    plan = make_plan(not_before="2026-03-01T14:00:00+01:00")
    assert isinstance(decide(plan, start_state(plan), datetime(2026, 3, 1, 12, 59, tzinfo=UTC)), Wait)
    assert isinstance(decide(plan, start_state(plan), datetime(2026, 3, 1, 13, 0, tzinfo=UTC)), Act)


def test_nodes_leave_service_only_while_a_maintenance_window_is_open_long_enough() -> None:
    """The batch takes 30 minutes; the window ends at 14:00, so 13:31 is too late and the next one is a week away."""
    plan = make_plan(windows=["Sun 13:00-14:00 UTC"])
    early = decide(plan, start_state(plan), datetime(2026, 3, 1, 12, 0, tzinfo=UTC))
    assert isinstance(early, Wait)
    assert early.until == datetime(2026, 3, 1, 13, 0, tzinfo=UTC)
    assert isinstance(decide(plan, start_state(plan), datetime(2026, 3, 1, 13, 30, tzinfo=UTC)), Act)
    late = decide(plan, start_state(plan), datetime(2026, 3, 1, 13, 31, tzinfo=UTC))
    assert isinstance(late, Wait)
    assert late.until == datetime(2026, 3, 8, 13, 0, tzinfo=UTC)
    assert "pool train" in late.reason


def test_a_node_that_was_begun_is_finished_outside_a_window_and_takes_no_other_along() -> None:
    plan = make_plan(canary=0, batches=(2,), windows=["Sun 13:00-14:00 UTC"])
    now = datetime(2026, 3, 1, 15, 0, tzinfo=UTC)
    state = start_state(plan)
    both = replace(state, nodes={n: replace(s, state=NodeState.CHANGE_REQUIRED, started=n == "n0")
                                 for n, s in state.nodes.items()})
    found = decide(plan, both, now)
    assert isinstance(found, Act)
    assert found.nodes == ("n0",)
    again = replace(both, nodes={n: replace(s, state=NodeState.PREFLIGHT_REQUIRED) for n, s in both.nodes.items()})
    tried = decide(plan, again, now)
    assert isinstance(tried, Act)
    assert tried.nodes == ("n0",)
    untouched = replace(state, nodes={n: replace(s, state=NodeState.CHANGE_REQUIRED) for n, s in state.nodes.items()})
    assert isinstance(decide(plan, untouched, now), Wait)


@pytest.mark.parametrize(("written", "nodes", "expected"),
                         [(0, 5, 0), (2, 5, 2), ("10%", 5, 1), ("40%", 5, 2), ("0%", 5, 0)])
def test_a_failure_budget_rounds_down_to_at_least_one(written: int | str, nodes: int, expected: int) -> None:
    plan = make_plan(canary=0, batches=(nodes,), budget=written)
    assert failure_budget(plan, start_state(plan)) == expected


def test_what_is_left_shrinks_as_waves_end() -> None:
    assert minutes_left(PLAN, start_state(PLAN)) == 3 * 30 + 60
    closed = replay(PLAN, entries(*node("n0", *DONE), {"kind": "wave-finished", "wave": "w1"}))
    assert minutes_left(PLAN, closed) == 2 * 30
    assert all(state in NodeState for state in FINAL)
