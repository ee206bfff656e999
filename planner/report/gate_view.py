"""Results of gates for people, for CI (JUnit) and for monitoring (OpenMetrics text). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any
from xml.etree import ElementTree

from planner.gates.compare import si
from planner.gates.failures import Verdict
from planner.gates.figures import PAIRS, Baseline, Figure, Gpu, Group, baseline_of
from planner.gates.judge import subject_of
from planner.report.console import format_table

_SHOWN = 400        # characters of one reason in a metric-free text
_BAD_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def gate_table(result: Mapping[str, Any], before: Baseline | None = None) -> str:
    """Return one node's result: verdict, GPUs, figures beside those from before, then every answer that is no pass.

    Args:
        result: A document ``planner.gate-result/2``.
        before: Figures from before the change.
    """
    judged, report = result["judged"], result["report"]
    versions = report.get("versions") or {}
    head = (f"{_plain(result['request']['host'])}: {judged['verdict']}, {judged['action']} "
            f"({result['request']['profile']} profile, driver {_plain(versions.get('loaded') or '-')}, "
            f"{report.get('seconds', 0):.1f} s)\n")
    lines = [head]
    rows = list(_gpu_rows(result))
    if rows:
        lines.append(format_table(("GPU", "name", "UUID", "passed", "not passed"), rows) + "\n")
    figures = list(_figure_rows(report, before))
    if figures:
        lines.append(format_table(("GPU", "figure", "median", "before", "change"), figures) + "\n")
    lines += [f"  {_plain(text)}\n" for text in [*judged["reasons"], *judged["notes"]]]
    skipped = sorted({answer["gate"] for answer in judged["results"] if answer["verdict"] == "skip"})
    if skipped:
        lines.append(f"  not tried (why: -o json): {_plain(', '.join(skipped))}\n")
    return "".join(lines)


def _gpu_rows(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    answers = result["judged"]["results"]
    for gpu in result["report"].get("gpus") or ():
        mine = [answer for answer in answers if answer["subject"] == subject_of(gpu)]
        bad = sorted({answer["gate"] for answer in mine if answer["verdict"] not in ("pass", "skip", "warn")})
        good = sum(answer["verdict"] in ("pass", "warn") for answer in mine)
        yield (str(gpu.get("index")), _plain(gpu.get("name", "")), _plain(gpu.get("nvml_uuid") or "-"), str(good),
               ", ".join(bad) or "-")


def _figure_rows(report: Mapping[str, Any], before: Baseline | None) -> Iterator[tuple[str, ...]]:
    slowest: dict[str, tuple[float, int, tuple[str, ...]]] = {}
    for gpus, figure, unit, value, was, part in _figures(report, before):
        change = f"{100 * (value / was - 1):+.1f} %" if was else "-"
        row: tuple[str, ...] = (gpus, figure, si(value, unit), si(was, unit) if was else "-", change)
        if part != PAIRS:
            yield row
            continue
        # Eight GPUs have 112 figures of pairs; the one to look at is that which lost most, or else the slowest.
        family = figure.rpartition("_")[0]
        rank, count = value / was if was else value, slowest[family][1] + 1 if family in slowest else 1
        best = min(slowest.get(family, (rank, 0, row)), (rank, 0, row), key=lambda each: each[0])
        slowest[family] = best[0], count, best[2]
    for _, (_, count, row) in sorted(slowest.items()):
        yield (row[0], f"{row[1]} (worst of {count})", *row[2:])


def _figures(report: Mapping[str, Any], before: Baseline | None
             ) -> Iterator[tuple[str, str, str, float, float | None, str]]:
    """Yield (numbers of the GPUs, figure, unit, median, median before or None, part)."""
    try:
        now = baseline_of(report)
    except ValueError:
        return
    numbers = {subject_of(gpu): str(gpu.get("index")) for gpu in report["gpus"]}
    holders: list[tuple[str, Gpu | Group, Gpu | Group | None, str]] = [
        (numbers.get(gpu.uuid, "?"), gpu, before.gpu(gpu.uuid) if before else None, "") for gpu in now.gpus]
    for group in now.groups:
        told = [numbers.get(uuid, "?") for uuid in group.gpus]
        # Of a pair the first is where forth begins; of all GPUs the order tells nothing.
        name = "-".join(told if group.part == PAIRS else sorted(told, key=lambda number: (len(number), number)))
        holders.append((name, group, before.group(group.key) if before else None, group.part))
    for name, holder, old, part in holders:
        for figure in holder.figures:
            was = old.figure(figure.name) if old else None
            yield name, figure.name, figure.unit, _middle(figure), _middle(was) if was else None, part


def _middle(figure: Figure) -> float:
    return median([x for group in figure.samples for x in group])


def junit(results: Sequence[Mapping[str, Any]]) -> str:
    """Return JUnit XML: a suite for each node, a test case for each answer; a warning passes and says so."""
    root = ElementTree.Element("testsuites", name="planner gate run")
    for result in results:
        report, answers = result["report"], result["judged"]["results"]
        verdicts = [Verdict(answer["verdict"]) for answer in answers]
        suite = ElementTree.SubElement(
            root, "testsuite", name=_xml(result["request"]["host"]), hostname=_xml(result["request"]["host"]),
            tests=str(len(answers)), failures=str(verdicts.count(Verdict.FAIL)),
            errors=str(verdicts.count(Verdict.ERROR) + verdicts.count(Verdict.HUNG)),
            skipped=str(verdicts.count(Verdict.SKIP) + verdicts.count(Verdict.INCONCLUSIVE)),
            time=f"{report.get('seconds', 0):.3f}", timestamp=_xml(str(report.get("started_at", "")).rstrip("Z")))
        for answer in answers:
            _case(suite, answer)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, answer: Mapping[str, Any]) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_xml(answer["gate"]), name=_xml(answer["subject"]))
    text = _xml("; ".join(answer["evidence"]))
    kind = {"fail": "failure", "error": "error", "hung": "error", "skip": "skipped",
            "inconclusive": "skipped"}.get(answer["verdict"])
    if kind == "skipped":
        ElementTree.SubElement(case, kind, message=_xml(f"{answer['code']}: {text}"))
    elif kind:
        element = ElementTree.SubElement(case, kind, type=_xml(answer["code"]), message=text)
        element.text = _xml(f"cause: {answer['cause']}; remedy: {answer['remedy']}")
    elif answer["verdict"] == "warn":
        properties = ElementTree.SubElement(case, "properties")
        ElementTree.SubElement(properties, "property", name="warning", value=_xml(f"{answer['code']}: {text}"))


def _xml(text: object) -> str:
    return _BAD_XML.sub("�", str(text))


def openmetrics(results: Sequence[Mapping[str, Any]], baselines: Mapping[str, Baseline]) -> str:
    """Return OpenMetrics text: no message is a label, units are base units.

    Args:
        results: Documents ``planner.gate-result/2``.
        baselines: Figures from before the change, by node.
    """
    lines: list[str] = []
    _family(lines, "planner_gate_result", "stateset", "Verdict of each gate.", (
        ({"node": r["request"]["host"], "gate": a["gate"], "subject": a["subject"], "planner_gate_result": word.value},
         int(a["verdict"] == word.value))
        for r in results for a in r["judged"]["results"] for word in Verdict))
    _family(lines, "planner_gate_run_duration_seconds", "gauge", "How long the gate took.", (
        ({"node": r["request"]["host"]}, r["report"].get("seconds", 0)) for r in results), "seconds")
    measures, ratios = [], []
    for result in results:
        host = result["request"]["host"]
        for index, figure, unit, value, was, _ in _figures(result["report"], baselines.get(host)):
            labels = {"node": host, "gpu": index, "figure": figure, "unit": unit}
            measures.append((labels, value))
            if was:
                ratios.append((labels, value / was))
    _family(lines, "planner_gate_measure", "gauge", "Median of a figure's samples, in the unit of its label.", measures)
    _family(lines, "planner_gate_baseline_ratio", "gauge", "Median over the median before the change.", ratios)
    _family(lines, "planner_gate", "info", "What ran.", (
        ({"node": r["request"]["host"], "profile": r["request"]["profile"], "kernels": r["report"].get("pack", "")}, 1)
        for r in results))
    return "\n".join([*lines, "# EOF"]) + "\n"


def _family(lines: list[str], name: str, kind: str, words: str, samples: Any, unit: str = "") -> None:
    lines += [f"# TYPE {name} {kind}", *([f"# UNIT {name} {unit}"] if unit else []), f"# HELP {name} {words}"]
    for labels, value in samples:
        told = ",".join(f'{key}="{_label(each)}"' for key, each in labels.items())
        lines.append(f"{name}{'_info' if kind == 'info' else ''}{{{told}}} {value:.9g}")


def _label(value: object) -> str:
    return _plain(value).replace("\\", "\\\\").replace('"', '\\"')[:_SHOWN]


def _plain(text: object) -> str:
    """Return text without what could steer a terminal: it comes from nodes."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", str(text))
