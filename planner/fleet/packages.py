"""How components map to packages: which versions a node can get, and exactly what to install and remove.

Everything here follows from the package sets in the matrices; no package name stands in this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from typing import NamedTuple

from planner.facts.schema import FactSet
from planner.fleet.toolkits import default_major, own_toolkits
from planner.matrix.conditions import holds
from planner.matrix.globs import matches, overlap
from planner.matrix.index import MatrixSet
from planner.matrix.schema import PackageSet, State
from planner.model.version import newest

_FIELD = re.compile(r"\{(version|abi|branch|dashed|dotted|cuda_major)\}")
# A version is read as far as its template allows, a kernel's release with it: 580.95.05, 6.8.0-45-generic,
# 6.12.38+deb13-amd64, 5.14.0-427.13.1.el9_4.
_FIELD_PATTERNS = {
    "version": r"(?P<version>[0-9]+(?:[.][0-9A-Za-z]+)*(?:(?:[+][0-9a-z]+)?-[0-9a-z][0-9A-Za-z._]*(?:-[a-z0-9]+)*)??)",
    "abi": r"(?P<abi>[0-9][0-9A-Za-z.+_-]*)",
    "branch": r"(?P<branch>[0-9]+)",
    "dotted": r"(?P<dotted>[0-9]+[.][0-9]+)",
    "dashed": r"(?P<dashed>[0-9]+-[0-9]+)",
    "cuda_major": r"(?P<cuda_major>[0-9]+)",
}
_FLAVOUR = re.compile(r"-[a-z][a-z0-9-]*\Z")           # of a kernel: -generic, -cloud-amd64
_STAND_IN = re.compile(r"(?:\+|\.)standin\Z")


class Unresolvable(NamedTuple):
    """Why a version cannot be installed on a node; a sentence and what is missing."""

    reason: str
    packages: tuple[str, ...] = ()


class PackagePlan(NamedTuple):
    """Exact pins and removals for one change of one component."""

    manager: str
    install: Mapping[str, str]
    remove: tuple[str, ...]
    package_set: str


def fill(template: str, version: str, cuda_major: str) -> str:
    """Fill a package template for one component version."""
    parts = re.findall(r"\d+", version)
    values = {
        "version": version,
        "abi": _FLAVOUR.sub("", version),
        "branch": parts[0] if parts else version,
        "dashed": "-".join(parts[:2]),
        "dotted": ".".join(parts[:2]),
        "cuda_major": cuda_major or "*",
    }
    return _FIELD.sub(lambda m: values[m.group(1)], template)


def unmarked(version: str) -> str:
    """Return a package version without the mark of a stand-in: it is read as what it stands for."""
    return _STAND_IN.sub("", version)


@lru_cache(maxsize=4096)
def pattern_of(template: str) -> re.Pattern[str]:
    """Return a regular expression that reads the fields back out of a name or a package version."""
    result, seen, last = "", set(), 0
    for match in _FIELD.finditer(template):
        result += _glob(template[last : match.start()])
        name = match.group(1)
        result += f"(?P={name})" if name in seen else _FIELD_PATTERNS[name]
        seen.add(name)
        last = match.end()
    return re.compile(result + _glob(template[last:]) + r"\Z")


def _glob(text: str) -> str:
    return translate(text).removesuffix(r")\Z").removeprefix("(?s:").replace(".*", ".*?") if text else ""


def read_version(package_set: PackageSet, name: str, version: str, *, arch: str = "") -> str | None:
    """Return the component version that a package of this set carries, or None when it is not of this set.

    The first ``install`` template is the one that identifies the component. ``arch`` is the machine's, as
    ``uname -m`` prints it; a kernel's release ends in it where packages do not name it.
    """
    by_name = pattern_of(package_set.install[0]).match(name)
    if not by_name:
        return None
    fields = by_name.groupdict()
    if fields.get("version"):
        return fields["version"]
    if fields.get("dashed") and "{" not in package_set.version:
        return fields["dashed"].replace("-", ".")     # the name alone tells it
    by_version = pattern_of(package_set.version).match(unmarked(version))
    found = by_version.groupdict().get("version") if by_version else None
    branch = fields.get("branch")
    return None if found is None or (branch and not found.startswith(branch)) else found + _suffix(package_set, arch)


def _suffix(package_set: PackageSet, arch: str) -> str:
    return package_set.version_suffix.replace("{arch}", arch)


def _matching(versions: Iterable[str], version_glob: str) -> list[str]:
    """Return the package versions that match a glob, newest first."""
    return newest(v for v in versions if any(matches(t, version_glob) for t in (v, unmarked(v))))


def owner_set(component: str, facts: FactSet, state: State, matrices: MatrixSet,
              becomes: State | None = None) -> PackageSet | None:
    """Return the package set that owns (or would own) a component on a node, or None.

    A set whose ``detect`` globs match an installed package wins; else the first whose ``when`` holds. Where something
    that tells the sets of one line apart becomes another (``becomes``), the set of that line for it takes over.
    """
    sets = [s for s in matrices.packages if s.component == component and s.manager == facts.os.family]
    for candidate in sets:
        if any(matches(name, glob) for glob in candidate.detect for name in facts.packages):
            return _takes_over(candidate, sets, {**state, **becomes}, matrices) if becomes else candidate
    state = {**state, **becomes} if becomes else state
    for candidate in sets:
        if all(holds(c, n, state, text=matrices.is_text(n)) for n, c in candidate.when.items()):
            return candidate
    return None


def _takes_over(current: PackageSet, sets: Iterable[PackageSet], state: State, matrices: MatrixSet
                ) -> PackageSet | None:
    """Return the set of the same line that goes with a state, or None; a set without a line stays."""
    def fits(package_set: PackageSet) -> bool:
        return all(holds(c, n, state, text=matrices.is_text(n)) for n, c in package_set.when.items())

    if not current.line or fits(current):
        return current
    return next((s for s in sets if s.line == current.line and fits(s)), None)


def usable_sets(component: str, facts: FactSet, state: State, matrices: MatrixSet,
                becomes: State | None = None) -> tuple[PackageSet, ...]:
    """Return the package set that owns a component, and behind it those that its other versions may come in.

    Sets of one line (or of none) that a state fits alike are names of one thing: packages drop the branch from their
    name, or change it, on the way from one version to the next.
    """
    owner = owner_set(component, facts, state, matrices, becomes)
    if owner is None:
        return ()
    state = {**state, **becomes} if becomes else state
    others = [s for s in matrices.packages
              if s.component == component and s.manager == owner.manager and s.line == owner.line
              and s.name != owner.name]
    return (owner, *(s for s in others
                     if all(holds(c, n, state, text=matrices.is_text(n)) for n, c in s.when.items())))


def obtainable_versions(component: str, facts: FactSet, state: State, matrices: MatrixSet,
                        becomes: State | None = None) -> tuple[str, ...]:
    """Return the component versions in the node's repositories, newest first; empty when none is known.

    Builds of another line than the node's own (another flavour of the kernel) are none that it could move to.
    """
    usable = usable_sets(component, facts, state, matrices, becomes)
    found = {
        version: None
        for package_set in usable
        for name, versions in (facts.available or {}).items()
        for package_version in versions
        if (version := read_version(package_set, name, package_version, arch=facts.os.arch)) is not None
    }
    lines = {_flavour(v) for v in state.get(component, ())}
    return tuple(newest(v for v in found if not lines or _flavour(v) in lines))


def _flavour(version: str) -> str:
    """Return the words that a version ends in: ``-generic`` of ``6.8.0-45-generic``, "" for plain versions."""
    found = _FLAVOUR.search(version)
    return found.group(0) if found else ""


def installed_versions(component: str, facts: FactSet, state: State, matrices: MatrixSet) -> tuple[str, ...]:
    """Return the component versions that installed packages carry, newest first."""
    package_set = owner_set(component, facts, state, matrices)
    if package_set is None:
        return ()
    found = {v: None for n, p in facts.packages.items()
             if (v := read_version(package_set, n, p, arch=facts.os.arch)) is not None}
    return tuple(newest(found))


def package_globs(matrices: MatrixSet) -> tuple[str, ...]:
    """Return globs of every package name the matrices speak of: what discovery asks nodes about."""
    names = {n for s in matrices.packages for n in (*s.install, *s.optional, *s.detect, *s.replaces)}
    names |= {glob for c in matrices.components.values() for globs in c.told_by.values() for glob in globs}
    globs = {_FIELD.sub("*", n) for n in names}
    return tuple(sorted(globs.union(*(_sweep_globs(s, matrices) for s in matrices.packages))))


def _sweep_globs(package_set: PackageSet, matrices: MatrixSet) -> set[str]:
    """Return narrow globs of what a set may sweep: ``lib*-{dashed}`` with a star in its field is half a distribution.

    Each known release is asked for by its numbers; one not known yet has numbers as long as the newest one's.
    """
    releases = newest(r.version for r in matrices.releases.get(package_set.component, ()))
    if not releases:
        return {_FIELD.sub("[0-9]*", template) for template in package_set.sweep}
    alike = {_FIELD.sub(lambda m: re.sub(r"\d", "[0-9]", fill(m.group(0), releases[0], "")), template)
             for template in package_set.sweep}
    exact = {fill(template, version, "") for template in package_set.sweep for version in releases}
    return alike | {glob for glob in exact if not any(overlap(glob, wider) for wider in alike)}


def resolve_install(
    component: str, version: str, facts: FactSet, state: State, matrices: MatrixSet, *, cuda_major: str,
    installed: Mapping[str, str], becomes: State | None = None,
) -> PackagePlan | Unresolvable:
    """Say exactly which packages bring one version of a component onto a node.

    Args:
        component: Its name.
        version: The wanted version, as read from the repository.
        facts: What the node said; its repositories' content decides.
        state: For choosing a package set on a node that has none.
        matrices: Package sets.
        cuda_major: Major number of the default toolkit in the goal; picks among builds of one library version.
        installed: Packages installed at this point of the path.
        becomes: What the step makes of that by which package sets of one line differ.

    Returns:
        Exact pins and removals, or why there are none.
    """
    usable = usable_sets(component, facts, state, matrices, becomes)
    if not usable:
        if becomes and (told := ", ".join(f"{n} {' '.join(v)}" for n, v in sorted(becomes.items()))):
            return Unresolvable(f"no packages bring {component} with {told} on this system")
        return Unresolvable(f"no package set for {component} on {facts.os.family or 'an unknown package manager'}")
    if facts.available is None:
        return Unresolvable("the node's repositories were not read")
    cuda_major = cuda_major or default_major(facts)
    before = owner_set(component, facts, state, matrices)
    tries = [_pinned(s, version, facts, matrices, before, cuda_major, installed) for s in usable]
    best = sorted(tries, key=lambda plan: (isinstance(plan, Unresolvable), bool(getattr(plan, "packages", ()))))
    # Else the reason of a set that misses no package: the others are names of other versions.
    return best[0] if isinstance(best[0], Unresolvable) else _overlaid(usable, version, facts) or best[0]


def _overlaid(usable: Iterable[PackageSet], version: str, facts: FactSet) -> Unresolvable | None:
    """Return why packages must not come: they would be unpacked over what an archive or a runfile left there."""
    for package_set in usable:
        names = [fill(t, version, "") for t in (*package_set.install, *package_set.optional, *package_set.sweep)]
        taken = {fill(place, version, "") for place in package_set.default_links.values()}
        taken &= {t.path for t in own_toolkits(facts)}
        if taken and not any(matches(n, name) for n in facts.packages for name in names):
            return Unresolvable(f"{min(taken)} is taken: no package brought what lies there (an archive or a runfile "
                                "did), so move it away by hand and discover again")
    return None


def _pinned(package_set: PackageSet, version: str, facts: FactSet, matrices: MatrixSet, before: PackageSet | None,
            cuda_major: str, installed: Mapping[str, str]) -> PackagePlan | Unresolvable:
    """Return the pins of one package set, all from one publisher, and what goes for them."""
    available, component = facts.available or {}, package_set.component
    version = version.removesuffix(_suffix(package_set, facts.os.arch))
    version_glob = fill(package_set.version, version, cuda_major)
    names = [fill(template, version, cuda_major) for template in package_set.install]
    found = {name: _matching(available.get(name, ()), version_glob) for name in names}
    if missing := [name for name in names if not found[name]]:
        if not cuda_major and any("{cuda_major}" in template for template in package_set.install):
            return Unresolvable(f"{component} is built for one CUDA, and these nodes have no toolkit: say which by "
                                "wanting a default one", tuple(missing))
        have = ", ".join(f"{n} {' '.join(available.get(n, ())) or '(none)'}" for n in missing)
        reason = f"the repositories have no {', '.join(missing)} matching {version_glob} (they have: {have})"
        return Unresolvable(reason, tuple(missing))
    own = publisher(before, facts.packages) if before is not None else ""
    offered = dict.fromkeys(_publisher_of(package_set, v) for v in found[names[0]])
    shared = [o for o in offered if all(any(_publisher_of(package_set, v) == o for v in found[n]) for n in names)]
    if not shared or (own and own not in shared):
        return Unresolvable(_foreign(package_set, version, own, shared, matrices))
    chosen = own or shared[0]
    pins = {name: next(v for v in found[name] if _publisher_of(package_set, v) == chosen) for name in names}
    for template in package_set.optional:
        name, wanted = fill(template, version, cuda_major), _FIELD.sub("*", template)
        listed = _matching(available.get(name, ()), version_glob)
        offers = [v for v in listed if _publisher_of(package_set, v) == chosen]
        earlier = [wanted, *(glob for glob, heir in package_set.heirs.items() if heir == template)]
        if offers and any(matches(old, glob) for old in installed for glob in earlier):
            pins[name] = offers[0]
    replaced = {n for n in installed if any(matches(n, g) for g in package_set.replaces)}
    if before is not None and before.name != package_set.name:
        replaced |= {n for n in installed if (_belongs(n, before) or any(matches(n, g) for g in before.replaces))
                     and not _belongs(n, package_set)}
    return PackagePlan(package_set.manager, pins, tuple(sorted(replaced - set(pins))), package_set.name)


def publisher(package_set: PackageSet, packages: Mapping[str, str]) -> str:
    """Return who publishes what is installed of a set, "" where nothing is, or nothing tells."""
    if not package_set.origins:
        return ""
    templates = (*package_set.install, *package_set.optional)
    versions = (v for t in templates for n, v in sorted(packages.items()) if pattern_of(t).match(n))
    return _publisher_of(package_set, next(versions, ""))


def _publisher_of(package_set: PackageSet, version: str) -> str:
    return next((who for glob, who in package_set.origins.items() if version and fnmatchcase(version, glob)), "")


def _foreign(package_set: PackageSet, version: str, own: str, shared: list[str], matrices: MatrixSet) -> str:
    """Return why packages of another publisher, or of several, are not put on: they replace each other's files."""
    component = package_set.component
    if not shared:
        return f"the repositories have no publisher who has all packages of {component} {version}"
    asked = next((n for n, c in matrices.components.items() if c.origin_of == component), "")
    return (f"the repositories have {component} {version} from {' and '.join(shared)} only, and what is installed "
            f"comes from {own}: want {asked} {shared[0]} first, alone, then plan again")


def _belongs(name: str, package_set: PackageSet) -> bool:
    """Tell whether a package is one that a set installs, whatever its version."""
    return any(pattern_of(template).match(name) for template in (*package_set.install, *package_set.optional))


def brought_globs(
    component: str, versions: Iterable[str], facts: FactSet, state: State, matrices: MatrixSet, *, cuda_major: str,
    becomes: State | None = None,
) -> frozenset[str]:
    """Return globs of the dependencies that may come, change or go with some versions of a component.

    Of boot entries only the last version's, the one that comes: dependencies of those before stay as they are.
    """
    cuda_major, listed, now = cuda_major or default_major(facts), list(versions), state.get(component, ())
    found: set[str] = set()
    for place, package_set in enumerate(usable_sets(component, facts, state, matrices, becomes)):
        # Names that neither the old nor the new version has are nobody's business in this step.
        mine = [v for v in listed if place == 0 or (v not in now and _offers(package_set, v, facts))]
        own = [v.removesuffix(_suffix(package_set, facts.os.arch)) for v in mine]
        own = own[-1:] if package_set.boot_entries else own
        found.update(fill(template, v, cuda_major) for template in package_set.brings for v in own)
    return frozenset(found)


def _offers(package_set: PackageSet, version: str, facts: FactSet) -> bool:
    """Tell whether the node's repositories have a version under the names of a set."""
    return any(read_version(package_set, name, v, arch=facts.os.arch) == version
               for name, versions in (facts.available or {}).items() for v in versions)


def boot_entry_packages(
    component: str, names: Iterable[str], facts: FactSet, state: State, matrices: MatrixSet,
) -> frozenset[str] | None:
    """Return which of some packages make up boot entries of a component, or None when it has no boot entries."""
    package_set = owner_set(component, facts, state, matrices)
    if package_set is None or not package_set.boot_entries:
        return None
    templates = (*package_set.install, *package_set.optional)
    return frozenset(n for n in names if any(pattern_of(template).match(n) for template in templates))


def resolve_remove(
    component: str, version: str, facts: FactSet, state: State, matrices: MatrixSet, *, cuda_major: str,
    installed: Mapping[str, str],
) -> PackagePlan | Unresolvable:
    """Say which packages go when one version of a component leaves a node.

    A package that only depends on others leaves them behind; the set's ``sweep`` names those that leave with it.
    """
    package_set = owner_set(component, facts, state, matrices)
    if package_set is None:
        return Unresolvable(f"no package set for {component} on {facts.os.family or 'an unknown package manager'}")
    if package_set.boot_entries:
        return Unresolvable(f"{component} {version} is an entry of the boot loader; planner removes none")
    version = version.removesuffix(_suffix(package_set, facts.os.arch))
    names = {fill(t, version, cuda_major) for t in (*package_set.install, *package_set.optional, *package_set.sweep)}
    gone = tuple(sorted(n for n in installed if any(matches(n, name) for name in names)))
    if not gone:
        places = [t.path for t in facts.toolkits if package_set.default_links and t.version == version]
        where = f" to {places[0]}" if places else ""
        return Unresolvable(f"no package brought it here{where} (an archive or a runfile did), so none takes it away: "
                            "let it stay, or remove it by hand and discover again")
    return PackagePlan(package_set.manager, {}, gone, package_set.name)
