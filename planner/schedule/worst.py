"""The worst case of a plan, and whether it still is one beside what earlier rollouts took. Pure."""

from __future__ import annotations

from planner.schedule.plan import Eta, Plan


def worst_minutes(plan: Plan, eta: Eta | None) -> int:
    """Return the worst case by planning figures, closed hours between windows included where that is known."""
    return plan.eta_minutes if eta is None or eta.at_worst_minutes is None else eta.at_worst_minutes


def outdone(plan: Plan, eta: Eta | None) -> bool:
    """Tell whether planning figures are no worst case: by what was measured one rollout of ten takes longer."""
    return eta is not None and eta.p90_minutes > worst_minutes(plan, eta)

