"""``planner plan`` and ``planner show``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from planner import __version__
from planner.cli.inputs import (
    FORMATS,
    facts_option,
    load_facts,
    load_rules,
    load_target,
    located,
    matrix_option,
    raw_matrices,
)
from planner.diagnostics import Diagnostic
from planner.documents import dump_model
from planner.errors import BundleError, ExitCode, InputError, ScheduleError
from planner.model.target import Target
from planner.schedule.plan import Plan

OPTIMIZABLE = ("reboots", "risks", "steps", "minutes")


@click.command(epilog="""\b
Examples:
  planner plan --facts facts.json --target target.yml                 preview only
  planner plan --facts facts.json --target target.yml --out bundle/   preview, and write the bundle
""")
@facts_option
@click.option("--target", "target_path", required=True, type=click.Path(path_type=Path),
              help="What is wanted: target.yml.")
@click.option("--out", "out", type=click.Path(path_type=Path),
              help="Directory for the bundle; without it nothing is written.")
@click.option("-i", "--inventory", default="",
              help="Inventory that apply will use (default: the one facts.json names).")
@click.option("--optimize", default="", metavar="FIELDS", help=f"Order of cost: some of {','.join(OPTIMIZABLE)}.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 3 when the plan has changes, 0 when it has none.")
@matrix_option
@click.option("-o", "--output", "output", type=FORMATS, default="table", help="Format of what is printed.")
def plan(facts_path: Path, target_path: Path, out: Path | None, inventory: str, optimize: str, detailed_exitcode: bool,
         overlays: tuple[Path, ...], output: str) -> int:
    """Search a safe path for every node, schedule the rollout, show it, and write the bundle."""
    order = tuple(f for f in optimize.split(",") if f)
    if unknown := [f for f in order if f not in OPTIMIZABLE]:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(OPTIMIZABLE)}", param_hint="--optimize")
    document, target = load_facts(facts_path), load_target(target_path)
    with located(target_path):
        made = build_plan(document, target, overlays, inventory=inventory or document.inventory, optimize=order)
    if out is not None:
        _write(made, out)
    _print(made, output)
    if out is not None and output == "table":
        sys.stderr.write(f"bundle written to {out}\nreview {out / 'PLAN.md'} and {out / 'plays'}, "
                         f"then: planner apply {out} --canary\n")
    changes = any(c.steps for c in made.cohorts)
    return int(ExitCode.FINDINGS if detailed_exitcode and changes else ExitCode.DONE)


@click.command(epilog="\b\nExample:\n  planner show bundle/")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-o", "--output", "output", type=FORMATS, default="table", help="Format of what is printed.")
def show(bundle: Path, output: str) -> int:
    """Show the plan of a bundle, after checking that nobody changed it."""
    from planner.emit.write import read_bundle

    _print(read_bundle(bundle), output)
    return 0


def build_plan(document: object, target: Target, overlays: tuple[Path, ...], *, inventory: str,
               optimize: tuple[str, ...] = ()) -> Plan:
    """Make, validate and seal a plan.

    Raises:
        PlannerError: No path, no schedule, unknown names; or the validator disagrees with the search.
    """
    from planner.facts.schema import FactDocument
    from planner.schedule.assemble import finish, make_plan
    from planner.schedule.verify import verify_schedule
    from planner.validate.replay import seal_of, validate_plan

    assert isinstance(document, FactDocument)
    if not document.nodes:
        raise InputError(Diagnostic(code="no-nodes", summary="the facts name no readable node",
                                    hint="run: planner doctor -i INVENTORY"))
    made = make_plan(document, target, load_rules(overlays), planner_version=__version__, inventory=inventory,
                     optimize=optimize)
    report = "please report this with your facts and target: it is a bug in planner"
    if violations := validate_plan(made, target, raw_matrices(overlays)):
        raise BundleError(Diagnostic(
            code="plan-not-valid", summary="the validator does not agree with the search; nothing was written",
            why=violations[:20], hint=report))
    if violations := verify_schedule(made, target.own_rollouts()):
        raise ScheduleError(Diagnostic(
            code="schedule-not-valid", summary="the schedule breaks its own policy; nothing was written",
            why=violations[:20], hint=report))
    return finish(made, seal_of(made))


def _write(made: Plan, out: Path) -> None:
    from planner.emit.assets import load_assets
    from planner.emit.render import render_bundle
    from planner.emit.write import write_bundle

    write_bundle(render_bundle(made, load_assets()), out)


def _print(made: Plan, output: str) -> None:
    from planner.report.console import print_json

    if output == "json":
        print_json(dump_model(made))
        return
    from planner.report.plan_view import print_plan

    print_plan(made)
