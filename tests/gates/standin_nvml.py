"""A stand-in for the ``pynvml`` module: made-up GPUs that say in their names that no GPU is behind them."""

from __future__ import annotations

import ctypes
from types import ModuleType, SimpleNamespace
from typing import Any

DRIVER = "580.159.04"
NOT_SUPPORTED, FUNCTION_NOT_FOUND, LOST = 3, 13, 15
TEXTS = {3: "Not Supported", 9: "Driver Not Loaded", 13: "Function Not Found", 15: "GPU is lost",
         18: "RM has detected an NVML/RM version mismatch.", 999: "Unknown Error"}


class NVMLError(Exception):
    """As pynvml's: its words, and the number as ``value``."""

    def __init__(self, value: int) -> None:
        super().__init__(TEXTS.get(value, "Unknown Error"))
        self.value = value


class FabricInfo(ctypes.Structure):
    """As pynvml's c_nvmlGpuFabricInfo_v2_t, without its version number."""

    _fields_ = [("clusterUuid", ctypes.c_uint8 * 16), ("status", ctypes.c_uint), ("cliqueId", ctypes.c_uint32),
                ("state", ctypes.c_uint), ("healthMask", ctypes.c_uint32)]


ANSWERS: dict[str, Any] = {
    "Name": b"NVIDIA H200 (stand-in)", "Serial": "1650000000000", "VbiosVersion": "96.00.99.00.01",
    "PciInfo": SimpleNamespace(busId=b"00000000:3B:00.0"), "CurrPcieLinkGeneration": 5, "MaxPcieLinkGeneration": 5,
    "CurrPcieLinkWidth": 16, "MaxPcieLinkWidth": 16, "PcieReplayCounter": 0,
    "BAR1MemoryInfo": SimpleNamespace(bar1Total=1 << 38),
    "MemoryInfo": SimpleNamespace(total=141 << 30, used=500 << 20),
    "ComputeRunningProcesses": [SimpleNamespace(pid=42), SimpleNamespace(pid=7), SimpleNamespace(pid=7)],
    "GraphicsRunningProcesses": [], "EccMode": [1, 0], "RemappedRows": (0, 1, 1, 0), "PersistenceMode": 1,
    "ComputeMode": 0, "PowerManagementLimit": 700000, "EnforcedPowerLimit": 700000,
    "PowerManagementDefaultLimit": 700000, "PowerUsage": 121500, "PowerManagementLimitConstraints": [200000, 700000],
    "CurrentClocksEventReasons": 0x4, "VirtualizationMode": 0, "MigMode": [0, 0],
    "UtilizationRates": SimpleNamespace(gpu=97, memory=40),
}


def make(gpus: int = 2, *, init_error: int | None = None, **changed: Any) -> ModuleType:
    """Return a module.

    Args:
        gpus: How many.
        init_error: What nvmlInit raises.
        changed: Answer by function, without ``nvmlDeviceGet``: a value, a function of (gpu, *arguments), or an
            NVMLError to raise.
    """
    module = ModuleType("pynvml", "a stand-in, not NVML")
    answers = {**ANSWERS, "UUID": lambda gpu: f"GPU-stand-in-{gpu}",
               "ClockInfo": lambda gpu, kind: {1: 1980, 2: 3201}[kind],
               "Temperature": lambda gpu, sensor: 41 + gpu, "HandleByIndex": lambda index: index,
               "NvLinkState": links(18), "FieldValues": fields({230: 0, 161: 3, 162: 0, 163: 1}),
               "TotalEccErrors": lambda gpu, kind, counter: 10 * counter + kind,
               "GpuFabricInfoV": lambda gpu, reference: set_fabric(reference), **changed}
    for name, answer in answers.items():
        setattr(module, f"nvmlDeviceGet{name}", answering(answer))

    def init() -> None:
        if init_error is not None:
            raise NVMLError(init_error)

    vars(module).update(
        NVMLError=NVMLError, nvmlInit=init, nvmlShutdown=lambda: None, nvmlSystemGetDriverVersion=lambda: DRIVER,
        nvmlSystemGetCudaDriverVersion_v2=lambda: 13000,
        nvmlSystemGetConfComputeState=lambda: SimpleNamespace(ccFeature=0),
        nvmlDeviceGetCount=lambda: gpus,
        c_nvmlGpuFabricInfo_v2_t=FabricInfo, STAND_IN=True)
    return module


def answering(answer: Any) -> Any:
    """Return a function that gives, computes or raises the answer."""
    def call(*arguments: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer(*arguments) if callable(answer) else answer

    return call


def links(count: int) -> Any:
    """Return NvLinkState of a GPU with so many links, all up; further ones are an invalid argument, as in NVML."""
    def state(gpu: int, link: int) -> int:
        if link >= count:
            raise NVMLError(2)
        return 1

    return state


def fields(values: dict[int, int]) -> Any:
    """Return FieldValues that knows some fields; every other says that it is not supported."""
    def read(gpu: int, wanted: list[Any]) -> list[Any]:
        numbers = [each[0] if isinstance(each, tuple) else each for each in wanted]
        return [SimpleNamespace(valueType=1, nvmlReturn=0 if number in values else NOT_SUPPORTED,
                                value=SimpleNamespace(uiVal=values.get(number, 0))) for number in numbers]

    return read


def set_fabric(reference: Any, state: int = 3) -> int:
    """Fill the structure behind a reference, as the driver does."""
    info = reference._obj
    info.state, info.status, info.cliqueId, info.healthMask = state, 0, 7, 0
    return 0
