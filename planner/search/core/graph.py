"""The graph of whole states, grown only where a search looks, and expanded only as far as it must.

A node is (rows, detour): one row of every table, and by how much the steps from here may cost beyond the best way that
the tables know. A node's edges are the steps of exactly this detour, and one free edge to the same state with the next
larger detour. So networkx' A* visits a state's many bad steps only when nothing better is left.

Source:
    Partial expansion (Yoshizumi, Miura, Ishida 2000), written as a graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import networkx as nx

from planner.search.core.tables import Move, Projection, Table
from planner.search.core.task import FIELD_BITS, Constraint, SearchLimitError, Step, Task, Values

Rows = tuple[int, ...]
Node = tuple[Rows, int]
GOAL = "goal"
TIE = 1 << FIELD_BITS      # weights are multiples of this; what is smaller settles ties by the steps that are left


class StageGraph(nx.DiGraph):  # type: ignore[misc]  # networkx ships no types
    """Whole states as rows of tables; ``GOAL`` is one extra node that every end leads to."""

    def __init__(self, task: Task, tables: list[Table], crossing: list[Constraint], expansions_max: int) -> None:
        super().__init__()
        self.task = task
        self.expansions_max = expansions_max
        self.tables = tables
        self.detours = [t.by_detour() for t in tables]
        self.order = [v for t in tables for v in t.variables]
        self.whole = [self.order.index(v) for v in range(len(task.start))]
        table_of = {v: at for at, t in enumerate(tables) for v in t.variables}
        checks = [(Projection(c, self.order), {table_of[v] for v in c.scope}) for c in crossing]
        self.checks = [[c for c, touched in checks if at in touched] for at in range(len(tables))]
        self.all_checks = [c for c, _ in checks]
        self.source: Node = ((0,) * len(tables), 0)
        self.add_node(self.source)
        self.add_node(GOAL)
        # networkx searches read the adjacency through this attribute; a test pins that.
        self._adj = _Successors(self)

    def joined(self, rows: Rows) -> Values:
        """Return the values of some rows, in the order of the tables."""
        return tuple(value for table, row in zip(self.tables, rows, strict=True) for value in table.rows[row])

    def values(self, rows: Rows) -> Values:
        """Return the whole state of some rows, in the order of the task."""
        joined = self.joined(rows)
        return tuple(joined[place] for place in self.whole)

    def rest(self, node: Any) -> int:
        """Return a bound on the cost from a node to the goal, in units of ``TIE``, and the steps left below that."""
        if node == GOAL:
            return 0
        rows, detour = node
        rest: int = sum(table.rest[row] for table, row in zip(self.tables, rows, strict=True))
        return (rest + int(detour)) * TIE + ((rest >> self.task.steps_field) & (TIE - 1))

    def ends(self, rows: Rows) -> bool:
        """Tell whether a path may end here."""
        if not all(table.goal[row] for table, row in zip(self.tables, rows, strict=True)):
            return False
        joined = self.joined(rows)
        return not any(c.blocks_goal(joined) for c in self.all_checks)


class _Successors(Mapping[Any, Mapping[Any, Any]]):
    """Adjacency computed at the first look and kept."""

    def __init__(self, graph: StageGraph) -> None:
        self._graph = graph
        self._known: dict[Any, dict[Any, dict[str, Any]]] = {GOAL: {}}
        self._states: set[Rows] = set()
        self._good: dict[Rows, bool] = {}

    def __getitem__(self, node: Any) -> dict[Any, dict[str, Any]]:
        found = self._known.get(node)
        if found is None:
            self._states.add(node[0])
            if len(self._states) > self._graph.expansions_max:
                raise SearchLimitError
            found = self._known[node] = self._expand(node)
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._states)

    def _expand(self, node: Node) -> dict[Any, dict[str, Any]]:
        graph, (rows, detour) = self._graph, node
        edges: dict[Any, dict[str, Any]] = {}
        if detour == 0 and graph.ends(rows):
            edges[GOAL] = {"weight": 0, "step": None}
        later: int | None = None
        extra = graph.task.extra
        whole = graph.values(rows) if extra else ()
        for at, row in enumerate(rows):
            for own, moves in graph.detours[at][row]:
                if own < detour:
                    continue
                if own > detour:
                    later = own if later is None else min(later, own)
                    break
                for target, cost, step in self._safe(rows, at, moves):
                    more = extra(whole, step) if extra else 0
                    weight = (cost + more) * TIE
                    if target not in edges or weight < edges[target]["weight"]:
                        edges[target] = {"weight": weight, "step": step, "cost": cost + more}
        if later is not None:
            edges[rows, later] = {"weight": 0, "step": None}
        return edges

    def _safe(self, rows: Rows, at: int, moves: list[Move]) -> Iterator[tuple[Node, int, Step]]:
        graph = self._graph
        for row, cost, step in moves:
            target = (*rows[:at], row, *rows[at + 1:])
            good = self._good.get(target)
            if good is None:
                joined = graph.joined(target)
                good = self._good[target] = not any(c.blocks(joined) for c in graph.checks[at])
            if good:
                yield (target, 0), cost, step
