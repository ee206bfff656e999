"""What a stand-in package does, told by its name: one table of name patterns. Pure.

Packages carry NVIDIA's names and places, and nothing of NVIDIA's. They depend on and conflict with each other as the
real ones do, as far as the others are in the same repository: a lab with three packages needs only those three.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from planner.diagnostics import Diagnostic
from planner.errors import LabError
from planner.lab.spec import Manager

STAND_IN = re.compile(r"(\+standin|\.standin)$")
HOOK = "/usr/lib/planner-lab/package"      # what packages' scripts call; only lab nodes have it
USERLAND = "planner-lab-userland"
_DEB_NAME = re.compile(r"^[a-z0-9][a-z0-9+.-]+$")
_RPM_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9+._-]+$")
_VERSION = re.compile(r"^(\d+:)?[0-9][A-Za-z0-9.+~_^-]*$")


@dataclass(frozen=True)
class Binary:
    """A compiled stand-in as a package's file: which one, and the versions written into it."""

    kind: str                         # nvml | cuda | smi | library
    version: str


@dataclass(frozen=True)
class Relation:
    """Another package that this one names; ``version`` is exact, or empty for any."""

    name: str
    version: str = ""


@dataclass
class Package:
    """One stand-in package, the same for both package managers.

    ``installed`` and ``removed`` are arguments for the node's hook program, run after installation and before removal.
    """

    name: str
    version: str
    manager: Manager
    requires: list[Relation] = field(default_factory=list)
    provides: list[Relation] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    replaces: list[str] = field(default_factory=list)
    files: dict[str, str | Binary] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    installed: list[tuple[str, ...]] = field(default_factory=list)
    removed: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def upstream(self) -> str:
        """Return the version without epoch and package revision: ``3:580.95.05-1.el9`` -> ``580.95.05``."""
        return upstream_version(self.version)

    @property
    def libraries(self) -> str:
        """Return the directory of shared libraries."""
        return "/usr/lib/x86_64-linux-gnu" if self.manager == "apt" else "/usr/lib64"


class Shelf:
    """The packages of one repository: who else is there decides on dependencies and on who owns shared files."""

    def __init__(self, packages: Mapping[str, frozenset[str]]) -> None:
        """Keep name -> versions."""
        self.packages = packages

    def has(self, name: str, version: str = "") -> bool:
        """Tell whether a package (of exactly this version) is there."""
        return name in self.packages and (not version or version in self.packages[name])

    def same(self, package: Package, name: str) -> str:
        """Return the version of another package that has the same upstream version as ``package``, or ""."""
        if self.has(name, package.version):
            return package.version
        return next((v for v in sorted(self.packages.get(name, ())) if upstream_version(v) == package.upstream), "")


def upstream_version(version: str) -> str:
    """Return a package version without epoch and revision."""
    return re.sub(r"^\d+:", "", version).split("-", 1)[0]


def describe(name: str, version: str, manager: Manager, shelf: Shelf) -> Package:
    """Return the stand-in for one package.

    Args:
        name: Package name.
        version: Exact package version, ending in ``+standin`` (apt) or ``.standin`` (dnf).
        manager: apt | dnf.
        shelf: Everything else in the repository.

    Raises:
        LabError: The name or version is none that the package manager would take, or the version does not say that
            this is a stand-in.
    """
    good_name = (_DEB_NAME if manager == "apt" else _RPM_NAME).match(name)
    if not good_name or not _VERSION.match(version) or (manager == "dnf" and version.count("-") != 1):
        raise LabError(Diagnostic(code="lab-package", subject=f"{name} {version}", hint="planner lab up --help",
                                  summary=f"not a package name and version that {manager} takes"))
    if not STAND_IN.search(version):
        raise LabError(Diagnostic(
            code="lab-package", subject=f"{name} {version}", summary="the version does not say that it is a stand-in",
            hint=f"append {'+standin' if manager == 'apt' else '.standin'} to the version"))
    package = Package(name, version, manager)
    for pattern, rule in RULES:
        if found := re.fullmatch(pattern, name):
            rule(package, found, shelf)
            break
    _one_branch(package)
    return package


def _require(package: Package, shelf: Shelf, *names: str) -> None:
    """Depend on each of the names that the repository has: of the same version where it has that, else of any."""
    for name in names:
        if name != package.name and shelf.has(name):
            same = shelf.same(package, name)
            if same:
                package.requires.append(Relation(name, same))


def _one_branch(package: Package) -> None:
    """Where Debian's names carry the driver's branch, branches exclude each other through a common virtual name."""
    found = re.fullmatch(r"((?:lib)?nvidia-.+?|xserver-xorg-video-nvidia)-\d{3}(-server)?(-open)?", package.name)
    if package.manager != "apt" or not found or found.group(1) in ("nvidia-headless", "nvidia-headless-no-dkms"):
        return
    virtual = {"nvidia-dkms": "nvidia-dkms-kernel", "nvidia-driver": "nvidia-driver-binary"}.get(
        found.group(1), found.group(1))
    package.provides.append(Relation(virtual))
    package.conflicts.append(virtual)
    package.replaces.append(virtual)


# --- kernel and driver module

def _kernel(package: Package, found: re.Match[str], _shelf: Shelf) -> None:
    release = kernel_release(package.name, package.version)
    package.files[f"/boot/vmlinuz-{release}"] = "planner lab stand-in, no kernel\n"
    package.installed.append(("kernel", release))
    if package.manager == "dnf":
        package.provides.append(Relation("installonlypkg(kernel)"))
    else:
        package.provides.append(Relation("linux-image"))


def kernel_release(name: str, version: str) -> str:
    """Return the release that a kernel package boots as, ``uname -r``; "" when it is no kernel package."""
    if name == "kernel-core":
        return STAND_IN.sub("", re.sub(r"^\d+:", "", version)) + ".x86_64"
    found = re.fullmatch(r"linux-image-(?:unsigned-)?(\d.+)", name)
    return found.group(1) if found else ""


def _module(package: Package, found: re.Match[str], shelf: Shelf) -> None:
    flavour = "open" if "open" in package.name else "proprietary"
    folder = "updates/dkms" if package.manager == "apt" else "extra"
    package.files[f"/usr/src/{package.name}-{package.upstream}/README"] = "planner lab stand-in, no source\n"
    package.installed.append(("dkms-build", package.upstream, flavour, folder))
    package.removed.append(("dkms-remove", package.upstream, flavour))
    if package.manager == "dnf":
        package.provides.append(Relation("nvidia-kmod", package.version))
        other = "kmod-nvidia-latest-dkms" if flavour == "open" else "kmod-nvidia-open-dkms"
        package.conflicts.append(other)
        _require(package, shelf, "nvidia-kmod-common")
        return
    if package.name in ("nvidia-kernel-open-dkms", "nvidia-kernel-dkms"):
        package.conflicts.append("nvidia-kernel-dkms" if flavour == "open" else "nvidia-kernel-open-dkms")
        _require(package, shelf, "nvidia-kernel-support")
    else:
        _require(package, shelf, _sibling(package.name, "nvidia-kernel-common"))


def _sibling(name: str, stem: str) -> str:
    """Return the name of a package of the same branch and series: its names do not tell the module's flavour."""
    found = re.search(r"-\d{3}(-server)?", name)
    return stem + (found.group(0) if found else "")


def _common(package: Package, _found: re.Match[str], shelf: Shelf) -> None:
    package.files["/usr/lib/modprobe.d/nvidia-planner-lab.conf"] = "# planner lab stand-in\n"
    if package.manager == "dnf" and any(
            shelf.same(package, n) for n in ("kmod-nvidia-open-dkms", "kmod-nvidia-latest-dkms")):
        package.requires.append(Relation("nvidia-kmod", package.version))


# --- libraries and programs of the driver

def _driver_libraries(package: Package, cuda: bool, nvml: bool) -> None:
    for wanted, kind, stem in ((cuda, "cuda", "libcuda.so"), (nvml, "nvml", "libnvidia-ml.so")):
        if wanted:
            real = f"{stem}.{package.upstream}"
            package.files[f"{package.libraries}/{real}"] = Binary(kind, package.upstream)
            package.links[f"{package.libraries}/{stem}.1"] = real
            if kind == "cuda":
                package.links[f"{package.libraries}/{stem}"] = f"{stem}.1"
    package.installed.append(("libraries",))


def _compute(package: Package, _found: re.Match[str], shelf: Shelf) -> None:
    """The libraries' package; newer splits give libcuda and libnvidia-ml packages of their own."""
    own_cuda = package.name != "libnvidia-ml1" and package.name != "libnvidia-ml"
    split = next((n for n in ("libnvidia-ml1", "libnvidia-ml") if n != package.name and shelf.same(package, n)), "")
    _driver_libraries(package, cuda=own_cuda, nvml=not own_cuda or not split)
    _require(package, shelf, split)


def _utils(package: Package, _found: re.Match[str], shelf: Shelf) -> None:
    package.files["/usr/bin/nvidia-smi"] = Binary("smi", package.upstream)
    _require(package, shelf, _sibling(package.name, "libnvidia-compute"), "nvidia-driver-cuda-libs", "libnvidia-ml1")


def _driver_cuda(package: Package, found: re.Match[str], shelf: Shelf) -> None:
    """``nvidia-driver-cuda``: programs; on Debian also whatever no other package of this version brings."""
    if package.manager == "dnf":
        _utils(package, found, shelf)
        _require(package, shelf, "nvidia-kmod-common")
        return
    if not shelf.same(package, "nvidia-smi"):
        package.files["/usr/bin/nvidia-smi"] = Binary("smi", package.upstream)
    cuda, nvml = not shelf.same(package, "libcuda1"), not shelf.same(package, "libnvidia-ml1")
    if cuda or nvml:
        _driver_libraries(package, cuda=cuda, nvml=nvml)
    _require(package, shelf, "libcuda1", "libnvidia-ml1", "nvidia-smi", "nvidia-kernel-open-dkms", "nvidia-kernel-dkms")


def _meta(package: Package, found: re.Match[str], shelf: Shelf) -> None:
    """``nvidia-headless-*`` and ``nvidia-driver-*`` of Ubuntu."""
    series = found.group("series") or ""
    flavour = found.group("flavour") or ""
    branch = found.group("branch")
    _require(package, shelf, f"nvidia-dkms-{branch}{series}{flavour}", f"nvidia-kernel-common-{branch}{series}",
             f"libnvidia-compute-{branch}{series}", f"nvidia-utils-{branch}{series}")


# --- companions of the driver

_FABRIC_MANAGER = """#!/bin/sh
# planner lab stand-in: refuses, as the real one, when its version is not the loaded driver's
case ${{1:-}} in --version|-v) echo "Fabric Manager version is : {v}"; exit 0;; esac
loaded=$(cat /run/planner-lab/mod/nvidia 2>/dev/null)
if [ "$loaded" != "{v}" ]; then
  echo "fabric manager NVIDIA GPU driver interface version {v} don't match with driver version $loaded." \\
    "Please update with matching NVIDIA driver package." >&2
  exit 1
fi
if [ -e /etc/planner-lab/fault/fm-fail ]; then echo "failed to configure NVSwitch (planner lab fault)" >&2; exit 1; fi
echo "{v}" > /run/planner-lab/fabric
sleep infinity &
echo $! > /run/planner-lab/fabric.pid
"""
_SERVICE = """[Unit]
Description={title} (planner lab stand-in)
After=planner-lab-boot.service
[Service]
Type=forking
PIDFile=/run/planner-lab/{word}.pid
ExecStart=/usr/bin/{program}
ExecStopPost=/bin/rm -f /run/planner-lab/{word}
[Install]
WantedBy=multi-user.target
"""
_IMEX = """#!/bin/sh
# planner lab stand-in
case ${{1:-}} in --version|-v) echo "IMEX version is: {v}"; exit 0;; esac
echo "{v}" > /run/planner-lab/imex
sleep infinity &
echo $! > /run/planner-lab/imex.pid
"""


def _service(package: Package, unit: str, program: str, word: str, script: str, enabled: bool) -> None:
    package.files[f"/usr/bin/{program}"] = script.format(v=package.upstream)
    package.files[f"/usr/lib/systemd/system/{unit}"] = _SERVICE.format(title=program, program=program, word=word)
    package.installed.append(("service", unit, "yes" if enabled else "no"))
    package.removed.append(("service-gone", unit))


def _fabric_manager(package: Package, _found: re.Match[str], _shelf: Shelf) -> None:
    _service(package, "nvidia-fabricmanager.service", "nv-fabricmanager", "fabric", _FABRIC_MANAGER, enabled=True)
    if package.manager == "dnf":
        other = "nvidia-fabric-manager" if package.name == "nvidia-fabricmanager" else "nvidia-fabricmanager"
        package.conflicts.append(other)


def _imex(package: Package, _found: re.Match[str], _shelf: Shelf) -> None:
    _service(package, "nvidia-imex.service", "nvidia-imex", "imex", _IMEX, enabled=False)


def _library(stem: str, parts: int) -> Callable[[Package, re.Match[str], Shelf], None]:
    """Return a rule for a library whose file name carries its version up to ``parts`` numbers."""
    def rule(package: Package, _found: re.Match[str], _shelf: Shelf) -> None:
        number = ".".join(package.upstream.split(".")[:parts])
        real = f"{stem}.{number}"
        package.files[f"{package.libraries}/{real}"] = Binary("library", number)
        package.links[f"{package.libraries}/{stem}.{number.split('.')[0]}"] = real
        package.installed.append(("libraries",))
        virtual = re.sub(r"-cuda-\d+$", "", package.name)
        if virtual != package.name:     # builds for several CUDA majors own the same files
            package.provides.append(Relation(virtual))
            package.conflicts.append(virtual)
    return rule


# --- toolkits and tools

def _toolkit(package: Package, found: re.Match[str], shelf: Shelf) -> None:
    dotted = f"{found.group('major')}.{found.group('minor')}"
    root = f"/usr/local/cuda-{dotted}"
    package.files[f"{root}/version.json"] = (
        f'{{"cuda": {{"name": "CUDA SDK (planner lab stand-in)", "version": "{package.upstream}"}}}}\n')
    package.files[f"{root}/bin/nvcc"] = (
        f'#!/bin/sh\necho "nvcc: NVIDIA (R) Cuda compiler driver (planner lab stand-in)"\n'
        f'echo "Cuda compilation tools, release {dotted}, V{package.upstream}"\n')
    package.installed.append(("toolkit", dotted))
    package.removed.append(("toolkit-gone", dotted))
    dashed = f"{found.group('major')}-{found.group('minor')}"
    package.requires += [Relation(f"{stem}-{dashed}") for stem in ("cuda-cudart", "cuda-nvcc", "cuda-libraries",
                         "cuda-compiler", "cuda-tools") if shelf.has(f"{stem}-{dashed}")]


def _container_toolkit(package: Package, _found: re.Match[str], shelf: Shelf) -> None:
    if package.name.endswith("-base") or not shelf.same(package, "nvidia-container-toolkit-base"):
        package.files["/usr/bin/nvidia-ctk"] = (
            f'#!/bin/sh\necho "NVIDIA Container Toolkit CLI version {package.upstream} (planner lab stand-in)"\n')
    if not package.name.endswith("-base"):
        _require(package, shelf, "nvidia-container-toolkit-base", "libnvidia-container-tools")


def _container_tools(package: Package, _found: re.Match[str], shelf: Shelf) -> None:
    _require(package, shelf, "libnvidia-container1")


def _development(package: Package, found: re.Match[str], shelf: Shelf) -> None:
    _require(package, shelf, found.group("stem") + (found.group("rest") or ""), found.group("stem") + "2")


def _empty(_package: Package, _found: re.Match[str], _shelf: Shelf) -> None:
    """A package that only has a name and a version."""


_BRANCH = r"(-\d{3})?(-server)?"
RULES: tuple[tuple[str, Callable[[Package, re.Match[str], Shelf], None]], ...] = (
    (r"linux-image-(unsigned-)?\d.+|kernel-core", _kernel),
    (r"nvidia-dkms-\d{3}(-server)?(-open)?|nvidia-kernel(-open)?-dkms|kmod-nvidia-(open|latest)-dkms", _module),
    (r"nvidia-kernel-common" + _BRANCH + r"|nvidia-kernel-support|nvidia-kmod-common", _common),
    (r"libnvidia-compute-\d{3}(-server)?|nvidia-driver-cuda-libs|libcuda1|libnvidia-ml1?", _compute),
    (r"nvidia-utils" + _BRANCH + r"|nvidia-smi", _utils),
    (r"nvidia-driver-cuda", _driver_cuda),
    (r"nvidia-(headless|driver)(-no-dkms)?-(?P<branch>\d{3})(?P<series>-server)?(?P<flavour>-open)?", _meta),
    (r"nvidia-fabric-?manager(-\d{3})?", _fabric_manager),
    (r"nvidia-imex(-\d{3})?", _imex),
    (r"libnvidia-nscq(-\d{3})?", _library("libnvidia-nscq.so", 3)),
    (r"cuda-toolkit-(?P<major>\d+)-(?P<minor>\d+)", _toolkit),
    (r"libcudnn\d+(-cuda-\d+)?", _library("libcudnn.so", 3)),
    (r"libnccl2?", _library("libnccl.so", 3)),
    (r"libnvinfer\d+", _library("libnvinfer.so", 3)),
    (r"nvidia-container-toolkit(-base)?", _container_toolkit),
    (r"libnvidia-container-tools", _container_tools),
    (r"(?P<stem>libnccl|libcudnn\d+|libnvinfer)-(dev|devel|headers|static)(?P<rest>-cuda-\d+)?", _development),
    (r".*", _empty),
)


def newest_cuda(driver: str, levels: Mapping[str, str]) -> str:
    """Return the CUDA level that a driver reports: of its release, else of its branch; "" when nothing tells.

    Args:
        driver: Driver version.
        levels: Driver release -> CUDA level.
    """
    if driver in levels:
        return levels[driver]
    branch = driver.split(".", 1)[0]
    known = [level for release, level in levels.items() if release.split(".", 1)[0] == branch]
    return max(known, key=lambda level: [int(p) for p in level.split(".")], default="")
