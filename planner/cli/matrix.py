"""``planner matrix``: look into the compatibility matrices."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from planner.check.domains import Members, judge_across
from planner.check.evaluate import judge_claim, judge_lockstep
from planner.cli.inputs import FORMATS, load_rules, matrix_option
from planner.cli.matrix_more import count_command, diff_command, stale_command
from planner.cli.matrix_verify import verify_command
from planner.data import data_dir
from planner.diagnostics import Diagnostic
from planner.documents import dump_model
from planner.errors import ExitCode, InputError
from planner.matrix.conditions import matches_value
from planner.matrix.index import MatrixSet
from planner.matrix.lint import lint
from planner.matrix.schema import Across, Claim, Condition, Lockstep, Release, State
from planner.report.console import format_table, print_diagnostics, print_json

_RELEASES_SHOWN = 12


@click.group(epilog="""\b
Examples:
  planner matrix lint                       check the shipped matrices
  planner matrix lint --matrix my-rules/    check your own on top of them
  planner matrix show driver@580.95.05      one release and the claims about it
  planner matrix show cuda-13-driver-floor  one claim with its source
""")
def matrix() -> None:
    """Look into the compatibility matrices: lint, show, diff, stale, count, verify."""


matrix.add_command(diff_command)
matrix.add_command(stale_command)
matrix.add_command(count_command)
matrix.add_command(verify_command)


@matrix.command("lint")
@matrix_option
@click.option("-o", "--output", type=FORMATS, default="table", help="Format of what is printed.")
def lint_command(overlays: tuple[Path, ...], output: str) -> int:
    """Find mistakes: schema, sources, names, examples that do not hold, contradictions. Exit 1 with findings."""
    report = lint((data_dir("matrices"), *overlays), _verdicts, _verdict_on_nodes)
    if output == "json":
        print_json({"schema": "planner.matrix-lint/1", "counts": dict(report.counts),
                    "findings": [f.as_dict() for f in report.findings]})
    else:
        print_diagnostics(report.findings)
        click.echo(", ".join(f"{number} {name.replace('_', ' ')}" for name, number in report.counts.items()))
        click.echo(f"{len(report.findings)} findings" if report.findings else "no findings")
    return int(ExitCode.ERROR if report.findings else ExitCode.DONE)


def _verdicts(rule: Claim | Lockstep, state: State, matrices: MatrixSet) -> frozenset[str]:
    if isinstance(rule, Lockstep):
        judged = judge_lockstep(rule, state, matrices)
        return frozenset({judged.verdict.value} if judged else ())
    return frozenset(j.verdict.value for j in judge_claim(rule, state, matrices))


def _verdict_on_nodes(rule: Across, members: Members, matrices: MatrixSet) -> str:
    judged = judge_across(rule, members, matrices)
    return judged.verdict.value if judged else ""


@matrix.command()
@click.argument("selector")
@matrix_option
@click.option("-o", "--output", type=FORMATS, default="table", help="Format of what is printed.")
def show(selector: str, overlays: tuple[Path, ...], output: str) -> None:
    """Show what is known of SELECTOR: a component, component@version, a claim, a GPU model, a family."""
    matrices = load_rules(overlays)
    document = _find(selector, matrices)
    if document is None:
        known = _known(matrices)
        near = get_close_matches(selector, known, n=3, cutoff=0.4)
        raise InputError(Diagnostic(
            code="unknown-name", subject=selector, summary=f"nothing in the matrices is called {selector!r}",
            hint=f"did you mean: {', '.join(near)}" if near else f"components are: {', '.join(matrices.components)}"))
    if output == "json":
        print_json({"schema": "planner.matrix-show/1", "selector": selector, **document})
    else:
        click.echo("\n".join(_lines(document)))


def _known(matrices: MatrixSet) -> list[str]:
    models = (m.name for m in matrices.gpu_models)
    return [*matrices.components, *matrices.families, *(r.name for r in _rules(matrices)), *models]


def _rules(matrices: MatrixSet) -> list[Claim | Lockstep]:
    return [*matrices.lockstep, *matrices.claims, *matrices.tombstones]


def _find(selector: str, matrices: MatrixSet) -> dict[str, Any] | None:
    component, _, version = selector.partition("@")
    if version and component in matrices.components:
        return _release(component, version, matrices)
    if selector in matrices.components:
        return _component(selector, matrices)
    if selector in matrices.families:
        members = [_short(r, matrices) for r in _rules(matrices) if r.family == selector]
        return {"kind": "family", **dump_model(matrices.families[selector]), "claims": members}
    for rule in _rules(matrices):
        if rule.name == selector:
            kind = "lockstep" if isinstance(rule, Lockstep) else "claim"
            return {"kind": kind, **dump_model(rule), "source": matrices.source_of(rule.name, rule.provenance)}
    model = next((m for m in matrices.gpu_models if m.name == selector), None) or matrices.gpu_model(selector)
    if model is None:
        return None
    values = {"gpu_model": model.name, "compute_capability": model.compute_capability}
    about = [c for c in matrices.claims if any(_speaks_of(c.if_, n, v, matrices) for n, v in values.items())]
    return {"kind": "gpu model", **dump_model(model), "claims": [_short(c, matrices) for c in about]}


def _component(name: str, matrices: MatrixSet) -> dict[str, Any]:
    releases = matrices.releases.get(name, ())
    about: list[Claim | Lockstep] = [g for g in matrices.lockstep if name in g.components]
    about += [c for c in matrices.claims if name in c.if_ or name in c.then]
    return {
        "kind": "component", **dump_model(matrices.components[name]),
        "moves": [f"{m.name}: {m.title} ({m.disruption})" for m in matrices.moves if name in m.components],
        "packages": [f"{p.name}: {p.manager}, {' '.join(p.install)}" for p in matrices.packages if p.component == name],
        "releases": [_release_line(r) for r in reversed(releases)],
        "claims": [_short(r, matrices) for r in about],
    }


def _release(component: str, version: str, matrices: MatrixSet) -> dict[str, Any]:
    """Return a release with the claims that are about it and those whose demand it does not meet."""
    found = matrices.release(component, version)
    about, met = [], 0
    for claim in matrices.claims:
        demand = claim.then.get(component)
        if _speaks_of(claim.if_, component, version, matrices):
            about.append(claim)
        elif demand is not None and component not in claim.if_:
            if matches_value(demand, version, text=matrices.is_text(component)):
                met += 1
            else:
                about.append(claim)
    release: dict[str, Any] = dump_model(found) if found else {
        "component": component, "version": version, "note": "no release of this version is known"}
    return {"kind": "release", **release, "demands_met": f"{met} claims ask for such a version",
            "claims": [_short(c, matrices) for c in about]}


def _speaks_of(conditions: dict[str, Condition], component: str, value: str, matrices: MatrixSet) -> bool:
    """Tell whether conditions name a component in a way that holds for one value (not merely that it is there)."""
    condition = conditions.get(component)
    return (condition not in (None, "present", "absent")
            and matches_value(condition, value, text=matrices.is_text(component)))


def _short(rule: Claim | Lockstep, matrices: MatrixSet) -> dict[str, str]:
    severity = rule.severity if isinstance(rule, Claim) else "error"
    return {"name": rule.name, "severity": severity, "statement": rule.statement,
            "source": matrices.source_of(rule.name, rule.provenance)}


def _release_line(release: Release) -> str:
    until = f"until {release.eol}" if release.eol else ""
    parts = (release.version, release.date or "", release.branch_type or "", until)
    return " ".join(p for p in parts if p)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    """Lay out a document as ``key: value`` lines, its claims as a table at the end."""
    for key, value in document.items():
        if key in ("claims", "kind", "provenance") or value in ("", [], {}, False):
            continue
        if isinstance(value, list) and value and isinstance(value[0], str):
            shown = value[:_RELEASES_SHOWN]
            yield f"{key}:"
            yield from (f"  {item}" for item in shown)
            if len(value) > len(shown):
                yield f"  and {len(value) - len(shown)} more (-o json shows all)"
        elif isinstance(value, dict):
            yield f"{key}: " + ", ".join(f"{k} {_text(v)}" for k, v in value.items())
        else:
            yield f"{key}: {_text(value)}"
    provenance = document.get("provenance")
    if provenance and "source" not in document:
        parts = (provenance.get("url") or provenance.get("title"), provenance.get("locator"))
        yield "source: " + " ".join(part for part in parts if part)
    if provenance:
        yield f"confidence: {provenance.get('confidence', 'documented')}, read {provenance['retrieved']}"
    claims = document.get("claims")
    if claims:
        yield "claims:"
        yield format_table(("  NAME", "SEVERITY", "STATEMENT"),
                           [(f"  {c['name']}", c["severity"], c["statement"]) for c in claims])


def _text(value: object) -> str:
    return " or ".join(map(str, value)) if isinstance(value, list) else str(value)
