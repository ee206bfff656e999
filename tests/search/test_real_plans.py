"""Orders and remarks with the shipped matrices that people who know the libraries would look for."""

from __future__ import annotations

import pytest

from planner.check.evaluate import problems
from planner.facts.schema import FactSet, KernelFacts, LibraryFacts, ToolkitFacts
from planner.model.target import Accept
from planner.schedule.plan import Cohort
from tests.schedule.machines import NEW, OLD, offered, plan_for, shipped, target, ubuntu, ubuntu_driver

OLD_LIBRARIES = {"libcudnn8": "8.9.7.29-1+cuda12.2", "libnvinfer8": "8.6.1.6-1+cuda12.0"}
NEW_LIBRARIES = {"libcudnn9-cuda-12": "9.10.2.21-1", "libnvinfer10": "10.13.3.9-1+cuda12.9"}


def inference() -> FactSet:
    facts = ubuntu(packages=OLD_LIBRARIES, toolkits=(ToolkitFacts(version="12.2.2", path="/usr/local/cuda-12.2"),),
                   libraries=(LibraryFacts(name="cudnn", version="8.9.7.29", path="/usr/lib/libcudnn.so.8"),
                              LibraryFacts(name="tensorrt", version="8.6.1.6", path="/usr/lib/libnvinfer.so.8")))
    return facts.model_copy(update={"available": {
        **(facts.available or {}), **offered(OLD_LIBRARIES), **offered(NEW_LIBRARIES)}})


def only(facts: FactSet, **want: object) -> Cohort:
    (cohort,) = plan_for(facts, target(**want)).cohorts
    return cohort


def test_tensorrt_leaves_cudnn_8_before_cudnn_8_leaves() -> None:
    """In between, TensorRT 8 would load nothing; on the way back, too."""
    cohort = only(inference(), cudnn="9", tensorrt="10")
    assert [s.move for s in cohort.steps] == ["tensorrt", "cudnn"]
    assert [s.move for s in cohort.way_back] == ["cudnn", "tensorrt"]
    assert "rebuild" in " ".join(cohort.steps[0].remarks or ())


@pytest.mark.parametrize(("more", "told"), [
    ({}, True), ({"framework": ("pytorch",)}, False), ({"cudnn_copies": ("2",)}, False),
    ({"tensorrt": ("10.13.3.9",)}, False)])
def test_cudnn_9_in_place_of_8_is_a_fault_for_tensorrt_8_alone(more: dict[str, tuple[str, ...]], told: bool) -> None:
    state = {"tensorrt": ("8.6.1.6",), "cudnn": ("9.10.2.21",), **more}
    assert ("tensorrt-8-needs-cudnn-8" in {j.rule for j in problems(state, shipped())}) is told


def test_remarks_about_a_driver_name_the_driver_where_a_kernel_moves_with_it() -> None:
    now, then = "6.8.0-60-generic", "6.8.0-90-generic"
    kernels = [{f"linux-image-{k}": k.replace("-generic", ".1")} for k in (now, then)]
    facts = ubuntu(flavour="open", model="NVIDIA GH200 480GB", capability="9.0", release="24.04",
                   kernel=KernelFacts(running=now), packages=kernels[0],
                   available=offered(*(ubuntu_driver(v, "open") for v in (OLD, NEW)), *kernels))
    (step,) = only(facts, driver="580", kernel=then).steps
    assert {c.component for c in step.changes} == {"driver", "kernel"}
    (remark,) = [r for r in step.remarks or () if r.startswith("firmware: ")]
    assert f"driver {NEW}" in remark


@pytest.mark.parametrize(("offers", "expected"), [(("550.163.01", NEW), "550.163.01"), ((NEW,), NEW)])
def test_a_kernel_that_the_driver_does_not_build_for_brings_the_nearest_driver_that_does(offers: tuple[str, ...],
                                                                                        expected: str) -> None:
    """In the same reboot; in the branch that is there where that is enough, because nobody asked for another one."""
    now, then = "6.8.0-60-generic", "6.14.0-37-generic"
    kernels = [{f"linux-image-{k}": k.replace("-generic", ".1")} for k in (now, then)]
    facts = ubuntu(flavour="open", version="550.54.15", release="24.04", kernel=KernelFacts(running=now),
                   packages=kernels[0],
                   available=offered(*(ubuntu_driver(v, "open") for v in ("550.54.15", *offers)), *kernels))
    (step,) = only(facts, kernel=then).steps
    assert {c.component: c.to for c in step.changes} == {"driver": expected, "kernel": then}
    accepted = target(kernel=then).model_copy(update={"accept": (
        Accept(risk="driver-550-early-kernel-6.10", because="Ubuntu patched it; built on a spare node"),)})
    (cohort,) = plan_for(facts, accepted).cohorts
    assert {c.component for s in cohort.steps for c in s.changes} == {"kernel"}
    assert cohort.steps[0].risks == ("driver-550-early-kernel-6.10",)
