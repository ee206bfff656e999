"""A plan for the eyes of the person who asked for it: paths, waves, risks, and what comes next."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from planner.report.console import plain_width
from planner.report.crossed import crossed
from planner.report.layout import Columns, shortened, wrapped
from planner.report.text import Text
from planner.report.timeline import ASCII, UNICODE, timeline_lines
from planner.schedule.canary import canary_sentences
from planner.schedule.estimate import Forecast, forecast
from planner.schedule.known import goal_problems
from planner.schedule.opening import begins
from planner.schedule.pairs import pair_sentences, pairs_told, plan_domains
from planner.schedule.plan import Eta, Plan, Wave
from planner.schedule.worst import outdone, worst_minutes

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

NAMES_SHOWN = 4          # cohorts, pools, nodes in one line
LEFT_ALONE_SHOWN = 10
NOTES_SHOWN = 8
CVES_SHOWN = 5
_DAYS_FROM_MINUTES = 48 * 60
_HEADING = "bold"


class PlanView:
    """The preview of a plan, laid out for the width of the terminal it is printed to."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines; rich calls this when the view is printed."""
        return self.lines(options.max_width, options.encoding)

    def lines(self, width: int, encoding: str) -> Iterator[Text]:
        """Yield the lines for a terminal of some width (columns) and encoding."""
        plan = self._plan
        ink = UNICODE if encoding.lower().startswith("utf") else ASCII
        course = forecast(plan)
        chart = list(timeline_lines(plan, course, width, ink))
        sections = [
            list(_headline(plan, course.eta, width)), list(_paths(plan, width)), list(_waves(plan, width)),
            list(_mixed(plan, width)), [Text("Timeline", style=_HEADING), *chart] if chart else [],
            list(_capacity(plan, course, width)),
            *(list(lines(plan, width)) for lines in (_gains, _crossed, _known)),
        ]
        for number, section in enumerate(filter(None, (*sections, *_lists(plan, width)))):
            yield from [Text(""), *section] if number else section


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Write the preview to a console, or to stdout."""
    view = PlanView(plan)
    if console is None and (width := plain_width(sys.stdout)) is not None:
        lines = [line.plain for line in view.lines(width, sys.stdout.encoding or "utf-8")]
        if all(map(str.isprintable, lines)):      # rich knows what to do with tabs and worse
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            return
    from rich.console import Console as RichConsole

    (console or RichConsole(highlight=False)).print(view, soft_wrap=True)


def _headline(plan: Plan, eta: Eta, width: int) -> Iterator[Text]:
    moving = sum(len(c.nodes) for c in plan.cohorts if c.steps)
    still = sum(len(c.nodes) for c in plan.cohorts if not c.steps)
    yield Text(f"Plan {plan.name}", style=_HEADING)
    yield Text(f"{_count(moving, 'node')} to change, {still} already there, {len(plan.excluded)} left alone")
    if plan.waves:
        known = {m.kind for m in plan.measured or ()}
        left = [name for kind, name in (("drain", "drains"), ("around", "prefetch")) if kind not in known]
        drains = f"{' and '.join(left)} not counted" if left else "drains and prefetch counted"
        yield from wrapped(f"expected {spent(eta.p50_minutes)}; {spent(eta.p10_minutes)} to {spent(eta.p90_minutes)} "
                           f"in four of five rollouts; soaks counted, {drains}; {basis(eta)}", width)
    if told := begins(plan):
        yield from wrapped(told, width)
    closed = ", closed hours between windows counted" * (eta.at_worst_minutes is not None)
    worst = f"{spent(worst_minutes(plan, eta))} by planning figures{closed}"
    worst = f"{worst}, drains not: earlier rollouts took longer" if outdone(plan, eta) else f"at worst {worst}"
    yield from wrapped(f"{worst}; every state was validated", width, style="dim")
    if plan.bound_minutes and moving > 1:
        busy = sum(b.minutes for w in plan.waves for b in w.batches)
        least = f"than {spent(plan.bound_minutes)} (a bound)" if plan.bound_minutes < busy else "(a bound)"
        yield from wrapped(f"batches alone take {spent(busy)}; under these limits no order of the nodes takes less "
                           f"{least}", width, style="dim")
    if plan.optimize:
        yield from wrapped(f"cost of paths compared by {', then '.join(plan.optimize)}", width, style="dim")


def spent(minutes: int) -> str:
    """Return minutes as hours and minutes, long times as days and hours."""
    if minutes >= _DAYS_FROM_MINUTES:
        return f"{minutes // 1440} d {minutes % 1440 // 60} h"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def basis(eta: Eta) -> str:
    """Say what an expectation rests on."""
    if eta.guessed and not eta.measured_nodes:
        return "by planning figures, earlier rollouts tell nothing of these steps"
    if eta.measured_nodes:
        rest = ", the rest by planning figures" if eta.guessed else ""
        return f"measured on {_count(eta.measured_nodes, 'node')} of earlier rollouts{rest}"
    return "by planning figures, nothing was measured"


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
    header, domains = ("wave", "kind", "nodes", "batches", "of pools", "then"), plan_domains(plan)
    rows = [(w.id, w.kind, str(sum(len(b.nodes) for b in w.batches)), str(len(w.batches)), _of_pools(w, plan),
             _after(w, domains)) for w in plan.waves]
    yield from _table("Waves", header, rows, width, flexible=4, right=(2, 3))


def _of_pools(wave: Wave, plan: Plan) -> str:
    counts = Counter(plan.nodes[name].pool for batch in wave.batches for name in batch.nodes)
    return shortened((f"{count} {pool}" for pool, count in sorted(counts.items())), NAMES_SHOWN)


def _after(wave: Wave, domains: Mapping[str, tuple[str, ...]]) -> str:
    soak = [f"soak {wave.soak_minutes} min"] * (wave.soak_minutes > 0)
    return ", ".join([*pairs_told(wave, domains), *soak, *["approval"] * wave.approval])


def _mixed(plan: Plan, width: int) -> Iterator[Text]:
    header = ("domain", "in", "from", "to", "batches", "at worst", "fenced by")
    rows = [(w.domain, ", ".join(w.components), w.opens, w.closes, str(w.batches),
             spent(w.minutes) + " + approval" * w.approval, ", ".join((*w.fences, *["you"] * bool(w.unfenced))))
            for w in plan.mixed or ()]
    yield from _table("Mixed while it moves: no job may span old and new nodes", header, rows, width, flexible=6,
                      right=(4,))


def _capacity(plan: Plan, course: Forecast, width: int) -> Iterator[Text]:
    header = ("pool", "nodes", "may be down", "per domain", "out at most", "down now")
    moving = {pool for c in plan.cohorts if c.steps for pool in c.pools}
    rows = [(name, str(p.nodes), str(p.max_unavailable),
             "-" if p.max_unavailable_per_domain is None else str(p.max_unavailable_per_domain),
             str(course.peak_of_pool[name]), shortened(p.already_down, NAMES_SHOWN) or "-")
            for name, p in sorted(plan.pools.items()) if name in moving]
    yield from _table("Capacity", header, rows, width, flexible=5, right=(1, 2, 3, 4))
    if rows:
        yield from wrapped(
            f"{_count(course.eta.gpu_hours, 'GPU-hour')} out of service expected, "
            f"{course.eta.gpu_hours_at_worst} at worst; "
            f"{_count(course.eta.peak_nodes_out, 'node')} out at once at most", width, indent="  ")
    windows: dict[tuple[str, ...], list[str]] = {}
    for name, limit in sorted(plan.pools.items()):
        if limit.windows and name in moving:
            windows.setdefault(limit.windows, []).append(name)
    for times, names in windows.items():
        yield from wrapped(f"nodes of {', '.join(names)} leave service only in: {'; '.join(times)}", width, indent="  ")
    for told in (*canary_sentences(plan), *pair_sentences(plan)):
        yield from wrapped(told, width, indent="  ")


def _gains(plan: Plan, width: int) -> Iterator[Text]:
    if plan.gains:
        yield Text("What is gained", style=_HEADING)
    for gain in plan.gains or ():
        yield from wrapped(f"no more {gain.claim} ({_cohorts(gain.cohorts, plan)}): {gain.statement}", width,
                           indent="  ", style="green")


def _crossed(plan: Plan, width: int) -> Iterator[Text]:
    found = crossed(plan)
    if not found.notes and not found.fixes:
        return
    yield Text("Release notes and fixes crossed", style=_HEADING)
    for component, names in found.fixes:
        yield from wrapped(f"{component}: {_count(len(names), 'CVE')} fixed on the way: "
                           f"{shortened(names, CVES_SHOWN)}", width, indent="  ", style="green")
    for note, ids in found.notes[:NOTES_SHOWN]:
        yield from wrapped(f"{note} ({_cohorts(ids, plan)})", width, indent="  ")
    if (more := len(found.notes) - NOTES_SHOWN) > 0:
        yield from wrapped(f"and {more} more (planner plan -o markdown)", width, indent="  ", style="dim")


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
        ("Handed over: the rollout stops there until it is done", _handed_over(plan), "yellow"),
        ("Remarks on steps", _remarks(plan), "yellow"),
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


def _handed_over(plan: Plan) -> list[str]:
    """Return what people, or their own automation, have to do, and which steps end the plan."""
    found: dict[tuple[str, ...], list[str]] = {}
    for cohort in plan.cohorts:
        for step in cohort.steps:
            if step.handover:
                told = [f"{number}. {text}" for number, text in enumerate(step.instructions or (), start=1)]
                end = ["after it, discover and plan again: what the nodes can have then is not known before"]
                found.setdefault((step.title, *told, *end * bool(step.ends)), []).append(f"{cohort.id} {step.id}")
    return [line for lines, places in found.items()
            for line in (f"{shortened(places, NAMES_SHOWN)}: {lines[0]}", *(f"  {text}" for text in lines[1:]))]


def _remarks(plan: Plan) -> list[str]:
    """Return what people should know or do about steps, each text once."""
    found: dict[str, list[str]] = {}
    for cohort in plan.cohorts:
        for step in cohort.steps:
            for remark in step.remarks or ():
                found.setdefault(remark, []).append(f"{cohort.id} {step.id}")
    return [f"{shortened(places, NAMES_SHOWN)}: {remark}" for remark, places in found.items()]


def _no_return(plan: Plan) -> list[str]:
    return [f"{c.id} after {c.no_return_after}: {c.no_return_why}" for c in plan.cohorts if c.no_return_after]


def _left_alone(plan: Plan) -> list[str]:
    listed = [f"{e.node}: {', '.join(part for part in (e.reason, e.detail) if part)}"
              for e in plan.excluded[:LEFT_ALONE_SHOWN]]
    more = len(plan.excluded) - LEFT_ALONE_SHOWN
    return [*listed, f"and {more} more (planner plan -o json)"] if more > 0 else listed


def _count(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + 's'}"
