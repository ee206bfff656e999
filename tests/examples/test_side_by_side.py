"""``docs/side-by-side.md``: four ways in each trap, a source for what others do, proof for what planner does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from examples import golden

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "side-by-side.md").read_text(encoding="utf-8")
TRAPS = dict(re.findall(r"^## (\d+\. .*?)\n(.*?)(?=^## )", TEXT, re.MULTILINE | re.DOTALL))
TESTS = sorted(set(re.findall(r"`(tests/\S+?\.py)::(\w+)`", TEXT)))


def ways(body: str) -> dict[str, str]:
    """Return who does what in one trap: name -> text."""
    return {m.group(1): " ".join(m.group(2).split()) for m in
            re.finditer(r"^- ([A-Za-z ]+): (.*?)(?=^- |\Z)", body, re.MULTILINE | re.DOTALL)}


def test_there_are_nine_traps() -> None:
    """Those that the fleet runs into."""
    assert len(TRAPS) == 9


@pytest.mark.parametrize("title", TRAPS)
def test_each_trap_has_four_ways_sources_and_proof(title: str) -> None:
    """What others do stands on a public document or source; what planner does on a command or a test."""
    found = ways(TRAPS[title])
    assert list(found) == ["Playbook", "GPU Operator", "Runbook", "planner"]
    assert "](https://" in TRAPS[title].partition("- planner:")[0]
    assert re.search(r"`planner \w|`tests/", found["planner"])


@pytest.mark.parametrize(("path", "name"), TESTS)
def test_named_tests_exist(path: str, name: str) -> None:
    """A test that was renamed or removed proves nothing."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_commands_on_examples_are_those_of_the_stories() -> None:
    """What can be typed here was run there, and its output is kept."""
    told = {line.split("`")[0].strip() for line in re.findall(r"planner \w+ --facts examples/[^`\n]*", TEXT)}
    assert told
    assert told <= {c.line.removesuffix(" --out bundle") for c in golden.commands()}
