"""Ctrl-C: the first finishes what is in flight and stops, the second aborts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Counts requests to stop; also set by hand in tests."""

    def __init__(self, on_request: Callable[[int], None] = lambda count: None) -> None:
        self.count = 0
        self._on_request = on_request

    @property
    def stopping(self) -> bool:
        """Whether to begin nothing new."""
        return self.count >= 1

    @property
    def aborting(self) -> bool:
        """Whether to end the call in flight."""
        return self.count >= 2

    def request(self) -> None:
        """Ask once more."""
        self.count += 1
        self._on_request(self.count)

    @contextmanager
    def on_signals(self) -> Iterator[Interrupts]:
        """Listen to SIGINT and SIGTERM inside the block; only the main thread may do so."""
        def handle(number: int, frame: FrameType | None) -> None:
            self.request()

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
