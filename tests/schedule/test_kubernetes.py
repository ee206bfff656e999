"""Drivers of the GPU Operator, of hosts beside it, and of providers: what is handed over, refused and told."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import NoPathError
from planner.facts.schema import DriverFacts, FactSet
from planner.model.target import Target
from planner.schedule.assemble import make_plan
from planner.schedule.plan import Plan
from planner.validate.replay import validate_plan
from tests.schedule.machines import NEW, OLD, fleet, raw, shipped, ubuntu


def by_operator(owner: str = "operator") -> FactSet:
    driver = DriverFacts(loaded=OLD, on_disk=OLD, userspace=OLD, flavour="open", owner=owner)
    return ubuntu(flavour="open").model_copy(update={"driver": driver, "packages": {}})


def planned(facts: FactSet, declared: dict[str, Any], **want: str) -> Plan:
    nodes = {f"n{i}": (facts, {"pool": "gpu", "scheduler": "kubernetes", **declared}) for i in range(3)}
    target = Target.model_validate({"schema": "planner.target/1", "name": "t", "want": want})
    plan = make_plan(fleet(nodes), target, shipped(), planner_version="0")
    assert validate_plan(plan, target, raw()) == ()
    return plan


@pytest.mark.parametrize("facts", [ubuntu(flavour="open"), by_operator("image"), by_operator("runfile"), by_operator()],
                         ids=["packages", "image", "runfile", "operator"])
def test_a_provider_changes_its_driver_itself(facts: FactSet) -> None:
    """Whatever the probe takes for the driver's owner: what is changed on such a node does not last."""
    with pytest.raises(NoPathError) as refused:
        planned(facts, {"gpu_operator_driver": "provider"}, driver=NEW)
    why, = {w for w in refused.value.diagnostics[0].why if "provider" in w}
    assert "takes back what is changed" in why
    assert "node image or add-on version" in why


def test_a_driver_of_the_operator_goes_node_by_node_and_is_loaded_then() -> None:
    cohort, = planned(by_operator(), {"gpu_operator": "24.9.2", "gpu_operator_driver": "pinned"}, driver=NEW).cohorts
    step, = cohort.steps
    told = " ".join(step.instructions or ())
    assert "updateStrategy OnDelete" in told
    assert "delete the driver pod of this node" in told
    assert not any(w.claim == "loaded-driver-equals-driver" for w in cohort.warnings)


def test_a_chart_is_told_to_reach_the_whole_cluster_at_once() -> None:
    declared = {"gpu_operator": "24.9.2", "gpu_operator_driver": "pinned"}
    plan = planned(by_operator(), declared, gpu_operator="25.3.4")
    told, = (w for w in plan.warnings if "whole cluster" in w)
    assert told.startswith("gpu_operator 24.9.2 -> 25.3.4")
    assert not any("whole cluster" in w for w in planned(by_operator(), declared, driver=NEW).warnings)
