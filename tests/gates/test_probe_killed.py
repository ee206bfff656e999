"""A probe that is killed at any moment, while stand-in GPUs compute or hang, leaves no process and no file behind."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.gates.standin_libraries import StandInNode
from tests.gates.standin_run import HOST, NONCE, command, environment, furnish, namespaces, write_probe

GONE_WITHIN_S = 3.0
_RANDOM = random.Random(20261126)
CASES = [(name, round(_RANDOM.uniform(0.05, 1.3), 3)) for name in ("computes", "hangs", "hangs and ignores SIGTERM")
         for _ in range(5)]
PLAYS = {"computes": ["pause cuMemAlloc_v2 700"], "hangs": ["hang cuLaunchKernel 600"],
         "hangs and ignores SIGTERM": ["stubborn cuCtxSynchronize 600", "stubborn nvmlDeviceGetCount_v2 600 *"]}


def alive(node: StandInNode) -> list[str]:
    """Return the command lines of all processes that know this node."""
    mark, found = f"PLANNER_STANDIN_DIR={node.root}".encode(), []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return sorted(found)


@pytest.mark.parametrize(("what", "moment_s"), CASES)
def test_nothing_is_left_of_a_probe_that_was_killed(what: str, moment_s: float, compiled: Path,
                                                    tmp_path: Path) -> None:
    if not namespaces():
        pytest.skip("no user may make namespaces here")
    node = StandInNode(compiled, tmp_path / "node", gpus=4, plays=PLAYS[what])
    furnish(node, gpus=4)
    run = command(node, write_probe(tmp_path / "probe.zip"), {"profile": "quick", "nonce": NONCE, "host": HOST})
    started = subprocess.Popen(run, env=environment(node, tmp_path), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
    time.sleep(moment_s)
    if what != "computes":
        assert started.poll() is None, "it ended although a call hangs"
    started.kill()
    started.wait()
    deadline = time.monotonic() + GONE_WITHIN_S
    while alive(node) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert alive(node) == []
    assert [str(path) for name in ("home", "tmp") for path in (tmp_path / name).rglob("*")] == []


def test_the_look_for_processes_sees_one(compiled: Path, tmp_path: Path) -> None:
    node = StandInNode(compiled, tmp_path / "node")
    with subprocess.Popen(["sleep", "60"], env=environment(node, tmp_path)) as sleeper:
        assert alive(node) == ["sleep 60 "]
        sleeper.kill()
