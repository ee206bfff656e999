"""``planner check`` on a discovery: the fleet as it is, or as a target wants it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from planner.check.fleet import Report, changed, check_states
from planner.check.since import since_rollout
from planner.cli.check_inputs import views_with_image
from planner.cli.inputs import load_facts
from planner.diagnostics import Diagnostic, short
from planner.errors import InputError
from planner.fleet.fleet import Fleet, Node, build_fleet
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.model.target import Target
from planner.model.version import contains, version_key
from planner.stack.facts import fleet_views
from planner.stack.image import Image

if TYPE_CHECKING:
    from planner.cli.check_python import LoadedEnvironment


def judge_fleet(facts_path: Path, names: tuple[str, ...], target: Target | None, image: Image | None, image_name: str,
                environment: LoadedEnvironment | None, bundle: Path | None, matrices: MatrixSet
                ) -> tuple[Fleet, int, Report]:
    """Judge the nodes of a discovery.

    Args:
        facts_path: facts.json.
        names: Only these nodes; empty: all.
        target: Judge what it wants instead of what is there.
        image: A container image on every node.
        image_name: How the user wrote it.
        environment: A Python environment on every node.
        bundle: A rollout that is over; its nodes are compared with its goals.
        matrices: What is known.

    Returns:
        The fleet, the number of nodes judged, the report.
    """
    fleet = build_fleet(load_facts(facts_path), matrices)
    nodes = _named(fleet, names)
    seen, domains = fleet_views(nodes, matrices)
    views = _states(nodes, target, matrices) if target else ((v.subject, v.state) for v in seen)
    notes: list[str] = []
    if image is not None:
        views = views_with_image(views, image, image_name, matrices, notes)
    if environment is not None:
        views = environment.on_views(views, matrices, notes)
    if bundle is not None:
        views = chain(views, _since(nodes, bundle))
    return fleet, len(nodes), check_states(views, matrices, {} if target else domains, notes)


def _since(nodes: tuple[Node, ...], bundle: Path) -> Iterator[tuple[str, State]]:
    """Yield for every node of a rollout what has become of its goal."""
    from planner.emit.write import read_bundle

    cohorts = {name: cohort for cohort in read_bundle(bundle).cohorts for name in cohort.nodes}
    for node in nodes:
        cohort = cohorts.get(node.name)
        if cohort is not None and cohort.steps:
            moved = sorted({change.component for step in cohort.steps for change in step.changes})
            yield node.name, since_rollout(node.state, cohort.start, cohort.goal, moved)


def _named(fleet: Fleet, names: tuple[str, ...]) -> tuple[Node, ...]:
    known = {n.name: n for n in (*fleet.nodes, *fleet.watched)}
    for name in names:
        if name not in known:
            left = next((n for n in fleet.left_out if n.name == name), None)
            why = f"it was left out: {left.detail}" if left else f"the facts name no node {name!r}"
            raise InputError(Diagnostic(code="unknown-node", subject=name, summary=why, hint="run: planner discover"))
    return tuple(known[name] for name in names) if names else tuple(known.values())


def _states(nodes: tuple[Node, ...], target: Target, matrices: MatrixSet) -> Iterator[tuple[str, State]]:
    """Yield the wanted state of every group of equal nodes, named after the group."""
    from planner.schedule.cohorts import check_components
    from planner.schedule.problems import want_for

    check_components(target, matrices)
    groups: dict[tuple[object, ...], list[Node]] = {}
    for node in nodes:
        groups.setdefault((node.pool, tuple(sorted(node.state.items()))), []).append(node)
    for members in groups.values():
        wanted = _wanted(members[0], want_for(target, members[0].pool), matrices)
        yield short([n.name for n in members]), changed(members[0].state, wanted, matrices)


def _wanted(node: Node, want: object, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return the values that a target's wishes come to on a node, repositories not asked."""
    from planner.schedule.problems import goals_of

    assert isinstance(want, dict)
    wanted: dict[str, tuple[str, ...]] = {}
    for name, goal in goals_of(want, matrices).items():
        values = node.state.get(name, ())
        if goal.met_by(values):
            continue
        if goal.text:
            words = (o for o in matrices.components[name].options if goal.met_by((o,)))
            wanted[name] = (next(words, goal.want),)
        elif goal.want:
            wanted[name] = (_newest_release(name, goal.want, matrices),)
        else:
            kept = [v for v in values if not any(contains(a, v) for a in goal.absent)]
            new = [_newest_release(name, p, matrices) for p in goal.present if not any(contains(p, v) for v in kept)]
            wanted[name] = tuple(sorted({*kept, *new}, key=version_key))
    return wanted


def _newest_release(component: str, wanted: str, matrices: MatrixSet) -> str:
    """Return the newest known release in a range, or the bound as it was written when none is known."""
    known = [r.version for r in matrices.releases.get(component, ()) if contains(wanted, r.version)]
    return known[-1] if known else wanted.strip("=<>!~ ").split(" ")[0].removesuffix(".*")
