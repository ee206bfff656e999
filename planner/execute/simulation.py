"""Makes a simulated fleet out of a plan: for tests, and for trying a bundle without any machine."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import dump_model
from planner.errors import FactsError, InputError
from planner.execute.predict import FOLLOWS_AFTER_REBOOT
from planner.execute.states import moving_nodes
from planner.gates.judge import FAIL, PASS
from planner.gates.multi_node import Attempt
from planner.runner.scripted import Fault, ScriptedRunner, SimulatedFleet, SimulatedNode
from planner.schedule.canary import canary_commands
from planner.schedule.plan import Plan

FLEET_FILE = "simulated-fleet.json"
_FAULT_KINDS = (("preflight", "unreachable"), ("change", "task-failed"), ("gate", "gate-fail"),
                ("gate", "gate-inconclusive"), ("reboot", "lost"), ("undrain", "unreachable"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What a simulation is told: a seed for durations, and what goes wrong."""

    seed: int = 0
    fault_rate: float = 0.0            # share of nodes on which something goes wrong once, chosen by the seed
    faults: tuple[Fault, ...] = ()


def fleet_of(plan: Plan) -> SimulatedFleet:
    """Return the fleet a plan expects to find."""
    moving, commands = moving_nodes(plan), canary_commands(plan)
    return SimulatedFleet({
        name: SimulatedNode(state={k: list(v) for k, v in cohort.start.items()}, steps=[
            {"id": step.id, "disruption": step.disruption, "changes": [dump_model(c) for c in step.changes]}
            for step in cohort.steps], canary=list(commands[name][0]) if name in commands else [])
        for cohort in plan.cohorts for name in cohort.nodes if name in moving
    })


def read_scenario(text: str) -> Scenario:
    """Read what ``--simulate`` was given: a seed, or the path of a JSON file with seed, fault_rate and faults.

    Raises:
        InputError: It is neither.
    """
    if text.isdigit():
        return Scenario(seed=int(text))
    try:
        value = json.loads(Path(text).read_text(encoding="utf-8"))
        faults = tuple(Fault(**fault) for fault in value.pop("faults", ()))
        return Scenario(faults=faults, **value)
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise InputError(Diagnostic(
            code="bad-scenario", subject=text, summary=f"neither a seed nor a scenario file: {exc}",
            hint='give a number, or a file such as {"seed": 1, "faults": '
                 '[{"node": "n1", "phase": "gate", "kind": "gate-fail"}]}')) from exc


def scripted_runner(plan: Plan, scenario: Scenario, *, rollout: str, state_dir: Path, **options: Any) -> ScriptedRunner:
    """Return a runner on the simulated fleet that is kept under the state directory; saved after every change."""
    place = state_dir / FLEET_FILE
    fleet = SimulatedFleet.from_json(place.read_text(encoding="utf-8")) if place.is_file() else fleet_of(plan)

    def save(changed: SimulatedFleet) -> None:
        temporary = place.with_suffix(".part")
        temporary.write_text(changed.to_json(), encoding="utf-8")
        temporary.replace(place)

    return ScriptedRunner(fleet, rollout=rollout, seed=scenario.seed, on_change=save, follows=FOLLOWS_AFTER_REBOOT,
                          faults=(*scenario.faults, *random_faults(plan, scenario)), **options)


def random_faults(plan: Plan, scenario: Scenario) -> tuple[Fault, ...]:
    """Return the faults that the scenario's seed and rate come to; each strikes once."""
    chance = random.Random(scenario.seed)  # noqa: S311  # chooses faults, keeps no secret
    names = [name for name in sorted(moving_nodes(plan)) if chance.random() < scenario.fault_rate]
    kinds = [chance.choice(_FAULT_KINDS) for _ in names]
    return tuple(Fault(node=name, phase=phase, kind=kind) for name, (phase, kind) in zip(names, kinds, strict=True))


def judge_simulated(text: str, request: Mapping[str, Any], *_: object) -> dict[str, Any]:
    """Judge a simulated gate's report, in place of ``judge_gate``: no kernel ran, so the simulated verdict is believed.

    Still it must be of this run and this node, and say itself that it is simulated: a real one never passes here.
    """
    return _believed(text, request, ("nonce", "host", "profile"))


def judge_simulated_canary(text: str, request: Mapping[str, Any], said: str = "") -> dict[str, Any]:
    """Judge what came of a simulated command, in place of ``canary_verdict``: nothing ran, and a pass says so."""
    return _believed(text, request, ("nonce", "host", "argv"))


def _believed(text: str, request: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    report = json.loads(text) if text else {}
    if not report.get("simulated"):
        return {"outcome": FAIL, "reasons": ["a real node answered in a simulation"]}
    unlike = [key for key in keys if report.get(key) != request.get(key)]
    if unlike:
        return {"outcome": FAIL, "reasons": [f"the simulated report is of another {key}" for key in unlike]}
    verdict = str(report.get("verdict"))
    return {"outcome": verdict, "reasons": [] if verdict == PASS else [f"simulated verdict {verdict}"],
            "notes": [str(report["simulated"])]}


def judge_simulated_pair(texts: Mapping[str, str], request: Mapping[str, Any]) -> Attempt:
    """Judge a simulated pair, in place of ``judge_reports``: no GPU summed anything, and a pass says so."""
    names = tuple(texts)
    reports = [json.loads(text) if text else {} for text in texts.values()]
    if not all(report.get("simulated") and report.get("nonce") == request.get("nonce") for report in reports):
        return Attempt((names[0], names[1]), "REPORT_FOREIGN", ("a report that is not of this simulation",))
    return Attempt((names[0], names[1]), str(reports[0].get("code")), (str(reports[0]["simulated"]),))


def read_simulated_state(text: str) -> Mapping[str, tuple[str, ...]]:
    """Read what a simulated node says of itself.

    Raises:
        FactsError: A real node said it; a simulation must never be mixed with real ones.
    """
    value = json.loads(text)
    if not value.get("simulated"):
        raise FactsError(Diagnostic(code="not-simulated", summary="a real node answered in a simulation",
                                    hint="run it without --simulate"))
    return {name: tuple(values) for name, values in value["state"].items()}
