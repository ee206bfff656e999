"""Maintenance windows that come every week, in the local time of a place: ``Sat,Sun 02:00-06:00 Europe/Berlin``.

A window keeps its local times over daylight saving: on the night of a change it is an hour shorter or longer, and what
has to fit into it is measured in real minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EXAMPLE = "Sat,Sun 02:00-06:00 Europe/Berlin"

_TEXT = re.compile(
    r"(?P<days>\S+)\s+(?P<opens>\d{2}:\d{2})-(?P<closes>\d{2}:\d{2})\s+(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*)")
_TURNS = 50              # pools whose windows have not met by then meet never, as far as anybody would wait
_AHEAD_DAYS = 15         # two weeks and a day: every weekly window comes at least once more, whole


class Window(NamedTuple):
    """One weekly window. ``closes`` at or before ``opens`` is on the next day; ``days`` are those on which it opens."""

    days: tuple[int, ...]
    opens: time
    closes: time
    zone: str

    @property
    def minutes(self) -> int:
        """How long it is on a day without a change of clocks."""
        length = (self.closes.hour - self.opens.hour) * 60 + self.closes.minute - self.opens.minute
        return length if length > 0 else length + 24 * 60

    def intervals(self, around: datetime) -> list[tuple[datetime, datetime]]:
        """Return when it is open from a day before to two weeks behind a moment, in UTC, in order."""
        zone = ZoneInfo(self.zone)
        first = around.astimezone(zone).date() - timedelta(days=1)
        found = []
        for ahead in range(_AHEAD_DAYS + 1):
            day = first + timedelta(days=ahead)
            if day.weekday() not in self.days:
                continue
            last = day if self.closes > self.opens else day + timedelta(days=1)
            start = datetime.combine(day, self.opens, zone).astimezone(UTC)
            end = datetime.combine(last, self.closes, zone).astimezone(UTC)
            if end > start:
                found.append((start, end))
        return found


@lru_cache(maxsize=256)
def parse_window(text: str) -> Window:
    """Parse ``DAYS HH:MM-HH:MM ZONE``; days are ``daily``, names or ranges of names: ``Mon-Fri,Sun``.

    Raises:
        ValueError: The text is no window; the message shows what is wrong.
    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a window such as {EXAMPLE!r}")
    try:
        opens, closes = (time.fromisoformat(match[name]) for name in ("opens", "closes"))
    except ValueError:
        raise ValueError(f"{match['opens']}-{match['closes']} are no times of a day in {text!r}") from None
    try:
        ZoneInfo(match["zone"])
    except (KeyError, ValueError, OSError):
        raise ValueError(f"{match['zone']!r} is no time zone in {text!r}; write one such as Europe/Berlin or UTC"
                         ) from None
    return Window(_days(match["days"], text), opens, closes, match["zone"])


def _days(written: str, text: str) -> tuple[int, ...]:
    if written.lower() == "daily":
        return tuple(range(7))
    found: set[int] = set()
    for part in written.split(","):
        first, _, last = part.partition("-")
        try:
            begin, end = (DAYS.index(word.capitalize()) for word in (first, last or first))
        except ValueError:
            raise ValueError(f"{part!r} is no day in {text!r}; write {', '.join(DAYS)} or daily") from None
        found.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return tuple(sorted(found))


def next_start(windows: Iterable[str], now: datetime, minutes: int) -> datetime | None:
    """Return the first moment from ``now`` on at which something of some minutes fits into a window.

    Windows that touch or overlap count as one. Without windows that is now; None when no window is long enough.
    """
    parsed = [parse_window(text) for text in windows]
    if not parsed:
        return now
    merged: list[tuple[datetime, datetime]] = []
    for start, end in sorted(interval for window in parsed for interval in window.intervals(now)):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    needed = timedelta(minutes=minutes)
    return next((max(now, start) for start, end in merged if max(now, start) + needed <= end), None)


def common_start(pools: Iterable[Iterable[str]], now: datetime, minutes: int) -> datetime | None:
    """Return the first moment from ``now`` on at which something fits into a window of each of several pools.

    None when some window is too short, or windows of two pools never meet.
    """
    listed = [tuple(windows) for windows in pools]
    for _ in range(_TURNS):
        starts = [next_start(windows, now, minutes) for windows in listed]
        known = [start for start in starts if start is not None]
        if len(known) < len(starts):
            return None
        latest = max(known, default=now)
        if latest == now:
            return now
        now = latest
    return None
