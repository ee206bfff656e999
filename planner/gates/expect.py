"""What the measuring kernels must answer, computed from the run's nonce alone. Pure, and standard library only.

Nothing here is shared with the probe: a mistake in one of the two shows as a difference. All sums over millions of
words are closed forms, so that a controller can check a fleet. Kernels: ``planner/probe/kernels/*.ptx``; 32-bit words.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

DIGEST_WORDS = 1 << 20      # of what came to the host; the sums on the way back cover all of it
PERIOD = 4096               # words after which the hash pattern starts anew, one higher
WARP_WORDS = 1024
CHUNK_WORDS = 1 << 30
NO_INDEX = (1 << 64) - 1
FLOAT_EXACT = 1 << 24       # integers up to here are exact in a 32-bit float
_M32, _M64 = 0xFFFFFFFF, (1 << 64) - 1
# name -> kind and seed of each memory pattern; None: the seed comes from the nonce
PATTERNS = (("solid", 0, 0), ("checkerboard", 0, 0x55555555), ("walking-ones", 1, None), ("address", 2, None),
            ("hash", 3, None))

# Without Tensor Cores the same products run on the scalar units, at best at their speed.
RATIO_MIN = 1.2
RATIO_KEPT = 0.7            # part of the GPU's own ratio before the change


def data_of(nonce: str, label: str, purpose: str, size_bytes: int) -> bytes:
    """Return the run's bytes for one purpose: SHA-256 of ``nonce:label:purpose:counter``, counter after counter."""
    blocks = range(-(-size_bytes // 32))
    return b"".join(hashlib.sha256(f"{nonce}:{label}:{purpose}:{n}".encode()).digest() for n in blocks)[:size_bytes]


def seed_of(nonce: str, label: str, purpose: str) -> int:
    """Return the run's 32 bits for one purpose."""
    return int.from_bytes(data_of(nonce, label, purpose, 4), "big")


@lru_cache(maxsize=256)
def hash_table(seed: int) -> tuple[int, ...]:
    """Return the first 4096 words of the hash pattern, 31 bits each."""
    table = []
    for i in range(PERIOD):
        x = seed ^ (i * 0x9E3779B9 & _M32)
        x = (x ^ x >> 16) * 0x85EBCA6B & _M32
        x = (x ^ x >> 13) * 0xC2B2AE35 & _M32
        table.append((x ^ x >> 16) >> 1)
    return tuple(table)


def hash_digest(seed: int, words: int) -> str:
    """Return the SHA-256 of the hash pattern as little-endian words; ``words`` is a multiple of 4096.

    A whole block of words is one big integer: adding one to each cannot carry into the next, they have 31 bits.
    """
    block = int.from_bytes(struct.pack(f"<{PERIOD}I", *hash_table(seed)), "little")
    ones = int.from_bytes(b"\1\0\0\0" * PERIOD, "little")
    whole = hashlib.sha256()
    for _ in range(words // PERIOD):
        whole.update(block.to_bytes(4 * PERIOD, "little"))
        block += ones
    return whole.hexdigest()


def blockwise_sums(first: Sequence[int], blocks: int) -> list[int]:
    """Return [sum, sum weighted by index + 1, words], modulo 2^64, of ``blocks`` blocks, each word one up per block."""
    size, k1 = len(first), blocks * (blocks - 1) // 2           # sums of k and of k squared over the blocks
    k2 = k1 * (2 * blocks - 1) // 3
    total = sum(first)
    weighted = sum((r + 1) * v for r, v in enumerate(first))
    places = size * (size + 1) // 2
    plain = blocks * total + size * k1
    heavy = blocks * weighted + k1 * (size * total + places) + k2 * size * size
    return [plain & _M64, heavy & _M64, size * blocks]


def vector_sums(seed: int, words: int) -> list[int]:
    """Return the sums of ``planner_vector``'s result; ``words`` is a multiple of 4096, at most 2^24."""
    products = [(x & 0xFFF) * (x >> 12 & 0xFFF) for x in hash_table(seed)]
    return blockwise_sums(products, words // PERIOD)


def copy_sums(seed: int, words: int) -> list[int]:
    """Return the sums of the hash pattern; ``words`` is a multiple of 4096."""
    return blockwise_sums(hash_table(seed), words // PERIOD)


def pattern_word(i: int, kind: int, seed: int, mask: int) -> int:
    """Return word ``i`` of a memory pattern."""
    if kind == 0:
        word = seed
    elif kind == 1:
        word = 1 << ((i + seed) & 31)
    elif kind == 2:
        word = (i + seed) & _M32
    else:
        word = hash_table(seed)[i % PERIOD] + i // PERIOD
    return word ^ mask


def pattern_sum(words: int, kind: int, seed: int, mask: int) -> int:
    """Return the sum of a memory pattern modulo 2^64; ``words`` below 2^32, for kind 3 a multiple of 4096."""
    if kind == 0:
        plain = words * seed
    elif kind == 1:
        whole, rest = divmod(words, 32)
        plain = whole * _M32 + sum(1 << ((i + seed) & 31) for i in range(rest))
    elif kind == 2:
        plain = consecutive_sum(seed, words, 1 << 32)
    else:
        plain = copy_sums(seed, words)[0]
    return (words * _M32 - plain if mask else plain) & _M64


def consecutive_sum(start: int, count: int, modulus: int) -> int:
    """Return the sum of (start + i) modulo ``modulus`` over i below ``count``."""
    whole, rest = divmod(count, modulus)
    start %= modulus
    head = min(rest, modulus - start)
    tail = rest - head
    return whole * (modulus * (modulus - 1) // 2) + head * start + head * (head - 1) // 2 + tail * (tail - 1) // 2


def fma_chains(seed: int, step: int, rounds: int, threads: int) -> list[int]:
    """Return [sum of all chains, threads] of ``planner_fma``; exact while 65535 + step * rounds is below 2^24."""
    starts = sum(consecutive_sum(seed + 4097 * j & _M32, threads, 1 << 16) for j in range(16))
    return [starts + 16 * threads * step * rounds, threads]


def warp_words(kind: str, raw: bytes, rounds: int) -> list[int]:
    """Return the 1024 words that every warp of ``planner_wmma_*`` writes, as the bits of floats or integers.

    Args:
        kind: ``f16`` (sums in 32-bit floats) or ``s8`` (sums in 32-bit integers).
        raw: 1280 bytes of the run: the left matrix by rows, four right ones by columns.
        rounds: How often each product is added.
    """
    numbers = [byte % 7 - 3 if kind == "f16" else byte % 31 - 15 for byte in raw]
    left, found = numbers[:256], []
    for j in range(1, 5):
        right = numbers[256 * j:256 * (j + 1)]
        for row in range(16):
            for column in range(16):
                value = rounds * sum(left[16 * row + k] * right[16 * column + k] for k in range(16))
                found.append(_float_bits(value) if kind == "f16" else value & _M32)
    return found


def _float_bits(value: int) -> int:
    return int(struct.unpack("<I", struct.pack("<f", float(value)))[0])


def tensor_cores_work(ratio: float, before: float | None = None) -> bool:
    """Say whether a ratio of Tensor Core to scalar speed is one of working Tensor Cores.

    Args:
        ratio: ``ratio_f16_per_fma``, median of the samples.
        before: The same GPU's ratio before the change. GPUs differ from 2 to 16, so this is the sharper test.
    """
    return ratio >= (RATIO_MIN if before is None else max(RATIO_MIN, RATIO_KEPT * before))


def wrong(result: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    """Return what is wrong with one measurement's evidence; an empty list means: the work was done, and right.

    Args:
        result: What ``planner.probe.measure`` returned for one measurement.
        asked: Sizes that it was asked for.
        nonce: The run's nonce.
        label: ``host:index``, as sent.
    """
    name = str(result.get("name"))
    if result.get("status") != "ok":
        return [f"{name}: {result.get('status')}: {result.get('reason')}"]
    if dict(result.get("parameters") or {}) != dict(asked):
        return [f"{name}: other sizes than asked: {result.get('parameters')}"]
    judge = _JUDGES.get(name)
    if judge is None:
        return [f"{name}: no such measurement"]
    try:
        found = judge(result["evidence"], asked, nonce, label)
    except (KeyError, TypeError, ValueError, IndexError) as exc:
        found = [f"the evidence cannot be read ({type(exc).__name__}: {exc})"]
    return [f"{name}: {words}" for words in found]


def _equal(what: str, found: object, wanted: object) -> list[str]:
    return [] if found == wanted else [f"{what} is {found}, must be {wanted}"]


def mix_output(seed: int, count: int, rounds: int) -> array[int]:
    """Return what ``planner_mix`` writes: see ARCHITECTURE.md for the function.

    All threads at once in one big integer, 64 bits each: no product of two 32-bit numbers reaches the next one.
    """
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")
    low = ones * _M32
    starts = array("Q", (seed ^ (i * 0x9E3779B9 & _M32) for i in range(count)))
    x = int.from_bytes(_little(starts).tobytes(), "little")
    for _ in range(rounds):
        x ^= x << 13 & low
        x ^= x >> 17 & low
        x ^= x << 5 & low
        x = x * 0x85EBCA6B + ones * 0xC2B2AE35 & low
    return array("I", _little(array("Q", x.to_bytes(8 * count, "little"))))


def _little(values: array[int]) -> array[int]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _kernel(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    have = _little(array("I", base64.b64decode(seen["output"], validate=True)))
    wanted = mix_output(seed_of(nonce, label, "kernel"), asked["threads"], asked["rounds"])
    if len(have) != len(wanted):
        return [f"it wrote {len(have)} values, {len(wanted)} were asked"]
    bad = [i for i in range(len(wanted)) if have[i] != wanted[i]]
    if not bad:
        return []
    first = f"number {bad[0]} is {have[bad[0]]:08x}, must be {wanted[bad[0]]:08x}"
    return [f"{len(bad)} of {len(wanted)} values are wrong (the first: {first})"]


def _vector(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    wanted = vector_sums(seed_of(nonce, label, "vector"), asked["words"])
    return _equal("the sums of both runs", seen["sums"], [wanted, wanted])


def _device_copy(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    wanted = copy_sums(seed_of(nonce, label, "device_copy"), asked["bytes"] // 4)
    return _equal("the sums after both copies", seen["sums"], [wanted, wanted])


def _host_copy(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    seed, words = seed_of(nonce, label, "host_copy"), asked["bytes"] // 4
    return (_equal("the digest on the host", seen["sha256"], hash_digest(seed, min(words, DIGEST_WORDS)))
            + _equal("the sums on the GPU", seen["sums"], [copy_sums(seed, words)]))


def _launch(seen: Mapping[str, Any], _: Mapping[str, int], nonce: str, label: str) -> list[str]:
    return _equal("the number of launches that ran", seen["ticks"], 100 + seed_of(nonce, label, "launch") % 156)


def _memory(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    words = asked["bytes"] // 4
    chunks = [min(words - at, CHUNK_WORDS) for at in range(0, words, CHUNK_WORDS)]
    base = seed_of(nonce, label, "memory")
    wanted = []
    for name, kind, fixed in PATTERNS:
        for mask in (0, _M32):
            for chunk, size in enumerate(chunks):
                seed = base + chunk & _M32 if fixed is None else fixed
                report = [0, size, pattern_sum(size, kind, seed, mask), NO_INDEX, 0]
                wanted.append({"pattern": name, "mask": mask, "chunk": chunk, "report": report})
    found = _equal("the number of checks", len(seen["checks"]), len(wanted))
    for have, want in zip(seen["checks"], wanted, strict=False):
        found += [] if have == want else [_mismatch(have, want)]
    place, bit = seed_of(nonce, label, "planted") % chunks[0], 1 << (seed_of(nonce, label, "planted bit") & 31)
    right = pattern_word(place, 3, base, _M32)
    total = pattern_sum(chunks[0], 3, base, _M32) - right + (right ^ bit) & _M64
    return found + _equal("the report on the planted fault", seen["planted"], [1, chunks[0], total, place, bit])


def _mismatch(have: Mapping[str, Any], want: Mapping[str, Any]) -> str:
    count, _, _, first, bits = have["report"]
    where = f"pattern {want['pattern']}, mask {want['mask']:08x}, chunk {want['chunk']}"
    if count:
        return f"{where}: {count} words wrong, the first at {first}, wrong bits {bits:08x}"
    return f"{where}: report {have}, must be {want['report']}"


def _chains(seen: Mapping[str, Any], rounds: int, nonce: str, label: str) -> list[str]:
    step, threads = 1 + seed_of(nonce, label, "fma step") % 7, seen["threads"]
    if not isinstance(threads, int) or threads <= 0:
        return [f"{threads} threads"]
    return _equal("the sum of the chains", seen["chains"],
                  fma_chains(seed_of(nonce, label, "fma"), step, rounds, threads))


def _fma(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    return _chains(seen, asked["rounds"], nonce, label)


def _warps(kind: str, seen: Mapping[str, Any], rounds: int, nonce: str, label: str) -> list[str]:
    wanted = warp_words(kind, data_of(nonce, label, f"wmma_{kind}", 5 * 256), rounds)
    raw, warps = base64.b64decode(seen["first_warp"], validate=True), seen["warps"]
    if len(raw) != 4 * WARP_WORDS or not isinstance(warps, int) or warps <= 0:
        return [f"{len(raw)} bytes of {warps} warps"]
    have = list(struct.unpack(f"<{WARP_WORDS}I", raw))
    bad = [i for i, (x, y) in enumerate(zip(have, wanted, strict=True)) if x != y]
    found = []
    if bad:
        found.append(f"{len(bad)} of {WARP_WORDS} sums are wrong (the first: number {bad[0]} is {have[bad[0]]:08x}, "
                     f"must be {wanted[bad[0]]:08x})")
    report = [0, WARP_WORDS * warps, sum(wanted) * warps & _M64, NO_INDEX, 0]
    return found + _equal("the report on all warps", seen["same"], report)


def _wmma_f16(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    return _warps("f16", seen, asked["rounds"], nonce, label)


def _wmma_s8(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    return _warps("s8", seen, asked["rounds"], nonce, label)


def _ratio(seen: Mapping[str, Any], asked: Mapping[str, int], nonce: str, label: str) -> list[str]:
    return (_warps("f16", seen, asked["rounds"], nonce, label) + _chains(seen, asked["fma_rounds"], nonce, label)
            + _equal("the number of blocks without a cycle count", seen["blocks_without_cycles"], 0))


_Judge = Callable[[Mapping[str, Any], Mapping[str, int], str, str], list[str]]
_JUDGES: dict[str, _Judge] = {
    "kernel": _kernel, "vector": _vector, "memory": _memory, "device_copy": _device_copy, "host_copy": _host_copy,
    "launch": _launch, "fma": _fma, "wmma_f16": _wmma_f16, "wmma_s8": _wmma_s8, "ratio": _ratio,
}
