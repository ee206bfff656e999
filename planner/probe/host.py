"""The node without one call to a GPU: versions by files, processes, environment, loader and the kernel's log."""

from __future__ import annotations

import os
import platform
import re
import time
from typing import Any

from .kernel_log import read_kernel_log
from .node import VERSION, Node
from .processes import LOOK_SECONDS, read_processes

UNIT = "nvidia-fabricmanager.service"
MANAGER = "/usr/bin/nv-fabricmanager"
PCI = "/sys/bus/pci/devices"
LIBRARIES = {"libcuda_file": "libcuda.so.1", "libnvidia_ml_file": "libnvidia-ml.so.1"}
LOADER_ARCH = {"x86_64": "x86-64", "aarch64": "AArch64", "ppc64le": "64bit"}
LOADER_DIRS = ("/lib/%s-linux-gnu", "/usr/lib/%s-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
COMPAT = ("/usr/local/cuda*/compat", "/usr/local/cuda*/compat/lib*", "/opt/*/compat", "/usr/lib/wsl/lib")
# What DCGM warns of, and what forges the answer to "can this driver compile".
SUSPECT = ("NSIGHT_CUDA_DEBUGGER", "CUDA_INJECTION32_PATH", "CUDA_INJECTION64_PATH", "CUDA_AUTO_BOOST",
           "CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "CUDA_COREDUMP_FILE", "CUDA_DEVICE_WAITS_ON_EXCEPTION",
           "CUDA_PROFILE", "COMPUTE_PROFILE", "OPENCL_PROFILE")
FORGES = ("CUDA_DISABLE_PTX_JIT",)
SHOWN = ("LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "CUDA_FORCE_PTX_JIT", "CUDA_MPS_PIPE_DIRECTORY")
ENVIRONMENT_FILES = ("/etc/environment", "/etc/profile.d/*", "/etc/security/pam_env.conf")
MODPROBE = ("/etc/modprobe.d/*.conf", "/run/modprobe.d/*.conf", "/lib/modprobe.d/*.conf")
VALUE_MAX = 400


def read_host(request: dict[str, Any], node: Node | None = None) -> dict[str, Any]:
    """Return what the node's files say, ``host_state`` of a gate report.

    Args:
        request: ``since`` (seconds since boot or ISO 8601: where to begin in the kernel's log; None: at boot),
            ``since_boot_id`` (seconds count only in that boot), ``own`` (process whose tree is no stranger),
            ``stuck_look_s`` (how long to look at a task in state D, 31 s; without one nothing waits).
        node: The machine; tests bring another one.

    Returns:
        ``processes``, ``modules``, ``loader``, ``environment``, ``reboot``, ``kernel_log``, ``device_nodes``, ``pci``,
        ``memory_available_bytes``, ``read_at_s`` (seconds since boot). Never raises because something is missing.
    """
    node = node or Node()
    begun = time.monotonic()
    since = request.get("since")
    boot = (node.text("/proc/sys/kernel/random/boot_id") or "").strip()
    if isinstance(since, (int, float)) and request.get("since_boot_id") not in (None, boot):
        since = None        # seconds of another boot; this one lies wholly after it
    own, look = request.get("own"), request.get("stuck_look_s", LOOK_SECONDS)
    available = re.search(r"MemAvailable:\s*(\d+) kB", node.text("/proc/meminfo") or "")
    return {
        "processes": read_processes(node, own if isinstance(own, int) else None,
                                    float(look) if isinstance(look, (int, float)) else LOOK_SECONDS),
        "modules": _modules(node), "loader": _loader(node), "environment": _environment(node),
        "reboot": _reboot(node), "kernel_log": read_kernel_log(since, node), "pci": _pci(node),
        "device_nodes": [name for name in node.names("/dev") if re.match(r"nvidia(\d+|ctl|-uvm)$", name)],
        "memory_available_bytes": int(available.group(1)) * 1024 if available else None,
        "read_at_s": round(begun, 3), "seconds": round(time.monotonic() - begun, 3),
    }


def read_versions(nvml: dict[str, Any], gpus: list[dict[str, Any]], node: Node | None = None) -> dict[str, Any]:
    """Return every version of the driver that can be told apart.

    Args:
        nvml: What ``read_state`` gave; its ``driver``.
        gpus: What the kernels' children gave; the first ``libcuda`` and ``cuda`` in them or their ``processes`` count.
        node: The machine.

    Returns:
        ``loaded`` and ``flavour`` (open | proprietary) of the module that runs, ``on_disk`` and ``on_disk_flavour`` of
        the one for the running kernel, ``nvml``, ``libcuda``, ``cuda``, ``libcuda_file`` and ``libnvidia_ml_file`` (of
        the file that the loader finds first), ``modprobe`` (options and deny-lists that name the modules),
        ``fabric_manager``, ``fabric_manager_active``. None where nothing is to be found.
    """
    node = node or Node()
    text = node.text("/proc/driver/nvidia/version") or ""
    told = (node.text("/sys/module/nvidia/version") or "").strip()
    words = VERSION.search(text)
    found: dict[str, Any] = {
        "loaded": told or (words.group(1) if words else None),
        "flavour": None if not text else "open" if "Open Kernel Module" in text else "proprietary",
        "nvml": nvml.get("driver"), "libcuda": None, "cuda": None, "modprobe": _modprobe(node)}
    found.update(_on_disk(node))
    for gpu in gpus:
        for told_by in [gpu, *[each for each in gpu.get("processes") or [] if isinstance(each, dict)]]:
            found["libcuda"] = found["libcuda"] or told_by.get("libcuda")
            found["cuda"] = found["cuda"] or told_by.get("cuda")
    loader = _loader(node)
    for key in LIBRARIES:
        copies = loader[key]
        found[key] = copies[0]["version"] if copies else None
    return dict(found, **fabric_manager(node))


def fabric_manager(node: Node | None = None) -> dict[str, Any]:
    """Return the fabric manager's version by its own word, and whether its unit runs; both None where there is none."""
    node = node or Node()
    if not node.exists(MANAGER):
        return {"fabric_manager": None, "fabric_manager_active": None}
    words = node.run([MANAGER, "--version"], 10)["stdout"].split()
    versions = [word for word in words if word[:1].isdigit() and "." in word]
    state = node.run(["systemctl", "is-active", UNIT], 10)["stdout"].strip()
    return {"fabric_manager": versions[0] if versions else None,
            "fabric_manager_active": state == "active" if state else None}


def pci_gpus(node: Node | None = None) -> int | None:
    """Return how many NVIDIA display controllers the bus shows, or None where the bus cannot be read."""
    found = _pci(node or Node())
    return None if found is None else len(found)


def _pci(node: Node) -> list[str] | None:
    """Return the bus ids of NVIDIA's display controllers."""
    try:
        devices = sorted(os.listdir(node.path(PCI)))
    except OSError:
        return None
    return [device for device in devices
            if (node.text("%s/%s/vendor" % (PCI, device)) or "").strip() == "0x10de"
            and (node.text("%s/%s/class" % (PCI, device)) or "").strip().startswith("0x03")]


def _on_disk(node: Node) -> dict[str, Any]:
    answer = node.run(["modinfo", "-k", node.release(), "nvidia"], 10.0)
    version = re.search(r"^version:\s*(\S+)", answer["stdout"], re.M)
    licence = re.search(r"^license:\s*(.+)$", answer["stdout"], re.M)
    return {"on_disk": version.group(1) if version else None,
            "on_disk_flavour": None if not licence else "proprietary" if licence.group(1).strip() == "NVIDIA"
            else "open"}


def _modules(node: Node) -> dict[str, Any]:
    version = (node.text("/sys/module/nvidia/version") or "").strip()
    return {"nvidia": node.exists("/sys/module/nvidia") or node.exists("/proc/driver/nvidia/version"),
            "nvidia_uvm": node.exists("/sys/module/nvidia_uvm"), "uvm_node": node.exists("/dev/nvidia-uvm"),
            "nouveau": node.exists("/sys/module/nouveau"),
            "sysfs": bool(node.names("/sys/module")),
            "gsp_firmware": node.names("/lib/firmware/nvidia/%s" % version) if version else []}


def _modprobe(node: Node) -> list[str]:
    lines = set()
    for pattern in MODPROBE:
        for path in node.glob(pattern):
            for line in (node.text(path) or "").splitlines():
                if re.match(r"\s*(options|blacklist|install)\s+(nvidia|nouveau)", line):
                    lines.add(" ".join(line.split()))
    return sorted(lines)


def _loader(node: Node) -> dict[str, Any]:
    """Return where the loader finds each library, the first first, and further copies that a path could bring in."""
    cached = node.run(["ldconfig", "-p"], 10.0)["stdout"]
    machine = platform.machine()
    found: dict[str, Any] = {}
    for key, name in LIBRARIES.items():
        places = [("LD_LIBRARY_PATH", "%s/%s" % (folder.rstrip("/"), name))
                  for folder in re.split("[:;]", node.environment.get("LD_LIBRARY_PATH", "")) if folder[:1] == "/"]
        for arch, path in re.findall(r"^\s*%s \(([^)]*)\) => (\S+)" % re.escape(name), cached, re.M):
            if LOADER_ARCH.get(machine, "") in arch:
                places.append(("ldconfig", path))
        places += [("default", "%s/%s" % (folder % machine if "%" in folder else folder, name))
                   for folder in LOADER_DIRS]
        places += [("compat", "%s/%s" % (folder, name)) for pattern in COMPAT for folder in node.glob(pattern)]
        found[key] = _copies(node, places, name)
    return found


def _copies(node: Node, places: list[tuple[str, str]], name: str) -> list[dict[str, Any]]:
    copies: dict[str, dict[str, Any]] = {}
    for how, path in places:
        if not node.exists(path):
            continue
        real = node.real(path)
        version = VERSION.search(os.path.basename(real)[len(name) - 1:])
        kind = "compat" if "/compat" in path or "/compat" in real else "stub" if "/stubs" in path else "driver"
        copies.setdefault(real, {"path": path, "real": real, "how": how, "kind": kind,
                                 "version": version.group(1) if version else None})
    found = list(copies.values())
    # A compat folder that no path of the loader names is found last and is no first choice.
    return [each for each in found if each["how"] != "compat"] + [each for each in found if each["how"] == "compat"]


def _environment(node: Node) -> dict[str, Any]:
    """Return variables that matter here, and lines of files that set suspect ones for everybody who logs in."""
    wanted = (*SUSPECT, *FORGES)
    have = {name: node.environment[name][:VALUE_MAX] for name in (*wanted, *SHOWN) if node.environment.get(name)}
    files = []
    for pattern in ENVIRONMENT_FILES:
        for path in node.glob(pattern):
            for line in (node.text(path) or "").splitlines():
                words = re.match(r"\s*(?:export\s+)?([A-Z0-9_]+)\s*=\s*(\S+)", line)
                if words and (words.group(1) in wanted or words.group(1) == "LD_PRELOAD"):
                    files.append({"path": path, "name": words.group(1), "value": words.group(2)[:VALUE_MAX]})
    return {"variables": have, "files": files, "preload": (node.text("/etc/ld.so.preload") or "").split(),
            "other_names": sorted(name for name in node.environment
                                  if name.startswith(("CUDA_", "NVIDIA_")) and name not in have)}


def _reboot(node: Node) -> dict[str, Any]:
    """Return whether a reboot waits: the distribution's own mark, and newer kernels that have a module."""
    running = node.release()
    kernels = [name for name in node.names("/lib/modules")
               if any(node.glob("/lib/modules/%s/%s/nvidia.ko*" % (name, folder))
                      for folder in ("updates/dkms", "updates", "extra", "extra/nvidia", "kernel/drivers/video",
                                     "kernel/drivers/video/nvidia", "kernel/nvidia-*", "weak-updates/nvidia", "misc"))]
    newest = max(kernels, key=_by_numbers) if kernels else None
    return {"running": running, "newest_with_module": newest,
            "newer": newest is not None and _by_numbers(newest) > _by_numbers(running),
            "required": node.exists("/run/reboot-required") or node.exists("/var/run/reboot-required"),
            "packages": sorted(set((node.text("/run/reboot-required.pkgs") or "").split()))}


def _by_numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)]
