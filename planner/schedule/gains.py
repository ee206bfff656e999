"""What a fleet gets rid of: problems that are there today and that no goal has."""

from __future__ import annotations

from collections.abc import Iterable

from planner.check.judge import judgements_of
from planner.check.verdict import Verdict
from planner.matrix.index import MatrixSet
from planner.schedule.plan import Cohort, Gain

_HERE = " (here: "      # ends a judgement's statement: the values that were judged


def gains_of(cohorts: Iterable[Cohort], matrices: MatrixSet) -> tuple[Gain, ...]:
    """Return what rules hold against the start of some cohort and not against its goal, in the order of the matrices.

    What a target accepts by name stays, so it is no gain.
    """
    found: dict[str, Gain] = {}
    for cohort in cohorts:
        if not cohort.steps:
            continue
        left = {w.claim for w in cohort.warnings}
        left |= {j.rule for j in judgements_of(cohort.goal, matrices)
                 if j.blocking and j.verdict is not Verdict.SUPPORTED}
        for judged in judgements_of(cohort.start, matrices):
            if judged.verdict is not Verdict.UNSUPPORTED or judged.severity == "info" or judged.rule in left:
                continue
            known = found.get(judged.rule)
            cohorts_of = () if known is None else known.cohorts
            if cohort.id not in cohorts_of:
                source = matrices.source_of(judged.rule, judged.provenance) if judged.provenance else ""
                found[judged.rule] = Gain(claim=judged.rule, statement=judged.statement.partition(_HERE)[0],
                                          source=source, cohorts=(*cohorts_of, cohort.id))
    order = {claim.name: place for place, claim in enumerate(matrices.claims)}
    return tuple(sorted(found.values(), key=lambda g: (order.get(g.claim, len(order)), g.claim)))
