"""The reboot that is pending: what is wanted is installed, and what runs is still the one before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from planner.matrix.index import MatrixSet
from planner.matrix.schema import Move, State
from planner.model.target import Want
from planner.model.version import version_key
from planner.schedule.handover import holds_all, step_fields
from planner.schedule.plan import Change, PackageAct, Step
from planner.schedule.steps import StepList

_ACT = "boot"
_LOADS = ("reboot", "module-reload")
_NUMBER = re.compile(r"\As(\d+)")


class Pending(NamedTuple):
    """What a pending reboot adds to a path.

    Attributes:
        steps: The reboot, or nothing.
        before: What runs now: component -> version.
        after: What runs then.
    """

    steps: tuple[Step, ...] = ()
    before: Mapping[str, tuple[str, ...]] = {}
    after: Mapping[str, tuple[str, ...]] = {}

    def before_all(self, listed: StepList) -> StepList:
        """Return steps with the reboot at their head: what runs decides whether the rest can be proved.

        The way back has nothing for it: no reboot loads what is not installed any more.
        """
        if not self.steps:
            return listed
        return replace(listed, steps=(*self.steps, *map(_later, listed.steps)),
                       way_back=tuple(map(_later, listed.way_back)),
                       no_return_after=listed.no_return_after and _next_id(listed.no_return_after))


def load_installed(steps: tuple[Step, ...], start: State, want: Want, matrices: MatrixSet) -> Pending:
    """Return the reboot that a wanted component still needs although a path changes nothing of it.

    Any reboot or reload on the path loads what is installed, and so does whoever else changes the component.

    Args:
        steps: Of the path.
        start: State that it begins in.
        want: What the pool wants.
        matrices: All of them, with the moves whose ``act`` is ``boot``.
    """
    if any(s.disruption in _LOADS for s in steps):
        return Pending()
    for name, component in sorted(matrices.components.items()):
        source = component.loaded_of
        if source is None or source not in want or any(s.handover and _changes(s, source) for s in steps):
            continue
        runs, installed = start.get(name, ()), start.get(source, ())
        if not runs or not installed or version_key(runs[0]) == version_key(installed[0]):
            continue
        move = next((m for m in matrices.moves if m.act == _ACT and name in m.components
                     and holds_all(m.when, start, matrices)), None)
        if move is not None:
            change = (name, runs[0], installed[0])
            return Pending((_step(change, source, move, start, matrices),), {name: runs}, {name: installed})
    return Pending()


def _changes(step: Step, component: str) -> bool:
    return any(change.component == component for change in step.changes)


def _step(change: tuple[str, str, str], source: str, move: Move, start: State, matrices: MatrixSet) -> Step:
    component, old, new = change
    return Step.model_validate({
        "id": "s1", "move": move.name, "title": f"reboot into {source} {new}, which is installed ({old} is loaded)",
        "changes": (Change.model_validate({"component": component, "from": old, "to": new}),),
        "packages": PackageAct(manager="none"), "disruption": move.disruption, "minutes": move.minutes,
        "quick_gate": True, **step_fields(move, (change,), start, matrices)})


def _later(step: Step) -> Step:
    return step.model_copy(update={"id": _next_id(step.id)})


def _next_id(step_id: str) -> str:
    return _NUMBER.sub(lambda found: f"s{int(found.group(1)) + 1}", step_id)
