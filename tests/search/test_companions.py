"""What must match a lead: it follows, also where the lead stays; it is added where it is wanted or missed."""

from __future__ import annotations

import pytest

from planner.facts.schema import FactSet, ServiceFacts
from planner.search.path import find_path
from planner.search.problem import Path, Problem
from tests.schedule.machines import NEW, OLD, offered, plan_for, target, ubuntu, ubuntu_driver
from tests.search.worlds import claim, matrices, problem, raw

FOLLOW = {"name": "twins", "title": "twin follows", "components": ["twin"], "lead": "engine", "disruption": "reboot",
          "minutes": 8}
VERSIONS = {"engine": ("3", "2", "1"), "twin": ("3", "2", "1")}
NEEDED = claim("x-needs-a-twin", {"arch": "x"}, {"twin": "present"})


def path(start: dict[str, tuple[str, ...]], goals: dict[str, str], *claims: dict[str, object]) -> Path | None:
    rules = raw(list(claims))
    rules["moves"] = [*rules["moves"], FOLLOW]
    given: Problem = problem({"base": ("1",), "tools": (), "lib": (), "arch": ("x",), **start}, goals, VERSIONS)
    return find_path(given, matrices(rules))


def changes(found: Path | None) -> list[tuple[str, str, str]]:
    assert found is not None
    return [change for step in found.transitions for change in step.changes]


@pytest.mark.parametrize(("twin", "expected"), [
    ("1", [("twin", "1", "2")]), ("3", [("twin", "3", "2")]), ("2", []),
])
def test_a_companion_left_behind_follows_a_lead_that_is_right_already(twin: str, expected: list[object]) -> None:
    """The state that an upgrade leaves which broke off: neither way round may the lead have to move for it."""
    assert changes(path({"engine": ("2",), "twin": (twin,)}, {"engine": "2"})) == expected


def test_a_companion_that_nobody_misses_stays_away() -> None:
    assert changes(path({"engine": ("1",), "twin": ()}, {"engine": "3"})) == [("engine", "1", "3")]


@pytest.mark.parametrize(("engine", "expected"), [
    ("2", [("twin", "", "2")]), ("1", [("engine", "1", "2"), ("twin", "", "2")]),
])
def test_a_companion_that_is_missed_comes_in_the_version_of_its_lead(engine: str, expected: list[object]) -> None:
    assert changes(path({"engine": (engine,), "twin": ()}, {"engine": "2"}, NEEDED)) == expected


def test_a_companion_that_only_the_new_version_needs_comes_with_it() -> None:
    """Nothing is wrong at the start; a step that left it away would be refused."""
    needs = claim("three-needs-a-twin", {"engine": "3"}, {"twin": "present"})
    assert changes(path({"engine": ("1",), "twin": ()}, {"engine": "3"}, needs)) == [("engine", "1", "3"),
                                                                                      ("twin", "", "3")]
    elsewhere = claim("three-needs-a-twin", {"engine": "3", "arch": "y"}, {"twin": "present"})
    assert changes(path({"engine": ("1",), "twin": ()}, {"engine": "3"}, elsewhere)) == [("engine", "1", "3")]


def test_a_companion_that_is_wanted_comes_though_no_rule_asks_for_it() -> None:
    assert changes(path({"engine": ("2",), "twin": ()}, {"twin": "2"})) == [("twin", "", "2")]


def test_a_companion_in_no_version_of_its_lead_is_refused() -> None:
    assert path({"engine": ("2",), "twin": ()}, {"engine": "2", "twin": "3"}) is None


def fabric(version: str) -> dict[str, str]:
    return {f"nvidia-fabricmanager-{version[:3]}": f"{version}-0ubuntu0.22.04.1"}


def hgx(driver: str, manager: str | None) -> FactSet:
    return ubuntu(flavour="open", version=driver, model="NVIDIA H100 80GB HBM3", capability="9.0", nvswitch=True,
                  packages=fabric(manager) if manager else {},
                  fabric_manager=ServiceFacts(version=f"{manager}-0ubuntu0.22.04.1" if manager else None),
                  available=offered(*(ubuntu_driver(v, "open") for v in (OLD, NEW)), fabric(OLD), fabric(NEW)))


@pytest.mark.parametrize("manager", [OLD, None])
def test_a_fabric_manager_left_behind_or_forgotten_needs_no_other_driver(manager: str | None) -> None:
    (cohort,) = plan_for(hgx(NEW, manager), target(driver=NEW)).cohorts
    (step,) = cohort.steps
    assert (step.move, step.disruption, step.quick_gate) == ("driver-companions", "reboot", True)
    assert dict(step.packages.install) == fabric(NEW)
    assert step.packages.remove == (tuple(fabric(OLD)) if manager else ())
    assert {c.claim for c in cohort.inherited} == {
        "fabric-manager-equals-driver" if manager else "nvswitch-needs-fabric-manager"}


def test_a_broken_fabric_is_mended_before_anything_else_that_is_asked_for() -> None:
    facts = hgx(NEW, OLD)
    more = {**(facts.available or {}), **offered({"cuda-toolkit-12-8": "12.8.1-1"})}
    plan = plan_for(facts.model_copy(update={"available": more}), target(cuda_toolkits={"present": ["12.8"]}))
    (cohort,) = plan.cohorts
    assert [s.move for s in cohort.steps] == ["driver-companions", "toolkit"]
    assert "The target does not ask for this" in " ".join(cohort.steps[0].remarks or ())
