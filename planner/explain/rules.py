"""What a finding's code means: the rule behind it, with what it accepts and rejects, and its source."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from planner.matrix.index import MatrixSet
from planner.matrix.schema import Across, Claim, Family, Lockstep, Signature, State


@dataclass(frozen=True, slots=True)
class Told:
    """A rule as people read it."""

    code: str
    kind: str
    statement: str
    severity: str = ""
    root_cause: str = ""
    hint: str = ""
    family: str = ""
    risk: str = ""
    accepts: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()
    source: str = ""
    retrieved: str = ""
    confidence: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form, empty fields left out."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items() if value}


def tell(code: str, matrices: MatrixSet) -> Told | None:
    """Return what is known of a code: the name of a claim, of another rule, of a family or of a message."""
    rules: tuple[Claim | Lockstep | Across | Signature, ...] = (
        *matrices.claims, *matrices.tombstones, *matrices.lockstep, *matrices.across, *matrices.signatures)
    found = next((r for r in rules if r.name == code), None)
    if found is None:
        return _family(matrices.families[code]) if code in matrices.families else None
    source = matrices.source_of(found.name, found.provenance)
    if isinstance(found, Signature):
        return Told(code, "message", found.title, source=source, retrieved=found.provenance.retrieved,
                    confidence=found.provenance.confidence, accepts=found.examples, rejects=found.counter_examples)
    accepts, rejects = ((tuple(map(_state, s)) if isinstance(found, Across) else (_state(s),) if s else ())  # type: ignore[arg-type]
                        for s in (found.accepts, found.rejects))
    kind = {Claim: "claim", Lockstep: "versions tied together", Across: "nodes of one domain"}[type(found)]
    return Told(code, kind, found.statement, found.severity, found.root_cause, found.hint, found.family,
                getattr(found, "risk", None) or "", accepts, rejects, source, found.provenance.retrieved,
                found.provenance.confidence)


def _family(family: Family) -> Told:
    closed = "a closed family: without a claim that covers it, a combination is unknown, and unknown is not supported"
    return Told(family.name, "family", f"{family.title}: {closed if family.closed else 'only known conflicts count'}")


def _state(state: State) -> str:
    return ", ".join(f"{name} {' '.join(values) or 'absent'}" for name, values in state.items())
