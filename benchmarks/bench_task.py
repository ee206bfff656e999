"""Instances of the synthetic benchmark as tasks of the search: versions are bits, rules are clauses.

The rules are invented; none speaks of real software. The format is ``fleet-bench/1``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bench_prune import Clause, Goal, Kind, useful
from planner.search.core.solve import solve
from planner.search.core.task import FIELD_BITS, Allowed, NoPath, Solution, Step, Task, pack, unpack

COST_FIELDS = ("reboots", "drains", "steps", "minutes", "risk")
STEPS_FIELD_SHIFT = 2 * FIELD_BITS      # ``minutes`` and ``risk`` stand behind ``steps``
Cohort = tuple[int, int, int]   # state, arch, target


@dataclass(frozen=True, slots=True)
class Clauses:
    """All clauses over the same variables; broken where every ``if`` part is met and no ``then`` part."""

    scope: tuple[int, ...]
    clauses: tuple[tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]], ...]   # (place in scope, mask)

    def blocks(self, values: tuple[Any, ...]) -> bool:
        """Tell whether a clause is broken."""
        return any(all(values[p] & m for p, m in wanted) and not any(values[p] & m for p, m in then)
                   for wanted, then in self.clauses)

    blocks_goal = blocks


class Bundle:
    """Single kinds that one step may change together, or one kind of several versions side by side."""

    def __init__(self, number: int, variables: tuple[int, ...], kinds: Sequence[Kind], kept: Sequence[int],
                 longest_minutes: int | None = None) -> None:
        self.number = number
        self.longest_minutes = longest_minutes
        self.variables = variables
        self._kinds = [kinds[v] for v in variables]
        self._kept = [kept[v] for v in variables]

    def steps(self, values: tuple[Any, ...], allowed: Allowed) -> Iterator[Step]:
        """Yield every change of at least one member that constraints leave room for."""
        options = [[value, *kind.moves(value, kept)]
                   for value, kind, kept in zip(values, self._kinds, self._kept, strict=True)]
        chosen: list[int] = []

        def choose(depth: int) -> Iterator[Step]:
            if depth == len(options):
                changed = [(kind, a, b) for kind, a, b in zip(self._kinds, values, chosen, strict=True) if a != b]
                cost = _cost(changed) if changed else None
                if cost is not None and not self._too_long(cost):
                    yield Step(tuple(chosen), cost, group=self.number)
                return
            for value in options[depth]:
                chosen.append(value)
                if allowed(chosen):
                    yield from choose(depth + 1)
                chosen.pop()

        yield from choose(0)

    def _too_long(self, cost: int) -> bool:
        reboots, drains, _, minutes, _ = unpack(cost, len(COST_FIELDS))
        return self.longest_minutes is not None and bool(reboots or drains) and minutes > self.longest_minutes


def _cost(changed: list[tuple[Kind, int, int]]) -> int:
    reboot = drain = minutes = risk = 0
    for kind, before, after in changed:
        removal = after & before == after
        cost = kind.cost
        minutes += cost.get("remove_minutes", cost["minutes"]) if removal else cost["minutes"]
        risk += cost["risk"]
        if not removal:
            reboot, drain = max(reboot, cost["reboot"]), max(drain, cost["drain"])
    return pack((reboot, drain, 1, minutes, risk))


class Universe:
    """One instance, read once: names, clauses of every architecture, bundles."""

    def __init__(self, instance: Mapping[str, Any]) -> None:
        self.instance = instance
        self.names = list(instance["kinds"])
        self.place = {name: at for at, name in enumerate(self.names)}
        self.versions = {k: d["versions"] for k, d in instance["kinds"].items()}
        self._bit = {k: {v: 1 << i for i, v in enumerate(vs)} for k, vs in self.versions.items()}
        self._clauses = {
            arch: [self._clause(r) for r in instance["rules"] if "arch" not in r or arch in r["arch"]]
            for arch in instance["archs"]}

    def _clause(self, rule: Mapping[str, Any]) -> Clause:
        return Clause(f"rule:{rule['id']}",
                      tuple((self.place[k], self.mask(k, vs)) for k, vs in rule["if"].items()),
                      tuple((self.place[k], self.mask(k, vs)) for k, vs in rule["then"].items()))

    def mask(self, kind: str, versions: Sequence[str]) -> int:
        """Return versions of a kind as bits."""
        return sum(self._bit[kind][v] for v in set(versions))

    def listed(self, kind: str, mask: int) -> list[str]:
        """Return bits as versions, oldest first."""
        return [v for i, v in enumerate(self.versions[kind]) if mask >> i & 1]

    def constraints(self, cohort: Cohort) -> list[str]:
        """Return the names of everything that may be blamed: rules, goals, limits of moves, capacities."""
        arch, target = self.instance["archs"][cohort[1]], self.instance["targets"][cohort[2]]
        limits = [("moves:" if d["mode"] == "single" else "cap:") + k for k, d in self.instance["kinds"].items()]
        return [*limits, *(c.name for c in self._clauses[arch]), *(f"goal:{k}" for k in target)]

    def rules_within(self, cohort: Cohort, kinds: set[str]) -> set[str]:
        """Return the names of the rules that speak of some kinds only."""
        own = {self.place[k] for k in kinds}
        return {c.name for c in self._clauses[self.instance["archs"][cohort[1]]]
                if all(v in own for v, _ in (*c.wanted, *c.then))}

    def task(self, cohort: Cohort, keep: frozenset[str] | None = None, hops: Mapping[str, int] | None = None,
             longest_minutes: int | None = None) -> tuple[Task, list[str]]:
        """Return the task of a cohort, and the names of its variables.

        Args:
            cohort: State, architecture and target, by place.
            keep: Constraints that count; None for all. Kinds that no kept goal depends on are left out.
            hops: Kind -> largest distance of one step, on top of what the instance says.
            longest_minutes: No step that drains or reboots may take longer.
        """
        state, arch, target = cohort
        clauses = self._clauses[self.instance["archs"][arch]]
        clauses = [c for c in clauses if keep is None or c.name in keep]
        wanted = {k: g for k, g in self.instance["targets"][target].items() if keep is None or f"goal:{k}" in keep}
        chosen = sorted(self.place[k] for k in self.names) if keep is None else self._cone(clauses, wanted)
        names = [self.names[v] for v in chosen]
        at = {v: place for place, v in enumerate(chosen)}
        clauses = [c.moved(at) for c in clauses if all(v in at for v, _ in (*c.wanted, *c.then))]
        start = [self.mask(k, self.instance["states"][state][k]) for k in names]
        kinds = [self._kind(k, wanted.get(k), s, keep, hops or {}) for k, s in zip(names, start, strict=True)]
        kept = [useful(kind, v, clauses) for v, kind in enumerate(kinds)]
        bundles = [tuple(at[self.place[k]] for k in b if self.place[k] in at) for b in self.instance["bundles"]]
        groups = [b for b in dict.fromkeys((*bundles, *((v,) for v in range(len(kinds))))) if b]
        groups = [b for b in groups if not any(set(b) < set(other) for other in groups)]
        return Task(
            start=tuple(start), goals=[k.goal.met if k.goal else None for k in kinds],
            groups=[Bundle(number, b, kinds, kept, longest_minutes) for number, b in enumerate(groups)],
            constraints=_grouped(clauses, kinds), steps_field=STEPS_FIELD_SHIFT,
            expansions_max=200_000), names

    def _kind(self, name: str, goal: Mapping[str, Any] | None, start: int, keep: frozenset[str] | None,
              hops: Mapping[str, int]) -> Kind:
        data = self.instance["kinds"][name]
        several = data["mode"] == "set"
        limited = keep is None or ("cap:" if several else "moves:") + name in keep
        hop = min([h for h in (data["moves"].get("max_hop"), hops.get(name)) if h], default=None)
        wanted = None
        if goal is not None:
            wanted = Goal(within=self.mask(name, goal["in"])) if "in" in goal else Goal(
                has=self.mask(name, goal.get("has", ())), without=self.mask(name, goal.get("not", ())))
        count = len(data["versions"])
        return Kind(count=count, several=several, least=data["min"] if limited and several else 0,
                    most=data["max"] if limited and several else count, down=data["moves"]["down"] or not limited,
                    hop=hop if limited else None, start=start, goal=wanted, cost=data["cost"])

    def _cone(self, clauses: Sequence[Clause], wanted: Mapping[str, Any]) -> list[int]:
        """Return the kinds that rules tie to a goal; the others can stay as they are."""
        parent = list(range(len(self.names)))

        def root(v: int) -> int:
            while parent[v] != v:
                v = parent[v]
            return v

        for clause in clauses:
            members = [v for v, _ in (*clause.wanted, *clause.then)]
            for member in members[1:]:
                parent[root(member)] = root(members[0])
        roots = {root(self.place[k]) for k in wanted}
        return [v for v in range(len(self.names)) if root(v) in roots]

    def feasible(self, cohort: Cohort, keep: frozenset[str]) -> bool:
        """Tell whether a cohort has a path when only some constraints count."""
        state, arch, _ = cohort
        stack = self.instance["states"][state]
        masks = [self.mask(k, stack[k]) for k in self.names]
        for clause in self._clauses[self.instance["archs"][arch]]:
            if clause.name in keep and clause.broken(masks):
                return False
        for k, d in self.instance["kinds"].items():
            if f"cap:{k}" in keep and not d["min"] <= len(stack[k]) <= d["max"]:
                return False
        return not isinstance(solve(self.task(cohort, keep)[0]), NoPath)

    def answer(self, cohort: Cohort, solution: Solution, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the steps of a solution in the answer's format."""
        steps = []
        for before, after in zip(solution.states, solution.states[1:], strict=False):
            step: dict[str, dict[str, list[str]]] = {"add": {}, "remove": {}}
            for name, old, new in zip(names, before, after, strict=True):
                for word, mask in (("add", new & ~old), ("remove", old & ~new)):  # type: ignore[operator]
                    if mask:
                        step[word][name] = self.listed(name, mask)
            steps.append(step)
        return steps


def _grouped(clauses: Sequence[Clause], kinds: Sequence[Kind]) -> list[Clauses]:
    scopes: dict[tuple[int, ...], list[Clause]] = {}
    for clause in clauses:
        scopes.setdefault(tuple(sorted({v for v, _ in (*clause.wanted, *clause.then)})), []).append(clause)
    found = []
    for scope, members in scopes.items():
        place = {v: at for at, v in enumerate(scope)}
        found.append(Clauses(scope, tuple(
            (tuple((place[v], m) for v, m in c.wanted), tuple((place[v], m) for v, m in c.then)) for c in members)))
    return found
