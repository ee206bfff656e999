"""Communication domains whose nodes prove NCCL with each other while they are half upgraded. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from planner.schedule.plan import Plan


def paired_domains(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return domain -> its nodes that change, sorted, where they do in several waves; none without the policy."""
    if not plan.rollout.nccl_pairs:
        return {}
    moving = {name for cohort in plan.cohorts if cohort.steps for name in cohort.nodes}
    waves: dict[str, set[str]] = {}
    found: dict[str, list[str]] = {}
    for wave in plan.waves:
        for name in (n for batch in wave.batches for n in batch.nodes if n in moving):
            if domain := plan.nodes[name].comm_domain:
                waves.setdefault(domain, set()).add(wave.id)
                found.setdefault(domain, []).append(name)
    return {domain: tuple(sorted(names)) for domain, names in sorted(found.items()) if len(waves[domain]) > 1}


def pair_sentences(plan: Plan) -> Iterator[str]:
    """Yield what people should know of the pairs of a plan before they approve it."""
    domains = paired_domains(plan)
    if domains:
        yield (f"after each wave that leaves {', '.join(domains)} mixed, an upgraded node and one that waits are "
               "drained for some minutes and do an all-reduce; the next wave waits for it")
    elif plan.rollout.nccl_pairs:
        yield "nccl_pairs has nothing to do: no communication domain changes in several waves"
    for domain, names in domains.items():
        pools = {plan.nodes[n].pool for n in names}
        tight = [pool for pool in sorted(pools) if plan.pools[pool].max_unavailable - len(
            plan.pools[pool].already_down) < 2]
        if len(pools) == 1 and tight:
            yield (f"communication domain {domain}: pool {tight[0]} may lose no two nodes at once, so no pair can be "
                   "tried; the rollout will pause after each wave until somebody approves it (raise max_unavailable)")
