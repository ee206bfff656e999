"""The controller's own verdict on gates: a module that lies, a report of another run, the wrong gate at the end."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from planner.errors import ExitCode
from planner.execute.simulation import judge_simulated
from planner.execute.states import Event, NodeState
from planner.execute.verdicts import GateRulings
from planner.gates.judge import SIZES, expected_output, judge_gate, seed_of
from planner.runner.port import HostEvent, RunRequest
from planner.runner.scripted import GATE_TASK, VERDICT_TASK, ScriptedRunner, SimulatedNode
from planner.schedule.plan import Cohort
from tests.execute.world import World, make_plan

PASSED = {"verdict": "pass", "reasons": []}
COHORT = make_plan().cohorts[0]
Change = Callable[[dict[str, Any]], None]


def report(profile: str, nonce: str, host: str, *, driver: str = "580.2", gpus: int = 8) -> dict[str, Any]:
    """Return the report of a node whose GPUs work, as the probe would print it."""
    outputs = [expected_output(seed_of(nonce, host, i), *SIZES[profile]) for i in range(gpus)]
    return {
        "schema": "planner.gate/1", "profile": profile, "nonce": nonce, "host": host, "pci_gpus": gpus,
        "versions": {"loaded": driver, "nvml": driver, "libcuda": driver, "fabric_manager": driver,
                     "fabric_manager_active": True},
        "nvml": {"gpus": [{"index": i} for i in range(gpus)]},
        "gpus": [{"index": i, "output": base64.b64encode(out.tobytes()).decode()} for i, out in enumerate(outputs)],
    }


def wrong_result(value: dict[str, Any]) -> None:
    raw = bytearray(base64.b64decode(value["gpus"][3]["output"]))
    raw[17] ^= 4
    value["gpus"][3]["output"] = base64.b64encode(bytes(raw)).decode()


def old_driver(value: dict[str, Any]) -> None:
    value["versions"] = dict.fromkeys(value["versions"], "570.1") | {"fabric_manager_active": True}


def ruled(value: object, told: Mapping[str, Any] = PASSED, *, cohort: Cohort = COHORT) -> tuple[str, str]:
    text = value if isinstance(value, str) else json.dumps(value)
    ruling = GateRulings(cohorts={"n0": cohort}, nonce="aa").rule("n0", text, told)
    return ruling.verdict, "; ".join(ruling.reasons)


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_a_true_pass_is_a_pass(profile: str) -> None:
    assert ruled(report(profile, "aa", "n0")) == ("pass", "")


@pytest.mark.parametrize(("change", "words"), [
    (wrong_result, "are wrong"), (old_driver, "planned is 580.2"),
    (lambda r: r.update(nonce="bb"), "the report is of another run"),
    (lambda r: r.update(host="n1"), "the report is of another host"),
    (lambda r: r.update(profile="none"), "the report is of another profile"),
    (lambda r: r.update(pci_gpus=7), "shows 7 of 8 GPUs"), (lambda r: r["gpus"].pop(), "GPU 7: 0 results"),
    (lambda r: r["gpus"][0].pop("index"), "cannot be judged"),
    (lambda r: r["nvml"].update(gpus=[1]), "cannot be judged"),
])
def test_a_module_that_lies_is_not_believed(change: Change, words: str) -> None:
    value = report("full", "aa", "n0")
    change(value)
    verdict, why = ruled(value)
    assert verdict == "fail"
    assert words in why
    assert "the bundle's judge said pass, judged again by this controller it is fail" in why


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", "[" * 100_000])
def test_no_report_is_no_pass(text: str) -> None:
    assert ruled(text)[0] in ("inconclusive", "fail")


@pytest.mark.parametrize(("told", "verdict"), [
    ({"verdict": "fail", "reasons": ["seen here"]}, "fail"),
    ({"verdict": "inconclusive", "reasons": ["busy"]}, "inconclusive"),
    ({"verdict": "splendid"}, "inconclusive"), ({}, "inconclusive"), ({"verdict": ["pass"]}, "inconclusive"),
])
def test_the_worse_of_both_verdicts_counts(told: Mapping[str, Any], verdict: str) -> None:
    found, why = ruled(report("full", "aa", "n0"), told)
    assert found == verdict
    assert all(reason in why for reason in told.get("reasons", ()))


def test_a_replayed_report_fails_however_right_it_was() -> None:
    """It was a pass under its own nonce; under this call's it is of another run."""
    old = json.dumps(report("full", "aa", "n0"))
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
    end = report("full", "aa", "n0", driver="580.2")
    assert late.rule("n0", json.dumps(end), PASSED).verdict == "fail"


def test_a_simulated_verdict_is_believed_only_from_a_simulation() -> None:
    def judged(**fields: Any) -> str:
        value = {"simulated": "x", "verdict": "pass", "nonce": "aa", "host": "n0", "profile": "full", **fields}
        return str(judge_simulated(json.dumps(value), {"nonce": "aa", "host": "n0", "profile": "full"})["verdict"])

    assert judged() == "pass"
    assert [judged(simulated=""), judged(nonce="bb"), judged(host="n1"), judged(verdict="inconclusive")] == [
        "fail", "fail", "fail", "inconclusive"]
    assert judge_simulated("", {})["verdict"] == "fail"
    assert judge_simulated(json.dumps(report("full", "aa", "n0")), {"nonce": "aa"})["verdict"] == "fail"


class RealReports(ScriptedRunner):
    """A simulated fleet whose gates print real reports and whose bundle's judge calls every one of them a pass."""

    full = True
    nonce = ""                         # another one than this call's
    change: Change | None = None

    def _do_gate(self, host: str, node: SimulatedNode, request: RunRequest, hear: Callable[[HostEvent], None],
                 fault: str) -> None:
        nonce = self.nonce or str(request.extra_vars["planner_nonce"])
        for profile in ("quick", "full") if self.full else ("quick",):
            value = report(profile, nonce, host)
            if type(self).change is not None and profile == "full":
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
    assert [e.data["profile"] for e in there.entries() if e.kind == "gate"] == ["quick", "full"]


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
    there = world(tmp_path, full=False)
    assert there.run().code is not ExitCode.DONE
    assert there.states() == {"n0": NodeState.GATE_REQUIRED}
    assert "only a quick gate was heard" in there.state().nodes["n0"].reason
