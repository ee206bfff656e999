"""What ``planner check --python`` and ``-r`` read: an environment as it lies on disk, requirements and lock files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from planner.cli.inputs import read_text
from planner.diagnostics import Diagnostic
from planner.errors import InputError
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.matrix.wheels import canonical
from planner.stack.schema import Described, Stack, View
from planner.stack.wheels import (
    Distribution,
    Environment,
    Pins,
    environment_view,
    is_lock,
    read_lock,
    read_requirements,
)

_DIST_INFO = re.compile(r"(.+)-([^-]+)\.dist-info")
_LIBRARY = re.compile(r"\.(?:so(?:\.\d+)*|dll|pyd)$")
_PYTHON_FOLDER = re.compile(r"python(\d+\.\d+)$")
_INCLUDES_MAX = 50
_BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LoadedEnvironment:
    """An environment, by itself or on machines."""

    environment: Environment

    def on_stack(self, stack: Stack, matrices: MatrixSet) -> Stack:
        """Return a stack with the environment on every machine; without machines, the environment alone."""
        own, notes = environment_view(self.environment, matrices), (*stack.not_judged, *self.environment.notes)
        if not stack.machines:
            return Stack((Described("", (View(self.environment.title, own),)),), notes)
        machines = [replace(m, views=(*m.views, View(self._title(m.views[0].subject), {**m.views[0].state, **own})))
                    for m in stack.machines]
        return Stack(tuple(machines), notes)

    def on_views(self, views: Iterable[tuple[str, State]], matrices: MatrixSet,
                 notes: list[str]) -> Iterator[tuple[str, State]]:
        """Yield every view, and after each machine's own one that of the environment on it."""
        own = environment_view(self.environment, matrices)
        notes += self.environment.notes
        for subject, state in views:
            yield subject, state
            if "framework" not in state:
                yield self._title(subject), {**state, **own}

    def _title(self, subject: str) -> str:
        return f"{subject}: {self.environment.title}"


def load_environment(python: Path | None, requirements: Path | None) -> LoadedEnvironment:
    """Return the environment that ``--python`` or ``-r`` means.

    Raises:
        InputError: There is none, or the file cannot be read.
    """
    if python is not None:
        return LoadedEnvironment(_installed(python))
    assert requirements is not None
    return LoadedEnvironment(_pinned(requirements))


def _pinned(path: Path) -> Environment:
    running = f"{sys.version_info.major}.{sys.version_info.minor}"      # for markers; the file names no Python
    text = read_text(path)
    if is_lock(path.name, text):
        return read_lock(text, path.name, running)
    pins = Pins(running)
    waiting, seen = [(path, False)], {path.resolve()}
    while waiting:
        here, bounds = waiting.pop(0)
        for name, is_bound in read_requirements(read_text(here), here.name, pins, bounds=bounds):
            if "://" in name:
                pins.notes.append(f"{here.name}: {name} is not on this machine")
                continue
            other = here.parent / name
            if other.resolve() not in seen and len(seen) < _INCLUDES_MAX:
                seen.add(other.resolve())
                waiting.append((other, is_bound))
    found = pins.environment(path.name)
    if not found.distributions and not found.unpinned:
        raise InputError(Diagnostic(
            code="bad-requirements", subject=str(path), summary="no line of it names a distribution",
            why=found.notes[:3], hint="write it with: pip freeze > requirements.txt"))
    return found


def _installed(path: Path) -> Environment:
    folders, python = _site_folders(path)
    named: dict[str, Distribution] = {}
    twice: list[str] = []
    for folder in folders:
        here: dict[str, list[Distribution]] = {}
        for entry in sorted(folder.glob("*.dist-info")):
            match = _DIST_INFO.fullmatch(entry.name)
            if match:
                here.setdefault(canonical(match.group(1)), []).append(_distribution(entry, *match.groups()))
        for name, found in here.items():
            if name in named:          # an earlier folder of the path wins
                continue
            named[name] = found[-1]
            if len({d.version for d in found}) > 1:
                twice.append(f"{name} {' and '.join(d.version for d in found)}")
    if not named:
        raise InputError(Diagnostic(
            code="no-environment", subject=str(path),
            summary="no installed distributions (*.dist-info) are found there",
            hint="give an environment's interpreter (venv/bin/python), its directory, or a site-packages directory"))
    return Environment(str(path), python, tuple(named[name] for name in sorted(named)), twice=tuple(twice))


def _site_folders(path: Path) -> tuple[list[Path], str]:
    """Return the folders that an interpreter or environment imports from, in order, and its Python."""
    if path.is_dir() and any(path.glob("*.dist-info")):
        found = _PYTHON_FOLDER.search(str(path.parent))
        return [path], found.group(1) if found else ""
    prefix = path if path.is_dir() else path.absolute().parent.parent
    if not path.exists():
        raise InputError(Diagnostic(code="file-missing", subject=str(path), summary="no such interpreter or directory",
                                    hint=f"give the path of an existing environment instead of {path}"))
    config = prefix / "pyvenv.cfg"
    shared: list[Path] = []
    if config.is_file():
        settings = dict(re.findall(r"^\s*([\w-]+)\s*=\s*(.*?)\s*$", read_text(config), re.MULTILINE))
        if settings.get("include-system-site-packages", "").lower() == "true" and settings.get("home"):
            shared = [Path(settings["home"]).parent]
    elif path.is_file():
        prefix = path.resolve().parent.parent
    # The interpreter of an environment is a link to another one's, whose name may say less than the folder's.
    wanted = _PYTHON_FOLDER.search(path.resolve().name) if path.is_file() and not config.is_file() else None
    return _below((prefix, *shared), wanted.group(1) if wanted else "")


def _below(prefixes: Iterable[Path], wanted: str) -> tuple[list[Path], str]:
    folders: list[Path] = []
    python = wanted
    for prefix in prefixes:
        for lib in sorted({*prefix.glob("lib*/python3*"), *prefix.glob("local/lib/python3*")}):
            found = _PYTHON_FOLDER.search(lib.name)
            if found is None or (python and found.group(1) != python):
                if lib.name != "python3":
                    continue
            elif not python and _sites(lib):
                python = found.group(1)
            folders += _sites(lib)
        folders += [prefix / "Lib" / "site-packages"] if (prefix / "Lib" / "site-packages").is_dir() else []
    real = {folder.resolve(): folder for folder in reversed(folders)}        # lib64 is most often a link to lib
    return list(reversed(real.values())), python


def _sites(lib: Path) -> list[Path]:
    return [lib / name for name in ("site-packages", "dist-packages") if (lib / name).is_dir()]


def _distribution(folder: Path, name: str, version: str) -> Distribution:
    requires, extras = [], []
    for line in _text(folder / "METADATA").splitlines():
        if not line:
            break
        key, _, value = line.partition(": ")
        if key == "Requires-Dist":
            requires.append(value.strip())
        elif key == "Provides-Extra":
            extras.append(value.strip())
    paths = (line.rpartition(",")[0].rpartition(",")[0].strip('"') for line in _text(folder / "RECORD").splitlines())
    libraries = tuple(path for path in paths if _LIBRARY.search(path))
    return Distribution(canonical(name), version, tuple(requires), tuple(extras), libraries)


def _text(path: Path) -> str:
    """Return a file of a distribution; one that cannot be read says nothing (it is another program's)."""
    try:
        with path.open("rb") as file:
            return file.read(_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
