"""The fleets of 10, 11 and 14: hypervisors with their guests, nodes on an older Ubuntu, nodes that cannot get there."""

from __future__ import annotations

from examples.fleets.packages import (
    container_toolkit,
    merge,
    offer,
    toolkit,
    ubuntu_driver,
    ubuntu_kernel,
)
from examples.fleets.parts import (
    JAMMY,
    ORIGIN,
    boards,
    installed_toolkits,
    loaded,
    running,
    services,
)
from planner.facts.schema import DriverFacts, FactSet, GpuFacts, OsFacts

FOCAL = OsFacts(
    id="ubuntu", version_id="20.04", pretty_name="Ubuntu 20.04.6 LTS", arch="x86_64", family="apt", glibc="2.31",
    python="3.8.10", virtualisation="none", root_diskless=False, secure_boot=False,
)
TOOLKITS = ("13.0.2", "12.9.1", "12.8.1", "12.2.2")


def a30(system: OsFacts, release: str, version: str, driver: str, drivers: tuple[str, ...], *,
        cuda: str, toolkits: tuple[str, ...]) -> FactSet:
    """Return a node with four A30 on some Ubuntu.

    Args:
        system: The Ubuntu.
        release: Its kernel, as uname -r prints it.
        version: Package version of that kernel.
        driver: Installed, open modules.
        drivers: What the archive offers, newest first.
        cuda: Highest CUDA that the driver reports.
        toolkits: Installed, the default one last.
    """
    branch, kernel = driver.split(".")[0], ubuntu_kernel(release, version)
    made = {v: ubuntu_driver(v, server=True, opened=True, release=system.version_id) for v in (*drivers, driver)}
    packages = merge(made[driver], kernel, *[toolkit(v) for v in toolkits], container_toolkit("1.17.8"))
    return FactSet(
        os=system, kernel=running(release, driver),
        driver=loaded(driver, packages[f"libnvidia-compute-{branch}-server"], opened=True, owner="apt", cuda=cuda),
        gpus=boards(4, "NVIDIA A30", "8.0", 24576, "92.00.66.00.08"), nvswitch=False,
        services=services(packages, persistenced=f"nvidia-compute-utils-{branch}-server"),
        toolkits=installed_toolkits(*toolkits), container_toolkit="1.17.8", packages=packages,
        available=offer(*made.values(), *[toolkit(v) for v in TOOLKITS], container_toolkit("1.17.8"), kernel),
        scheduler={"slurm": "23.11.4"}, sources=ORIGIN)


def release_upgrade() -> dict[str, FactSet]:
    """Return four nodes with A30 on Ubuntu 22.04 and driver 525, which no newer Ubuntu has."""
    facts = a30(JAMMY, "5.15.0-161-generic", "5.15.0-161.171", "525.147.05", ("580.178.04", "570.211.01", "535.309.01"),
                cuda="12.0", toolkits=())
    return {f"a30-{i:02}": facts for i in range(1, 5)}


def out_of_reach() -> dict[str, FactSet]:
    """Return six nodes with A30 on Ubuntu 20.04; somebody has copied packages of CUDA 13 into their mirror."""
    facts = a30(FOCAL, "5.4.0-216-generic", "5.4.0-216.236", "535.183.01", ("580.178.04", "570.211.01", "535.309.01"),
                cuda="12.2", toolkits=("12.2.2",))
    return {f"old-{i:02}": facts for i in range(1, 7)}


def vgpu() -> dict[str, FactSet]:
    """Return two KVM hosts with A10 that run vGPU 16.13, and four guests with a vGPU each."""
    release, version = "5.15.0-161-generic", "535.288.01"
    kernel = ubuntu_kernel(release, "5.15.0-161.171")
    host = FactSet(
        os=JAMMY, kernel=running(release, version),
        driver=DriverFacts(loaded=version, on_disk=version, userspace=version, flavour="proprietary", owner="runfile"),
        gpus=boards(2, "NVIDIA A10", "8.6", 23028, "94.02.5C.00.04"), nvswitch=False, services=services({}),
        packages=kernel, available=offer(kernel), sources=ORIGIN)
    packages = {**kernel, **toolkit("12.2.2")}
    guest = FactSet(
        os=JAMMY.model_copy(update={"virtualisation": "kvm"}), kernel=running(release, version),
        driver=host.driver.model_copy(update={"cuda_reported": "12.2"}),
        gpus=(GpuFacts(index=0, model="NVIDIA A10-12Q", compute_capability="8.6", memory_mib=12288, vgpu=True),),
        nvswitch=False, services=services({}), toolkits=installed_toolkits("12.2.2"), packages=packages,
        available=offer(toolkit("13.0.2"), toolkit("12.8.1"), toolkit("12.2.2"), kernel), sources=ORIGIN)
    return {**{f"kvm-{i:02}": host for i in range(1, 3)}, **{f"vm-{i:02}": guest for i in range(1, 5)}}
