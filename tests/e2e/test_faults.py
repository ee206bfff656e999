"""Rollouts on lab nodes that go wrong: what stops, what stays untouched, and how the rollout ends all the same."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import StartSite
from tests.e2e.faulty import (
    MIDDLE,
    START,
    UNITS,
    at_the_end,
    driver_target,
    end_build,
    ended,
    from_another_machine,
    hold_builds,
    look,
    look_at_all,
    running,
    slow_builds,
    small_site,
    wait_for,
)

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("lab_machine")]



def test_a_wrong_gate_halts_the_rollout_until_a_person_has_repaired_the_node(start_site: StartSite) -> None:
    site = small_site(start_site, 2)
    bundle = site.plan(driver_target())
    before = look_at_all(site)
    with running(site, "apply", bundle) as process:
        wait_for(site, process, event="phase", node="n01", phase="change")      # its baseline has passed
        site.lab.fault("n01", "gate-wrong", "0")
        halted = site.finish(process, code=7)
    assert ended(halted)["why"] == "gate-failed"
    assert "n01 (failed): gate failed: GPU 0: " in halted.stderr
    assert "RESULT_WRONG" in halted.stderr
    assert f"planner retry {bundle} n01" in halted.stderr
    assert look(site, "n02") == before["n02"]

    again = site.planner("resume", bundle, code=7)                              # a failed gate stays failed
    assert ended(again)["why"] == "gate-failed"
    site.lab.fault("n01", "clear")
    site.planner("retry", bundle, "n01", "--because", "GPU replaced")
    site.planner("resume", bundle)
    at_the_end(site, before)
    assert site.status(bundle)["finished"]


def test_a_driver_changed_by_hand_stops_before_anything_is_touched(start_site: StartSite) -> None:
    site = small_site(start_site, 2)
    bundle = site.plan(driver_target())
    names = ("libnvidia-compute", "nvidia-dkms", "nvidia-headless", "nvidia-kernel-common", "nvidia-utils")
    site.say("n01", "apt-get update -q && apt-get install -qy " + " ".join(
        f"{name}-580-server={MIDDLE}-0ubuntu0.22.04.1+standin" for name in names), timeout_s=120)
    before = look_at_all(site)
    assert before["n01"].acts("install") == 1
    stale = site.planner("apply", bundle, code=5)
    assert "node n01, driver" in stale.stderr
    assert f"planned {START}, found {MIDDLE}" in stale.stderr
    assert look_at_all(site) == before


def test_a_node_that_never_comes_back_is_lost_and_holds_its_place_in_the_budget(start_site: StartSite) -> None:
    site = small_site(start_site, 2)
    bundle = site.plan(driver_target(failure_budget=1))
    before = look_at_all(site)
    site.lab.fault("n01", "no-boot")
    stopped = site.planner("apply", bundle, code=8)
    assert ended(stopped)["why"] == "max-unavailable"
    assert "pool default may lose 1 at once; n02 would make it 2 (away now: n01)" in stopped.stderr
    lost = site.status(bundle)["nodes"]["n01"]
    assert (lost["state"], lost["unavailable"]) == ("lost", True)
    assert lost["reason"].startswith("did not come back from its reboot")
    site.planner("resume", bundle, code=8)
    assert look(site, "n02") == before["n02"]

    site.lab.fault("n01", "clear")
    site.planner("retry", bundle, "n01", "--because", "its power supply was replaced")
    site.planner("resume", bundle)
    at_the_end(site, before)


def test_a_second_controller_and_a_second_rollout_are_refused_while_the_first_is_at_work(start_site: StartSite) -> None:
    site = small_site(start_site, 1)
    facts = site.discover()
    bundle = site.plan(driver_target(), facts=facts)
    other = site.plan(driver_target(MIDDLE), bundle="other", facts=facts)
    before = look_at_all(site)
    slow_builds(site, "n01")
    with running(site, "apply", bundle) as first:
        hold_builds(site, first, "n01")
        held = look(site, "n01")
        second = site.planner("apply", bundle, code=6)
        assert f"{site.status(bundle)['controller']['owner']} works on this rollout since" in second.stderr
        assert f"process {first.pid}" in second.stderr
        rival = site.planner("apply", other, code=6)
        assert "error: node-locked" in rival.stderr
        assert "node n01: rollout lab-580.105.08-" in rival.stderr
        assert "holds this node since" in rival.stderr
        elsewhere = from_another_machine(site, "apply", bundle, "--state", "elsewhere", code=6)
        assert "holds this node for the same rollout" in elsewhere.stderr
        assert look(site, "n01") == held
        assert site.say("n01", UNITS).count("planner-step-") == 1
        end_build(site, "n01")
        site.finish(first)
    at_the_end(site, before)
    assert MIDDLE not in look(site, "n01").dpkg_log
