"""What many simulated rollouts came to, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rich.console import Console, ConsoleOptions

from planner.execute.montecarlo import Spread, Summary
from planner.execute.trial import End
from planner.report.layout import Columns, wrapped
from planner.report.plan_view import spent
from planner.report.text import Text
from planner.schedule.plan import Plan

_BAR = 24
_TOLD = {
    End.FINISHED: "finished", End.WITH_FAILURES: "finished, some nodes failed", End.HALTED: "halted by failures",
    End.NODES_LOST: "halted, nodes lost", End.UNREACHABLE: "paused, unreachable nodes",
    End.PAIR_FAILED: "halted, a pair failed", End.NO_ROOM: "paused, no room left",
    End.NO_WINDOW: "paused, window too short",
}
_STYLES = {End.FINISHED: "green", End.WITH_FAILURES: "yellow"}


class SimulationView:
    """The answer of ``planner simulate``, laid out for the width of the terminal it is printed to."""

    def __init__(self, plan: Plan, summary: Summary, assumed: str) -> None:
        self._plan, self._summary, self._assumed = plan, summary, assumed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines; rich calls this when the view is printed."""
        width, found = options.max_width, self._summary
        full = "█" if options.encoding.lower().startswith("utf") else "#"
        yield Text(f"{found.runs} simulated rollout{'s' * (found.runs != 1)} of {self._plan.name}", style="bold")
        yield from wrapped(self._assumed, width, style="dim")
        yield Text("")
        yield Text("How they ended", style="bold")
        yield from _shares({_TOLD[end]: count for end, count in found.ends.items()}, found.runs, full, width,
                           {_TOLD[end]: style for end, style in _STYLES.items()})
        yield Text("")
        yield from _spreads(found, width)
        if found.seen_in:
            yield Text("")
            yield Text("Where the first failure was seen", style="bold")
            kinds = {w.id: f"{w.id} {w.kind}" for w in self._plan.waves}
            order = [w.id for w in self._plan.waves if w.id in found.seen_in]
            seen = {kinds[w]: found.seen_in[w] for w in order}
            yield from _shares(seen, sum(seen.values()), full, width, {})


def print_simulation(plan: Plan, summary: Summary, assumed: str, console: Console | None = None) -> None:
    """Write the answer to stdout."""
    (console or Console(highlight=False)).print(SimulationView(plan, summary, assumed), soft_wrap=True)


def _shares(counts: Mapping[str, int], whole: int, full: str, width: int, styles: Mapping[str, str]) -> Iterator[Text]:
    rows = [(name, str(count), f"{100 * count / whole:.1f} %", full * max(1, round(_BAR * count / whole)))
            for name, count in counts.items()]
    columns = Columns(rows, width=width, flexible=0, right=(1, 2))
    for row in rows:
        yield from columns.lines(row, style=styles.get(row[0], ""))


def _spreads(found: Summary, width: int) -> Iterator[Text]:
    header = ("", "p5", "p50", "p95")
    rows = [
        _row("time to the end", found.makespan, _time),
        _row("time until the stop that ended it", found.until_stop, _time),
        _row("attempts that failed", found.failures, _number),
        _row("nodes broken at the end", found.broken, _number),
        _row(f"nodes changed (of {found.moving}) when the first failure was seen", found.exposed, _number),
        _row("GPU-hours out of service", found.gpu_hours, _number),
    ]
    shown = [header, *filter(None, rows)]
    columns = Columns(shown, width=width, flexible=0, right=(1, 2, 3))
    yield from columns.lines(header, style="dim")
    for row in shown[1:]:
        yield from columns.lines(row)


def _row(name: str, spread: Spread | None, written: Callable[[float], str]) -> tuple[str, ...]:
    return () if spread is None else (name, *(written(value) for value in (spread.p5, spread.p50, spread.p95)))


def _time(minutes: float) -> str:
    return spent(round(minutes))


def _number(value: float) -> str:
    return f"{round(value):,}".replace(",", " ")
