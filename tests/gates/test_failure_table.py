"""Every row of the failure table, played by stand-in libraries on a real probe and judged by the controller's judge."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.gates.failures import FAILURES, Verdict
from planner.gates.judge import judge_gate
from tests.gates.failure_plays import NOT_PLAYED, PLAYS, QUICK, Play
from tests.gates.standin_libraries import ROOT, StandInNode
from tests.gates.standin_run import HOST, furnish, namespaces, run_gate, write_probe

CASES = [pytest.param(code, play, id=f"{code}-{number}") for code, plays in PLAYS.items()
         for number, play in enumerate(plays, start=1)]
# Wall time of this machine's processor, not of the GPUs that are played: no two runs of a busy machine agree on it.
BY_THE_PROCESSOR = ("launch_async_us", "launch_sync_us", "launch_cpu_us", "copy_cpu_us")


class Stage:
    """Runs plays; what a node said before the change is asked for once."""

    def __init__(self, compiled: Path, probe: Path, root: Path) -> None:
        self.compiled, self.probe, self.root = compiled, probe, root
        self.known: dict[str, str] = {}
        self.runs = 0

    def report(self, play: Play, request: dict[str, Any]) -> str:
        """Return what the probe prints on a node that plays."""
        self.runs += 1
        home = self.root / str(self.runs)
        node = StandInNode(self.compiled, home / "node", gpus=play.gpus, loaded=play.loaded, plays=play.plays,
                           faults=play.faults, config=play.config)
        furnish(node, gpus=play.gpus, loaded=play.loaded, log=play.log)
        for name, text in play.programs.items():
            node.write(f"bin/{name}", text.replace("{python}", sys.executable).replace(
                "{stuck}", str(self.compiled / "stuck")))
            (node.root / "bin" / name).chmod(0o755)
        text = run_gate(node, self.probe, request, home, play.environment)
        assert [str(path) for name in ("home", "tmp") for path in (home / name).rglob("*")] == []
        return timed(text)

    def before(self, play: Play) -> str:
        """Return the record from before the change."""
        key = repr(play)
        if key not in self.known:
            self.known[key] = self.report(play, {"profile": play.profile, "nonce": "be", "host": HOST})
        return self.known[key]

    def judged(self, play: Play) -> dict[str, Any]:
        """Run the gate as often as the play says, and judge it."""
        gpus = {"expect": {"gpus": 2 if play.before is None else play.before.gpus}}
        before = None
        if play.before is not None:
            document = json.loads(self.before(play.before))
            if play.edit:
                play.edit(document)
            before = json.dumps(document)
        runs = []
        for number in range(1, play.attempts + 1):
            request = {"profile": play.profile, "nonce": f"c0ffee0{number}", "host": HOST, "attempt": number, **gpus,
                       **play.request}
            acts = play if number == 1 or not play.once or play.before is None else play.before
            text = self.report(acts, request)
            runs.append((play.spoil(text) if play.spoil else text, request))
        return judge_gate(runs[-1][0], runs[-1][1], before, runs[:-1])


def timed(text: str) -> str:
    """Set the figures that this machine's processor makes to one value."""
    document = json.loads(text)
    for gpu in document.get("gpus") or ():
        for process in gpu.get("processes") or ():
            for result in process["results"]:
                for name in set(result["samples"]) & set(BY_THE_PROCESSOR):
                    result["samples"][name] = [20.0] * len(result["samples"][name])
    return json.dumps(document)


@pytest.fixture(scope="module")
def stage(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    if not namespaces():
        pytest.skip("no user may make namespaces here")
    root = tmp_path_factory.mktemp("stage")
    return Stage(compiled, write_probe(root / "probe.zip"), root)


def test_every_row_is_played_or_has_a_reason_why_not() -> None:
    played = {code for code, plays in PLAYS.items() if plays}
    assert played | set(NOT_PLAYED) == set(FAILURES)
    assert played & set(NOT_PLAYED) == set()
    for code, (reason, name) in NOT_PLAYED.items():
        text = Path(__file__).with_name(name).read_text(encoding="utf-8")
        assert reason
        assert f'"{code}"' in text, f"{name} does not judge {code}"


@pytest.mark.parametrize(("code", "play"), CASES)
def test_verdict_code_action_and_exit_code_are_those_of_the_table(code: str, play: Play, stage: Stage) -> None:
    row = FAILURES[code]
    found = stage.judged(play)
    mine = [result for result in found["results"] if result["code"] == code]
    assert mine, found["reasons"]
    assert {(r["verdict"], r["exit_code"], r["actions"][0]) for r in mine} == {
        (row.verdict.value, row.exit_code, row.actions[0].value)}
    if row.verdict is not Verdict.PASS:
        assert all(result["evidence"] for result in mine)
    if play.part:
        return
    assert (found["verdict"], found["exit_code"]) == (row.verdict.value, row.exit_code), found["reasons"]
    assert found["action"] == row.actions[0].value, found["reasons"]
    others = {r["code"] for r in found["results"] if r["verdict"] == row.verdict.value} - {code}
    assert others == set(play.also), found["reasons"]
    silent = any("NVML did not answer" in words for words in found.get("not_tried", ()))       # no GPU to tell of
    if play.spoil is None and not play.also and "busy_wait_seconds" not in play.request and not silent:
        assert "stand-in GPUs: the driver API answered, no real GPU was proved" in found["notes"]


def calls_of_the_probe() -> list[str]:
    """Return every call of the driver API that the measurements of one GPU make."""
    sources = [ROOT / "planner" / "probe" / f"{name}.py" for name in ("cuda", "session", "measure")]
    found = {name for path in sources for name in re.findall(r'"(cu[A-Z]\w+)"', path.read_text(encoding="utf-8"))}
    return sorted(found - {"cuGetErrorName", "cuGetErrorString", "cuMemcpyPeerAsync"})


GIVE_BACK = {"cuDevicePrimaryCtxRelease_v2", "cuEventDestroy_v2", "cuMemFreeHost", "cuMemFree_v2", "cuModuleUnload"}


@pytest.mark.parametrize("call", sorted(set(calls_of_the_probe()) - GIVE_BACK))
def test_no_call_may_fail_unnoticed(call: str, stage: Stage) -> None:
    """An error of any call is named with that call, and is no pass."""
    found = stage.judged(Play(plays=(f"call {call} 719",)))
    assert found["verdict"] != "pass", found["notes"]
    assert any(call in words for result in found["results"] for words in result["evidence"]), found["reasons"]


@pytest.mark.parametrize("call", sorted(GIVE_BACK))
def test_what_cannot_be_given_back_is_told(call: str, stage: Stage) -> None:
    request = {"profile": QUICK, "nonce": "ab", "host": HOST}
    report = json.loads(stage.report(Play(plays=(f"call {call} 719",)), request))
    problems = [words for gpu in report["gpus"] for process in gpu["processes"] for words in process["problems"]]
    assert problems
    assert all(words.startswith(f"{call} failed with 719") for words in problems)
