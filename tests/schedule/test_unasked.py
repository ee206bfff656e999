"""What no target names and has to move all the same: as little as that takes, and to where it can stay."""

from __future__ import annotations

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
