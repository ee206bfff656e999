"""What moves together, and how much of it at once: a rollout policy as absolute numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from planner.diagnostics import Diagnostic
from planner.errors import ScheduleError
from planner.model.target import CANARY_MINUTES, RolloutPolicy
from planner.schedule.figures import UNSAID, Figures
from planner.schedule.plan import NodePlan, PoolLimit

NAMES_SHOWN = 6
PROBLEMS_MAX = 20

Counts = tuple[tuple[str, int], ...]     # (name, nodes), sorted by name
Place = tuple[str, str]                  # pool, failure domain


class Unit(NamedTuple):
    """Nodes that leave service together: one node, or all moving nodes of one NVLink domain."""

    nodes: tuple[str, ...]               # sorted
    nvlink_domain: str
    pools: Counts
    failure_domains: Counts              # nodes without a failure domain count nowhere
    places: tuple[Place, ...] = ()       # pools in failure domains, sorted


class Ceilings(NamedTuple):
    """What one batch may take, nodes that are down already subtracted.

    A batch keeps what each pool that it has nodes of says of their failure domains; what other pools say is not asked.
    """

    pools: Mapping[str, int]
    failure_domains: Mapping[Place, int]
    batch_max: Mapping[str, int]         # pool -> size of a whole batch that has nodes of this pool


class Room:
    """What one batch has taken of its ceilings. Room only shrinks: what does not fit now never fits later."""

    def __init__(self, ceilings: Ceilings) -> None:
        self._ceilings = ceilings
        self._domains: Counter[str] = Counter()
        self._domain_most: dict[str, int] = {}     # failure domain -> least that a pool in the batch says of it
        self._batch_max: int | None = None
        self._total = 0
        self.taken: Counter[str] = Counter()

    def left(self, pool: str) -> int:
        """Return how many more nodes of a pool its limit allows."""
        return self._ceilings.pools[pool] - self.taken[pool]

    def fits(self, unit: Unit, caps: Mapping[str, int]) -> bool:
        """Tell whether a unit keeps every ceiling, and the caps that growth sets on some pools."""
        most = self._most(unit)
        if most is not None and self._total + len(unit.nodes) > most:
            return False
        for pool, count in unit.pools:
            after = self.taken[pool] + count
            if after > self._ceilings.pools[pool] or after > caps.get(pool, after):
                return False
        for name, count in unit.failure_domains if self._ceilings.failure_domains else ():
            most_there = self._limit(unit, name)
            if most_there is not None and self._domains[name] + count > most_there:
                return False
        return True

    def take(self, unit: Unit) -> None:
        """Count a unit that fits."""
        self._batch_max = self._most(unit)
        self._total += len(unit.nodes)
        for pool, count in unit.pools:
            self.taken[pool] += count
        for name, count in unit.failure_domains:
            self._domains[name] += count
            if (most := self._limit(unit, name)) is not None:
                self._domain_most[name] = most

    def _limit(self, unit: Unit, domain: str) -> int | None:
        """Return what would bind a failure domain once a unit is in the batch; None: nothing."""
        most, limits = self._domain_most.get(domain), self._ceilings.failure_domains
        for place in unit.places:
            if place[1] == domain and (own := limits.get(place)) is not None and (most is None or own < most):
                most = own
        return most

    def _most(self, unit: Unit) -> int | None:
        own = [self._ceilings.batch_max[pool] for pool, _ in unit.pools if pool in self._ceilings.batch_max]
        return min([*own, *([] if self._batch_max is None else [self._batch_max])], default=None)


def absolute(written: str | int, total: int) -> int:
    """Return a number or a percentage of ``total`` as a number; rounds down, at least 1 unless 0 is written."""
    if isinstance(written, int):
        return written
    percent = int(written.removesuffix("%"))
    return max(1, total * percent // 100) if percent else 0


def make_units(names: Iterable[str], nodes: Mapping[str, NodePlan]) -> tuple[Unit, ...]:
    """Group moving nodes into units, sorted by their first node."""
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name in sorted(names):
        domain = nodes[name].nvlink_domain
        members[(domain, "") if domain else ("", name)].append(name)
    units = [
        Unit(nodes=tuple(found), nvlink_domain=domain, pools=_counts(nodes[n].pool for n in found),
             failure_domains=_counts(nodes[n].failure_domain for n in found),
             places=tuple(sorted({(nodes[n].pool, d) for n in found if (d := nodes[n].failure_domain)})))
        for (domain, _), found in members.items()
    ]
    return tuple(sorted(units, key=lambda u: u.nodes))


def left_behind(units: Iterable[Unit], domain_of: Mapping[str, str], nodes: Mapping[str, NodePlan]) -> Iterator[str]:
    """Yield which nodes a moving NVLink domain leaves as they are, though their software has to match.

    Args:
        units: What moves.
        domain_of: NVLink domain of every node that anybody spoke of, readable or not.
        nodes: All nodes of the plan; those among them that stay are at the target already.
    """
    left: dict[str, list[str]] = defaultdict(list)
    for name, domain in domain_of.items():
        if name not in nodes:
            left[domain].append(name)
    for unit in units:
        if unit.nvlink_domain and (lost := left.get(unit.nvlink_domain)):
            yield (f"NVLink domain {unit.nvlink_domain} moves without {shown(lost)}, which this plan leaves out: bring "
                   f"{'them' if len(lost) > 1 else 'it'} into the plan, or keep the domain out of service until its "
                   "nodes are equal again")


def _counts(values: Iterable[str]) -> Counts:
    return tuple(sorted(Counter(v for v in values if v).items()))


def pool_limits(nodes: Mapping[str, NodePlan], policies: Mapping[str, RolloutPolicy],
                already_down: Mapping[str, tuple[str, ...]], down_domains: Mapping[str, str],
                figures: Figures = UNSAID) -> dict[str, PoolLimit]:
    """Return the absolute numbers of every pool, sorted by name. A node that is down is one of its pool, too.

    Args:
        nodes: All nodes of the plan.
        policies: Policy of every pool.
        already_down: Pool -> nodes that are down now.
        down_domains: Failure domains of nodes that are down, as far as they have one.
        figures: Planning figures of what takes time beside the steps.
    """
    sizes = Counter(n.pool for n in nodes.values())
    sizes.update({pool: len(set(down) - set(nodes)) for pool, down in already_down.items() if pool in sizes})
    lost = {n: down_domains[n] for pool, down in already_down.items() if pool in sizes for n in down
            if n in down_domains and n not in nodes}
    domain_sizes = Counter([*(n.failure_domain for n in nodes.values() if n.failure_domain), *lost.values()])
    domains_of: dict[str, set[str]] = defaultdict(set)
    for node in nodes.values():
        if node.failure_domain:
            domains_of[node.pool].add(node.failure_domain)
    return {
        pool: PoolLimit(
            nodes=sizes[pool], max_unavailable=unavailable(policies[pool], sizes[pool]),
            max_unavailable_per_domain=_per_domain(policies[pool], [domain_sizes[d] for d in domains_of[pool]]),
            already_down=tuple(sorted(already_down.get(pool, ()))),
            down_domains={n: lost[n] for n in sorted(already_down.get(pool, ())) if n in lost} or None,
            windows=policies[pool].windows,
            canary_command=policies[pool].canary_command, canary_command_timeout_minutes=canary_minutes(policies[pool]),
            canary_command_minutes=figures.command_minutes(canary_minutes(policies[pool])))
        for pool in sorted(sizes)
    }


def canary_minutes(policy: RolloutPolicy) -> int | None:
    """Return how long a pool's own command may take on a node, None where it has none."""
    return None if policy.canary_command is None else policy.canary_command_timeout_minutes or CANARY_MINUTES


def unavailable(policy: RolloutPolicy, total: int) -> int:
    """Return how many nodes of a pool may be away at once: never so many that fewer than its floor are left."""
    most, floor = absolute(policy.max_unavailable, total), policy.min_in_service
    if floor is None:
        return most
    kept = floor if isinstance(floor, int) else -(-total * int(floor.removesuffix("%")) // 100)
    return max(0, min(most, total - kept))


def _per_domain(policy: RolloutPolicy, sizes: list[int]) -> int | None:
    """Return one number that keeps the policy in every failure domain of a pool.

    The engine guards one number per pool, so a percentage comes to that of the smallest domain it restricts. A domain
    that may go down whole restricts nothing.
    """
    written = policy.max_unavailable_per_domain
    if written is None or isinstance(written, int):
        return written
    numbers = [(absolute(written, size), size) for size in sizes]
    restricted = [number for number, size in numbers if number < size]
    return min(restricted, default=max((number for number, _ in numbers), default=absolute(written, 1)))


def make_ceilings(units: Iterable[Unit], nodes: Mapping[str, NodePlan], limits: Mapping[str, PoolLimit],
                  policies: Mapping[str, RolloutPolicy]) -> Ceilings:
    """Return what a batch may take of pools and failure domains that have something to move.

    Raises:
        ScheduleError: A limit is 0 or used up by nodes that are down, or a unit is larger than a limit.
    """
    units = tuple(units)
    moving = sorted({pool for u in units for pool, _ in u.pools})
    problems = [p for pool in moving if (p := _pool_problem(pool, limits[pool], policies[pool])) is not None]
    pools = {pool: limits[pool].max_unavailable - len(limits[pool].already_down) for pool in moving}
    down = Counter(nodes[n].failure_domain if n in nodes else (limit.down_domains or {}).get(n, "")
                   for limit in limits.values() for n in limit.already_down)
    domains = {(pool, domain): most - down[domain] for pool, domain in sorted({p for u in units for p in u.places})
               if (most := limits[pool].max_unavailable_per_domain) is not None}
    lost = {domain: _down_in(domain, nodes, limits) for (_, domain), left in domains.items() if left < 1}
    problems += [_domain_problem(domain, lost[domain]) for domain in sorted(lost)]
    if not problems:
        batch_max = {p: m for p in moving if (m := policies[p].batch_max) is not None}
        ceilings = Ceilings(pools=pools, failure_domains=domains, batch_max=batch_max)
        # The largest first: whoever follows its hint has made room for the others, too.
        largest = sorted(units, key=lambda u: (-len(u.nodes), u.nodes))
        too_large: dict[_TooLarge, list[Unit]] = {}
        for unit in largest:
            for found in _too_large(unit, ceilings, limits, down):
                too_large.setdefault(found, []).append(unit)
        problems = [_domains_problem(found, alike) for found, alike in too_large.items()][:PROBLEMS_MAX]
        if not problems:
            return ceilings
    raise ScheduleError(*problems)


def shown(names: Iterable[str]) -> str:
    """Return names for people, the first few of many."""
    listed = sorted(names)
    more = f" and {len(listed) - NAMES_SHOWN} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more


def _pool_problem(pool: str, limit: PoolLimit, policy: RolloutPolicy) -> Diagnostic | None:
    down, skip = limit.already_down, f"or leave the pool as it is with pools: {{{pool}: {{skip: true}}}}"
    if absolute(policy.max_unavailable, limit.nodes) == 0:
        return Diagnostic(
            code="nothing-may-move", subject=f"pool {pool}",
            summary=f"max_unavailable is {policy.max_unavailable}: no node of pool {pool} may leave service",
            hint=f"write max_unavailable: 1 or more, {skip}", places=(("rollout", "max_unavailable"),))
    if limit.max_unavailable == 0:
        whole = f"all {limit.nodes} nodes" if limit.nodes > 1 else "the one node"
        return Diagnostic(
            code="nothing-may-move", subject=f"pool {pool}",
            summary=f"min_in_service {policy.min_in_service} keeps {whole} of pool {pool} in service",
            hint=f"write min_in_service: {limit.nodes - 1}{' or less' * (limit.nodes > 1)} for this pool, {skip}",
            places=(("rollout", "min_in_service"),))
    if limit.max_unavailable > len(down):
        return None
    return Diagnostic(
        code="capacity-used-up", subject=f"pool {pool}",
        summary=f"pool {pool} may lose {limit.max_unavailable} of {limit.nodes} nodes at once, and "
                f"{len(down)} {'is' if len(down) == 1 else 'are'} down already: {shown(down)}",
        hint=f"bring {'it' if len(down) == 1 else 'them'} back and run planner discover again, or "
             + _spare(limit, policy))


def _down_in(domain: str, nodes: Mapping[str, NodePlan], limits: Mapping[str, PoolLimit]) -> list[str]:
    return [n for limit in limits.values() for n in limit.already_down
            if (nodes[n].failure_domain if n in nodes else (limit.down_domains or {}).get(n, "")) == domain]


def _domain_problem(domain: str, down: list[str]) -> Diagnostic:
    count = f"{len(down)} of its nodes {'is' if len(down) == 1 else 'are'} down already: {shown(down)}"
    raised = f"raise max_unavailable_per_domain to {1 + len(down)}"
    return Diagnostic(
        code="nothing-may-move", subject=f"failure domain {domain}",
        summary=f"no node of failure domain {domain} may move: {count if down else 'max_unavailable_per_domain is 0'}",
        hint=f"bring {'it' if len(down) == 1 else 'them'} back and run planner discover again, or {raised}" if down else
             raised)


def _spare(limit: PoolLimit, policy: RolloutPolicy) -> str:
    """Return what has to be written for a pool that may lose one node beside those that are down."""
    needed = len(limit.already_down) + 1
    texts = []
    if absolute(policy.max_unavailable, limit.nodes) < needed:
        texts.append(f"raise max_unavailable to {needed}")
    if unavailable(policy.model_copy(update={"max_unavailable": needed}), limit.nodes) < needed:
        texts.append(f"lower min_in_service to {limit.nodes - needed}")
    return " and ".join(texts)


class _TooLarge(NamedTuple):
    """Why an NVLink domain cannot move: it is larger than a limit that is left."""

    where: str
    size: int
    left: int
    key: str                             # of the policy
    needed: int


def _too_large(unit: Unit, ceilings: Ceilings, limits: Mapping[str, PoolLimit], down: Counter[str]
               ) -> Iterator[_TooLarge]:
    for pool, size in unit.pools:
        if size > (left := ceilings.pools[pool]):
            yield _TooLarge(f" of pool {pool}", size, left, "max_unavailable", size + len(limits[pool].already_down))
    for domain, size in unit.failure_domains:
        if size > (left := min(ceilings.failure_domains.get(p, size) for p in unit.places if p[1] == domain)):
            yield _TooLarge(f" in failure domain {domain}", size, left, "max_unavailable_per_domain",
                            size + down[domain])
    whole = min((ceilings.batch_max[p] for p, _ in unit.pools if p in ceilings.batch_max), default=len(unit.nodes))
    if len(unit.nodes) > whole:
        yield _TooLarge("", len(unit.nodes), whole, "batch_max", len(unit.nodes))


def _domains_problem(found: _TooLarge, units: list[Unit]) -> Diagnostic:
    names = shown(unit.nvlink_domain for unit in units)
    subject = f"NVLink domain{'s' * (len(units) > 1)} {names}"
    each = "each moves" if len(units) > 1 else "moves"
    return Diagnostic(
        code="nvlink-domain-too-large", subject=subject,
        summary=f"{subject} {each} as one: {found.size} nodes{found.where}, but only {found.left} may move at once",
        why=(f"its nodes: {shown(units[0].nodes)}",) if len(units) == 1 else (
            f"nodes of {units[0].nvlink_domain}: {shown(units[0].nodes)}",),
        hint=f"raise {found.key} to {found.needed}", places=(("rollout", found.key),))
