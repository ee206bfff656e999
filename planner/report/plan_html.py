"""A plan as one HTML file: nothing is loaded from anywhere, no script runs, every name is text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from planner.emit.review import count, hours
from planner.report.charts import timeline_svg
from planner.report.crossed import crossed
from planner.report.plan_view import basis
from planner.report.style import STYLE
from planner.schedule.canary import canary_sentences
from planner.schedule.estimate import Forecast, forecast
from planner.schedule.known import goal_problems
from planner.schedule.opening import begins
from planner.schedule.pairs import pair_sentences, pairs_told, plan_domains
from planner.schedule.plan import Claimed, Cohort, Plan, Step
from planner.schedule.worst import outdone, worst_minutes

# The page asks for nothing, so nothing may be loaded, whatever a name holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_OPEN_MAX = 8       # longer lists are folded


def render_html(plan: Plan) -> str:
    """Return the page: numbers, timeline, paths with their reasons, capacity, gains, risks, way back."""
    course = forecast(plan)
    parts = [
        "<!doctype html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{text(plan.name)}: plan</title>", f"<style>{STYLE}</style>", "</head>", "<body>", "<main>",
        *_head(plan, course), *_timeline(plan, course), *_paths(plan), *_waves(plan), *_mixed(plan),
        *_capacity(plan, course), *_gains(plan), *_risks(plan), *_known(plan), *_left_out(plan), *_origin(plan),
        "</main>", "</body>", "</html>",
    ]
    return "\n".join(parts) + "\n"


def text(value: object) -> str:
    """Return a text that HTML shows as it is, on one line; what cannot be printed becomes a blank."""
    return escape(" ".join("".join(c if c.isprintable() else " " for c in str(value)).split()))


def _head(plan: Plan, course: Forecast) -> Iterator[str]:
    moving = [c for c in plan.cohorts if c.steps]
    nodes, eta = sum(len(c.nodes) for c in moving), course.eta
    fixes = len({name for _, names in crossed(plan).fixes for name in names})
    no_return = sum(c.no_return_after is not None for c in moving)
    yield f"<header><p class=kicker>Rollout plan</p><h1>{text(plan.name)}</h1>"
    yield (f"<p>{count(nodes, 'node')} of {len(plan.nodes)} will change, in {count(len(plan.waves), 'wave')}. "
           "Every state on the way was validated.</p></header>")
    spread = f"{hours(eta.p10_minutes)} to {hours(eta.p90_minutes)} in four of five rollouts"
    beaten, closed = outdone(plan, eta), ", closed hours are" * (eta.at_worst_minutes is not None)
    closed += "; earlier rollouts took longer" * beaten
    tiles = [(hours(eta.p50_minutes), "expected", spread),
             (hours(worst_minutes(plan, eta)), "as planned" if beaten else "at worst",
              f"by planning figures; drains and approvals not counted{closed}"),
             (f"{eta.gpu_hours:,}", "GPU-hours out", f"{eta.gpu_hours_at_worst:,} at worst"),
             (str(eta.peak_nodes_out), "nodes out at most", "those that are down already counted"),
             (str(fixes), "CVEs fixed", "by releases on the way"),
             (str(no_return), "without a full way back", "of " + count(len(moving), "cohort"))]
    yield '<div class="tiles">'
    for place, (value, what, more) in enumerate(tiles):
        warns = ' class="warns"' if place == len(tiles) - 1 and no_return else ""
        yield f"<div{warns}><b>{value}</b><span>{what}</span><small>{more}</small></div>"
    yield "</div>"


def _timeline(plan: Plan, course: Forecast) -> Iterator[str]:
    if chart := timeline_svg(plan, course):
        yield f"<section><h2>Timeline</h2><div class=chart>{chart}</div>"
        closed = "Dashed: no maintenance window is open. " if any(s.kind == "wait" for s in course.spans) else ""
        pair = '<i class="pair"></i>all-reduce of a pair ' * any(s.kind == "pair" for s in course.spans)
        yield (f'<p class="legend"><i class="batch"></i>batch <i class="soak"></i>soak {pair}<i class="approval"></i>'
               f"approval, its wait not counted. {closed}{basis(course.eta).capitalize()}.</p>")
        if told := begins(plan):
            yield f"<p>{text(told[0].upper() + told[1:])}.</p>"
        windows: dict[tuple[str, ...], list[str]] = {}
        for name, limit in sorted(plan.pools.items()):
            windows.setdefault(limit.windows, []).append(name)
        yield from (f"<p>Nodes of {text(', '.join(names))} leave service only in: {text('; '.join(times))}.</p>"
                    for times, names in windows.items() if times)
        yield "</section>"


def _paths(plan: Plan) -> Iterator[str]:
    yield "<section><h2>Paths</h2>"
    for cohort in plan.cohorts:
        yield f'<article><h3><code>{text(cohort.id)}</code> <span>{count(len(cohort.nodes), "node")}</span> '
        yield f"<span>{text(cohort.gpu)}</span> <span>{text(', '.join(cohort.pools))}</span></h3>"
        if not cohort.steps:
            yield '<p class="faint">Already at the target.</p></article>'
            continue
        yield "<ol class=path>"
        for step in cohort.steps:
            yield from _step(step, no_return=step.id == cohort.no_return_after)
        yield "</ol>"
        if cohort.no_return_after:
            yield (f'<p class="warns"><b>Point of no return: {text(cohort.no_return_after)}.</b> '
                   f"{text(cohort.no_return_why)}</p>")
        yield '<div class="folds">'
        yield from _folds(cohort)
        yield "</div></article>"
    yield "</section>"


def _step(step: Step, *, no_return: bool) -> Iterator[str]:
    gate = " <em>gate</em>" * step.quick_gate + " <em>left to people</em>" * bool(step.handover)
    marked = " noreturn" if no_return else ""
    yield (f'<li class="{step.disruption}{marked}"><b>{text(step.id)}</b> {_arrows(step.title)}'
           f"<small>{step.disruption}, {step.minutes} min{gate}</small></li>")


def _arrows(title: str) -> str:
    return text(title.replace(" -> ", " \N{RIGHTWARDS ARROW} "))


def _folds(cohort: Cohort) -> Iterator[str]:
    told = [f"<b>{text(s.id)}</b> {text(line)}" for s in cohort.steps
            for line in (*(s.instructions or ()), *(s.remarks or ()))]
    yield from folded(told, "What people do or should know")
    whys = [f"<b>{text(s.id)}</b> {_claim(c)}" for s in cohort.steps for c in s.because]
    yield from folded(whys, "Why in this order")
    packages = [f"<b>{text(s.id)}</b> <code>{text(name)} {text(version)}</code>" for s in cohort.steps
                for name, version in (*sorted(s.packages.install.items()),
                                      *((name, "removed") for name in s.packages.remove))]
    yield from folded(packages, "Packages")
    yield from folded([f"{_arrows(s.title)} <small>{s.disruption}</small>" for s in cohort.way_back], "The way back")
    yield from folded([f"<code>{text(name)}</code>" for name in cohort.nodes], "Nodes", css="names")


def folded(items: Iterable[str], title: str, css: str = "") -> Iterator[str]:
    """Yield a list behind its title and length; items are HTML already."""
    listed = list(items)
    if listed:
        named = f' class="{css}"' if css else ""
        yield f"<details><summary>{title} <small>{len(listed)}</small></summary><ul{named}>"
        yield from (f"<li>{item}</li>" for item in listed)
        yield "</ul></details>"


def _claim(item: Claimed) -> str:
    source = f' <small class="source">{text(item.source)}</small>' if item.source else ""
    return f"{text(item.statement)} <code>{text(item.claim)}</code>{source}"


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]], numbers: Iterable[int] = ()) -> Iterator[str]:
    """Yield a table; cells are HTML already, columns in ``numbers`` stand to the right."""
    right = frozenset(numbers)

    def cells(row: tuple[str, ...], tag: str) -> str:
        return "".join(f'<{tag}{" class=number" if i in right else ""}>{cell}</{tag}>' for i, cell in enumerate(row))

    yield f"<div class=wide><table><thead><tr>{cells(header, 'th')}</tr></thead><tbody>"
    yield from (f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    yield "</tbody></table></div>"


def _waves(plan: Plan) -> Iterator[str]:
    yield "<section><h2>Waves</h2>"
    rows = []
    domains = plan_domains(plan)
    for wave in plan.waves:
        then = [*map(text, pairs_told(wave, domains)), *[f"soak {hours(wave.soak_minutes)}"] * (wave.soak_minutes > 0),
                *["<b>approval</b>"] * wave.approval]
        for number, batch in enumerate(wave.batches, start=1):
            named = (text(wave.id), wave.kind) if number == 1 else ("", "")
            rows.append((*named, text(batch.id), str(len(batch.nodes)), text(_few(batch.nodes)), str(batch.minutes),
                         ", ".join(then) if number == len(wave.batches) else ""))
    yield from table(("wave", "kind", "batch", "nodes", "", "minutes at worst", "then"), rows, numbers=(3, 5))
    yield "</section>"


def _mixed(plan: Plan) -> Iterator[str]:
    if not plan.mixed:
        return
    yield "<section><h2>Mixed while it moves</h2><p class=faint>No job may span old and new nodes of these domains.</p>"
    rows = [(text(w.domain), text(", ".join(w.components)), f"{text(w.opens)} to {text(w.closes)}", str(w.batches),
             hours(w.minutes) + ", and approval" * w.approval, ", ".join((*w.fences, *["you"] * bool(w.unfenced))))
            for w in plan.mixed]
    yield from table(("domain", "mixed in", "from", "batches", "at worst", "fenced by"), rows, numbers=(3,))
    because = dict.fromkeys(_claim(item) for w in plan.mixed for item in w.because)
    yield "<ul>" + "".join(f"<li>{told}</li>" for told in because) + "</ul></section>"


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_OPEN_MAX]) + (f" and {len(names) - _OPEN_MAX} more" if len(names) > _OPEN_MAX else "")


def _capacity(plan: Plan, course: Forecast) -> Iterator[str]:
    yield "<section><h2>Capacity</h2>"
    rows = [(text(name), str(p.nodes), str(p.max_unavailable), str(course.peak_of_pool[name]),
             "–" if p.max_unavailable_per_domain is None else str(p.max_unavailable_per_domain),
             text(_few(p.already_down)) or "–") for name, p in sorted(plan.pools.items())]
    yield from table(("pool", "nodes", "may be out", "out at most", "per failure domain", "down already"), rows,
                     numbers=(1, 2, 3, 4))
    yield from (f"<p>Before it goes back, {text(told)}.</p>" for told in canary_sentences(plan))
    yield from (f"<p>NCCL: {text(told)}.</p>" for told in pair_sentences(plan))
    yield "</section>"


def _gains(plan: Plan) -> Iterator[str]:
    found = crossed(plan)
    if not plan.gains and not found.fixes and not found.notes:
        return
    yield "<section><h2>What is gained, and what is crossed</h2>"
    if plan.gains:
        yield "<ul>"
        yield from (f"<li class=good>No more: {_claim(gain)} <small>in {_of(gain.cohorts, plan)}</small></li>"
                    for gain in plan.gains)
        yield "</ul>"
    for component, names in found.fixes:
        yield from folded((f"<code>{text(name)}</code>" for name in names), f"CVEs fixed in {text(component)}", "names")
    yield from folded((f"{text(note)} <small>{_of(ids, plan)}</small>" for note, ids in found.notes), "Release notes")
    yield "</section>"


def _of(ids: tuple[str, ...], plan: Plan) -> str:
    return "all cohorts" if len(ids) == len(plan.cohorts) > 1 else text(", ".join(ids))


def _risks(plan: Plan) -> Iterator[str]:
    lines = [f"<b>Accepted:</b> {_claim(item)}" for item in plan.risks]
    lines += [text(item) for item in plan.warnings]
    inherited: dict[str, list[str]] = {}
    for cohort in plan.cohorts:
        for item in cohort.inherited:
            inherited.setdefault(_claim(item), []).append(cohort.id)
    lines += [f"<b>Wrong already at the start:</b> {told} <small>{_of(tuple(ids), plan)}</small>"
              for told, ids in inherited.items()]
    yield "<section><h2>Risks and warnings</h2>"
    yield "<ul>" + "".join(f"<li>{line}</li>" for line in lines) + "</ul>" if lines else "<p>None is known.</p>"
    yield "</section>"


def _known(plan: Plan) -> Iterator[str]:
    found = goal_problems(plan.cohorts)
    if not found:
        return
    yield ("<section><h2>Known problems at the goal</h2><p class=faint>They block nothing; whoever approves the plan "
           "accepts them.</p><ul>")
    for problem in found:
        here = f" <small>here: {text('; '.join(problem.here))}</small>" if problem.here else ""
        hint = f" {text(problem.hint[:1].upper() + problem.hint[1:])}." if problem.hint else ""
        state = "<small>already there</small>" if problem.at_start else '<small class="new">new</small>'
        yield (f"<li>{state} {text(problem.statement)} <code>{text(problem.claim)}</code>.{hint}{here} "
               f"<small>in {_of(problem.cohorts, plan)}</small></li>")
    yield "</ul></section>"


def _left_out(plan: Plan) -> Iterator[str]:
    if plan.excluded:
        yield "<section><h2>Left alone</h2>"
        yield from table(("node", "reason", "detail", "hint"), (
            (f"<code>{text(e.node)}</code>", text(e.reason), text(e.detail), text(e.hint)) for e in plan.excluded))
        yield "</section>"


def _origin(plan: Plan) -> Iterator[str]:
    rows = [("plan", plan.digest), ("seal of the validator", plan.seal),
            *((f"input: {name}", value) for name, value in sorted(plan.inputs.items())),
            ("policy", plan.policy), ("made by", f"planner {plan.planner_version}")]
    yield "<footer><h2>Origin</h2>"
    yield from table(("", ""), ((text(name), f"<code>{text(value)}</code>") for name, value in rows))
    yield "</footer>"
