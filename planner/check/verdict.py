"""Three verdicts; what cannot be judged is said so, never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from planner.matrix.schema import Provenance

ProblemKey = tuple[str, tuple[str, ...], tuple[str, ...]]


class Verdict(StrEnum):
    """Judgement of one claim on one state."""

    SUPPORTED = "supported"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one rule says about one state.

    Attributes:
        rule: Name of the claim, lockstep group or family.
        family: The family it belongs to.
        verdict: UNSUPPORTED or UNKNOWN are findings; SUPPORTED is evidence.
        components: What is in conflict, or what is not known.
        statement: One sentence that names the values.
        severity: ``error``, ``warning`` or ``info``.
        risk: Name under which a target may accept it; empty when it may not.
        blocking: Whether a path may not run through a state with this judgement.
        values: The side-by-side values it is about, where a rule is judged value by value.
        at_fault: The component that does not meet the rule.
    """

    rule: str
    family: str
    verdict: Verdict
    components: tuple[str, ...]
    statement: str
    provenance: Provenance | None = None
    severity: str = "error"
    risk: str = ""
    hint: str = ""
    root_cause: str = ""
    blocking: bool = True
    values: tuple[str, ...] = ()
    at_fault: str = ""

    @property
    def key(self) -> ProblemKey:
        """What makes two judgements the same problem, whatever the versions around it."""
        return (self.rule, self.components, self.values)

    @property
    def names(self) -> frozenset[str]:
        """Names under which a person may accept it: the risk, the rule, its family for what is not known."""
        return frozenset({self.rule, self.risk or self.rule})
