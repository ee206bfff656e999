"""Pairs of a half upgraded fleet: the partner is swapped before anybody is blamed; and the user's own command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from planner.gates.canary import judge_canary
from planner.gates.multi_node import Attempt, judge_pair, next_pair, pair_verdict, pairing
from planner.gates.verdicts import GateResult
from planner.probe.canary import KEPT_BYTES, run_canary
from tests.gates.test_pairs import _JSON

OLD, NEW = ("o1", "o2", "o3"), ("n1", "n2")
ROOT = Path(__file__).resolve().parents[2]


def play(bad: set[frozenset[str]], upgraded: tuple[str, ...] = NEW, waiting: tuple[str, ...] = OLD,
         code: str = "NCCL_HANG") -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Try pairs until there is a verdict, in a world where the pairs in ``bad`` fail."""
    pair = pairing(upgraded, waiting)
    assert pair is not None
    attempts: list[Attempt] = []
    while True:
        broken = frozenset(pair) in bad
        attempts.append(Attempt(pair, code if broken else "OK", ("it failed",) if broken else ()))
        step = next_pair(attempts, upgraded, waiting)
        if isinstance(step[0], GateResult):
            return [a.pair for a in attempts], {r.subject: r.code for r in step if isinstance(r, GateResult)}
        pair = step     # type: ignore[assignment]
        assert len(attempts) < 5


def pairs_of(*names: str) -> set[frozenset[str]]:
    return {frozenset(name.split("-")) for name in names}


def test_the_last_upgraded_is_paired_with_who_waits_longest_and_was_tried_least() -> None:
    assert pairing(NEW, OLD) == ("n2", "o3")
    assert pairing(NEW, OLD, [Attempt(("n1", "o3"), "OK")]) == ("n2", "o2")
    assert pairing((), OLD) is None
    assert pairing(NEW, ()) is None


@pytest.mark.parametrize(("bad", "tried", "verdict"), [
    (set(), [("n2", "o3")], {"n2": "OK"}),
    (pairs_of("n2-o3", "n1-o3", "o2-o3"), [("n2", "o3"), ("n2", "o2")], {"n2": "OK", "o3": "NCCL_HANG"}),
    (pairs_of("n2-o3", "n2-o2", "n2-o1"), [("n2", "o3"), ("n2", "o2"), ("o3", "o2"), ("n1", "o3")],
     {"n2": "NCCL_HANG"}),
    (pairs_of("n2-o3", "n2-o2", "n1-o3"), [("n2", "o3"), ("n2", "o2"), ("o3", "o2"), ("n1", "o3")],
     {"n2": "NCCL_VERSION_MIX"}),
    (pairs_of("n2-o3", "n2-o2", "o3-o2"), [("n2", "o3"), ("n2", "o2"), ("o3", "o2")],
     {"o2": "NCCL_HANG", "o3": "NCCL_HANG"}),
], ids=["fine", "one-old-node", "the-upgraded-node", "mixed-stacks", "the-network"])  # fmt: skip
def test_the_partner_is_swapped_before_anybody_is_blamed(bad: set[frozenset[str]], tried: list[tuple[str, str]],
                                                         verdict: dict[str, str]) -> None:
    assert play(bad) == (tried, verdict)


def test_small_fleets() -> None:
    assert play(pairs_of("n2-o1"), waiting=("o1",)) == ([("n2", "o1")], {"n2": "NCCL_HANG"})
    tried, verdict = play(pairs_of("n1-o3", "n1-o2"), upgraded=("n1",))
    assert (len(tried), verdict) == (3, {"n1": "NCCL_HANG"})
    with pytest.raises(ValueError, match="nothing was tried"):
        next_pair([], NEW, OLD)


def test_in_every_world_it_ends_after_four_pairs_and_blames_nobody_without_a_failure() -> None:
    links = sorted(frozenset((a, b)) for a, b in product((*NEW, *OLD), repeat=2) if a < b)
    for number in range(1 << len(links)):
        bad = {link for place, link in enumerate(links) if number >> place & 1}
        tried, verdict = play(bad)
        assert len(tried) <= 4
        assert len(set(map(frozenset, tried))) == len(tried)
        failed = {node for pair in tried if frozenset(pair) in bad for node in pair}
        assert {node for node, code in verdict.items() if code != "OK"} <= failed


# --- one pair -----------------------------------------------------------------------------------------------------

REQUEST = {"nonce": "00ff", "label": "x", "ranks": 2, "bytes": [8]}


def said(rank: int, version: str = "2.28.9", **more: Any) -> dict[str, Any]:
    return {"schema": "planner.nccl/1", "nonce": "00ff", "label": "x", "rank": rank, "local": 1,
            "nccl": {"version": version}, **more}


@pytest.mark.parametrize(("first", "second", "code"), [
    (said(0, status="timeout"), said(1, status="timeout"), "NCCL_HANG"),
    (said(0, status="timeout"), said(1, "2.27.3", status="timeout"), "NCCL_VERSION_MIX"),
    (said(0, status="timeout"), said(1, status="hung"), "GATE_HUNG_D"),
    (said(0, status="timeout"), said(1, status="error", nccl_code=2), "NCCL_HANG"),
    (said(0, status="error", nccl_code=2), said(1, status="error", code=802), "NCCL_ERROR"),
    (said(0, status="error", code=802), said(1, status="error", code=802), "FABRIC_NOT_READY"),
    (said(0, status="busy"), said(1, status="timeout"), "ENV_FOREIGN_PROCESS"),
    (said(0, status="timeout"), said(1, "2.27.3", status="busy"), "ENV_FOREIGN_PROCESS"),
    (said(0, status="skip"), {}, "PART_MISSING"), (said(0, status="inconclusive"), said(1, status="error",
                                                                                     nccl_code=6), "MEMORY_SHORT"),
    (said(0, status="busy"), said(1, status="hung"), "GATE_HUNG_D"),
    (said(0, status="busy"), said(1, status="busy"), "ENV_FOREIGN_PROCESS"),
    (said(0, status="skip"), said(1, status="skip"), "PART_MISSING"),
    (said(0, status="ok", sizes=[]), said(1, status="ok", sizes=[]), "RESULT_WRONG"),
    (said(0, status="new"), said(1, status="new"), "UNKNOWN_CODE"), ({}, None, "GATE_BUG"),
    (said(0, status="ok"), said(1, status="ok"), "GATE_BUG"),
])  # fmt: skip
def test_what_two_ranks_say_becomes_one_code(first: Any, second: Any, code: str) -> None:
    assert judge_pair({"a": first, "b": second}, REQUEST).code == code


@pytest.mark.parametrize(("texts", "outcome", "code"), [
    ([said(0, status="timeout"), said(1, status="timeout")], "fail", "NCCL_HANG"),
    ([said(0, status="busy"), {}], "inconclusive", "ENV_FOREIGN_PROCESS"), ([{}], "inconclusive", "GATE_BUG"),
])  # fmt: skip
def test_a_play_is_told_the_same(texts: list[Any], outcome: str, code: str) -> None:
    found = pair_verdict(json.dumps([json.dumps(each) for each in texts]), {**REQUEST, "hosts": ["a", "b"]})
    assert (found["outcome"], found["code"]) == (outcome, code)
    assert found["reasons"]
    assert pair_verdict("no JSON", REQUEST)["outcome"] == "inconclusive"


@settings(deadline=None)
@given(_JSON, _JSON, _JSON)
def test_no_malformed_report_of_a_pair_or_canary_raises(first: Any, second: Any, before: Any) -> None:
    for report in (first, said(0, status="ok", sizes=first)):
        attempt = judge_pair({"a": report, "b": said(1, status="ok", sizes=second)}, REQUEST, before)
        assert not attempt.good
    assert not Attempt(("a", "b"), judge_canary(first, "n1")[0].code).good


# --- the user's own command ---------------------------------------------------------------------------------------

def canary(text: str, seconds: float = 30.0) -> dict[str, Any]:
    return json.loads(json.dumps(run_canary([sys.executable, "-c", text], seconds)))


@pytest.mark.parametrize(("text", "code"), [
    ("print('trained')", "OK"), ("import sys; sys.exit(3)", "CANARY_FAILED"),
    ("import os; os.kill(os.getpid(), 11)", "CANARY_FAILED"),
])  # fmt: skip
def test_only_exit_status_zero_passes(text: str, code: str) -> None:
    assert [r.code for r in judge_canary(canary(text), "n1")] == [code]


@pytest.mark.parametrize(("request_", "code"), [
    ({"argv": ["true"], "seconds": 9}, "OK"), ({"argv": ["false"]}, "CANARY_FAILED"), ({}, "CANARY_FAILED"),
    ({"argv": "true"}, "CANARY_FAILED"), ({"argv": [7]}, "CANARY_FAILED"), ({"argv": ["true"], "seconds": 0},
                                                                            "CANARY_FAILED"),
])  # fmt: skip
def test_the_probe_runs_it_by_request(request_: dict[str, Any], code: str) -> None:
    done = subprocess.run([sys.executable, "-m", "planner.probe", "canary", "--request", json.dumps(request_)],
                          cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["schema"] == "planner.canary/1"
    assert judge_canary(found, "n1")[0].code == code


def test_its_words_are_evidence_and_long_ones_are_cut_in_the_middle() -> None:
    found = canary("import sys; print('first'); print('x' * 3000000); print('last'); sys.exit('no GPU')")
    assert found["stdout"].startswith("first\n")
    assert found["stdout"].endswith("last\n")
    assert len(found["stdout"]) < 3 * KEPT_BYTES
    assert "bytes left out" in found["stdout"]
    assert judge_canary(found, "n1")[0].evidence[-1] == "no GPU"


def test_a_command_that_does_not_end_is_killed_with_all_it_started() -> None:
    found = canary("import subprocess, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); "
                   "time.sleep(600)", seconds=1.5)
    assert found["status"] == "timeout"
    assert judge_canary(found, "n1")[0].code == "GATE_TIMEOUT"
    gone(int(found["stdout"]))


def test_one_that_leaves_a_process_with_its_streams_behind_has_ended() -> None:
    found = canary("import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid)")
    assert (found["status"], found["exit_code"]) == ("ok", 0)
    gone(int(found["stdout"]))


@pytest.mark.parametrize("argv", [[], ["/no/such/program"], ["a\0b"]])
def test_a_command_that_cannot_start_does_not_pass(argv: list[str]) -> None:
    found = run_canary(argv, 5)
    assert found["status"] == "error"
    assert judge_canary(found, "n1")[0].code == "CANARY_FAILED"


def test_a_killed_probe_leaves_nothing_of_the_command() -> None:
    inner = "import subprocess, time; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); time.sleep(600)"
    text = ("import os, sys; from planner.probe import canary; take = canary._Kept.take\n"
            "def show(self, chunk):\n    os.write(1, chunk)\n    take(self, chunk)\n"
            f"canary._Kept.take = show\ncanary.run_canary([sys.executable, '-c', {inner!r}], 600)")
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    gone(pid)


def gone(pid: int) -> None:
    """Wait until a process is no more, or a zombie that nobody here can reap."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")
