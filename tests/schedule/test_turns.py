"""Batches that are more than the engine does at a time: they take turns, and the plan says so."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.documents import dump_model
from planner.execute.calls import Setting
from planner.execute.montecarlo import Cup, Rates
from planner.runner import parallel
from planner.schedule.estimate import Durations
from planner.schedule.plan import Plan
from planner.schedule.turns import CALLS, FORKS, batch_minutes, side_by_side
from planner.schedule.verify import verify_schedule
from tests.schedule.fleets import World, plain, world

ALL: dict[str, Any] = {"max_unavailable": "100%", "growth": 1000}


def test_the_numbers_are_those_of_the_engine() -> None:
    assert Setting.__dataclass_fields__["forks"].default == FORKS
    assert parallel.AT_ONCE == CALLS


@pytest.mark.parametrize(("cohorts", "minutes"), [
    ([], 1), ([(0, 3)], 1), ([(10, 1)], 10), ([(10, 16)], 10), ([(10, 17)], 20), ([(10, 100)], 70),
    ([(10, 5), (30, 5)], 30), ([(10, 1)] * 8, 10), ([(10, 1)] * 9, 20), ([(10, 1)] * 40, 50),
    ([(60, 1), *[(10, 1)] * 14], 60), ([(10, 40), (5, 1)], 30),
])
def test_minutes_of_a_batch(cohorts: list[tuple[int, int]], minutes: int) -> None:
    assert batch_minutes(cohorts) == minutes


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), max_size=30))
def test_turns_neither_waste_nor_conjure_time(minutes: list[int]) -> None:
    took = side_by_side(minutes)
    assert max(minutes, default=0) <= took <= sum(minutes)
    assert took * CALLS >= sum(minutes)
    assert took <= sum(minutes) / CALLS + max(minutes, default=0)


def large() -> World:
    return world(plain(41), **ALL)


def test_a_large_batch_takes_turns_and_the_plan_says_so() -> None:
    made = large()
    plan = made.plan()
    assert [(len(b.nodes), b.minutes) for w in plan.waves for b in w.batches] == [(1, 10), (40, 30)]
    assert plan.eta_minutes == 10 + 60 + 30
    told, = plan.warnings
    assert told == ("batches take turns: planner apply works on 16 nodes of a cohort at a time, so batch w2b1, 40 "
                    "nodes of 1 cohort, takes 30 minutes instead of 10; with planner apply --forks 40 it is shorter")
    assert verify_schedule(plan, made.own) == ()


def test_many_cohorts_take_turns() -> None:
    table = {f"n{i:02}": {"cohort": f"c{i:02}"} for i in range(20)}
    plan = world(table, **ALL).plan()
    assert [(len(b.nodes), b.minutes) for w in plan.waves for b in w.batches] == [(20, 30)]
    assert "8 cohorts at a time" in plan.warnings[0]
    assert "--forks" not in plan.warnings[0]


def test_a_batch_that_is_said_to_take_no_turns_is_found_out() -> None:
    document = dump_model(large().plan())
    document["waves"][1]["batches"][0]["minutes"] = 10
    assert any("its nodes take 30" in c for c in verify_schedule(Plan.model_validate(document)))


def test_expected_and_played_times_take_turns_too() -> None:
    """Planning figures: exactly three turns. Measured times: as drawn ones, about."""
    plan, names = large().plan(), tuple(f"n{i:02d}" for i in range(1, 41))
    assert Durations(plan).batch(names, 1.0) == (30.0, 0.0)
    measured = plan.model_copy(update={"measured": Plan.model_validate({**dump_model(plan), "measured": [
        {"kind": "move", "name": "engine", "nodes": 9, "median_minutes": 10, "p90_minutes": 14}]}).measured})
    cup = Cup(measured, Rates(), random.Random(3))
    drawn = sorted(cup.minutes(names, {}) for _ in range(2000))
    mean, variance = Durations(measured).batch(names, 1.0)
    assert mean == pytest.approx(sum(drawn) / len(drawn), rel=0.05)
    assert 0 < variance < 100


def test_of_many_cohorts_few_share_a_small_batch() -> None:
    """Forty cohorts of five: a batch of sixteen nodes is of four cohorts, one turn, and not of sixteen, two turns."""
    table = {f"n{i:03}": {"cohort": f"c{i % 40:02}"} for i in range(200)}
    made = world(table, max_unavailable=16, growth=100)
    plan = made.plan()
    assert verify_schedule(plan, made.own) == ()
    later = [b for w in plan.waves if w.kind == "batch" for b in w.batches]
    assert {b.minutes for b in later} == {10}
    assert [len(b.nodes) for b in later] == [16] * 10


def test_of_many_cohorts_all_share_a_large_batch() -> None:
    """Five hundred nodes: forty cohorts take five rounds of one turn; twenty would take three rounds of two."""
    table = {f"n{i:04}": {"cohort": f"c{i % 40:02}"} for i in range(1040)}
    plan = world(table, max_unavailable=500, growth=1000).plan()
    later = [b for w in plan.waves if w.kind == "batch" for b in w.batches]
    assert [(len(b.nodes), b.minutes) for b in later] == [(500, 50), (500, 50)]
