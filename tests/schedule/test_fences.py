"""Windows in which a communication domain is mixed, and who is in which half of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, reject, settings

from planner.documents import digest, dump_model
from planner.errors import ScheduleError
from planner.schedule.fences import MARK_CHARS, NEW, fence_mark, halves
from planner.schedule.plan import Cohort, Plan
from tests.schedule.fleets import World, plain, world, worlds

LIB = {"c": {"component": "lib"}}
ALL: dict[str, Any] = {"max_unavailable": "100%"}


def planned(made: World, **update: Any) -> Plan:
    """Return a world's plan with its windows and a digest."""
    plan = made.plan().model_copy(update={"mixed": made.schedule().mixed, **update})
    return plan.model_copy(update={"digest": digest(dump_model(plan))})


def with_goals(made: World, goals: Mapping[str, str]) -> World:
    """Return a world whose cohorts end with some version of the library each."""
    cohorts: list[Cohort] = [c.model_copy(update={"goal": {"lib": (goals[c.id],)}}) if c.id in goals else c
                             for c in made.cohorts]
    return World(tuple(cohorts), made.nodes, made.rollout, made.own, made.down)


def test_a_window_goes_from_the_first_batch_that_changes_to_the_last() -> None:
    table = plain(4, comm_domain="m", scheduler="slurm")
    (window,) = world(table, LIB, max_unavailable=2, soak_minutes=60).schedule().mixed
    assert (window.domain, window.components, window.opens, window.closes) == ("m", ("lib",), "w1b1", "w2b2")
    assert (window.batches, window.minutes, window.approval) == (3, 90, True)
    assert (window.fences, window.unfenced) == (("slurm",), 0)


def test_what_changes_at_once_or_need_not_be_equal_or_spans_no_job_has_no_window() -> None:
    assert world(plain(4, comm_domain="m"), max_unavailable=2).schedule().mixed == ()
    assert world(plain(4), LIB, max_unavailable=2).schedule().mixed == ()
    assert world(plain(1, comm_domain="m"), LIB).schedule().mixed == ()
    bound = plain(4, comm_domain="m", nvlink_domain="d")
    assert world(bound, LIB, **ALL).schedule().mixed == ()


def test_people_are_asked_where_no_scheduler_keeps_a_mark_and_told_why() -> None:
    table = {**plain(3, comm_domain="m", scheduler="slurm"), "x": {"comm_domain": "m", "scheduler": "hook"},
             "k": {"comm_domain": "m", "scheduler": "kubernetes"}}
    made = world(table, LIB, **ALL, soak_minutes=0).schedule()
    assert (made.mixed[0].fences, made.mixed[0].unfenced) == (("kubernetes", "slurm"), 1)
    (warning,) = made.warnings
    assert warning.endswith("keeping each job to one half is up to you: no planner_scheduler of 1 node is slurm or "
                            "kubernetes")
    fenced = world(plain(3, comm_domain="m", scheduler="slurm"), LIB, **ALL).schedule()
    assert (fenced.warnings, len(fenced.mixed)) == ((), 1)
    off = world(plain(3, comm_domain="m", scheduler="slurm"), LIB, **ALL, fence=False).schedule()
    assert (off.mixed[0].fences, off.mixed[0].unfenced) == ((), 3)
    assert off.warnings[0].endswith("is up to you: the target turns fences off")


def test_a_domain_that_stays_mixed_for_good_is_told() -> None:
    table = {**plain(3, comm_domain="m", scheduler="slurm"), "other": {"cohort": "k", "comm_domain": "m"}}
    made = with_goals(world(table, {**LIB, "k": {"minutes": ()}}, **ALL), {"c": "2", "k": "1"}).schedule()
    assert any(w == "communication domain m stays mixed in lib after this plan: 1 on other; 2 on n00, n01, n02"
               for w in made.warnings)
    same = with_goals(world(table, {**LIB, "k": {"minutes": ()}}, **ALL), {"c": "2", "k": "2"}).schedule()
    assert not any("stays mixed" in w for w in same.warnings)


def test_each_node_is_in_the_half_of_its_version() -> None:
    """What has the new version already is new from the start; what keeps another one is old to the end."""
    table = {**plain(4, comm_domain="m", scheduler="slurm"),
             "ahead": {"cohort": "k", "comm_domain": "m", "scheduler": "slurm"},
             "keeps": {"cohort": "l", "comm_domain": "m", "scheduler": "slurm"}, "elsewhere": {"cohort": "k"}}
    made = with_goals(world(table, {**LIB, "k": {"minutes": ()}, "l": {"minutes": ()}}, max_unavailable=2),
                      {"c": "2", "k": "2", "l": "1"})
    plan = planned(made)
    assert plan.mixed is not None
    split = halves(plan, plan.mixed[0])
    assert split.places == {"ahead": 0, "keeps": 4, "n00": 1, "n01": 2, "n02": 2, "n03": 3}
    assert split.waves == {"w1": ("n00",), "w2": ("n01", "n02", "n03")}


def test_a_mark_is_one_plans_own_and_short_enough_for_a_label() -> None:
    made = world(plain(3, comm_domain="m", scheduler="slurm"), LIB, **ALL)
    long = planned(made, name="n" * 64)
    assert len(fence_mark(long) + NEW) == MARK_CHARS
    assert fence_mark(planned(made)) != fence_mark(planned(made, eta_minutes=7))
    assert fence_mark(planned(made)).startswith("planner-test-")


@settings(deadline=None, max_examples=100)
@given(worlds())
def test_windows_hold_every_batch_that_changes_their_domain_and_no_more(made: World) -> None:
    """Read from the finished waves, node by node."""
    try:
        schedule = made.schedule()
    except ScheduleError:
        reject()
    changing = {n for c in made.cohorts for n in c.nodes
                if any(x.component == "lib" for s in c.steps for x in s.changes) and made.nodes[n].comm_domain}
    line = [b for w in schedule.waves for b in w.batches]
    spots: dict[str, list[int]] = {}
    for at, batch in enumerate(line):
        for name in set(batch.nodes) & changing:
            spots.setdefault(made.nodes[name].comm_domain, []).append(at)
    due = {domain: (line[min(at)].id, line[max(at)].id) for domain, at in spots.items() if min(at) < max(at)}
    assert {w.domain: (w.opens, w.closes) for w in schedule.mixed} == due
    assert [w.domain for w in schedule.mixed] == sorted(due)
    plan = planned(made)
    for window in plan.mixed or ():
        split = halves(plan, window)
        members = {n for n, node in made.nodes.items() if node.comm_domain == window.domain}
        assert set(split.places) == members
        assert {n for names in split.waves.values() for n in names} == members & changing
        order = [b.nodes for b in line if set(b.nodes) & members & changing]
        assert [{n for n in members & changing if split.places[n] == i} for i in range(1, len(order) + 1)] == \
            [set(nodes) & members & changing for nodes in order]
