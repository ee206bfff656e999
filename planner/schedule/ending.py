"""Steps after which nobody knows what nodes can have: nothing follows them in a plan, and the plan says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from planner.matrix.index import MatrixSet
from planner.schedule.handover import moves_of
from planner.search.problem import Path, Problem


def ending_goals(problem: Problem, matrices: MatrixSet) -> tuple[str, ...]:
    """Return the wanted components that only moves which end a plan can bring, and that are not there yet."""
    return tuple(name for name, goal in sorted(problem.goals.items())
                 if not goal.met_by(problem.start.get(name, ()))
                 and (moves := moves_of(name, matrices)) and all(m.ends for m in moves))


def forgotten(problem: Problem, matrices: MatrixSet) -> tuple[str, tuple[str, ...]] | None:
    """Return a wanted component and others that its step changes, too, to what nobody knows beforehand."""
    unmet = [name for name, goal in sorted(problem.goals.items()) if not goal.met_by(problem.start.get(name, ()))]
    for name in unmet:
        moves = moves_of(name, matrices)
        lost = set.intersection(*({*m.forgets, *m.unpredicted} for m in moves)) if moves else set()
        if others := tuple(n for n in unmet if n in lost):
            return name, others
    return None


def without_goals(problem: Problem, names: Sequence[str]) -> Problem:
    """Return the problem of everything that comes before the last step."""
    return replace(problem, goals={n: g for n, g in problem.goals.items() if n not in names},
                   candidates={n: c for n, c in problem.candidates.items() if n not in names}) if names else problem


def only_goals(problem: Problem, before: Path, ending: Sequence[str]) -> Problem:
    """Return the problem of the last step: it starts where the steps before it lead, and keeps what they reached."""
    return replace(problem, start=before.states[-1],
                   candidates={n: c if n in ending else () for n, c in problem.candidates.items()})


def ends_with(path: Path, ending: Sequence[str]) -> bool:
    """Tell whether the last step of a path, and none before it, changes what ends a plan."""
    touched = [any(component in ending for component, _, _ in t.changes) for t in path.transitions]
    return bool(touched) and touched[-1] and not any(touched[:-1])


def joined(first: Path, rest: Path) -> Path:
    """Return two paths as one."""
    cost: Counter[str] = Counter(first.cost)
    cost.update(rest.cost)
    return Path(transitions=(*first.transitions, *rest.transitions), states=(*first.states, *rest.states[1:]),
                cost=dict(cost))
