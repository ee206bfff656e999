"""What people see of explain, and of comparing matrices: pages, sentences, unknown names."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.cli.main import invoke
from tests.check.small import TEXT


def test_a_message_is_told_cause_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["explain", "--message", "CUDA error: no kernel image is available for execution on the device"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1. arch_not_supported_by_build (")
    assert any(line.startswith("   fix: ") for line in lines)
    assert "facts that would decide:" in lines
    assert max(map(len, lines)) <= 160


def test_a_code_has_a_page_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["explain", "cuda-13-driver-floor"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("cuda-13-driver-floor (claim)\n  CUDA 13.x needs driver 580.65.06 or later\n")
    assert "rejects: cuda_toolkits 13.0.2, driver 570.211.01" in page
    assert invoke(["explain", "no-such-code"]) == 1
    assert "no finding, claim or message of the matrices has this name" in capsys.readouterr().err


def test_matrices_are_compared_entry_by_entry(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, text in ((old, TEXT), (new, TEXT.replace("Blades 3 need engine 2.1 or later", "Blades 3 need more"))):
        folder.mkdir()
        (folder / "all.yml").write_text(text)
    assert invoke(["matrix", "diff", str(old), str(old)]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert invoke(["matrix", "diff", str(old), str(new)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["claims   blades-3-engine  changed: statement"]


def test_sources_grow_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["matrix", "stale", "--before", "2000-01-01"]) == 0
    assert "0 entries read before 2000-01-01" in capsys.readouterr().out
    assert invoke(["matrix", "stale", "--before", "2100-01-01"]) == 0
    assert "cuda-13-driver-floor" in capsys.readouterr().out
    assert invoke(["matrix", "stale", "--before", "yesterday"]) == 1
