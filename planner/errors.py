"""Errors that a user may cause or cure. Each class fixes one exit code; the table is in docs/exit-codes.md."""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from planner.diagnostics import Diagnostic


class ExitCode(IntEnum):
    """The one table of exit codes (``gate run`` uses DONE, HALTED, PAUSED, ERROR only)."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    FINDINGS = 3
    NO_PATH = 4
    STALE = 5
    LOCKED = 6
    HALTED = 7
    PAUSED = 8
    PARTIAL = 9
    INTERRUPTED = 130


class PlannerError(Exception):
    """Base of all errors shown to users; carries diagnostics, never bare prose."""

    exit_code: ClassVar[ExitCode] = ExitCode.ERROR

    def __init__(self, *diagnostics: Diagnostic) -> None:
        assert diagnostics, "an error without a diagnostic helps nobody"
        super().__init__("; ".join(d.summary for d in diagnostics))
        self.diagnostics = diagnostics


class InputError(PlannerError):
    """A document that a person wrote (inventory, target, policy) is unreadable or invalid."""


class FactsError(PlannerError):
    """Facts could not be read, or are not what the schema promises."""


class MatrixError(PlannerError):
    """The compatibility matrices are broken."""


class NoPathError(PlannerError):
    """No safe order of steps reaches the target."""

    exit_code = ExitCode.NO_PATH


class ScheduleError(PlannerError):
    """Paths exist, but no schedule satisfies the policy."""

    exit_code = ExitCode.NO_PATH


class BundleError(PlannerError):
    """A bundle is incomplete, was changed by hand, or cannot be written."""


class StaleError(PlannerError):
    """A fact the plan relies on has changed since the plan was made."""

    exit_code = ExitCode.STALE


class LockedError(PlannerError):
    """Another controller holds the rollout lock or a node lease."""

    exit_code = ExitCode.LOCKED


class ApplyError(PlannerError):
    """The rollout could not go on for a reason other than a gate, a lock or a stale plan."""


class LabError(PlannerError):
    """The lab could not be set up, used or torn down."""
