"""Many rollouts: the same answer for a seed, chances as they were given, spreads that follow from the plan."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from planner.execute.montecarlo import Cup, Rates, Spread, odds_of, rate_names, simulate
from planner.execute.trial import End, Kind, Person
from planner.schedule.estimate import forecast
from planner.schedule.plan import Plan
from tests.emit.sample import document, finished


def plan_of(nodes: int = 30, batch: int = 5, **rollout: Any) -> Plan:
    """Return a plan of one cohort: a canary, then batches of a size."""
    plan, names = document(), [f"n{i:03}" for i in range(nodes)]
    plan["cohorts"] = [plan["cohorts"][0] | {"nodes": names}]
    plan["nodes"] = dict.fromkeys(names, plan["nodes"]["gpu01"])
    plan["pools"] = {"train": {"nodes": nodes, "max_unavailable": 2 * batch}}
    plan["rollout"] |= rollout
    rest = [names[i:i + batch] for i in range(1, nodes, batch)]
    plan["waves"][1]["batches"] = [{"id": f"w2b{n}", "nodes": part, "minutes": 20} for n, part in enumerate(rest, 1)]
    plan["waves"][0]["batches"] = [{"id": "w1b1", "nodes": names[:1], "minutes": 20}]
    return finished(plan)


def test_the_same_seed_gives_the_same_answer() -> None:
    """And another seed another one."""
    plan, rates = plan_of(failure_budget=2), Rates(node=0.02, moves={"lost": 0.01})
    one, again, other = (simulate(plan, rates, runs=50, chance=random.Random(seed)) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_without_failures_times_are_those_of_the_forecast() -> None:
    """Median and both ends of the spread, within what 2,000 rollouts tell."""
    plan = plan_of()
    found, eta = simulate(plan, Rates(), runs=2000, chance=random.Random(3)), forecast(plan).eta
    assert found.ends == {End.FINISHED: 2000}
    assert found.makespan is not None
    assert found.makespan.p50 == pytest.approx(eta.p50_minutes, rel=0.03)
    assert found.makespan.p5 < eta.p10_minutes < found.makespan.p50 < eta.p90_minutes < found.makespan.p95
    assert found.gpu_hours.p50 == pytest.approx(eta.gpu_hours, rel=0.05)
    assert (found.exposed, found.until_stop, found.stops) == (None, None, {0: 2000})


def test_measured_times_are_drawn_node_by_node() -> None:
    """The slowest of five nodes in each batch: what the forecast expects, here drawn."""
    measured = [{"kind": "move", "name": name, "nodes": 9, "median_minutes": 5, "p90_minutes": 9}
                for name in ("driver", "toolkit")]
    plan = plan_of()
    plan = finished({**plan.model_dump(mode="json", by_alias=True, exclude_none=True), "measured": measured})
    found = simulate(plan, Rates(), runs=2000, chance=random.Random(3)).makespan
    assert found is not None
    assert found.p50 == pytest.approx(forecast(plan).eta.p50_minutes, rel=0.03)


def test_certain_failure_stops_at_the_canary() -> None:
    """One node exposed, nobody beyond the canary touched."""
    found = simulate(plan_of(), Rates(node=1.0), runs=20, chance=random.Random(1))
    assert (found.ends, found.seen_in) == ({End.HALTED: 20}, {"w1": 20})
    assert found.exposed == Spread(p5=1, p50=1, p95=1)


def test_nodes_fail_as_often_as_the_rates_say() -> None:
    """Drawn in leaps over those that pass: 5 % of a gate, 3 % of driver steps, 1 % lost, 2 % out of reach."""
    rates = Rates(node=0.05, moves={"driver": 0.03, "lost": 0.01, "unreachable": 0.02})
    plan, counted = plan_of(), Counter[tuple[Kind, int]]()
    cup = Cup(plan, rates, random.Random(5))
    for _ in range(4000):
        counted.update((fate.kind, fate.step) for fate in cup.first().values())
    share = {key: count / (4000 * 30) for key, count in counted.items()}
    reached, driven = 0.98, 0.98 * 0.97
    assert share == {
        (Kind.UNREACHABLE, 0): pytest.approx(0.02, rel=0.1), (Kind.FAILED, 0): pytest.approx(reached * 0.03, rel=0.1),
        (Kind.LOST, 0): pytest.approx(driven * 0.01, rel=0.15),
        (Kind.FAILED, 2): pytest.approx(driven * 0.99 * 0.05, rel=0.1)}


def test_chances_add_up_along_a_path() -> None:
    """All that may happen to a node, and the whole of it, also when nothing may."""
    cohort = plan_of().cohorts[0]
    assert odds_of(cohort, Rates()).whole == 0
    assert odds_of(cohort, Rates(node=0.5, moves={"driver": 0.5})).whole == pytest.approx(0.75)
    assert odds_of(cohort, Rates(moves={"lost": 1.0})).pick(0.3).kind is Kind.LOST


def test_retries_help_and_cost_time() -> None:
    """With a person who tries again, more rollouts come to their end, later."""
    plan, rates = plan_of(), Rates(node=0.02)
    alone, helped = (simulate(plan, rates, runs=400, chance=random.Random(4), person=person)
                     for person in (None, Person(retries=2)))
    assert helped.ends[End.FINISHED] > alone.ends[End.FINISHED] + 100
    assert helped.makespan is not None
    assert alone.makespan is not None
    assert helped.makespan.p50 > alone.makespan.p50


def test_steps_by_other_hands_take_their_answer() -> None:
    """Each batch waits once for what is left to people."""
    plan = plan_of().model_dump(mode="json", by_alias=True, exclude_none=True)
    plan["cohorts"][0]["steps"][1] |= {"handover": True}
    person = Person(answer_minutes=1000)
    found = simulate(finished(plan), Rates(), runs=20, chance=random.Random(1), person=person).makespan
    plain = simulate(plan_of(), Rates(), runs=20, chance=random.Random(1), person=person).makespan
    assert found is not None
    assert plain is not None
    assert found.p50 - plain.p50 == pytest.approx(7 * 1000)


def test_rates_have_the_names_of_the_plan() -> None:
    """Moves of this plan, and what may happen beside them."""
    assert rate_names(plan_of()) == ("driver", "lost", "toolkit", "unreachable")


def test_percentiles_are_nearest_ranks() -> None:
    """Of one to a hundred they are what everybody expects; of nothing there is none."""
    assert Spread.of(range(1, 101)) == Spread(p5=5, p50=50, p95=95)
    assert Spread.of([7]) == Spread(p5=7, p50=7, p95=7)
    assert Spread.of([]) is None
