"""Replays every cohort of a plan, state by state, and seals it. A plan without its seal is not written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from planner.model.target import Target, ToolkitWant, Want
from planner.schedule.plan import Cohort, Plan, Step
from planner.validate.awaited import out_of_turn
from planner.validate.handover import legal_move, told_by_hand
from planner.validate.loaded import boots, gone_for_good, no_way_from, not_booted, not_loaded
from planner.validate.mixing import misfenced
from planner.validate.rules import RawMatrices, Rules, State, compare, in_range
from planner.validate.stated import left_to_people, mislinked, misnamed, misstated_cost, mistimed


def validate_plan(plan: Plan, target: Target, matrices: RawMatrices) -> tuple[str, ...]:
    """Return every violation found by replaying the plan's paths, as sentences; empty means valid.

    Checked for each cohort: steps change what they say from what is there; every intermediate state breaks nothing
    that the start did not break (accepted names apart), on the way back as well; the last state breaks nothing; the
    target's wishes for every pool of the cohort are met, default links included, and what is wanted runs; each step
    names the packages it changes; what needs a reboot reboots; minutes and costs are those of the moves; the way back
    returns to the start, and only what boots or is handed over goes back by hand. For the fleet: the windows in which
    communication domains are mixed are those that the schedule comes to, and what waits for other nodes begins behind
    them.
    """
    rules = Rules(matrices)
    accepted = {a.risk for a in target.accept}
    found: list[str] = []
    for cohort in plan.cohorts:
        wants = {pool: _wanted(target, pool) for pool in cohort.pools}
        found += [f"{cohort.id}: {text}" for text in _replay(cohort, rules, accepted, wanted=any(wants.values()))]
        for pool, want in wants.items():
            found += [f"{cohort.id}, pool {pool}: {text}" for text in _unmet(want, cohort.goal, rules)]
            found += [f"{cohort.id}, pool {pool}: {text}" for text in mislinked(cohort, want, rules)]
            found += [f"{cohort.id}, pool {pool}: {text}" for text in not_loaded(cohort, want, rules)]
    listed = [n for c in plan.cohorts for n in c.nodes]
    if sorted(listed) != sorted(plan.nodes) or len(set(listed)) != len(listed):
        found.append("cohorts and nodes of the plan do not match")
    else:
        found += mistimed(plan, rules)
        found += misfenced(plan, target.rollout.fence, rules)
        found += out_of_turn(plan, rules, accepted)
    return tuple(found)


def seal_of(plan: Plan) -> str:
    """Return the seal of a valid plan: a digest over exactly what was replayed."""
    replayed = [c.model_dump(mode="json", by_alias=True, exclude_none=True) for c in plan.cohorts]
    windows = [[w.model_dump(mode="json") for w in plan.mixed]] if plan.mixed else []
    said = {pool: limit.canary_command_minutes for pool, limit in plan.pools.items() if limit.canary_command_minutes}
    times = [[plan.pair_minutes, said]] if plan.pair_minutes or said else []
    text = json.dumps([plan.inputs, replayed, *windows, *times], sort_keys=True, separators=(",", ":"))
    return "replayed:" + hashlib.sha256(text.encode()).hexdigest()


def _wanted(target: Target, pool: str) -> Want:
    own = target.pools.get(pool)
    return {**target.want, **(own.want if own else {})}


def _replay(cohort: Cohort, rules: Rules, accepted: set[str], *, wanted: bool) -> Iterator[str]:
    """Yield what is wrong with a path; where nothing is ``wanted``, what is wrong with the nodes is left as it is."""
    yield from misnamed(cohort, rules)
    state: dict[str, tuple[str, ...]] = dict(cohort.start)
    states: list[State] = []
    for number, step in enumerate(cohort.steps, start=1):
        yield from (f"step {step.id}: {text}" for text in legal_move(step, state, cohort.start, rules))
        yield from (f"step {step.id}: {text}" for text in _apply(step, state, rules))
        yield from (f"step {step.id}: {text}" for text in told_by_hand(step, state, rules))
        if step.ends and number < len(cohort.steps):
            yield f"step {step.id}: ends the plan, yet steps follow it"
        yield from (f"after step {step.id}: {text}" for text in _worse(state, cohort.start, rules, accepted))
        states.append(dict(state))
    if {k: v for k, v in state.items() if v} != {k: v for k, v in cohort.goal.items() if v}:
        yield "the steps do not lead to the goal that the plan states"
    left = {b for b in rules.broken(state) if not rules.names_of(b[0]) & accepted} if wanted or cohort.steps else set()
    yield from (f"at the goal: {rule} is broken ({', '.join(values) or 'no value'})" for rule, values in sorted(left))
    yield from not_booted(cohort, rules)
    yield from misstated_cost(cohort, states, rules, accepted)
    yield from (f"way back, {text}" for text in _replay_back(cohort, state, rules, accepted))
    gone = gone_for_good(cohort, rules)
    if {k: v for k, v in state.items() if v and k not in gone} != {
            k: v for k, v in cohort.start.items() if v and k not in gone}:
        yield "the way back does not lead to the start"


def _replay_back(cohort: Cohort, state: dict[str, tuple[str, ...]], rules: Rules, accepted: set[str]) -> Iterator[str]:
    """Yield what is wrong on the way back; ``state`` is the goal, and in the end what the way back leads to."""
    for step in cohort.way_back:
        by_hand = left_to_people(step, cohort, rules)
        yield from (f"{text} ({step.id})" for text in _apply(step, state, rules, by_hand=by_hand))
        yield from (f"{text} ({step.id})" for text in told_by_hand(step, state, rules, back=True))
        if not no_way_from(cohort, rules):
            yield from (f"after {step.id}: {text}" for text in _worse(state, cohort.start, rules, accepted))


def _worse(state: State, start: State, rules: Rules, accepted: set[str]) -> Iterator[str]:
    """Yield what a state breaks that the start did not break, accepted names apart."""
    worse = {b for b in rules.broken(state) - rules.broken(start) if not rules.names_of(b[0]) & accepted}
    yield from (f"{rule} is broken ({', '.join(values) or 'no value'})" for rule, values in sorted(worse))


def _apply(step: Step, state: dict[str, tuple[str, ...]], rules: Rules, *, by_hand: bool = False) -> Iterator[str]:
    move = rules.moves.get(step.move)
    if move is None:
        yield f"no move {step.move!r} in the matrices"
        return
    if step.disruption != move["disruption"]:
        yield f"disruption {step.disruption}, but the move {step.move} needs {move['disruption']}"
    if step.minutes != float(move["minutes"]):
        yield f"{step.minutes} minutes, but the move {step.move} takes {move['minutes']}"
    if step.disruption == "reboot" and not step.quick_gate:
        yield "reboots without a gate after it"
    bare = move.get("act") in ("links", "boot")
    if not step.packages.install and not step.packages.remove and not by_hand and not step.handover and not bare:
        yield "names no package"
    if bare and (step.packages.install or step.packages.remove or step.handover):
        yield f"has packages or instructions, and the move {step.move} has none"
    for change in step.changes:
        if change.component not in move["components"] and not boots(step, change, state, rules):
            yield f"{change.component} is not moved by {step.move}"
        values = state.get(change.component, ())
        if change.from_ and not any(compare(change.from_, v) == 0 for v in values):
            yield f"{change.component} {change.from_} is not installed before it"
        if values and not change.from_ and not rules.many(change.component):
            yield f"{change.component} {' '.join(values)} is installed before it, and it says that there is none"
        kept = tuple(v for v in values if rules.many(change.component) and compare(v, change.from_ or "") != 0)
        yield from (f"{change.component} {change.to} takes the place of {value}, which is said to stay"
                    for value in rules.displaced(change.component, change.to or "", kept))
        state[change.component] = (*kept, change.to) if change.to else kept
        if len(state[change.component]) > 1:
            state[change.component] = _sorted(state[change.component])


def _sorted(values: tuple[str, ...]) -> tuple[str, ...]:
    ordered: list[str] = []
    for value in values:
        place = sum(1 for v in ordered if compare(v, value) < 0)
        ordered.insert(place, value)
    return tuple(ordered)


def _unmet(want: Want, goal: Mapping[str, tuple[str, ...]], rules: Rules) -> Iterator[str]:
    for component, wanted in sorted(want.items()):
        values = goal.get(component, ())

        def fits(value: str, text: str, component: str = component) -> bool:
            return fnmatchcase(value, text) if rules.text(component) else in_range(value, text)

        if isinstance(wanted, ToolkitWant):
            yield from (f"{component} {p} is missing" for p in wanted.present if not any(fits(v, p) for v in values))
            yield from (f"{component} {v} is still there" for v in values if any(fits(v, a) for a in wanted.absent))
        elif not any(fits(v, wanted) for v in values):
            yield f"{component} {wanted} is not reached"
