"""MIG devices in gate reports: which must have been tried, what they are compared with. Pure, standard library only.

CUDA shows one MIG device to a process: each is an entry of ``gpus`` like a GPU, and says in ``parent`` and ``mig``
where it lies. Its UUID goes with the instance; one that was made again is known by its GPU, its shape and its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .node_findings import as_list, as_map, as_maps, as_number, as_text, gpus_of

TOO_FEW = "MIG devices reach no other GPU, and fewer than two whole GPUs could be used"
UUID_SINCE = (11, 4)        # versions of CUDA whose driver tells the UUID of a MIG device

Report = Mapping[str, Any]


def is_mig(gpu: Report) -> bool:
    """Say whether an entry of ``gpus`` is a MIG device."""
    return isinstance(gpu.get("parent"), Mapping)


def wanted(report: Report) -> dict[str, str]:
    """Return index -> UUID ("" of whole GPUs) of all that NVML lists: what must have been tried, each once.

    A GPU with MIG on stands for itself where the report says why nothing ran on it; that is never a pass.
    """
    tried = {str(gpu.get("index")) for gpu in as_maps(report.get("gpus"))}
    found: dict[str, str] = {}
    for gpu in as_maps(as_map(report.get("nvml")).get("gpus")):
        number, devices = str(gpu.get("index")), as_maps(gpu.get("mig_devices"))
        if gpu.get("mig") is not True or gpu.get("error") or number in tried or not devices:
            found[number] = ""
            continue
        found.update({f"{number}.{device.get('index')}": as_text(device.get("uuid")) for device in devices})
    return found


def sharers_listed(report: Report, gpu: Report) -> int:
    """Return how many MIG devices NVML lists that have the memory of this one."""
    own = as_map(gpu.get("mig")).get("gpu_instance")
    devices = as_maps(as_map(gpus_of(report).get(_parent(gpu))).get("mig_devices"))
    return max(1, len([device for device in devices if own is not None and device.get("gpu_instance") == own]))


def same_device(gpu: Report) -> bool:
    """Say whether the driver's UUID is that which NVML told; a driver before CUDA 11.4 knows only the GPU's own."""
    if gpu["uuid"] == gpu.get("nvml_uuid"):
        return True
    parent = as_text(as_map(gpu.get("parent")).get("uuid"))
    return bool(parent) and gpu["uuid"] == parent and all(
        _version(process.get("cuda")) < UUID_SINCE for process in as_maps(gpu.get("processes")))


def _version(text: object) -> tuple[int, ...]:
    parts = as_text(text).split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else UUID_SINCE


def sharers(gpu: Report) -> int:
    """Return how many MIG devices have the same memory, this one included: compute instances of one GPU instance."""
    told = as_number(as_map(gpu.get("mig")).get("sharers"))
    return max(1, int(told)) if told else 1


def room_bytes(gpu: Report, process: Report) -> int:
    """Return the memory that a MIG device could count on: what was free, at most its own part where it has sharers.

    Raises:
        ValueError: The process does not tell it.
    """
    free, total = (as_number(as_map(process.get("memory_bytes")).get(key)) for key in ("free_before", "total"))
    if free is None or total is None or min(free, total) < 0:
        raise ValueError("it does not tell how much memory was free")
    return min(int(free), int(total) // sharers(gpu))


def short_of_memory(gpu: Report, process: Report) -> str:
    """Return why a test of what was free proves too little: less than half of the device's memory; "" where enough."""
    told = as_number(as_map(gpu.get("mig")).get("memory_bytes"))
    total = (told or as_number(as_map(process.get("memory_bytes")).get("total")) or 0) / sharers(gpu)
    room = room_bytes(gpu, process)
    return f"{room} of {total:.0f} bytes were free: less than half could be tested" if 2 * room < total else ""


def usable(report: Report) -> list[Report]:
    """Return the entries on which a kernel could start."""
    return [gpu for gpu in as_maps(report.get("gpus")) if not {"error", "busy", "unsuited"} & set(gpu)]


def too_few_whole(report: Report) -> bool:
    """Say whether there are MIG devices and fewer than two whole GPUs that could be used."""
    return any(is_mig(gpu) for gpu in as_maps(report.get("gpus"))) and sum(
        not is_mig(gpu) for gpu in usable(report)) < 2


def whole_only(report: Report) -> Report:
    """Return the report without MIG devices, for what works between GPUs."""
    return {**report, "gpus": [gpu for gpu in as_maps(report.get("gpus")) if not is_mig(gpu)]}


def devices_listed(report: Report) -> Report:
    """Return the report with NVML's list as programs see it: MIG devices in the place of their GPUs."""
    nvml = as_map(report.get("nvml"))
    listed = [device for gpu in as_maps(nvml.get("gpus"))
              for device in (as_maps(gpu.get("mig_devices")) if gpu.get("mig") is True else []) or [gpu]]
    return {**report, "nvml": {**nvml, "gpus": listed}}


def was_empty(gpu: Report, before: Report | None) -> bool:
    """Say whether a GPU had MIG on and no instance before the change, too: nothing was taken from anybody."""
    was = gpus_of(before or {}).get(as_text(gpu.get("nvml_uuid")), {})
    return bool(gpu.get("unsuited")) and was.get("mig") is True and was.get("mig_devices") == []


# --- what NVML tells of a GPU with MIG on


def users(gpu: Report) -> list[int]:
    """Return the processes on a GPU and on its MIG devices, each once."""
    return sorted({pid for each in (gpu, *as_maps(gpu.get("mig_devices"))) for pid in as_list(each.get("processes"))
                   if isinstance(pid, int)})


def users_unread(gpu: Report) -> bool:
    """Say whether NVML does not tell who uses a GPU: neither as a whole nor each of its MIG devices."""
    devices = as_maps(gpu.get("mig_devices"))
    return bool(gpu.get("processes_unread")) and not (devices and all("processes" in each for each in devices))


def layout_change(gpu: Report, old: Report) -> str:
    """Return what has changed: devices by their profiles, else where instances lie, if both tell it; "" for nothing."""
    for key, words in (("mig_devices", "MIG devices"), ("mig_layout", "places of the MIG instances")):
        if not isinstance(gpu.get(key), list) or not isinstance(old.get(key), list):
            continue
        now, was = (sorted(map(_told, as_maps(side[key]))) for side in (gpu, old))
        if now != was:
            return f"the {words} are {', '.join(now) or 'none'}, were {', '.join(was) or 'none'}"
    return ""


def _told(each: Report) -> str:
    """Return ``1g.10gb`` of a device called ``NVIDIA H100 MIG 1g.10gb``, and where an instance lies."""
    if "start" in each:
        return f"profile {each.get('profile')} at {each['start']} size {each.get('size')}"
    return as_text(each.get("name")).split(" MIG ")[-1] or "of unknown profile"


# --- the record from before the change


def as_known_now(before: Report | None, report: Report, *, with_lost: bool = False) -> dict[str, Any] | None:
    """Return the record from before with each MIG device under the UUID that it has now.

    A device is the one from before when the UUID is, or else GPU and place; each time its shape must be the same. Those
    that are not there any more are left out, as are GPUs that had MIG off then and have it on now, or the other way
    round: what they did is no figure of what is there now. That they changed is told by the gate ``modes``; where no
    gate is asked, ``with_lost`` keeps what is gone, under the UUID that it had.
    """
    if before is None or not isinstance(before.get("gpus"), list):
        return None if before is None else dict(before)
    old = [gpu for gpu in as_maps(before["gpus"]) if is_mig(gpu)]
    cut = {uuid for uuid, gpu in gpus_of(report).items() if gpu.get("mig") is True}
    if not old and not cut:
        return dict(before)
    now = [gpu for gpu in as_maps(report.get("gpus")) if is_mig(gpu)]
    names, taken = _matched(old, now), {_uuid(gpu) for gpu in now}
    kept = [{**gpu, "nvml_uuid": names[_uuid(gpu)], "uuid": names[_uuid(gpu)]} if _uuid(gpu) in names else gpu
            for gpu in as_maps(before["gpus"])
            if (_uuid(gpu) in names if is_mig(gpu) else _uuid(gpu) not in cut)
            or (with_lost and _uuid(gpu) not in taken)]
    conditions = as_map(before.get("conditions"))
    told = {**conditions, **{new: conditions[was] for was, new in names.items() if was in conditions}}
    pairs = as_map(before.get("pairs"))
    return {**{key: value for key, value in before.items() if key != "pairs" or "gpus" in pairs}, "gpus": kept,
            "conditions": told}


def measured_in_all(before: Report, reports: Iterable[Report]) -> dict[str, Any]:
    """Return the record without MIG devices on which no kernel could start now: why is a finding of its own."""
    idle = {_uuid(gpu) for report in reports for gpu in as_maps(report.get("gpus"))
            if is_mig(gpu) and not as_list(gpu.get("processes"))}
    if not idle:
        return dict(before)
    return {**before, "gpus": [gpu for gpu in as_maps(before.get("gpus")) if _uuid(gpu) not in idle]}


def _uuid(gpu: Report) -> str:
    return as_text(gpu.get("nvml_uuid")) or as_text(gpu.get("uuid"))


def _matched(old: list[Report], now: list[Report]) -> dict[str, str]:
    """Return UUID before -> UUID now, the surest first: the UUID itself, the place, the order among equals."""
    found: dict[str, str] = {}
    rules: tuple[Callable[[Report, Report], bool], ...] = (
        lambda a, b: _uuid(a) == _uuid(b), lambda a, b: _place(a) == _place(b) is not None, lambda _, __: True)
    for alike in rules:
        for gpu in now:
            if _uuid(gpu) in found.values():
                continue
            same = next((each for each in old if _uuid(each) not in found and _parent(each) == _parent(gpu)
                         and _same_shape(each, gpu) and alike(each, gpu)), None)
            if same is not None:
                found[_uuid(same)] = _uuid(gpu)
    return found


def _parent(gpu: Report) -> str:
    return as_text(as_map(gpu.get("parent")).get("uuid"))


def _place(gpu: Report) -> tuple[float, ...] | None:
    seen = as_map(gpu.get("mig"))
    found = [as_number(seen.get(key)) for key in ("start", "size", "compute_instance")]
    known = tuple(value for value in found if value is not None)
    return known if len(known) == len(found) else None


def _same_shape(one: Report, other: Report) -> bool:
    """Say whether two devices have the same profile, and as many multiprocessors where both tell them."""
    a, b = as_map(one.get("mig")), as_map(other.get("mig"))
    known = [(a[key], b[key]) for key in ("profile", "multiprocessors")
             if a.get(key) is not None and b.get(key) is not None]
    return bool(known) and all(x == y for x, y in known)
