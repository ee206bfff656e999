"""Limits that let nothing move, told by what was written; bounds of failure domains; canaries that nobody wanted."""

from __future__ import annotations

from typing import Any

import pytest

from planner.diagnostics import Diagnostic
from planner.errors import ScheduleError
from planner.schedule.bound import bound_minutes
from tests.schedule.fleets import World, plain, world


def refused(some: World) -> tuple[Diagnostic, ...]:
    with pytest.raises(ScheduleError) as caught:
        some.schedule()
    return caught.value.diagnostics


@pytest.mark.parametrize(("count", "policy", "summary", "hint"), [
    (4, {"max_unavailable": "0%"}, "max_unavailable is 0%: no node of pool p may leave service",
     "max_unavailable: 1 or"),
    (4, {"min_in_service": "100%"}, "min_in_service 100% keeps all 4 nodes of pool p in service",
     "min_in_service: 3 or less"),
    (1, {"min_in_service": 1}, "min_in_service 1 keeps the one node of pool p in service", "min_in_service: 0 for"),
])
def test_a_pool_that_nothing_may_leave_says_what_keeps_it(count: int, policy: dict[str, Any], summary: str, hint: str
                                                          ) -> None:
    found, = refused(world(plain(count), **policy))
    assert found.summary == summary
    assert hint in found.hint
    assert found.places


def test_nvlink_domains_that_are_too_large_alike_are_told_together() -> None:
    table = {f"n{i:02}": {"nvlink_domain": f"rack-{i // 4}"} for i in range(12)}
    found, = refused(world(table, max_unavailable=2))
    assert found.subject == "NVLink domains rack-0, rack-1, rack-2"
    assert "4 nodes of pool p, but only 2 may move at once" in found.summary
    assert found.hint == "raise max_unavailable to 4"


def test_no_canary_is_told() -> None:
    without = world(plain(4), canary=0).schedule()
    assert [w.approval for w in without.waves] == [False]
    assert any("canary: 0 for pool p" in text for text in without.warnings)
    assert not any("canary: 0" in text for text in world(plain(4)).schedule().warnings)


def bound(some: World) -> int:
    return bound_minutes(some.cohorts, some.nodes, some.schedule().pools)


def test_a_failure_domain_bounds_the_plan_for_all_pools_that_share_it() -> None:
    """Two pools of four nodes in one domain that may lose one at a time: eight times ten minutes."""
    table = {f"{pool}{i}": {"pool": pool, "failure_domain": "pdu"} for pool in "xy" for i in range(4)}
    both = world(table, max_unavailable="100%", max_unavailable_per_domain=1)
    assert bound(both) == 80
    assert both.schedule().eta_minutes - 60 >= 80
    # Where one of them knows no limit, its nodes may all go together while no node of the other one does.
    one = world(table, own={"y": {"max_unavailable": "100%", "max_unavailable_per_domain": 1}}, max_unavailable="100%")
    assert bound(one) == 40
