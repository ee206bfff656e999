"""A controller that loses its network or is killed at random moments: nothing is repeated, nothing is left."""

from __future__ import annotations

import os
import random
import time

import pytest

from planner.runner.leftovers import find_leftovers
from tests.e2e.conftest import StartSite
from tests.e2e.faulty import (
    END,
    MIDDLE,
    UNITS,
    Blow,
    at_the_end,
    driver_target,
    end_build,
    end_to_end,
    ended,
    hold_builds,
    look_at_all,
    plan_digest,
    running,
    slow_builds,
    small_site,
    wait_for,
)

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("lab_machine")]

# A kill costs half a minute: a few in every run of the suite, all of ``./run chaos``.
KILLS, SEED = int(os.environ.get("PLANNER_TEST_KILLS", "6")), 580


def test_a_lost_network_in_the_middle_of_a_change_repeats_nothing(start_site: StartSite) -> None:
    site = small_site(start_site, 2)
    bundle = site.plan(driver_target(max_unavailable=2, growth=2))
    before = look_at_all(site)
    slow_builds(site, "n01", "n02")
    with running(site, "apply", bundle) as process:
        hold_builds(site, process, "n01", "n02")
        for node in ("n01", "n02"):
            site.lab.fault(node, "link-down")
        time.sleep(8)                                    # shorter than what SSH bears with; for n02 it is not
        site.lab.fault("n01", "link-up")
        end_build(site, "n01")
        stopped = site.finish(process, code=8)
    assert ended(stopped)["why"] == "unreachable"
    states = {name: node["state"] for name, node in site.status(bundle)["nodes"].items()}
    assert states == {"n01": "done", "n02": "change-required"}

    site.lab.fault("n02", "link-up")
    with running(site, "resume", bundle) as process:
        wait_for(site, process, event="phase", node="n02", phase="change")
        assert site.say("n02", UNITS).count("planner-step-") == 1       # it is waited for, not begun again
        end_build(site, "n02")
        site.finish(process)
    at_the_end(site, before)


def test_a_controller_killed_at_random_moments_repeats_nothing(start_site: StartSite) -> None:
    site = small_site(start_site, 3)
    draw = random.Random(SEED)
    # A node goes through about twenty events; the first ones come again after each blow.
    blows = [Blow(events=draw.randrange(0, 16), seconds=round(draw.uniform(0.0, 2.5), 2)) for _ in range(KILLS)]
    told = []
    for driver, verb, share in ((MIDDLE, "install", blows[:KILLS // 2]), (END, "upgrade", blows[KILLS // 2:])):
        bundle = site.plan(driver_target(driver, canary=1, max_unavailable=2, growth=2), bundle=driver,
                           facts=site.discover(f"{driver}.json"))
        before = look_at_all(site)
        told += end_to_end(site, bundle, share)
        print("\n".join(told))
        at_the_end(site, before, driver, verb)
        assert {node["state"] for node in site.status(bundle)["nodes"].values()} == {"done"}
        assert find_leftovers(f"lab-{driver}-{plan_digest(bundle)[:8]}.") == ()
    assert len(told) == KILLS
