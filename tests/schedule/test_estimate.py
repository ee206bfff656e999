"""Expected durations: spreads that mean something, batches as long as their slowest node, the same numbers again."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.schedule.estimate import FACTOR, Duration, Durations, NodeTime, forecast, largest, measured
from planner.schedule.opening import SOME_MONDAY, first_opening, opening
from planner.schedule.plan import MeasuredTime, Plan
from tests.emit.sample import document, finished

minutes = st.floats(1, 500, allow_nan=False)


def plan_of(**changes: Any) -> Plan:
    """Return the sample plan with some fields replaced."""
    return finished({**document(), **changes})


def took(kind: str, name: str, median: float, p90: float, nodes: int = 10) -> dict[str, Any]:
    """Return a measured time as a plan has it."""
    return {"kind": kind, "name": name, "nodes": nodes, "median_minutes": median, "p90_minutes": p90}


def test_planning_figures_are_kept_nine_times_of_ten() -> None:
    """The factor of unmeasured plans: half the figures one time of ten, all of them nine times of ten."""
    assert FACTOR.quantile(0.1) == pytest.approx(0.5)
    assert FACTOR.quantile(0.9) == pytest.approx(1.0)


def test_soaks_are_exact_and_batches_spread() -> None:
    """One hour of soak, 20 planned minutes in each of two batches: 60 + 20 to 60 + 40."""
    eta = forecast(plan_of()).eta
    assert (eta.p10_minutes, eta.p50_minutes, eta.p90_minutes) == (80, 88, 100)
    assert eta.measured_nodes == 0


def test_measured_times_replace_planning_figures() -> None:
    """Where every move was measured, nothing of the plan's minutes is left, and the spread is that of the nodes."""
    plan = plan_of(measured=[took("move", "driver", 4, 5), took("move", "toolkit", 1, 1.2)])
    eta = forecast(plan).eta
    assert 60 + 10 <= eta.p50_minutes <= 60 + 12
    assert eta.p90_minutes - eta.p10_minutes <= 3
    assert eta.measured_nodes == 10
    assert Durations(plan).certain


def test_drains_and_calls_around_are_counted_where_they_were_measured() -> None:
    """A quarter of an hour of drain a node, two minutes of preflight and undrain a batch, in both batches."""
    without = forecast(plan_of()).eta
    eta = forecast(plan_of(measured=[took("drain", "", 15, 15), took("around", "", 2, 2)])).eta
    assert eta.p50_minutes == pytest.approx(without.p50_minutes + 34, abs=2)


def test_capacity_counts_gpus_of_moving_nodes_and_nodes_that_are_down() -> None:
    """Three nodes of 8 GPUs, 20 planned minutes each, at the usual factor; two that are down count as out."""
    plan = document()
    plan["pools"]["train"] |= {"already_down": ["x1", "x2"], "nodes": 6}
    course = forecast(finished(plan))
    assert course.eta.gpu_hours == round(3 * 8 * 20 * math.exp(FACTOR.mu) / 60)
    assert course.eta.gpu_hours_at_worst == 12
    assert (course.eta.peak_nodes_out, course.peak_of_pool) == (4, {"train": 4})


def test_spans_follow_each_other_without_gaps() -> None:
    """Batch, soak, batch; the approval stands where the soak ends."""
    course = forecast(plan_of())
    assert [(s.kind, s.wave) for s in course.spans] == [("batch", "w1"), ("soak", "w1"), ("batch", "w2")]
    assert all(a.end == b.start for a, b in zip(course.spans, course.spans[1:], strict=False))
    assert course.approvals == ((course.spans[1].end, "w1"),)


def test_nothing_to_do_takes_no_time() -> None:
    """A plan without waves."""
    plan = document()
    plan["cohorts"], plan["waves"] = plan["cohorts"][1:], []
    plan["nodes"] = {"gpu04": plan["nodes"]["gpu04"]}
    eta = forecast(finished(plan)).eta
    assert (eta.p10_minutes, eta.p90_minutes, eta.gpu_hours, eta.peak_nodes_out) == (0, 0, 0, 0)


@settings(deadline=None)
@given(minutes, st.floats(1, 3), st.floats(0.01, 0.99))
def test_quantile_and_share_are_inverse(median: float, ratio: float, share: float) -> None:
    """What a share of cases keeps, this share is done by."""
    time = measured(MeasuredTime.model_validate(took("drain", "", median, median * ratio)))
    assert time.quantile(0.5) == pytest.approx(median)
    assert time.share(time.quantile(share)) == pytest.approx(share, abs=1e-6)


@settings(deadline=None)
@given(minutes, st.floats(0.1, 1000))
def test_moments_are_kept(mean: float, variance: float) -> None:
    """A log-normal made from mean and variance has them."""
    time = Duration.of_moments(mean, variance)
    assert time.mean == pytest.approx(mean)
    assert time.variance == pytest.approx(variance)


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 200), st.integers(1, 200))
def test_more_nodes_never_end_earlier(planned: int, few: int, more: int) -> None:
    """A batch is as long as its slowest node; another kind of node beside it only makes it longer."""
    time, other = NodeTime(planned, Duration(2.0, 0.4)), NodeTime(planned + 1, Duration(1.5, 0.2))
    few, more = sorted((few, more))
    alone = largest([(time, few)], 0.5, 1.0)
    assert alone <= largest([(time, more)], 0.5, 1.0) + 0.01
    assert alone <= largest([(time, few), (other, 3)], 0.5, 1.0) + 0.01


def test_the_slowest_of_many_agrees_with_drawing_them() -> None:
    """Median of the largest of five and three log-normal times, against 4,000 drawn batches."""
    chance = random.Random(7)
    first, second = Duration(3.0, 0.3), Duration(2.9, 0.6)
    drawn = sorted(max([*(chance.lognormvariate(3.0, 0.3) for _ in range(5)),
                        *(chance.lognormvariate(2.9, 0.6) for _ in range(3))]) for _ in range(4000))
    expected = largest([(NodeTime(0, first), 5), (NodeTime(0, second), 3)], 0.5, 1.0)
    assert expected == pytest.approx(drawn[2000], rel=0.03)


def test_the_same_plan_gives_the_same_bytes() -> None:
    """No clock, no chance, no order of sets."""
    plan = plan_of(measured=[took("move", "driver", 4, 9)])
    assert repr(forecast(plan)) == repr(forecast(Plan.model_validate(plan.model_dump(mode="json", by_alias=True))))


def windowed(*windows: str, **rollout: Any) -> Plan:
    """Return the sample plan with weekly windows in its pool."""
    plan = document()
    plan["pools"]["train"] |= {"windows": list(windows)}
    plan["rollout"] |= rollout
    return finished(plan)


def test_closed_windows_are_waited_for() -> None:
    """A window of 40 minutes holds one batch of 30 at worst: the other one comes a week later, less what has passed."""
    course = forecast(windowed("Sat 02:00-02:40 UTC"))
    assert [s.kind for s in course.spans] == ["batch", "soak", "wait", "batch"]
    assert course.spans[3].start == pytest.approx(7 * 24 * 60)
    assert course.eta.p50_minutes == pytest.approx(7 * 24 * 60 + 14, abs=1)
    assert course.eta.gpu_hours == forecast(plan_of()).eta.gpu_hours


def test_a_course_begins_in_the_first_window_after_its_earliest_start() -> None:
    """The same windows, met from two different days: only what lies between batches counts."""
    early = first_opening(windowed("daily 02:00-06:00 Europe/Berlin", not_before="2026-01-05T12:00:00+01:00"))
    assert early.isoformat() == "2026-01-06T01:00:00+00:00"
    assert first_opening(plan_of()) == SOME_MONDAY


def test_windows_that_never_meet_open_never() -> None:
    """Two pools of one batch, one by day and one by night; and a window that is too short."""
    plan = document()
    plan["pools"] = {"train": {"nodes": 4, "max_unavailable": 2, "windows": ["daily 02:00-03:00 UTC"]},
                     "other": {"nodes": 1, "max_unavailable": 1, "windows": ["daily 14:00-15:00 UTC"]}}
    plan["nodes"]["gpu03"] |= {"pool": "other"}
    assert opening(finished(plan), ["gpu02", "gpu03"], SOME_MONDAY, 30) is None
    assert opening(finished(plan), ["gpu02"], SOME_MONDAY, 61) is None
    assert opening(finished(plan), ["gpu03"], SOME_MONDAY, 60) == SOME_MONDAY.replace(hour=14)
