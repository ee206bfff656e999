"""The core by itself: tasks whose steps cost more in some states, and several groups that reach the same state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.search.core.solve import solve
from planner.search.core.task import Allowed, NoPath, SearchLimitError, Step, Task, Values, pack, unpack

pytestmark = pytest.mark.property
SIZE = 3        # values of every variable: 0, 1, 2


@dataclass(frozen=True)
class Jumps:
    """One group: for some values of its variables what they may become, and at what cost."""

    number: int
    variables: tuple[int, ...]
    listed: tuple[tuple[Values, Values, int], ...]

    def steps(self, values: Values, allowed: Allowed) -> Iterator[Step]:
        """Yield the listed steps from these values, asking for every prefix in turn."""
        for before, after, cost in self.listed:
            if before == values != after and all(allowed(after[:d]) for d in range(1, len(after) + 1)):
                yield Step(after, cost, group=self.number)


@dataclass(frozen=True)
class Never:
    """Combinations of values that no state may have, and some that no end may have."""

    scope: tuple[int, ...]
    banned: frozenset[Values]
    no_end: frozenset[Values]

    def blocks(self, values: Values) -> bool:
        """Tell whether the combination is banned."""
        return values in self.banned

    def blocks_goal(self, values: Values) -> bool:
        """Tell whether no path may end in it."""
        return values in self.banned or values in self.no_end


@st.composite
def tasks(draw: Any) -> Task:
    """Two to four variables; groups overlap, so that several lead to the same state."""
    size = draw(st.integers(2, 4))
    scopes = st.lists(st.integers(0, size - 1), min_size=1, max_size=2, unique=True).map(lambda v: tuple(sorted(v)))

    def values(scope: tuple[int, ...]) -> st.SearchStrategy[Values]:
        return st.tuples(*(st.integers(0, SIZE - 1) for _ in scope))

    groups = []
    for number in range(draw(st.integers(1, 6))):
        scope = draw(scopes)
        groups.append(Jumps(number, scope, tuple(draw(st.lists(
            st.tuples(values(scope), values(scope), st.integers(0, 4)), max_size=8)))))
    constraints = []
    for _ in range(draw(st.integers(0, 4))):
        scope = draw(scopes)
        constraints.append(Never(scope, draw(st.frozensets(values(scope), max_size=3)),
                                 draw(st.frozensets(values(scope), max_size=2))))
    goals = [draw(st.one_of(st.none(), st.sampled_from([0, 1, 2]).map(lambda v: v.__eq__))) for _ in range(size)]
    return Task(start=tuple(draw(st.integers(0, SIZE - 1)) for _ in range(size)), goals=goals, groups=groups,
                constraints=constraints)


def truth(task: Task) -> int | None:
    """Return the least cost by plain Dijkstra; None when there is no path."""
    def blocked(state: Values) -> bool:
        return any(c.blocks(tuple(state[v] for v in c.scope)) for c in task.constraints)

    if blocked(task.start):
        return None
    tie, done = count(), set()
    queue = [(0, 0, task.start)]
    while queue:
        cost, _, state = heappop(queue)
        if state in done:
            continue
        done.add(state)
        if task.meets_goals(state) and not any(c.blocks_goal(tuple(state[v] for v in c.scope))
                                               for c in task.constraints):
            return cost
        for group in task.groups:
            for step in group.steps(tuple(state[v] for v in group.variables), lambda _: True):
                after = list(state)
                for v, value in zip(group.variables, step.after, strict=True):
                    after[v] = value
                if not blocked(tuple(after)):
                    more = task.extra(state, step) if task.extra else 0
                    heappush(queue, (cost + step.cost + more, next(tie), tuple(after)))
    return None


def replayed(task: Task) -> int | None:
    """Solve, follow the steps of the answer by hand, and return what they cost."""
    found = solve(task)
    if isinstance(found, NoPath):
        return None
    total = 0
    for before, step, after in zip(found.states, found.steps, found.states[1:], strict=False):
        total += step.cost + (task.extra(before, step) if task.extra else 0)
        changed = dict(zip(task.groups[step.group].variables, step.after, strict=True))
        assert after == tuple(changed.get(v, value) for v, value in enumerate(before))
    assert total == found.cost
    return total


@settings(deadline=None, max_examples=300)
@given(tasks())
def test_costs_are_those_of_plain_dijkstra(task: Task) -> None:
    """Any groups, any constraints, starts from which there is no path among them."""
    assert replayed(task) == truth(task)


@settings(deadline=None, max_examples=300)
@given(tasks(), st.lists(st.integers(0, 5), min_size=7, max_size=7))
def test_costs_that_depend_on_the_whole_state_count(task: Task, prices: list[int]) -> None:
    """What a step costs on top depends on all values, and is the same for all groups that make it."""
    def extra(state: Values, _: Step) -> int:
        return prices[sum(state) % 7]      # type: ignore[call-overload, no-any-return]

    priced = Task(start=task.start, goals=task.goals, groups=task.groups, constraints=task.constraints, extra=extra)
    assert replayed(priced) == truth(priced)


@settings(deadline=None, max_examples=200)
@given(tasks(), st.lists(st.integers(0, 5), min_size=7, max_size=7))
def test_constraints_between_tables_count_on_the_way_and_at_the_end(task: Task, prices: list[int]) -> None:
    """No two clusters are joined: every constraint between them is left to the search over whole states."""
    priced = Task(start=task.start, goals=task.goals, groups=task.groups, constraints=task.constraints,
                  extra=lambda state, _: prices[sum(state) % 7])      # type: ignore[call-overload, arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("planner.search.core.solve.ROUNDS", ((1, 0),))
        assert replayed(task) == truth(task)
        assert replayed(priced) == truth(priced)


def test_one_long_detour_is_better_than_four_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables know a free way that the other variable closes; the way round costs 3 at once, or 4 times 1."""
    monkeypatch.setattr("planner.search.core.solve.ROUNDS", ((1, 0),))
    free = [(((v,), (f"free-{v}",), 0), ((f"free-{v}",), (v + 1,), 0)) for v in range(4)]
    short = [(((v,), (f"short-{v}",), 1), ((f"short-{v}",), (v + 1,), 0)) for v in range(4)]
    listed = (*(step for pair in (*free, *short) for step in pair), ((0,), (4,), 3))
    closed = Never((0, 1), frozenset((f"free-{v}", 0) for v in range(4)), frozenset())
    task = Task(start=(0, 0), goals=[lambda v: v == 4, None], groups=[Jumps(0, (0,), listed)], constraints=[closed])
    assert replayed(task) == truth(task) == 3


def test_of_two_groups_the_one_that_costs_less_in_all_is_taken() -> None:
    """A dearer step that costs nothing on top is better than a cheap one that does."""
    cheap, dear = (Jumps(n, (0,), (((0,), (1,), cost),)) for n, cost in ((0, 1), (1, 2)))
    task = Task(start=(0,), goals=[lambda v: v == 1], groups=[cheap, dear], constraints=[],
                extra=lambda _, step: 5 if step.group == 0 else 0)
    assert replayed(task) == 2


@settings(deadline=None, max_examples=100)
@given(tasks(), st.integers(1, 3))
def test_a_bound_on_states_never_makes_a_path_impossible(task: Task, bound: int) -> None:
    """The search says that it gave up, or it is right."""
    bounded = Task(start=task.start, goals=task.goals, groups=task.groups, constraints=task.constraints,
                   expansions_max=bound)
    try:
        assert replayed(bounded) == truth(task)
    except SearchLimitError:
        assert truth(task) is not None


def test_solving_twice_gives_the_same_steps() -> None:
    """Nothing is kept between two searches of one task."""
    listed = tuple(((a, b), (c, d), 1) for a in range(3) for b in range(3) for c in range(3) for d in range(3))
    task = Task(start=(0, 0, 0, 0), goals=[None, None, lambda v: v == 2, lambda v: v == 1], constraints=[],
                groups=[Jumps(0, (0, 1), listed), Jumps(1, (1, 2), listed), Jumps(2, (2, 3), listed)])
    assert solve(task) == solve(task)


@given(st.lists(st.integers(0, (1 << 20) - 1), min_size=1, max_size=7))
def test_packed_costs_unpack(fields: list[int]) -> None:
    """What goes in comes out."""
    assert list(unpack(pack(fields), len(fields))) == fields


@given(st.lists(st.tuples(*[st.integers(0, (1 << 20) - 1)] * 3), min_size=2, max_size=6))
def test_packed_costs_compare_like_their_fields(many: list[tuple[int, int, int]]) -> None:
    """The order of integers is that of tuples."""
    assert sorted(many) == sorted(many, key=pack)


@pytest.mark.parametrize("wrong", [-1, 1 << 20])
def test_fields_out_of_range_are_refused(wrong: int) -> None:
    """Neither borrowed from nor carried into the field before."""
    with pytest.raises(ValueError, match="out of range"):
        pack((0, wrong, 0))
