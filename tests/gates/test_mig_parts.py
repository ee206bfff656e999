"""MIG devices: who is who after they were made again, and the parts of the probe that find and ask them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.gates import mig
from planner.gates.asked import PROFILES, sizes_asked
from planner.probe.cuda import identity
from planner.probe.kernels import SIZES
from planner.probe.software import check_software
from planner.probe.targets import fitted, targets

# --- who is who


def device(uuid: str, profile: str = "1g.18gb", start: int | None = 0, parent: str = "GPU-a", **more: Any
           ) -> dict[str, Any]:
    return {"index": "0.0", "nvml_uuid": uuid, "uuid": uuid, "name": profile, "processes": [{}],
            "parent": {"index": 0, "uuid": parent},
            "mig": {"profile": profile, "start": start, "size": 1, "compute_instance": 0, **more}}


def known(old: list[dict[str, Any]], now: list[dict[str, Any]], **more: bool) -> list[str]:
    """Return the UUIDs of the old devices as they are called now."""
    nvml = {"gpus": [{"uuid": "GPU-a", "mig": True}, {"uuid": "GPU-b", "mig": True}]}
    found = mig.as_known_now({"gpus": old, "nvml": nvml}, {"gpus": now, "nvml": nvml}, **more)
    return [gpu["uuid"] for gpu in (found or {})["gpus"]]


def test_a_device_is_known_by_uuid_then_place_then_order() -> None:
    old = [device("MIG-1", start=0), device("MIG-2", start=1)]
    assert known(old, [device("MIG-2", start=1), device("MIG-1", start=0)]) == ["MIG-1", "MIG-2"]
    assert known(old, [device("MIG-9", start=1), device("MIG-8", start=0)]) == ["MIG-8", "MIG-9"]
    assert known(old, [device("MIG-9", start=None), device("MIG-8", start=None)]) == ["MIG-9", "MIG-8"]
    assert known(old, [device("MIG-9", start=1)]) == ["MIG-9"]
    assert known(old, [device("MIG-9", parent="GPU-b")]) == [], "another GPU"
    assert known(old, [device("MIG-1", "2g.35gb")]) == [], "the same UUID in another shape"
    assert known([device("MIG-1", multiprocessors=14)], [device("MIG-2", multiprocessors=16)]) == []
    assert known(old, [device("MIG-9", start=1)], with_lost=True) == ["MIG-1", "MIG-9"]
    assert known(old, [device("MIG-1", "2g.35gb")], with_lost=True) == ["MIG-2"], "MIG-1 is another device now"
    several = [device("MIG-1", compute_instance=0), device("MIG-2", compute_instance=1)]
    assert known(several, [device("MIG-4", compute_instance=1), device("MIG-3", compute_instance=0)]) == [
        "MIG-3", "MIG-4"]


@given(st.lists(st.sampled_from(["1g.18gb", "2g.35gb"]), max_size=6), st.permutations(range(6)))
@pytest.mark.property
def test_no_device_is_taken_for_two(profiles: list[str], order: list[int]) -> None:
    old = [device(f"MIG-{n}", profile, n) for n, profile in enumerate(profiles)]
    now = [device(f"MIG-new-{n}", profiles[n], None if n % 2 else n) for n in order if n < len(profiles)]
    found = known(old, now)
    assert len(set(found)) == len(found) == len(old)
    shapes = {gpu["uuid"]: gpu["mig"]["profile"] for gpu in now}
    assert [shapes[uuid] for uuid in found] == profiles


# --- the probe's parts


@given(st.sampled_from(sorted(PROFILES)), st.integers(0, 1 << 38), st.booleans())
@pytest.mark.property
def test_both_sides_agree_on_sizes(profile: str, free: int, played: bool) -> None:
    name = "NVIDIA H200 MIG 1g.18gb" + (" (stand-in)" if played else "")
    asked = sizes_asked(profile, name, free)
    table = SIZES["stand-in" if played else "standard" if profile == "deep" else profile]
    assert fitted(table, free) == asked
    assert all(sizes["bytes"] % 16384 == 0 and sizes["bytes"] <= max(free, 65536) for sizes in asked.values()
               if "bytes" in sizes)
    assert sizes_asked(profile, name) == table, "a whole GPU is asked for all"


def test_an_instance_without_a_compute_instance_is_told() -> None:
    gpu = {"index": 3, "uuid": "GPU-a", "name": "A100", "mig": True, "mig_devices": [], "mig_layout": [{"start": 0}]}
    (found,) = targets([gpu])
    assert "compute instance" in found["unsuited"]
    (found,) = targets([{**gpu, "mig_devices": [{"index": 2, "name": "A100 MIG 1c.2g.10gb"}]}])
    assert (found["index"], found["error"]) == ("3.2", "NVML: it tells no UUID of this MIG device")
    assert found["mig"]["profile"] == "1c.2g.10gb"
    lost = {"index": 3, "uuid": "GPU-a", "mig": True, "error": "GPU is lost", "error_code": 15}
    assert [(each["index"], each["nvml_code"]) for each in targets([lost])] == [(3, 15)]


@pytest.mark.parametrize(("newer", "is_mig", "call"), [
    (True, True, "cuDeviceGetUuid_v2"), (False, True, "cuDeviceGetUuid"), (True, False, "cuDeviceGetUuid")])
def test_which_call_tells_the_uuid(newer: bool, is_mig: bool, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    driver: Any = SimpleNamespace(has=lambda name: newer or not name.endswith("_v2"),
                                  call=lambda name, *arguments: calls.append(name))
    monkeypatch.setattr("planner.probe.cuda._libcuda_version", lambda: None)
    uuid = identity(driver, SimpleNamespace(), is_mig)["uuid"]      # type: ignore[arg-type]
    assert [name for name in calls if "Uuid" in name] == [call]
    assert uuid.startswith("MIG-" if call.endswith("v2") else "GPU-")


def test_software_without_any_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.probe.software.bounded", lambda *_: (None, "not looked for"))
    busy = [{"index": "0.0", "uuid": "MIG-1", "busy": "pid 1 (x)"}]
    answers = check_software({"nonce": "00", "host": "n1"}, busy)
    assert {answer["status"] for answer in answers} >= {"skip"}
