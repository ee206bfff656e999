"""``planner rehearse``: run a bundle on lab nodes that mirror the plan."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.errors import ExitCode, PlannerError

if TYPE_CHECKING:
    from planner.cli.rollout import Rollout
    from planner.lab.lab import Lab
    from planner.lab.rehearsal import Rehearsal, RehearsedNode
    from planner.schedule.plan import Plan

REPORT = "rehearsal"


@click.command(epilog="""\b
Examples:
  planner rehearse bundle/                 on lab nodes (Linux, root); elsewhere simulated
  planner rehearse bundle/ --simulate 1    without any machine, nothing proved
""")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--nodes", "most", type=click.IntRange(1, 50), default=6, show_default=True,
              help="Lab nodes at most; every cohort gets one even when there are more.")
@click.option("--simulate", default="", metavar="SEED|FILE", help="Do without a lab; proves nothing.")
@click.option("--report", "report", type=click.Path(path_type=Path),
              help="Directory for report.md and rehearsal.json (default: BUNDLE/records/rehearsal).")
@click.option("--keep", is_flag=True, help="Leave the lab running for a look around.")
@click.option("-o", "--output", "output", type=click.Choice(["table", "json"]), default="table",
              help="Format of what is printed.")
def rehearse(bundle: Path, most: int, simulate: str, report: Path | None, keep: bool, output: str) -> int:
    """Run the very bundle on lab nodes: canaries, approval, the rest, then compare every node with the plan's goal."""
    from planner.emit.write import read_bundle
    from planner.lab.tools import missing_for_lab

    plan = read_bundle(bundle)
    missing = missing_for_lab()
    if missing and not simulate:
        _say(f"no lab here ({'; '.join(missing)}): the rollout is simulated, nothing is proved")
        simulate = "1"
    started = time.monotonic()
    result = _simulated(plan, bundle, simulate) if simulate else _in_lab(plan, bundle, most, keep=keep)
    return _report(result, report or bundle / "records" / REPORT, output, time.monotonic() - started)


def _say(line: str) -> None:
    sys.stderr.write(f"rehearse: {line}\n")
    sys.stderr.flush()


def _simulated(plan: Plan, bundle: Path, simulate: str) -> Rehearsal:
    from planner.lab.rehearsal import Rehearsal, RehearsedNode

    with tempfile.TemporaryDirectory(prefix="planner-rehearse-") as state:
        codes, nodes, trouble = _drive(bundle, state, inventory="", simulate=simulate)
    cohort_of = {name: cohort.id for cohort in plan.cohorts for name in cohort.nodes}
    told = tuple(RehearsedNode(name=name, stands_for=name, cohort=cohort_of[name], state=end, verdict=verdict, boots=0)
                 for name, (end, verdict) in sorted(nodes.items()))
    return Rehearsal(plan=plan.name, digest=plan.digest, simulated=True, exit_codes=codes, nodes=told, trouble=trouble)


def _in_lab(plan: Plan, bundle: Path, most: int, *, keep: bool) -> Rehearsal:
    from planner.documents import digest
    from planner.emit.render import render_bundle
    from planner.emit.write import write_bundle
    from planner.lab.lab import Lab
    from planner.lab.mirror import choose_nodes, mirror_plan, stand_in_packages
    from planner.lab.rehearsal import Rehearsal, assets_of, lab_names, specs_for, still_running
    from planner.schedule.assemble import finish

    files = {p.relative_to(bundle).as_posix(): p.read_bytes() for p in sorted(bundle.rglob("*"))
             if p.is_file() and p.relative_to(bundle).parts[0] != "records"}
    assets = assets_of(files, plan)
    names = lab_names(choose_nodes(plan, most))
    if plan.rollout.nccl_pairs or any(limit.canary_command for limit in plan.pools.values()):
        _say("the site's own command and pairs of NCCL are left out: lab nodes have neither, and prove nothing of them")
    if not names:
        return Rehearsal(plan=plan.name, digest=plan.digest, simulated=False, exit_codes=(), nodes=(),
                         trouble=("the plan changes nothing, so there is nothing to rehearse",))
    place = Path(tempfile.mkdtemp(prefix="planner-rehearse-"))
    lab = Lab(place / "lab")
    try:
        mirrored = mirror_plan(plan, tuple(names.values()), dict.fromkeys(names, ""))
        pairs = ", ".join(f"{lab_name}={real}" for lab_name, real in names.items())
        _say(f"{len(names)} lab nodes stand for {len(plan.nodes)}: {pairs}")
        lab.up(specs_for(plan, names), stand_in_packages(mirrored.plan), say=_say)
        for name, what, version in still_running(plan, names):
            lab.exec(name, "/usr/lib/planner-lab/kmod", "still", what, version)
        mirrored = mirror_plan(plan, tuple(names.values()), {name: lab.machine_id(name) for name in names})
        here = finish(mirrored.plan, mirrored.plan.seal)
        rendered = render_bundle(here, assets)
        assert all(rendered[name] == content for name, content in assets.items()), "an asset was changed on the way"
        write_bundle(rendered, place / "bundle")
        boots = {name: lab.status()[name]["boots"] for name in names}
        codes, states, trouble = _drive(place / "bundle", str(place / "state"), inventory=str(lab.inventory_path))
        nodes = _look(lab, here, names, states, boots)
    finally:
        _leave(lab, place, keep=keep)
    return Rehearsal(plan=plan.name, digest=plan.digest, simulated=False, exit_codes=codes, nodes=nodes,
                     trouble=trouble, assets={name: digest(content) for name, content in assets.items()})


def _leave(lab: Lab, place: Path, *, keep: bool) -> None:
    """End the lab and what was written for it, or say where both are; a lab that never started is not kept."""
    from planner.errors import LabError

    if keep:
        with contextlib.suppress(LabError):
            _say(f"the lab keeps running; end it with: planner lab down --id {lab.entry.id}")
            _say(f"its bundle and journal stay in {place}, its inventory is {lab.inventory_path}")
            return
    lab.down()
    shutil.rmtree(place)


def _drive(bundle: Path, state: str, *, inventory: str, simulate: str = "") -> tuple[
        tuple[tuple[str, int], ...], dict[str, tuple[str, str]], tuple[str, ...]]:
    """Do what a person does: apply --canary, approve what waits, resume. Return codes, nodes' ends and troubles."""
    from planner.cli.apply_view import outcome_error, waits_for_approval
    from planner.cli.rollout import clock_of, open_rollout, run_engine

    codes: list[tuple[str, int]] = []
    trouble: list[str] = []
    with open_rollout(bundle, state, simulate=simulate) as rollout:
        command = "planner apply --canary"
        while True:
            _say(command)
            try:
                outcome = run_engine(rollout, canary_only=len(codes) == 0, inventory=inventory, forks=16,
                                     allow_local=False, simulate=simulate, overlays=(), lines=True)
            except PlannerError as exc:
                codes.append((command, int(exc.exit_code)))
                trouble += [f"{d.code}: {d.summary}" for d in exc.diagnostics]
                break
            codes.append((command, int(outcome.code)))
            if outcome.kind != "approval" or len(codes) > len(rollout.plan.waves) + 1:
                if outcome.code is not ExitCode.DONE:
                    trouble += _words(outcome_error(rollout, outcome))
                break
            for wave in waits_for_approval(rollout.plan, rollout.state()):
                _append(rollout, clock_of, {"kind": "approved", "wave": wave,
                                            "data": {"by": "rehearsal", "because": ""}})
            command = "planner approve && planner resume"
        ended = {name: (status.state.value, status.verdict) for name, status in rollout.state().nodes.items()}
    return tuple(codes), ended, tuple(trouble)


def _words(error: PlannerError) -> list[str]:
    return [f"{d.subject}: {d.summary}" + "".join(f"; {line}" for line in d.why) for d in error.diagnostics]


def _append(rollout: Rollout, clock_of: Callable[[Any], Any], entry: dict[str, Any]) -> None:
    rollout.store.append((entry,), at=clock_of(rollout).now().isoformat(timespec="milliseconds"), after=None)


def _look(lab: Any, here: Plan, names: Mapping[str, str], states: Mapping[str, tuple[str, str]],
          boots: Mapping[str, int]) -> tuple[RehearsedNode, ...]:
    """Read every lab node's facts again, by discovery and not by the engine, and compare with the plan's goal."""
    from planner.cli.inputs import load_rules
    from planner.facts.collect import collect_facts
    from planner.facts.inventory import load_inventory
    from planner.fleet.fleet import build_fleet
    from planner.fleet.packages import package_globs
    from planner.fleet.state import asked_state
    from planner.lab.rehearsal import RehearsedNode, missed_goals
    from planner.runner.ansible import AnsibleRunner

    _say("reading every node again")
    matrices = load_rules(())
    document = collect_facts(load_inventory(str(lab.inventory_path)), AnsibleRunner(),
                             package_globs=package_globs(matrices))
    fleet = build_fleet(document, matrices)
    asked = sorted(matrices.components)
    found = {node.name: {**node.state, **asked_state(asked, node.facts, node.state, matrices)} for node in fleet.nodes}
    status = lab.status()
    cohort_of = {name: cohort for cohort in here.cohorts for name in cohort.nodes}
    told = []
    for name in names:
        missed = missed_goals(cohort_of[name], found[name]) if name in found else ("it cannot be read",)
        state, verdict = states.get(name, ("pending", ""))
        told.append(RehearsedNode(name=name, stands_for=names[name], cohort=cohort_of[name].id, state=state,
                                  verdict=verdict, boots=status[name]["boots"] - boots[name], missed=missed))
    return tuple(told)


def _report(result: Rehearsal, folder: Path, output: str, seconds: float) -> int:
    from dataclasses import replace

    from planner.documents import canonical_json
    from planner.lab.rehearsal import SIMULATED, STAND_INS, as_document, as_markdown
    from planner.report.console import format_table, print_json

    result = replace(result, seconds=seconds)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(as_markdown(result), encoding="utf-8")
    (folder / "rehearsal.json").write_text(canonical_json(as_document(result)), encoding="utf-8")
    if output == "json":
        print_json(as_document(result))
    else:
        rows = [(n.name, n.stands_for, n.cohort, n.state, n.verdict or "-", str(n.boots), "; ".join(n.missed) or "-")
                for n in result.nodes]
        shown = rows if len(rows) <= 40 else rows[:40]
        header = ("node", "stands for", "cohort", "state", "gate", "boots", "not at its goal")
        sys.stdout.write(format_table(header, shown) + "\n")
        sys.stdout.write(f"and {len(rows) - 40} more\n" if len(rows) > 40 else "")
        for text in result.trouble:
            sys.stdout.write(f"trouble: {text}\n")
        words = SIMULATED if result.simulated else STAND_INS
        sys.stdout.write(f"rehearsal {'passed' if result.passed else 'FAILED'} in {seconds:.0f} s: {words}\n")
    _say(f"report: {folder / 'report.md'}")
    if result.passed:
        return int(ExitCode.DONE)
    last = result.exit_codes[-1][1] if result.exit_codes else 0
    return last or int(ExitCode.ERROR)
