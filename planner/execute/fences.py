"""Which nodes may still carry marks of mixed communication domains, as the journal tells. Pure."""

from __future__ import annotations

from typing import Any

from planner.emit.fences import fenced_windows
from planner.execute.states import NodeState, RolloutState
from planner.schedule.fences import FENCES, domain_nodes, fence_mark, halves
from planner.schedule.plan import Plan

_GOING_BACK = ("undrain", "record")


def fenced_nodes(plan: Plan, state: RolloutState) -> tuple[str, ...]:
    """Return the nodes whose marks nothing has taken off yet, sorted.

    A domain is marked whole from the first of its nodes that is given back on. When the last one is done its play takes
    the marks off; what is left out or failed leaves them for the end of the rollout.
    """
    found: set[str] = set()
    for window in () if state.unfenced else fenced_windows(plan).values():
        movers = [n for names in halves(plan, window).waves.values() for n in names if n in state.nodes]
        begun = any(state.nodes[n].recorded or state.nodes[n].phase in _GOING_BACK
                    or state.nodes[n].state is NodeState.UNDRAIN_REQUIRED for n in movers)
        if begun and not all(state.nodes[n].recorded for n in movers):
            found |= {n for scheduler in window.fences for n in domain_nodes(plan, window, scheduler)}
    return tuple(sorted(found))


def unfence_variables(plan: Plan, nodes: tuple[str, ...]) -> dict[str, Any]:
    """Return what the play has to know that takes marks off some nodes."""
    return {"mark": fence_mark(plan),
            **{scheduler: [n for n in nodes if plan.nodes[n].scheduler == scheduler] for scheduler in FENCES}}
