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
        self.step = module.Step(SimpleNamespace(params={**PARAMS, "state_dir": str(place), **params}))
        self.step.run, self.step.run_unit = self.run, self.run_unit
        (place / "packages").mkdir()

    def run(self, argv: list[str], **_options: Any) -> tuple[int, str, str]:
        self.asked.append(argv)
        answers = {"dpkg-query": self.installed, "dpkg": self.audit}
        if argv[0] == "apt-get" and "-s" in argv:
            return 0, self.simulation, ""
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
