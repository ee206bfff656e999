"""What the documents say about the amount of knowledge is what the program counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from planner.cli.matrix import matrix
from planner.errors import InputError
from planner.matrix.index import MatrixSet

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "knowledge.md"


def run(*words: str) -> str:
    result = CliRunner().invoke(matrix, ["count", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_table_in_the_docs_is_what_is_counted() -> None:
    """Out of date: planner matrix count --into docs/knowledge.md."""
    table = run("-o", "markdown")
    inside = DOCUMENT.read_text().split("<!-- planner matrix count -->\n")[1].split("<!-- end of")[0]
    assert inside == table


def test_every_rule_is_counted_once(shipped: MatrixSet) -> None:
    counted = json.loads(run("-o", "json"))
    total = counted["total"]
    assert total["claims"] == len(shipped.claims) + len(shipped.lockstep) + len(shipped.across)
    assert total["documented"] + total["measured"] + total["derived"] + total["recalled"] == total["claims"]
    assert total["error"] + total["warning"] + total["info"] == total["claims"]
    assert (total["messages"], total["gpu_models"]) == (len(shipped.signatures), len(shipped.gpu_models))
    for column in (c for c in total if c != "topic"):
        assert sum(row[column] for row in counted["topics"]) == total[column]


def test_a_document_without_marks_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "notes.md"
    document.write_text("no marks\n")
    with pytest.raises(InputError):
        run("--into", str(document))
    assert document.read_text() == "no marks\n"


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    document = tmp_path / "knowledge.md"
    document.write_text(DOCUMENT.read_text())
    run("--into", str(document))
    once = document.read_text()
    run("--into", str(document))
    assert document.read_text() == once
    assert once.startswith("# What the matrices know")
    assert "knowledge-gaps.md" in once
