"""What runs must be what is installed, and a reboot must say what else it boots."""

from __future__ import annotations

from collections.abc import Iterator

from planner.model.target import Want
from planner.schedule.plan import Change, Cohort, Step
from planner.validate.rules import Rules, State, compare


def not_loaded(cohort: Cohort, want: Want, rules: Rules) -> Iterator[str]:
    """Yield wanted components of which something else runs in the end than what is installed.

    Args:
        cohort: Its steps and its start; what the facts did not tell is not asked for.
        want: What one of its pools wants.
        rules: Raw matrices; ``loaded_of`` says what runs of which component.
    """
    loaded = {name: str(said["loaded_of"]) for name, said in rules.components.items() if said.get("loaded_of")}
    for name, source in sorted(loaded.items()):
        runs = cohort.start.get(name, ())
        installed = cohort.start.get(source, ())
        for step in cohort.steps:
            moved = {change.component: (change.to,) for change in step.changes if change.to}
            installed = moved.get(source, installed)
            if moved.get(name, installed) != installed:
                yield f"step {step.id}: {name} becomes {moved[name][0]}, and {' '.join(installed)} is installed"
            if step.disruption in ("reboot", "module-reload") or (step.handover and source in moved):
                runs = installed
        if source in want and runs and installed and compare(runs[0], installed[0]) != 0:
            yield f"{source} {installed[0]} is installed in the end, {runs[0]} still runs, and nothing loads it"


def _following(state: State, rules: Rules) -> dict[str, tuple[str, ...]]:
    """Return what the next boot brings where that is not what runs: component -> value."""
    found = {str(said["next_of"]): state.get(name, ()) for name, said in rules.components.items()
             if said.get("next_of")}
    return {name: value for name, value in sorted(found.items()) if value and state.get(name) and state[name] != value}


def boots(step: Step, change: Change, state: State, rules: Rules) -> bool:
    """Tell whether a change is what the reboot of a step brings by itself: what the facts say boots next."""
    return step.disruption == "reboot" and _following(state, rules).get(change.component) == (change.to,)


def not_booted(cohort: Cohort, rules: Rules) -> Iterator[str]:
    """Yield what the first reboot of a path brings although its step does not say so."""
    step = next((s for s in cohort.steps if s.disruption == "reboot"), None)
    said = {change.component for change in step.changes} if step else set()
    for name, value in _following(cohort.start, rules).items():
        if step and not step.handover and name not in said:
            yield f"step {step.id}: boots {name} {value[0]}, and the plan does not say so"


def gone_for_good(cohort: Cohort, rules: Rules) -> frozenset[str]:
    """Return the components that no way back has to bring to their start: what ran, and was not what would boot."""
    loaded = {name for name, said in rules.components.items() if said.get("loaded_of")}
    rebooted = any(step.disruption == "reboot" for step in cohort.steps)
    return frozenset(loaded | (_following(cohort.start, rules).keys() if rebooted else set()))


def no_way_from(cohort: Cohort, rules: Rules) -> bool:
    """Tell whether a plan says that no way leads back behind the step that boots something else."""
    following = _following(cohort.start, rules)
    return any(step.id == cohort.no_return_after and any(c.component in following for c in step.changes)
               for step in cohort.steps)
