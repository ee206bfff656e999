"""``planner matrix verify``: ground truth from the metadata of published wheels, through the user's own pip."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from planner.check.judge import StateJudge
from planner.cli.inputs import FORMATS, load_rules, matrix_option
from planner.diagnostics import Diagnostic
from planner.errors import ExitCode, InputError, MatrixError
from planner.execute.clock import SystemClock
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.matrix.verify import ALIASES, SUBJECTS, Judge, Verified, compare, default_requests, full_version, patch_of
from planner.matrix.wheels import Wheel, canonical, wheel_of
from planner.report.console import format_table, print_json
from planner.runner.pip import Pip, PipError

_REQUEST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)={2,3}(\d[A-Za-z0-9.]*)")
_PYTHON = re.compile(r"3\.\d{1,2}")
_GLIBC = re.compile(r"2\.(\d{1,2})")

Unread = tuple[str, str, str, str]                 # project, version, kind of PipError, its words


@click.command("verify", epilog="""\b
Examples:
  planner matrix verify                                  the newest release of every project
  planner matrix verify torch==2.8.0 jax==0.8.3          releases that you name
  planner matrix verify vllm==0.34.0 --out my-rules/wheels.yml   what differs, as a matrix file
""")
@click.argument("requests", nargs=-1, metavar="[PROJECT==VERSION]...")
@click.option("--python", default="3.12", show_default=True, help="Python of the machine whose wheels are read.")
@click.option("--arch", type=click.Choice(["x86_64", "aarch64"]), default="x86_64", show_default=True,
              help="Its machine type.")
@click.option("--glibc", default="2.39", show_default=True, help="Its C library: newer wheels are hidden from it.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write what differs as a matrix file.")
@click.option("--pip", "pip_path", help="The pip to ask (default: this Python's own, else pip on PATH).")
@click.option("--seconds", type=click.FloatRange(1), default=120.0, show_default=True, help="Limit of one question.")
@click.option("--megabytes", type=click.IntRange(1), default=24, show_default=True,
              help="The most that one question may fetch.")
@matrix_option
@click.option("-o", "--output", type=FORMATS, default="table", help="Format of what is printed.")
def verify_command(requests: tuple[str, ...], python: str, arch: str, glibc: str, out: Path | None,
                   pip_path: str | None, seconds: float, megabytes: int, overlays: tuple[Path, ...],
                   output: str) -> int:
    """Compare releases and claims with what published wheels pin, asked through pip. Exit 3 on contradictions.

    Reads metadata only, from the index that pip is configured for; nothing is installed.
    """
    if not _PYTHON.fullmatch(python):
        raise click.UsageError(f"--python takes a version such as 3.12, not {python!r}")
    libc = _GLIBC.fullmatch(glibc)
    if libc is None:
        raise click.UsageError(f"--glibc takes a version such as 2.39, not {glibc!r}")
    matrices = load_rules(overlays)
    wanted = [_request(text) for text in requests] or default_requests(matrices)
    pip = Pip(_pip(pip_path), seconds=seconds, most_bytes=megabytes * 1_000_000)
    judge = _judge(matrices)
    verified: list[Verified] = []
    unread: list[Unread] = []
    for project, version in wanted:
        try:
            wheels = list(_wheels(pip, project, version, python, arch, int(libc.group(1))))
        except PipError as exc:
            unread.append((project, version, exc.kind, str(exc)))
            if exc.kind == "no-pip":
                break
            continue
        verified.append(compare(project, version, wheels, python, matrices, judge))
    if not verified:
        raise _unanswered(unread)
    patch = patch_of(verified, date=SystemClock().now().date().isoformat(), python=python, arch=arch)
    written = _write(out, patch) if out is not None and patch else False
    _print(verified, unread, output, f"written: {out}" if written else "")
    contradicted = any(c.verdict == "contradicted" for v in verified for c in v.checks)
    return int(ExitCode.FINDINGS if contradicted else ExitCode.DONE)


def _request(text: str) -> tuple[str, str]:
    found = _REQUEST.fullmatch(text.strip())
    if found is None:
        raise InputError(Diagnostic(
            code="bad-request", subject=text, summary="this names no project with one version of its default wheel",
            hint="write it as torch==2.8.0; a local part such as +cu126 names another build than the default one"))
    name = canonical(found.group(1))
    project = ALIASES.get(name, name)
    if project not in SUBJECTS:
        raise InputError(Diagnostic(
            code="unknown-project", subject=text, summary=f"nothing is known of what the wheels of {name} pin",
            hint=f"projects are: {', '.join(SUBJECTS)}"))
    return project, full_version(project, found.group(2))


def _pip(given: str | None) -> list[str]:
    """Return how pip is called: what the user named, this interpreter's own, or the one on PATH."""
    if given:
        return [given]
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return [shutil.which("pip") or shutil.which("pip3") or "pip"]


def _judge(matrices: MatrixSet) -> Judge:
    judge = StateJudge(matrices)

    def judged(state: State) -> Iterator[tuple[str, str, str, str, tuple[str, ...]]]:
        for j in judge.judge(state):
            yield j.rule, j.verdict.value, j.severity, j.statement, j.components

    return judged


def _wheels(pip: Pip, project: str, version: str, python: str, arch: str, glibc_minor: int) -> Iterator[Wheel]:
    """Yield the wheels that say something about a release; of several, some may not exist.

    Raises:
        PipError: None could be read, or one for another reason than that it does not exist.
    """
    refused: PipError | None = None
    found = 0
    for name, extras in SUBJECTS[project].asks:
        # Equal text, so that no local build (+cpu) of a further index answers; a meta wheel may count one number more.
        sign = "==" if SUBJECTS[project].named_by else "==="
        try:
            entry = pip.report(f"{name}{sign}{version}", python=python, arch=arch, glibc_minor=glibc_minor)
        except PipError as exc:
            if exc.kind != "no-such":
                raise
            refused = refused or exc
            continue
        found += 1
        yield wheel_of(entry, python=python, arch=arch, extras=extras)
    if not found and refused is not None:
        raise refused


def _unanswered(unread: Sequence[Unread]) -> MatrixError:
    kinds = {kind for _, _, kind, _ in unread}
    code, summary = "nothing-verified", "pip gave no metadata"
    hint = "look for the version with: pip index versions PROJECT; --python and --glibc hide wheels"
    if "no-pip" in kinds:
        code, summary = "no-pip", "there is no pip to ask"
        hint = "name one with --pip PATH, or run: python -m ensurepip"
    elif kinds == {"offline"}:
        code, summary = "index-unreachable", "no package index answers"
        hint = "run it where pip reaches an index; see what it is configured for with: pip config list"
    elif "too-big" in kinds:
        hint = ("name a newer pip with --pip PATH, or allow it with --megabytes: pip before 25.3 fetches whole wheels, "
                "as does any pip from an index without range requests")
    return MatrixError(Diagnostic(
        code=code, subject=", ".join(f"{project} {version}" for project, version, _, _ in unread),
        summary=f"{summary}, so nothing was verified and nothing was written",
        why=tuple(f"{project} {version}: {kind}: {why}" for project, version, kind, why in unread), hint=hint))


def _write(path: Path, text: str) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InputError(Diagnostic(code="not-writable", subject=str(path), summary=exc.strerror or str(exc),
                                    hint=f"give another file than {path} to --out")) from exc
    return True


def _print(verified: Sequence[Verified], unread: Sequence[Unread], output: str, note: str) -> None:
    counts = Counter(c.verdict for v in verified for c in v.checks)
    if output == "json":
        print_json({
            "schema": "planner.matrix-verify/1", "counts": dict(sorted(counts.items())),
            "releases": [{
                "project": v.project, "version": v.version, "release": v.name, "known": v.release is not None,
                "wheels": [{"filename": w.filename, "sha256": w.sha256} for w in v.wheels],
                "checks": [{"about": c.about, "what": c.what, "verdict": c.verdict, "known": c.known,
                            "published": c.published} for c in v.checks]} for v in verified],
            "not_read": [{"project": p, "version": v, "kind": kind, "reason": why} for p, v, kind, why in unread]})
        return
    rows = [(c.verdict, c.about, c.what, c.known or "-", c.published) for v in verified for c in v.checks
            if c.what != "claim"]
    click.echo(format_table(("VERDICT", "RELEASE", "ATTRIBUTE", "MATRICES", "WHEEL"), rows))
    for check in (c for v in verified for c in v.checks if c.what == "claim"):
        click.echo(f"{check.verdict}: {check.about}: {check.known}")
        click.echo(f"  {check.published}")
    for item in verified:
        click.echo(f"read: {', '.join(w.filename for w in item.wheels)}")
    for project, version, kind, why in unread:
        click.echo(f"not read: {project} {version}: {kind}: {why}")
    click.echo(", ".join(f"{counts[name]} {name}" for name in ("confirmed", "contradicted", "missing"))
               + f"; {len(unread)} not read")
    if note:
        click.echo(note)
