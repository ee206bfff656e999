"""The verb: find the cheapest safe path, or say that there is none."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import networkx as nx

from planner.matrix.index import MatrixSet
from planner.search.graph import GOAL, StateGraph
from planner.search.judge import Judge
from planner.search.moves import needs_reboot
from planner.search.problem import Path, Problem, Transition


def find_path(problem: Problem, matrices: MatrixSet, judge: Judge | None = None) -> Path | None:
    """Return the cheapest path in which every intermediate state is safe, or None when there is none.

    Safe means: no blocking judgement that was not there at the start and is not accepted by name; the last state has
    none at all. Cost is lexicographic over ``Problem.optimize``; equal costs are broken by the order of the matrices.

    Raises:
        SearchLimitError: The bound on expanded states was met; nothing is proved.

    Source:
        A* (Hart, Nilsson, Raphael 1968) as implemented by networkx, on a graph grown on demand.
    """
    judge = judge or Judge(matrices, problem.start, frozenset(problem.candidates) | frozenset(problem.goals))
    graph = StateGraph(problem, matrices, judge)
    try:
        nodes = nx.astar_path(graph, graph.source, GOAL, heuristic=lambda key, _: _remaining(graph, key),
                              weight="weight")
    except nx.NetworkXNoPath:
        return None
    keys = nodes[:-1]
    edges = [graph._adj[a][b] for a, b in pairwise(keys)]
    total: Counter[str] = Counter()
    for edge in edges:
        total.update(edge["cost"])
    steps: tuple[Transition, ...] = tuple(edge["transition"] for edge in edges)
    return Path(transitions=steps, states=tuple(graph.state(k) for k in keys), cost=dict(total))


def _remaining(graph: StateGraph, key: Any) -> int:
    """Never more than the true rest: one reboot if any is due, one step if anything is unmet."""
    if key == GOAL:
        return 0
    state = graph.state(key)
    unmet = [n for n, goal in graph.problem.goals.items() if not goal.met_by(state.get(n, ()))]
    if not unmet:
        return 0
    return graph.pack({"reboots": int(any(needs_reboot(n, graph.matrices) for n in unmet)), "steps": 1})
