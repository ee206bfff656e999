"""Package sets: reading versions out of packages, exact pins, removals, and honest refusals."""

from __future__ import annotations

import pytest

from planner.facts.schema import FactSet, OsFacts
from planner.fleet.packages import (
    PackagePlan,
    Unresolvable,
    fill,
    installed_versions,
    obtainable_versions,
    owner_set,
    package_globs,
    read_version,
    resolve_install,
    resolve_remove,
)
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Component, PackageSet, Provenance

SOURCE = Provenance(title="invented", retrieved="2026-01-01", kind="derived")


def package_set(**fields) -> PackageSet:
    return PackageSet.model_validate({"provenance": SOURCE, "manager": "apt", **fields})


DRIVER = package_set(
    name="driver-open", component="driver", detect=("dkms-*-open",),
    install=("head-{branch}-open", "dkms-{branch}-open"),
    optional=("extra-{branch}",), replaces=("head-*-open", "dkms-*-open", "extra-*"), version="{version}-*",
)
LIBRARY = package_set(name="lib", component="lib", install=("lib2",), version="{version}-*+cuda{cuda_major}.*")
TOOLKIT = package_set(name="tools", component="tools", install=("tools-{dashed}",), version="{version}*")
KERNEL = package_set(name="kernel", component="kernel", install=("linux-image-{version}",), version="*")
RPM = package_set(name="rpm", component="driver", manager="dnf", install=("kmod-open",), version="*{version}-*")

FACTS = FactSet(
    os=OsFacts(family="apt"),
    packages={"head-535-open": "535.1.2-0ubuntu1", "dkms-535-open": "535.1.2-0ubuntu1", "extra-535": "535.1.2-0ubuntu1",
              "tools-12-2": "12.2.2-1"},
    available={
        "head-580-open": ("580.65.06-0ubuntu1", "580.65.06-0ubuntu2", "580.95.05-0ubuntu1"),
        "dkms-580-open": ("580.65.06-0ubuntu1", "580.95.05-0ubuntu1"), "extra-580": ("580.65.06-0ubuntu1",),
        "lib2": ("2.27.7-1+cuda12.9", "2.27.7-1+cuda13.0"), "linux-image-6.8.0-85-generic": ("6.8.0-85.85",),
    },
)


@pytest.fixture
def world() -> MatrixSet:
    return MatrixSet(
        components={n: Component(name=n, title=n) for n in ("driver", "lib", "tools", "kernel")}, moves=(), families={},
        lockstep=(), claims=(), releases={}, packages=(DRIVER, LIBRARY, TOOLKIT, KERNEL, RPM), gpu_models=(),
        files={}, digest="",
    )


@pytest.mark.parametrize(("kind", "name", "version", "expected"), [
    (DRIVER, "head-580-open", "580.95.05-0ubuntu0.22.04.1", "580.95.05"),
    (DRIVER, "head-580-open", "535.1-1", None),
    (DRIVER, "other", "580.95.05-1", None),
    (LIBRARY, "lib2", "2.27.7-1+cuda12.9", "2.27.7"),
    (LIBRARY, "lib2", "2.27.7-1+cuda12.9+standin", "2.27.7"),
    (TOOLKIT, "tools-12-8", "12.8.1-1", "12.8.1"),
    (TOOLKIT, "tools-12-8-config-common", "12.8.1-1", None),
    (KERNEL, "linux-image-5.15.0-113-generic", "5.15.0-113.123", "5.15.0-113-generic"),
    (KERNEL, "linux-image-generic", "5.15.0.113.1", None),
    (RPM, "kmod-open", "3:580.95.05-1.el9", "580.95.05"),
    (RPM, "kmod-open", "3:580.95.05-1.el9.standin", "580.95.05"),
])
def test_component_version_is_read_out_of_a_package(kind, name, version, expected):
    assert read_version(kind, name, version) == expected


def test_obtainable_and_installed_versions_come_newest_first(world):
    assert obtainable_versions("driver", FACTS, {}, world) == ("580.95.05", "580.65.06")
    assert installed_versions("driver", FACTS, {}, world) == ("535.1.2",)


def test_pins_are_exact_old_branch_goes_and_optional_follows_only_where_it_is_installed(world):
    plan = resolve_install("driver", "580.65.06", FACTS, {}, world, cuda_major="12", installed=FACTS.packages)
    assert isinstance(plan, PackagePlan)
    assert plan.install == {"head-580-open": "580.65.06-0ubuntu2", "dkms-580-open": "580.65.06-0ubuntu1",
                            "extra-580": "580.65.06-0ubuntu1"}
    assert plan.remove == ("dkms-535-open", "extra-535", "head-535-open")


def test_build_for_the_default_toolkit_is_chosen(world):
    plan = resolve_install("lib", "2.27.7", FACTS, {}, world, cuda_major="13", installed={})
    assert isinstance(plan, PackagePlan)
    assert plan.install == {"lib2": "2.27.7-1+cuda13.0"}


def test_missing_package_is_named_with_what_the_repository_has(world):
    plan = resolve_install("driver", "580.99", FACTS, {}, world, cuda_major="12", installed={})
    assert isinstance(plan, Unresolvable)
    assert "head-580-open" in plan.reason
    assert "580.95.05-0ubuntu1" in plan.reason


def test_unread_repositories_are_unknown_not_empty(world):
    blind = FACTS.model_copy(update={"available": None})
    plan = resolve_install("driver", "580.95.05", blind, {}, world, cuda_major="12", installed={})
    assert isinstance(plan, Unresolvable)
    assert "not read" in plan.reason


def test_removal_names_only_installed_packages(world):
    plan = resolve_remove("tools", "12.2.2", FACTS, {}, world, cuda_major="12", installed=FACTS.packages)
    assert isinstance(plan, PackagePlan)
    assert plan.remove == ("tools-12-2",)
    assert not plan.install


def test_other_package_manager_has_its_own_sets(world):
    rpm = FactSet(os=OsFacts(family="dnf"), available={"kmod-open": ("3:580.95.05-1.el9",)})
    assert owner_set("driver", rpm, {}, world) is RPM
    assert obtainable_versions("driver", rpm, {}, world) == ("580.95.05",)


def test_globs_ask_nodes_about_every_package_of_the_sets(world):
    assert {"head-*-open", "tools-*", "linux-image-*", "extra-*"} <= set(package_globs(world))


def test_fill_uses_the_first_two_parts_for_dashed():
    assert fill("a-{dashed}-{branch}-{version}", "12.8.1", "") == "a-12-8-12-12.8.1"
