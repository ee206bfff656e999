"""The expected course of a plan as bars of characters: one row a wave, and how many nodes are out of service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from planner.report.layout import GAP
from planner.report.text import Text
from planner.schedule.estimate import Forecast, Span
from planner.schedule.plan import Plan

WAVES_SHOWN = 20
CELLS_MAX = 96
CELLS_MIN = 24
_TICK_LEAST = 9          # cells between two times on the axis
_TICKS = (5, 15, 30, 60, 120, 240, 480, 720, 1440, 2880, 10080, 40320)    # minutes


class Ink(NamedTuple):
    """The characters of a chart."""

    batches: tuple[str, str]           # neighbours are told apart
    soak: str
    wait: str                          # for a maintenance window
    pair: str                          # two nodes, while the wave soaks
    approval: str
    levels: str                        # from nothing to the most


UNICODE = Ink(batches=("█", "▓"), soak="░", wait="·", pair="+", approval="◆", levels=" ▁▂▃▄▅▆▇█")
ASCII = Ink(batches=("#", "="), soak=".", wait="~", pair="+", approval="*", levels=" .:-=+*#@")


def timeline_lines(plan: Plan, course: Forecast, width: int, ink: Ink) -> Iterator[Text]:
    """Yield the chart.

    Args:
        plan: The plan.
        course: What is expected of it.
        width: Columns of the terminal; the chart takes at most as many.
        ink: Characters, as the terminal's encoding has them.
    """
    total = course.spans[-1].end if course.spans else 0
    if not total:
        return
    shown = plan.waves[:WAVES_SHOWN]
    labels = [(w.id, w.kind, str(sum(
        len(s.nodes) for s in course.spans if s.wave == w.id and s.kind == "batch"))) for w in shown]
    heads = [*labels, ("", "out", str(_peak(course.spans)))]
    sizes = [max(map(len, column)) for column in zip(*heads, strict=True)]
    left = 2 + sum(sizes) + len(GAP) * 3
    chart = _Chart(total, max(CELLS_MIN, min(CELLS_MAX, width - left - 1)))
    yield _row(("", "", ""), sizes, chart.axis(), "dim")
    for wave, label in zip(shown, labels, strict=True):
        asked = [at for at, name in course.approvals if name == wave.id]
        spans = [s for s in course.spans if s.wave == wave.id]
        yield _row(label, sizes, chart.wave(spans, asked, ink), "cyan")
    if len(plan.waves) > len(shown):
        yield Text(f"  and {len(plan.waves) - len(shown)} more waves", style="dim")
    yield _row(heads[-1], sizes, chart.out(course.spans, ink), "yellow")
    first, second = ink.batches
    waits = f"{ink.wait} closed  " if any(s.kind == "wait" for s in course.spans) else ""
    pairs = f"{ink.pair} pair  " if any(s.kind == "pair" for s in course.spans) else ""
    yield Text(f"  {first}{second} batches  {ink.soak} soak  {pairs}{waits}{ink.approval} approval, its wait not "
               "counted  out: nodes", style="dim")


def _row(label: tuple[str, str, str], sizes: Sequence[int], bar: str, style: str) -> Text:
    name, kind, nodes = (part.ljust(size) for part, size in zip(label, sizes, strict=True))
    line = Text(f"  {name}{GAP}{kind}{GAP}{nodes.strip().rjust(sizes[2])}{GAP}")
    line.append(bar, style=style)
    line.rstrip()
    return line


def _peak(spans: Sequence[Span]) -> int:
    return max((len(s.nodes) for s in spans), default=0)


class _Chart:
    """Minutes on cells."""

    def __init__(self, total: float, cells: int) -> None:
        self._total, self._cells = total, cells

    def _cell(self, minute: float) -> int:
        return min(self._cells, int(minute / self._total * self._cells))

    def axis(self) -> str:
        """Return the times, as far apart as the row has room for."""
        per_minute = self._cells / self._total
        step = next((t for t in _TICKS if t * per_minute >= _TICK_LEAST), _TICKS[-1])
        line = [" "] * (self._cells + 12)
        for number in range(int(self._total // step) + 1):
            text, at = _time(number * step), self._cell(number * step)
            if not number or at + len(text) <= self._cells + 1:
                line[at:at + len(text)] = text
        return "".join(line).rstrip()

    def wave(self, spans: Sequence[Span], approvals: Sequence[float], ink: Ink) -> str:
        """Return the bar of one wave; every batch has a cell at least, unless a neighbour needs it."""
        line = [" "] * (self._cells + 1)
        place = 0
        for span in spans:
            mark = {"soak": ink.soak, "wait": ink.wait, "pair": ink.pair}.get(span.kind, ink.batches[place % 2])
            place += span.kind == "batch"
            first = min(self._cell(span.start), self._cells - 1)
            for cell in range(first, max(first + 1, self._cell(span.end))):
                line[cell] = mark
        for at in approvals:
            line[self._cell(at)] = ink.approval
        return "".join(line).rstrip()

    def out(self, spans: Sequence[Span], ink: Ink) -> str:
        """Return the nodes out of service, cell by cell, as heights below the most."""
        heights: Counter[int] = Counter()
        for span in spans:
            first = min(self._cell(span.start), self._cells - 1)
            for cell in range(first, max(first + 1, self._cell(span.end))):
                heights[cell] = max(heights[cell], len(span.nodes))
        most, top = max(heights.values(), default=0), len(ink.levels) - 1
        levels = (-(-heights[cell] * top // most) if most else 0 for cell in range(self._cells))
        return "".join(ink.levels[level] for level in levels).rstrip()


def _time(minutes: int) -> str:
    if minutes % 1440 == 0 and minutes:
        return f"{minutes // 1440} d"
    if minutes >= 60:
        return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes // 60}:{minutes % 60:02d} h"
    return f"{minutes} min" if minutes else "0"
