"""What the metadata of a published wheel pins. Pure: pip's report in, pins out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from planner.model.version import version_key

_GLIBC = re.compile(r"manylinux_2_(\d+)_")
_OPERATOR = re.compile(r"(===|==|~=|!=|>=|<=|>|<)\s*([^\s,;]+)")
_OPEN_END = re.compile(r"(\d+(?:\.\d+)*)\s*-\s*\d+(?:\.\d+)*")      # 3.9-3.12: only the floor is a fact of metadata

Constraint = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Wheel:
    """One published wheel.

    Attributes:
        filename: Carries version, build number, Python and platform.
        sha256: "" where the index gave none.
        requires_python: Constraints, most often a floor.
        requires: (distribution, extras asked of it, specifier) of what the machine asked for needs.
    """

    project: str
    version: str
    filename: str
    sha256: str
    requires_python: str
    requires: tuple[tuple[str, tuple[str, ...], str], ...]

    def pin(self, *names: str) -> str:
        """Return the specifier of the first requirement that is one of some distributions, or one for a CUDA major."""
        wanted = re.compile("|".join(rf"{re.escape(canonical(name))}(?:-cu\d+)?" for name in names))
        return next((specifier for name, _, specifier in self.requires if wanted.fullmatch(name) and specifier), "")

    @property
    def glibc(self) -> str:
        """The lowest glibc that its platform tags name; "" for tags older than these, which promise too much."""
        found = [int(minor) for minor in _GLIBC.findall(self.filename)]
        return f"2.{min(found)}" if found else ""


def canonical(name: str) -> str:
    """Return a distribution's name in the one form that indexes compare."""
    return re.sub(r"[-_.]+", "-", name).lower()


def machine(python: str, arch: str) -> dict[str, str]:
    """Return the marker values of a Linux machine; pip would use those of the machine that it runs on."""
    full = python if python.count(".") > 1 else f"{python}.0"
    return {"python_version": ".".join(python.split(".")[:2]), "python_full_version": full, "sys_platform": "linux",
            "platform_system": "Linux", "platform_machine": arch, "os_name": "posix", "platform_release": "",
            "platform_version": "", "implementation_name": "cpython", "implementation_version": full,
            "platform_python_implementation": "CPython"}


def wheel_of(entry: Mapping[str, Any], *, python: str, arch: str, extras: Iterable[str] = ()) -> Wheel:
    """Return the wheel that an entry of pip's report describes.

    Args:
        entry: ``metadata`` and ``download_info``.
        python: Version that markers are evaluated for.
        arch: Machine that markers are evaluated for.
        extras: Extras whose requirements count, too.
    """
    metadata, info = entry["metadata"], entry["download_info"]
    hashes = (info.get("archive_info") or {}).get("hashes") or {}
    requires = tuple(_holding(metadata.get("requires_dist") or (), machine(python, arch), ("", *extras)))
    return Wheel(project=canonical(str(metadata.get("name", ""))), version=str(metadata["version"]),
                 filename=unquote(urlsplit(str(info["url"])).path.rpartition("/")[2]),
                 sha256=str(hashes.get("sha256", "")), requires_python=str(metadata.get("requires_python") or ""),
                 requires=requires)


def _holding(texts: Iterable[str], values: Mapping[str, str],
             extras: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for text in texts:
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            continue
        if asked.marker is None or any(_true(asked, {**values, "extra": extra}) for extra in extras):
            yield canonical(asked.name), tuple(sorted(asked.extras)), str(asked.specifier)


def _true(asked: Requirement, values: dict[str, str]) -> bool:
    assert asked.marker is not None
    try:
        return asked.marker.evaluate(values)
    except UndefinedEnvironmentName:
        return False


def constraints(text: str) -> tuple[Constraint, ...]:
    """Return a specifier, or what the matrices write for one, as constraints; a bare version has the operator ""."""
    if not text.strip():
        return ()
    span = _OPEN_END.fullmatch(text.strip())
    if span:
        return ((">=", span.group(1)),)
    found = tuple((operator, version.rstrip(",")) for operator, version in _OPERATOR.findall(text))
    return found or (("", text.strip()),)


def floor(specifier: str) -> str:
    """Return the version that a pin means, or the lowest one that a range takes; "" where it has no lower end."""
    return next((v for o, v in constraints(specifier) if o in ("==", "===", "~=", ">=", "")), "").removesuffix(".*")


def agrees(known: str, published: str) -> bool:
    """Tell whether what the matrices say is what a published specifier says.

    A known version without an operator holds when the pin, or the floor of a range, is it or begins with it. Known
    constraints must all be published ones; what is published beyond them is no contradiction.
    """
    offered = constraints(published)
    for operator, version in constraints(known):
        if operator == "":
            if not _begins(floor(published), version):
                return False
        elif not any(o == operator and version_key(v) == version_key(version) for o, v in offered):
            return False
    return bool(offered)


def _begins(version: str, start: str) -> bool:
    if not version:
        return False
    wanted, have = start.split("."), version.split(".")
    return have[:len(wanted)] == wanted or version_key(version) == version_key(start)


def allows_python(wheel: Wheel, python: str) -> bool:
    """Tell whether a wheel's Requires-Python takes a Python."""
    try:
        return SpecifierSet(wheel.requires_python).contains(f"{python}.0")
    except InvalidSpecifier:
        return True
