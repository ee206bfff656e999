"""The engine's own verdict on a gate: what the bundle's module says counts only as far as the report bears it out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from planner.emit.expect import expectations
from planner.gates.canary import canary_verdict
from planner.gates.judge import FAIL, INCONCLUSIVE, PASS, judge_gate
from planner.schedule.canary import Command
from planner.schedule.plan import Cohort

STANDARD, QUICK = "standard", "quick"
ATTEMPTS_MOST = 3
_WORST_FIRST = (FAIL, INCONCLUSIVE, PASS)

Attempt = tuple[str, Mapping[str, Any]]     # report and request

# Report, request, report from before the change, earlier attempts in; ``outcome``, ``reasons`` and ``notes`` out, as
# ``planner.gates.judge.judge_gate``.
GateJudge = Callable[[str, Mapping[str, Any], str, Sequence[Attempt]], Mapping[str, Any]]
# Report, request, what came instead of a report in; the same out, as ``planner.gates.canary.canary_verdict``.
CanaryJudge = Callable[[str, Mapping[str, Any], str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What a gate came to.

    Attributes:
        verdict: The worse of the module's and our own: pass | fail | inconclusive.
        reasons: Why it is no pass.
        profile: What the report says it is: only ``standard`` proves a node at the end.
        code: Code of the worst answer by our own judgement.
        notes: What a reader must know of a pass.
        again: The play measures once more before anything is decided.
    """

    verdict: str
    reasons: tuple[str, ...]
    profile: str
    code: str = ""
    notes: tuple[str, ...] = ()
    again: bool = False


@dataclass(slots=True, kw_only=True)
class GateRulings:
    """Rules on the gates of one call.

    Attributes:
        cohorts: Cohort of each node that the call may name.
        nonce: This call's own; a report with another one is of another run.
        judge: The judge; a simulation, which runs no kernel, brings its own.
        before: Node -> its report from before the change, "" where there is none.
        canaries: Node -> the site's own command that follows its standard gate; the others have none.
        canary_judge: Judges what came of that.
    """

    cohorts: Mapping[str, Cohort]
    nonce: str
    judge: GateJudge = judge_gate
    before: Callable[[str], str] = lambda _: ""
    canaries: Mapping[str, Command] = field(default_factory=dict)
    canary_judge: CanaryJudge = canary_verdict
    _earlier: dict[str, list[Attempt]] = field(default_factory=dict)    # node -> attempts at the gate at hand
    _next: dict[str, int] = field(default_factory=dict)     # node -> place of its first step still without quick gate

    def rule(self, host: str, report: str, told: Mapping[str, Any]) -> Ruling:
        """Judge a report again, as this controller asked for it.

        Args:
            host: Name in the inventory.
            report: What the probe printed on the node.
            told: Result of the bundle's module: ``verdict``, ``reasons``.
        """
        attempt = _attempt_of(report)
        if attempt != len(self._earlier.get(host, ())) + 1:
            self._earlier[host] = []        # the first attempt at another gate, or none that was announced
        profile, own = self._own(host, report)
        verdict, reasons = _worse(own, told)
        again = bool(told.get("retry_after_s")) and len(self._earlier.get(host, ())) < ATTEMPTS_MOST
        if again and "request" in own:
            self._earlier.setdefault(host, []).append((report, own["request"]))
        else:
            self._earlier.pop(host, None)
        return Ruling(verdict=verdict, reasons=reasons, profile=profile, code=str(own.get("code", "")),
                      notes=tuple(map(str, own.get("notes", ()))), again=again)

    def rule_canary(self, host: str, report: str, said: str, told: Mapping[str, Any]) -> Ruling:
        """Judge what came of the site's own command again; one that the plan does not have is no pass.

        Args:
            host: Name in the inventory.
            report: What the probe printed on the node.
            said: What came instead.
            told: Result of the bundle's module.
        """
        own: Mapping[str, Any] = {"outcome": FAIL, "reasons": ("the plan has no command for this node",)}
        if host in self.canaries:
            argv, minutes = self.canaries[host]
            request = {"argv": list(argv), "seconds": minutes * 60, "host": host, "nonce": f"{self.nonce}-canary"}
            own = _trusted(lambda: self.canary_judge(report, request, said), request)
        verdict, reasons = _worse(own, told)
        return Ruling(verdict=verdict, reasons=reasons, profile=STANDARD, code=str(own.get("code", "")),
                      notes=tuple(map(str, own.get("notes", ()))))

    def _own(self, host: str, report: str) -> tuple[str, Mapping[str, Any]]:
        """Return the report's profile and our judgement.

        The end's gate is held to the last step. A quick gate stands after a step that asks for one, and steps never go
        backwards; which one, after an interruption, only the report's versions tell.
        """
        cohort = self.cohorts.get(host)
        if cohort is None or not cohort.steps:
            return STANDARD, {"outcome": FAIL, "reasons": ("no step of the plan moves this node",)}
        wanted = expectations(cohort)
        profile = _profile(report)
        if profile == STANDARD:
            return profile, self._judged(host, report, self._request(host, profile, wanted[cohort.steps[-1].id]))
        places = [i for i, step in enumerate(cohort.steps) if step.quick_gate and i >= self._next.get(host, 0)]
        first: Mapping[str, Any] | None = None
        for place in places:
            found = self._judged(host, report, self._request(host, profile, wanted[cohort.steps[place].id]))
            if found["outcome"] == PASS:
                self._next[host] = place + 1
                return profile, found
            first = first or found
        return profile, first or {"outcome": FAIL, "reasons": ("no step is left that asks for a quick gate",)}

    def _request(self, host: str, profile: str, expect: Mapping[str, Any]) -> dict[str, Any]:
        attempt = len(self._earlier.get(host, ())) + 1
        nonce = self.nonce if attempt == 1 else f"{self.nonce}-{attempt}"
        return {"profile": profile, "nonce": nonce, "host": host, "attempt": attempt, "expect": expect}

    def _judged(self, host: str, report: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return _trusted(lambda: self.judge(report, request, self.before(host), tuple(self._earlier.get(host, ()))),
                        request)


def _worse(own: Mapping[str, Any], told: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the worse of our own verdict and the bundle's, and why it is no pass."""
    said = str(told.get("outcome", "")) if told.get("outcome") in _WORST_FIRST else INCONCLUSIVE
    verdict = min(said, str(own["outcome"]), key=_WORST_FIRST.index)
    reasons = [str(reason) for reason in own["reasons"]] if own["outcome"] == verdict else []
    if said == verdict:
        reasons += [text for text in map(str, told.get("reasons") or ()) if text not in reasons]
    if said != own["outcome"]:
        reasons.append(f"the bundle's judge said {said}, judged again by this controller it is {own['outcome']}")
    return verdict, tuple(reasons) if verdict != PASS else ()


def _trusted(judge: Callable[[], Mapping[str, Any]], request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a judge says, in the one form that is gone by; a judge that fails has not passed anything."""
    try:
        found = judge()
        outcome = found["outcome"] if found["outcome"] in _WORST_FIRST else INCONCLUSIVE
        return {"outcome": outcome, "reasons": tuple(found["reasons"]), "code": found.get("code", ""),
                "notes": tuple(found.get("notes", ())), "request": request}
    except Exception as exc:  # a node's text must not end the controller
        return {"outcome": FAIL, "reasons": (f"its report cannot be judged: {type(exc).__name__}: {exc}",)}


def _attempt_of(report: str) -> int:
    """Return the number that a report gives itself; one that gives none is the first."""
    try:
        value = json.loads(report)["attempt"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return 1
    return value if isinstance(value, int) and not isinstance(value, bool) else 1


def _profile(report: str) -> str:
    """Return the profile that a report names; one that names none, or no known one, is held to the standard gate."""
    try:
        value = json.loads(report)
    except (ValueError, RecursionError):
        return STANDARD
    return QUICK if isinstance(value, dict) and value.get("profile") == QUICK else STANDARD
