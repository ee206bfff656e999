"""What runs must be what is installed: a wanted component that only a reboot loads gets one."""

from __future__ import annotations

from collections.abc import Iterator

from planner.model.target import Want
from planner.schedule.plan import Cohort
from planner.validate.rules import Rules, compare


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
