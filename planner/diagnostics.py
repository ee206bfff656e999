"""One shape for everything a user is told about a problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding weighs; errors decide the exit code."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding, complete enough to act on without reading code.

    Attributes:
        code: Stable kebab-case name, for example ``no-path``.
        summary: One sentence that states the fact; no blame, no full stop.
        subject: What it is about (``node gpu-17``, ``target.yml:12``); empty when nothing narrower fits.
        why: The derivation, one step an entry.
        hint: The next command or edit.
        sources: Where each claim comes from (matrix file and claim, vendor document).
        severity: Errors stop the verb; warnings and infos do not.
        places: Paths of keys in the document at fault, for whoever knows its file to turn into lines.
    """

    code: str
    summary: str
    subject: str = ""
    why: tuple[str, ...] = ()
    hint: str = ""
    sources: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR
    places: tuple[tuple[str | int, ...], ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return the JSON form; keys are stable."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "subject": self.subject,
            "summary": self.summary,
            "why": list(self.why),
            "hint": self.hint,
            "sources": list(self.sources),
        }


def short(names: Sequence[str], most: int = 4) -> str:
    """Return a list of names, cut after a few."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
