"""What rules say of the two ends of a path: what was wrong before, and what is known of the goal."""

from __future__ import annotations

from collections.abc import Iterable

from planner.check.judge import judgements_of
from planner.check.verdict import Judgement, Verdict
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.schedule.plan import Claimed, KnownProblem, Step


def inherited(start: State, matrices: MatrixSet) -> tuple[Claimed, ...]:
    """Return what blocks the state that nodes are in."""
    bad = [j for j in judgements_of(start, matrices) if j.blocking and j.verdict is not Verdict.SUPPORTED]
    return tuple(claimed(j, matrices) for j in bad)


def running(state: State, steps: Iterable[Step], matrices: MatrixSet) -> State:
    """Return the state with what is loaded as it will be.

    After a reboot the installed version runs, and so does what others change: whoever replaces it loads it.
    """
    steps = tuple(steps)
    if any(s.disruption in ("reboot", "module-reload") for s in steps):
        moved = set(state)
    else:
        moved = {c.component for s in steps if s.handover for c in s.changes}
    loaded = {name: c.loaded_of for name, c in matrices.components.items() if c.loaded_of in moved and name in state}
    return {**state, **{name: state[source] for name, source in loaded.items() if source}}


def known_problems(start: State, goal: State, matrices: MatrixSet) -> tuple[KnownProblem, ...]:
    """Return the warnings that hold at the goal, in the order of the matrices; each says whether it is new."""
    def found(state: State) -> list[Judgement]:
        return [j for j in judgements_of(state, matrices)
                if j.severity == "warning" and j.verdict is Verdict.UNSUPPORTED]

    before = {j.key for j in found(start)}
    return tuple(
        KnownProblem(claim=j.rule, statement=j.statement, source=_source(j, matrices), hint=j.hint,
                     at_start=j.key in before)
        for j in found(goal)
    )


def claimed(judgement: Judgement, matrices: MatrixSet) -> Claimed:
    """Return a judgement as a plan document carries it."""
    return Claimed(claim=judgement.rule, statement=judgement.statement, source=_source(judgement, matrices))


def _source(judgement: Judgement, matrices: MatrixSet) -> str:
    if judgement.provenance is None:
        return matrices.files.get(judgement.rule, "")
    return matrices.source_of(judgement.rule, judgement.provenance)
