"""A Python environment, or what a requirements or lock file pins, in; the view of its frameworks, out."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement

from planner.diagnostics import Diagnostic
from planner.errors import InputError
from planner.facts.schema import PythonEnvFacts
from planner.matrix.index import MatrixSet
from planner.matrix.wheels import Wheel, canonical, floor, machine, wheel_of
from planner.stack.facts import environment_values
from planner.stack.values import local_part, terms, versions

Values = dict[str, tuple[str, ...]]

_NVIDIA = "nvidia-"
_INDEXED = frozenset({"torch", "torchvision", "torchaudio"})     # served by indexes of one build each
_BUILT = {"built_cudnn": "nvidia-cudnn", "built_nccl": "nvidia-nccl"}
_OPTION = re.compile(r"(?:^|\s)--?[a-z][a-z-]*(?:[ =]\S+)?")
_INCLUDE = re.compile(r"(-r|--requirement|-c|--constraint)[ =]?\s*(\S+)")
_INDEX = re.compile(r"(?:-i|--index-url|--extra-index-url|-f|--find-links)[ =]\s*(\S+)")
_BUILD = re.compile(r"/(cu\d{2,3}|cpu|rocm[\d.]+|xpu)/?$")
_WHEEL = re.compile(r"([A-Za-z0-9._]+?)-(\d[^-]*)-(?:\d[^-]*-)?[^-]+-[^-]+-[^-]+\.whl$")


@dataclass(frozen=True, slots=True)
class Distribution:
    """One distribution that is installed or pinned.

    Attributes:
        requires: Texts of Requires-Dist.
        extras: Extras that it offers.
        libraries: Shared libraries that it brings, as its RECORD names them.
    """

    name: str
    version: str
    requires: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Environment:
    """What is installed in an environment, or what a file pins.

    Attributes:
        title: Shown to people.
        python: "" where it is not known.
        unpinned: Distributions that are asked for without one version.
        twice: Distributions of which two versions lie in one place, with these.
        build: What an index in a requirements file names: ``cu126``.
    """

    title: str
    python: str = ""
    distributions: tuple[Distribution, ...] = ()
    unpinned: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    build: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Pins:
    """What requirements files add up to, filled file by file."""

    python: str
    pinned: dict[str, str] = field(default_factory=dict)
    loose: dict[str, str] = field(default_factory=dict)         # name -> as it is written
    bounds: dict[str, str] = field(default_factory=dict)        # pins of constraint files
    build: str = ""
    notes: list[str] = field(default_factory=list)

    def environment(self, title: str) -> Environment:
        """Return the environment that comes of them; a constraint pins what a requirement leaves open."""
        pinned = {**{n: v for n, v in self.bounds.items() if n in self.loose}, **self.pinned}
        loose = tuple(text for name, text in sorted(self.loose.items()) if name not in pinned)
        return Environment(title, "", tuple(Distribution(n, v) for n, v in sorted(pinned.items())), loose,
                           build=self.build, notes=tuple(self.notes))


def read_requirements(text: str, name: str, pins: Pins, *, bounds: bool = False) -> Iterator[tuple[str, bool]]:
    """Read one requirements file into ``pins``.

    Args:
        text: Its content.
        name: Shown in notes.
        pins: Receives what it says.
        bounds: It is a constraints file.

    Yields:
        (file, whether it is a constraints file) for every file that it includes.
    """
    for raw in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(?:^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        included = _INCLUDE.match(line)
        index = _INDEX.match(line)
        if included:
            yield included.group(2), bounds or included.group(1).startswith(("-c", "--c"))
        elif index:
            word = _BUILD.search(urlsplit(index.group(1)).path)
            pins.build = word.group(1).lower() if word else pins.build
        elif not line.startswith("-"):
            _requirement(line, name, pins, bounds)


def _requirement(line: str, name: str, pins: Pins, bounds: bool) -> None:
    text = _OPTION.sub("", line).strip()
    if file := _WHEEL.search(unquote(urlsplit(text.partition("@")[2].strip() or text).path).rpartition("/")[2]):
        pins.pinned[canonical(file.group(1))] = file.group(2)
        return
    try:
        asked = Requirement(text)
    except InvalidRequirement:
        pins.notes.append(f"{name}: {text[:80]!r} names no distribution with its version")
        return
    if not _applies(str(asked.marker or ""), pins.python):
        return
    key = canonical(asked.name)
    if asked.url:
        pins.notes.append(f"{name}: {key} comes from {asked.url[:80]}: what it is built for is not known")
        return
    exact = [s.version for s in asked.specifier if s.operator in ("==", "===") and not s.version.endswith(".*")]
    if exact:
        (pins.bounds if bounds else pins.pinned)[key] = exact[0]
    elif not bounds:
        pins.loose[key] = f"{key}{asked.specifier}"


def _applies(marker: str, python: str) -> bool:
    if not marker:
        return True
    try:
        return Marker(marker).evaluate({**machine(python, "x86_64"), "extra": ""})
    except (InvalidMarker, UndefinedEnvironmentName):
        return True


def is_lock(name: str, text: str) -> bool:
    """Tell whether a file is a lock file in TOML or JSON rather than a list of requirements."""
    return name.endswith((".lock", ".toml")) or text.lstrip().startswith("{")


def read_lock(text: str, name: str, python: str) -> Environment:
    """Read ``uv.lock``, ``poetry.lock``, ``pdm.lock``, ``pylock.toml`` or ``Pipfile.lock``.

    Raises:
        InputError: It cannot be read, or lists no packages.
    """
    try:
        data: Any = json.loads(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(Diagnostic(code="bad-lock", subject=name, summary=f"cannot parse this lock file: {exc}",
                                    hint=f"write {name} again with the tool that it belongs to")) from exc
    found: dict[str, dict[str, None]] = {}
    for package, version, marker in _locked(data):
        if _applies(marker, python):
            found.setdefault(canonical(package), {})[version] = None
    if not found:
        raise InputError(Diagnostic(code="bad-lock", subject=name, summary="no package with a version stands in it",
                                    hint="give a requirements.txt, uv.lock, poetry.lock, pylock.toml or Pipfile.lock"))
    notes = [f"{name}: {package} is locked as {' and as '.join(several)}: which one is installed is not known"
             for package, several in found.items() if len(several) > 1]
    chosen = tuple(Distribution(n, next(iter(v))) for n, v in sorted(found.items()) if len(v) == 1)
    return Environment(name, "", chosen, notes=tuple(notes))


def _locked(data: Any) -> Iterator[tuple[str, str, str]]:
    """Yield (name, version, marker) of every package of a lock file."""
    if not isinstance(data, dict):
        return
    listed = data.get("package") or data.get("packages")
    for entry in listed if isinstance(listed, list) else ():
        if isinstance(entry, dict) and entry.get("name") and entry.get("version"):
            marker = entry.get("marker") or entry.get("markers") or ""
            several = entry.get("resolution-markers")
            if isinstance(several, list):
                marker = " or ".join(f"({m})" for m in several)
            yield str(entry["name"]), str(entry["version"]), marker if isinstance(marker, str) else ""
    default = data.get("default")
    for name, entry in default.items() if isinstance(default, dict) else ():
        version = str(entry.get("version", "")) if isinstance(entry, dict) else ""
        if version.startswith("=="):
            yield str(name), version.lstrip("="), str(entry.get("markers", ""))


def environment_view(environment: Environment, matrices: MatrixSet) -> Values:
    """Return what an environment changes in the state of the machine that it is on."""
    known = {d.name: d.version for d in environment.distributions}
    spoken = {name: version for name, version in known.items() if _is_spoken_of(name, matrices)}
    wheels = {name: version for name, version in spoken.items() if name.startswith(_NVIDIA)}
    frameworks = {name: version for name, version in spoken.items() if name not in wheels}
    if environment.build:          # the index of that build serves it without saying so in the pin
        frameworks = {n: f"{v}+{environment.build}" if n in _INDEXED and "+" not in v else v
                      for n, v in frameworks.items()}
    state = environment_values(PythonEnvFacts(path=environment.title, python=environment.python or None,
                                              frameworks=frameworks, nvidia_wheels=wheels), matrices)
    if not state and environment.python:
        state["python"] = versions(environment.python)
    for name, version in spoken.items():
        for term, _ in terms("library", name, matrices):
            state.setdefault(term.component, versions(version))
    state |= _built(environment, state, matrices)
    for component, values in (("unpinned_package", _of_interest(environment.unpinned, matrices)),
                              ("installed_twice", _of_interest(environment.twice, matrices)),
                              ("shared_libraries", overwritten(environment.distributions, matrices))):
        if values:
            state[component] = tuple(values)
    return state


def _is_spoken_of(name: str, matrices: MatrixSet) -> bool:
    return bool(name.startswith(_NVIDIA) or terms("framework", name, matrices) or terms("library", name, matrices))


def _of_interest(texts: Iterable[str], matrices: MatrixSet) -> list[str]:
    """Return the entries whose distribution the matrices speak of."""
    return [t for t in texts if _is_spoken_of(re.split(r"[^A-Za-z0-9._-]", t, maxsplit=1)[0].rstrip("-"), matrices)]


def _built(environment: Environment, state: Mapping[str, tuple[str, ...]], matrices: MatrixSet) -> Values:
    """Return the libraries that the framework in view was built with, as its own metadata asks for them."""
    framework = state.get("framework", ())
    found: Values = {}
    for distribution in environment.distributions:
        named = [term.component for term, _ in terms("framework", distribution.name, matrices)]
        if not framework or framework[0] not in named or not distribution.requires or local_part(distribution.version):
            continue
        wheel = _wheel(distribution, environment.python or "3.12")
        found |= {key: (version,) for key, dist in _BUILT.items() if (version := floor(wheel.pin(dist)))}
    return found


def _wheel(distribution: Distribution, python: str) -> Wheel:
    entry = {"metadata": {"name": distribution.name, "version": distribution.version,
                          "requires_dist": distribution.requires}, "download_info": {"url": ""}}
    return wheel_of(entry, python=python, arch="x86_64", extras=[e for e in distribution.extras if "cuda" in e])


def overwritten(distributions: Iterable[Distribution], matrices: MatrixSet) -> list[str]:
    """Return the pairs of distributions that bring a shared library of one name, where no claim names the pair.

    At least one of the two is a distribution that the matrices speak of.
    """
    owners: dict[str, list[str]] = {}
    for distribution in distributions:
        for path in distribution.libraries:
            owners.setdefault(path, []).append(distribution.name)
    pairs: dict[tuple[str, str], list[str]] = {}
    for path, names in owners.items():
        for one, other in combinations(sorted({*names}), 2):
            pairs.setdefault((one, other), []).append(path)
    claimed = [frozenset(claim.if_) for claim in matrices.claims]
    return [f"{one} and {other}: {paths[0]}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
            for (one, other), paths in sorted(pairs.items())
            if (_is_spoken_of(one, matrices) or _is_spoken_of(other, matrices))
            and not any({one, other} <= names for names in claimed)]
