"""Refusals as people read them: one message for every set of reasons."""

from __future__ import annotations

from planner.facts.schema import FactSet
from planner.fleet.fleet import Node
from planner.schedule.cohorts import Group, refusal_diagnostics
from planner.search.explain import Refusal

REFUSAL = Refusal(code="conflict", goals=("lib 2",), why=("because",), sources=("m.yml:x",), nearest=())


def group(pool: str, *names: str, gpu: str = "8x gpu") -> Group:
    return Group(tuple(Node(name=n, facts=FactSet(), facts_digest="", machine_id=n, state={}, gpu=gpu,
                            hardware_class="", pool=pool) for n in names), {})


def test_equal_refusals_are_one_message_that_names_all_nodes_and_pools() -> None:
    (found,) = refusal_diagnostics([(REFUSAL, group("b", "n3")), (REFUSAL, group("a", "n1", "n2"))])
    assert found.subject == "pools a, b, 8x gpu, 3 nodes (n1, n2, n3)"
    assert found.hint.endswith("leave them out with: pools: {a: {skip: true}, b: {skip: true}}")


def test_refusals_that_differ_in_anything_keep_their_own_message() -> None:
    other = Refusal(code="conflict", goals=("lib 2",), why=("because",), sources=("m.yml:x",), nearest=("keep lib 1",))
    found = refusal_diagnostics([(REFUSAL, group("a", "n1")), (other, group("a", "n2", gpu="4x gpu"))])
    assert [d.subject for d in found] == ["pool a, 8x gpu, 1 node (n1)", "pool a, 4x gpu, 1 node (n2)"]
    assert found[1].hint == "nearest feasible target for pool a: keep lib 1"
