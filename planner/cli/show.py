"""``planner show``, and how a plan is printed in every format."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from planner.diagnostics import Diagnostic
from planner.documents import canonical_json, dump_model
from planner.errors import InputError
from planner.schedule.plan import Plan

PLAN_FORMATS = click.Choice(["table", "json", "yaml", "markdown", "html", "dot", "mermaid"])


@click.command(epilog="""\b
Examples:
  planner show bundle/
  planner show bundle/ -o html --out plan.html       one file, nothing is loaded from elsewhere
  planner show bundle/ -o dot | dot -Tsvg > paths.svg
""")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("-o", "--output", "output", type=PLAN_FORMATS, default="table", help="Format of what is shown.")
@click.option("--out", "out", type=click.Path(path_type=Path, dir_okay=False), help="File to write instead of stdout.")
def show(bundle: Path, output: str, out: Path | None) -> int:
    """Show the plan of a bundle, after checking that nobody changed it."""
    from planner.emit.write import read_bundle

    emit_plan(read_bundle(bundle), output, out)
    return 0


def emit_plan(made: Plan, output: str, out: Path | None = None) -> None:
    """Print a plan in a format, or write it to a file.

    Raises:
        InputError: The file cannot be written.
    """
    if output == "table" and out is None:
        from planner.report.plan_view import print_plan

        print_plan(made)
        return
    text = _RENDERERS[output](made)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InputError(Diagnostic(code="not-written", subject=str(out), summary=f"cannot write: {exc.strerror}",
                                    hint="choose another place: planner show BUNDLE --out FILE")) from exc


def _table(made: Plan) -> str:
    import io

    from rich.console import Console

    from planner.report.plan_view import print_plan

    stream = io.StringIO()
    print_plan(made, Console(file=stream, width=100, highlight=False))
    return stream.getvalue()


def _yaml(made: Plan) -> str:
    import yaml

    return str(yaml.safe_dump(dump_model(made), sort_keys=True, allow_unicode=True, width=120))


def _markdown(made: Plan) -> str:
    from planner.emit.review import render_review

    return render_review(made)


def _html(made: Plan) -> str:
    from planner.report.plan_html import render_html

    return render_html(made)


def _dot(made: Plan) -> str:
    from planner.report.diagrams import render_dot

    return render_dot(made)


def _mermaid(made: Plan) -> str:
    from planner.report.diagrams import render_mermaid

    return render_mermaid(made)


_RENDERERS: dict[str, Callable[[Plan], str]] = {
    "table": _table, "json": lambda made: canonical_json(dump_model(made)), "yaml": _yaml, "markdown": _markdown,
    "html": _html, "dot": _dot, "mermaid": _mermaid,
}
