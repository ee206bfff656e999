"""Evaluates rules on one state. Knows rule kinds, no component names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from planner.check.verdict import Judgement, Verdict
from planner.matrix.conditions import holds, matches_value
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Claim, Condition, Family, Lockstep, State
from planner.model.relation import related


def judge_state(state: State, matrices: MatrixSet) -> tuple[Judgement, ...]:
    """Judge a state by every rule; supported evidence is included, rules that do not apply are not.

    Returns:
        Judgements in the order of the matrices: claims, lockstep groups, closed families.
    """
    found: list[Judgement] = []
    for claim in matrices.claims:
        found.extend(judge_claim(claim, state, matrices))
    for group in matrices.lockstep:
        judged = judge_lockstep(group, state, matrices)
        if judged:
            found.append(judged)
    for family in matrices.families.values():
        found.extend(judge_coverage(family, state, matrices))
    return tuple(found)


def problems(state: State, matrices: MatrixSet) -> tuple[Judgement, ...]:
    """Return only what is not supported or not known, most severe first, then in the order of the matrices."""
    order = {"error": 0, "warning": 1, "info": 2}
    bad = [j for j in judge_state(state, matrices) if j.verdict is not Verdict.SUPPORTED]
    return tuple(sorted(bad, key=lambda j: order[j.severity]))


def judge_claim(claim: Claim, state: State, matrices: MatrixSet) -> Iterator[Judgement]:
    """Judge one claim. A side-by-side component of the ``if`` part is judged value by value.

    Yields:
        One judgement per value that the claim is about; none where it does not apply.
    """
    for name, condition in claim.if_.items():
        # Whether the claim is about this node at all may not be told; only its family's coverage may then complain.
        # Most claims are about other values: a no comes soon, and before anything is split.
        if len(state.get(name, ())) < 2 and not holds(condition, name, state, text=matrices.is_text(name)):
            return
    for narrowed in _narrow(claim, state, matrices):
        if not _met(claim.if_, narrowed, matrices) or _excepted(claim.unless, narrowed, matrices):
            continue
        split = tuple(v for name in claim.if_ if matrices.is_many(name) for v in narrowed.get(name, ()))
        judgement = _consequence(claim, narrowed, matrices)
        yield replace(judgement, values=split) if split else judgement


def _consequence(claim: Claim, state: State, matrices: MatrixSet) -> Judgement:
    if claim.forbids:
        return _judgement(claim, state, Verdict.UNSUPPORTED, tuple(claim.if_), at_fault=next(iter(claim.if_)))
    unmet: list[str] = []
    unknown: list[str] = []
    for name, condition in claim.then.items():
        answer = holds(condition, name, state, text=matrices.is_text(name))
        (unknown if answer is None else unmet if answer is False else []).append(name)
    if unmet:
        return _judgement(claim, state, Verdict.UNSUPPORTED, (*claim.if_, *unmet), at_fault=unmet[0])
    if unknown:
        return _judgement(claim, state, Verdict.UNKNOWN, tuple(unknown), closed=_is_closed(claim.family, matrices))
    return _judgement(claim, state, Verdict.SUPPORTED, (*claim.if_, *claim.then))


def _narrow(claim: Claim, state: State, matrices: MatrixSet) -> Iterator[State]:
    """Split a state into one per value of the first side-by-side component that the ``if`` part names."""
    for name in claim.if_:
        if len(state.get(name, ())) > 1 and matrices.is_many(name):
            for value in state[name]:
                yield {**state, name: (value,)}
            return
    yield state


def _met(conditions: Mapping[str, Condition], state: State, matrices: MatrixSet) -> bool:
    """Tell whether a state is known to meet every condition; most claims are about other values, so a no comes soon."""
    for name, condition in conditions.items():  # noqa: SIM110  # no generator: asked of every claim in every state
        if not holds(condition, name, state, text=matrices.is_text(name)):
            return False
    return True


def judge_lockstep(group: Lockstep, state: State, matrices: MatrixSet) -> Judgement | None:
    """Judge one lockstep group on the members that are installed; fewer than two say nothing."""
    if not _met(group.when, state, matrices) or _excepted(group.unless, state, matrices):
        return None
    present = {name: state[name][0] for name in group.components if state.get(name)}
    if len(present) < 2:
        return None
    good = related(group.relation, tuple(present.values()), group.parts)
    values = ", ".join(f"{name} {value}" for name, value in present.items())
    return Judgement(
        rule=group.name, family=group.family, verdict=Verdict.SUPPORTED if good else Verdict.UNSUPPORTED,
        components=tuple(present), statement=f"{group.statement} (here: {values})", provenance=group.provenance,
        root_cause=group.root_cause, severity=group.severity, risk=group.risk or "", hint=group.hint,
        blocking=group.severity == "error", at_fault=next(iter(present)),
    )


def _excepted(unless: Mapping[str, Condition], state: State, matrices: MatrixSet) -> bool:
    return bool(unless) and any(holds(c, name, state, text=matrices.is_text(name)) for name, c in unless.items())


def judge_coverage(family: Family, state: State, matrices: MatrixSet) -> Iterator[Judgement]:
    """In a closed family every value needs a claim that covers it, else the verdict is UNKNOWN."""
    if not family.closed or family.over is None or (family.against and not state.get(family.against)):
        return
    if family.over not in state:
        yield _unknown(family, (family.over,), f"{family.title}: {family.over} is not known")
        return
    claims = matrices.claims_of(family.name)
    for value in state[family.over]:
        if not any(_covers(c, family.over, value, state, matrices) for c in claims):
            against = f" with {family.against} {', '.join(state[family.against])}" if family.against else ""
            statement = f"{family.title}: no claim covers {family.over} {value}{against}"
            yield replace(_unknown(family, (family.over,), statement), values=(value,))


def _covers(claim: Claim, over: str, value: str, state: State, matrices: MatrixSet) -> bool:
    condition: Condition | None = claim.if_.get(over)
    if condition is None or not matches_value(condition, value, text=matrices.is_text(over)):
        return False
    return all(
        holds(c, name, state, text=matrices.is_text(name)) is not False
        for name, c in claim.if_.items() if name != over
    )


def _is_closed(family: str, matrices: MatrixSet) -> bool:
    known = matrices.families.get(family)
    return known is not None and known.closed


def _unknown(family: Family, components: tuple[str, ...], statement: str) -> Judgement:
    return Judgement(rule=family.name, family=family.name, verdict=Verdict.UNKNOWN, components=components,
                     statement=statement, hint=f"add a claim to family {family.name}, or read the missing fact")


def _judgement(claim: Claim, state: State, verdict: Verdict, components: tuple[str, ...], *,
               closed: bool = True, at_fault: str = "") -> Judgement:
    values = ", ".join(f"{name} {' '.join(state.get(name, ())) or 'absent'}" for name in dict.fromkeys(components)
                       if name in state)
    return Judgement(
        rule=claim.name, family=claim.family, verdict=verdict, components=tuple(dict.fromkeys(components)),
        statement=f"{claim.statement} (here: {values})" if values else claim.statement,
        provenance=claim.provenance, severity=claim.severity, risk=claim.risk or "", hint=claim.hint,
        root_cause=claim.root_cause, at_fault=at_fault,
        blocking=claim.severity == "error" and (verdict is Verdict.UNSUPPORTED or closed),
    )
