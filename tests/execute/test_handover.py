"""A step that is left to people pauses the rollout, keeps the node drained, and goes on when it is seen to be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.cli.apply_view import outcome_error
from planner.cli.rollout import Rollout
from planner.errors import ExitCode
from planner.execute.calls import HANDOVER_TASK, Heard, judge
from planner.execute.decide import Act
from planner.execute.states import Event, NodeState, NodeStatus
from planner.runner.port import HostEvent, HostOutcome, RunResult
from planner.runner.scripted import HANDOVER_TASK as SCRIPTED_TASK
from planner.runner.scripted import Fault
from planner.schedule.plan import Cohort
from tests.emit.sample import OS_RELEASE, cohort
from tests.execute.world import World, make_plan

pytestmark = pytest.mark.simulation


def handed(*nodes: str, times: int = 1) -> tuple[Fault, ...]:
    return tuple(Fault(node=n, phase="change", kind="handover", times=times) for n in nodes)


def test_it_pauses_with_the_node_drained_and_resumes(tmp_path: Path) -> None:
    world = World(make_plan(canary=0), tmp_path, faults=handed("n0", "n1"))
    outcome = world.run()
    assert (outcome.code, outcome.kind, outcome.nodes) == (ExitCode.PAUSED, "handover", ("n0", "n1"))
    assert {world.states()[n] for n in ("n0", "n1")} == {NodeState.CHANGE_REQUIRED}
    assert world.fleet.nodes["n0"].drained
    assert not world.fleet.nodes["n2"].acts
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()


def test_it_pauses_again_while_it_is_not_done(tmp_path: Path) -> None:
    world = World(make_plan(canary=0), tmp_path, faults=handed("n0", times=2))
    assert [world.run().kind for _ in range(3)] == ["handover", "handover", "finished"]


def test_a_node_that_waits_can_be_left_out(tmp_path: Path) -> None:
    world = World(make_plan(canary=0), tmp_path, faults=handed("n0", times=0))
    world.run()
    world.move("n0", Event.SKIP)
    outcome = world.run()
    assert (outcome.code, outcome.nodes) == (ExitCode.DONE, ("n0",))


def test_a_failure_weighs_more_than_a_step_that_waits(tmp_path: Path) -> None:
    """A failed task of the user's own is a failure like any other: it stays until a person acts."""
    world = World(make_plan(canary=0), tmp_path, faults=(
        *handed("n0"), Fault(node="n1", phase="change", kind="task-failed")))
    assert world.run().code is ExitCode.HALTED
    assert world.states()["n1"] is NodeState.FAILED


def test_the_message_tells_what_to_do_and_how_to_go_on(tmp_path: Path) -> None:
    plan = make_plan(canary=0)
    (group,) = plan.cohorts
    told = ("do the first thing", "do the second thing")
    first = group.steps[0].model_copy(update={"handover": True, "instructions": told})
    plan = plan.model_copy(update={"cohorts": (group.model_copy(update={"steps": (first, *group.steps[1:])}),)})
    world = World(plan, tmp_path, faults=handed("n0", "n1"))
    outcome = world.run()
    rollout = Rollout(bundle=tmp_path, plan=plan, state_dir=tmp_path, store=world.store, simulated=False,
                      spelled="bundle/")
    (item,) = outcome_error(rollout, outcome).diagnostics
    rollout.store.close()
    assert item.why[0].startswith("n0, n1: ")
    assert [line.strip() for line in item.why[1:3]] == ["1. do the first thing", "2. do the second thing"]
    assert "planner resume bundle/" in item.hint


def found(heard: Heard, values: dict[str, tuple[str, ...]], *, started: bool = False) -> str:
    """Return what preflight makes of a node that has to leave os ubuntu-22.04 by hand."""
    raw = cohort("c", ["n"], [OS_RELEASE])
    raw["start"]["os"], raw["goal"] = ["ubuntu-22.04"], {**raw["start"], "os": ["ubuntu-24.04"]}
    result = RunResult(status="successful", return_code=0, hosts={"n": HostOutcome.OK}, failures={}, output_tail="")
    heard.facts["n"] = "{}"
    start = {k: tuple(v) for k, v in raw["start"].items()}
    data = judge(Act(call="preflight", wave="w1", batch="b", nodes=("n",)), "n",
                 NodeStatus(wave="w1", batch="b", started=started), Cohort.model_validate(raw), result, heard,
                 lambda text: {**start, **values}, frozenset())
    return str(data["event"])


def test_facts_and_proofs_tell_what_is_done_already() -> None:
    assert found(Heard(), {}) == Event.FACTS_FIT
    assert found(Heard(), {"os": ("ubuntu-24.04",)}) == Event.AT_GOAL
    assert found(Heard(proofs={"n": {"os": ("ubuntu-24.04",)}}), {}) == Event.STALE     # the two do not agree
    assert found(Heard(), {"os": ("ubuntu-26.04",)}) == Event.STALE
    assert found(Heard(), {"os": ("ubuntu-24.04",)}, started=True) == Event.FACTS_FIT   # its gate has still to run


def test_the_task_that_stops_is_known_by_its_name_everywhere() -> None:
    role = Path(__file__).parents[2] / "playbooks/roles/planner_change/tasks/handover.yml"
    assert f"- name: {HANDOVER_TASK}\n" in role.read_text()
    assert SCRIPTED_TASK == HANDOVER_TASK
    event = HostEvent(host="n", task=HANDOVER_TASK, kind="failed", tags=("change",), result={"msg": "step s1 (x) …"},
                      play="p")
    result = RunResult(status="failed", return_code=2, hosts={"n": HostOutcome.FAILED}, failures={"n": event},
                       output_tail="")
    data = judge(Act(call="change", wave="w1", batch="b", nodes=("n",)), "n", NodeStatus(wave="w1", batch="b"),
                 Cohort.model_validate(cohort("c", ["n"], [OS_RELEASE])), result, Heard(), lambda text: {}, frozenset())
    assert data["event"] == Event.HANDOVER_OPEN
