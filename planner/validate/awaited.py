"""Checks that what waits for other nodes does wait, and that it bears what they have meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

from planner.schedule.plan import Cohort, Plan
from planner.validate.rules import Rules, State


def out_of_turn(plan: Plan, rules: Rules, accepted: set[str]) -> Iterator[str]:
    """Yield what begins before the nodes that it waits for, and what breaks while it waits.

    Args:
        plan: With its waves.
        rules: Raw matrices: ``awaits`` of a move names the move of other nodes that comes before.
        accepted: Names of accepted risks.
    """
    line = [batch for wave in plan.waves for batch in wave.batches]
    turn = {name: at for at, batch in enumerate(line) for name in batch.nodes}
    for cohort in plan.cohorts:
        for number, step in enumerate(cohort.steps):
            awaited = rules.moves.get(step.move, {}).get("awaits")
            if (step.awaits or None) != (awaited or None):
                yield f"{cohort.id}, step {step.id}: waits for {step.awaits or 'nothing'}, {step.move} for {awaited}"
            if not awaited:
                continue
            others = [c for c in plan.cohorts if c is not cohort and any(s.move == awaited for s in c.steps)]
            ended = max((turn.get(n, -1) for c in others for n in c.nodes), default=-1)
            early = sorted(n for n in cohort.nodes if turn.get(n, -1) <= ended)
            if others and early:
                yield (f"{cohort.id}, step {step.id}: waits for {awaited} on other nodes, and {early[0]} begins before "
                       "the last of them is done")
            if others:
                yield from _meanwhile(cohort, number, rules, accepted)


def _meanwhile(cohort: Cohort, number: int, rules: Rules, accepted: set[str]) -> Iterator[str]:
    """Yield what a node breaks until its waiting step, once the nodes that it waits for have what the step brings."""
    known, state = rules.broken(cohort.start), dict(cohort.start)
    step = cohort.steps[number]
    for earlier in cohort.steps[:number + 1]:
        there: State = {**state, **{c.component: (c.to,) for c in step.changes}}
        worse = {b for b in rules.broken(there) - known if not rules.names_of(b[0]) & accepted}
        yield from (f"{cohort.id}, before step {earlier.id}: with {step.title} on other nodes {rule} is broken"
                    for rule, _ in sorted(worse))
        for change in earlier.changes:
            kept = tuple(v for v in state.get(change.component, ()) if v != change.from_)
            state[change.component] = (*kept, change.to) if change.to else kept
