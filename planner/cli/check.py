"""``planner check``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from planner.check.fleet import Report, apply_want, check_states, short
from planner.cli.inputs import FORMATS, facts_option, load_facts, load_rules, load_target, matrix_option
from planner.diagnostics import Diagnostic
from planner.errors import ExitCode, InputError
from planner.fleet.fleet import Fleet, Node, build_fleet
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.model.target import Target
from planner.model.version import contains, version_key
from planner.report.console import format_diagnostic, print_json


@click.command(epilog="""\b
Examples:
  planner check --facts facts.json                       the whole fleet as it is
  planner check --facts facts.json --node gpu-17         one node
  planner check --facts facts.json --target target.yml   the fleet as the target wants it
""")
@facts_option
@click.option("--node", "names", multiple=True, help="Judge this node only; may be repeated.")
@click.option("--target", "target_path", type=click.Path(path_type=Path),
              help="Judge the wanted end state, not the present one.")
@matrix_option
@click.option("-o", "--output", "output", type=FORMATS, default="table", help="Format of what is printed.")
def check(facts_path: Path, names: tuple[str, ...], target_path: Path | None, overlays: tuple[Path, ...],
          output: str) -> int:
    """Judge nodes by the matrices: supported, unsupported, or not known; each with its source. Exit 3 on errors."""
    matrices = load_rules(overlays)
    fleet = build_fleet(load_facts(facts_path), matrices)
    nodes = _named(fleet, names)
    target = load_target(target_path) if target_path else None
    report = check_states(_states(nodes, target, matrices), matrices)
    if output == "json":
        print_json({"schema": "planner.check/1", "findings": [f.as_dict() for f in report.findings],
                    "not_judged": list(report.not_judged), "supported": report.supported,
                    "left_out": [{"node": n.name, "reason": n.reason, "detail": n.detail} for n in fleet.left_out]})
    else:
        _print(report, fleet, len(nodes))
    return int(ExitCode.FINDINGS if report.has_errors else ExitCode.DONE)


def _named(fleet: Fleet, names: tuple[str, ...]) -> tuple[Node, ...]:
    known = {n.name: n for n in (*fleet.nodes, *fleet.watched)}
    for name in names:
        if name not in known:
            left = next((n for n in fleet.left_out if n.name == name), None)
            why = f"it was left out: {left.detail}" if left else f"the facts name no node {name!r}"
            raise InputError(Diagnostic(code="unknown-node", subject=name, summary=why, hint="run: planner discover"))
    return tuple(known[name] for name in names) if names else tuple(known.values())


def _states(nodes: tuple[Node, ...], target: Target | None, matrices: MatrixSet) -> Iterator[tuple[str, State]]:
    """Yield one state for every group of equal nodes, named after the group."""
    from planner.schedule.cohorts import check_components
    from planner.schedule.problems import want_for

    if target is not None:
        check_components(target, matrices)
    groups: dict[tuple[object, ...], list[Node]] = {}
    for node in nodes:
        groups.setdefault((node.pool if target else "", tuple(sorted(node.state.items()))), []).append(node)
    for members in groups.values():
        state = members[0].state
        if target is not None:
            state = apply_want(state, _wanted(members[0], want_for(target, members[0].pool), matrices))
        yield short([n.name for n in members]), state


def _wanted(node: Node, want: object, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return the values that a target's wishes come to on a node, repositories not asked."""
    from planner.schedule.problems import goals_of

    assert isinstance(want, dict)
    wanted: dict[str, tuple[str, ...]] = {}
    for name, goal in goals_of(want).items():
        values = node.state.get(name, ())
        if goal.met_by(values):
            continue
        if goal.want:
            wanted[name] = (_newest_release(name, goal.want, matrices),)
        else:
            kept = [v for v in values if not any(contains(a, v) for a in goal.absent)]
            new = [_newest_release(name, p, matrices) for p in goal.present if not any(contains(p, v) for v in kept)]
            wanted[name] = tuple(sorted({*kept, *new}, key=version_key))
    if not matrices.lockstep:
        return wanted
    for group in matrices.lockstep:
        lead = next((c for c in group.components if c in wanted), None)
        if lead and group.relation == "equal":
            wanted |= {c: wanted[lead] for c in group.components if node.state.get(c) and c not in wanted}
    return wanted


def _newest_release(component: str, wanted: str, matrices: MatrixSet) -> str:
    """Return the newest known release in a range, or the bound as it was written when none is known."""
    known = [r.version for r in matrices.releases.get(component, ()) if contains(wanted, r.version)]
    return known[-1] if known else wanted.strip("=<>!~ ").split(" ")[0].removesuffix(".*")


def _print(report: Report, fleet: Fleet, count: int) -> None:
    for finding in report.findings:
        click.echo(format_diagnostic(finding))
    for text in report.not_judged:
        click.echo(f"not judged: {text}")
    for node in fleet.left_out:
        click.echo(f"left out: {node.name}: {node.reason}, {node.detail}")
    errors = sum(f.severity.value == "error" for f in report.findings)
    click.echo(f"{count} nodes: {errors} errors, {len(report.findings) - errors} other findings, "
               f"{len(report.not_judged)} not judged, {report.supported} claims held")
