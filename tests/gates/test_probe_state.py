"""What the probe asks of NVML, on a stand-in for the library: whole answers, old drivers, errors with their numbers."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from planner.probe.node import Node
from planner.probe.state import read_state, reason_names
from planner.probe.watch import Watcher
from tests.gates.standin_nvml import DRIVER, FUNCTION_NOT_FOUND, NVMLError, make


def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, module: ModuleType) -> dict[str, Any]:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    state = read_state(Node(str(tmp_path)))
    json.dumps(state)
    return state


def test_a_whole_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = seen(monkeypatch, tmp_path, make())
    assert (state["driver"], state["cuda"]) == (DRIVER, 13000)
    assert "error" not in state
    gpu = state["gpus"][1]
    assert (gpu["index"], gpu["name"], gpu["uuid"]) == (1, "NVIDIA H200 (stand-in)", "GPU-stand-in-1")
    assert gpu["bus_id"] == "00000000:3b:00.0"
    assert gpu["processes"] == [7, 42]
    assert gpu["pcie"] == {"gen": 5, "gen_max": 5, "width": 16, "width_max": 16, "replays": 0}
    assert gpu["memory"] == {"total_bytes": 141 << 30, "used_bytes": 500 << 20}
    assert gpu["ecc"]["mode"] == {"current": 1, "pending": 0}
    assert gpu["ecc"]["volatile"] == {"corrected": 0, "uncorrected": 1}
    assert gpu["ecc"]["aggregate"] == {"corrected": 10, "uncorrected": 11}
    assert gpu["remapped"] == {"corrected": 0, "uncorrected": 1, "pending": 1, "failure": 0}
    assert gpu["recovery_action"] == 0
    assert gpu["power"] == {"limit_w": 700.0, "enforced_w": 700.0, "default_w": 700.0, "draw_w": 121.5,
                            "min_w": 200.0, "max_w": 700.0}
    assert gpu["reasons"] == {"raw": 4, "names": ["sw-power-cap"]}
    assert gpu["temperature_c"] == 42
    assert len(gpu["nvlinks"]) == 18
    assert gpu["nvlinks"][17] == {"link": 17, "active": True, "errors": {"replay": 3, "recovery": 0, "crc": 1}}
    assert gpu["fabric"] == {"state": 3, "status": 0, "clique": 7, "cluster": "00" * 16, "health_mask": 0}
    assert gpu["mig"] is False
    assert "errors" not in gpu, "what a GPU does not have is no error"


def test_a_driver_that_knows_nothing_but_names_raises_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = make(1)
    for name in dir(module):
        if name.startswith("nvmlDeviceGet") and name[13:] not in ("HandleByIndex", "Count", "Name", "UUID"):
            delattr(module, name)
    gpu = seen(monkeypatch, tmp_path, module)["gpus"][0]
    assert gpu["uuid"] == "GPU-stand-in-0"
    assert gpu["processes_unread"] is True
    assert {"ecc", "remapped", "recovery_action", "nvlinks", "fabric", "reasons", "errors"}.isdisjoint(gpu)


def test_older_names_are_used_where_the_library_lacks_the_newer_ones(monkeypatch: pytest.MonkeyPatch,
                                                                     tmp_path: Path) -> None:
    module = make(1, ComputeRunningProcesses=NVMLError(FUNCTION_NOT_FOUND), CurrentClocksEventReasons=NVMLError(13),
                  ComputeRunningProcesses_v2=[SimpleNamespace(pid=9)], CurrentClocksThrottleReasons=0x48)
    gpu = seen(monkeypatch, tmp_path, module)["gpus"][0]
    assert gpu["processes"] == [9]
    assert gpu["reasons"]["names"] == ["hw-slowdown", "hw-thermal"]


@pytest.mark.parametrize("code", [9, 18, 999])
def test_the_librarys_own_error_has_its_words_and_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                         code: int) -> None:
    state = seen(monkeypatch, tmp_path, make(init_error=code))
    assert state["error_code"] == code
    assert state["error"] == str(NVMLError(code))
    assert state["gpus"] == []


def test_a_gpu_that_is_lost_is_told_and_not_asked_further(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []

    def fields(gpu: int, wanted: list[Any]) -> Any:
        asked.append(gpu)
        raise NVMLError(15)

    state = seen(monkeypatch, tmp_path, make(FieldValues=fields))
    gpu = state["gpus"][0]
    assert (gpu["error"], gpu["error_code"]) == ("GPU is lost", 15)
    assert "persistence" not in gpu
    assert asked == [0, 1]
    unopened = seen(monkeypatch, tmp_path, make(1, HandleByIndex=NVMLError(15)))["gpus"][0]
    assert unopened == {"index": 0, "processes": [], "mig": False, "error": "GPU is lost", "error_code": 15}


def test_an_error_of_one_call_is_kept_by_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = seen(monkeypatch, tmp_path, make(1, EccMode=NVMLError(999)))["gpus"][0]
    assert gpu["errors"] == {"nvmlDeviceGetEccMode": {"code": 999, "text": "Unknown Error"}}
    assert "error" not in gpu


def test_without_the_module_the_words_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pynvml cannot be imported" in read_state(Node(str(tmp_path)))["error"]


def test_a_licence_is_read_in_guests_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    features = SimpleNamespace(licensableFeaturesCount=1, gridLicensableFeatures=[
        SimpleNamespace(featureState=0, featureEnabled=1, productName=b"NVIDIA Virtual Compute Server"), None])
    gpu = seen(monkeypatch, tmp_path, make(1, VirtualizationMode=2, GridLicensableFeatures=features))["gpus"][0]
    assert gpu["licence"] == [{"state": 0, "enabled": 1, "product": "NVIDIA Virtual Compute Server"}]
    assert "licence" not in seen(monkeypatch, tmp_path, make(1, GridLicensableFeatures=features))["gpus"][0]


def test_mig_instances_and_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Instance(ctypes.Structure):
        _fields_ = [("number", ctypes.c_uint)]

    def profile(gpu: int, number: int, version: int = 2) -> Any:
        if number != 0:
            raise NVMLError(3)
        return SimpleNamespace(id=19, instanceCount=7, sliceCount=1, memorySizeMB=16384)

    def instances(gpu: int, number: int, found: Any, count: Any) -> int:
        count._obj.value = 2
        found[0].number, found[1].number = 4, 2
        return 0

    module = make(1, MigMode=[1, 1], MaxMigDeviceCount=2, GpuInstanceProfileInfo=profile, GpuInstances=instances,
                  MigDeviceHandleByIndex=lambda gpu, n: "mig" if n == 0 else answer_none(),
                  UUID=lambda handle: "MIG-stand-in" if handle == "mig" else "GPU-stand-in")
    module.c_nvmlGpuInstance_t = Instance       # type: ignore[attr-defined]
    module.nvmlGpuInstanceGetInfo = lambda each: SimpleNamespace(   # type: ignore[attr-defined]
        profileId=19, placement=SimpleNamespace(start=each.number, size=1))
    gpu = seen(monkeypatch, tmp_path, module)["gpus"][0]
    assert gpu["mig"] is True
    assert [(each["profile"], each["start"], each["size"]) for each in gpu["mig_layout"]] == [(19, 2, 1), (19, 4, 1)]
    assert [each["uuid"] for each in gpu["mig_devices"]] == ["MIG-stand-in"]


def answer_none() -> Any:
    raise NVMLError(6)


def test_unknown_reasons_keep_their_number() -> None:
    assert reason_names(0x8 | 1 << 40) == ["hw-slowdown", "bit-40"]


# --- the watcher


def watched(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **more: Any) -> Watcher:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    with Watcher(every_s=0.005, **more) as watcher:
        deadline = time.monotonic() + 10
        while watcher._page is not None and watcher._page[2:6] == b"\0\0\0\0" and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.05)
    return watcher


def test_the_watcher_keeps_extremes_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch, make())
    assert seen.error is None
    assert not seen.hung
    assert sorted(seen.result) == ["GPU-stand-in-0", "GPU-stand-in-1"]
    gpu = seen.result["GPU-stand-in-1"]
    assert gpu["loaded_samples"] >= 1
    assert gpu["samples"] == gpu["loaded_samples"]
    kept = {key: gpu[key] for key in ("sm_clock_mhz", "memory_clock_mhz", "temperature_c", "power_limit_w", "throttled",
                                      "pcie", "power_w_max", "utilisation_percent_max")}
    assert kept == {"sm_clock_mhz": 1980, "memory_clock_mhz": 3201, "temperature_c": 42, "power_limit_w": 700.0,
                    "throttled": [], "pcie": "gen5 x16", "power_w_max": 121.5, "utilisation_percent_max": 97}
    assert gpu["power_capped"] == gpu["samples"], "the power cap is told, and is no throttle"


def test_idle_samples_are_left_out_where_there_was_load(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = iter(range(10 ** 9))

    def reasons(gpu: int) -> int:
        return 0x1 | 0x8 if next(turn) % 2 else 0x40

    gpu = watched(monkeypatch, make(1, CurrentClocksEventReasons=reasons)).result["GPU-stand-in-0"]
    assert gpu["throttled"] == ["hw-thermal"], "a slowdown of an idle GPU slowed nothing"
    assert gpu["loaded_samples"] < gpu["samples"]


@pytest.mark.parametrize(("bit", "name"), [(0x8, "hw-slowdown"), (0x20, "sw-thermal"), (0x40, "hw-thermal"),
                                           (0x80, "power-brake")])
def test_each_slowdown_has_its_name(monkeypatch: pytest.MonkeyPatch, bit: int, name: str) -> None:
    gpu = watched(monkeypatch, make(1, CurrentClocksEventReasons=bit | 0x4)).result["GPU-stand-in-0"]
    assert gpu["throttled"] == [name]


def test_a_driver_without_answers_gives_empty_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    module = make(1)
    for name in dir(module):
        if name.startswith("nvmlDeviceGet") and name[13:] not in ("HandleByIndex", "Count", "UUID"):
            delattr(module, name)
    gpu = watched(monkeypatch, module).result["GPU-stand-in-0"]
    assert gpu["throttled"] == []
    assert "sm_clock_mhz" not in gpu


def test_a_library_that_does_not_open_is_an_error_and_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = watched(monkeypatch, make(init_error=9))
    assert seen.result == {}
    assert "Driver Not Loaded" in (seen.error or "")


def test_a_child_that_hangs_is_killed_and_what_it_saw_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    turn = iter(range(10 ** 9))

    def slow(gpu: int) -> Any:
        if next(turn) >= 1:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            time.sleep(600)
        return SimpleNamespace(gpu=50, memory=0)

    seen = watched(monkeypatch, make(1, UtilizationRates=slow))
    assert seen.result["GPU-stand-in-0"]["samples"] == 1
    assert not seen.hung
    with pytest.raises(ProcessLookupError):
        os.kill(seen._pid, 0)


def test_the_watcher_dies_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", make(1))
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        watcher = Watcher(every_s=0.01).__enter__()
        os.write(writer, str(watcher._pid).encode())
        time.sleep(0.3)
        os._exit(0)     # without leaving the block
    os.close(writer)
    pid = int(os.read(reader, 32))
    os.close(reader)
    os.waitpid(parent, 0)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
