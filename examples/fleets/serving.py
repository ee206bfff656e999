"""The fleets of 08, 09, 12 and 13: a desk, an inference pool, shared development machines, a pool that is done."""

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
)
from examples.fleets.parts import (
    JAMMY,
    NOBLE,
    ORIGIN,
    boards,
    eight,
    installed_toolkits,
    library,
    loaded,
    running,
    service,
    services,
)
from planner.facts.schema import FactSet, PythonEnvFacts

TOOLKITS = ("13.1.1", "13.0.2", "12.9.1", "12.8.1", "12.4.1", "11.8.0")


def jammy_server(version: str, *, opened: bool) -> Packages:
    """Return the server driver of Ubuntu 22.04."""
    return ubuntu_driver(version, server=True, opened=opened, release="22.04")


def noble_desktop(version: str, *, opened: bool) -> Packages:
    """Return the driver of Ubuntu 24.04 without -server in its names, here without a display."""
    return ubuntu_driver(version, server=False, opened=opened, release="24.04")


def rtx_5090() -> dict[str, FactSet]:
    """Return one workstation with a Blackwell card; its archive has both flavours of the modules."""
    old, release = "570.195.03", "6.14.0-33-generic"
    kernel = ubuntu_kernel(release, "6.14.0-33.33~24.04.1")
    packages = merge(noble_desktop(old, opened=True), kernel, toolkit("12.8.1"))
    torch = PythonEnvFacts(path="/opt/lab/venv/lib/python3.12/site-packages", python="3.12",
                           frameworks={"torch": "2.7.1+cu128"}, nvidia_wheels={"nvidia-cuda-runtime-cu12": "12.8.57"})
    facts = FactSet(
        os=NOBLE, kernel=running(release, old),
        driver=loaded(old, packages["libnvidia-compute-570"], opened=True, owner="apt", cuda="12.8"),
        gpus=boards(1, "NVIDIA GeForce RTX 5090", "12.0", 32607, "98.02.2E.40.0D"), nvswitch=False,
        services=services(packages, persistenced="nvidia-compute-utils-570"), toolkits=installed_toolkits("12.8.1"),
        python_envs=(torch,), container_runtimes={"docker": "27.5.1"}, packages=packages,
        available=offer(*[noble_desktop(v, opened=o) for v in ("580.159.03", old) for o in (True, False)],
                        *[toolkit(v) for v in ("13.1.1", "13.0.2", "12.9.1", "12.8.1")], kernel),
        sources=ORIGIN)
    return {"bench-1": facts}


def l4_pool() -> dict[str, FactSet]:
    """Return eight inference nodes without any toolkit: what they serve comes in containers."""
    old, release = "525.147.05", "5.15.0-161-generic"
    kernel = ubuntu_kernel(release, "5.15.0-161.171")
    packages = merge(jammy_server(old, opened=False), kernel, container_toolkit("1.13.5"))
    facts = FactSet(
        os=JAMMY, kernel=running(release, old),
        driver=loaded(old, packages["libnvidia-compute-525-server"], opened=False, owner="apt", cuda="12.0"),
        gpus=boards(4, "NVIDIA L4", "8.9", 23034, "95.04.29.00.02"), nvswitch=False,
        services=services(packages, persistenced="nvidia-compute-utils-525-server"),
        container_runtimes={"docker": "24.0.7", "containerd": "1.7.27"}, container_toolkit="1.13.5", packages=packages,
        available=offer(*[jammy_server(v, opened=o) for v in ("580.178.04", "570.211.01", "535.309.01", old)
                          for o in (True, False)],
                        container_toolkit("1.20.0"), container_toolkit("1.19.1"), container_toolkit("1.13.5"), kernel),
        scheduler={"kubelet": "v1.31.9"}, sources=ORIGIN)
    return {f"serve-{i:02}": facts for i in range(1, 9)}


def three_toolkits() -> dict[str, FactSet]:
    """Return three shared machines with L40S on which people compile with two toolkits."""
    old, release = "550.163.01", "5.15.0-161-generic"
    kernel = ubuntu_kernel(release, "5.15.0-161.171")
    packages = merge(jammy_server(old, opened=True), kernel, toolkit("11.8.0"), toolkit("12.4.1"),
                     apt_cudnn("9.1.1.17", 12))
    facts = FactSet(
        os=JAMMY, kernel=running(release, old),
        driver=loaded(old, packages["libnvidia-compute-550-server"], opened=True, owner="apt", cuda="12.4"),
        gpus=boards(4, "NVIDIA L40S", "8.9", 46068, "95.02.66.00.02"), nvswitch=False,
        services=services(packages, persistenced="nvidia-compute-utils-550-server"),
        toolkits=installed_toolkits("11.8.0", "12.4.1"),
        libraries=(library("cudnn", "9.1.1", "/usr/lib/x86_64-linux-gnu/libcudnn.so", "libcudnn9-cuda-12"),),
        packages=packages,
        available=offer(*[jammy_server(v, opened=True) for v in ("580.178.04", "570.211.01", old)],
                        *[toolkit(v) for v in TOOLKITS], apt_cudnn("9.13.0.50", 13), apt_cudnn("9.13.0.50", 12),
                        apt_cudnn("9.1.1.17", 12), kernel),
        sources=ORIGIN)
    return {f"dev-{i:02}": facts for i in range(1, 4)}


def at_the_goal() -> dict[str, FactSet]:
    """Return two HGX H200 that have all that is asked for, and their repository offers newer things still."""
    now, release = "580.178.04", "5.15.0-161-generic"
    kernel = ubuntu_kernel(release, "5.15.0-161.171")
    packages = merge(jammy_server(now, opened=True), ubuntu_fabric(now), kernel, toolkit("12.8.1"), toolkit("13.0.2"),
                     apt_nccl("2.28.9", "13.0"), container_toolkit("1.19.1"))
    facts = FactSet(
        os=JAMMY, kernel=running(release, now),
        driver=loaded(now, packages["libnvidia-compute-580-server"], opened=True, owner="apt", cuda="13.0"),
        gpus=eight("NVIDIA H200", "9.0", 143771, "96.00.A5.00.01"), nvswitch=True, nics=("MT4129 MT_0000000838",),
        fabric_manager=service(packages, "nvidia-fabricmanager-580"),
        services=services(packages, persistenced="nvidia-compute-utils-580-server"),
        toolkits=installed_toolkits("12.8.1", "13.0.2"),
        libraries=(library("nccl", "2.28.9", "/usr/lib/x86_64-linux-gnu/libnccl.so", "libnccl2"),),
        container_toolkit="1.19.1", packages=packages,
        available=offer(*[jammy_server(v, opened=True) for v in ("595.91.07", now)],
                        *[ubuntu_fabric(v) for v in ("595.91.07", now)], *[toolkit(v) for v in TOOLKITS],
                        apt_nccl("2.30.7", "13.0"), apt_nccl("2.28.9", "13.0"), container_toolkit("1.20.0"),
                        container_toolkit("1.19.1"), kernel),
        scheduler={"slurm": "23.11.4"}, sources=ORIGIN)
    return {"h200-a": facts, "h200-b": facts}
