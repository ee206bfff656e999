"""The fleet schedule: staging, canaries, growing batches. Same inputs give the same bytes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import NamedTuple

from planner.errors import ScheduleError
from planner.model.target import RolloutPolicy
from planner.schedule.classes import canary_warnings, choose_canaries, split_staging, staging_warnings
from planner.schedule.fences import mixed_windows, mixing_warnings, unequal_warnings
from planner.schedule.figures import UNSAID, Figures
from planner.schedule.handover import cluster_wide
from planner.schedule.like import keep_batches, old_canaries
from planner.schedule.limits import Ceilings, Unit, left_behind, make_ceilings, make_units, pool_limits
from planner.schedule.pairs import PAIR_MINUTES, domains_after, pause_minutes
from planner.schedule.phases import split_phases
from planner.schedule.plan import Batch, Cohort, MixedWindow, NodePlan, Plan, PoolLimit, Wave
from planner.schedule.turns import CALLS, FORKS, batch_minutes
from planner.schedule.waves import Key, UnitBatch, grow, growth_cap, pack, waves_of
from planner.schedule.windows import NEVER_MEET, fit_windows, long_waits, meeting, minute_gaps

# A communication domain that staging or a canary has begun is finished first; nodes outside any domain take the small
# first batches; other domains follow one by one.
_BEGUN, _OUTSIDE, _LATER = range(3)


@dataclass(frozen=True)
class Schedule:
    """Waves and numbers of a plan.

    Attributes:
        waves: In order; empty when nothing has to move.
        pools: Absolute limits of every pool.
        warnings: What people should know before they approve.
        eta_minutes: Batches, soaks, and pairs where they take longer than the soak; drains excluded.
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
    like: Plan | None = None, down_domains: Mapping[str, str] | None = None,
    nvlink_domains: Mapping[str, str] | None = None, figures: Figures = UNSAID,
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
        down_domains: Failure domains of nodes that are down: these use up their limits, too.
        nvlink_domains: NVLink domains of nodes, also of such that the plan leaves out.
        figures: Planning figures of pairs and of the site's own commands.

    Raises:
        ScheduleError: No schedule keeps the policy; one diagnostic a reason.
    """
    cohort_of = {c.id: c for c in cohorts}
    policies = {pool: own.get(pool, rollout) for pool in sorted({n.pool for n in nodes.values()})}
    pools = pool_limits(nodes, policies, already_down, down_domains or {}, figures)
    units = make_units([name for name, n in nodes.items() if cohort_of[n.cohort].steps], nodes)
    if not units:
        return Schedule(waves=(), pools=pools, warnings=(), eta_minutes=0)
    mixing = _mixing_domains(units, nodes, cohort_of, equal_components)
    moving = [policies[pool] for pool in sorted({p for u in units for p, _ in u.pools})]
    batch_soak, soak = max(p.batch_soak_minutes for p in moving), max(p.soak_minutes for p in moving)
    clock = _Clock(nodes, cohort_of, pools)
    order = _Order(nodes, {c.id: c.hardware_class for c in cohorts}, policies, pools,
                   make_ceilings(units, nodes, pools, policies), mixing, clock, like,
                   rollout.not_before, batch_soak)
    soaks = {"staging": soak, "canary": soak, "batch": batch_soak}
    parts = split_phases(units, nodes, cohorts)
    try:
        phases, waves = order.waves(parts, soaks)
    except ScheduleError as exc:
        if all(d.code != NEVER_MEET for d in exc.diagnostics):
            raise
        phases, waves = replace(order, one_by_one=True).waves(parts, soaks)
    paired = domains_after(waves, nodes, {n for u in units for n in u.nodes}) if rollout.nccl_pairs else {}
    pauses = {w.id: pause_minutes(w, paired, figures.pair_minutes or PAIR_MINUTES) for w in waves}
    mixed = mixed_windows(waves, mixing, nodes, rollout.fence, pauses)
    used = {p: pools[p] for p in sorted({p for u in units for p, _ in u.pools})}
    warnings = (*(text for phase in phases for text in phase.warnings), *clock.warnings(waves), *minute_gaps(used),
                *long_waits(waves, nodes, pools, rollout.not_before),
                *cluster_wide(cohorts),
                *left_behind(units, nvlink_domains or {}, nodes),
                *mixing_warnings(mixed, rollout.fence), *unequal_warnings(mixing, nodes, cohort_of))
    eta = sum(b.minutes for w in waves for b in w.batches) + sum(pauses.values())
    return Schedule(waves=waves, pools=pools, warnings=warnings, eta_minutes=eta, mixed=mixed)


@dataclass(frozen=True)
class _Clock:
    """How long batches take by planning figures."""

    nodes: Mapping[str, NodePlan]
    cohort_of: Mapping[str, Cohort]
    pools: Mapping[str, PoolLimit]

    def minutes(self, names: Iterable[str]) -> int:
        """Return the minutes of a batch of some nodes."""
        return batch_minutes((max(map(self._of_node, found)), len(found)) for found in self._calls(names).values())

    def _calls(self, names: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self.nodes[name].cohort, []).append(name)
        return dict(sorted(found.items()))

    def _of_node(self, name: str) -> int:
        node = self.nodes[name]
        own_command = self.pools[node.pool].canary_command_timeout_minutes or 0
        return sum(s.minutes for s in self.cohort_of[node.cohort].steps) + own_command

    def warnings(self, waves: Iterable[Wave]) -> Iterator[str]:
        """Say of the batch that takes most turns why it takes longer than its slowest node."""
        batches = [batch for wave in waves for batch in wave.batches]
        alone = {b.id: max(1, *map(self._of_node, b.nodes)) for b in batches}
        batch = max(batches, key=lambda b: b.minutes - alone[b.id], default=None)
        if batch is None or batch.minutes == alone[batch.id]:
            return
        sizes = [len(found) for found in self._calls(batch.nodes).values()]
        most = max(sizes)
        limit = f"{FORKS} nodes of a cohort at a time" if most > FORKS else f"{CALLS} cohorts at a time"
        forks = f"; with planner apply --forks {most} it is shorter" if most > FORKS else ""
        yield (f"batches take turns: planner apply works on {limit}, so batch {batch.id}, {len(batch.nodes)} nodes of "
               f"{len(sizes)} cohort{'s' * (len(sizes) > 1)}, takes {batch.minutes} minutes instead of "
               f"{alone[batch.id]}{forks}")


class _Phase(NamedTuple):
    """Waves of units that wait for nobody but those of earlier phases."""

    groups: tuple[tuple[str, tuple[UnitBatch, ...]], ...]     # kind of wave, its batches
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Order:
    """Puts units in order: staging, canaries, growing batches."""

    nodes: Mapping[str, NodePlan]
    class_of: Mapping[str, str]
    policies: Mapping[str, RolloutPolicy]
    pools: Mapping[str, PoolLimit]
    ceilings: Ceilings
    mixing: Mapping[str, Mapping[str, object]]
    clock: _Clock
    like: Plan | None
    not_before: str | None
    batch_soak_minutes: int            # with any, every batch is a wave of its own
    one_by_one: bool = False           # pools with other windows never share a batch, though there is room for a node

    def waves(self, parts: Iterable[tuple[Unit, ...]], soaks: Mapping[str, int]
              ) -> tuple[list[_Phase], tuple[Wave, ...]]:
        """Return the phases, and their waves with numbers; each batch fits into windows of its pools.

        Raises:
            ScheduleError: Some batch does not.
        """
        phases = [self.of(units) for units in parts]
        waves = _make_waves([group for phase in phases for group in phase.groups], soaks, self.clock)
        fit_windows(waves, self.nodes, self.pools)
        return phases, waves

    def of(self, units: tuple[Unit, ...]) -> _Phase:
        """Return the waves of one phase."""
        nodes, like = self.nodes, self.like
        staging, rest = split_staging(units, nodes)
        down = frozenset(n for limit in self.pools.values() for n in limit.already_down)
        canaries = choose_canaries(rest, nodes, self.class_of, self.policies, old_canaries(like, rest) if like else (),
                                   down)
        chosen = set(canaries)
        later = [u for u in rest if u not in chosen]
        begun = Counter(nodes[n].pool for u in canaries for n in u.nodes)
        key = _order(nodes, self.mixing, (*staging, *canaries), apart=False)
        if like is None:
            # Cohorts that are more than what is worked on at a time take turns: with few of them in a batch small
            # batches take fewer turns, and large ones more.
            keys = [key, _order(nodes, self.mixing, (*staging, *canaries), apart=True)]
            several = len({nodes[n].cohort for u in later for n in u.nodes}) > CALLS
            grown = min((self._grown(later, k, begun) for k in keys[:1 + several]), key=self._minutes)
        else:
            grown = keep_batches(like, later, self.ceilings, key, self.policies, begun)
        batches = [batch for wave in grown for batch in wave]
        return _Phase(
            groups=(("staging", self._packed(staging, key)), ("canary", self._packed(canaries, key)),
                    *(("batch", wave) for wave in grown)),
            warnings=(*staging_warnings(staging, rest, nodes, self.class_of), *canary_warnings(rest, self.policies),
                      *_stuck_warnings(batches, nodes, self.ceilings, self.policies, begun)))

    def _grown(self, units: Iterable[Unit], key: Key, begun: Mapping[str, int]) -> tuple[tuple[UnitBatch, ...], ...]:
        return tuple(wave for found in self._meeting(units) for wave in waves_of(
            grow(found, self.ceilings, key, self.policies, begun), alone=self.batch_soak_minutes > 0))

    def _minutes(self, waves: tuple[tuple[UnitBatch, ...], ...]) -> int:
        busy = sum(self.clock.minutes(n for unit in batch for n in unit.nodes) for wave in waves for batch in wave)
        return busy + self.batch_soak_minutes * len(waves)

    def _packed(self, units: Iterable[Unit], key: Key) -> tuple[UnitBatch, ...]:
        return tuple(batch for found in self._meeting(units) for batch in pack(found, self.ceilings, key))

    def _meeting(self, units: Iterable[Unit]) -> tuple[tuple[Unit, ...], ...]:
        return meeting(units, self.pools, lambda unit: self.clock.minutes(unit.nodes), self.not_before,
                       one_by_one=self.one_by_one)


def _make_waves(groups: Iterable[tuple[str, tuple[UnitBatch, ...]]], soaks: Mapping[str, int], clock: _Clock
                ) -> tuple[Wave, ...]:
    filled = [(kind, batches) for kind, batches in groups if batches]
    waves = []
    for number, (kind, batches) in enumerate(filled, start=1):
        last = number == len(filled)
        names = [sorted(n for unit in batch for n in unit.nodes) for batch in batches]
        waves.append(Wave.model_validate({
            "id": f"w{number}", "kind": kind, "play": f"plays/w{number}-{kind}.yml",
            "batches": tuple(
                Batch(id=f"w{number}b{place}", nodes=tuple(found), minutes=clock.minutes(found))
                for place, found in enumerate(names, start=1)),
            "soak_minutes": 0 if last else soaks[kind], "approval": kind == "canary" and not last,
        }))
    return tuple(waves)


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


def _order(nodes: Mapping[str, NodePlan], mixing: Mapping[str, Mapping[str, object]], early: Iterable[Unit], *,
           apart: bool) -> Key:
    """Return the order of units by communication domain and, where they are kept apart, by cohort."""
    begun = {nodes[n].comm_domain for u in early for n in u.nodes}

    def key(unit: Unit) -> tuple[int, str, str]:
        domains = {d for n in unit.nodes if (d := nodes[n].comm_domain) in mixing and n in mixing[d]}
        first = min(((_BEGUN if d in begun else _LATER, d) for d in domains), default=(_OUTSIDE, ""))
        return (*first, nodes[unit.nodes[0]].cohort if apart else "")

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
