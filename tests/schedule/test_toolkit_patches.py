"""Patch releases of one toolkit share a directory and a package name: one takes the place of the other."""

from __future__ import annotations

import pytest

from planner.errors import NoPathError
from planner.facts.schema import FactSet, ToolkitFacts
from planner.schedule.plan import Change, Cohort
from tests.schedule.machines import OLD, offered, plan_for, target, ubuntu
from tests.validate.test_handover import complaints

PLACE = "/usr/local/cuda-12.4"
BEFORE, AFTER = ({"cuda-toolkit-12-4": f"12.4.{patch}-1", "cuda-compiler-12-4": f"12.4.{patch}-1"} for patch in (0, 1))


def machine(installed: str = "12.4.0", packages: dict[str, str] | None = None) -> FactSet:
    """Return a machine with one toolkit; its repositories have both patch releases."""
    known = ubuntu(packages=BEFORE if packages is None else packages,
                   toolkits=(ToolkitFacts(version=installed, path=PLACE, source="usr-local", default=True),))
    return known.model_copy(update={"available": {**(known.available or {}), **offered(AFTER, BEFORE)}})


def cohort_of(facts: FactSet, **toolkits: object) -> Cohort:
    (cohort,) = plan_for(facts, target(driver=OLD, cuda_toolkits=toolkits)).cohorts
    return cohort


@pytest.mark.parametrize("absent", [[], ["12.4.0"]])
def test_a_newer_patch_takes_the_place_of_the_older_one(absent: list[str]) -> None:
    cohort = cohort_of(machine(), present=["12.4.1"], absent=absent)
    (step,), (back,) = cohort.steps, cohort.way_back
    assert step.title == "cuda_toolkits 12.4.0 -> 12.4.1"
    assert (dict(step.packages.install), step.packages.remove) == (AFTER, ())
    assert cohort.goal["cuda_toolkits"] == ("12.4.1",)
    assert (dict(back.packages.install), back.packages.remove) == (BEFORE, ())
    assert not any("default link" in text for text in step.remarks or ())


def test_an_older_patch_comes_where_it_is_asked_for() -> None:
    (step,) = cohort_of(machine("12.4.1", AFTER), present=["12.4.0"]).steps
    assert step.title == "cuda_toolkits 12.4.1 -> 12.4.0"


def test_packages_are_not_unpacked_over_what_a_runfile_left() -> None:
    with pytest.raises(NoPathError) as refused:
        cohort_of(machine(packages={}), present=["12.4.1"])
    assert f"{PLACE} is taken: no package brought what lies there" in " ".join(refused.value.diagnostics[0].why)


def test_the_validator_knows_that_two_patches_share_a_place() -> None:
    wanted = target(driver=OLD, cuda_toolkits={"present": ["12.4.1"]})

    def beside(cohort: Cohort) -> Cohort:
        change = Change.model_validate({"component": "cuda_toolkits", "from": "", "to": "12.4.1"})
        steps = tuple(step.model_copy(update={"changes": (change,)}) for step in cohort.steps)
        return cohort.model_copy(update={"steps": steps})

    told = complaints(plan_for(machine(), wanted), wanted, beside)
    assert "cuda_toolkits 12.4.1 takes the place of 12.4.0, which is said to stay" in told
