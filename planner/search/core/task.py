"""What the search is given: variables with values, moves that change some of them, constraints on every state.

Values are any hashable things; only moves, constraints and goals look inside. A state is a tuple of values, one for
each variable.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import NamedTuple, Protocol

Value = Hashable
Values = tuple[Value, ...]
Allowed = Callable[[Sequence[Value]], bool]
Rest = Callable[[Values, "Step"], int]

# A step's field has 20 bits, a path's 32: no sum of fewer than 4096 steps runs over into the field before it. Packed
# costs compare like the tuple of their fields.
FIELD_BITS = 32
STEP_BITS = 20


class SearchLimitError(Exception):
    """More states were expanded than allowed; nothing is proved either way."""


class Step(NamedTuple):
    """One legal step of some variables.

    Attributes:
        after: The new values of its group's variables, in the group's order.
        cost: Packed cost (``pack``) that depends on these values alone.
        label: What the caller wants to find again in the solution.
        group: Place of its group in the task.
    """

    after: Values
    cost: int
    label: object = None
    group: int = 0


class MoveGroup(Protocol):
    """Variables that one step may change together."""

    @property
    def variables(self) -> tuple[int, ...]:
        """Places of the variables."""

    def steps(self, values: Values, allowed: Allowed) -> Iterable[Step]:
        """Yield the legal steps from some values of its variables.

        Args:
            values: In the order of ``variables``.
            allowed: Tells whether constraints leave room for the first few values of a step. It is asked for every
                prefix in turn, each one value longer than the last: ``(a,)``, ``(a, b)``, … up to the whole step.
        """


class Constraint(Protocol):
    """Something that must hold on the values of some variables."""

    @property
    def scope(self) -> tuple[int, ...]:
        """Places of the variables, ascending."""

    def blocks(self, values: Values) -> bool:
        """Tell whether no path may run through these values."""

    def blocks_goal(self, values: Values) -> bool:
        """Tell whether no path may end in these values; at least where ``blocks`` holds."""


class Task(NamedTuple):
    """One search.

    Attributes:
        start: A value for every variable.
        goals: For every variable whether a value meets its goal; None where everything does.
        groups: Every variable that can change is in at least one.
        constraints: Held in every state, the start included: from one that breaks them there is no path. What may be
            wrong at a start must not be blocked by them.
        extra: Packed cost of a step that depends on the whole state it is taken from, on top of its own; not negative.
        steps_field: How far the field that counts steps is shifted in a packed cost: of equally good ways the search
            follows the one with the fewest steps left.
        expansions_max: Bound on expanded states.
    """

    start: Values
    goals: Sequence[Callable[[Value], bool] | None]
    groups: Sequence[MoveGroup]
    constraints: Sequence[Constraint]
    extra: Rest | None = None
    steps_field: int = 0
    expansions_max: int = 20_000

    def meets_goals(self, values: Values) -> bool:
        """Tell whether every variable meets its goal."""
        return all(goal is None or goal(value) for goal, value in zip(self.goals, values, strict=True))


class Solution(NamedTuple):
    """A cheapest path.

    Attributes:
        states: Whole states, the start first.
        steps: What leads from each to the next.
        cost: Sum of packed costs, extras included.
        expanded: States that the search looked at.
    """

    states: tuple[Values, ...]
    steps: tuple[Step, ...]
    cost: int
    expanded: int = 0


class NoPath(NamedTuple):
    """There is none. ``variables`` are enough to prove it: the constraints among them rule every path out."""

    variables: frozenset[int]


def pack(fields: Iterable[int]) -> int:
    """Return cost fields, most important first, as one integer; integers compare and add up like the fields.

    Raises:
        ValueError: A field is negative, or too large for sums of it to stay apart.
    """
    packed = 0
    for value in fields:
        if not 0 <= value < 1 << STEP_BITS:
            raise ValueError(f"a cost field is out of range: {value}")
        packed = (packed << FIELD_BITS) | value
    return packed


def unpack(packed: int, fields: int) -> tuple[int, ...]:
    """Return the fields of a packed cost."""
    mask = (1 << FIELD_BITS) - 1
    return tuple((packed >> (FIELD_BITS * place)) & mask for place in reversed(range(fields)))
