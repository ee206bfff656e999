"""Windows of mixed communication domains: what a plan says of them is replayed from its schedule."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from planner.cli.inputs import load_facts, load_target
from planner.cli.plan import build_plan
from planner.cli.raw import raw_matrices
from planner.model.target import Target
from planner.schedule.plan import MixedWindow, Plan
from planner.validate.mixing import misfenced
from planner.validate.replay import seal_of, validate_plan
from planner.validate.rules import Rules

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "06-three-drivers"


@cache
def example() -> tuple[Plan, Target]:
    document, target = load_facts(EXAMPLE / "facts.json"), load_target(EXAMPLE / "target.yml")
    return build_plan(document, target, (), inventory=""), target


@cache
def rules() -> Rules:
    return Rules(raw_matrices(()))


def told(plan: Plan, fence: bool | None = None) -> str:
    return "\n".join(misfenced(plan, fence, rules()))


def window(**update: Any) -> Callable[[Plan], Plan]:
    """Return what changes the only window of a plan."""
    def change(plan: Plan) -> Plan:
        assert plan.mixed is not None
        (stated,) = plan.mixed
        return plan.model_copy(update={"mixed": (stated.model_copy(update=update),)})
    return change


def said(**update: Any) -> Callable[[Plan], Plan]:
    return lambda plan: plan.model_copy(update=update)


def _scheduler(plan: Plan) -> Plan:
    first = min(plan.nodes)
    node = plan.nodes[first].model_copy(update={"scheduler": "none"})
    return plan.model_copy(update={"nodes": {**plan.nodes, first: node}})


def _swapped(plan: Plan) -> Plan:
    """The last batch becomes the first of its wave: the window ends elsewhere."""
    *before, last = plan.waves
    turned = last.model_copy(update={"batches": (last.batches[-1], *last.batches[:-1])})
    return plan.model_copy(update={"waves": (*before, turned)})


WRONG: dict[str, tuple[Callable[[Plan], Plan], str]] = {
    "later": (window(opens="w2b1"), "opens is said to be w2b1, the replay has w1b1"),
    "earlier end": (window(closes="w2b1"), "closes is said to be w2b1"),
    "fewer batches": (window(batches=2), "batches is said to be 2, the replay has 4"),
    "shorter": (window(minutes=1), "minutes is said to be 1"),
    "no approval": (window(approval=False), "approval is said to be False"),
    "another component": (window(components=("cudnn",)), "components is said to be"),
    "unfenced": (window(fences=()), "fences is said to be []"),
    "another fence": (window(fences=("kubernetes",)), "fences is said to be ['kubernetes']"),
    "unfenced nodes": (window(unfenced=1), "unfenced is said to be 1"),
    "no reason": (window(because=()), "because is said to be []"),
    "another domain": (window(domain="ib-other"), "windows are stated for domains ib-other"),
    "no window": (said(mixed=None), "windows are stated for domains none; mixed for more than a batch are ib-hgx"),
    "another order": (_swapped, "closes is said to be"),
    "another scheduler": (_scheduler, "unfenced is said to be 0, the replay has 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_window_is_refused(name: str) -> None:
    change, words = WRONG[name]
    plan, target = example()
    assert told(plan) == ""
    assert words in told(change(plan))
    assert any(words in text for text in validate_plan(change(plan), target, raw_matrices(())))


def test_a_window_that_nobody_needs_is_refused() -> None:
    plan, _ = example()
    assert plan.mixed is not None
    nodes = {name: node.model_copy(update={"comm_domain": ""}) for name, node in plan.nodes.items()}
    assert "mixed for more than a batch are none" in told(plan.model_copy(update={"nodes": nodes}))
    twice: tuple[MixedWindow, ...] = (*plan.mixed, *plan.mixed)
    assert "ib-hgx, ib-hgx" in told(plan.model_copy(update={"mixed": twice}))


def test_marks_that_the_target_does_not_want_are_refused() -> None:
    plan, _ = example()
    assert "fences is said to be ['slurm'], the replay has []" in told(plan, fence=False)
    assert "fences is said" not in told(plan, fence=True)


def test_the_seal_covers_the_windows() -> None:
    plan, _ = example()
    assert seal_of(window(minutes=1)(plan)) != seal_of(plan)
