"""Package databases: installed and available versions, holds, owners, unfinished installations. Versions verbatim."""

from __future__ import annotations

import re

from planner.model.version import version_key

_ARCH_OF_MACHINE = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64el"}
_DEBIAN_ARCHES = "amd64|arm64|i386|armel|armhf|ppc64el|s390x|riscv64|sbsa"
_AUDIT_WORDS = re.compile(
    r"half configured|half installed|unpacked but not yet configured|in a mess|awaiting processing|triggers pending"
    r"|missing the md5sums|missing the list control file|not (?:yet )?configured")
_STATES = {
    "U": "unpacked but not yet configured", "F": "half configured", "H": "half installed", "W": "waits for a trigger",
    "t": "trigger pending",
}


def parse_dpkg(text: str, arch: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Parse ``dpkg-query -W`` lines ``name|version|arch|status``.

    Returns:
        (installed packages of this architecture -> version, sentences about half-installed ones).
    """
    installed, problems = {}, []
    for line in text.splitlines():
        name, version, its_arch, status = (*line.split("|"), "", "", "")[:4]
        if not version or its_arch not in (arch, "all", ""):
            continue
        state = status[1:2]
        if state == "i":
            installed[name] = version
        elif state in _STATES:
            problems.append(f"{name}: {_STATES[state]}")
        if status[2:3] == "R":
            problems.append(f"{name}: must be installed again")
    return installed, tuple(sorted(problems))


def parse_rpm(text: str, machine: str) -> dict[str, str]:
    """Parse ``rpm -qa`` or ``dnf repoquery`` lines ``name|epoch|version-release|arch``; of several, the newest stays.

    Versions come out as ``[epoch:]version-release``; an epoch of zero or ``(none)`` is left out.
    """
    return {name: versions[0] for name, versions in parse_rpm_versions(text, machine).items()}


def parse_rpm_versions(text: str, machine: str) -> dict[str, tuple[str, ...]]:
    """Like ``parse_rpm``, with every version of a name, newest first."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        name, epoch, version, arch = (*line.strip().split("|"), "", "", "")[:4]
        if not name or not version or arch not in (machine, "noarch", ""):
            continue
        found.setdefault(name, set()).add(version if epoch in ("", "0", "(none)") else f"{epoch}:{version}")
    return {n: tuple(sorted(v, key=version_key, reverse=True)) for n, v in sorted(found.items())}


def parse_madison(text: str, arch: str) -> dict[str, tuple[str, ...]]:
    """Parse ``apt-cache madison``: binary packages of this architecture, newest first as apt lists them."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 3 or cells[2].endswith("Sources"):
            continue
        its_arch = re.search(rf"\b({_DEBIAN_ARCHES}) Packages$", cells[2])
        if its_arch and its_arch.group(1) != arch:
            continue
        versions = found.setdefault(cells[0], [])
        if cells[1] not in versions:
            versions.append(cells[1])
    return {name: tuple(versions) for name, versions in sorted(found.items())}


def debian_arch(machine: str) -> str:
    """Return dpkg's name of a machine: ``x86_64`` -> ``amd64``."""
    return _ARCH_OF_MACHINE.get(machine, machine)


def parse_holds(text: str) -> tuple[str, ...]:
    """Parse ``apt-mark showhold``: one name a line."""
    names = (re.fullmatch(r"([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9]+)?", line.strip()) for line in text.splitlines())
    return tuple(sorted({name.group(1) for name in names if name}))


def parse_versionlock(text: str) -> tuple[str, ...]:
    """Return the package names in dnf's version locks: the list file of dnf 4 or the TOML file of dnf 5.

    Lines that begin with ``!`` exclude versions instead of holding one; their names count as held, too.
    """
    names = set()
    for raw in text.splitlines():
        line = raw.strip()
        toml = re.match(r'^name\s*=\s*"([^"]+)"', line)
        if toml:
            names.add(toml.group(1))
            continue
        if not line or line[0] in "#[" or "=" in line:
            continue
        pattern = re.sub(r"^\d+:", "", line.lstrip("!"))          # yum's spelling puts the epoch first
        full = re.match(r"^(.+)-(?:\d+:)?[^-]+-[^-]+$", pattern)
        names.add(full.group(1) if full else pattern)
    return tuple(sorted(n for n in names if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+*-]*", n)))


def parse_dpkg_owners(text: str) -> dict[str, str]:
    """Parse ``dpkg-query -S``: path -> package; diversions and paths nobody owns are left out."""
    owners = {}
    for line in text.splitlines():
        found = re.match(r"^([a-z0-9][a-z0-9+.-]*(?::[a-z0-9]+)?(?:, [^:]+(?::[a-z0-9]+)?)*): (/.*)$", line)
        if found:
            owners[_merged(found.group(2))] = found.group(1).split(",")[0].partition(":")[0]
    return owners


def parse_rpm_owners(text: str) -> dict[str, str]:
    """Parse the probe's ``path|package`` lines, one for each path that a package owns."""
    pairs = (line.partition("|") for line in text.splitlines())
    return {path: name for path, _, name in pairs if path and name}


def _merged(path: str) -> str:
    """Return a path as it is since /lib is a link to /usr/lib."""
    return "/usr" + path if path.startswith("/lib") else path


def merged_path(path: str) -> str:
    """Return the spelling of a path under which ``parse_dpkg_owners`` keeps it."""
    return _merged(path)


def parse_dpkg_audit(text: str) -> tuple[str, ...]:
    """Return one sentence a package that ``dpkg --audit`` complains of."""
    problems, heading = [], ""
    for line in text.splitlines():
        if line.startswith(" "):
            problems.append(f"{line.split()[0]}: {heading}")
        elif line.strip():
            words = _AUDIT_WORDS.search(line)
            if words or line.startswith("The following"):     # other lines go on with the advice under a heading
                heading = words.group(0) if words else "unfinished"
    return tuple(sorted(set(problems)))
