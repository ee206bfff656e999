"""What plays need to mark the halves of mixed communication domains: one file of variables beside them. Pure."""

from __future__ import annotations

from typing import Any

from planner.schedule.fences import NEW, OLD, domain_nodes, fence_mark, halves
from planner.schedule.plan import MixedWindow, Plan

FENCE_FILE = "plays/vars/fences.yml"
FENCE_VARS = "vars/fences.yml"      # as a play names it


def fenced_windows(plan: Plan) -> dict[str, MixedWindow]:
    """Return id -> window of every domain that carries marks while it is mixed, in the order of the plan."""
    fenced = [w for w in plan.mixed or () if w.fences]
    return {f"d{number}": window for number, window in enumerate(fenced, start=1)}


def fence_variables(plan: Plan) -> dict[str, Any]:
    """Return the content of the file: nodes by scheduler with the number of their batch, and who closes the window."""
    found: dict[str, dict[str, Any]] = {}
    for key, window in fenced_windows(plan).items():
        split = halves(plan, window)
        found[key] = {
            "domain": window.domain, "components": list(window.components), "mark": fence_mark(plan),
            **{scheduler: {n: split.places[n] for n in domain_nodes(plan, window, scheduler)}
               for scheduler in window.fences},
            "waves": {wave: sorted(names) for wave, names in sorted(split.waves.items())},
        }
    return {"planner_fences": found}


def fence_ids(plan: Plan) -> dict[str, str]:
    """Return node -> id of its domain's fence, for every node that changes while its domain is mixed."""
    return {name: key for key, window in fenced_windows(plan).items()
            for names in halves(plan, window).waves.values() for name in names}


def constraint(plan: Plan, scheduler: str) -> str:
    """Return what a job asks for to stay in one half, whichever: an option, or the key of its pods' affinity."""
    mark = fence_mark(plan)
    return f'--constraint="[{mark}{OLD}|{mark}{NEW}]"' if scheduler == "slurm" else f"topologyKey: {mark}"
