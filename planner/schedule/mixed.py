"""Packages of one component that are not of one version: what the search takes for it is the version of a part."""

from __future__ import annotations

from collections.abc import Iterable

from planner.fleet.fleet import Node
from planner.fleet.parts import disagreeing
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.schedule.plan import Step
from planner.search.explain import Refusal
from planner.search.problem import Goal


def not_of_one_version(goals: Iterable[Goal], steps: Iterable[Step], node: Node, matrices: MatrixSet) -> Refusal | None:
    """Return why steps must not be made, or do not do, on a node with packages of two versions of one component.

    A step that changes the component puts all of its packages on one version. Without one, a goal that seems to be met
    is not, and a reboot loads what does not fit together.
    """
    steps = tuple(steps)
    changed = {change.component for step in steps for change in step.changes}
    names = dict.fromkeys(goal.component for goal in goals)
    if any(step.disruption == "reboot" for step in steps):
        names |= dict.fromkeys(c.parts_of for c in matrices.components.values() if c.parts_of)
    for name in names:
        found = {} if name in changed or matrices.is_many(name) else disagreeing(name, node.facts, node.state, matrices)
        if found:
            parts = ", ".join(f"{package} {version}" for package, version in sorted(found.items()))
            told = (f"{name} {' '.join(node.state.get(name, ()))} is there in part only: packages of two versions are "
                    f"mixed ({parts}), which no step of this plan mends, and the next boot loads; bring them to one "
                    "version by hand, or want another version of it, then discover again")
            return Refusal(code="mixed-packages", goals=(), why=(told,), sources=(), nearest=())
    return None


def settled(kept: State, steps: Iterable[Step], matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return what no step moves, without what steps put on one version."""
    changed = {change.component for step in steps for change in step.changes}
    return {name: values for name, values in kept.items()
            if name not in matrices.components or matrices.components[name].parts_of not in changed}
