"""Libraries are built for one major release of the toolkit: where its last one goes, the build that fits takes over.

A build is no value of a state - the library's version stays as it is -, so the search does not see it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from planner.fleet.fleet import Node
from planner.fleet.packages import Unresolvable, owner_set, resolve_install
from planner.fleet.parts import built_for
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Move, State
from planner.schedule.steps import StepList
from planner.search.problem import Path, Transition


class _Library(NamedTuple):
    """A library that is there: its version, the major that it is built for, and the move that changes it."""

    component: str
    version: str
    major: str
    move: Move | None


class Rebuilt(NamedTuple):
    """A path with the steps that put on other builds.

    Attributes:
        path: The path.
        remarks: Number of a transition, from 0 -> what people should know of it.
    """

    path: Path
    remarks: Mapping[int, tuple[str, ...]] = {}

    def told(self, listed: StepList) -> StepList:
        """Return the steps of the path with these remarks."""
        steps = tuple(step if at not in self.remarks else
                      step.model_copy(update={"remarks": (*(step.remarks or ()), *self.remarks[at])})
                      for at, step in enumerate(listed.steps))
        return replace(listed, steps=steps)


def with_builds(path: Path, node: Node, matrices: MatrixSet, cuda_major: str) -> Rebuilt:
    """Return a path that changes the build of libraries before the last toolkit of their major release goes.

    Args:
        path: As the search has found it.
        node: Any node of the cohort.
        matrices: Moves of such a node, package sets.
        cuda_major: Major number of the default toolkit in the goal; "" where none is named.
    """
    changed = {c for t in path.transitions for c, _, _ in t.changes}
    libraries = [lib for lib in _libraries(node, matrices) if lib.component not in changed]
    transitions, states, remarks = list[Transition](), [path.states[0]], dict[int, tuple[str, ...]]()
    for transition, after in zip(path.transitions, path.states[1:], strict=True):
        for name, major in _last_ones(transition, after, node, matrices):
            for lib in [lib for lib in libraries if lib.major == major]:
                libraries.remove(lib)
                left = {_major(v) for v in after.get(name, ())}
                reason = _no_build(lib, cuda_major, left, node, matrices)
                at = len(transitions)
                if lib.move is None or reason:
                    remarks[at] = (*remarks.get(at, ()), _stays(lib, name, reason or "no step changes it here"))
                    continue
                remarks |= {at + 1: remarks.pop(at)} if at in remarks else {}
                remarks[at] = (_takes_over(lib, name, cuda_major),)
                transitions.append(_transition(lib, lib.move))
                states.append(states[-1])
        transitions.append(transition)
        states.append(after)
    added = [t for t in transitions if t not in path.transitions]
    cost = {**path.cost, **{field: path.cost.get(field, 0) + sum(t.cost[field] for t in added)
                            for field in ("steps", "minutes")}}
    return Rebuilt(Path(tuple(transitions), tuple(states), cost) if added else path, remarks)


def _stays(library: _Library, toolkits: str, reason: str) -> str:
    return (f"{library.component} {library.version} is built for {toolkits} {library.major}, the last of which goes, "
            f"and stays so: {reason}; want another {library.component}, or let one of {toolkits} {library.major} stay")


def _takes_over(library: _Library, toolkits: str, major: str) -> str:
    return (f"what is there is built for {toolkits} {library.major}, the last of which goes in this plan: the same "
            f"version comes built for {major}")


def _transition(library: _Library, move: Move) -> Transition:
    return Transition(move=move.name, changes=((library.component, library.version, library.version),),
                      cost={"steps": 1, "minutes": move.minutes})


def _major(version: str) -> str:
    return version.partition(".")[0]


def _last_ones(transition: Transition, after: State, node: Node, matrices: MatrixSet) -> Iterator[tuple[str, str]]:
    """Yield (component, major) of what has a default link, and of which a step takes the last of a major away."""
    linked = {s.component for s in matrices.packages if s.default_links and s.manager == node.facts.os.family}
    for component, old, new in transition.changes:
        if component in linked and old and not new and _major(old) not in {_major(v) for v in after.get(component, ())}:
            yield component, _major(old)


def _libraries(node: Node, matrices: MatrixSet) -> Iterator[_Library]:
    for component in sorted(node.state):
        package_set = owner_set(component, node.facts, node.state, matrices)
        if package_set is None or not node.state[component]:
            continue
        if major := built_for(package_set, node.facts.packages):
            move = next((m for m in matrices.moves if m.components == (component,) and m.act == "packages"), None)
            yield _Library(component, node.state[component][0], major, move)


def _no_build(library: _Library, major: str, left: set[str], node: Node, matrices: MatrixSet) -> str:
    """Return why the version that is there does not come in another build, "" where it does."""
    if major not in left:
        return "the target names no default whose build could take over"
    plan = resolve_install(library.component, library.version, node.facts, node.state, matrices, cuda_major=major,
                           installed=node.facts.packages)
    return plan.reason if isinstance(plan, Unresolvable) else ""
