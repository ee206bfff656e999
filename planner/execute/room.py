"""How many nodes may be away at once now. Pure."""

from __future__ import annotations

from collections import Counter

from planner.execute.states import NodeState, RolloutState
from planner.schedule.plan import Plan


class Room:
    """How many nodes each pool, and each failure domain in it, can still spare."""

    def __init__(self, plan: Plan, state: RolloutState) -> None:
        self._plan = plan
        self._pool_of = {name: pool for pool, limit in plan.pools.items() for name in limit.already_down}
        self._pool_of |= {name: node.pool for name, node in plan.nodes.items()}
        self._away = {name for limit in plan.pools.values() for name in limit.already_down
                      if name not in state.nodes or state.nodes[name].state is not NodeState.DONE}
        self._away |= {name for name, status in state.nodes.items() if status.unavailable}

    def take(self, unit: tuple[str, ...]) -> str:
        """Take a unit out of service; return "" or, with nothing taken, why there is no room for it."""
        after = self._away | set(unit)
        counts = Counter(what for name in after for what, _ in self._limits_of(name))
        for name in unit:
            if name in self._away:
                continue
            for what, limit in self._limits_of(name):
                if limit is not None and counts[what] > limit:
                    away = sorted(n for n in self._away if what in dict(self._limits_of(n)))
                    return (f"{what} may lose {limit} at once; {', '.join(unit)} would make it {counts[what]}"
                            f" (away now: {', '.join(away) or 'none'})")
        self._away = after
        return ""

    def _limits_of(self, name: str) -> list[tuple[str, int | None]]:
        """Return what a node counts against, and how much of that its pool allows; None: as much as others allow.

        A failure domain loses nodes of all pools alike, whichever of them limits how many.
        """
        limit = self._plan.pools.get(self._pool_of.get(name, ""))
        if limit is None:
            return []
        found: list[tuple[str, int | None]] = [(f"pool {self._pool_of[name]}", limit.max_unavailable)]
        node = self._plan.nodes.get(name)
        domain = node.failure_domain if node is not None else (limit.down_domains or {}).get(name, "")
        if domain:
            found.append((f"failure domain {domain}", limit.max_unavailable_per_domain))
        return found
