"""Judges the user's own command. Pure, and standard library only: every bundle carries this very file.

Exit status 0 is a pass, nothing else is; there is no in between, and no skip: who asked for the command relies on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .failures import Verdict
from .samples import guarded
from .verdicts import GateResult

GATE = "canary"
TAIL_CHARS = 400            # of what the command said last


def canary_verdict(text: str, request: Mapping[str, Any], said: str = "") -> dict[str, Any]:
    """Return the verdict on what the probe printed, with the keys of ``judge_gate``.

    Args:
        text: What the probe printed: ``planner.canary/1``.
        request: What it was asked: ``argv``, ``seconds``, ``host``, ``nonce``.
        said: What came instead of a report: the words of Python, or of Ansible.

    Returns:
        ``outcome`` is pass or fail: a command that was not tried has not passed, and a retry is a person's decision.
    """
    host = str(request.get("host", ""))
    try:
        report = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        words = f"the probe gave no report: {_line(said or str(text or '')) or 'it printed nothing'}"
        found = [GateResult(GATE, host, "CANARY_FAILED", (words,))]
    else:
        found = judge_canary(report, host, request)
    (result,) = found
    passed = result.verdict is Verdict.PASS
    words = f"the site's own command: {'; '.join(result.evidence) or result.row.seen_as} ({result.code})"
    return {
        "verdict": result.verdict.value, "outcome": "pass" if passed else "fail", "code": result.code,
        "action": result.row.actions[0].value, "allowed": [action.value for action in result.row.actions],
        "exit_code": result.row.exit_code, "reasons": [] if passed else [words],
        "notes": [words.removesuffix(" (OK)")] if passed else [], "not_tried": [], "wrong_results": False,
        "retry_after_s": 0, "results": [result.as_dict()],
    }


def judge_canary(report: Any, host: str, request: Mapping[str, Any] | None = None) -> list[GateResult]:
    """Judge what ``planner.probe.canary`` saw.

    Args:
        report: ``planner.canary/1``.
        host: Subject of the answer.
        request: What was asked, where it is known: a report of another run, node or command does not count.
    """
    return guarded(GATE, host, lambda: [_canary(report, host, request)])


def _canary(report: Mapping[str, Any], host: str, request: Mapping[str, Any] | None) -> GateResult:
    unlike = [key for key in ("nonce", "host", "argv") if request is not None and report.get(key) != request.get(key)]
    if unlike:
        return GateResult(GATE, host, "REPORT_FOREIGN", (f"the report has another {' and another '.join(unlike)}",))
    status, code = report["status"], report["exit_code"]
    tail = _line(str(report.get("stderr") or report.get("stdout") or ""))
    if status == "ok" and type(code) is int:
        words = f"exit status {code} after {report.get('seconds')} s"
        evidence = (words,) if code == 0 or not tail else (words, tail)
        return GateResult(GATE, host, "OK" if code == 0 else "CANARY_FAILED", evidence)
    words = _line(str(report.get("reason") or status))
    known = {"timeout": "GATE_TIMEOUT", "hung": "GATE_HUNG_D", "error": "CANARY_FAILED"}
    return GateResult(GATE, host, known.get(str(status), "UNKNOWN_CODE"), (words, tail) if tail else (words,))


def _line(text: str) -> str:
    """Return the end of a text on one line, without signs that a terminal would obey."""
    words = " ".join(text[-8 * TAIL_CHARS:].split())[-TAIL_CHARS:]
    return "".join(sign if sign.isprintable() else "?" for sign in words)
