"""One probe document in, typed facts and identity out. Pure: the same document always gives the same facts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from planner.diagnostics import Diagnostic
from planner.errors import FactsError
from planner.facts.parse import driver, kernel, packages, smi, software, system
from planner.facts.schema import (
    FactSet,
    GpuFacts,
    Identity,
    KernelFacts,
    LibraryFacts,
    OsFacts,
    PythonEnvFacts,
    ServiceFacts,
    ToolkitFacts,
)
from planner.model.version import version_key

PROBE_SCHEMA = "planner.probe-facts/1"
_NO_FABRIC = 0
_TELLS_FABRIC_FROM = version_key("9.0")      # nvmlDeviceGetGpuFabricInfo: "for Hopper or newer"
_IN_FABRIC = (2, 3)         # NVML: the GPU is joining, or has joined, its switch fabric
_GPU_CLASSES = ("0x0300", "0x0302")     # PCI: VGA and 3D controllers
_NVSWITCH_CLASS = "0x0680"  # PCI: bridge, other
_RUNTIMES = ("docker", "containerd", "podman", "apptainer", "singularity", "enroot")
_SERVICES = {               # name -> (unit, pattern of its package's name)
    "nscq": ("", r"libnvidia-nscq(-\d+)?"),
    "nvsdm": ("", r"libnvsdm(-\d+)?"),
    "nvlsm": ("nvlsm.service", r"nvlsm"),
    "persistenced": ("nvidia-persistenced.service", r"nvidia-persistenced|nvidia-compute-utils-.*"),
    "dcgm": ("nvidia-dcgm.service", r"datacenter-gpu-manager.*"),
}
_FABRIC_MANAGER = r"(cuda-drivers-fabricmanager.*)?(nvidia-)?fabric-?manager(-\d+)?"
_IMEX = r"nvidia-imex(-\d+)?"


def read_probe(text: str) -> dict[str, Any]:
    """Return the probe document in what a node printed; lines before it (a login banner) are skipped.

    Raises:
        FactsError: There is none, or it is of another schema.
    """
    for line in reversed(text.strip().splitlines()):
        if not line.startswith("{"):
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            break
        if isinstance(document, dict) and document.get("schema") == PROBE_SCHEMA:
            return document
        break
    raise FactsError(Diagnostic(
        code="bad-probe-answer", summary="the probe's answer is not a document of schema " + PROBE_SCHEMA,
        why=(f"it begins with {text.strip()[:120]!r}",), hint="run it by hand on the node: python3 probe.zip facts"))


def assemble_facts(document: Mapping[str, Any]) -> tuple[FactSet, Identity]:
    """Turn a probe document into typed facts.

    Args:
        document: As ``read_probe`` returns it.

    Returns:
        The fact set, free of everything that tells one machine from another, and the identity.

    Raises:
        FactsError: A part of the document has a shape that no probe writes.
    """
    try:
        raw = _Raw(document)
        return _fact_set(raw), _identity(raw)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as exc:
        raise FactsError(Diagnostic(
            code="bad-probe-answer",
            summary=f"a part of the probe's answer cannot be read: {type(exc).__name__}: {exc}",
            hint="send the output of: python3 probe.zip facts")) from exc


class _Raw:
    """Access to a probe document: a part that is missing reads as empty text."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.commands: Mapping[str, Any] = document.get("commands", {})
        self.files: Mapping[str, str] = document.get("files", {})
        self.nvml: Mapping[str, Any] = document.get("nvml", {})
        self.disk: Mapping[str, Any] = document.get("disk", {})
        self.found: Mapping[str, Any] = document.get("found", {})
        self.present = frozenset(self.disk.get("present", ()))
        self.machine = str(document.get("machine", ""))
        self.arch = self.out("dpkg_arch").strip() or packages.debian_arch(self.machine)
        self.release = system.parse_os_release(self.files.get("/etc/os-release", ""))
        self.family = system.package_family(self.release)
        self.units = system.parse_units(self.out("units"))
        self.virtualisation = system.parse_virtualisation(
            self.out("virtualisation"), self.present, self.files.get("/proc/version", ""))
        self.packages, self.problems = self._installed()
        self.owners = self._owners()

    def out(self, name: str) -> str:
        """Return a command's standard output, or ``""``."""
        return str(self.commands.get(name, {}).get("stdout", ""))

    def both(self, name: str) -> str:
        """Return a command's output on both streams."""
        return self.out(name) + "\n" + str(self.commands.get(name, {}).get("stderr", ""))

    def ok(self, name: str) -> bool:
        """Tell whether a command ran and succeeded."""
        return bool(self.commands.get(name, {}).get("rc") == 0)

    def _installed(self) -> tuple[dict[str, str], tuple[str, ...]]:
        if self.family == "dnf":
            return packages.parse_rpm(self.out("rpm_packages"), self.machine), ()
        installed, problems = packages.parse_dpkg(self.out("dpkg_packages"), self.arch)
        return installed, tuple(sorted({*problems, *packages.parse_dpkg_audit(self.out("dpkg_audit"))}))

    def _owners(self) -> dict[str, str]:
        if self.family == "dnf":
            return packages.parse_rpm_owners(self.out("rpm_owners"))
        return packages.parse_dpkg_owners(self.out("dpkg_owners"))

    def owner(self, path: str) -> str | None:
        """Return the package that owns a file."""
        return self.owners.get(path) or self.owners.get(packages.merged_path(path))

    def package(self, pattern: str) -> tuple[str, str] | None:
        """Return (name, version) of the installed package whose whole name matches, newest first."""
        found = [(n, v) for n, v in self.packages.items() if re.fullmatch(pattern, n)]
        return max(found, key=lambda item: version_key(item[1])) if found else None


def _fact_set(raw: _Raw) -> FactSet:
    gpus = smi.parse_nvml(raw.nvml) or smi.parse_smi_query(raw.out("nvidia_smi_query"))
    toolkits = _toolkits(raw)
    container = raw.package("nvidia-container-toolkit")
    return FactSet(
        os=_os(raw), kernel=_kernel(raw), driver=driver.driver_facts(raw), gpus=gpus, nvswitch=_nvswitch(raw, gpus),
        pci_gpus=_pci_gpus(raw, gpus),
        nics=tuple(sorted({f"{n['hca_type']} {n['board_id']}".strip() for n in raw.disk.get("rdma", ())})),
        fabric_manager=_service(raw, "nvidia-fabricmanager.service", _FABRIC_MANAGER, "fabric_manager"),
        imex=_service(raw, "nvidia-imex.service", _IMEX, "imex"),
        services={name: _service(raw, unit, pattern) for name, (unit, pattern) in _SERVICES.items()},
        toolkits=toolkits, libraries=_libraries(raw), python_envs=_envs(raw),
        container_runtimes={name: version for name in _RUNTIMES if (version := software_version(raw.out(name)))},
        container_toolkit=software_version(raw.out("nvidia_ctk")) or (container[1] if container else None),
        packages=dict(sorted(raw.packages.items())), holds=_holds(raw),
        available=_available(raw), scheduler=_scheduler(raw), problems=_problems(raw), sources=_sources(raw),
    )


def software_version(text: str) -> str | None:
    """Return the version a program prints; None for no output."""
    return system.parse_tool_version(text) if text.strip() else None


def _os(raw: _Raw) -> OsFacts:
    root = raw.disk.get("root", {})
    return OsFacts(
        id=raw.release.get("ID", ""), version_id=raw.release.get("VERSION_ID", ""),
        pretty_name=raw.release.get("PRETTY_NAME", ""), arch=raw.machine, family=raw.family,
        glibc=system.parse_glibc(raw.out("glibc")), python=raw.document.get("probe", {}).get("python"),
        virtualisation=raw.virtualisation,
        root_diskless=system.parse_root(root.get("mount") or "", root.get("upper_mount")),
        secure_boot=system.parse_secure_boot(
            raw.both("secure_boot"), efi_byte=raw.disk.get("efi_secure_boot"), present=raw.present),
        auto_upgrades=system.parse_auto_upgrades(raw.out("apt_periodic"), raw.units, raw.packages),
    )


def _kernel(raw: _Raw) -> KernelFacts:
    kernels = raw.disk.get("kernels", {})
    words = raw.out("uname").split()
    running = words[1] if len(words) > 1 else raw.files.get("/proc/sys/kernel/osrelease", "").strip()
    built = {release: version for release in sorted(kernels)
             if raw.ok("modinfo_version:" + release) and (version := raw.out("modinfo_version:" + release).strip())}
    return KernelFacts(running=running, modules_built=built, next_boot=kernel.parse_next_boot(
        [r for r, k in kernels.items() if k.get("bootable")],
        grubby=raw.out("grubby_default") if raw.ok("grubby_default") else "",
        grub_default=raw.files.get("/etc/default/grub", ""), grub_env=raw.out("grub_env") or raw.out("grub2_env")))


def _nvswitch(raw: _Raw, gpus: tuple[GpuFacts, ...]) -> bool | None:
    """Tell whether the GPUs hang on NVSwitch: seen on PCI or told by NVML; a guest without either has none."""
    states = [g.get("fabric_state") for g in raw.nvml.get("gpus", ())]
    if any(p["class"].startswith(_NVSWITCH_CLASS) for p in raw.disk.get("pci", ())) or set(states) & set(_IN_FABRIC):
        return True
    guest = raw.virtualisation not in (None, "none") and not system.is_container(raw.virtualisation)
    if gpus and guest and raw.disk.get("pci") and set(states) <= {_NO_FABRIC, None}:
        return False
    # Older generations say "not supported" on switches, too; these and the lab's stand-ins tell, also in a container.
    tells = all(g.stand_in or version_key(g.compute_capability or "0") >= _TELLS_FABRIC_FROM for g in gpus)
    return False if gpus and tells and set(states) == {_NO_FABRIC} else None


def _pci_gpus(raw: _Raw, gpus: tuple[GpuFacts, ...]) -> int | None:
    """Return how many GPUs are on the bus; in a container, whose bus is its host's, and in a lab nobody can tell."""
    bus = raw.disk.get("pci")
    if bus is None or system.is_container(raw.virtualisation) or any(g.stand_in for g in gpus):
        return None
    return sum(str(device["class"]).startswith(_GPU_CLASSES) for device in bus)


def _service(raw: _Raw, unit: str, pattern: str, command: str = "") -> ServiceFacts:
    package = raw.package(pattern)
    version = package[1] if package else software_version(raw.both(command)) if command else None
    active = raw.units[unit].active if version and unit in raw.units else None
    return ServiceFacts(version=version, active=active, package=package[0] if package else None)


def _toolkits(raw: _Raw) -> tuple[ToolkitFacts, ...]:
    found = []
    for item in raw.found.get("toolkits", ()):
        path = item["path"]
        version = software.toolkit_version(item.get("texts", {}), raw.out("nvcc:" + path), path)
        if version is None:
            continue
        if version.count(".") == 1 and (packaged := raw.package("cuda-toolkit-" + version.replace(".", "-"))):
            exact = re.match(r"\d+(\.\d+)+", packaged[1])     # the path alone loses the third part
            version = exact.group(0) if exact and exact.group(0).startswith(version + ".") else version
        found.append(ToolkitFacts(version=version, path=path, source=item.get("source", ""),
                                  default=bool(item.get("default"))))
    return tuple(sorted(found, key=lambda t: (version_key(t.version), t.path)))


def _libraries(raw: _Raw) -> tuple[LibraryFacts, ...]:
    found = [library.model_copy(update={"package": raw.owner(item["path"])})
             for item in raw.found.get("libraries", ()) if (library := software.parse_library(item["path"]))]
    return tuple(sorted(found, key=lambda lib: (lib.name, lib.path)))


def _envs(raw: _Raw) -> tuple[PythonEnvFacts, ...]:
    found = [env for item in raw.document.get("envs", {}).get("envs", ()) if (env := software.parse_env(item))]
    return tuple(sorted(found, key=lambda env: env.path))


def _holds(raw: _Raw) -> tuple[str, ...]:
    locks = [text for path, text in raw.files.items() if "versionlock" in path]
    held = {name for text in locks for name in packages.parse_versionlock(text)} if raw.family == "dnf" else \
        set(packages.parse_holds(raw.out("apt_holds")))
    return tuple(sorted(held))


def _available(raw: _Raw) -> dict[str, tuple[str, ...]] | None:
    name = {"apt": "apt_available", "dnf": "dnf_available"}.get(raw.family, "")
    if not raw.ok(name) or raw.commands[name].get("error"):
        return None
    if raw.family == "dnf":
        return packages.parse_rpm_versions(raw.out(name), raw.machine)
    return packages.parse_madison(raw.out(name), raw.arch)


def _scheduler(raw: _Raw) -> dict[str, str]:
    found = {"slurm": software_version(raw.out("slurmd")), "kubelet": software_version(raw.out("kubelet"))}
    return {name: version for name, version in found.items() if version}


def _problems(raw: _Raw) -> tuple[str, ...]:
    unread = [f"{part}: not read ({reason})" for part, reason in sorted(raw.document.get("problems", {}).items())]
    lost = [f"GPU {g['index']}: {g['error']}" for g in raw.nvml.get("gpus", ()) if g.get("error")]
    cut = ["Python environments: the search was cut short"] if raw.document.get("envs", {}).get("truncated") else []
    return (*raw.problems, *lost, *unread, *cut)


def _sources(raw: _Raw) -> dict[str, str]:
    """Say where the fields came from: command or file."""
    asked = "nvidia-smi --query-gpu" if raw.out("nvidia_smi_query") else "NVML (no GPU)"
    return {
        "os": "/etc/os-release", "kernel.running": "uname -r", "driver.loaded": "/sys/module/nvidia/version",
        "driver.flavour": "/proc/driver/nvidia/version, else modinfo",
        "gpus": "NVML" if smi.parse_nvml(raw.nvml) else asked,
        "kernel.modules_built": "modinfo -k", "toolkits": "version.json, nvcc --version, path",
        "packages": "rpm -qa" if raw.family == "dnf" else "dpkg-query -W",
        "available": "dnf repoquery" if raw.family == "dnf" else "apt-cache madison",
        "holds": "dnf versionlock files" if raw.family == "dnf" else "apt-mark showhold",
    }


def _identity(raw: _Raw) -> Identity:
    machine_id = raw.files.get("/etc/machine-id", "").strip()
    serials = [str(g["serial"]) for g in raw.nvml.get("gpus", ()) if g.get("serial")]
    serial = raw.files.get("/sys/class/dmi/id/product_serial", "").strip()
    plain = [serial] if re.search(r"\d", serial) else []      # firmware without one says "None" or "To be filled"
    return Identity(
        machine_id=machine_id if re.fullmatch(r"[0-9a-f]{32}", machine_id) else None,
        boot_id=raw.files.get("/proc/sys/kernel/random/boot_id", "").strip() or None,
        serials=tuple(sorted({*plain, *serials})),
        gpu_uuids=tuple(g["uuid"] for g in raw.nvml.get("gpus", ()) if g.get("uuid")),
    )
