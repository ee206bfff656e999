"""Write the facts of the example fleets: invented nodes, in the form that ``planner discover`` writes.

No machine stands behind these documents. Package names follow the package sets of ``matrices/``, versions are ones that
were released; machine-ids, serial numbers and UUIDs are hashes of the host names. Names and groups come from
``inventories/``. The same sources always give the same bytes.

    python examples/generate.py            write every facts.json
    python examples/generate.py --check    write nothing; exit 1 when a file on disk differs
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from planner.documents import canonical_json, digest, dump_model
from planner.facts.inventory import Inventory, load_inventory
from planner.facts.schema import (
    DriverFacts,
    FactDocument,
    FactSet,
    GpuFacts,
    Identity,
    KernelFacts,
    LibraryFacts,
    NodeRecord,
    OsFacts,
    PythonEnvFacts,
    ServiceFacts,
    ToolkitFacts,
    UnreadableNode,
)

ROOT = Path(__file__).resolve().parents[1]
WRITTEN_AT = "2026-11-24T06:00:00Z"
ORIGIN = {"all fields": "synthetic, written by examples/generate.py; nothing was read from a machine"}

Packages = dict[str, str]

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


# --- packages of one component in one version -----------------------------------------------------------------


def ubuntu_driver(version: str, *, server: bool, opened: bool, release: str) -> Packages:
    """Return Ubuntu's packages of one driver without a display."""
    branch, kind, flavour = version.split(".")[0], "-server" if server else "", "-open" if opened else ""
    module = ("nvidia-headless", "nvidia-headless-no-dkms", "nvidia-dkms", "nvidia-kernel-source")
    common = ("nvidia-kernel-common", "nvidia-compute-utils", "nvidia-utils", "libnvidia-compute", "libnvidia-cfg1")
    names = [f"{stem}-{branch}{kind}{flavour}" for stem in module] + [f"{stem}-{branch}{kind}" for stem in common]
    return dict.fromkeys([*names, f"nvidia-firmware-{branch}{kind}-{version}"], f"{version}-0ubuntu0.{release}.1")


def ubuntu_fabric(version: str) -> Packages:
    """Return Ubuntu's fabric manager of one driver version."""
    return {f"nvidia-fabricmanager-{version.split('.')[0]}": f"{version}-0ubuntu0.22.04.1"}


def ubuntu_nscq(version: str) -> Packages:
    """Return Ubuntu's NVSwitch query library of one driver version."""
    return {f"libnvidia-nscq-{version.split('.')[0]}": f"{version}-0ubuntu0.22.04.1"}


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


# --- parts of a fact set --------------------------------------------------------------------------------------


def eight(model: str, capability: str, memory_mib: int, vbios: str) -> tuple[GpuFacts, ...]:
    """Return the GPUs of an eight-GPU board."""
    return tuple(GpuFacts(index=i, model=model, compute_capability=capability, memory_mib=memory_mib,
                          mig_enabled=False, vgpu=False, vbios=vbios) for i in range(8))


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


# --- documents ------------------------------------------------------------------------------------------------

UNREACHABLE = {"h100-09": "it cannot be reached: Connection timed out"}
EXAMPLES = {
    "01-two-generations": ("inventories/two-generations", two_generations),
    "02-one-node": ("inventories/one-node", workstation),
    "04-dnf": ("inventories/rhel-pair", rhel_pair),
}


def hashed(name: str, what: str, length: int) -> str:
    """Return hexadecimal digits that depend on a host name only."""
    return sha256(f"{name}: {what}".encode()).hexdigest()[:length]


def identity(name: str, gpus: int) -> Identity:
    """Return an invented identity; its serial number says so."""
    def uuid(what: str) -> str:
        digits = hashed(name, what, 32)
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

    return Identity(machine_id=hashed(name, "machine-id", 32), boot_id=uuid("boot"),
                    serials=("SYNTHETIC-" + hashed(name, "serial", 8),),
                    gpu_uuids=tuple(f"GPU-{uuid(f'gpu {i}')}" for i in range(gpus)))


def document(inventory: str, read: Inventory, facts: Mapping[str, FactSet]) -> FactDocument:
    """Return the document of one fleet; facts are there for every host that can be reached."""
    records, sets, unreadable = [], {}, []
    for host in read.hosts:
        if host.name in UNREACHABLE:
            hint = f"try: ansible {host.name} -i {inventory} -m ansible.builtin.ping"
            unreadable.append(UnreadableNode(name=host.name, reason=UNREACHABLE[host.name], hint=hint,
                                             declared=dict(host.declared)))
            continue
        found = facts[host.name]
        name = digest(dump_model(found))
        sets[name] = found
        records.append(NodeRecord(name=host.name, facts=name, identity=identity(host.name, len(found.gpus)),
                                  observed_at=WRITTEN_AT, declared=dict(host.declared), groups=host.groups))
    return FactDocument(schema="planner.facts/1", created_at=WRITTEN_AT, inventory=inventory,
                        inventory_digest=read.digest, fact_sets=dict(sorted(sets.items())), nodes=tuple(records),
                        unreadable=tuple(unreadable))


def render() -> dict[Path, str]:
    """Return the text of every facts.json."""
    os.chdir(ROOT)            # the documents carry the inventory's path as a person types it here
    texts = {}
    for name, (inventory, make) in EXAMPLES.items():
        read = load_inventory(inventory)
        made = document(inventory, read, make())
        texts[ROOT / "examples" / name / "facts.json"] = canonical_json(dump_model(made))
    return texts


def main(argv: list[str]) -> int:
    """Write or compare; the exit code is 1 when ``--check`` finds a difference."""
    stale = []
    for path, text in render().items():
        if "--check" in argv:
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                stale.append(path)
        else:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        sys.stderr.write(f"{path.relative_to(ROOT)} is out of date: run python examples/generate.py\n")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
