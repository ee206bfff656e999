"""What may happen in a played rollout, who has a say in it, and what it comes to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """What may happen to a node in its change call."""

    FAILED = "failed"                  # a step or a gate; a person has to look
    LOST = "lost"                      # never came back from its reboot
    UNREACHABLE = "unreachable"        # nobody knows; looked at again when somebody goes on


class End(StrEnum):
    """How a rollout ends, as far as nobody interferes any more."""

    FINISHED = "finished"
    WITH_FAILURES = "finished-with-failures"
    HALTED = "halted"                  # a failed canary, or more failures than the budget
    NODES_LOST = "nodes-lost"
    UNREACHABLE = "unreachable"
    NO_ROOM = "max-unavailable"
    NO_WINDOW = "window-too-short"
    PAIR_FAILED = "pair-failed"


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one node, and where on its path.

    Step 0 is the first, the number of steps the last gate, and one more the site's own command behind it.
    """

    kind: Kind
    step: int


class Dice(Protocol):
    """Where the outcomes and times of one rollout come from."""

    def first(self) -> Mapping[str, Fate]:
        """Return what happens to nodes at their first attempt; others pass."""
        ...

    def again(self, node: str) -> Fate | None:
        """Return what happens to a node at a further attempt."""
        ...

    def minutes(self, nodes: tuple[str, ...], fates: Mapping[str, Fate]) -> float:
        """Return how long a change call on these nodes takes."""
        ...

    def pair_fails(self, node: str) -> bool:
        """Tell whether the upgraded node of a pair fails its all-reduce with whoever waits."""
        ...

    def pair_minutes(self) -> float:
        """Return how long one all-reduce of a pair takes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """What people do meanwhile."""

    retries: int = 0                   # how often a failed node, or a failed pair, is tried again after a stop
    answer_minutes: float = 30.0       # until somebody has answered a stop
    approval_minutes: float = 0.0      # until somebody has approved the canaries


@dataclass(slots=True, kw_only=True)
class Trial:
    """What one rollout came to."""

    end: End = End.FINISHED
    minutes: float = 0.0
    stops: int = 0                     # that a person had to answer, or that ended it; approvals apart
    failures: int = 0                  # attempts that failed
    broken: int = 0                    # nodes that are failed, lost or unknown at the end
    changed: int = 0                   # nodes whose change had begun by the end
    exposed: int = 0                   # nodes whose change had begun when the first failure was seen; 0: none was
    seen_in: str = ""                  # wave of the first failure
    gpu_minutes: float = 0.0           # out of service until given back, or until the end
    calls: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)   # change calls, where they were asked for
