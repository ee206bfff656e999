"""All-reduces by NCCL with words from the run's nonce: every rank's result is added up, and each is timed.

NCCL is opened by path through ctypes, as the node has it; its settings (NCCL_*) stay as they are, so that a machine on
which NVLink multicast is off keeps it off. Only where nobody asks for a log, NCCL's own goes to memory of this process.
Units: ``us`` microseconds of one all-reduce, ``gbps`` 10^9 bytes of the buffer per second (algorithm bandwidth).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from typing import Any, Callable

from .cuda import POISON, CudaError, Driver, scrub_environment
from .kernels import HASH, MIB, STAND_IN, STAND_IN_MARK, pack_digest
from .measure import BLOCKS_PER_SM, THREADS, Nonce
from .nccl import Log, Nccl, NcclError
from .pairs import open_sessions
from .session import Session, ShortMemoryError
from .software_kit import LAB_STAND_IN

SCHEMA = "planner.collective/1"
SIZES: dict[str, dict[str, Any]] = {
    "quick": {"bytes": [8, 32 * MIB], "samples": 5},
    "standard": {"bytes": [8, 32 * MIB, 1024 * MIB], "samples": 9},
    "deep": {"bytes": [8, 32 * MIB, 1024 * MIB], "samples": 25},
    STAND_IN: {"bytes": [8, MIB // 16], "samples": 5},
}
WARM_UP = 3                 # all-reduces before the first that is timed
SMALL_BYTES = MIB // 16     # below it only the time tells something
# So many are timed together that the start, which the ranks see at different times, is a small part. It follows from
# the size alone: every rank must do as many.
BATCH_BYTES, BATCH_MOST = 1 << 30, 20
_INT32, _SUM = 2, 0         # ncclInt32, ncclSum
_NOT_READY = 600            # CUDA_ERROR_NOT_READY
_NON_BLOCKING = 1           # CU_STREAM_NON_BLOCKING
_u32 = ctypes.c_uint32


def sizes_for(profile: str, device_name: str) -> dict[str, Any]:
    """Return the work of a profile; a GPU that calls itself a stand-in is asked for little."""
    return SIZES[STAND_IN if STAND_IN_MARK in device_name else profile]


class Rank:
    """One GPU in a communicator, with a stream, two events and counters of its own."""

    def __init__(self, number: int, session: Session, stack: contextlib.ExitStack) -> None:
        self.number, self.session = number, session
        self.comm = ctypes.c_void_p()
        self.stream = ctypes.c_void_p()
        self.events = (ctypes.c_void_p(), ctypes.c_void_p())
        self.send, self.receive = ctypes.c_uint64(), ctypes.c_uint64()
        session.use()
        self.report = stack.enter_context(session.report())
        session.driver.call("cuStreamCreate", ctypes.byref(self.stream), ctypes.c_uint(_NON_BLOCKING))
        stack.callback(session.give_back, "cuStreamDestroy_v2", self.stream)
        for event in self.events:
            session.driver.call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
            stack.callback(session.give_back, "cuEventDestroy_v2", event)
        stack.callback(session.use)     # what was lent is given back in the context that lent it

    def lend(self, words: int, stack: contextlib.ExitStack) -> None:
        """Take both buffers for as long as ``stack`` lives."""
        self.session.use()
        self.send = stack.enter_context(self.session.memory(4 * words))
        self.receive = stack.enter_context(self.session.memory(4 * words))
        stack.callback(self.session.use)

    def fill(self, words: int, seed: int) -> None:
        """Write the seed's words into the buffer to send, and wait."""
        self._run("planner_fill", self.send, _u32(words), _u32(HASH), _u32(seed), _u32(0))

    def poison(self, words: int) -> None:
        """Overwrite the buffer to receive in, and wait."""
        self.session.use()
        self.session.set_words(self.receive, POISON, words)
        self.session.synchronize()

    def sums(self, words: int) -> list[int]:
        """Return [sum, sum weighted by index + 1, words] of what was received."""
        self.session.use()
        self.report.clear()
        self._run("planner_sum", self.receive, _u32(words), self.report.address)
        return self.report.read()[:3]

    def mark(self, which: int) -> None:
        """Queue an event: 0 before, 1 after what is timed."""
        self.session.use()
        self.session.driver.call("cuEventRecord", self.events[which], self.stream)

    def ready(self) -> bool:
        """Say whether the event after what is timed has come. Raises CudaError with what went wrong meanwhile."""
        self.session.use()
        try:
            self.session.driver.call("cuEventQuery", self.events[1])
        except CudaError as exc:
            if exc.code == _NOT_READY:
                return False
            raise
        return True

    def passed_ms(self) -> float:
        """Return the milliseconds between both events."""
        self.session.use()
        passed = ctypes.c_float()
        self.session.driver.call("cuEventElapsedTime", ctypes.byref(passed), *self.events)
        return passed.value

    def _run(self, entry: str, *values: Any) -> None:
        session = self.session
        session.use()
        session.launcher(session.function("core", entry), session.processors * BLOCKS_PER_SM, THREADS, *values)()
        session.synchronize()


def measure_collective(uuids: list[str], nonce: str, host: str, sizes: dict[str, Any], library: str,
                       driver: Any = None, nccl: Any = None) -> dict[str, Any]:
    """All-reduce over all GPUs from this one process; never raises because GPU, driver or NCCL refuse.

    Args:
        uuids: The GPUs, in NVML's order; none of them may be in use.
        nonce: The run's nonce.
        host: Name that enters the seeds.
        sizes: ``bytes`` (list; multiples of 4) and ``samples``.
        library: Path of ``libnccl.so.2``.
        driver: Another player of the driver's part, in tests.
        nccl: Likewise of NCCL's.

    Returns:
        ``ranks``, ``gpus``, ``nccl`` (library, version), ``sizes`` (see ``all_reduce``), ``log``; ``error`` and
        ``nccl_code`` or ``code`` where something refused.
    """

    def join(nccl: Any, ranks: list[Rank]) -> None:
        comms = (ctypes.c_void_p * len(ranks))()
        nccl.call("ncclCommInitAll", comms, len(ranks), (ctypes.c_int * len(ranks))(*range(len(ranks))))
        for rank, comm in zip(ranks, comms):
            rank.comm.value = comm

    base = {"schema": SCHEMA, "nonce": nonce, "host": host}
    return dict(base, **together(uuids, Nonce(nonce, host), sizes, library, join, 0, len(uuids), driver, nccl))


def together(uuids: list[str], nonce: Nonce, sizes: dict[str, Any], library: str,
             join: Callable[[Any, list[Rank]], None], first: int, ranks: int, driver: Any = None,
             nccl: Any = None, kept: Log | None = None) -> dict[str, Any]:
    """Open the GPUs, let ``join`` make their communicators, all-reduce every size; what ``measure_collective`` returns.

    Args:
        uuids: The GPUs of this process.
        nonce: Gives the words of every rank.
        sizes: ``bytes`` and ``samples``.
        library: Path of ``libnccl.so.2``.
        join: Given NCCL and this process's ranks, fills in their ``comm``.
        first: Rank of the first GPU.
        ranks: Ranks in all, those of other processes included.
        driver: Another player of the driver's part, in tests.
        nccl: Likewise of NCCL's.
        kept: A log that a parent has opened, to read it where this process is killed.
    """
    started = time.monotonic()
    answer: dict[str, Any] = {"ranks": ranks, "first": first, "parameters": dict(sizes), "gpus": [], "sizes": [],
                              "nccl": {"library": library}, "pack": pack_digest()}
    with kept or Log() as log:
        try:
            with contextlib.ExitStack() as stack:
                if driver is None:
                    scrub_environment(",".join(uuids))
                    driver = Driver()
                nccl = Nccl(library) if nccl is None else nccl
                answer["nccl"].update(version=nccl.version(), loaded=nccl.loaded())
                sessions = open_sessions(uuids, driver, stack, answer)
                if len(sessions) < len(uuids):
                    raise NcclError("not every GPU gives a context", None)
                local = [Rank(first + at, session, stack) for at, session in enumerate(sessions)]
                _together(nccl, local, nonce, sizes, ranks, join, answer, started)
        except ShortMemoryError as exc:
            answer["short"] = str(exc)
        except NcclError as exc:
            answer.update(error=str(exc), nccl_code=exc.code)
        except CudaError as exc:
            answer.update(error=str(exc), code=exc.code)
        answer["log"] = log.read()
    answer["problems"] = [words for session in answer.pop("sessions", ()) for words in session.problems]
    answer["seconds"] = round(time.monotonic() - started, 4)
    return answer


def _together(nccl: Any, local: list[Rank], nonce: Nonce, sizes: dict[str, Any], ranks: int,
              join: Callable[[Any, list[Rank]], None], answer: dict[str, Any], started: float) -> None:
    for rank in local:      # all kernels are in place before one may wait for another GPU
        for entry in ("planner_fill", "planner_sum"):
            rank.session.use()
            rank.session.function("core", entry)
    join(nccl, local)
    answer["joined_s"] = round(time.monotonic() - started, 4)
    try:
        for size in sizes["bytes"]:
            answer["sizes"].append(all_reduce(nccl, local, nonce, size, sizes["samples"]))
    except (NcclError, CudaError):
        for rank in local:      # a peer may be gone: a goodbye would wait for it
            with contextlib.suppress(NcclError):
                nccl.call("ncclCommAbort", rank.comm)
        raise
    for rank in local:
        rank.session.use()
        nccl.call("ncclCommDestroy", rank.comm)


def all_reduce(nccl: Any, local: list[Rank], nonce: Nonce, size_bytes: int, samples: int) -> dict[str, Any]:
    """All-reduce one size many times.

    Returns:
        ``bytes``; ``results``: for each rank of this process the sums after the first all-reduce and after the last;
        ``us`` and, for sizes from 64 KiB on, ``gbps``, one value a sample: the slowest rank's.

    Raises:
        NcclError: A call, or a peer, failed.
        CudaError: Likewise.
    """
    words, small = size_bytes // 4, size_bytes < SMALL_BYTES
    batch = max(1, min(BATCH_MOST, BATCH_BYTES // size_bytes))
    result: dict[str, Any] = {"bytes": size_bytes, "batch": batch, "us": []}
    with contextlib.ExitStack() as stack:
        for rank in local:
            rank.lend(words, stack)
            rank.fill(words, nonce.seed("nccl %d %d" % (size_bytes, rank.number)))
            rank.poison(words)
        _timed(nccl, local, words, 1)
        sums = {rank.number: [rank.sums(words)] for rank in local}
        for rank in local:
            rank.poison(words)
        _timed(nccl, local, words, WARM_UP)
        for _ in range(samples):
            result["us"].append(max(0.001, round(_timed(nccl, local, words, batch) * 1e3 / batch, 3)))
        if not small:
            result["gbps"] = [round(size_bytes / us / 1e3, 4) for us in result["us"]]
        result["results"] = [{"rank": rank.number, "uuid": rank.session.identity["uuid"],
                              "sums": [*sums[rank.number], rank.sums(words)]} for rank in local]
    return result


def _timed(nccl: Any, local: list[Rank], words: int, count: int) -> float:
    """Queue all-reduces on all local ranks, wait, and return the slowest rank's milliseconds."""
    for rank in local:
        rank.mark(0)
    for _ in range(count):
        nccl.call("ncclGroupStart")
        for rank in local:
            nccl.call("ncclAllReduce", rank.send, rank.receive, ctypes.c_size_t(words), _INT32, _SUM, rank.comm,
                      rank.stream)
        nccl.call("ncclGroupEnd")
    for rank in local:
        rank.mark(1)
    turns = 0
    while not all(rank.ready() for rank in local):
        turns += 1
        if turns % 100 == 0:        # a peer that died shows here; without this only the time limit would tell
            for rank in local:
                nccl.check(rank.comm)
        time.sleep(0.0002)
    return max(rank.passed_ms() for rank in local)


def run_collective(uuids: list[str], nonce: str, host: str, sizes: dict[str, Any], libraries: list[str],
                   ) -> dict[str, Any]:
    """All-reduce with the first library that was found; ``status`` is ``skip`` with a reason where there is none.

    Call it in a child of its own, and find the libraries (``planner.probe.nccl.find_libraries``) before that.
    """
    if not libraries:
        return {"schema": SCHEMA, "nonce": nonce, "host": host, "status": "skip", "libraries": [],
                "reason": "no libnccl.so.2 by ldconfig, in the given interpreters or under the given roots"}
    played = False
    with contextlib.suppress(NcclError):        # one that cannot be loaded is told by the measurement
        played = Nccl(libraries[0]).has(LAB_STAND_IN)
    if played:
        return {"schema": SCHEMA, "nonce": nonce, "host": host, "status": "skip", "libraries": libraries,
                "reason": "a stand-in of planner's lab, which only knows its version"}
    found = measure_collective(uuids, nonce, host, sizes, libraries[0])
    status = "error" if "error" in found else "inconclusive" if "short" in found else "ok"
    return dict(found, status=status, libraries=[os.path.realpath(path) for path in libraries])
