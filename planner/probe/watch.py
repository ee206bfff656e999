"""Watches the GPUs while others measure: a child samples NVML, and a page of shared memory holds what it saw so far.

Nothing is asked of the child at the end, so that one that hangs in the driver costs no answer and no time.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import signal
import struct
import time
from typing import Any

from .node import text_of

EVERY_SECONDS = 0.05
LIFE_SECONDS = 1800.0
FIRST_SECONDS = 2.0         # a short measurement ends before NVML has started: its conditions count all the same
STOP_SECONDS = 0.5          # time for the child to end by itself
KILL_SECONDS = 2.0
SLOT_BYTES = 128 * 1024
HEADER = struct.Struct("<BBI")      # stop, slot, bytes in it
PR_SET_PDEATHSIG = 1
IDLE = 0x1
# What makes a measurement unfit. The software's power cap (0x4) is usual under a load of Tensor Cores: not among it.
THROTTLED = {0x8: "hw-slowdown", 0x20: "sw-thermal", 0x40: "hw-thermal", 0x80: "power-brake"}


class Watcher:
    """``with Watcher() as w:`` samples until the block ends; then ``w.result`` is a dictionary by UUID.

    Each GPU has ``sm_clock_mhz`` and ``memory_clock_mhz`` (highest under load), ``temperature_c`` (last and
    ``temperature_max_c``), ``power_limit_w``, ``power_w_max``, ``utilisation_percent_max``, ``throttled`` (hw-slowdown,
    sw-thermal, hw-thermal, power-brake), ``power_capped`` (samples under the software's power cap, which is no fault),
    ``pcie`` ("gen5 x16", the best under load), ``samples`` and ``loaded_samples``. Where no sample was under load the
    figures are of all samples. ``w.error`` says why nothing was seen; ``w.hung`` that the child could not be ended.
    Leaving the block takes at most about five seconds, 50 ms as a rule.
    """

    def __init__(self, every_s: float = EVERY_SECONDS, life_s: float = LIFE_SECONDS) -> None:
        self.every_s = every_s
        self.life_s = life_s
        self.result: dict[str, Any] = {}
        self.error: str | None = None
        self.hung = False
        self._pid = 0
        self._page: mmap.mmap | None = None

    def __enter__(self) -> Watcher:
        """Start the child; takes a millisecond, its first sample comes when NVML is ready."""
        try:
            self._page = mmap.mmap(-1, HEADER.size + 2 * SLOT_BYTES)
            parent = os.getpid()
            pid = os.fork()
        except OSError as exc:
            self.error = "the watcher did not start: %s" % exc
            return self
        if pid == 0:
            _live(self._page, parent, self.every_s, self.life_s)
        self._pid = pid
        return self

    def __exit__(self, *_: object) -> None:
        """End the child and read what it saw."""
        if self._page is None or not self._pid:
            return
        deadline = time.monotonic() + FIRST_SECONDS
        gone = False
        while not gone and not HEADER.unpack(self._page[:HEADER.size])[2] and time.monotonic() < deadline:
            gone = _gone(self._pid, 0.0)
            time.sleep(0.005)
        self._page[0:1] = b"\1"
        if not gone and not _gone(self._pid, STOP_SECONDS):
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
            self.hung = not _gone(self._pid, KILL_SECONDS)
        self._read(self._page)
        if not self.hung:
            self._page.close()

    def _read(self, page: mmap.mmap) -> None:
        _, slot, length = HEADER.unpack(page[:HEADER.size])
        start = HEADER.size + (slot & 1) * SLOT_BYTES
        try:
            seen = json.loads(page[start:start + min(length, SLOT_BYTES)].decode("utf-8")) if length else {}
        except ValueError:
            seen = {"error": "the watcher's last words cannot be read"}
        self.result = seen.get("gpus", {})
        self.error = seen.get("error") or (None if self.result else "the watcher saw nothing in time")


def _gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)


def _live(page: mmap.mmap, parent: int, every_s: float, life_s: float) -> None:
    """The child: no way leads out of here but its end."""
    try:
        with contextlib.suppress(Exception):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, 4096)          # pipes of others must not stay open in here; the page needs no descriptor
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        with contextlib.suppress(OSError):
            os.nice(5)
        _sample(page, parent, every_s, time.monotonic() + life_s)
    except BaseException as exc:
        with contextlib.suppress(BaseException):
            _write(page, {"error": "the watcher broke: %s: %s" % (type(exc).__name__, exc)})
    finally:
        os._exit(0)


def _write(page: mmap.mmap, value: dict[str, Any]) -> None:
    """Fill the slot that nobody reads, then point to it."""
    data = json.dumps(value, sort_keys=True).encode("utf-8")[:SLOT_BYTES]
    stop, slot, _ = HEADER.unpack(page[:HEADER.size])
    slot = 1 - (slot & 1)
    start = HEADER.size + slot * SLOT_BYTES
    page[start:start + len(data)] = data
    page[1:HEADER.size] = HEADER.pack(stop, slot, len(data))[1:]


def _sample(page: mmap.mmap, parent: int, every_s: float, end: float) -> None:
    import pynvml

    pynvml.nvmlInit()
    gpus = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        with contextlib.suppress(Exception):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            gpus.append(Samples(pynvml, handle, text_of(pynvml.nvmlDeviceGetUUID(handle))))
    while page[0] == 0 and os.getppid() == parent and time.monotonic() < end:
        for gpu in gpus:
            gpu.take()
        _write(page, {"gpus": {gpu.uuid: gpu.summary() for gpu in gpus}})
        time.sleep(every_s)


class Samples:
    """What was seen of one GPU, kept as extremes: memory does not grow with time."""

    def __init__(self, nvml: Any, handle: Any, uuid: str) -> None:
        self.uuid = uuid
        self._nvml = nvml
        self._handle = handle
        self._last: dict[str, Any] = {}
        self._all: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}
        self._bits = {False: 0, True: 0}
        self._count = {False: 0, True: 0}
        self._capped = 0

    def take(self) -> None:
        """Take one sample."""
        reasons = self._ask("CurrentClocksEventReasons", "CurrentClocksThrottleReasons")
        use = self._ask("UtilizationRates")
        busy = None if use is None else int(use.gpu)
        seen = {"sm_clock_mhz": self._ask("ClockInfo", argument=1),
                "memory_clock_mhz": self._ask("ClockInfo", argument=2),
                "temperature_max_c": self._ask("Temperature", argument=0), "utilisation_percent_max": busy,
                "power_w_max": self._watts("PowerUsage")}
        gen, width = self._ask("CurrPcieLinkGeneration"), self._ask("CurrPcieLinkWidth")
        if gen is not None and width is not None:
            seen["pcie"] = (int(gen), int(width))
        seen = {key: value for key, value in seen.items() if value is not None}
        loaded = not int(reasons) & IDLE if reasons is not None else bool(busy)
        self._last = dict(seen, power_limit_w=self._watts("EnforcedPowerLimit"))
        for kind, best in ((False, self._all), *(((True, self._loaded),) if loaded else ())):
            self._count[kind] += 1
            self._bits[kind] |= int(reasons or 0)
            for key, value in seen.items():
                best[key] = max(best.get(key, value), value)
        self._capped += bool(int(reasons or 0) & 0x4)

    def summary(self) -> dict[str, Any]:
        """Return the JSON form."""
        best = dict(self._loaded or self._all)
        bits = self._bits[bool(self._loaded)]
        if "pcie" in best:
            best["pcie"] = "gen%d x%d" % best["pcie"]
        if "temperature_max_c" in self._last:
            best["temperature_c"] = self._last["temperature_max_c"]
        if self._last.get("power_limit_w") is not None:
            best["power_limit_w"] = self._last["power_limit_w"]
        return dict(best, throttled=sorted(name for bit, name in THROTTLED.items() if bits & bit), reasons_raw=bits,
                    power_capped=self._capped, samples=self._count[False], loaded_samples=self._count[True])

    def _ask(self, *names: str, argument: int | None = None) -> Any:
        for name in names:
            call = getattr(self._nvml, "nvmlDeviceGet" + name, None)
            if call is None:
                continue
            try:
                return call(self._handle) if argument is None else call(self._handle, argument)
            except Exception as exc:
                if getattr(exc, "value", None) != 13:
                    return None
        return None

    def _watts(self, name: str) -> float | None:
        value = self._ask(name)
        return None if value is None else int(value) / 1000.0
