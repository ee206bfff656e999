"""Every row of the failure table, played by stand-in libraries on a real probe and judged by the controller's judge."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from planner.gates import failures
from planner.gates.failures import FAILURES, Action
from tests.gates.failure_plays import PLAYS, QUICK, Play
from tests.gates.failure_plays_software import SOFTWARE_PLAYS
from tests.gates.failure_stage import Row, Stage, shown, tabled
from tests.gates.standin_libraries import ROOT
from tests.gates.standin_run import HOST

TABLED = tabled()
ALL = {code: PLAYS.get(code, []) + SOFTWARE_PLAYS.get(code, []) for code in [*PLAYS, *SOFTWARE_PLAYS]}
# Several nodes, or what is no part of a gate report: test_failure_several.py.
SEVERAL = ("NCCL_VERSION_MIX", "NCCL_HANG", "CANARY_FAILED", "PERF_DROP_WAVE")
CASES = [pytest.param(code, play, id=f"{code}-{number}") for code, plays in ALL.items()
         for number, play in enumerate(plays, start=1)]


def test_every_row_is_played() -> None:
    assert set(TABLED) == set(FAILURES)
    assert {code for code, plays in ALL.items() if plays} | set(SEVERAL) == set(TABLED)


@pytest.mark.parametrize(("code", "play"), CASES)
def test_verdict_code_action_and_exit_code_are_those_of_the_table(code: str, play: Play, stage: Stage) -> None:
    row = TABLED[code]
    found, report = stage.judged(play)
    mine = [result for result in found["results"] if result["code"] == code]
    assert len(mine) >= play.times, found["reasons"]
    assert shown(mine, code) == {row}
    if row.verdict != "pass":
        assert all(result["evidence"] for result in mine)
    if play.part:
        return
    assert Row(found["verdict"], found["action"], found["exit_code"]) == row, found["reasons"]
    others = {r["code"] for r in found["results"] if r["verdict"] == row.verdict} - {code}
    assert others == set(play.also), found["reasons"]
    silent = any("NVML did not answer" in words for words in found.get("not_tried", ()))       # no GPU to tell of
    if play.spoil is None and not play.also and "busy_wait_seconds" not in play.request and not silent:
        assert "stand-in GPUs: the driver API answered, no real GPU was proved" in found["notes"]
    tried = [answer for answer in report.get("software") or () if answer["status"] != "skip"]
    assert [answer for answer in tried if not re.search("stand-?in", json.dumps(answer))] == []
    assert not report.get("collective", {}).get("nccl") or "stand-in" in json.dumps(report["collective"])


def test_a_row_that_somebody_changed_is_seen(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is expected comes from the documents: no play follows the table that it tests."""
    changed = replace(FAILURES["ENV_FORGED"], actions=(Action.HALT,), exit_code=1)
    monkeypatch.setattr(failures, "FAILURES", {**FAILURES, "ENV_FORGED": changed})
    found, _ = stage.judged(PLAYS["ENV_FORGED"][0])
    assert shown(found["results"], "ENV_FORGED") == {Row("fail", "halt", 1)} != {TABLED["ENV_FORGED"]}


def calls_of_the_probe() -> list[str]:
    """Return every call of the driver API that the measurements of one GPU make."""
    sources = [ROOT / "planner" / "probe" / f"{name}.py" for name in ("cuda", "session", "measure")]
    found = {name for path in sources for name in re.findall(r'"(cu[A-Z]\w+)"', path.read_text(encoding="utf-8"))}
    return sorted(found - {"cuGetErrorName", "cuGetErrorString", "cuMemcpyPeerAsync"})


GIVE_BACK = {"cuDevicePrimaryCtxRelease_v2", "cuEventDestroy_v2", "cuMemFreeHost", "cuMemFree_v2", "cuModuleUnload"}


@pytest.mark.parametrize("call", sorted(set(calls_of_the_probe()) - GIVE_BACK))
def test_no_call_may_fail_unnoticed(call: str, stage: Stage) -> None:
    """An error of any call is named with that call, and is no pass."""
    found, _ = stage.judged(Play(plays=(f"call {call} 719",)))
    assert found["verdict"] != "pass", found["notes"]
    assert any(call in words for result in found["results"] for words in result["evidence"]), found["reasons"]


@pytest.mark.parametrize("call", sorted(GIVE_BACK))
def test_what_cannot_be_given_back_is_told(call: str, stage: Stage) -> None:
    request = {"profile": QUICK, "nonce": "ab", "host": HOST}
    report = json.loads(stage.report(Play(plays=(f"call {call} 719",)), request))
    problems = [words for gpu in report["gpus"] for process in gpu["processes"] for words in process["problems"]]
    assert problems
    assert all(words.startswith(f"{call} failed with 719") for words in problems)
