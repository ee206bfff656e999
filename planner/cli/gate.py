"""``planner gate``: prove this machine's GPUs; keep what they could do, and compare."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import Any

import click

from planner.diagnostics import Diagnostic
from planner.errors import ExitCode, InputError

CODES = {"pass": ExitCode.DONE, "fail": ExitCode.HALTED, "inconclusive": ExitCode.PAUSED}
_profile = click.option("--profile", type=click.Choice(["quick", "full"]), default="quick", show_default=True,
                        help="How much work each GPU must prove.")
_expect = (
    click.option("--driver", default="", metavar="VERSION", help="Fail unless this driver is loaded and in use."),
    click.option("--fabric-manager", default="", metavar="VERSION", help="Fail unless it runs in this version."),
    click.option("--gpus", type=click.IntRange(min=1), help="Fail when fewer GPUs are found."),
)
_format = click.option("-o", "--output", "output", type=click.Choice(["table", "json"]), default="table",
                       help="Format of what is printed.")


@click.group()
def gate() -> None:
    """Prove that this machine's GPUs compute: exit 0 pass, 7 fail, 8 inconclusive, 1 the gate itself failed."""


@gate.command(epilog="""\b
Examples:
  planner gate run
  planner gate run --driver 580.159.04 --gpus 8 --out gate.json
""")
@_profile
@_expect[0]
@_expect[1]
@_expect[2]
@click.option("--out", type=click.Path(path_type=Path), help="Keep the report with its verdict in this file.")
@_format
def run(profile: str, driver: str, fabric_manager: str, gpus: int | None, out: Path | None, output: str) -> int:
    """Run one kernel on every GPU and judge its whole output, bit for bit."""
    document = _run(profile, {"driver": driver, "fabric_manager": fabric_manager, "gpus": gpus})
    return _finish(document, out, output)


@gate.command(epilog="\b\nExample:\n  planner gate baseline --out before.json")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File for the baseline.")
@_format
def baseline(out: Path, output: str) -> int:
    """Run the full gate and keep its report, to compare with after a change."""
    return _finish(_run("full", {}), out, output)


@gate.command(epilog="""\b
Examples:
  planner gate compare before.json
  planner gate compare before.json after.json
  planner gate compare before.json after.json again.json -o html > compared.html
""")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path), nargs=-1)
@click.option("-o", "--output", "output", type=click.Choice(["table", "json", "html", "svg"]), default="table",
              help="Format of what is printed; html and svg show the samples of measured baselines.")
def compare(before: Path, after: tuple[Path, ...], output: str) -> int:
    """Compare this machine with itself before a change: what is gone, slower or unsteady.

    With one file, the full gate runs now. With more, nothing runs: the others are measurements (planner.baseline/1)
    after the change, the first and its repetitions.
    """
    if after:
        return _compare_measured(before, after, output)
    if output in ("html", "svg"):
        raise click.UsageError(f"-o {output} shows samples: name the measurement after the change, too")
    from planner.gates.compare import compare_reports
    from planner.report.console import format_table, print_json

    old = _read(before)
    document = _run("full", {})
    found = compare_reports(old["report"], document["report"])
    judged = document["judged"]
    reasons = [*found.lost, *judged["reasons"]]
    verdict = "fail" if found.lost else judged["verdict"]
    if output == "json":
        print_json({"verdict": verdict, "reasons": reasons, "differences": [list(row) for row in found.rows]})
    else:
        sys.stdout.write(format_table(("what", "before", "now"), found.rows) + "\n")
        _tell(verdict, reasons, judged["notes"])
    return int(CODES[verdict])


def _compare_measured(before: Path, after: tuple[Path, ...], output: str) -> int:
    from planner.cli.inputs import read_text
    from planner.gates.baseline import compare as compare_baselines
    from planner.gates.baseline import read_baseline
    from planner.gates.verdicts import Policy, fold
    from planner.report import compare_view as view
    from planner.report.console import print_json

    documents = [read_baseline(read_text(path), name=str(path)) for path in (before, *after)]
    found = compare_baselines(documents[0], *documents[1:])
    decision = fold(found.results, Policy(required={}))
    if output == "json":
        print_json(view.comparison_json(found, decision))
    elif output == "table":
        view.print_comparison(found, decision)
    else:
        sys.stdout.write(view.comparison_svg(found) if output == "svg" else view.comparison_html(found, decision))
    return decision.exit_code


def _run(profile: str, expect: dict[str, Any]) -> dict[str, Any]:
    from planner.gates.judge import judge_gate
    from planner.gates.local import run_local_gate

    wanted = {key: value for key, value in expect.items() if value}
    text, request = run_local_gate(profile, platform.node() or "localhost", wanted)
    return {"schema": "planner.gate-result/1", "request": request, "report": json.loads(text),
            "judged": judge_gate(text, request)}


def _finish(document: dict[str, Any], out: Path | None, output: str) -> int:
    from planner.documents import canonical_json
    from planner.report.console import format_table, print_json

    if out is not None:
        _write(out, canonical_json(document))
    judged, report = document["judged"], document["report"]
    if output == "json":
        print_json(document)
    else:
        loaded = report["versions"].get("loaded") or "-"
        rows = [(str(gpu["index"]), gpu.get("name", ""), loaded, _words(gpu),
                 f"{gpu.get('context_s', 0) + gpu.get('kernel_s', 0):.2f}") for gpu in report["gpus"]]
        sys.stdout.write(format_table(("GPU", "name", "driver", "kernel", "seconds"), rows) + "\n")
        _tell(judged["verdict"], judged["reasons"], judged["notes"])
    return int(CODES[judged["verdict"]])


def _words(gpu: dict[str, Any]) -> str:
    trouble = gpu.get("error") or gpu.get("busy") or gpu.get("unsuited")
    return str(trouble) if trouble else f"{gpu['entry']}: {gpu['n']} threads, {gpu['rounds']} rounds"


def _tell(verdict: str, reasons: list[str], notes: list[str]) -> None:
    sys.stdout.write(f"verdict: {verdict}\n" + "".join(f"  {text}\n" for text in [*reasons, *notes]))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != "planner.gate-result/1":
            raise ValueError("its schema is not planner.gate-result/1")
        _ = document["report"]["gpus"], document["report"]["versions"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise InputError(Diagnostic(code="baseline-unreadable", subject=str(path),
                                    summary=f"not a kept gate report: {exc}",
                                    hint="take one: planner gate baseline --out FILE")) from exc
    return dict(document)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        raise InputError(Diagnostic(code="not-written", subject=str(path), summary=f"cannot write: {exc}",
                                    hint="choose another place with --out")) from exc
