"""Rows of the failure table that are seen over several nodes, or by the user's own command; and what the CLI ends with.

Every node is a stand-in, every probe and every command a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.gates.canary import canary_verdict
from planner.gates.multi_node import judge_pair
from planner.gates.verdicts import GateResult, Policy, fold
from tests.gates.failure_plays import PLAYS, STANDARD, Play
from tests.gates.failure_stage import Row, Stage, shown, tabled
from tests.gates.standin_run import ENTER, HOST, environment, namespaces
from tests.gates.test_nccl_ranks import BASE, Fleet

TABLED = tabled()
PLANNER = [sys.executable, "-m", "planner"]


@pytest.fixture(scope="module")
def fleet(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(compiled, tmp_path_factory.mktemp("fleet"))


# --- two ranks of one job

@pytest.mark.parametrize(("code", "plays", "seconds"), [
    ("OK", (), 60), ("NCCL_VERSION_MIX", ("", "older"), 60), ("NCCL_HANG", ("", "hang"), 3)])
def test_a_pair_of_nodes(code: str, plays: tuple[str, ...], seconds: int, fleet: Fleet) -> None:
    answers = fleet.pair(*plays, seconds=seconds)
    attempt = judge_pair(answers, BASE)
    assert attempt.code == code, attempt
    found = fold([GateResult("nccl-mixed", attempt.pair[0], attempt.code, attempt.evidence)], Policy(required={}))
    assert Row(found.verdict.value, found.action.value, found.exit_code) == TABLED[code]
    assert shown(found.as_dict()["results"], code) == {TABLED[code]}
    assert found.results[0].evidence
    for answer in answers.values():
        assert answer["log"]["network"] == "stand-in" or answer["status"] == "timeout"
    if code == "NCCL_VERSION_MIX":
        assert {answer["nccl"]["version"] for answer in answers.values()} == {"2.28.9", "2.99.1"}
        assert any("WARN Mismatched" in line for line in answers["a"]["log"]["lines"])


# --- the user's own command

@pytest.mark.parametrize(("code", "status"), [("OK", 0), ("CANARY_FAILED", 3), ("CANARY_FAILED", None)])
def test_the_users_own_command(code: str, status: int | None, stage: Stage, tmp_path: Path) -> None:
    command = tmp_path / "standin-job"
    if status is not None:      # else it is not there at all
        command.write_text(f"#!/bin/sh\necho 'a stand-in for a job: loss is nan' >&2\nexit {status}\n")
        command.chmod(0o755)
    request = {"argv": [str(command)], "seconds": 60, "host": HOST, "nonce": "c0ffee01"}
    done = subprocess.run([sys.executable, "-I", stage.probe, "canary", "--request", json.dumps(request)],
                          capture_output=True, text=True, check=True)
    found = canary_verdict(done.stdout, request)
    assert (found["code"], Row(found["verdict"], found["action"], found["exit_code"])) == (code, TABLED[code])
    assert shown(found["results"], code) == {TABLED[code]}
    assert status != 3 or "exit status 3" in found["reasons"][0]
    assert "standin-job" in done.stdout


# --- a wave

WAVE = ("n1", "n2")


def kept(stage: Stage, path: Path, play: Play) -> Path:
    """Keep what the gate says on every node of the wave, as ``planner gate run --out`` does."""
    results = []
    for host in WAVE:
        request = {"profile": play.profile, "nonce": path.stem.encode().hex(), "host": host, **play.request}
        results.append({"schema": "planner.gate-result/2", "request": request, "judged": {},
                        "report": json.loads(stage.report(play, request))})
    path.write_text(json.dumps({"schema": "planner.gate-results/2", "results": results}), encoding="utf-8")
    return path


def test_a_wave_as_a_whole_is_slower_though_each_gpu_passes(stage: Stage, tmp_path: Path) -> None:
    alone = {"without": ["pairs", "collective", "software"]}
    steady = Play(profile=STANDARD, gpus=3, request=alone)
    slower = Play(profile=STANDARD, gpus=3, request=alone, faults={"slow-percent": "2"})
    before, after = kept(stage, tmp_path / "before", steady), kept(stage, tmp_path / "after", slower)
    assert before.read_text(encoding="utf-8").count("(stand-in)") > 6
    ended, found = compared(before, after)
    row = TABLED["PERF_DROP_WAVE"]
    assert ended == row.exit_code
    assert Row(found["wave"]["verdict"], found["wave"]["action"], found["wave"]["exit_code"]) == row
    assert shown(found["wave"]["results"], "PERF_DROP_WAVE") == {row}
    lost = {r["gate"] for r in found["wave"]["results"] if r["code"] == "PERF_DROP_WAVE"}
    assert {"wave:copy_device", "wave:fma_f32", "wave:wmma_f16"} <= lost
    assert [node["decision"]["verdict"] for node in found["nodes"].values()] == ["pass"] * len(WAVE)
    assert all(node["after"]["stand_in"] for node in found["nodes"].values())
    ended, found = compared(before, before)
    assert (ended, found["wave"]["verdict"]) == (0, "pass")


def compared(before: Path, after: Path) -> tuple[int, dict[str, Any]]:
    """Return how ``planner gate compare`` ends, and what it prints."""
    done = subprocess.run([*PLANNER, "gate", "compare", before, after, "-o", "json"], capture_output=True, text=True,
                          check=False)
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


# --- what the command ends with

@pytest.mark.parametrize("code", ["OK", "RESULT_WRONG", "ENV_THROTTLED", "XID_APP"])
def test_planner_gate_run_ends_with_the_rows_exit_code(code: str, stage: Stage) -> None:
    play = PLAYS[code][0]
    node = stage.node(play)
    done = subprocess.run([*namespaces(), "sh", "-c", ENTER, "sh", *PLANNER, "gate", "run", "-o", "json"],
                          env=environment(node, node.root.parent), capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["judged"]
    row = TABLED[code]
    assert (done.returncode, Row(found["verdict"], found["action"], found["exit_code"])) == (row.exit_code, row)
    assert (found["code"], shown(found["results"], code)) == (code, {row}), found["reasons"]
    assert "stand-in GPUs: the driver API answered, no real GPU was proved" in found["notes"]
