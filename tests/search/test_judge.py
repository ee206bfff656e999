"""The judge remembers; what it remembers is what a fresh judgement would say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from planner.check import judge as judge_module
from planner.check.evaluate import judge_state
from planner.check.verdict import Verdict
from planner.matrix.schema import State
from planner.search.judge import Judge
from tests.search.test_path import START
from tests.search.worlds import claim, matrices, raw

MOVABLE = frozenset({"engine", "twin", "tools", "lib"})
FIXED = claim("arch-x-is-bad", {"arch": "x"}, forbids=True)
RULES = [
    claim("tools-need-engine", {"tools": "2"}, {"engine": ">=3"}),
    claim("lib-two-is-bad", {"lib": "2"}, forbids=True),
    claim("engine-needs-lib", {"engine": "3"}, {"lib": "2"}),
    claim("lib-two-is-worse", {"lib": "2"}, forbids=True),
    claim("lib-one-is-not-nice", {"lib": "1"}, forbids=True, severity="warning"),
    claim("covers-old-tools", {"tools": "1", "lib": "1"}, family="shut"),
    FIXED,
]
SHUT = {"name": "shut", "title": "shut", "closed": True, "over": "tools", "against": "lib"}
WORLD = matrices(raw(RULES, families=[SHUT]))


def states() -> Iterator[State]:
    """Every combination of what may move; absent and unknown values among them."""
    for engine, twin, tools, lib in product((("1",), ("3",)), (("1",), ("3",), ()),
                                            ((), ("1.2",), ("1.2", "2.0")), (("1",), ("2",), (), None)):
        state = {**START, "engine": engine, "twin": twin, "tools": tools, "lib": lib}
        yield {name: value for name, value in state.items() if value is not None}


def test_every_answer_is_that_of_a_fresh_judgement_in_its_order() -> None:
    """Twice, because the second answer comes from memory; what never changes comes first."""
    judge = Judge(WORLD, START, MOVABLE)
    seen_any = set()
    for state in [*states(), *reversed(list(states()))]:
        bad = [j for j in judge_state(state, WORLD) if j.blocking and j.verdict is not Verdict.SUPPORTED]
        expected = sorted(bad, key=lambda j: j.rule != "arch-x-is-bad")
        assert list(judge.blocking(state)) == expected
        seen_any |= {j.rule for j in bad}
    assert seen_any == {"tools-need-engine", "lib-two-is-bad", "engine-needs-lib", "lib-two-is-worse", "shut", "twins",
                        "arch-x-is-bad"}
    assert set(judge.seen) == seen_any - {"arch-x-is-bad"}


def test_a_rule_is_evaluated_once_for_each_combination_of_values_that_it_reads(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Other components may take any values: they do not make the rule run again."""
    calls: list[str] = []
    original = judge_module.judge_claim
    monkeypatch.setattr(judge_module, "judge_claim", lambda c, s, m: (calls.append(c.name), original(c, s, m))[1])
    world = matrices(raw(RULES, families=[SHUT]))     # of its own: judges of the same rules share what they remember
    judge = Judge(world, START, MOVABLE)
    for state in (*states(), *states()):
        judge.blocking(state)
    assert {name: calls.count(name) for name in ("lib-two-is-bad", "engine-needs-lib", "arch-x-is-bad")} == {
        "lib-two-is-bad": 3, "engine-needs-lib": 8, "arch-x-is-bad": 1}
