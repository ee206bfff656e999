"""Puts a bundle on disk whole, and reads it back only if nobody has changed it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import digest, validate
from planner.emit.render import BUNDLE_SCHEMA, MANIFEST, PLAN_FILE
from planner.errors import BundleError
from planner.schedule.plan import Plan

RECORDS = "records"     # written by runs, never part of the manifest


def write_bundle(files: Mapping[str, bytes], directory: Path) -> None:
    """Write a bundle: into a temporary directory beside the target, then renamed; records of an older one stay.

    Raises:
        BundleError: The target holds something that no bundle put there, or cannot be written.
    """
    _refuse_foreign(directory)
    directory = directory.resolve()      # DIR/../DIR leads nowhere while DIR is moved aside, and . has no name
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        try:
            for name, content in files.items():
                path = temporary / PurePosixPath(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            temporary.chmod(0o755)      # mkdtemp's 0700 would keep reviewers out
            _swap(temporary, directory)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as exc:
        raise BundleError(Diagnostic(code="bundle-not-written", subject=str(directory), summary=f"cannot write: {exc}",
                                     hint="choose another place: planner plan … --out DIR")) from exc


def _swap(temporary: Path, directory: Path) -> None:
    if not directory.exists():
        temporary.rename(directory)
        return
    old = temporary.with_name(temporary.name + ".old")
    directory.rename(old)
    try:
        temporary.rename(directory)
    except OSError:
        old.rename(directory)            # what was there is worth more than what was to come
        raise
    for name in _kept(old):
        (old / name).rename(directory / name)
    shutil.rmtree(old)


def _kept(directory: Path) -> list[str]:
    """Return the top-level names that do not belong to the bundle itself: records, and hidden ones such as .git."""
    return sorted(p.name for p in directory.iterdir() if p.name == RECORDS or p.name.startswith("."))


def _refuse_foreign(directory: Path) -> None:
    """Let only an empty place or an older bundle be replaced."""
    if not directory.exists() and not directory.is_symlink():
        return
    problem = ""
    if directory.is_symlink() or not directory.is_dir():
        problem = "something else is there"
    elif (directory / MANIFEST).is_file():
        added = sorted(set(_present(directory)) - set(_manifest(directory)["files"]))
        problem = f"it holds files that no bundle put there: {', '.join(added[:5])}" if added else ""
    elif _present(directory):
        problem = f"it is not a bundle: it holds {', '.join(_present(directory)[:5])}"
    if problem:
        raise BundleError(Diagnostic(code="not-a-bundle", subject=str(directory), summary=f"not overwritten: {problem}",
                                     hint="choose another place, or move it away: planner plan … --out DIR"))


def _present(directory: Path) -> list[str]:
    """Return every file and link below a directory but the manifest, records and hidden top-level names."""
    skipped = {MANIFEST, *_kept(directory)}
    return sorted(
        path.relative_to(directory).as_posix() for path in directory.rglob("*")
        if path.relative_to(directory).parts[0] not in skipped and (path.is_symlink() or not path.is_dir())
    )


def read_bundle(directory: Path) -> Plan:
    """Return the plan of a bundle after checking every file against the manifest and the plan against its digest.

    Raises:
        BundleError: There is no bundle, or a file was changed, added or is missing; each is named.
    """
    if not directory.is_dir():
        raise BundleError(Diagnostic(code="no-bundle", subject=str(directory), summary="there is no such directory",
                                     hint=f"make it: planner plan --facts FACTS --target TARGET --out {directory}"))
    manifest = _manifest(directory)
    expected: dict[str, str] = manifest["files"]
    present = set(_present(directory))
    problems = [("missing", name) for name in sorted(set(expected) - present)]
    problems += [("added", name) for name in sorted(present - set(expected))]
    for name in sorted(present & set(expected)):
        path = directory / name
        if path.is_symlink() or not path.is_file() or digest(path.read_bytes()) != expected[name]:
            problems.append(("changed", name))
    if problems:
        raise BundleError(*(_tampered(directory, name, word) for word, name in problems))
    return _plan(directory, manifest)


def _plan(directory: Path, manifest: Mapping[str, Any]) -> Plan:
    path = directory / PLAN_FILE
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BundleError(Diagnostic(code="bundle-unreadable", subject=str(path), summary=f"cannot be read: {exc}",
                                     hint=_again(directory))) from exc
    plan = validate(Plan, value, name=str(path), error=BundleError)
    # What is written counts, not what today's model makes of it: a field that came later has a default in old plans.
    if not (plan.digest == manifest["plan"] == digest({**value, "digest": ""})):
        raise BundleError(_tampered(directory, PLAN_FILE, "changed"))
    return plan


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != BUNDLE_SCHEMA or not isinstance(value["plan"], str):
            raise ValueError(f"not {BUNDLE_SCHEMA}")
        if not all(isinstance(k, str) and isinstance(v, str) for k, v in value["files"].items()):
            raise ValueError("its list of files is not one")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BundleError(Diagnostic(code="bundle-unreadable", subject=str(path), summary=f"cannot be read: {exc}",
                                     hint=_again(directory))) from exc
    return dict(value)


def _tampered(directory: Path, name: str, word: str) -> Diagnostic:
    told = {"missing": "is missing", "added": "was added", "changed": "was changed"}[word]
    return Diagnostic(code="bundle-tampered", subject=str(directory / name),
                      summary=f"this file {told} after the bundle was written", hint=_again(directory))


def _again(directory: Path) -> str:
    return f"edit the target, then write it again: planner plan --facts FACTS --target TARGET --out {directory}"
