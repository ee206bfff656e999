"""A plan for the eyes of the person who asked for it: paths, waves, risks, and what comes next."""

from __future__ import annotations

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from planner.schedule.plan import Cohort, Plan, Wave


def plan_view(plan: Plan) -> Group:
    """Return the whole preview as one renderable."""
    parts: list[RenderableType] = [_headline(plan), _paths(plan), _waves(plan)]
    for title, lines, style in (
        ("Inherited problems (already there before any step)", _inherited(plan), "yellow"),
        ("Risks accepted in the target", [f"{r.claim}: {r.statement}" for r in plan.risks], "yellow"),
        ("Points of no return", _no_return(plan), "yellow"),
        ("Worth knowing", list(plan.warnings), "cyan"),
        ("Left alone", _left_alone(plan), "dim"),
    ):
        if lines:
            parts += [Text(title, style="bold"), *[Text(f"  {line}", style=style) for line in lines], Text("")]
    return Group(*parts)


def print_plan(plan: Plan, console: Console | None = None) -> None:
    """Write the preview to stdout."""
    (console or Console(highlight=False)).print(plan_view(plan))


def _headline(plan: Plan) -> Text:
    moving = sum(len(c.nodes) for c in plan.cohorts if c.steps)
    still = sum(len(c.nodes) for c in plan.cohorts if not c.steps)
    hours, minutes = divmod(plan.eta_minutes, 60)
    text = Text(f"Plan {plan.name}", style="bold")
    text.append(f"  {moving} nodes to change, {still} already there, {len(plan.excluded)} left alone", style="not bold")
    text.append(f"\nworst case {hours} h {minutes:02d} min with soaks, without drains; every state replayed by the validator\n",
                style="not bold dim")
    return text


def _paths(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Paths", title_justify="left", title_style="bold", pad_edge=False)
    for name in ("cohort", "nodes", "hardware", "step", "what changes", "disruption", "min"):
        table.add_column(name, overflow="fold", justify="right" if name in ("nodes", "min") else "left")
    for cohort in plan.cohorts:
        rows = [(s.id, s.title, s.disruption + (" + gate" if s.quick_gate else ""), str(s.minutes)) for s in cohort.steps]
        for number, row in enumerate(rows or [("-", "already at the target", "", "")]):
            first = (cohort.id, str(len(cohort.nodes)), cohort.gpu) if number == 0 else ("", "", "")
            table.add_row(*first, *row)
    return table


def _waves(plan: Plan) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Waves", title_justify="left", title_style="bold", pad_edge=False)
    for name in ("wave", "kind", "batches", "nodes", "of cohorts", "then"):
        table.add_column(name, overflow="fold", justify="right" if name in ("batches", "nodes") else "left")
    cohort_of = {n: c for c in plan.cohorts for n in c.nodes}
    for wave in plan.waves:
        table.add_row(wave.id, wave.kind, str(len(wave.batches)), str(sum(len(b.nodes) for b in wave.batches)),
                      _of_cohorts(wave, cohort_of), _after(wave))
    return table


def _of_cohorts(wave: Wave, cohort_of: dict[str, Cohort]) -> str:
    counts: dict[str, int] = {}
    for batch in wave.batches:
        for node in batch.nodes:
            gpu = cohort_of[node].gpu
            counts[gpu] = counts.get(gpu, 0) + 1
    return ", ".join(f"{count} of {gpu}" for gpu, count in sorted(counts.items()))


def _after(wave: Wave) -> str:
    parts = [f"soak {wave.soak_minutes} min"] if wave.soak_minutes else []
    return " then ".join([*parts, *(["a person approves"] if wave.approval else [])])


def _inherited(plan: Plan) -> list[str]:
    return list(dict.fromkeys(f"{c.id}: {claim.statement} [{claim.source}]" for c in plan.cohorts for claim in c.inherited))


def _no_return(plan: Plan) -> list[str]:
    return [f"{c.id}: after {c.no_return_after}: {c.no_return_why}" for c in plan.cohorts if c.no_return_after]


def _left_alone(plan: Plan) -> list[str]:
    return [f"{e.node}: {e.reason}, {e.detail}" for e in plan.excluded[:10]] + (
        [f"… and {len(plan.excluded) - 10} more (planner plan -o json)"] if len(plan.excluded) > 10 else [])
