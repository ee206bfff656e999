"""Compares states by what rules say about them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.check.judge import StateJudge
from planner.check.verdict import Judgement, Verdict
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.model.version import version_key


@dataclass(frozen=True, slots=True)
class Score:
    """What is wrong with a state: rules broken as errors (unknowns of closed families, too), and as warnings."""

    errors: tuple[str, ...]
    warnings: tuple[str, ...]


class Scorer:
    """Judges states of one machine as some of its components change."""

    def __init__(self, matrices: MatrixSet) -> None:
        """Judge by these matrices; answers are remembered."""
        self._judge = StateJudge(matrices)

    def problems(self, state: State) -> tuple[Judgement, ...]:
        """Return what is not supported or not known and blocks, and what is warned of."""
        return tuple(j for j in self._judge.judge(state) if j.verdict is not Verdict.SUPPORTED
                     and (j.blocking or (j.severity == "warning" and j.verdict is Verdict.UNSUPPORTED)))

    def score(self, state: State) -> Score:
        """Return the score of a state."""
        found = self.problems(state)
        return Score(tuple(sorted({j.rule for j in found if j.blocking})),
                     tuple(sorted({j.rule for j in found if not j.blocking})))


def crossed_notes(component: str, old: str, new: str, matrices: MatrixSet) -> tuple[str, ...]:
    """Return the release notes that a change upwards crosses, oldest first."""
    low, high = version_key(old), version_key(new)
    return tuple(dict.fromkeys(f"{r.version}: {note}" for r in matrices.releases.get(component, ())
                               if low < version_key(r.version) <= high for note in r.notes))


def rules_gone(before: Sequence[Judgement], after: Sequence[Judgement]) -> tuple[Judgement, ...]:
    """Return the judgements of ``before`` whose rules no longer speak in ``after``, each rule once."""
    left = {j.rule for j in after}
    once: Mapping[str, Judgement] = {j.rule: j for j in before if j.rule not in left}
    return tuple(once.values())
