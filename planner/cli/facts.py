"""``planner discover`` and ``planner doctor``."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from planner.cli.inputs import FORMATS, load_rules, matrix_option
from planner.diagnostics import Diagnostic, Severity
from planner.documents import canonical_json, dump_model
from planner.errors import ExitCode, FactsError, InputError
from planner.facts.collect import FORKS, READ_TASK, ask_nodes, collect_facts
from planner.facts.doctor import Check, run_doctor
from planner.facts.inventory import NAME, Inventory, load_inventory
from planner.facts.schema import FactDocument, FactSet
from planner.fleet.packages import package_globs
from planner.fleet.state import upstream
from planner.probe.pid import read_pid
from planner.report.console import format_table, print_diagnostics, print_json
from planner.runner.port import HostEvent, PlaybookRunner

_INVENTORY_HELP = "Inventory: a file, a directory, or anything else that Ansible takes."
_DISCOVER_EPILOG = """\b
Examples:
  planner discover -i inventories/prod --out facts.json
  planner discover -i inventories/prod -l rack7 -o json
  planner discover -i inventories/prod --pid gpu-17:41234
  planner discover --pid 41234
"""
_DOCTOR_EPILOG = """\b
Examples:
  planner doctor -i inventories/prod
  planner doctor -i inventories/prod -l rack7 -o json
"""


def make_runner() -> PlaybookRunner:
    """Return the runner that speaks to real nodes; Ansible is imported only now."""
    from planner.runner.ansible import AnsibleRunner  # slow import, not needed for --help

    return AnsibleRunner()


@click.command(epilog=_DISCOVER_EPILOG)
@click.option("-i", "--inventory", help=_INVENTORY_HELP)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write facts.json here.")
@click.option("-l", "--limit", default="", help="Ansible's limit: only these hosts or groups.")
@click.option(
    "--pid", "process", help="Tell which CUDA libraries a process has mapped: NODE:PID, or PID on this machine."
)
@click.option(
    "--forks", type=click.IntRange(1, 500), default=FORKS, show_default=True, help="Nodes read at the same time."
)
@click.option("-o", "output", type=FORMATS, default="table", show_default=True, help="Format of what is printed.")
@matrix_option
def discover(
    inventory: str | None,
    out: Path | None,
    limit: str,
    process: str | None,
    forks: int,
    output: str,
    overlays: tuple[Path, ...],
) -> int:
    """Read what every node runs; write facts.json.

    Nodes that cannot be read are reported and left out of every step. Nothing on a node is changed.
    """
    if process is not None:
        return _process(process, inventory, output)
    if inventory is None:
        raise click.UsageError("give an inventory: -i INVENTORY")
    nodes = load_inventory(inventory, limit=limit)
    globs = package_globs(load_rules(overlays))
    document = collect_facts(
        nodes, make_runner(), package_globs=globs, forks=forks, created_at=_now(), on_event=_progress(len(nodes.hosts))
    )
    print_diagnostics(unreadable_diagnostics(document))
    if not document.nodes:
        raise FactsError(
            Diagnostic(
                code="no-node-read",
                subject=inventory,
                summary="no node of the inventory could be read",
                hint=f"run: planner doctor -i {inventory}",
            )
        )
    text = canonical_json(dump_model(document))
    if out is not None:
        write_file(out, text)
    if output == "json":
        if out is None:
            sys.stdout.write(text)
        else:
            print_json(
                {
                    "facts": str(out),
                    "nodes": len(document.nodes),
                    "fact_sets": len(document.fact_sets),
                    "unreadable": [u.name for u in document.unreadable],
                }
            )
        return ExitCode.DONE
    sys.stdout.write(summary_table(document) + "\n")
    if out is not None:
        sys.stderr.write(f"wrote {out}; next: planner plan --facts {out} --target target.yml --out bundle/\n")
    return ExitCode.DONE


@click.command(epilog=_DOCTOR_EPILOG)
@click.option("-i", "--inventory", required=True, help=_INVENTORY_HELP)
@click.option("-l", "--limit", default="", help="Ansible's limit: only these hosts or groups.")
@click.option(
    "--forks", type=click.IntRange(1, 500), default=FORKS, show_default=True, help="Nodes looked at together."
)
@click.option("-o", "output", type=FORMATS, default="table", show_default=True, help="Format of what is printed.")
def doctor(inventory: str, limit: str, forks: int, output: str) -> int:
    """Check access (SSH, become, mirror, scheduler, Python) before anything else.

    Exit code 1 when something is missing; each lack has a hint. Nothing on a node is changed.
    """
    nodes = load_inventory(inventory, limit=limit)
    checks = run_doctor(nodes, make_runner(), clock=time.time, forks=forks, on_event=_progress(len(nodes.hosts)))
    lacking = [c for c in checks if c.status != "ok"]
    if output == "json":
        print_json({"checks": [c.as_dict() for c in checks], "ok": not any(c.status == "missing" for c in checks)})
    else:
        rows = [(c.subject, c.name, c.status, c.detail) for c in checks]
        sys.stdout.write(format_table(("SUBJECT", "CHECK", "STATUS", "DETAIL"), rows) + "\n")
        print_diagnostics(_as_diagnostic(c) for c in lacking)
    return ExitCode.ERROR if any(c.status == "missing" for c in checks) else ExitCode.DONE


def _as_diagnostic(check: Check) -> Diagnostic:
    severity = Severity.ERROR if check.status == "missing" else Severity.WARNING
    return Diagnostic(
        code="not-ready" if check.status == "missing" else "doubtful",
        subject=check.subject,
        summary=f"{check.name}: {check.detail}",
        hint=check.hint,
        severity=severity,
    )


def unreadable_diagnostics(document: FactDocument) -> list[Diagnostic]:
    """Return one warning a node that is left out."""
    return [
        Diagnostic(
            code="unreadable-node", subject=node.name, summary=node.reason, hint=node.hint, severity=Severity.WARNING
        )
        for node in document.unreadable
    ]


def summary_table(document: FactDocument) -> str:
    """Return a table of what runs where: one row per kind of node, then a line of counts."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for node in document.nodes:
        pool = str(node.declared.get("pool", "default"))
        rows.setdefault((pool, *_cells(document.fact_sets[node.facts])), []).append(node.name)
    table = [(_names(names), *cells) for cells, names in sorted(rows.items())]
    header = ("NODES", "POOL", "OS", "KERNEL", "GPU", "DRIVER", "OWNER", "FABRIC", "TOOLKITS")
    counts = f"{len(document.nodes)} nodes, {len(document.fact_sets)} fact sets, {len(document.unreadable)} unreadable"
    return format_table(header, table) + "\n" + counts


def _cells(facts: FactSet) -> tuple[str, ...]:
    models = sorted({gpu.model for gpu in facts.gpus})
    loaded, installed = facts.driver.loaded, facts.driver.userspace or upstream(facts.driver.package)
    driver = installed or loaded or "none"
    if loaded and installed and not installed.startswith(loaded):
        driver = f"{installed} (loaded {loaded})"
    return (
        f"{facts.os.id}-{facts.os.version_id}",
        facts.kernel.running,
        f"{len(facts.gpus)}x {' + '.join(models) or 'none'}",
        driver,
        facts.driver.owner or "unknown",
        upstream(facts.fabric_manager.version) or "-",
        " ".join(t.version for t in facts.toolkits) or "-",
    )


def _names(names: list[str]) -> str:
    return (
        names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more" if len(names) > 3 else " ".join(names)
    )


def _process(process: str, inventory: str | None, output: str) -> int:
    """Tell which CUDA libraries one process has mapped, here or on a node."""
    node, _, number = process.rpartition(":")
    if not number.isdigit() or (node and not NAME.match(node)):
        raise click.UsageError(f"--pid takes NODE:PID or PID, not {process!r}")
    answer = read_pid(int(number)) if not node else _remote_process(node, number, inventory)
    if answer.get("error"):
        raise InputError(
            Diagnostic(
                code="process-unreadable",
                subject=process,
                summary=str(answer["error"]),
                hint="check the number with: ps -e; another user's process needs root",
            )
        )
    if output == "json":
        print_json(answer)
        return ExitCode.DONE
    rows = [
        (lib["name"], lib["version"] or "?", lib["path"] + (" (deleted)" if lib["deleted"] else ""))
        for lib in answer["libraries"]
    ]
    sys.stdout.write(
        format_table(("LIBRARY", "VERSION", "FILE"), rows) + "\n" if rows else "no CUDA library is mapped\n"
    )
    return ExitCode.DONE


def _remote_process(node: str, number: str, inventory: str | None) -> dict[str, Any]:
    if inventory is None:
        raise click.UsageError("NODE:PID needs an inventory: -i INVENTORY")
    nodes = load_inventory(inventory)
    hosts = tuple(h for h in nodes.hosts if h.name == node)
    if not hosts:
        raise InputError(
            Diagnostic(
                code="unknown-node",
                subject=node,
                summary=f"{inventory} has no such host",
                hint=f"see: ansible-inventory -i {inventory} --graph",
            )
        )
    one = Inventory(nodes.path, hosts, nodes.digest)
    answers = ask_nodes(one, make_runner(), request={}, probe_argv=("pid", number), parse=_parse_process)
    if node in answers.refusals:
        refusal = answers.refusals[node]
        raise FactsError(Diagnostic(code="unreadable-node", subject=node, summary=refusal.reason, hint=refusal.hint))
    return answers.documents[node]


def _parse_process(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text.strip().splitlines()[-1])
    except (ValueError, IndexError):
        value = None
    if not isinstance(value, dict):
        raise FactsError(
            Diagnostic(code="bad-probe-answer", summary="the probe printed no JSON", hint="run: planner doctor")
        )
    return value


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        InputError: The directory is missing or not writable.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except OSError as exc:
        raise InputError(
            Diagnostic(
                code="cannot-write",
                subject=str(path),
                summary=exc.strerror or str(exc),
                hint=f"make {path.parent} and let it be written",
            )
        ) from exc


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _progress(total: int) -> Callable[[HostEvent], None] | None:
    """Return a reporter of nodes as they answer; None when nobody watches."""
    if not sys.stderr.isatty():
        return None
    done: set[str] = set()

    def report(event: HostEvent) -> None:
        if (event.task == READ_TASK and event.kind in ("ok", "changed", "failed")) or event.kind == "unreachable":
            done.add(event.host)
            sys.stderr.write(f"{event.host}: {event.kind} ({len(done)}/{total})\n")

    return report
