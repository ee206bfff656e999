"""Versions side by side: what differs between machines, and what rules and release notes say about each difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from planner.check.domains import judge_across
from planner.check.verdict import Judgement, Verdict
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.model.version import version_key

Meaning = Literal["same", "harmless", "breaks", "risky", "unknown"]
_NOTES_MAX = 8


@dataclass(frozen=True, slots=True)
class Row:
    """One component on every machine.

    Attributes:
        values: One for each machine; None where it is not known, () where it is known to be absent.
        meaning: What rules say about the difference; ``unknown`` where none speaks of it.
        because: Sentences: the rules, and release notes between the lowest and the highest version.
    """

    component: str
    values: tuple[tuple[str, ...] | None, ...]
    meaning: Meaning
    because: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def differ(machines: Sequence[tuple[str, State]], matrices: MatrixSet, kinds: Sequence[str]) -> tuple[Row, ...]:
    """Compare machines component by component, in the order of the matrices; what nobody has is left out.

    Args:
        machines: (name, state) of each.
        matrices: What is known.
        kinds: Kinds of domains that the machines may share.
    """
    names = [name for name in matrices.components if any(name in state for _, state in machines)]
    names += sorted({name for _, state in machines for name in state} - set(names))
    return tuple(_row(name, machines, matrices, kinds) for name in names)


def _row(component: str, machines: Sequence[tuple[str, State]], matrices: MatrixSet, kinds: Sequence[str]) -> Row:
    values = tuple(tuple(state[component]) if component in state else None for _, state in machines)
    known = {v for v in values if v is not None}
    if len(known) < 2:
        return Row(component, values, "same")
    judged = [j for rule in matrices.across if rule.component == component and rule.domain in kinds
              if (j := judge_across(rule, machines, matrices)) is not None]
    broken = [j for j in judged if j.verdict is Verdict.UNSUPPORTED]
    meaning: Meaning = "unknown"
    if broken:
        worst = min(broken, key=lambda j: ("error", "warning", "info").index(j.severity)).severity
        meaning = {"error": "breaks", "warning": "risky", "info": "harmless"}[worst]  # type: ignore[assignment]
    elif judged:
        meaning = "harmless"
    notes = _notes(component, [v[-1] for v in known if v], matrices)
    return Row(component, values, meaning, (*(_said(j) for j in broken), *notes),
               tuple(matrices.source_of(j.rule, j.provenance) for j in broken if j.provenance))


def _said(judged: Judgement) -> str:
    text = judged.statement.partition(" (here: ")[0]
    return f"{text}; {judged.hint}" if judged.hint else text


def _notes(component: str, versions: Sequence[str], matrices: MatrixSet) -> tuple[str, ...]:
    if len(versions) < 2 or matrices.is_text(component):
        return ()
    keys = sorted(version_key(v) for v in versions)
    found = [f"{r.version}: {note}" for r in matrices.releases.get(component, ())
             if keys[0] < version_key(r.version) <= keys[-1] for note in r.notes]
    more = (f"and {len(found) - _NOTES_MAX} more release notes between them",) if len(found) > _NOTES_MAX else ()
    return (*found[:_NOTES_MAX], *more)
