"""Replanning: what did not change keeps its cohort and its batch, to the byte."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from planner.cli.inputs import load_facts, load_rules, load_target
from planner.cli.plan import build_plan
from planner.documents import canonical_json, digest, dump_model
from planner.facts.schema import FactDocument
from planner.schedule.assemble import make_plan
from planner.schedule.plan import Plan
from planner.schedule.verify import verify_schedule

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "01-two-generations"
TARGET = load_target(EXAMPLE / "target.yml")


def changed(document: FactDocument, *names: str) -> FactDocument:
    """Return the fleet with other firmware on some nodes' GPUs: another class of hardware."""
    sets, nodes = dict(document.fact_sets), []
    for node in document.nodes:
        if node.name in names:
            facts = sets[node.facts]
            other = facts.model_copy(update={"gpus": tuple(
                g.model_copy(update={"vbios": f"{g.vbios}-new"}) for g in facts.gpus)})
            name = digest(dump_model(other))
            sets[name], node = other, node.model_copy(update={"facts": name})
        nodes.append(node)
    return document.model_copy(update={"fact_sets": sets, "nodes": tuple(nodes)})


def plan(document: FactDocument, like: Plan | None = None) -> Plan:
    return make_plan(document, TARGET, load_rules(()), planner_version="test", like=like)


def places(made: Plan) -> dict[str, str]:
    return {n: b.id for w in made.waves for b in w.batches for n in b.nodes}


FACTS = load_facts(EXAMPLE / "facts.json")
OLD = build_plan(FACTS, TARGET, (), inventory="")
MOVING = sorted(places(OLD))


@pytest.mark.parametrize("name", [n for n in MOVING if not n.endswith(("1", "2"))])
def test_one_changed_node_leaves_everything_else_as_it_was(name: str) -> None:
    """Its new class needs a canary, so it becomes one; its place is filled from a later batch, and that one's likewise
    where failure domains allow no shorter way."""
    new = plan(changed(FACTS, name), OLD)
    assert not verify_schedule(new, TARGET.own_rollouts())
    old_cohorts = {c.id: canonical_json(dump_model(c.model_copy(update={"nodes": ()}))) for c in OLD.cohorts}
    new_cohorts = {c.id: canonical_json(dump_model(c.model_copy(update={"nodes": ()}))) for c in new.cohorts}
    assert {i: t for i, t in new_cohorts.items() if i in old_cohorts} == {
        i: t for i, t in old_cohorts.items() if i in new_cohorts}
    assert len(set(new_cohorts) - set(old_cohorts)) == 1
    moved = {n for n in MOVING if n != name and places(new)[n] != places(OLD)[n]}
    gave = Counter(places(OLD)[n] for n in moved)
    assert all(count == 1 for count in gave.values()), moved      # each later batch gives one at most
    assert len(moved) < len(places(OLD)) / 6
    assert not any("could not be kept" in w for w in new.warnings)


def test_nothing_changed_gives_the_same_waves() -> None:
    new = plan(FACTS, OLD)
    assert canonical_json([dump_model(w) for w in new.waves]) == canonical_json([dump_model(w) for w in OLD.waves])
    assert new.inputs["like"] == OLD.digest


def test_a_cohort_that_loses_a_node_keeps_its_name() -> None:
    """Without an earlier plan, too: the name is that of the stack, not of its nodes."""
    new = plan(changed(FACTS, MOVING[-1]))
    assert {c.id for c in OLD.cohorts} <= {c.id for c in new.cohorts}


def test_a_node_that_is_gone_leaves_its_place_to_another() -> None:
    gone = MOVING[-1]
    left = FACTS.model_copy(update={"nodes": tuple(n for n in FACTS.nodes if n.name != gone)})
    new = plan(left, OLD)
    assert not verify_schedule(new, TARGET.own_rollouts())
    assert len({n for n in places(new) if places(new)[n] != places(OLD)[n]}) <= 1
