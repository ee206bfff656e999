"""The node side of facts: raw output of commands and files in one document. Nothing is interpreted here."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any, Callable, Sequence

from .observe_doctor import observe_access
from .observe_files import observe_envs, observe_files, observe_toolkits
from .observe_nvml import read_nvml
from .observe_packages import observe_packages
from .observe_run import bounded, run_command

SCHEMA = "planner.probe-facts/1"
NVML_SECONDS = 60.0
SEARCH_SECONDS = 30.0

UNITS = (
    "nvidia-fabricmanager.service", "nvidia-imex.service", "nvidia-persistenced.service",
    "nvidia-dcgm.service", "nvlsm.service", "slurmd.service", "slurmctld.service", "kubelet.service",
    "docker.service", "containerd.service", "unattended-upgrades.service", "apt-daily-upgrade.timer",
    "dnf-automatic.timer", "dnf-automatic-install.timer", "dnf5-automatic.timer", "packagekit.service",
)

# name -> (argument vector, seconds). Only commands that print and change nothing.
COMMANDS: dict[str, tuple[Sequence[str], float]] = {
    "uname": (("uname", "-srm"), 10),
    "glibc": (("getconf", "GNU_LIBC_VERSION"), 10),
    "virtualisation": (("systemd-detect-virt",), 10),
    "secure_boot": (("mokutil", "--sb-state"), 10),
    "modinfo": (("modinfo", "nvidia"), 20),
    "grubby_default": (("grubby", "--default-kernel"), 20),
    "grub_env": (("grub-editenv", "list"), 10),
    "grub2_env": (("grub2-editenv", "list"), 10),
    "units": (("systemctl", "show", "-p", "Id,LoadState,ActiveState,UnitFileState", *UNITS), 20),
    "apt_periodic": (("apt-config", "dump", "APT::Periodic"), 10),
    "docker": (("docker", "--version"), 20),
    "containerd": (("containerd", "--version"), 20),
    "podman": (("podman", "--version"), 20),
    "apptainer": (("apptainer", "--version"), 20),
    "singularity": (("singularity", "--version"), 20),
    "enroot": (("enroot", "version"), 20),
    "nvidia_ctk": (("nvidia-ctk", "--version"), 20),
    "slurmd": (("slurmd", "-V"), 20),
    "kubelet": (("kubelet", "--version"), 20),
}
SMI_QUERY = "index,name,driver_version,memory.total,mig.mode.current,vbios_version"


def observe(request: dict[str, Any]) -> dict[str, Any]:
    """Return the raw document of this node.

    Args:
        request: ``packages`` (globs of package names whose versions are wanted) and ``access`` (true: also look at
            disk space and repositories). Unknown keys are ignored.

    Returns:
        ``{"schema": "planner.probe-facts/1", "commands", "files", "nvml", …}``. A part that could not be read is
        empty and has its reason under ``problems``; no part stops another.
    """
    started = time.time()
    commands: dict[str, Any] = {}
    problems: dict[str, str] = {}

    def part(name: str, function: Callable[[], Any], seconds: float, fallback: Any) -> Any:
        value, reason = bounded(function, seconds, fallback)
        if reason:
            problems[name] = reason
        return value

    disk = part("files", observe_files, SEARCH_SECONDS, {})
    nvml = part("nvml", read_nvml, NVML_SECONDS, {"available": False, "gpus": []})
    if "nvml" in problems:
        nvml["error"] = "NVML did not answer: " + problems["nvml"]
    found = part("toolkits", observe_toolkits, SEARCH_SECONDS, {})
    envs = part("python_envs", observe_envs, SEARCH_SECONDS, {"envs": [], "truncated": True})
    for name, (argv, seconds) in COMMANDS.items():
        commands[name] = run_command(list(argv), seconds)
    _modules(disk.get("kernels", {}), commands)
    _toolkit_versions(found.get("toolkits", []), commands)
    if not nvml.get("gpus"):
        _smi(commands)
    files = disk.pop("files", {})
    globs = [g for g in request.get("packages", ()) if isinstance(g, str)]
    paths = [lib["path"] for lib in found.get("libraries", [])]
    for kernel in disk.get("kernels", {}).values():
        paths += kernel["modules"]
    observe_packages(globs, commands, files, paths)
    _companions(commands, disk.get("present", []))
    document = {
        "schema": SCHEMA,
        "probe": {"python": platform.python_version(), "executable": sys.executable, "uid": os.getuid()},
        "observed_at": _utc(started),
        "machine": platform.machine(),
        "commands": commands, "files": files, "nvml": nvml, "disk": disk, "found": found, "envs": envs,
        "problems": problems,
    }
    if request.get("access"):
        document["access"] = observe_access(commands)
    document["clock"] = time.time()
    document["seconds"] = round(time.time() - started, 3)
    return document


def _utc(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _modules(kernels: dict[str, Any], commands: dict[str, Any]) -> None:
    """Ask for the module of each kernel that has one: what will boot matters more than what runs."""
    for release in sorted(kernels):
        if kernels[release]["modules"]:
            commands["modinfo_version:" + release] = run_command(["modinfo", "-k", release, "-F", "version", "nvidia"])
            commands["modinfo_license:" + release] = run_command(["modinfo", "-k", release, "-F", "license", "nvidia"])


def _toolkit_versions(toolkits: list[dict[str, Any]], commands: dict[str, Any]) -> None:
    """Ask the compiler only where no version file tells."""
    for toolkit in toolkits:
        if toolkit.get("nvcc") and not toolkit.get("texts"):
            commands["nvcc:" + toolkit["path"]] = run_command([toolkit["nvcc"], "--version"], 20)
    commands["nvcc_on_path"] = run_command(["nvcc", "--version"], 20)


def _smi(commands: dict[str, Any]) -> None:
    """Second source where NVML gave no GPU: the text says why, and on WSL it may be all there is."""
    commands["nvidia_smi"] = run_command(["nvidia-smi"], 40)
    if commands["nvidia_smi"]["rc"] == 0:
        query = ["nvidia-smi", "--query-gpu=" + SMI_QUERY, "--format=csv,noheader"]
        commands["nvidia_smi_query"] = run_command(query, 40)


def _companions(commands: dict[str, Any], present: list[str]) -> None:
    """Ask a companion daemon's program for its version only where no package database knows it."""
    packages = commands.get("dpkg_packages", {}).get("stdout", "") + commands.get("rpm_packages", {}).get("stdout", "")
    for name, path, words in (("fabric_manager", "/usr/bin/nv-fabricmanager", ("fabricmanager", "fabric-manager")),
                              ("imex", "/usr/bin/nvidia-imex", ("imex",))):
        if path in present and not any(word in packages for word in words):
            commands[name] = run_command([path, "--version"], 10)
