"""Judges what the nodes of one domain (a job's, an NVLink domain, the fleet) must have alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from planner.check.verdict import Judgement, Verdict
from planner.matrix.conditions import holds
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Across, State
from planner.model.relation import related

Members = Sequence[tuple[str, State]]      # (node, its state)

_NAMES_MAX = 3


def judge_domains(domains: Mapping[tuple[str, str], Members], matrices: MatrixSet) -> Iterator[tuple[str, Judgement]]:
    """Judge every domain by every rule about its kind.

    Args:
        domains: (kind, name) -> members.
        matrices: What is known.

    Yields:
        (subject, judgement) for what is not alike.
    """
    for (kind, name), members in domains.items():
        for rule in matrices.across:
            if rule.domain == kind:
                judged = judge_across(rule, members, matrices)
                if judged is not None and judged.verdict is Verdict.UNSUPPORTED:
                    yield name, judged


def judge_across(rule: Across, members: Members, matrices: MatrixSet) -> Judgement | None:
    """Judge one rule on one domain; None when fewer than two members say what they have."""
    having = [(node, state[rule.component]) for node, state in members
              if state.get(rule.component) and _counts(rule, state, matrices)]
    if len(having) < 2:
        return None
    if matrices.is_text(rule.component) or matrices.is_many(rule.component):
        alike = len({frozenset(values) for _, values in having}) == 1
    else:
        alike = related(rule.relation, tuple(dict.fromkeys(values[0] for _, values in having)))
    by_value: dict[str, list[str]] = {}
    for node, values in having:
        by_value.setdefault(" ".join(values), []).append(node)
    here = "; ".join(f"{value} on {_short(nodes)}" for value, nodes in by_value.items())
    return Judgement(
        rule=rule.name, family=rule.family, verdict=Verdict.SUPPORTED if alike else Verdict.UNSUPPORTED,
        components=(rule.component,), statement=f"{rule.statement} (here: {here})", provenance=rule.provenance,
        severity=rule.severity, hint=rule.hint, root_cause=rule.root_cause, blocking=False, at_fault=rule.component)


def _counts(rule: Across, state: State, matrices: MatrixSet) -> bool:
    return all(holds(c, name, state, text=matrices.is_text(name)) for name, c in rule.when.items())


def _short(nodes: Sequence[str]) -> str:
    shown = ", ".join(nodes[:_NAMES_MAX])
    return shown + (f" and {len(nodes) - _NAMES_MAX} more" if len(nodes) > _NAMES_MAX else "")
