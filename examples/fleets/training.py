"""The fleets of 05, 06 and 07: DGX A100 on an old driver, HGX H100 on three drivers, Volta beside Hopper."""

from __future__ import annotations

from examples.fleets.packages import (
    Packages,
    apt_cudnn,
    apt_nccl,
    container_toolkit,
    merge,
    offer,
    toolkit,
    ubuntu_driver,
    ubuntu_fabric,
    ubuntu_kernel,
    ubuntu_nscq,
)
from examples.fleets.parts import (
    JAMMY,
    ORIGIN,
    eight,
    installed_toolkits,
    library,
    loaded,
    running,
    service,
    services,
)
from planner.facts.schema import FactSet, GpuFacts

KERNEL = "5.15.0-161-generic"
TOOLKITS = ("13.0.2", "12.9.1", "12.8.1", "12.4.1", "12.2.2", "11.8.0", "11.4.4")
DRIVERS = ("580.178.04", "580.159.04", "570.211.01", "535.309.01")


def server_driver(version: str, *, opened: bool) -> Packages:
    """Return the server driver of Ubuntu 22.04."""
    return ubuntu_driver(version, server=True, opened=opened, release="22.04")


def companions(version: str) -> Packages:
    """Return what a machine with NVSwitches has in its driver's version."""
    return {**ubuntu_fabric(version), **ubuntu_nscq(version)}


def training_node(gpus: tuple[GpuFacts, ...], driver: str, *, opened: bool, cuda: str, nccl: tuple[str, str],
                  toolkits: tuple[str, ...], switches: bool, nic: str, drivers: tuple[str, ...] = DRIVERS,
                  without_fabric: tuple[str, ...] = ()) -> FactSet:
    """Return a node of a training pool on Ubuntu 22.04.

    Args:
        gpus: Its boards.
        driver: Version in memory, on disk and as libraries.
        opened: Whether the modules are the open ones.
        cuda: Highest CUDA that the driver reports.
        nccl: NCCL and the CUDA it was built for.
        toolkits: Installed, the default one last.
        switches: Whether there are NVSwitches, so that Fabric Manager and NSCQ are installed.
        nic: Model of the RDMA adapters.
        drivers: What the mirror offers, newest first, in both flavours.
        without_fabric: Those of them whose Fabric Manager the mirror does not have.
    """
    branch, kernel = driver.split(".")[0], ubuntu_kernel(KERNEL, "5.15.0-161.171")
    packages = merge(
        server_driver(driver, opened=opened), companions(driver) if switches else {}, kernel,
        *[toolkit(v) for v in toolkits], apt_nccl(*nccl), container_toolkit("1.17.8"))
    flavours = [server_driver(v, opened=o) for v in drivers for o in (True, False) if not o or v >= "515"]
    persistenced = f"nvidia-compute-utils-{branch}-server"
    return FactSet(
        os=JAMMY, kernel=running(KERNEL, driver),
        driver=loaded(driver, packages[f"libnvidia-compute-{branch}-server"], opened=opened, owner="apt", cuda=cuda),
        gpus=gpus, nvswitch=switches, nics=(nic,),
        fabric_manager=service(packages, f"nvidia-fabricmanager-{branch}" if switches else None),
        services=(services(packages, nscq=f"libnvidia-nscq-{branch}", persistenced=persistenced) if switches
                  else services(packages, persistenced=persistenced)),
        toolkits=installed_toolkits(*toolkits),
        libraries=(library("nccl", nccl[0], "/usr/lib/x86_64-linux-gnu/libnccl.so", "libnccl2"),),
        container_runtimes={"apptainer": "1.3.4"}, container_toolkit="1.17.8", packages=packages,
        available=offer(
            *flavours, *[ubuntu_fabric(v) for v in drivers if v not in without_fabric],
            *[ubuntu_nscq(v) for v in drivers], *[toolkit(v) for v in TOOLKITS],
            apt_cudnn("9.13.0.50", 13), apt_cudnn("9.10.2.21", 12),
            apt_nccl("2.28.9", "13.0"), apt_nccl("2.28.9", "12.9"), apt_nccl("2.27.7", "12.9"), apt_nccl(*nccl),
            container_toolkit("1.19.1"), container_toolkit("1.17.8"), kernel),
        scheduler={"slurm": "23.11.4"}, sources=ORIGIN)


def dgx_a100() -> dict[str, FactSet]:
    """Return five DGX A100 on the last driver of R470: proprietary modules, Fabric Manager of the same version.

    The mirror has driver 580.178.04 already, and its Fabric Manager not yet.
    """
    facts = training_node(
        eight("NVIDIA A100-SXM4-40GB", "8.0", 40960, "92.00.45.00.05"), "470.256.02", opened=False, cuda="11.4",
        nccl=("2.18.3", "11.0"), toolkits=("11.4.4",), switches=True, nic="MT4123 MT_0000000223",
        drivers=("580.178.04", "580.159.04", "570.211.01", "535.309.01", "470.256.02"), without_fabric=("580.178.04",))
    return {f"dgx-{i:02}": facts for i in range(1, 6)}


def three_drivers() -> dict[str, FactSet]:
    """Return twelve HGX H100 of one InfiniBand fabric, bought in three years: three drivers, one NCCL."""
    kinds = (("535.183.01", "12.2"), ("550.127.05", "12.4"), ("570.195.03", "12.8"))
    sets = [
        training_node(
            eight("NVIDIA H100 80GB HBM3", "9.0", 81559, "96.00.74.00.01"), driver, opened=True, cuda=cuda,
            nccl=("2.21.5", "12.4"), toolkits=("12.4.1",), switches=True, nic="MT4129 MT_0000000838",
            drivers=(*DRIVERS, *(() if driver in DRIVERS else (driver,))))
        for driver, cuda in kinds]
    return {f"hgx-{i:02}": sets[(i - 1) // 4] for i in range(1, 13)}


def volta_and_hopper() -> dict[str, FactSet]:
    """Return four nodes with V100 and four with H100, both on driver 535 and CUDA 12.2."""
    common = {"cuda": "12.2", "nccl": ("2.18.3", "12.2"), "toolkits": ("12.2.2",)}
    drivers = (*DRIVERS, "535.183.01")
    volta = training_node(eight("Tesla V100-SXM2-32GB", "7.0", 32768, "88.00.80.00.01"), "535.183.01", opened=False,
                          switches=False, nic="MT4115 MT_2180110032", drivers=drivers, **common)
    hopper = training_node(eight("NVIDIA H100 80GB HBM3", "9.0", 81559, "96.00.74.00.01"), "535.183.01", opened=True,
                           switches=True, nic="MT4129 MT_0000000838", drivers=drivers, **common)
    return {**{f"volta-{i:02}": volta for i in range(1, 5)}, **{f"hopper-{i:02}": hopper for i in range(1, 5)}}
