"""Plans as diagrams in text: Graphviz and Mermaid. Names of nodes and pools may hold anything; none of it is markup."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from planner.emit.review import count, hours, label, path_flowchart
from planner.schedule.estimate import Span, forecast
from planner.schedule.opening import first_opening
from planner.schedule.plan import Cohort, Plan

NODES_SHOWN = 6
MINUTES_OF_A_DAY = 1440
_MIDNIGHT = datetime(2001, 1, 1)     # noqa: DTZ001  # day 1 of some year: only differences are meant

_DISRUPTION_FILL = {"reboot": "#f6c99b", "module-reload": "#f6e3a1", "drain": "#cfe3f7", "restart": "#dff0dc"}


def render_dot(plan: Plan) -> str:
    """Return a Graphviz graph: one row a cohort, from today to the goal; what has no way back is marked."""
    lines = [f"digraph {_quoted(plan.name)} {{", '  graph [rankdir=LR, fontname="sans-serif", compound=true];',
             '  node [shape=box, style="rounded,filled", fillcolor="#f4f4f2", fontname="sans-serif", fontsize=11];',
             '  edge [color="#666666"];']
    for number, cohort in enumerate(plan.cohorts, start=1):
        lines += [f"  {line}" for line in _cluster(number, cohort)]
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(number: int, cohort: Cohort) -> Iterator[str]:
    def key(place: int) -> str:
        return f"c{number}s{place}"

    title = f"{cohort.id}: {count(len(cohort.nodes), 'node')}, {cohort.gpu}, {', '.join(cohort.pools)}"
    yield f"subgraph cluster_{number} {{"
    yield f'  label={_quoted(title)}; fontname="sans-serif"; color="#bbbbbb"; style=rounded;'
    names = ", ".join(cohort.nodes[:NODES_SHOWN]) + (" …" if len(cohort.nodes) > NODES_SHOWN else "")
    there = "" if cohort.steps else "\nalready at the target"
    yield f"  {key(0)} [shape=ellipse, label={_quoted('today' + there)}, tooltip={_quoted(names)}];"
    beyond = False
    for place, step in enumerate(cohort.steps, start=1):
        gate = ", quick gate" * step.quick_gate + ", left to people" * bool(step.handover)
        text = f"{step.id}: {step.title}\n{step.disruption}, {step.minutes} min{gate}"
        fill = _DISRUPTION_FILL.get(step.disruption, "#f4f4f2")
        beyond = beyond or step.id == cohort.no_return_after
        border = ', color="#b00020", penwidth=2' if step.id == cohort.no_return_after else ""
        yield f"  {key(place)} [label={_quoted(text)}, fillcolor={_quoted(fill)}{border}];"
        yield f"  {key(place - 1)} -> {key(place)};"
    if cohort.steps:
        end = len(cohort.steps) + 1
        yield f'  {key(end)} [shape=ellipse, label="standard gate,\\nback in service"];'
        yield f"  {key(end - 1)} -> {key(end)};"
        back = 'label="way back", style=dashed' if not beyond else \
            'label="way back, not by packages alone", style=dotted, color="#b00020"'
        yield f"  {key(end)} -> {key(0)} [{back}, constraint=false];"
    yield "}"


def _quoted(text: str) -> str:
    """Return a Graphviz string: quotes and backslashes of the text are text, line feeds start lines."""
    printable = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    return '"' + printable.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def render_mermaid(plan: Plan) -> str:
    """Return Markdown with two Mermaid diagrams: the waves in time, and the longest path of any cohort."""
    lines = [f"# {label(plan.name)}", "", "Expected course; waits for approval are not counted."
             + " Times are UTC." * bool(plan.rollout.not_before), "", "```mermaid",
             *_gantt(plan), "```"]
    moving = [c for c in plan.cohorts if c.steps]
    if moving:
        cohort = max(moving, key=lambda c: (len(c.steps), c.cost.get("minutes", 0)))
        lines += ["", f"Path of {label(cohort.id)} ({count(len(cohort.nodes), 'node')}), the longest one.", "",
                  "```mermaid", *path_flowchart(cohort), "```"]
    return "\n".join(lines) + "\n"


def _gantt(plan: Plan) -> Iterator[str]:
    course = forecast(plan)
    spans: dict[str, list[Span]] = {wave.id: [] for wave in plan.waves}
    for span in course.spans:
        spans[span.wave].append(span)
    yield "gantt"
    yield f"  title {task(plan.name)}: {hours(course.eta.p50_minutes)} expected"
    # Where nothing says when it begins these are times that nobody means: Mermaid knows points in time only.
    begin = first_opening(plan).astimezone(UTC).replace(tzinfo=None) if plan.rollout.not_before else _MIDNIGHT
    yield "  dateFormat YYYY-MM-DDTHH:mm:ss"
    days = "%Y-%m-%d" if plan.rollout.not_before else "day %j"
    yield f"  axisFormat {'' if course.spans and course.spans[-1].end < MINUTES_OF_A_DAY else f'{days}, '}%H:%M"
    for wave in plan.waves:
        yield f"  section {task(wave.id)} {wave.kind}"
        for place, span in enumerate(spans[wave.id]):
            name = f"{task(span.batch)} {count(len(span.nodes), 'node')}" if span.kind == "batch" else span.kind
            marks = {"pair": "crit, ", "batch": "active, " if place % 2 else ""}
            mark = marks.get(span.kind, "done, ")
            yield f"  {name} :{mark}{_moment(begin, span.start)}, {_moment(begin, span.end)}"
        yield from (f"  approval :milestone, crit, {_moment(begin, at)}, 0min" for at, name in course.approvals
                    if name == wave.id)


def _moment(begin: datetime, minutes: float) -> str:
    return (begin + timedelta(seconds=round(minutes * 60))).isoformat()


def task(text: str) -> str:
    """Return a text for a place of a Gantt diagram: what separates fields or starts markup there becomes a blank."""
    return " ".join("".join(c if c.isprintable() and c not in ":;#,%<>&`\"'{}[]()\\" else " " for c in text).split())
