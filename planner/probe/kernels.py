"""The kernels of the gates, what each needs, and how much work each measurement does by profile."""

from __future__ import annotations

import hashlib
import pkgutil
from typing import Any

# module (kernels/NAME.ptx) -> oldest compute capability it is made for, and its kernels
MODULES: dict[str, tuple[tuple[int, int], tuple[str, ...]]] = {
    "planner_mix": ((5, 0), ("planner_mix",)),
    "core": ((5, 0), ("planner_empty", "planner_tick", "planner_fill", "planner_check", "planner_same", "planner_sum",
                      "planner_factors", "planner_vector", "planner_copy", "planner_fma")),
    "tensor_f16": ((7, 0), ("planner_wmma_f16", "planner_ratio")),
    "tensor_s8": ((7, 2), ("planner_wmma_s8",)),
}

# Patterns of the memory test: name -> kind and seed of ``planner_fill``; None is a seed from the run's nonce. Each is
# written and read twice, the second time inverted, so every bit of every cell has been both zero and one five times.
PATTERNS: tuple[tuple[str, int, int | None], ...] = (
    ("solid", 0, 0), ("checkerboard", 0, 0x55555555), ("walking-ones", 1, None), ("address", 2, None),
    ("hash", 3, None),
)
HASH = 3                    # kind of the last one: it is also what the copies carry

MIB = 1 << 20
CHUNK_BYTES = 1 << 32       # one allocation of the memory test; indices in kernels are 32 bits wide

STAND_IN, STAND_IN_MARK = "stand-in", "(stand-in)"

PROCESSES = {"quick": 1, "standard": 2, "deep": 2}      # fresh ones a GPU: what differs between them is noise, too

READING = b"2"              # raised when the same kernels' samples are read otherwise than before

# Work of each measurement. Controllers compute expected results from the same numbers.
SIZES: dict[str, dict[str, dict[str, int]]] = {
    "quick": {
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
    },
    "standard": {
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
    },
    # A processor plays the GPU there: enough to prove every word, a tenth of a second in all.
    STAND_IN: {
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
    },
}


def sizes_for(profile: str, device_name: str) -> dict[str, dict[str, int]]:
    """Return measurement -> parameters for one GPU; the controller has the same in ``planner.gates.asked``.

    Args:
        profile: ``quick``, ``standard`` or ``deep``, which measures as much as ``standard``.
        device_name: The driver's name for the GPU; one that says "(stand-in)" is asked for little.

    Raises:
        KeyError: No such profile.
    """
    wanted = SIZES["standard" if profile == "deep" else profile]
    return SIZES[STAND_IN] if STAND_IN_MARK in device_name else wanted


def module_text(name: str) -> bytes:
    """Return the PTX text of one module."""
    text = pkgutil.get_data(__package__ or "planner.probe", "kernels/%s.ptx" % name)
    assert text is not None, "the probe is incomplete"
    return text


def pack_digest() -> str:
    """Return the SHA-256 of all modules and of how they are read: figures are compared only where it is the same."""
    whole = hashlib.sha256()
    for name in sorted(MODULES):
        whole.update(module_text(name))
    whole.update(READING)
    return whole.hexdigest()


def too_old(module: str, capability: Any) -> bool:
    """Say whether a GPU of this compute capability is older than the module's target."""
    return tuple(capability) < MODULES[module][0]
