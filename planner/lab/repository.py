"""Repositories of stand-in packages: signed for apt, with createrepo's metadata for dnf. Cached by content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from planner.lab.build import build_packages, userland_package
from planner.lab.catalogue import Package, Shelf, describe
from planner.lab.spec import Manager
from planner.lab.tools import build_place, cache_dir, digest_of, locked, run, source_digest

PackageLists = Mapping[Manager, Iterable[tuple[str, str]]]
_KEY_NAME = "Planner lab (stand-in packages) <lab@example.invalid>"
_RELEASE = {"Origin": "planner-lab", "Label": "Stand-in packages of the planner lab", "Suite": "stable",
            "Codename": "stable", "Components": "main", "Architectures": "amd64"}


def build_repository(packages: PackageLists) -> Path:
    """Return a directory with ``apt/`` and ``rpm/`` repositories of stand-ins and ``keyring.gpg``.

    Args:
        packages: By package manager, (name, version) of every stand-in.

    Raises:
        LabError: A name or version is unusable, or a build failed.
    """
    described = describe_all(packages)
    files = build_packages(described)
    final = cache_dir() / "repositories" / digest_of([str(f.parent) for f in files], source_digest("repository.py"))
    with locked("repositories"):
        if final.is_dir():
            return final
        with build_place(final) as part:
            home = _key()
            _apt(part / "apt", [f for f in files if f.suffix == ".deb"], home)
            _rpm(part / "rpm", [f for f in files if f.suffix == ".rpm"])
            (part / "keyring.gpg").write_bytes((home / "public.gpg").read_bytes())
    return final


def describe_all(packages: PackageLists) -> list[Package]:
    """Return the descriptions of all stand-ins, each once, sorted; dnf gets the userland package beside them."""
    described = []
    for manager in sorted(packages):
        pairs = sorted(set(packages[manager]))
        versions: dict[str, set[str]] = {}
        for name, version in pairs:
            versions.setdefault(name, set()).add(version)
        shelf = Shelf({name: frozenset(found) for name, found in versions.items()})
        described += [describe(name, version, manager, shelf) for name, version in pairs]
        if manager == "dnf":
            described.append(userland_package())
    return described


def _key() -> Path:
    """Return the key's home directory; the key is made once and signs only on this machine."""
    home = cache_dir() / "gnupg"
    with locked("gnupg"):
        if not home.is_dir():
            with build_place(home) as part:
                part.chmod(0o700)
                gpg = ("gpg", "--homedir", part, "--batch", "--yes", "--quiet")
                run(*gpg, "--passphrase", "", "--quick-gen-key", _KEY_NAME, "ed25519", "sign", "0")
                run(*gpg, "--output", part / "public.gpg", "--export")
                _stop_agent(part)
    return home


def _stop_agent(home: Path) -> None:
    """End the agent that gpg leaves running for this home directory."""
    run("gpgconf", "--homedir", home, "--kill", "all", check=False)


def _take(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for file in files:
        try:
            os.link(file, folder / file.name)
        except OSError:
            shutil.copy2(file, folder / file.name)


def _apt(folder: Path, files: list[Path], home: Path) -> None:
    _take(files, folder / "pool")
    dist = folder / "dists" / "stable"
    index = dist / "main" / "binary-amd64"
    index.mkdir(parents=True)
    (index / "Packages").write_text(run("apt-ftparchive", "packages", "pool", cwd=folder).stdout, encoding="utf-8")
    options = [word for key, value in _RELEASE.items() for word in ("-o", f"APT::FTPArchive::Release::{key}={value}")]
    (dist / "Release").write_text(run("apt-ftparchive", *options, "release", dist).stdout, encoding="utf-8")
    with locked("gnupg"):
        run("gpg", "--homedir", home, "--batch", "--yes", "--quiet", "--clearsign", "-o", dist / "InRelease",
            dist / "Release")
        _stop_agent(home)


def _rpm(folder: Path, files: list[Path]) -> None:
    _take(files, folder)
    run("createrepo_c", "--quiet", "--no-database", folder)
