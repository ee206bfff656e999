"""What the commands of the READMEs print, kept beside them: ``expected/*.txt`` in each example.

A README's commands are its lines that begin with ``planner``; ``# exit code N`` behind one says how it ends. They run
in a directory that has the project's own directories as links, so that a bundle that is written is nobody's.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from planner.cli.main import invoke

ROOT = Path(__file__).resolve().parents[1]
_LINKS = ("examples", "inventories")
_LINE = re.compile(r"(planner .*?)(?:\s+# exit code (\d+))?")
_NAMED = ("--facts", "--target", "--stack", "--image", "--why-not", "-o")
_USUAL = {("plan", "--facts", "facts"), ("check", "--facts", "facts"), ("plan", "--target", "target")}
# These change with every word of the matrices: digests, and the names of marks that carry one.
_DIGEST = re.compile(r"\b(sha256|replayed):[0-9a-f]{64}\b")
_MARK = re.compile(r"\b(planner-[A-Za-z0-9._-]+?)-[0-9a-f]{8}(?=-(?:old|new)\b)")


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a README: where it stands, what is typed, how it ends."""

    example: str
    line: str
    code: int

    @property
    def path(self) -> Path:
        """Return the file that keeps what it prints: verb and what is special about it."""
        words = shlex.split(self.line)[1:]
        parts = [words[0]]
        for option, value in pairwise(words):
            if option in _NAMED:
                stem = Path(value).stem if option != "--why-not" else f"why-not-{value}"
                parts += [stem] if (words[0], option, stem) not in _USUAL else []
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", "-".join(parts))
        return ROOT / "examples" / self.example / "expected" / f"{name}.txt"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a command: exit code, all that it printed without digests, whether data came, the bundle's seal."""

    code: int
    text: str
    data: bool
    seal: str


def commands() -> tuple[Command, ...]:
    """Return every command of every README, in the order in which people read them."""
    found = []
    for readme in sorted((ROOT / "examples").glob("*/README.md")):
        matches = [_LINE.fullmatch(line) for line in readme.read_text(encoding="utf-8").splitlines()]
        found += [Command(readme.parent.name, m.group(1), int(m.group(2) or 0)) for m in matches if m]
    return tuple(found)


@contextlib.contextmanager
def _elsewhere() -> Iterator[Path]:
    """Work in an empty directory in which the examples lie under their own names, and print as into a pipe."""
    before, columns = Path.cwd(), os.environ.pop("COLUMNS", None)
    with tempfile.TemporaryDirectory() as place:
        for name in _LINKS:
            (Path(place) / name).symlink_to(ROOT / name)
        os.chdir(place)
        try:
            yield Path(place)
        finally:
            os.chdir(before)
            if columns is not None:
                os.environ["COLUMNS"] = columns


def _before(command: Command) -> list[list[str]]:
    """Return the commands that must have run: the one that writes the bundle that this one reads."""
    words = shlex.split(command.line)
    if "bundle" not in words or "--out" in words:
        return []
    earlier = [shlex.split(c.line) for c in commands() if c.example == command.example]
    return [next(line for line in earlier if "--out" in line)[1:]]


def run(command: Command) -> Outcome:
    """Run one command as it stands in the README."""
    out, err, seal = io.StringIO(), io.StringIO(), ""
    with _elsewhere() as place:
        for words in _before(command):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                invoke(words)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = invoke(shlex.split(command.line)[1:])
        plan = place / "bundle" / "plan.json"
        if plan.is_file():
            seal = json.loads(plan.read_text(encoding="utf-8"))["seal"]
    parts = [f"$ {command.line}\n", out.getvalue(), err.getvalue(), f"exit code {code}\n"]
    text = _MARK.sub(r"\1-...", _DIGEST.sub(r"\1:...", "".join(parts)))
    return Outcome(code, text, bool(out.getvalue()), seal)


def write() -> None:
    """Write what every command prints; files that no command has any more go."""
    kept = set()
    for command in commands():
        command.path.parent.mkdir(exist_ok=True)
        command.path.write_text(run(command).text, encoding="utf-8")
        kept.add(command.path)
    for path in (ROOT / "examples").glob("*/expected/*.txt"):
        if path not in kept:
            path.unlink()
