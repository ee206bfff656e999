"""Judges a described machine, or several that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from planner.check.domains import Members, judge_domains
from planner.check.fleet import Report, check_states
from planner.check.judge import StateJudge
from planner.check.verdict import Judgement
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.stack.schema import Stack


def check_stack(stack: Stack, matrices: MatrixSet) -> Report:
    """Judge every view of every machine, and the machines against each other as if one job ran on all of them."""
    members = [(machine.name, machine.views[0].state) for machine in stack.machines]
    return check_states(((v.subject, v.state) for v in stack.views), matrices, _domains(members, stack.domains),
                        stack.not_judged)


def judge_views(views: Iterable[tuple[str, State]], matrices: MatrixSet, members: Members = (),
                kinds: Sequence[str] = ()) -> tuple[Judgement, ...]:
    """Return every judgement on some views, and on the members as nodes of domains; supported ones, too."""
    judge = StateJudge(matrices)
    alone = [judged for _, state in views for judged in judge.judge(state)]
    return (*alone, *(judged for _, judged in judge_domains(_domains(members, kinds), matrices)))


def _domains(members: Members, kinds: Sequence[str]) -> Mapping[tuple[str, str], Members]:
    return {(kind, "these nodes"): members for kind in kinds} if len(members) > 1 else {}
