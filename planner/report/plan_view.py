"""A plan for the eyes of the person who asked for it: paths, waves, risks, and what comes next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions
from rich.text import Text

from planner.report.layout import Columns, shortened, wrapped
from planner.schedule.known import goal_problems
from planner.schedule.plan import Plan, Wave

NAMES_SHOWN = 4          # cohorts, pools, nodes in one line
LEFT_ALONE_SHOWN = 10
_HEADING = "bold"


class PlanView:
    """The preview of a plan, laid out for the width of the terminal it is printed to."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines; rich calls this when the view is printed."""
        plan, width = self._plan, options.max_width
        sections = [list(lines(plan, width)) for lines in (_headline, _paths, _waves, _pools, _known)]
        for number, section in enumerate(filter(None, (*sections, *_lists(plan, width)))):
            yield from [Text(""), *section] if number else section


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Write the preview to stdout."""
    (console or Console(highlight=False)).print(PlanView(plan), soft_wrap=True)


def _headline(plan: Plan, width: int) -> Iterator[Text]:
    moving = sum(len(c.nodes) for c in plan.cohorts if c.steps)
    still = sum(len(c.nodes) for c in plan.cohorts if not c.steps)
    hours, minutes = divmod(plan.eta_minutes, 60)
    yield Text(f"Plan {plan.name}", style=_HEADING)
    yield Text(f"{_count(moving, 'node')} to change, {still} already there, {len(plan.excluded)} left alone")
    yield from wrapped(f"at worst {hours} h {minutes:02d} min with soaks, without drains; every state was validated",
                       width, style="dim")


def _paths(plan: Plan, width: int) -> Iterator[Text]:
    yield Text("Paths", style=_HEADING)
    header = ("", "what changes", "disruption", "min")
    rows = {c.id: [(s.id, s.title, s.disruption + ("+gate" if s.quick_gate else ""), str(s.minutes)) for s in c.steps]
            for c in plan.cohorts}
    columns = Columns([header, *(row for own in rows.values() for row in own)], width=width, flexible=1, right=(3,),
                      styles=("cyan", "", "yellow", ""))
    if any(rows.values()):
        yield from columns.lines(header, style="dim")
    for number, cohort in enumerate(plan.cohorts):
        if number:
            yield Text("")
        pools = f"pool{'s' * (len(cohort.pools) > 1)} {shortened(cohort.pools, NAMES_SHOWN)}"
        yield from wrapped(f"{cohort.id}: {_count(len(cohort.nodes), 'node')}, {cohort.gpu}, {pools}", width,
                           style=_HEADING)
        for row in rows[cohort.id]:
            yield from columns.lines(row)
        if not cohort.steps:
            yield Text("  already at the target", style="dim")


def _waves(plan: Plan, width: int) -> Iterator[Text]:
    header = ("wave", "kind", "nodes", "batches", "of pools", "then")
    rows = [(w.id, w.kind, str(sum(len(b.nodes) for b in w.batches)), str(len(w.batches)), _of_pools(w, plan),
             _after(w)) for w in plan.waves]
    yield from _table("Waves", header, rows, width, flexible=4, right=(2, 3))


def _of_pools(wave: Wave, plan: Plan) -> str:
    counts = Counter(plan.nodes[name].pool for batch in wave.batches for name in batch.nodes)
    return shortened((f"{count} {pool}" for pool, count in sorted(counts.items())), NAMES_SHOWN)


def _after(wave: Wave) -> str:
    parts = [f"soak {wave.soak_minutes} min"] if wave.soak_minutes else []
    return ", ".join([*parts, *(["approval"] if wave.approval else [])])


def _pools(plan: Plan, width: int) -> Iterator[Text]:
    header = ("pool", "nodes", "may be down", "per failure domain", "down now")
    moving = {pool for c in plan.cohorts if c.steps for pool in c.pools}
    rows = [(name, str(p.nodes), str(p.max_unavailable),
             "-" if p.max_unavailable_per_domain is None else str(p.max_unavailable_per_domain),
             shortened(p.already_down, NAMES_SHOWN) or "-")
            for name, p in sorted(plan.pools.items()) if name in moving]
    yield from _table("Pools", header, rows, width, flexible=4, right=(1, 2, 3))


def _table(title: str, header: tuple[str, ...], rows: Sequence[tuple[str, ...]], width: int, *, flexible: int,
           right: tuple[int, ...]) -> Iterator[Text]:
    if not rows:
        return
    columns = Columns([header, *rows], width=width, flexible=flexible, right=right,
                      styles=("cyan", *("",) * (len(header) - 1)))
    yield Text(title, style=_HEADING)
    yield from columns.lines(header, style="dim")
    for row in rows:
        yield from columns.lines(row)


def _known(plan: Plan, width: int) -> Iterator[Text]:
    found = goal_problems(plan.cohorts)
    if found:
        yield Text("Known problems at the goal (they block nothing)", style=_HEADING)
    for problem in found:
        state = "already there" if problem.at_start else "new"
        yield from wrapped(f"{problem.claim}: {state}, {_cohorts(problem.cohorts, plan)}", width, indent="  ",
                           style="dim" if problem.at_start else "yellow")
        for word, text in (("", problem.statement), ("here: ", "; ".join(problem.here)), ("hint: ", problem.hint),
                           ("source: ", problem.source)):
            if text:
                yield from wrapped(word + text, width, indent="    ")


def _cohorts(ids: tuple[str, ...], plan: Plan) -> str:
    everywhere = len(ids) == len(plan.cohorts) > 1
    return "all cohorts" if everywhere else shortened(ids, NAMES_SHOWN)


def _lists(plan: Plan, width: int) -> Iterator[list[Text]]:
    for title, items, style in (
        ("Inherited problems (already there before any step)", _inherited(plan), "yellow"),
        ("Risks accepted in the target", [f"{r.claim}: {r.statement}" for r in plan.risks], "yellow"),
        ("Points of no return", _no_return(plan), "yellow"),
        ("Worth knowing", list(plan.warnings), "cyan"),
        ("Left alone", _left_alone(plan), "dim"),
    ):
        lines = (line for item in items for line in wrapped(item, width, indent="  ", style=style))
        yield [Text(title, style=_HEADING), *lines] if items else []


def _inherited(plan: Plan) -> list[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for cohort in plan.cohorts:
        for item in cohort.inherited:
            found.setdefault((item.statement, item.source), []).append(cohort.id)
    return [f"{_cohorts(tuple(dict.fromkeys(ids)), plan)}: {statement} [{source}]"
            for (statement, source), ids in found.items()]


def _no_return(plan: Plan) -> list[str]:
    return [f"{c.id} after {c.no_return_after}: {c.no_return_why}" for c in plan.cohorts if c.no_return_after]


def _left_alone(plan: Plan) -> list[str]:
    listed = [f"{e.node}: {', '.join(part for part in (e.reason, e.detail) if part)}"
              for e in plan.excluded[:LEFT_ALONE_SHOWN]]
    more = len(plan.excluded) - LEFT_ALONE_SHOWN
    return [*listed, f"and {more} more (planner plan -o json)"] if more > 0 else listed


def _count(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + 's'}"
