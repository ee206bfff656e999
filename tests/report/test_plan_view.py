"""The preview of a plan: one line a step at 80 columns, the same text at any width, with and without colour."""

from __future__ import annotations

import copy
import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from planner.report.layout import Columns, shortened
from planner.report.plan_html import render_html
from planner.report.plan_view import print_plan
from tests.emit.sample import document, finished

GOLDEN = Path(__file__).parent / "golden"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
WIDTHS = (80, 140)
LOCKSTEP = "driver + fabric_manager + nscq 535.183.01 -> 580.159.04"


def large() -> dict[str, Any]:
    """Return the sample with more of everything that a preview has to cut, wrap or gather."""
    plan = copy.deepcopy(document())
    plan["cohorts"][0]["steps"][0]["title"] = LOCKSTEP
    plan["cohorts"][0]["pools"] = ["train", *(f"train-{n}" for n in range(6))]
    plan["cohorts"][1]["inherited"] = [{"claim": "x", "statement": "cuDNN is old", "source": "matrices/cudnn.yml:x"}]
    plan["cohorts"][0]["inherited"] = plan["cohorts"][1]["inherited"]
    plan["pools"]["train"] |= {"nodes": 6, "max_unavailable_per_domain": 1, "already_down": ["gpu05", "gpu06"]}
    plan["pools"]["idle"] = {"nodes": 3, "max_unavailable": 1}
    plan["excluded"] = [{"node": f"gone{n:02}", "reason": "unreadable", "detail": "no route"} for n in range(22)]
    plan["cohorts"][0]["warnings"] = [*plan["cohorts"][0]["warnings"][:2], {
        **plan["cohorts"][0]["warnings"][2], "source": f"m.yml:x https://example.invalid/{'long/' * 16}notes.html"}]
    plan["warnings"] = ["this sentence is so long that it cannot stand in one line of a terminal of the usual width"]
    return plan


def shown(value: dict[str, Any], width: int, *, colour: bool = False) -> str:
    """Return the preview as a terminal of some width gets it."""
    out = io.StringIO()
    print_plan(finished(value), Console(file=out, width=width, highlight=False, force_terminal=colour, no_color=None,
                                        color_system="truecolor" if colour else None))
    return out.getvalue()


def without_chart(text: str) -> str:
    """Return a preview without its timeline."""
    before, _, rest = text.partition("\nTimeline\n")
    return before + rest[rest.index("\nCapacity\n"):]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_preview_is_the_golden_one(width: int) -> None:
    """Changes of what people see first are reviewed as differences of these files."""
    path = GOLDEN / f"plan-{width}.txt"
    assert shown(large(), width) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [72, *WIDTHS, 300])
def test_lines_keep_the_width_and_end_without_blanks(width: int) -> None:
    """Wrapped, not cut; only a single word that is longer than the terminal may stand out."""
    for line in shown(large(), width).splitlines():
        assert line == line.rstrip()
        assert len(line) <= width or len(line.split()) == 1


@pytest.mark.parametrize("width", [60, *WIDTHS])
def test_every_width_says_the_same(width: int) -> None:
    """Wrapping moves words, it loses none; only the chart is drawn anew for each width."""
    assert sorted(without_chart(shown(large(), width)).split()) == sorted(without_chart(shown(large(), 1000)).split())


@pytest.mark.parametrize("width", WIDTHS)
def test_colour_adds_nothing_but_colour(width: int) -> None:
    """Without escape codes it is the plain preview."""
    coloured = shown(large(), width, colour=True)
    assert "\x1b[" in coloured
    assert ESCAPE.sub("", coloured) == shown(large(), width)


def test_a_step_is_one_line_at_80_columns() -> None:
    """Id, title, disruption with its gate, minutes; a whole lockstep group with three members fits."""
    assert f"  s1  {LOCKSTEP}  reboot+gate   15\n" in shown(large(), 80)


def test_long_lists_are_cut_and_say_so() -> None:
    """Pools of a cohort, nodes left alone: the first few and how many more."""
    text = shown(large(), 140)
    assert "pools train, train-0, train-1, train-2 and 3 more\n" in text
    assert text.endswith("  gone09: unreadable, no route\n  and 12 more (planner plan -o json)\n")
    assert shortened("abc", 3) == "a, b, c"


def test_what_cohorts_share_is_said_once() -> None:
    """One line for a problem of all, the cohort's name for a problem of one."""
    text = shown(large(), 140)
    assert text.count("cuDNN is old") == 1
    assert "  all cohorts: cuDNN is old [matrices/cudnn.yml:x]\n" in text
    assert "  cuda-12.8-leaks: new, c-h100-aaaaaa\n" in text
    assert "  cuda-12.8-leaks: already there, c-h100-aaaaaa\n" in text


def test_a_plan_without_changes_has_neither_waves_nor_pools() -> None:
    """Sections without content are left out."""
    plan = copy.deepcopy(document())
    plan["cohorts"], plan["waves"], plan["warnings"], plan["risks"] = plan["cohorts"][1:], [], [], []
    plan["nodes"] = {"gpu04": plan["nodes"]["gpu04"]}
    plan["excluded"], plan["eta_minutes"] = [], 0
    assert shown(plan, 80) == (
        "Plan prod-cuda13\n0 nodes to change, 1 already there, 0 left alone\n"
        "at worst 0 min by planning figures; every state was validated\n\n"
        "Paths\nc-h100-bbbbbb: 1 node, 8x h100-sxm, pool train\n  already at the target\n")


def chart(value: dict[str, Any], width: int, encoding: str = "utf-8") -> list[str]:
    """Return the lines of the timeline as a terminal of some width and encoding gets them."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    print_plan(finished(value), Console(file=out, width=width, highlight=False))
    out.seek(0)
    lines = out.read().splitlines()
    return lines[lines.index("Timeline") + 1:lines.index("Capacity") - 1]


def test_the_timeline_shows_waves_soak_approval_and_nodes_out() -> None:
    """One row a wave on one axis, a soak of an hour after the canary, an approval, twice as many nodes out later."""
    assert chart(document(), 80) == [
        "                 0         15 min     30 min    45 min     1 h       1:15 h",
        "  w1  canary  1  █████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░◆",
        "  w2  batch   2                                                      ██████████",
        "      out     2  ▄▄▄▄▄▄▄▄▄                                           ██████████",
        "  █▓ batches  ░ soak  ◆ approval, its wait not counted  out: nodes",
    ]


def test_the_timeline_is_readable_where_there_is_no_unicode() -> None:
    """A terminal of another encoding gets letters of ASCII only, in the same places."""
    plain = "\n".join(chart(document(), 80, "ascii"))
    assert plain.isascii()
    translated = "\n".join(chart(document(), 80)).translate(str.maketrans("█▓░◆▄", "#=.*+"))
    assert translated.splitlines()[1:3] == plain.splitlines()[1:3]


@pytest.mark.parametrize("width", [20, 40, 80, 300])
def test_the_timeline_fits_and_every_batch_has_a_cell(width: int) -> None:
    """Forty short batches after a long soak: nothing stands out where there is room for labels."""
    plan = document()
    plan["waves"][0]["soak_minutes"] = 10_000
    plan["waves"][1]["batches"] = [{"id": f"w2b{n}", "nodes": [f"gpu0{2 + n % 2}"], "minutes": 30} for n in range(40)]
    lines = chart(plan, width)[:-1]
    assert max(len(line) for line in lines) <= max(width, 45)
    assert {"█", "▓"} & set(lines[2])


def test_closed_windows_are_shown_and_told() -> None:
    """Waits have a mark of their own, and the legend tells it only where there are any."""
    plan = document()
    plan["pools"]["train"] |= {"windows": ["daily 02:00-02:40 UTC"]}
    lines = chart(plan, 80)
    assert "·····" in lines[2]
    assert "· closed" in lines[-1]
    assert "closed" not in chart(document(), 80)[-1]


def test_many_waves_are_cut_and_say_so() -> None:
    """The chart stays on one screen."""
    plan = document()
    plan["waves"] = [{**plan["waves"][1], "id": f"w{n}", "batches": [
        {"id": f"w{n}b1", "nodes": ["gpu02"], "minutes": 30}]} for n in range(1, 31)]
    assert "  and 10 more waves" in chart(plan, 80)


def test_what_nodes_said_cannot_steer_the_terminal() -> None:
    """Escape codes and line feeds of an error message become blanks."""
    plan = large()
    plan["excluded"] = [{"node": "gone", "reason": "unreadable", "detail": "no\x1b[31m\nroute\x07"}]
    assert shown(plan, 80).endswith("  gone: unreadable, no [31m route\n")


MIXED = {"domain": "ib-1", "components": ["driver"], "opens": "w1b1", "closes": "w2b1", "batches": 2, "minutes": 120,
         "approval": True, "fences": ["slurm"], "unfenced": 1,
         "because": [{"claim": "equal", "statement": "<must> be equal", "source": "m.yml:equal"}]}


def test_windows_of_mixed_domains_are_shown_with_who_fences_them() -> None:
    text = shown({**document(), "mixed": [MIXED]}, 80)
    assert "\n  ib-1    driver  w1b1  w2b1        2  2 h 00 min + approval  slurm, you\n" in text
    assert "no job may span" not in shown(document(), 80)
    page = render_html(finished({**document(), "mixed": [MIXED]}))
    assert "<td>ib-1</td><td>driver</td><td>w1b1 to w2b1</td>" in page
    assert "<td>slurm, you</td>" in page
    assert "&lt;must&gt; be equal" in page
    assert "Mixed while" not in render_html(finished(document()))


def test_only_the_flexible_column_gives_way() -> None:
    """Others keep their widths; numbers stand to the right; a narrow terminal leaves 20 columns."""
    rows = [("a", "one two three four five six seven", "7"), ("bb", "x", "10")]
    columns = Columns(rows, width=30, flexible=1, right=(2,))
    assert [line.plain for row in rows for line in columns.lines(row)] == [
        "  a   one two three four     7", "      five six seven", "  bb  x                     10"]
    narrow = Columns(rows, width=1, flexible=1)
    assert max(len(line.plain) for row in rows for line in narrow.lines(row)) <= 2 + 2 + 2 + 20 + 2 + 2
