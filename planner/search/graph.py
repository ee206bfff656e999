"""The graph of whole states, grown only where a search looks: a networkx graph whose edges are computed on demand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import networkx as nx

from planner.check.verdict import Judgement, ProblemKey
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.search.judge import Judge
from planner.search.moves import transitions
from planner.search.problem import COST_ORDER, Problem

Key = tuple[tuple[str, ...] | None, ...]
GOAL: str = "goal"

# Wide enough for any field of a path's cost; packed costs compare like the tuple of their fields.
_FIELD_BITS = 20


class SearchLimitError(Exception):
    """More states were expanded than allowed; nothing is proved either way."""


class StateGraph(nx.DiGraph):  # type: ignore[misc]  # networkx ships no types
    """States as nodes, legal and safe steps as edges. ``GOAL`` is one extra node that every goal state leads to."""

    def __init__(self, problem: Problem, matrices: MatrixSet, judge: Judge) -> None:
        super().__init__()
        self.problem = problem
        self.matrices = matrices
        self.judge = judge
        self.names = tuple(sorted(set(problem.candidates) | set(problem.goals)))
        self.order = (*problem.optimize, *(f for f in COST_ORDER if f not in problem.optimize))
        self.inherited: dict[ProblemKey, Judgement] = {j.key: j for j in judge.blocking(problem.start)}
        self.source = self.key(problem.start)
        self.add_node(self.source)
        self.add_node(GOAL)
        # networkx searches read the adjacency through this attribute; a test pins that.
        self._adj = _Successors(self)

    def key(self, state: State) -> Key:
        """Return what identifies a state: the values of all components that may move."""
        return tuple(state.get(name) for name in self.names)

    def state(self, key: Key) -> dict[str, tuple[str, ...]]:
        """Return the whole state behind a key."""
        moving = {n: v for n, v in zip(self.names, key, strict=True) if v is not None}
        return {**self.problem.start, **moving}

    def unaccepted(self, state: State) -> list[Judgement]:
        """Return blocking judgements that the user has not accepted by name."""
        return [j for j in self.judge.blocking(state) if not j.names & self.problem.accepted]

    def pack(self, cost: Mapping[str, int]) -> int:
        """Return a cost as one integer; comparing integers compares the fields in order."""
        packed = 0
        for name in self.order:
            value = cost.get(name, 0)
            assert 0 <= value < 1 << _FIELD_BITS, f"cost field {name} out of range: {value}"
            packed = (packed << _FIELD_BITS) | value
        return packed

    def meets_goals(self, state: State) -> bool:
        """Tell whether every goal is met."""
        return all(goal.met_by(state.get(name, ())) for name, goal in self.problem.goals.items())


class _Successors(Mapping[Any, Mapping[Any, Any]]):
    """Adjacency computed at the first look and kept."""

    def __init__(self, graph: StateGraph) -> None:
        self._graph = graph
        self._known: dict[Any, dict[Any, dict[str, Any]]] = {GOAL: {}}

    def __getitem__(self, key: Any) -> dict[Any, dict[str, Any]]:
        found = self._known.get(key)
        if found is None:
            if len(self._known) > self._graph.problem.expansions_max:
                raise SearchLimitError
            found = self._known[key] = self._expand(key)
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def _expand(self, key: Key) -> dict[Any, dict[str, Any]]:
        graph = self._graph
        state = graph.state(key)
        edges: dict[Any, dict[str, Any]] = {}
        if graph.meets_goals(state) and not graph.unaccepted(state):
            edges[GOAL] = {"weight": 0, "transition": None}
        for transition, after in transitions(state, graph.problem, graph.matrices):
            open_problems = graph.unaccepted(after)
            if any(j.key not in graph.inherited for j in open_problems):
                continue
            risks = len([j for j in graph.judge.blocking(after) if j.names & graph.problem.accepted])
            cost = {**transition.cost, "risks": risks}
            weight, target = graph.pack(cost), graph.key(after)
            if target not in edges or weight < edges[target]["weight"]:
                edges[target] = {"weight": weight, "transition": transition, "cost": cost}
        return edges
