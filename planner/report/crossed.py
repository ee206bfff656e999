"""Release notes and vulnerability fixes that a plan's steps cross, each said once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from planner.schedule.plan import Plan

_CVE = re.compile(r"\bCVE-\d{4}-\d+\b")
_FIXES = re.compile(r"^(\S+) \S+ fixes (CVE-\d{4}-\d+(?:, CVE-\d{4}-\d+)*)$")


class Crossed(NamedTuple):
    """What lies between today and the goal.

    Attributes:
        notes: Text and the ids of the cohorts whose steps cross it, in the order of the plan.
        fixes: Component -> CVEs that releases on the way fix, newest first.
    """

    notes: tuple[tuple[str, tuple[str, ...]], ...]
    fixes: tuple[tuple[str, tuple[str, ...]], ...]


def crossed(plan: Plan) -> Crossed:
    """Gather the notes of all steps; those that only list fixed CVEs are gathered by component."""
    notes: dict[str, dict[str, None]] = {}
    fixes: dict[str, set[str]] = {}
    for cohort in plan.cohorts:
        for step in cohort.steps:
            for note in step.notes:
                if (match := _FIXES.match(note)) is not None:
                    fixes.setdefault(match[1], set()).update(_CVE.findall(match[2]))
                else:
                    notes.setdefault(note, {})[cohort.id] = None
    return Crossed(notes=tuple((note, tuple(ids)) for note, ids in notes.items()),
                   fixes=tuple((component, newest_cves(found)) for component, found in sorted(fixes.items())))


def newest_cves(names: Iterable[str]) -> tuple[str, ...]:
    """Return CVE names by year and number, the latest first."""
    return tuple(sorted(set(names), key=lambda name: [-int(part) for part in name.split("-")[1:]]))
