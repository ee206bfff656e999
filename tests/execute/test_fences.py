"""Marks of mixed domains as the engine sees them: left while a domain is mixed, taken off at the end, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.documents import digest, dump_model
from planner.errors import ExitCode
from planner.execute.calls import Setting, build_request
from planner.execute.decide import Act
from planner.execute.fences import fenced_nodes
from planner.execute.states import Entry, Event, replay
from planner.runner.scripted import Fault, SimulatedCrash
from planner.schedule.fences import fence_mark
from planner.schedule.plan import MixedWindow, Plan
from tests.execute.world import World, make_plan

pytestmark = pytest.mark.simulation

NODES = ("n0", "n1", "n2", "n3", "n4")
WINDOW = MixedWindow(domain="m", components=("driver",), opens="w1b1", closes="w3b1", batches=3, minutes=90,
                     approval=False, fences=("kubernetes", "slurm"))


def mixed(schedulers: tuple[str, ...] = ("slurm",) * 5, **options: Any) -> Plan:
    """Return a plan whose nodes are one domain; its driver stands for what must be equal within a job."""
    plan = make_plan(**{"canary": 0, "batches": (1, 2, 2), "soak": 0, **options})
    nodes = {name: node.model_copy(update={"comm_domain": "m", "scheduler": scheduler})
             for (name, node), scheduler in zip(plan.nodes.items(), schedulers, strict=True)}
    plan = plan.model_copy(update={"nodes": nodes, "mixed": (WINDOW,), "digest": ""})
    return plan.model_copy(update={"digest": digest(dump_model(plan))})


def calls(world: World) -> list[tuple[str, tuple[str, ...]]]:
    return [(e.data["call"], tuple(e.data["nodes"])) for e in world.entries() if e.kind == "call-started"]


def removed(world: World) -> int:
    return sum(e.kind == "fences-removed" for e in world.entries())


def test_when_all_are_done_the_last_play_has_taken_the_marks_off(tmp_path: Path) -> None:
    world = World(mixed(), tmp_path)
    assert world.run().code is ExitCode.DONE
    assert (removed(world), [c for c, _ in calls(world)].count("release")) == (0, 0)
    assert fenced_nodes(world.plan, world.state()) == ()


def test_a_node_that_is_left_out_leaves_the_marks_to_the_end_of_the_rollout(tmp_path: Path) -> None:
    world = World(mixed(), tmp_path)
    world.move("n4", Event.SKIP)
    assert world.run().code is ExitCode.DONE
    assert removed(world) == 1
    again = world.run()
    assert (again.code, again.changed, removed(world)) == (ExitCode.DONE, False, 1)


def test_a_halt_keeps_the_marks_and_a_retry_puts_them_on_again(tmp_path: Path) -> None:
    world = World(mixed(), tmp_path, faults=(Fault(node="n1", phase="gate", kind="gate-fail"),))
    assert world.run().code is ExitCode.HALTED
    assert removed(world) == 0
    assert fenced_nodes(world.plan, world.state()) == NODES
    world.move("n1", Event.SKIP)
    assert world.run().code is ExitCode.DONE
    assert removed(world) == 1
    world.move("n1", Event.RETRY)
    assert world.run().code is ExitCode.DONE
    assert fenced_nodes(world.plan, world.state()) == ()       # all have their records now


def test_failures_within_the_budget_end_with_the_marks_off(tmp_path: Path) -> None:
    world = World(mixed(budget=1), tmp_path, faults=(Fault(node="n3", phase="change", kind="task-failed"),))
    assert world.run().code is ExitCode.PARTIAL
    assert removed(world) == 1


def test_before_the_first_node_goes_back_there_are_no_marks(tmp_path: Path) -> None:
    world = World(mixed(), tmp_path, faults=(Fault(node="n0", phase="gate", kind="gate-fail"),))
    assert world.run().code is ExitCode.HALTED
    assert fenced_nodes(world.plan, world.state()) == ()


def test_a_crash_while_the_first_node_goes_back_may_have_left_marks(tmp_path: Path) -> None:
    world = World(mixed(), tmp_path, faults=(Fault(node="n0", phase="undrain", kind="crash"),))
    with pytest.raises(SimulatedCrash):
        world.run()
    assert fenced_nodes(world.plan, world.state()) == NODES
    assert world.run().code is ExitCode.DONE
    assert fenced_nodes(world.plan, world.state()) == ()


def test_only_nodes_whose_scheduler_keeps_marks_are_asked_for_them(tmp_path: Path) -> None:
    world = World(mixed(("slurm", "none", "kubernetes", "slurm", "hook")), tmp_path)
    world.move("n4", Event.SKIP)
    world.run(canary_only=True)
    entries = [e for e in world.entries() if e.kind != "fences-removed"]
    assert fenced_nodes(world.plan, replay(world.plan, entries)) == ("n0", "n2", "n3")


def test_marks_that_were_taken_off_are_there_again_once_a_node_is_given_back() -> None:
    plan = mixed()
    gone = [Entry(seq=1, at="", kind="phase", node="n0", data={"phase": "record"}),
            Entry(seq=2, at="", kind="fences-removed")]
    assert fenced_nodes(plan, replay(plan, gone[:1])) == NODES
    assert fenced_nodes(plan, replay(plan, gone)) == ()
    again = Entry(seq=3, at="", kind="call-started", data={"call": "undrain", "nodes": ["n1"]})
    assert fenced_nodes(plan, replay(plan, [*gone, again])) == NODES


def test_a_release_names_marks_nodes_and_leases_apart(tmp_path: Path) -> None:
    plan = mixed(("slurm", "none", "kubernetes", "slurm", "hook"))
    setting = Setting(plan=plan, bundle=tmp_path, inventory="inv", state_dir=tmp_path, rollout="r", owner="anna")
    act = Act(call="release", wave="", batch="", nodes=("n1",), fenced=("n0", "n2"))
    request = build_request(setting, act, token=4, nonce="", run_id="r.4.9", acknowledge=())
    assert request.limit == ("n0", "n1", "n2")
    assert request.groups == (("n0", "n1", "n2"),)
    assert request.extra_vars["planner_leased"] == ["n1"]
    assert request.extra_vars["planner_unfence"] == {"mark": fence_mark(plan), "slurm": ["n0"], "kubernetes": ["n2"]}
    plain = build_request(setting, Act(call="release", wave="", batch="", nodes=("n1",)), token=4, nonce="",
                          run_id="r.4.9", acknowledge=())
    assert not {"planner_unfence", "planner_leased"} & plain.extra_vars.keys()
