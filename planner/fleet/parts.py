"""What packages of one set tell beside their version: for which toolkit they are built, and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping

from planner.facts.schema import FactSet
from planner.fleet.packages import owner_set, pattern_of, unmarked
from planner.matrix.globs import matches
from planner.matrix.index import MatrixSet
from planner.matrix.schema import PackageSet, State
from planner.model.version import version_key


def built_for(package_set: PackageSet, packages: Mapping[str, str]) -> str:
    """Return the toolkit's major that what is installed of a set is built for, "" where no name or version tells."""
    for name, version in sorted(packages.items()):
        by_name = pattern_of(package_set.install[0]).match(name)
        by_version = pattern_of(package_set.version).match(unmarked(version)) if by_name else None
        if by_name and by_version:
            return {**by_version.groupdict(), **by_name.groupdict()}.get("cuda_major", "")
        if package_set.built and any(matches(name, glob) for glob in package_set.detect) and (
                told := pattern_of(package_set.built).match(unmarked(version))):
            return told["cuda_major"]
    return ""


def disagreeing(component: str, facts: FactSet, state: State, matrices: MatrixSet) -> dict[str, str]:
    """Return the packages that make up a component, with the version that each carries, where these are not equal.

    So is a machine on which an upgrade broke off, or on which somebody moved one of them alone.
    """
    package_set = owner_set(component, facts, state, matrices)
    if package_set is None or package_set.boot_entries or "{version}" not in package_set.version:
        return {}
    found = {}
    for name, version in sorted(facts.packages.items()):
        if any(pattern_of(template).match(name) for template in package_set.install) and (
                match := pattern_of(package_set.version).match(unmarked(version))):
            found[name] = match["version"]
    return found if len(set(found.values())) > 1 else {}


def mixed_parts(facts: FactSet, state: State, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return what tells that a component's packages are not of one version: attribute -> the versions in words."""
    return {name: (" and ".join(sorted(set(found.values()), key=version_key)),)
            for name, component in matrices.components.items() if component.parts_of
            if (found := disagreeing(component.parts_of, facts, state, matrices))}
