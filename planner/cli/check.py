"""``planner check``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from planner.check.fleet import Report
from planner.check.stack import check_stack
from planner.cli.inputs import FORMATS, load_rules, load_stack, load_target, located, matrix_option
from planner.errors import ExitCode
from planner.matrix.index import MatrixSet
from planner.report.console import colour_enabled, format_diagnostic, print_json
from planner.stack.schema import Stack

# What reads facts, images and environments is imported where it is used: one described machine is answered at once.
if TYPE_CHECKING:
    from planner.cli.check_python import LoadedEnvironment
    from planner.stack.image import Image


@click.command(epilog="""\b
Examples:
  planner check --facts facts.json                       the whole fleet as it is
  planner check --facts facts.json --node gpu-17         one node
  planner check --facts facts.json --target target.yml   the fleet as the target wants it
  planner check --stack bug-report.yml                   one machine, or several, as a person describes them
  planner check --facts facts.json --image nvidia/cuda:13.0.2-base-ubuntu24.04   an image on every node
  planner check --facts facts.json --since-rollout bundle/   which nodes are no longer what a rollout made them
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
@click.option("--since-rollout", "bundle", type=click.Path(path_type=Path),
              help="Bundle of a rollout that is over: tell which nodes changed since, or went back.")
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
          requirements_path: Path | None, bundle: Path | None, overlays: tuple[Path, ...], output: str) -> int:
    """Judge nodes by the matrices: supported, unsupported, or not known; each with its source. Exit 3 on errors."""
    machines = [path for path in (facts_path, stack_path, manifest_path) if path is not None]
    on_it = [given for given in (image_name, python_path, requirements_path) if given is not None]
    if len(machines) > 1 or not (machines or on_it):
        raise click.UsageError("give one of --facts, --stack and --manifest, or --image, --python, --requirements")
    if len(on_it) > 1:
        raise click.UsageError("give one of --image, --python and --requirements")
    if facts_path is None and (names or target_path or bundle):
        raise click.UsageError("--node, --target and --since-rollout go with --facts")
    matrices = load_rules(overlays)
    image = _image(image_name)
    environment = _environment(python_path, requirements_path)
    if facts_path is None:
        stack = _stack(stack_path, manifest_path, image, image_name or "", matrices)
        if environment is not None:
            stack = environment.on_stack(stack, matrices)
        return _print_stack(check_stack(stack, matrices), output)
    from planner.cli.check_fleet import judge_fleet

    target = load_target(target_path) if target_path else None
    with located(target_path) if target_path else nullcontext():
        fleet, count, report = judge_fleet(facts_path, names, target, image, image_name or "", environment,
                                           bundle, matrices)
    left = [{"node": n.name, "reason": n.reason, "detail": n.detail} for n in fleet.left_out]
    if output == "json":
        print_json({**_document(report), "left_out": left})
        return _code(report)
    _print_findings(report)
    for node in left:
        click.echo(f"left out: {node['node']}: {node['reason']}, {node['detail']}")
    click.echo(f"{count} nodes: {_totals(report)}")
    return _code(report)


def _image(name: str | None) -> Image | None:
    if name is None:
        return None
    from planner.cli.check_inputs import load_image

    return load_image(name)


def _stack(stack_path: Path | None, manifest_path: Path | None, image: Image | None, image_name: str,
           matrices: MatrixSet) -> Stack:
    """Return the described machine with the image on it, or either alone."""
    if stack_path is not None and image is None:
        return load_stack(stack_path, matrices)
    from planner.cli.check_inputs import image_stack, load_manifest, stack_with_image

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
    return _code(report)


def _code(report: Report) -> int:
    return int(ExitCode.FINDINGS if report.has_errors else ExitCode.DONE)


def _environment(python_path: Path | None, requirements_path: Path | None) -> LoadedEnvironment | None:
    """Return the Python environment to judge; what reads it is imported only where there is one."""
    if python_path is None and requirements_path is None:
        return None
    from planner.cli.check_python import load_environment

    return load_environment(python_path, requirements_path)


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
