"""What the engine is wired to in earnest: the reader of facts, and today's matrices against an older plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.cli.inputs import load_rules
from planner.cli.rollout import recheck, state_reader
from planner.errors import FactsError, StaleError
from planner.execute.calls import Setting, build_request
from planner.execute.decide import Act
from tests.execute.world import make_plan

RECORDED = sorted((Path(__file__).parents[1] / "facts" / "recorded").glob("*.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_answers_of_probes_become_states(path: Path) -> None:
    state = state_reader(load_rules(()))(json.dumps(json.loads(path.read_text())["document"]))
    assert state["os"]
    assert "driver" in state


def test_there_are_recorded_answers() -> None:
    assert RECORDED


def test_an_answer_that_is_no_probes_is_refused() -> None:
    with pytest.raises(FactsError):
        state_reader(load_rules(()))("command not found")


def test_a_claim_of_today_against_the_goal_stops_an_older_plan() -> None:
    """The sample's driver 580.2 is older than any that CUDA 13 works with."""
    rules = load_rules(())
    with pytest.raises(StaleError) as caught:
        recheck(make_plan(), rules)
    assert "cuda" in caught.value.diagnostics[0].summary.lower()
    recheck(make_plan().model_copy(update={"inputs": {"matrices": rules.digest}}), rules)     # judged when it was made


@pytest.mark.parametrize(("call", "tags"), [
    ("preflight", ("preflight", "prefetch")), ("change", ("drain", "baseline", "change", "reboot", "gate")),
    ("undrain", ("undrain", "record")), ("release", ())])
def test_each_call_asks_for_its_phases_on_its_nodes_alone(tmp_path: Path, call: str, tags: tuple[str, ...]) -> None:
    setting = Setting(plan=make_plan(), bundle=tmp_path, inventory="inv", state_dir=tmp_path, rollout="r", owner="anna")
    request = build_request(setting, Act(call=call, wave="w2", batch="w2b1", nodes=("n1",)), token=4, nonce="ab",
                            run_id="r.4.9", acknowledge=("w1",))
    assert (request.tags, request.limit) == (tags, ("n1",))
    assert request.playbook.endswith("release.yml" if call == "release" else "plays/w2.yml")
    assert request.extra_vars["planner_token"] == 4
    assert request.extra_vars["planner_nonce"] == "ab"
    assert request.extra_vars["planner_run_id"] == request.run_id == "r.4.9"
    assert request.extra_vars["planner_acknowledge"] == ["w1"]
    assert request.timeout_s >= 3600
