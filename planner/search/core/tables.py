"""Exact tables of small parts of the state space: which combinations are alive, and how far each is from the goal.

A *cluster* is a set of variables that no group of moves leaves. Its table holds every combination that can be reached
from the start and can reach the goal when only the constraints inside the cluster count, with the least cost from
there. Tables of clusters that share constraints are joined while the result stays small. Because every step changes
one cluster only, the sum of the tables' distances never exceeds the true cost of the rest.

Source:
    Merge-and-shrink without the shrink (Helmert, Haslum, Hoffmann, Nissim 2014).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple, TypeVar

from planner.search.core.task import Constraint, MoveGroup, Step, Task, Value, Values

_Key = TypeVar("_Key", bound=Hashable)
Move = tuple[int, int, Step]       # row it leads to, cost, the step


class Table(NamedTuple):
    """One cluster. Row 0 is the start; ``rows`` is empty when the start cannot reach the goal.

    Attributes:
        variables: Ascending.
        rows: Values of the variables.
        moves: For each row its moves.
        goal: For each row whether a path may end there, as far as this cluster sees.
        rest: For each row the least cost to the goal.
    """

    variables: tuple[int, ...]
    rows: list[Values]
    moves: list[list[Move]]
    goal: list[bool]
    rest: list[int]

    def by_detour(self) -> list[list[tuple[int, list[Move]]]]:
        """Return, for each row, its moves grouped by how much they cost beyond the best way, least first."""
        return [[(detour, [move for _, move in found]) for detour, found in groupby(
            sorted(((cost + self.rest[row] - here, (row, cost, step)) for row, cost, step in moves),
                   key=itemgetter(0)), key=itemgetter(0))]
                for here, moves in zip(self.rest, self.moves, strict=True)]


class Projection:
    """Reads the values of a constraint's scope off the rows of one or two tables, and remembers the answers."""

    __slots__ = ("_ends", "_known", "constraint", "places")

    def __init__(self, constraint: Constraint, variables: Sequence[int]) -> None:
        place = {variable: at for at, variable in enumerate(variables)}
        self.constraint = constraint
        self.places = tuple(place[v] for v in constraint.scope)
        self._known: dict[Values, bool] = {}
        self._ends: dict[Values, bool] = {}

    def blocks(self, values: Sequence[Value]) -> bool:
        """Tell whether the constraint blocks a row."""
        part = tuple([values[p] for p in self.places])
        found = self._known.get(part)
        if found is None:
            found = self._known[part] = self.constraint.blocks(part)
        return found

    def blocks_goal(self, values: Sequence[Value]) -> bool:
        """Tell whether the constraint blocks a row as the end of a path."""
        part = tuple([values[p] for p in self.places])
        found = self._ends.get(part)
        if found is None:
            found = self._ends[part] = self.constraint.blocks_goal(part)
        return found


class _Growth:
    """The steps of one group inside a cluster; a branch ends as soon as a constraint on its first part blocks it."""

    def __init__(self, group: MoveGroup, variables: tuple[int, ...], inside: list[Projection]) -> None:
        self._group = group
        place = {variable: at for at, variable in enumerate(variables)}
        self._places = tuple(place[v] for v in group.variables)
        depth_of = {p: depth for depth, p in enumerate(self._places, start=1)}
        # What none of the group's variables takes part in held before and holds after.
        self._checks: list[list[Projection]] = [[] for _ in range(len(self._places) + 1)]
        for check in inside:
            depth = max((depth_of.get(p, 0) for p in check.places), default=0)
            self._checks[depth].append(check)

    def successors(self, values: Values) -> Iterator[tuple[Values, int, Step]]:
        """Yield what is reached, at what cost, and the step."""
        after = list(values)
        places, checks = self._places, self._checks

        def allowed(chosen: Sequence[Value]) -> bool:
            depth = len(chosen)
            after[places[depth - 1]] = chosen[-1]
            return not any(c.blocks(after) for c in checks[depth])

        for step in self._group.steps(tuple(values[p] for p in places), allowed):
            for at, value in zip(places, step.after, strict=True):
                after[at] = value
            yield tuple(after), step.cost, step


def clusters(task: Task) -> list[tuple[int, ...]]:
    """Return the finest split of the variables that no group of moves crosses, in the order of their variables."""
    parent = list(range(len(task.start)))

    def root(variable: int) -> int:
        while parent[variable] != variable:
            variable = parent[variable]
        return variable

    for group in task.groups:
        for variable in group.variables[1:]:
            first, second = sorted((root(group.variables[0]), root(variable)))
            parent[second] = first
    found: dict[int, list[int]] = {}
    for variable in range(len(task.start)):
        found.setdefault(root(variable), []).append(variable)
    return [tuple(members) for members in found.values()]


def make_table(task: Task, variables: tuple[int, ...], limit: int) -> Table | None:
    """Return the table of one cluster; None when more than ``limit`` combinations can be reached."""
    own = set(variables)
    inside = [Projection(c, variables) for c in task.constraints if own.issuperset(c.scope)]
    growths = [_Growth(g, variables, inside) for g in task.groups if own.issuperset(g.variables)]

    def successors(values: Values) -> Iterator[tuple[Values, int, Step]]:
        for growth in growths:
            yield from growth.successors(values)

    start = tuple(task.start[v] for v in variables)
    grown = _grow(start, successors, limit)
    if grown is None:
        return None
    rows, moves = grown
    goals = [task.goals[v] for v in variables]
    ends = [all(goal is None or goal(value) for goal, value in zip(goals, row, strict=True))
            and not any(c.blocks_goal(row) for c in inside) for row in rows]
    return _alive(variables, rows, moves, ends)


def join(first: Table, second: Table, crossing: Iterable[Constraint], limit: int) -> Table | None:
    """Return the table of two clusters together; None when more than ``limit`` combinations can be reached.

    ``crossing`` are the constraints inside both together, but in neither alone.
    """
    variables = (*first.variables, *second.variables)
    if not first.rows or not second.rows:
        return Table(variables, [], [], [], [])
    checks = [Projection(c, variables) for c in crossing]
    allowed: dict[tuple[int, int], bool] = {}

    def good(pair: tuple[int, int]) -> bool:
        found = allowed.get(pair)
        if found is None:
            values = (*first.rows[pair[0]], *second.rows[pair[1]])
            found = allowed[pair] = not any(c.blocks(values) for c in checks)
        return found

    def successors(pair: tuple[int, int]) -> Iterator[tuple[tuple[int, int], int, Step]]:
        here, there = pair
        for row, cost, step in first.moves[here]:
            if good((row, there)):
                yield (row, there), cost, step
        for row, cost, step in second.moves[there]:
            if good((here, row)):
                yield (here, row), cost, step

    grown = _grow((0, 0), successors, limit)
    if grown is None:
        return None
    pairs, moves = grown
    rows = [(*first.rows[a], *second.rows[b]) for a, b in pairs]
    ends = [first.goal[a] and second.goal[b] and not any(c.blocks_goal(row) for c in checks)
            for (a, b), row in zip(pairs, rows, strict=True)]
    return _alive(variables, rows, moves, ends)


def _grow(start: _Key, successors: Callable[[_Key], Iterator[tuple[_Key, int, Step]]], limit: int,
          ) -> tuple[list[_Key], list[list[Move]]] | None:
    """Return what can be reached from ``start`` and the moves between; None beyond ``limit``."""
    index = {start: 0}
    rows, moves = [start], list[list[Move]]()
    for row in rows:       # grows while it is read
        best: dict[tuple[int, int], tuple[int, Step]] = {}      # of each group: what else a step costs may differ
        for after, cost, step in successors(row):
            at = index.get(after)
            if at is None:
                at = index[after] = len(rows)
                if at >= limit:
                    return None
                rows.append(after)
            if (at, step.group) not in best or cost < best[at, step.group][0]:
                best[at, step.group] = (cost, step)
        moves.append([(at, cost, step) for (at, _), (cost, step) in best.items()])
    return rows, moves


def _alive(variables: tuple[int, ...], rows: list[Values], moves: list[list[Move]], ends: list[bool]) -> Table:
    """Keep what can reach an end, with the least cost to one (Dijkstra, backwards)."""
    before: list[list[tuple[int, int]]] = [[] for _ in rows]
    for here, listed in enumerate(moves):
        for there, cost, _ in listed:
            before[there].append((here, cost))
    rest: dict[int, int] = {}
    queue = [(0, row) for row, end in enumerate(ends) if end]
    while queue:
        cost, row = heappop(queue)
        if row in rest:
            continue
        rest[row] = cost
        for earlier, own in before[row]:
            if earlier not in rest:
                heappush(queue, (cost + own, earlier))
    if 0 not in rest:
        return Table(variables, [], [], [], [])
    kept = sorted(rest)
    place = {row: at for at, row in enumerate(kept)}
    return Table(
        variables, [rows[r] for r in kept],
        [[(place[there], cost, step) for there, cost, step in moves[r] if there in place] for r in kept],
        [ends[r] for r in kept], [rest[r] for r in kept],
    )
