"""A reboot boots what the boot loader chooses: another kernel than the one that runs is searched on, and said."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import NoPathError
from planner.execute.predict import at_goal, differences
from planner.facts.schema import FactSet, KernelFacts
from planner.schedule.plan import Cohort, Plan
from planner.validate.replay import validate_plan
from tests.schedule.machines import NEW, OLD, offered, plan_for, raw, target, ubuntu, ubuntu_driver

RUNS, BOOTS = "5.15.0-151-generic", "5.15.0-161-generic"
TOO_NEW = "6.19.2-300-generic"
WANTED = target(driver=NEW)


def machine(boots: str | None, **fields: Any) -> FactSet:
    return ubuntu(kernel=KernelFacts(running=RUNS, next_boot=boots), **fields)


def cohort_of(facts: FactSet, wanted: Any = WANTED) -> Cohort:
    (cohort,) = plan_for(facts, wanted).cohorts
    return cohort


def moved(cohort: Cohort) -> list[tuple[str, str, str]]:
    return [(c.component, c.from_, c.to) for step in cohort.steps for c in step.changes]


def test_the_step_that_reboots_says_which_kernel_it_boots() -> None:
    cohort = cohort_of(machine(BOOTS))
    (step,) = cohort.steps
    assert moved(cohort) == [("driver", OLD, NEW), ("kernel", RUNS, BOOTS)]
    assert not any(name.startswith("linux-") for name in step.packages.install)
    assert any(f"kernel {BOOTS} boots next ({RUNS} runs now)" in text for text in step.remarks or ())
    assert (cohort.start["kernel"], cohort.goal["kernel"]) == ((RUNS,), (BOOTS,))
    assert [c.component for s in cohort.way_back for c in s.changes] == ["driver"]


@pytest.mark.parametrize("boots", [RUNS, None])
def test_nothing_is_said_where_the_same_boots_or_nobody_knows(boots: str | None) -> None:
    assert moved(cohort_of(machine(boots))) == [("driver", OLD, NEW)]


def test_nothing_is_said_where_nothing_reboots() -> None:
    cohort = cohort_of(machine(BOOTS), target(driver=OLD, cuda_compat={"present": ["12.8"]}))
    assert moved(cohort) == [("cuda_compat", "", "12.8")]
    assert (cohort.start["kernel"], cohort.goal["kernel"]) == ((RUNS,), (RUNS,))


def test_a_node_is_compared_with_what_ran_when_the_plan_was_made() -> None:
    cohort = cohort_of(machine(BOOTS))
    assert differences("n", cohort, cohort.start, started=False) == ()
    other = {**cohort.start, "next_kernel": ("6.8.0-79-generic",)}
    assert [d.component for d in differences("n", cohort, other, started=False)] == ["next_kernel"]
    assert not at_goal(cohort, {**cohort.goal, "kernel": (RUNS,)})
    assert at_goal(cohort, {**cohort.goal, "loaded_driver": (NEW,)})


def test_a_driver_that_does_not_build_for_the_kernel_that_boots_is_refused_before_the_first_node() -> None:
    facts = machine(TOO_NEW, version="535.183.06", available=offered(
        *(ubuntu_driver(v, "proprietary") for v in ("535.183.06", "550.163.01"))))
    with pytest.raises(NoPathError) as caught:
        plan_for(facts, target(driver="550.163.01"))
    (said,) = caught.value.diagnostics
    assert said.why[0].startswith(f"kernel {TOO_NEW} boots next ({RUNS} runs now), and every step that reboots boots")


def test_a_driver_that_has_no_way_back_on_the_kernel_that_boots_is_a_point_of_no_return() -> None:
    facts = machine(TOO_NEW, version="550.163.01", available=offered(
        *(ubuntu_driver(v, "proprietary") for v in ("550.163.01", "580.159.03"))))
    cohort = cohort_of(facts, target(driver="580.159.03"))
    assert cohort.no_return_after == "s1"
    assert f"kernel {TOO_NEW} boots next" in cohort.no_return_why


def test_a_kernel_that_is_wanted_comes_instead_of_both() -> None:
    image = "linux-image-6.8.0-85-generic"
    names = (image, "linux-headers-6.8.0-85-generic", "linux-modules-6.8.0-85-generic",
             "linux-modules-extra-6.8.0-85-generic")
    own = {f"linux-image-{k}": "5.15.0-1" for k in (RUNS, BOOTS)}
    facts = machine(BOOTS, packages=own, available=offered(
        *(ubuntu_driver(v, "proprietary") for v in (OLD, NEW)), dict.fromkeys(names, "6.8.0-85.85")))
    cohort = cohort_of(facts, target(driver=NEW, kernel="6.8.0-85-generic"))
    (step,) = cohort.steps
    assert ("kernel", RUNS, "6.8.0-85-generic") in moved(cohort)
    assert [c.component for c in step.changes].count("kernel") == 1
    assert f"kernel {RUNS} -> 6.8.0-85-generic" in step.title
    assert "boots" not in step.title


def test_people_who_reboot_may_bring_any_kernel() -> None:
    cohort = cohort_of(machine(BOOTS), target(os="ubuntu-24.04"))
    assert cohort.steps[0].handover
    assert "kernel" not in [component for component, _, _ in moved(cohort)]


def altered(plan: Plan, **changes: Any) -> Plan:
    (cohort,) = plan.cohorts
    return plan.model_copy(update={"cohorts": (cohort.model_copy(update=changes),)})


def test_the_validator_asks_what_boots() -> None:
    plan = plan_for(machine(BOOTS), WANTED)
    (cohort,) = plan.cohorts
    (step,) = cohort.steps
    silent = altered(plan, steps=(step.model_copy(update={"changes": step.changes[:1]}),),
                     goal={**cohort.goal, "kernel": (RUNS,)})
    assert any(f"boots kernel {BOOTS}, and the plan does not say so" in t for t in validate_plan(silent, WANTED, raw()))
    wrong = step.changes[1].model_copy(update={"to": "6.8.0-79-generic"})
    other = altered(plan, steps=(step.model_copy(update={"changes": (step.changes[0], wrong)}),),
                    goal={**cohort.goal, "kernel": ("6.8.0-79-generic",)})
    assert any("kernel is not moved by driver" in t for t in validate_plan(other, WANTED, raw()))
