"""Before and after for people: the same bytes each time, nothing loaded, and no name is more than text."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.console import Console

from planner.cli.gate import gate
from planner.errors import InputError
from planner.gates.baseline import baseline_json
from planner.gates.compare import Comparison, compare
from planner.gates.figures import baseline_of
from planner.gates.verdicts import Decision, Policy, fold
from planner.report.compare_view import CompareView, comparison_html, comparison_json, comparison_svg
from tests.gates.nodes import after, document, edited, parsed
from tests.gates.together import A, B, report

GOLDEN = Path(__file__).parent / "golden"
FIGURES = ("copy_device", "copy_to_host", "wmma_f16", "launch_sync")
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</style><script>alert(1)</script>\"'&\u202ex"


def both(loss: float = 0.15, **changed: Any) -> tuple[Comparison, Decision]:
    """Return two GPUs, of which the second lost ``loss``; made-up measurements, and marked as such."""
    later = after(gpus=2, figures=FIGURES)
    later["gpus"][1] = after("slow", gpus=2, loss=loss, figures=FIGURES)["gpus"][1]
    later["gpus"][0]["driver"] = "590.44.01"
    later |= changed
    found = compare(parsed(document(gpus=2, figures=FIGURES)), parsed(later))
    return found, fold(found.results, Policy(required={}))


def pairs() -> Comparison:
    """Return two recorded GPUs with pairs, all-reduces, twenty slices of a load; copies in one direction are slow."""
    later = report(1, slices=20)
    pair = later["pairs"]["pairs"][1]["copy"]
    pair["gbps"] = [0.85 * value for value in pair["gbps"]]
    return compare(baseline_of(report(slices=20)), baseline_of(later))


def table(found: Comparison, decision: Decision, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False, color_system=None).print(CompareView(found, decision),
                                                                                soft_wrap=True)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["compare.svg", "compare.html", "compare.txt"])
def test_the_golden_files_are_what_is_made(name: str) -> None:
    found, decision = both()
    made = {"compare.svg": lambda: comparison_svg(found), "compare.html": lambda: comparison_html(found, decision),
            "compare.txt": lambda: table(found, decision)}[name]()
    if os.environ.get("PLANNER_UPDATE_GOLDEN") == "1":
        (GOLDEN / name).write_text(made, encoding="utf-8")
    assert made == (GOLDEN / name).read_text(encoding="utf-8")


def test_the_golden_chart_of_pairs_is_what_is_made() -> None:
    made = comparison_svg(pairs())
    if os.environ.get("PLANNER_UPDATE_GOLDEN") == "1":
        (GOLDEN / "compare-pairs.svg").write_text(made, encoding="utf-8")
    assert made == (GOLDEN / "compare-pairs.svg").read_text(encoding="utf-8")


def test_pairs_all_reduces_and_load_have_panels_of_their_own_and_every_sample() -> None:
    found = pairs()
    root = ElementTree.fromstring(comparison_svg(found))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    titles = ["throughput", "latency", "between two GPUs", "all-reduce", "all-reduce of few bytes", "under load",
              "the processor under load"]
    assert [text for text in texts if text in titles] == titles
    for kind, documents in (("before", found.before), ("after", found.after)):
        samples = sum(len(group) for holder in (*documents.gpus, *documents.groups) for figure in holder.figures
                      for group in figure.samples)
        circles = [c for c in root.iter(f"{SVG}circle") if c.get("class") == kind]
        assert len(circles) == samples + 1                                      # and the legend
    assert [title.text for title in root.iter(f"{SVG}title") if "peer_copy_back" in (title.text or "")] == [
        f"peer_copy_back of {A}, {B}"]
    spans = [span.text for span in root.iter(f"{SVG}tspan")]
    assert " 5555→4444" in spans
    assert " 2 GPUs" in spans


def test_a_pair_has_its_own_lines_in_table_page_and_json() -> None:
    found = pairs()
    decision = fold(found.everything, Policy(required={}))
    shown, page, value = table(found, decision), comparison_html(found, decision), comparison_json(found, decision)
    assert f"between {A}" in shown
    assert "all-reduce over 2 GPUs, one process" in shown
    assert decision.exit_code == 7
    assert page.count("peer_copy_back") >= 3        # chart, figures, reason
    slow = [row for row in value["figures"] if row["code"] == "PERF_DROP"]
    assert [(row["part"], row["gpus"], row["figure"]) for row in slow] == [("pairs", [A, B], "peer_copy_back")]
    assert {row["part"] for row in value["figures"]} == {"", "pairs", "collective", "load"}


def test_of_many_pairs_those_that_passed_are_one_line_and_the_gpu_of_all_that_failed_is_named() -> None:
    uuids = [f"GPU-{letter}" for letter in "abcde"]
    documents = [baseline_json(baseline_of(report(run, profile="standard"))) for run in range(2)]
    for value in documents:
        (gpu, _), (pair,), (whole,) = value["gpus"], value["pairs"], value["collectives"]
        value["gpus"] = [gpu | {"uuid": uuid} for uuid in uuids]
        value["pairs"] = [pair | {"gpus": [one, other]} for one in uuids for other in uuids if one < other]
        whole["gpus"] = uuids
    later = json.loads(json.dumps(documents[1]))
    for pair in later["pairs"]:
        if "GPU-c" in pair["gpus"]:
            pair["figures"][0]["samples"] = [[0.9 * value for value in pair["figures"][0]["samples"][0]]]
    found = compare(parsed(documents[0]), parsed(later))
    shown = table(found, fold(found.everything, Policy(required={})), 200)
    assert "between 6 pairs of GPUs that passed in both directions: from −0.2 % to +0.3 %" in shown
    assert "all 4 pairs that failed have GPU-c in common" in shown
    assert shown.count("  forth from the first") + shown.count(": forth from the first") == 4
    assert "all-reduce over 5 GPUs, one process: GPU-a, GPU-b, GPU-c, GPU-d, GPU-e" in shown
    assert {row.gpu for row in found.rows if row.part == "collective"} == {"5 GPUs"}
    page = comparison_html(found, fold(found.everything, Policy(required={})))
    assert "in common" in page
    assert page.count("<td>peer_copy_back</td>") == 10


def test_what_is_said_of_several_figures_is_said_once() -> None:
    later = report(1, slices=20)
    later["load"] = [{"uuid": A, "error": "timeout"}]
    found = compare(baseline_of(report(slices=20)), baseline_of(later))
    shown = table(found, fold(found.everything, Policy(required={})), 400)
    assert shown.count("timeout (GATE_NO_RESULT)") == 1
    assert f"load_launch_cpu, load_tensor of {A}, {B}: measured before, not after: timeout" in shown
    assert "after: no load: timeout" in shown


def test_the_chart_holds_every_sample_and_both_medians() -> None:
    root = ElementTree.fromstring(comparison_svg(both()[0]))
    for kind, bar in (("before", "mb"), ("after", "ma")):
        circles = [c for c in root.iter(f"{SVG}circle") if c.get("class") == kind]
        assert len(circles) == 2 * len(FIGURES) * 10 + 1        # ten samples each, and the legend
        assert len([c for c in root.iter(f"{SVG}line") if c.get("class") == bar]) == 2 * len(FIGURES)


def test_nothing_leaves_the_chart_whatever_the_samples() -> None:
    wild = after()
    wild["gpus"][0]["figures"][0]["samples"] = [[1e-12, 1.0, 1e21, 1e13, 1e12]] * 2
    found = compare(parsed(document()), parsed(wild))
    json.dumps(comparison_json(found, fold(found.results, Policy(required={}))), allow_nan=False)
    root = ElementTree.fromstring(comparison_svg(found))
    assert all(0 <= float(c.get("cx", "-1")) <= 1000 for c in root.iter(f"{SVG}circle"))
    assert "nan" not in ElementTree.tostring(root, encoding="unicode")


def test_limits_are_shaded_on_the_worse_side() -> None:
    root = ElementTree.fromstring(comparison_svg(both()[0]))
    places = [float(r.get("x", "0")) for r in root.iter(f"{SVG}rect") if r.get("class") == "failed"]
    middle = 260 + (1000 - 260 - 150) / 2
    assert len([x for x in places if x < middle]) == 6      # throughput of two GPUs
    assert len([x for x in places if x > middle]) == 2      # latency


def test_light_and_dark_are_both_there_and_nothing_is_loaded() -> None:
    found, decision = both()
    for made in (comparison_svg(found), comparison_html(found, decision)):
        assert "prefers-color-scheme: dark" in made
        assert not re.search(r"(?:src|href)=|url\(|@import|<script", made)
        assert set(re.findall(r"https?://[^\s\"'<]+", made)) == {"http://www.w3.org/2000/svg"}


def hostile() -> Comparison:
    """Return a comparison in which every name of the node is an attack."""
    values = []
    for value in (document(figures=FIGURES[:1]), after(figures=FIGURES[:1])):
        for path in (("host",), ("gate",), ("kernels",), ("gpus", 0, "uuid"), ("gpus", 0, "name"),
                     ("gpus", 0, "driver"), ("gpus", 0, "figures", 0, "name"), ("gpus", 0, "figures", 0, "unit")):
            value = edited(value, *path, to=HOSTILE)
        value["gpus"][0]["foreign"] = [HOSTILE]
        values.append(parsed(value))
    return compare(*values)


def test_hostile_names_are_text() -> None:
    found = hostile()
    decision = fold(found.results, Policy(required={}))
    page = comparison_html(found, decision)
    assert "<script" not in page
    assert page.count("</style>") == 2
    assert "\u202e" not in page
    root = ElementTree.fromstring(comparison_svg(found))
    known = {"svg", "style", "rect", "text", "tspan", "title", "circle", "line"}
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= known
    assert "\u202e" not in table(found, decision)
    json.dumps(comparison_json(found, decision), allow_nan=False)


def test_hostile_names_of_pairs_are_text() -> None:
    documents = []
    for run in range(2):
        value = baseline_json(baseline_of(report(run, slices=20)))
        value["pairs"][0] |= {"gpus": sorted([HOSTILE, A])}
        value["pairs"][0]["figures"][0]["name"] = HOSTILE
        value["collectives"][0]["figures"][0]["unit"] = HOSTILE
        value["absent"] = [{"part": "load", "tried": True, "why": HOSTILE}]
        documents.append(parsed(value))
    found = compare(*documents)
    assert len([row for row in found.rows if row.part == "pairs"]) == 4
    for value in (comparison_html(found, fold(found.everything, Policy(required={}))), comparison_svg(found)):
        assert "<script" not in value
        assert "\u202e" not in value
    assert "\u202e" not in table(found, fold(found.everything, Policy(required={})))


def test_a_lone_surrogate_is_refused_before_it_can_break_an_output() -> None:
    with pytest.raises(InputError):
        parsed(edited(document(), "host", to="gpu-\ud800"))


def test_json_says_what_the_table_says() -> None:
    found, decision = both()
    value = comparison_json(found, decision)
    assert value["schema"] == "planner.comparison/1"
    assert value["decision"]["verdict"] == "fail"
    slow = [f for f in value["figures"] if f["code"] == "PERF_DROP"]
    assert {f["gpu"] for f in slow} == {"GPU-gpu-17-1"}
    assert all(0.13 < f["loss"] < 0.17 and f["fail"] == 0.05 for f in slow)


def test_a_gpu_that_is_gone_is_in_the_table() -> None:
    found = compare(parsed(document(gpus=2)), parsed(after(gpus=1)))
    shown = table(found, fold(found.results, Policy(required={})))
    assert "it is gone" in shown
    assert "GPU_MISSING" in shown


@pytest.mark.parametrize("width", [60, 80, 140])
def test_lines_have_no_blanks_at_their_ends(width: int) -> None:
    assert not [line for line in table(*both(), width).splitlines() if line != line.rstrip()]


# --- the verb


def invoke(tmp_path: Path, *documents: dict[str, Any], output: str = "table") -> Any:
    names = []
    for number, value in enumerate(documents):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        names.append(str(path))
    return CliRunner().invoke(gate, ["compare", *names, "-o", output], standalone_mode=False)


@pytest.mark.parametrize(("later", "code"), [
    (after(), 0), (after(loss=0.15), 7), ({**after(), "gate": "2"}, 8),
    (edited(after(), "gpus", 0, "figures", 0, to=...), 1)])
def test_the_verb_ends_with_the_code_of_the_decision(tmp_path: Path, later: dict[str, Any], code: int) -> None:
    assert invoke(tmp_path, document(), later).return_value == code


def test_a_failure_that_repeats_asks_for_quarantine(tmp_path: Path) -> None:
    slow = after(loss=0.15)
    found = [invoke(tmp_path, document(), *[slow] * count, output="json") for count in (1, 2)]
    assert [json.loads(r.output)["decision"]["action"] for r in found] == ["retry-after-idle", "quarantine"]


@pytest.mark.parametrize(("output", "start"), [("table", "gpu-17: 2026"), ("json", "{"), ("html", "<!doctype html>"),
                                               ("svg", "<svg xmlns")])
def test_each_format_is_printed(tmp_path: Path, output: str, start: str) -> None:
    assert invoke(tmp_path, document(), after(), output=output).output.startswith(start)


def test_what_is_no_baseline_is_refused_by_name(tmp_path: Path) -> None:
    found = invoke(tmp_path, document(), {"schema": "planner.gate-result/1"})
    assert isinstance(found.exception, InputError)
    assert "1.json" in found.exception.diagnostics[0].subject
