"""Judgement of nodes, of a fleet, and of a target before it is planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from planner.check.evaluate import judge_state
from planner.check.verdict import Judgement, Verdict
from planner.diagnostics import Diagnostic, Severity
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found.

    Attributes:
        findings: Unsupported combinations and risks, errors first.
        not_judged: Sentences: what could not be judged, and why. Never counted as errors.
        supported: Number of claims that gave positive evidence.
    """

    findings: tuple[Diagnostic, ...]
    not_judged: tuple[str, ...]
    supported: int

    @property
    def has_errors(self) -> bool:
        """Tell whether any finding is an error."""
        return any(f.severity is Severity.ERROR for f in self.findings)


def check_states(states: Iterable[tuple[str, State]], matrices: MatrixSet) -> Report:
    """Judge named states; equal findings of several subjects are told once, with all subjects.

    Args:
        states: (subject, state) pairs; the subject is shown to people.
        matrices: What is known.
    """
    findings: dict[tuple[str, str], tuple[Judgement, list[str]]] = {}
    unknown: dict[str, list[str]] = {}
    evidence: set[tuple[str, str]] = set()
    for subject, state in states:
        for judged in judge_state(state, matrices):
            if judged.verdict is Verdict.SUPPORTED:
                evidence.add((judged.rule, subject))
            elif judged.verdict is Verdict.UNKNOWN:
                unknown.setdefault(judged.statement, []).append(subject)
            else:
                findings.setdefault((judged.rule, judged.statement), (judged, []))[1].append(subject)
    rank = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}
    told = [_diagnostic(judged, subjects, matrices) for judged, subjects in findings.values()]
    return Report(
        findings=tuple(sorted(told, key=lambda d: (rank[d.severity], d.code, d.subject))),
        not_judged=tuple(f"{short(subjects)}: {text}" for text, subjects in sorted(unknown.items())),
        supported=len(evidence),
    )


def short(names: list[str], most: int = 4) -> str:
    """Return a list of names, cut after a few."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def _diagnostic(judged: Judgement, subjects: list[str], matrices: MatrixSet) -> Diagnostic:
    source = (matrices.source_of(judged.rule, judged.provenance),) if judged.provenance else ()
    hint = judged.hint or (f"accept it by name in the target: {judged.risk}" if judged.risk else
                           f"see the claim: planner matrix show {judged.rule}")
    return Diagnostic(code=judged.rule, subject=short(subjects), summary=judged.statement, hint=hint, sources=source,
                      severity=Severity(judged.severity))


def apply_want(state: State, changes: Mapping[str, tuple[str, ...]]) -> State:
    """Return a state as it would be with some components replaced (for a target that is not planned yet)."""
    return {**state, **changes}
