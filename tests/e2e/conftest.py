"""What whole rollouts on lab nodes share: a lab, a directory that plays the controller's, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from planner.lab.lab import Lab
from planner.lab.repository import PackageLists
from planner.lab.spec import NodeSpec
from planner.lab.stacks import example_packages
from planner.lab.tools import missing_for_lab

COMMAND_S = 600


class Site:
    """A lab, and the directory where a person stands who works on it with the command line."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        """Keep both; the directory exists."""
        self.lab = lab
        self.directory = directory
        self._outputs: dict[int, Path] = {}

    # --- the command line, as a process of its own

    def environment(self) -> dict[str, str]:
        """Return this process's environment without what would lead planner or Ansible somewhere else."""
        return {key: value for key, value in os.environ.items() if not key.startswith(("PLANNER_", "ANSIBLE_"))}

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start ``planner WORDS…`` and return its process; ``printed`` reads what it wrote, also when it was killed."""
        # Files, not pipes: Ansible's children outlive a killed planner and would keep a pipe open.
        with tempfile.NamedTemporaryFile("w", dir=self.directory, prefix="run-", suffix=".out", delete=False) as out, \
                Path(f"{out.name}.err").open("w", encoding="utf-8") as err:
            process = subprocess.Popen([sys.executable, "-m", "planner", *map(str, words)], cwd=self.directory,
                                       text=True, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       env=self.environment())
        self._outputs[process.pid] = Path(out.name)
        return process

    def printed(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        """Return what a started command has written so far: standard output, standard error."""
        path = self._outputs[process.pid]
        return path.read_text(encoding="utf-8"), Path(f"{path}.err").read_text(encoding="utf-8")

    def planner(self, *words: str | Path, code: int | None = 0,
                timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Run ``planner WORDS…`` to its end and assert its exit code; None: any."""
        process = self.start(*words)
        return self.finish(process, code=code, timeout_s=timeout_s)

    def finish(self, process: subprocess.Popen[str], *, code: int | None = 0,
               timeout_s: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Wait for a started command and assert its exit code; None: any."""
        words = " ".join(map(str, process.args[2:])) if isinstance(process.args, list) else str(process.args)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            told = "\n".join(text[-4000:] for text in self.printed(process))
            raise AssertionError(f"{words} did not end in {timeout_s} s:\n{told}") from None
        done = subprocess.CompletedProcess(process.args, process.returncode, *self.printed(process))
        told = f"{words} ended with {done.returncode}, not {code}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        assert code is None or done.returncode == code, told
        return done

    # --- from a target to a bundle

    def discover(self, name: str = "facts.json") -> Path:
        """Read all nodes; returns the facts file."""
        self.planner("discover", "-i", self.lab.inventory_path, "--out", name)
        return self.directory / name

    def write_target(self, target: Mapping[str, Any], name: str = "target.yml") -> Path:
        """Write a target; schema, name and policy need not be given."""
        document = {"schema": "planner.target/1", "name": "lab", "policy": "production", **target}
        (self.directory / name).write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return self.directory / name

    def plan(self, target: Mapping[str, Any], *, bundle: str = "bundle", facts: Path | None = None) -> Path:
        """Discover (unless facts are given) and plan; returns the bundle."""
        facts = facts or self.discover()
        self.planner("plan", "--facts", facts, "--target", self.write_target(target), "--out", bundle)
        return self.directory / bundle

    def status(self, bundle: Path) -> dict[str, Any]:
        """Return what ``planner status`` says of a rollout."""
        document: dict[str, Any] = json.loads(self.planner("status", bundle, "-o", "json").stdout)
        return document

    def facts_of(self, facts: Path) -> dict[str, dict[str, Any]]:
        """Return node -> its fact set, as a facts file has them."""
        document = json.loads(facts.read_text(encoding="utf-8"))
        return {node["name"]: document["fact_sets"][node["facts"]] for node in document["nodes"]}

    # --- nodes, looked at past their network

    def say(self, node: str, command: str, *, timeout_s: float = 60) -> str:
        """Run a shell line on a node; returns everything it printed, whatever its end."""
        done = self.lab.exec(node, "sh", "-c", command, check=False, timeout_s=timeout_s)
        return (done.stdout + done.stderr).strip()

    def marks(self, node: str) -> dict[str, Any]:
        """Return the marks that rollouts have left on a node."""
        text = self.say(node, "cat /var/lib/planner/marks.json 2>/dev/null")
        document: dict[str, Any] = json.loads(text) if text else {}
        return document

    def lease(self, node: str) -> dict[str, Any]:
        """Return the lease on a node, empty when nobody holds one."""
        text = self.say(node, "cat /var/lib/planner/lease.json 2>/dev/null")
        document: dict[str, Any] = json.loads(text) if text else {}
        return document


def wait(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> None:
    """Wait until a condition holds, asking five times a second."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)


class StartSite(Protocol):
    """Starts a lab and returns it with its controller's directory."""

    def __call__(self, specs: Sequence[NodeSpec], packages: PackageLists | None = None) -> Site:
        """Start these nodes; without packages the repository offers the example stacks."""


@pytest.fixture(scope="session")
def lab_machine() -> None:
    """Skip where no lab can run, naming what is missing."""
    missing = missing_for_lab()
    if missing:
        pytest.skip("; ".join(missing))


@pytest.fixture(scope="module")
def start_site(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartSite]:
    """Start labs that are gone when the module ends."""
    started: list[Lab] = []

    def start(specs: Sequence[NodeSpec], packages: PackageLists | None = None) -> Site:
        directory = Path(tmp_path_factory.mktemp("site"))
        lab = Lab(directory / "lab")
        started.append(lab)
        lab.up(specs, example_packages([spec.manager for spec in specs]) if packages is None else packages)
        return Site(lab, directory)

    yield start
    for lab in started:
        lab.down()
