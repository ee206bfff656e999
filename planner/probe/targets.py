"""What of a node's GPUs is proved: whole GPUs, and each MIG device of those that have MIG on.

CUDA shows one MIG device to a process, so that each is a target of its own: named by its UUID, measured in a child of
its own, in sizes that its part of the memory can hold.
"""

from __future__ import annotations

from typing import Any

from .observe_run import read_text

GRAIN_BYTES = 1 << 16       # sizes are cut to it: whole blocks of every kernel
# Part of a MIG device's memory that a measurement may ask for; a copy has two buffers.
PARTS = {"memory": (3, 4), "device_copy": (3, 8), "host_copy": (3, 4)}
# Sisters copy to the host over one link at the same time: what one gets of it says nothing of the GPU.
SHARED = {"h2d_gbps": "h2d_shared_gbps", "d2h_gbps": "d2h_shared_gbps"}
# Compute instances of one GPU instance share its memory, too.
SHARED_MEMORY = {"d2d_gbps": "d2d_shared_gbps", "copy_kernel_gbps": "copy_kernel_shared_gbps"}
NO_PEERS = "MIG devices reach no other GPU: CUDA shows one of them to a process"
NO_LOAD = "a load fills whole GPUs: sisters of a MIG device share power and clocks"


def is_mig(uuid: str) -> bool:
    """Say whether a UUID is one of a MIG device."""
    return uuid.startswith("MIG-")


def targets(gpus: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is to be proved, in NVML's order: ``index``, ``name``, ``nvml_uuid`` each.

    Args:
        gpus: As ``planner.probe.state`` tells them.

    Returns:
        ``error``, ``busy`` or ``unsuited`` say why no kernel may start on one. A MIG device has the index
        ``GPU.NUMBER``, and in ``parent`` (``index``, ``uuid``) and ``mig`` (``profile``, ``gpu_instance``,
        ``compute_instance``, placement ``start`` and ``size``, ``multiprocessors``, ``memory_bytes``; None where NVML
        does not tell; ``sharers``: devices with the same memory) where it lies: its UUID goes with the instance, its
        place stays when it is made again.
    """
    found: list[dict[str, Any]] = []
    for gpu in gpus:
        found += _devices(gpu) if gpu.get("mig") and not gpu.get("error") else [_whole(gpu)]
    return found


def _whole(gpu: dict[str, Any]) -> dict[str, Any]:
    seen = {"index": gpu["index"], "name": gpu.get("name", ""), "nvml_uuid": gpu.get("uuid", "")}
    if gpu.get("error"):
        return dict(seen, error="NVML: %s" % gpu["error"], nvml_code=gpu.get("error_code"))
    return dict(seen, busy=_users(gpu["processes"])) if gpu.get("processes") else seen


def _devices(gpu: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the MIG devices of a GPU; the GPU itself, as unsuited, where it has none."""
    devices = gpu.get("mig_devices") or []
    if not devices:
        words = "MIG is on and has no instance: there is nothing to prove here"
        if gpu.get("mig_layout"):
            words = "MIG is on and none of its GPU instances has a compute instance: nothing can run here"
        return [dict(_whole(gpu), unsuited=words)]
    placed = {pid for device in devices for pid in device.get("processes") or ()}
    # Of these NVML does not say on which device they are: it may be any.
    anywhere = [pid for pid in gpu.get("processes") or () if pid not in placed]
    found = []
    for device in devices:
        seen = {"index": "%s.%s" % (gpu["index"], device["index"]), "name": device.get("name") or gpu.get("name", ""),
                "nvml_uuid": device.get("uuid", ""), "parent": {"index": gpu["index"], "uuid": gpu.get("uuid", "")},
                "mig": _place(gpu, device)}
        pids = sorted({*(device.get("processes") or ()), *anywhere})
        if device.get("error") or not device.get("uuid"):
            seen.update(error="NVML: %s" % (device.get("error") or "it tells no UUID of this MIG device"),
                        nvml_code=device.get("error_code"))
        elif pids:
            seen["busy"] = _users(pids)
        found.append(seen)
    return found


def _place(gpu: dict[str, Any], device: dict[str, Any]) -> dict[str, Any]:
    """Return shape and place of a MIG device."""
    number, known = device.get("gpu_instance"), device.get("attributes") or {}
    lies: dict[str, Any] = next((each for each in gpu.get("mig_layout") or () if number is not None
                 and each.get("gpu_instance") == number), {})
    words = str(device.get("name", "")).split(" MIG ")[-1].split() if " MIG " in str(device.get("name", "")) else []
    return {"profile": words[0] if words else None, "gpu_instance": number,
            "compute_instance": device.get("compute_instance"), "start": lies.get("start"), "size": lies.get("size"),
            "multiprocessors": known.get("multiprocessors"), "sharers": max(1, sum(
                number is not None and each.get("gpu_instance") == number for each in gpu["mig_devices"])),
            "memory_bytes": (device.get("memory") or {}).get("total_bytes")}


def _users(pids: list[int]) -> str:
    return ", ".join("pid %d (%s)" % (pid, (read_text("/proc/%d/comm" % pid) or "not visible here").strip())
                     for pid in pids)


def room_bytes(free_bytes: int, total_bytes: int, sharers: int) -> int:
    """Return the memory of a MIG device that it may count on while as many sisters use the same."""
    return min(free_bytes, total_bytes // sharers)


def fitted(sizes: dict[str, dict[str, int]], room: int) -> dict[str, dict[str, int]]:
    """Return sizes that a MIG device with so much room can hold, in bytes; ``planner.gates.asked`` has the same."""
    found = dict(sizes)
    for name, (part, whole) in PARTS.items():
        if name in sizes:
            most = room * part // whole // GRAIN_BYTES * GRAIN_BYTES
            found[name] = dict(sizes[name], bytes=max(GRAIN_BYTES, min(sizes[name]["bytes"], most)))
    return found


def call_shared(results: list[dict[str, Any]], sharers: int) -> None:
    """Rename the samples of what a MIG device shares with its sisters, so that nobody compares them."""
    names = dict(SHARED, **(SHARED_MEMORY if sharers > 1 else {}))
    for result in results:
        result["samples"] = {names.get(key, key): values for key, values in result["samples"].items()}
