"""Packages of one component in one version, by the names of the package sets in ``matrices/``."""

from __future__ import annotations

Packages = dict[str, str]


def ubuntu_driver(version: str, *, server: bool, opened: bool, release: str) -> Packages:
    """Return Ubuntu's packages of one driver without a display."""
    branch, kind, flavour = version.split(".")[0], "-server" if server else "", "-open" if opened else ""
    module = ("nvidia-headless", "nvidia-headless-no-dkms", "nvidia-dkms", "nvidia-kernel-source")
    common = ("nvidia-kernel-common", "nvidia-compute-utils", "nvidia-utils", "libnvidia-compute", "libnvidia-cfg1")
    names = [f"{stem}-{branch}{kind}{flavour}" for stem in module] + [f"{stem}-{branch}{kind}" for stem in common]
    return dict.fromkeys([*names, f"nvidia-firmware-{branch}{kind}-{version}"], f"{version}-0ubuntu0.{release}.1")


def ubuntu_fabric(version: str, release: str = "22.04") -> Packages:
    """Return Ubuntu's fabric manager of one driver version."""
    return {f"nvidia-fabricmanager-{version.split('.')[0]}": f"{version}-0ubuntu0.{release}.1"}


def ubuntu_nscq(version: str, release: str = "22.04") -> Packages:
    """Return Ubuntu's NVSwitch query library of one driver version."""
    return {f"libnvidia-nscq-{version.split('.')[0]}": f"{version}-0ubuntu0.{release}.1"}


def ubuntu_kernel(release: str, version: str) -> Packages:
    """Return one kernel of Ubuntu."""
    return {f"linux-{part}-{release}": version for part in ("image", "headers", "modules", "modules-extra")}


def rhel_driver(version: str) -> Packages:
    """Return the packages of one driver in NVIDIA's repository for RHEL 9, open modules."""
    names = ("kmod-nvidia-open-dkms", "nvidia-driver-cuda", "nvidia-driver-cuda-libs", "nvidia-kmod-common",
             "libnvidia-ml", "libnvidia-cfg", "libnvidia-gpucomp", "nvidia-persistenced", "nvidia-modprobe")
    return dict.fromkeys(names, f"3:{version}-1.el9")


def toolkit(version: str) -> Packages:
    """Return the meta packages of one CUDA toolkit."""
    dashed = "-".join(version.split(".")[:2])
    return {f"cuda-{part}-{dashed}": f"{version}-1" for part in ("toolkit", "compiler", "libraries", "tools")}


def apt_cudnn(version: str, major: int) -> Packages:
    """Return cuDNN 9 for one CUDA major, with headers."""
    names = ("libcudnn9", "libcudnn9-dev", "libcudnn9-headers")
    return {f"{name}-cuda-{major}": f"{version}-1" for name in names}


def apt_nccl(version: str, cuda: str) -> Packages:
    """Return NCCL as built for one CUDA release, with headers."""
    return dict.fromkeys(("libnccl2", "libnccl-dev"), f"{version}-1+cuda{cuda}")


def container_toolkit(version: str) -> Packages:
    """Return the four packages of the container toolkit."""
    names = ("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools",
             "libnvidia-container1")
    return dict.fromkeys(names, f"{version}-1")


def offer(*parts: Packages) -> dict[str, tuple[str, ...]]:
    """Return what a repository offers: name -> versions in the order given, newest first."""
    found: dict[str, tuple[str, ...]] = {}
    for name, version in (item for part in parts for item in part.items()):
        found[name] = (*found.get(name, ()), version)
    return dict(sorted(found.items()))


def merge(*parts: Packages) -> Packages:
    """Return installed packages, sorted by name."""
    return dict(sorted({name: version for part in parts for name, version in part.items()}.items()))
