"""``planner simulate``: how a rollout may go, before it is begun."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.cli.inputs import FORMATS
from planner.schedule.plan import Plan

if TYPE_CHECKING:
    from planner.execute.montecarlo import Rates, Summary
    from planner.execute.trial import Person

RUNS_MAX = 1_000_000


@click.command(epilog="""\b
Examples:
  planner simulate bundle/
  planner simulate bundle/ --seed 1 --failure-rate 2% --failure-rate driver=1% --failure-rate lost=0.1%
  planner simulate bundle/ --seed 1 --retries 1 --answer-minutes 20 -o json
""")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True,
              help="Of all that is drawn: same seed, same answer.")
@click.option("--runs", type=click.IntRange(1, RUNS_MAX), default=1000, show_default=True, help="Rollouts to play.")
@click.option("--failure-rate", "rates", multiple=True, metavar="P|NAME=P",
              help="Chance that a node fails its last gate (default: 1%); or NAME=P: that a step of a move fails, that "
                   "a reboot loses the node (lost), that it is out of reach (unreachable), that its pool's own command "
                   "fails (command) or its all-reduce after the wave (pair), both as the gate unless given. May be "
                   "repeated.")
@click.option("--retries", type=click.IntRange(0, 10), default=0, show_default=True,
              help="How often a person tries failed nodes again after a stop.")
@click.option("--answer-minutes", type=click.FloatRange(min=0), default=30.0, show_default=True,
              help="Until a person has answered a stop, or done a step that is left to people.")
@click.option("--approval-minutes", type=click.FloatRange(min=0), default=0.0, show_default=True,
              help="Until a person has approved the canaries.")
@click.option("-o", "--output", "output", type=FORMATS, default="table", help="Format of what is printed.")
def simulate(bundle: Path, seed: int, runs: int, rates: tuple[str, ...], retries: int, answer_minutes: float,
             approval_minutes: float, output: str) -> int:
    """Play a bundle's rollout many times with drawn failures, under the engine's own rules; print the spread."""
    from planner.emit.write import read_bundle
    from planner.execute.montecarlo import simulate as play
    from planner.execute.trial import Person

    plan = read_bundle(bundle)
    chances = _rates(rates or ("1%",), plan)
    person = Person(retries=retries, answer_minutes=answer_minutes, approval_minutes=approval_minutes)
    # A seeded generator on purpose: whoever repeats the command gets the same answer.
    summary = play(plan, chances, runs=runs, chance=random.Random(seed), person=person)  # noqa: S311
    if output == "json":
        from planner.report.console import print_json

        print_json(_document(plan, summary, chances, person, seed))
        return 0
    from planner.report.simulation_view import print_simulation

    print_simulation(plan, summary, _assumed(plan, chances, person, seed))
    return 0


def _rates(texts: tuple[str, ...], plan: Plan) -> Rates:
    from planner.execute.montecarlo import Rates, rate_names

    node, moves, known = 0.0, {}, rate_names(plan)
    for text in texts:
        name, given, number = text.rpartition("=")
        if given and name not in known:
            raise click.BadParameter(f"{name!r} is none of {', '.join(known)}", param_hint="--failure-rate")
        if given:
            moves[name] = _chance(number)
        else:
            node = _chance(number)
    return Rates(node=node, moves=dict(sorted(moves.items())))


def _chance(text: str) -> float:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise click.BadParameter(f"{text!r} is no chance such as 0.01 or 1%", param_hint="--failure-rate")
    return value


def _assumed(plan: Plan, rates: Rates, person: Person, seed: int) -> str:
    """Say in one sentence what was assumed: nothing in the answer is worth more than that."""
    from planner.execute.montecarlo import COMMAND, PAIR, rate_names
    from planner.report.plan_view import basis
    from planner.schedule.estimate import forecast

    also = {name: rates.node for name in (COMMAND, PAIR) if name in rate_names(plan)}
    named = [f"{name} {share:.3g} %" for name, share in (("a gate fails", 100 * rates.node), *(
        (name, 100 * rate) for name, rate in {**also, **rates.moves}.items())) if share]
    often = "once" if person.retries == 1 else f"{person.retries} times"
    people = f"failed nodes are tried again {often}, after {person.answer_minutes:g} min" if person.retries \
        else "nobody tries failed nodes again"
    left = any(step.handover for cohort in plan.cohorts for step in cohort.steps)
    by_hand = f"each step left to people begins after {person.answer_minutes:g} min; " if left else ""
    approval = f"approval after {person.approval_minutes:g} min" if person.approval_minutes else "approval at once"
    return (f"seed {seed}; assumed for each node: {', '.join(named) or 'nothing fails'}; {people}; {by_hand}"
            f"{approval}; times {basis(forecast(plan).eta)}")


def _document(plan: Plan, summary: Summary, rates: Rates, person: Person, seed: int) -> Mapping[str, Any]:
    from planner.execute.montecarlo import COMMAND, PAIR, rate_names

    also = {name: rates.node for name in (COMMAND, PAIR) if name in rate_names(plan)}
    found = asdict(summary)
    found["ends"] = {end.value: count for end, count in summary.ends.items()}
    found["stops"] = {str(stops): count for stops, count in summary.stops.items()}
    for name, value in found.items():
        if isinstance(value, dict) and "p50" in value:
            found[name] = {key: round(number, 3) for key, number in value.items()}
    return {"schema": "planner.simulation/1", "plan": plan.digest, "seed": seed,
            "assumed": {"rates": {"gate": rates.node, **also, **rates.moves}, **asdict(person)}, **found}
