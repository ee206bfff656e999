"""Compares nodes with the goals of a rollout that is over: changed since, or back at what they had before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.matrix.schema import State

COMPONENT = "since_rollout"


def since_rollout(now: State, start: State, goal: State, components: Sequence[str]) -> State:
    """Return what a node's difference from its goal comes to, as a state that rules judge.

    Args:
        now: What the node says.
        start: What it had before the rollout.
        goal: What the rollout brought it to.
        components: Those that the rollout changed.
    """
    differs = [name for name in components if name in now and set(now[name]) != set(goal.get(name, ()))]
    if not differs:
        return {COMPONENT: ("same",)}
    back = all(set(now[name]) == set(start.get(name, ())) for name in differs)
    told = "; ".join(f"{name} {_words(goal, name)} -> {_words(now, name)}" for name in differs)
    return {COMPONENT: (f"{'back' if back else 'changed'}: {told}",)}


def _words(state: Mapping[str, tuple[str, ...]], name: str) -> str:
    return " ".join(state.get(name, ())) or "absent"
