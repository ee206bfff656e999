"""The one door to shipped data: matrices, roles, sample inventories, examples, and the probe as one file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from planner.diagnostics import Diagnostic
from planner.errors import PlannerError

_PACKAGE = Path(__file__).parent


def data_dir(kind: str) -> Path:
    """Return the directory of shipped data of one kind (``matrices``, ``playbooks``, ``inventories``, ``examples``).

    A wheel carries them under ``planner/_data``; a checkout or an editable install has them beside the package.

    Raises:
        PlannerError: The installation is incomplete.
    """
    for root in (_PACKAGE / "_data", _PACKAGE.parent):
        if (root / kind).is_dir():
            return root / kind
    raise PlannerError(Diagnostic(code="data-missing", subject=kind, summary=f"shipped data {kind!r} not found",
                                  hint="reinstall planner: pip install --force-reinstall planner"))


ZIP_ENTRY = """import sys

if sys.version_info < (3, 8):
    sys.stderr.write("probe: Python %d.%d is too old, 3.8 or newer is needed (%s)\\n"
                     % (sys.version_info[0], sys.version_info[1], sys.executable))
    sys.exit(3)

from planner.probe.__main__ import main

sys.exit(main())
"""
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)       # the oldest time that a zip can carry: its bytes must not depend on the clock


@cache
def probe_zip() -> bytes:
    """Return the probe: one zip of standard-library Python with ``pynvml``, the same bytes on every call and machine.

    Raises:
        PlannerError: The installation is incomplete.
    """
    import importlib.util  # what makes the zip is read where it is made: every verb reads this module
    import io
    import zipfile

    package = _PACKAGE / "probe"
    found = {f"planner/probe/{path.relative_to(package).as_posix()}": path.read_bytes()
             for path in package.rglob("*") if path.suffix in (".py", ".ptx")}
    pynvml = importlib.util.find_spec("pynvml")
    if pynvml is None or pynvml.origin is None:
        raise PlannerError(Diagnostic(code="data-missing", subject="pynvml", summary="this module is not installed",
                                      hint="install it: pip install nvidia-ml-py"))
    found |= {"__main__.py": ZIP_ENTRY.encode(), "planner/__init__.py": b"",
              "pynvml.py": Path(pynvml.origin).read_bytes()}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(found):
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), found[name])
    return stream.getvalue()
