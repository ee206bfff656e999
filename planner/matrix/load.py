"""Reads ``matrices/`` and user overlays; every complaint names file and line."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from planner import __version__
from planner.diagnostics import Diagnostic
from planner.documents import digest, dump_model, parse_yaml, validate
from planner.errors import MatrixError
from planner.matrix.index import MatrixSet
from planner.matrix.literals import clauses
from planner.matrix.schema import MatrixFile
from planner.model.version import version_key

_NAMED_SECTIONS = ("components", "families", "lockstep", "claims", "packages", "across", "signatures")


def load_matrices(directory: Path, overlays: Sequence[Path] = ()) -> MatrixSet:
    """Load all ``*.yml`` files of a directory, then of each overlay; a later file's entry of the same name wins.

    The result is cached by the digest of the sources (under the user's cache directory); a cache that cannot be
    read or written is ignored.

    Raises:
        MatrixError: A file is missing, unreadable or invalid.
    """
    files = [path for folder in (directory, *overlays) for path in _matrix_files(folder)]
    texts = [(f"{path.parent.name}/{path.name}", path.read_bytes()) for path in files]
    source_digest = hashlib.sha256(
        b"\0".join([__version__.encode(), *_code(), *(part for name, data in texts for part in (name.encode(), data))])
    ).hexdigest()
    cached = _read_cache(source_digest)
    if cached is not None:
        return cached
    loaded = _merge([_parse(name, data.decode()) for name, data in texts])
    _write_cache(source_digest, loaded)
    return loaded


def _code() -> Iterator[bytes]:
    """Yield the code whose objects are kept: what an older one has written must not be read by a newer one."""
    for name in ("schema.py", "index.py", "literals.py"):
        yield Path(__file__).with_name(name).read_bytes()


def _matrix_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.yml"))
    if not files:
        raise MatrixError(Diagnostic(
            code="matrix-missing", subject=str(folder), summary="no matrix files (*.yml) there",
            hint="name a directory of matrix files with --matrix DIR"))
    return files


def _parse(name: str, text: str) -> tuple[str, MatrixFile]:
    raw = parse_yaml(text, name=name, error=MatrixError)
    if not isinstance(raw, dict):
        raise MatrixError(Diagnostic(code="bad-document", subject=name, summary="a matrix file is a mapping",
                                     hint=f"start {name} with: schema: planner.matrix/1"))
    sources: dict[str, Any] = raw.get("sources") or {}
    for section in (*_NAMED_SECTIONS, "releases", "gpu_models", "moves"):
        for position, entry in enumerate(raw.get(section) or []):
            reference = entry.get("provenance") if isinstance(entry, dict) else None
            if isinstance(reference, str):
                if reference not in sources:
                    raise MatrixError(Diagnostic(
                        code="unknown-source", subject=f"{name}, {section}[{position}]",
                        summary=f"provenance {reference!r} is not in this file's sources",
                        hint=f"add {reference} under sources: in {name}"))
                entry["provenance"] = sources[reference]
    return name, validate(MatrixFile, raw, name=name, text=text, error=MatrixError)


def _merge(files: Sequence[tuple[str, MatrixFile]]) -> MatrixSet:
    where: dict[str, str] = {}
    replaced: dict[str, str] = {}
    named: dict[str, dict[str, Any]] = {section: {} for section in (*_NAMED_SECTIONS, "moves", "gpu_models")}
    releases: dict[tuple[str, object], Any] = {}
    for name, file in files:
        for section, entries in named.items():
            for entry in getattr(file, section):
                entries.pop(entry.name, None)     # an overlay's entry takes its own place in the order
                entries[entry.name] = entry
                if where.setdefault(entry.name, name) != name:
                    replaced[entry.name], where[entry.name] = where[entry.name], name
        for release in file.releases:
            releases[release.component, version_key(release.version)] = release
    questions = {q.component: q for _, file in files for q in file.questions}
    by_component: dict[str, list[Any]] = {}
    for release in releases.values():
        by_component.setdefault(release.component, []).append(release)
    claims = tuple(named["claims"].values())
    return MatrixSet(
        components=named["components"],
        moves=tuple(named["moves"].values()),
        families=named["families"],
        lockstep=tuple(named["lockstep"].values()),
        claims=tuple(c for c in claims if not c.tombstone),
        tombstones=tuple(c for c in claims if c.tombstone),
        releases={k: tuple(sorted(v, key=lambda r: version_key(r.version))) for k, v in sorted(by_component.items())},
        packages=tuple(named["packages"].values()),
        gpu_models=tuple(named["gpu_models"].values()),
        files=where,
        replaced=replaced,
        across=tuple(named["across"].values()),
        signatures=tuple(named["signatures"].values()),
        needed_words={p: clauses(p) for s in named["signatures"].values() for p in s.match},
        questions=questions,
        vocabulary=tuple(term for _, file in files for term in file.vocabulary),
        digest=digest([[name, dump_model(file)] for name, file in files]),
    )


def _cache_path(source_digest: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "planner" / "matrix" / f"{source_digest}.pickle"


def _read_cache(source_digest: str) -> MatrixSet | None:
    path = _cache_path(source_digest)
    try:
        # The user's own cache directory, named by the digest of the sources: as trusted as the program itself.
        if path.stat().st_uid != os.getuid():
            return None
        loaded = pickle.loads(path.read_bytes())  # noqa: S301
    except Exception:  # a broken cache must never stop the planner
        return None
    return loaded if isinstance(loaded, MatrixSet) else None


def _write_cache(source_digest: str, loaded: MatrixSet) -> None:
    path = _cache_path(source_digest)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(pickle.dumps(loaded))
        temporary.replace(path)
    except OSError:
        return
