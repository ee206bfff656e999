"""The site's own command after the gate: heard, judged again, kept, sticky; nothing goes back without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.documents import digest, dump_model
from planner.errors import ExitCode
from planner.execute.calls import CANARY_TASK, CANARY_VERDICT_TASK
from planner.execute.states import Event, NodeState
from planner.execute.verdicts import GateRulings
from planner.gates.canary import canary_verdict
from planner.gates.judge import judge_gate
from planner.runner.port import HostEvent, RunRequest
from planner.runner.scripted import GATE_TASK, Fault, ScriptedRunner, SimulatedCrash, SimulatedNode
from planner.schedule.plan import Plan
from tests.execute.test_verdicts import COHORT, PASSED
from tests.execute.world import World, make_plan

ARGV = ("/opt/site/smoke-test", "--all")
Hear = Callable[[HostEvent], None]


def plan(**options: Any) -> Plan:
    made = make_plan(**{"canary": 0, "batches": (1, 1), **options})
    pool = made.pools["train"].model_copy(update={"canary_command": ARGV, "canary_command_timeout_minutes": 15})
    made = made.model_copy(update={"pools": {"train": pool}, "digest": ""})
    return made.model_copy(update={"digest": digest(dump_model(made))})


def heard(world: World, kind: str = "canary") -> list[Any]:
    return [entry for entry in world.entries() if entry.kind == kind]


def test_every_node_runs_it_after_its_gate_and_a_simulated_pass_says_so(tmp_path: Path) -> None:
    world = World(plan(), tmp_path)
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()
    order = [(e.kind, e.node) for e in world.entries() if e.kind in ("gate", "canary")]
    assert order == [("gate", "n0"), ("canary", "n0"), ("gate", "n1"), ("canary", "n1")]
    for entry in heard(world):
        kept = (tmp_path / entry.data["evidence"]).read_bytes()
        assert entry.data["digest"] == digest(kept)
        assert entry.data["notes"] == ["simulated, nothing proved"]
        assert json.loads(kept)["argv"] == list(ARGV)
    assert world.state().nodes["n0"].gates == "pass, own command pass"


def test_a_failure_is_a_failed_gate_that_sticks(tmp_path: Path) -> None:
    world = World(plan(), tmp_path, faults=(Fault(node="n0", phase="gate", kind="canary-fail"),))
    outcome = world.run()
    assert (outcome.code, outcome.kind, outcome.nodes) == (ExitCode.HALTED, "gate-failed", ("n0",))
    assert world.fleet.nodes["n0"].drained
    assert world.state().nodes["n0"].gates == "pass, own command fail"
    assert "simulated verdict fail" in outcome.reason
    assert world.run().code is ExitCode.HALTED
    world.move("n0", Event.RETRY)
    assert world.run().code is ExitCode.DONE
    assert world.fleet.nodes["n0"].boots == 1
    assert world.at_goal()


class Real(ScriptedRunner):
    """A simulated fleet whose probes give real reports of the command; the bundle's judge calls each a pass."""

    code = 0
    said = ""
    change: dict[str, Any] = {}     # noqa: RUF012  # replaced, never changed
    silent = False

    def _canary(self, host: str, node: SimulatedNode, nonce: str, hear: Hear, verdict: str) -> str:
        report = {"schema": "planner.canary/1", "host": host, "nonce": f"{nonce}-canary", "argv": list(node.canary),
                  "status": "ok", "exit_code": self.code, "stdout": "", "stderr": "no GPU", "seconds": 1.0,
                  **self.change}
        if not self.silent:
            for task, result in ((CANARY_TASK, {"stdout": self.said or json.dumps(report)}),
                                 (CANARY_VERDICT_TASK, PASSED)):
                hear(HostEvent(host=host, task=task, kind="ok", tags=("gate",), result=result))
        return "pass"


def real(tmp_path: Path, **lies: Any) -> World:
    return World(plan(batches=(1,)), tmp_path, runner=type("Lying", (Real,), lies), canary_judge=canary_verdict)


def test_a_true_report_passes(tmp_path: Path) -> None:
    world = real(tmp_path)
    assert world.run().code is ExitCode.DONE
    assert heard(world)[0].data["notes"] == ["the site's own command: exit status 0 after 1.0 s"]


@pytest.mark.parametrize(("lies", "words"), [
    ({"code": 3}, "exit status 3 after 1.0 s; no GPU (CANARY_FAILED)"),
    ({"change": {"nonce": "older"}}, "the report has another nonce (REPORT_FOREIGN)"),
    ({"change": {"host": "n7"}}, "the report has another host (REPORT_FOREIGN)"),
    ({"change": {"argv": ["true"]}}, "the report has another argv (REPORT_FOREIGN)"),
    ({"change": {"status": "timeout", "reason": "no end after 900 s", "exit_code": None}}, "(GATE_TIMEOUT)"),
    ({"change": {"exit_code": True}}, "(UNKNOWN_CODE)"), ({"said": "[]"}, "(GATE_BUG)"),
    ({"said": "Segmentation fault"}, "the probe gave no report: Segmentation fault (CANARY_FAILED)"),
])
def test_a_bundle_that_lies_about_it_is_not_believed(tmp_path: Path, lies: dict[str, Any], words: str) -> None:
    """The mark that the bundle left on the node says pass; neither resume nor retry takes it for one."""
    world = real(tmp_path, **lies)
    assert world.run().code is ExitCode.HALTED
    status = world.state().nodes["n0"]
    assert (status.state, status.code, status.canary) == (NodeState.FAILED, "gate-failed", "fail")
    assert words in status.reason
    assert "the bundle's judge said pass" in status.reason
    assert world.fleet.nodes["n0"].marks["gate"]["verdict"] == "pass"
    world.move("n0", Event.RETRY)
    assert world.run().code is ExitCode.HALTED
    assert len(heard(world)) == 2
    world.runner = Real
    world.move("n0", Event.RETRY)
    assert world.run().code is ExitCode.DONE


def test_a_command_that_was_never_heard_of_gives_no_node_back(tmp_path: Path) -> None:
    world = real(tmp_path, silent=True)
    outcome = world.run()
    assert (outcome.code, outcome.kind) == (ExitCode.PAUSED, "gate-inconclusive")
    assert "the site's own command was not heard" in world.state().nodes["n0"].reason
    assert world.fleet.nodes["n0"].drained


def test_after_a_crash_between_gate_and_command_both_run_again(tmp_path: Path) -> None:
    class Dies(ScriptedRunner):
        def _canary(self, host: str, node: SimulatedNode, nonce: str, hear: Hear, verdict: str) -> str:
            raise SimulatedCrash(host)

    world = World(plan(batches=(1,)), tmp_path, runner=Dies)
    with pytest.raises(SimulatedCrash):
        world.run()
    assert (len(heard(world, "gate")), heard(world)) == (1, [])
    world.runner = ScriptedRunner
    assert world.run().code is ExitCode.DONE
    assert (len(heard(world, "gate")), len(heard(world))) == (2, 1)
    assert world.at_goal()


@pytest.mark.parametrize(("mark", "again"), [
    ({"verdict": "pass"}, True), ({"verdict": "pass", "canary": "pass"}, False)])
def test_a_mark_that_the_journal_missed_counts_when_it_holds_the_command_too(tmp_path: Path, mark: dict[str, str],
                                                                            again: bool) -> None:
    world = World(plan(batches=(1,)), tmp_path)
    world.run()
    (tmp_path / "state.db").unlink()
    world.fleet.nodes["n0"].marks["gate"] = mark
    assert world.run().code is ExitCode.DONE
    assert bool(heard(world)) is again


def test_a_failed_gate_stays_one_whatever_the_command_says(tmp_path: Path) -> None:
    class Both(ScriptedRunner):
        def _do_gate(self, host: str, node: SimulatedNode, request: RunRequest, hear: Hear, fault: str) -> None:
            def gate(event: HostEvent) -> None:
                if event.task == GATE_TASK:     # another node's report; the bundle's judge passes it all the same
                    event = HostEvent(host=host, task=GATE_TASK, kind="ok", tags=("gate",), result={"stdout": "{}"})
                hear(event)

            super()._do_gate(host, node, request, gate, fault)

    world = World(plan(batches=(1,)), tmp_path, runner=Both)
    assert world.run().code is ExitCode.HALTED
    assert (world.state().nodes["n0"].verdict, world.state().nodes["n0"].canary) == ("fail", "pass")


def test_a_command_of_nobody_is_no_pass() -> None:
    ruling = GateRulings(cohorts={"n0": COHORT}, nonce="aa").rule_canary("n0", "{}", "", PASSED)
    assert ruling.verdict == "fail"
    assert "the plan has no command for this node" in ruling.reasons[0]


def test_what_a_command_printed_ends_no_controller_and_writes_no_terminal() -> None:
    rulings = GateRulings(cohorts={"n0": COHORT}, nonce="aa", canaries={"n0": (ARGV, 1)})
    report = {"host": "n0", "nonce": "aa-canary", "argv": list(ARGV), "status": "ok", "exit_code": 1, "seconds": 1,
              "stderr": "\x1b[2J{{ 1 }}\n" * 1000}
    for text in (json.dumps(report), "[" * 100_000, "", "null", '{"host": {}}'):
        ruling = rulings.rule_canary("n0", text, "\x1b[2J", PASSED)
        assert ruling.verdict == "fail"
        assert all(reason.isprintable() and len(reason) < 700 for reason in ruling.reasons)


def test_a_changed_report_of_a_gate_counts_for_nothing(tmp_path: Path) -> None:
    """What the wave as a whole lost is read from kept reports, and only from those that the journal noted."""
    from tests.execute.test_verdicts import Slower

    def spoil(place: Path) -> None:
        place.write_text(place.read_text(encoding="utf-8") + " ", encoding="utf-8")

    class Spoilt(Slower):
        def _do_undrain(self, *arguments: Any) -> None:
            for place in (tmp_path / "evidence").glob("n0-[0-9]*.json"):
                spoil(place)
            super()._do_undrain(*arguments)

    world = World(make_plan(canary=0, batches=(1, 1)), tmp_path, runner=Spoilt, gate_judge=judge_gate)
    assert world.run().code is ExitCode.DONE
