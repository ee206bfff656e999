"""One context on one GPU for the measurements: memory, modules, launches and times, all of it given back at the end.

No setting of the GPU is read-modify-written here; nothing outlives the session.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from typing import Any, Callable, Iterator

from .cuda import CudaError, Driver, identity, load_module, scrub_environment
from .targets import is_mig

_SMS = 16                   # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
_NO_MORE_MEMORY = 2         # CUDA_ERROR_OUT_OF_MEMORY
_REPORT_SLOTS = 5


class ShortMemoryError(Exception):
    """The GPU has less free memory than the measurement needs."""


class Session:
    """The primary context of one visible GPU or MIG device; use it in a ``with`` statement.

    Args:
        uuid: The GPU; all others are hidden from this process.
        driver: A driver that is open already, or another player of its part in tests; then the environment, and with
            it what is visible, stays as it is.
        ordinal: Which of the visible GPUs. Where several are open each call goes to the one that ``use`` named last.

    Raises:
        CudaError: The driver cannot be loaded or gives no context.
    """

    def __init__(self, uuid: str, driver: Any = None, ordinal: int = 0) -> None:
        if driver is None:
            scrub_environment(uuid)
        started = time.monotonic()
        self.driver: Any = Driver() if driver is None else driver
        self.driver.call("cuInit", ctypes.c_uint(0))
        self.device = ctypes.c_int()
        self.driver.call("cuDeviceGet", ctypes.byref(self.device), ordinal)
        self.context = ctypes.c_void_p()
        self.driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), self.device)
        self.use()
        self.context_ms = round((time.monotonic() - started) * 1e3, 3)
        self.identity = identity(self.driver, self.device, is_mig(uuid))
        self.capability = tuple(int(part) for part in self.identity["compute_capability"].split("."))
        self.processors = self.attribute(_SMS)
        self.jit_ms: dict[str, float] = {}
        self.problems: list[str] = []       # what could not be given back
        self._modules: dict[str, ctypes.c_void_p] = {}
        self._events: list[ctypes.c_void_p] = []

    def __enter__(self) -> Session:
        return self

    def use(self) -> None:
        """Make this GPU's context the one that calls go to."""
        self.driver.call("cuCtxSetCurrent", self.context)

    def __exit__(self, *_: Any) -> None:
        self.give_back("cuCtxSetCurrent", self.context)
        for event in self._events:
            self.give_back("cuEventDestroy_v2", event)
        for name in sorted(self._modules):
            self.give_back("cuModuleUnload", self._modules[name])
        self.give_back("cuDevicePrimaryCtxRelease_v2", self.device)

    def give_back(self, call: str, *arguments: Any) -> None:
        """Make a call that gives something back; a refusal goes to ``problems``."""
        try:
            self.driver.call(call, *arguments)
        except CudaError as exc:
            self.problems.append(str(exc))

    def attribute(self, number: int) -> int:
        """Return a device attribute (``CU_DEVICE_ATTRIBUTE_*``)."""
        value = ctypes.c_int()
        self.driver.call("cuDeviceGetAttribute", ctypes.byref(value), number, self.device)
        return value.value

    def memory_bytes(self) -> tuple[int, int]:
        """Return (free, total) memory of the GPU in bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    @contextlib.contextmanager
    def memory(self, size_bytes: int) -> Iterator[ctypes.c_uint64]:
        """Lend memory of the GPU.

        Raises:
            ShortMemoryError: There is not as much.
            CudaError: Any other refusal.
        """
        address = ctypes.c_uint64()
        try:
            self.driver.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        except CudaError as exc:
            if exc.code == _NO_MORE_MEMORY:
                raise ShortMemoryError("%d bytes asked, %d of %d free" % (size_bytes, *self.memory_bytes())) from exc
            raise
        try:
            yield address
        finally:
            self.give_back("cuMemFree_v2", address)

    @contextlib.contextmanager
    def pinned(self, size_bytes: int) -> Iterator[ctypes.c_void_p]:
        """Lend page-locked memory of the host. Raises CudaError."""
        address = ctypes.c_void_p()
        self.driver.call("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size_bytes), ctypes.c_uint(0))
        try:
            yield address
        finally:
            self.give_back("cuMemFreeHost", address)

    def function(self, module: str, entry: str) -> ctypes.c_void_p:
        """Return a kernel; the driver compiles its module on first use, and the time goes to ``jit_ms``.

        Raises:
            CudaError: The driver refuses the module or has no such kernel in it.
        """
        if module not in self._modules:
            started = time.monotonic()
            self._modules[module] = load_module(self.driver, module)
            self.jit_ms[module] = round((time.monotonic() - started) * 1e3, 3)
        found = ctypes.c_void_p()
        self.driver.call("cuModuleGetFunction", ctypes.byref(found), self._modules[module], entry.encode())
        return found

    def launcher(self, function: ctypes.c_void_p, blocks: int, threads: int, *values: Any) -> Callable[[], None]:
        """Return a call that queues the kernel; ``values`` are ctypes objects and stay as they are now."""
        parameters = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(value) for value in values))
        call = self.driver.call

        def launch(_kept: Any = values) -> None:
            call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, None, parameters, None)

        return launch

    def synchronize(self) -> None:
        """Wait for everything that was queued. Raises CudaError with what went wrong meanwhile."""
        self.driver.call("cuCtxSynchronize")

    def timed_ms(self, queue: Callable[[], Any]) -> float:
        """Return the milliseconds between two events around what ``queue`` queues, after it has ended."""
        while len(self._events) < 2:
            event = ctypes.c_void_p()
            self.driver.call("cuEventCreate", ctypes.byref(event), ctypes.c_uint(0))
            self._events.append(event)
        before, after = self._events
        self.driver.call("cuEventRecord", before, None)
        queue()
        self.driver.call("cuEventRecord", after, None)
        self.driver.call("cuEventSynchronize", after)
        passed = ctypes.c_float()
        self.driver.call("cuEventElapsedTime", ctypes.byref(passed), before, after)
        return passed.value

    def set_words(self, address: ctypes.c_uint64, value: int, words: int) -> None:
        """Set 32-bit words of the GPU's memory to one value."""
        self.driver.call("cuMemsetD32_v2", address, ctypes.c_uint(value), ctypes.c_size_t(words))

    def upload(self, address: ctypes.c_uint64, data: bytes) -> None:
        """Copy bytes to the GPU and wait."""
        self.driver.call("cuMemcpyHtoD_v2", address, ctypes.c_char_p(data), ctypes.c_size_t(len(data)))

    def download(self, address: ctypes.c_uint64, size_bytes: int) -> bytes:
        """Return bytes of the GPU's memory; earlier kernels end first."""
        buffer = ctypes.create_string_buffer(size_bytes)
        self.driver.call("cuMemcpyDtoH_v2", buffer, address, ctypes.c_size_t(size_bytes))
        return buffer.raw

    @contextlib.contextmanager
    def report(self) -> Iterator[Report]:
        """Lend the five 64-bit counters that checking kernels write."""
        with self.memory(8 * _REPORT_SLOTS) as address:
            yield Report(self, address)


class Report:
    """Counters in the GPU's memory: clear, let a kernel add to them, read."""

    def __init__(self, session: Session, address: ctypes.c_uint64) -> None:
        self.address = address
        self._session = session

    def clear(self) -> None:
        """Set all counters to zero, and the fourth (a minimum) to the highest number."""
        highest = (1 << 64) - 1
        self._session.upload(self.address, b"".join(n.to_bytes(8, "little") for n in (0, 0, 0, highest, 0)))

    def read(self) -> list[int]:
        """Return the counters after all queued work has ended."""
        self._session.synchronize()
        raw = self._session.download(self.address, 8 * _REPORT_SLOTS)
        return [int.from_bytes(raw[at:at + 8], "little") for at in range(0, len(raw), 8)]
