"""Builds stand-in packages: compiles the C stand-ins once, writes .deb and .rpm files, keeps all of it in the cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from planner.data import data_dir
from planner.diagnostics import Diagnostic
from planner.errors import LabError
from planner.lab.catalogue import HOOK, USERLAND, Binary, Package, Relation, newest_cuda
from planner.lab.tools import HERE, build_place, cache_dir, digest_of, locked, run, source_digest
from planner.matrix.load import load_matrices

SLOT_SIZE = 64              # bytes of a version slot in a compiled stand-in, its mark included
_FLAGS = ("-O2", "-Wall", "-fPIC")
_DESCRIPTION = "Planner lab stand-in, contains nothing of NVIDIA"


def compiled() -> Path:
    """Return the directory of the compiled stand-ins (``nvml.so``, ``smi`` …), built when missing."""
    final = cache_dir() / "bin" / source_digest("standin")
    with locked("bin"):
        if final.is_dir():
            return final
        with build_place(final) as part:
            source = HERE / "standin"
            for name in ("nvml", "cuda", "library"):
                run("gcc", *_FLAGS, "-fvisibility=hidden", "-shared", "-o", part / f"{name}.so",
                    *sorted(source.glob(f"{name}*.c")))
            run("gcc", *_FLAGS, "-shared", "-o", part / "host.so", source / "host.c", "-ldl")
            run("gcc", *_FLAGS, "-o", part / "smi", source / "smi.c", "-ldl")
    return final


class Foundry:
    """Turns descriptions of files into bytes; knows the CUDA level that each driver release reports."""

    def __init__(self) -> None:
        """Compile what is missing and read the matrices' driver releases."""
        self.folder = compiled()
        releases = load_matrices(data_dir("matrices")).releases.get("driver", ())
        self.cuda = {r.version: r.attributes["max_cuda"] for r in releases if "max_cuda" in r.attributes}

    def content(self, body: str | Binary) -> bytes:
        """Return a file's bytes."""
        if isinstance(body, str):
            return body.encode()
        image = (self.folder / (body.kind if body.kind == "smi" else f"{body.kind}.so")).read_bytes()
        cuda = newest_cuda(body.version, self.cuda)
        return fill_slot(fill_slot(image, "version", body.version), "cuda", cuda)

    def levels_digest(self) -> str:
        """Return a digest of everything that is written into binaries besides the package's own version."""
        return digest_of(sorted(self.cuda.items()))


def fill_slot(image: bytes, mark: str, text: str) -> bytes:
    """Write a text over a slot of a compiled stand-in; an image without this slot is returned as it is."""
    old = f"@planner-lab-{mark}@".encode()
    place = image.find(old)
    if place < 0:
        return image
    if len(text) >= SLOT_SIZE:
        raise LabError(Diagnostic(code="lab-package", subject=text, summary="this version is too long for a stand-in",
                                  hint="planner lab up --help"))
    return image[:place] + text.encode().ljust(SLOT_SIZE, b"\0") + image[place + SLOT_SIZE:]


def build_packages(packages: Sequence[Package]) -> list[Path]:
    """Return the package files of all descriptions, in order; what the cache has is not built again."""
    foundry = Foundry()
    salt = (source_digest("standin", "build.py", "catalogue.py"), foundry.levels_digest())
    folder = cache_dir() / "packages"
    paths = [folder / p.manager / digest_of(p, *salt) for p in packages]
    with locked("packages"):
        todo = [(p, path) for p, path in zip(packages, paths, strict=True) if not path.is_dir()]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda t: _build_deb(t[0], t[1], foundry), [t for t in todo if t[0].manager == "apt"]))
        for group in _rounds([t for t in todo if t[0].manager == "dnf"]):
            _build_rpms(group, foundry)
    return [next(path.iterdir()) for path in paths]


def _stage(package: Package, root: Path, foundry: Foundry) -> None:
    for path, body in package.files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(foundry.content(body))
        target.chmod(0o755 if "/bin/" in path or ".so" in path else 0o644)
    for path, goal in package.links.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(goal)


def _hook(acts: Iterable[tuple[str, ...]]) -> str:
    return "".join(f"{HOOK} {' '.join(words)}\n" for words in acts)


# --- Debian

def _deb_relation(item: Relation) -> str:
    return f"{item.name} (= {item.version})" if item.version else item.name


def control_text(package: Package) -> str:
    """Return the control file of a Debian package."""
    fields = {
        "Package": package.name, "Version": package.version, "Architecture": "amd64",
        "Maintainer": "Planner lab <lab@example.invalid>", "Section": "misc", "Priority": "optional",
        "Depends": ", ".join(map(_deb_relation, package.requires)),
        "Provides": ", ".join(map(_deb_relation, package.provides)),
        "Conflicts": ", ".join(package.conflicts), "Replaces": ", ".join(package.replaces),
        "Description": _DESCRIPTION,
    }
    return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)


def _build_deb(package: Package, final: Path, foundry: Foundry) -> None:
    with build_place(final) as part:
        root = part / "root"
        (root / "DEBIAN").mkdir(parents=True)
        root.chmod(0o755)
        _stage(package, root, foundry)
        (root / "DEBIAN" / "control").write_text(control_text(package), encoding="utf-8")
        scripts = {"postinst": ("configure", package.installed), "prerm": ("remove", package.removed)}
        for name, (verb, acts) in scripts.items():
            if acts:
                script = root / "DEBIAN" / name
                script.write_text(f'#!/bin/sh\nset -e\n[ "$1" = {verb} ] || exit 0\n{_hook(acts)}', encoding="utf-8")
                script.chmod(0o755)
        file = f"{package.name}_{package.version.replace(':', '%3a')}_amd64.deb"
        run("dpkg-deb", "-Znone", "--root-owner-group", "-b", root, part / file)
        shutil.rmtree(root)


# --- RPM

def rpm_version(version: str) -> tuple[str, str, str]:
    """Return (epoch, version, release) of ``3:580.95.05-1.el9``; no epoch is "0"."""
    epoch, colon, rest = version.rpartition(":")
    number, _, release = rest.partition("-")
    return (epoch if colon else "0", number, release)


def userland_package() -> Package:
    """Return the one package that provides on dnf nodes what stand-ins need of a system: the files are Debian's."""
    return Package(USERLAND, "1-1.standin", "dnf", provides=[
        Relation(name) for name in ("/bin/sh", "bash", "coreutils", "systemd", "system-release", "redhat-release")])


def _rounds(todo: Sequence[tuple[Package, Path]]) -> list[list[tuple[Package, Path]]]:
    """Group packages so that no name and no file comes twice in one run of rpmbuild."""
    groups: list[tuple[set[str], list[tuple[Package, Path]]]] = []
    for package, path in todo:
        keys = {package.name, *package.files, *package.links}
        for taken, members in groups:
            if not taken & keys:
                taken |= keys
                members.append((package, path))
                break
        else:
            groups.append((keys, [(package, path)]))
    return [members for _, members in groups]


def _rpm_relation(item: Relation) -> str:
    if not item.version:
        return item.name
    epoch, number, release = rpm_version(item.version)
    return f"{item.name} = {'' if epoch == '0' else epoch + ':'}{number}-{release}"


def spec_text(packages: Sequence[Package], stage: Path) -> str:
    """Return one spec that builds many packages, each with a version of its own."""
    lines = [
        "%define debug_package %{nil}", "%define __os_install_post %{nil}", "%define _build_id_links none",
        "%define _binary_payload w.ufdio", "%define _build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        "Name: planner-lab-source", "Version: 1", "Release: 1", "Summary: planner lab stand-ins", "License: Apache-2.0",
        "AutoReqProv: no", "%description", _DESCRIPTION,
    ]
    for package in packages:
        epoch, number, release = rpm_version(package.version)
        lines += [f"%package -n {package.name}", f"Summary: {_DESCRIPTION}", f"Epoch: {epoch}" if epoch != "0" else "",
                  f"Version: {number}", f"Release: {release}", "AutoReqProv: no"]
        lines += [f"Requires: {_rpm_relation(r)}" for r in package.requires]
        lines += [f"Provides: {_rpm_relation(r)}" for r in package.provides]
        lines += [f"Conflicts: {name}" for name in package.conflicts if name not in {r.name for r in package.provides}]
        lines += [f"Obsoletes: {name}" for name in package.replaces]
        lines += [f"%description -n {package.name}", _DESCRIPTION, f"%files -n {package.name}"]
        lines += [f'"{path}"' for path in sorted({*package.files, *package.links})]
        if package.installed:
            lines += [f"%post -n {package.name}", _hook(package.installed)]
        if package.removed:
            acts = [(*act, "after") if act[0] == "service-gone" else act for act in package.removed]
            lines += [f"%postun -n {package.name}", '[ "$1" = 0 ] || exit 0', _hook(acts)]
    lines += ["%install", f'cp -a "{stage}/." "%{{buildroot}}/"']
    return "\n".join(line for line in lines if line) + "\n"


def _build_rpms(group: Sequence[tuple[Package, Path]], foundry: Foundry) -> None:
    work = cache_dir() / "packages" / "rpm-work.part"
    shutil.rmtree(work, ignore_errors=True)
    stage = work / "stage"
    stage.mkdir(parents=True)
    for package, _ in group:
        _stage(package, stage, foundry)
    spec = work / "lab.spec"
    spec.write_text(spec_text([p for p, _ in group], stage), encoding="utf-8")
    run("rpmbuild", "-bb", "--quiet", "--nodeps", "--target", "x86_64", "--define", f"_topdir {work}/top", "--define",
        f"_rpmdir {work}/out", "--buildroot", work / "root", spec)
    for package, final in group:
        _, number, release = rpm_version(package.version)
        file = work / "out" / f"{package.name}-{number}-{release}.x86_64.rpm"
        with build_place(final) as part:
            file.rename(part / file.name)
    shutil.rmtree(work)
