"""Refusals with the shipped matrices, as people who are on call read them."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import NoPathError
from planner.facts.schema import FactSet, ToolkitFacts
from planner.model.target import Target
from tests.schedule.machines import NEW, OLD, offered, plan_for, target, ubuntu, ubuntu_driver

VOLTA: dict[str, Any] = {"model": "Tesla V100-SXM2-32GB", "capability": "7.0"}


def refused(facts: FactSet, wanted: Target) -> tuple[str, str, str]:
    """Return what is out of reach, why, and what to do."""
    with pytest.raises(NoPathError) as told:
        plan_for(facts, wanted)
    (item,) = told.value.diagnostics
    return item.summary, " | ".join(item.why), item.hint


def test_a_flavour_that_gpus_do_not_take_is_not_blamed_on_the_driver_wanted_with_it() -> None:
    """Driver 580 drives Volta: what is out of reach is the flavour alone."""
    summary, why, hint = refused(ubuntu(**VOLTA), target(driver="580", driver_flavour="open"))
    assert summary == "no safe path to driver_flavour open"
    assert "Volta" in why
    assert "no combination of what they can get keeps this rule" in why
    assert "keep driver_flavour proprietary" in hint


def test_a_flavour_that_no_repository_has_is_told_with_the_rule_that_forbids_it_anyway() -> None:
    facts = ubuntu(flavour="open", version=NEW, model="NVIDIA B200", capability="10.0",
                   available=offered(ubuntu_driver(NEW, "open"), ubuntu_driver(OLD, "open")))
    summary, why, _ = refused(facts, target(driver_flavour="proprietary"))
    assert summary == "no safe path to driver_flavour proprietary"
    assert "and where they had it: Blackwell" in why


def test_two_goals_that_both_fail_get_a_target_that_can_be_planned() -> None:
    """Volta with CUDA 13 and driver 590: the last of each that knows it, and that target is one."""
    toolkits = offered(*({f"cuda-toolkit-{v[:4].replace('.', '-')}": f"{v}-1"} for v in ("13.0.2", "12.9.1")))
    facts = ubuntu(**VOLTA)
    facts = facts.model_copy(update={"available": {**(facts.available or {}), **toolkits}})
    _, why, hint = refused(facts, target(driver="590", cuda_toolkits={"present": ["13.0"]}))
    assert "are driven by branch 580 and older only" in why
    assert f"cuda_toolkits 12.9.1 instead of 13.0, and driver {NEW} instead of 590" in hint
    (cohort,) = plan_for(facts, target(driver=NEW, cuda_toolkits={"present": ["12.9.1"]})).cohorts
    assert [s.move for s in cohort.steps] == ["driver", "toolkit"]


def on(system: str, version: str, **fields: Any) -> FactSet:
    facts = ubuntu(**fields)
    return facts.model_copy(update={"os": facts.os.model_copy(update={"id": system, "version_id": version})})


@pytest.mark.parametrize(("now", "wanted", "found"), [
    (("rhel", "8.10"), "rhel-9.*", "rhel-9.7"), (("rocky", "9.5"), "rocky-9.6", "rocky-9.6"),
    (("almalinux", "8.10"), "almalinux-9.6", "almalinux-9.6"), (("sles", "15.6"), "sles-15.7", "sles-15.7")])
def test_releases_of_enterprise_systems_have_ways_too_minor_ones_included(now: Any, wanted: str, found: str) -> None:
    (cohort,) = plan_for(on(*now), target(os=wanted)).cohorts
    assert [(s.move, s.changes[0].to) for s in cohort.steps] == [("os-release", found)]


def test_a_package_manager_that_planner_does_not_drive_is_named_once_for_all_that_is_wanted() -> None:
    facts = on("sles", "15.6", available=None)
    _, why, _ = refused(facts, target(driver="580", cuda_toolkits={"present": ["13.0"]}))
    assert why.count("these nodes have zypper (sles-15.6)") == 1
    assert "repositories" not in why


def test_a_hop_that_leads_on_is_nearer_than_one_that_leads_nowhere() -> None:
    _, _, hint = refused(on("rhel", "8.10"), target(os="rhel-10.0"))
    assert "os rhel-9.6 instead of rhel-10.0" in hint


def test_a_downgrade_that_workloads_forbid_leaves_the_driver_as_it_is() -> None:
    from planner.schedule.assemble import make_plan
    from tests.schedule.machines import document, shipped

    with pytest.raises(NoPathError) as told:
        make_plan(document(ubuntu(version=NEW), {"workload_runtimes": ("13.0",)}), target(driver="570"), shipped(),
                  planner_version="0")
    assert f"keep driver {NEW}" in told.value.diagnostics[0].hint


def test_a_driver_that_would_do_and_cannot_be_put_on_is_told_with_the_reason() -> None:
    """Nobody asked for a driver: the toolkit needs one, and the one in the repositories is another publisher's."""
    own, other = (ubuntu_driver(v, "open", origin=o, server=False) for v, o in (
        (OLD, "0ubuntu0.22.04.1"), (NEW, "1ubuntu1")))
    facts = ubuntu(flavour="open", available=offered(own, other, {"cuda-toolkit-13-0": "13.0.2-1"}))
    facts = facts.model_copy(update={"packages": own})
    _, why, _ = refused(facts, target(cuda_toolkits={"present": ["13.0"]}))
    assert "CUDA 13.x needs driver 580" in why
    assert f"driver {NEW} would do, but the repositories have driver {NEW} from vendor only" in why
    assert "want driver_origin vendor first" in why


def test_a_rule_is_shown_with_the_version_that_was_asked_for() -> None:
    facts = ubuntu(flavour="open", version=NEW, model="NVIDIA GeForce RTX 5090", capability="12.0",
                   available=offered(*(ubuntu_driver(v, f) for v in ("590.48.01", NEW, OLD) for f in (
                       "open", "proprietary"))))
    _, why, _ = refused(facts, target(driver="570", driver_flavour="proprietary"))
    assert f"driver {OLD}, driver_flavour proprietary" in why
    assert "590" not in why


def test_taking_toolkits_away_from_nodes_that_have_none_is_no_error() -> None:
    (cohort,) = plan_for(ubuntu(), target(driver=NEW, cuda_toolkits={"absent": ["11.*"]})).cohorts
    assert [s.move for s in cohort.steps] == ["driver"]


def test_what_is_nearest_was_planned_with_what_ends_the_plan_too() -> None:
    """Two releases ahead, a driver that nobody offers: neither goal may be given up alone, nor is os alone enough."""
    facts = ubuntu(release="20.04", available=offered(*(ubuntu_driver(OLD, f) for f in ("open", "proprietary"))),
                   version="535.247.01")
    _, why, hint = refused(facts, target(os="ubuntu-24.04", driver="580"))
    assert "besides, os ubuntu-24.04 is more than one step away from ubuntu-20.04" in why
    both = f"driver {OLD} instead of 580, and os ubuntu-22.04 instead of ubuntu-24.04"
    assert hint.endswith(f": {both}; or os ubuntu-22.04 alone, apply that, then discover and plan again for the rest")
    for want in ({"driver": f"=={OLD}", "os": "ubuntu-22.04"}, {"os": "ubuntu-22.04"}):
        (cohort,) = plan_for(facts, target(**want)).cohorts
        assert cohort.goal["os"] == ("ubuntu-22.04",)


def test_what_cannot_be_planned_alone_either_is_not_named_as_the_way() -> None:
    _, why, hint = refused(ubuntu(), target(os="ubuntu-26.04", kernel="6.8.0-45-generic"))
    assert "nothing follows os" in why
    assert "leave out kernel" not in hint
    assert hint.endswith("os ubuntu-24.04 alone, apply that, then discover and plan again for the rest")


def test_a_flavour_that_nobody_offers_may_stay_as_it_is_beside_the_driver_that_is_wanted() -> None:
    """With the flavour that is wanted the repositories have another driver: that is no reason against this one."""
    facts = ubuntu(available=offered(ubuntu_driver(OLD, "proprietary"), ubuntu_driver(NEW, "proprietary")))
    _, _, hint = refused(facts, target(driver="580", driver_flavour="open"))
    assert hint.endswith(": keep driver_flavour proprietary")


def test_a_toolkit_that_no_package_owns_may_stay() -> None:
    """Found when steps are made, behind the search: what is out of reach and what is nearest are told all the same."""
    toolkits = {"cuda-toolkit-12-8": ("12.8.1-1",)}
    facts = ubuntu(toolkits=(ToolkitFacts(version="12.2.0", path="/usr/local/cuda-12.2", default=True),))
    facts = facts.model_copy(update={"available": {**(facts.available or {}), **toolkits}})
    summary, why, hint = refused(facts, target(driver=NEW, cuda_toolkits={"present": ["12.8"], "absent": ["12.2"]}))
    assert summary == "no safe path to cuda_toolkits with 12.8, without 12.2"
    assert "/usr/local/cuda-12.2" in why
    assert hint.endswith(": let cuda_toolkits 12.2 stay")


def test_repositories_that_were_not_read_are_not_called_empty() -> None:
    _, why, _ = refused(ubuntu(available=None), target(driver=NEW, cuda_toolkits={"present": ["13.0"]}))
    assert why.count("was not read: see that their package manager answers, then read it with planner discover") == 1
    assert "repositories have no" not in why
    (cohort,) = plan_for(ubuntu(available=None), target(driver="570")).cohorts
    assert not cohort.steps
    _, why, _ = refused(ubuntu(available={}), target(driver=NEW))
    assert "repositories have no driver" in why


@pytest.mark.parametrize(("owner", "way"), [
    ("runfile", "want driver_origin distribution or vendor first, alone, then discover and plan again"),
    ("image", "hand it over to the package manager first")])
def test_what_somebody_else_owns_is_told_with_the_way_to_the_package_manager(owner: str, way: str) -> None:
    _, why, _ = refused(ubuntu(owner=owner), target(driver=NEW))
    assert f"driver is owned by {owner}" in why
    assert way in why
    if owner == "runfile":
        (cohort,) = plan_for(ubuntu(owner=owner), target(driver_origin="distribution")).cohorts
        assert [s.move for s in cohort.steps] == ["driver-origin"]


def test_only_hops_from_which_fewest_lead_on_are_named_as_the_first() -> None:
    """From 9.4 the next is 9.6, and only from there 10.0 is."""
    facts = on("rhel", "8.10")
    _, why, hint = refused(facts, target(os="rhel-10.0"))
    assert "first rhel-9.6, then discover and plan again" in why
    assert hint.endswith("os rhel-9.6 instead of rhel-10.0")
