"""One step on a node whose package manager is played by a table: what it is asked, and what makes the step stop."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.emit.conftest import load_module

PARAMS: dict[str, Any] = {
    "manager": "apt", "rollout": "r", "owner": "me", "token": 0, "machine_id": "", "step": "s1", "action": "apply",
    "install": {"cuda-toolkit-12-8": "12.8.1-1"}, "remove": [], "brings": ["cuda-*-12-8", "lib*-12-8"],
    "allow_downgrade": False, "override_holds": [], "later": False, "timeout_s": 5,
}
TOOLKIT = "Inst cuda-toolkit-12-8 (12.8.1-1 repo [amd64])\n"
LIBRARY = "Inst libcublas-12-8 (12.8.4.1-1 repo [amd64])\n"


@pytest.fixture
def module() -> ModuleType:
    return load_module("planner_step")


class Node:
    """Answers commands: what apt would do, what it has installed, what dpkg complains of; keeps what was asked."""

    def __init__(self, module: ModuleType, place: Path, simulation: str, audit: str = "", fetch_rc: int = 0,
                 **params: Any) -> None:
        self.simulation, self.audit, self.fetch_rc = simulation, audit, fetch_rc
        self.asked: list[list[str]] = []
        self.units: list[list[str]] = []
        self.installed = ""
        self.sizes, self.programs = "", ("systemd-run", "systemctl", "journalctl")
        self.step = module.Step(SimpleNamespace(params={**PARAMS, "state_dir": str(place), **params},
                                                get_bin_path=self.get_bin_path))
        self.step.run, self.step.run_unit = self.run, self.run_unit
        (place / "packages").mkdir()

    def get_bin_path(self, name: str, required: bool = False) -> str:
        if name not in self.programs:
            raise LookupError(name)
        return f"/usr/bin/{name}"

    def run(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        self.asked.append(argv)
        answers = {"dpkg-query": self.installed, "dpkg": self.audit}
        if argv[0] == "apt-get" and "-s" in argv:
            return 0, self.simulation, ""
        if "--print-uris" in argv:
            return 0, self.sizes, ""
        if "--download-only" in argv:
            return self.fetch_rc, "", ""
        return (3 if argv[0] == "systemctl" else 0), answers.get(argv[0], ""), ""

    def run_unit(self, argv: list[str]) -> None:
        self.units.append(argv)
        if argv[0] == "apt-get":
            self.installed = "".join(f"{n}\tinstalled\t{v}\n" for n, v in self.step.install.items())

    def downloads(self) -> list[list[str]]:
        return [argv for argv in self.asked if "--download-only" in argv]


def test_dependencies_that_the_step_may_bring_come_along(module: ModuleType, tmp_path: Path) -> None:
    node = Node(module, tmp_path, TOOLKIT + LIBRARY)
    assert node.step.apply() == (True, ["install cuda-toolkit-12-8 12.8.1-1", "install libcublas-12-8 12.8.4.1-1"])
    assert node.units[0][-1] == "cuda-toolkit-12-8=12.8.1-1"
    assert "--no-remove" in node.units[0]


@pytest.mark.parametrize("line", [
    "Inst libcublas-13-0 (13.0.2-1 repo [amd64])\n", "Inst nvidia-utils-580 (580.1 repo [amd64])\n",
    "Remv cuda-toolkit-12-2 [12.2.2-1]\n",
])
def test_everything_else_still_stops_it_before_anything_is_done(
    module: ModuleType, tmp_path: Path, line: str
) -> None:
    node = Node(module, tmp_path, TOOLKIT + LIBRARY + line)
    with pytest.raises(module.StepError, match=line.split()[1]):
        node.step.apply()
    assert node.units == []


def test_a_dependency_that_goes_may_go(module: ModuleType, tmp_path: Path) -> None:
    """apt would refuse any removal unless told that this one was looked at."""
    node = Node(module, tmp_path, TOOLKIT + "Remv libold-12-8 [12.8.1-1]\n")
    node.step.apply()
    assert "--no-remove" not in node.units[0]


def test_what_an_interruption_left_half_done_is_finished_for_dependencies_too(
    module: ModuleType, tmp_path: Path
) -> None:
    audit = "The following packages are only half configured:\n libcublas-12-8   NVIDIA cuBLAS\n"
    node = Node(module, tmp_path, TOOLKIT, audit)
    node.step.apply()
    assert node.units[0][0] == "dpkg"
    stranger = Node(module, tmp_path / "packages", TOOLKIT, audit.replace("libcublas", "slurm"))
    with pytest.raises(module.StepError, match="slurm-12-8"):
        stranger.step.apply()


def test_dependencies_are_fetched_before_the_node_is_drained(module: ModuleType, tmp_path: Path) -> None:
    node = Node(module, tmp_path, TOOLKIT + LIBRARY)
    node.step.prefetch()
    (argv,) = node.downloads()
    assert argv[-2:] == ["install", "cuda-toolkit-12-8=12.8.1-1"]
    lonely = Node(module, tmp_path / "packages", TOOLKIT)
    lonely.step.prefetch()
    assert lonely.downloads() == []


def test_dependencies_that_cannot_be_fetched_stop_the_step_in_time(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(module.StepError, match="dependencies"):
        Node(module, tmp_path, TOOLKIT + LIBRARY, fetch_rc=100).step.prefetch()


def test_what_cannot_be_simulated_yet_is_not_fetched_yet(module: ModuleType, tmp_path: Path) -> None:
    """A later step may need an earlier one; the simulation before its own act has the last word."""
    node = Node(module, tmp_path, TOOLKIT + "Inst libc6 (2.99 repo [amd64])\n", later=True)
    assert node.step.prefetch()[1] == []
    assert node.downloads() == []


def test_a_download_that_would_fill_the_disk_is_not_begun(module: ModuleType, tmp_path: Path) -> None:
    """A toolkit's own packages and those kept for the way back are gigabytes; a full /var breaks more than a step."""
    node = Node(module, tmp_path, TOOLKIT)
    node.sizes = "'http://repo/a.deb' a.deb 999999999999999 SHA256:00\n'http://repo/b.deb' b.deb 1 SHA256:00\n"
    with pytest.raises(module.StepError, match="MiB free, this step needs 953674380 MiB"):
        node.step.prefetch()
    assert [argv for argv in node.asked if "download" in argv and "--print-uris" not in argv] == []


def test_a_machine_without_systemd_is_told_before_it_is_drained(module: ModuleType, tmp_path: Path) -> None:
    node = Node(module, tmp_path, TOOLKIT)
    node.programs = ("systemctl", "journalctl")
    with pytest.raises(LookupError, match="systemd-run"):
        node.step.prefetch()


def test_a_kernel_needs_room_for_its_initial_ram_disk(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_mib", lambda path: 100 if path == "/boot" else 10_000)
    Node(module, tmp_path, "", install={"cuda-toolkit-12-8": "1"}).step.check_space([])
    (tmp_path / "other").mkdir()
    with pytest.raises(module.StepError, match="/boot has 100 MiB free, this step needs 256 MiB"):
        Node(module, tmp_path / "other", "", install={"linux-image-6.8.0-100-generic": "1"}).step.check_space([])


def test_old_packages_that_dnf_fetched_only_in_part_are_tried_one_by_one(module: ModuleType, tmp_path: Path) -> None:
    """dnf calls a reinstallation a success although some of it was not available."""
    node = Node(module, tmp_path, "", manager="dnf", install={}, remove=["a", "b"])
    node.installed = "a\tinstalled\t1-1\nb\tinstalled\t2-1\n"
    plain = node.run

    def run(argv: list[str], **options: Any) -> tuple[int, str, str]:
        plain(argv, **options)
        if argv[0] == "rpm":
            return 0, node.installed, ""
        if "reinstall" in argv and "a-1-1" in argv:
            (tmp_path / "packages" / "a-1-1.x86_64.rpm").write_text("")
            return 0, "", ""
        return int("reinstall" in argv), "", ""

    node.step.run = run
    assert node.step.prefetch() == (True, ["old package b 2-1, which the way back needs, is in no repository"])
    assert [argv[5:] for argv in node.asked if "reinstall" in argv] == [["a-1-1", "b-2-1"], ["b-2-1"]]
