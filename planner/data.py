"""The one door to shipped data: matrices, roles, sample inventories, examples."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from planner.diagnostics import Diagnostic
from planner.errors import PlannerError


def data_dir(kind: str) -> Path:
    """Return the directory of shipped data of one kind (``matrices``, ``playbooks``, ``inventories``, ``examples``).

    A wheel carries them under ``planner/_data``; a checkout or an editable install has them beside the package.

    Raises:
        PlannerError: The installation is incomplete.
    """
    package = Path(str(files("planner")))
    for root in (package / "_data", package.parent):
        if (root / kind).is_dir():
            return root / kind
    raise PlannerError(Diagnostic(code="data-missing", subject=kind, summary=f"shipped data {kind!r} not found",
                                  hint="reinstall planner: pip install --force-reinstall planner"))
