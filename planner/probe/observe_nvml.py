"""What NVML says, verbatim. Runs in a bounded child: a call into a wedged driver may never come back."""

from __future__ import annotations

import contextlib
from typing import Any, Callable


def read_nvml() -> dict[str, Any]:
    """Return ``{"available", "error", "error_code", "nvml_version", "driver", "cuda", "gpus": [...]}``.

    ``error`` holds NVML's own words. A GPU that cannot be opened has an ``error`` of its own. Never raises because
    a call is missing in an older driver: that field is then absent.
    """
    try:
        import pynvml  # it lies at the zip's root; its absence must not stop the other facts
    except Exception as exc:
        return {"available": False, "error": "pynvml cannot be imported: %s" % exc, "gpus": []}
    answer: dict[str, Any] = {"available": True, "gpus": []}
    try:
        pynvml.nvmlInit()
    except Exception as exc:
        answer["error"] = str(exc)
        answer["error_code"] = getattr(exc, "value", None)
        _put(answer, "nvml_version", pynvml.nvmlSystemGetNVMLVersion)
        return answer
    try:
        _put(answer, "nvml_version", pynvml.nvmlSystemGetNVMLVersion)
        _put(answer, "driver", pynvml.nvmlSystemGetDriverVersion)
        _put(answer, "cuda", _first(pynvml, "nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion"))
        try:
            count = pynvml.nvmlDeviceGetCount()
        except Exception as exc:
            answer["error"] = str(exc)
            count = 0
        answer["gpus"] = [_gpu(pynvml, index) for index in range(count)]
    finally:
        with contextlib.suppress(Exception):
            pynvml.nvmlShutdown()
    return answer


def _gpu(pynvml: Any, index: int) -> dict[str, Any]:
    gpu: dict[str, Any] = {"index": index}
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    except Exception as exc:
        gpu["error"] = str(exc)
        return gpu
    calls = (("name", "nvmlDeviceGetName"), ("uuid", "nvmlDeviceGetUUID"), ("serial", "nvmlDeviceGetSerial"),
             ("vbios", "nvmlDeviceGetVbiosVersion"), ("compute_capability", "nvmlDeviceGetCudaComputeCapability"),
             ("mig", "nvmlDeviceGetMigMode"), ("virtualization", "nvmlDeviceGetVirtualizationMode"),
             ("brand", "nvmlDeviceGetBrand"))
    for key, name in calls:
        _put(gpu, key, _first(pynvml, name), handle)
    for key, name, fields in (("memory", "nvmlDeviceGetMemoryInfo", ("total",)),
                              ("pci", "nvmlDeviceGetPciInfo", ("busId", "pciDeviceId", "pciSubSystemId"))):
        _put_fields(gpu, key, _first(pynvml, name), handle, fields)
    _put(gpu, "fabric_state", _fabric_state(pynvml), handle)
    return gpu


def _fabric_state(pynvml: Any) -> Callable[[Any], int]:
    def read(handle: Any) -> int:
        info = pynvml.c_nvmlGpuFabricInfo_t()
        pynvml.nvmlDeviceGetGpuFabricInfo(handle, pynvml.byref(info))
        return int(info.state)

    return read


def _first(pynvml: Any, *names: str) -> Any:
    for name in names:
        call = getattr(pynvml, name, None)
        if call is not None:
            return call
    return None


def _put(target: dict[str, Any], key: str, call: Any, *arguments: Any) -> None:
    """Store a call's plain result; leave the key out when the driver has no answer."""
    with contextlib.suppress(Exception):
        target[key] = _plain(call(*arguments))


def _put_fields(target: dict[str, Any], key: str, call: Any, handle: Any, fields: tuple[str, ...]) -> None:
    try:
        value = call(handle)
        target[key] = {name: _plain(getattr(value, name)) for name in fields}
    except Exception:
        pass


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)
