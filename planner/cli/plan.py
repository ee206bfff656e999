"""``planner plan``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from planner import __version__
from planner.cli.inputs import (
    facts_option,
    load_facts,
    load_rules,
    load_target,
    located,
    matrix_option,
    matrix_sources,
)
from planner.cli.raw import raw_rules
from planner.cli.show import PLAN_FORMATS, emit_plan
from planner.diagnostics import Diagnostic
from planner.errors import BundleError, ExitCode, InputError, ScheduleError
from planner.matrix.load import load_sources
from planner.model.target import Target
from planner.schedule.plan import Plan

OPTIMIZABLE = ("reboots", "risks", "steps", "minutes")      # in the order that holds unless another is asked for
_SAID = {"time": "minutes", "risk": "risks"}                # other words for them


@click.command(epilog="""\b
Examples:
  planner plan --facts facts.json --target target.yml                 preview only
  planner plan --facts facts.json --target target.yml --out bundle/   preview, and write the bundle
  planner plan --facts facts.json --target target.yml --optimize time --history old-bundle/
""")
@facts_option
@click.option("--target", "target_path", required=True, type=click.Path(path_type=Path),
              help="What is wanted: target.yml.")
@click.option("--out", "out", type=click.Path(path_type=Path),
              help="Directory for the bundle; without it nothing is written.")
@click.option("-i", "--inventory", default="",
              help="Inventory that apply will use (default: the one facts.json names).")
@click.option("--optimize", default="", metavar="FIELDS",
              help="What paths are compared by first: reboots, risk, steps or time, or several of them: time,risk.")
@click.option("--history", "history", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Bundle that was applied, or a --state directory: its journals tell durations. May be repeated.")
@click.option("--detailed-exitcode", is_flag=True, help="Exit 3 when the plan has changes, 0 when it has none.")
@click.option("--like", "like_path", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Bundle of an earlier plan: nodes that did not change stay in its batches.")
@click.option("--why-not", "why_not", metavar="COMPONENT=VERSION",
              help="Say why the plan does not lead to a version, and plan nothing: driver=595.")
@matrix_option
@click.option("-o", "--output", "output", type=PLAN_FORMATS, default="table", help="Format of what is printed.")
def plan(facts_path: Path, target_path: Path, out: Path | None, inventory: str, optimize: str,
         history: tuple[Path, ...], detailed_exitcode: bool, like_path: Path | None, why_not: str | None,
         overlays: tuple[Path, ...], output: str) -> int:
    """Search a safe path for every node, schedule the rollout, show it, and write the bundle."""
    order = _order(optimize)
    document, target = load_facts(facts_path), load_target(target_path)
    if why_not is not None:
        with located(target_path):
            return _why_not(why_not, document, target, overlays, order, output)
    with located(target_path):
        made = build_plan(document, target, overlays, inventory=inventory or document.inventory, optimize=order,
                          history=history, like_path=like_path)
    if out is not None:
        _write(made, out)
    emit_plan(made, output)
    if out is not None and output == "table":
        sys.stderr.write(f"bundle written to {out}\nreview {out / 'PLAN.md'} and {out / 'plays'}, "
                         f"then: planner apply {out} --canary\n")
    changes = any(c.steps for c in made.cohorts)
    return int(ExitCode.FINDINGS if detailed_exitcode and changes else ExitCode.DONE)


def _order(text: str) -> tuple[str, ...]:
    """Return the fields of ``--optimize``, each once, by the names that the search has for them."""
    order = tuple(dict.fromkeys(_SAID.get(f, f) for f in (part.strip() for part in text.split(",")) if f))
    if unknown := [f for f in order if f not in OPTIMIZABLE]:
        raise click.BadParameter(f"{unknown[0]!r} is none of reboots, risk, steps, time", param_hint="--optimize")
    return order


def _why_not(asked: str, document: object, target: Target, overlays: tuple[Path, ...], order: tuple[str, ...],
             output: str) -> int:
    """Print why the plan does not use some version."""
    from dataclasses import asdict

    from planner.documents import canonical_json
    from planner.facts.schema import FactDocument
    from planner.report.why_not_view import why_not_lines
    from planner.schedule.why_not import why_not

    assert isinstance(document, FactDocument)
    component, sign, wanted = (part.strip() for part in asked.partition("="))
    if not (component and sign and wanted):
        raise click.BadParameter(f"{asked!r} is not COMPONENT=VERSION, such as driver=595", param_hint="--why-not")
    answers = why_not(document, target, load_rules(overlays), component, wanted, order)
    if output == "json":
        sys.stdout.write(canonical_json({"schema": "planner.why-not/1", "component": component, "wanted": wanted,
                                         "answers": [asdict(a) for a in answers]}))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 80
        sys.stdout.write("\n".join(why_not_lines(answers, component, wanted, width=width)) + "\n")
    return int(ExitCode.DONE)


def build_plan(document: object, target: Target, overlays: tuple[Path, ...], *, inventory: str,
               optimize: tuple[str, ...] = (), history: tuple[Path, ...] = (), like_path: Path | None = None) -> Plan:
    """Make, validate and seal a plan.

    Args:
        document: What the nodes said.
        target: What is wanted.
        overlays: Directories of further matrix files.
        inventory: Path as the user gave it.
        optimize: Order of the cost fields; empty for the default.
        history: Bundles or states of earlier rollouts, for durations that were measured.
        like_path: Bundle of an earlier plan whose batches are kept.

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
    sources = matrix_sources(overlays)      # read once: the validator judges by the very text that was planned by
    made = make_plan(document, target, load_sources(sources), planner_version=__version__, inventory=inventory,
                     optimize=optimize, like=_plan_of(like_path) if like_path else None)
    order = (*optimize, *(f for f in OPTIMIZABLE if f not in optimize))
    made = _with_eta(made.model_copy(update={"optimize": order}), history)
    report = "please report this with your facts and target: it is a bug in planner"
    if violations := validate_plan(made, target, raw_rules(sources)):
        raise BundleError(Diagnostic(
            code="plan-not-valid", summary="the validator does not agree with the search; nothing was written",
            why=violations[:20], hint=report))
    if violations := verify_schedule(made, target.own_rollouts()):
        raise ScheduleError(Diagnostic(
            code="schedule-not-valid", summary="the schedule breaks its own policy; nothing was written",
            why=violations[:20], hint=report))
    return finish(made, seal_of(made))


def _plan_of(bundle: Path) -> Plan:
    from planner.emit.write import read_bundle

    return read_bundle(bundle)


def _with_eta(made: Plan, history: tuple[Path, ...]) -> Plan:
    """Return the plan with what it is expected to take, by measured times where there are any."""
    from planner.schedule.estimate import forecast

    if history:
        from planner.cli.history import read_history

        measured, read = read_history(history)
        made = made.model_copy(update={"measured": measured, "inputs": {**made.inputs, "history": read}})
    return made.model_copy(update={"eta": forecast(made).eta})


def _write(made: Plan, out: Path) -> None:
    from planner.emit.assets import load_assets
    from planner.emit.render import render_bundle
    from planner.emit.write import write_bundle

    write_bundle(render_bundle(made, load_assets()), out)
