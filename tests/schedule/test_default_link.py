"""The default link of toolkits, turned alone: a step of its own, seen afterwards, taken back, refused with words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from planner.errors import NoPathError
from planner.execute.predict import at_goal, differences
from planner.facts.schema import FactSet, ToolkitFacts
from planner.schedule.plan import Cohort, PackageAct
from planner.validate.replay import validate_plan
from tests.schedule.machines import NEW, OLD, plan_for, raw, target, ubuntu
from tests.validate.test_handover import complaints

LINK = "/usr/local/cuda"
OLDER = ToolkitFacts(version="12.4.1", path="/usr/local/cuda-12.4", source="usr-local")
NEWER = ToolkitFacts(version="12.8.1", path="/usr/local/cuda-12.8", source="usr-local", default=True)
SWITCH = target(driver=OLD, cuda_toolkits={"default": "12.4"})


def machine(*toolkits: ToolkitFacts) -> FactSet:
    """Return a machine with toolkits that its packages brought."""
    return ubuntu(toolkits=toolkits, packages={
        f"cuda-toolkit-{'-'.join(t.version.split('.')[:2])}": f"{t.version}-1" for t in toolkits})


def cohort_of(facts: FactSet, wanted: object = SWITCH) -> Cohort:
    (cohort,) = plan_for(facts, wanted).cohorts     # type: ignore[arg-type]
    return cohort


def test_a_default_alone_is_a_step_that_touches_no_package_and_has_its_way_back() -> None:
    cohort = cohort_of(machine(OLDER, NEWER))
    (step,), (back,) = cohort.steps, cohort.way_back
    assert (step.move, step.title, step.disruption) == ("default-link", "cuda_default 12.8.1 -> 12.4.1", "none")
    assert step.packages == PackageAct(manager="none")
    assert step.links == {LINK: OLDER.path}
    assert back.links == {LINK: NEWER.path}
    assert cohort.cost == {"reboots": 0, "risks": 0, "steps": 1, "minutes": 1, "drains": 1}
    assert validate_plan(plan_for(machine(OLDER, NEWER), SWITCH), SWITCH, raw()) == ()


def test_a_node_is_at_its_goal_by_what_its_link_says() -> None:
    cohort = cohort_of(machine(OLDER, NEWER))
    assert not at_goal(cohort, cohort.start)
    assert at_goal(cohort, cohort.goal)
    turned = {**cohort.start, "cuda_default": ("11.8.0",)}
    assert [d.component for d in differences("n", cohort, turned, started=False)] == ["cuda_default"]


def test_it_stands_behind_the_driver_and_not_beside_a_toolkit_that_turns_the_link_itself() -> None:
    both = cohort_of(machine(OLDER, NEWER), target(driver=NEW, cuda_toolkits={"default": "12.4"}))
    assert [s.move for s in both.steps][-1] == "default-link"
    assert both.steps[0].changes[0].component == "driver"
    without = target(driver=OLD, cuda_toolkits={"default": "12.4", "absent": ["12.8"]})
    gone = cohort_of(machine(OLDER, NEWER), without)
    assert [s.move for s in gone.steps] == ["toolkit"]
    assert gone.steps[0].links == {LINK: OLDER.path}


def test_nothing_is_to_do_where_the_link_leads_there() -> None:
    assert cohort_of(machine(OLDER, NEWER), target(driver=OLD, cuda_toolkits={"default": "12.8"})).steps == ()


def test_a_link_that_was_not_there_is_made_and_nobody_says_that_it_is_taken_off() -> None:
    cohort = cohort_of(machine(OLDER, NEWER.model_copy(update={"default": False})))
    assert cohort.steps[0].links == {LINK: OLDER.path}
    assert cohort.start["cuda_default"] == ()
    assert cohort.way_back[0].title == f"nothing takes the default link off: rm {LINK}"


def test_a_default_that_goes_without_another_is_told() -> None:
    cohort = cohort_of(machine(OLDER, NEWER), target(driver=OLD, cuda_toolkits={"absent": ["12.8"]}))
    assert "want cuda_toolkits with a default" in " ".join(cohort.steps[-1].remarks or ())
    other = cohort_of(machine(OLDER, NEWER), target(driver=OLD, cuda_toolkits={"absent": ["12.4"]}))
    assert not any("default" in remark for s in other.steps for remark in s.remarks or ())


REFUSED: dict[str, tuple[FactSet, str, str]] = {
    "not-there": (machine(OLDER, NEWER), "13.0", "not among what there is then (12.4.1, 12.8.1)"),
    "elsewhere": (machine(OLDER.model_copy(update={"path": "/opt/cuda-12.4"}), NEWER), "12.4",
                  "lies in /opt/cuda-12.4"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_default_that_cannot_be_had_is_refused_with_the_reason(name: str) -> None:
    facts, wanted, words = REFUSED[name]
    with pytest.raises(NoPathError) as caught:
        plan_for(facts, target(driver=OLD, cuda_toolkits={"default": wanted}))
    assert words in str(caught.value.diagnostics[0].why)


def changed(cohort: Cohort, **fields: object) -> Cohort:
    return cohort.model_copy(update={"steps": (cohort.steps[0].model_copy(update=fields),)})


WRONG: dict[str, tuple[Callable[[Cohort], Cohort], str]] = {
    "other-link": (lambda c: changed(c, links={LINK: NEWER.path}), "the wanted default has"),
    "no-link": (lambda c: changed(c, links={}), "the wanted default has"),
    "a-package": (lambda c: changed(c, packages=PackageAct(manager="apt", remove=("x",))), "has packages or instr"),
    "another-move": (lambda c: changed(c, move="toolkit"), "names no package"),
    "other-version": (lambda c: changed(c, changes=(c.steps[0].changes[0].model_copy(update={"to": "12.8.1"}),)),
                      "the wanted default is 12.4.1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_validator_finds_a_changed_step(name: str) -> None:
    change, words = WRONG[name]
    plan = plan_for(machine(OLDER, NEWER), SWITCH)
    assert words in complaints(plan, SWITCH, change)
