"""``planner check``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.check.fleet import Report, apply_want, check_states
from planner.check.stack import check_stack
from planner.cli.check_inputs import image_stack, load_image, load_manifest, stack_with_image, views_with_image
from planner.cli.inputs import FORMATS, load_facts, load_rules, load_stack, load_target, matrix_option
from planner.diagnostics import Diagnostic, short
from planner.errors import ExitCode, InputError
from planner.fleet.fleet import Fleet, Node, build_fleet
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.model.target import Target
from planner.model.version import contains, version_key
from planner.report.console import colour_enabled, format_diagnostic, print_json
from planner.stack.facts import fleet_views
from planner.stack.image import Image
from planner.stack.schema import Stack

if TYPE_CHECKING:
    from planner.cli.check_python import LoadedEnvironment

@click.command(epilog="""\b
Examples:
  planner check --facts facts.json                       the whole fleet as it is
  planner check --facts facts.json --node gpu-17         one node
  planner check --facts facts.json --target target.yml   the fleet as the target wants it
  planner check --stack bug-report.yml                   one machine, or several, as a person describes them
  planner check --facts facts.json --image nvidia/cuda:13.0.2-base-ubuntu24.04   an image on every node
  planner check --image inspect.json                     an image alone (docker inspect, skopeo inspect --config)
  planner check --manifest packages.txt                  a VM image (dpkg-query -W, rpm -qa)
  planner check --python venv/bin/python --stack machine.yml   a Python environment on a machine
  planner check -r requirements.txt --facts facts.json   what a requirements or lock file pins, on every node
""")
@click.option("--facts", "facts_path", type=click.Path(path_type=Path), help="facts.json of planner discover.")
@click.option("--stack", "stack_path", type=click.Path(path_type=Path), help="Description of a machine (YAML).")
@click.option("--node", "names", multiple=True, help="Judge this node only; may be repeated.")
@click.option("--target", "target_path", type=click.Path(path_type=Path),
              help="Judge the wanted end state, not the present one.")
@click.option("--image", "image_name", help="Container image: a reference, or a file that describes it.")
@click.option("--manifest", "manifest_path", type=click.Path(path_type=Path), help="Package list of a VM image.")
@click.option("--python", "python_path", type=click.Path(path_type=Path),
              help="A Python environment: its interpreter, its directory, or a site-packages directory.")
@click.option("-r", "--requirements", "requirements_path", type=click.Path(path_type=Path),
              help="requirements.txt, uv.lock, poetry.lock, pylock.toml or Pipfile.lock.")
@matrix_option
@click.option("-o", "--output", "output", type=FORMATS, default="table", help="Format of what is printed.")
def check(facts_path: Path | None, stack_path: Path | None, names: tuple[str, ...], target_path: Path | None,
          image_name: str | None, manifest_path: Path | None, python_path: Path | None,
          requirements_path: Path | None, overlays: tuple[Path, ...], output: str) -> int:
    """Judge nodes by the matrices: supported, unsupported, or not known; each with its source. Exit 3 on errors."""
    machines = [path for path in (facts_path, stack_path, manifest_path) if path is not None]
    on_it = [given for given in (image_name, python_path, requirements_path) if given is not None]
    if len(machines) > 1 or not (machines or on_it):
        raise click.UsageError("give one of --facts, --stack and --manifest, or --image, --python, --requirements")
    if len(on_it) > 1:
        raise click.UsageError("give one of --image, --python and --requirements")
    if facts_path is None and (names or target_path):
        raise click.UsageError("--node and --target go with --facts")
    matrices = load_rules(overlays)
    image = load_image(image_name) if image_name else None
    environment = _environment(python_path, requirements_path)
    if facts_path is None:
        stack = _stack(stack_path, manifest_path, image, image_name or "", matrices)
        if environment is not None:
            stack = environment.on_stack(stack, matrices)
        return _print_stack(check_stack(stack, matrices), output)
    fleet = build_fleet(load_facts(facts_path), matrices)
    nodes = _named(fleet, names)
    target = load_target(target_path) if target_path else None
    seen, domains = fleet_views(nodes, matrices)
    views = _states(nodes, target, matrices) if target else ((v.subject, v.state) for v in seen)
    notes: list[str] = []
    if image is not None:
        views = views_with_image(views, image, image_name or "", matrices, notes)
    if environment is not None:
        views = environment.on_views(views, matrices, notes)
    report = check_states(views, matrices, {} if target else domains, notes)
    if output == "json":
        print_json({
            **_document(report),
            "left_out": [{"node": n.name, "reason": n.reason, "detail": n.detail} for n in fleet.left_out]})
    else:
        _print(report, fleet, len(nodes))
    return int(ExitCode.FINDINGS if report.has_errors else ExitCode.DONE)


def _stack(stack_path: Path | None, manifest_path: Path | None, image: Image | None, image_name: str,
           matrices: MatrixSet) -> Stack:
    """Return the described machine with the image on it, or either alone."""
    if stack_path is not None:
        stack = load_stack(stack_path, matrices)
    elif manifest_path is not None:
        stack = load_manifest(manifest_path, matrices)
    elif image is not None:
        return image_stack(image, image_name, matrices)
    else:
        return Stack(())
    return stack_with_image(stack, image, image_name, matrices) if image else stack


def _document(report: Report) -> dict[str, object]:
    return {"schema": "planner.check/1", "findings": [f.as_dict() for f in report.findings],
            "not_judged": list(report.not_judged), "supported": report.supported}


def _print_stack(report: Report, output: str) -> int:
    if output == "json":
        print_json(_document(report))
    else:
        _print_findings(report)
        click.echo(_totals(report))
    return int(ExitCode.FINDINGS if report.has_errors else ExitCode.DONE)


def _environment(python_path: Path | None, requirements_path: Path | None) -> LoadedEnvironment | None:
    """Return the Python environment to judge; what reads it is imported only where there is one."""
    if python_path is None and requirements_path is None:
        return None
    from planner.cli.check_python import load_environment

    return load_environment(python_path, requirements_path)


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
        yield short([n.name for n in members]), apply_want(members[0].state, wanted)


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
    _print_findings(report)
    for node in fleet.left_out:
        click.echo(f"left out: {node.name}: {node.reason}, {node.detail}")
    click.echo(f"{count} nodes: {_totals(report)}")


def _print_findings(report: Report) -> None:
    colour = colour_enabled(sys.stdout)
    for finding in report.findings:
        click.echo(format_diagnostic(finding, colour=colour))
    for text in report.not_judged:
        click.echo(f"not judged: {text}")


def _totals(report: Report) -> str:
    errors = sum(f.severity.value == "error" for f in report.findings)
    return (f"{errors} errors, {len(report.findings) - errors} other findings, {len(report.not_judged)} not judged, "
            f"{report.supported} claims held")
