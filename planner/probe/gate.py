"""The node side of the gate: what runs here, and one kernel on every GPU. It observes; the controller judges."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import time
from typing import Any

from .observe_run import bounded, read_text, run_command

SCHEMA = "planner.gate/1"
SIZES = {"quick": (1024, 64), "full": (4096, 64)}     # threads, rounds; the judge has the same table
NVML_SECONDS = 60.0
KERNEL_SECONDS = 120.0      # the first context after a boot takes many seconds without a persistence daemon
UNIT = "nvidia-fabricmanager.service"
PCI = "/sys/bus/pci/devices"


def run_gate(request: dict[str, Any]) -> dict[str, Any]:
    """Return the gate report ``planner.gate/1``.

    Args:
        request: ``profile`` (quick | full), ``nonce`` (fresh for each run), ``host`` (name that enters the seeds).

    Returns:
        Versions found, what NVML says, and for each GPU the kernel's whole output or why there is none. Never raises
        because something is missing or hangs.
    """
    profile = str(request.get("profile", "quick"))
    if profile not in SIZES:
        raise SystemExit("probe: unknown profile %r; known: %s" % (profile, ", ".join(sorted(SIZES))))
    started = time.time()
    nonce, host = str(request.get("nonce", "")), str(request.get("host", ""))
    nvml, reason = bounded(read_state, NVML_SECONDS, {"gpus": []})
    if reason:
        nvml["error"] = "it did not answer: %s" % reason
    gpus: list[dict[str, Any]] = []
    hung = bool(reason)
    for gpu in nvml["gpus"]:
        if hung:
            gpus.append({"index": gpu["index"], "error": "not tried: the driver hangs"})
            continue
        gpus.append(_prove(gpu, nonce, host, *SIZES[profile]))
        hung = "hung" in gpus[-1].get("error", "")
    return {
        "schema": SCHEMA, "profile": profile, "nonce": nonce, "host": host, "nvml": nvml, "gpus": gpus,
        "pci_gpus": _pci_gpus(), "versions": _versions(nvml, gpus), "kernel": platform.release(),
        "boot_id": (read_text("/proc/sys/kernel/random/boot_id") or "").strip(), "python": platform.python_version(),
        "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
    }


def _prove(gpu: dict[str, Any], nonce: str, host: str, count: int, rounds: int) -> dict[str, Any]:
    """Run the kernel on one GPU unless somebody else uses it."""
    seen = {"index": gpu["index"], "name": gpu.get("name", ""), "nvml_uuid": gpu.get("uuid", "")}
    if gpu.get("error"):
        return dict(seen, error="NVML: %s" % gpu["error"])
    if gpu.get("processes"):
        held = ["pid %d (%s)" % (pid, _command(pid)) for pid in gpu["processes"]]
        return dict(seen, busy=", ".join(held))
    if gpu.get("mig"):
        return dict(seen, unsuited="MIG is on; this gate proves whole GPUs only")
    text = "%s:%s:%s" % (nonce, host, gpu["index"])
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")

    def child() -> dict[str, Any]:
        from .cuda import CudaError, run_kernel  # the parent never loads the driver's library

        try:
            return run_kernel(gpu["uuid"], seed, count, rounds)
        except CudaError as exc:
            return {"error": str(exc)}

    result, reason = bounded(child, KERNEL_SECONDS, {})
    if reason:
        return dict(seen, error="the kernel %s" % {
            "timeout": "hung: no result after %d s" % KERNEL_SECONDS}.get(reason, reason))
    return dict(seen, **result)


def read_state() -> dict[str, Any]:
    """Return driver version and GPUs by NVML, and who uses each. Never raises because a call is missing."""
    try:
        import pynvml
    except Exception as exc:
        return {"error": "pynvml cannot be imported: %s" % exc, "gpus": []}
    answer: dict[str, Any] = {"gpus": []}
    try:
        pynvml.nvmlInit()
        answer["driver"] = _text(pynvml.nvmlSystemGetDriverVersion())
        count = pynvml.nvmlDeviceGetCount()
    except Exception as exc:
        answer["error"] = str(exc)
        return answer
    for index in range(count):
        gpu: dict[str, Any] = {"index": index}
        answer["gpus"].append(gpu)
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            gpu["name"] = _text(pynvml.nvmlDeviceGetName(handle))
            gpu["uuid"] = _text(pynvml.nvmlDeviceGetUUID(handle))
            gpu["processes"] = sorted(p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        except Exception as exc:
            gpu["error"] = str(exc)
        try:
            gpu["mig"] = pynvml.nvmlDeviceGetMigMode(handle)[0] == 1
        except Exception:
            gpu["mig"] = False      # a GPU, or a driver, that knows no MIG
    return answer


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _command(pid: int) -> str:
    return (read_text("/proc/%d/comm" % pid) or "not visible here").strip()


def _versions(nvml: dict[str, Any], gpus: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"loaded": _loaded(), "nvml": nvml.get("driver"), "libcuda": None, "cuda": None}
    for gpu in gpus:
        found["libcuda"] = found["libcuda"] or gpu.get("libcuda")
        found["cuda"] = found["cuda"] or gpu.get("cuda")
    return dict(found, **_fabric_manager())


def _loaded() -> str | None:
    """Return the loaded module's version; not every build of the module tells it under /sys."""
    told = (read_text("/sys/module/nvidia/version") or "").strip()
    words = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", read_text("/proc/driver/nvidia/version") or "")
    return told or (words.group(1) if words else None)


def _fabric_manager() -> dict[str, Any]:
    """Return the fabric manager's version by its own word, and whether its unit runs; both None where there is none."""
    program = "/usr/bin/nv-fabricmanager"
    if not os.path.exists(program):
        return {"fabric_manager": None, "fabric_manager_active": None}
    words = run_command([program, "--version"], 10)["stdout"].split()
    versions = [word for word in words if word[:1].isdigit() and "." in word]
    state = run_command(["systemctl", "is-active", UNIT], 10)["stdout"].strip()
    return {"fabric_manager": versions[0] if versions else None,
            "fabric_manager_active": state == "active" if state else None}


def _pci_gpus() -> int | None:
    """Return how many NVIDIA display controllers the bus shows, or None where the bus cannot be read."""
    try:
        devices = os.listdir(PCI)
    except OSError:
        return None
    found = 0
    for device in devices:
        vendor = (read_text("%s/%s/vendor" % (PCI, device)) or "").strip()
        kind = (read_text("%s/%s/class" % (PCI, device)) or "").strip()
        found += vendor == "0x10de" and kind.startswith("0x03")
    return found
