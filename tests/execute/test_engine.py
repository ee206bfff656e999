"""Whole rollouts on simulated fleets: order, canaries, stops, and going on after them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from planner.errors import ExitCode, LockedError
from planner.execute.interrupts import Interrupts
from planner.execute.lock import Controller, break_lock
from planner.execute.states import Event, NodeState
from planner.model.window import next_start
from planner.runner.scripted import Fault
from tests.execute.world import ME, World, make_plan

pytestmark = pytest.mark.simulation


def approve_and_resume(world: World) -> ExitCode:
    world.say("approved", wave="w1")
    return world.run().code


def test_a_rollout_pauses_after_its_canaries_and_ends_when_approved(tmp_path: Path) -> None:
    world = World(make_plan(), tmp_path)
    outcome = world.run(canary_only=True)
    assert (outcome.code, outcome.kind) == (ExitCode.PAUSED, "approval")
    assert {n for n, s in world.states().items() if s is NodeState.DONE} == {"n0"}
    assert not any(world.fleet.nodes[n].acts for n in ("n1", "n2", "n3", "n4"))
    assert approve_and_resume(world) is ExitCode.DONE
    assert world.at_goal()


def test_canary_only_asks_for_approval_even_where_the_plan_does_not(tmp_path: Path) -> None:
    world = World(make_plan(approval=False), tmp_path)
    assert world.run(canary_only=True).code is ExitCode.PAUSED
    assert world.run().code is ExitCode.PAUSED          # a plain resume does not go round it
    assert approve_and_resume(world) is ExitCode.DONE


def test_apply_without_canary_still_waits_where_the_plan_wants_approval(tmp_path: Path) -> None:
    world = World(make_plan(), tmp_path)
    assert world.run().kind == "approval"


def test_the_soak_passes_before_approval_is_asked_for(tmp_path: Path) -> None:
    world = World(make_plan(soak=90), tmp_path)
    world.run(canary_only=True)
    finished = next(e for e in world.entries() if e.kind == "wave-finished")
    stopped = world.entries()[-1]
    assert stopped.kind == "stopped"
    assert (world.clock.now().fromisoformat(stopped.at) - world.clock.now().fromisoformat(finished.at)).seconds >= 5400


def test_a_second_apply_changes_nothing(tmp_path: Path) -> None:
    world = World(make_plan(canary=0), tmp_path)
    assert world.run().code is ExitCode.DONE
    acts = {name: list(node.acts) for name, node in world.fleet.nodes.items()}
    outcome = world.run()
    assert (outcome.code, outcome.changed) == (ExitCode.DONE, False)
    assert acts == {name: node.acts for name, node in world.fleet.nodes.items()}


def test_a_lost_journal_changes_nothing_on_nodes_that_are_at_their_goal(tmp_path: Path) -> None:
    world = World(make_plan(canary=0), tmp_path)
    world.run()

    def seen() -> dict[str, object]:
        return {name: ([act for act in node.acts if act != "release"], node.boots, node.state)
                for name, node in world.fleet.nodes.items()}

    before = seen()
    (tmp_path / "state.db").unlink()
    assert world.run().code is ExitCode.DONE
    assert seen() == before
    assert world.at_goal()


def test_nobody_has_to_approve_what_was_there_before(tmp_path: Path) -> None:
    world = World(make_plan(), tmp_path)
    world.run()
    approve_and_resume(world)
    (tmp_path / "state.db").unlink()
    assert world.run(canary_only=True).code is ExitCode.DONE
    assert world.at_goal()


def test_a_canary_that_was_there_before_lets_no_other_node_change_without_approval(tmp_path: Path) -> None:
    world = World(make_plan(), tmp_path)
    world.run(canary_only=True)
    (tmp_path / "state.db").unlink()
    outcome = world.run()
    assert (outcome.code, outcome.kind) == (ExitCode.PAUSED, "approval")
    assert not any(world.fleet.nodes[n].drained or world.fleet.nodes[n].lease for n in world.fleet.nodes)
    assert approve_and_resume(world) is ExitCode.DONE


def test_nodes_that_others_brought_to_the_goal_are_done_without_acts(tmp_path: Path) -> None:
    world = World(make_plan(canary=0, batches=(2,)), tmp_path)
    for node in world.fleet.nodes.values():
        node.state |= {"driver": ["580.2"], "fabric_manager": ["580.2"], "loaded_driver": ["580.2"],
                       "cuda_toolkits": ["12.8.1", "13.0.2"]}
    assert world.run().code is ExitCode.DONE
    assert all(node.acts == ["release"] for node in world.fleet.nodes.values())     # only the lease of the look


def test_new_packages_with_the_old_module_loaded_are_not_the_goal(tmp_path: Path) -> None:
    world = World(make_plan(canary=0, batches=(2,)), tmp_path)
    world.fleet.nodes["n0"].state |= {"driver": ["580.2"], "fabric_manager": ["580.2"],
                                      "cuda_toolkits": ["12.8.1", "13.0.2"]}
    assert world.run().code is ExitCode.STALE


def test_a_stale_fact_stops_the_batch_before_any_drain(tmp_path: Path) -> None:
    fault = Fault(node="n1", phase="preflight", kind="drift", component="driver", value="575.9")
    world = World(make_plan(canary=0), tmp_path, faults=(fault,))
    outcome = world.run()
    assert outcome.code is ExitCode.STALE
    assert outcome.state.nodes["n1"].differences == (
        {"node": "n1", "component": "driver", "planned": "570.1", "found": "575.9"},)
    assert not any(node.drained or node.lease for node in world.fleet.nodes.values())
    world.fleet.nodes["n1"].state["driver"] = ["570.1"]      # put back as it was
    assert world.run().code is ExitCode.DONE


def test_a_failed_gate_halts_and_stays_failed_until_a_person_acts(tmp_path: Path) -> None:
    fault = Fault(node="n0", phase="gate", kind="gate-fail")
    world = World(make_plan(canary=0, batches=(2, 2)), tmp_path, faults=(fault,))
    outcome = world.run()
    assert (outcome.code, outcome.kind, outcome.nodes) == (ExitCode.HALTED, "gate-failed", ("n0",))
    assert world.fleet.nodes["n0"].drained
    assert not world.fleet.nodes["n1"].drained               # its healthy mate went back into service
    assert not world.fleet.nodes["n2"].acts
    assert world.run().code is ExitCode.HALTED               # a resume alone does not reopen it
    world.move("n0", Event.RETRY)
    assert world.run().code is ExitCode.DONE
    assert world.fleet.nodes["n0"].boots == 1                # the finished steps were not repeated
    assert world.at_goal()


def test_an_unclear_gate_pauses_and_is_run_again_at_resume(tmp_path: Path) -> None:
    fault = Fault(node="n0", phase="gate", kind="gate-inconclusive")
    world = World(make_plan(canary=0), tmp_path, faults=(fault,))
    outcome = world.run()
    assert (outcome.code, outcome.kind) == (ExitCode.PAUSED, "gate-inconclusive")
    assert world.run().code is ExitCode.DONE


@pytest.mark.parametrize("phase", ["preflight", "drain", "change", "reboot", "gate", "undrain", "record"])
def test_an_unreachable_node_is_unknown_and_tried_again_at_resume(tmp_path: Path, phase: str) -> None:
    world = World(make_plan(canary=0), tmp_path, faults=(Fault(node="n0", phase=phase, kind="unreachable"),))
    outcome = world.run()
    assert (outcome.code, outcome.kind, outcome.nodes) == (ExitCode.PAUSED, "unreachable", ("n0",))
    assert not world.fleet.nodes["n2"].acts
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()
    assert world.fleet.nodes["n0"].boots == 1


def test_failures_within_the_budget_end_with_their_own_code(tmp_path: Path) -> None:
    fault = Fault(node="n1", phase="change", kind="task-failed", times=0)
    world = World(make_plan(canary=0, batches=(2, 2, 2), budget=1), tmp_path, faults=(fault,))
    outcome = world.run()
    assert (outcome.code, outcome.nodes) == (ExitCode.PARTIAL, ("n1",))
    assert sorted(n for n, s in world.states().items() if s is NodeState.DONE) == ["n0", "n2", "n3", "n4", "n5"]


def test_one_failure_over_the_budget_halts(tmp_path: Path) -> None:
    faults = tuple(Fault(node=n, phase="change", kind="task-failed", times=0) for n in ("n1", "n3"))
    world = World(make_plan(canary=0, batches=(2, 2, 2), limit=3, budget="20%"), tmp_path, faults=faults)
    outcome = world.run()
    assert (outcome.code, outcome.nodes) == (ExitCode.HALTED, ("n1", "n3"))
    assert not world.fleet.nodes["n4"].acts


def test_a_failed_canary_halts_whatever_the_budget(tmp_path: Path) -> None:
    world = World(make_plan(budget=4), tmp_path, faults=(Fault(node="n0", phase="gate", kind="gate-fail"),))
    assert world.run().code is ExitCode.HALTED


def test_two_nodes_lost_in_reboot_trip_the_breaker(tmp_path: Path) -> None:
    faults = tuple(Fault(node=n, phase="reboot", kind="lost") for n in ("n0", "n2"))
    world = World(make_plan(canary=0, batches=(1, 1, 1, 1), limit=3, budget=3), tmp_path, faults=faults)
    outcome = world.run()
    assert (outcome.code, outcome.kind, outcome.nodes) == (ExitCode.HALTED, "nodes-lost", ("n0", "n2"))
    assert not world.fleet.nodes["n3"].acts


def test_lost_nodes_take_room_from_later_batches(tmp_path: Path) -> None:
    world = World(make_plan(canary=0, batches=(2, 2), limit=2, budget=1), tmp_path,
                  faults=(Fault(node="n0", phase="reboot", kind="lost"),))
    assert world.run().code is ExitCode.PARTIAL
    batches = [e.data["nodes"] for e in world.entries() if e.kind == "call-started" and e.data["call"] == "change"]
    assert batches == [["n0", "n1"], ["n2"], ["n3"]]      # one at a time while a lost node takes the other place


def test_a_pool_without_room_pauses_with_the_reason(tmp_path: Path) -> None:
    world = World(make_plan(canary=0, limit=1, down=("n3",)), tmp_path)
    outcome = world.run()
    assert (outcome.code, outcome.kind) == (ExitCode.PAUSED, "max-unavailable")
    assert "n3" in outcome.reason
    assert not any(node.acts for node in world.fleet.nodes.values())


def test_an_nvlink_domain_goes_back_into_service_whole(tmp_path: Path) -> None:
    plan = make_plan(canary=0, batches=(3,), limit=3, domains={"n0": "rack1", "n1": "rack1"})
    world = World(plan, tmp_path, faults=(Fault(node="n0", phase="gate", kind="gate-fail"),))
    assert world.run().code is ExitCode.HALTED
    assert [world.fleet.nodes[n].drained for n in ("n0", "n1", "n2")] == [True, True, False]
    world.move("n0", Event.RETRY)
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()


def test_a_pause_gives_back_what_is_away_and_holds_until_resumed(tmp_path: Path) -> None:
    world = World(make_plan(canary=0, batches=(2, 2)), tmp_path)

    class PauseAtFirstChange:
        def event(self, kind: str, at: object, **data: object) -> None:
            if kind == "call-started" and data["call"] == "change" and not world.state().paused:
                world.say("pause-requested", data={"by": "anna"})

        def state(self, plan: object, state: object) -> None:
            """Nothing to do."""

    outcome = world.run(reporter=PauseAtFirstChange())
    assert (outcome.code, outcome.kind) == (ExitCode.PAUSED, "pause-requested")
    assert list(world.states().values()).count(NodeState.DONE) == 2
    assert not any(node.drained or node.lease for node in world.fleet.nodes.values())
    assert world.run().kind == "pause-requested"
    world.say("resumed")
    assert world.run().code is ExitCode.DONE


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_stops_and_can_be_resumed(tmp_path: Path, times: int) -> None:
    """Once: what is in flight is finished. Twice: the call is ended, its nodes are looked at again."""
    world, interrupts = World(make_plan(canary=0), tmp_path), Interrupts()

    class AtFirstChange:
        def event(self, kind: str, at: object, **data: object) -> None:
            if kind == "call-started" and data["call"] == "change":
                for _ in range(times):
                    interrupts.request()

        def state(self, plan: object, state: object) -> None:
            """Nothing to do."""

    outcome = world.run(interrupts=interrupts, reporter=AtFirstChange())
    assert outcome.code is ExitCode.INTERRUPTED
    done = [n for n, s in world.states().items() if s is NodeState.DONE]
    assert done == (["n0", "n1"] if times == 1 else [])
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()


def test_a_second_controller_is_refused_by_name(tmp_path: Path) -> None:
    world = World(make_plan(canary=0), tmp_path)
    other = Controller(owner="ben@desk", host="desk", pid=9, process_start="1")
    store = world.store
    store.take_lock({"owner": ME.owner, "host": ME.host, "pid": ME.pid, "process_start": "77", "since": "2026-01-01",
                     "heartbeat": "2026-01-01"}, lambda held: True)
    with pytest.raises(LockedError) as caught:
        world.run(controller=other)
    told = caught.value.diagnostics[0]
    assert "anna@laptop" in told.summary
    assert "planner unlock" in told.hint
    break_lock(store, world.clock, by=other, force=False)
    assert world.run(controller=other).code is ExitCode.DONE


def test_another_rollouts_lease_on_a_node_stops_as_locked(tmp_path: Path) -> None:
    world = World(make_plan(canary=0), tmp_path)
    world.fleet.nodes["n1"].lease = {"rollout": "other-1", "owner": "ben@desk", "token": 1}
    outcome = world.run()
    assert (outcome.code, outcome.nodes) == (ExitCode.LOCKED, ("n1",))
    assert "ben@desk" in outcome.reason
    assert not any(node.drained for node in world.fleet.nodes.values())
    world.fleet.nodes["n1"].lease = {}
    assert world.run().code is ExitCode.DONE


def test_a_skipped_node_is_left_out_and_the_rest_ends(tmp_path: Path) -> None:
    fault = Fault(node="n0", phase="preflight", kind="unreachable", times=0)
    world = World(make_plan(canary=0), tmp_path, faults=(fault,))
    assert world.run().code is ExitCode.PAUSED
    world.move("n0", Event.SKIP)
    outcome = world.run()
    assert (outcome.code, outcome.nodes) == (ExitCode.DONE, ("n0",))
    assert not world.fleet.nodes["n0"].acts


def test_a_rollout_with_windows_runs_to_its_end_and_starts_every_batch_inside_one(tmp_path: Path) -> None:
    """Batches of 30 minutes, windows of an hour and a half on two days of the week."""
    world = World(make_plan(windows=["Sun 13:00-14:30 UTC", "Wed 02:00-03:30 UTC"], approval=False), tmp_path)
    outcome = world.run()
    assert outcome.code == 0
    began = [datetime.fromisoformat(e.at) for e in world.entries()
             if e.kind == "call-started" and e.data["call"] == "change"]
    assert began
    for moment in began:
        assert next_start(["Sun 13:00-14:30 UTC", "Wed 02:00-03:30 UTC"], moment, 1) == moment
