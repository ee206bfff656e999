"""The driver's own library by ctypes, each call checked: no toolkit, no compiler, nothing installed.

Runs in a child process of its own: a driver that hangs or crashes takes only the child with it.
"""

from __future__ import annotations

import ctypes
import os
import pkgutil
from typing import Any

POISON = 0xA5A5A5A5         # what a result that nobody wrote looks like
LOG_BYTES = 8192
_ERROR_LOG, _ERROR_LOG_SIZE = 5, 6      # CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES
_CC_MAJOR, _CC_MINOR = 75, 76


class CudaError(Exception):
    """A driver call failed; the text names call, code and the driver's own words. ``code`` is None without a call."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class LoadError(CudaError):
    """The driver's library is not there, or is none."""


class Driver:
    """libcuda.so.1, each call checked."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libcuda.so.1")
        except OSError as exc:
            raise LoadError("libcuda.so.1 cannot be loaded: %s" % exc) from exc

    def call(self, name: str, *arguments: Any) -> None:
        """Call one function; raise with the driver's words unless it says success."""
        try:
            function = getattr(self._library, name)
        except AttributeError as exc:
            raise LoadError("this libcuda has no %s" % name) from exc
        function.restype = ctypes.c_int
        code = function(*arguments)
        if code:
            raise CudaError("%s failed with %d (%s: %s)" % (name, code, self._word("cuGetErrorName", code),
                                                           self._word("cuGetErrorString", code)), code)

    def has(self, name: str) -> bool:
        """Say whether this library has a function."""
        return hasattr(self._library, name)

    def _word(self, name: str, code: int) -> str:
        text = ctypes.c_char_p()
        getattr(self._library, name)(code, ctypes.byref(text))
        return text.value.decode("utf-8", "replace") if text.value else "unknown"


def identity(driver: Driver, device: ctypes.c_int, mig: bool = False) -> dict[str, Any]:
    """Return name, UUID, compute capability, the CUDA version that the driver speaks, and the loaded library's own.

    Args:
        driver: Initialised.
        device: Of this process.
        mig: It was asked for a MIG device: a library older than 11.4 tells only the UUID of the whole GPU then.
    """
    return {"name": _name(driver, device), "uuid": _uuid(driver, device, mig), "libcuda": _libcuda_version(),
            "compute_capability": _capability(driver, device), "cuda": _cuda_version(driver)}


def scrub_environment(uuid: str) -> None:
    """Take out of the environment what would forge the result; NCCL's and NVSHMEM's settings stay as they are."""
    for name in [n for n in os.environ if n.startswith("CUDA_")]:
        del os.environ[name]
    os.environ["CUDA_VISIBLE_DEVICES"] = uuid
    os.environ["CUDA_CACHE_DISABLE"] = "1"      # the driver's compiler is part of what is proved
    # One queue is all that is used, and fewer are made and given back sooner: on eight GPUs half a second and more.
    os.environ["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"


def load_module(driver: Driver, name: str) -> ctypes.c_void_p:
    """Let the driver compile ``kernels/NAME.ptx``; its compiler's words are part of the error.

    Raises:
        CudaError: The driver, or its compiler, refuses the text.
    """
    text = pkgutil.get_data(__package__ or "planner.probe", "kernels/%s.ptx" % name)
    assert text is not None, "the probe is incomplete"
    log = ctypes.create_string_buffer(LOG_BYTES)
    options = (ctypes.c_int * 2)(_ERROR_LOG, _ERROR_LOG_SIZE)
    values = (ctypes.c_void_p * 2)(ctypes.addressof(log), LOG_BYTES)
    module = ctypes.c_void_p()
    try:
        driver.call("cuModuleLoadDataEx", ctypes.byref(module), ctypes.c_char_p(text), 2, options, values)
    except CudaError as exc:
        words = log.value.decode("utf-8", "replace").strip()
        raise CudaError("%s%s" % (exc, "; " + words if words else ""), exc.code) from exc
    return module


def _name(driver: Driver, device: ctypes.c_int) -> str:
    text = ctypes.create_string_buffer(256)
    driver.call("cuDeviceGetName", text, 256, device)
    return text.value.decode("utf-8", "replace")


def _uuid(driver: Driver, device: ctypes.c_int, mig: bool) -> str:
    raw = (ctypes.c_ubyte * 16)()
    call, kind = "cuDeviceGetUuid", "GPU-"
    if mig and driver.has(call + "_v2"):
        call, kind = call + "_v2", "MIG-"
    driver.call(call, raw, device)
    text = bytes(raw).hex()
    return kind + "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _capability(driver: Driver, device: ctypes.c_int) -> str:
    found = []
    for attribute in (_CC_MAJOR, _CC_MINOR):
        value = ctypes.c_int()
        driver.call("cuDeviceGetAttribute", ctypes.byref(value), attribute, device)
        found.append(str(value.value))
    return ".".join(found)


def _cuda_version(driver: Driver) -> str:
    value = ctypes.c_int()
    driver.call("cuDriverGetVersion", ctypes.byref(value))
    return "%d.%d" % (value.value // 1000, value.value % 1000 // 10)


def _libcuda_version() -> str | None:
    """Return the version in the name of the library that was really loaded."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            name = os.path.basename(line.split(None, 5)[-1].strip()) if "libcuda.so." in line else ""
            if name.startswith("libcuda.so.") and name.count(".") > 2:
                return name[len("libcuda.so."):]
    return None
