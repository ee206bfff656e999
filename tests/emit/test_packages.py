"""What package managers say is understood, and what they are told is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import planner_packages as packages  # type: ignore[attr-defined]

OUTPUTS = Path(__file__).parent / "outputs"


def recorded(name: str) -> str:
    return (OUTPUTS / f"{name}.txt").read_text(encoding="utf-8")


def acts(install: dict[str, str] | None = None, downgrade: dict[str, str] | None = None,
         remove: list[str] | None = None) -> dict[str, Any]:
    return {"install": install or {}, "downgrade": downgrade or {}, "remove": remove or []}


BRANCH = ("cuda-drivers", "nvidia-driver", "nvidia-utils", "libnvidia-compute", "nvidia-dkms", "nvidia-kernel-common")
SUFFIX = {"nvidia-driver": "-server", "nvidia-dkms": "-open"}


@pytest.mark.parametrize(("name", "expected"), [
    ("apt-downgrade", acts({"nvidia-fabricmanager-570": "570.195.03-1"}, {"libnccl2": "2.27.7-1+cuda12.9"},
                           ["nvidia-fabricmanager-580"])),
    ("apt-branch", acts({f"{n}-570{SUFFIX.get(n, '')}": "570.195.03-0ubuntu1" for n in BRANCH},
                        remove=[f"{n}-580{SUFFIX.get(n, '')}" for n in BRANCH])),
    ("apt-nothing", acts()),
])
def test_apt_simulations_are_parsed(name: str, expected: dict[str, Any]) -> None:
    """Installed, downgraded and removed packages are told apart; configured ones do not count."""
    assert packages.parse_apt(recorded(name)) == expected


@pytest.mark.parametrize(("line", "expected"), [
    ("Inst libnvidia-compute-580:i386 (580.1 repo [i386])", acts({"libnvidia-compute-580:i386": "580.1"})),
    ("Inst a [1.0] (2.0 repo:1/stable, other [amd64]) []", acts({"a": "2.0"})),
    ("Purg b [1.0]", acts(remove=["b"])),
    ("Conf c (1.0 repo [amd64])", acts()),
    ("Install the thing", acts()),
])
def test_single_apt_lines(line: str, expected: dict[str, Any]) -> None:
    assert packages.parse_apt(line) == expected


@pytest.mark.parametrize(("name", "expected"), [
    ("dnf-upgrade", acts({"needs": "1.0-1", "repl-ng": "2.0-1", "nvidia-driver": "580.1-1.el9",
                          "nvidia-driver-cuda-libs-very-long-name": "580.1-1.el9"})),
    ("dnf-erasing", acts({"conf-a": "1.0-1"}, remove=["conf-b"])),
    ("dnf-downgrade", acts(downgrade={"dep": "1.0-1"})),
    ("dnf-obsoletes", acts({"repl-ng": "2.0-1"}, remove=["repl"])),
    ("dnf-nothing", acts()),
    ("dnf-wrapped", acts({"nvidia-driver-cuda-libs-very-long-name-indeed": "3:580.105.08-1.el9.standin"},
                         remove=["kmod-nvidia-latest-dkms"])),
])
def test_dnf_transactions_are_parsed(name: str, expected: dict[str, Any]) -> None:
    """Dependencies, removals and what is replaced are seen, also where dnf wraps its table."""
    assert packages.parse_dnf(recorded(name)) == expected


KERNELS = """\
================================================================================
 Package         Arch       Version                  Repository            Size
================================================================================
Installing:
 kernel-core     x86_64     5.14.0-427.42.1.el9_4    baseos                21 M
Removing:
 kernel-core     x86_64     5.14.0-70.13.1.el9_0     @baseos               50 M

Transaction Summary
"""


def test_a_kernel_that_goes_while_another_one_comes_is_seen() -> None:
    """dnf removes the oldest kernel beyond its limit, in the transaction that installs a new one."""
    pins = {"kernel-core": "5.14.0-427.42.1.el9_4"}
    found = packages.parse_dnf(KERNELS)
    assert found == acts(pins, remove=["kernel-core"])
    assert packages.foreign_acts(found, pins, [], False) == ["remove kernel-core"]
    for argv in (packages.dnf_command(pins, [], {}, ""), packages.dnf_download(pins)):
        assert "--setopt=installonly_limit=0" in argv


@pytest.mark.parametrize(("found", "expected"), [
    (acts({"a": "2"}, remove=["b"]), []),
    (acts({"a": "3"}), ["install a 3 instead of 2"]),
    (acts({"a": "2", "libc6": "9"}), ["install libc6 9"]),
    (acts({"a:i386": "2"}), ["install a:i386 2"]),
    (acts(remove=["slurmd", "b"]), ["remove slurmd"]),
    (acts(downgrade={"a": "2"}), ["downgrade a to 2"]),
    (acts(remove=["a"]), ["remove a"]),
])
def test_anything_the_plan_does_not_name_is_told(found: dict[str, Any], expected: list[str]) -> None:
    assert packages.foreign_acts(found, {"a": "2"}, ["b"], False) == expected


BRINGS = ("lib*-12-8", "cuda-*-12-8", "nvidia-modprobe", "open*")


@pytest.mark.parametrize(("found", "downgrade", "expected"), [
    (acts({"a": "2", "libcublas-12-8": "12.8.4-1", "cuda-nvcc-12-8": "12.8.93-1"}), False, []),
    (acts({"libcublas-13-0": "1"}), False, ["install libcublas-13-0 1"]),
    (acts({"cuda-nvcc-12-80": "1"}), False, ["install cuda-nvcc-12-80 1"]),
    (acts({"xlibcublas-12-8": "1"}), False, ["install xlibcublas-12-8 1"]),
    (acts(remove=["libcublas-12-8", "nvidia-modprobe", "libcublas-12-9"]), False, ["remove libcublas-12-9"]),
    (acts(downgrade={"nvidia-modprobe": "1"}), False, ["downgrade nvidia-modprobe to 1"]),
    (acts(downgrade={"nvidia-modprobe": "1", "libc6": "1"}), True, ["downgrade libc6 1"]),
    (acts({"cuda-a-12-8": "3"}), False, ["install cuda-a-12-8 3 instead of 2"]),
    (acts(remove=["cuda-a-12-8"]), False, ["remove cuda-a-12-8"]),
    (acts({"cuda-b-12-8": "3"}), False, ["install cuda-b-12-8 3"]),
    (acts({"open64:i386": "3"}), False, ["install open64:i386 3"]),
])
def test_dependencies_come_and_go_only_as_far_as_the_globs_reach(
    found: dict[str, Any], downgrade: bool, expected: list[str]
) -> None:
    """What the plan names keeps its version and stays or goes as planned, even where a glob matches its name, too."""
    assert packages.foreign_acts(
        found, {"a": "2", "cuda-a-12-8": "2"}, ["b", "cuda-b-12-8"], downgrade, BRINGS) == expected


def test_a_downgrade_is_let_through_only_when_planned() -> None:
    assert packages.foreign_acts(acts(downgrade={"a": "2"}), {"a": "2"}, [], True) == []
    assert packages.foreign_acts(acts(downgrade={"x": "2"}), {"a": "2"}, [], True) == ["downgrade x 2"]


def test_a_simulation_that_does_not_reach_the_plan_is_told() -> None:
    """A package manager that leaves something out must not be taken at its word."""
    assert packages.unreached(acts({"a": "2"}), {"a": "2", "c": "1"}, ["b"]) == ["install c 1", "remove b"]
    assert packages.unreached(acts({"a": "2"}, {"c": "1"}, ["b"]), {"a": "2", "c": "1"}, ["b"]) == []


@pytest.mark.parametrize(("one", "other", "equal"), [
    ("1.0-1", "1.0-1", True), ("1.0-1", "0:1.0-1", True), ("3:1.0-1", "3:1.0-1", True), ("3:1.0-1", "2:1.0-1", False),
    ("1.0-1", "3:1.0-1", True), ("1.0-1", "1.0-2", False), ("", "1.0", False),
])
def test_versions_are_equal_but_for_an_unwritten_epoch(one: str, other: str, equal: bool) -> None:
    assert packages.same_version(one, other) is equal


def test_the_audit_names_broken_packages() -> None:
    assert packages.parse_audit(recorded("dpkg-audit")) == [
        "cuda-drivers-580", "nvidia-dkms-580-open", "nvidia-driver-580-server", "nvidia-utils-580"]
    assert packages.parse_audit("") == []


def test_apt_is_told_exact_pins() -> None:
    argv = packages.apt_command({"b": "2", "a": "1:1"}, ["old"], {"b": "/keep/b.deb"}, "/keep", downgrade=True)
    assert argv[0:2] == ["apt-get", "-y"]
    assert argv[-4:] == ["install", "a=1:1", "/keep/b.deb", "old-"]
    assert "--allow-downgrades" in argv
    assert "--no-remove" not in argv


def test_apt_refuses_removals_that_are_not_planned() -> None:
    """A second net under the simulation, which itself must show what would be removed."""
    assert "--no-remove" in packages.apt_command({"a": "1"}, [], {}, "/keep")
    assert "--no-remove" not in packages.apt_command({"a": "1"}, [], {}, "/keep", mode="simulate")
    assert "--no-remove" not in packages.apt_command({"a": "1"}, [], {}, "/keep", erase=True)
    assert not {"--allow-downgrades", "--allow-change-held-packages", "--fix-broken"} & set(
        packages.apt_command({"a": "1"}, [], {}, "/keep"))


def test_dnf_is_told_exact_pins() -> None:
    assert packages.dnf_command({"a": "1-1"}, [], {}, "/s")[-2:] == ["install", "a-1-1"]
    removing = packages.dnf_command({"a": "1-1"}, ["b"], {}, "/s", simulate=True)
    assert removing[1] == "--assumeno"
    assert removing[-3:] == ["--allowerasing", "shell", "/s"]


def test_kept_packages_are_found_by_name_and_version(tmp_path: Path) -> None:
    for name in ("a_1%3a2.0_amd64.deb", "a-b_2.0_all.deb", "c-2.0-1.x86_64.rpm"):
        (tmp_path / name).write_text("")
    found = [packages.cached_file(str(tmp_path), *query) for query in (
        ("apt", "a", "1:2.0"), ("apt", "a", "2.0"), ("apt", "a-b", "2.0"), ("dnf", "c", "3:2.0-1"),
        ("dnf", "c", "2.0-2"))]
    assert [Path(f).name for f in found] == ["a_1%3a2.0_amd64.deb", "", "a-b_2.0_all.deb", "c-2.0-1.x86_64.rpm", ""]
