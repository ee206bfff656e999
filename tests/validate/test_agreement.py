"""Two programs that share no code must judge alike, and the search must agree with brute force."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.model.version import contains, version_key
from planner.search.core.task import SearchLimitError
from planner.search.judge import Judge
from planner.search.moves import transitions
from planner.search.path import find_path
from planner.validate.rules import Rules, compare, in_range
from tests.search.worlds import claim, matrices, problem, raw

NAMES = ("base", "engine", "twin", "tools", "lib")
VERSIONS = ("1", "2", "3")
pytestmark = pytest.mark.property

conditions = st.one_of(
    st.sampled_from(["1", "2", ">=2", "<3", ">=2 <3", "1 | 3", "present", "absent", "!=2", "*"]),
    st.lists(st.sampled_from(["1", "3", "absent"]), min_size=1, max_size=2),
)


@st.composite
def claims(draw: Any) -> list[dict[str, Any]]:
    made = []
    for number in range(draw(st.integers(0, 5))):
        if_ = draw(st.dictionaries(st.sampled_from(NAMES), conditions, min_size=1, max_size=2))
        then = draw(st.dictionaries(st.sampled_from(NAMES), conditions, max_size=1))
        family = draw(st.sampled_from(["open", "shut"]))
        made.append(claim(f"rule-{number}", if_, then, forbids=not then, family=family))
    return made


@st.composite
def states(draw: Any) -> dict[str, tuple[str, ...]]:
    state = {n: draw(st.sampled_from([(), ("1",), ("2",), ("3",)])) for n in ("base", "engine", "twin", "lib")}
    state["tools"] = tuple(sorted(draw(st.sets(st.sampled_from(VERSIONS)))))
    for name in draw(st.sets(st.sampled_from(NAMES), max_size=1)):
        del state[name]
    return state


SHUT = [{"name": "shut", "title": "shut", "closed": True, "over": "engine", "against": "lib"}]


@settings(max_examples=300, deadline=None)
@given(claims(), states())
def test_both_judges_agree_on_every_state(rules, state):
    """The compiled judge and the raw one find the same broken rules, values included."""
    document = raw(rules, families=SHUT)
    world = matrices(document)
    mine = {(j.rule, j.values) for j in Judge(world, state, frozenset(NAMES)).blocking(state)}
    assert mine == Rules([("test.yml", document)]).broken(state)


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789.-abrc", min_size=1, max_size=10).filter(lambda t: any(c.isdigit() for c in t)),
       st.text("0123456789.-abrc", min_size=1, max_size=10).filter(lambda t: any(c.isdigit() for c in t)))
def test_both_orders_of_versions_agree(left, right):
    """Two independent comparisons give the same order."""
    mine = (version_key(left) > version_key(right)) - (version_key(left) < version_key(right))
    assert mine == compare(left, right)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([">=12.8", "12.8", "12.*", "==12.8", "<13 >=12", "11|13", ">=580.65.06, <581", "*", "!=12.8"]),
       st.sampled_from(["12.8", "12.8.1", "12.80", "13.0", "11.8", "580.65.6", "580.65.06", "581", "12"]))
def test_both_range_readers_agree(text, version):
    """A range means the same to both programs."""
    assert contains(text, version) == in_range(version, text)


def _brute_force(task, world):
    """Breadth-first over everything; returns whether a safe path exists."""
    judge = Judge(world, task.start, frozenset(NAMES))
    inherited = {j.key for j in judge.blocking(task.start)}
    seen, queue = set(), deque([task.start])
    while queue:
        state = queue.popleft()
        key = tuple(sorted(state.items()))
        if key in seen:
            continue
        seen.add(key)
        if all(g.met_by(state.get(n, ())) for n, g in task.goals.items()) and not judge.blocking(state):
            return True
        queue.extend(after for _, after in transitions(state, task, world)
                     if {j.key for j in judge.blocking(after)} <= inherited)
    return False


@settings(max_examples=150, deadline=None)
@given(claims(), st.sampled_from(VERSIONS), st.sampled_from(VERSIONS))
def test_search_finds_a_path_exactly_when_one_exists(rules, engine, lib):
    """Existence agrees with brute force on small worlds, and every state on a found path is safe to the raw judge."""
    document = raw(rules, families=SHUT)
    world = matrices(document)
    start = {"base": ("1",), "engine": ("1",), "twin": ("1",), "lib": ("1",), "tools": ("1",)}
    task = problem(start, {"engine": engine, "lib": lib, "tools": {"present": ("2",), "absent": ("1",)}},
                   dict.fromkeys(NAMES, ("3", "2", "1")))
    try:
        path = find_path(task, world)
    except SearchLimitError:
        return
    assert (path is not None) == _brute_force(task, world)
    if path is not None:
        raw_rules = Rules([("test.yml", document)])
        inherited = raw_rules.broken(start)
        assert all(raw_rules.broken(s) <= inherited for s in path.states)
        assert not raw_rules.broken(path.states[-1])


@settings(max_examples=60, deadline=None)
@given(claims())
def test_removing_a_rule_never_removes_a_path(rules):
    """Fewer rules, no fewer paths (positive evidence in the closed family aside)."""
    rules = [{**r, "family": "open"} for r in rules]
    start = {"base": ("1",), "engine": ("1",), "twin": ("1",), "lib": ("1",), "tools": ("1",)}
    task = problem(start, {"engine": "3", "lib": "2"}, dict.fromkeys(NAMES, ("3", "2", "1")))
    if find_path(task, matrices(raw(rules))) is not None:
        for left_out in range(len(rules)):
            assert find_path(task, matrices(raw(rules[:left_out] + rules[left_out + 1:]))) is not None
