"""The fleets of 01, 02 and 04: two HGX generations and a Volta pool, a workstation, a pair on RHEL."""

from __future__ import annotations

from examples.fleets.packages import (
    Packages,
    apt_cudnn,
    apt_nccl,
    container_toolkit,
    merge,
    offer,
    rhel_driver,
    toolkit,
    ubuntu_driver,
    ubuntu_fabric,
    ubuntu_kernel,
    ubuntu_nscq,
)
from examples.fleets.parts import (
    JAMMY,
    NOBLE,
    ORIGIN,
    RHEL,
    eight,
    installed_toolkits,
    library,
    loaded,
    service,
    services,
)
from planner.facts.schema import DriverFacts, FactSet, GpuFacts, KernelFacts, PythonEnvFacts

# --- 01: two HGX generations and a Volta pool -----------------------------------------------------------------

OLD_DRIVER = "535.183.01"
JAMMY_DRIVERS = ("595.91.07", "580.178.04", "580.159.04", "570.211.01", "535.309.01")   # what the mirror offers
JAMMY_LIBRARIES = (
    library("cudnn", "9.1.1", "/usr/lib/x86_64-linux-gnu/libcudnn.so", "libcudnn9-cuda-12"),
    library("nccl", "2.18.3", "/usr/lib/x86_64-linux-gnu/libnccl.so", "libnccl2"),
)
WITHOUT_FABRIC = ("580.178.04",)          # the archive published the driver before its fabric manager
SHARED_OFFER = (
    *[toolkit(v) for v in ("13.1.1", "13.0.2", "13.0.1", "12.9.1", "12.8.1", "12.8.0", "12.2.2", "11.8.0")],
    apt_cudnn("9.13.0.50", 13), apt_cudnn("9.13.0.50", 12), apt_cudnn("9.10.2.21", 12), apt_cudnn("9.1.1.17", 12),
    apt_nccl("2.28.9", "13.0"), apt_nccl("2.28.9", "12.9"), apt_nccl("2.27.7", "12.9"), apt_nccl("2.18.3", "12.2"),
    container_toolkit("1.19.1"), container_toolkit("1.18.1"), container_toolkit("1.17.8"),
    ubuntu_kernel("6.8.0-87-generic", "6.8.0-87.88~22.04.1"), ubuntu_kernel("6.8.0-85-generic", "6.8.0-85.85~22.04.1"),
    ubuntu_kernel("5.15.0-161-generic", "5.15.0-161.171"), ubuntu_kernel("5.15.0-113-generic", "5.15.0-113.123"),
)


def jammy_driver(version: str, *, opened: bool) -> Packages:
    """Return the server driver of Ubuntu 22.04."""
    return ubuntu_driver(version, server=True, opened=opened, release="22.04")


def hgx(model: str, capability: str, vbios: str, nic: str, kernel: Packages, *toolkits: str) -> FactSet:
    """Return an HGX node on driver 535: eight GPUs behind NVSwitches, open modules, fabric manager."""
    drivers = (*JAMMY_DRIVERS, OLD_DRIVER)
    release = next(iter(kernel)).removeprefix("linux-image-")
    packages = merge(
        jammy_driver(OLD_DRIVER, opened=True), ubuntu_fabric(OLD_DRIVER), ubuntu_nscq(OLD_DRIVER), kernel,
        *[toolkit(v) for v in toolkits], apt_cudnn("9.1.1.17", 12), apt_nccl("2.18.3", "12.2"),
        container_toolkit("1.17.8"))
    return FactSet(
        os=JAMMY, kernel=KernelFacts(running=release, next_boot=release, modules_built={release: OLD_DRIVER}),
        driver=loaded(OLD_DRIVER, packages["libnvidia-compute-535-server"], opened=True, owner="apt", cuda="12.2"),
        gpus=eight(model, capability, 81920 if "A100" in model else 81559, vbios), nvswitch=True, nics=(nic,),
        fabric_manager=service(packages, "nvidia-fabricmanager-535"),
        services=services(packages, nscq="libnvidia-nscq-535", persistenced="nvidia-compute-utils-535-server"),
        toolkits=installed_toolkits(*toolkits),
        libraries=JAMMY_LIBRARIES,
        container_runtimes={"apptainer": "1.3.4"}, container_toolkit="1.17.8", packages=packages,
        available=offer(*[jammy_driver(v, opened=True) for v in drivers],
                        *[ubuntu_fabric(v) for v in drivers if v not in WITHOUT_FABRIC],
                        *[ubuntu_nscq(v) for v in drivers], *SHARED_OFFER),
        scheduler={"slurm": "23.11.4"}, sources=ORIGIN)


def dgx1() -> FactSet:
    """Return a DGX-1 like node: eight V100 joined by NVLink without a switch, proprietary modules.

    Its mirror keeps the newest package of each branch only, so the old driver is not to be had again.
    """
    kernel = ubuntu_kernel("5.15.0-113-generic", "5.15.0-113.123")
    packages = merge(
        jammy_driver(OLD_DRIVER, opened=False), kernel, toolkit("11.8.0"), toolkit("12.2.2"), apt_cudnn("9.1.1.17", 12),
        apt_nccl("2.18.3", "12.2"), container_toolkit("1.17.8"))
    return FactSet(
        os=JAMMY, kernel=KernelFacts(running="5.15.0-113-generic", next_boot="5.15.0-113-generic",
                                     modules_built={"5.15.0-113-generic": OLD_DRIVER}),
        driver=loaded(OLD_DRIVER, packages["libnvidia-compute-535-server"], opened=False, owner="apt", cuda="12.2"),
        gpus=eight("Tesla V100-SXM2-32GB", "7.0", 32768, "88.00.80.00.01"), nvswitch=False,
        nics=("MT4115 MT_2180110032",),
        services=services(packages, persistenced="nvidia-compute-utils-535-server"),
        toolkits=installed_toolkits("11.8.0", "12.2.2"),
        libraries=JAMMY_LIBRARIES,
        container_runtimes={"apptainer": "1.3.4"}, container_toolkit="1.17.8", packages=packages,
        available=offer(*[jammy_driver(v, opened=False) for v in JAMMY_DRIVERS], *SHARED_OFFER),
        scheduler={"slurm": "23.11.4"}, sources=ORIGIN)


def controller() -> FactSet:
    """Return a node without GPU and driver."""
    kernel = ubuntu_kernel("5.15.0-113-generic", "5.15.0-113.123")
    return FactSet(os=JAMMY, kernel=KernelFacts(running="5.15.0-113-generic", next_boot="5.15.0-113-generic"),
                   driver=DriverFacts(owner="none"), nvswitch=None, services=services({}), packages=kernel,
                   available=offer(*SHARED_OFFER), scheduler={"slurm": "23.11.4"}, sources=ORIGIN)


def two_generations() -> dict[str, FactSet]:
    """Return host name -> facts. Rack a2 still has CUDA 11.8 beside 12.2; the H100 nodes run the newer kernel."""
    old_kernel = ubuntu_kernel("5.15.0-113-generic", "5.15.0-113.123")
    new_kernel = ubuntu_kernel("6.8.0-85-generic", "6.8.0-85.85~22.04.1")
    ampere = ("NVIDIA A100-SXM4-80GB", "8.0", "92.00.45.00.03", "MT4123 MT_0000000223", old_kernel)
    hopper = ("NVIDIA H100 80GB HBM3", "9.0", "96.00.74.00.01", "MT4129 MT_0000000838", new_kernel)
    a1, a2, h, v = hgx(*ampere, "12.2.2"), hgx(*ampere, "11.8.0", "12.2.2"), hgx(*hopper, "12.2.2"), dgx1()
    return {
        **{f"a100-{i:02}": a1 if i <= 5 else a2 for i in range(1, 11)}, **{f"h100-{i:02}": h for i in range(1, 10)},
        **{f"v100-{i:02}": v for i in range(1, 7)}, "slurm-ctl-01": controller(),
    }


# --- 02 and 04 ------------------------------------------------------------------------------------------------


def workstation() -> dict[str, FactSet]:
    """Return one GeForce machine with a Python environment that brings its own CUDA runtime."""
    old, kernel = "550.163.01", ubuntu_kernel("6.8.0-85-generic", "6.8.0-85.85")
    packages = merge(ubuntu_driver(old, server=False, opened=True, release="24.04"), kernel, toolkit("12.4.1"))
    gpu = GpuFacts(index=0, model="NVIDIA GeForce RTX 4090", compute_capability="8.9", memory_mib=24564, vgpu=False,
                   vbios="95.02.3C.00.90")
    torch = PythonEnvFacts(path="/opt/train/lib/python3.12/site-packages", python="3.12",
                           frameworks={"torch": "2.6.0+cu124"}, nvidia_wheels={"nvidia-cuda-runtime-cu12": "12.4.127"})
    facts = FactSet(
        os=NOBLE, kernel=KernelFacts(running="6.8.0-85-generic", next_boot="6.8.0-85-generic",
                                     modules_built={"6.8.0-85-generic": old}),
        driver=loaded(old, packages["libnvidia-compute-550"], opened=True, owner="apt", cuda="12.4"), gpus=(gpu,),
        services=services(packages, persistenced="nvidia-compute-utils-550"), toolkits=installed_toolkits("12.4.1"),
        python_envs=(torch,), container_runtimes={"docker": "27.5.1"}, packages=packages,
        available=offer(*[ubuntu_driver(v, server=False, opened=True, release="24.04")
                          for v in ("580.159.03", "570.211.01", old)],
                        *[toolkit(v) for v in ("13.0.2", "12.9.1", "12.8.1", "12.4.1")], kernel),
        sources=ORIGIN)
    return {"workstation": facts}


def rhel_pair() -> dict[str, FactSet]:
    """Return two HGX H200 nodes on RHEL 9; the fabric manager's package changes its name on the way."""
    old, release = "570.195.03", "5.14.0-503.11.1.el9_5.x86_64"
    nccl_old = dict.fromkeys(("libnccl", "libnccl-devel"), "2.27.7-1+cuda12.9")
    packages = merge(rhel_driver(old), {"nvidia-fabric-manager": f"{old}-1"}, toolkit("12.8.1"), nccl_old)
    drivers = ("580.159.04", "580.105.08", old)
    new_nccl = [dict.fromkeys(("libnccl", "libnccl-devel"), v) for v in ("2.28.9-1+cuda13.0", "2.28.9-1+cuda12.9")]
    facts = FactSet(
        os=RHEL, kernel=KernelFacts(running=release, next_boot=release, modules_built={release: old}),
        driver=loaded(old, packages["nvidia-driver-cuda-libs"], opened=True, owner="dnf", cuda="12.8"),
        gpus=eight("NVIDIA H200", "9.0", 143771, "96.00.A5.00.01"), nvswitch=True, nics=("MT4129 MT_0000000838",),
        fabric_manager=service(packages, "nvidia-fabric-manager"),
        services=services(packages, persistenced="nvidia-persistenced"), toolkits=installed_toolkits("12.8.1"),
        libraries=(library("nccl", "2.27.7", "/usr/lib64/libnccl.so", "libnccl"),),
        container_runtimes={"podman": "5.2.2"}, packages=packages,
        available=offer(*[rhel_driver(v) for v in drivers], *[{"nvidia-fabricmanager": f"{v}-1"} for v in drivers[:2]],
                        {"nvidia-fabric-manager": f"{old}-1"}, *[toolkit(v) for v in ("13.0.2", "12.9.1", "12.8.1")],
                        *new_nccl, nccl_old),
        sources=ORIGIN)
    return {"h200-01": facts, "h200-02": facts}
