"""Matrix files as bytes, and what was made of them: kept in the user's cache directory by the digest of these bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from planner.diagnostics import Diagnostic
from planner.errors import MatrixError

KEPT_MAX = 16       # of each kind: matrices that are being written leave one behind at every change


@dataclass(frozen=True)
class Sources:
    """Files of some directories, later directories last.

    Attributes:
        files: (directory's name/file's name, content).
        digest: Over names and contents, in order.
    """

    files: tuple[tuple[str, bytes], ...]
    digest: bytes


def read_sources(folders: Sequence[Path]) -> Sources:
    """Read all ``*.yml`` files of some directories.

    Raises:
        MatrixError: A directory holds none.
    """
    files = tuple((f"{path.parent.name}/{path.name}", path.read_bytes())
                  for folder in folders for path in _matrix_files(folder))
    return Sources(files, _digest(part for name, data in files for part in (name.encode(), data)))


def _matrix_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.yml"))
    if not files:
        raise MatrixError(Diagnostic(
            code="matrix-missing", subject=str(folder), summary="no matrix files (*.yml) there",
            hint="name a directory of matrix files with --matrix DIR"))
    return files


def _digest(parts: Iterable[bytes]) -> bytes:
    return hashlib.sha256(b"\0".join(parts)).digest()


class Kept:
    """One thing that was made of some sources; what cannot be read or written is as if it were not kept."""

    def __init__(self, sources: Sources, kind: str, made_by: Iterable[bytes]) -> None:
        """Name the file.

        Args:
            sources: What it was made of.
            kind: Directory and suffix, such as ``raw.json``.
            made_by: Everything else that it depends on: code, versions, choices.
        """
        root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        directory, _, suffix = kind.partition(".")
        name = _digest((sources.digest, *made_by)).hex()
        self._path = Path(root) / "planner" / directory / f"{name}.{suffix}"

    def read(self) -> bytes | None:
        """Return its bytes; None where there are none, or somebody else has put them there."""
        with suppress(OSError):
            if self._path.stat().st_uid == os.getuid():
                return self._path.read_bytes()
        return None

    def write(self, data: bytes) -> None:
        """Keep its bytes, whole or not at all; what was kept longest ago makes room."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_bytes(data)
            temporary.replace(self._path)
            others = sorted(self._path.parent.glob(f"*{self._path.suffix}"), key=lambda path: path.stat().st_mtime_ns)
            for old in others[:-KEPT_MAX]:
                old.unlink(missing_ok=True)
