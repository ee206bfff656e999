"""The schedule by example: numbers, refusals, who goes first, growth, waves, warnings."""

from __future__ import annotations

from typing import Any

import pytest

from planner.diagnostics import Diagnostic
from planner.errors import ScheduleError
from planner.schedule.limits import absolute
from planner.schedule.verify import verify_schedule
from planner.schedule.waves import growth_cap
from tests.schedule.fleets import World, batches, plain, world

ALL = {"max_unavailable": "100%"}


def refusal(some: World) -> Diagnostic:
    with pytest.raises(ScheduleError) as caught:
        some.schedule()
    return caught.value.diagnostics[0]


def sizes(some: World, kind: str = "batch") -> list[int]:
    plan = some.plan()
    assert verify_schedule(plan, some.own) == ()
    return [len(b) for b in batches(plan, kind)]


@pytest.mark.parametrize(("written", "total", "number"), [
    ("10%", 100, 10), ("10%", 109, 10), ("10%", 19, 1), ("10%", 9, 1), ("10%", 1, 1), ("1%", 3, 1), ("33%", 10, 3),
    ("50%", 3, 1), ("99%", 10, 9), ("100%", 7, 7), ("0%", 100, 0), (0, 100, 0), (5, 3, 5), (1, 1000, 1),
    ("29%", 100, 29), ("57%", 100, 57),
])
def test_percentages_round_down_to_at_least_one(written: str | int, total: int, number: int) -> None:
    assert absolute(written, total) == number


@pytest.mark.parametrize(("growth", "before", "most"), [
    (2, 1, 2), (1, 7, 7), (1.5, 1, 1), (1.5, 2, 3), (1.5, 3, 4), (1.1, 10, 11), (1.15, 20, 23), (2.5, 3, 7),
    (10, 3, 30),
])
def test_growth_rounds_down_on_decimals_as_written(growth: float, before: int, most: int) -> None:
    assert growth_cap(growth, before) == most


@pytest.mark.parametrize("limit", [0, "0%"])
def test_zero_is_refused_where_nodes_must_move(limit: str | int) -> None:
    found = refusal(world(plain(4), max_unavailable=limit))
    assert "pool p" in found.summary
    assert "max_unavailable: 1" in found.hint
    table = {**plain(4), "q": {"pool": "q", "cohort": "go"}}
    still = world(table, {"c": {"minutes": ()}}, {"q": {}}, max_unavailable=limit)
    assert still.schedule().pools["p"].max_unavailable == 0


def test_nodes_that_are_down_use_up_the_limit() -> None:
    found = refusal(world(plain(20), down={"p": ("x2", "x1")}, max_unavailable="10%"))
    assert found.summary == "pool p may lose 2 of 22 nodes at once, and 2 are down already: x1, x2"
    assert "raise max_unavailable to 3" in found.hint
    made = world(plain(20), down={"p": ("x1",)}, max_unavailable="20%")
    assert max(sizes(made)) == 3
    assert made.schedule().pools["p"].model_dump() == {
        "nodes": 21, "max_unavailable": 4, "max_unavailable_per_domain": None, "already_down": ("x1",),
            "down_domains": None, "windows": (), "canary_command": None, "canary_command_timeout_minutes": None,
            "canary_command_minutes": None}


def test_nodes_that_are_down_are_nodes_of_their_pool() -> None:
    """A fifth of ten is two, though one of the ten is down; one that is also planned for counts once."""
    made = world(plain(9), down={"p": ("x1",), "elsewhere": ("x2",)}, max_unavailable="20%")
    limit = made.schedule().pools["p"]
    assert (limit.nodes, limit.max_unavailable) == (10, 2)
    assert set(made.schedule().pools) == {"p"}
    assert verify_schedule(made.plan()) == ()
    both = world(plain(9), down={"p": ("n00",)}, max_unavailable="25%")
    assert both.schedule().pools["p"].nodes == 9
    assert verify_schedule(both.plan()) == ()


def test_a_failure_domain_that_may_lose_nothing_is_refused() -> None:
    found = refusal(world(plain(4, failure_domain="r1"), **ALL, max_unavailable_per_domain=0))
    assert "failure domain r1" in found.summary
    assert "max_unavailable_per_domain to 1" in found.hint


@pytest.mark.parametrize(("rollout", "limit", "hint"), [
    ({"max_unavailable": "25%"}, 3, "raise max_unavailable to 4"),
    ({"max_unavailable": 9, "batch_max": 3}, 3, "raise batch_max to 4"),
    ({"max_unavailable": 9, "max_unavailable_per_domain": 2}, 2, "raise max_unavailable_per_domain to 4"),
])
def test_an_nvlink_domain_above_a_limit_is_refused(rollout: dict[str, Any], limit: int, hint: str) -> None:
    """Domain, size, limit and the way out are named."""
    table = {f"n{i:02d}": {"nvlink_domain": f"d{i // 4}", "failure_domain": f"r{i // 6}"} for i in range(4)}
    found = refusal(world({**table, **{f"x{i}": {} for i in range(8)}}, **rollout))
    assert "d0" in found.summary
    assert "4 nodes" in found.summary
    assert f"only {limit} may move" in found.summary
    assert found.hint == hint


def test_the_hint_for_a_domain_counts_nodes_that_are_down() -> None:
    table = plain(4, nvlink_domain="d")
    assert refusal(world(table, down={"p": ("x",)}, max_unavailable=4)).hint == "raise max_unavailable to 5"
    assert sizes(world(table, down={"p": ("x",)}, max_unavailable=5), "canary") == [4]


def test_a_percentage_per_failure_domain_comes_to_the_smallest_domain_it_restricts() -> None:
    racks = {"a": ("big", 8), "b": ("small", 4), "c": ("single", 1)}
    table = {f"{letter}{i}": {"failure_domain": rack} for letter, (rack, size) in racks.items() for i in range(size)}
    assert world(table, **ALL, max_unavailable_per_domain="50%").schedule().pools["p"].max_unavailable_per_domain == 2
    assert world(table, **ALL, max_unavailable_per_domain="100%").schedule().pools["p"].max_unavailable_per_domain == 8


def test_auto_covers_every_class_cohort_and_pool_with_few_nodes() -> None:
    table = {"a1": {"cohort": "one"}, "b1": {"cohort": "two"}, "b2": {"cohort": "two", "pool": "q"}}
    cohorts = {"one": {"hardware": "h"}, "two": {"hardware": "h"}}
    assert batches(world(table, cohorts, **ALL).schedule(), "canary") == [("a1", "b2")]
    alone = {**table, "b4": {"cohort": "two", "pool": "r"}}
    assert batches(world(alone, cohorts, **ALL).schedule(), "canary") == [("a1", "b2", "b4")]


def test_a_canary_prefers_the_smallest_nvlink_domain() -> None:
    table = {name: {"nvlink_domain": f"d-{name[0]}"} for name in ("a0", "a1", "a2", "b0", "b1")}
    assert batches(world(table, **ALL).schedule(), "canary") == [("b0", "b1")]


def test_a_number_is_per_class_and_takes_whole_domains() -> None:
    table: dict[str, dict[str, Any]] = {f"a{i}": {"nvlink_domain": f"d{i // 2}"} for i in range(8)}
    table |= {f"b{i}": {"cohort": "k"} for i in range(2)}
    assert batches(world(table, **ALL, canary=3).schedule(), "canary") == [("a0", "a1", "a2", "a3", "b0", "b1")]


def test_zero_canaries_must_be_written() -> None:
    made = world(plain(4), **ALL, canary=0).schedule()
    assert [w.kind for w in made.waves] == ["batch"]
    assert [len(b) for b in batches(made)] == [2, 2]
    assert "negative" in refusal(world(plain(4), canary=-1)).summary


def test_named_canaries_must_cover_every_class() -> None:
    table = {**plain(3, cohort="a"), "m1": {"cohort": "b"}, "m2": {"cohort": "b"}}
    cohorts = {"a": {"hardware": "H100 / 5.15"}, "b": {"hardware": "A100 / 6.8"}}
    found = refusal(world(table, cohorts, canary=("n01",)))
    assert "A100 / 6.8" in found.summary
    assert "m1, m2" in found.why[0]
    assert "m1" in found.hint
    assert batches(world(table, cohorts, **ALL, canary=("n01", "m2")).schedule(), "canary") == [("m2", "n01")]


def test_an_unknown_canary_is_refused_with_the_nearest_name() -> None:
    found = refusal(world(plain(3), canary=("n00", "n1")))
    assert "n1" in found.summary
    assert "did you mean 'n01'" in found.hint


def test_pools_with_their_own_policy_have_their_own_canaries_and_limits() -> None:
    table = {**plain(8), **{f"m{i}": {"pool": "q"} for i in range(8)}}
    own = {"q": {"max_unavailable": 2, "canary": ["m5"], "growth": 1, "soak_minutes": 90}}
    made = world(table, own=own, **ALL, soak_minutes=5)
    plan = made.plan()
    assert verify_schedule(plan, made.own) == ()
    assert batches(plan, "canary") == [("m5", "n00")]
    assert [sum(made.nodes[n].pool == "q" for n in b) for b in batches(plan)] == [1] * 7
    assert [sum(made.nodes[n].pool == "p" for n in b) for b in batches(plan)] == [2, 4, 1, 0, 0, 0, 0]
    assert plan.waves[0].soak_minutes == 90


def test_staging_goes_first_and_holds_the_limit() -> None:
    table = {**plain(6), **{f"s{i}": {"environment": "staging"} for i in range(5)}}
    plan = world(table, max_unavailable=2, soak_minutes=7).plan()
    assert [len(b) for b in batches(plan, "staging")] == [2, 2, 1]
    assert [(w.kind, w.soak_minutes, w.approval) for w in plan.waves] == [
        ("staging", 7, False), ("canary", 7, True), ("batch", 0, False)]


def test_classes_that_staging_does_not_show_are_reported() -> None:
    table = {"s0": {"environment": "staging", "cohort": "tried"}, **plain(2, cohort="tried"), "m0": {"cohort": "new"}}
    warnings = world(table, {"new": {"hardware": "H200"}}, **ALL).schedule().warnings
    assert warnings == ("no staging node has hardware class 'H200': m0",)


def test_staging_that_is_there_already_has_shown_its_class() -> None:
    table = {"s0": {"environment": "staging", "cohort": "done"}, **plain(2)}
    cohorts = {"done": {"hardware": "h", "minutes": ()}, "c": {"hardware": "h"}}
    assert world(table, cohorts, **ALL).schedule().warnings == ()


def test_no_staging_is_a_warning_only_where_environments_are_used() -> None:
    assert world(plain(3), **ALL).schedule().warnings == ()
    mixed = world({**plain(3), "d": {"environment": "development"}}, **ALL).schedule()
    assert mixed.warnings == ("no node is in environment staging: the canaries move first",)


def test_an_nvlink_domain_with_a_staging_node_moves_there_whole_and_says_so() -> None:
    table = {"a0": {"environment": "staging", "nvlink_domain": "d"}, "a1": {"nvlink_domain": "d"}, "b": {}}
    made = world(table, **ALL).schedule()
    assert batches(made, "staging") == [("a0", "a1")]
    assert any("a1" in w and "NVLink domain d" in w for w in made.warnings)


def test_batches_grow_from_the_canaries_and_stop_at_the_limit() -> None:
    assert sizes(world(plain(40), max_unavailable=8)) == [2, 4, 8, 8, 8, 8, 1]
    assert sizes(world(plain(40), **ALL, batch_max=5)) == [2, 4, 5, 5, 5, 5, 5, 5, 3]
    assert sizes(world(plain(6), **ALL, growth=1)) == [1, 1, 1, 1, 1]


def test_a_domain_larger_than_growth_allows_moves_alone() -> None:
    table = {**plain(5), **{f"x{i}": {"nvlink_domain": f"d{i // 4}"} for i in range(8)}}
    assert sizes(world(table, **ALL)) == [2, 2, 4, 4]
    assert sizes(world({f"x{i}": {"nvlink_domain": f"d{i // 4}"} for i in range(8)}, **ALL, canary=0)) == [4, 4]


def test_a_domain_across_pools_waits_until_growth_allows_it_in_each() -> None:
    """The domain is too large for pool p, where it may go alone; in pool q another node has used what growth allows."""
    table = {"a0": {"nvlink_domain": "d"}, "a1": {"nvlink_domain": "d"}, "a2": {"nvlink_domain": "d", "pool": "q"},
             "b0": {"pool": "q"}, "b1": {"pool": "q"}}
    assert sizes(world(table, **ALL, canary=0, growth=1)) == [1, 1, 3]


def test_growth_that_rounding_stops_is_a_warning() -> None:
    (warning,) = world(plain(9), **ALL, growth=1.5).schedule().warnings
    assert "batches of 1" in warning
    assert "2 canary nodes" in warning
    assert world(plain(9), **ALL, growth=1.5, canary=2).schedule().warnings == ()
    assert world(plain(9), **ALL, growth=1).schedule().warnings == ()


def test_pools_move_side_by_side_within_batch_max() -> None:
    table = {**plain(9), **{f"m{i}": {"pool": "q", "cohort": "k"} for i in range(9)}}
    made = batches(world(table, **ALL, batch_max=4).schedule())
    assert made[0] == ("m1", "m2", "n01", "n02")
    assert [len(b) for b in made] == [4, 4, 4, 4]


def test_steady_batches_share_one_wave() -> None:
    plan = world(plain(40), max_unavailable=8).plan()
    assert [[len(b.nodes) for b in w.batches] for w in plan.waves] == [[1], [2], [4], [8, 8, 8, 8, 1]]
    assert [w.id for w in plan.waves] == ["w1", "w2", "w3", "w4"]
    assert [w.play for w in plan.waves[:2]] == ["plays/w1-canary.yml", "plays/w2-batch.yml"]
    assert [b.id for b in plan.waves[-1].batches][:2] == ["w4b1", "w4b2"]


def test_each_batch_that_soaks_has_its_own_wave_and_the_last_one_does_not_soak() -> None:
    plan = world(plain(9), max_unavailable=2, batch_soak_minutes=5, soak_minutes=60).plan()
    assert [w.soak_minutes for w in plan.waves] == [60, 5, 5, 5, 0]
    assert plan.eta_minutes == 5 * 10 + 60 + 15


def test_a_batch_takes_as_long_as_its_slowest_cohort() -> None:
    table = {"a": {"cohort": "slow"}, "b": {"cohort": "fast"}, "c": {"cohort": "free"}}
    plan = world(table, {"slow": {"minutes": (20, 5)}, "free": {"minutes": (0,)}}, **ALL).plan()
    assert [b.minutes for w in plan.waves for b in w.batches] == [25]
    assert [b.minutes for w in world({"c": {}}, {"c": {"minutes": (0,)}}).plan().waves for b in w.batches] == [1]


def test_a_fleet_of_one_node_is_one_canary_without_approval_or_soak() -> None:
    (wave,) = world(plain(1)).plan().waves
    assert (wave.kind, wave.approval, wave.soak_minutes) == ("canary", False, 0)


def test_nothing_to_move_gives_no_wave() -> None:
    made = world(plain(3), {"c": {"minutes": ()}}, max_unavailable=0).schedule()
    assert (made.waves, made.eta_minutes, made.pools["p"].nodes) == ((), 0, 3)


def test_a_communication_domain_is_finished_before_the_next_begins() -> None:
    """Names are interleaved, so that name order alone would mix all domains; the canary's domain comes first."""
    table = {f"n{i:02d}": {"comm_domain": f"m{2 - i % 3}"} for i in range(30)}
    made = world(table, {"c": {"component": "lib"}}, max_unavailable=4).schedule()
    order = [table[n]["comm_domain"] for b in batches(made) for n in b]
    begun = [{table[n]["comm_domain"] for n in b} for b in batches(made)]
    places = {d: [i for i, b in enumerate(begun) if d in b] for d in ("m0", "m1", "m2")}
    assert places["m2"][-1] <= places["m0"][0]
    assert places["m0"][-1] <= places["m1"][0]
    assert order[0] == "m2"
    indifferent = world(table, max_unavailable=4).schedule()
    assert batches(indifferent)[0] == ("n01", "n02")


def test_mixing_is_reported_with_components_batches_and_minutes() -> None:
    table = plain(4, comm_domain="m")
    (warning,) = world(table, {"c": {"component": "lib"}}, max_unavailable=2, soak_minutes=60).schedule().warnings
    assert warning == (
        "communication domain m is mixed in lib for 3 batches, 90 minutes, plus the wait for approval; keeping each "
        "job to one half is up to you: no planner_scheduler of 4 nodes is slurm or kubernetes")
    assert world(table, max_unavailable=2).schedule().warnings == ()
    assert world(plain(1, comm_domain="m"), {"c": {"component": "lib"}}).schedule().warnings == ()
