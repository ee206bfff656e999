"""Parts of a fact set: systems, boards, drivers, services, toolkits."""

from __future__ import annotations

from collections.abc import Mapping

from planner.facts.schema import (
    DriverFacts,
    GpuFacts,
    KernelFacts,
    LibraryFacts,
    OsFacts,
    ServiceFacts,
    ToolkitFacts,
)

# Named after the script that people run; the fact sets' digests hang on it.
ORIGIN = {"all fields": "synthetic, written by examples/generate.py; nothing was read from a machine"}

JAMMY = OsFacts(
    id="ubuntu", version_id="22.04", pretty_name="Ubuntu 22.04.5 LTS", arch="x86_64", family="apt", glibc="2.35",
    python="3.10.12", virtualisation="none", root_diskless=False, secure_boot=False,
)
NOBLE = OsFacts(
    id="ubuntu", version_id="24.04", pretty_name="Ubuntu 24.04.3 LTS", arch="x86_64", family="apt", glibc="2.39",
    python="3.12.3", virtualisation="none", root_diskless=False, secure_boot=False,
)
RHEL = OsFacts(
    id="rhel", version_id="9.5", pretty_name="Red Hat Enterprise Linux 9.5 (Plow)", arch="x86_64", family="dnf",
    glibc="2.34", python="3.9.21", virtualisation="none", root_diskless=False, secure_boot=False,
)


def boards(count: int, model: str, capability: str, memory_mib: int, vbios: str) -> tuple[GpuFacts, ...]:
    """Return equal GPUs of one machine; memory in MiB."""
    return tuple(GpuFacts(index=i, model=model, compute_capability=capability, memory_mib=memory_mib,
                          mig_enabled=False, vgpu=False, vbios=vbios) for i in range(count))


def eight(model: str, capability: str, memory_mib: int, vbios: str) -> tuple[GpuFacts, ...]:
    """Return the GPUs of an eight-GPU board; memory in MiB."""
    return boards(8, model, capability, memory_mib, vbios)


def loaded(version: str, package: str, *, opened: bool, owner: str, cuda: str) -> DriverFacts:
    """Return a driver that is the same in memory, on disk and as libraries."""
    return DriverFacts(loaded=version, on_disk=version, userspace=version, package=package,
                       flavour="open" if opened else "proprietary", owner=owner, cuda_reported=cuda)


def services(packages: Mapping[str, str], **names: str) -> dict[str, ServiceFacts]:
    """Return the companion services; those not named are not installed."""
    known = ("nscq", "nvsdm", "nvlsm", "persistenced", "dcgm")
    return {name: service(packages, names.get(name), unit=name == "persistenced") for name in known}


def service(packages: Mapping[str, str], package: str | None, *, unit: bool = True) -> ServiceFacts:
    """Return one service by its package."""
    if package is None:
        return ServiceFacts()
    return ServiceFacts(version=packages[package], active=True if unit else None, package=package)


def installed_toolkits(*versions: str) -> tuple[ToolkitFacts, ...]:
    """Return toolkits under /usr/local, the last one being the default."""
    return tuple(
        ToolkitFacts(version=version, path=f"/usr/local/cuda-{version.rpartition('.')[0]}", source="usr-local",
                     default=version == versions[-1])
        for version in versions)


def library(name: str, version: str, path: str, package: str) -> LibraryFacts:
    """Return one library file."""
    return LibraryFacts(name=name, version=version, path=f"{path}.{version}", package=package)


def running(release: str, driver: str) -> KernelFacts:
    """Return a kernel that runs, boots next, and has the driver's module."""
    return KernelFacts(running=release, next_boot=release, modules_built={release: driver})
