"""The driver as separate facts: loaded, on disk, user-space libraries, package, flavour and who owns it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from planner.facts.parse import kernel, smi, software, system
from planner.facts.schema import DriverFacts

# Where no file tells the owner: names of packages that are the driver, the more telling first.
_DRIVER_PACKAGES = (
    r"libnvidia-compute(-\d+)?(-server)?", r"libcuda1", r"nvidia-driver-cuda-libs", r"libnvidia-ml1?",
    r"nvidia-driver-cuda",
    r"nvidia-driver(-\d+)?(-server)?(-open)?", r"nvidia-open(-\d+)?", r"cuda-drivers(-\d+)?", r"kmod-nvidia.*",
    r"nvidia-dkms-.*", r"nvidia-kernel-.*dkms",
)


class ProbeView(Protocol):
    """What this module reads of a probe document."""

    commands: Mapping[str, Any]
    files: Mapping[str, str]
    nvml: Mapping[str, Any]
    found: Mapping[str, Any]
    present: frozenset[str]
    family: str
    virtualisation: str | None
    packages: dict[str, str]

    def out(self, name: str) -> str:
        """Return a command's standard output, or ``""``."""

    def both(self, name: str) -> str:
        """Return both streams of a command."""

    def ok(self, name: str) -> bool:
        """Tell whether a command succeeded."""

    def owner(self, path: str) -> str | None:
        """Return the package that owns a file."""

    def package(self, pattern: str) -> tuple[str, str] | None:
        """Return the installed package whose name matches."""


def driver_facts(raw: ProbeView) -> DriverFacts:
    """Return the driver facts of one node."""
    proc = raw.files.get("/proc/driver/nvidia/version", "")
    info = kernel.parse_modinfo(raw.out("modinfo"))
    banner = smi.parse_smi(raw.both("nvidia_smi")) if "nvidia_smi" in raw.commands else None
    libraries = [item["path"] for item in raw.found.get("libraries", ())]
    loaded = (raw.files.get("/sys/module/nvidia/version", "").strip() or kernel.parse_proc_version(proc)
              or raw.nvml.get("driver") or (banner.driver if banner else None))
    userspace = software.parse_userspace(libraries) or smi.parse_nvml_library(raw.nvml.get("nvml_version"))
    package = _package(raw, libraries)
    on_disk = info.get("version")
    error = raw.nvml.get("error")
    return DriverFacts(
        loaded=loaded or None, on_disk=on_disk, userspace=userspace, package=package[1] if package else None,
        flavour=kernel.parse_flavour(proc, info.get("license", "")) or _flavour_by_name(raw.packages),
        owner=driver_owner(present=raw.present, virtualisation=raw.virtualisation, family=raw.family,
                           packaged=package is not None, anything=bool(loaded or userspace or on_disk)),
        cuda_reported=smi.parse_cuda_number(raw.nvml.get("cuda")) or (banner.cuda if banner else None),
        nvml_error=str(error) if error else None,
    )


def _package(raw: ProbeView, libraries: Collection[str]) -> tuple[str, str] | None:
    """Return the package that brought the driver's libraries: by file, else by name."""
    for path in libraries:
        if re.search(r"/lib(cuda|nvidia-ml)\.so\.", path) and "/compat/" not in path:
            owner = raw.owner(path)
            if owner in raw.packages:
                return owner, raw.packages[owner]
    for pattern in _DRIVER_PACKAGES:
        if found := raw.package(pattern):
            return found
    return None


def _flavour_by_name(installed: Collection[str]) -> str | None:
    """Tell the flavour by the module's package where nothing is loaded and no licence can be read."""
    opened = re.compile(r"nvidia-(dkms|kernel-source)-\d+(-server)?-open|nvidia-kernel-open-dkms|kmod-nvidia-open.*")
    closed = re.compile(r"nvidia-dkms-\d+(-server)?|nvidia-kernel-dkms|kmod-nvidia(-latest-dkms)?")
    if any(opened.fullmatch(name) for name in installed):
        return "open"
    if any(closed.fullmatch(name) for name in installed):
        return "proprietary"
    return None


def driver_owner(
    *, present: Collection[str], virtualisation: str | None, family: str, packaged: bool, anything: bool,
) -> str | None:
    """Return who put the driver there; only ``apt`` and ``dnf`` may be acted on.

    Args:
        present: Paths that exist on the node.
        virtualisation: As ``parse_virtualisation`` tells.
        family: Package manager of the system.
        packaged: Whether an installed package carries driver libraries.
        anything: Whether any driver was seen: loaded, on disk or as library.

    Returns:
        apt | dnf | runfile | operator | image | none, or None when a driver is there and its origin is unknown.
    """
    if "/run/nvidia/driver/usr/bin/nvidia-smi" in present:
        return "operator"
    if "/run/ostree-booted" in present or "/usr/lib/wsl/lib/libcuda.so.1" in present:
        return "image"
    if packaged:
        return family or None
    if {"/usr/bin/nvidia-uninstall", "/var/log/nvidia-installer.log"} & set(present) and anything:
        return "runfile"
    if not anything:
        return "none"
    return "image" if system.is_container(virtualisation) else None
