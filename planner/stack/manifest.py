"""The packages of a VM image or of a container, as package managers list them, in; the state that they make up, out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase

from planner.diagnostics import Diagnostic
from planner.documents import parse_yaml
from planner.errors import InputError
from planner.facts.parse.packages import parse_dpkg, parse_rpm
from planner.facts.schema import FactSet, OsFacts
from planner.fleet.packages import installed_versions
from planner.matrix.index import MatrixSet
from planner.matrix.schema import PackageSet
from planner.model.version import newest, version_key
from planner.stack.values import terms

Values = dict[str, tuple[str, ...]]

_MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "x86_64": "x86_64", "aarch64": "aarch64"}
_DPKG_LIST = re.compile(r"[uihrp][nicufhWt][R ]?\s+([a-z0-9][a-z0-9+.-]*)(?::([a-z0-9]+))?\s+(\S+)\s+([a-z0-9]+)\b")
_DPKG_QUERY = re.compile(r"([a-z0-9][a-z0-9+.-]*)(?::([a-z0-9]+))?\t(\S+)")
_RPM = re.compile(
    r"([A-Za-z0-9_][A-Za-z0-9._+-]*)-(?:(\d+):)?([^-\s]+-[^-\s]+)\.(noarch|x86_64|aarch64|i686|ppc64le|s390x)")
_EQUALS = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._+-]*)(?::[a-z0-9]+)?\s*(?:==?|\s)\s*(\S+)")
_ARCH_LINE = re.compile(r"\b(amd64|arm64|x86_64|aarch64)\b")
_RPM_ENDING = re.compile(r"[.](?:el|fc|amzn|azl|suse)[0-9]|-lp[0-9]")
_UPSTREAM = re.compile(r"(?:\d+:)?(\d[0-9.]*)")


def read_manifest(text: str, name: str) -> tuple[dict[str, str], str, str]:
    """Read a list of installed packages: ``dpkg -l``, ``dpkg-query -W``, ``rpm -qa``, or YAML name=version.

    Returns:
        (package -> version verbatim, apt or dnf, machine such as x86_64; "" where the list does not say).

    Raises:
        InputError: No line reads like a package.
    """
    lines = [line.strip("\r\n") for line in text.splitlines() if line.strip()]
    machine = next((_MACHINES[found.group(1)] for line in lines if (found := _ARCH_LINE.search(line))), "")
    for family, packages in (("", _piped(lines, machine)), ("apt", _debian(lines)), ("dnf", _rpm(lines))):
        if packages:
            return packages, family or _family(packages), machine
    packages = _listed(text, name)
    if packages:
        return packages, _family(packages), machine
    raise InputError(Diagnostic(
        code="bad-manifest", subject=name, summary="no line of it names a package with its version",
        hint="write it with: dpkg-query -W, or rpm -qa, or as a YAML list of name=version"))


def _piped(lines: list[str], machine: str) -> dict[str, str]:
    """Read the lines of planner's own probe: dpkg's ``name|version|arch|status``, rpm's ``name|epoch|version|arch``."""
    if not lines or any(line.count("|") != 3 for line in lines):
        return {}
    if re.fullmatch(r"\d+|\(none\)|", lines[0].split("|")[1]):
        return parse_rpm("\n".join(lines), machine or "x86_64")
    arch = {v: k for k, v in _MACHINES.items() if k != v}.get(machine, "amd64")
    return parse_dpkg("\n".join(lines), arch)[0]


def _debian(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        listed = _DPKG_LIST.match(line)
        if listed:
            if line[1] == "i":
                found[listed.group(1)] = listed.group(3)
        elif queried := _DPKG_QUERY.fullmatch(line.rstrip()):
            found[queried.group(1)] = queried.group(3)
    return found


def _rpm(lines: list[str]) -> dict[str, str]:
    matches = [match for line in lines if (match := _RPM.fullmatch(line.strip()))]
    found: dict[str, list[str]] = {}
    for name, epoch, version, _ in (match.groups() for match in matches):
        found.setdefault(name, []).append(f"{epoch}:{version}" if epoch and epoch != "0" else version)
    return {name: newest(versions)[0] for name, versions in found.items()}


def _listed(text: str, name: str) -> dict[str, str]:
    raw = parse_yaml(text, name=name, numbers_as_text=True)
    if isinstance(raw, dict):
        inner = raw.get("packages", raw)
        raw = [f"{k}={v}" for k, v in inner.items()] if isinstance(inner, dict) else inner
    if not isinstance(raw, list):
        return {}
    matches = (_EQUALS.fullmatch(str(item).strip()) for item in raw)
    return {match.group(1): match.group(2) for match in matches if match}


def _family(packages: Mapping[str, str]) -> str:
    return "dnf" if any(_RPM_ENDING.search(version) for version in packages.values()) else "apt"


def manifest_values(packages: Mapping[str, str], family: str, machine: str, matrices: MatrixSet) -> Values:
    """Return the state that installed packages make up.

    What has a package set and is not among the packages is known to be absent; the kernel is the newest one, which
    boots next. Further components are read by the names that the vocabulary knows for libraries.
    """
    facts = FactSet(os=OsFacts(family=family, arch=machine), packages=dict(packages))
    state = Values(os_family=(family,))
    if machine:
        state["arch"] = (machine,)
    for component in sorted({s.component for s in matrices.packages if s.manager == family}):
        found = installed_versions(component, facts, state, matrices) or _detected(component, facts, matrices)
        many = matrices.is_many(component)
        state[component] = tuple(sorted(found, key=version_key)) if many else tuple(found[:1])
    if not state.get("kernel"):
        state.pop("kernel", None)          # an image without a kernel runs on that of its host
    owner = _owner("driver", facts, matrices)
    flavour = owner.when.get("driver_flavour") if owner else None
    if isinstance(flavour, str) and state.get("driver"):
        state["driver_flavour"] = (flavour,)
    for package, version in sorted(packages.items()):
        for term, _ in terms("library", package, matrices):
            plain = _UPSTREAM.match(version)
            if plain and term.component not in state and not matrices.is_text(term.component):
                state[term.component] = (plain.group(1).rstrip("."),)
    return state


def _owner(component: str, facts: FactSet, matrices: MatrixSet) -> PackageSet | None:
    """Return the package set whose packages are there."""
    sets = (s for s in matrices.packages if s.component == component and s.manager == facts.os.family)
    return next((s for s in sets if any(fnmatchcase(p, glob) for glob in s.detect for p in facts.packages)), None)


def _detected(component: str, facts: FactSet, matrices: MatrixSet) -> tuple[str, ...]:
    """Return the version of the packages by which a set is recognised, where its first package is not there."""
    owner = _owner(component, facts, matrices)
    names = [p for p in facts.packages if any(fnmatchcase(p, glob) for glob in owner.detect)] if owner else []
    plain = (_UPSTREAM.match(facts.packages[name]) for name in sorted(names))
    return tuple(match.group(1).rstrip(".") for match in plain if match)
