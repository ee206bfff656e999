"""Reports of made-up nodes whose GPUs all answer right: a stand-in for the probe, for tests of who reads its reports.

The evidence is what ``planner.gates.expect`` wants to see, so nothing here proves the arithmetic: test_expect.py does.
"""

from __future__ import annotations

import base64
import json
import struct
from functools import cache
from pathlib import Path
from typing import Any

from planner.gates import expect
from planner.gates.asked import sizes_asked
from planner.gates.pairs import PAIR_SIZES

RECORDED = Path(__file__).parent / "recorded"
NAME = "Made-up GPU (stand-in)"
M32, M64, NO_INDEX = expect._M32, expect._M64, expect.NO_INDEX
SAMPLES = {
    "vector": ("vector_us", 20.0), "device_copy": ("d2d_gbps", 4200.0), "host_copy": ("h2d_gbps", 55.0),
    "launch": ("launch_sync_us", 8.0), "fma": ("fma_tflops", 60.0), "wmma_f16": ("wmma_f16_tflops", 630.0),
    "wmma_s8": ("wmma_s8_tops", 930.0), "ratio": ("ratio_f16_per_fma", 10.0),
}


def report(profile: str, nonce: str, host: str, *, driver: str = "580.2", gpus: int = 8) -> dict[str, Any]:
    """Return the report ``planner.gate/2`` of a node whose GPUs work."""
    host_state = json.loads((RECORDED / "h200-580.159.04-quick.json").read_text(encoding="utf-8"))["host_state"]
    listed = [{"index": i, "name": NAME, "uuid": uuid(host, i), "processes": [], "mig": False} for i in range(gpus)]
    return {
        "schema": "planner.gate/2", "profile": profile, "nonce": nonce, "host": host, "attempt": 1, "pci_gpus": gpus,
        "pack": "made-up", "boot_id": "b", "seconds": 1.0, "started_at": "2026-11-24T10:00:00Z",
        "host_state": host_state, "conditions": {},
        **({"pairs": pairs(nonce, host, gpus), "collective": {
            "nonce": nonce, "host": host, "status": "skip", "libraries": [], "reason": "made up: no NCCL"},
            } if profile != "quick" and gpus > 1 else {}),
        "versions": {"loaded": driver, "nvml": driver, "libcuda": driver, "fabric_manager": driver,
                     "fabric_manager_active": True},
        "nvml": {"driver": driver, "gpus": listed}, "nvml_after": {"driver": driver, "gpus": listed},
        "gpus": [{"index": i, "name": NAME, "nvml_uuid": uuid(host, i), "uuid": uuid(host, i),
                  "processes": [process(profile, nonce, f"{host}:{i}")] * (1 if profile == "quick" else 2)}
                 for i in range(gpus)],
    }


def pairs(nonce: str, host: str, gpus: int) -> dict[str, Any]:
    """Return right evidence of copies between all GPUs, none of which may read another's memory."""
    names, sizes = [uuid(host, i) for i in range(gpus)], PAIR_SIZES["stand-in"]
    found = []
    for source in names:
        for target in names:
            if source != target:
                sums = expect.copy_sums(expect.seed_of(nonce, host, f"p2p copy {source}>{target}"), sizes["bytes"] // 4)
                found.append({"from": source, "to": target, "access": "not offered", "copy": {
                    "status": "ok", "sums": [sums, sums], "gbps": [300.0] * 5}})
    return {"nonce": nonce, "host": host, "pack": "made-up", "parameters": dict(sizes), "pairs": found,
            "gpus": [{"asked": name, "uuid": name, "name": NAME} for name in names], "matrix": [[0] * gpus] * gpus}


def uuid(host: str, index: int) -> str:
    """Return the UUID of a made-up GPU."""
    return f"GPU-{host}-{index}"


def process(profile: str, nonce: str, label: str) -> dict[str, Any]:
    """Return what one process measured."""
    results = []
    for name, sizes in sizes_asked(profile, NAME).items():
        key, value = SAMPLES.get(name, ("", 0.0))
        results.append({"name": name, "status": "ok", "parameters": dict(sizes), "seconds": 0.1,
                        "samples": {key: [value] * 5} if key else {},
                        "evidence": evidence(name, profile, nonce, label)})
    return {"results": results, "name": NAME, "context_ms": 1.0}


@cache
def evidence(name: str, profile: str, nonce: str, label: str) -> dict[str, Any]:
    """Return right evidence; the same object every time, so copy before changing it."""
    sizes = sizes_asked(profile, NAME)[name]

    def seed(purpose: str) -> int:
        return expect.seed_of(nonce, label, purpose)

    if name == "kernel":
        raw = expect.mix_output(seed("kernel"), sizes["threads"], sizes["rounds"]).tobytes()
        return {"output": base64.b64encode(raw).decode()}
    if name == "vector":
        return {"sums": [expect.vector_sums(seed("vector"), sizes["words"])] * 2}
    if name == "memory":
        return memory(sizes["bytes"] // 4, nonce, label)
    if name == "device_copy":
        return {"sums": [expect.copy_sums(seed("device_copy"), sizes["bytes"] // 4)] * 2}
    if name == "host_copy":
        words = sizes["bytes"] // 4
        return {"sha256": expect.hash_digest(seed("host_copy"), min(words, expect.DIGEST_WORDS)),
                "sums": [expect.copy_sums(seed("host_copy"), words)]}
    if name == "launch":
        return {"ticks": 100 + seed("launch") % 156}
    chains = {"threads": 64, "chains": expect.fma_chains(
        seed("fma"), 1 + seed("fma step") % 7, sizes.get("fma_rounds", sizes["rounds"]), 64)}
    if name == "fma":
        return chains
    found = warps("s8" if name == "wmma_s8" else "f16", sizes["rounds"], nonce, label)
    return {**found, **chains, "blocks_without_cycles": 0} if name == "ratio" else found


def memory(words: int, nonce: str, label: str) -> dict[str, Any]:
    """Return right evidence of the memory test, in one chunk."""
    base = expect.seed_of(nonce, label, "memory")
    checks = [{"pattern": name, "mask": mask, "chunk": 0, "report": [
        0, words, expect.pattern_sum(words, kind, base if fixed is None else fixed, mask), NO_INDEX, 0]}
        for name, kind, fixed in expect.PATTERNS for mask in (0, M32)]
    place = expect.seed_of(nonce, label, "planted") % words
    bit = 1 << (expect.seed_of(nonce, label, "planted bit") & 31)
    right = expect.pattern_word(place, 3, base, M32)
    total = expect.pattern_sum(words, 3, base, M32) - right + (right ^ bit) & M64
    return {"checks": checks, "planted": [1, words, total, place, bit]}


def warps(kind: str, rounds: int, nonce: str, label: str) -> dict[str, Any]:
    """Return right evidence of Tensor Cores, of eight warps."""
    words = expect.warp_words(kind, expect.data_of(nonce, label, f"wmma_{kind}", 5 * 256), rounds)
    first = base64.b64encode(struct.pack(f"<{len(words)}I", *words)).decode()
    return {"warps": 8, "first_warp": first, "same": [0, 8 * len(words), sum(words) * 8 & M64, NO_INDEX, 0]}
