"""What people see on a terminal: data on stdout, everything else on stderr; plain text when not a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

from planner.diagnostics import Diagnostic
from planner.documents import canonical_json

_COLUMNS = 80


def colour_enabled(stream: object) -> bool:
    """Tell whether escape codes may be written to ``stream`` (a terminal, and ``NO_COLOR`` unset)."""
    return bool(getattr(stream, "isatty", lambda: False)()) and not os.environ.get("NO_COLOR")


def plain_width(stream: object) -> int | None:
    """Return how many columns lines may take on a stream without styles; None where rich has to decide about styles.

    The width is the one that rich would take, so that a plan in a file looks the same whoever wrote it.
    """
    if getattr(stream, "isatty", lambda: False)() or {"FORCE_COLOR", "TTY_COMPATIBLE"} & os.environ.keys():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit():
        return int(columns)
    for descriptor in (0, 1, 2):        # one of them may be the terminal that somebody sits at
        with suppress(OSError, ValueError):
            return os.get_terminal_size(descriptor).columns or _COLUMNS
    return _COLUMNS


def format_diagnostic(item: Diagnostic, *, colour: bool = False) -> str:
    """Return the text block of one diagnostic; readable without colour."""
    word = item.severity.value
    if colour:
        word = {"error": "\033[1;31m", "warning": "\033[1;33m", "info": "\033[1;36m"}[word] + word + "\033[0m"
    lines = [f"{word}: {item.code}"]
    lines.append("  " + (f"{item.subject}: " if item.subject else "") + item.summary)
    lines += [f"    {step}" for step in item.why]
    lines += [f"    source: {source}" for source in item.sources]
    if item.hint:
        lines.append(f"  hint: {item.hint}")
    return "\n".join(lines)


def print_diagnostics(items: Iterable[Diagnostic]) -> None:
    """Write diagnostics to stderr."""
    colour = colour_enabled(sys.stderr)
    for item in items:
        sys.stderr.write(format_diagnostic(item, colour=colour) + "\n")


def print_json(value: object) -> None:
    """Write one canonical JSON document to stdout."""
    sys.stdout.write(canonical_json(value))



def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in aligned columns, two spaces apart, no trailing blanks."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    return "\n".join(
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    )
