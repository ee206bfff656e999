"""Checks what a cohort says of itself: ids, the point of no return, the default link, and what its path costs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cmp_to_key

from planner.model.target import ToolkitWant, Want
from planner.schedule.plan import Cohort, Plan, Step
from planner.validate.rules import Rules, State, compare, in_range

_UNDO = "-undo"


def misnamed(cohort: Cohort, rules: Rules) -> Iterator[str]:
    """Yield ids that name two steps or none, and a point of no return that is no step or stands too late.

    Args:
        cohort: With its path and its way back.
        rules: Raw matrices; their moves say behind which of them no way leads back.
    """
    ids = [step.id for step in cohort.steps]
    every = [*ids, *(step.id for step in cohort.way_back)]
    yield from (f"two steps have the id {name}" for name in sorted({n for n in every if every.count(n) > 1}))
    yield from (f"way back, {step.id} takes back no step of the cohort" for step in cohort.way_back
                if not step.id.endswith(_UNDO) or step.id.removesuffix(_UNDO) not in ids)
    if cohort.no_return_after is not None and cohort.no_return_after not in ids:
        yield f"the point of no return, {cohort.no_return_after}, is no step of the cohort"
    for number, step in enumerate(cohort.steps):
        if rules.moves.get(step.move, {}).get("no_return") and not _behind(cohort, number):
            yield f"step {step.id}: no way leads back behind {step.move}, and the plan does not say so"


def _behind(cohort: Cohort, number: int) -> bool:
    """Tell whether the plan says that there may be no way back behind the step in this place."""
    return any(step.id == cohort.no_return_after for step in cohort.steps[:number + 1])


def left_to_people(step: Step, cohort: Cohort, rules: Rules) -> bool:
    """Tell whether a step back may name no package: a hand-over, or one that nothing but another boot takes back.

    What the boot loader chooses among stays installed, so its way back has no packages; the plan has to say that there
    is a point of no return, at this step or before it.
    """
    if step.packages.manager != "none":
        return False
    number = next((n for n, s in enumerate(cohort.steps) if s.id == step.id.removesuffix(_UNDO)), None)
    boots = bool(step.changes) and all(rules.boots(change.component) for change in step.changes)
    return bool(step.handover) or (boots and number is not None and _behind(cohort, number))


def misstated_cost(cohort: Cohort, states: Sequence[State], rules: Rules, accepted: set[str]) -> Iterator[str]:
    """Yield every field of the stated cost that is not what the replay comes to.

    Args:
        cohort: Its steps are counted, and their minutes summed.
        states: After each step; each accepted problem that holds in one of them is a risk.
        rules: Raw matrices.
        accepted: Names of accepted risks.
    """
    cost = {
        "drains": int(bool(cohort.steps)),
        "minutes": sum(step.minutes for step in cohort.steps),
        "reboots": sum(step.disruption == "reboot" for step in cohort.steps),
        "risks": sum(bool(rules.names_of(rule) & accepted) for state in states for rule, _ in rules.broken(state)),
        "steps": len(cohort.steps),
    }
    for name in sorted({*cost, *cohort.cost}):
        if cost.get(name) != cohort.cost.get(name):
            yield f"its cost in {name} is said to be {cohort.cost.get(name)}, the path comes to {cost.get(name)}"


def mislinked(cohort: Cohort, want: Want, rules: Rules) -> Iterator[str]:
    """Yield steps whose links are not those of the wanted default: set by the last step of its component, by no other.

    On the way back the step that undoes it turns them to where they were at the start, where the plan knows that.

    Args:
        cohort: With its path and its way back.
        want: Of its pools.
        rules: Raw matrices; their package sets say which links a default has.
    """
    due: dict[str, Mapping[str, str]] = {}
    brought: set[str] = set()         # what links may point to at the goal alone
    for component, wanted in want.items():
        if not isinstance(wanted, ToolkitWant) or not wanted.default:
            continue
        chosen = sorted((v for v in cohort.goal.get(component, ()) if in_range(v, wanted.default)),
                        key=cmp_to_key(compare))
        moving = [s for s in cohort.steps if any(c.component == component for c in s.changes)] or [
            s for s in cohort.steps if any(c.component in _defaults_of(component, rules) for c in s.changes)]
        links = _links_of(component, cohort, moving[-1], rules) if chosen and moving else None
        if links is not None:
            due[moving[-1].id] = {link: _filled(target, chosen[-1]) for link, target in links.items()}
            here, there = ({_filled(target, v) for target in links.values() for v in state.get(component, ())}
                           for state in (cohort.start, cohort.goal))
            brought |= there - here
        yield from (f"step {step.id}: {change.component} {change.to}, the wanted default is {chosen[-1]}"
                    for step in cohort.steps for change in step.changes
                    if chosen and change.component in _defaults_of(component, rules) and change.to != chosen[-1])
    for step in cohort.steps:
        if dict(due.get(step.id, {})) != step.links:
            yield f"step {step.id}: links {_shown(step.links)}, the wanted default has {_shown(due.get(step.id, {}))}"
    before = cohort.links or {}
    turned = {link: target for links in due.values() for link, target in links.items()}
    for link, target in sorted(before.items()):
        if link not in turned or turned[link] == target or target in brought:
            yield f"link {link} is said to be {target} at the start, which no step changes or no node has there"
    for step in cohort.way_back:
        back = {link: before[link] for link in due.get(step.id.removesuffix(_UNDO), {}) if link in before}
        if step.links != back:
            yield f"way back, links {_shown(step.links)} ({step.id}), at the start is {_shown(back)}"


def mistimed(plan: Plan, rules: Rules) -> Iterator[str]:
    """Yield planning figures of pairs and of the site's own commands that are not those of the raw matrices."""
    said = {name: rules.times.get(name, {}) for name in ("pair", "own-command")}
    pair = said["pair"].get("minutes") if plan.rollout.nccl_pairs else None
    if plan.pair_minutes != (None if pair is None else int(pair)):
        yield f"a pair is said to take {plan.pair_minutes} minutes, in the matrices it is {pair}"
    percent = int(said["own-command"].get("timeout_percent", 100))
    for pool, limit in sorted(plan.pools.items()):
        timeout = limit.canary_command_timeout_minutes
        due = None if timeout is None else (timeout * percent + 99) // 100
        if limit.canary_command_minutes != due:
            yield f"the command of pool {pool} is said to take {limit.canary_command_minutes} minutes, that is {due}"


def _defaults_of(component: str, rules: Rules) -> frozenset[str]:
    """Return the names under which a state says to which version of a component the default link leads."""
    return frozenset(name for name, said in rules.components.items() if said.get("default_of") == component)


def _links_of(component: str, cohort: Cohort, step: Step, rules: Rules) -> Mapping[str, str] | None:
    """Return the link templates of the packages that bring a component here: those installed, else those that fit."""
    managers = (step.packages.manager,) if step.packages.manager != "none" else cohort.start.get("os_family", ())
    own = [s for s in rules.packages.values() if s["component"] == component and s["manager"] in managers]
    there = [s for s in own if any(fnmatchcase(name, glob) for glob in s.get("detect") or () for name in
                                   cohort.installed)]
    fits = [s for s in own if all(rules.meets(cohort.start, n, c) is True for n, c in (s.get("when") or {}).items())]
    return next((s.get("default_links") or {} for s in (*there, *fits)), None)


def _filled(template: str, version: str) -> str:
    numbers = re.findall(r"\d+", version)
    for field, value in (("version", version), ("branch", numbers[0] if numbers else version),
                         ("dashed", "-".join(numbers[:2])), ("dotted", ".".join(numbers[:2])),
                         ("abi", re.sub(r"-[a-z][a-z0-9-]*\Z", "", version)), ("cuda_major", "*")):
        template = template.replace("{" + field + "}", value)
    return template


def _shown(links: Mapping[str, str]) -> str:
    return ", ".join(f"{link} -> {target}" for link, target in sorted(links.items())) or "nothing"
