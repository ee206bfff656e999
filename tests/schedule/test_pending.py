"""A reboot that is pending is a step: what is wanted is installed, and what runs is still the one before."""

from __future__ import annotations

from typing import Any

import pytest

from planner.execute.predict import at_goal, differences
from planner.facts.schema import DriverFacts, FactSet
from planner.schedule.plan import Cohort, PackageAct, Plan
from planner.validate.replay import validate_plan
from tests.schedule.machines import NEW, OLD, plan_for, raw, target, ubuntu

WANTED = target(driver=NEW)
COMPAT = {"cuda_compat": {"present": ["13.0"]}}


def machine(loaded: str | None, **fields: Any) -> FactSet:
    """Return a machine on which something put the new driver, and nobody rebooted."""
    driver = DriverFacts(loaded=loaded, on_disk=NEW, userspace=NEW, flavour="proprietary", owner="apt",
                         package=f"{NEW}-0ubuntu0.22.04.1")
    return ubuntu(version=NEW, driver=driver, **fields)


def cohort_of(facts: FactSet, wanted: Any = WANTED) -> Cohort:
    (cohort,) = plan_for(facts, wanted).cohorts
    return cohort


@pytest.mark.parametrize("loaded", [OLD, "590.48.01"])
def test_what_runs_is_loaded_by_a_reboot_that_touches_no_package(loaded: str) -> None:
    cohort = cohort_of(machine(loaded))
    (step,) = cohort.steps
    assert (step.id, step.move, step.disruption, step.quick_gate) == ("s1", "pending-reboot", "reboot", True)
    assert step.title == f"reboot into driver {NEW}, which is installed ({loaded} is loaded)"
    assert step.packages == PackageAct(manager="none")
    assert cohort.cost == {"reboots": 1, "risks": 0, "steps": 1, "minutes": 8, "drains": 1}
    assert (cohort.way_back, cohort.no_return_after) == ((), None)
    assert not [w for w in cohort.warnings if w.claim == "loaded-driver-equals-driver"]


@pytest.mark.parametrize("loaded", [NEW, None])
def test_there_is_none_where_it_runs_or_nobody_knows_what_runs(loaded: str | None) -> None:
    assert cohort_of(machine(loaded)).steps == ()


def test_there_is_none_where_the_target_does_not_name_it() -> None:
    """Nobody asked for this driver: it stays a remark."""
    cohort = cohort_of(machine(OLD), target(container_toolkit="1.17.8"))
    assert "pending-reboot" not in [s.move for s in cohort.steps]
    assert "loaded-driver-equals-driver" in [w.claim for w in cohort.warnings]


def test_a_step_that_reboots_anyway_loads_it() -> None:
    cohort = cohort_of(machine(OLD), target(driver=NEW, driver_flavour="open"))
    assert [s.move for s in cohort.steps] == ["driver-flavour"]


def test_it_comes_before_all_that_needs_no_reboot_and_the_rest_is_numbered_behind_it() -> None:
    cohort = cohort_of(machine(OLD), target(driver=NEW, **COMPAT))
    assert [(s.id, s.move) for s in cohort.steps] == [("s1", "pending-reboot"), ("s2", "cuda-compat")]
    assert [s.id for s in cohort.way_back] == ["s2-undo"]


def test_a_node_that_was_rebooted_meanwhile_is_at_its_goal() -> None:
    cohort = cohort_of(machine(OLD))
    assert not at_goal(cohort, cohort.start)
    assert at_goal(cohort, cohort.goal)
    other = {**cohort.start, "loaded_driver": ("590.48.01",)}
    assert [d.component for d in differences("n", cohort, other, started=False)] == ["loaded_driver"]


def altered(plan: Plan, **changes: Any) -> Plan:
    (cohort,) = plan.cohorts
    return plan.model_copy(update={"cohorts": (cohort.model_copy(update=changes),)})


def test_the_validator_asks_for_it_and_for_what_is_installed() -> None:
    plan = plan_for(machine(OLD), WANTED)
    (cohort,) = plan.cohorts
    (step,) = cohort.steps
    forgotten = altered(plan, steps=(), goal=cohort.start, cost=dict.fromkeys(cohort.cost, 0))
    assert any(f"{OLD} still runs, and nothing loads it" in text for text in validate_plan(forgotten, WANTED, raw()))
    wrong = step.changes[0].model_copy(update={"to": "590.48.01"})
    told = altered(plan, steps=(step.model_copy(update={"changes": (wrong,)}),),
                   goal={**cohort.goal, "loaded_driver": ("590.48.01",)})
    assert any("becomes 590.48.01" in text for text in validate_plan(told, WANTED, raw()))
    packaged = step.packages.model_copy(update={"manager": "apt", "install": {"nvidia-utils": "1"}})
    bought = altered(plan, steps=(step.model_copy(update={"packages": packaged}),))
    assert any("has packages or instructions" in text for text in validate_plan(bought, WANTED, raw()))
