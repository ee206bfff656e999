"""Copies between every two GPUs of a node: who may reach whom, whether data arrive whole, and how fast.

One process sees all GPUs. For each ordered pair the source gets words from the run's nonce, the other side's memory is
poisoned, the driver copies, and the other side adds up what arrived; where direct access is open, a kernel there reads
the source's memory by itself as well. ``planner.gates.pairs`` computes the sums again. No multicast object is made and
no setting touched; the openings end with the process's contexts. Units: ``_gbps`` 10^9 bytes per second, one way.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from typing import Any

from .cuda import POISON, CudaError, Driver, scrub_environment
from .kernels import HASH, MIB, STAND_IN, STAND_IN_MARK, pack_digest
from .measure import BLOCKS_PER_SM, THREADS, Nonce
from .session import Report, Session, ShortMemoryError

SCHEMA = "planner.pairs/1"
# Work by profile. After ``budget_ms`` the pairs that are left are proved with one sample each: eight GPUs, 56 pairs,
# end within 15 s also where every copy goes through the host.
SIZES: dict[str, dict[str, int]] = {
    "quick": {"bytes": 32 * MIB, "samples": 5, "budget_ms": 4000},
    "standard": {"bytes": 128 * MIB, "samples": 7, "budget_ms": 10000},
    "deep": {"bytes": 256 * MIB, "samples": 15, "budget_ms": 30000},
    STAND_IN: {"bytes": MIB // 16, "samples": 5, "budget_ms": 30000},
}
SAMPLE_MS = 2.0             # copies are queued until one sample takes about as long
COPIES_MOST = 16
_ALREADY_OPEN = 704         # CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED
_u32 = ctypes.c_uint32


def sizes_for(profile: str, device_name: str) -> dict[str, int]:
    """Return the work of a profile; a GPU that calls itself a stand-in is asked for little."""
    return SIZES[STAND_IN if STAND_IN_MARK in device_name else profile]


class _Side:
    """One GPU: its session, a buffer to send from, one to receive in, and counters."""

    def __init__(self, session: Session, stack: contextlib.ExitStack, size_bytes: int) -> None:
        self.session, self.words = session, size_bytes // 4
        self.uuid: str = session.identity["uuid"]
        self.blocks = session.processors * BLOCKS_PER_SM
        session.use()
        self.source = stack.enter_context(session.memory(size_bytes))
        self.target = stack.enter_context(session.memory(size_bytes))
        self.report: Report = stack.enter_context(session.report())
        stack.callback(session.use)     # what was lent is given back in the context that lent it

    def fill(self, seed: int) -> None:
        """Write the seed's words into the buffer to send from, and wait."""
        self.session.use()
        self.session.launcher(self.session.function("core", "planner_fill"), self.blocks, THREADS, self.source,
                              _u32(self.words), _u32(HASH), _u32(seed), _u32(0))()
        self.session.synchronize()

    def poison(self) -> None:
        """Overwrite the buffer to receive in, and wait."""
        self.session.use()
        self.session.set_words(self.target, POISON, self.words)
        self.session.synchronize()

    def sums(self) -> list[int]:
        """Return [sum, sum weighted by index + 1, words] of what was received."""
        self.session.use()
        self.report.clear()
        self.session.launcher(self.session.function("core", "planner_sum"), self.blocks, THREADS, self.target,
                              _u32(self.words), self.report.address)()
        return self.report.read()[:3]


def measure_pairs(uuids: list[str], nonce: str, host: str, sizes: dict[str, int], driver: Any = None) -> dict[str, Any]:
    """Prove and time every ordered pair of the GPUs; never raises because a GPU or the driver refuses.

    Args:
        uuids: The GPUs, in NVML's order; none of them may be in use.
        nonce: The run's nonce.
        host: Name that enters the seeds.
        sizes: ``bytes`` (a multiple of 16 KiB), ``samples`` and ``budget_ms``.
        driver: Another player of the driver's part, in tests.

    Returns:
        ``gpus`` (uuid, name, context_ms, or error and code), ``matrix`` (row may read column, 1 or 0), ``pairs``.
    """
    started = time.monotonic()
    answer: dict[str, Any] = {"schema": SCHEMA, "nonce": nonce, "host": host, "parameters": dict(sizes), "gpus": [],
                              "matrix": [], "pairs": [], "problems": [], "pack": pack_digest()}
    with contextlib.ExitStack() as stack:
        try:
            if driver is None:
                scrub_environment(",".join(uuids))
                driver = Driver()
            sessions = open_sessions(uuids, driver, stack, answer)
            sides = [_Side(session, stack, sizes["bytes"]) for session in sessions]
            _meet(driver, sides, Nonce(nonce, host), sizes, started, answer)
        except ShortMemoryError as exc:
            answer["short"] = str(exc)
        except CudaError as exc:
            answer.update(error=str(exc), code=exc.code)
    answer["problems"] = [words for session in answer.pop("sessions", ()) for words in session.problems]
    answer["seconds"] = round(time.monotonic() - started, 4)
    return answer


def open_sessions(uuids: list[str], driver: Any, stack: contextlib.ExitStack, answer: dict[str, Any]) -> list[Session]:
    """Open a context on each GPU that gives one; ``answer`` gets what each of them is, or why there is none."""
    answer["sessions"] = sessions = []
    for ordinal, uuid in enumerate(uuids):
        try:
            session = stack.enter_context(Session(uuid, driver, ordinal))
        except CudaError as exc:
            answer["gpus"].append({"asked": uuid, "error": str(exc), "code": exc.code})
            continue
        sessions.append(session)
        answer["gpus"].append({"asked": uuid, "context_ms": session.context_ms,
                               **{key: session.identity[key] for key in ("uuid", "name", "cuda", "libcuda")}})
    return sessions


def _meet(driver: Any, sides: list[_Side], nonce: Nonce, sizes: dict[str, int], started: float,
          answer: dict[str, Any]) -> None:
    """Fill in ``matrix`` and ``pairs``."""
    answer["matrix"] = [[int(_may_reach(driver, reader, owner)) for owner in sides] for reader in sides]
    opened = {(reader.uuid, owner.uuid): _open(driver, reader, owner)
              for row, reader in zip(answer["matrix"], sides) for may, owner in zip(row, sides) if may}
    for source in sides:
        for target in sides:
            if source is target:
                continue
            late = time.monotonic() - started > sizes["budget_ms"] / 1e3
            words = opened.get((target.uuid, source.uuid), "not offered")
            pair: dict[str, Any] = {"from": source.uuid, "to": target.uuid, "late": late, "access": words or "open"}
            samples = 1 if late else sizes["samples"]
            pair["copy"] = _prove(driver, source, target, nonce, samples, direct=False)
            if not words:
                pair["read"] = _prove(driver, source, target, nonce, samples, direct=True)
            answer["pairs"].append(pair)


def _may_reach(driver: Any, reader: _Side, owner: _Side) -> bool:
    may = ctypes.c_int()
    if reader is not owner:
        driver.call("cuDeviceCanAccessPeer", ctypes.byref(may), reader.session.device, owner.session.device)
    return bool(may.value)


def _open(driver: Any, reader: _Side, owner: _Side) -> str:
    """Let ``reader`` reach the memory of ``owner``; return why not, or nothing."""
    reader.session.use()
    try:
        driver.call("cuCtxEnablePeerAccess", owner.session.context, ctypes.c_uint(0))
    except CudaError as exc:
        return "" if exc.code == _ALREADY_OPEN else str(exc)
    return ""


def _prove(driver: Any, source: _Side, target: _Side, nonce: Nonce, samples: int, *, direct: bool) -> dict[str, Any]:
    """Move the source's words to the target in one way, and add up what arrived before and after the timing."""
    size, way = 4 * source.words, "read" if direct else "copy"
    seed = nonce.seed("p2p %s %s>%s" % (way, source.uuid, target.uuid))
    actor = target if direct else source        # a copy is pushed: its stream is the source's

    def by_driver() -> None:
        driver.call("cuMemcpyPeerAsync", target.target, target.session.context, source.source, source.session.context,
                    ctypes.c_size_t(size), None)

    result: dict[str, Any] = {"status": "ok", "sums": [], "gbps": []}
    try:
        move = by_driver
        if direct:
            target.session.use()
            move = target.session.launcher(target.session.function("core", "planner_copy"), target.blocks, THREADS,
                                           target.target, source.source, _u32(source.words // 4))
        source.fill(seed)
        target.poison()
        actor.session.use()
        first = actor.session.timed_ms(move)
        result["sums"].append(target.sums())
        target.poison()
        actor.session.use()
        copies = max(1, min(COPIES_MOST, math.ceil(SAMPLE_MS / max(first, 1e-3))))

        def many() -> None:
            for _ in range(copies):
                move()

        actor.session.timed_ms(many)        # links that rested are slower for a millisecond
        for _ in range(samples):
            passed = actor.session.timed_ms(many)
            result["gbps"].append(round(size * copies / max(passed, 1e-6) / 1e6, 4))
        result.update(copies=copies, sums=[*result["sums"], target.sums()])
    except CudaError as exc:
        result.update(status="error", reason=str(exc), code=exc.code)
    return result
