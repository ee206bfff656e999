"""Checks steps that are handed over, and moves that nodes must not make, against the raw moves of the matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.schedule.plan import Step, StepProof
from planner.validate.rules import Rules, State, compare, in_range

_PACKAGE_MANAGERS = frozenset({"apt", "dnf", "none"})


def legal_move(step: Step, state: State, start: State, rules: Rules) -> Iterator[str]:
    """Yield why a step must not be made on nodes that start and stand like this.

    Args:
        step: About to be made.
        state: Before it.
        start: Of the nodes: what decides whether they have such a move at all.
        rules: Raw matrices.
    """
    move = rules.moves.get(step.move)
    if move is None:
        return      # told elsewhere
    for name, condition in (move.get("when") or {}).items():
        if rules.meets(start, name, condition) is not True:
            yield f"{step.move} is no move of nodes whose {name} is {' '.join(start.get(name, ())) or 'not known'}"
    for name in () if move.get("act") == "handover" else sorted({c.component for c in step.changes}):
        owners = start.get(str(rules.components.get(name, {}).get("owner") or ""), ())
        if set(owners) - _PACKAGE_MANAGERS:
            yield f"packages do not change what {' '.join(owners)} owns: {name}"
    for item in move.get("unfit") or ():
        if all(rules.meets(start, n, c) is True or (c == "absent" and n not in start) for n, c in item["when"].items()):
            yield f"must not be made: {item['because']}"
    if bool(step.ends) != bool(move.get("ends")):
        yield "ends the plan" if step.ends else "does not end the plan, although nobody knows what follows"
    if set(step.unpredicted or ()) != set(move.get("unpredicted") or ()):
        yield "does not say what it changes, too, or says too much"
    for change in step.changes:
        yield from _hop(move, change.component, change.from_, change.to, rules)
        yield from _carried(step, change.component, state, rules)


def _hop(move: Mapping[str, Any], component: str, old: str, new: str, rules: Rules) -> Iterator[str]:
    hops, lines = move.get("hops") or {}, [str(line) for line in move.get("lines") or ()]
    if hops and new not in hops.get(old, ()):
        yield f"{component} {old} -> {new} is no single step"
    if lines and old and new:
        places = [next((i for i, line in enumerate(lines) if in_range(v, line)), -9) for v in (old, new)]
        if places[0] < 0 or places[1] - places[0] not in (0, 1):
            yield f"{component} {old} -> {new} leaves out a line"
    options = rules.components.get(component, {}).get("options") or ()
    if new and options and new not in options:
        yield f"{component} {new} is none of {', '.join(options)}"
    if move.get("act") == "handover" and not rules.text(component) and not move.get("downgrade") and old and new \
            and not rules.many(component) and compare(new, old) < 0:
        yield f"{component} {old} -> {new} is a way back, and {move['name']} makes none"


def _carried(step: Step, component: str, state: State, rules: Rules) -> Iterator[str]:
    """What another component's packages bring moves with that component, or while it is there."""
    carrier = rules.components.get(component, {}).get("carrier")
    if carrier and not state.get(carrier) and not any(c.component == carrier for c in step.changes):
        yield f"{component} has nothing to come with: there is no {carrier}"


def told_by_hand(step: Step, after: State, rules: Rules, *, back: bool = False) -> Iterator[str]:
    """Yield what is wrong with the instructions and proofs of a hand-over; of any other step, that it has them.

    Args:
        step: Just made.
        after: The state that it leaves.
        rules: Raw matrices.
        back: Whether it is a step of the way back. None of these ends a plan: what was there before is known.
    """
    move = rules.moves.get(step.move)
    if move is None:
        return
    by_hand = move.get("act", "packages") == "handover"
    if back and step.ends and (by_hand or not move.get("ends")):
        yield "ends the plan"
    if not by_hand:
        if step.handover or step.instructions or step.proofs:
            yield f"is handed over, although packages make the move {step.move}"
        return
    if not step.handover or step.packages.manager != "none" or step.packages.install or step.packages.remove:
        yield "is not handed over, although no package manager makes this move"
    told = tuple(_filled(text, step) for text in move.get("undo" if back else "instructions") or ())
    unknown = back and not told and bool(step.instructions)     # no way is known, and the step says so in words
    if tuple(step.instructions or ()) != told and not unknown:
        yield "its instructions are not those of the matrices"
    proofs = {p.component: p for p in step.proofs or ()}
    for change in step.changes:
        proof = proofs.get(change.component)
        wanted = next((p for p in move.get("proofs") or () if p["component"] == change.component), None)
        if proof is None or wanted is None or not _same(proof, wanted):
            yield f"nothing proves afterwards that {change.component} is {change.to or 'gone'}"
            continue
        meant = {c.to for c in step.changes if c.component == change.component and c.to}
        if set(proof.wanted) != meant or not meant <= set(after.get(change.component, ())):
            yield f"its proof of {change.component} asks for {', '.join(proof.wanted) or 'nothing'}"
        if set(proof.unwanted) & set(after.get(change.component, ())):
            yield f"its proof of {change.component} forbids what stays"


def _filled(text: str, step: Step) -> str:
    first = step.changes[0]
    listed = ", ".join(f"{c.component} {c.from_ or 'absent'} -> {c.to or 'absent'}" for c in step.changes)
    for field, value in (("{from}", first.from_ or "none"), ("{to}", first.to or "none"), ("{components}", listed)):
        text = text.replace(field, value)
    return text


def _same(proof: StepProof, wanted: Mapping[str, Any]) -> bool:
    """Tell whether a step reads its proof as the matrices say."""
    return (proof.file, list(proof.argv), proof.variable, proof.where, proof.fields, proof.value) == (
        wanted.get("file", ""), list(wanted.get("argv") or ()), wanted.get("variable", ""), wanted.get("where", "node"),
        wanted.get("fields") or {}, wanted.get("value", ""))

