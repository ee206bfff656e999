"""What has to wait for other nodes: guests move once the hypervisors under them have moved. Pure.

A step may await a move (``Step.awaits``). Where other nodes of the plan make that move, those that wait form a second
phase: with a staging wave, canaries and batches of its own, behind all nodes that are waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from planner.check.judge import judgements_of
from planner.check.verdict import Verdict
from planner.diagnostics import Diagnostic
from planner.matrix.index import MatrixSet
from planner.schedule.limits import Unit, shown
from planner.schedule.plan import Cohort, NodePlan, Step


def waiting(cohorts: Iterable[Cohort]) -> dict[str, Step]:
    """Return the cohorts that wait for others of the plan, each with its first step that does."""
    cohorts = tuple(cohorts)
    makers: dict[str, set[str]] = {}
    for cohort in cohorts:
        for step in cohort.steps:
            makers.setdefault(step.move, set()).add(cohort.id)
    found: dict[str, Step] = {}
    for cohort in cohorts:
        late = [s for s in cohort.steps if s.awaits and makers.get(s.awaits, set()) - {cohort.id}]
        if late:
            found[cohort.id] = late[0]
    return found


def split_phases(units: Iterable[Unit], nodes: Mapping[str, NodePlan], cohorts: Iterable[Cohort]
                 ) -> tuple[tuple[Unit, ...], ...]:
    """Return units in phases, those that wait for nobody first; an NVLink domain waits as a whole."""
    late = waiting(cohorts)
    phases: tuple[list[Unit], list[Unit]] = ([], [])
    for unit in units:
        phases[any(nodes[n].cohort in late for n in unit.nodes)].append(unit)
    return tuple(tuple(phase) for phase in phases if phase)


def broken_meanwhile(cohorts: Iterable[Cohort], matrices: MatrixSet, accepted: frozenset[str]) -> Iterator[Diagnostic]:
    """Yield why cohorts cannot wait: what they run before their waiting step does not bear what they wait for.

    The nodes that are waited for all move before those that wait begin. So whatever a node has until its waiting step
    has to be sound with what that step brings.
    """
    cohorts = tuple(cohorts)
    late = waiting(cohorts)
    for cohort in cohorts:
        if cohort.id not in late:
            continue
        state, known, waits = dict(cohort.start), _errors(cohort.start, matrices), late[cohort.id]
        for step in cohort.steps[:cohort.steps.index(waits) + 1]:
            found = _errors({**state, **{c.component: (c.to,) for c in waits.changes}}, matrices)
            if worse := {name: why for name, why in found.items() if name not in known and name not in accepted}:
                yield _needed_between(cohort, waits, worse)
                break
            state = _after(state, step)


def _needed_between(cohort: Cohort, late: Step, worse: Mapping[str, str]) -> Diagnostic:
    first = ", then ".join(s.title for s in cohort.steps[:cohort.steps.index(late)])
    pools = ", ".join(cohort.pools)
    return Diagnostic(
        code="needed-in-between", subject=f"pool {pools}, {shown(cohort.nodes)}",
        summary=f"other nodes of this plan make {late.title} first, and these nodes do not bear that before they have "
                f"changed themselves: {first}",
        why=tuple(f"{why} [{name}]" for name, why in sorted(worse.items())),
        hint=f"plan that first, for these nodes alone (select: [{pools}]); when it is done, discover again and plan "
             "the rest")


def _errors(state: Mapping[str, tuple[str, ...]], matrices: MatrixSet) -> dict[str, str]:
    return {j.rule: j.statement for j in judgements_of(state, matrices)
            if j.blocking and j.verdict is not Verdict.SUPPORTED}


def _after(state: Mapping[str, tuple[str, ...]], step: Step) -> dict[str, tuple[str, ...]]:
    found = dict(state)
    for change in step.changes:
        kept = tuple(v for v in found.get(change.component, ()) if v != change.from_)
        found[change.component] = (*kept, change.to) if change.to else kept
    return found
