"""A stand-in for libcuda in pure Python: it plays the driver's calls and the measuring kernels on host memory.

It says "(stand-in)" in its device's name. The kernels are written again here, word by word, as plainly as possible: the
closed forms of ``planner.gates.expect`` are tested against them. Times mean nothing.
"""

# ruff: noqa: N802, N815 - the calls have the driver's names

from __future__ import annotations

import ctypes
import re
import struct
from collections.abc import Callable
from typing import Any

from planner.probe.cuda import CudaError

M32, M64 = 0xFFFFFFFF, (1 << 64) - 1
NAME = "Plain Python (stand-in)"
P, U, F = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_float
SIGNATURES: dict[str, tuple[Any, ...]] = {
    "planner_mix": (P, U, U, U),
    "planner_empty": (), "planner_tick": (P,), "planner_fill": (P, U, U, U, U), "planner_check": (P, U, U, U, U, P),
    "planner_same": (P, U, U, P), "planner_sum": (P, U, P), "planner_factors": (P, P, U, U),
    "planner_vector": (P, P, P, U), "planner_copy": (P, P, U), "planner_fma": (U, U, F, F, P),
    "planner_wmma_f16": (P, P, P, U), "planner_wmma_s8": (P, P, P, U), "planner_ratio": (P, P, P, U, U, U, F, F, P, P),
}


def mix(x: int) -> int:
    """The hash of a word's number."""
    x ^= x >> 16
    x = x * 0x85EBCA6B & M32
    x ^= x >> 13
    x = x * 0xC2B2AE35 & M32
    return x ^ x >> 16


def word(i: int, kind: int, seed: int, mask: int) -> int:
    """One word of a pattern, as the kernels' comments say."""
    plain = [seed, 1 << ((i + seed) % 32), (i + seed) % 2**32,
             (mix(seed ^ (i % 4096 * 0x9E3779B9 & M32)) >> 1) + i // 4096][kind]
    return plain ^ mask


class StandInDriver:
    """Plays ``planner.probe.cuda.Driver``.

    Args:
        capability: Compute capability of the GPU that is played.
        fail: Call -> CUDA error code that it answers.
        refuse: Module target (``sm_70``) -> error code on loading it.
        idle: Kernels that do nothing and say success.
        flip: Kernel -> word of its output in which one bit is wrong.
        free_bytes: Memory that can be had.
    """

    def __init__(self, capability: tuple[int, int] = (9, 0), fail: dict[str, int] | None = None,
                 refuse: dict[str, int] | None = None, idle: tuple[str, ...] = (),
                 flip: dict[str, int] | None = None, free_bytes: int = 1 << 30) -> None:
        self.capability, self.fail, self.refuse = capability, fail or {}, refuse or {}
        self.idle, self.flip, self.free_bytes = idle, flip or {}, free_bytes
        self.device: dict[int, Any] = {}        # address -> buffer
        self.host: dict[int, Any] = {}
        self.modules: dict[int, list[str]] = {}
        self.functions: dict[int, str] = {}
        self.contexts = self.events = self.clock = 0
        self.calls: list[str] = []

    def call(self, name: str, *arguments: Any) -> None:
        """Play one call."""
        self.calls.append(name)
        if name in self.fail:
            raise CudaError(f"{name} failed with {self.fail[name]} (stand-in)", self.fail[name])
        getattr(self, "_" + name)(*arguments)

    def _cuInit(self, *_: Any) -> None:
        pass

    _cuCtxSetCurrent = _cuCtxSynchronize = _cuEventSynchronize = _cuInit

    def _cuDeviceGet(self, device: Any, number: int) -> None:
        assert number == 0

    def _cuDeviceGetName(self, text: Any, size: int, device: Any) -> None:
        text.value = NAME.encode()

    def _cuDeviceGetUuid(self, raw: Any, device: Any) -> None:
        raw[:] = bytes(range(16))

    def _cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> None:
        value._obj.value = {16: 1, 75: self.capability[0], 76: self.capability[1]}[number]

    def _cuDriverGetVersion(self, value: Any) -> None:
        value._obj.value = 13000

    def _cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> None:
        self.contexts += 1

    def _cuDevicePrimaryCtxRelease_v2(self, device: Any) -> None:
        self.contexts -= 1

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> None:
        used = sum(len(buffer) for buffer in self.device.values())
        free._obj.value, total._obj.value = self.free_bytes - used, self.free_bytes

    def _cuMemAlloc_v2(self, address: Any, size: Any) -> None:
        if sum(len(buffer) for buffer in self.device.values()) + size.value > self.free_bytes:
            raise CudaError("cuMemAlloc_v2 failed with 2 (stand-in)", 2)
        self._lend(self.device, address, size)

    def _cuMemHostAlloc(self, address: Any, size: Any, flags: Any) -> None:
        self._lend(self.host, address, size)

    @staticmethod
    def _lend(where: dict[int, Any], address: Any, size: Any) -> None:
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        where[address._obj.value] = buffer

    def _cuMemFree_v2(self, address: Any) -> None:
        del self.device[address.value]

    def _cuMemFreeHost(self, address: Any) -> None:
        del self.host[address.value]

    def _cuModuleLoadDataEx(self, module: Any, text: Any, *_: Any) -> None:
        ptx = text.value.decode("ascii")
        target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
        assert target is not None
        if target.group(1) in self.refuse:
            code = self.refuse[target.group(1)]
            raise CudaError(f"cuModuleLoadDataEx failed with {code} (stand-in)", code)
        module._obj.value = len(self.modules) + 1
        self.modules[module._obj.value] = re.findall(r"^\.visible \.entry (\w+)", ptx, re.MULTILINE)

    def _cuModuleUnload(self, module: Any) -> None:
        del self.modules[module.value]

    def _cuModuleGetFunction(self, function: Any, module: Any, entry: bytes) -> None:
        assert entry.decode() in self.modules[module.value]
        function._obj.value = len(self.functions) + 1
        self.functions[function._obj.value] = entry.decode()

    def _cuEventCreate(self, event: Any, flags: Any) -> None:
        self.events += 1
        event._obj.value = self.events

    def _cuEventDestroy_v2(self, event: Any) -> None:
        self.events -= 1

    def _cuEventRecord(self, event: Any, stream: Any) -> None:
        self.clock += 1

    def _cuEventElapsedTime(self, passed: Any, before: Any, after: Any) -> None:
        passed._obj.value = 10.0

    def _cuMemsetD32_v2(self, address: Any, value: Any, words: Any) -> None:
        ctypes.memmove(address.value, struct.pack("<I", value.value) * words.value, 4 * words.value)

    def _copy(self, to: Any, source: Any, size: Any, stream: Any = None) -> None:
        ctypes.memmove(_address(to), _address(source), size.value)

    _cuMemcpyHtoD_v2 = _cuMemcpyDtoH_v2 = _copy
    _cuMemcpyHtoDAsync_v2 = _cuMemcpyDtoHAsync_v2 = _cuMemcpyDtoDAsync_v2 = _copy

    def _cuLaunchKernel(self, function: Any, blocks: int, *rest: Any) -> None:
        threads, parameters = rest[2], rest[7]
        name = self.functions[function.value]
        values = [kind.from_address(parameters[n]).value for n, kind in enumerate(SIGNATURES[name])]
        if name in self.idle:
            return
        getattr(self, name.removeprefix("planner_"))(*values, threads=blocks * threads)
        if name in self.flip:
            out = {"planner_vector": 2, "planner_wmma_f16": 2, "planner_wmma_s8": 2, "planner_ratio": 2}.get(name, 0)
            words(values[out], self.flip[name] + 1)[self.flip[name]] ^= 1 << 9

    # --- the kernels ----------------------------------------------------------------------------------------------

    def mix(self, out: int, seed: int, n: int, rounds: int, threads: int) -> None:
        """The first proof: its definition is in ARCHITECTURE.md."""
        cells = words(out, n)
        for i in range(n):
            x = seed ^ i * 0x9E3779B9 & M32
            for _ in range(rounds):
                x = (x ^ x << 13) & M32
                x ^= x >> 17
                x = (x ^ x << 5) & M32
                x = x * 0x85EBCA6B + 0xC2B2AE35 & M32
            cells[i] = x

    def empty(self, threads: int) -> None:
        """Nothing."""

    def tick(self, report: int, threads: int) -> None:
        """Add one."""
        longs(report)[0] += 1

    def fill(self, where: int, n: int, kind: int, seed: int, mask: int, threads: int) -> None:
        """Write a pattern."""
        cells = words(where, n)
        for i in range(n):
            cells[i] = word(i, kind, seed, mask)

    def check(self, where: int, n: int, kind: int, seed: int, mask: int, report: int, threads: int) -> None:
        """Compare with a pattern."""
        compare(words(where, n), lambda i: word(i, kind, seed, mask), report)

    def same(self, where: int, n: int, mask: int, report: int, threads: int) -> None:
        """Compare with the first words."""
        cells = words(where, n)
        compare(cells, lambda i: cells[i & mask], report)

    def sum(self, where: int, n: int, report: int, threads: int) -> None:
        """Add up."""
        slots = longs(report)
        for i, value in enumerate(words(where, n)):
            slots[0] = slots[0] + value & M64
            slots[1] = slots[1] + value * (i + 1) & M64
            slots[2] += 1

    def factors(self, left: int, right: int, n: int, seed: int, threads: int) -> None:
        """Write two vectors of floats."""
        a, b = floats(left, n), floats(right, n)
        for i in range(n):
            value = word(i % 4096, 3, seed, 0)
            a[i], b[i] = value & 0xFFF, value >> 12 & 0xFFF

    def vector(self, left: int, right: int, out: int, n: int, threads: int) -> None:
        """Multiply and add."""
        a, b, c = floats(left, n), floats(right, n), words(out, n)
        for i in range(n):
            c[i] = int(a[i] * b[i] + (i >> 12 & 4095))

    def copy(self, to: int, source: int, n: int, threads: int) -> None:
        """Copy 16-byte pieces."""
        ctypes.memmove(to, source, 16 * n)

    def fma(self, seed: int, rounds: int, a: float, b: float, report: int, threads: int) -> None:
        """Sixteen chains a thread."""
        slots = longs(report)
        assert slots[4] == 0
        for thread in range(threads):
            for j in range(16):
                x = float((seed + thread + 4097 * j) % 65536)
                for _ in range(rounds):
                    x = x * a + b
                slots[0] += int(x)
            slots[1] += 1

    def wmma_f16(self, left: int, right: int, out: int, rounds: int, threads: int) -> None:
        """Products of 16-bit floats."""
        numbers = [struct.unpack("<256e", ctypes.string_at(at, 512)) for at in
                   (left, *(right + 512 * j for j in range(4)))]
        multiply(numbers, floats(out, threads * 32), rounds)

    def wmma_s8(self, left: int, right: int, out: int, rounds: int, threads: int) -> None:
        """Products of 8-bit integers."""
        numbers = [struct.unpack("<256b", ctypes.string_at(at, 256)) for at in
                   (left, *(right + 256 * j for j in range(4)))]
        multiply(numbers, (ctypes.c_int32 * (threads * 32)).from_address(out), rounds)

    def ratio(self, left: int, right: int, out: int, rounds: int, seed: int, fma_rounds: int, a: float, b: float,
              report: int, stamps: int, threads: int) -> None:
        """Both in one launch; the Tensor Cores are played eight times as fast."""
        self.wmma_f16(left, right, out, rounds, threads)
        self.fma(seed, fma_rounds, a, b, report, threads)
        tensor, scalar = 4 * 8192 * rounds * 16 // 2048, 32 * fma_rounds * 512 // 256
        last = threads // 32 - 1        # a loop begins when its last warp has come: each a cycle after the one before
        for warp in range(last + 1):
            where = (ctypes.c_uint64 * 4).from_address(stamps + 32 * warp)
            where[:] = [100 + warp, last + 100 + tensor, 500 + tensor + warp, last + 500 + tensor + scalar]


def compare(cells: Any, wanted: Callable[[int], int], report: int) -> None:
    """Count what is other than wanted."""
    slots = longs(report)
    for i, value in enumerate(cells):
        slots[1] += 1
        slots[2] = slots[2] + value & M64
        if value != wanted(i):
            slots[0] += 1
            slots[3] = min(slots[3], i)
            slots[4] |= value ^ wanted(i)


def multiply(numbers: list[Any], out: Any, rounds: int) -> None:
    """Write the four sums of every warp: left by rows, right by columns."""
    block = [rounds * sum(numbers[0][16 * row + k] * right[16 * column + k] for k in range(16))
             for right in numbers[1:] for row in range(16) for column in range(16)]
    for start in range(0, len(out), 1024):
        out[start:start + 1024] = block


def _address(where: Any) -> int:
    return ctypes.addressof(where) if isinstance(where, ctypes.Array) else (
        ctypes.cast(where, ctypes.c_void_p).value or 0 if isinstance(where, ctypes.c_char_p) else where.value)


def words(address: int, count: int) -> Any:
    """32-bit words at an address."""
    return (ctypes.c_uint32 * count).from_address(address)


def floats(address: int, count: int) -> Any:
    """32-bit floats at an address."""
    return (ctypes.c_float * count).from_address(address)


def longs(address: int) -> Any:
    """The five counters of a report."""
    return (ctypes.c_uint64 * 5).from_address(address)
