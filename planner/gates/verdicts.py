"""Folds the answers of many gates into one verdict and one action. Pure.

A failure is sticky: nothing but a new pass of the same gate on the same GPU, or a person's override, takes it back, and
inside one run a second attempt takes it back only where the table says that a failure must repeat to count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .failures import EXIT_CODES, LIGHTEST_FIRST, WORST_FIRST, Action, Failure, Kind, Verdict, failure

Key = tuple[str, str]

_RANK = {verdict: place for place, verdict in enumerate(WORST_FIRST)}
_WEIGHT = {action: place for place, action in enumerate(LIGHTEST_FIRST)}
_FAILED = (Verdict.FAIL, Verdict.HUNG)
_PROVED = (Verdict.PASS, Verdict.WARN)


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate said about one GPU or node.

    Attributes:
        gate: Name of the gate or figure.
        subject: UUID of the GPU, or the host for a gate of the whole node.
        code: A code of ``planner.gates.failures``; all else about the answer follows from it.
        evidence: What was seen, a sentence each. Every answer but a pass needs some.
        attempt: 1 for the first measurement of this run, 2 for its repetition …
        passed_before: Whether the same gate passed before the change; None where nobody knows.
    """

    gate: str
    subject: str
    code: str
    evidence: tuple[str, ...] = ()
    attempt: int = 1
    passed_before: bool | None = None

    @property
    def row(self) -> Failure:
        """The row of the table."""
        return failure(self.code)

    @property
    def verdict(self) -> Verdict:
        """The verdict that belongs to the code."""
        return self.row.verdict

    @property
    def key(self) -> Key:
        """What a repetition has in common with the first attempt."""
        return self.gate, self.subject

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; keys are stable."""
        row = self.row
        return {"gate": self.gate, "subject": self.subject, "verdict": row.verdict.value, "code": self.code,
                "class": row.kind.value, "cause": row.cause, "remedy": row.remedy, "evidence": list(self.evidence),
                "actions": [action.value for action in row.actions], "exit_code": row.exit_code,
                "attempt": self.attempt, "passed_before": self.passed_before}



@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked of a node.

    Attributes:
        required: Gate -> the GPUs or hosts it must answer for; an empty set: at least one answer.
        rollback: ``on_failure: rollback`` of the target.
        way_back: The step has a way back.
        overrides: Failures that a person has taken responsibility for, with the record kept elsewhere.
    """

    required: Mapping[str, frozenset[str]]
    rollback: bool = False
    way_back: bool = False
    overrides: frozenset[Key] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """One verdict for a node.

    Attributes:
        verdict: The worst that counts.
        action: What to do.
        allowed: What a person may choose instead, ``action`` included, the lightest first.
        exit_code: 0 go on, 7 halted, 8 paused, 1 the gate itself failed.
        results: What counts of each gate and GPU, the worst first.
        overridden: Failures that an override set aside.
    """

    verdict: Verdict
    action: Action
    allowed: tuple[Action, ...]
    exit_code: int
    results: tuple[GateResult, ...]
    overridden: tuple[GateResult, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """A sentence for every answer that is no pass, the worst first."""
        return tuple(f"{r.subject + ': ' if r.subject else ''}{r.gate}: {'; '.join(r.evidence) or r.row.seen_as} "
                     f"({r.code})" for r in self.results if r.verdict is not Verdict.PASS)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form; keys are stable."""
        return {"verdict": self.verdict.value, "action": self.action.value,
                "allowed": [action.value for action in self.allowed], "exit_code": self.exit_code,
                "results": [result.as_dict() for result in self.results],
                "overridden": [result.as_dict() for result in self.overridden]}


def settle(attempts: Iterable[GateResult]) -> GateResult:
    """Return what counts of all attempts of one gate on one GPU in one run.

    A failure stays whatever follows, with two exceptions: where the table wants it to repeat, and it did not, and the
    last attempt passes, it becomes ``PERF_FLAKY``; and one that the table answers with a retry is gone when the retry
    passes. Of other answers the last counts; of equal attempts the worst.
    """
    ordered = sorted(attempts, key=lambda r: (r.attempt, -_RANK[r.verdict], *_ties(r)))
    last = ordered[-1]
    failed = [result for result in ordered if result.verdict in _FAILED]
    if not failed:
        return last
    repeated = len({result.attempt for result in failed}) > 1
    if last.verdict is Verdict.PASS and all(result.row.actions[0] is Action.RETRY for result in failed):
        return last
    if last.verdict in _PROVED and not repeated and all(result.row.must_repeat for result in failed):
        words = (f"attempt {failed[-1].attempt} failed ({failed[-1].code}), attempt {last.attempt} did not",
                 *failed[-1].evidence)
        return replace(last, code="PERF_FLAKY", evidence=words)
    worst = min(_RANK[result.verdict] for result in failed)
    # Codes that stand without repetition weigh more than those that do not.
    heaviest = [result for result in failed if _RANK[result.verdict] == worst]
    return min(heaviest, key=lambda r: (r.row.must_repeat, -r.attempt, *_ties(r)))


def fold(results: Iterable[GateResult], policy: Policy, standing: Iterable[GateResult] = ()) -> Decision:
    """Return the one verdict for a node; the order of ``results`` does not matter.

    Args:
        results: All answers of this run, repetitions included.
        policy: What is asked.
        standing: Failures of earlier runs; each stays until this run passes the same gate on the same GPU.
    """
    groups: dict[Key, list[GateResult]] = {}
    for result in results:
        groups.setdefault(result.key, []).append(result)
    settled = {key: settle(group) for key, group in groups.items()}
    _keep_standing(settled, standing)
    _ask(settled, policy)
    # An override sets a failure aside; it makes no proof of what was not proved.
    overridden = [r for key, r in settled.items() if key in policy.overrides and r.verdict in _FAILED]
    counted = sorted((r for r in settled.values() if r not in overridden), key=_order)
    if not counted:
        nothing = GateResult("all", "", "GATE_NO_RESULT", ("no gate gave an answer that counts",))
        counted = [nothing]
    worst = counted[0].verdict
    repeated = {key for key, group in groups.items() if len({r.attempt for r in group if r.verdict in _FAILED}) > 1}
    choices = [_choices(r, policy, r.key in repeated) for r in counted]
    if worst is Verdict.SKIP:
        choices = [(Action.PAUSE,)]
    action = max((choice[0] for choice in choices), key=_WEIGHT.__getitem__)
    allowed = {each for choice in choices for each in choice if _WEIGHT[each] >= _WEIGHT[action]} | {action}
    return Decision(worst, action, tuple(sorted(allowed, key=_WEIGHT.__getitem__)), EXIT_CODES[worst], tuple(counted),
                    tuple(sorted(overridden, key=_order)))


def _order(result: GateResult) -> tuple[Any, ...]:
    return _RANK[result.verdict], result.gate, result.subject, *_ties(result), result.attempt


def _ties(result: GateResult) -> tuple[Any, ...]:
    """Order equals by all they hold, so that no answer depends on who came first."""
    return result.code, result.evidence, str(result.passed_before)


def _keep_standing(settled: dict[Key, GateResult], standing: Iterable[GateResult]) -> None:
    for old in sorted(standing, key=_order, reverse=True):
        new = settled.get(old.key)
        if old.verdict in _FAILED and (new is None or new.verdict not in (*_PROVED, *_FAILED)):
            settled[old.key] = replace(old, evidence=(*old.evidence, "it failed earlier and has not passed since"))


def _ask(settled: dict[Key, GateResult], policy: Policy) -> None:
    """Turn every skipped or missing answer that the policy asks for into what it is worth."""
    for gate in sorted(policy.required):
        answered = {key for key in settled if key[0] == gate}
        wanted = {(gate, subject) for subject in policy.required[gate]} or answered or {(gate, "")}
        for key in sorted(wanted):
            found = settled.get(key)
            if found is None:
                settled[key] = GateResult(*key, "GATE_NO_RESULT", ("the policy asks for it, it gave no answer",))
            elif found.verdict is Verdict.SKIP:
                settled[key] = replace(found, code="REQUIRED_SKIPPED",
                                       evidence=("the policy asks for it, it was skipped", *found.evidence))


def _choices(result: GateResult, policy: Policy, repeated: bool) -> tuple[Action, ...]:
    """Return what a result allows here, the proposed action first; a hung node halts, which outweighs the way back."""
    row = result.row
    if result.verdict in _FAILED and row.must_repeat and not repeated:
        return (Action.RETRY, *(action for action in row.actions if action is not Action.RETRY))
    may_go_back = (policy.way_back and row.kind in (Kind.SOFTWARE, Kind.PERFORMANCE)
                   and result.passed_before is True and (repeated or not row.must_repeat))
    kept = tuple(action for action in row.actions if action is not Action.ROLLBACK or may_go_back)
    if policy.rollback and row.kind is Kind.SOFTWARE and Action.ROLLBACK in kept and repeated:
        return (Action.ROLLBACK, *(action for action in kept if action is not Action.ROLLBACK))
    return kept
