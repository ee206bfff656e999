"""What a cohort says of itself: its way back, ids, the point of no return, links, minutes and cost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.cli import raw as raw_reader
from planner.facts.schema import FactSet, ToolkitFacts
from planner.model.target import Target
from planner.schedule.plan import Cohort, PackageAct, Plan
from planner.validate.replay import validate_plan
from tests.schedule.machines import NEW, OLD, plan_for, raw, target, ubuntu
from tests.validate.test_handover import complaints, step

MODULE = target(toolkit_module="13.0")
OS = target(os="ubuntu-24.04", driver=NEW)


def back(cohort: Cohort, number: int = 0, **fields: Any) -> Cohort:
    steps = list(cohort.way_back)
    steps[number] = steps[number].model_copy(update=fields)
    return cohort.model_copy(update={"way_back": tuple(steps)})


def said(cohort: Cohort, **fields: Any) -> Cohort:
    return cohort.model_copy(update=fields)


def with_toolkits(*installed: ToolkitFacts, **fields: Any) -> FactSet:
    """Return a machine whose repositories have two toolkits as well."""
    plain = ubuntu(toolkits=installed, **fields)
    toolkits = {"cuda-toolkit-12-8": ("12.8.1-1",), "cuda-toolkit-13-0": ("13.0.2-1",)}
    return plain.model_copy(update={"available": {**(plain.available or {}), **toolkits}})


def module_plan() -> Plan:
    return plan_for(ubuntu(), MODULE, {"toolkit_module": "12.8"})


HANDED_BACK: dict[str, tuple[Callable[[Cohort], Cohort], str]] = {
    "not-handed-over": (lambda c: back(c, handover=None), "is not handed over"),
    "with-packages": (lambda c: back(c, packages=PackageAct(manager="apt", remove=("x",))), "is not handed over"),
    "as-on-the-way-there": (lambda c: back(c, instructions=c.steps[-1].instructions), "not those of the matrices"),
    "without-a-word": (lambda c: back(c, instructions=None), "not those of the matrices"),
    "proof-of-the-goal": (lambda c: back(c, proofs=c.steps[-1].proofs), "its proof of toolkit_module asks for 13.0"),
    "no-proof": (lambda c: back(c, proofs=()), "nothing proves afterwards that toolkit_module is 12.8"),
    "an-end": (lambda c: back(c, ends=True), "way back, ends the plan"),
    "links": (lambda c: back(c, links={"/usr/local/cuda": "/nowhere"}), "way back, links /usr/local/cuda -> /nowhere"),
    "of-no-step": (lambda c: back(c, id="s7-undo"), "s7-undo takes back no step"),
    "no-way-back": (lambda c: said(c, way_back=()), "the way back does not lead to the start"),
    "lost": (lambda c: said(c, no_return_after="s7"), "the point of no return, s7, is no step of the cohort"),
}


@pytest.mark.parametrize("name", HANDED_BACK)
def test_a_changed_way_back_of_a_hand_over_is_found(name: str) -> None:
    change, words = HANDED_BACK[name]
    plan = module_plan()
    assert complaints(plan, MODULE, lambda c: c) == ""
    assert words in complaints(plan, MODULE, change)


def test_what_has_no_way_back_is_said_no_later_than_there() -> None:
    plan = plan_for(ubuntu(), OS)
    (cohort,) = plan.cohorts
    assert [s.move for s in cohort.steps] == ["driver", "os-release"]
    words = "step s2: no way leads back behind os-release, and the plan does not say so"
    for place, silent in ((None, True), ("s2", False), ("s1", False)):
        told = complaints(plan, OS, lambda c, at=place: said(c, no_return_after=at))
        assert (words in told) == silent, told


def test_only_what_boots_goes_back_without_packages_and_only_behind_the_point_of_no_return() -> None:
    """A driver's packages lead back wherever the point of no return is."""
    wanted = target(driver=NEW)
    plan = plan_for(ubuntu(), wanted)
    for place in (None, "s1"):
        told = complaints(plan, wanted, lambda c, at=place: said(back(
            c, packages=PackageAct(manager="none")), no_return_after=at))
        assert "way back, names no package" in told


def test_states_on_the_way_back_are_judged() -> None:
    """The driver goes back first, below what the new runtime of the jobs needs."""
    wanted = target(driver=NEW, cuda_toolkits={"present": ["13.0"], "default": "13.0"})
    plan = plan_for(with_toolkits(), wanted)
    (cohort,) = plan.cohorts
    assert [s.move for s in cohort.way_back] == ["toolkit", "driver"]
    told = complaints(plan, wanted, lambda c: said(c, way_back=tuple(reversed(c.way_back))))
    assert "way back, after s1-undo: " in told
    assert "is broken (13.0" in told
    assert OLD in cohort.start["driver"]


@pytest.mark.parametrize("field", ["reboots", "drains", "risks", "steps", "minutes"])
def test_every_field_of_the_cost_is_counted_again(field: str) -> None:
    wanted = target(driver=NEW)
    plan = plan_for(ubuntu(), wanted)

    def dearer(cohort: Cohort) -> Cohort:
        return said(cohort, cost={**cohort.cost, field: cohort.cost[field] + 1})

    def silent(cohort: Cohort) -> Cohort:
        return said(cohort, cost={k: v for k, v in cohort.cost.items() if k != field})

    (line,) = complaints(plan, wanted, dearer).splitlines()
    assert f"its cost in {field} is said to be" in line
    assert f"its cost in {field} is said to be None" in complaints(plan, wanted, silent)


def test_an_accepted_risk_counts_in_every_state_that_has_it() -> None:
    """CUDA 13 on a driver that is too old for it, on purpose."""
    want = {"driver": OLD, "cuda_toolkits": {"present": ["13.0"], "default": "13.0"}}
    taken = [{"risk": "cuda-13-driver-floor", "because": "a test"}]
    wanted = Target.model_validate({**target(**want).model_dump(by_alias=True, mode="json"), "accept": taken})
    plan = plan_for(with_toolkits(), wanted)
    (cohort,) = plan.cohorts
    assert cohort.cost["risks"] == 1
    told = complaints(plan, wanted, lambda c: said(c, cost={**c.cost, "risks": 0}))
    assert "its cost in risks is said to be 0, the path comes to 1" in told


def test_links_stand_in_the_last_step_of_their_component() -> None:
    wanted = target(driver=NEW, cuda_toolkits={"present": ["12.8", "13.0"], "default": "13.0"})
    plan = plan_for(with_toolkits(), wanted)
    (cohort,) = plan.cohorts
    assert [bool(s.links) for s in cohort.steps] == [False] * (len(cohort.steps) - 1) + [True]
    link = {"/usr/local/cuda": "/usr/local/cuda-12.8"}
    last = len(cohort.steps) - 1
    for change in (lambda c: step(c, last, links=link), lambda c: step(c, last, links={}),
                   lambda c: step(c, 0, links=dict(cohort.steps[last].links))):
        assert "the wanted default has" in complaints(plan, wanted, change)
    without = target(driver=NEW, cuda_toolkits={"present": ["12.8", "13.0"]})
    assert any("the wanted default has nothing" in text for text in validate_plan(plan, without, raw()))


TWELVE = ToolkitFacts(version="12.8.1", path="/usr/local/cuda-12.8", source="usr-local", default=True)
BOTH = target(driver=NEW, cuda_toolkits={"present": ["12.8", "13.0"], "default": "13.0"})
LINK = "/usr/local/cuda"


def with_twelve(toolkit: ToolkitFacts = TWELVE) -> FactSet:
    return with_toolkits(toolkit, packages={"cuda-toolkit-12-8": "12.8.1-1"})


def test_the_way_back_turns_the_default_link_to_where_it_was() -> None:
    (cohort,) = plan_for(with_twelve(), BOTH).cohorts
    assert cohort.links == {LINK: TWELVE.path}
    assert {s.id: s.links for s in cohort.steps if s.links} == {"s2": {LINK: "/usr/local/cuda-13.0"}}
    assert {s.id: s.links for s in cohort.way_back if s.links} == {"s2-undo": {LINK: TWELVE.path}}


def test_a_default_link_elsewhere_goes_back_there_and_one_that_stays_or_was_none_is_left_alone() -> None:
    elsewhere = TWELVE.model_copy(update={"path": "/opt/cuda"})
    (cohort,) = plan_for(with_twelve(elsewhere), BOTH).cohorts
    assert cohort.way_back[0].links == {LINK: "/opt/cuda"}
    stays = target(driver=NEW, cuda_toolkits={"present": ["12.8", "13.0"], "default": "12.8"})
    for facts, wanted in ((with_twelve(), stays), (with_twelve(TWELVE.model_copy(update={"default": False})), BOTH)):
        (cohort,) = plan_for(facts, wanted).cohorts
        assert any(s.links for s in cohort.steps)
        assert cohort.links is None
        assert not any(s.links for s in cohort.way_back)


WRONG_LINKS: dict[str, tuple[Callable[[Cohort], Cohort], str]] = {
    "left-out": (lambda c: back(c, links={}), "way back, links nothing (s2-undo), at the start is /usr/local/cuda ->"),
    "to-the-goal": (lambda c: back(c, links=c.steps[1].links), f"way back, links {LINK} -> /usr/local/cuda-13.0"),
    "in-another-step": (lambda c: back(c, 1, links={LINK: TWELVE.path}), "(s1-undo), at the start is nothing"),
    "never-there": (lambda c: back(said(c, links={LINK: "/usr/local/cuda-13.0"}), links={LINK: "/usr/local/cuda-13.0"}),
                    "is said to be /usr/local/cuda-13.0 at the start, which no step changes or no node has there"),
    "not-told": (lambda c: said(c, links=None), "at the start is nothing"),
    "another-link": (lambda c: said(c, links={"/bin/nvcc": "/x"}), "link /bin/nvcc is said to be /x at the start"),
}


@pytest.mark.parametrize("name", WRONG_LINKS)
def test_a_wrong_link_on_the_way_back_is_found(name: str) -> None:
    change, words = WRONG_LINKS[name]
    plan = plan_for(with_twelve(), BOTH)
    assert complaints(plan, BOTH, lambda c: c) == ""
    assert words in complaints(plan, BOTH, change)


def test_rules_kept_by_a_planner_that_read_fewer_sections_are_not_taken(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cache belongs to the text and to what was read of it: without package sets every link would be wrong."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with monkeypatch.context() as older:
        older.setattr(raw_reader, "_SECTIONS", ("components", "moves", "families", "lockstep", "claims"))
        assert not any("packages" in rules for _, rules in raw_reader.raw_matrices(()))
    for _ in range(2):      # read, then kept
        assert any("packages" in rules for _, rules in raw_reader.raw_matrices(()))
    assert len(list(tmp_path.rglob("*.json"))) == 2
