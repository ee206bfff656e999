"""Whose driver it is decides what a refusal says: what to do instead, not only who stands in the way."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import NoPathError
from planner.fleet.packages import package_globs
from planner.matrix.globs import matches
from tests.schedule.machines import NEW, OLD, plan_for, shipped, target, ubuntu


def refusal(owner: str, declared: dict[str, Any], **want: object) -> str:
    with pytest.raises(NoPathError) as refused:
        plan_for(ubuntu(owner=owner), target(**want), declared)
    (found,) = refused.value.diagnostics
    return " ".join(found.why)


@pytest.mark.parametrize("owner", ["apt", "runfile"])
def test_a_guest_is_sent_to_its_release_whatever_installed_its_driver(owner: str) -> None:
    told = refusal(owner, {"vgpu_host": "18.3", "vgpu_guest": "18.0"}, driver=NEW)
    assert "belongs to its vGPU release (18.0); want another vgpu_guest" in told
    assert "driver_origin" not in told


def test_a_runfile_of_no_guest_is_sent_to_the_packages() -> None:
    assert "want driver_origin distribution or vendor first" in refusal("runfile", {}, driver=NEW)


def test_what_the_operator_installs_is_not_taken_over_in_place() -> None:
    told = refusal("operator", {"gpu_operator_driver": "pinned"}, driver_origin="distribution")
    assert "lies in a container of the GPU Operator" in told
    assert "planner_gpu_operator_driver to host" in told
    assert "not known" not in told


def test_what_a_target_has_to_ask_for_too_is_told_before_that_it_could_accept_a_driver_that_does_not_work() -> None:
    facts = ubuntu(model="NVIDIA RTX PRO 6000 Blackwell Server Edition", capability="12.0")
    with pytest.raises(NoPathError) as refused:
        plan_for(facts, target(driver=NEW))
    (found,) = refused.value.diagnostics
    assert "want driver_flavour open, too; or accept blackwell-needs-open-modules" in found.hint
    assert "what mends it, the target does not ask for (driver_flavour open)" in found.why[-1]
    assert plan_for(facts, target(driver=NEW, driver_flavour="open")).cohorts[0].steps


PREBUILT = "linux-modules-nvidia-570-server-open-5.15.0-151-generic"


@pytest.mark.parametrize("want", [{"driver": NEW}, {"kernel": "5.15.0-161-generic"}, {"driver_flavour": "open"}])
def test_modules_that_come_ready_built_are_not_left_behind(want: dict[str, str]) -> None:
    facts = ubuntu(packages={PREBUILT: "5.15.0-151.161+1"})
    facts = facts.model_copy(update={"available": {**(facts.available or {}), **{
        f"linux-{part}-5.15.0-161-generic": ("5.15.0-161.171",) for part in ("image", "headers", "modules")}}})
    with pytest.raises(NoPathError) as refused:
        plan_for(facts, target(**want))
    (found,) = refused.value.diagnostics
    assert "come ready-built, in a package for each kernel" in found.why[0]
    assert plan_for(facts, target(container_toolkit="1.19.1")).cohorts[0].steps


def test_discovery_asks_for_the_packages_that_tell_it() -> None:
    assert any(matches(PREBUILT, glob) for glob in package_globs(shipped()))


def test_a_rule_says_why_what_would_mend_it_does_not_move() -> None:
    told = refusal("operator", {"gpu_operator_driver": "pinned"}, cuda_runtime={"present": ["13.0"]})
    assert "and driver stays as it is: the GPU Operator installs the driver of these nodes" in told
    assert "want driver, and nothing else of these" in told


def test_the_operators_flavour_is_not_said_to_be_nobodys() -> None:
    told = refusal("operator", {"gpu_operator_driver": "pinned"}, driver=NEW, driver_flavour="open")
    assert "driver.kernelModuleType" in told


def test_a_guest_whose_driver_is_not_known_yet_is_told_to_plan_the_rest_behind_it() -> None:
    told = refusal("runfile", {"vgpu_host": "20.0", "vgpu_guest": "19.0"}, vgpu_guest="20.0",
                   cuda_runtime={"present": ["13.0"]})
    assert "which driver vgpu_guest brings is not known before: plan the rest when that is there" in told


@pytest.mark.parametrize(("want", "words"), [
    ({"cuda_toolkits": {"present": ["12.4.0", "12.4.1"]}}, "12.4.0 and 12.4.1 take one place"),
    ({"driver": NEW, "fabric_manager": OLD}, "are not one version: Fabric Manager must carry"),
])
def test_goals_that_bar_each_other_are_told_as_such(want: dict[str, object], words: str) -> None:
    more = {"cuda-toolkit-12-4": ("12.4.1-1", "12.4.0-1"), "nvidia-fabricmanager-570": (f"{OLD}-1",),
            "nvidia-fabricmanager-580": (f"{NEW}-1",)}
    facts = ubuntu(model="NVIDIA A100-SXM4-80GB", capability="8.0", nvswitch=True)
    facts = facts.model_copy(update={"available": {**(facts.available or {}), **more}})
    with pytest.raises(NoPathError) as refused:
        plan_for(facts, target(**want))
    (found,) = refused.value.diagnostics
    assert words in " ".join(found.why)


@pytest.mark.parametrize("want", [{"driver": NEW}, {"kernel": ">=6"}, {"os": "ubuntu-24.04"}])
def test_a_jetson_is_sent_to_its_own_releases(want: dict[str, str]) -> None:
    facts = ubuntu(model="Orin (nvgpu)", capability="8.7", version="540.4.0", owner="none")
    with pytest.raises(NoPathError) as refused:
        plan_for(facts, target(**want))
    (found,) = refused.value.diagnostics
    assert "its L4T release (JetPack)" in found.why[0]


@pytest.mark.parametrize("want", [{"os": "ubuntu-24.04"}, {"driver_origin": "vendor"}])
def test_what_lies_in_an_image_is_not_handed_over_on_the_nodes_that_boot_it(want: dict[str, str]) -> None:
    facts = ubuntu()
    facts = facts.model_copy(update={"os": facts.os.model_copy(update={"root_diskless": True})})
    with pytest.raises(NoPathError) as refused:
        plan_for(facts, target(**want), {"node_image": "hpc-2026.08"})
    (found,) = refused.value.diagnostics
    assert "lies in the image that they boot (hpc-2026.08)" in found.why[0]
    assert "want that node_image" in found.why[0]
