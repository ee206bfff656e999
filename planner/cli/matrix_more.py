"""``planner matrix diff``, ``planner matrix stale`` and ``planner matrix count``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click

from planner.cli.inputs import FORMATS, load_rules, matrix_option, read_text
from planner.diagnostics import Diagnostic
from planner.documents import dump_model
from planner.errors import InputError
from planner.execute.clock import SystemClock
from planner.matrix.index import MatrixSet
from planner.matrix.load import load_matrices
from planner.matrix.schema import Across, Claim, Lockstep, Provenance
from planner.report.console import format_table, print_json

_SECTIONS = ("components", "families", "moves", "lockstep", "claims", "across", "packages", "gpu_models", "signatures",
             "times")
_STALE_DAYS = 180
_CONFIDENCE = ("documented", "measured", "derived", "recalled")
_SEVERITY = ("error", "warning", "info")
_COLUMNS = ("topic", "claims", *_CONFIDENCE, *_SEVERITY, "messages", "gpu_models")
_BEGIN, _END = "<!-- planner matrix count -->", "<!-- end of planner matrix count -->"

Entries = dict[tuple[str, str], dict[str, object]]


@click.command("diff", epilog="\b\nExample:\n  planner matrix diff matrices-2026-08/ matrices/")
@click.argument("old", type=click.Path(path_type=Path, file_okay=False))
@click.argument("new", type=click.Path(path_type=Path, file_okay=False))
@click.option("-o", "--output", type=FORMATS, default="table", help="Format of what is printed.")
def diff_command(old: Path, new: Path, output: str) -> None:
    """Show what changed between two directories of matrices: entries that came, went, or say something else."""
    before, after = _entries(load_matrices(old)), _entries(load_matrices(new))
    rows = [{"section": s, "name": n, "change": "added"} for s, n in after if (s, n) not in before]
    rows += [{"section": s, "name": n, "change": "removed"} for s, n in before if (s, n) not in after]
    rows += [{"section": s, "name": n, "change": "changed: " + ", ".join(_fields(before[s, n], after[s, n]))}
             for s, n in after if (s, n) in before and before[s, n] != after[s, n]]
    rows.sort(key=lambda r: (r["section"], r["name"]))
    if output == "json":
        print_json({"schema": "planner.matrix-diff/1", "changes": rows})
    elif rows:
        click.echo(format_table(["section", "name", "change"], [[r["section"], r["name"], r["change"]] for r in rows]))
    else:
        click.echo("no difference")


def _entries(matrices: MatrixSet) -> Entries:
    found: Entries = {}
    for section in _SECTIONS:
        listed = getattr(matrices, section)
        for entry in listed.values() if isinstance(listed, dict) else listed:
            found[section, entry.name] = dump_model(entry)
    for claim in matrices.tombstones:
        found["claims", claim.name] = dump_model(claim)
    for component, releases in matrices.releases.items():
        found.update({("releases", f"{component} {r.version}"): dump_model(r) for r in releases})
    return found


def _fields(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]


@click.command("stale", epilog="""\b
Examples:
  planner matrix stale                       sources read more than 180 days ago
  planner matrix stale --before 2026-06-01   sources read before a day
""")
@click.option("--before", metavar="DATE", help="ISO date; default: 180 days ago.")
@matrix_option
@click.option("-o", "--output", type=FORMATS, default="table", help="Format of what is printed.")
def stale_command(before: str | None, overlays: tuple[Path, ...], output: str) -> None:
    """List entries whose source was last read before a day, and those that rest on memory only."""
    if before is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", before):
        raise InputError(Diagnostic(code="bad-date", subject=before, summary="this is no date",
                                    hint="write it as 2026-06-01"))
    limit = before or (SystemClock().now() - timedelta(days=_STALE_DAYS)).date().isoformat()
    matrices = load_rules(overlays)
    old = [(matrices.files.get(name, ""), name, p.retrieved, p.confidence) for name, p in _sourced(matrices)
           if p.retrieved < limit or p.confidence == "recalled"]
    if output == "json":
        print_json({"schema": "planner.matrix-stale/1", "before": limit, "entries": [
            {"file": f, "name": n, "retrieved": r, "confidence": c} for f, n, r, c in sorted(old)]})
        return
    if old:
        click.echo(format_table(["file", "name", "read", "confidence"], [list(row) for row in sorted(old)]))
    counts = Counter("recalled" if c == "recalled" and r >= limit else "old" for _, _, r, c in old)
    click.echo(f"{counts['old']} entries read before {limit}, {counts['recalled']} more rest on memory (recalled)")


def _sourced(matrices: MatrixSet) -> Iterator[tuple[str, Provenance]]:
    for rules in (matrices.lockstep, matrices.claims, matrices.across, matrices.packages, matrices.gpu_models,
                  matrices.signatures):
        yield from ((rule.name, rule.provenance) for rule in rules)
    for component, releases in matrices.releases.items():
        yield from ((f"{component} {r.version}", r.provenance) for r in releases)


@click.command("count", epilog="""\b
Examples:
  planner matrix count                             claims by topic, confidence and severity
  planner matrix count --into docs/knowledge.md    write the table anew into a document
""")
@matrix_option
@click.option("-o", "--output", type=click.Choice(["table", "json", "markdown"]), default="table",
              help="Format of what is printed.")
@click.option("--into", "document", type=click.Path(path_type=Path, dir_okay=False),
              help="Replace the table between its marks in this document instead of printing it.")
def count_command(overlays: tuple[Path, ...], output: str, document: Path | None) -> None:
    """Count what is known: claims by topic (one file each), by confidence and by severity."""
    rows = _counted(load_rules(overlays))
    if document is not None:
        _write_between_marks(document, _markdown(rows))
    elif output == "json":
        print_json({"schema": "planner.matrix-count/1", "topics": rows[:-1], "total": rows[-1]})
    elif output == "markdown":
        click.echo(_markdown(rows))
    else:
        click.echo(format_table(_header(), [[str(row[c] or "") for c in _COLUMNS] for row in rows]))


def _counted(matrices: MatrixSet) -> list[dict[str, str | int]]:
    """Return one row for each topic in the order of its name, and their sum."""
    by_topic: dict[str, Counter[str]] = {}
    rules: tuple[Claim | Lockstep | Across, ...] = (*matrices.claims, *matrices.lockstep, *matrices.across)
    for rule in rules:
        by_topic.setdefault(_topic(rule.name, matrices), Counter()).update(
            ("claims", rule.provenance.confidence, rule.severity))
    for column, entries in (("messages", matrices.signatures), ("gpu_models", matrices.gpu_models)):
        for entry in entries:
            by_topic.setdefault(_topic(entry.name, matrices), Counter())[column] += 1
    total = sum(by_topic.values(), Counter[str]())
    return [{"topic": name, **{c: counts[c] for c in _COLUMNS[1:]}}
            for name, counts in (*sorted(by_topic.items()), ("all", total))]


def _topic(name: str, matrices: MatrixSet) -> str:
    return Path(matrices.files[name]).stem


def _header() -> list[str]:
    return [column.replace("_", " ") for column in _COLUMNS]


def _markdown(rows: list[dict[str, str | int]]) -> str:
    lines = ["| " + " | ".join(_header()) + " |", "| --- |" + " ---: |" * (len(_COLUMNS) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(str(row[c] or "") for c in _COLUMNS) + " |" for row in rows)])


def _write_between_marks(document: Path, table: str) -> None:
    text = read_text(document)
    begin, end = text.find(_BEGIN), text.find(_END)
    if begin < 0 or end < begin:
        raise InputError(Diagnostic(code="no-place", subject=str(document), summary="the table has no place there",
                                    hint=f"put {_BEGIN} and {_END} on lines of their own where it belongs"))
    document.write_text(f"{text[:begin]}{_BEGIN}\n{table}\n{text[end:]}", encoding="utf-8")
