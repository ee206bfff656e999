"""What no rollout under a plan's limits can undercut: the plan's own fleet, timed without batches, growth and soaks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from planner.schedule.plan import Cohort, NodePlan, PoolLimit
from planner.schedule.timeline.build import build_timetable
from planner.schedule.timeline.model import (
    Act,
    Bunch,
    Chain,
    Change,
    Fleet,
    FleetRule,
    PoolRule,
    Timetable,
    joined,
)

_STACK = "stack"      # a node's steps share one drain, so its path is one act that changes its stack


def bound_minutes(cohorts: tuple[Cohort, ...], nodes: Mapping[str, NodePlan], pools: Mapping[str, PoolLimit]) -> int:
    """Return minutes that no order of the moving nodes can undercut; 0 when fewer than two move.

    Capacity of pools and failure domains, whole NVLink domains and the longest path count; canaries, growth, soaks and
    drains do not, so the true minimum is often larger.
    """
    moving = {c.id for c in cohorts if c.steps}
    if sum(n.cohort in moving for n in nodes.values()) < 2:
        return 0       # one node waits for nobody
    made = build_timetable(_fleet(cohorts, nodes, pools), trials=0)
    by_pools = made.lower_bound if isinstance(made, Timetable) else 0
    return max(by_pools, _by_failure_domains(cohorts, nodes, pools))


def _by_failure_domains(cohorts: tuple[Cohort, ...], nodes: Mapping[str, NodePlan], pools: Mapping[str, PoolLimit]
                        ) -> int:
    """Return the node-minutes of a failure domain against the room in it: of each pool, and of all that share it.

    A batch has to keep the limit of every pool that it has nodes of; so all of a domain share its loosest limit.
    """
    minutes = {c.id: sum(s.minutes for s in c.steps) for c in cohorts}
    work: dict[str, dict[str, int]] = {}
    for node in nodes.values():
        if node.failure_domain and minutes[node.cohort]:
            here = work.setdefault(node.failure_domain, {})
            here[node.pool] = here.get(node.pool, 0) + minutes[node.cohort]
    most = 0
    for here in work.values():
        limits = {pool: pools[pool].max_unavailable_per_domain for pool in here}
        known = [limit for limit in limits.values() if limit]
        most = max([most, *(-(-here[pool] // limit) for pool, limit in limits.items() if limit)])
        if len(known) == len(limits):
            most = max(most, -(-sum(here.values()) // max(known)))
    return most


def _fleet(cohorts: tuple[Cohort, ...], nodes: Mapping[str, NodePlan], pools: Mapping[str, PoolLimit]) -> Fleet:
    moving = [c for c in cohorts if c.steps]
    change = Change(kind=_STACK, old=(0,), new=(1,))
    chains = tuple(Chain(acts=(Act(changes=(change,), minutes=max(1, sum(s.minutes for s in c.steps)), down=True),))
                   for c in moving)
    chain_of = {c.id: at for at, c in enumerate(moving)}
    pool_of = {name: at for at, name in enumerate(sorted(pools))}
    domains = _numbers(n.failure_domain for n in nodes.values())
    nvlink = _numbers(n.nvlink_domain for n in nodes.values())
    members: dict[tuple[str, str, str, str], list[tuple[int, int]]] = {}
    for at, name in enumerate(sorted(n for n in nodes if nodes[n].cohort in chain_of)):
        node = nodes[name]
        members.setdefault((node.pool, node.failure_domain, node.cohort, node.nvlink_domain), []).append((at, at))
    loosest = [limit.max_unavailable_per_domain for limit in pools.values()]
    return Fleet(
        chains=chains,
        bunches=tuple(
            Bunch(nodes=joined(found), pool=pool_of[pool], chain=chain_of[cohort],
                  failure_domain=domains[domain] if domain else len(domains) + i,
                  nvlink_domain=nvlink[link] if link else None)
            for i, ((pool, domain, cohort, link), found) in enumerate(sorted(members.items()))),
        pools=tuple(PoolRule(max_unavailable=max(1, pools[p].max_unavailable - len(pools[p].already_down)),
                             canary=max(1, pools[p].nodes), growth=2.0, soak_minutes=0) for p in sorted(pools)),
        rule=FleetRule(
            failure_domain_max_unavailable=len(nodes) if None in loosest else max((n or 0 for n in loosest), default=1),
            nvlink_atomic=(_STACK,)),
    )


def _numbers(names: Iterable[str]) -> dict[str, int]:
    return {name: at for at, name in enumerate(sorted({n for n in names if n}))}
