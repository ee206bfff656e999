"""What the READMEs of the examples say: every command prints what lies beside it, every quotation is printed by one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from examples import generate, golden

ROOT = Path(__file__).resolve().parents[2]
READMES = sorted((ROOT / "examples").glob("*/README.md"))
COMMANDS = golden.commands()
WORKED = [r for r in READMES if r.parent.name > "05"]       # those whose READMEs quote


def squeezed(text: str) -> str:
    """Return text as one line, without the marks of Markdown: how it is wrapped and set off does not count."""
    return " ".join(text.replace("`", "").replace("&gt;", ">").split())


def quotations(readme: str) -> list[str]:
    """Return what a README quotes: blocks of text, and the reasons and sources in its tables."""
    blocks = re.findall(r"^```text\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in readme.splitlines() if re.match(r"\|.*\| matrices/\S+ \|$", line)]
    return [*blocks, *(cell for row in rows for cell in row[1:])]


def printed(example: str) -> str:
    """Return all that the commands of one example print."""
    files = sorted((ROOT / "examples" / example / "expected").glob("*.txt"))
    return squeezed("\n".join(path.read_text(encoding="utf-8") for path in files))


def missing(quoted: str, output: str) -> list[str]:
    """Return the lines of a quotation that no output has; a block stands as a whole or line by line."""
    if squeezed(quoted) in output:
        return []
    return [line for line in quoted.splitlines() if squeezed(line) not in output]


def test_every_readme_has_a_command_and_every_command_a_file() -> None:
    """No README without something to run, no two commands with one file, no file without a command."""
    assert {c.example for c in COMMANDS} == {r.parent.name for r in READMES}
    paths = [c.path for c in COMMANDS]
    assert len(set(paths)) == len(paths)
    assert set(paths) == set((ROOT / "examples").glob("*/expected/*.txt"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: f"{c.example}-{c.path.stem}")
def test_command_ends_and_prints_as_kept(command: golden.Command) -> None:
    """Run the command as written: exit code, every byte it prints, the seal of the bundle that it writes or reads."""
    made = golden.run(command)
    assert made.code == command.code
    assert made.text == command.path.read_text(encoding="utf-8"), "run: python examples/generate.py --golden"
    assert made.seal.startswith("replayed:") == ("bundle" in command.line.split())
    assert made.data == (command.code != 4)


@pytest.mark.parametrize("readme", WORKED, ids=lambda p: p.parent.name)
def test_quotations_are_printed(readme: Path) -> None:
    """Reasons and sources are the plan's own: what a README quotes stands in what its commands print."""
    quoted = quotations(readme.read_text(encoding="utf-8"))
    assert quoted
    output = printed(readme.parent.name)
    assert [line for text in quoted for line in missing(text, output)] == []


def test_a_wrong_quotation_is_noticed() -> None:
    """A version that no command prints, in a block and in a table."""
    output = printed("05-dgx-a100")
    text = (ROOT / "examples" / "05-dgx-a100" / "README.md").read_text(encoding="utf-8")
    assert len(quotations(text)) >= 10
    wrong = text.replace("580.159.04", "580.159.05")
    assert len([q for q in quotations(wrong) if missing(q, output)]) >= 3


def test_golden_files_are_written_and_stale_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--golden`` writes what the commands print and removes what none prints any more."""
    example = tmp_path / "examples" / "90-tiny"
    (example / "expected").mkdir(parents=True)
    (tmp_path / "inventories").mkdir()
    (example / "README.md").write_text("planner plan --facts no.json --target no.yml\n", encoding="utf-8")
    (example / "expected" / "old.txt").write_text("", encoding="utf-8")
    monkeypatch.setattr(golden, "ROOT", tmp_path)
    assert generate.main(["--golden"]) == 0
    (kept,) = (example / "expected").iterdir()
    assert kept.name == "plan-no-no.txt"
    text = kept.read_text(encoding="utf-8")
    assert text.startswith("$ planner plan --facts no.json")
    assert re.search(r"exit code [1-9]\d*\n\Z", text)
