"""The engine's own verdict on a gate: what the bundle's module says counts only as far as the report bears it out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from planner.emit.render import expectations
from planner.gates.judge import FAIL, INCONCLUSIVE, PASS, judge_gate
from planner.schedule.plan import Cohort

FULL, QUICK = "full", "quick"
_WORST_FIRST = (FAIL, INCONCLUSIVE, PASS)

# Report and request in, ``verdict`` and ``reasons`` out, as ``planner.gates.judge.judge_gate``.
GateJudge = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What a gate came to.

    Attributes:
        verdict: The worse of the module's and our own: pass | fail | inconclusive.
        reasons: Why it is no pass.
        profile: What the report says it is: only ``full`` proves a node at the end.
    """

    verdict: str
    reasons: tuple[str, ...]
    profile: str


@dataclass(slots=True, kw_only=True)
class GateRulings:
    """Rules on the gates of one call.

    Attributes:
        cohorts: Cohort of each node that the call may name.
        nonce: This call's own; a report with another one is of another run.
        judge: The judge; a simulation, which runs no kernel, brings its own.
    """

    cohorts: Mapping[str, Cohort]
    nonce: str
    judge: GateJudge = judge_gate
    _next: dict[str, int] = field(default_factory=dict)     # node -> place of its first step still without quick gate

    def rule(self, host: str, report: str, told: Mapping[str, Any]) -> Ruling:
        """Judge a report again, as this controller asked for it.

        Args:
            host: Name in the inventory.
            report: What the probe printed on the node.
            told: Result of the bundle's module: ``verdict``, ``reasons``.
        """
        profile, own = self._own(host, report)
        said = str(told.get("verdict", "")) if told.get("verdict") in _WORST_FIRST else INCONCLUSIVE
        verdict = min(said, str(own["verdict"]), key=_WORST_FIRST.index)
        reasons = [str(reason) for reason in own["reasons"]] if own["verdict"] == verdict else []
        if said == verdict:
            reasons += [text for text in map(str, told.get("reasons") or ()) if text not in reasons]
        if said != own["verdict"]:
            reasons.append(f"the bundle's judge said {said}, judged again by this controller it is {own['verdict']}")
        return Ruling(verdict=verdict, reasons=tuple(reasons) if verdict != PASS else (), profile=profile)

    def _own(self, host: str, report: str) -> tuple[str, Mapping[str, Any]]:
        """Return the report's profile and our judgement.

        The end's gate is held to the last step. A quick gate stands after a step that asks for one, and steps never go
        backwards; which one, after an interruption, only the report's versions tell.
        """
        cohort = self.cohorts.get(host)
        if cohort is None or not cohort.steps:
            return FULL, {"verdict": FAIL, "reasons": ("no step of the plan moves this node",)}
        wanted = expectations(cohort)
        profile = _profile(report)
        if profile == FULL:
            return profile, self._judged(report, self._request(host, profile, wanted[cohort.steps[-1].id]))
        places = [i for i, step in enumerate(cohort.steps) if step.quick_gate and i >= self._next.get(host, 0)]
        first: Mapping[str, Any] | None = None
        for place in places:
            found = self._judged(report, self._request(host, profile, wanted[cohort.steps[place].id]))
            if found["verdict"] == PASS:
                self._next[host] = place + 1
                return profile, found
            first = first or found
        return profile, first or {"verdict": FAIL, "reasons": ("no step is left that asks for a quick gate",)}

    def _request(self, host: str, profile: str, expect: Mapping[str, Any]) -> dict[str, Any]:
        return {"profile": profile, "nonce": self.nonce, "host": host, "expect": expect}

    def _judged(self, report: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            found = self.judge(report, request)
            return {"verdict": found["verdict"] if found["verdict"] in _WORST_FIRST else INCONCLUSIVE,
                    "reasons": tuple(found["reasons"])}
        except Exception as exc:  # a node's text must not end the controller
            return {"verdict": FAIL, "reasons": (f"its report cannot be judged: {type(exc).__name__}: {exc}",)}


def _profile(report: str) -> str:
    """Return the profile that a report names; one that names none, or no known one, is held to the full gate."""
    try:
        value = json.loads(report)
    except (ValueError, RecursionError):
        return FULL
    return QUICK if isinstance(value, dict) and value.get("profile") == QUICK else FULL
