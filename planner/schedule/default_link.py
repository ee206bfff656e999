"""The step that turns the default link alone: every wanted version is there already, and another one is the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from planner.fleet.fleet import Node
from planner.fleet.packages import fill, owner_set
from planner.fleet.state import asked_state
from planner.fleet.toolkits import own_toolkits
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Move, State
from planner.model.target import ToolkitWant, Want
from planner.model.version import contains, newest
from planner.schedule.handover import step_fields
from planner.schedule.plan import Change, PackageAct, Step
from planner.schedule.steps import StepList

_ACT = "links"


class Turned(NamedTuple):
    """What turning default links adds to a path.

    Attributes:
        steps: In the order of the target's components.
        before: What the links led to: component -> version, ``()`` where there was no link.
        after: What they lead to afterwards.
        failure: Why a wanted default cannot be had; "" where it can.
    """

    steps: tuple[Step, ...] = ()
    before: Mapping[str, tuple[str, ...]] = {}
    after: Mapping[str, tuple[str, ...]] = {}
    failure: str = ""

    def added_to(self, listed: StepList) -> StepList:
        """Return steps and way back with these at the end of the way, and first on the way back."""
        back = tuple(_back(step) for step in reversed(self.steps))
        return replace(listed, steps=(*listed.steps, *self.steps), way_back=(*back, *listed.way_back))


def turn_default_links(steps: tuple[Step, ...], goal: State, node: Node, want: Want, matrices: MatrixSet) -> Turned:
    """Return the steps that turn links which no step of a path turns, and why a wanted default is out of reach.

    Where a step changes a side-by-side component, the link is turned by the last such step and needs none of its own.

    Args:
        steps: Of the path.
        goal: State that they lead to.
        node: Any node of the cohort.
        want: What its pool wants.
        matrices: All of them, with the moves whose ``act`` is ``links``.
    """
    found, before, after = list[Step](), dict[str, tuple[str, ...]](), dict[str, tuple[str, ...]]()
    for component, wanted in sorted(want.items()):
        if not isinstance(wanted, ToolkitWant) or not wanted.default:
            continue
        chosen = [v for v in newest(goal.get(component, ())) if contains(wanted.default, v)]
        if not chosen and wanted.default in wanted.present:
            continue        # the search has promised it: what it left out, the validator tells
        if not chosen:
            there = ", ".join(goal.get(component, ())) or "none"
            return Turned(failure=f"{component} {wanted.default} is wanted as the default, and it is not among what "
                                  f"there is then ({there}): want it as present, too")
        name, now = _default_of(component, node, matrices)
        move = next((m for m in matrices.moves if m.act == _ACT and name in m.components), None)
        moved = any(change.component == component for step in steps for change in step.changes)
        if move is None or moved or now == (chosen[0],):
            continue
        links = _links(component, chosen[0], node, matrices)
        if isinstance(links, str):
            return Turned(failure=links)
        if steps and steps[-1].ends:
            return Turned(failure=f"the default link of {component} is turned in a plan of its own: this one ends with "
                                  f"{steps[-1].title}, and nothing follows that")
        change, number = (name, (*now, "")[0], chosen[0]), len(steps) + len(found) + 1
        found.append(_step(f"s{number}", change, links, move, goal, matrices))
        before[name], after[name] = now, (chosen[0],)
    return Turned(steps=tuple(found), before=before, after=after)


def tell_lost_defaults(listed: StepList, goal: State, node: Node, want: Want, matrices: MatrixSet) -> StepList:
    """Return the steps, with a word where what the default link leads to goes and the target names no other default."""
    steps = list(listed.steps)
    for component, wanted in sorted(want.items()):
        _, now = _default_of(component, node, matrices)
        last = max((i for i, s in enumerate(steps) for c in s.changes if c.component == component and c.from_ in now),
                   default=None)
        places = {matrices.slot_of(component, v) for v in goal.get(component, ())}
        if not isinstance(wanted, ToolkitWant) or wanted.default or last is None or \
                places.issuperset(matrices.slot_of(component, v) for v in now):
            continue
        told = (f"the default link leads to {component} {now[0]}, which goes, and the target names no other: the link "
                f"then leads nowhere unless the packages turn it - want {component} with a default")
        steps[last] = steps[last].model_copy(update={"remarks": (*(steps[last].remarks or ()), told)})
    return replace(listed, steps=tuple(steps))


def _default_of(component: str, node: Node, matrices: MatrixSet) -> tuple[str, tuple[str, ...]]:
    """Return the name that a component's default has in states, "" for none, and to what the link leads on a node."""
    name = next((n for n, c in matrices.components.items() if c.default_of == component), "")
    return name, asked_state([name], node.facts, node.state, matrices).get(name, ())


def _links(component: str, version: str, node: Node, matrices: MatrixSet) -> dict[str, str] | str:
    """Return link -> where it has to lead, or why nobody knows that."""
    package_set = owner_set(component, node.facts, node.state, matrices)
    if package_set is None or not package_set.default_links:
        return f"nobody has said which link makes one of {component} the default on {node.facts.os.id or 'these nodes'}"
    links = {link: fill(target, version, "") for link, target in package_set.default_links.items()}
    places = {t.path for t in own_toolkits(node.facts) if t.version == version}
    if places.isdisjoint(links.values()):
        return (f"{component} {version} lies in {', '.join(sorted(places))}, not in {', '.join(links.values())}, where "
                "packages put it: turn the link by hand, and discover again")
    return links


def _step(step_id: str, change: tuple[str, str, str], links: Mapping[str, str], move: Move, goal: State,
          matrices: MatrixSet) -> Step:
    component, old, new = change
    return Step.model_validate({
        "id": step_id, "move": move.name, "title": f"{component} {old} -> {new}" if old else f"add {component} {new}",
        "changes": (_change(component, old, new),), "packages": PackageAct(manager="none"),
        "disruption": move.disruption, "minutes": move.minutes, "quick_gate": False, "links": dict(links),
        **step_fields(move, (change,), goal, matrices)})


def _back(step: Step) -> Step:
    (change,) = step.changes
    title = f"{change.component} back to {change.from_}" if change.from_ else \
        f"nothing takes the default link off: rm {' '.join(step.links)}"
    return step.model_copy(update={
        "id": f"{step.id}-undo", "title": title, "changes": (_change(change.component, change.to, change.from_),),
        "remarks": None, "links": {}})


def _change(component: str, old: str, new: str) -> Change:
    return Change.model_validate({"component": component, "from": old, "to": new})
