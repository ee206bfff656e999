"""Versions side by side: what differs, what a difference means, and the command around it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.check.differ import differ
from planner.cli.main import invoke
from tests.check.small import load

OIL = {"fuel": ("oil",)}


def test_meanings(tmp_path: Path) -> None:
    machines = [("a", {"engine": ("2.1.1",), "gearbox": ("3",), **OIL}), ("b", {"engine": ("2.2.0",), **OIL})]
    rows = {r.component: r for r in differ(machines, load(tmp_path), ("job",))}
    assert {name: row.meaning for name, row in rows.items()} == {"engine": "breaks", "gearbox": "same", "fuel": "same"}
    assert rows["engine"].because == ("Engines of one wing must be of one minor version; change both at once",)
    assert rows["gearbox"].values == (("3",), None)
    assert "The engine book" in rows["engine"].sources[0]


def test_a_difference_that_a_rule_allows_is_harmless_and_others_are_not_judged(tmp_path: Path) -> None:
    machines = [("a", {"engine": ("2.1.1",), "gearbox": ("3",), **OIL}),
                ("b", {"engine": ("2.1.9",), "gearbox": ("4",), **OIL})]
    rows = {r.component: r.meaning for r in differ(machines, load(tmp_path), ("job",))}
    assert (rows["engine"], rows["gearbox"]) == ("harmless", "unknown")
    assert {r.component: r.meaning for r in differ(machines, load(tmp_path), ("fleet",))}["engine"] == "unknown"


def test_described_machines_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.yml").write_text("""
gpus: ['A100-SXM4-80GB x8']
nodes: [{name: a, driver: 550.163.01, libraries: {nccl: 2.21.5}},
        {name: b, driver: 580.159.04, libraries: {nccl: 2.27.7}}]
""")
    assert invoke(["diff", str(tmp_path / "two.yml"), "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["machines"] == ["a", "b"]
    rows = {r["component"]: r for r in document["rows"]}
    assert (rows["driver"]["meaning"], rows["nccl"]["meaning"]) == ("risky", "breaks")
    assert rows["nccl"]["values"] == [["2.21.5"], ["2.27.7"]]
    assert rows["nccl"]["sources"]


def test_one_machine_is_not_enough_and_unknown_nodes_are_named(tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.yml").write_text("driver: 580.159.04\n")
    assert invoke(["diff", str(tmp_path / "one.yml")]) == 2
    facts = Path(__file__).parents[2] / "examples" / "01-two-generations" / "facts.json"
    assert invoke(["diff", "--facts", str(facts), "a100-01", "nobody"]) == 1
    assert "names no readable node 'nobody'" in capsys.readouterr().err
