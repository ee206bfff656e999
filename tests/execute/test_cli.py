"""The verbs as a user calls them, on a simulated fleet: exit codes, messages, JSON lines."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from planner.cli.main import VERBS, invoke
from planner.emit.render import render_bundle
from planner.emit.write import write_bundle
from planner.runner.scripted import ScriptedRunner
from tests.emit.sample import ASSETS
from tests.execute.test_pairs import plan as paired
from tests.execute.world import make_plan

pytestmark = pytest.mark.simulation


class Command:
    """Runs ``planner VERB BUNDLE … --simulate SCENARIO`` and keeps what it printed."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.bundle, self._capsys = directory / "bundle", capsys
        self.scenario = directory / "scenario.json"
        self.out = self.err = ""
        self.faults()

    def faults(self, *faults: dict[str, Any]) -> None:
        self.scenario.write_text(json.dumps({"seed": 3, "faults": faults}))

    def __call__(self, verb: str, *words: str) -> int:
        code = invoke([verb, str(self.bundle), *words, "--simulate", str(self.scenario)])
        self.out, self.err = self._capsys.readouterr()
        return code

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return a command on a bundle of a canary and two waves of two nodes."""
    monkeypatch.delenv("PLANNER_STATE", raising=False)
    write_bundle(render_bundle(make_plan(), ASSETS), tmp_path / "bundle")
    return Command(tmp_path, capsys)


def test_canary_approve_resume_ends_with_nothing_left_to_do(command: Command) -> None:
    assert command("apply", "--canary") == 8
    assert "planner approve" in command.err
    assert "driver 570.1 -> 580.2" in command.err
    assert "simulated, nothing proved" in command.err
    assert {line["event"] for line in command.lines()} >= {"call-started", "gate", "node", "waiting", "stopped"}
    assert all(line["simulated"] for line in command.lines())
    assert command("resume") == 8
    assert command("approve", "--because", "looked at them") == 0
    assert command("approve") == 1
    assert command("resume") == 0
    assert command("apply") == 0
    assert "nothing to do" in command.err


def test_evidence_of_each_gate_lies_where_the_status_says(command: Command) -> None:
    command("apply", "--canary")
    assert command("status", "-o", "json") == 0
    status = json.loads(command.out)
    place = Path(status["nodes"]["n0"]["evidence"])
    assert json.loads(place.read_text())["host"] == "n0"
    assert status["waits_for_approval"] == ["w1"]
    assert status["nodes"]["n0"]["state"] == "done"
    assert command("status") == 0
    assert "planner approve" in command.out


def test_a_stale_plan_exits_5_and_names_what_differs(command: Command) -> None:
    command.faults({"node": "n0", "phase": "preflight", "kind": "drift", "component": "driver", "value": "575.9"})
    assert command("apply") == 5
    assert "node n0, driver" in command.err
    assert "planned 570.1, found 575.9" in command.err


def test_a_lock_held_elsewhere_exits_6_and_unlock_opens_it(command: Command) -> None:
    from planner.cli.rollout import open_rollout

    with open_rollout(command.bundle, "", simulate=str(command.scenario)) as rollout:
        rollout.store.take_lock({"owner": "ben@desk", "host": "desk", "pid": 1, "process_start": "",
                                 "since": "2026-03-01", "heartbeat": "2026-03-01"}, lambda held: True)
    assert command("apply") == 6
    assert "ben@desk" in command.err
    assert "planner unlock" in command.err
    assert command("unlock") == 0
    assert command("apply", "--canary") == 8


def test_a_failed_gate_exits_7_until_retried(command: Command) -> None:
    command.faults({"node": "n0", "phase": "gate", "kind": "gate-fail"})
    assert command("apply", "--canary") == 7
    assert "planner retry" in command.err
    assert command("resume") == 7
    assert command("retry", "n0") == 0
    assert command("apply", "--canary") == 8


def test_retry_of_a_node_that_a_failed_pair_blames_tries_the_pair_again(command: Command, tmp_path: Path) -> None:
    """One word for what failed: the node has passed its gate, its all-reduce has not."""
    write_bundle(render_bundle(paired(limit=3), ASSETS), tmp_path / "paired")
    command.bundle = tmp_path / "paired"
    command.faults(*({"node": "n3", "phase": "pair", "kind": "NCCL_HANG", "value": other} for other in ("n0", "n2")))
    assert command("apply") == 7
    assert f"planner retry {command.bundle}" in command.err
    assert "n3 && planner resume" in command.err
    assert command("retry", "n0") == 1
    assert "makes no sense" in command.err
    assert command("retry", "n3", "--because", "new cable") == 0
    assert command.err.startswith("the pair of n3 will be tried again; go on with: planner resume")
    command.faults()
    assert command("resume") == 0
    assert command("retry", "n3") == 1


def test_a_pause_exits_8_until_resumed(command: Command) -> None:
    command("apply", "--canary")
    command("approve")
    assert command("pause") == 0
    assert command("apply") == 8
    assert "planner resume" in command.err
    assert command("resume") == 0


def test_failures_within_the_budget_exit_9(command: Command, tmp_path: Path) -> None:
    command.bundle = tmp_path / "other"
    write_bundle(render_bundle(make_plan(budget=1, approval=False), ASSETS), command.bundle)
    command.faults({"node": "n3", "phase": "change", "kind": "task-failed", "times": 0})
    assert command("apply") == 9
    assert "n3" in command.err


def test_ctrl_c_exits_130_and_resume_goes_on(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    run, signals = ScriptedRunner.run, [signal.SIGINT]

    def interrupted(self: ScriptedRunner, *args: Any, **options: Any) -> Any:
        if signals:
            signal.raise_signal(signals.pop())
        return run(self, *args, **options)

    monkeypatch.setattr(ScriptedRunner, "run", interrupted)
    assert command("apply", "--canary") == 130
    assert "planner resume" in command.err
    assert command("apply", "--canary") == 8


def test_a_second_ctrl_c_ends_the_call_and_says_what_is_left(
        command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    run, signals = ScriptedRunner.run, [signal.SIGINT, signal.SIGTERM]

    def interrupted(self: ScriptedRunner, *args: Any, **options: Any) -> Any:
        while signals:
            signal.raise_signal(signals.pop())
        return run(self, *args, **options)

    monkeypatch.setattr(ScriptedRunner, "run", interrupted)
    assert command("apply", "--canary") == 130
    assert "not in service now: n0" in command.err
    assert "planner resume" in command.err
    assert command("apply", "--canary") == 8


def test_a_finished_rollout_cannot_be_given_up(command: Command) -> None:
    command("apply", "--canary")
    command("approve")
    assert command("resume") == 0
    assert command("abort") == 0
    assert "nothing to give up" in command.err
    command("status", "-o", "json")
    assert json.loads(command.out)["aborted"] == ""
    assert command("resume") == 0


def test_a_state_that_cannot_be_kept_is_refused(command: Command) -> None:
    """``--state`` names a file, not a directory."""
    assert command("apply", "--state", str(command.scenario)) == 1
    assert "state-unusable" in command.err
    assert "--state DIR" in command.err


def test_a_skipped_node_is_left_out(command: Command) -> None:
    command.faults({"node": "n1", "phase": "drain", "kind": "task-failed", "times": 0})
    command("apply", "--canary")
    command("approve")
    assert command("resume") == 7
    assert command("skip", "n1", "--because", "board is being replaced") == 0
    assert command("resume") == 0
    assert "left out: n1" in command.err


def test_an_aborted_rollout_gives_its_leases_back_and_goes_no_further(command: Command) -> None:
    command.faults({"node": "n0", "phase": "gate", "kind": "gate-fail"})
    command("apply")
    assert command("abort", "--because", "newer driver") == 0
    assert "n0" in command.err
    fleet = json.loads(next(command.bundle.parent.glob(".planner/*/simulated-fleet.json")).read_text())
    assert not any(node["lease"] for node in fleet["nodes"].values())
    assert command("resume") == 1
    assert "given up" in command.err


@pytest.mark.parametrize(("verb", "words"), [("retry", ["n1"]), ("retry", ["nobody"]), ("skip", ["n0"])])
def test_words_that_make_no_sense_are_refused_with_a_hint(command: Command, verb: str, words: list[str]) -> None:
    command("apply", "--canary")
    assert command(verb, *words) == 1
    assert "planner status" in command.err


@pytest.mark.parametrize("verb", ["status", "resume", "pause", "approve", "unlock"])
def test_a_bundle_that_was_never_applied_is_told_so(command: Command, verb: str) -> None:
    assert command(verb) == 1
    assert "planner apply" in command.err
    assert not (command.bundle.parent / ".planner").exists()


def test_a_simulation_and_the_real_rollout_never_share_a_journal(command: Command) -> None:
    command("apply")
    assert invoke(["status", str(command.bundle)]) == 1


def test_a_changed_bundle_is_refused(command: Command) -> None:
    play = command.bundle / "plays" / "w1.yml"
    play.write_text(play.read_text() + "# harmless\n")
    assert command("apply") == 1
    assert "plays/w1.yml" in command.err


def test_a_journal_edited_by_hand_is_refused(command: Command) -> None:
    import sqlite3

    command("apply", "--canary")
    database = sqlite3.connect(next(command.bundle.parent.glob(".planner/*/state.db")))
    database.execute("UPDATE journal SET data = '{}' WHERE seq = 4")
    database.commit()
    database.close()
    assert command("resume") == 1
    assert "journal-broken" in command.err


def test_every_verb_of_a_rollout_is_in_the_table() -> None:
    assert {"apply", "status", "pause", "approve", "resume", "retry", "skip", "abort", "unlock"} <= set(VERBS)
