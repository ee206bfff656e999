"""Remarks of the matrices on steps: what no step moves may ask for them, and people see them in the terminal."""

from __future__ import annotations

import pytest

from planner.facts.schema import FactSet, GpuFacts, LibraryFacts, ServiceFacts, ToolkitFacts
from planner.report.plan_view import PlanView
from planner.schedule.plan import Plan
from tests.schedule.machines import NEW, OLD, plan_for, target, ubuntu

CONTAINER_TOOLKIT = "1.19.1"


def remarks(plan: Plan) -> list[str]:
    return [remark for cohort in plan.cohorts for step in cohort.steps for remark in step.remarks or ()]


def with_mig(facts: FactSet, *enabled: bool | None) -> FactSet:
    gpus = tuple(GpuFacts(index=i, model=facts.gpus[0].model, compute_capability=facts.gpus[0].compute_capability,
                          mig_enabled=mode) for i, mode in enumerate(enabled))
    return facts.model_copy(update={"gpus": gpus})


def test_a_reboot_of_mig_nodes_is_told() -> None:
    told = [r for r in remarks(plan_for(with_mig(ubuntu(), False, True), target(driver=NEW))) if "MIG" in r]
    assert len(told) == 1
    for modes in ((False, False), (None, None)):
        assert not any("MIG" in r for r in remarks(plan_for(with_mig(ubuntu(), *modes), target(driver=NEW))))


@pytest.mark.parametrize(("runtimes", "named"), [
    ({"docker": "24.0.7"}, "Docker"), ({"docker": "27.1.1"}, ""), ({"containerd": "1.7.2"}, "containerd"),
    ({"containerd": "1.7.27", "docker": "26.1.0"}, ""), ({"cri-o": "1.20.0"}, ""), ({"docker": "unknown"}, ""),
    ({}, ""),
])
def test_runtimes_too_old_for_new_cdi_specs_are_told(runtimes: dict[str, str], named: str) -> None:
    facts = ubuntu().model_copy(update={"container_runtimes": runtimes})
    told = [r for r in remarks(plan_for(facts, target(container_toolkit=CONTAINER_TOOLKIT))) if "CDI specs that" in r]
    assert [f"the {named} of these nodes" in r for r in told] == [True] * bool(named)


def test_remarks_stand_in_the_terminal_once() -> None:
    plan = plan_for(with_mig(ubuntu(), True), target(driver=NEW))
    lines = [line.plain for line in PlanView(plan).lines(100, "utf-8")]
    at = lines.index("Remarks on steps")
    assert lines[at + 1].startswith(f"  {plan.cohorts[0].id} s1: MIG instances do not outlive a reboot")
    assert sum("MIG instances" in line for line in lines) == 1


def board(services: dict[str, ServiceFacts], model: str = "NVIDIA B200") -> FactSet:
    """Return a machine with NVSwitches and Fabric Manager."""
    fabric = {f"nvidia-fabricmanager-{v.split('.')[0]}": f"{v}-1" for v in (OLD, NEW)}
    installed = dict(list(fabric.items())[:1])
    facts = ubuntu(flavour="open", model=model, capability="10.0", nvswitch=True, packages=installed,
                   fabric_manager=ServiceFacts(version=f"{OLD}-1", active=True), services=services)
    return facts.model_copy(update={"available": {**(facts.available or {}), **{n: (v,) for n, v in fabric.items()}}})


@pytest.mark.parametrize(("facts", "told"), [
    (board({"nvlsm": ServiceFacts()}), True), (board({"nvlsm": ServiceFacts(version="2025.06.6-1")}), False),
    (board({}), False), (board({"nvlsm": ServiceFacts()}, "NVIDIA H200"), False),
])
def test_a_board_whose_fabric_manager_cannot_start_is_told(facts: FactSet, told: bool) -> None:
    plan = plan_for(facts, target(driver=NEW))
    assert any("NVLink subnet manager" in r for r in remarks(plan)) is told
    known = {w.claim for cohort in plan.cohorts for w in cohort.warnings}
    assert ("nvlink5-boards-need-nvlsm" in known) is told


def test_forward_compatibility_libraries_that_a_newer_driver_outgrows_are_told() -> None:
    lying = ubuntu(packages={"cuda-compat-12-8": f"{OLD}-1"})
    assert sum("error 803" in r for r in remarks(plan_for(lying, target(driver=NEW)))) == 1
    assert not any("error 803" in r for r in remarks(plan_for(ubuntu(), target(driver=NEW))))


@pytest.mark.parametrize("package", [None, "libnccl2"])
def test_a_library_that_no_package_brought_stays_beside_the_new_one(package: str | None) -> None:
    path = "/usr/local/lib/libnccl.so.2.21.5"
    toolkits = (ToolkitFacts(version="12.8.1", path="/usr/local/cuda-12.8", source="usr-local", default=True),)
    library = LibraryFacts(name="nccl", version="2.21.5", path=path, package=package)
    facts = ubuntu(libraries=(library,), toolkits=toolkits,
                   packages={"libnccl2": "2.21.5-1+cuda12.4"} if package else {})
    facts = facts.model_copy(update={"available": {**(facts.available or {}), "libnccl2": ("2.28.9-1+cuda12.9",)}})
    told = [r for r in remarks(plan_for(facts, target(nccl="2.28.9"))) if f"lies in {path}" in r]
    assert len(told) == (package is None)


def test_what_discovery_met_is_told_at_the_first_step_alone() -> None:
    facts = ubuntu(problems=("GPU 3: Unknown Error", "dpkg: nvidia-dkms-570-server is half-configured"))
    plan = plan_for(facts, target(driver=NEW, container_toolkit="1.19.1"))
    first, *others = plan.cohorts[0].steps
    assert any("GPU 3: Unknown Error; dpkg: nvidia-dkms-570-server" in r for r in first.remarks or ())
    assert not any("GPU 3" in r for step in others for r in step.remarks or ())
