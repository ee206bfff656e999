"""A place to be hostile in: the shipped example in a scratch directory, and the command line as a function."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from planner.cli.main import invoke
from planner.data import data_dir

EXAMPLE = "01-two-generations"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person sees of one command: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


class Desk:
    """A scratch directory with ``facts.json`` and ``target.yml`` of the example, and a memory of what lay there."""

    def __init__(self, path: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capture = capture

    def write(self, name: str, text: str) -> Path:
        """Write a file of the user's."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def edit(self, name: str, change: Callable[[Any], None]) -> None:
        """Load a JSON file, let ``change`` alter it in place, write it back."""
        value = json.loads((self.path / name).read_text(encoding="utf-8"))
        change(value)
        self.write(name, json.dumps(value))

    def planner(self, *arguments: str) -> Answer:
        """Run one command in the scratch directory; an unexpected exception fails the test with its traceback."""
        self._capture.readouterr()
        code = invoke(list(arguments))
        seen = self._capture.readouterr()
        return Answer(code, seen.out, seen.err)

    def files(self) -> dict[str, bytes]:
        """Return every file that lies here now."""
        found = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        return {path.relative_to(self.path).as_posix(): path.read_bytes() for path in found}

    def refuses(self, *arguments: str, code: int, says: tuple[str, ...]) -> Answer:
        """Run a command that must fail: this code, these words on stderr, no data on stdout, nothing written."""
        before = self.files()
        answer = self.planner(*arguments)
        assert answer.code == code, answer.err + answer.out
        for words in says:
            assert words in answer.err
        assert "Traceback" not in answer.err
        assert answer.out == ""
        assert self.files() == before
        return answer


PLAN = ("plan", "--facts", "facts.json", "--target", "target.yml", "--out", "bundle")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Return a desk with the example's facts and target, current directory there."""
    for name in ("facts.json", "target.yml"):
        shutil.copy(data_dir("examples") / EXAMPLE / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, capsys)
