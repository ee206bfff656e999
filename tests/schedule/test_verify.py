"""Planted faults: a sound plan is broken in one place, and the verifier names that place."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from planner.cli.plan import build_plan
from planner.documents import dump_model
from planner.errors import ExitCode, ScheduleError
from planner.facts.schema import FactDocument
from planner.model.target import RolloutPolicy, Target
from planner.schedule import assemble, verify
from planner.schedule.plan import Plan
from planner.schedule.verify import verify_schedule
from planner.validate import replay
from tests.schedule.fleets import plain, world

Document = dict[str, Any]
TABLE = {
    **{f"s{i}": {"environment": "staging", "failure_domain": f"r{i}"} for i in range(2)},
    **{f"n{i:02d}": {"failure_domain": f"r{i % 4}"} for i in range(20)},
    **{f"g{i}": {"cohort": "g", "pool": "q", "nvlink_domain": f"d{i // 2}"} for i in range(8)},
    "z": {"cohort": "done", "failure_domain": "r0"},
}
COHORTS = {"c": {"hardware": "h1", "minutes": (10, 5)}, "g": {"hardware": "h2"}, "done": {"minutes": ()}}


def sound() -> Plan:
    """Waves: s0 s1 | g0 g1 n00 | 2 of each | 4 of p and 2 of q | the rest."""
    return world(TABLE, COHORTS, max_unavailable="30%", max_unavailable_per_domain=2, soak_minutes=30).plan()


def wave(plan: Document, kind: str) -> Document:
    found: Document = next(w for w in plan["waves"] if w["kind"] == kind)
    return found


def move(plan: Document, node: str, kind: str, place: int = 0, batch: int = 0) -> None:
    drop(plan, node)
    target = [w for w in plan["waves"] if w["kind"] == kind][place]["batches"][batch]
    target["nodes"] = sorted([*target["nodes"], node])


def drop(plan: Document, node: str) -> None:
    for w in plan["waves"]:
        for b in w["batches"]:
            b["nodes"] = [n for n in b["nodes"] if n != node]


def last_of(plan: Document, pool: str) -> str:
    found: str = [n for n in plan["waves"][-1]["batches"][-1]["nodes"] if plan["nodes"][n]["pool"] == pool][-1]
    return found


def test_the_plan_without_a_fault_is_sound() -> None:
    plan = sound()
    assert verify_schedule(plan) == ()
    assert [w.kind for w in plan.waves][:3] == ["staging", "canary", "batch"]


def merge_all(plan: Document) -> None:
    """Put all nodes after the canaries into one batch."""
    waves = [w for w in plan["waves"] if w["kind"] == "batch"]
    names = sorted(n for w in waves for b in w["batches"] for n in b["nodes"])
    plan["waves"] = [w for w in plan["waves"] if w["kind"] != "batch"] + [waves[0]]
    waves[0].update(batches=[{**waves[0]["batches"][0], "nodes": names}], soak_minutes=0)
    plan["eta_minutes"] = sum(b["minutes"] for w in plan["waves"] for b in w["batches"]) + \
        sum(w["soak_minutes"] for w in plan["waves"])


def swap_kinds(plan: Document) -> None:
    plan["waves"][0], plan["waves"][1] = plan["waves"][1], plan["waves"][0]


def name_twice(plan: Document) -> None:
    plan["waves"][-1]["batches"][-1]["nodes"] = sorted([*plan["waves"][-1]["batches"][-1]["nodes"], "n00"])


def touch_done(plan: Document) -> None:
    plan["waves"][-1]["batches"][-1]["nodes"].append("z")


def stay_behind(plan: Document) -> None:
    """Move the canary of class h1 to the end."""
    move(plan, "n00", "batch", -1, -1)


FAULTS: list[tuple[str, Callable[[Document], object], str]] = [
    ("a node is missing", lambda p: drop(p, "n19"), "n19"),
    ("a node is there twice", name_twice, "more than one batch: n00"),
    ("a node without steps is touched", touch_done, "no steps: z"),
    ("a cohort disowns a node", lambda p: p["nodes"]["n05"].update(cohort="g"), "lists n05"),
    ("a node is in no cohort", lambda p: p["nodes"].update(y={**p["nodes"]["z"], "machine_id": "y"}), "no cohort: y"),
    ("a domain is split", lambda p: move(p, "g1", "batch"), "NVLink domain d0 is split"),
    ("a staging node moves later", lambda p: move(p, "s1", "batch"), "not in the staging wave: s1"),
    ("a production node moves in staging", lambda p: move(p, last_of(p, "p"), "staging"), "are no staging nodes"),
    ("a class has no canary", stay_behind, "hardware class 'h1' has 0 of 1 canaries"),
    ("a batch is above every limit", merge_all, "only 6 may be unavailable"),
    ("a failure domain loses too much", merge_all, "of failure domain r0, 0 are down, and only 2"),
    ("a batch grows too fast", merge_all, "growth allows 2"),
    ("kinds are out of order", swap_kinds, "not in the order"),
    ("a wave has a wrong id", lambda p: wave(p, "canary").update(id="w9"), "should be w2"),
    ("a play has a wrong path", lambda p: wave(p, "canary").update(play="plays/x.yml"), "plays/w2-canary.yml"),
    ("a batch has a wrong id", lambda p: wave(p, "canary")["batches"][0].update(id="w2b7"), "should be w2b1"),
    ("a batch is not sorted", lambda p: wave(p, "canary")["batches"][0]["nodes"].reverse(), "not sorted"),
    ("a batch is empty", lambda p: wave(p, "canary")["batches"].append({"id": "w2b2", "nodes": [], "minutes": 1}),
     "w2b2 is empty"),
    ("a wave is empty", lambda p: p["waves"].append({**p["waves"][-1], "batches": []}), "has no batch"),
    ("canaries do not soak", lambda p: wave(p, "canary").update(soak_minutes=0), "soaks for 0 minutes instead of 30"),
    ("the last wave soaks", lambda p: p["waves"][-1].update(soak_minutes=30), "soaks for 30 minutes instead of 0"),
    ("nobody approves", lambda p: wave(p, "canary").update(approval=False), "does not ask for approval"),
    ("staging asks for approval", lambda p: wave(p, "staging").update(approval=True), "w1 asks for approval"),
    ("a batch is too short", lambda p: wave(p, "canary")["batches"][0].update(minutes=10), "its nodes take 15"),
    ("the sum is wrong", lambda p: p.update(eta_minutes=1), "said to take 1 minutes"),
    ("a limit is raised", lambda p: p["pools"]["p"].update(max_unavailable=9), "may lose 6; the plan says 23 and 9"),
    ("a domain's limit is raised", lambda p: p["pools"]["p"].update(max_unavailable_per_domain=3), "more than the 2"),
    ("a domain's limit is lost", lambda p: p["pools"]["p"].pop("max_unavailable_per_domain"), "the policy says 2"),
    ("a node that is down is not of its pool", lambda p: p["pools"]["p"].update(already_down=["x0", "x1"]),
     "pool p has 25 nodes"),
    ("a pool is not counted", lambda p: p["pools"].pop("q"), "nodes are in pools p, q"),
    ("nodes that are down are forgotten", lambda p: p["pools"]["p"].update(already_down=["x0"]),
     "takes 6 nodes of pool p, 1 are down, and only 6"),
    ("a rack's node that is down is forgotten", lambda p: p["pools"]["p"].update(already_down=["z"]),
     "takes 2 nodes of failure domain r0, 1 are down, and only 2"),
    ("the racks' limit is tightened", lambda p: p["rollout"].update(max_unavailable_per_domain=1),
     "takes 2 nodes of failure domain r1, 0 are down, and only 1"),
    ("batch_max is tightened", lambda p: p["rollout"].update(batch_max=3), "batch_max of pool p is 3"),
    ("a named canary moves later", lambda p: p["rollout"].update(canary=["n00", "g0", "n07"]), "canary wave: n07"),
    ("more canaries are wanted", lambda p: p["rollout"].update(canary=3), "hardware class 'h1' has 1 of 3 canaries"),
    ("batches must soak", lambda p: p["rollout"].update(batch_soak_minutes=5), "soaks for 0 minutes instead of 5"),
]


@pytest.mark.parametrize(("fault", "said"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_a_planted_fault_is_named(fault: Callable[[Document], object], said: str) -> None:
    document = dump_model(sound())
    fault(document)
    complaints = verify_schedule(Plan.model_validate(document))
    assert any(said in c for c in complaints), complaints


def test_a_cohort_or_pool_without_canary_is_named() -> None:
    """Two cohorts and two pools of one class: the class is covered, they are not."""
    table = {**plain(4), **{f"m{i}": {"cohort": "d", "pool": "q"} for i in range(4)}}
    document = dump_model(world(table, {"c": {"hardware": "h"}, "d": {"hardware": "h"}}, max_unavailable="100%").plan())
    move(document, "m0", "batch")
    complaints = verify_schedule(Plan.model_validate(document))
    assert "cohort d has no canary" in complaints
    assert "pool q has no canary" in complaints


def test_several_batches_that_soak_need_a_wave_each() -> None:
    document = dump_model(world(plain(9), max_unavailable=2, batch_soak_minutes=5).plan())
    one, two = document["waves"][-2:]
    one["batches"] += two["batches"]
    document["waves"].pop()
    assert any("each batch has to soak" in c for c in verify_schedule(Plan.model_validate(document)))


def test_own_policies_of_pools_are_judged_by_their_own_numbers() -> None:
    own = {"p": {"max_unavailable": "100%", "growth": 9}}
    made = world(plain(10), own=own, max_unavailable=1)
    plan = made.plan()
    assert verify_schedule(plan, made.own) == ()
    assert any("growth allows 2" in c for c in verify_schedule(plan))
    assert any("may lose 1" in c for c in verify_schedule(plan))
    stricter = {"p": RolloutPolicy(max_unavailable="100%", growth=3)}
    assert any("growth allows 3" in c for c in verify_schedule(plan, stricter))


def test_the_verifier_reads_documents_only() -> None:
    """It would repeat the builder's mistakes if it used the builder's code."""
    tree = ast.parse(inspect.getsource(verify))
    used = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    assert {m for m in used if m.startswith("planner")} == {
        "planner.model.target", "planner.model.window", "planner.schedule.plan"}


def test_a_plan_with_a_broken_schedule_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line stops on what the verifier says, with the exit code of a missing schedule."""
    document = dump_model(sound())
    move(document, "g1", "batch")
    monkeypatch.setattr(assemble, "make_plan", lambda *_, **__: Plan.model_validate(document))
    monkeypatch.setattr(replay, "validate_plan", lambda *_: ())
    facts = FactDocument.model_construct(nodes=(object(),))
    with pytest.raises(ScheduleError) as caught:
        build_plan(facts, Target.model_validate({"schema": "planner.target/1", "name": "t"}), (), inventory="")
    assert caught.value.exit_code == ExitCode.NO_PATH
    assert any("NVLink domain d0 is split" in why for why in caught.value.diagnostics[0].why)
