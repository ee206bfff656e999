"""One measurement at a time on one GPU: raw samples with their unit in the name, and evidence of the work.

Every result derives from the run's nonce and is sent back as it was found; ``planner.gates.expect`` computes it again
on the controller. Work is bounded by the sizes asked for; memory is given back; no setting of the GPU is touched.
Units: ``_us`` microseconds, ``_gbps`` 10^9 bytes per second, ``_tflops`` and ``_tops`` 10^12 operations per second,
``_flop_per_cycle`` floating-point operations per cycle of one multiprocessor.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import hashlib
import statistics
import struct
import time
from typing import Any, Callable

from .cuda import POISON, CudaError
from .kernels import CHUNK_BYTES, HASH, PATTERNS, STAND_IN_MARK, pack_digest, sizes_for, too_old
from .session import Session, ShortMemoryError
from .targets import call_shared, fitted, is_mig, room_bytes

SCHEMA = "planner.measure/1"
THREADS = 256
MIX_THREADS = 128
DIGEST_BYTES = 4 << 20      # of what came to the host; the sums on the way back cover all of it
BLOCKS_PER_SM = 8           # for kernels bound by memory or by scalar arithmetic
TENSOR_BLOCKS_PER_SM = 4
RATIO_THREADS = 512
WARP_WORDS = 1024           # four 16x16 results of one warp
WMMA_OPERATIONS = 4 * 2 * 16 ** 3       # of one warp in one round
CHAINS = 16
STAMPS = 4                  # cycle counts that one warp of planner_ratio writes
WARM_UP_MS, WARM_UP_LAUNCHES = 40.0, 20     # clocks rise within tens of milliseconds of load
_ALL_BITS = 0xFFFFFFFF
_u32, _f32 = ctypes.c_uint32, ctypes.c_float


class Nonce:
    """Numbers that only this run knows: SHA-256 of nonce, label (``host:index``) and a purpose."""

    def __init__(self, nonce: str, label: str) -> None:
        self._prefix = "%s:%s:" % (nonce, label)

    def data(self, purpose: str, size_bytes: int) -> bytes:
        """Return bytes for one purpose."""
        found = b""
        while len(found) < size_bytes:
            found += hashlib.sha256(("%s%s:%d" % (self._prefix, purpose, len(found) // 32)).encode()).digest()
        return found[:size_bytes]

    def seed(self, purpose: str) -> int:
        """Return 32 bits for one purpose."""
        return int.from_bytes(self.data(purpose, 4), "big")


def measure_kernel(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Run one scalar kernel; evidence: its whole output, bit for bit."""
    threads = sizes["threads"]
    with session.memory(4 * threads) as out:
        session.set_words(out, POISON, threads)
        run = session.launcher(session.function("planner_mix", "planner_mix"), -(-threads // MIX_THREADS), MIX_THREADS,
                               out, _u32(nonce.seed("kernel")), _u32(threads), _u32(sizes["rounds"]))
        run()
        session.synchronize()
        return {}, {"output": base64.b64encode(session.download(out, 4 * threads)).decode("ascii")}


def measure_vector(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Multiply and add two vectors twice; evidence: plain and weighted sum of both results."""
    words, blocks = sizes["words"], session.processors * BLOCKS_PER_SM
    factors, vector, total = (session.function("core", "planner_" + n) for n in ("factors", "vector", "sum"))
    evidence: dict[str, Any] = {"sums": []}
    with session.memory(4 * words) as left, session.memory(4 * words) as right, session.memory(4 * words) as out, \
            session.report() as report:
        session.launcher(factors, blocks, THREADS, left, right, _u32(words), _u32(nonce.seed("vector")))()
        run = session.launcher(vector, blocks, THREADS, left, right, out, _u32(words))
        samples = []
        for _ in range(2):
            session.set_words(out, POISON, words)
            samples.append(round(session.timed_ms(run) * 1e3, 3))
            report.clear()
            session.launcher(total, blocks, THREADS, out, _u32(words), report.address)()
            evidence["sums"].append(report.read()[:3])
        samples += [round(session.timed_ms(run) * 1e3, 3) for _ in range(sizes["samples"])]
    return {"vector_us": samples[1:]}, evidence


def measure_memory(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Write and read back every pattern and its inverse; then one bit is planted wrong, which must be found."""
    pieces = [min(sizes["bytes"] - at, CHUNK_BYTES) // 4 for at in range(0, sizes["bytes"], CHUNK_BYTES)]
    blocks = session.processors * BLOCKS_PER_SM
    fill, check = session.function("core", "planner_fill"), session.function("core", "planner_check")
    samples: dict[str, list[float]] = {"memory_write_gbps": [], "memory_check_gbps": []}
    evidence: dict[str, Any] = {"checks": []}
    base = nonce.seed("memory")
    with contextlib.ExitStack() as stack:
        report = stack.enter_context(session.report())
        lent = [(stack.enter_context(session.memory(4 * words)), words) for words in pieces]
        for name, kind, fixed in PATTERNS:
            for mask in (0, _ALL_BITS):
                # The chunks' seeds differ and all are written before one is read: an address that leads into
                # another chunk shows as a mismatch.
                seeds = [(base + chunk if fixed is None else fixed) & _ALL_BITS for chunk in range(len(lent))]
                works = [(address, _u32(words), _u32(kind), _u32(seed), _u32(mask))
                         for seed, (address, words) in zip(seeds, lent)]
                for work in works:
                    ms = session.timed_ms(session.launcher(fill, blocks, THREADS, *work))
                    samples["memory_write_gbps"].append(_gbps(4 * work[1].value, ms))
                for chunk, work in enumerate(works):
                    report.clear()
                    ms = session.timed_ms(session.launcher(check, blocks, THREADS, *work, report.address))
                    samples["memory_check_gbps"].append(_gbps(4 * work[1].value, ms))
                    evidence["checks"].append({"pattern": name, "mask": mask, "chunk": chunk, "report": report.read()})
        address, words = lent[0]
        spot = ctypes.c_uint64(address.value + 4 * (nonce.seed("planted") % words))
        bit = 1 << (nonce.seed("planted bit") & 31)
        wrong = int.from_bytes(session.download(spot, 4), "little") ^ bit
        session.upload(spot, wrong.to_bytes(4, "little"))
        report.clear()
        session.launcher(check, blocks, THREADS, *works[0], report.address)()
        evidence["planted"] = report.read()
    return samples, evidence


def measure_device_copy(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Copy within the GPU by the driver and by a kernel; bytes read and bytes written both count."""
    words, blocks = sizes["bytes"] // 4, session.processors * BLOCKS_PER_SM
    fill, total, copy = (session.function("core", "planner_" + n) for n in ("fill", "sum", "copy"))
    samples: dict[str, list[float]] = {}
    evidence: dict[str, Any] = {"sums": []}
    with session.memory(4 * words) as source, session.memory(4 * words) as target, session.report() as report:
        session.launcher(fill, blocks, THREADS, source, _u32(words), _u32(HASH), _u32(nonce.seed("device_copy")),
                         _u32(0))()

        def by_driver() -> None:
            session.driver.call("cuMemcpyDtoDAsync_v2", target, source, ctypes.c_size_t(4 * words), None)

        by_kernel = session.launcher(copy, blocks, THREADS, target, source, _u32(words // 4))
        for name, way in (("d2d_gbps", by_driver), ("copy_kernel_gbps", by_kernel)):
            session.set_words(target, POISON, words)
            _warm_up(session, way)
            samples[name] = [_gbps(8 * words, session.timed_ms(way)) for _ in range(sizes["samples"])]
            report.clear()
            session.launcher(total, blocks, THREADS, target, _u32(words), report.address)()
            evidence["sums"].append(report.read()[:3])
    return samples, evidence


def measure_host_copy(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Copy from the GPU to page-locked memory and back; evidence: digest on the host, sums on the GPU."""
    size, words, blocks = sizes["bytes"], sizes["bytes"] // 4, session.processors * BLOCKS_PER_SM
    fill, total = session.function("core", "planner_fill"), session.function("core", "planner_sum")
    with session.memory(size) as device, session.pinned(size) as host, session.report() as report:
        session.launcher(fill, blocks, THREADS, device, _u32(words), _u32(HASH), _u32(nonce.seed("host_copy")),
                         _u32(0))()

        def to_host() -> None:
            session.driver.call("cuMemcpyDtoHAsync_v2", host, device, ctypes.c_size_t(size), None)

        def to_device() -> None:
            session.driver.call("cuMemcpyHtoDAsync_v2", device, host, ctypes.c_size_t(size), None)

        assert host.value is not None
        ctypes.memset(host.value, POISON & 0xFF, size)
        session.timed_ms(to_host)
        samples = {}
        samples["d2h_gbps"] = [_gbps(size, session.timed_ms(to_host)) for _ in range(sizes["samples"])]
        arrived = (ctypes.c_char * min(size, DIGEST_BYTES)).from_address(host.value)
        digest = hashlib.sha256(memoryview(arrived)).hexdigest()
        session.set_words(device, POISON, words)
        session.timed_ms(to_device)
        samples["h2d_gbps"] = [_gbps(size, session.timed_ms(to_device)) for _ in range(sizes["samples"])]
        samples["copy_cpu_us"] = []
        for _ in range(sizes["samples"]):       # of asking for one; waiting turns in circles and would hide it
            cpu = time.process_time()
            to_device()
            samples["copy_cpu_us"].append(round((time.process_time() - cpu) * 1e6, 3))
            session.synchronize()
        report.clear()
        session.launcher(total, blocks, THREADS, device, _u32(words), report.address)()
        return samples, {"sha256": digest, "sums": [report.read()[:3]]}


def measure_launch(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Launch an empty kernel many times, then a counting one as often as the nonce says."""
    launches = sizes["launches"]
    empty = session.launcher(session.function("core", "planner_empty"), 1, 1)
    samples: dict[str, list[float]] = {"launch_async_us": [], "launch_cpu_us": [], "launch_sync_us": []}
    for number in range(sizes["samples"] + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(launches):
            empty()
        cpu = time.process_time() - cpu         # waiting turns in circles and would hide it
        session.synchronize()
        if number:      # the first is the warm-up
            samples["launch_async_us"].append(round((time.perf_counter() - wall) * 1e6 / launches, 3))
            samples["launch_cpu_us"].append(round(cpu * 1e6 / launches, 3))
    for _ in range(sizes["singles"]):
        wall = time.perf_counter()
        empty()
        session.synchronize()
        samples["launch_sync_us"].append(round((time.perf_counter() - wall) * 1e6, 3))
    with session.report() as report:
        tick = session.launcher(session.function("core", "planner_tick"), 1, 1, report.address)
        report.clear()
        for _ in range(100 + nonce.seed("launch") % 156):
            tick()
        return samples, {"ticks": report.read()[0]}


def measure_fma(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Sixteen chains of fused multiply-adds a thread; evidence: the sum of all chains."""
    blocks, rounds = session.processors * BLOCKS_PER_SM, sizes["rounds"]
    with session.report() as report:
        run = session.launcher(session.function("core", "planner_fma"), blocks, THREADS, _u32(nonce.seed("fma")),
                               _u32(rounds), _f32(1.0), _f32(_step(nonce, "fma")), report.address)
        report.clear()
        _warm_up(session, run)
        operations = 2.0 * CHAINS * rounds * blocks * THREADS
        samples = [_tera(operations, session.timed_ms(run)) for _ in range(sizes["samples"])]
        report.clear()
        run()
        return {"fma_tflops": samples}, {"chains": report.read()[:2], "threads": blocks * THREADS}


def measure_wmma_f16(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Products of 16-bit floats on Tensor Cores; evidence: one warp's result, and that all warps have the same."""
    return _tensor(session, nonce, sizes, "f16", "wmma_f16_tflops")


def measure_wmma_s8(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Products of 8-bit integers on Tensor Cores; evidence: one warp's result, and that all warps have the same."""
    return _tensor(session, nonce, sizes, "s8", "wmma_s8_tops")


def _tensor(session: Session, nonce: Nonce, sizes: dict[str, int], kind: str, unit: str) -> Any:
    function = session.function("tensor_" + kind, "planner_wmma_" + kind)
    blocks, rounds = session.processors * TENSOR_BLOCKS_PER_SM, sizes["rounds"]
    warps = blocks * THREADS // 32
    with matrices(session, nonce, kind) as (left, right), session.memory(4 * WARP_WORDS * warps) as out:
        run = session.launcher(function, blocks, THREADS, left, right, out, _u32(rounds))
        _warm_up(session, run)
        operations = float(WMMA_OPERATIONS) * rounds * warps
        samples = [_tera(operations, session.timed_ms(run)) for _ in range(sizes["samples"])]
        session.set_words(out, POISON, WARP_WORDS * warps)
        run()
        return {unit: samples}, _blocks(session, out, warps)


def measure_ratio(session: Session, nonce: Nonce, sizes: dict[str, int]) -> Any:
    """Tensor Cores against fused multiply-adds in the same launch, counted in cycles: near one, they do not work."""
    function, sms = session.function("tensor_f16", "planner_ratio"), session.processors
    warps = sms * RATIO_THREADS // 32
    per_block = (float(WMMA_OPERATIONS) * sizes["rounds"] * RATIO_THREADS / 32,
                 2.0 * CHAINS * sizes["fma_rounds"] * RATIO_THREADS)
    samples: dict[str, list[float]] = {"ratio_f16_per_fma": [], "wmma_f16_flop_per_cycle": [], "fma_flop_per_cycle": []}
    with matrices(session, nonce, "f16") as (left, right), session.memory(4 * WARP_WORDS * warps) as out, \
            session.report() as report, session.memory(8 * STAMPS * warps) as stamps:
        run = session.launcher(function, sms, RATIO_THREADS, left, right, out, _u32(sizes["rounds"]),
                               _u32(nonce.seed("fma")), _u32(sizes["fma_rounds"]), _f32(1.0),
                               _f32(_step(nonce, "fma")), report.address, stamps)
        for number in range(sizes["samples"] + 1):
            session.set_words(out, POISON, WARP_WORDS * warps)
            session.set_words(stamps, 0, 2 * STAMPS * warps)
            report.clear()
            run()
            chains = report.read()[:2]
            spans = _spans(session.download(stamps, 8 * STAMPS * warps), RATIO_THREADS // 32)
            if number:      # the first is the warm-up
                tensor = per_block[0] / max(1.0, statistics.median(span[0] for span in spans))
                scalar = per_block[1] / max(1.0, statistics.median(span[1] for span in spans))
                samples["wmma_f16_flop_per_cycle"].append(round(tensor, 3))
                samples["fma_flop_per_cycle"].append(round(scalar, 3))
                samples["ratio_f16_per_fma"].append(round(tensor / scalar, 4))
        evidence = _blocks(session, out, warps)
        evidence.update(chains=chains, threads=sms * RATIO_THREADS,
                        blocks_without_cycles=sum(min(span) <= 0 for span in spans))
        return samples, evidence


def _spans(raw: bytes, warps: int) -> list[tuple[int, int]]:
    """Return for each block the cycles of both loops, from the last warp's start to the last warp's end.

    A warp reads the clock when it comes to a barrier, not when all have come: only the last one's start is the loop's.
    """
    numbers = struct.unpack("<%dQ" % (len(raw) // 8), raw)
    found = []
    for at in range(0, len(numbers), STAMPS * warps):
        block = numbers[at:at + STAMPS * warps]
        found.append((max(block[1::STAMPS]) - max(block[0::STAMPS]), max(block[3::STAMPS]) - max(block[2::STAMPS])))
    return found


@contextlib.contextmanager
def matrices(session: Session, nonce: Nonce, kind: str) -> Any:
    """Lend one left and four right matrices of small integers from the nonce."""
    raw = nonce.data("wmma_" + kind, 5 * 256)
    if kind == "f16":
        half = dict(zip(range(-3, 4), (0xC200, 0xC000, 0xBC00, 0, 0x3C00, 0x4000, 0x4200)))
        data = b"".join(half[byte % 7 - 3].to_bytes(2, "little") for byte in raw)
    else:
        data = bytes((byte % 31 - 15) & 0xFF for byte in raw)
    cut = len(data) // 5
    with session.memory(cut) as left, session.memory(4 * cut) as right:
        session.upload(left, data[:cut])
        session.upload(right, data[cut:])
        yield left, right


def _blocks(session: Session, out: ctypes.c_uint64, warps: int) -> dict[str, Any]:
    """Return the first warp's results whole, and how all others compare with them."""
    words = WARP_WORDS * warps
    with session.report() as report:
        report.clear()
        session.launcher(session.function("core", "planner_same"), session.processors * BLOCKS_PER_SM, THREADS, out,
                         _u32(words), _u32(WARP_WORDS - 1), report.address)()
        same = report.read()
    first = base64.b64encode(session.download(out, 4 * WARP_WORDS)).decode("ascii")
    return {"warps": warps, "first_warp": first, "same": same}


def _warm_up(session: Session, run: Callable[[], None]) -> None:
    passed, launches = 0.0, 0
    most = 1 if STAND_IN_MARK in session.identity["name"] else WARM_UP_LAUNCHES      # a processor is warm
    while passed < WARM_UP_MS and launches < most:
        passed += session.timed_ms(run)
        launches += 1


def _step(nonce: Nonce, purpose: str) -> float:
    return float(1 + nonce.seed(purpose + " step") % 7)


def _gbps(size_bytes: int, ms: float) -> float:
    return round(size_bytes / max(ms, 1e-6) / 1e6, 4)


def _tera(operations: float, ms: float) -> float:
    return round(operations / max(ms, 1e-6) / 1e9, 4)


# name -> (module that it cannot do without, function)
MEASUREMENTS: dict[str, tuple[str, Callable[[Session, Nonce, dict[str, int]], Any]]] = {
    "kernel": ("planner_mix", measure_kernel), "vector": ("core", measure_vector), "memory": ("core", measure_memory),
    "device_copy": ("core", measure_device_copy), "host_copy": ("core", measure_host_copy),
    "launch": ("core", measure_launch), "fma": ("core", measure_fma),
    "wmma_f16": ("tensor_f16", measure_wmma_f16), "wmma_s8": ("tensor_s8", measure_wmma_s8),
    "ratio": ("tensor_f16", measure_ratio),
}


def measure(session: Session, name: str, nonce: Nonce, sizes: dict[str, int]) -> dict[str, Any]:
    """Run one measurement; never raises because the GPU or its driver refuses.

    Returns:
        ``status``: ``ok`` (it ran; whether it ran right, the evidence tells), ``skip`` (this GPU is older than the
        kernel's target; ``reason`` has the driver's words), ``inconclusive`` (too little free memory) or ``error``;
        ``samples``, ``evidence``, ``parameters``, ``seconds``, ``ended_s`` (since boot, as the report's ``begun_s``),
        and ``code`` of the CUDA error.
    """
    module, function = MEASUREMENTS[name]
    started = time.monotonic()
    result: dict[str, Any] = {"name": name, "status": "ok", "parameters": dict(sizes), "samples": {}, "evidence": {}}
    try:
        result["samples"], result["evidence"] = function(session, nonce, sizes)
    except ShortMemoryError as exc:
        result.update(status="inconclusive", reason="too little free memory: %s" % exc)
    except CudaError as exc:
        old = too_old(module, session.capability) and module not in session.jit_ms
        result.update(status="skip" if old else "error", reason=str(exc), code=exc.code)
    result["ended_s"] = round(time.monotonic(), 4)
    result["seconds"] = round(time.monotonic() - started, 4)
    return result


def measure_all(uuid: str, nonce: str, label: str, profile: str, driver: Any = None,
                sizes: dict[str, dict[str, int]] | None = None, sharers: int = 1) -> dict[str, Any]:
    """Run every measurement of a profile on one GPU or MIG device; return one document, ``planner.measure/1``.

    Raises:
        CudaError: There is no context to be had.
    """
    numbers, started = Nonce(nonce, label), time.monotonic()
    with Session(uuid, driver) as session:
        asked = sizes_for(profile, session.identity["name"]) if sizes is None else sizes
        free, total = session.memory_bytes()
        if is_mig(uuid):
            asked = fitted(asked, room_bytes(free, total, sharers))
        results = [measure(session, name, numbers, asked[name]) for name in asked]
        if is_mig(uuid):
            call_shared(results, sharers)
        left, _ = session.memory_bytes()
    return dict(session.identity, schema=SCHEMA, profile=profile, nonce=nonce, label=label, pack=pack_digest(),
                processors=session.processors, context_ms=session.context_ms, jit_ms=session.jit_ms,
                memory_bytes={"total": total, "free_before": free, "free_after": left}, results=results,
                problems=session.problems, seconds=round(time.monotonic() - started, 4))
