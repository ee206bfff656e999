"""What no target names and has to move all the same: as little as that takes, and to where it can stay."""

from __future__ import annotations

import pytest

from planner.errors import NoPathError
from planner.facts.schema import FactSet, ServiceFacts
from tests.schedule.machines import NEW, OLD, offered, plan_for, target, ubuntu, ubuntu_driver


def test_a_driver_that_nobody_named_goes_to_a_branch_with_long_term_support() -> None:
    drivers = ("595.71.05", NEW, OLD)
    toolkit = {"cuda-toolkit-13-0": "13.0.2-1"}
    facts = ubuntu(available=offered(*(ubuntu_driver(v, "proprietary") for v in drivers), toolkit))
    wanted = target(cuda_toolkits={"present": ["13.0"]})
    assert plan_for(facts, wanted).cohorts[0].steps[0].title == f"driver {OLD} -> {NEW}"
    named = target(driver=">=580", cuda_toolkits={"present": ["13.0"]})
    assert plan_for(facts, named).cohorts[0].steps[0].title == f"driver {OLD} -> 595.71.05"


def test_a_workload_gets_its_replacement_before_what_it_replaces_goes() -> None:
    facts = ubuntu(version=NEW)
    wanted = target(driver=OLD, cuda_runtime={"present": ["12.8"], "absent": ["13.*"]})
    titles = [s.title for s in plan_for(facts, wanted, {"workload_runtimes": ("13.0",)}).cohorts[0].steps]
    assert titles == ["add cuda_runtime 12.8 (handed over)", "remove cuda_runtime 13.0 (handed over)",
                      f"driver {NEW} -> {OLD}"]


def with_imex(model: str, capability: str) -> FactSet:
    """Return a machine with IMEX, which its repositories have for no other driver."""
    return ubuntu(flavour="open", model=model, capability=capability, packages={"nvidia-imex-570": f"{OLD}-1"},
                  imex=ServiceFacts(version=f"{OLD}-1", active=True))


def test_a_companion_that_nothing_needs_does_not_hold_the_driver_back() -> None:
    (cohort,) = plan_for(with_imex("NVIDIA H100 PCIe", "9.0"), target(driver=NEW)).cohorts
    assert cohort.steps[0].title == f"driver {OLD} -> {NEW}"
    assert "idle-imex-equals-driver" in {w.claim for w in cohort.warnings if not w.at_start}


def test_a_companion_that_a_rack_needs_does() -> None:
    with pytest.raises(NoPathError) as refused:
        plan_for(with_imex("NVIDIA GB200", "10.0"), target(driver=NEW))
    (found,) = refused.value.diagnostics
    assert f"imex {NEW} cannot be installed" in " ".join(found.why)
