"""Removing a toolkit: everything of that version leaves, by name, nothing else does, and all of it can come back."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from planner.data import data_dir
from planner.documents import parse_yaml
from planner.facts.schema import (
    DriverFacts,
    FactDocument,
    FactSet,
    GpuFacts,
    Identity,
    KernelFacts,
    NodeRecord,
    OsFacts,
    ToolkitFacts,
)
from planner.fleet.packages import PackagePlan, package_globs, resolve_remove
from planner.matrix.index import MatrixSet
from planner.matrix.load import load_matrices
from planner.model.target import Target
from planner.schedule.assemble import make_plan
from planner.validate.replay import validate_plan
from tests.fleet.test_brings import OTHERS, TOOLKIT

# Of one toolkit, beside its own package: ends in its version, or carries it and belongs to nothing else.
OWN = tuple(name.replace("12-8", "12-2") for name in TOOLKIT.split() if "12-8" in name)
SHARED = ("cuda-toolkit-12-config-common", "cuda-toolkit-config-common", "nsight-compute-2023.2.2",
          "nsight-systems-2023.2.3", "cuda-nvcc-12-8", "libcublas-12-8", "cuda-cudart-11-2", "libcublas-2-2",
          "cuda-toolkit-12-8", "cuda-drivers-535", "libgtk-3-0")


@pytest.fixture(scope="module")
def shipped() -> MatrixSet:
    return load_matrices(data_dir("matrices"))


def facts_of(family: str, *, offered: bool = True) -> FactSet:
    names = ("cuda-toolkit-12-2", "cuda-12-2", "cuda-runtime-12-2", *OWN, *SHARED)
    installed = dict.fromkeys(names, "12.2.2-1")
    toolkits = tuple(ToolkitFacts(version=v, path=f"/usr/local/cuda-{v[:4]}") for v in ("12.2.2", "12.8.1"))
    return FactSet(
        os=OsFacts(id="rhel" if family == "dnf" else "ubuntu", version_id="9.4" if family == "dnf" else "22.04",
                   family=family, arch="x86_64"),
        kernel=KernelFacts(running="5.14.0-427.13.1.el9_4.x86_64" if family == "dnf" else "5.15.0-113-generic"),
        packages=installed, toolkits=toolkits, nvswitch=False,
        driver=DriverFacts(loaded="580.159.04", userspace="580.159.04", flavour="open", owner=family),
        gpus=(GpuFacts(index=0, model="NVIDIA L40S", compute_capability="8.9"),),
        available={name: ("12.2.2-1",) for name in names if offered or name != "libcublas-12-2"})


@pytest.mark.parametrize("family", ["apt", "dnf"])
def test_everything_of_the_removed_version_is_named_and_nothing_else(family: str, shipped: MatrixSet) -> None:
    facts = facts_of(family)
    installed = {**facts.packages, **dict.fromkeys(OTHERS.split(), "1-1")}
    plan = resolve_remove("cuda_toolkits", "12.2.2", facts, {}, shipped, cuda_major="12", installed=installed)
    assert isinstance(plan, PackagePlan), plan
    assert set(plan.remove) == {"cuda-toolkit-12-2", "cuda-12-2", "cuda-runtime-12-2", *OWN}


def test_parts_without_the_toolkit_s_own_package_leave_too(shipped: MatrixSet) -> None:
    installed = {"cuda-nvcc-12-2": "12.2.140-1", "cuda-nvcc-12-8": "12.8.93-1"}
    facts = FactSet(os=OsFacts(family="apt"), packages=installed)
    plan = resolve_remove("cuda_toolkits", "12.2", facts, {}, shipped, cuda_major="12", installed=installed)
    assert isinstance(plan, PackagePlan), plan
    assert plan.remove == ("cuda-nvcc-12-2",)


def test_nodes_are_asked_about_every_part_and_not_about_half_the_distribution(shipped: MatrixSet) -> None:
    globs = package_globs(shipped)

    def asked(name: str) -> bool:
        return any(fnmatchcase(name, glob) for glob in globs)

    assert [name for name in OWN if not asked(name)] == []
    assert asked("libcublas-13-9"), "a release that is not known yet"
    assert asked("libcublas-9-2"), "an old release, with a shorter number"
    strange = ("libgtk-3-0", "libwebkit2gtk-4.1-0", "libboost-system1.74.0", "libc6", "libssl3", "libstdc++-12-dev",
               "gds-tools", "libpython3-stdlib", "libperl5.34", "libncurses-dev")
    assert [name for name in strange if asked(name)] == []


@pytest.mark.parametrize("offered", [True, False])
def test_a_planned_removal_is_sound_and_its_undo_brings_all_of_it_back(offered: bool, shipped: MatrixSet) -> None:
    """Whole way: plan, both judges, the way back with exact versions; what no repository has is said."""
    facts = facts_of("apt", offered=offered)
    document = FactDocument(
        created_at="2026-01-01T00:00:00Z", fact_sets={"sha256:aa": facts},
        nodes=(NodeRecord(name="gpu01", facts="sha256:aa", identity=Identity(machine_id="a" * 32)),))
    target = Target.model_validate({"schema": "planner.target/1", "name": "clean", "want": {
        "cuda_toolkits": {"present": ["12.8"], "default": "12.8", "absent": ["12.2"]}}})
    plan = make_plan(document, target, shipped, planner_version="test")
    raw = [(p.name, parse_yaml(p.read_text(encoding="utf-8"), name=p.name))
           for p in sorted(data_dir("matrices").glob("*.yml"))]
    assert validate_plan(plan, target, raw) == ()
    (cohort,) = plan.cohorts
    (step,), (undo,) = cohort.steps, cohort.way_back
    assert len(step.packages.remove) == len(OWN) + 3
    assert undo.packages.install == dict.fromkeys(step.packages.remove, "12.2.2-1")
    assert undo.packages.remove == ()
    assert (cohort.no_return_after is None) == offered
    assert offered or "libcublas-12-2 12.2.2-1" in cohort.no_return_packages
