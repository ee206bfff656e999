"""What the checks of libraries share: the run's numbers, a library with each call checked, where it was loaded from.

``planner.gates.software`` computes the same numbers again on the controller.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import os
import struct
from typing import Any, Callable

from .cuda import CudaError

N = 64                      # rows and columns of the matrices
WORDS = 256                 # of what a compiled kernel writes
BLOCKS, THREADS = 2, 128
_DLINFO_LINKMAP = 2         # RTLD_DI_LINKMAP
_M32 = 0xFFFFFFFF

KERNEL = """extern "C" __global__ void planner_software(unsigned int *out, unsigned int n)
{
    unsigned int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        unsigned int x = i * %(a)du + %(b)du;
        x ^= x >> 13;
        x *= %(c)du;
        out[i] = x ^ (x >> 16);
    }
}
"""


class SkipError(Exception):
    """The check does not apply; the text says why."""


class LibraryError(Exception):
    """A library cannot be loaded or lacks a function (``code`` "LIB_LOAD"), or a call of it failed."""

    def __init__(self, text: str, code: Any = None) -> None:
        super().__init__(text)
        self.code = code


class Numbers:
    """The run's numbers for one subject of one check: SHA-256 of nonce, host, check, subject and a purpose."""

    def __init__(self, nonce: str, host: str, check: str, subject: str) -> None:
        self.prefix = "%s:%s:software:%s:%s" % (nonce, host, check, subject)

    def data(self, purpose: str, size_bytes: int) -> bytes:
        """Return bytes for one purpose."""
        found = b""
        while len(found) < size_bytes:
            text = "%s:%s:%d" % (self.prefix, purpose, len(found) // 32)
            found += hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        return found[:size_bytes]

    def small(self, purpose: str, count: int) -> list[int]:
        """Return integers from -8 to 7: sums of 64 products of two are exact in every float format."""
        return [(byte & 15) - 8 for byte in self.data(purpose, count)]

    def constants(self, purpose: str) -> dict[str, int]:
        """Return the constants of the kernel's text, all odd."""
        words = struct.unpack(">3I", self.data(purpose, 12))
        return {name: word | 1 for name, word in zip("abc", words)}

    def kernel(self, purpose: str) -> str:
        """Return the text of a kernel that only this run knows."""
        return KERNEL % self.constants(purpose)


LAB_STAND_IN = "planner_lab_standin"      # a name that no library of NVIDIA's has


def guarded(act: Callable[[dict[str, Any]], None]) -> Callable[[], dict[str, Any]]:
    """Return a function for a child that runs ``act`` and answers what it found, however it ended.

    ``act`` fills the evidence it is given; what it found before an error is told, too.
    """

    def run() -> dict[str, Any]:
        evidence: dict[str, Any] = {}
        answer: dict[str, Any] = {"status": "ok", "reason": None, "code": None, "evidence": evidence}
        try:
            act(evidence)
        except SkipError as exc:
            answer.update(status="skip", reason=str(exc))
        except (LibraryError, CudaError) as exc:
            answer.update(status="error", reason=str(exc), code=exc.code)
        except Exception as exc:
            answer.update(status="error", reason="%s: %s" % (type(exc).__name__, exc), code="GATE_BUG")
        return answer

    return run


class Library:
    """A shared library opened by path, or by the bare name that the loader then looks for.

    Raises:
        LibraryError: It cannot be loaded; the loader's own words.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            self.handle = ctypes.CDLL(name)
        except OSError as exc:
            raise LibraryError("the loader: %s" % exc, "LIB_LOAD") from exc
        if self.has(LAB_STAND_IN):
            raise SkipError("a stand-in of planner's lab, which only knows its version")

    def has(self, name: str) -> bool:
        """Say whether the library has a function of this name."""
        return hasattr(self.handle, name)

    def function(self, name: str) -> Any:
        """Return a function. Raises LibraryError."""
        try:
            return getattr(self.handle, name)
        except AttributeError as exc:
            raise LibraryError("%s has no %s" % (os.path.basename(self.name), name), "LIB_LOAD") from exc

    def call(self, name: str, *arguments: Any) -> int:
        """Call a function that returns a status and return it."""
        function = self.function(name)
        function.restype = ctypes.c_int
        return int(function(*arguments))

    def must(self, name: str, *arguments: Any) -> None:
        """Call a function that returns zero when all is well. Raises LibraryError with the status."""
        status = self.call(name, *arguments)
        if status:
            raise LibraryError("%s failed with status %d" % (name, status), "LIB_CALL")

    def tell(self, evidence: dict[str, Any]) -> None:
        """Put the real path of what was loaded into the evidence, and what a stand-in of tests says of itself."""
        evidence["path"] = self.path()
        if self.has("planner_standin"):
            text = (ctypes.c_char * 80).in_dll(self.handle, "planner_standin")
            evidence["stand_in"] = text.value.decode("utf-8", "replace")

    def path(self) -> str | None:
        """Return the real path of what was loaded, by the loader's own list."""
        libc = ctypes.CDLL(None)
        entry = ctypes.c_void_p()
        if not hasattr(libc, "dlinfo") or libc.dlinfo(ctypes.c_void_p(self.handle._handle), _DLINFO_LINKMAP,
                                                      ctypes.byref(entry)) or not entry.value:
            return None
        name = ctypes.c_char_p.from_address(entry.value + ctypes.sizeof(ctypes.c_void_p)).value
        return os.path.realpath(os.fsdecode(name)) if name else None


def pack_words(data: bytes) -> str:
    """Return bytes as JSON can carry them."""
    return base64.b64encode(data).decode("ascii")


def floats(values: list[int]) -> bytes:
    """Return integers as 32-bit floats, little endian."""
    return struct.pack("<%df" % len(values), *values)


def digest(values: Any) -> str:
    """Return the SHA-256 of integers as 32-bit words, little endian; "inexact" when one is none."""
    values = list(values)
    if not all(abs(v) < 1 << 31 and v == int(v) for v in values):      # NaN is below nothing
        return "inexact"
    return hashlib.sha256(struct.pack("<%di" % len(values), *(int(v) for v in values))).hexdigest()


def run_machine_code(driver: Any, image: bytes, evidence: dict[str, Any]) -> None:
    """Load machine code or PTX by the driver, run its kernel, and put its words into the evidence.

    Raises:
        CudaError: The driver refuses it; ``code`` is the number of its error.
    """
    module, function, memory = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_uint64()
    driver.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(image))
    try:
        driver.call("cuModuleGetFunction", ctypes.byref(function), module, b"planner_software")
        driver.call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4 * WORDS))
        try:
            driver.call("cuMemsetD32_v2", memory, ctypes.c_uint(0xA5A5A5A5), ctypes.c_size_t(WORDS))
            count = ctypes.c_uint(WORDS)
            values = (ctypes.c_void_p * 2)(ctypes.addressof(memory), ctypes.addressof(count))
            driver.call("cuLaunchKernel", function, BLOCKS, 1, 1, THREADS, 1, 1, 0, None, values, None)
            driver.call("cuCtxSynchronize")
            out = ctypes.create_string_buffer(4 * WORDS)
            driver.call("cuMemcpyDtoH_v2", out, memory, ctypes.c_size_t(4 * WORDS))
            evidence["output"] = pack_words(out.raw)
        finally:
            driver.call("cuMemFree_v2", memory)
    finally:
        driver.call("cuModuleUnload", module)


def attempt(evidence: dict[str, Any], name: str, driver: Any, image: bytes) -> None:
    """Run an image as evidence ``name``; an error of the driver becomes part of it: each way counts for itself."""
    seen: dict[str, Any] = evidence.setdefault(name, {})
    try:
        run_machine_code(driver, image, seen)
    except CudaError as exc:
        seen.update(error=str(exc), error_code=exc.code)
