"""Charts as SVG for reports: what happens when, and how many nodes are out. Colours come from the page's style."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from planner.emit.review import count, hours
from planner.schedule.estimate import Forecast, Span
from planner.schedule.plan import Plan

WIDTH = 1000
LEFT = 132          # room for labels
RIGHT = 14
ROW = 30
BAR = 18
AREA = 74           # height of the chart of nodes that are out
_TICKS = (5, 10, 15, 30, 60, 120, 240, 480, 720, 1440, 2880, 10080, 40320)
_TICKS_MOST = 10
_IDLE = {"soak": "soak", "wait": "no maintenance window is open"}


def timeline_svg(plan: Plan, course: Forecast) -> str:
    """Return the chart: a row a wave, below it the nodes that are out of service; "" where nothing moves."""
    total = course.spans[-1].end if course.spans else 0.0
    if not total:
        return ""
    scale = (WIDTH - LEFT - RIGHT) / total
    bottom = 28 + ROW * len(plan.waves)
    height = bottom + 16 + AREA + 8
    lines = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Timeline of the rollout">',
             *_axis(total, scale, height - 8)]
    for number, wave in enumerate(plan.waves):
        top = 28 + ROW * number
        nodes = sum(len(s.nodes) for s in course.spans if s.wave == wave.id and s.kind == "batch")
        lines.append(f'<text class="label" x="0" y="{top + 14}">{escape(wave.id)} {wave.kind}'
                     f'<tspan class="faint"> {nodes}</tspan></text>')
        lines += [_bar(span, scale, top) for span in course.spans if span.wave == wave.id]
        lines += [_approval(at, scale, top) for at, name in course.approvals if name == wave.id]
    lines += _area(course.spans, scale, bottom + 16)
    return "\n".join([*lines, "</svg>"])


def _x(minutes: float, scale: float) -> float:
    return round(LEFT + minutes * scale, 1)


def _axis(total: float, scale: float, bottom: int) -> Iterator[str]:
    step = next((t for t in _TICKS if total / t <= _TICKS_MOST), _TICKS[-1])
    for number in range(int(total // step) + 1):
        x = _x(number * step, scale)
        yield f'<line class="grid" x1="{x}" y1="20" x2="{x}" y2="{bottom}"/>'
        if x < WIDTH - 40:
            yield f'<text class="tick" x="{x + 3}" y="13">{hours(number * step) if number else "start"}</text>'


def _bar(span: Span, scale: float, top: int) -> str:
    x, width = _x(span.start, scale), max(1.0, round((span.end - span.start) * scale - 1, 1))
    took = hours(max(1, round(span.end - span.start)))
    name = span.batch or "all-reduce of a pair"
    told = f"{name}: {count(len(span.nodes), 'node')}, {took}: {', '.join(span.nodes[:12])}" \
        + (" …" if len(span.nodes) > 12 else "") if span.nodes else f"{_IDLE[span.kind]}, {took}"
    return (f'<rect class="{span.kind}" x="{x}" y="{top}" width="{width}" height="{BAR}" rx="2">'
            f"<title>{escape(told)}</title></rect>")


def _approval(at: float, scale: float, top: int) -> str:
    x, middle = _x(at, scale), top + BAR // 2
    return (f'<path class="approval" d="M{x} {middle - 9}l8 9l-8 9l-8 -9z">'
            "<title>a person approves; the wait is not counted</title></path>")


def _area(spans: tuple[Span, ...], scale: float, top: int) -> Iterator[str]:
    """Yield the nodes that are out as steps of a filled line."""
    most, base = max(len(s.nodes) for s in spans), top + AREA
    points = [f"M{LEFT} {base}"]
    for span in spans:
        y = round(base - len(span.nodes) / most * AREA, 1) if most else base
        points.append(f"L{_x(span.start, scale)} {y}L{_x(span.end, scale)} {y}")
    points.append(f"L{_x(spans[-1].end, scale)} {base}Z")
    yield f'<text class="label" x="0" y="{top + 12}">nodes out</text>'
    yield f'<text class="tick" x="0" y="{top + 28}">at most {most}</text>'
    yield f'<line class="grid" x1="{LEFT}" y1="{base}" x2="{WIDTH - RIGHT}" y2="{base}"/>'
    yield f'<path class="out" d="{"".join(points)}"/>'
