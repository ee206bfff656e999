"""``planner rehearse --keep`` leaves a lab that runs with all that it stands on; without it nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.cli.rehearse import _leave
from planner.diagnostics import Diagnostic
from planner.errors import LabError


class StandInLab:
    """What ``_leave`` sees of a lab."""

    def __init__(self, place: Path, *, runs: bool) -> None:
        self.inventory_path, self.runs, self.ended = place / "inventory.json", runs, False
        place.joinpath("disk").mkdir(parents=True)

    @property
    def entry(self) -> Any:
        if not self.runs:
            raise LabError(Diagnostic(code="lab-gone", summary="it does not run"))
        return type("Entry", (), {"id": 7})()

    def down(self) -> None:
        self.ended = True


def test_a_kept_lab_is_told_with_all_it_stands_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab: Any = StandInLab(tmp_path / "lab", runs=True)
    _leave(lab, tmp_path, keep=True)
    told = capsys.readouterr().err
    assert "planner lab down --id 7" in told
    assert str(tmp_path) in told
    assert (tmp_path / "lab" / "disk").is_dir()
    assert not lab.ended


@pytest.mark.parametrize(("keep", "runs"), [(False, True), (True, False)])
def test_nothing_is_left_of_a_lab_that_is_not_kept_or_never_ran(tmp_path: Path, *, keep: bool, runs: bool) -> None:
    lab: Any = StandInLab(tmp_path / "place" / "lab", runs=runs)
    _leave(lab, tmp_path / "place", keep=keep)
    assert lab.ended
    assert not (tmp_path / "place").exists()
