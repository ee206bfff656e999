"""The second opinion on a schedule: every invariant, read from the finished plan; shares no code with what built it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

from planner.model.target import RolloutPolicy
from planner.model.window import parse_window
from planner.schedule.plan import Batch, NodePlan, Plan, Wave

_RANK = {"staging": 0, "canary": 1, "batch": 2}
_SOME_WEEK = datetime(2026, 1, 7, tzinfo=UTC)
_ROUNDING = 1e-9     # growth is a decimal fraction that a float does not hold exactly


def verify_schedule(plan: Plan, own: Mapping[str, RolloutPolicy] | None = None) -> tuple[str, ...]:
    """Return a sentence for every broken invariant of a plan's waves; empty when the schedule holds.

    Args:
        plan: A finished plan, with or without its seal.
        own: Policies of pools that replace the plan's, as in the target; the plan does not carry them.
    """
    schedule = _Schedule(plan, own or {})
    broken = (*_membership(schedule),)
    if broken:
        return broken     # the other checks would only repeat it in other words
    return (*_form(schedule), *_times(schedule), *_numbers(schedule), *_limits(schedule), *_windows(schedule),
            *_units(schedule), *_staging(schedule), *_canaries(schedule), *_growth(schedule))


class _Schedule:
    """A plan, seen as one line of batches."""

    def __init__(self, plan: Plan, own: Mapping[str, RolloutPolicy]) -> None:
        self.plan = plan
        self.nodes: Mapping[str, NodePlan] = plan.nodes
        self.cohorts = {c.id: c for c in plan.cohorts}
        self.moving = {name for c in plan.cohorts if c.steps for name in c.nodes}
        self.line: list[tuple[Wave, Batch]] = [(w, b) for w in plan.waves for b in w.batches]
        self._own = own

    def policy(self, pool: str) -> RolloutPolicy:
        """Return the policy of a pool."""
        return self._own.get(pool, self.plan.rollout)

    def own_command(self, pool: str) -> int | None:
        """Return the minutes that a pool's own command may take on a node; None where it has none."""
        policy = self.policy(pool)
        return None if policy.canary_command is None else policy.canary_command_timeout_minutes or 15

    def pool_sizes(self) -> Counter[str]:
        """Return how many nodes each pool has, those without a plan because they are down among them."""
        members = {(n.pool, name) for name, n in self.nodes.items()}
        members |= {(pool, name) for pool, limit in self.plan.pools.items() for name in limit.already_down
                    if name not in self.nodes}
        return Counter(pool for pool, _ in members)

    def down_domains(self) -> Counter[str]:
        """Return how many nodes of each failure domain are down."""
        told = {n: d for limit in self.plan.pools.values() for n, d in (limit.down_domains or {}).items()}
        return Counter(self.nodes[n].failure_domain if n in self.nodes else told.get(n, "")
                       for limit in self.plan.pools.values() for n in limit.already_down)

    def domain_sizes(self) -> Counter[str]:
        """Return how many nodes each failure domain has, those without a plan because they are down among them."""
        lost = Counter(d for limit in self.plan.pools.values() for n, d in (limit.down_domains or {}).items()
                       if n not in self.nodes)
        return Counter(n.failure_domain for n in self.nodes.values() if n.failure_domain) + lost

    def in_kind(self, kind: str) -> list[str]:
        """Return the nodes of the waves of one kind."""
        return [name for w, b in self.line if w.kind == kind for name in b.nodes]

    def hardware(self, name: str) -> str:
        """Return a node's hardware class."""
        return self.cohorts[self.nodes[name].cohort].hardware_class


def _allowed(written: str | int, total: int) -> int:
    if isinstance(written, int):
        return written
    percent = int(written.rstrip("%"))
    return 0 if percent == 0 else max(total * percent // 100, 1)


def _spared(policy: RolloutPolicy, total: int) -> int:
    most, floor = _allowed(policy.max_unavailable, total), policy.min_in_service
    if isinstance(floor, str):
        floor = math.ceil(Fraction(int(floor.rstrip("%")), 100) * total)
    return most if floor is None else max(0, min(most, total - floor))


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return ", ".join(ordered[:6]) + (", …" if len(ordered) > 6 else "")


def _membership(s: _Schedule) -> Iterator[str]:
    """Every node with steps is in exactly one batch, and nothing else is in any."""
    for cohort in s.plan.cohorts:
        for name in cohort.nodes:
            if name not in s.nodes or s.nodes[name].cohort != cohort.id:
                yield f"cohort {cohort.id} lists {name}, which the plan's nodes do not place there"
    listed = {name for c in s.plan.cohorts for name in c.nodes}
    if lost := set(s.nodes) - listed:
        yield f"these nodes are in no cohort: {_listed(lost)}"
    seen = Counter(name for _, b in s.line for name in b.nodes)
    if missing := s.moving - set(seen):
        yield f"these nodes have steps but are in no batch: {_listed(missing)}"
    if extra := set(seen) - s.moving:
        yield f"these nodes are in a batch but have no steps: {_listed(extra)}"
    if twice := [name for name, times in seen.items() if times > 1]:
        yield f"these nodes are in more than one batch: {_listed(twice)}"


def _form(s: _Schedule) -> Iterator[str]:
    """Ids, play paths and the order of the kinds."""
    kinds = [w.kind for w in s.plan.waves]
    # Nodes that wait for others are a second rollout behind these: its waves begin anew.
    restarts = [b for a, b in pairwise(kinds) if _RANK[b] < _RANK[a] or a == b != "batch"]
    if len(restarts) > any(step.awaits for cohort in s.plan.cohorts for step in cohort.steps):
        yield f"waves are not in the order staging, canary, batches: {', '.join(kinds)}"
    for number, wave in enumerate(s.plan.waves, start=1):
        if wave.id != f"w{number}" or wave.play != f"plays/w{number}-{wave.kind}.yml":
            yield f"wave {wave.id} with play {wave.play} should be w{number} with plays/w{number}-{wave.kind}.yml"
        if not wave.batches:
            yield f"wave {wave.id} has no batch"
        for place, batch in enumerate(wave.batches, start=1):
            if batch.id != f"w{number}b{place}":
                yield f"batch {batch.id} should be w{number}b{place}"
            if not batch.nodes or list(batch.nodes) != sorted(batch.nodes):
                yield f"batch {batch.id} is empty or not sorted"


def _times(s: _Schedule) -> Iterator[str]:
    """Minutes, soaks, approval and the sum of it all."""
    policies = [s.policy(s.nodes[name].pool) for name in sorted(s.moving)]
    early = max((p.soak_minutes for p in policies), default=0)
    later = max((p.batch_soak_minutes for p in policies), default=0)
    for place, wave in enumerate(s.plan.waves):
        last = place == len(s.plan.waves) - 1
        soak = 0 if last else later if wave.kind == "batch" else early
        if wave.soak_minutes != soak:
            yield f"wave {wave.id} soaks for {wave.soak_minutes} minutes instead of {soak}"
        if wave.approval != (wave.kind == "canary" and not last):
            yield f"wave {wave.id} {'asks' if wave.approval else 'does not ask'} for approval"
        if wave.kind == "batch" and later and len(wave.batches) > 1:
            yield f"wave {wave.id} has {len(wave.batches)} batches, but each batch has to soak"
    for _, batch in s.line:
        if batch.minutes != (needed := _needed(s, batch)):
            yield f"batch {batch.id} is said to take {batch.minutes} minutes; its nodes take {needed}"
    total = sum(b.minutes for _, b in s.line) + sum(_pause(s, at) for at in range(len(s.plan.waves)))
    if s.plan.eta_minutes != total:
        yield f"the plan is said to take {s.plan.eta_minutes} minutes; its batches, soaks and pairs take {total}"
    if (s.plan.pair_minutes is not None) and not s.plan.rollout.nccl_pairs:
        yield f"the plan says that a pair takes {s.plan.pair_minutes} minutes, and its policy has none"


def _pause(s: _Schedule, at: int) -> int:
    """Return the minutes behind a wave: its soak, or a pair for every communication domain that it leaves mixed."""
    wave = s.plan.waves[at]
    if not s.plan.rollout.nccl_pairs:
        return wave.soak_minutes
    here, later = ({s.nodes[n].comm_domain for w in part for b in w.batches for n in b.nodes if n in s.moving}
                   for part in (s.plan.waves[at:at + 1], s.plan.waves[at + 1:]))
    return max(wave.soak_minutes, len((here & later) - {""}) * (s.plan.pair_minutes or 15))


def _needed(s: _Schedule, batch: Batch) -> int:
    """Return the minutes of a batch: 16 nodes of a cohort at a time, 8 cohorts at a time, in the order of the plan."""
    members: dict[str, list[str]] = defaultdict(list)
    for name in batch.nodes:
        members[s.nodes[name].cohort].append(name)
    lanes = [0] * 8
    for cohort in (c for c in s.cohorts if c in members):
        path = sum(step.minutes for step in s.cohorts[cohort].steps)
        slowest = max(path + (s.own_command(s.nodes[n].pool) or 0) for n in members[cohort])
        lanes.sort()
        lanes[0] += slowest * math.ceil(len(members[cohort]) / 16)
    return max(1, *lanes)


def _numbers(s: _Schedule) -> Iterator[str]:
    """The absolute limits follow from the policy."""
    sizes = s.pool_sizes()
    if set(sizes) != set(s.plan.pools):
        yield f"limits are given for pools {_listed(s.plan.pools)}, nodes are in pools {_listed(sizes)}"
    domain_sizes = s.domain_sizes()
    domains = {(n.pool, n.failure_domain) for n in s.nodes.values() if n.failure_domain}
    for pool, limit in sorted(s.plan.pools.items()):
        policy, size = s.policy(pool), sizes[pool]
        if limit.nodes != size or limit.max_unavailable != _spared(policy, size):
            yield (f"pool {pool} has {size} nodes and may lose {_spared(policy, size)}; the plan says "
                   f"{limit.nodes} and {limit.max_unavailable}")
        if limit.windows != policy.windows:
            yield f"pool {pool} has other maintenance windows in the plan than in its policy"
        if (limit.canary_command, limit.canary_command_timeout_minutes) != (policy.canary_command, s.own_command(pool)):
            yield f"pool {pool} has another command of its own in the plan than in its policy"
        if (limit.canary_command_minutes or 0) > (limit.canary_command_timeout_minutes or 0):
            yield f"the command of pool {pool} is expected to take longer than it may"
        written, said = policy.max_unavailable_per_domain, limit.max_unavailable_per_domain
        if (written is None) != (said is None):
            yield f"pool {pool}: the limit per failure domain is {said}, the policy says {written}"
        elif written is not None and said is not None:
            for domain in sorted(d for p, d in domains if p == pool):
                most = _allowed(written, domain_sizes[domain])
                if min(said, domain_sizes[domain]) > most:
                    yield f"pool {pool}: {said} nodes per failure domain are more than the {most} {domain} may lose"


def _limits(s: _Schedule) -> Iterator[str]:
    """No batch takes more out of service than pools and failure domains may lose, nodes that are down included."""
    down = {name: pool for pool, limit in s.plan.pools.items() for name in limit.already_down}
    down_pools = Counter(down.values())
    down_domains, domain_sizes = s.down_domains(), s.domain_sizes()
    for _, batch in s.line:
        pools = Counter(s.nodes[n].pool for n in batch.nodes)
        for pool, count in sorted(pools.items()):
            policy, limit = s.policy(pool), s.plan.pools.get(pool)
            most = _spared(policy, s.pool_sizes()[pool]) if limit is None else limit.max_unavailable
            if count + down_pools[pool] > most:
                yield (f"batch {batch.id} takes {count} nodes of pool {pool}, {down_pools[pool]} are down, "
                       f"and only {most} may be unavailable")
            if policy.batch_max is not None and len(batch.nodes) > policy.batch_max:
                yield f"batch {batch.id} has {len(batch.nodes)} nodes; batch_max of pool {pool} is {policy.batch_max}"
        domains = Counter(s.nodes[n].failure_domain for n in batch.nodes if s.nodes[n].failure_domain)
        for domain, pool in sorted({(s.nodes[n].failure_domain, s.nodes[n].pool) for n in batch.nodes} - {("", "")}):
            written = s.policy(pool).max_unavailable_per_domain
            if domain and written is not None:
                most = _allowed(written, domain_sizes[domain])
                if domains[domain] + down_domains[domain] > most:
                    yield (f"batch {batch.id} takes {domains[domain]} nodes of failure domain {domain}, "
                           f"{down_domains[domain]} are down, and only {most} may be unavailable")


def _windows(s: _Schedule) -> Iterator[str]:
    """Every batch fits into an hour of the year in which a window of each of its pools is open."""
    known: dict[tuple[tuple[tuple[str, ...], ...], int], bool] = {}
    for _, batch in s.line:
        pools = sorted({s.nodes[n].pool for n in batch.nodes})
        windows = tuple(w for p in pools if p in s.plan.pools and (w := s.plan.pools[p].windows))
        if (windows, batch.minutes) not in known:
            known[windows, batch.minutes] = _fits(windows, timedelta(minutes=batch.minutes))
        if not known[windows, batch.minutes]:
            yield f"batch {batch.id}, {batch.minutes} minutes long, fits into no window of {_listed(pools)}"


def _fits(pools: tuple[tuple[str, ...], ...], needed: timedelta) -> bool:
    zones = {text.split()[-1] for windows in pools for text in windows}
    weeks = 53 if len(zones) > 1 else 1      # clocks change at other times in other zones
    return not pools or any(_fits_about(pools, needed, _SOME_WEEK + timedelta(weeks=n)) for n in range(weeks))


def _fits_about(pools: tuple[tuple[str, ...], ...], needed: timedelta, about: datetime) -> bool:
    open_: list[list[tuple[datetime, datetime]]] = []
    for windows in pools:
        line: list[tuple[datetime, datetime]] = []
        for begin, end in sorted(i for text in windows for i in parse_window(text).intervals(about)):
            if line and begin <= line[-1][1]:
                line[-1] = line[-1][0], max(end, line[-1][1])
            else:
                line.append((begin, end))
        open_.append(line)
    starts = {begin for line in open_ for begin, _ in line}
    return any(all(any(begin <= at and at + needed <= end for begin, end in line) for line in open_) for at in starts)


def _units(s: _Schedule) -> Iterator[str]:
    """An NVLink domain moves in one batch."""
    batches: dict[str, set[str]] = defaultdict(set)
    for _, batch in s.line:
        for name in batch.nodes:
            if s.nodes[name].nvlink_domain:
                batches[s.nodes[name].nvlink_domain].add(batch.id)
    for domain, ids in sorted(batches.items()):
        if len(ids) > 1:
            yield f"NVLink domain {domain} is split over batches {', '.join(sorted(ids))}"


def _staging(s: _Schedule) -> Iterator[str]:
    """All staging nodes are in the staging wave, with nobody but their NVLink mates."""
    here = set(s.in_kind("staging"))
    staging = {n for n in s.moving if s.nodes[n].environment == "staging"}
    if late := staging - here:
        yield f"these staging nodes are not in the staging wave: {_listed(late)}"
    bound = {s.nodes[n].nvlink_domain for n in staging} - {""}
    if early := {n for n in here - staging if s.nodes[n].nvlink_domain not in bound}:
        yield f"these nodes are in the staging wave but are no staging nodes: {_listed(early)}"


def _canaries(s: _Schedule) -> Iterator[str]:
    """Pools with the same canary rule are covered by their own canaries, as the rule says."""
    canaries = set(s.in_kind("canary"))
    rest = s.moving - set(s.in_kind("staging"))
    by_rule: dict[object, set[str]] = defaultdict(set)
    for name in rest:
        by_rule[s.policy(s.nodes[name].pool).canary].add(name)
    for rule, members in sorted(by_rule.items(), key=lambda item: min(item[1])):
        tried = members & canaries
        classes, have = Counter(map(s.hardware, members)), Counter(map(s.hardware, tried))
        wanted = rule if isinstance(rule, int) else 1
        for name in sorted(classes):
            if have[name] < min(wanted, classes[name]):
                yield f"hardware class {name!r} has {have[name]} of {min(wanted, classes[name])} canaries"
        if rule == "auto":
            for cohort in sorted({s.nodes[n].cohort for n in members} - {s.nodes[n].cohort for n in tried}):
                yield f"cohort {cohort} has no canary"
            for pool in sorted({s.nodes[n].pool for n in members} - {s.nodes[n].pool for n in tried}):
                yield f"pool {pool} has no canary"
        elif isinstance(rule, tuple) and (left := (set(rule) & rest) - canaries):
            yield f"these nodes are named as canaries but are not in the canary wave: {_listed(left)}"


def _growth(s: _Schedule) -> Iterator[str]:
    """In each pool a batch is at most ``growth`` times the one before; a whole NVLink domain may be larger alone."""
    before = {pool: max(count, 1) for pool, count in Counter(s.nodes[n].pool for n in s.in_kind("canary")).items()}
    for wave, batch in s.line:
        if wave.kind != "batch":
            continue
        members: dict[str, list[str]] = defaultdict(list)
        for name in batch.nodes:
            members[s.nodes[name].pool].append(name)
        for pool, names in sorted(members.items()):
            most = s.policy(pool).growth * before.get(pool, 1) + _ROUNDING
            whole = {s.nodes[n].nvlink_domain for n in names}
            if len(names) > most and ("" in whole or len(whole) > 1):
                yield (f"batch {batch.id} takes {len(names)} nodes of pool {pool} after {before.get(pool, 1)}; "
                       f"growth allows {int(most)}")
            before[pool] = len(names)
