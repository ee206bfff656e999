"""Lines of text are rich's own where styles are shown, and the same characters where none are."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text as RichText

from planner.report.plan_view import print_plan
from planner.report.text import Text
from tests.report.test_plan_view import finished, large

WORDS = st.text("ab ·", max_size=5)
STYLES = st.sampled_from(["", "bold", "dim", "green"])


def printed(line: object, *, colour: bool) -> str:
    """Return a line as a console writes it."""
    out = io.StringIO()
    Console(file=out, width=40, force_terminal=colour, color_system="truecolor" if colour else None,
            highlight=False).print(line, soft_wrap=True)
    return out.getvalue()


@settings(deadline=None)
@given(WORDS, STYLES, st.lists(st.tuples(WORDS, STYLES), max_size=4), st.booleans(), st.booleans())
def test_a_line_is_written_as_rich_writes_its_own(begin: str, style: str, parts: list[tuple[str, str]], strip: bool,
                                                  colour: bool) -> None:
    ours, theirs = Text(begin, style=style), RichText(begin, style=style)
    for line in (ours, theirs):
        for text, own in parts:
            line.append(text, style=own)
        if strip:
            line.rstrip()
    assert printed(ours, colour=colour) == printed(theirs, colour=colour)
    assert ours.plain == theirs.plain
    assert str(ours) == str(theirs)


@pytest.mark.parametrize("columns", ["", "60", "200"])
@pytest.mark.parametrize("pool", ["train", "tr\tain", "tr\x07ain"], ids=["plain", "tab", "bell"])
def test_stdout_gets_what_a_console_would_write(columns: str, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way to a file or a pipe changes no byte, whatever names hold."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    value = large()
    value["name"] = f"plan-of-{pool}"
    plan = finished(value)
    texts = []
    for console in (False, True):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        monkeypatch.setattr(sys, "stdout", out)
        print_plan(plan, Console(highlight=False) if console else None)
        out.flush()
        texts.append(out.buffer.getvalue())  # type: ignore[attr-defined]
    assert texts[0] == texts[1] != b""


def test_a_stream_that_takes_styles_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for colour in a pipe goes the long way."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    print_plan(finished(large()))
    assert "\x1b[1m" in out.getvalue()
