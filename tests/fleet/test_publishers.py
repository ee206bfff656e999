"""Packages that other hands publish, that change their name on the way, and builds for one CUDA or another."""

from __future__ import annotations

import pytest

from planner.errors import NoPathError
from planner.facts.schema import FactSet, LibraryFacts, OsFacts, ServiceFacts, ToolkitFacts
from planner.fleet.packages import PackagePlan, obtainable_versions, resolve_install
from planner.fleet.state import build_state
from planner.model.target import Target
from planner.schedule.plan import Cohort
from tests.schedule.machines import NEW, OLD, offered, plan_for, shipped, target, ubuntu, ubuntu_driver

DISTRIBUTION, VENDOR = "0ubuntu0.22.04.1", "1ubuntu1"


def desktop(version: str, origin: str) -> dict[str, str]:
    return ubuntu_driver(version, "open", origin=origin, server=False)


def workstation(origin: str, *parts: dict[str, str]) -> FactSet:
    return ubuntu(flavour="open", available=offered(*parts)).model_copy(update={"packages": desktop(OLD, origin)})


def only(facts: FactSet, wanted: Target) -> Cohort:
    (cohort,) = plan_for(facts, wanted).cohorts
    return cohort


def refused(facts: FactSet, wanted: Target) -> str:
    with pytest.raises(NoPathError) as told:
        plan_for(facts, wanted)
    (item,) = told.value.diagnostics
    return " | ".join((*item.why, item.hint))


@pytest.mark.parametrize("own", [DISTRIBUTION, VENDOR])
def test_a_driver_stays_with_its_publisher_though_the_other_one_counts_higher(own: str) -> None:
    both = (desktop(NEW, DISTRIBUTION), dict.fromkeys(desktop(NEW, VENDOR), f"{NEW}-{VENDOR}"))
    facts = workstation(own, *both, desktop(OLD, own))
    (step,) = only(facts, target(driver="580")).steps
    assert {v.partition("-")[2] for v in step.packages.install.values()} == {own}


def test_a_driver_that_only_another_publisher_has_is_refused_with_the_step_that_comes_first() -> None:
    told = refused(workstation(DISTRIBUTION, desktop(NEW, VENDOR)), target(driver="580"))
    assert "from vendor only, and what is installed comes from distribution" in told
    assert "want driver_origin vendor first" in told


def test_pins_are_never_of_two_publishers() -> None:
    half = {n: v for n, v in desktop(NEW, VENDOR).items() if "compute" in n}
    rest = {n: v for n, v in desktop(NEW, DISTRIBUTION).items() if n not in half}
    told = refused(workstation(DISTRIBUTION, half, rest), target(driver="580"))
    assert "no publisher who has all packages" in told


def test_the_vendors_driver_for_ubuntu_loses_the_branch_in_its_names_from_590_on() -> None:
    names = ("nvidia-dkms-open", "libnvidia-compute", "nvidia-kernel-common", "libnvidia-cfg1", "nvidia-persistenced")
    then = dict.fromkeys(names, f"595.71.05-{VENDOR}")
    old = {**desktop(OLD, VENDOR), "libnvidia-gpucomp-570": f"{OLD}-{VENDOR}"}
    facts = workstation(VENDOR, desktop(OLD, VENDOR), then).model_copy(update={"packages": old})
    cohort = only(facts, target(driver="595"))
    (step,) = cohort.steps
    assert {"nvidia-dkms-open", "libnvidia-compute"} <= set(step.packages.install) <= set(then)
    assert set(step.packages.remove) == set(old)
    assert {"libnvidia-cfg1", "libnvidia-cfg1-570"} <= set(step.packages.brings)
    both = facts.model_copy(update={"available": offered(desktop(NEW, VENDOR), then)})
    (same,) = only(both, target(driver="580")).steps
    assert "libnvidia-cfg1-580" in same.packages.brings
    assert "libnvidia-cfg1" not in same.packages.brings      # a name of versions that this step has nothing to do with
    assert dict(cohort.way_back[0].packages.install) == old
    assert set(cohort.way_back[0].packages.remove) == set(step.packages.install)
    told = refused(workstation(DISTRIBUTION, desktop(OLD, DISTRIBUTION), then), target(driver="595"))
    assert "from vendor only, and what is installed comes from distribution" in told


RPM = {"kmod-nvidia-open-dkms": "3:{v}-1.el9", "nvidia-driver-cuda": "3:{v}-1.el9",
       "nvidia-driver-cuda-libs": "3:{v}-1.el9", "nvidia-kmod-common": "3:{v}-1.el9"}
BEFORE = {"nvidia-fabric-manager": "{v}-1", "libnvidia-nscq-570": "{v}-1"}
AFTER = {"nvidia-fabricmanager": "{v}-1", "libnvidia-nscq": "{v}-1"}


def at(version: str, *parts: dict[str, str]) -> dict[str, str]:
    return {n: text.format(v=version) for part in parts for n, text in part.items()}


def hgx_on_rhel() -> FactSet:
    old = at(OLD, RPM, BEFORE)
    return ubuntu(flavour="open", model="NVIDIA H100 80GB HBM3", capability="9.0", nvswitch=True, owner="dnf",
                  os=OsFacts(id="rhel", version_id="9.6", arch="x86_64", family="dnf", virtualisation="none",
                             root_diskless=False, secure_boot=False),
                  packages=old, available=offered(at(NEW, RPM, AFTER), old),
                  fabric_manager=ServiceFacts(version=f"{OLD}-1"), services={"nscq": ServiceFacts(version=f"{OLD}-1")})


def test_companions_follow_the_driver_under_the_names_that_they_have_since_580() -> None:
    cohort = only(hgx_on_rhel(), target(driver="580"))
    (step,) = cohort.steps
    assert {n for n in step.packages.install if n in AFTER} == set(AFTER)
    assert set(step.packages.remove) == set(BEFORE)
    (back,) = cohort.way_back
    assert {n for n in back.packages.install if n in BEFORE} == set(BEFORE)
    assert set(back.packages.remove) == set(AFTER)


def test_the_same_on_ubuntu_with_packages_of_the_vendor() -> None:
    old = {"libnvidia-nscq-570": f"{OLD}-1", "nvidia-imex-570": f"{OLD}-1", "nvidia-fabricmanager-570": f"{OLD}-1"}
    facts = ubuntu(packages=old, available=offered(
        {"libnvidia-nscq": f"{NEW}-1", "nvidia-imex": f"{NEW}-1", "nvidia-fabricmanager": f"{NEW}-1ubuntu1"}, old))
    state = build_state(facts, {}, shipped())
    for name in ("nscq", "imex", "fabric_manager"):
        assert obtainable_versions(name, facts, state, shipped()) == (NEW, OLD)
        plan = resolve_install(name, NEW, facts, state, shipped(), cuda_major="", installed=facts.packages)
        assert isinstance(plan, PackagePlan)
        assert len(plan.install) == len(plan.remove) == 1


def library(name: str, version: str, **packages: str) -> FactSet:
    tools = (ToolkitFacts(version="12.2.2", path="/usr/local/cuda-12.2", default=True),)
    facts = ubuntu(packages=packages, toolkits=tools,
                   libraries=(LibraryFacts(name=name, version=version, path=f"/usr/lib/lib{name}.so.{version}"),))
    more = offered({"libcudnn9-cuda-13": "9.13.0.50-1", "libnccl2": "2.28.9-1+cuda13.0"},
                   {"libcudnn9-cuda-12": "9.13.0.50-1", "libnccl2": "2.28.9-1+cuda12.9"}, packages)
    return facts.model_copy(update={"available": {**(facts.available or {}), **more}})


def test_a_library_wanted_alone_is_the_build_for_the_toolkit_that_is_there() -> None:
    """The newest build of all would be one for a CUDA that these nodes' driver does not run."""
    (step,) = only(library("cudnn", "8.9.7.29", libcudnn8="8.9.7.29-1+cuda12.2"), target(cudnn="9")).steps
    assert dict(step.packages.install) == {"libcudnn9-cuda-12": "9.13.0.50-1"}
    (step,) = only(library("nccl", "2.18.3", libnccl2="2.18.3-1+cuda12.2"), target(nccl="2.28")).steps
    assert dict(step.packages.install) == {"libnccl2": "2.28.9-1+cuda12.9"}


def test_who_compiles_with_cudnn_8_gets_the_headers_of_9_and_who_only_runs_it_does_not() -> None:
    dev = {"libcudnn8": "8.9.7.29-1+cuda12.2", "libcudnn8-dev": "8.9.7.29-1+cuda12.2"}
    facts = library("cudnn", "8.9.7.29", **dev)
    more = {**(facts.available or {}), **offered({"libcudnn9-dev-cuda-12": "9.13.0.50-1"})}
    (step,) = only(facts.model_copy(update={"available": more}), target(cudnn="9")).steps
    assert set(step.packages.install) == {"libcudnn9-cuda-12", "libcudnn9-dev-cuda-12"}
    assert set(step.packages.remove) == set(dev)
    facts = library("cudnn", "8.9.7.29", libcudnn8="8.9.7.29-1+cuda12.2")
    (step,) = only(facts.model_copy(update={"available": more}), target(cudnn="9")).steps
    assert set(step.packages.install) == {"libcudnn9-cuda-12"}


def test_a_library_for_no_toolkit_is_refused_with_what_is_missing() -> None:
    facts = library("cudnn", "8.9.7.29", libcudnn8="8.9.7.29-1+cuda12.2").model_copy(update={"toolkits": ()})
    assert "these nodes have no toolkit" in refused(facts, target(cudnn="9"))


def test_a_toolkit_that_no_package_brought_is_not_taken_away_and_told_where_it_lies() -> None:
    tools = (ToolkitFacts(version="11.8.0", path="/usr/local/cuda-11.8", source="usr-local"),)
    told = refused(ubuntu(toolkits=tools), target(cuda_toolkits={"absent": ["11.*"]}))
    assert "/usr/local/cuda-11.8" in told
    assert "let it stay, or remove it by hand" in told


VOLTA = {"model": "Tesla V100-SXM2-32GB", "capability": "7.0"}
TREE = tuple(ToolkitFacts(version=v, path=f"/shared/cuda/{v}", source="module") for v in ("11.8.0", "12.8.1", "13.0.2"))


def test_what_a_shared_module_tree_offers_is_not_held_against_nodes_that_cannot_run_it() -> None:
    """One tree for Volta and Hopper: CUDA 13 in it is no fault of the Volta nodes, and keeps no driver from them."""
    facts = ubuntu(**VOLTA, toolkits=TREE)
    assert build_state(facts, {}, shipped())["cuda_toolkits"] == ()
    (step,) = only(facts, target(driver="580")).steps
    assert step.move == "driver"


@pytest.mark.parametrize(("module", "moves"), [("12.8", ["module-default"]), ("13.0", ["driver", "module-default"])])
def test_the_default_of_a_module_tree_waits_for_the_driver_that_it_needs(module: str, moves: list[str]) -> None:
    (cohort,) = plan_for(ubuntu(toolkits=TREE), target(toolkit_module=module), {"toolkit_module": "11.8"}).cohorts
    assert [s.move for s in cohort.steps] == moves


def test_the_default_of_a_module_tree_is_one_that_the_gpus_can_run() -> None:
    with pytest.raises(NoPathError) as told:
        plan_for(ubuntu(**VOLTA, toolkits=TREE), target(toolkit_module="13.0"), {"toolkit_module": "11.8"})
    assert "Volta" in " ".join(told.value.diagnostics[0].why)


def test_an_installed_driver_is_seen_where_nothing_of_it_is_loaded() -> None:
    facts = ubuntu()
    silent = facts.driver.model_copy(update={"loaded": None, "on_disk": None, "userspace": None, "package": None})
    assert build_state(facts.model_copy(update={"driver": silent}), {}, shipped())["driver"] == (OLD,)


def test_a_version_that_comes_under_other_names_only_is_told_with_the_way_there() -> None:
    newer = {"nvidia-dkms-open": "590.48.01-1ubuntu1", "libnvidia-compute": "590.48.01-1ubuntu1"}
    known = ubuntu(flavour="open")
    facts = known.model_copy(update={"available": {**(known.available or {}), **offered(newer)}})
    told = refused(facts, target(driver="590"))
    assert "have driver 590.48.01 under other names only (nvidia-dkms-open of vendor)" in told
    assert "want driver_origin vendor first, alone, then plan again" in told


BRANCH = {"nvidia-fabricmanager-570": f"{OLD}-1", "libnvsdm-570": f"{OLD}-1", "nvlink5-570": f"{OLD}-1"}
NO_BRANCH = {"nvidia-fabricmanager": f"{NEW}-1", "libnvsdm": f"{NEW}-1", "nvlink5": f"{NEW}-1"}


@pytest.mark.parametrize(("before", "after", "goal"), [(BRANCH, NO_BRANCH, NEW), (NO_BRANCH, BRANCH, OLD)])
def test_what_reads_the_switches_goes_along_with_fabric_manager(
        before: dict[str, str], after: dict[str, str], goal: str) -> None:
    version = OLD if goal == NEW else NEW
    known = ubuntu(flavour="open", version=version, model="NVIDIA B200", capability="10.0", packages=before,
                   nvswitch=True, fabric_manager=ServiceFacts(version=f"{version}-1", active=True))
    facts = known.model_copy(update={"available": {**(known.available or {}), **offered(before, after)}})
    (step,) = only(facts, target(driver=goal)).steps
    assert {n: v for n, v in step.packages.install.items() if n in after} == after
    assert set(before) <= set(step.packages.remove)
