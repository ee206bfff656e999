"""NCCL between upgraded nodes and those that wait: who is drained when, whom a verdict blames, and after a crash."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from planner.documents import digest, dump_model
from planner.errors import ExitCode
from planner.execute.calls import Setting, build_request
from planner.execute.decide import Act, mixed_after
from planner.execute.interrupts import Interrupts
from planner.execute.pair_call import PairListener, judge_reports, pair_entry, pair_variables
from planner.execute.pairing import blaming
from planner.execute.states import Event, NodeState
from planner.runner.port import HostEvent, HostOutcome, RunResult
from planner.runner.scripted import Fault, ScriptedRunner, SimulatedCrash
from planner.schedule.pairs import pair_sentences, paired_domains
from planner.schedule.plan import Plan
from tests.execute.world import World, make_plan

SIMULATED = "simulated, nothing proved"


def plan(*, domains: tuple[str, ...] = (), **options: Any) -> Plan:
    """Return a plan whose nodes are one domain, or those given in order."""
    made = make_plan(**{"canary": 1, "batches": (1, 1, 1), "limit": 3, "soak": 0, "approval": False,
                        "nccl_pairs": True, **options})
    nodes = {name: node.model_copy(update={"comm_domain": domains[place] if domains else "ib"})
             for place, (name, node) in enumerate(made.nodes.items())}
    made = made.model_copy(update={"nodes": nodes, "digest": ""})
    return made.model_copy(update={"digest": digest(dump_model(made))})


def bad(node: str, other: str = "", code: str = "NCCL_HANG", times: int = 0) -> Fault:
    return Fault(node=node, phase="pair", kind=code, value=other, times=times)


def tried(world: World) -> list[tuple[str, str, str]]:
    return [(*e.data["pair"], e.data["code"]) for e in world.entries() if e.kind == "pair"]


def judged(world: World) -> list[tuple[str, str]]:
    return [(e.wave, e.data["outcome"]) for e in world.entries() if e.kind == "pairs-judged"]


def in_service(world: World) -> bool:
    return not any(node.drained or node.lease for node in world.fleet.nodes.values())


def test_after_each_wave_a_new_node_sums_with_one_that_waits(tmp_path: Path) -> None:
    world = World(plan(), tmp_path)
    assert world.run().code is ExitCode.DONE
    assert tried(world) == [("n0", "n3", "OK"), ("n1", "n2", "OK"), ("n2", "n3", "OK")]
    assert judged(world) == [("w1", "good"), ("w2", "good"), ("w3", "good")]
    assert world.at_goal()
    assert world.most_away == 2
    kept = next(e for e in world.entries() if e.kind == "pair").data["reports"]
    for each in kept.values():
        text = (tmp_path / each["evidence"]).read_bytes()
        assert each["digest"] == digest(text)
        assert json.loads(text)["simulated"] == SIMULATED
    kinds = [(e.kind, e.wave) for e in world.entries() if e.kind in ("wave-finished", "pair", "pairs-judged")]
    assert kinds[:3] == [("wave-finished", "w1"), ("pair", "w1"), ("pairs-judged", "w1")]
    starts = [e.data for e in world.entries() if e.kind == "call-started" and e.data["call"] == "pair"]
    assert all(data["domain"] == "ib" for data in starts)


def test_without_the_policy_nobody_is_drained_for_it(tmp_path: Path) -> None:
    world = World(plan(nccl_pairs=None), tmp_path)
    assert world.run().code is ExitCode.DONE
    assert tried(world) == []
    assert not paired_domains(world.plan)
    assert list(pair_sentences(world.plan)) == []


def test_only_a_domain_that_the_wave_left_mixed_is_tried(tmp_path: Path) -> None:
    world = World(plan(domains=("a", "b", "a", "")), tmp_path)
    assert world.run().code is ExitCode.DONE
    assert tried(world) == [("n0", "n2", "OK")]
    assert set(paired_domains(world.plan)) == {"a"}


def test_the_partner_is_swapped_before_anybody_is_blamed(tmp_path: Path) -> None:
    """One old node whose network is bad: it is named, though the first attempt had two suspects."""
    world = World(plan(), tmp_path, faults=(bad("n3", "n0"), bad("n3", "n2")))
    outcome = world.run()
    assert tried(world) == [("n0", "n3", "NCCL_HANG"), ("n0", "n2", "OK")]
    assert (outcome.code, outcome.kind, outcome.nodes) == (ExitCode.HALTED, "pair-failed", ("n3",))
    assert "n0 works with n2, not with n3" in outcome.reason
    assert in_service(world)
    assert not world.fleet.nodes["n1"].acts


def test_a_bad_upgrade_halts_until_a_person_has_decided(tmp_path: Path) -> None:
    faults = tuple(bad("n0", other, times=0) for other in ("n2", "n3"))
    world = World(plan(), tmp_path, faults=faults)
    outcome = world.run()
    assert (outcome.code, outcome.kind, outcome.nodes) == (ExitCode.HALTED, "pair-failed", ("n0",))
    assert [pair[:2] for pair in tried(world)] == [("n0", "n3"), ("n0", "n2"), ("n3", "n2")]
    assert world.state().pairs.asking("w1")
    assert world.run().kind == "pair-failed", "it stays so, and nobody is drained for it again"
    assert len(tried(world)) == 3
    world.say("approved", wave="w1", data={"by": "anna", "because": "known switch"})
    world.faults = ()
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()


def test_stacks_that_do_not_mix_are_told_as_that(tmp_path: Path) -> None:
    faults = tuple(bad(new, old) for new in ("n0", "n1") for old in ("n3", "n4", "n5"))
    world = World(plan(canary=2, batches=(1, 1, 1, 1)), tmp_path, faults=faults)
    outcome = world.run()
    assert outcome.kind == "pair-failed"
    assert "NCCL_VERSION_MIX" in outcome.reason


@pytest.mark.parametrize("code", ["ENV_FOREIGN_PROCESS", "PART_MISSING", "GATE_NO_RESULT", "GATE_BUG", "MEMORY_SHORT"])
def test_what_was_not_tried_is_no_pass_and_is_tried_again(tmp_path: Path, code: str) -> None:
    world = World(plan(), tmp_path, faults=(bad("n0", "n3", code),))
    outcome = world.run()
    assert (outcome.code, outcome.kind, outcome.nodes) == (ExitCode.PAUSED, "pair-unclear", ())
    assert code in outcome.reason
    assert judged(world) == [("w1", "unclear")]
    assert in_service(world)
    assert not world.fleet.nodes["n1"].acts
    assert world.run().code is ExitCode.DONE
    assert tried(world)[1] == ("n0", "n2", "OK"), "with another partner"


def test_a_person_may_go_on_without_it_and_a_word_from_before_does_not_count(tmp_path: Path) -> None:
    world = World(plan(), tmp_path, faults=(bad("n0", code="PART_MISSING"),))

    class Early:
        def event(self, kind: str, at: object, **data: object) -> None:
            if kind == "call-started" and data["call"] == "pair":
                world.say("approved", wave="w1", data={"by": "anna"})

        def state(self, plan: object, state: object) -> None:
            """Nothing to do."""

    assert world.run(reporter=Early()).kind == "pair-unclear"
    world.say("approved", wave="w1", data={"by": "anna", "because": "no NCCL there"})
    assert world.run().code is ExitCode.DONE
    assert [pair[0] for pair in tried(world)] == ["n0", "n1", "n2"]


def test_a_crash_in_the_middle_does_the_same_pair_again_and_both_end_in_service(tmp_path: Path) -> None:
    world = World(plan(), tmp_path, faults=(Fault(node="n3", phase="pair", kind="crash"),))
    with pytest.raises(SimulatedCrash):
        world.run()
    assert [n for n, node in world.fleet.nodes.items() if node.drained] == ["n0", "n3"]
    assert world.state().pairs.open is not None
    world.say("approved", wave="w1", data={"by": "anna"})      # whatever people say: they are given back first
    world.say("pause-requested", data={"by": "anna"})
    assert world.run().kind == "pause-requested"
    assert tried(world) == [("n0", "n3", "OK")]
    assert in_service(world)
    assert world.state().pairs.open is None
    world.say("resumed", data={"by": "anna"})
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()


def test_a_crash_later_in_a_search_repeats_only_the_pair_at_hand(tmp_path: Path) -> None:
    class Dies(ScriptedRunner):
        def _pair(self, request: Any, hear: Any) -> RunResult:
            if request.limit == ("n0", "n2"):
                type(self)._pair = ScriptedRunner._pair     # type: ignore[method-assign]
                raise SimulatedCrash("n0 n2")
            return super()._pair(request, hear)

    world = World(plan(), tmp_path, faults=(bad("n3", "n0"),), runner=Dies)
    with pytest.raises(SimulatedCrash):
        world.run()
    assert world.run().kind == "pair-failed"
    assert tried(world) == [("n0", "n3", "NCCL_HANG"), ("n0", "n2", "OK")]


@pytest.mark.parametrize("kind", ["unreachable", "task-failed"])
def test_a_node_that_fails_meanwhile_blames_nobody(tmp_path: Path, kind: str) -> None:
    world = World(plan(), tmp_path, faults=(Fault(node="n3", phase="pair", kind=kind),))
    outcome = world.run()
    assert outcome.code is ExitCode.PAUSED
    if kind == "unreachable":       # it may be drained: the same pair is done again before anything else
        assert (outcome.kind, tried(world)) == ("pair-lost", [])
        assert world.fleet.nodes["n3"].drained
        assert not world.fleet.nodes["n0"].drained
    else:
        assert (outcome.kind, tried(world)) == ("pair-unclear", [("n0", "n3", "GATE_NO_RESULT")])
        assert in_service(world)
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()


def test_a_lost_node_can_be_left_to_people(tmp_path: Path) -> None:
    world = World(plan(), tmp_path, faults=(Fault(node="n3", phase="pair", kind="unreachable"),))
    assert world.run().kind == "pair-lost"
    world.say("approved", wave="w1", data={"by": "anna", "because": "undrained by hand"})
    world.fleet.nodes["n3"].drained, world.fleet.nodes["n3"].lease = False, {}
    assert world.run().code is ExitCode.DONE
    assert [pair[0] for pair in tried(world)] == ["n1", "n2"]
    assert judged(world) == [("w2", "good"), ("w3", "good")]


def test_a_second_ctrl_c_leaves_the_pair_to_be_given_back(tmp_path: Path) -> None:
    world, interrupts = World(plan(), tmp_path), Interrupts()

    class Cut(ScriptedRunner):
        def _pair(self, request: Any, hear: Any) -> RunResult:
            for host in request.limit:
                node = self.fleet.nodes[host]
                node.drained, node.lease = True, {"rollout": "prod-12345678", "owner": "anna@laptop", "token": 1}
                hear(HostEvent(host=host, task="Take the lease for the pair", kind="changed"))
            interrupts.request()
            interrupts.request()
            return RunResult(status="canceled", return_code=254, failures={}, hosts=dict.fromkeys(
                request.limit, HostOutcome.NOT_RUN))

    world.runner = Cut
    assert world.run(interrupts=interrupts).code is ExitCode.INTERRUPTED
    world.runner = ScriptedRunner
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()


def test_no_more_nodes_are_away_than_the_pool_can_spare(tmp_path: Path) -> None:
    world = World(plan(limit=1), tmp_path)
    assert "may lose no two nodes at once" in " ".join(pair_sentences(world.plan))
    outcome = world.run()
    assert (outcome.code, outcome.kind) == (ExitCode.PAUSED, "pair-unclear")
    assert "pool train may lose 1 at once; n0, n3 would make it 2" in outcome.reason
    assert world.most_away == 1
    assert tried(world) == []


def test_a_pair_waits_for_a_maintenance_window(tmp_path: Path) -> None:
    windows = ["Sun 13:00-14:00 UTC", "Wed 02:00-03:00 UTC"]
    world = World(plan(windows=windows), tmp_path)
    assert world.run().code is ExitCode.DONE
    begun = [e.at for e in world.entries() if e.kind == "call-started" and e.data["call"] == "pair"]
    assert len(begun) == 3
    assert all(at[11:13] in ("13", "02") for at in begun), begun


def test_nodes_that_people_left_out_or_that_failed_are_no_partners(tmp_path: Path) -> None:
    world = World(plan(), tmp_path)
    world.move("n3", Event.SKIP)
    assert world.run().code is ExitCode.DONE
    assert tried(world) == [("n0", "n2", "OK"), ("n1", "n2", "OK")]
    assert world.states()["n3"] is NodeState.SKIPPED
    assert mixed_after(world.plan, world.state(), world.plan.waves[0]) == {}


# --- the call

def test_the_call_is_one_for_both_in_the_order_of_their_ranks(tmp_path: Path) -> None:
    setting = Setting(plan=plan(), bundle=tmp_path, inventory="inv", state_dir=tmp_path, rollout="r", owner="anna")
    act = Act(call="pair", wave="w1", batch="", nodes=("n2", "n0"), domain="ib")
    request = build_request(setting, act, token=4, nonce="ab", run_id="r.4.9", acknowledge=(),
                            pair=pair_variables(setting, act))
    assert (request.playbook, request.limit, request.groups, request.tags) == ("plays/pairs.yml", ("n2", "n0"), (), ())
    assert request.extra_vars["planner_pair"] == "n2,n0"
    assert request.extra_vars["planner_nccl_bytes"] == [8, 64 << 20, 4 << 30]


@pytest.mark.parametrize(("text", "code"), [
    ("", "GATE_BUG"), ("[" * 100_000, "GATE_BUG"), ("{}", "GATE_BUG"), ("\ud800", "GATE_BUG"),
    (json.dumps({"schema": "planner.nccl/1", "nonce": "old"}), "REPORT_FOREIGN"),
    (json.dumps({"schema": "planner.nccl/1", "nonce": "ab", "label": "nccl", "status": "busy"}), "ENV_FOREIGN_PROCESS"),
])
def test_what_nodes_print_ends_no_controller(tmp_path: Path, text: str, code: str) -> None:
    act, listener = Act(call="pair", wave="w1", batch="", nodes=("n2", "n0"), domain="ib"), PairListener()
    for host in act.nodes:
        for task, result in (("Take the lease for the pair", {}), ("Say what this rank reported", {
                "ansible_facts": {"planner_gate_nccl_report": text}}), ("Give the lease of the pair back", {})):
            listener.hear(HostEvent(host=host, task=task, kind="ok", result=result))
    result = RunResult(status="successful", return_code=0, failures={}, hosts=dict.fromkeys(act.nodes, HostOutcome.OK))
    asked = {"nonce": "ab", "label": "nccl", "ranks": 2, "bytes": [8]}
    entry = pair_entry(act, 7, tmp_path, listener, result, lambda texts: judge_reports(texts, asked))
    assert (entry["kind"], entry["data"]["code"]) == ("pair", code)
    assert entry["data"]["verdict"] not in ("pass", "warn")


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_pairs_the_rollout_can_be_brought_to_its_end(tmp_path: Path, seed: int) -> None:
    """Crashes, lost links, failures and busy nodes by chance; a person resumes, and approves what is asked."""
    chance = random.Random(seed)
    kinds = ("crash", "unreachable", "task-failed", "NCCL_HANG", "ENV_FOREIGN_PROCESS", "RESULT_WRONG", "GATE_HUNG_D")
    faults = tuple(Fault(node=f"n{chance.randrange(5)}", phase="pair", kind=chance.choice(kinds),
                         value=chance.choice(("", "n1", "n4")), times=chance.choice((1, 1, 2))) for _ in range(6))
    world = World(plan(batches=(1, 2, 1)), tmp_path, faults=faults)
    for _ in range(40):
        try:
            outcome = world.run()
        except SimulatedCrash:
            continue
        if outcome.code is ExitCode.DONE:
            break
        assert outcome.kind in ("pair-failed", "pair-unclear", "pair-lost"), outcome
        drained = [name for name, node in world.fleet.nodes.items() if node.drained]
        assert outcome.kind == "pair-lost" or not drained, "only a node that cannot be reached may be left drained"
        if outcome.kind == "pair-failed":
            assert set(outcome.nodes) <= {name for pair in tried(world) for name in pair[:2]}
            world.say("approved", wave=next(w for w in ("w4", "w3", "w2", "w1") if world.state().pairs.asking(w)
                                            and w not in world.state().approved), data={"by": "anna"})
    assert world.at_goal()


def test_what_was_mended_is_tried_again_with_the_same_pair(tmp_path: Path) -> None:
    """The partner that was blamed is the one that has to show that it works, though others were tried less."""
    world = World(plan(batches=(1, 1, 1, 1)), tmp_path, faults=(bad("n4", "n0"),))
    assert (world.run().kind, tried(world)[-1]) == ("pair-failed", ("n0", "n3", "OK"))
    before = len(tried(world))
    world.say("pair-retry", wave="w1", data={"domain": "ib", "by": "anna"})
    assert world.run().kind == "pair-failed", "not mended"
    assert tried(world)[before:] == [("n0", "n4", "NCCL_HANG"), ("n0", "n3", "OK")]
    world.faults = ()
    world.say("pair-retry", wave="w1", data={"domain": "ib", "by": "anna"})
    assert world.run().code is ExitCode.DONE
    assert tried(world)[before + 2] == ("n0", "n4", "OK")
    assert judged(world)[:3] == [("w1", "bad"), ("w1", "bad"), ("w1", "good")]
    assert world.at_goal()


def test_retry_of_a_blamed_node_means_its_pair(tmp_path: Path) -> None:
    world = World(plan(), tmp_path, faults=(bad("n3", "n0"), bad("n3", "n2")))
    assert world.run().nodes == ("n3",)
    pairs = world.state().pairs
    found = blaming(pairs, (), "n3")
    assert found is not None
    assert (found[0].domain, found[1]) == ("ib", "w1")
    assert blaming(pairs, (), "n0") is None
    assert blaming(pairs, ("w1",), "n3") is None, "somebody has let it pass"
