"""Communication domains whose nodes prove NCCL with each other while they are half upgraded, and how long it takes.

Pure. After each wave that leaves a domain mixed one pair of it is drained and does an all-reduce; the wave soaks
meanwhile, so only what is longer than the soak takes time of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from planner.schedule.plan import NodePlan, Plan, Wave

PAIR_MINUTES = 15     # of plans that do not say it


class Pair(NamedTuple):
    """The pair that a wave is followed by if nothing fails: the node upgraded last, and one that waits."""

    domain: str
    nodes: tuple[str, str]


def pair_minutes(plan: Plan) -> int:
    """Return the planning figure of one pair, in minutes, drains excluded."""
    return plan.pair_minutes or PAIR_MINUTES


def domains_after(waves: Iterable[Wave], nodes: Mapping[str, NodePlan], moving: Collection[str]
                  ) -> dict[str, tuple[str, ...]]:
    """Return wave -> communication domains in which it changes nodes while others wait, sorted; only waves with any."""
    found: dict[str, tuple[str, ...]] = {}
    later: set[str] = set()
    for wave in reversed(tuple(waves)):
        here = {nodes[n].comm_domain for b in wave.batches for n in b.nodes if n in moving} - {""}
        if both := here & later:
            found[wave.id] = tuple(sorted(both))
        later |= here
    return found


def pause_minutes(wave: Wave, domains: Mapping[str, tuple[str, ...]], minutes: int) -> int:
    """Return how long the next wave waits at worst: for the soak, or for pairs that take longer than it."""
    return max(wave.soak_minutes, minutes * len(domains.get(wave.id, ())))


def pairs_told(wave: Wave, domains: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return in words the pairs that follow a wave, all in one; nothing where there are none."""
    found = domains.get(wave.id, ())
    return [f"a pair of {' and '.join(found)}" if len(found) < 3 else f"pairs of {len(found)} domains"] if found else []


def plan_domains(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return wave -> domains in which a pair follows it; none without the policy."""
    return domains_after(plan.waves, plan.nodes, _moving(plan)) if plan.rollout.nccl_pairs else {}


def expected_pairs(plan: Plan) -> dict[str, tuple[Pair, ...]]:
    """Return wave -> the pairs that follow it while nothing fails, in their order; those that have room alone."""
    if not plan.rollout.nccl_pairs:
        return {}
    from planner.gates.multi_node import Attempt, pairing

    after, moving = plan_domains(plan), _moving(plan)
    order: dict[str, list[tuple[int, str]]] = {}      # domain -> place of the wave, node, in the order of the plan
    for at, wave in enumerate(plan.waves):
        for name in (n for b in wave.batches for n in b.nodes if n in moving):
            order.setdefault(plan.nodes[name].comm_domain, []).append((at, name))
    tried: list[Attempt] = []
    found: dict[str, list[Pair]] = {}
    for at, wave in enumerate(plan.waves):
        for domain in after.get(wave.id, ()):
            upgraded = [n for place, n in order[domain] if place <= at]
            waiting = [n for place, n in order[domain] if place > at]
            pair = pairing(upgraded, waiting, tried)
            if pair is not None and has_room(plan, pair):
                tried.append(Attempt(pair, "OK"))
                found.setdefault(wave.id, []).append(Pair(domain, pair))
    return {wave: tuple(pairs) for wave, pairs in found.items()}


def has_room(plan: Plan, pair: Iterable[str]) -> bool:
    """Tell whether both nodes of a pair may be away at once, while nothing is but what is down already."""
    away = {n: (p, (limit.down_domains or {}).get(n, "")) for p, limit in plan.pools.items()
            for n in limit.already_down}
    known = {n: (plan.nodes[n].pool, plan.nodes[n].failure_domain) for n in (*pair, *away) if n in plan.nodes}
    away |= known
    for pool, domain in {known[n] for n in pair}:
        limit = plan.pools[pool]
        if sum(p == pool for p, _ in away.values()) > limit.max_unavailable:
            return False
        most = limit.max_unavailable_per_domain
        if domain and most is not None and sum(d == domain for _, d in away.values()) > most:
            return False
    return True


def paired_domains(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return domain -> its nodes that change, sorted, where they do in several waves; none without the policy."""
    names = sorted({domain for found in plan_domains(plan).values() for domain in found})
    moving = _moving(plan)
    return {d: tuple(sorted(n for n in moving if plan.nodes[n].comm_domain == d)) for d in names}


def _moving(plan: Plan) -> frozenset[str]:
    return frozenset(name for cohort in plan.cohorts if cohort.steps for name in cohort.nodes)


def pair_sentences(plan: Plan) -> Iterator[str]:
    """Yield what people should know of the pairs of a plan before they approve it."""
    domains = paired_domains(plan)
    if domains:
        minutes = f"about {plan.pair_minutes} minutes by planning figures" if plan.pair_minutes else "some minutes"
        yield (f"after each wave that leaves {', '.join(domains)} mixed, an upgraded node and one that waits are "
               f"drained for {minutes} and do an all-reduce; the next wave waits for it")
    elif plan.rollout.nccl_pairs:
        yield "nccl_pairs has nothing to do: no communication domain changes in several waves"
    for domain, names in domains.items():
        pools = {plan.nodes[n].pool for n in names}
        tight = [pool for pool in sorted(pools) if plan.pools[pool].max_unavailable - len(
            plan.pools[pool].already_down) < 2]
        if len(pools) == 1 and tight:
            yield (f"communication domain {domain}: pool {tight[0]} may lose no two nodes at once, so no pair can be "
                   "tried; the rollout will pause after each wave until somebody approves it (raise max_unavailable)")
