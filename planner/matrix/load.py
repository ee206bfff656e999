"""Reads ``matrices/`` and user overlays; every complaint names file and line."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import VERSION as PYDANTIC

from planner import __version__
from planner.diagnostics import Diagnostic
from planner.documents import digest, dump_model, parse_yaml, validate
from planner.errors import MatrixError
from planner.matrix.index import MatrixSet
from planner.matrix.later import LaterDict, LaterTuple
from planner.matrix.literals import clauses
from planner.matrix.schema import MatrixFile, Provenance
from planner.matrix.sources import Kept, Sources, read_sources
from planner.model.version import version_key

_NAMED_SECTIONS = ("components", "families", "lockstep", "claims", "packages", "across", "signatures", "times")


def load_matrices(directory: Path, overlays: Sequence[Path] = ()) -> MatrixSet:
    """Load all ``*.yml`` files of a directory, then of each overlay; a later file's entry of the same name wins.

    Raises:
        MatrixError: A file is missing, unreadable or invalid.
    """
    return load_sources(read_sources((directory, *overlays)))


def load_sources(sources: Sources) -> MatrixSet:
    """Load matrix files; a later file's entry of the same name wins. The result is kept by the digest of the files.

    Raises:
        MatrixError: A file is invalid.
    """
    kept = Kept(sources, "matrix.pickle", _makers())
    if (data := kept.read()) is not None:
        # The user's own cache directory, named by the digest of the sources: as trusted as the program itself.
        with suppress(Exception):       # a broken cache must never stop the planner
            loaded = pickle.loads(data)  # noqa: S301
            if isinstance(loaded, MatrixSet):
                return loaded
    made = _merge([_parse(name, data.decode()) for name, data in sources.files])
    kept.write(pickle.dumps(made))
    return made


def _makers() -> Iterator[bytes]:
    """Yield the code whose objects are kept: what an older one has written must not be read by a newer one."""
    yield f"{__version__} pydantic {PYDANTIC}".encode()
    for name in ("schema.py", "index.py", "literals.py", "later.py", "load.py"):
        yield Path(__file__).with_name(name).read_bytes()


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
    share = _sharing()
    named: dict[str, dict[str, Any]] = {section: {} for section in (*_NAMED_SECTIONS, "moves", "gpu_models")}
    releases: dict[tuple[str, object], Any] = {}
    for name, file in files:
        for section, entries in named.items():
            for entry in getattr(file, section):
                entries.pop(entry.name, None)     # an overlay's entry takes its own place in the order
                entries[entry.name] = share(entry)
                if where.setdefault(entry.name, name) != name:
                    replaced[entry.name], where[entry.name] = where[entry.name], name
        for release in file.releases:
            releases[release.component, version_key(release.version)] = share(release)
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
        signatures=LaterTuple(tuple(named["signatures"].values())),
        needed_words=LaterDict({p: clauses(p) for s in named["signatures"].values() for p in s.match}),
        questions=questions,
        vocabulary=tuple(term for _, file in files for term in file.vocabulary),
        times=named["times"],
        digest=digest([[name, dump_model(file)] for name, file in files]),
    )


def _sharing() -> Callable[[Any], Any]:
    """Return what gives entries with an equal provenance the same one: a file's sources stand behind hundreds each."""
    known: dict[tuple[object, ...], Provenance] = {}

    def share(entry: Any) -> Any:
        own: Provenance | None = getattr(entry, "provenance", None)
        if own is None:
            return entry
        key = (*vars(own).items(), *sorted(own.model_fields_set))
        return entry.model_copy(update={"provenance": known.setdefault(key, own)})

    return share
