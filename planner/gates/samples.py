"""What the judges of pairs, collectives and load share: figures compared with before, reports that may be malformed.

Pure, and standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from .failures import code_of
from .statistics import SAMPLES_LEAST, TOLERANCES, change_of
from .verdicts import GateResult

SAMPLES_MOST = 10_000
_MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError)


def guarded(gate: str, subject: str, judge: Callable[[], list[GateResult]]) -> list[GateResult]:
    """Return what the judge says; where a report is too malformed to be judged, ``GATE_BUG``."""
    try:
        return judge()
    except _MALFORMED as exc:
        words = f"the report cannot be read ({type(exc).__name__}: {str(exc)[:200]})"
        return [GateResult(gate, subject, "GATE_BUG", (words,))]


def numbers(values: Any) -> list[float] | None:
    """Return samples as floats; None where there are none, or one is no finite number above zero."""
    if not isinstance(values, list) or not 0 < len(values) <= SAMPLES_MOST:
        return None
    if not all(type(value) in (int, float) and 1e-12 < value < 1e21 and isfinite(value) for value in values):
        return None
    return [float(value) for value in values]


def compare_figure(name: str, kind: str, before: list[float] | None, after: list[float] | None, unit: float
                   ) -> tuple[str, str]:
    """Compare one figure's samples with those from before the change.

    Args:
        name: For the sentence.
        kind: Class of tolerance; of ``latency`` less is better, of all others more.
        before: Samples of one process; None where it was not measured.
        after: Likewise.
        unit: What one of the samples' unit is in B/s, op/s or s.

    Returns:
        (code, sentence); the sentence is empty for OK.
    """
    if before is None:
        return "BASELINE_MISSING", f"{name}: not measured before"
    if after is None:
        return "GATE_NO_RESULT", f"{name}: measured before, not now"
    if min(len(before), len(after)) < SAMPLES_LEAST:
        words = f"{name}: {len(before)} samples before, {len(after)} now, at least {SAMPLES_LEAST} are needed"
        return "BASELINE_OTHER", words
    change = change_of([[unit * value for value in before]], [[unit * value for value in after]], TOLERANCES[kind],
                       higher_is_better=not kind.startswith("latency"))
    if change.code == "OK":
        return "OK", ""
    moved = 100 * (change.after / change.before - 1)
    words = (f"{name}: {change.after / unit:.4g}, before {change.before / unit:.4g} ({moved:+.1f} %, failure beyond "
             f"{100 * change.fail:.1f} %)")
    if change.unsteady:
        words += f", spread {100 * change.spread_after:.1f} %, before {100 * change.spread_before:.1f} %"
    return change.code, words


def refused(gate: str, host: str, seen: Mapping[str, Any], timeout: str) -> GateResult | None:
    """Return the answer where the child gave none, or something refused as a whole; None where it answered.

    Args:
        gate: Of the answer.
        host: Its subject.
        seen: What the child answered, or ``error`` in the words of ``planner.probe.children``.
        timeout: Code where it did not end in time.
    """
    words = str(seen.get("error") or seen.get("reason") or seen.get("short") or "")
    if seen.get("hung") or words.startswith("hung"):
        return GateResult(gate, host, "GATE_HUNG_D", (words or "hung",))
    if seen.get("timeout") or words == "timeout":
        return GateResult(gate, host, timeout, (words or "timeout",))
    if words.startswith("killed by signal"):
        return GateResult(gate, host, "GATE_CRASHED", (words,))
    if seen.get("short"):
        return GateResult(gate, host, "MEMORY_SHORT", (words,))
    if words:
        code = "NCCL_ERROR" if "nccl_code" in seen else cuda_code(seen)
        return GateResult(gate, host, code, (words,))
    return None


def cuda_code(seen: Mapping[str, Any]) -> str:
    """Return the code for an error of the driver that a report names by number; without a number it is our own."""
    code = seen.get("code")
    return code_of("cuda", code) if type(code) is int else "GATE_BUG"
