"""Maintenance windows that come every week, in the local time of a place: ``Sat,Sun 02:00-06:00 Europe/Berlin``.

A window keeps its local times over daylight saving: on the night of a change it is an hour shorter or longer, and what
has to fit into it is measured in real minutes. It is never open at a time that the clocks there do not show, or show a
second time after they have shown its end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EXAMPLE = "Sat,Sun 02:00-06:00 Europe/Berlin"

_TEXT = re.compile(
    r"(?P<days>\S+)\s+(?P<opens>\d{2}:\d{2})-(?P<closes>\d{2}:\d{2})\s+(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*)")
_WEEKS = 53              # seasons come again; windows that do not meet in so many weeks meet never
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
        return list(_intervals(self, around.astimezone(ZoneInfo(self.zone)).date() - timedelta(days=1)))


@lru_cache(maxsize=4096)
def _intervals(window: Window, first: date) -> tuple[tuple[datetime, datetime], ...]:
    zone, found = ZoneInfo(window.zone), []
    for ahead in range(_AHEAD_DAYS + 1):
        day = first + timedelta(days=ahead)
        if day.weekday() not in window.days:
            continue
        last = day if window.closes > window.opens else day + timedelta(days=1)
        begin, end = datetime.combine(day, window.opens, zone), datetime.combine(last, window.closes, zone)
        # Of a time that comes twice: it opens at the second and closes at the first, where that leaves anything.
        opens, closes = _instant(begin, fold=1), _instant(end, fold=0)
        opens = opens if opens < closes else _instant(begin, fold=0)
        if opens < closes:
            found.append((opens, closes))
    return tuple(found)


def _instant(local: datetime, *, fold: int) -> datetime:
    """Return a local time in UTC: one that comes twice as ``fold`` says, one that never comes as the jump over it."""
    early, late = (local.replace(fold=f) for f in (0, 1))
    before, after = early.utcoffset(), late.utcoffset()
    assert before is not None, "it has a zone"
    assert after is not None, "it has a zone"
    if before >= after:
        return (late if fold else early).astimezone(UTC)
    zone, moment = local.tzinfo, late.astimezone(UTC)      # as clocks go after the jump: not later than that
    while moment.astimezone(zone).utcoffset() != after:
        moment += timedelta(minutes=1)
    return moment


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

    None when some window is too short, or windows of two pools do not meet within a year.
    """
    listed = sorted({tuple(windows) for windows in pools if windows})
    until = now + timedelta(weeks=_WEEKS)
    while now < until:
        starts = [next_start(windows, now, minutes) for windows in listed]
        known = [start for start in starts if start is not None]
        if len(known) < len(starts):
            return None
        latest = max(known, default=now)
        if latest == now:
            return now
        now = latest
    return None


def always_meet(pools: Iterable[Iterable[str]], begin: datetime, minutes: int) -> bool:
    """Tell whether windows of several pools have room for something in common within about a week, whatever the season.

    Clocks change at other times in other zones: windows that meet today may not do so in a month.
    """
    listed = sorted({tuple(windows) for windows in pools if windows})
    zones = {parse_window(text).zone for windows in listed for text in windows}
    seasons = [begin + timedelta(weeks=n) for n in range(_WEEKS if len(zones) > 1 else 1)]
    starts = ((now, common_start(listed, now, minutes)) for now in seasons)
    return all(start is not None and start - now <= timedelta(days=_AHEAD_DAYS) for now, start in starts)
