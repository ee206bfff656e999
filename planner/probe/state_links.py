"""NVLinks, the fabric and MIG as NVML shows them."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from .node import text_of

if TYPE_CHECKING:
    from .state import Asker

LINKS_MAX = 36
MISSES_MAX = 4          # so many links in a row without an answer end the row
# NVML_FI_DEV_NVLINK_ERROR_DL_*, scope: the link. NVML_NVLINK_ERROR_DL_* are their elder brothers, one call each.
LINK_FIELDS = (("replay", 161), ("recovery", 162), ("crc", 163))
LINK_COUNTERS = (("replay", 0), ("recovery", 1), ("crc", 2), ("crc_data", 3))
MIG_PROFILES = 0x12


def read_links(ask: Asker) -> None:
    """Put ``nvlinks``: for each link ``active`` and its error counters; nothing where the GPU has no NVLink."""
    links: list[dict[str, Any]] = []
    misses = 0
    for number in range(LINKS_MAX):
        state = ask.call("nvmlDeviceGetNvLinkState", number)
        if state is None:
            misses += 1
            if misses >= MISSES_MAX or not links:
                break
            continue
        misses = 0
        links.append({"link": number, "active": bool(state)})
    active = [link for link in links if link["active"]]
    if active:
        from .state import field_values

        values = field_values(ask, [(field, link["link"]) for link in active for _, field in LINK_FIELDS])
        for place, link in enumerate(active):
            told = values[place * len(LINK_FIELDS):(place + 1) * len(LINK_FIELDS)]
            link["errors"] = {name: value for (name, _), value in zip(LINK_FIELDS, told) if value is not None}
            if not link["errors"]:
                for name, counter in LINK_COUNTERS:
                    ask.put(link["errors"], name, "nvmlDeviceGetNvLinkErrorCounter", link["link"], counter, turn=int)
    if links:
        ask.gpu["nvlinks"] = links


def read_fabric(ask: Asker) -> None:
    """Put ``fabric``: state (0 not supported, 1 not started, 2 in progress, 3 completed), status, health, clique."""
    nvml = ask.nvml
    for kind, call in (("c_nvmlGpuFabricInfo_v3_t", "nvmlDeviceGetGpuFabricInfoV"),
                       ("c_nvmlGpuFabricInfo_v2_t", "nvmlDeviceGetGpuFabricInfoV"),
                       ("c_nvmlGpuFabricInfo_t", "nvmlDeviceGetGpuFabricInfo")):
        if not hasattr(nvml, kind) or not hasattr(nvml, call):
            continue
        info = getattr(nvml, kind)()
        if ask.call(call, ctypes.byref(info)) is None:
            continue
        fabric: dict[str, Any] = {"state": int(info.state), "status": int(info.status), "clique": int(info.cliqueId),
                                  "cluster": bytes(info.clusterUuid).hex()}
        for key, name in (("health_mask", "healthMask"), ("health_summary", "healthSummary")):
            if hasattr(info, name):
                fabric[key] = int(getattr(info, name))
        ask.gpu["fabric"] = fabric
        return


def read_mig(ask: Asker) -> None:
    """Put ``mig_devices``, and ``mig_layout`` where this user may see it; nothing where MIG is off."""
    if not ask.gpu.get("mig"):
        return
    nvml, devices = ask.nvml, []
    for number in range(int(ask.call("nvmlDeviceGetMaxMigDeviceCount") or 0)):
        handle = ask.call("nvmlDeviceGetMigDeviceHandleByIndex", number)
        if handle is None:
            continue
        device: dict[str, Any] = {"index": number}
        inner = type(ask)(nvml, handle, device)
        inner.put(device, "uuid", "nvmlDeviceGetUUID", turn=text_of)
        inner.put(device, "name", "nvmlDeviceGetName", turn=text_of)
        inner.put(device, "gpu_instance", "nvmlDeviceGetGpuInstanceId", turn=int)
        inner.put(device, "compute_instance", "nvmlDeviceGetComputeInstanceId", turn=int)
        inner.put(device, "attributes", "nvmlDeviceGetAttributes_v2|nvmlDeviceGetAttributes", turn=_attributes)
        inner.put(device, "memory", "nvmlDeviceGetMemoryInfo",
                  turn=lambda info: {"total_bytes": int(info.total), "used_bytes": int(info.used)})
        name = "nvmlDeviceGetComputeRunningProcesses"       # no key: it does not tell who uses this device alone
        inner.put(device, "processes", "%s|%s_v2" % (name, name),
                  turn=lambda found: sorted({int(process.pid) for process in found}))
        devices.append(device)
    ask.gpu["mig_devices"] = devices
    layout = _instances(ask)
    if layout is not None:
        ask.gpu["mig_layout"] = sorted(layout, key=lambda each: (each["start"], each["size"], each["profile"]))


def _attributes(told: Any) -> dict[str, int]:
    return {"multiprocessors": int(told.multiprocessorCount), "slices": int(told.gpuInstanceSliceCount),
            "compute_slices": int(told.computeInstanceSliceCount), "memory_mib": int(told.memorySizeMB)}


def _instances(ask: Asker) -> list[dict[str, Any]] | None:
    """Return the GPU instances with profile and placement; None where no profile could be asked."""
    kind = getattr(ask.nvml, "c_nvmlGpuInstance_t", None)
    if kind is None:
        return None
    found: list[dict[str, Any]] | None = None
    for profile in range(MIG_PROFILES):
        info = ask.call("nvmlDeviceGetGpuInstanceProfileInfo", profile)
        if info is None:
            info = ask.call("nvmlDeviceGetGpuInstanceProfileInfo", profile, 1)
        if info is None or not int(info.instanceCount):
            continue
        instances, count = (kind * int(info.instanceCount))(), ctypes.c_uint(0)
        if ask.call("nvmlDeviceGetGpuInstances", int(info.id), instances, ctypes.byref(count)) is None:
            continue
        found = [] if found is None else found
        for instance in instances[:count.value]:
            told = ask.nvml.nvmlGpuInstanceGetInfo(instance)
            found.append({"profile": int(told.profileId), "slices": int(info.sliceCount),
                          "memory_bytes": int(info.memorySizeMB) * 1024 * 1024, "start": int(told.placement.start),
                          "size": int(told.placement.size), "gpu_instance": getattr(told, "id", None)})
    return found
