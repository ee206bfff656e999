"""What the documents say can be typed, and what the program says is documented."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from planner.cli.main import VERBS, LazyGroup, cli
from planner.errors import ExitCode

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md")))
RUN_VERBS = frozenset(re.findall(r"^    ([a-z]+)[ )|]", (ROOT / "run").read_text(encoding="utf-8"), re.MULTILINE))


def commands(text: str) -> Iterator[str]:
    """Yield every command of the project in fenced blocks and in inline code, continuation lines joined."""
    for block in re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            yield from _own(line.strip().removeprefix("$ "))
    for inline in re.findall(r"`([^`\n]+)`", text):
        yield from _own(inline)


def _own(line: str) -> Iterator[str]:
    line = line.split(" #")[0].split(" > ")[0].strip().removeprefix(".venv/bin/")
    if re.match(r"(planner|\./run) [a-z]", line):
        yield line


@cache
def verb(name: str) -> click.Command | None:
    """Return a verb's command, imported once."""
    assert isinstance(cli, LazyGroup)
    return cli.get_command(click.Context(cli), name)


def wrong_words(command: str) -> list[str]:
    """Return the words of a documented command that the program does not know."""
    words = shlex.split(command)
    if words[0] == "./run":
        return [] if words[1] in RUN_VERBS else [words[1]]
    current: click.Command | None = verb(words[1])
    if current is None:
        return [words[1]]
    rest = words[2:]
    while isinstance(current, click.Group) and rest and not rest[0].startswith("-"):
        current = current.get_command(click.Context(current), rest[0])
        if current is None:
            return [rest[0]]
        rest = rest[1:]
    known = {option for parameter in current.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = {word.split("=")[0] for word in rest if word.startswith("-")}
    return sorted(options - known - {"--help", "-h"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documented_commands_exist(document: Path) -> None:
    """Every command in a document names a verb and options that the program has."""
    found = {c: wrong_words(c) for c in commands(document.read_text(encoding="utf-8"))}
    assert {c: wrong for c, wrong in found.items() if wrong} == {}


def test_the_command_check_bites() -> None:
    """An invented verb, option or script verb is noticed."""
    text = "`planner fly --high`\n```sh\n$ planner plan \\\n  --no-such-option x\n./run away\n./run test  # all\n```\n"
    assert [wrong_words(c) for c in commands(text)] == [["--no-such-option"], ["away"], [], ["fly"]]


def test_every_verb_is_documented() -> None:
    """No verb is a secret."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    documented = {shlex.split(c)[1] for c in commands(text) if c.startswith("planner ")}
    assert sorted(set(VERBS) - documented) == []


def test_every_verb_loads() -> None:
    """The table of verbs points at commands that can be imported."""
    assert [name for name in VERBS if not isinstance(verb(name), click.Command)] == []


def test_exit_code_table_equals_the_code() -> None:
    """docs/exit-codes.md lists the codes of planner.errors, all of them, each with an example."""
    text = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| [^|]+ \| [^|]*`planner [^|]+ \|$", text, re.MULTILINE)
    assert [(int(code), name) for code, name in rows] == [(code.value, code.name) for code in ExitCode]


def hinted_verbs(source: str) -> Iterator[str]:
    """Yield the verb of every ``planner VERB`` inside a ``hint=`` argument, f-strings included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "hint":
            for part in ast.walk(node.value):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield from re.findall(r"\bplanner ([a-z]+)\b", part.value)


def test_hints_name_real_verbs() -> None:
    """A hint is the next command, so it must be one."""
    unknown = {
        f"{path.relative_to(ROOT)}: planner {name}"
        for path in sorted((ROOT / "planner").rglob("*.py"))
        for name in hinted_verbs(path.read_text(encoding="utf-8"))
        if name not in VERBS
    }
    assert unknown == set()


def test_relative_links_lead_somewhere() -> None:
    """Links and pictures in documents point at files of the project."""
    broken = [
        f"{document.name}: {target}"
        for document in DOCUMENTS
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target) and not (document.parent / target).exists()
    ]
    assert broken == []
