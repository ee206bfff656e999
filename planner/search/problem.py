"""What a search is given: a start, goals, and the versions each component may take. Knows no component by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from planner.matrix.globs import matches
from planner.matrix.schema import State
from planner.model.version import contains

# Fields of a path's cost, in the default order of importance. ``risks`` counts accepted risks in every state,
# ``warnings`` known problems that steps bring and the start did not have: what is known to be bad is taken only where
# it must be. ``early`` counts what was changed before a reboot without needing one (what needs a reboot decides what
# the rest may be), ``age`` how far a chosen version is from the newest that fits, and of what nobody asked for whether
# it leaves its branch, ``order`` how often a step was taken although one that stands earlier in the matrices or in the
# goal was still open: it settles ties.
COST_ORDER = ("reboots", "risks", "steps", "warnings", "early", "minutes", "age", "order")


class Goal(NamedTuple):
    """What is wanted of one component.

    Attributes:
        want: Version range of a single component; empty for a side-by-side one.
        present: Ranges that must each be met by an installed version.
        absent: Ranges that nothing installed may match.
        text: Whether values are words, matched by glob, not versions.
    """

    component: str
    want: str = ""
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    text: bool = False

    def matches(self, wanted: str, value: str) -> bool:
        """Tell whether one value is what a part of this goal speaks of."""
        return matches(value, wanted) if self.text else contains(wanted, value)

    def met_by(self, values: tuple[str, ...]) -> bool:
        """Tell whether the values of the component satisfy this goal."""
        if self.want:
            return any(self.matches(self.want, v) for v in values)
        return all(any(self.matches(p, v) for v in values) for p in self.present) and not any(
            self.matches(a, v) for a in self.absent for v in values
        )

    def unmet(self, values: tuple[str, ...]) -> int:
        """Return how many parts of this goal the values do not satisfy: what is missing, and what is too much."""
        if self.want:
            return int(not self.met_by(values))
        return sum(not any(self.matches(p, v) for v in values) for p in self.present) + sum(
            any(self.matches(a, v) for a in self.absent) for v in values
        )

    def describe(self) -> str:
        """Return the goal in words: ``driver 580``, ``cuda_toolkits with 12.8 and 13.0, without 11.*``."""
        if self.want:
            return f"{self.component} {self.want}"
        parts = [f"with {' and '.join(self.present)}"] if self.present else []
        parts += [f"without {' and '.join(self.absent)}"] if self.absent else []
        return f"{self.component} {', '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One cohort's search.

    Attributes:
        start: The whole state, attributes included.
        goals: By component.
        candidates: Versions a component may take, newest first; a component without an entry never moves.
        accepted: Names of risks or rules that the user accepts.
        unobtainable: (component, version) -> why no repository gives it; used by explanations.
        fixed: Component -> why it may not move on these nodes at all; used by explanations.
        optimize: Cost fields, most important first; those left out follow in the default order.
        expansions_max: Bound on expanded states; a search that meets it says so, it never answers "impossible".
    """

    start: State
    goals: Mapping[str, Goal]
    candidates: Mapping[str, tuple[str, ...]]
    accepted: frozenset[str] = frozenset()
    unobtainable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    optimize: tuple[str, ...] = ()
    expansions_max: int = 20_000


class Transition(NamedTuple):
    """One edge: a move of the matrices and what it changes."""

    move: str
    changes: tuple[tuple[str, str, str], ...]   # (component, from, to); "" for absent
    cost: Mapping[str, int]


class Path(NamedTuple):
    """A path and the states it runs through; ``states[0]`` is the start, one more than ``transitions``."""

    transitions: tuple[Transition, ...]
    states: tuple[State, ...]
    cost: Mapping[str, int]
