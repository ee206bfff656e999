"""What the lab asks of a machine, and how it says what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planner.errors import LabError
from planner.lab import tools


def test_missing_programs_are_named_with_the_command_that_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is one command for all that is missing; without root the machine is no lab machine either."""
    monkeypatch.setattr(tools, "TOOLS", {"sh": "dash", "no-such-program": "its-package", "nor-this": "its-package"})
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "its-package" in tools.missing_packages()
    with pytest.raises(LabError) as caught:
        tools.require_lab()
    found = caught.value.diagnostics[0]
    assert found.why[0] == "the lab needs root"
    assert found.hint.startswith("apt-get install --no-install-recommends ")
    assert "its-package" in found.hint.split()
    assert "dash" not in found.hint.split()


def test_interrupted_builds_never_pass_for_finished_ones(tmp_path: Path) -> None:
    """A build that fails leaves nothing under its final name; the next one starts from an empty place."""
    final = tmp_path / "thing"

    def build(fail: bool) -> None:
        with tools.build_place(final) as part:
            assert not list(part.iterdir())
            (part / "half").touch()
            if fail:
                raise PlannedError

    with pytest.raises(PlannedError):
        build(fail=True)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "thing.part").mkdir()
    (tmp_path / "thing.part" / "rest of a killed build").touch()
    build(fail=False)
    assert [p.name for p in final.iterdir()] == ["half"]


class PlannedError(Exception):
    """A build that fails half way."""


def test_failed_commands_show_their_last_lines() -> None:
    """An error carries the command's own words; input reaches it; time runs out."""
    assert tools.run("cat", stdin="text").stdout == "text"
    with pytest.raises(LabError) as caught:
        tools.run("sh", "-c", "echo first; echo last >&2; exit 4")
    assert "ended with 4" in caught.value.diagnostics[0].summary
    assert caught.value.diagnostics[0].why == ("first", "last")
    with pytest.raises(LabError):
        tools.run("sleep", "5", timeout_s=0.1)
    with pytest.raises(LabError):
        tools.run("/no/such/program")


def test_cache_is_where_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Own variable first, then the desktop convention."""
    monkeypatch.setenv("PLANNER_LAB_CACHE", str(tmp_path / "own"))
    assert tools.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("PLANNER_LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tools.cache_dir() == tmp_path / "planner" / "lab"
