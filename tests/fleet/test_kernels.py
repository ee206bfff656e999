"""Kernels: one spelling, that of ``uname -r``, from facts over packages and plans to what a booted node says."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest

from planner.data import data_dir
from planner.documents import parse_yaml
from planner.execute.predict import at_goal, differences
from planner.facts.schema import (
    DriverFacts,
    FactDocument,
    FactSet,
    GpuFacts,
    Identity,
    KernelFacts,
    NodeRecord,
    OsFacts,
)
from planner.fleet.fleet import Node
from planner.fleet.packages import (
    PackagePlan,
    Unresolvable,
    installed_versions,
    obtainable_versions,
    resolve_install,
    resolve_remove,
)
from planner.fleet.state import build_state
from planner.matrix.index import MatrixSet
from planner.matrix.load import load_matrices
from planner.model.target import Target
from planner.schedule.assemble import make_plan
from planner.schedule.plan import Cohort
from planner.schedule.steps import build_steps
from planner.search.problem import Path, Transition
from planner.validate.replay import validate_plan
from planner.validate.rules import compare

RPM = ("kernel", "kernel-core", "kernel-modules", "kernel-modules-core")
# name: (os, running, next, installed, offered, pins of the step)
SYSTEMS: dict[str, tuple[OsFacts, str, str, dict[str, str], dict[str, tuple[str, ...]], dict[str, str]]] = {
    "rhel": (
        OsFacts(id="rhel", version_id="9.4", arch="x86_64", family="dnf"),
        "5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.42.1.el9_4.x86_64",
        dict.fromkeys(RPM, "5.14.0-427.13.1.el9_4"),
        dict.fromkeys((*RPM, "kernel-devel"), ("5.14.0-427.42.1.el9_4", "5.14.0-427.13.1.el9_4", "5.14.0-427.el9")),
        dict.fromkeys(RPM, "5.14.0-427.42.1.el9_4"),
    ),
    "ubuntu": (
        OsFacts(id="ubuntu", version_id="22.04", arch="x86_64", family="apt"),
        "6.8.0-45-generic", "6.8.0-100-generic",
        {"linux-image-6.8.0-45-generic": "6.8.0-45.45", "linux-modules-6.8.0-45-generic": "6.8.0-45.45",
         "linux-image-generic": "6.8.0.45.45"},
        {**{f"linux-{part}-6.8.0-{abi}-{line}": (f"6.8.0-{abi}.{abi}",) for part in ("image", "modules", "headers")
            for abi in (45, 85, 100) for line in ("generic", "generic-64k", "lowlatency")},
         "linux-image-6.11.0-1009-aws": ("6.11.0-1009.9",),
         "linux-image-unsigned-6.8.0-100-generic": ("6.8.0-100.100",)},
        {"linux-image-6.8.0-100-generic": "6.8.0-100.100", "linux-modules-6.8.0-100-generic": "6.8.0-100.100"},
    ),
    "debian": (
        OsFacts(id="debian", version_id="12", arch="x86_64", family="apt"),
        "6.1.0-18-amd64", "6.1.0-28-amd64",
        {"linux-image-6.1.0-18-amd64": "6.1.76-1", "linux-headers-6.1.0-18-amd64": "6.1.76-1"},
        {f"linux-{part}-6.1.0-28-{line}": ("6.1.119-1",) for part in ("image", "headers")
         for line in ("amd64", "amd64-unsigned", "amd64-dbg", "cloud-amd64", "rt-amd64")},
        {"linux-image-6.1.0-28-amd64": "6.1.119-1", "linux-headers-6.1.0-28-amd64": "6.1.119-1"},
    ),
}
DRIVER = "580.159.04"


@pytest.fixture(scope="module")
def shipped() -> MatrixSet:
    return load_matrices(data_dir("matrices"))


def facts_of(name: str, running: str = "") -> FactSet:
    system, first, _, installed, offered, _ = SYSTEMS[name]
    return FactSet(
        os=system, kernel=KernelFacts(running=running or first), packages=installed, available=offered,
        driver=DriverFacts(loaded=DRIVER, userspace=DRIVER, flavour="open", owner=system.family), nvswitch=False,
        gpus=(GpuFacts(index=0, model="NVIDIA L40S", compute_capability="8.9"),))


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_runs_and_what_is_packaged_are_spelled_alike(name: str, shipped: MatrixSet) -> None:
    facts = facts_of(name)
    state = build_state(facts, {}, shipped)
    assert state["kernel"] == (SYSTEMS[name][1],)
    assert installed_versions("kernel", facts, state, shipped) == (SYSTEMS[name][1],)


@pytest.mark.parametrize("name", SYSTEMS)
def test_only_the_running_flavour_is_offered_newest_first(name: str, shipped: MatrixSet) -> None:
    """A node does not move to a cloud, real-time or debugging build because its number is higher."""
    facts = facts_of(name)
    assert obtainable_versions("kernel", facts, build_state(facts, {}, shipped), shipped) == {
        "rhel": ("5.14.0-427.42.1.el9_4.x86_64", "5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.el9.x86_64"),
        "ubuntu": ("6.8.0-100-generic", "6.8.0-85-generic", "6.8.0-45-generic"),
        "debian": ("6.1.0-28-amd64",),
    }[name]


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_release_is_resolved_to_exact_packages(name: str, shipped: MatrixSet) -> None:
    _, _, wanted, installed, _, pins = SYSTEMS[name]
    facts = facts_of(name)
    plan = resolve_install("kernel", wanted, facts, {}, shipped, cuda_major="", installed=installed)
    assert isinstance(plan, PackagePlan), plan
    assert (plan.install, plan.remove) == (pins, ())


def test_a_lab_s_stand_in_is_resolved_as_what_it_stands_for(shipped: MatrixSet) -> None:
    offered = {"kernel-core": ("5.14.0-427.42.1.el9_4.standin", "5.14.0-427.el9.standin")}
    facts = facts_of("rhel").model_copy(update={"available": offered})
    assert obtainable_versions("kernel", facts, {}, shipped)[0] == SYSTEMS["rhel"][2]
    plan = resolve_install("kernel", SYSTEMS["rhel"][2], facts, {}, shipped, cuda_major="", installed={})
    assert isinstance(plan, PackagePlan)
    assert plan.install == {"kernel-core": "5.14.0-427.42.1.el9_4.standin"}


def document(facts: FactSet) -> FactDocument:
    return FactDocument(created_at="2026-01-01T00:00:00Z", fact_sets={"sha256:aa": facts},
                        nodes=(NodeRecord(name="gpu01", facts="sha256:aa", identity=Identity(machine_id="a" * 32)),))


def raw_matrices() -> list[tuple[str, Any]]:
    return [(p.name, parse_yaml(p.read_text(encoding="utf-8"), name=p.name))
            for p in sorted(data_dir("matrices").glob("*.yml"))]


def planned(name: str, wish: str, shipped: MatrixSet) -> tuple[Cohort, tuple[str, ...]]:
    """Return the plan's cohort and what the validator says of the plan."""
    target = Target.model_validate({"schema": "planner.target/1", "name": "kernels", "want": {"kernel": wish}})
    plan = make_plan(document(facts_of(name)), target, shipped, planner_version="test")
    return plan.cohorts[0], validate_plan(plan, target, raw_matrices())


@pytest.mark.parametrize(("name", "wish"), [
    ("rhel", "5.14.0-427.42.1.el9_4"), ("rhel", "==5.14.0-427.42.1.el9_4.x86_64"), ("rhel", ">=5.14.0-427.42"),
    ("ubuntu", "6.8.0-100"), ("ubuntu", "==6.8.0-100-generic"), ("debian", "6.1.0-28"), ("debian", ">=6.1.0-20"),
])
def test_a_kernel_is_planned_validated_and_recognised_after_the_boot(name: str, wish: str, shipped: MatrixSet) -> None:
    """As a package writes it, as ``uname -r`` prints it, or as a range: both programs and the node agree."""
    cohort, wrong = planned(name, wish, shipped)
    assert wrong == ()
    (step,) = cohort.steps
    assert (step.move, step.changes[0].to, step.packages.install) == ("kernel", SYSTEMS[name][2], SYSTEMS[name][5])
    before = build_state(facts_of(name), {}, shipped)
    after = build_state(facts_of(name, running=SYSTEMS[name][2]), {}, shipped)
    assert [at_goal(cohort, values) for values in (before, after)] == [False, True]
    assert differences("gpu01", cohort, after, started=True) == ()


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_kernel_package_is_removed_and_the_way_back_is_a_persons(name: str, shipped: MatrixSet) -> None:
    """Removing the running kernel is refused by its own scripts, installing the old one again does nothing."""
    cohort, wrong = planned(name, "==" + SYSTEMS[name][2], shipped)
    assert wrong == ()
    (step,), (undo,) = cohort.steps, cohort.way_back
    assert step.packages.remove == ()
    old = SYSTEMS[name][1]
    olds = [package for package in SYSTEMS[name][3] if old in package]
    assert [n for n in olds if any(fnmatchcase(n, glob) for glob in step.packages.brings)] == []
    assert (undo.packages.manager, undo.packages.install, undo.packages.remove) == ("none", {}, ())
    assert undo.title == f"boot kernel {old} by hand"
    assert cohort.no_return_after == step.id
    assert cohort.no_return_why.startswith(f"boot the previous kernel entry ({old}) by hand: it is still installed")


def test_a_driver_moved_with_the_kernel_goes_back_without_it(shipped: MatrixSet) -> None:
    parts = ("nvidia-headless-{b}-server-open", "nvidia-dkms-{b}-server-open", "nvidia-kernel-common-{b}-server",
             "libnvidia-compute-{b}-server", "nvidia-utils-{b}-server")
    drivers = {b: {p.format(b=b): f"{b}.159.04-0ubuntu1" for p in parts} for b in (570, 580)}
    plain = facts_of("ubuntu")
    facts = plain.model_copy(update={
        "packages": {**plain.packages, **drivers[570]},
        "available": {**(plain.available or {}), **{n: (v,) for d in drivers.values() for n, v in d.items()}}})
    node = Node(name="gpu01", facts=facts, facts_digest="", machine_id="", gpu="", hardware_class="",
                state=build_state(facts, {}, shipped))
    changes = (("kernel", "6.8.0-45-generic", "6.8.0-100-generic"), ("driver", "570.159.04", "580.159.04"))
    path = Path(states=(node.state, node.state), cost={},
                transitions=(Transition(move="kernel-and-driver", changes=changes, cost={}),))
    made = build_steps(path, node, {}, shipped, cuda_major="13", accepted=frozenset())
    (step,), (undo,) = made.steps, made.way_back
    assert "linux-image-6.8.0-100-generic" in step.packages.install
    assert undo.packages.install == drivers[570]
    assert set(undo.packages.remove) == set(drivers[580])
    assert not [glob for glob in undo.packages.brings if glob.startswith("linux-")]
    assert "libnvidia-*-570-server" in undo.packages.brings
    assert undo.title == "boot kernel 6.8.0-45-generic by hand, driver back to 570.159.04"
    assert made.no_return_after == "s1"
    assert "6.8.0-45-generic" in made.no_return_why


def test_a_kernel_is_never_removed(shipped: MatrixSet) -> None:
    facts = facts_of("ubuntu")
    gone = resolve_remove("kernel", SYSTEMS["ubuntu"][1], facts, {}, shipped, cuda_major="", installed=facts.packages)
    assert isinstance(gone, Unresolvable)
    assert "boot loader" in gone.reason


def test_a_way_back_without_packages_is_taken_only_where_the_plan_says_so(shipped: MatrixSet) -> None:
    target = Target.model_validate({"schema": "planner.target/1", "name": "k", "want": {"kernel": "6.8.0-100"}})
    plan = make_plan(document(facts_of("ubuntu")), target, shipped, planner_version="test")
    silent = plan.cohorts[0].model_copy(update={"no_return_after": None})
    found = validate_plan(plan.model_copy(update={"cohorts": (silent,)}), target, raw_matrices())
    assert [text for text in found if "way back, names no package" in text]


@pytest.mark.parametrize(("older", "newer"), [
    ("5.14.0-427.el9.x86_64", "5.14.0-427.13.1.el9_4.x86_64"),
    ("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.42.1.el9_4.x86_64"),
    ("4.18.0-553.el8_10.x86_64", "5.14.0-70.el9.x86_64"),
    ("6.8.0-45-generic", "6.8.0-100-generic"), ("6.1.0-18-amd64", "6.1.0-28-amd64"),
    ("6.12.9-amd64", "6.12.38+deb13-amd64"),
])
def test_search_and_validator_put_releases_in_one_order(older: str, newer: str, shipped: MatrixSet) -> None:
    assert compare(older, newer) == -1
    offered = {"linux-image-" + v: ("1-1",) for v in (older, newer)}
    facts = FactSet(os=OsFacts(family="apt"), available=offered)
    assert obtainable_versions("kernel", facts, {}, shipped) == (newer, older)
