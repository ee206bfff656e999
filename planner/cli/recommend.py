"""``planner recommend``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import yaml

from planner.cli.inputs import FORMATS, facts_option, load_facts, load_rules, matrix_option
from planner.diagnostics import Diagnostic
from planner.errors import InputError
from planner.fleet.fleet import build_fleet
from planner.recommend.choose import Advice, Policy, as_target, recommend, split
from planner.report.console import print_json


@click.command("recommend", epilog="""\b
Examples:
  planner recommend --facts facts.json                                       what to move to, and why
  planner recommend --facts facts.json --policy development                  the newest that works
  planner recommend --facts facts.json --out target.yml                      write it as targets for planner plan
""")
@facts_option
@click.option("--policy", type=click.Choice(["production", "development"]), default="production",
              help="production: long-term branches, no change without a reason; development: the newest that works.")
@click.option("--out", "out", type=click.Path(path_type=Path),
              help="Write the target there; classes that need their own get files beside it (target-2.yml ...).")
@matrix_option
@click.option("-o", "--output", "output", type=FORMATS, default="table", help="Format of what is printed.")
def recommend_command(facts_path: Path, policy: Policy, out: Path | None, overlays: tuple[Path, ...],
                      output: str) -> None:
    """Recommend the best stack that each class of nodes can reach, with reasons, gains and what is given up."""
    matrices = load_rules(overlays)
    fleet = build_fleet(load_facts(facts_path), matrices)
    advice = recommend(fleet, policy, matrices)
    targets = [as_target(group, policy, _name(out, number), matrices) for number, group in enumerate(split(advice), 1)]
    if out is not None:
        _write(out, targets)
    if output == "json":
        print_json({"schema": "planner.recommend/1", "policy": policy, "targets": targets,
                    "classes": [_document(item) for item in advice],
                    "left_out": [{"node": n.name, "reason": n.reason, "detail": n.detail} for n in fleet.left_out]})
        return
    for item in advice:
        click.echo("\n".join(_lines(item)))
    for node in fleet.left_out:
        click.echo(f"left out: {node.name}: {node.reason}, {node.detail}")
    if not targets:
        click.echo("nothing to recommend: every node is well as it is")


def _name(out: Path | None, number: int) -> str:
    stem = out.stem if out is not None else "recommended"
    return stem if number == 1 else f"{stem}-{number}"


def _write(out: Path, targets: Sequence[object]) -> None:
    for number, document in enumerate(targets, start=1):
        path = out if number == 1 else out.with_name(f"{out.stem}-{number}{out.suffix}")
        try:
            path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        except OSError as exc:
            raise InputError(Diagnostic(code="cannot-write", subject=str(path), summary=exc.strerror or str(exc),
                                        hint="give another place with --out")) from exc
        click.echo(f"wrote {path}; next: planner plan --facts FACTS --target {path}", err=True)


def _document(item: Advice) -> dict[str, object]:
    return {"class": item.name, "pool": item.pool, "nodes": list(item.nodes),
            "choices": [{"component": c.component, "now": list(c.now), "to": list(c.to), "because": list(c.because)}
                        for c in item.choices],
            "gains": list(item.gains), "crossed": list(item.crossed), "gives_up": list(item.gives_up),
            "kept_back": list(item.kept_back)}


def _lines(item: Advice) -> list[str]:
    lines = [f"{item.name}: {len(item.nodes)} nodes ({item.nodes[0]}{' ...' if len(item.nodes) > 1 else ''})"]
    lines += [f"  {c.component} {' '.join(c.now)} -> {' '.join(c.to)}: {'; '.join(c.because)}" for c in item.choices]
    if not item.choices:
        lines.append("  stays as it is")
    for title, texts in (("gained", item.gains), ("given up", item.gives_up), ("out of reach", item.kept_back),
                         ("release notes on the way", item.crossed)):
        lines += [f"  {title}:"] * bool(texts) + [f"    {text}" for text in texts]
    return lines
