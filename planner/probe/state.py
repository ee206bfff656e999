"""What NVML says of a node: inventory, health, settings, fabric and modes of every GPU. Run it in a bounded child."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable

from .node import Node, text_of
from .processes import mps_seen
from .state_links import read_fabric, read_links, read_mig

# Answers that only say that a GPU, a driver or this user has no such thing; every other number is told.
HAS_NONE = (2, 3, 4, 6, 13, 25, 26)
LOST = 15
RESET_REQUIRED = 16
COUNTERS = (("volatile", 0), ("aggregate", 1))
KINDS = (("corrected", 0), ("uncorrected", 1))
PLACES = (("dram", 2), ("sram", 7))
RECOVERY_ACTION = 230       # NVML_FI_DEV_GET_GPU_RECOVERY_ACTION
# nvmlClocksEventReasons: bit -> our word
REASONS = {0x1: "idle", 0x2: "application-clocks", 0x4: "sw-power-cap", 0x8: "hw-slowdown", 0x10: "sync-boost",
           0x20: "sw-thermal", 0x40: "hw-thermal", 0x80: "power-brake", 0x100: "display-clocks",
           0x200: "board-limit", 0x400: "reliability"}
VGPU_GUEST = 2


class Asker:
    """One GPU's answers. A call that a driver lacks leaves its key out; a real error is kept with its number."""

    def __init__(self, nvml: Any, handle: Any, gpu: dict[str, Any]) -> None:
        self.nvml = nvml
        self.handle = handle
        self.gpu = gpu

    def call(self, names: str, *arguments: Any) -> Any:
        """Call the first of some functions that exists; None where it has no answer. ``a|b``: b where a is missing."""
        for name in names.split("|"):
            function = getattr(self.nvml, name, None)
            if function is None:
                continue
            try:
                return function(self.handle, *arguments)
            except Exception as exc:
                code = getattr(exc, "value", None)
                if code not in HAS_NONE:
                    self.complain(name, code, exc)
                if code != 13:      # the library lacks it: an older name may be there
                    return None
        return None

    def complain(self, name: str, code: Any, exc: Exception) -> None:
        """Keep an error; one that makes the whole GPU unusable becomes the GPU's own."""
        number = code if isinstance(code, int) else None
        self.gpu.setdefault("errors", {})[name] = {"code": number, "text": str(exc)}
        if number in (LOST, RESET_REQUIRED) and "error" not in self.gpu:
            self.gpu.update(error=str(exc), error_code=number)

    def put(self, target: dict[str, Any], key: str, names: str, *arguments: Any,
            turn: Callable[[Any], Any] = lambda value: value) -> None:
        """Store an answer under a key, in the unit that ``turn`` makes of it; nothing where there is none."""
        value = self.call(names, *arguments)
        if value is not None:
            with contextlib.suppress(Exception):
                target[key] = turn(value)


def read_state(node: Node | None = None) -> dict[str, Any]:
    """Return what NVML says.

    Returns:
        ``driver``, ``cuda`` (as NVML counts: 13000 is 13.0), ``gpus`` (see ``docs/gates.md``), ``mps``,
        ``confidential_compute`` (0 off, 1 on), ``read_at_s`` (seconds since boot), ``seconds``; ``error`` in NVML's own
        words with ``error_code``, its number, where the library or the driver does not answer. Each GPU has an
        ``error`` of its own where it cannot be opened, and ``errors`` by call where a call failed. Sizes are bytes,
        clocks MHz, power W. Never raises because a call is missing.
    """
    begun = time.monotonic()
    answer: dict[str, Any] = {"gpus": [], "read_at_s": round(begun, 3), "mps": mps_seen(node or Node())}
    try:
        import pynvml
    except Exception as exc:
        return dict(answer, error="pynvml cannot be imported: %s" % exc, error_code=None)
    try:
        pynvml.nvmlInit()
        answer["driver"] = text_of(pynvml.nvmlSystemGetDriverVersion())
        for name in ("nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"):
            if "cuda" not in answer and hasattr(pynvml, name):
                with contextlib.suppress(Exception):
                    answer["cuda"] = int(getattr(pynvml, name)())
        with contextlib.suppress(Exception):        # drivers and CPUs without it say so by an error
            answer["confidential_compute"] = int(pynvml.nvmlSystemGetConfComputeState().ccFeature)
        count = pynvml.nvmlDeviceGetCount()
        answer["gpus"] = [_gpu(pynvml, index) for index in range(count)]
    except Exception as exc:
        answer.update(error=str(exc), error_code=getattr(exc, "value", None))
    finally:
        with contextlib.suppress(Exception):
            pynvml.nvmlShutdown()
    return dict(answer, seconds=round(time.monotonic() - begun, 3))


def reason_names(raw: int) -> list[str]:
    """Return the words of clocks event reasons; a bit that is not known keeps its number."""
    return [REASONS.get(1 << bit, "bit-%d" % bit) for bit in range(64) if raw >> bit & 1]


def _gpu(pynvml: Any, index: int) -> dict[str, Any]:
    gpu: dict[str, Any] = {"index": index, "processes": [], "mig": False}
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except Exception as exc:
        gpu.update(error=str(exc), error_code=getattr(exc, "value", None))
        return gpu
    ask = Asker(pynvml, handle, gpu)
    for read in (_identity, _use, _health, _settings, _clocks, _modes, read_links, read_fabric, read_mig):
        if gpu.get("error_code") == LOST:
            break       # every further call waits for a GPU that is gone
        try:
            read(ask)
        except Exception as exc:        # a reader's own mistake must not take the other answers with it
            ask.complain(read.__name__, None, exc)
    return gpu


def _identity(ask: Asker) -> None:
    gpu = ask.gpu
    for key, names in (("name", "nvmlDeviceGetName"), ("uuid", "nvmlDeviceGetUUID"), ("serial", "nvmlDeviceGetSerial"),
                       ("vbios", "nvmlDeviceGetVbiosVersion")):
        ask.put(gpu, key, names, turn=text_of)
    ask.put(gpu, "bus_id", "nvmlDeviceGetPciInfo", turn=lambda info: text_of(info.busId).lower())
    pcie: dict[str, Any] = {}
    gpu["pcie"] = pcie
    for key, name in (("gen", "CurrPcieLinkGeneration"), ("gen_max", "MaxPcieLinkGeneration"),
                      ("width", "CurrPcieLinkWidth"), ("width_max", "MaxPcieLinkWidth"),
                      ("replays", "PcieReplayCounter")):
        ask.put(pcie, key, "nvmlDeviceGet" + name, turn=int)
    ask.put(gpu, "bar1_total_bytes", "nvmlDeviceGetBAR1MemoryInfo", turn=lambda info: int(info.bar1Total))
    ask.put(gpu, "memory", "nvmlDeviceGetMemoryInfo",
            turn=lambda info: {"total_bytes": int(info.total), "used_bytes": int(info.used)})


def _use(ask: Asker) -> None:
    def pids(found: Any) -> list[int]:
        return sorted({int(process.pid) for process in found})

    del ask.gpu["processes"]
    for key, kind in (("processes", "Compute"), ("graphics_processes", "Graphics")):
        name = "nvmlDeviceGet%sRunningProcesses" % kind
        ask.put(ask.gpu, key, "%s|%s_v2" % (name, name), turn=pids)
    if "processes" not in ask.gpu:      # "nobody" and "cannot be told" are two answers
        ask.gpu.update(processes=[], processes_unread=True)


def _health(ask: Asker) -> None:
    gpu = ask.gpu
    ecc: dict[str, Any] = {}
    ask.put(ecc, "mode", "nvmlDeviceGetEccMode", turn=_two_modes)
    for counter, number in COUNTERS:
        counted: dict[str, int] = {}
        for kind, error in KINDS:
            ask.put(counted, kind, "nvmlDeviceGetTotalEccErrors", error, number, turn=int)
            for place, where in PLACES:
                ask.put(counted, "%s_%s" % (place, kind), "nvmlDeviceGetMemoryErrorCounter", error, number, where,
                        turn=int)
        if counted:
            ecc[counter] = counted
    if ecc:
        gpu["ecc"] = ecc
    ask.put(gpu, "remapped", "nvmlDeviceGetRemappedRows",
            turn=lambda rows: dict(zip(("corrected", "uncorrected", "pending", "failure"), [int(row) for row in rows])))
    ask.put(gpu, "retired_pending", "nvmlDeviceGetRetiredPagesPendingStatus", turn=int)
    action = field_values(ask, [RECOVERY_ACTION])[0]
    if action is not None:
        gpu["recovery_action"] = action


def field_values(ask: Asker, wanted: list[Any]) -> list[int | None]:
    """Return unsigned values of NVML fields, None for each that has no answer; a field may be ``(id, scope)``."""
    found = ask.call("nvmlDeviceGetFieldValues", wanted)
    if found is None:
        return [None] * len(wanted)
    values: list[int | None] = []
    for each in found:
        kind = int(each.valueType)
        name = {1: "uiVal", 2: "ulVal", 3: "ullVal"}.get(kind)
        values.append(int(getattr(each.value, name)) if name and int(each.nvmlReturn) == 0 else None)
    return values


def _two_modes(modes: Any) -> dict[str, int]:
    return {"current": int(modes[0]), "pending": int(modes[1])}


def _settings(ask: Asker) -> None:
    gpu = ask.gpu
    ask.put(gpu, "persistence", "nvmlDeviceGetPersistenceMode", turn=int)
    ask.put(gpu, "compute_mode", "nvmlDeviceGetComputeMode", turn=int)
    power: dict[str, float] = {}
    gpu["power"] = power

    def watts(milliwatts: Any) -> float:
        return int(milliwatts) / 1000.0

    for key, name in (("limit_w", "PowerManagementLimit"), ("enforced_w", "EnforcedPowerLimit"),
                      ("default_w", "PowerManagementDefaultLimit"), ("draw_w", "PowerUsage")):
        ask.put(power, key, "nvmlDeviceGet" + name, turn=watts)
    limits = ask.call("nvmlDeviceGetPowerManagementLimitConstraints")
    if limits is not None:
        power.update(min_w=watts(limits[0]), max_w=watts(limits[1]))


def _clocks(ask: Asker) -> None:
    gpu = ask.gpu
    clocks: dict[str, int] = {}
    gpu["clocks"] = clocks
    for name, kind in (("sm", 1), ("memory", 2)):
        for key, call in (("%s_mhz", "ClockInfo"), ("application_%s_mhz", "ApplicationsClock"),
                          ("default_%s_mhz", "DefaultApplicationsClock"), ("max_%s_mhz", "MaxClockInfo"),
                          ("boost_max_%s_mhz", "MaxCustomerBoostClock")):
            # Application and boost clocks are those of graphics: NVML has none for the SMs.
            asked = 0 if kind == 1 and not call.endswith("ClockInfo") else kind
            ask.put(clocks, key % name, "nvmlDeviceGet" + call, asked, turn=int)
    ask.put(gpu, "reasons", "nvmlDeviceGetCurrentClocksEventReasons|nvmlDeviceGetCurrentClocksThrottleReasons",
            turn=lambda raw: {"raw": int(raw), "names": reason_names(int(raw))})
    ask.put(gpu, "temperature_c", "nvmlDeviceGetTemperature", 0, turn=int)


def _modes(ask: Asker) -> None:
    gpu = ask.gpu
    ask.put(gpu, "virtualization", "nvmlDeviceGetVirtualizationMode", turn=int)
    ask.put(gpu, "mig_mode", "nvmlDeviceGetMigMode", turn=_two_modes)
    gpu["mig"] = gpu.get("mig_mode", {}).get("current") == 1
    if gpu.get("virtualization") != VGPU_GUEST:
        return
    features = ask.call("nvmlDeviceGetGridLicensableFeatures")
    if features is not None:
        gpu["licence"] = [
            {"state": int(each.featureState), "enabled": int(getattr(each, "featureEnabled", each.featureState)),
             "product": text_of(getattr(each, "productName", b""))}
            for each in features.gridLicensableFeatures[:int(features.licensableFeaturesCount)]]
