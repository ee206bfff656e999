"""Facts that are broken, altered, or describe a fleet on which nobody may act."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hostile_desk import PLAN, Desk

HOSTILE_NAMES = ("{{ 7*7 }}", "a:&b", "$(touch pwned)", "a b", "../up", "-oProxyCommand=touch pwned", "all:!x", "x\ny")


def test_broken_json_names_the_line(desk: Desk) -> None:
    """A cut file is refused with the line where it ends."""
    desk.write("facts.json", '{"schema": "planner.facts/1",\n "nodes": [\n')
    desk.refuses(*PLAN, code=1, says=("bad-json", "facts.json:3", "planner discover"))


@pytest.mark.parametrize(
    "text", ["[]", "null", "42", '{"schema": "planner.facts/7"}', '{"schema": "planner.target/1"}']
)
def test_another_document_is_no_facts(desk: Desk, text: str) -> None:
    """Valid JSON of another kind is refused by its schema."""
    desk.write("facts.json", text)
    desk.refuses(*PLAN, code=1, says=("facts.json",))


def test_deeply_nested_json_is_refused(desk: Desk) -> None:
    """Depth cannot exhaust the stack."""
    desk.write("facts.json", "[" * 200_000)
    desk.refuses(*PLAN, code=1, says=("facts.json",))


def test_facts_without_nodes_are_refused(desk: Desk) -> None:
    """Nothing to plan for is an error with the next command."""
    desk.edit("facts.json", lambda d: d.update(nodes=[]))
    desk.refuses(*PLAN, code=1, says=("hint:", "planner "))


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_node_names_in_facts_are_refused(desk: Desk, name: str) -> None:
    """Names become Ansible patterns and file names, so what is not a plain name never gets that far."""
    desk.edit("facts.json", lambda d: d["nodes"][0].update(name=name))
    desk.refuses(*PLAN, code=1, says=("name",))
    assert not (desk.path / "pwned").exists()


def test_a_number_too_long_for_python_is_a_version_like_any_other(desk: Desk) -> None:
    """One broken node must not stop the plan of a fleet with a traceback."""
    def swell(document: dict[str, Any]) -> None:
        document["fact_sets"][document["nodes"][0]["facts"]]["driver"]["loaded"] = "9" * 6000

    desk.edit("facts.json", swell)
    assert desk.planner(*PLAN).code in (0, 4)


def _same_machine(document: dict[str, Any]) -> None:
    first, second = document["nodes"][:2]
    second["identity"]["machine_id"] = first["identity"]["machine_id"]


def test_two_names_for_one_machine_are_never_planned(desk: Desk) -> None:
    """Both names are left out with the reason; a plan that acts on either would act twice on one machine."""
    names: list[str] = []
    desk.edit("facts.json", lambda d: (_same_machine(d), names.extend(n["name"] for n in d["nodes"][:2])))
    answer = desk.planner(*PLAN, "-o", "json")
    assert answer.code in (0, 1)
    if answer.code == 1:
        assert all(name in answer.err for name in names)
        assert not (desk.path / "bundle").exists()
        return
    made = json.loads(answer.out)
    assert not set(names) & set(made["nodes"])
    assert {e["node"]: e["reason"] for e in made["excluded"]}.items() >= dict.fromkeys(names, "same-machine").items()


def test_an_unknown_node_is_named(desk: Desk) -> None:
    """`planner check --node` of a node that the facts lack."""
    desk.refuses("check", "--facts", "facts.json", "--node", "gpu-nowhere", code=1, says=("gpu-nowhere", "hint:"))
