"""The validator replays steps by other hands, and moves that not every node has, from the raw YAML alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from planner.model.target import Target
from planner.schedule.plan import Cohort, PackageAct, Plan, Step
from planner.validate.replay import validate_plan
from tests.schedule.machines import NEW, plan_for, raw, target, ubuntu

PINNED = {"gpu_operator": "25.3.2", "gpu_operator_driver": "pinned"}


def complaints(plan: Plan, wanted: Target, change: Callable[[Cohort], Cohort]) -> str:
    (cohort,) = plan.cohorts
    return "\n".join(validate_plan(plan.model_copy(update={"cohorts": (change(cohort),)}), wanted, raw()))


def step(cohort: Cohort, number: int = 0, **fields: Any) -> Cohort:
    steps = list(cohort.steps)
    steps[number] = steps[number].model_copy(update=fields)
    return cohort.model_copy(update={"steps": tuple(steps)})


def start(cohort: Cohort, **values: tuple[str, ...]) -> Cohort:
    return cohort.model_copy(update={"start": {**cohort.start, **values}, "goal": {**cohort.goal, **values}})


def proof(cohort: Cohort, **fields: Any) -> Cohort:
    (one,) = cohort.steps[0].proofs or ()
    return step(cohort, proofs=(one.model_copy(update=fields),))


def to(cohort: Cohort, value: str) -> Cohort:
    """Return the cohort as if its hand-over led elsewhere, everything that repeats it changed alike."""
    one = cohort.steps[0]
    old = one.changes[0].to
    told = tuple(text.replace(old, value) for text in one.instructions or ())
    changes = (one.changes[0].model_copy(update={"to": value}),)
    (shows,) = one.proofs or ()
    name = one.changes[0].component
    made = step(cohort, changes=changes, instructions=told, proofs=(shows.model_copy(update={"wanted": (value,)}),))
    return made.model_copy(update={"goal": {**made.goal, name: (value,)}, "way_back": ()})


OS = target(os="ubuntu-24.04")
MUTATIONS: dict[str, tuple[Callable[[Cohort], Cohort], str]] = {
    "said-to-be-packages": (lambda c: step(c, handover=None), "is not handed over"),
    "with-packages": (lambda c: step(c, packages=PackageAct(manager="apt", install={"x": "1"})), "is not handed over"),
    "other-instructions": (lambda c: step(c, instructions=("rm -rf /",)), "not those of the matrices"),
    "no-instructions": (lambda c: step(c, instructions=None), "not those of the matrices"),
    "no-proof": (lambda c: step(c, proofs=()), "nothing proves afterwards that os is ubuntu-24.04"),
    "proof-elsewhere": (lambda c: proof(c, file="/tmp/x"), "nothing proves afterwards"),
    "proof-of-something-else": (lambda c: proof(c, wanted=("ubuntu-22.04",)), "asks for ubuntu-22.04"),
    "proof-of-nothing": (lambda c: proof(c, wanted=()), "asks for nothing"),
    "proof-against-the-goal": (lambda c: proof(c, unwanted=("ubuntu-24.04",)), "forbids what stays"),
    "forgetful": (lambda c: step(c, unpredicted=("driver",)), "does not say what it changes, too"),
    "no-end": (lambda c: step(c, ends=None), "does not end the plan"),
    "two-releases-at-once": (lambda c: to(c, "ubuntu-26.04"), "is no single step"),
    "backwards": (lambda c: to(c, "ubuntu-20.04"), "is no single step"),
    "no-reboot": (lambda c: step(c, disruption="drain"), "needs reboot"),
    "no-gate": (lambda c: step(c, quick_gate=False), "without a gate"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_hand_over_is_found(name: str) -> None:
    change, words = MUTATIONS[name]
    assert words in complaints(plan_for(ubuntu(), OS), OS, change)


def test_nothing_follows_the_step_that_ends_a_plan() -> None:
    wanted = target(os="ubuntu-24.04", driver="580")
    turned = complaints(plan_for(ubuntu(), wanted), wanted, lambda c: c.model_copy(
        update={"steps": tuple(reversed(c.steps))}))
    assert "ends the plan, yet steps follow it" in turned


def test_moves_of_other_nodes_and_unfit_ones_are_found() -> None:
    wanted = target(driver=NEW)
    plan = plan_for(ubuntu(owner="operator"), wanted, PINNED)
    assert complaints(plan, wanted, lambda c: c) == ""
    assert "operator-driver is no move of nodes whose driver_owner is apt" in complaints(
        plan, wanted, lambda c: start(c, driver_owner=("apt",)))
    for value in (("unpinned",), ("provider",)):
        assert "must not be made" in complaints(plan, wanted, lambda c, v=value: start(c, operator_driver=v))


@pytest.mark.parametrize(("value", "words"), [
    ("26.3.0", "leaves out a line"), ("24.9.2", "leaves out a line"), ("25.3.1", "is a way back"),
    ("99.1", "leaves out"),
])
def test_lines_are_taken_one_after_the_other(value: str, words: str) -> None:
    wanted = target(gpu_operator="25.10.1")
    assert words in complaints(plan_for(ubuntu(), wanted, PINNED), wanted, lambda c: to(c, value))


def test_an_ordinary_step_is_not_handed_over() -> None:
    wanted = target(driver=NEW)
    plan = plan_for(ubuntu(), wanted)
    assert "although packages make the move" in complaints(plan, wanted, lambda c: step(c, instructions=("by hand",)))
    assert "names no package" in complaints(plan, wanted, lambda c: step(c, packages=PackageAct(manager="none")))


def test_packages_of_other_owners_are_left_alone() -> None:
    wanted = target(driver=NEW)
    assert "packages do not change what runfile owns: driver" in complaints(
        plan_for(ubuntu(), wanted), wanted, lambda c: start(c, driver_owner=("runfile",)))


def test_words_are_matched_as_words() -> None:
    wanted = target(driver_flavour="open")
    plan = plan_for(ubuntu(), wanted)
    assert complaints(plan, wanted, lambda c: c) == ""
    assert "driver_flavour open is not reached" in complaints(plan, wanted, lambda c: Cohort.model_validate(
        {**c.model_dump(by_alias=True), "goal": {**c.goal, "driver_flavour": ("proprietary",)}}))
    assert "is none of proprietary, open" in complaints(plan, wanted, lambda c: step(
        c, changes=(c.steps[0].changes[0].model_copy(update={"to": "both"}),)))


def test_the_way_back_of_a_hand_over_needs_no_packages_and_leads_to_the_start() -> None:
    wanted = target(toolkit_module="13.0")
    plan = plan_for(ubuntu(), wanted, {"toolkit_module": "12.8"})

    def astray(cohort: Cohort) -> Cohort:
        back: Step = cohort.way_back[0]
        change = back.changes[0].model_copy(update={"to": "11.8"})
        return cohort.model_copy(update={"way_back": (back.model_copy(update={"changes": (change,)}),)})

    assert complaints(plan, wanted, lambda c: c) == ""
    assert "the way back does not lead to the start" in complaints(plan, wanted, astray)
