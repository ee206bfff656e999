"""Time as an argument: the real clock, and one that a simulation or a test moves."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of time; ``slice_s`` is the longest sleep from which it should look up."""

    slice_s: float

    def now(self) -> datetime:
        """Return the time, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...


class SystemClock:
    """The machine's own clock."""

    slice_s = 1.0

    def now(self) -> datetime:
        """Return the time, UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)


class VirtualClock:
    """Time that passes only when somebody sleeps; for simulations and tests."""

    slice_s = float("inf")

    def __init__(self, start: datetime) -> None:
        assert start.tzinfo is not None, "times without a zone cannot be compared"
        self._now = start

    def now(self) -> datetime:
        """Return the virtual time."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass, at once."""
        self._now += timedelta(seconds=seconds)
