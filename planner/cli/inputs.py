"""Reads the documents that verbs take; every complaint names file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from planner.data import data_dir
from planner.diagnostics import Diagnostic
from planner.documents import line_of, parse_yaml, validate
from planner.errors import FactsError, InputError, PlannerError
from planner.matrix.index import MatrixSet
from planner.matrix.load import load_sources
from planner.matrix.sources import Sources, read_sources

# Documents' classes are imported where they are read: a verb pays for those it takes only.
if TYPE_CHECKING:
    from planner.facts.schema import FactDocument
    from planner.model.target import Target
    from planner.stack.schema import Stack

FACTS_SCHEMA = "planner.facts/1"

FORMATS = click.Choice(["table", "json"])

matrix_option = click.option(
    "--matrix", "overlays", multiple=True, type=click.Path(path_type=Path, file_okay=False),
    help="Directory of further matrix files; later ones win over shipped ones. May be repeated.",
)
facts_option = click.option(
    "--facts", "facts_path", required=True, type=click.Path(path_type=Path), help="facts.json of planner discover.",
)


def read_text(path: Path, error: type[PlannerError] = InputError) -> str:
    """Return a file's text.

    Raises:
        PlannerError: (``error``) it does not exist or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise error(Diagnostic(code="file-missing", subject=str(path), summary="no such file",
                               hint=f"give the path of an existing file instead of {path}")) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise error(Diagnostic(code="file-unreadable", subject=str(path), summary=str(exc),
                               hint=f"check {path}")) from exc


def load_facts(path: Path) -> FactDocument:
    """Read ``facts.json``.

    Raises:
        FactsError: It is missing, broken, or of another schema.
    """
    from planner.facts.schema import FactDocument

    text = read_text(path, FactsError)
    try:
        raw: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as exc:
        line = getattr(exc, "lineno", 1)
        raise FactsError(Diagnostic(
            code="bad-json", subject=f"{path}:{line}", summary=f"cannot parse JSON: {exc}",
            hint="write it again with: planner discover -i INVENTORY --out facts.json")) from exc
    return validate(FactDocument, raw, name=str(path), error=FactsError)


def load_stack(path: Path, matrices: MatrixSet) -> Stack:
    """Read the description of a machine; the facts of a discovery serve, too.

    Raises:
        PlannerError: It is missing, no YAML, or holds unknown keys; names file and line.
    """
    from planner.stack.read import read_stack

    text = read_text(path)
    if f'"{FACTS_SCHEMA}"' not in text:
        return read_stack(text, str(path), matrices)
    from planner.fleet.fleet import build_fleet
    from planner.stack.facts import stack_of_fleet

    fleet = build_fleet(load_facts(path), matrices)
    return stack_of_fleet((*fleet.nodes, *fleet.watched), matrices)


def load_target(path: Path) -> Target:
    """Read ``target.yml``.

    Raises:
        InputError: It is missing, no YAML, or not a target; names file and line.
    """
    from planner.model.target import Target

    text = read_text(path)
    raw = parse_yaml(text, name=str(path))
    return validate(Target, raw, name=str(path), text=text)


@contextmanager
def located(path: Path) -> Iterator[None]:
    """Say where in a target the complaints raised inside the block have their cause: file and line."""
    try:
        yield
    except PlannerError as exc:
        if any(d.places for d in exc.diagnostics):
            text = read_text(path)
            exc.diagnostics = tuple(_located(d, path, text) for d in exc.diagnostics)
        raise


def _located(item: Diagnostic, path: Path, text: str) -> Diagnostic:
    lines = sorted({line for place in item.places if (line := line_of(text, place))})
    if not lines:
        return item
    if item.subject.startswith("target, "):
        return replace(item, subject=f"{path}:{lines[0]}, {item.subject.removeprefix('target, ')}")
    return replace(item, why=(*item.why, f"asked for in {', '.join(f'{path}:{line}' for line in lines)}"))


def matrix_sources(overlays: tuple[Path, ...]) -> Sources:
    """Return the shipped matrix files and the user's overlays, as they are written."""
    return read_sources((data_dir("matrices"), *overlays))


def load_rules(overlays: tuple[Path, ...]) -> MatrixSet:
    """Return the shipped matrices with the user's overlays on top."""
    return load_sources(matrix_sources(overlays))
