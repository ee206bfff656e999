"""Helpers of the tests that run the probe's software checks in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from planner.gates.software import judge_software
from planner.gates.verdicts import GateResult

UUID = "GPU-07070707-0707-0707-0707-070707070707"
PLAY = ("import json, sys; from planner.probe.software import check_software; r = json.loads(sys.argv[1]);"
        "print(json.dumps(check_software(r, r.pop('gpus'))))")


def of(answers: list[dict[str, Any]], check: str) -> dict[str, Any]:
    found = [answer for answer in answers if answer["check"] == check]
    assert len(found) == 1, found
    return found[0]


def judged(report: dict[str, Any], request: dict[str, Any], check: str) -> GateResult:
    found = [result for result in judge_software(report, request, None) if result.gate == check]
    assert len(found) == 1, found
    return found[0]


def program(path: Path, text: str, site: Path | None = None) -> Path:
    """Write a program that this interpreter runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path
