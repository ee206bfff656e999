"""The fleet schedule: staging, canaries, growing batches. Same inputs give the same bytes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from math import ceil

from planner.diagnostics import Diagnostic
from planner.errors import ScheduleError
from planner.model.target import RolloutPolicy
from planner.model.window import common_start, next_start
from planner.schedule.classes import choose_canaries, split_staging, staging_warnings
from planner.schedule.fences import mixed_windows, mixing_warnings, unequal_warnings
from planner.schedule.like import keep_batches, old_canaries
from planner.schedule.limits import Ceilings, Unit, make_ceilings, make_units, pool_limits
from planner.schedule.plan import Batch, Cohort, MixedWindow, NodePlan, Plan, PoolLimit, Wave
from planner.schedule.waves import Key, UnitBatch, grow, growth_cap, pack, waves_of

# A communication domain that staging or a canary has begun is finished first; nodes outside any domain take the small
# first batches; other domains follow one by one.
_BEGUN, _OUTSIDE, _LATER = range(3)
_ANY_WEEK = datetime(2026, 1, 5, tzinfo=UTC)      # no clocks change in it


@dataclass(frozen=True)
class Schedule:
    """Waves and numbers of a plan.

    Attributes:
        waves: In order; empty when nothing has to move.
        pools: Absolute limits of every pool.
        warnings: What people should know before they approve.
        eta_minutes: Batches and soaks; drains excluded.
        mixed: Communication domains that run two versions of what must be equal within a job, and when; not why.
    """

    waves: tuple[Wave, ...]
    pools: dict[str, PoolLimit]
    warnings: tuple[str, ...]
    eta_minutes: int
    mixed: tuple[MixedWindow, ...] = ()


def build_waves(
    cohorts: tuple[Cohort, ...], nodes: Mapping[str, NodePlan], rollout: RolloutPolicy,
    own: Mapping[str, RolloutPolicy], already_down: Mapping[str, tuple[str, ...]], *, equal_components: frozenset[str],
    like: Plan | None = None,
) -> Schedule:
    """Schedule every node whose cohort has steps.

    Args:
        cohorts: All cohorts, also those that are there already.
        nodes: All nodes of these cohorts.
        rollout: Policy of pools without their own.
        own: Policy of pools that replace it. Soaks are the longest of all pools that move.
        already_down: Pool -> nodes that are down now; they use up its limit.
        equal_components: Components that must be equal within a job.
        like: An earlier plan; nodes stay in its batches where they can.

    Raises:
        ScheduleError: No schedule keeps the policy; one diagnostic a reason.
    """
    cohort_of = {c.id: c for c in cohorts}
    policies = {pool: own.get(pool, rollout) for pool in sorted({n.pool for n in nodes.values()})}
    pools = pool_limits(nodes, policies, already_down)
    units = make_units([name for name, n in nodes.items() if cohort_of[n.cohort].steps], nodes)
    if not units:
        return Schedule(waves=(), pools=pools, warnings=(), eta_minutes=0)
    class_of = {c.id: c.hardware_class for c in cohorts}
    ceilings = make_ceilings(units, nodes, pools, policies)
    staging, rest = split_staging(units, nodes)
    canaries = choose_canaries(rest, nodes, class_of, policies, old_canaries(like, rest) if like else ())
    chosen = set(canaries)
    later = [u for u in rest if u not in chosen]
    mixing = _mixing_domains(units, nodes, cohort_of, equal_components)
    key = _order(nodes, mixing, (*staging, *canaries))
    begun = Counter(nodes[n].pool for u in canaries for n in u.nodes)
    moving = [policies[pool] for pool in sorted({p for u in units for p, _ in u.pools})]
    batch_soak = max(p.batch_soak_minutes for p in moving)
    grown = waves_of(grow(later, ceilings, key, policies, begun), alone=batch_soak > 0) if like is None else \
        keep_batches(like, later, ceilings, key, policies, begun)
    batches = [batch for wave in grown for batch in wave]
    groups = [("staging", pack(staging, ceilings, key)), ("canary", pack(canaries, ceilings, key)),
              *(("batch", wave) for wave in grown)]
    soak = max(p.soak_minutes for p in moving)
    minutes = {c.id: sum(s.minutes for s in c.steps) for c in cohorts}
    waves = _make_waves(groups, {"staging": soak, "canary": soak, "batch": batch_soak},
                        {name: minutes[n.cohort] for name, n in nodes.items()})
    _fit_windows(waves, nodes, pools)
    mixed = mixed_windows(waves, mixing, nodes, rollout.fence)
    warnings = (*staging_warnings(staging, rest, nodes, class_of),
                *_stuck_warnings(batches, nodes, ceilings, policies, begun),
                *mixing_warnings(mixed, rollout.fence), *unequal_warnings(mixing, nodes, cohort_of))
    eta = sum(b.minutes for w in waves for b in w.batches) + sum(w.soak_minutes for w in waves)
    return Schedule(waves=waves, pools=pools, warnings=warnings, eta_minutes=eta, mixed=mixed)


def _make_waves(groups: Iterable[tuple[str, tuple[UnitBatch, ...]]], soaks: Mapping[str, int],
                minutes: Mapping[str, int]) -> tuple[Wave, ...]:
    filled = [(kind, batches) for kind, batches in groups if batches]
    waves = []
    for number, (kind, batches) in enumerate(filled, start=1):
        last = number == len(filled)
        names = [sorted(n for unit in batch for n in unit.nodes) for batch in batches]
        waves.append(Wave.model_validate({
            "id": f"w{number}", "kind": kind, "play": f"plays/w{number}-{kind}.yml",
            "batches": tuple(
                Batch(id=f"w{number}b{place}", nodes=tuple(found), minutes=max(1, *(minutes[n] for n in found)))
                for place, found in enumerate(names, start=1)),
            "soak_minutes": 0 if last else soaks[kind], "approval": kind == "canary" and not last,
        }))
    return tuple(waves)


def _fit_windows(waves: Iterable[Wave], nodes: Mapping[str, NodePlan], pools: Mapping[str, PoolLimit]) -> None:
    """Refuse a batch that is longer than every maintenance window of one of its pools: it would wait for ever."""
    longest: dict[str, Batch] = {}
    for batch in (b for w in waves for b in w.batches):
        for pool in {nodes[n].pool for n in batch.nodes}:
            if pool not in longest or batch.minutes > longest[pool].minutes:
                longest[pool] = batch
    problems = [
        Diagnostic(code="window-too-short", subject=f"pool {pool}",
                   summary=f"batch {batch.id} takes {batch.minutes} minutes, and no maintenance window is that long",
                   why=tuple(pools[pool].windows),
                   hint=f"give the pool a window of at least {batch.minutes} minutes", places=(("rollout", "windows"),))
        for pool, batch in sorted(longest.items()) if next_start(pools[pool].windows, _ANY_WEEK, batch.minutes) is None]
    for batch in (b for w in waves for b in w.batches if not problems):
        named = sorted({nodes[n].pool for n in batch.nodes})
        if common_start([pools[p].windows for p in named], _ANY_WEEK, batch.minutes) is None:
            problems.append(Diagnostic(
                code="windows-never-meet", subject=f"pools {', '.join(named)}",
                summary=f"batch {batch.id} has nodes of all of them; their windows have no {batch.minutes} minutes in "
                        "common",
                why=tuple(f"{p}: {'; '.join(pools[p].windows) or 'at any time'}" for p in named),
                hint="give them a common window, or plan them one after another with select: [POOL]",
                places=(("rollout", "windows"),)))
    if problems:
        raise ScheduleError(*problems)


def _mixing_domains(units: Iterable[Unit], nodes: Mapping[str, NodePlan], cohort_of: Mapping[str, Cohort],
                    equal_components: frozenset[str]) -> dict[str, dict[str, frozenset[str]]]:
    """Return communication domain -> node -> components it changes that must be equal within a job."""
    changed = {name: equal_components.intersection(x.component for s in c.steps for x in s.changes)
               for name, c in cohort_of.items()}
    found: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
    for name in (n for u in units for n in u.nodes):
        node = nodes[name]
        if node.comm_domain and changed[node.cohort]:
            found[node.comm_domain][name] = changed[node.cohort]
    return dict(sorted(found.items()))


def _order(nodes: Mapping[str, NodePlan], mixing: Mapping[str, Mapping[str, object]], early: Iterable[Unit]) -> Key:
    begun = {nodes[n].comm_domain for u in early for n in u.nodes}

    def key(unit: Unit) -> tuple[int, str]:
        domains = {d for n in unit.nodes if (d := nodes[n].comm_domain) in mixing and n in mixing[d]}
        return min(((_BEGUN if d in begun else _LATER, d) for d in domains), default=(_OUTSIDE, ""))

    return key


def _stuck_warnings(batches: Iterable[UnitBatch], nodes: Mapping[str, NodePlan], ceilings: Ceilings,
                    policies: Mapping[str, RolloutPolicy], canaries: Mapping[str, int]) -> list[str]:
    """Say where rounding down keeps batches from growing: 1.5 times one node is one node."""
    sizes: dict[str, list[int]] = defaultdict(list)
    for batch in batches:
        for pool, size in Counter(nodes[n].pool for u in batch for n in u.nodes).items():
            sizes[pool].append(size)
    found = []
    for pool, counts in sorted(sizes.items()):
        growth, before = policies[pool].growth, max(1, canaries.get(pool, 0))
        stuck = growth > 1 and growth_cap(growth, before) == before < ceilings.pools[pool]
        if stuck and len(counts) > 1 and max(counts) == before:
            found.append(
                f"growth {growth} keeps pool {pool} at batches of {before}: rounded down, {growth} times {before} is "
                f"{before}; write growth: 2, or let it begin with {ceil(1 / (Fraction(str(growth)) - 1))} canary nodes")
    return found
