"""The controller's own verdict on gates: a module that lies, a report of another run, the wrong gate at the end."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from planner.errors import ExitCode
from planner.execute.calls import BASELINE_TASK
from planner.execute.simulation import judge_simulated
from planner.execute.states import Event, NodeState
from planner.execute.verdicts import GateRulings
from planner.gates.judge import judge_gate
from planner.runner.port import HostEvent, RunRequest
from planner.runner.scripted import GATE_TASK, VERDICT_TASK, ScriptedRunner, SimulatedNode
from planner.schedule.plan import Cohort
from tests.execute.world import World, make_plan
from tests.gates.right import report

PASSED = {"outcome": "pass", "reasons": []}
COHORT = make_plan().cohorts[0]
Change = Callable[[dict[str, Any]], None]


def wrong_result(value: dict[str, Any]) -> None:
    process = copy.deepcopy(value["gpus"][3]["processes"][0])
    raw = bytearray(base64.b64decode(process["results"][0]["evidence"]["output"]))
    raw[17] ^= 4
    process["results"][0]["evidence"]["output"] = base64.b64encode(bytes(raw)).decode()
    value["gpus"][3]["processes"] = [process]


def old_driver(value: dict[str, Any]) -> None:
    value["versions"] = dict.fromkeys(value["versions"], "570.1") | {"fabric_manager_active": True}


def ruled(value: object, told: Mapping[str, Any] = PASSED, *, cohort: Cohort = COHORT) -> tuple[str, str]:
    text = value if isinstance(value, str) else json.dumps(value)
    ruling = GateRulings(cohorts={"n0": cohort}, nonce="aa").rule("n0", text, told)
    return ruling.verdict, "; ".join(ruling.reasons)


@pytest.mark.parametrize("profile", ["quick", "standard"])
def test_a_true_pass_is_a_pass(profile: str) -> None:
    assert ruled(report(profile, "aa", "n0")) == ("pass", "")


@pytest.mark.parametrize(("change", "words"), [
    (wrong_result, "are wrong"), (old_driver, "planned is 580.2"),
    (lambda r: r.update(nonce="bb"), "the report is of another run"),
    (lambda r: r.update(host="n1"), "the report is of another host"),
    (lambda r: r.update(profile="none"), "the report is of another profile"),
    (lambda r: r.update(pci_gpus=7), "shows 7 of 8 GPUs"), (lambda r: r["gpus"].pop(), "GPU 7: 0 results"),
    (lambda r: r["gpus"][0].pop("index"), "GPU 0: 0 results"),
    (lambda r: r["nvml"].update(gpus=[1]), "NVML shows 0 of 8 GPUs"),
])
def test_a_module_that_lies_is_not_believed(change: Change, words: str) -> None:
    value = report("standard", "aa", "n0")
    change(value)
    verdict, why = ruled(value)
    assert verdict in ("fail", "inconclusive")
    assert words in why
    assert f"the bundle's judge said pass, judged again by this controller it is {verdict}" in why


def test_a_fresh_attempt_has_a_nonce_of_its_own_and_is_judged_with_the_first() -> None:
    rulings = GateRulings(cohorts={"n0": COHORT}, nonce="aa", before=lambda host: f"before of {host}",
                          judge=lambda text, request, before, earlier: {
                              "outcome": "fail" if not earlier else "pass",
                              "reasons": [f"{request['nonce']} {request['attempt']} {before} {len(earlier)}"]})
    retry = {"outcome": "fail", "reasons": [], "retry_after_s": 30}
    first = rulings.rule("n0", json.dumps({"profile": "standard", "attempt": 1}), retry)
    assert (first.verdict, first.again, first.reasons) == ("fail", True, ("aa 1 before of n0 0",))
    second = rulings.rule("n0", json.dumps({"profile": "standard", "attempt": 2}), PASSED)
    assert (second.verdict, second.again) == ("pass", False)
    unannounced = rulings.rule("n0", json.dumps({"profile": "standard", "attempt": 2}), PASSED)
    assert (unannounced.verdict, unannounced.reasons[0]) == ("fail", "aa 1 before of n0 0")


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", "[" * 100_000])
def test_no_report_is_no_pass(text: str) -> None:
    assert ruled(text)[0] in ("inconclusive", "fail")


@pytest.mark.parametrize(("told", "verdict"), [
    ({"outcome": "fail", "reasons": ["seen here"]}, "fail"),
    ({"outcome": "inconclusive", "reasons": ["busy"]}, "inconclusive"),
    ({"outcome": "splendid"}, "inconclusive"), ({}, "inconclusive"), ({"outcome": ["pass"]}, "inconclusive"),
])
def test_the_worse_of_both_verdicts_counts(told: Mapping[str, Any], verdict: str) -> None:
    found, why = ruled(report("standard", "aa", "n0"), told)
    assert found == verdict
    assert all(reason in why for reason in told.get("reasons", ()))


def test_a_replayed_report_fails_however_right_it_was() -> None:
    """It was a pass under its own nonce; under this call's it is of another run."""
    old = json.dumps(report("standard", "aa", "n0"))
    assert GateRulings(cohorts={"n0": COHORT}, nonce="aa").rule("n0", old, PASSED).verdict == "pass"
    assert GateRulings(cohorts={"n0": COHORT}, nonce="ab").rule("n0", old, PASSED).verdict == "fail"


def two_reboots() -> Cohort:
    first = COHORT.steps[0]
    second = first.model_copy(update={"id": "s9", "changes": tuple(
        c.model_copy(update={"from_": c.to, "to": "590.3"}) for c in first.changes)})
    return COHORT.model_copy(update={"steps": (first, second)})


def test_quick_gates_follow_the_steps_and_never_go_back() -> None:
    rulings = GateRulings(cohorts={"n0": two_reboots()}, nonce="aa")
    found = [rulings.rule("n0", json.dumps(report("quick", "aa", "n0", driver=driver)), PASSED).verdict
             for driver in ("580.2", "580.2", "590.3", "590.3")]
    assert found == ["pass", "fail", "pass", "fail"]
    late = GateRulings(cohorts={"n0": two_reboots()}, nonce="aa")       # the first was passed before an interruption
    assert late.rule("n0", json.dumps(report("quick", "aa", "n0", driver="590.3")), PASSED).verdict == "pass"
    end = report("standard", "aa", "n0", driver="580.2")
    assert late.rule("n0", json.dumps(end), PASSED).verdict == "fail"


def test_a_simulated_verdict_is_believed_only_from_a_simulation() -> None:
    def judged(**fields: Any) -> str:
        value = {"simulated": "x", "verdict": "pass", "nonce": "aa", "host": "n0", "profile": "standard", **fields}
        return str(judge_simulated(json.dumps(value), {"nonce": "aa", "host": "n0", "profile": "standard"})["outcome"])

    assert judged() == "pass"
    assert [judged(simulated=""), judged(nonce="bb"), judged(host="n1"), judged(verdict="inconclusive")] == [
        "fail", "fail", "fail", "inconclusive"]
    assert judge_simulated("", {})["outcome"] == "fail"
    assert judge_simulated(json.dumps(report("standard", "aa", "n0")), {"nonce": "aa"})["outcome"] == "fail"


class RealReports(ScriptedRunner):
    """A simulated fleet whose gates print real reports and whose bundle's judge calls every one of them a pass."""

    standard = True
    nonce = ""                         # another one than this call's
    change: Change | None = None

    def _do_gate(self, host: str, node: SimulatedNode, request: RunRequest, hear: Callable[[HostEvent], None],
                 fault: str) -> None:
        nonce = self.nonce or str(request.extra_vars["planner_nonce"])
        for profile in ("quick", "standard") if self.standard else ("quick",):
            value = report(profile, nonce, host)
            if type(self).change is not None and profile == "standard":
                type(self).change(value)        # type: ignore[misc]
            for task, result in ((GATE_TASK, {"stdout": json.dumps(value)}), (VERDICT_TASK, PASSED)):
                hear(HostEvent(host=host, task=task, kind="ok", tags=("gate",), result=result))
        node.marks["gate"] = {"verdict": "pass"}
        self._on_change(self.fleet)


def world(tmp_path: Path, **lies: Any) -> World:
    runner = type("Lying", (RealReports,), {k: staticmethod(v) if callable(v) else v for k, v in lies.items()})
    return World(make_plan(canary=0, batches=(1,)), tmp_path, runner=runner, gate_judge=judge_gate)


def test_a_rollout_with_true_reports_ends(tmp_path: Path) -> None:
    there = world(tmp_path)
    assert there.run().code is ExitCode.DONE
    assert [e.data["profile"] for e in there.entries() if e.kind == "gate"] == ["quick", "standard"]


@pytest.mark.parametrize("lies", [{"change": wrong_result}, {"nonce": "older"}], ids=["wrong-output", "replay"])
def test_a_lying_bundle_ends_as_a_failed_gate_that_sticks(tmp_path: Path, lies: dict[str, Any]) -> None:
    there = world(tmp_path, **lies)
    assert there.run().code is ExitCode.HALTED
    assert there.states() == {"n0": NodeState.FAILED}
    status = there.state().nodes["n0"]
    assert (status.code, status.verdict) == ("gate-failed", "fail")
    assert "judged again by this controller" in status.reason
    # The mark that the bundle left on the node says pass; a retry judges again all the same.
    there.move("n0", Event.RETRY)
    assert there.run().code is ExitCode.HALTED
    assert there.states() == {"n0": NodeState.FAILED}
    there.runner = RealReports
    there.move("n0", Event.RETRY)
    assert there.run().code is ExitCode.DONE


def test_a_quick_gate_alone_gives_no_node_back(tmp_path: Path) -> None:
    there = world(tmp_path, standard=False)
    assert there.run().code is not ExitCode.DONE
    assert there.states() == {"n0": NodeState.GATE_REQUIRED}
    assert "only a quick gate was heard" in there.state().nodes["n0"].reason


class Slower(ScriptedRunner):
    """A simulated fleet whose GPUs all lose a little, each inside its own limits."""

    share = 0.975

    def _do_gate(self, host: str, node: SimulatedNode, request: RunRequest, hear: Callable[[HostEvent], None],
                 fault: str) -> None:
        before = report("standard", "00", host) | {"started_at": "2026-11-24T09:00:00Z"}
        after = copy.deepcopy(report("standard", str(request.extra_vars["planner_nonce"]), host))
        for gpu in after["gpus"]:
            gpu["processes"] = [copy.deepcopy(process) for process in gpu["processes"]]
            for process in gpu["processes"]:
                for result in process["results"]:
                    result["samples"] = {k: [x * self.share for x in v] for k, v in result["samples"].items()}
        heard = ((BASELINE_TASK, {"stdout": json.dumps(before)}), (GATE_TASK, {"stdout": json.dumps(after)}),
                 (VERDICT_TASK, PASSED))
        for task, result in heard:
            hear(HostEvent(host=host, task=task, kind="ok", tags=("gate",), result=result))
        node.marks["gate"] = {"verdict": "pass"}
        self._on_change(self.fleet)


def test_a_wave_that_is_slower_as_a_whole_halts_until_a_person_lets_it_go_on(tmp_path: Path) -> None:
    there = World(make_plan(canary=0, batches=(1, 1)), tmp_path, runner=Slower, gate_judge=judge_gate)
    first = there.run()
    assert (first.code, first.kind) == (ExitCode.HALTED, "wave-slower")
    assert "wmma_f16: median loss 2.5 %" in first.reason
    assert "8 of 8 GPUs lost" in first.reason
    assert there.states() == {"n0": NodeState.DONE, "n1": NodeState.PENDING}
    assert there.run().kind == "wave-slower", "it stays so until somebody has decided"
    there.say("approved", wave="w1", data={"by": "anna"})
    assert there.run().code is ExitCode.DONE


def test_a_wave_as_fast_as_before_goes_on(tmp_path: Path) -> None:
    runner = type("Same", (Slower,), {"share": 1.0})
    there = World(make_plan(canary=0, batches=(1, 1)), tmp_path, runner=runner, gate_judge=judge_gate)
    assert there.run().code is ExitCode.DONE
