"""Whole paths over the shipped matrices: the upgrades and refusals that the project is for."""

from __future__ import annotations

from typing import Any

import pytest

from planner.facts.schema import FactSet, OsFacts
from planner.fleet.packages import owner_set, read_version, resolve_install
from planner.matrix.index import MatrixSet
from planner.schedule.handover import moves_for
from planner.search.explain import Refusal, explain_refusal
from planner.search.path import find_path
from planner.search.problem import Goal, Path, Problem

HGX_535: dict[str, tuple[str, ...]] = {
    "os": ("ubuntu-22.04",),
    "os_family": ("apt",),
    "kernel": ("5.15.0-113-generic",),
    "driver": ("535.183.01",),
    "loaded_driver": ("535.183.01",),
    "fabric_manager": ("535.183.01",),
    "nscq": ("535.183.01",),
    "imex": (),
    "cuda_toolkits": ("12.2.2",),
    "cudnn": ("8.9.7.29",),
    "nccl": ("2.18.3",),
    "tensorrt": (),
    "container_toolkit": ("1.17.8",),
    "compute_capability": ("9.0",),
    "gpu_model": ("h100-sxm",),
    "nvswitch": ("yes",),
    "driver_flavour": ("open",),
    "cuda_runtime": ("12.1.105",),
}
V100_535 = {
    **HGX_535,
    "compute_capability": ("7.0",),
    "gpu_model": ("v100",),
    "nvswitch": ("no",),
    "fabric_manager": (),
    "nscq": (),
    "driver_flavour": ("proprietary",),
}
DRIVERS = ("615.71.09", "595.91.07", "580.159.04", "570.211.01")
OFFERED = {
    "kernel": ("6.8.0-85-generic",),
    "driver": DRIVERS,
    "fabric_manager": DRIVERS,
    "nscq": DRIVERS,
    "imex": (),
    "cuda_toolkits": ("13.0.2", "12.8.1"),
    "cudnn": ("9.12.0.46", "9.10.2"),
    "nccl": ("2.28.9", "2.27.7"),
}


def solve(
    matrices: MatrixSet,
    start: dict[str, tuple[str, ...]],
    offered: dict[str, tuple[str, ...]] | None = None,
    **want: Any,
) -> Path | Refusal:
    goals = {n: Goal(component=n, want=w) if isinstance(w, str) else Goal(component=n, **w) for n, w in want.items()}
    problem = Problem(start=start, goals=goals, candidates={**OFFERED, **(offered or {})})
    mine = moves_for(start, goals, matrices)
    return find_path(problem, mine) or explain_refusal(problem, mine)


def moves(path: Path | Refusal) -> list[str]:
    assert isinstance(path, Path), path
    return [t.move for t in path.transitions]


def test_main_upgrade_takes_one_reboot_and_keeps_its_companions_equal(shipped: MatrixSet) -> None:
    path = solve(
        shipped,
        HGX_535,
        driver="580",
        cuda_toolkits={"present": ("12.8", "13.0"), "absent": ("12.2",)},
        cudnn="9.12",
        nccl="2.28.9",
    )
    assert moves(path) == ["driver", "toolkit", "toolkit", "cudnn", "nccl", "toolkit"]
    assert isinstance(path, Path)
    assert path.cost["reboots"] == 1
    goal = path.states[-1]
    assert goal["driver"] == goal["fabric_manager"] == goal["nscq"] == ("580.159.04",)
    assert goal["cuda_toolkits"] == ("12.8.1", "13.0.2")


def test_kernel_and_driver_share_a_reboot(shipped: MatrixSet) -> None:
    assert moves(solve(shipped, HGX_535, kernel="6.8", driver="580")) == ["kernel-and-driver"]


def test_volta_cannot_have_cuda_13(shipped: MatrixSet) -> None:
    refusal = solve(shipped, V100_535, driver="580", cuda_toolkits={"present": ("13.0",)})
    assert isinstance(refusal, Refusal)
    assert refusal.code == "conflict"
    assert "Volta" in refusal.why[0]
    assert any("gpu-7.0-last-toolkit" in s and "docs.nvidia.com" in s for s in refusal.sources)
    assert refusal.nearest


def test_volta_goes_to_580_with_cuda_12(shipped: MatrixSet) -> None:
    assert moves(solve(shipped, V100_535, driver="580", cuda_toolkits={"present": ("12.8",)})) == ["driver", "toolkit"]


def test_proprietary_modules_end_before_615(shipped: MatrixSet) -> None:
    refusal = solve(shipped, {**HGX_535, "driver_flavour": ("proprietary",)}, driver="615")
    assert isinstance(refusal, Refusal)
    assert any("r615-open-modules-only" in s for s in refusal.sources)
    assert "driver 595.91.07 instead of 615" in refusal.nearest


def test_driver_waits_for_its_fabric_manager(shipped: MatrixSet) -> None:
    refusal = solve(
        shipped,
        HGX_535,
        {
            "driver": ("580.178.04", "580.173.02"),
            "fabric_manager": ("580.173.02",),
            "nscq": ("580.178.04", "580.173.02"),
        },
        driver="580.178.04",
    )
    assert isinstance(refusal, Refusal)
    assert refusal.code == "not-obtainable"
    assert any("fabric-manager-equals-driver" in s for s in refusal.sources)


# Names and versions as public machines list them.
@pytest.mark.parametrize(
    ("package_set", "name", "version", "expected"),
    [
        ("ubuntu-server-open", "nvidia-headless-580-server-open", "580.95.05-0ubuntu0.22.04.1", "580.95.05"),
        ("ubuntu-server-proprietary", "nvidia-headless-535-server", "535.309.01-0ubuntu0.24.04.1", "535.309.01"),
        ("ubuntu-open", "nvidia-headless-570-open", "570.172.08-0ubuntu3", "570.172.08"),
        ("debian-open", "nvidia-kernel-open-dkms", "595.45.04-1", "595.45.04"),
        ("rpm-open", "kmod-nvidia-open-dkms", "3:580.95.05-1.el9", "580.95.05"),
        ("apt-fabricmanager", "nvidia-fabricmanager-580", "580.95.05-1", "580.95.05"),
        ("rpm-fabricmanager", "nvidia-fabricmanager", "595.91.07-1.amzn2023", "595.91.07"),
        ("apt-nscq", "libnvidia-nscq-595", "595.58.03-0ubuntu0.24.04.1", "595.58.03"),
        ("rpm-imex", "nvidia-imex", "580.126.20-1", "580.126.20"),
        ("apt-kernel", "linux-image-6.8.0-85-generic", "6.8.0-85.85", "6.8.0-85-generic"),
        ("apt-kernel", "linux-image-6.1.0-18-amd64", "6.1.76-1", "6.1.0-18-amd64"),
        ("apt-kernel", "linux-image-6.12.38+deb13-amd64", "6.12.38-1", "6.12.38+deb13-amd64"),
        ("apt-kernel", "linux-image-unsigned-6.8.0-85-generic", "6.8.0-85.85", None),
        ("apt-kernel", "linux-image-amd64", "6.1.76-1", None),
        ("rpm-kernel", "kernel-core", "5.14.0-427.13.1.el9_4", "5.14.0-427.13.1.el9_4.x86_64"),
        ("rpm-kernel", "kernel-core", "4.18.0-553.el8_10.standin", "4.18.0-553.el8_10.x86_64"),
        ("apt-cuda-toolkit", "cuda-toolkit-13-0", "13.0.2-1", "13.0.2"),
        ("apt-cudnn", "libcudnn9-cuda-12", "9.15.1.9-1", "9.15.1.9"),
        ("apt-nccl", "libnccl2", "2.32.3-1+cuda12.9", "2.32.3"),
        ("rpm-nccl", "libnccl", "2.30.4-1+cuda13.2", "2.30.4"),
        ("apt-tensorrt", "libnvinfer10", "10.13.0.35-1+cuda12.9", "10.13.0.35"),
        ("apt-container-toolkit", "nvidia-container-toolkit", "1.19.1-1", "1.19.1"),
    ],
)
def test_package_versions_are_read(
    package_set: str, name: str, version: str, expected: str | None, shipped: MatrixSet
) -> None:
    found = next(p for p in shipped.packages if p.name == package_set)
    assert read_version(found, name, version, arch="x86_64") == expected


def names_of(branch: int, full: str) -> dict[str, str]:
    pin = f"{full}-0ubuntu0.22.04.1"
    stems = [
        "nvidia-headless-{b}-server-open",
        "nvidia-headless-no-dkms-{b}-server-open",
        "nvidia-dkms-{b}-server-open",
        "nvidia-kernel-source-{b}-server-open",
        "nvidia-kernel-common-{b}-server",
        "nvidia-firmware-{b}-server-{v}",
        "nvidia-compute-utils-{b}-server",
        "nvidia-utils-{b}-server",
        "libnvidia-compute-{b}-server",
        "libnvidia-cfg1-{b}-server",
    ]
    return {s.format(b=branch, v=full): pin for s in stems}


def test_change_of_branch_names_every_package(shipped: MatrixSet) -> None:
    installed = {
        **names_of(535, "535.183.01"),
        "nvidia-fabricmanager-535": "535.183.01-1",
        "nvidia-settings": "510.47.03-0ubuntu1",
    }
    facts = FactSet(
        os=OsFacts(family="apt"),
        packages=installed,
        available={n: (v,) for n, v in names_of(580, "580.159.04").items()},
    )
    plan = resolve_install("driver", "580.159.04", facts, HGX_535, shipped, cuda_major="13", installed=installed)
    assert not hasattr(plan, "reason"), plan
    assert plan.install == names_of(580, "580.159.04")
    assert set(plan.remove) == set(names_of(535, "535.183.01"))


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        ("nvidia-dkms-570-server-open", "ubuntu-server-open"),
        ("nvidia-dkms-570-server", "ubuntu-server-proprietary"),
        ("nvidia-dkms-570-open", "ubuntu-open"),
        ("nvidia-dkms-570", "ubuntu-proprietary"),
        ("nvidia-kernel-open-dkms", "debian-open"),
        ("nvidia-kernel-dkms", "debian-proprietary"),
    ],
)
def test_owner_is_told_by_what_is_installed(installed: str, expected: str, shipped: MatrixSet) -> None:
    facts = FactSet(os=OsFacts(family="apt"), packages={installed: "1"})
    found = owner_set("driver", facts, {}, shipped)
    assert found is not None
    assert found.name == expected


@pytest.mark.parametrize(
    ("state", "family", "expected"),
    [
        ({"driver_flavour": ("open",), "os": ("ubuntu-24.04",)}, "apt", "ubuntu-server-open"),
        ({"driver_flavour": ("proprietary",), "os": ("ubuntu-24.04",)}, "apt", "ubuntu-server-proprietary"),
        ({"driver_flavour": ("open",), "os": ("debian-12",)}, "apt", "debian-open"),
        ({"driver_flavour": ("open",), "os": ("rhel-9.4",)}, "dnf", "rpm-open"),
        ({"os": ("rhel-9.4",)}, "dnf", None),
    ],
)
def test_fresh_node_takes_the_flavour_it_was_declared_with(
    state: dict[str, tuple[str, ...]], family: str, expected: str | None, shipped: MatrixSet
) -> None:
    found = owner_set("driver", FactSet(os=OsFacts(family=family)), state, shipped)
    assert (found.name if found else None) == expected
