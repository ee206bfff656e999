"""A load of this program's own on one GPU: Tensor Cores and memory in slices of about a second, each slice checked.

One figure a slice shows unsteadiness that a median hides. Before the slices nine tenths of the free memory are tested
once. ``planner.gates.load`` computes every slice's evidence again. Units: ``tflops`` 10^12 operations per second,
``gbps`` 10^9 bytes read and written per second, ``…_cpu_us`` microseconds of the processor for one launch or copy.
"""

from __future__ import annotations

import ctypes
import math
import time
from typing import Any, Callable

from .cuda import POISON, CudaError
from .kernels import HASH, MIB, STAND_IN_MARK, too_old
from .measure import BLOCKS_PER_SM, TENSOR_BLOCKS_PER_SM, THREADS, WARP_WORDS, WMMA_OPERATIONS, Nonce, matrices, measure
from .session import Session, ShortMemoryError

SCHEMA = "planner.load/1"
# A full queue would make the processor wait, and that time would count as its work: at most so many are queued.
SIZES = {"rounds": 8000, "copy_bytes": 1024 * MIB, "tensor_ms": 650, "copy_ms": 250, "queued_most": 800,
         "memory_percent": 90}
# A processor plays the GPU there: its clock is not worth filling a second.
STAND_IN_SIZES = {"rounds": 4, "copy_bytes": MIB // 16, "tensor_ms": 1, "copy_ms": 1, "queued_most": 4,
                  "memory_percent": 0}
STAND_IN_TEST_BYTES = MIB // 16
WARM_UP = 20               # launches and copies before the first slice
KINDS = 16                  # slices differ in rounds and words; after so many they begin anew
BLOCK_BYTES = 16384         # of the memory pattern
SLICES_MOST = 4000
_u32 = ctypes.c_uint32


def run_load(uuid: str, nonce: str, label: str, seconds: float, driver: Any = None) -> dict[str, Any]:
    """Load one GPU for so many seconds, start and memory test included; it ends early rather than late.

    Args:
        uuid: The GPU; nobody else may use it.
        nonce: The run's nonce.
        label: ``host:index``; enters the seeds.
        seconds: No slice begins that would end later.
        driver: Another player of the driver's part, in tests.

    Returns:
        ``memory`` (the memory test, as in ``planner.measure/1``), ``slices`` (tflops, gbps, launch_cpu_us, copy_cpu_us,
        wall_s, gpu_s, and evidence: same, first, sums), ``warps``, ``parameters``; ``skip``, ``short`` or ``error`` and
        ``code`` say why there are no more. Never raises because the GPU or its driver refuses.
    """
    started = time.monotonic()
    answer: dict[str, Any] = {"schema": SCHEMA, "uuid": uuid, "nonce": nonce, "label": label, "slices": [],
                              "seconds_asked": seconds, "problems": []}
    try:
        with Session(uuid, driver) as session:
            answer["problems"] = session.problems
            answer.update(name=session.identity["name"], uuid=session.identity["uuid"])
            played = STAND_IN_MARK in session.identity["name"]
            answer["parameters"] = dict(STAND_IN_SIZES if played else SIZES)
            numbers = Nonce(nonce, label)
            answer["memory"], answer["memory_bytes"] = _test_memory(session, numbers, played)
            if too_old("tensor_f16", session.capability):
                answer["skip"] = "this GPU has no Tensor Cores"
            else:
                _slices(session, numbers, answer, started + seconds)
    except ShortMemoryError as exc:
        answer["short"] = str(exc)
    except CudaError as exc:
        answer.update(error=str(exc), code=exc.code)
    answer["seconds"] = round(time.monotonic() - started, 4)
    return answer


def _test_memory(session: Session, numbers: Nonce, played: bool) -> tuple[dict[str, Any], dict[str, int]]:
    free, total = session.memory_bytes()
    size = STAND_IN_TEST_BYTES if played else free // 100 * SIZES["memory_percent"] // BLOCK_BYTES * BLOCK_BYTES
    return measure(session, "memory", numbers, {"bytes": size}), {"free": free, "total": total}


def _slices(session: Session, numbers: Nonce, answer: dict[str, Any], deadline: float) -> None:
    sizes = answer["parameters"]
    answer["warps"] = warps = session.processors * TENSOR_BLOCKS_PER_SM * THREADS // 32
    size = sizes["copy_bytes"]
    with matrices(session, numbers, "f16") as (left, right), session.memory(4 * WARP_WORDS * warps) as out, \
            session.memory(size) as source, session.memory(size) as target, session.report() as report:
        slices = _Slices(session, numbers, sizes, (left, right, out, source, target), report, warps)
        slices.warm_up()
        longest = 0.0
        while len(answer["slices"]) < SLICES_MOST:
            began = time.monotonic()
            if began + longest > deadline and answer["slices"]:
                break
            answer["slices"].append(slices.run(len(answer["slices"])))
            longest = max(longest, time.monotonic() - began)


class _Slices:
    """What one slice does, and how often, so that it takes about as long as asked."""

    def __init__(self, session: Session, numbers: Nonce, sizes: dict[str, int], memory: tuple[Any, ...], report: Any,
                 warps: int) -> None:
        self.session, self.numbers, self.sizes, self.report, self.warps = session, numbers, sizes, report, warps
        self.left, self.right, self.out, self.source, self.target = memory
        self.blocks = session.processors * BLOCKS_PER_SM
        self.launches = self.copies = 1

    def _tensor(self, rounds: int) -> Callable[[], None]:
        function = self.session.function("tensor_f16", "planner_wmma_f16")
        return self.session.launcher(function, self.session.processors * TENSOR_BLOCKS_PER_SM, THREADS, self.left,
                                     self.right, self.out, _u32(rounds))

    def _copy(self) -> None:
        self.session.driver.call("cuMemcpyDtoDAsync_v2", self.target, self.source,
                                 ctypes.c_size_t(self.sizes["copy_bytes"]), None)

    def warm_up(self) -> None:
        """Raise the clocks, and find out how many launches and copies fill a slice."""
        tensor = self._tensor(self.sizes["rounds"])
        for _ in range(WARM_UP):
            one, copy = self.session.timed_ms(tensor), self.session.timed_ms(self._copy)
        most = self.sizes["queued_most"]
        self.launches = max(1, min(most, math.ceil(self.sizes["tensor_ms"] / max(one, 1e-3))))
        self.copies = max(1, min(most, math.ceil(self.sizes["copy_ms"] / max(copy, 1e-3))))

    def run(self, number: int) -> dict[str, Any]:
        """Do one slice; return its figures and the evidence of its last launch and its last copy."""
        kind, session, words = number % KINDS, self.session, self.sizes["copy_bytes"] // 4
        began = time.monotonic()
        rounds = self.sizes["rounds"] + self.numbers.seed("load rounds %d" % kind) % KINDS
        session.set_words(self.out, POISON, WARP_WORDS * self.warps)
        session.set_words(self.target, POISON, words)
        session.launcher(session.function("core", "planner_fill"), self.blocks, THREADS, self.source, _u32(words),
                         _u32(HASH), _u32(self.numbers.seed("load copy %d" % kind)), _u32(0))()
        tensor_ms, launch_us = self._timed(self._tensor(rounds), self.launches)
        copy_ms, copy_us = self._timed(self._copy, self.copies)
        operations = float(WMMA_OPERATIONS) * rounds * self.warps * self.launches
        return {"number": number, "launches": self.launches, "copies": self.copies, "launch_cpu_us": launch_us,
                "copy_cpu_us": copy_us, "tflops": round(operations / max(tensor_ms, 1e-6) / 1e9, 4),
                "gbps": round(8.0 * words * self.copies / max(copy_ms, 1e-6) / 1e6, 4), **self._evidence(words),
                "gpu_s": round((tensor_ms + copy_ms) / 1e3, 5), "wall_s": round(time.monotonic() - began, 5)}

    def _timed(self, act: Callable[[], None], count: int) -> tuple[float, float]:
        """Return the milliseconds of ``count`` acts, and the processor's microseconds for asking for one."""
        spent = [0.0]

        def queue() -> None:
            cpu = time.process_time()
            for _ in range(count):
                act()
            spent[0] = time.process_time() - cpu        # waiting turns in circles and would hide it

        passed = self.session.timed_ms(queue)
        return passed, round(spent[0] * 1e6 / count, 3)

    def _evidence(self, words: int) -> dict[str, Any]:
        """Return how all warps compare with the first, the sums of the first, and those of the copied words."""
        session, report = self.session, self.report
        report.clear()
        session.launcher(session.function("core", "planner_same"), self.blocks, THREADS, self.out,
                         _u32(WARP_WORDS * self.warps), _u32(WARP_WORDS - 1), report.address)()
        same, sums = report.read(), []
        for address, count in ((self.out, WARP_WORDS), (self.target, words)):
            report.clear()
            session.launcher(session.function("core", "planner_sum"), self.blocks, THREADS, address, _u32(count),
                             report.address)()
            sums.append(report.read()[:3])
        return {"same": same, "first": sums[0], "sums": sums[1]}
