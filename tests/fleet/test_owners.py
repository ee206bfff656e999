"""Nodes whose driver somebody else owns, and nodes that no step may touch: judged, planned around, explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.cli.inputs import load_rules
from planner.cli.main import invoke
from planner.documents import dump_model, validate
from planner.errors import FactsError
from planner.facts.assemble import assemble_facts
from planner.facts.schema import FactDocument
from planner.fleet.fleet import build_fleet

RECORDED = Path(__file__).parents[1] / "facts" / "recorded" / "h200-container.json"


def document(machine_id: str = "0" * 31 + "1") -> FactDocument:
    """Return facts as a real H200 gave them (a container whose driver belongs to its image)."""
    facts, identity = assemble_facts(json.loads(RECORDED.read_text())["document"])
    raw: dict[str, Any] = {
        "schema": "planner.facts/1", "fact_sets": {"f": dump_model(facts)},
        "nodes": [{"name": "h200", "facts": "f", "identity": {**dump_model(identity), "machine_id": machine_id}}]}
    return validate(FactDocument, raw, name="facts", error=FactsError)


def plan(tmp_path: Path, want: dict[str, Any], machine_id: str = "0" * 31 + "1") -> int:
    (tmp_path / "facts.json").write_text(json.dumps(dump_model(document(machine_id))))
    (tmp_path / "target.yml").write_text(json.dumps({"schema": "planner.target/1", "name": "t", "want": want}))
    return invoke(["plan", "--facts", str(tmp_path / "facts.json"), "--target", str(tmp_path / "target.yml")])


def test_a_node_whose_driver_an_image_owns_is_planned_for() -> None:
    fleet = build_fleet(document(), load_rules(()))
    assert [n.name for n in fleet.nodes] == ["h200"]
    assert fleet.nodes[0].state["driver_owner"] == ("image",)


def test_its_driver_may_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(tmp_path, {"driver": "580.159.04"}) == 0
    assert "1 already there" in capsys.readouterr().out


def test_its_driver_may_not_move(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(tmp_path, {"driver": ">=590"}) == 4
    assert "driver is owned by image, which planner does not change in place" in capsys.readouterr().err


def test_a_node_without_identity_is_judged_and_named_but_not_planned(tmp_path: Path,
                                                                     capsys: pytest.CaptureFixture[str]) -> None:
    fleet = build_fleet(document(""), load_rules(()))
    assert fleet.nodes == ()
    assert [n.name for n in fleet.watched] == ["h200"]
    assert plan(tmp_path, {"driver": "580.159.04"}, "") == 1
    assert "h200: no-identity, its machine-id could not be read" in capsys.readouterr().err
    assert invoke(["check", "--facts", str(tmp_path / "facts.json"), "-o", "json"]) in (0, 3)
    assert json.loads(capsys.readouterr().out)["supported"] > 0
