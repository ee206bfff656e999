"""Judgement of nodes, of a fleet, and of a target before it is planned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from planner.check.domains import Members, judge_domains
from planner.check.judge import StateJudge
from planner.check.verdict import Judgement, Verdict
from planner.diagnostics import Diagnostic, Severity, short
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Provenance, State

_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Diagnostic):
    """A diagnostic of ``check``.

    Attributes:
        root_cause: A word of the answer format; ``other`` where the rule names none.
        component: The component that does not meet the rule.
    """

    root_cause: str = "other"
    component: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form; keys are stable."""
        return {**Diagnostic.as_dict(self), "root_cause": self.root_cause, "component": self.component}


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        findings: Unsupported combinations and risks, errors first.
        not_judged: Sentences: what could not be judged, and why. Never counted as errors.
        supported: Number of claims that gave positive evidence.
    """

    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...]
    supported: int

    @property
    def has_errors(self) -> bool:
        """Tell whether any finding is an error."""
        return any(f.severity is Severity.ERROR for f in self.findings)


def check_states(states: Iterable[tuple[str, State]], matrices: MatrixSet,
                 domains: Mapping[tuple[str, str], Members] | None = None,
                 notes: Iterable[str] = ()) -> Report:
    """Judge named states; equal findings of several subjects are told once, with all subjects.

    Args:
        states: (subject, state) pairs; the subject is shown to people.
        matrices: What is known.
        domains: (kind, name) -> nodes that must be alike in what the matrices say.
        notes: Sentences about what could not be read; they stand first under ``not_judged``.
    """
    findings: dict[tuple[str, str], tuple[Judgement, list[str]]] = {}
    unknown: dict[str, list[str]] = {}
    evidence: set[tuple[str, str]] = set()
    judge = StateJudge(matrices)
    for subject, state in states:
        for judged in judge.judge(state):
            if judged.verdict is Verdict.SUPPORTED:
                evidence.add((judged.rule, subject))
            elif judged.verdict is Verdict.UNKNOWN:
                _add(unknown.setdefault(judged.statement, []), subject)
            else:
                _add(findings.setdefault((judged.rule, judged.statement), (judged, []))[1], subject)
    for subject, judged in judge_domains(domains or {}, matrices):
        findings[judged.rule, f"{subject}: {judged.statement}"] = (judged, [subject])
    told = [finding_of(judged, subjects, matrices) for judged, subjects in findings.values()]
    return Report(
        findings=tuple(sorted(told, key=lambda d: (_RANK[d.severity], d.code, d.subject))),
        not_judged=(*notes, *(f"{short(subjects)}: {text}" for text, subjects in sorted(unknown.items()))),
        supported=len(evidence),
    )


def _add(subjects: list[str], subject: str) -> None:
    if subject not in subjects[-1:]:
        subjects.append(subject)


def finding_of(judged: Judgement, subjects: list[str], matrices: MatrixSet) -> Finding:
    """Return the finding that a judgement comes to, told as a chain: what is there, what the rule says, its source."""
    claim, _, here = judged.statement.partition(" (here: ")
    hint = judged.hint or (f"accept it by name in the target: {judged.risk}" if judged.risk else
                           f"see the claim: planner explain {judged.rule}")
    said = f"the claim is {_kind(judged.provenance)}"
    why = (f"here: {here.removesuffix(')')}", said) if here else (said,)
    source = (matrices.source_of(judged.rule, judged.provenance),) if judged.provenance else ()
    return Finding(code=judged.rule, subject=short(subjects), summary=claim, why=why, hint=hint, sources=source,
                   severity=Severity(judged.severity), root_cause=judged.root_cause or "other",
                   component=judged.at_fault or next(iter(judged.components), ""))


def _kind(provenance: Provenance | None) -> str:
    if provenance is None:
        return "derived from the matrices"
    words = {"vendor": "the vendor's", "measured": "a measurement", "field-report": "a field report"}
    return f"{words.get(provenance.kind, provenance.kind)}, {provenance.confidence}, read {provenance.retrieved}"


def changed(state: State, changes: Mapping[str, tuple[str, ...]], matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return a state as it would be with some components replaced, and with them what must carry the same version."""
    new = {**state, **changes}
    for group in matrices.lockstep:
        lead = next((c for c in group.components if c in changes), None)
        if lead is not None and group.relation == "equal":
            new |= {c: changes[lead] for c in group.components if state.get(c) and c not in changes}
    return new
