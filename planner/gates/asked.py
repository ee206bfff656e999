"""How much work each measurement of the probe was asked for. Pure, and standard library only.

The probe's own table is ``planner.probe.kernels.SIZES``; results of other sizes than these do not pass.
"""

from __future__ import annotations

from collections.abc import Mapping

STAND_IN = "(stand-in)"     # in the name of a GPU that a processor plays
MIB = 1 << 20
Sizes = Mapping[str, Mapping[str, int]]

QUICK: Sizes = {
    "kernel": {"threads": 1024, "rounds": 64},
    "vector": {"words": 1 << 22, "samples": 5},
    "memory": {"bytes": 512 * MIB},
    "device_copy": {"bytes": 512 * MIB, "samples": 5},
    "host_copy": {"bytes": 64 * MIB, "samples": 5},
    "launch": {"launches": 500, "samples": 5, "singles": 100},
    "fma": {"rounds": 16000, "samples": 5},
    "wmma_f16": {"rounds": 8000, "samples": 5},
    "wmma_s8": {"rounds": 8000, "samples": 5},
    "ratio": {"rounds": 2000, "fma_rounds": 2000, "samples": 5},
}
STANDARD: Sizes = {
    "kernel": {"threads": 4096, "rounds": 64},
    "vector": {"words": 1 << 24, "samples": 9},
    "memory": {"bytes": 4096 * MIB},
    "device_copy": {"bytes": 1024 * MIB, "samples": 9},
    "host_copy": {"bytes": 256 * MIB, "samples": 9},
    "launch": {"launches": 2000, "samples": 9, "singles": 200},
    "fma": {"rounds": 64000, "samples": 9},
    "wmma_f16": {"rounds": 32000, "samples": 9},
    "wmma_s8": {"rounds": 32000, "samples": 9},
    "ratio": {"rounds": 8000, "fma_rounds": 8000, "samples": 9},
}
PLAYED: Sizes = {
    "kernel": {"threads": 1024, "rounds": 64},
    "vector": {"words": 1 << 14, "samples": 5},
    "memory": {"bytes": MIB},
    "device_copy": {"bytes": MIB // 4, "samples": 5},
    "host_copy": {"bytes": MIB // 4, "samples": 5},
    "launch": {"launches": 50, "samples": 5, "singles": 10},
    "fma": {"rounds": 16, "samples": 5},
    "wmma_f16": {"rounds": 4, "samples": 5},
    "wmma_s8": {"rounds": 4, "samples": 5},
    "ratio": {"rounds": 4, "fma_rounds": 4, "samples": 5},
}
# Part of a MIG device's memory that a measurement may ask for (a copy has two buffers), and what it is cut to.
PARTS: Mapping[str, tuple[int, int]] = {"memory": (3, 4), "device_copy": (3, 8), "host_copy": (3, 4)}
GRAIN_BYTES = 1 << 16
PROFILES: Mapping[str, Sizes] = {"quick": QUICK, "standard": STANDARD, "deep": STANDARD}


def sizes_asked(profile: str, device_name: str, room_bytes: int | None = None) -> Sizes:
    """Return measurement -> parameters that the probe takes for one GPU or MIG device.

    Args:
        profile: ``quick``, ``standard`` or ``deep``.
        device_name: The driver's name for the GPU. A GPU that calls itself a stand-in proves only a stand-in.
        room_bytes: Memory that a MIG device could count on; None for a whole GPU, which is asked for all.

    Raises:
        KeyError: No such profile.
    """
    wanted = PROFILES[profile]
    sizes = PLAYED if STAND_IN in device_name else wanted
    if room_bytes is None:
        return sizes
    found = dict(sizes)
    for name, (part, whole) in PARTS.items():
        most = max(GRAIN_BYTES, room_bytes * part // whole // GRAIN_BYTES * GRAIN_BYTES)
        found[name] = {**sizes[name], "bytes": min(sizes[name]["bytes"], most)}
    return found
