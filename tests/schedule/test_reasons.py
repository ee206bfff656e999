"""What a step and a goal cite: reasons speak of what the step brings, known problems of what the nodes end with."""

from __future__ import annotations

from typing import Any

import pytest

from planner.check.evaluate import judge_state
from planner.matrix.schema import State
from planner.schedule.judged import known_problems
from planner.schedule.steps import explains
from tests.search.worlds import claim, matrices, raw

HOLDS = [
    claim("tools-two-needs-engine", {"tools": "2"}, {"engine": ">=3"}),
    claim("tools-one-needs-engine", {"tools": "1"}, {"engine": ">=1"}),
    claim("lib-one-wants-old-tools", {"lib": "1"}, {"tools": ["absent", "1"]}),
    claim("engine-needs-base", {"engine": "3"}, {"base": ">=1"}),
]
AFTER = {"base": ("1",), "engine": ("3",), "twin": ("3",), "lib": ("1",)}


def reasons(after: State, *changes: tuple[str, str, str]) -> set[str]:
    """Return the names of the claims that explain a step."""
    world = matrices(raw(HOLDS))
    return {j.rule for j in judge_state(after, world) for change in changes if explains(j, change, after, world)}


@pytest.mark.parametrize(("tools", "change", "expected"), [
    (("1.2", "2.0"), ("", "2.0"), {"tools-two-needs-engine"}),
    (("1.2", "1.8", "2.0"), ("", "1.8"), {"tools-one-needs-engine"}),
    (("1.8", "2.0"), ("1.2", ""), set()),
    (("1.8", "2.0"), ("", "1.8"), {"tools-one-needs-engine", "lib-one-wants-old-tools"}),
    ((), ("1.2", ""), set()),
])
def test_a_step_of_side_by_side_versions_cites_what_holds_for_its_own(
        tools: tuple[str, ...], change: tuple[str, str], expected: set[str]) -> None:
    """A removal cites nothing of what stays; where any version would do, only the one that alone does is explained."""
    assert reasons({**AFTER, "tools": tools}, ("tools", *change)) == expected


def test_a_step_of_single_components_cites_every_claim_that_reads_them() -> None:
    """Toolkits that lean on the new engine are a reason for it; rules about other components are none."""
    state = {**AFTER, "tools": ("1.2", "2.0")}
    assert reasons(state, ("engine", "1", "3"), ("twin", "1", "3")) == {
        "tools-two-needs-engine", "tools-one-needs-engine", "engine-needs-base", "twins"}


def test_known_problems_of_the_goal_say_which_are_new() -> None:
    """Warnings alone: errors block the goal, hints of other severity do not matter; one entry for each value."""
    def warn(name: str, if_: dict[str, Any], severity: str = "warning", **extra: Any) -> dict[str, Any]:
        return claim(name, if_, forbids=True, severity=severity, **extra)

    world = matrices(raw([
        warn("tools-are-slow", {"tools": ">=1.8"}, hint="take 3.0"), warn("lib-leaks", {"lib": "1"}),
        warn("lib-is-old", {"lib": "1"}, severity="info"), warn("engine-breaks", {"engine": "3"}, severity="error"),
        warn("engine-was-slow", {"engine": "1"})]))
    start = {**AFTER, "engine": ("1",), "twin": ("1",), "tools": ("1.8",)}
    found = known_problems(start, {**AFTER, "tools": ("1.8", "2.0")}, world)
    assert [(p.claim, p.at_start) for p in found] == [
        ("tools-are-slow", True), ("tools-are-slow", False), ("lib-leaks", True)]
    assert found[1].statement == "tools-are-slow holds (here: tools 2.0)"
    assert (found[1].hint, found[1].source) == ("take 3.0", "matrices:tools-are-slow invented for tests")
