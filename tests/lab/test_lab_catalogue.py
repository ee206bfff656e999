"""What stand-in packages are, by their names. Nothing is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.errors import LabError
from planner.lab.build import Foundry, control_text, fill_slot, spec_text, userland_package
from planner.lab.catalogue import Binary, Package, Relation, Shelf, describe, kernel_release, newest_cuda
from planner.lab.layers import debian_sources, running_kernel
from planner.lab.repository import describe_all
from planner.lab.spec import Manager, NodeSpec, os_release_text
from planner.lab.stacks import example_packages, example_specs

DRIVER = "580.95.05-0ubuntu0.22.04.1+standin"
RPM = "3:580.95.05-1.el9.standin"


def one(name: str, version: str, manager: Manager = "apt", **others: str) -> Package:
    """Describe a package in a repository that holds it and some others (underscores stand for dashes)."""
    names = {name: version, **{key.replace("_", "-"): value for key, value in others.items()}}
    return describe(name, version, manager, Shelf({n: frozenset({v}) for n, v in names.items()}))


def test_driver_module_is_built_for_installed_kernels() -> None:
    """Flavour and place follow from name and package manager."""
    opened = one("nvidia-dkms-580-server-open", DRIVER)
    assert opened.installed == [("dkms-build", "580.95.05", "open", "updates/dkms")]
    assert one("nvidia-dkms-580-server", DRIVER).removed == [("dkms-remove", "580.95.05", "proprietary")]
    assert one("kmod-nvidia-latest-dkms", RPM, "dnf").installed == [("dkms-build", "580.95.05", "proprietary", "extra")]


def test_libraries_lie_where_the_real_ones_do() -> None:
    """File names carry versions, links carry sonames."""
    compute = one("libnvidia-compute-580-server", DRIVER)
    folder = "/usr/lib/x86_64-linux-gnu"
    assert compute.files[f"{folder}/libcuda.so.580.95.05"] == Binary("cuda", "580.95.05")
    assert compute.links[f"{folder}/libnvidia-ml.so.1"] == "libnvidia-ml.so.580.95.05"
    assert "/usr/lib64/libnccl.so.2.28.9" in one("libnccl", "2.28.9-1+cuda13.0.standin", "dnf").files
    cudnn = one("libcudnn9-cuda-12", "9.10.2.21-1+standin")
    assert cudnn.links == {f"{folder}/libcudnn.so.9": "libcudnn.so.9.10.2"}
    assert f"{folder}/libnvinfer.so.10.13.0" in one("libnvinfer10", "10.13.0.35-1+cuda12.9+standin").files


def test_dependencies_exist_only_among_what_the_repository_holds() -> None:
    """A package alone depends on nothing; with its fellows of the same version it depends on them."""
    assert one("nvidia-headless-580-server-open", DRIVER).requires == []
    full = one("nvidia-headless-580-server-open", DRIVER, nvidia_dkms_580_server_open=DRIVER,
               libnvidia_compute_580_server=DRIVER, nvidia_utils_580_server="570.1-1+standin")
    assert full.requires == [Relation("nvidia-dkms-580-server-open", DRIVER),
                             Relation("libnvidia-compute-580-server", DRIVER)]
    toolkit = one("cuda-toolkit-12-8", "12.8.1-1+standin", cuda_cudart_12_8="12.8.90-1+standin")
    assert toolkit.requires == [Relation("cuda-cudart-12-8")]


@pytest.mark.parametrize(("name", "virtual"), [
    ("libnvidia-compute-580-server", "libnvidia-compute"), ("nvidia-dkms-570-open", "nvidia-dkms-kernel"),
    ("nvidia-fabricmanager-580", "nvidia-fabricmanager"), ("nvidia-headless-580-server-open", ""),
    ("libnccl2", ""), ("cuda-toolkit-12-8", ""),
])
def test_branches_exclude_each_other(name: str, virtual: str) -> None:
    """A common virtual name keeps two branches of one part from being installed together."""
    package = one(name, DRIVER)
    assert package.conflicts == ([virtual] if virtual else [])
    assert package.replaces == package.conflicts


def test_kernel_boots_under_its_real_name() -> None:
    """The stand-in mark is in the package's version, not in what uname tells."""
    assert kernel_release("linux-image-6.8.0-87-generic", "6.8.0-87.88+standin") == "6.8.0-87-generic"
    assert kernel_release("kernel-core", "5.14.0-503.15.1.el9_5.standin") == "5.14.0-503.15.1.el9_5.x86_64"
    assert kernel_release("linux-image-generic", "6.8.0+standin") == ""
    assert Relation("installonlypkg(kernel)") in one("kernel-core", "5.14.0-503.el9.standin", "dnf").provides


@pytest.mark.parametrize(("name", "version", "manager"), [
    ("libnccl2", "2.28.9-1+cuda13.0", "apt"), ("libnccl", "2.28.9.standin", "dnf"), ("Bad Name", "1+standin", "apt"),
    ("x;rm", "1-1.standin", "dnf"), ("libnccl2", "$(id)+standin", "apt"), ("../up", "1-1.standin", "dnf"),
])
def test_unusable_names_and_unmarked_versions_are_refused(name: str, version: str, manager: Manager) -> None:
    """Nothing is built that could pass for the real thing, or that a shell could take for something else."""
    with pytest.raises(LabError):
        one(name, version, manager)


def test_every_example_is_described_and_says_what_it_is() -> None:
    """The example repositories hold the example nodes' packages, and every one is marked."""
    offered = example_packages(["apt", "dnf"])
    packages = {(p.manager, p.name, p.version) for p in describe_all(offered)}
    for spec in example_specs(["apt", "dnf", "apt"], ["h100", "a100", "v100"]):
        assert {(spec.manager, n, v) for n, v in spec.packages.items()} <= packages
    assert all(version.endswith(("+standin", ".standin")) for _, _, version in packages)


def test_control_and_spec_texts() -> None:
    """Relations are written as each package manager wants them."""
    package = one("nvidia-utils-580-server", DRIVER, libnvidia_compute_580_server=DRIVER)
    assert f"Depends: libnvidia-compute-580-server (= {DRIVER})\n" in control_text(package)
    rpm = one("nvidia-driver-cuda", RPM, "dnf", nvidia_driver_cuda_libs=RPM)
    text = spec_text([rpm, userland_package()], Path("/stage"))
    assert "Requires: nvidia-driver-cuda-libs = 3:580.95.05-1.el9.standin\n" in text
    assert "Epoch: 3\nVersion: 580.95.05\nRelease: 1.el9.standin\n" in text


def test_slots_are_filled_or_left_alone() -> None:
    """A version is written over its mark, padded; what has no such slot stays as it is; too long is refused."""
    image = b"head" + b"@planner-lab-cuda@".ljust(64, b"\0") + b"tail"
    assert fill_slot(image, "cuda", "13.0") == b"head" + b"13.0".ljust(64, b"\0") + b"tail"
    assert fill_slot(image, "version", "1") == image
    with pytest.raises(LabError):
        fill_slot(image, "cuda", "9" * 64)


def test_reported_cuda_follows_release_then_branch() -> None:
    """The matrices tell what a driver reports; a release that they do not list takes its branch's level."""
    levels = {"570.195.03": "12.8", "580.65.06": "13.0"}
    assert newest_cuda("570.195.03", levels) == "12.8"
    assert newest_cuda("580.95.05", levels) == "13.0"
    assert newest_cuda("999.1", levels) == ""


def test_specifications_are_checked() -> None:
    """Names, numbers and texts that no node can have are refused before anything starts."""
    for bad in ({"name": "No"}, {"name": "repo"}, {"name": "n1", "gpus": 99}, {"name": "n1", "links": {"rel": "/x"}},
                {"name": "n1", "manager": "zypper"}, {"name": "n1", "os_release": {"ID": 'x"\nA="b'}}):
        with pytest.raises(LabError):
            NodeSpec(**bad)
    assert "Stand-in for Ubuntu 24.04 LTS" in os_release_text(
        NodeSpec("n1", os_release={"VERSION_ID": "24.04", "PRETTY_NAME": "Ubuntu 24.04 LTS"}))
    assert running_kernel(NodeSpec("n1", packages={"linux-image-6.8.0-87-generic": "1+standin"})) == "6.8.0-87-generic"
    assert running_kernel(NodeSpec("n1", kernel="6.1.0-1")) == "6.1.0-1"


def test_debian_sources_are_taken_from_the_machine(tmp_path: Path) -> None:
    """Only entries of the lab's release, in both formats; without any, Debian's own address."""
    assert debian_sources(tmp_path) == "deb http://deb.debian.org/debian bookworm main\n"
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n# deb x bookworm y\n"
                                           "deb http://mirror.example/ubuntu jammy main\n")
    (tmp_path / "sources.list.d" / "a.sources").write_text(
        "Types: deb\nURIs: http://two.example/d\nSuites: bookworm-security trixie\nComponents: main\n"
        "Signed-By: /k.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://no.example\nSuites: bookworm\n")
    assert debian_sources(tmp_path).splitlines() == [
        "deb http://mirror.example/debian bookworm main",
        "deb [signed-by=/k.gpg] http://two.example/d bookworm-security main",
    ]


@pytest.mark.lab
def test_compiled_stand_ins_carry_their_version(lab_machine: None) -> None:
    """The version in a library is the package's, the CUDA level the matrices'."""
    image = Foundry().content(Binary("cuda", "580.95.05"))
    assert b"580.95.05\0" in image
    assert b"13.0\0" in image
    assert b"@planner-lab-" not in image
