"""Words that are handed to Ansible, a shell or a package manager as they are: an alphabet for each kind. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from planner.diagnostics import Diagnostic
from planner.errors import BundleError
from planner.schedule.plan import Plan, Step

_WORDS: Mapping[str, re.Pattern[str]] = {
    "host name": re.compile(r"(?!(?:all|ungrouped)$)[A-Za-z0-9_][A-Za-z0-9._-]*"),
    "id": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
    "play path": re.compile(r"plays/[A-Za-z0-9][A-Za-z0-9._-]*\.yml"),
    "package name": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*"),
    "package glob": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_*?\[\]-]*"),
    "package version": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~^_-]*"),
    "unit name": re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:-]*"),
    "path": re.compile(r"(?:/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+"),
    "machine id": re.compile(r"[0-9A-Fa-f-]+"),
    "scheduler": re.compile(r"none|slurm|kubernetes|hook"),
}


def require_safe(plan: Plan) -> None:
    """Refuse words that Ansible, a shell or a package manager could take for something else; all are reported."""
    bad = sorted({(kind, word) for kind, word in _words(plan) if not _WORDS[kind].fullmatch(word)})
    if bad:
        raise BundleError(*(Diagnostic(
            code="unsafe-name", subject=f"{kind} {word!r}", summary=f"this {kind} cannot be handed to Ansible safely",
            why=(f"allowed is: {_WORDS[kind].pattern}",),
            hint="rename it in the inventory or the matrices, then plan again",
        ) for kind, word in bad))


def _paths(step: Step) -> list[str]:
    return [proof.file for proof in step.proofs or ()] + [item.file for item in step.refresh or ()]


def _words(plan: Plan) -> list[tuple[str, str]]:
    words = [("host name", name) for name in plan.nodes] + [("id", plan.name)]
    words += [("machine id", n.machine_id) for n in plan.nodes.values() if n.machine_id]
    words += [("scheduler", n.scheduler) for n in plan.nodes.values()]
    for wave in plan.waves:
        words += [("id", wave.id), ("play path", wave.play), *(("host name", n) for b in wave.batches for n in b.nodes)]
    for cohort in plan.cohorts:
        words += [("id", cohort.id), *(("host name", name) for name in cohort.nodes)]
        for step in cohort.steps:
            words += [("id", step.id), *(("unit name", unit) for unit in step.restarts)]
            words += [("package name", name) for name in (*step.packages.install, *step.packages.remove)]
            words += [("package version", version) for version in step.packages.install.values()]
            words += [("package glob", glob) for glob in step.packages.brings]
            words += [("path", path) for pair in step.links.items() for path in pair]
            words += [("path", path) for path in _paths(step) if path]
            words += [("id", step.move), *(("unit name", item.unit) for item in step.refresh or () if item.unit)]
    return words
