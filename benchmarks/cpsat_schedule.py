"""The rules of a timetable as a constraint model for CP-SAT (the Python package ortools), for small fleets.

Written from the rules, node by node, and apart from planner's placing: it shares nothing with it but the input.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from planner.schedule.timeline.model import Act, Bunch, Fleet, Timetable


@dataclass(slots=True)
class Answer:
    """What came of it: "OPTIMAL", "FEASIBLE" or another name of a status; minutes, and a proven bound on them."""

    status: str
    makespan: int | None
    bound: int


@dataclass(slots=True)
class _Model:
    fleet: Fleet
    horizon: int
    cp: Any
    model: Any
    nodes: dict[int, Bunch] = field(default_factory=dict)
    starts: dict[tuple[int, int], Any] = field(default_factory=dict)      # node, act -> start

    def acts(self, node: int) -> tuple[Act, ...]:
        """Return a node's chain."""
        return self.fleet.chains[self.nodes[node].chain].acts

    def end(self, node: int, act: int) -> Any:
        """Return when an act of a node ends."""
        return self.starts[node, act] + self.acts(node)[act].minutes

    def changes(self, node: int, kind: str) -> list[tuple[int, tuple[int, ...]]]:
        """Return (act, places after it) for each act that changes a kind."""
        return [(i, c.new) for i, act in enumerate(self.acts(node)) for c in act.changes if c.kind == kind]

    def in_domain(self, of: str) -> list[list[int]]:
        """Return the nodes of each domain."""
        found = defaultdict(list)
        for node, bunch in self.nodes.items():
            found[getattr(bunch, of)].append(node)
        return [nodes for domain, nodes in found.items() if domain is not None]


def solve(fleet: Fleet, hint: Timetable, seconds: float, workers: int) -> Answer:
    """Return the best timetable that CP-SAT finds in ``seconds``; it starts from ``hint`` and is never longer.

    Raises ImportError where ortools is not installed.
    """
    from ortools.sat.python import cp_model

    made = _Model(fleet, hint.makespan, cp_model, cp_model.CpModel())
    made.nodes = {n: b for b in fleet.bunches for lo, hi in b.nodes for n in range(lo, hi + 1)}
    for node in made.nodes:
        _chain(made, node)
    _atomic(made)
    _equal(made)
    _skew(made)
    _room_and_growth(made)
    _alike(made)
    span = made.model.NewIntVar(0, made.horizon, "span")
    for node in made.nodes:
        if made.acts(node):
            made.model.Add(span >= made.end(node, len(made.acts(node)) - 1))
    made.model.Minimize(span)
    for placement in hint.placements:
        for lo, hi in placement.nodes:
            for node in range(lo, hi + 1):
                made.model.AddHint(made.starts[node, placement.act], placement.start)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds, solver.parameters.num_workers = seconds, workers
    status = solver.Solve(made.model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return Answer(solver.StatusName(status), round(solver.ObjectiveValue()) if found else None,
                  round(solver.BestObjectiveBound()))  # fmt: skip


def _chain(made: _Model, node: int) -> None:
    """Acts in order without overlap; those out of service inside a window."""
    window = made.fleet.pools[made.nodes[node].pool].window
    for i, act in enumerate(made.acts(node)):
        start = made.starts[node, i] = made.model.NewIntVar(0, made.horizon, "")
        if i:
            made.model.Add(start >= made.end(node, i - 1))
        if act.down and window:
            period = made.model.NewIntVar(0, made.horizon // window.period_minutes, "")
            inside = [[a, b - act.minutes] for a, b in window.open if b - act.minutes >= a]
            offset = made.model.NewIntVarFromDomain(made.cp.Domain.FromIntervals(inside), "")
            made.model.Add(start == period * window.period_minutes + offset)


def _atomic(made: _Model) -> None:
    """Acts on a kind of a whole NVLink domain start together."""
    for nodes in made.in_domain("nvlink_domain"):
        atomic = set(made.fleet.rule.nvlink_atomic)
        whole = {node: [i for i, act in enumerate(made.acts(node)) if atomic & {c.kind for c in act.changes}]
                 for node in nodes}  # fmt: skip
        for node in nodes[1:]:
            for a, b in zip(whole[nodes[0]], whole[node], strict=True):
                made.model.Add(made.starts[nodes[0], a] == made.starts[node, b])


def _equal(made: _Model) -> None:
    """Kinds that must be equal change on a whole communication domain at one instant."""
    for nodes in made.in_domain("comm_domain"):
        for kind in made.fleet.rule.equal:
            first = made.changes(nodes[0], kind)
            for node in nodes[1:]:
                for (a, _), (b, _) in zip(first, made.changes(node, kind), strict=True):
                    made.model.Add(made.end(nodes[0], a) == made.end(node, b))


def _skew(made: _Model) -> None:
    """Versions too far apart are never in one communication domain at the same time."""
    for nodes in made.in_domain("comm_domain"):
        for kind, places in made.fleet.rule.skew:
            stays = {n: _stays(made, n, kind) for n in nodes}
            for number, one in enumerate(nodes):
                for other in nodes[number + 1:]:
                    for value, enters, leaves in stays[one]:
                        for value2, enters2, leaves2 in stays[other]:
                            if max(*value, *value2) - min(*value, *value2) > places:
                                _apart(made, (enters, leaves), (enters2, leaves2))


def _stays(made: _Model, node: int, kind: str) -> list[tuple[tuple[int, ...], Any, Any]]:
    """Return (places, minute of entering, minute of leaving) of each version that a node has."""
    start = dict(made.fleet.chains[made.nodes[node].chain].start)[kind]
    changes = made.changes(node, kind)
    times = [0, *(made.end(node, act) for act, _ in changes), made.horizon + 1]
    return list(zip([start, *(new for _, new in changes)], times[:-1], times[1:], strict=True))


def _apart(made: _Model, one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    before = made.model.NewBoolVar("")
    made.model.Add(one[1] <= other[0]).OnlyEnforceIf(before)
    made.model.Add(other[1] <= one[0]).OnlyEnforceIf(before.Not())


def _room_and_growth(made: _Model) -> None:
    """Nodes out of service in pools and failure domains; canary and growth of each version."""
    spans: dict[tuple[str, int], list[Any]] = defaultdict(list)
    put_on: dict[tuple[int, str, int], list[tuple[Any, Any]]] = defaultdict(list)
    for node, bunch in made.nodes.items():
        for i, act in enumerate(made.acts(node)):
            if not act.down:
                continue
            start = made.starts[node, i]
            interval = made.model.NewFixedSizeIntervalVar(start, act.minutes, "")
            spans["pool", bunch.pool].append(interval)
            spans["failure", bunch.failure_domain].append(interval)
            for change in act.changes:
                for place in change.adds:
                    put_on[bunch.pool, change.kind, place].append((start, made.end(node, i)))
    for (kind, number), intervals in sorted(spans.items()):
        limit = made.fleet.pools[number].max_unavailable if kind == "pool" else \
            made.fleet.rule.failure_domain_max_unavailable
        if len(intervals) > limit:
            made.model.AddCumulative(intervals, [1] * len(intervals), limit)
    for (pool, _, _), acts in sorted(put_on.items()):
        _growth(made, pool, acts)


def _growth(made: _Model, pool: int, acts: list[tuple[Any, Any]]) -> None:
    model, rule = made.model, made.fleet.pools[pool]
    mine = {b.nvlink_domain for b in made.nodes.values() if b.pool == pool} - {None}
    sizes = [sum(b.nvlink_domain == domain for b in made.nodes.values()) for domain in mine]
    canary = max([rule.canary, *sizes])
    if len(acts) <= canary:
        return
    for start, _ in acts:
        begun, soaked = [], []
        for other, end in acts:
            started, done = model.NewBoolVar(""), model.NewBoolVar("")
            model.Add(other > start).OnlyEnforceIf(started.Not())
            model.Add(end + rule.soak_minutes <= start).OnlyEnforceIf(done)
            begun.append(started)
            soaked.append(done)
        first = model.NewBoolVar("")
        model.Add(sum(begun) <= canary).OnlyEnforceIf(first)
        model.Add(2 * sum(begun) <= round(2 * rule.growth) * sum(soaked)).OnlyEnforceIf(first.Not())


def _alike(made: _Model) -> None:
    """Nodes of a bunch are interchangeable: the first starts first."""
    for bunch in made.fleet.bunches:
        nodes = [n for lo, hi in bunch.nodes for n in range(lo, hi + 1)]
        downs = [i for i, act in enumerate(made.fleet.chains[bunch.chain].acts) if act.down]
        for one, other in pairwise(nodes):
            if downs:
                made.model.Add(made.starts[one, downs[0]] <= made.starts[other, downs[0]])
