"""What a node must look like when its turn comes: the plan's start plus what this rollout has done to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from planner.execute.states import FINAL, RolloutState
from planner.schedule.pairs import pair_minutes, pause_minutes, plan_domains
from planner.schedule.plan import Change, Cohort, Plan

Values = Mapping[str, tuple[str, ...]]

# What runs follows what is installed only after a reboot: a node whose packages are new and whose module is old is not
# at its goal.
FOLLOWS_AFTER_REBOOT: Final = {"loaded_driver": "driver"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One fact that is not as the plan has it."""

    node: str
    component: str
    planned: str
    found: str

    def as_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"node": self.node, "component": self.component, "planned": self.planned, "found": self.found}


def path_values(cohort: Cohort) -> dict[str, frozenset[frozenset[str]]]:
    """Return, for each component that some step moves, every set of values it has somewhere on the path."""
    current = {name: frozenset(values) for name, values in cohort.start.items()}
    seen: dict[str, set[frozenset[str]]] = {}
    for step in cohort.steps:
        for change in step.changes:
            before = current.get(change.component, frozenset())
            current[change.component] = _changed(before, change)
            seen.setdefault(change.component, {before}).add(current[change.component])
    return {name: frozenset(values) for name, values in seen.items()}


def _changed(values: frozenset[str], change: Change) -> frozenset[str]:
    return (values - {change.from_}) | ({change.to} if change.to else frozenset())


def at_goal(cohort: Cohort, found: Values) -> bool:
    """Tell whether everything the steps move is where the last step leaves it, and loaded where that needs a reboot."""
    moved = path_values(cohort)
    if any(frozenset(found.get(name, ("?",))) != frozenset(cohort.goal.get(name, ())) for name in moved):
        return False
    # Where the facts could not tell what is loaded when the plan was made, they are not asked for it now.
    return all(found.get(loaded) == found.get(name)
               for loaded, name in FOLLOWS_AFTER_REBOOT.items() if name in moved and cohort.start.get(loaded))


def differences(node: str, cohort: Cohort, found: Values, *, started: bool,
                ignored: frozenset[str] = frozenset()) -> tuple[Difference, ...]:
    """Return where a node differs from what the plan relies on, by component.

    Args:
        node: Its name.
        cohort: What the plan says of it.
        found: Its state now; a missing key is unknown.
        started: Its steps may have begun. Then only what the steps move is compared, with every value on the path: a
            reboot changes other things (the running kernel), and a step that was cut off may have been half done.
        ignored: Keys that no node says itself.
    """
    moved = path_values(cohort)
    found_differences = []
    for name in sorted(moved if started else cohort.start):
        if name in ignored:
            continue
        allowed = moved[name] if started else frozenset({frozenset(cohort.start[name])})
        if name not in found or frozenset(found[name]) not in allowed:
            planned = " or ".join(sorted(_words(tuple(sorted(values))) for values in allowed))
            found_differences.append(Difference(node=node, component=name, planned=planned,
                                                found=_words(found.get(name))))
    return tuple(found_differences)


def _words(values: tuple[str, ...] | None) -> str:
    return "unknown" if values is None else ", ".join(values) or "absent"


def minutes_left(plan: Plan, state: RolloutState) -> int:
    """Return the worst case that is left, in minutes: batches with open nodes, soaks and pairs still to come."""
    total, domains = 0, plan_domains(plan)
    for wave in plan.waves:
        total += sum(batch.minutes for batch in wave.batches
                     if any(n in state.nodes and state.nodes[n].state not in FINAL for n in batch.nodes))
        total += pause_minutes(wave, domains, pair_minutes(plan)) if wave.id not in state.waves_finished else 0
    return total
