"""The probe's own load on a stand-in, and what its judge says of figures made up where a processor has none."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.gates import load as judge
from planner.gates.load import judge_load
from planner.probe import load
from planner.probe.load import run_load
from tests.gates.standin_driver import StandInDriver
from tests.gates.test_pairs import _JSON, spots

NONCE, HOST, UUID = "0123456789abcdef", "n1", "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
REQUEST = {"profile": "deep", "nonce": NONCE, "host": HOST}


@pytest.fixture(scope="module", autouse=True)
def small() -> Any:
    """Least work, on both sides: a page of memory and little to copy."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (load, judge):
            patch.setitem(module.STAND_IN_SIZES, "copy_bytes", 16384)
            patch.setattr(module, "STAND_IN_TEST_BYTES", 16384)
        patch.setattr(load, "WARM_UP", 1)
        patch.setattr(load, "SLICES_MOST", 18)
        yield


def run(driver: StandInDriver | None = None, seconds: float = 60.0) -> dict[str, Any]:
    found = run_load(UUID, NONCE, f"{HOST}:0", seconds, driver or StandInDriver())
    entry = {**found, "index": 0, "uuid": UUID, "seconds_asked": 1}
    gpu = {"index": 0, "nvml_uuid": UUID, "processes": [{"results": [
        {"samples": {"launch_cpu_us": [2.0] * 5, "copy_cpu_us": [3.0] * 5}}]}]}
    return json.loads(json.dumps({"gpus": [gpu], "load": [entry], "conditions": {}}))


def codes(report: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, str]:
    return {r.gate.removeprefix("load").removeprefix("."): r.code for r in judge_load(report, REQUEST, before)}


@pytest.fixture(scope="module")
def right() -> dict[str, Any]:
    """A run on the stand-in, with figures of a steady GPU put in place of the processor's."""
    report, random = run(), Random(7)
    for part in report["load"][0]["slices"]:
        part.update(tflops=620 * random.gauss(1, 0.003), gbps=4200 * random.gauss(1, 0.003), gpu_s=0.9, wall_s=1.0)
    return report


def edited(report: dict[str, Any], number: int | None = None, **values: Any) -> dict[str, Any]:
    changed = copy.deepcopy(report)
    slices = changed["load"][0]["slices"]
    for part in slices if number is None else [slices[number]]:
        part.update({key: value * part[key] if isinstance(value, float) else value for key, value in values.items()})
    return changed


def test_both_sides_ask_for_the_same_work() -> None:
    assert judge.SIZES == load.SIZES
    assert judge.STAND_IN_SIZES == load.STAND_IN_SIZES
    assert (judge.KINDS, judge.STAND_IN_TEST_BYTES) == (load.KINDS, load.STAND_IN_TEST_BYTES)


def test_a_right_and_steady_load_passes(right: dict[str, Any]) -> None:
    assert codes(right, right) == {"": "OK", "memory": "OK", "speed": "OK", "steady": "OK", "cpu": "OK",
                                   "utilisation": "PART_MISSING"}
    assert codes(right) == {"": "OK", "memory": "OK", "speed": "BASELINE_MISSING", "steady": "OK",
                            "cpu": "BASELINE_MISSING", "utilisation": "PART_MISSING"}
    assert len(right["load"][0]["slices"]) == 18        # more than there are kinds: they begin anew
    assert right["load"][0]["problems"] == []


def test_everything_is_given_back() -> None:
    driver = StandInDriver()
    run(driver)
    assert (driver.contexts, driver.events, driver.device, driver.modules) == (0, 0, {}, {})


def test_it_ends_before_its_time_is_over_and_does_one_slice_at_least() -> None:
    assert len(run(seconds=0)["load"][0]["slices"]) == 1


@pytest.mark.parametrize("driver", [
    StandInDriver(flip={"planner_wmma_f16": 700}), StandInDriver(idle=("planner_wmma_f16",)),
    StandInDriver(idle=("planner_fill",)), StandInDriver(idle=("planner_same",)), StandInDriver(idle=("planner_sum",)),
], ids=["wrong-bit", "no-product", "no-fill", "no-comparison", "no-sum"])  # fmt: skip
def test_work_that_was_not_done_or_is_wrong_does_not_pass(driver: StandInDriver) -> None:
    assert codes(run(driver))[""] == "RESULT_WRONG"


def test_a_copy_that_moves_nothing_is_wrong() -> None:
    driver = StandInDriver()
    driver._cuMemcpyDtoDAsync_v2 = lambda *_: None      # type: ignore[attr-defined]
    assert codes(run(driver))[""] == "RESULT_WRONG"


def test_memory_that_holds_nothing_is_wrong_and_too_little_is_told() -> None:
    assert codes(run(StandInDriver(idle=("planner_check",))))["memory"] == "RESULT_WRONG"
    assert codes(run(StandInDriver(free_bytes=8192))) == {"": "MEMORY_SHORT"}


def test_nine_tenths_of_the_free_memory_are_asked_on_a_real_gpu() -> None:
    free = 150_000_000_000
    size = free // 100 * load.SIZES["memory_percent"] // load.BLOCK_BYTES * load.BLOCK_BYTES
    assert judge.TESTED_OF_FREE * free < size <= 0.9 * free
    assert size % 16384 == 0


@pytest.mark.parametrize(("values", "gate", "code"), [
    ({"tflops": 0.93}, "speed", "PERF_DROP"), ({"gbps": 0.93}, "speed", "PERF_DROP"),
    ({"gbps": 0.6}, "speed", "PERF_COLLAPSE"), ({"tflops": 0.995}, "speed", "OK"),
])  # fmt: skip
def test_a_slower_load_fails(right: dict[str, Any], values: dict[str, float], gate: str, code: str) -> None:
    assert codes(edited(right, **values), right)[gate] == code


def test_unsteadiness_that_a_median_hides_is_a_finding(right: dict[str, Any]) -> None:
    third = right
    for number in range(0, 18, 3):
        third = edited(third, number, tflops=0.8)
    assert codes(third, right)["steady"] == "PERF_UNSTEADY"
    two = edited(edited(right, 3, gbps=0.5), 9, gbps=0.5)
    assert codes(two, right)["steady"] == "PERF_UNSTEADY"
    assert codes(edited(right, 3, gbps=0.5), right)["steady"] == "OK"       # one slice of eighteen
    falling = right
    for number in range(18):
        falling = edited(falling, number, tflops=1 - 0.006 * number)
    words = next(r for r in judge_load(falling, REQUEST, right) if r.gate == "load.steady").evidence
    assert any("at the end" in sentence for sentence in words)


@pytest.mark.parametrize(("now", "code"), [(2.2, "OK"), (3.4, "OK"), (4.6, "CPU_OVERHEAD")])
def test_more_of_the_processor_for_a_launch_is_a_finding(right: dict[str, Any], now: float, code: str) -> None:
    after = copy.deepcopy(right)
    after["gpus"][0]["processes"][0]["results"][0]["samples"]["launch_cpu_us"] = [now] * 5
    assert codes(after, right)["cpu"] == code


def real(report: dict[str, Any]) -> dict[str, Any]:
    """The same report as of a GPU that is no stand-in."""
    changed = copy.deepcopy(report)
    changed["load"][0]["name"] = "NVIDIA H200"
    return changed


def test_a_gpu_that_idles_under_load_is_a_finding(right: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge, "SIZES", judge.STAND_IN_SIZES)
    assert codes(real(right))["utilisation"] == "OK"
    assert codes(real(edited(right, gpu_s=0.5)))["utilisation"] == "LOW_UTILISATION"
    watched = real(right)
    for percent, code in ((99, "OK"), (60, "LOW_UTILISATION")):
        watched["conditions"] = {UUID: {"utilisation_percent_max": percent}}
        assert codes(watched)["utilisation"] == code


@pytest.mark.parametrize(("percent", "code"), [(0, "PART_MISSING"), (40, "LOW_UTILISATION"), (97, "OK")])
def test_of_a_stand_in_only_what_nvml_plays_counts(right: dict[str, Any], percent: int, code: str) -> None:
    idle = edited(right, gpu_s=0.1)     # the processor's time, which tells nothing
    idle["conditions"] = {UUID: {"utilisation_percent_max": percent}}
    assert codes(idle)["utilisation"] == code


def test_a_stand_ins_load_is_no_load_of_a_real_gpu(right: dict[str, Any]) -> None:
    assert codes(real(right)) == {"": "GATE_BUG"}


@pytest.mark.parametrize(("entry", "code"), [
    ({"error": "timeout"}, "GATE_TIMEOUT"), ({"error": "hung: it cannot be killed"}, "GATE_HUNG_D"),
    ({"error": "x", "code": 214}, "ECC_UNCORRECTED"), ({"skip": "no Tensor Cores"}, "PART_MISSING"), ({}, "GATE_BUG"),
])  # fmt: skip
def test_a_load_that_gave_no_answer(entry: dict[str, Any], code: str) -> None:
    assert codes({"gpus": [], "load": [{"uuid": UUID, "index": 0, **entry}]}) == {"": code}


def test_a_gpu_without_a_load_and_a_load_that_ended_early_do_not_pass(right: dict[str, Any]) -> None:
    assert codes({"gpus": [{"nvml_uuid": UUID}]}) == {"": "GATE_NO_RESULT"}
    assert codes({"gpus": [{"nvml_uuid": UUID, "busy": "pid 1"}]}) == {"": "PART_MISSING"}
    assert judge_load({}, {**REQUEST, "profile": "standard"}, None) == []
    early = copy.deepcopy(right)
    early["load"][0]["seconds_asked"] = 300
    assert codes(early)[""] == "GATE_NO_RESULT"
    early["load"][0]["nonce"] = "f" * 16
    assert codes(early)[""] == "REPORT_FOREIGN"


def test_an_error_in_the_middle_keeps_its_code() -> None:
    assert codes(run(StandInDriver(fail={"cuMemcpyDtoDAsync_v2": 214}))) == {"": "ECC_UNCORRECTED"}


@given(st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_malformed_report_raises(right: dict[str, Any], data: st.DataObject) -> None:
    report = copy.deepcopy(right)
    path = data.draw(st.sampled_from(spots(report)))
    place: Any = report
    if path:
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = data.draw(_JSON)
    for one, before in ((report, right), (right, report), (report, None)):
        results = judge_load(one, REQUEST, before)
        assert results
        assert all(result.row.code == result.code for result in results)
