"""Guests wait for the hypervisors under them: all of these first, with canaries of their own on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from planner.documents import dump_model
from planner.errors import ScheduleError
from planner.facts.schema import DriverFacts, FactSet, GpuFacts, KernelFacts, OsFacts
from planner.model.target import Target
from planner.schedule.assemble import make_plan
from planner.schedule.plan import Plan
from planner.schedule.verify import verify_schedule
from planner.validate.replay import validate_plan
from tests.schedule.machines import fleet, raw, shipped

WANT = {"hosts": {"want": {"vgpu_host": "19.5"}}, "guests": {"want": {"vgpu_host": "19.5", "vgpu_guest": "19.5"}}}


def machine(driver: str, *, guest: bool) -> FactSet:
    gpu = GpuFacts(index=0, model="NVIDIA A10-12Q" if guest else "NVIDIA A10", compute_capability="8.6", vgpu=guest)
    return FactSet(
        os=OsFacts(id="ubuntu", version_id="22.04", arch="x86_64", family="apt", root_diskless=False, secure_boot=False,
                   virtualisation="kvm" if guest else "none"),
        kernel=KernelFacts(running="5.15.0-161-generic", next_boot="5.15.0-161-generic",
                           modules_built={"5.15.0-161-generic": driver}),
        driver=DriverFacts(loaded=driver, on_disk=driver, userspace=driver, flavour="proprietary", owner="runfile"),
        gpus=(gpu,), nvswitch=False, available={})


def planned(guest_release: str = "16.13", guest_driver: str = "535.288.01", **rollout: Any) -> tuple[Plan, Target]:
    host, guest = machine("535.288.01", guest=False), machine(guest_driver, guest=True)
    nodes = {f"host-{i}": (host, {"pool": "hosts", "vgpu_host": "16.13"}) for i in range(3)}
    nodes |= {f"guest-{i}": (guest, {"pool": "guests", "vgpu_host": "16.13", "vgpu_guest": guest_release})
              for i in range(4)}
    target = Target.model_validate({"schema": "planner.target/1", "name": "vgpu", "pools": WANT,
                                    "rollout": {"max_unavailable": 1, **rollout}})
    return make_plan(fleet(nodes), target, shipped(), planner_version="0"), target


def kinds(plan: Plan) -> list[tuple[str, list[str]]]:
    return [(w.kind, sorted({plan.nodes[n].pool for b in w.batches for n in b.nodes})) for w in plan.waves]


def test_all_hosts_move_before_any_guest() -> None:
    plan, target = planned()
    assert kinds(plan) == [("canary", ["hosts"]), ("batch", ["hosts"]), ("canary", ["guests"]), ("batch", ["guests"])]
    assert [w.approval for w in plan.waves] == [True, False, True, False]
    assert verify_schedule(plan) == ()
    assert validate_plan(plan, target, raw()) == ()


def test_guests_whose_hosts_are_there_wait_for_nobody() -> None:
    guest = machine("535.288.01", guest=True)
    nodes = {f"guest-{i}": (guest, {"pool": "guests", "vgpu_host": "16.13", "vgpu_guest": "16.13"}) for i in range(3)}
    target = Target.model_validate({"schema": "planner.target/1", "name": "vgpu", "want": WANT["guests"]["want"]})
    plan = make_plan(fleet(nodes), target, shipped(), planner_version="0")
    assert kinds(plan) == [("canary", ["guests"]), ("batch", ["guests"])]
    assert validate_plan(plan, target, raw()) == ()


def test_guests_too_old_for_the_new_hosts_are_a_plan_of_their_own() -> None:
    with pytest.raises(ScheduleError) as refused:
        planned("15.4", "525.147.05")
    found = refused.value.diagnostics[0]
    assert found.code == "needed-in-between"
    assert "vgpu_guest 15.4 -> 16" in found.summary
    assert "vgpu-19-guest-too-old" in found.why[0]
    assert "select: [guests]" in found.hint


def swapped(document: dict[str, Any]) -> None:
    """Let a guest and a host change their places, as they would stand side by side otherwise."""
    first, last = document["waves"][0]["batches"][0], document["waves"][3]["batches"][-1]
    first["nodes"], last["nodes"] = last["nodes"], first["nodes"]


def unsaid(document: dict[str, Any]) -> None:
    for cohort in document["cohorts"]:
        for step in cohort["steps"]:
            step.pop("awaits", None)


@pytest.mark.parametrize(("fault", "said"), [
    (swapped, "begins before the last of them is done"), (unsaid, "waits for nothing, vgpu-manager-of-guests for"),
])
def test_a_guest_out_of_turn_is_found_out(fault: Callable[[dict[str, Any]], None], said: str) -> None:
    plan, target = planned()
    document = dump_model(plan)
    fault(document)
    complaints = validate_plan(Plan.model_validate(document), target, raw())
    assert any(said in c for c in complaints), complaints


def test_waves_begin_anew_only_where_somebody_waits() -> None:
    document = dump_model(planned()[0])
    unsaid(document)
    assert any("not in the order" in c for c in verify_schedule(Plan.model_validate(document)))
