"""Facts that a real H200 gave, judged: no error about a machine that works, and its driver's words explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.cli.main import invoke
from planner.documents import dump_model
from tests.fleet.test_owners import document

REFUSED_PTX = ("cuModuleLoadData failed with 222 (CUDA_ERROR_UNSUPPORTED_PTX_VERSION: the provided PTX was compiled "
               "with an unsupported toolchain.)")


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(dump_model(document())), encoding="utf-8")
    return path


def test_a_working_machine_has_no_error(facts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", "--facts", str(facts), "-o", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [f["code"] for f in report["findings"] if f["severity"] == "error"] == []
    assert report["supported"] > 0


def test_its_drivers_refusal_is_explained(facts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for extra in ([], ["--stack", str(facts)]):
        assert invoke(["explain", "--message", REFUSED_PTX, *extra, "-o", "json"]) == 0
        causes = json.loads(capsys.readouterr().out)["causes"]
        assert causes[0]["root_cause"] == "driver_too_old_for_toolkit_ptx"
        assert causes[0]["fix"]
