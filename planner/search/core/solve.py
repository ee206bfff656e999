"""The verb: find a cheapest path, or the variables that prove that there is none."""

from __future__ import annotations

from itertools import combinations, pairwise

import networkx as nx

from planner.search.core.graph import GOAL, TIE, StageGraph
from planner.search.core.tables import Table, clusters, join, make_table
from planner.search.core.task import Constraint, NoPath, SearchLimitError, Solution, Task

# Rows of a joined table, and states that A* may expand with tables of that size before larger ones are tried. Small
# tables are cheap and nearly always enough; the last round is bounded by the task alone.
ROUNDS = ((300, 400), (2_000, 4_000), (20_000, 0))
CLUSTER_ROWS_MAX = 200_000       # of one cluster before any join; more are not enumerated


def solve(task: Task) -> Solution | NoPath:
    """Return a cheapest path in which every state is allowed, or why there is none.

    Raises:
        SearchLimitError: The task's bound on states was met; nothing is proved.

    Source:
        A* (Hart, Nilsson, Raphael 1968) as implemented by networkx, on a graph grown on demand.
    """
    for constraint in task.constraints:
        if constraint.blocks(tuple(task.start[v] for v in constraint.scope)):
            return NoPath(frozenset(constraint.scope))
    tables: list[Table] = []
    for variables in clusters(task):
        table = make_table(task, variables, CLUSTER_ROWS_MAX)
        if table is None:
            raise SearchLimitError
        if not table.rows:
            return NoPath(frozenset(variables))
        tables.append(table)
    for limit, budget in ROUNDS:
        tables, dead = _joined(task, tables, limit)
        if dead is not None:
            return dead
        crossing = _crossing(task, tables)
        bound = min(budget or task.expansions_max, task.expansions_max)
        try:
            return _search(task, tables, crossing, bound)
        except SearchLimitError:
            if bound == task.expansions_max:
                raise
    raise SearchLimitError


def _crossing(task: Task, tables: list[Table]) -> list[Constraint]:
    table_of = {v: at for at, t in enumerate(tables) for v in t.variables}
    return [c for c in task.constraints if len({table_of[v] for v in c.scope}) > 1]


def _joined(task: Task, tables: list[Table], limit: int) -> tuple[list[Table], NoPath | None]:
    """Join tables that share constraints while the result stays within ``limit`` rows, the smallest pairs first."""
    tables = list(tables)
    failed: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
    while True:
        table_of = {v: at for at, t in enumerate(tables) for v in t.variables}
        shared: dict[tuple[int, int], list[Constraint]] = {}
        for constraint in task.constraints:
            touched = sorted({table_of[v] for v in constraint.scope})
            for pair in combinations(touched, 2):
                shared.setdefault(pair, []).extend([constraint] if len(touched) == 2 else [])
        pairs = sorted(shared, key=lambda p: (len(tables[p[0]].rows) * len(tables[p[1]].rows), p))
        pairs = [(a, b) for a, b in pairs if (tables[a].variables, tables[b].variables) not in failed]
        for a, b in pairs:
            found = join(tables[a], tables[b], shared[a, b], limit)
            if found is None:
                failed.add((tables[a].variables, tables[b].variables))
                continue
            if not found.rows:
                return tables, NoPath(frozenset(found.variables))
            tables = [t for at, t in enumerate(tables) if at not in (a, b)] + [found]
            break
        else:
            return tables, None


def _search(task: Task, tables: list[Table], crossing: list[Constraint], bound: int) -> Solution | NoPath:
    graph = StageGraph(task, tables, crossing, bound)
    try:
        nodes = nx.astar_path(graph, graph.source, GOAL, heuristic=lambda node, _: graph.rest(node), weight="weight")
    except nx.NetworkXNoPath:
        return NoPath(frozenset(range(len(task.start))))
    edges = [graph._adj[a][b] for a, b in pairwise(nodes[:-1])]
    taken = [edge for edge in edges if edge["step"] is not None]
    states = [nodes[0][0]]
    for node in nodes[:-1]:
        if node[0] != states[-1]:
            states.append(node[0])
    assert len(states) == len(taken) + 1, "a step that changes nothing"
    return Solution(states=tuple(graph.values(rows) for rows in states), steps=tuple(e["step"] for e in taken),
                    cost=sum(e["weight"] for e in taken) // TIE, expanded=len(graph._adj))
