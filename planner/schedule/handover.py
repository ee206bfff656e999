"""Steps that no package manager makes: which moves a node has, what they may lead to, and how they are told.

Everything here follows from the moves in the matrices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from planner.fleet.fleet import RECOGNISED_OWNERS
from planner.matrix.conditions import ABSENT, holds, matches_value
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Condition, Move, Proof, Release, State
from planner.model.version import contains, newest, version_key
from planner.schedule.plan import Change, Cohort, Step, StepProof, StepRefresh
from planner.search.problem import Goal

Changes = tuple[tuple[str, str, str], ...]

_KEPT = 3            # releases of one line that are offered to the search
_SHOWN = 6           # releases named in a reason
_NAME = re.compile(r"\{([a-z_]+)\}")
_GLOB = re.compile(r"[*?\[\]|<>=! ,]")


def holds_all(conditions: Mapping[str, Condition], state: State, matrices: MatrixSet) -> bool:
    """Tell whether a state is known to meet every condition."""
    return all(holds(c, name, state, text=matrices.is_text(name)) for name, c in conditions.items())


def moves_for(state: State, goals: Mapping[str, Goal], matrices: MatrixSet) -> MatrixSet:
    """Return the matrices with only those moves that a node in this state can make towards these goals.

    Packages do not move what somebody else owns; there only a hand-over can.
    A value that another component's packages bring (``carrier``) moves only where it is asked for; then the carrier
    moves together with it or not at all, so that no step mixes packages of two lines.
    """
    carried = {name: c.carrier for name, c in matrices.components.items() if c.carrier}
    turning = {name for name in carried if name in goals and not goals[name].met_by(state.get(name, ()))}
    carriers = {carried[name] for name in turning}
    fitting = tuple(
        move for move in matrices.moves
        if holds_all(move.when, state, matrices) and turning.issuperset(carried.keys() & set(move.components))
        and (move.act == "packages" or set(move.components) & set(goals))
        and not (carriers & set(move.components) and not turning & set(move.components)))
    mine = {m.name: not (m.act == "packages" and _foreign(m, state, matrices)) for m in fitting}
    moved = {component for m in fitting if mine[m.name] for component in m.components}
    # What is nobody's to make still tells why, better than that somebody else owns what it changes.
    kept = tuple(m for m in fitting
                 if mine[m.name] or (moved.isdisjoint(m.components) and _unfit(m, state, matrices)))
    return matrices if len(kept) == len(matrices.moves) else matrices.with_moves(kept)


def _foreign(move: Move, state: State, matrices: MatrixSet) -> bool:
    """Tell whether somebody else than a package manager owns what a move of packages would change."""
    owners = {matrices.components[c].owner for c in move.components} - {None}
    known = {owner for name in owners for owner in state.get(name or "", ())}
    return bool(known - RECOGNISED_OWNERS - {"none"})


def moves_of(component: str, matrices: MatrixSet) -> tuple[Move, ...]:
    """Return the moves that change a component."""
    return tuple(m for m in matrices.moves if component in m.components)


def handed_over(component: str, matrices: MatrixSet) -> Move | None:
    """Return the hand-over that alone moves a component, or None where packages bring it (or nothing moves it)."""
    moves = moves_of(component, matrices)
    return moves[0] if moves and all(m.act == "handover" for m in moves) else None


def unfit(component: str, state: State, matrices: MatrixSet) -> str:
    """Return why no move of a component may be made from this state, "" where one may."""
    reasons = [_unfit(move, state, matrices) for move in moves_of(component, matrices)]
    return reasons[0] if reasons and all(reasons) else ""


def _unfit(move: Move, state: State, matrices: MatrixSet) -> str:
    for item in move.unfit:
        if all((c == ABSENT and name not in state) or holds(c, name, state, text=matrices.is_text(name))
               for name, c in item.when.items()):
            hint = f"; {item.hint}" if item.hint else ""
            return _NAME.sub(lambda m: " ".join(state.get(m.group(1), ())) or "absent", item.because) + hint
    return ""


def offers(move: Move, goal: Goal, state: State, matrices: MatrixSet) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return what a hand-over may lead a component to, best first, and why it leads to none of what is wanted.

    Returns:
        Values; wanted text -> a sentence.
    """
    name = goal.component
    current = state.get(name, ())
    wanted = tuple(filter(None, (goal.want, *goal.present)))
    if name not in state:
        where = matrices.components[name].declared
        read = f"say it in the inventory: planner_{where}" if where else "read it first: planner discover"
        return (), dict.fromkeys(wanted, f"{name} of these nodes is not known; {read}")
    if matrices.is_text(name):
        offered = _texts(move, goal, current, matrices)
    else:
        offered = tuple(_versions(move, goal, current, matrices))
    missing = [w for w in wanted if not any(_fits(w, v, name, matrices) for v in (*current, *offered))]
    return offered, {w: _reason(move, w, name, current, offered, matrices) for w in missing}


def _fits(wanted: str, value: str, name: str, matrices: MatrixSet) -> bool:
    return matches_value(wanted, value, text=True) if matrices.is_text(name) else contains(wanted, value)


def _texts(move: Move, goal: Goal, current: tuple[str, ...], matrices: MatrixSet) -> tuple[str, ...]:
    if move.hops:
        return tuple(dict.fromkeys(after for value in current for after in move.hops.get(value, ())))
    options = matrices.components[goal.component].options
    if options:
        return tuple(v for v in options if v not in current)
    return () if not goal.want or _GLOB.search(goal.want) or goal.want in current else (goal.want,)


def _versions(move: Move, goal: Goal, current: tuple[str, ...], matrices: MatrixSet) -> Iterator[str]:
    """Yield releases, newest first: the newest few that are wanted, and the newest of every line in reach."""
    known = [r.version for r in _releases(goal.component, matrices) if not r.withdrawn]
    if not known:
        yield from (w for w in (goal.want, *goal.present) if w and not _GLOB.search(w) and w not in current)
        return
    reach = _reach(move, current)
    seen: set[object] = set()
    wanted = 0
    for version in newest(known):
        line = _line(version, move.lines) if move.lines else version.split(".")[0]
        older = bool(current) and version_key(version) <= version_key(current[0])
        if (reach is not None and line not in reach) or (older and not move.downgrade) or version in current:
            continue
        fits = goal.met_by((version,))
        wanted += fits
        if (fits and wanted <= _KEPT) or line not in seen:
            seen.add(line)
            yield version


def _releases(component: str, matrices: MatrixSet) -> tuple[Release, ...]:
    return matrices.releases.get(matrices.components[component].releases_of or component, ())


def _reach(move: Move, current: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the lines that one step may lead to, None for any."""
    if not move.lines or not current:
        return None
    now = _line(current[0], move.lines)
    place = move.lines.index(now) if now in move.lines else len(move.lines)
    return move.lines[place:place + 2]


def _line(version: str, lines: Iterable[str]) -> str:
    """Return the line that a version belongs to, "" for none that is known."""
    return next((line for line in lines if contains(line, version)), "")


def _reason(move: Move, wanted: str, name: str, current: tuple[str, ...], offered: tuple[str, ...],
            matrices: MatrixSet) -> str:
    now = " ".join(current) or "absent"
    if move.hops:
        known = {v for pair in move.hops.items() for v in (pair[0], *pair[1])}
        if first := _leading_on(move, wanted, offered):
            return (f"{name} {wanted} is more than one step away from {now}, and what comes after a step can only be "
                    f"planned once it is done: first {' or '.join(first)}, then discover and plan again")
        if any(matches_value(wanted, v, text=True) and set(current) & _reached(move, (v,)) for v in known):
            return f"{name} {wanted} is older than {now}: there is no way back in place"
        return f"no way from {name} {now} to {wanted} is known (known: {', '.join(offered) or 'none'})"
    if options := matrices.components[name].options:
        return f"{name} is one of {', '.join(options)}; {wanted} is none of them"
    releases = [r.version for r in _releases(name, matrices)]
    fitting = [v for v in releases if contains(wanted, v)]
    newer = [v for v in fitting if not current or version_key(v) > version_key(current[0])]
    if newer and offered:
        return (f"{name} {wanted} cannot be reached from {now} at once: one line after the other, first "
                f"{offered[0]}; then plan again")
    if fitting:
        return f"{name} {wanted} is not newer than {now}: there is no way back in place"
    return f"no release {name} {wanted} is known (known: {', '.join(newest(releases)[:_SHOWN]) or 'none'})"


def _leading_on(move: Move, wanted: str, offered: tuple[str, ...]) -> list[str]:
    """Return the values from which fewest hops lead to what is wanted, none where no hops do."""
    reach = {value: {value} for value in offered}
    for _ in move.hops:
        found = [v for v in offered if any(matches_value(wanted, w, text=True) for w in reach[v])]
        if found:
            return found
        reach = {value: {after for now in values for after in move.hops.get(now, ())}
                 for value, values in reach.items()}
    return []


def _reached(move: Move, values: Iterable[str]) -> set[str]:
    """Return everything that hops lead to, one after another."""
    found: set[str] = set()
    todo = list(values)
    while todo:
        after = [v for v in move.hops.get(todo.pop(), ()) if v not in found]
        found.update(after)
        todo += after
    return found


def handover_fields(move: Move, changes: Changes, after: State) -> dict[str, Any]:
    """Return what a hand-over adds to its step: instructions and proofs, exact."""
    told = tuple(fill_words(text, changes) for text in move.instructions)
    return {"handover": True, "instructions": told, "proofs": _proofs(move, changes, after)}


def step_fields(move: Move, changes: Changes, state: State, matrices: MatrixSet) -> dict[str, Any]:
    """Return what any move may add to its step: that it ends the plan or waits, what is made again, remarks."""
    fields: dict[str, Any] = {"ends": True} if move.ends else {}
    if move.awaits:
        fields["awaits"] = move.awaits
    if move.unpredicted:
        fields["unpredicted"] = move.unpredicted
    if move.refresh:
        fields["refresh"] = tuple(StepRefresh(file=r.file, argv=r.argv, unit=r.unit) for r in move.refresh)
    moved = any(old != new for _, old, new in changes)      # else another build of the same
    if notes := tuple(fill_words(n.text, changes) for n in move.notes if moved and holds_all(n.when, state, matrices)):
        fields["remarks"] = notes
    return fields


def _proofs(move: Move, changes: Changes, after: State) -> tuple[StepProof, ...]:
    found = []
    for proof in move.proofs:
        mine = [c for c in changes if c[0] == proof.component]
        if mine:
            found.append(_proof(proof, mine, after))
    return tuple(found)


def _proof(proof: Proof, changes: list[tuple[str, str, str]], after: State) -> StepProof:
    wanted = tuple(new for _, _, new in changes if new)
    gone = tuple(old for _, old, _ in changes if old and old not in after.get(proof.component, ()))
    return StepProof(component=proof.component, wanted=wanted, unwanted=gone, file=proof.file, argv=proof.argv,
                     variable=proof.variable, where=proof.where, fields=dict(proof.fields), value=proof.value)


def fill_words(template: str, changes: Changes) -> str:
    """Fill ``{from}``, ``{to}`` and ``{components}`` of a sentence for people."""
    _, old, new = changes[0]
    listed = ", ".join(f"{c} {a or 'absent'} -> {b or 'absent'}" for c, a, b in changes)
    return template.replace("{from}", old or "none").replace("{to}", new or "none").replace("{components}", listed)


def undo_by_hand(step: Step, move: Move, before: State) -> tuple[Step, str]:
    """Return the step that takes a hand-over back, and why no way leads back ("" where one does)."""
    back: Changes = tuple((c.component, c.to, c.from_) for c in step.changes)
    told = tuple(fill_words(text, back) for text in move.undo)
    title = ", ".join(f"{c} back to {new}" if new else f"remove {c} {old}" for c, old, new in back) + " by hand"
    undo = step.model_copy(update={
        "id": f"{step.id}-undo", "title": title, "because": (), "notes": (), "remarks": None, "links": {}, "ends": None,
        "awaits": None,
        "changes": tuple(Change.model_validate({"component": c, "from": a, "to": b}) for c, a, b in back),
        "instructions": told or (f"planner knows no way back: {move.no_return or 'the matrices name none'}",),
        "proofs": _proofs(move, back, before)})
    return undo, fill_words(move.no_return, back) if not move.undo or move.no_return else ""


def cluster_wide(cohorts: Iterable[Cohort]) -> Iterator[str]:
    """Yield a sentence for every step that is made once for a whole cluster: what bounds nodes does not bound it."""
    titles = dict.fromkeys(s.title for c in cohorts for s in c.steps
                           if any(p.where == "cluster" for p in s.proofs or ()))
    yield from (f"{title}: once for the whole cluster, so every node gets it with the first one, whatever canaries and "
                "batches say; later nodes pass the step at once, and the plan takes less than it says"
                for title in titles)
