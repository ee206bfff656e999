"""``planner explain``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from planner.cli.inputs import FORMATS, load_rules, load_stack, matrix_option
from planner.diagnostics import Diagnostic
from planner.errors import InputError
from planner.explain.rank import Explanation, explain
from planner.explain.rules import Told, tell
from planner.gates.failures import FAILURES, Failure
from planner.report.console import print_json
from planner.report.explain_view import explanation_lines, rule_lines

BYTES_MAX = 64 * 1024 * 1024


@click.command("explain", epilog="""\b
Examples:
  planner explain --message "CUDA error: no kernel image is available for execution on the device"
  planner explain --log train.log --stack machine.yml    a log, with what is known of the machine
  journalctl -k | planner explain                        as a filter
  planner explain cuda-13-driver-floor                   a finding of planner check, with its source
  planner explain PERF_DROP                              a code of a gate
""")
@click.argument("code", required=False)
@click.option("--message", help="The message itself.")
@click.option("--log", "log_path", type=click.Path(path_type=Path), help="A log file.")
@click.option("--stack", "stack_path", type=click.Path(path_type=Path),
              help="Description of the machine (YAML), or facts.json.")
@matrix_option
@click.option("-o", "--output", type=FORMATS, default="table", help="Format of what is printed.")
def explain_command(code: str | None, message: str | None, log_path: Path | None, stack_path: Path | None,
                    overlays: tuple[Path, ...], output: str) -> None:
    """Say what is behind a message (an argument, a file, standard input), or what a CODE of a finding or gate means."""
    if code is not None and (row := FAILURES.get(code)) is not None:
        _print_gate_code(row, output)
        return
    matrices = load_rules(overlays)
    if code is not None:
        told = tell(code, matrices)
        if told is not None:
            _print_rule(told, output)
            return
        if message is None and " " in code:
            message, code = code, None
        else:
            raise InputError(Diagnostic(
                code="unknown-code", subject=code, summary="no finding, claim or message of the matrices has this name",
                hint=f'for a message, give it in quotes: planner explain --message "{code} ..."'))
    if (message is not None) and (log_path is not None):
        raise click.UsageError("give --message or --log, not both")
    text = message if message is not None else _read(log_path)
    stack = load_stack(stack_path, matrices) if stack_path else None
    _print(explain(text, stack, matrices), output)


def _read(path: Path | None) -> str:
    """Return a log, or standard input; bytes that are no UTF-8 are shown as marks."""
    if path is None:
        if sys.stdin.isatty():
            raise click.UsageError("give --message, --log, or a log on standard input")
        return sys.stdin.buffer.read(BYTES_MAX).decode("utf-8", "replace")
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX).decode("utf-8", "replace")
    except OSError as exc:
        raise InputError(Diagnostic(code="file-unreadable", subject=str(path), summary=exc.strerror or str(exc),
                                    hint=f"give the path of a readable file instead of {path}")) from exc


def _print(explanation: Explanation, output: str) -> None:
    if output == "json":
        print_json({
            "schema": "planner.explain/1", "matched": list(explanation.matched),
            "causes": [{"root_cause": c.root_cause, "confidence": c.confidence, "summary": c.summary,
                        "why": list(c.why), "fix": c.fix, "sources": list(c.sources)} for c in explanation.causes],
            "missing_facts": [{"fact": m.fact, "how_to_read_it": m.how_to_read_it}
                              for m in explanation.missing_facts]})
        return
    click.echo("\n".join(explanation_lines(explanation)))


def _print_gate_code(row: Failure, output: str) -> None:
    if output == "json":
        print_json({"schema": "planner.explain-code/1", "code": row.code, "verdict": row.verdict.value,
                    "class": row.kind.value, "seen_as": row.seen_as, "cause": row.cause, "remedy": row.remedy,
                    "actions": [action.value for action in row.actions], "exit_code": row.exit_code})
        return
    click.echo(f"{row.code}: a gate's answer, {row.verdict.value} (exit code {row.exit_code})\n"
               f"  seen as: {row.seen_as}\n  usual cause: {row.cause}\n  remedy: {row.remedy}\n"
               f"  allows: {', '.join(action.value for action in row.actions)}\n"
               "  all codes: docs/gate-verdicts.md")


def _print_rule(told: Told, output: str) -> None:
    if output == "json":
        print_json({"schema": "planner.explain-code/1", **told.as_dict()})
        return
    click.echo("\n".join(rule_lines(told)))
