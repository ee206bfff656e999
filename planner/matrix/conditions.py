"""Conditions on one component's values: ranges, globs, presence. Three answers: yes, no, unknown."""

from __future__ import annotations

from functools import lru_cache

from planner.matrix.globs import matches
from planner.matrix.schema import Condition, State
from planner.model.version import contains

PRESENT = "present"
ABSENT = "absent"


def matches_value(condition: Condition, value: str, *, text: bool) -> bool:
    """Tell whether one value meets a condition (``present`` holds for any value, ``absent`` for none)."""
    if isinstance(condition, tuple):
        return any(matches_value(part, value, text=text) for part in condition)
    if condition in (PRESENT, ABSENT):
        return condition == PRESENT
    return matches(value, condition) if text else contains(condition, value)


def holds(condition: Condition, component: str, state: State, *, text: bool) -> bool | None:
    """Tell whether a component's values in a state meet a condition.

    Args:
        condition: Any value may match; ``absent`` wants none.
        component: Its name in the state.
        state: Missing key means unknown.
        text: Values are text matched by glob, not versions.

    Returns:
        True, False, or None when the state does not know the component.
    """
    return _hold(condition, state[component], text) if component in state else None


@lru_cache(maxsize=65_536)
def _hold(condition: Condition, values: tuple[str, ...], text: bool) -> bool:
    if wants_absence(condition):
        return not values or (isinstance(condition, tuple) and _any(condition, values, text=text))
    return _any(condition, values, text=text)


def wants_absence(condition: Condition) -> bool:
    """Tell whether an absent component would meet the condition."""
    return condition == ABSENT or (isinstance(condition, tuple) and ABSENT in condition)


def _any(condition: Condition, values: tuple[str, ...], *, text: bool) -> bool:
    return any(matches_value(condition, value, text=text) for value in values)
