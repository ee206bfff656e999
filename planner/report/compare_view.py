"""A node before and after a change: a table for terminals, JSON, and the samples as a chart (SVG, alone or in a page).

Nothing is loaded from anywhere and no script runs; every name, also one that a hostile node chose, is shown as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from statistics import median
from typing import Any

from rich.console import Console, ConsoleOptions

from planner.gates.compare import Compared, Comparison, si, signed
from planner.gates.failures import Verdict
from planner.gates.figures import COLLECTIVE, LOAD, PAIRS, RANKS, Baseline, Figure, Gpu
from planner.gates.pairs import DIRECTIONS
from planner.gates.statistics import Change, pooled
from planner.gates.verdicts import Decision, GateResult
from planner.report.layout import Columns, wrapped
from planner.report.style import STYLE
from planner.report.text import Text

# The page asks for nothing, so nothing may be loaded, whatever a name holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

WIDTH = 1000
LEFT = 260          # room for labels
RIGHT = 150         # room for what came of it
ROW = 44
HEAD = 40
_TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_TICKS_MOST = 10
_REACH_LEAST = 0.06     # the limits of throughput are always in sight
_REACH_MOST = 1.0
_STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.SKIP: "dim", Verdict.INCONCLUSIVE: "magenta"}
_PAIRS_MOST = 6         # pairs from which those that passed are one line of the table
_MANY = 60              # samples of one row from which their marks are small
_RATES, _TIMES = ("bandwidth", "compute", "collective"), ("latency", "latency-async")
# title, parts, classes: each with an axis of its own
_PANELS = (("throughput", ("",), _RATES), ("latency", ("",), _TIMES), ("between two GPUs", (PAIRS,), _RATES),
           ("all-reduce", (COLLECTIVE, RANKS), _RATES), ("all-reduce of few bytes", (COLLECTIVE, RANKS), _TIMES),
           ("under load", (LOAD,), _RATES), ("the processor under load", (LOAD,), _TIMES))

_WHOLE = ".figures td:not(:first-child) { white-space: nowrap; }"      # the names of GPUs may take several lines

CHART_STYLE = """
.cv { --ink: #1d2329; --soft: #616b75; --page: #ffffff; --line: #e1e3e0; --before: #616b75; --after: #3569a8;
  --warned: #f5e8b8; --failed: #f3cdbb; }
@media (prefers-color-scheme: dark) { .cv { --ink: #e4e6e3; --soft: #9aa4ac; --page: #1d2125; --line: #32383d;
  --before: #9aa4ac; --after: #6fa3e0; --warned: #524720; --failed: #5d2f1f; } }
.cv text { font: 13px system-ui, sans-serif; fill: var(--ink); } .cv .soft { fill: var(--soft); font-size: 12px; }
.cv .page { fill: var(--page); } .cv .grid { stroke: var(--line); } .cv .zero { stroke: var(--soft); }
.cv .warned { fill: var(--warned); } .cv .failed { fill: var(--failed); }
.cv .before { fill: none; stroke: var(--before); stroke-width: 1.5; }
.cv .after { fill: var(--after); stroke: none; }
.cv .mb { stroke: var(--before); stroke-width: 2; } .cv .ma { stroke: var(--after); stroke-width: 3; }
""".strip()


def text(value: str) -> str:
    """Return a text that HTML and SVG show as it is, on one line; what cannot be printed becomes a blank."""
    return escape(" ".join(_plain(value).split()))


def comparison_json(found: Comparison, decision: Decision) -> dict[str, Any]:
    """Return the comparison as plain JSON values: conditions, each figure, the decision."""
    return {"schema": "planner.comparison/1", "before": _taken(found.before), "after": _taken(found.after),
            "figures": [_figure_json(row) for row in found.rows], "decision": decision.as_dict()}


def _taken(document: Baseline) -> dict[str, Any]:
    taken_at = document.taken_at.isoformat().replace("+00:00", "Z") if document.taken_at else None
    return {"host": document.host, "taken_at": taken_at, "gate": document.gate,
            "kernels": document.kernels, "stand_in": document.stand_in,
            "gpus": [{"uuid": gpu.uuid, "name": gpu.name, "driver": gpu.driver, "slot": gpu.slot,
                      "power_limit_w": gpu.power_limit_w, "sm_clock_mhz": gpu.sm_clock_mhz,
                      "memory_clock_mhz": gpu.memory_clock_mhz, "temperature_c": gpu.temperature_c}
                     for gpu in _by_uuid(document)],
            "absent": [{"part": each.part, "tried": each.tried, "why": each.why} for each in document.absent]}


def _figure_json(row: Compared) -> dict[str, Any]:
    change, result = row.change, row.result
    value: dict[str, Any] = {"gpu": row.gpu, "gpus": list(row.gpus), "part": row.part, "figure": row.figure,
                             "unit": row.unit, "verdict": result.verdict.value, "code": result.code,
                             "evidence": list(result.evidence)}
    if change is not None:
        value |= {"before": change.before, "after": change.after, "loss": change.loss, "warn": change.warn,
                  "fail": change.fail, "noise": change.sigma, "spread_before": change.spread_before,
                  "spread_after": change.spread_after, "apart_before": change.apart_before,
                  "apart_after": change.apart_after, "unsteady": change.unsteady}
    return value


class CompareView:
    """The table, laid out for the width of the terminal it is printed to."""

    def __init__(self, found: Comparison, decision: Decision) -> None:
        self._found, self._decision = found, decision

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines; rich calls this when the view is printed."""
        width, found = options.max_width, self._found
        yield from wrapped(_headline(found), width, style="bold")
        header = ("figure", "before", "after", "change", "fails at", "spread", "verdict")
        cells = [_cells(row) for row in found.rows]
        columns = Columns([header, *cells], width=width, flexible=0, right=(1, 2, 3, 4, 5))
        shown = {id(row): line for row, line in zip(found.rows, cells, strict=True)}
        for title, rows in _sections(found):
            yield Text("")
            yield from wrapped(title, width)
            if rows:
                yield from columns.lines(header, style="dim")
            for row in rows:
                yield from columns.lines(shown[id(row)], style=_STYLES.get(row.result.verdict, "red"))
        for words in _absences(found):
            yield Text("")
            yield from wrapped(words, width, style="dim")
        yield Text("")
        decision = self._decision
        yield from wrapped(f"verdict: {decision.verdict.value}, {decision.action.value}", width,
                           style=_STYLES.get(decision.verdict, "red"))
        for reason in (*_common(found), *_reasons(decision)):
            yield from wrapped(reason, width, indent="  ")


def print_comparison(found: Comparison, decision: Decision, console: Console | None = None) -> None:
    """Write the table to stdout."""
    (console or Console(highlight=False)).print(CompareView(found, decision), soft_wrap=True)


def _headline(found: Comparison) -> str:
    before, after = found.before, found.after
    made_up = " (stand-in: no real GPU was measured)" if before.stand_in or after.stand_in else ""
    if before.taken_at is None or after.taken_at is None:
        return f"{after.host}: before and after{made_up}"
    return f"{after.host}: {before.taken_at:%Y-%m-%d %H:%M} and {after.taken_at:%Y-%m-%d %H:%M} UTC{made_up}"


def _sections(found: Comparison) -> Iterator[tuple[str, list[Compared]]]:
    """Yield title and rows: each GPU with its load, then pairs and all-reduces."""
    for gpu in _by_uuid(found.before):
        yield _gpu_line(gpu, found.after.gpu(gpu.uuid)), [row for row in found.rows if row.gpus == (gpu.uuid,)]
    groups = [(key, list(rows)) for key, rows in groupby((row for row in found.rows if len(row.gpus) > 1),
                                                         lambda row: (row.part, row.gpus))]
    good = [rows for (part, _), rows in groups if part == PAIRS and all(r.result.code == "OK" for r in rows)]
    few = sum(part == PAIRS for (part, _), _ in groups) <= _PAIRS_MOST
    for (part, gpus), rows in groups:
        if few or rows not in good:
            yield _group_line(part, gpus), rows
    if good and not few:
        yield _passed_line(good), []


def _passed_line(pairs: Sequence[Sequence[Compared]]) -> str:
    changes = sorted((row.change for rows in pairs for row in rows if row.change), key=lambda change: -change.loss)
    return (f"between {len(pairs)} pairs of GPUs that passed in both directions: from {signed(changes[0])} to "
            f"{signed(changes[-1])}")


def _common(found: Comparison) -> Iterator[str]:
    """Yield which GPU all pairs that failed have in common: its link is the one to look at."""
    failed = {row.gpus for row in found.rows if row.part == PAIRS and row.result.verdict is Verdict.FAIL}
    shared = set.intersection(*(set(gpus) for gpus in failed)) if len(failed) > 1 else set()
    for uuid in sorted(shared):
        yield f"all {len(failed)} pairs that failed have {uuid} in common"


def _group_line(part: str, gpus: tuple[str, ...]) -> str:
    if part == PAIRS:
        return f"between {gpus[0]} and {gpus[1]}: forth from the first to the second, back the other way"
    how = "ranks in processes of their own" if part == RANKS else "one process"
    return f"all-reduce over {len(gpus)} GPUs, {how}: {', '.join(gpus)}"


def _absences(found: Comparison) -> Iterator[str]:
    """Yield a sentence for each part that neither measurement has, or only one."""
    for when, document in (("before", found.before), ("after", found.after)):
        told = [f"no {each.part}: {each.why}" for each in document.absent]
        if told:
            yield f"{when}: {'; '.join(told)}"


def _gpu_line(old: Gpu, new: Gpu | None) -> str:
    drivers = old.driver if new is None or new.driver == old.driver else f"{old.driver} → {new.driver}"
    moved = f", slot {old.slot} → {new.slot}" if new and old.slot and new.slot and new.slot != old.slot else ""
    return f"{old.uuid}  {old.name}, driver {drivers}{moved}" + ("" if new else "; it is gone")


def _reasons(decision: Decision) -> list[str]:
    """Return a sentence for every answer that is no pass; what is said of several figures is said once."""
    told: dict[tuple[str, tuple[str, ...]], list[GateResult]] = {}
    for result in decision.results:
        if result.verdict is not Verdict.PASS:
            told.setdefault((result.code, result.evidence), []).append(result)
    one = dict(zip([r for r in decision.results if r.verdict is not Verdict.PASS], decision.reasons, strict=True))
    lines = []
    for (code, evidence), results in told.items():
        figures, subjects = ([*dict.fromkeys(names)] for names in zip(*(r.key for r in results), strict=True))
        if len(results) == 1 or len(figures) * len(subjects) != len(results):
            lines += [one[result] for result in results]
        else:
            lines.append(f"{', '.join(figures)} of {', '.join(subjects)}: {'; '.join(evidence)} ({code})")
    return lines


def _cells(row: Compared) -> tuple[str, ...]:
    word, change, name = row.result.verdict.value, row.change, _plain(row.figure)
    if change is None:
        return (name, *_two_medians(row), "-", "-", "-", f"{word} {row.result.code}")
    said = word if row.result.code == "OK" else f"{word} {row.result.code}"
    return (name, si(change.before, _plain(row.unit)), si(change.after, _plain(row.unit)), signed(change),
            _limit(row.before, change), f"{100 * change.spread_before:.1f} → {100 * change.spread_after:.1f} %", said)


def _limit(figure: Figure | None, change: Change) -> str:
    sign = "−" if figure is None or figure.better == "higher" else "+"
    return f"{sign}{100 * change.fail:.1f} %"


def _plain(value: str) -> str:
    return "".join(c if c.isprintable() else " " for c in value)


def _by_uuid(document: Baseline) -> list[Gpu]:
    return sorted(document.gpus, key=lambda gpu: gpu.uuid)


# --- the chart


def comparison_svg(found: Comparison) -> str:
    """Return the samples as one SVG file, readable alone, in light and dark."""
    rows = [row for row in found.rows if row.before is not None or row.after is not None]
    lines: list[str] = []
    top = 54
    for title, parts, kinds in _PANELS:
        panel = [row for row in rows if row.part in parts and _shown(row).kind in kinds]
        if panel:
            lines += _panel(title, panel, top, many=len(found.before.gpus) > 1)
            top += HEAD + ROW * len(panel) + 14
    height = top + 6
    legend = "after, as difference from the median before; bars: medians; shaded: warning and failure"
    head = f'xmlns="http://www.w3.org/2000/svg" class="cv" viewBox="0 0 {WIDTH} {height}"'
    return "\n".join([
        f'<svg {head} role="img" aria-label="Samples before and after">',
        f"<style>{CHART_STYLE}</style>", f'<rect class="page" width="{WIDTH}" height="{height}"/>',
        f'<text x="8" y="22">{text(_headline(found))}</text>',
        '<circle class="before" cx="14" cy="40" r="3.5"/><text class="soft" x="24" y="44">before</text>',
        f'<circle class="after" cx="84" cy="40" r="3.5"/><text class="soft" x="94" y="44">{legend}</text>',
        *lines, "</svg>"]) + "\n"


def _shown(row: Compared) -> Figure:
    figure = row.before or row.after
    assert figure is not None, "rows without a figure are left out"
    return figure


class _Axis:
    """Differences from the median before, as fractions, on pixels; what is beyond the ends is drawn at the ends."""

    def __init__(self, rows: Sequence[Compared]) -> None:
        far = [abs(share) for row in rows for share in (*_shares(row, row.before), *_shares(row, row.after))]
        limits = [row.change.fail for row in rows if row.change]
        wanted = max([_REACH_LEAST, *(1.1 * share for share in far), *(1.2 * limit for limit in limits)])
        self.reach = min(_REACH_MOST, wanted)
        self._middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
        self._scale = (WIDTH - LEFT - RIGHT) / 2 / self.reach

    def x(self, share: float) -> float:
        """Return the place of a fraction."""
        return round(self._middle + max(-self.reach, min(self.reach, share)) * self._scale, 1)

    def ticks(self) -> Iterator[float]:
        """Yield the fractions that are labelled."""
        step = next((t for t in _TICKS if 2 * self.reach / t <= _TICKS_MOST), _TICKS[-1])
        most = int(self.reach / step + 1e-9)
        yield from (number * step for number in range(-most, most + 1))


def _shares(row: Compared, figure: Figure | None) -> list[float]:
    """Return the samples as differences from the median before, or from their own where there is none before."""
    if figure is None:
        return []
    base = median(pooled((row.before or figure).samples))
    return [value / base - 1 for value in pooled(figure.samples)]


def _panel(title: str, rows: Sequence[Compared], top: int, *, many: bool) -> Iterator[str]:
    axis, bottom = _Axis(rows), top + HEAD + ROW * len(rows)
    yield f'<text x="8" y="{top + 26}" font-weight="600">{title}</text>'
    for tick in axis.ticks():
        x, name = axis.x(tick), "zero" if tick == 0 else "grid"
        yield f'<line class="{name}" x1="{x}" y1="{top + HEAD - 8}" x2="{x}" y2="{bottom}"/>'
        label = "0" if tick == 0 else f"{100 * tick:+.4g} %".replace("-", "−")
        yield f'<text class="soft" x="{x}" y="{top + 24}" text-anchor="middle">{label}</text>'
    for number, row in enumerate(rows):
        yield from _strip(row, axis, top + HEAD + ROW * number, many=many)


def _strip(row: Compared, axis: _Axis, top: int, *, many: bool) -> Iterator[str]:
    figure, change, result = _shown(row), row.change, row.result
    if change is not None:
        worse = -1 if figure.better == "higher" else 1
        for name, start, end in (("warned", change.warn, change.fail), ("failed", change.fail, axis.reach)):
            left, right = sorted((axis.x(worse * start), axis.x(worse * end)))
            size = f'width="{round(right - left, 1)}" height="{ROW - 6}"'
            if right > left:
                yield f'<rect class="{name}" x="{left}" y="{top + 2}" {size}/>'
    which = f'<tspan class="soft"> {text(_short(row))}</tspan>' if many or len(row.gpus) > 1 else ""
    full, medians = text(f"{row.figure} of {', '.join(row.gpus) or row.gpu}"), " → ".join(_two_medians(row))
    yield f'<text x="8" y="{top + 18}">{text(_cut(row.figure, 22))}{which}<title>{full}</title></text>'
    yield f'<text class="soft" x="8" y="{top + 34}">{text(medians)}</text>'
    for kind, bar, middle, part in (("before", "mb", top + 13, row.before), ("after", "ma", top + 29, row.after)):
        shares = _shares(row, part)
        size = "3" if len(shares) < _MANY else "1" if kind == "before" else "1.6"
        for place, share in enumerate(shares):
            # Neighbours are set apart up and down, so that equal samples are seen as several.
            yield f'<circle class="{kind}" cx="{axis.x(share)}" cy="{middle + place % 3 * 3 - 3}" r="{size}"/>'
        if shares:
            x = axis.x(median(shares))
            yield f'<line class="{bar}" x1="{x}" y1="{middle - 8}" x2="{x}" y2="{middle + 8}"/>'
    what = signed(change) if change else "-"
    yield f'<text x="{WIDTH - RIGHT + 12}" y="{top + 18}">{what} {result.verdict.value}</text>'
    if result.code != "OK":
        yield f'<text class="soft" x="{WIDTH - RIGHT + 12}" y="{top + 34}">{text(result.code)}</text>'


def _short(row: Compared) -> str:
    """Return which GPUs a row is of, for a chart: the ends of UUIDs, with the direction of a copy."""
    if row.part != PAIRS:
        return _cut(row.gpu, -12) if len(row.gpus) == 1 else f"{len(row.gpus)} GPUs"
    forth = [uuid[-4:] for uuid in row.gpus]
    return "→".join(forth if row.figure.endswith(DIRECTIONS[0]) else reversed(forth))


def _cut(name: str, most: int) -> str:
    """Return the first characters of a name that is too long, the last ones where ``most`` is negative."""
    if len(name) <= abs(most):
        return name
    return name[:most - 1] + "…" if most > 0 else "…" + name[most + 1:]


def _two_medians(row: Compared) -> list[str]:
    return [si(median(pooled(part.samples)), _plain(part.unit)) if part else "-" for part in (row.before, row.after)]


# --- the page


def comparison_html(found: Comparison, decision: Decision) -> str:
    """Return one page: the verdict, the chart, the figures, the conditions."""
    rows = [(row.gpu, *_cells(row)) for row in found.rows]
    header = ("GPU", "figure", "before", "after", "change", "fails at", "spread", "verdict")
    both = [(when, gpu) for when, document in (("before", found.before), ("after", found.after))
            for gpu in _by_uuid(document)]
    conditions = [(gpu.uuid, when, gpu.name, gpu.driver, f"{gpu.power_limit_w:g} W",
                   f"{gpu.sm_clock_mhz:g} / {gpu.memory_clock_mhz:g} MHz", f"{gpu.temperature_c:g} °C",
                   ", ".join((*gpu.throttled, *gpu.foreign)) or "-") for when, gpu in both]
    stated = ("GPU", "when", "model", "driver", "power cap", "clocks", "temperature", "disturbed by")
    good = decision.verdict is Verdict.PASS
    return "\n".join([
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="color-scheme" content="light dark">', f"<title>{text(found.after.host)}: before and after</title>",
        f"<style>{STYLE}\n{_WHOLE}</style>", "</head>", "<body>", "<main>",
        f"<header><p class=kicker>Before and after</p><h1>{text(_headline(found))}</h1></header>",
        f'<p{"" if good else " class=warns"}>Verdict: <b>{decision.verdict.value}</b>, {decision.action.value}.</p>',
        *_list([*_common(found), *_reasons(decision)]),
        f'<section><h2>Samples</h2><div class="chart">{comparison_svg(found)}</div></section>',
        '<section class="figures"><h2>Figures</h2>', *_table(header, rows), "</section>",
        "<section><h2>Conditions</h2>", *_table(stated, conditions), "</section>", "</main>", "</body>", "</html>",
    ]) + "\n"


def _list(items: Iterable[str]) -> Iterator[str]:
    listed = [f"<li>{text(item)}</li>" for item in items]
    if listed:
        yield f"<ul>{''.join(listed)}</ul>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield '<div class="wide"><table><tr>' + "".join(f"<th>{name}</th>" for name in header) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>"
    yield "</table></div>"
