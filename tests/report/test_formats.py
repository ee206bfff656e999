"""Plans as pages and diagrams: the golden files, and names that try to be markup."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from planner.report.diagrams import render_dot, render_mermaid, task
from planner.report.plan_html import POLICY, render_html
from planner.schedule.plan import Plan
from tests.emit.sample import document, finished

GOLDEN = Path(__file__).parent / "golden"
RENDERERS: dict[str, Callable[[Plan], str]] = {
    "plan.html": render_html, "plan.dot": render_dot, "plan-mermaid.md": render_mermaid}
HOSTILE = ('</title><script>alert(1)</script>', '"; } evil [label="x', "a\\", "x'y`z", "<img src=//evil.example/x>",
           "A\n```\n# heading", "w1 :done, 2001-01-01, 1min", "--> evil", "]]> &amp; &lt;", "\x1b[31mred\x07",
           "%%{init}%%", "#quot;", "click evil href", "]; subgraph x", "\N{RIGHT-TO-LEFT OVERRIDE}gpj")


def hostile() -> dict[str, Any]:
    """Return the sample with a hostile text in every place that people or nodes fill."""
    plan = copy.deepcopy(document())
    places = iter(HOSTILE * 20)

    def bad() -> str:
        return next(places)

    for cohort in plan["cohorts"]:
        cohort |= {"gpu": bad(), "pools": [bad(), bad()], "no_return_why": bad(), "inherited": [
            {"claim": bad(), "statement": bad(), "source": bad()}]}
        for step in cohort["steps"]:
            step |= {"title": bad(), "notes": [bad(), f"driver 1 fixes {bad()}"], "because": [
                {"claim": bad(), "statement": bad(), "source": bad()}]}
            step["packages"] = {"manager": "apt", "install": {bad(): bad()}, "remove": [bad()]}
    plan["excluded"] = [{"node": text, "reason": text, "detail": text, "hint": text} for text in HOSTILE]
    plan["warnings"], plan["inputs"] = list(HOSTILE), {text: text for text in HOSTILE}
    plan["planner_version"], plan["pools"]["train"]["already_down"] = bad(), list(HOSTILE)
    names = {f"gpu{n:02}": text for n, text in enumerate(HOSTILE[:3], start=1)}
    plan["cohorts"][0]["nodes"] = list(names.values())
    plan["nodes"] = {names.get(name, name): node for name, node in plan["nodes"].items()}
    for wave in plan["waves"]:
        for batch in wave["batches"]:
            batch["nodes"] = [names[n] for n in batch["nodes"]]
    plan["gains"] = [{"claim": bad(), "statement": bad(), "source": bad(), "cohorts": [plan["cohorts"][0]["id"]]}]
    return plan


@pytest.mark.parametrize("name", RENDERERS)
def test_the_output_is_the_golden_one(name: str) -> None:
    """Changes of a format are reviewed as differences of these files."""
    # Without its real digest, which changes with every field that plans get.
    plan = finished(document()).model_copy(update={"digest": "sha256:of-the-plan"})
    path, text = GOLDEN / name, RENDERERS[name](plan)
    if os.environ.get("PLANNER_UPDATE_GOLDEN") == "1":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Keeps tags, attributes and text, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags.add(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """Check the order."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.words += data


def read(text: str) -> Reader:
    """Parse a page to its end."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("value", [document, hostile])
def test_a_page_is_whole_and_loads_nothing(value: Callable[[], dict[str, Any]]) -> None:
    """Tags are closed, no script, no frame, no address in any attribute, a policy that forbids all of it anyway."""
    page = read(render_html(finished(value())))
    assert page.tags.isdisjoint({"script", "img", "iframe", "link", "object", "embed", "form", "base", "a", "use"})
    assert ("meta", "content", POLICY) in page.attributes
    assert {name for _, name, _ in page.attributes}.isdisjoint({"src", "href", "style", "action", "srcset"})
    assert [name for _, name, _ in page.attributes if name.startswith("on")] == []
    assert "url(" not in render_html(finished(value())).partition("</style>")[0]


def test_hostile_names_are_text_on_the_page() -> None:
    """They are shown as they are, blanks for what cannot be printed, and make the same tags as harmless names."""
    page = read(render_html(finished(hostile())))
    assert page.tags == read(render_html(finished(document()))).tags | {"table"}
    for text in HOSTILE:
        assert " ".join("".join(c if c.isprintable() else " " for c in text).split()) in page.words
    assert "\x1b" not in page.words


STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def test_hostile_names_stay_inside_strings_of_dot() -> None:
    """With the strings taken out only the graph's own words are left, the same as for harmless names."""
    bare = [STRING.sub("", render_dot(finished(value()))) for value in (document, hostile)]
    assert bare[0] == bare[1]
    assert not re.search(r"evil|script|alert|\x1b", bare[1])


def test_hostile_names_are_no_markup_in_mermaid() -> None:
    """As many lines, fences and arrows as with harmless names; no quote, tag or directive comes from a name."""
    harmless, text = (render_mermaid(finished(value())) for value in (document, hostile))
    assert text.count("\n") == harmless.count("\n")
    assert text.count("```") == harmless.count("```") == 4
    for line in text.splitlines():
        if '["' in line:
            inside = line[line.index('["') + 2:line.rindex('"]')].replace("<br>", "")
            assert not set('"<>`') & set(inside)
        assert not line.strip().startswith(("%%", "click"))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_task_of_a_gantt_has_no_separators(text: str) -> None:
    """A colon starts the fields of a task, a comma ends one, a semicolon or number sign ends the line."""
    assert not set(task(text)) & set(":;#,%<>\n\"`")


def test_a_long_rollout_has_days_on_its_axis() -> None:
    """Hours alone would start again at midnight."""
    plan = document()
    assert "axisFormat %H:%M\n" in render_mermaid(finished(plan))
    plan["waves"][0]["soak_minutes"] = 3000
    text = render_mermaid(finished(plan))
    assert "axisFormat day %j, %H:%M\n" in text
    assert "2001-01-03T" in text


def test_a_plan_without_changes_has_no_chart() -> None:
    """Every format says that there is nothing to do, none fails."""
    plan = document()
    plan["cohorts"], plan["waves"] = plan["cohorts"][1:], []
    plan["nodes"] = {"gpu04": plan["nodes"]["gpu04"]}
    assert "<svg" not in render_html(finished(plan))
    assert "Already at the target." in render_html(finished(plan))
    assert "already at the target" in render_dot(finished(plan))
    assert "flowchart" not in render_mermaid(finished(plan))
