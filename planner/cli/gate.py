"""``planner gate``: prove GPUs on this machine or on nodes; keep what they could do, and compare."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from planner.diagnostics import Diagnostic
from planner.errors import InputError

RESULT, RESULTS = "planner.gate-result/2", "planner.gate-results/2"
LIMIT_S = {"quick": 300, "standard": 900, "deep": 1800}
# The worst first: a failure is told before a gate that broke, and that before one that could not tell.
_WORST = (7, 1, 8, 0)

_profile = click.option("--profile", type=click.Choice(["quick", "standard", "deep"]), default="quick",
                        show_default=True, help="quick: kernels, seconds; standard: also software; deep: also load.")
_WHERE = (
    click.option("--local", is_flag=True, help="This machine (the default without --host)."),
    click.option("--host", "hosts", multiple=True, metavar="NAME", help="A host of the inventory; repeatable."),
    click.option("-i", "--inventory", metavar="PATH", help="Inventory that knows the hosts."),
    click.option("--forks", type=click.IntRange(1, 500), default=20, show_default=True, help="Hosts at a time."),
)
_EXPECT = (
    click.option("--driver", default="", metavar="VERSION", help="Fail unless this driver is loaded and in use."),
    click.option("--fabric-manager", default="", metavar="VERSION", help="Fail unless it runs in this version."),
    click.option("--gpus", type=click.IntRange(min=1), help="Fail when fewer GPUs are found."),
)
_SOFTWARE = (
    click.option("--python", "pythons", multiple=True, metavar="PATH",
                 help="Interpreter whose frameworks must reach the GPUs; repeatable."),
    click.option("--root", "roots", multiple=True, metavar="DIR", help="Also look for toolkits and libraries here."),
    click.option("--image", default="", metavar="NAME", help="Local container image to run the gate in."),
    click.option("--require", "required", multiple=True, metavar="GATE",
                 help="A gate that must not be skipped, for example torch; repeatable."),
)


def _all(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


@click.group()
def gate() -> None:
    """Prove that GPUs compute: exit 0 pass, 7 fail or hung, 8 inconclusive or skipped, 1 the gate itself failed."""


@gate.command(epilog="""\b
Examples:
  planner gate run
  planner gate run --profile standard --before before.json
  planner gate run -i inventories/prod --host gpu-17 --driver 580.159.04 --gpus 8 --out gate.json
  planner gate run --profile deep --python /opt/envs/train/bin/python --require torch -o junit > gate.xml
""")
@_profile
@_all(*_WHERE, *_EXPECT, *_SOFTWARE)
@click.option("--before", type=click.Path(path_type=Path), help="Compare with this kept result (gate baseline).")
@click.option("--out", type=click.Path(path_type=Path), help="Keep reports and verdicts in this file.")
@click.option("-o", "--output", "output", type=click.Choice(["table", "json", "junit", "openmetrics"]), default="table",
              show_default=True, help="Format of what is printed.")
def run(profile: str, out: Path | None, output: str, before: Path | None, **options: Any) -> int:
    """Run the ladder of gates and judge every result from the run's own nonce."""
    kept = _read_results(before) if before else {}
    return _finish(_run(profile, options, kept), out, output, kept)


@gate.command(epilog="""\b
Examples:
  planner gate baseline --out before.json
  planner gate baseline --profile deep --out before.json -o figures > figures.json
  planner gate baseline -i inventories/prod --host gpu-17 --host gpu-18 --out before.json
""")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File for the baseline.")
@click.option("--profile", type=click.Choice(["standard", "deep"]), default="standard", show_default=True,
              help="deep: also the figures of a load.")
@_all(*_WHERE, *_SOFTWARE)
@click.option("-o", "--output", "output", type=click.Choice(["table", "json", "junit", "openmetrics", "figures"]),
              default="table", show_default=True,
              help="Format of what is printed; figures: one node's samples alone, planner.baseline/1.")
def baseline(out: Path, profile: str, output: str, **options: Any) -> int:
    """Run the gate and keep its samples of GPUs, pairs, all-reduces and load, to compare with after a change."""
    if output == "figures" and len(options.get("hosts") or ()) > 1:
        raise click.UsageError("-o figures prints one node; choose one --host")
    return _finish(_run(profile, options, {}), out, output, {})


@gate.command(epilog="""\b
Examples:
  planner gate compare before.json
  planner gate compare before.json after.json
  planner gate compare before.json after.json again.json -o html > compared.html
  planner gate compare nccl-before/ nccl-after/
""")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path), nargs=-1)
@click.option("--host", default="", metavar="NAME", help="Whose figures, where a file holds several nodes.")
@click.option("-o", "--output", "output", type=click.Choice(["table", "json", "html", "svg"]), default="table",
              show_default=True, help="Format of what is printed; html and svg show the samples.")
def compare(before: Path, after: tuple[Path, ...], host: str, output: str) -> int:
    """Compare a node with itself before a change: what is gone, slower or unsteady.

    With one file, the same gate runs now, on this machine. With more, nothing runs: the others were taken after
    the change, the first and its repetitions. Files of several nodes are compared node by node, and as one wave: it
    fails when nearly all of its GPUs lost 2 %, though each passes alone. A directory holds the reports of all ranks of
    one all-reduce (nccl.yml).
    """
    from planner.gates.compare import compare as compare_figures
    from planner.gates.figures import part_of
    from planner.gates.verdicts import Policy, fold
    from planner.report import compare_view as view
    from planner.report.console import print_json

    if after and not host and len(names := _hosts(before)) > 1:
        return _compare_wave(before, after, names, output)
    old = _figures(before, host, after[0] if after else None)
    if after:
        new = [_figures(path, old.host) for path in after]
    else:
        loaded = any(part_of(figure.name) for gpu in old.gpus for figure in gpu.figures)
        new = [_of_report(_run("deep" if loaded else "standard", {}, {})[0]["report"], "this machine")]
    found = compare_figures(old, *new)
    decision = fold(found.everything, Policy(required={}))
    if output == "json":
        print_json(view.comparison_json(found, decision))
    elif output == "table":
        view.print_comparison(found, decision)
    else:
        sys.stdout.write(view.comparison_svg(found) if output == "svg" else view.comparison_html(found, decision))
    return decision.exit_code


def _hosts(path: Path) -> list[str]:
    """Return the nodes of a kept file; none where it is a document of one node's figures."""
    from planner.cli.inputs import read_text
    from planner.gates.baseline import SCHEMA

    if path.is_dir():
        return []
    return [] if f'"{SCHEMA}"' in read_text(path) else sorted(_read_results(path))


def _compare_wave(before: Path, after: tuple[Path, ...], hosts: list[str], output: str) -> int:
    from planner.gates.compare import compare as compare_figures
    from planner.gates.compare import compare_wave
    from planner.gates.verdicts import Policy, fold
    from planner.report import compare_view as view
    from planner.report.console import format_table, print_json

    if output in ("html", "svg"):
        raise click.UsageError(f"-o {output} shows one node; choose it: --host {hosts[0]}")
    missing = {host for host in hosts for path in after if host not in _hosts(path)}
    found = {host: compare_figures(_figures(before, host, after[0]), *(_figures(path, host) for path in after))
             for host in hosts if host not in missing}
    decisions = {host: fold(each.everything, Policy(required={})) for host, each in found.items()}
    wave = compare_wave(list(found.values()))
    together = fold([result for result, _ in wave], Policy(required={}))
    codes = [decision.exit_code for decision in decisions.values()] + [together.exit_code if wave else 0]
    if output == "json":
        print_json({"schema": "planner.wave-comparison/1", "missing": sorted(missing), "wave": together.as_dict(),
                    "figures": [{"figure": result.gate.removeprefix("wave:"), "verdict": result.verdict.value,
                                 "loss": change.loss, "margin": change.margin, "slower": change.slower,
                                 "count": change.count, "of": change.voters} for result, change in wave],
                    "nodes": {host: view.comparison_json(found[host], decisions[host]) for host in sorted(found)}})
    else:
        rows = [(host, decisions[host].verdict.value, "; ".join(decisions[host].reasons)[:160] or "-")
                for host in sorted(found)] + [(host, "skip", "no measurement after the change")
                                              for host in sorted(missing)]
        sys.stdout.write(format_table(("node", "verdict", "why"), rows) + "\n")
        figures = [(result.gate.removeprefix("wave:"), f"{-100 * change.loss:+.1f} %".replace("-0.0 %", "+0.0 %"),
                    f"{change.slower} of {change.count} {change.voters}", result.verdict.value)
                   for result, change in wave]
        header = ("figure of the wave", "median change", "that lost", "verdict")
        sys.stdout.write(format_table(header, figures) + "\n")
    return min([*codes, 8 if missing else 0], key=_WORST.index)


def _run(profile: str, options: Mapping[str, Any], kept: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a result document for each node; ``kept``: node -> its result from before."""
    from planner.gates.judge import judge_gate
    from planner.gates.local import run_local_gate

    request = _request(profile, options)
    hosts = tuple(options.get("hosts") or ())
    if hosts and options.get("local"):
        raise click.UsageError("--local and --host: choose one")
    if hosts:
        texts = _remote(profile, hosts, options, request)
    else:
        text, asked = run_local_gate(request, platform.node() or "localhost", LIMIT_S[profile])
        texts = {asked["host"]: (text, asked)}
    results = []
    for host, (text, asked) in texts.items():
        old = kept.get(host) or (next(iter(kept.values())) if len(kept) == 1 and not hosts else None)
        judged = judge_gate(text, asked, json.dumps(old["report"]) if old else None)
        results.append({"schema": RESULT, "request": asked, "report": _report(text), "judged": judged})
    return results


def _request(profile: str, options: Mapping[str, Any]) -> dict[str, Any]:
    expect = {key: options.get(key) for key in ("driver", "fabric_manager", "gpus") if options.get(key)}
    software = {"pythons": list(options.get("pythons") or ()), "roots": list(options.get("roots") or ()),
                "image": options.get("image") or ""}
    return {"profile": profile, "expect": expect, "software": {k: v for k, v in software.items() if v},
            "required": list(options.get("required") or ())}


def _report(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {"schema": "none", "text": text[:2000]}
    return value if isinstance(value, dict) else {"schema": "none"}


def _remote(profile: str, hosts: tuple[str, ...], options: Mapping[str, Any],
            request: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    from planner.cli.facts import make_runner
    from planner.facts.inventory import load_inventory
    from planner.gates.nodes import run_gates

    if not options.get("inventory"):
        raise click.UsageError("--host needs an inventory: -i INVENTORY")
    nodes = load_inventory(str(options["inventory"]), limit=",".join(hosts))
    answers, asked_of = run_gates(nodes, make_runner(), request, forks=int(options["forks"]),
                                  timeout_s=LIMIT_S[profile])
    for name, refusal in sorted(answers.refusals.items()):
        click.echo(f"error: gate-not-run: {name}: {refusal.reason}\n  next: {refusal.hint}", err=True)
    return {host.name: (str(answers.documents.get(host.name, {}).get("text", "")), asked_of(host.name))
            for host in nodes.hosts}


def _finish(results: list[dict[str, Any]], out: Path | None, output: str, kept: Mapping[str, dict[str, Any]]) -> int:
    from planner.documents import canonical_json
    from planner.report import gate_view
    from planner.report.console import print_json

    document = results[0] if len(results) == 1 else {"schema": RESULTS, "results": results}
    if out is not None:
        _write(out, canonical_json(document))
    now = {result["request"]["host"]: result["report"] for result in results}
    alone = results[0]["report"] if len(kept) == len(results) == 1 else None
    before = {name: _of_report(_known_now(value["report"], now.get(name) or alone), name)
              for name, value in kept.items()}
    if output == "json":
        print_json(document)
    elif output == "figures":
        from planner.gates.baseline import baseline_json

        sys.stdout.write(canonical_json(baseline_json(_of_report(results[0]["report"], "this node"))))
    elif output == "junit":
        sys.stdout.write(gate_view.junit(results))
    elif output == "openmetrics":
        sys.stdout.write(gate_view.openmetrics(results, before))
    else:
        for result in results:
            host = result["request"]["host"]
            sys.stdout.write(gate_view.gate_table(result, before.get(host) or (
                next(iter(before.values())) if len(before) == len(results) == 1 else None)))
    return min((int(result["judged"]["exit_code"]) for result in results), key=_WORST.index)


def _read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Return host -> result of a kept file."""
    from planner.cli.inputs import read_text

    try:
        document = json.loads(read_text(path))
        results = document["results"] if document["schema"] == RESULTS else [document]
        for result in results:
            if result["schema"] != RESULT:
                raise ValueError(f"its schema is {str(result['schema'])[:80]!r}, not {RESULT}")
            _ = result["report"]["gpus"], result["report"]["versions"]
        return {str(result["request"]["host"]): result for result in results}
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise InputError(Diagnostic(code="baseline-unreadable", subject=str(path),
                                    summary=f"not a kept result of a gate: {exc}",
                                    hint="take one: planner gate baseline --out FILE")) from exc


def _figures(path: Path, host: str, now: Path | None = None) -> Any:
    """Return the figures of one node from a kept result or a document ``planner.baseline/1``.

    MIG devices that were made again are called as in the kept result ``now``, where it is one.
    """
    from planner.cli.inputs import read_text
    from planner.gates.baseline import SCHEMA, read_baseline

    if path.is_dir():
        return _of_ranks(path)
    text = read_text(path)
    if f'"{SCHEMA}"' in text:
        return read_baseline(text, name=str(path))
    results = _read_results(path)
    if len(results) > 1 and host not in results:
        raise click.UsageError(f"{path} holds {len(results)} nodes; choose one: --host {next(iter(results))}")
    result = results.get(host) or next(iter(results.values()))
    other = None
    if now is not None and _has_mig(result["report"]) and not now.is_dir() and f'"{SCHEMA}"' not in read_text(now):
        others = _read_results(now)
        other = (others.get(host or str(result["request"]["host"])) or next(iter(others.values())))["report"]
    return _of_report(_known_now(result["report"], other), str(path))


def _has_mig(report: Mapping[str, Any]) -> bool:
    return any(isinstance(gpu, dict) and gpu.get("parent") for gpu in report.get("gpus") or ())


def _known_now(report: Mapping[str, Any], now: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return a report from before with each MIG device under the UUID that it has now."""
    from planner.gates.mig import as_known_now

    return report if now is None else as_known_now(report, now, with_lost=True) or report


def _of_ranks(folder: Path) -> Any:
    """Return the figures of an all-reduce whose ranks each left a report in the folder."""
    from planner.cli.inputs import read_text
    from planner.gates.figures import ranks_of

    try:
        return ranks_of([json.loads(read_text(path)) for path in sorted(folder.glob("*.json"))])
    except (ValueError, RecursionError) as exc:
        raise InputError(Diagnostic(code="baseline-unreadable", subject=str(folder),
                                    summary=f"not the reports of all ranks of one all-reduce: {exc}",
                                    hint="let nccl.yml write them, or choose the file of one node")) from exc


def _of_report(report: Mapping[str, Any], name: str) -> Any:
    from planner.gates.figures import baseline_of

    try:
        return baseline_of(report)
    except ValueError as exc:
        raise InputError(Diagnostic(code="baseline-unreadable", subject=name,
                                    summary=f"no figures can be read from it: {exc}",
                                    hint="take one: planner gate baseline --out FILE")) from exc


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as exc:
        raise InputError(Diagnostic(code="not-written", subject=str(path), summary=f"cannot write: {exc}",
                                    hint="choose another place with --out")) from exc
