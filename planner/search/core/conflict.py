"""Minimal conflicts: which few of many constraints already rule a goal out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Oracle = Callable[[frozenset[str]], bool]


def minimal_conflict(constraints: Sequence[str], infeasible: Oracle) -> list[str]:
    """Return a minimal part of ``constraints`` that is infeasible by itself, in their order.

    Args:
        constraints: Infeasible together. Of several conflicts that of the constraints that stand earlier is found.
        infeasible: Tells whether some constraints alone leave no path. More constraints never make it false.

    Source:
        QuickXplain (Junker 2004); proof in Rodler, arXiv 2001.01835.
    """
    if infeasible(frozenset()):
        return []
    found = set(_explain(frozenset(), False, list(constraints), infeasible))
    return [c for c in constraints if c in found]


def _explain(background: frozenset[str], changed: bool, rest: list[str], infeasible: Oracle) -> list[str]:
    if changed and infeasible(background):
        return []
    if len(rest) == 1:
        return rest
    middle = len(rest) // 2
    first, second = rest[:middle], rest[middle:]
    late = _explain(background | frozenset(first), bool(first), second, infeasible)
    early = _explain(background | frozenset(late), bool(late), first, infeasible)
    return early + late
