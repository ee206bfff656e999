"""``planner diff``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from planner.check.differ import Row, differ
from planner.cli.inputs import FORMATS, load_facts, load_rules, load_stack, matrix_option
from planner.diagnostics import Diagnostic
from planner.errors import InputError
from planner.fleet.fleet import build_fleet
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.report.console import format_table, print_json
from planner.stack.facts import views_of

_MARKS = {"same": " ", "harmless": "~", "risky": "!", "breaks": "X", "unknown": "?"}


@click.command("diff", epilog="""\b
Examples:
  planner diff works.yml fails.yml                  two described machines side by side
  planner diff --facts facts.json gpu-01 gpu-17     two nodes of a discovery
""")
@click.argument("machines", nargs=-1, required=True)
@click.option("--facts", "facts_path", type=click.Path(path_type=Path),
              help="MACHINES are node names of this discovery; without it they are stack files.")
@click.option("--all", "everything", is_flag=True, help="Show what is the same, too.")
@matrix_option
@click.option("-o", "--output", "output", type=FORMATS, default="table", help="Format of what is printed.")
def diff_command(machines: tuple[str, ...], facts_path: Path | None, everything: bool, overlays: tuple[Path, ...],
                 output: str) -> None:
    """Show versions side by side, and what rules say about each difference: harmless, risky, breaks, or not known."""
    matrices = load_rules(overlays)
    found = _of_facts(machines, facts_path, matrices) if facts_path else _of_stacks(machines, matrices)
    if len(found) < 2:
        raise click.UsageError("give two machines or more")
    fabric = ("nvlink",) if any(state.get("imex") for _, state in found) else ()
    rows = [row for row in differ(found, matrices, ("job", "fleet", "vgpu", *fabric))
            if everything or row.meaning != "same"]
    if output == "json":
        print_json({"schema": "planner.diff/1", "machines": [name for name, _ in found], "rows": [
            {"component": r.component, "values": [None if v is None else list(v) for v in r.values],
             "meaning": r.meaning, "because": list(r.because), "sources": list(r.sources)} for r in rows]})
        return
    click.echo("\n".join(_lines([name for name, _ in found], rows)))


def _of_facts(names: Sequence[str], path: Path, matrices: MatrixSet) -> list[tuple[str, State]]:
    fleet = build_fleet(load_facts(path), matrices)
    nodes = {n.name: n for n in (*fleet.nodes, *fleet.watched)}
    for name in names:
        if name not in nodes:
            raise InputError(Diagnostic(code="unknown-node", subject=name,
                                        summary=f"{path} names no readable node {name!r}",
                                        hint=f"nodes are: {', '.join(list(nodes)[:8])}"))
    return [(name, views_of(name, nodes[name].facts, nodes[name].state, nodes[name].environment, matrices)[0].state)
            for name in names]


def _of_stacks(paths: Sequence[str], matrices: MatrixSet) -> list[tuple[str, State]]:
    """Return each machine of each file; all that its frameworks and containers say is seen as one."""
    found: list[tuple[str, State]] = []
    for text in paths:
        stack = load_stack(Path(text), matrices)
        for machine in stack.machines:
            state: dict[str, tuple[str, ...]] = {}
            for view in machine.views:
                state = {**view.state, **state}
            state.pop("userspace_driver", None)       # the same as the driver, in a description
            found.append((machine.name or Path(text).stem, state))
    return found


def _lines(names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["no difference in what is known"]
    table = [[f"{_MARKS[row.meaning]} {row.component}", *map(_shown, row.values), row.meaning] for row in rows]
    lines = [format_table(["  component", *names, "meaning"], table)]
    for row in rows:
        lines += [f"{row.component}:"] * bool(row.because) + [f"  {text}" for text in row.because]
        lines += [f"  source: {source}" for source in row.sources]
    return lines


def _shown(values: tuple[str, ...] | None) -> str:
    return "not known" if values is None else " ".join(values) or "absent"
