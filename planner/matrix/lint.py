"""Looks for mistakes in matrix files: names, sources, examples that do not hold, claims that contradict each other.

The evaluator stands above this package, so it is handed in: ``lint`` never decides by itself what a claim means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import line_of, parse_yaml, validate
from planner.errors import MatrixError
from planner.matrix.conditions import ABSENT, PRESENT
from planner.matrix.globs import overlap
from planner.matrix.index import MatrixSet
from planner.matrix.lint_more import JudgeAcross, more
from planner.matrix.load import load_matrices
from planner.matrix.schema import Claim, Condition, Lockstep, MatrixFile, Move, PackageSet, Provenance, State
from planner.model.version import parse_range, version_key

# Verdict words ("supported", "unsupported", "unknown") of one rule on one state; empty where it does not apply.
Judge = Callable[[Claim | Lockstep, State, MatrixSet], frozenset[str]]

SECTIONS = ("components", "families", "moves", "lockstep", "claims", "releases", "packages", "gpu_models", "across",
            "signatures", "times")
_SOURCED = ("lockstep", "claims", "releases", "packages", "gpu_models", "across", "signatures", "moves",
            "times")
_TEMPLATE = re.compile(r"\{([^}]*)\}")
_FIELDS = frozenset({"version", "abi", "branch", "dashed", "dotted", "cuda_major"})
_ONE_VERSION = frozenset({"version", "abi", "dashed", "dotted"})     # fields that tell versions of one branch apart
_UNJUDGEABLE = frozenset({"bad-range", "unknown-component", "unknown-family"})   # an evaluator cannot run on these
_GLOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_*?\[\]-]*")     # what a step may hand to a node
_BARE_BRANCH = re.compile(r"\d+\Z")


@dataclass(frozen=True, slots=True)
class LintReport:
    """What was looked at and what is wrong.

    Attributes:
        findings: In the order of files and sections.
        counts: Section -> number of entries; ``files``, ``examples`` and ``tombstones``, too.
    """

    findings: tuple[Diagnostic, ...]
    counts: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _File:
    name: str
    folder: int
    text: str
    content: MatrixFile
    sources_used: frozenset[str]

    def where(self, *path: object) -> str:
        line = line_of(self.text, path)
        return f"{self.name}:{line}" if line else self.name

    def finding(self, code: str, path: tuple[object, ...], summary: str, hint: str = "") -> Diagnostic:
        subject = self.where(*path)
        return Diagnostic(code=code, subject=subject, summary=summary, hint=hint or f"correct {subject}")


def lint(directories: Sequence[Path], judge: Judge, judge_nodes: JudgeAcross) -> LintReport:
    """Check one directory of matrix files, or a directory and overlays on it.

    Args:
        directories: The base first; an overlay may replace entries of those before it, not of itself.
        judge: The evaluator.
        judge_nodes: The evaluator of rules about several nodes.

    Raises:
        MatrixError: A directory holds no matrix files.
    """
    files, broken = _read(directories)
    if broken:
        return LintReport(tuple(broken), {"files": len(files)})
    matrices = load_matrices(directories[0], directories[1:])
    findings = [*_names(files)]
    for file in files:
        findings += [*_sources(file), *_references(file, matrices), *_shapes(file, matrices)]
        findings += [*_packages(file), *_strangers(file, matrices), *_gpu_models(file)]
    if not _UNJUDGEABLE & {f.code for f in findings}:
        findings += [finding for file in files for finding in _examples(file, matrices, judge)]
        findings += [f.finding(*complaint) for f in files for complaint in more(f.content, matrices, judge_nodes)]
        findings += _families(files, matrices, judge)
    counts = {section: sum(len(getattr(f.content, section)) for f in files) for section in SECTIONS}
    rules: list[Claim | Lockstep] = [*matrices.claims, *matrices.lockstep]
    counts |= {"files": len(files), "tombstones": len(matrices.tombstones),
               "examples": sum(2 if rule.rejects else 1 for rule in rules)}
    return LintReport(tuple(findings), counts)


def _read(directories: Sequence[Path]) -> tuple[list[_File], list[Diagnostic]]:
    files: list[_File] = []
    broken: list[Diagnostic] = []
    for number, folder in enumerate(directories):
        paths = sorted(folder.glob("*.yml"))
        if not paths:
            raise MatrixError(Diagnostic(code="matrix-missing", subject=str(folder), summary="no matrix files there",
                                         hint="name a directory of matrix files (*.yml) with --matrix DIR"))
        for path in paths:
            try:
                files.append(_read_file(f"{folder.name}/{path.name}", number, path.read_text(encoding="utf-8")))
            except MatrixError as exc:
                broken += exc.diagnostics
    return files, broken


def _read_file(name: str, folder: int, text: str) -> _File:
    raw = parse_yaml(text, name=name, error=MatrixError)
    if not isinstance(raw, dict):
        raise MatrixError(Diagnostic(code="bad-document", subject=name, summary="a matrix file is a mapping",
                                     hint=f"start {name} with: schema: planner.matrix/1"))
    sources: dict[str, Any] = raw.get("sources") or {}
    used: set[str] = set()
    unknown: list[Diagnostic] = []
    for section in _SOURCED:
        for position, entry in enumerate(raw.get(section) or []):
            reference = entry.get("provenance") if isinstance(entry, dict) else None
            if not isinstance(reference, str):
                continue
            used.add(reference)
            if reference in sources:
                entry["provenance"] = sources[reference]
            else:
                line = line_of(text, (section, position, "provenance"))
                unknown.append(Diagnostic(code="unknown-source", subject=f"{name}:{line}" if line else name,
                                          summary=f"provenance {reference!r} is not in this file's sources",
                                          hint=f"add {reference} under sources: in {name}"))
    if unknown:
        raise MatrixError(*unknown)
    content = validate(MatrixFile, raw, name=name, text=text, error=MatrixError)
    return _File(name, folder, text, content, frozenset(used))


def _rules(content: MatrixFile) -> Iterator[tuple[tuple[object, ...], Claim | Lockstep]]:
    """Yield (path, rule) for everything that the evaluator judges; tombstones are left out."""
    yield from ((("claims", i), claim) for i, claim in enumerate(content.claims) if not claim.tombstone)
    yield from ((("lockstep", i), group) for i, group in enumerate(content.lockstep))


def _names(files: Sequence[_File]) -> Iterator[Diagnostic]:
    """A name stands once per directory; rules and families share one name space, as targets accept both by name."""
    seen: dict[tuple[int, str, object], tuple[_File, str, int]] = {}
    for file in files:
        for section in SECTIONS:
            space = "rules" if section in ("claims", "lockstep", "families", "across") else section
            for position, entry in enumerate(getattr(file.content, section)):
                key: object = (entry.component, version_key(entry.version)) if section == "releases" else entry.name
                shown = f"{entry.component} {entry.version}" if section == "releases" else entry.name
                first = seen.setdefault((file.folder, space, key), (file, section, position))
                if first != (file, section, position):
                    where = first[0].where(*first[1:])
                    yield file.finding("duplicate-name", (section, position), f"{shown} stands twice, first in {where}",
                                       f"rename or remove {shown}")


def _sources(file: _File) -> Iterator[Diagnostic]:
    for name, source in file.content.sources.items():
        if name not in file.sources_used:
            yield file.finding("unused-source", ("sources", name), f"source {name} is not used", f"remove {name}")
        yield from _provenance(file, ("sources", name), source)
    for section in _SOURCED:
        for position, entry in enumerate(getattr(file.content, section)):
            if entry.provenance is not None and entry.provenance not in file.content.sources.values():
                yield from _provenance(file, (section, position, "provenance"), entry.provenance)


def _provenance(file: _File, path: tuple[object, ...], source: Provenance) -> Iterator[Diagnostic]:
    if not source.url and not source.title:
        yield file.finding("incomplete-provenance", path, "a source needs a url or a title")
    if (source.kind == "measured") != (source.confidence == "measured"):
        yield file.finding("incomplete-provenance", path, f"kind {source.kind} does not go with confidence "
                           f"{source.confidence}: measured is both or neither")


def _references(file: _File, matrices: MatrixSet) -> Iterator[Diagnostic]:
    """Every component, family and version that an entry names is known."""
    for path, component in _mentions(file.content):
        if component not in matrices.components:
            yield file.finding("unknown-component", path, f"component {component!r} is not defined")
    for path, rule in _rules(file.content):
        if rule.family not in matrices.families:
            yield file.finding("unknown-family", (*path, "family"), f"family {rule.family!r} is not defined")
        for key, state in (("accepts", rule.accepts), ("rejects", rule.rejects)):
            for component, values in state.items():
                yield from _known_versions(file, (*path, key), component, values, matrices)
    for position, move in enumerate(file.content.moves):
        if move.lead is not None and move.lead not in move.components and not _led(move, matrices):
            yield file.finding("bad-move", ("moves", position, "lead"),
                               f"{move.name} does not contain its lead {move.lead}")


def _led(move: Move, matrices: MatrixSet) -> bool:
    """Tell whether all components of a move have to be equal to its lead: then they may follow it where it stays."""
    return all(any(g.relation == "equal" and {c, move.lead} <= set(g.components) for g in matrices.lockstep)
               for c in move.components)


def _known_versions(file: _File, path: tuple[object, ...], component: str, values: Sequence[str],
                    matrices: MatrixSet) -> Iterator[Diagnostic]:
    known = matrices.components.get(component)
    if known is None or known.role != "component" or component not in matrices.releases:
        return
    for value in values:
        if matrices.release(component, value) is None and not _BARE_BRANCH.match(value):
            yield file.finding("unknown-version", path, f"no release {component} {value} is known",
                               f"use a release of {component}, or add it with its source")


def _mentions(content: MatrixFile) -> Iterator[tuple[tuple[object, ...], str]]:
    """Yield (path, component) for every place that names a component."""
    for i, family in enumerate(content.families):
        named = (("over", family.over), ("against", family.against))
        yield from ((("families", i, key), name) for key, name in named if name)
    for i, move in enumerate(content.moves):
        yield from ((("moves", i, "components"), name) for name in move.components)
    for i, group in enumerate(content.lockstep):
        tied = (*group.components, *group.when, *group.accepts, *group.rejects)
        yield from ((("lockstep", i), name) for name in tied)
    for i, claim in enumerate(content.claims):
        yield from ((("claims", i, "if"), name) for name in claim.if_)
        yield from ((("claims", i, "then"), name) for name in claim.then)
        yield from ((("claims", i, "accepts"), name) for name in (*claim.accepts, *claim.rejects))
    for i, release in enumerate(content.releases):
        yield ("releases", i), release.component
    for i, package_set in enumerate(content.packages):
        yield from ((("packages", i), name) for name in (package_set.component, *package_set.when))


def _shapes(file: _File, matrices: MatrixSet) -> Iterator[Diagnostic]:
    """Claims say something, can be read, and say it the way the format asks."""
    for position, claim in enumerate(file.content.claims):
        path = ("claims", position)
        if claim.statement.endswith("."):
            yield file.finding("full-stop", (*path, "statement"), f"{claim.name}: a statement ends without a full stop")
        if claim.forbids and claim.then:
            yield file.finding("bad-claim", path, f"{claim.name}: forbids and then exclude each other")
        if not claim.forbids and not claim.then and claim.severity != "info":
            yield file.finding("bad-claim", path, f"{claim.name}: says nothing",
                               "add then or forbids, or severity: info if it is evidence only")
        if claim.severity != "info" and not claim.rejects:
            yield file.finding("no-example", path, f"{claim.name}: give a state that it rejects")
        family = matrices.families.get(claim.family)
        if family and family.closed and family.over and family.over not in claim.if_:
            yield file.finding("covers-nothing", (*path, "if"), f"{claim.name}: family {family.name} is closed over "
                               f"{family.over}, which the claim does not name")
        for key, conditions in (("if", claim.if_), ("then", claim.then)):
            for component, condition in conditions.items():
                yield from _readable(file, (*path, key, component), component, condition, matrices)


def _readable(file: _File, path: tuple[object, ...], component: str, condition: Condition,
              matrices: MatrixSet) -> Iterator[Diagnostic]:
    for part in (condition,) if isinstance(condition, str) else condition:
        if part in (PRESENT, ABSENT) or matrices.is_text(component):
            continue
        try:
            parse_range(part)
        except ValueError as exc:
            yield file.finding("bad-range", path, f"{component}: {exc}")


def _examples(file: _File, matrices: MatrixSet, judge: Judge) -> Iterator[Diagnostic]:
    """Both examples of a rule, run through the evaluator, get the verdict they are there for."""
    for path, rule in _rules(file.content):
        wanted = frozenset({"supported"})
        if isinstance(rule, Claim) and rule.forbids:
            wanted = frozenset()      # what a ban accepts is what it is not about
        got = judge(rule, rule.accepts, matrices)
        if got != wanted:
            yield file.finding("bad-example", (*path, "accepts"),
                               f"{rule.name}: the state under accepts is {_words(got)}, not {_words(wanted)}")
        if not rule.rejects:
            continue
        got = judge(rule, rule.rejects, matrices)
        if got != {"unsupported"}:
            yield file.finding("bad-example", (*path, "rejects"),
                               f"{rule.name}: the state under rejects is {_words(got)}, not unsupported")


def _words(verdicts: frozenset[str]) -> str:
    return " and ".join(sorted(verdicts)) or "not judged"


def _families(files: Sequence[_File], matrices: MatrixSet, judge: Judge) -> Iterator[Diagnostic]:
    """Within a family, what one claim accepts no other one rejects as an error; no family is empty."""
    used = {rule.family for rules in (matrices.claims, matrices.lockstep, matrices.across) for rule in rules}
    for file in files:
        for position, family in enumerate(file.content.families):
            if family.name not in used:
                yield file.finding("empty-family", ("families", position), f"family {family.name} has no claim")
        for position, claim in enumerate(file.content.claims):
            if claim.tombstone:
                continue
            for other in matrices.claims:
                if (other.family == claim.family and other.name != claim.name and other.severity == "error"
                        and "unsupported" in judge(other, claim.accepts, matrices)):
                    yield file.finding("contradiction", ("claims", position, "accepts"),
                                       f"{other.name} rejects the state that {claim.name} accepts")


def _packages(file: _File) -> Iterator[Diagnostic]:
    for position, package_set in enumerate(file.content.packages):
        path = ("packages", position)
        for text, field in _template_fields(package_set):
            yield file.finding("bad-template", path, f"{package_set.name}: {{{field}}} in {text!r} is no field",
                               f"fields are: {', '.join(sorted(_FIELDS))}")
        told_by_name = "{dashed}" in package_set.install[0] and "{" not in package_set.version
        if "{version}" not in package_set.install[0] + package_set.version and not told_by_name:
            yield file.finding("bad-template", path, f"{package_set.name}: neither the first package nor its version "
                               "carries {version}")


def _template_fields(package_set: PackageSet) -> Iterator[tuple[str, str]]:
    texts = (*package_set.install, *package_set.optional, *package_set.brings, *package_set.sweep, package_set.version,
             *package_set.default_links.values())
    yield from ((text, field) for text in texts for field in _TEMPLATE.findall(text) if field not in _FIELDS)
    suffix = package_set.version_suffix
    yield from ((suffix, field) for field in _TEMPLATE.findall(suffix) if field != "arch")


def _strangers(file: _File, matrices: MatrixSet) -> Iterator[Diagnostic]:
    """What a set replaces, brings along or sweeps away is never what a set of another component installs."""
    for position, own in enumerate(file.content.packages):
        others = [(s, name) for s in matrices.packages if s.manager == own.manager and s.component != own.component
                  for name in (*s.install, *s.optional)]
        for key, globs in (("replaces", own.replaces), ("brings", own.brings), ("sweep", own.sweep)):
            path = ("packages", position, key)
            for glob in globs:
                bare = _TEMPLATE.sub("0", glob)
                if key == "brings" and not (_GLOB.fullmatch(bare) and re.search(r"[a-z]{2}", bare)):
                    yield file.finding("bad-template", path, f"{own.name}: {glob!r} under brings is no glob of names")
                if key == "sweep" and not _ONE_VERSION & set(_TEMPLATE.findall(glob)):
                    yield file.finding("bad-template", path, f"{own.name}: {glob!r} under sweep names no version: it "
                                       "would take what other versions share")
                yield from (file.finding("stranger", path, f"{own.name}: {glob} under {key} also means {name}, which "
                                         f"{other.name} installs for {other.component}", f"make {glob} narrower")
                            for other, name in others if overlap(glob, name))


def _gpu_models(file: _File) -> Iterator[Diagnostic]:
    """A model that an earlier, wider glob swallows is never found."""
    models = file.content.gpu_models
    for position, model in enumerate(models):
        sample = re.sub(r"\[(.).*?\]", r"\1", model.match).replace("*", "")
        wider = next((m for m in models[:position] if fnmatchcase(sample, m.match)), None)
        if wider is not None:
            yield file.finding("shadowed-model", ("gpu_models", position, "match"),
                               f"{model.name} is never found: {wider.name} ({wider.match}) stands before it",
                               f"move {model.name} above {wider.name}")
