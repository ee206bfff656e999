"""Who goes first: staging, then canaries that cover every hardware class, cohort and pool."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Literal

from planner.diagnostics import Diagnostic
from planner.errors import ScheduleError
from planner.model.target import RolloutPolicy
from planner.schedule.limits import Unit, shown
from planner.schedule.plan import NodePlan

CanaryRule = Literal["auto"] | int | tuple[str, ...]

STAGING = "staging"


def split_staging(units: Iterable[Unit], nodes: Mapping[str, NodePlan]) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """Return units that move in staging and the rest; an NVLink domain with one staging node moves there whole."""
    units = tuple(units)
    early = tuple(u for u in units if any(nodes[n].environment == STAGING for n in u.nodes))
    chosen = set(early)
    return early, tuple(u for u in units if u not in chosen)


def staging_warnings(staging: Iterable[Unit], rest: Iterable[Unit], nodes: Mapping[str, NodePlan],
                     class_of: Mapping[str, str]) -> tuple[str, ...]:
    """Return what staging does not show about the production nodes that will move.

    Args:
        staging: Units of the staging wave.
        rest: Units that move after it.
        nodes: All nodes, also those that stay as they are.
        class_of: Cohort -> hardware class.
    """
    environments = {n.environment for n in nodes.values()}
    names = sorted(name for unit in rest for name in unit.nodes)
    if STAGING not in environments:
        several = bool(names) and len(environments) > 1
        return ("no node is in environment staging: the canaries move first",) if several else ()
    tried = {class_of[n.cohort] for n in nodes.values() if n.environment == STAGING}
    missing: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if class_of[nodes[name].cohort] not in tried:
            missing[class_of[nodes[name].cohort]].append(name)
    found = [f"no staging node has hardware class {hardware!r}: {shown(lacking)}"
             for hardware, lacking in sorted(missing.items())]
    for unit in staging:
        others = [n for n in unit.nodes if nodes[n].environment != STAGING]
        if others:
            found.append(f"NVLink domain {unit.nvlink_domain} has staging nodes, so these move with them in the"
                         f" staging wave: {shown(others)}")
    return tuple(found)


def canary_warnings(rest: Iterable[Unit], policies: Mapping[str, RolloutPolicy]) -> Iterator[str]:
    """Yield which pools have no canary because somebody wrote so: nobody is asked before all of their nodes move."""
    pools = sorted({pool for unit in rest for pool, _ in unit.pools if policies[pool].canary == 0})
    if pools:
        yield (f"canary: 0 for pool{'s' * (len(pools) > 1)} {shown(pools)}: no node goes first there, and nobody is "
               "asked before the batches begin")


def choose_canaries(units: Iterable[Unit], nodes: Mapping[str, NodePlan], class_of: Mapping[str, str],
                    policies: Mapping[str, RolloutPolicy], kept: Iterable[Unit] = (),
                    down: frozenset[str] = frozenset()) -> tuple[Unit, ...]:
    """Return the units that move as canaries, sorted.

    Pools with the same canary rule are covered together, by their own nodes.

    Args:
        units: What moves after staging.
        nodes: All nodes.
        class_of: Cohort -> hardware class.
        policies: Policy of every pool.
        kept: Units that are canaries whatever else is covered: they were before.
        down: Nodes that are down.

    Raises:
        ScheduleError: Named canaries are unknown or leave a hardware class uncovered; a number is negative.
    """
    choice = _Choice(tuple(units), nodes, class_of, down)
    choice.taken.update(kept)
    scopes: dict[CanaryRule, set[str]] = defaultdict(set)
    for pool in sorted({pool for unit in choice.units for pool, _ in unit.pools}):
        scopes[policies[pool].canary].add(pool)
    # Names and numbers first: they are fixed, and what they take may already cover what "auto" looks for.
    order = sorted(scopes.items(), key=lambda item: (item[0] == "auto", isinstance(item[0], int), sorted(item[1])))
    problems: list[Diagnostic] = []
    for rule, pools in order:
        if isinstance(rule, tuple):
            problems += choice.take_named(rule, pools)
        elif isinstance(rule, int):
            problems += choice.take_number(rule, pools)
        else:
            choice.take_each(pools)
    if problems:
        raise ScheduleError(*problems)
    return tuple(sorted(choice.taken, key=lambda u: u.nodes))


class _Choice:
    """The canaries taken so far. Among equals, the smallest NVLink domain wins, then the emptiest failure domain, then
    the first name.
    """

    def __init__(self, units: tuple[Unit, ...], nodes: Mapping[str, NodePlan], class_of: Mapping[str, str],
                 down: frozenset[str]) -> None:
        self.units = tuple(sorted(units, key=lambda u: (len(u.nodes), u.nodes)))
        self.taken: set[Unit] = set()
        self._nodes, self._class_of, self._down = nodes, class_of, down
        self._unit_of = {name: unit for unit in self.units for name in unit.nodes}

    def _class(self, name: str) -> str:
        return self._class_of[self._nodes[name].cohort]

    def _in_scope(self, units: Iterable[Unit], pools: set[str]) -> list[str]:
        return [n for unit in units for n in unit.nodes if self._nodes[n].pool in pools]

    def take_named(self, names: tuple[str, ...], pools: set[str]) -> list[Diagnostic]:
        """Take the named nodes (those in staging or without a change are no canaries); complain about gaps."""
        problems = []
        for name in sorted(set(names)):
            if name in self._down and name not in self._nodes:
                problems.append(Diagnostic(
                    code="canary-down", subject=name, summary=f"canary {name!r} is down: it could not be read",
                    hint="bring it back and run planner discover again, or name another node in rollout.canary",
                    places=(("rollout", "canary"),)))
            elif name not in self._nodes:
                near = get_close_matches(name, sorted(self._nodes), n=1)
                problems.append(Diagnostic(
                    code="unknown-canary", subject=name, summary=f"canary {name!r} is no node of this plan",
                    hint=f"did you mean {near[0]!r}?" if near else "correct rollout.canary",
                    places=(("rollout", "canary"),)))
            elif name in self._unit_of:
                self.taken.add(self._unit_of[name])
        covered = {self._class(n) for n in self._in_scope(self.taken, pools)}
        open_: dict[str, list[str]] = defaultdict(list)
        for name in self._in_scope(self.units, pools):
            if self._class(name) not in covered:
                open_[self._class(name)].append(name)
        if open_:
            first = ", ".join(candidates[0] for _, candidates in sorted(open_.items()))
            problems.append(Diagnostic(
                code="class-without-canary", subject=f"pool {', '.join(sorted(pools))}",
                summary=f"the named canaries leave {len(open_)} hardware class{'es' if len(open_) > 1 else ''} "
                        f"uncovered: {'; '.join(sorted(open_))}",
                why=tuple(f"{hardware}: any of {shown(candidates)}" for hardware, candidates in sorted(open_.items())),
                hint=f"add to rollout.canary: {first}; or write canary: auto"))
        return problems

    def take_number(self, number: int, pools: set[str]) -> list[Diagnostic]:
        """Take ``number`` nodes of every class, or all where a class has fewer."""
        if number < 0:
            return [Diagnostic(
                code="negative-canary", subject=f"pool {', '.join(sorted(pools))}",
                summary=f"rollout.canary is {number}; it must not be negative", hint="write canary: auto")]
        have = Counter(self._class(n) for n in self._in_scope(self.taken, pools))
        for unit in self.units:
            classes = Counter(self._class(n) for n in unit.nodes if self._nodes[n].pool in pools)
            if unit not in self.taken and any(have[c] < number for c in classes):
                self.taken.add(unit)
                have.update(classes)
        return []

    def take_each(self, pools: set[str]) -> None:
        """Take a node of every cohort (so of every hardware class) and of every pool."""
        done = self._in_scope(self.taken, pools)
        cohorts = {self._nodes[n].cohort for n in done}
        seen_pools = {self._nodes[n].pool for n in done}
        by_cohort: dict[str, dict[Unit, None]] = defaultdict(dict)
        for unit in self.units:
            for name in self._in_scope((unit,), pools):
                by_cohort[self._nodes[name].cohort][unit] = None

        def take(unit: Unit) -> None:
            self.taken.add(unit)
            for name in self._in_scope((unit,), pools):
                cohorts.add(self._nodes[name].cohort)
                seen_pools.add(self._nodes[name].pool)

        for cohort, candidates in sorted(by_cohort.items()):
            if cohort not in cohorts:
                # A node that also brings a new pool saves a canary there; one in another failure domain does not
                # have to wait for the others, and shows more.
                crowd = Counter(d for unit in self.taken for d, _ in unit.failure_domains)
                take(min(candidates, key=lambda u: (
                    len(u.nodes), not any(p in pools and p not in seen_pools for p, _ in u.pools),
                    sum(crowd[d] for d, _ in u.failure_domains), u.nodes)))
        for unit in self.units:
            if any(p in pools and p not in seen_pools for p, _ in unit.pools):
                take(unit)
