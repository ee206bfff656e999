"""Looks for mistakes in moves: hand-overs that tell nothing or prove nothing, names and templates nobody knows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from planner.matrix.index import MatrixSet
from planner.matrix.schema import MatrixFile, Move, PackageSet, Proof

Path = tuple[object, ...]
Complaint = tuple[str, Path, str]         # code, where, summary

_FIELD = re.compile(r"\{([^}]*)\}")
_TOLD = frozenset({"from", "to", "components"})


def moves(content: MatrixFile, matrices: MatrixSet) -> Iterator[Complaint]:
    """Yield every complaint about the moves and package sets of one file."""
    for position, move in enumerate(content.moves):
        path = ("moves", position)
        for name in sorted({*move.when, *move.forgets, *move.unpredicted, *(n for u in move.unfit for n in u.when),
                            *(n for note in move.notes for n in note.when)} - matrices.components.keys()):
            yield "unknown-component", path, f"component {name!r} is not defined"
        for text in (*move.instructions, *move.undo, move.no_return, *(n.text for n in move.notes)):
            if unknown := sorted(set(_FIELD.findall(text)) - _TOLD):
                yield "bad-template", path, f"{move.name}: {{{unknown[0]}}} is none of from, to, components"
        yield from _handover(move, path, matrices)
        awaited = next((m for m in matrices.moves if m.name == move.awaits), None)
        if move.awaits and (awaited is None or awaited.awaits or not set(awaited.components) & set(move.components)):
            yield "bad-move", path, (f"{move.name}: awaits {move.awaits}, which is no move of the same component that "
                                     "waits for nothing itself")
        for place, item in enumerate(move.refresh):
            if bool(item.unit) == bool(item.file and item.argv):
                yield "bad-move", (*path, "refresh", place), f"{move.name}: name a unit, or a file and its command"
    for position, package_set in enumerate(content.packages):
        yield from _line(package_set, ("packages", position), matrices)


def _handover(move: Move, path: Path, matrices: MatrixSet) -> Iterator[Complaint]:
    if move.act != "handover":
        if extra := [f for f in ("instructions", "undo", "no_return", "proofs", "hops") if getattr(move, f)]:
            yield "bad-move", path, f"{move.name}: {extra[0]} belongs to act: handover"
        return
    if not move.instructions or move.provenance is None:
        yield "bad-move", path, f"{move.name}: a hand-over needs instructions and a source"
    if not move.undo and not move.no_return:
        yield "bad-move", path, f"{move.name}: say how it is undone, or why it cannot be (no_return)"
    if missing := sorted(set(move.components) - {p.component for p in move.proofs}):
        yield "bad-move", path, f"{move.name}: nothing proves {missing[0]} afterwards"
    if move.hops and any(not matrices.is_text(c) for c in move.components):
        yield "bad-move", path, f"{move.name}: hops are for text; for versions, lines"
    for place, proof in enumerate(move.proofs):
        yield from _proof(proof, (*path, "proofs", place))


def _proof(proof: Proof, path: Path) -> Iterator[Complaint]:
    if sum(map(bool, (proof.file, proof.argv, proof.variable))) != 1:
        yield "bad-proof", path, f"proof of {proof.component}: exactly one of file, argv and variable"
    if unknown := sorted(set(_FIELD.findall(proof.value)) ^ set(proof.fields)):
        yield "bad-proof", path, f"proof of {proof.component}: {unknown[0]} is a field without use, or unknown"
    for name, pattern in proof.fields.items():
        try:
            groups = re.compile(pattern).groups
        except re.error as exc:
            yield "bad-pattern", path, f"{name}: {exc}"
            continue
        if groups != 1:
            yield "bad-pattern", path, f"{name}: a field has one group, this pattern has {groups}"


def _line(package_set: PackageSet, path: Path, matrices: MatrixSet) -> Iterator[Complaint]:
    """Sets of one line tell each other apart by what a component's packages carry; heirs are packages of their set."""
    carried = {n for n, c in matrices.components.items() if c.carrier == package_set.component}
    if package_set.line and not carried & set(package_set.when):
        yield "bad-line", path, f"{package_set.name}: its `when` names nothing that {package_set.component} carries"
    for heir in sorted(set(package_set.heirs.values()) - set(package_set.optional)):
        yield "bad-heir", path, f"{package_set.name}: {heir} is an heir, and not among the optional packages"
