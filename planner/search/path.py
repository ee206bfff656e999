"""The verb: find the cheapest safe path, or say that there is none."""

from __future__ import annotations

from collections import Counter
from typing import cast

from planner.matrix.index import MatrixSet
from planner.search.compile import compile_task, movable
from planner.search.core.solve import solve
from planner.search.core.task import NoPath
from planner.search.judge import Judge
from planner.search.problem import Path, Problem, Transition


def find_path(problem: Problem, matrices: MatrixSet, judge: Judge | None = None) -> Path | None:
    """Return the cheapest path in which every intermediate state is safe, or None when there is none.

    Safe means: no blocking judgement that was not there at the start and is not accepted by name; the last state has
    none at all. Cost is lexicographic over ``Problem.optimize``; equal costs are broken by the order of the matrices.

    Raises:
        SearchLimitError: The bound on expanded states was met; nothing is proved.
    """
    judge = judge or Judge(matrices, problem.start, movable(problem))
    compiled = compile_task(problem, matrices, judge)
    found = solve(compiled.task)
    if isinstance(found, NoPath):
        return None
    steps: list[Transition] = []
    total: Counter[str] = Counter()
    for before, step in zip(found.states, found.steps, strict=False):
        transition = cast("Transition", step.label)
        cost = {**transition.cost, **compiled.extras.fields(before, transition)}
        steps.append(transition._replace(cost=cost))
        total.update(cost)
    return Path(transitions=tuple(steps), states=tuple(compiled.state.state(v) for v in found.states),
                cost=dict(total))
