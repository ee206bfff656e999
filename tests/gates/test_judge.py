"""The judge: real reports pass, and every way in which a report can be wrong, missing or forged does not."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.gates.expect import mix_output
from planner.gates.judge import REQUIRED, judge_gate

RECORDED = Path(__file__).parent / "recorded"
Change = Callable[[dict[str, Any]], object]


def text_of(name: str) -> str:
    """Return a report as one NVIDIA H200 with driver 580.159.04 gave it on 2026-11-26 (ids replaced)."""
    return (RECORDED / f"h200-580.159.04-{name}.json").read_text(encoding="utf-8")


REPORTS = {name: json.loads(text_of(name)) for name in ("quick", "standard", "standard-again")}


def recorded(name: str) -> dict[str, Any]:
    return copy.deepcopy(REPORTS[name])


def asked(name: str, **expect: Any) -> dict[str, Any]:
    report = REPORTS[name]
    return {"profile": report["profile"], "nonce": report["nonce"], "host": report["host"], "expect": expect}


def judged(report: object, request: dict[str, Any], before: str | None = None) -> dict[str, Any]:
    return judge_gate(report if isinstance(report, str) else json.dumps(report), request, before)


def why(found: dict[str, Any]) -> str:
    return "; ".join(found["reasons"])


def measured(report: dict[str, Any], name: str, process: int = 0) -> dict[str, Any]:
    """Return one measurement of the first GPU."""
    return next(r for r in report["gpus"][0]["processes"][process]["results"] if r["name"] == name)


def changed(name: str, change: Change) -> dict[str, Any]:
    report = recorded(name)
    change(report)
    return report


def mix(seed: int, i: int, rounds: int) -> int:
    """The function of ARCHITECTURE.md once more, written from its text."""
    x = (seed ^ (i * 0x9E3779B9)) % 2**32
    for _ in range(rounds):
        x = (x ^ (x << 13)) % 2**32
        x = (x ^ (x >> 17)) % 2**32
        x = (x ^ (x << 5)) % 2**32
        x = (x * 0x85EBCA6B + 0xC2B2AE35) % 2**32
    return x


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(0, 5))
@settings(max_examples=60)
@pytest.mark.property
def test_expected_output_is_the_documented_function(seed: int, count: int, rounds: int) -> None:
    assert list(mix_output(seed, count, rounds)) == [mix(seed, i, rounds) for i in range(count)]


@pytest.mark.parametrize("name", list(REPORTS))
def test_a_real_h200_passes(name: str) -> None:
    found = judged(recorded(name), asked(name, driver="580.159.04", gpus=1))
    assert (found["outcome"], found["exit_code"], found["reasons"]) == ("pass", 0, []), why(found)
    proved = {answer["gate"] for answer in found["results"] if answer["verdict"] == "pass"}
    assert proved >= {*REQUIRED, "wmma_f16", "wmma_s8", "ratio"}


def test_a_real_h200_is_as_fast_as_before() -> None:
    found = judged(recorded("standard-again"), asked("standard-again"), text_of("standard"))
    assert found["outcome"] == "pass", why(found)
    figures = {a["gate"]: a["verdict"] for a in found["results"] if a["gate"] in (
        "copy_device", "copy_to_host", "copy_to_device", "fma_f32", "wmma_f16", "wmma_s8")}
    assert set(figures.values()) <= {"pass", "warn"}
    assert len(figures) == 6


@pytest.mark.parametrize(("key", "result", "loss", "outcome"), [
    ("wmma_f16_tflops", "wmma_f16", 0.15, "fail"), ("h2d_gbps", "host_copy", 0.15, "fail"),
    ("d2d_gbps", "device_copy", 0.40, "fail"), ("wmma_f16_tflops", "wmma_f16", 0.005, "pass"),
])
def test_a_slower_gpu_fails_against_its_own_figures(key: str, result: str, loss: float, outcome: str) -> None:
    report = recorded("standard-again")
    for process in range(2):
        samples = measured(report, result, process)["samples"]
        samples[key] = [round(value * (1 - loss), 4) for value in samples[key]]
    found = judged(report, asked("standard-again"), text_of("standard"))
    assert found["outcome"] == outcome, why(found)
    if outcome == "fail":
        assert found["code"] == ("PERF_COLLAPSE" if loss > 0.3 else "PERF_DROP")
        # A failure of speed counts when a fresh process sees it again; a collapse stops at once.
        assert (found["retry_after_s"] > 0) is (loss < 0.3)


def test_a_drop_that_a_fresh_attempt_does_not_see_is_a_warning() -> None:
    slow, request = recorded("standard-again"), asked("standard-again")
    for process in range(2):
        samples = measured(slow, "wmma_s8", process)["samples"]
        samples["wmma_s8_tops"] = [value * 0.85 for value in samples["wmma_s8_tops"]]
    again = judge_gate(text_of("standard-again"), request, text_of("standard"), [(json.dumps(slow), request)])
    assert again["outcome"] == "pass"
    assert any("PERF_FLAKY" in note for note in again["notes"])
    both = judge_gate(json.dumps(slow), request, text_of("standard"), [(json.dumps(slow), request)])
    assert (both["outcome"], both["code"], both["retry_after_s"]) == ("fail", "PERF_DROP", 0)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"schema": "planner.gate/1"}', "null", "[" * 100_000,
                                  '{"schema": "planner.gate/2", "gpus": {}, "versions": {}, "nvml": {}}',
                                  '{"schema": "planner.gate/2", "gpus": [7], "versions": {}, "nvml": {}}'])
def test_no_report_is_never_a_pass(text: str) -> None:
    found = judged(text, asked("quick"))
    assert (found["verdict"], found["outcome"], found["exit_code"]) == ("error", "inconclusive", 1)
    assert "no report" in why(found)


@pytest.mark.parametrize("key", ["nonce", "host", "profile"])
def test_an_old_or_foreign_report_fails(key: str) -> None:
    request = asked("quick") | {key: "standard" if key == "profile" else "other"}
    found = judged(recorded("quick"), request)
    assert (found["outcome"], found["code"]) == ("fail", "REPORT_FOREIGN")


def test_the_right_answers_to_another_nonce_fail() -> None:
    report, request = recorded("quick"), asked("quick")
    report["nonce"] = request["nonce"] = "1234"
    found = judged(report, request)
    assert found["outcome"] == "fail"
    assert found["wrong_results"]
    wrong = {answer["gate"] for answer in found["results"] if answer["code"] == "RESULT_WRONG"}
    assert wrong >= {"kernel", "vector", "memory", "device_copy", "host_copy", "launch", "fma", "wmma_f16", "wmma_s8"}


@given(st.integers(0, 4095), st.integers(0, 7))
@settings(max_examples=40, deadline=None)
@pytest.mark.property
def test_one_wrong_bit_anywhere_fails(byte: int, bit: int) -> None:
    report = recorded("quick")
    evidence = measured(report, "kernel")["evidence"]
    raw = bytearray(base64.b64decode(evidence["output"]))
    raw[byte] ^= 1 << bit
    evidence["output"] = base64.b64encode(bytes(raw)).decode()
    found = judged(report, asked("quick"))
    assert found["outcome"] == "fail"
    assert found["wrong_results"]
    assert f"number {byte // 4} is" in why(found)


@pytest.mark.parametrize("output", [None, "", "AAAA", "not base64!", base64.b64encode(bytes(4096)).decode(), 7])
def test_constant_missing_or_short_outputs_fail(output: object) -> None:
    report = recorded("quick")
    measured(report, "kernel")["evidence"]["output"] = output
    assert judged(report, asked("quick"))["outcome"] == "fail"


@pytest.mark.parametrize("name", [*REQUIRED, "wmma_f16", "wmma_s8", "ratio"])
def test_what_was_asked_for_and_is_missing_is_no_pass(name: str) -> None:
    report = recorded("quick")
    results = report["gpus"][0]["processes"][0]["results"]
    results[:] = [result for result in results if result["name"] != name]
    found = judged(report, asked("quick"))
    assert found["outcome"] == "inconclusive"
    assert f"{name}: asked for, and no answer" in why(found)


def test_success_without_work_fails() -> None:
    report = recorded("quick")
    for result in report["gpus"][0]["processes"][0]["results"]:
        result["evidence"] = {}
    found = judged(report, asked("quick"))
    assert found["outcome"] == "fail"
    assert found["wrong_results"]


def test_one_process_of_two_that_is_wrong_is_enough() -> None:
    report = recorded("standard")
    measured(report, "launch", 1)["evidence"]["ticks"] += 1
    found = judged(report, asked("standard"))
    assert (found["outcome"], found["code"]) == ("fail", "RESULT_WRONG")


@pytest.mark.parametrize(("expect", "words"), [
    ({"driver": "590.44"}, "loaded driver is 580.159.04, planned is 590.44"),
    ({"gpus": 8}, "NVML shows 1 of 8 GPUs"),
    ({"fabric_manager": "580.159.04"}, "could not be read"),
])
def test_what_was_planned_must_be_found(expect: dict[str, Any], words: str) -> None:
    found = judged(recorded("quick"), asked("quick", **expect))
    assert found["outcome"] != "pass"
    assert words in why(found)


@pytest.mark.parametrize(("change", "words"), [
    ({"loaded": None}, "no driver is loaded"), ({"libcuda": "575.57.08"}, "libcuda is 575.57.08"),
    ({"nvml": "575.57.08"}, "NVML is 575.57.08"),
])
def test_parts_of_the_driver_must_agree(change: dict[str, Any], words: str) -> None:
    found = judged(changed("quick", lambda r: r["versions"].update(change)), asked("quick", driver="580.159.04"))
    assert found["outcome"] == "fail"
    assert words in why(found)


def test_a_fabric_manager_of_another_version_or_dead_fails() -> None:
    report = changed("quick", lambda r: r["versions"].update(fabric_manager="580.95.05", fabric_manager_active=False))
    found = judged(report, asked("quick", fabric_manager="580.159.04"))
    assert found["outcome"] == "fail"
    assert "fabric manager is 580.95.05" in why(found)
    assert "not running" in why(found)


def test_a_gpu_left_out_or_told_twice_is_no_pass() -> None:
    left_out = changed("quick", lambda r: r["nvml"]["gpus"].append({"index": 1, "name": "another"}))
    assert "GPU 1: 0 results" in why(judged(left_out, asked("quick")))
    twice = changed("quick", lambda r: r["gpus"].append(r["gpus"][0]))
    assert "GPU 0: 2 results" in why(judged(twice, asked("quick")))
    none = changed("quick", lambda r: (r["gpus"].clear(), r["nvml"]["gpus"].clear()))
    assert "no kernel ran" in why(judged(none, asked("quick")))
    for report in (left_out, twice, none):
        assert judged(report, asked("quick"))["outcome"] != "pass"


def test_another_gpu_under_the_same_index_fails() -> None:
    report = changed("quick", lambda r: r["gpus"][0].update(uuid="GPU-other"))
    assert judged(report, asked("quick"))["outcome"] == "fail"


@pytest.mark.parametrize(("fields", "code", "outcome"), [
    ({"error": "cuInit failed with 802 (CUDA_ERROR_SYSTEM_NOT_READY: not ready)", "code": 802}, "FABRIC_NOT_READY",
     "fail"),
    ({"error": "cuInit failed with 803 (…)", "code": 803}, "DRV_LIB_MISMATCH", "fail"),
    ({"error": "the kernels: no result after 120 s", "ended": "timeout"}, "GATE_TIMEOUT", "fail"),
    ({"error": "the kernels: hung: it cannot be killed", "ended": "hung"}, "GATE_HUNG_D", "fail"),
    ({"error": "the kernels: killed by signal 11", "ended": "killed by signal 11"}, "GATE_CRASHED", "fail"),
    ({"error": "what is this"}, "UNKNOWN_CODE", "fail"),
    ({"error": "libcuda.so.1 cannot be loaded: …", "code": None, "ended": "not loaded"}, "LIB_LOAD", "fail"),
    ({"busy": "pid 449 (python3)"}, "ENV_FOREIGN_PROCESS", "inconclusive"),
    ({"unsuited": "MIG is on; this gate proves whole GPUs only"}, "REQUIRED_SKIPPED", "inconclusive"),
])
def test_why_a_gpu_has_no_results_is_told_in_the_drivers_words(fields: dict[str, Any], code: str,
                                                              outcome: str) -> None:
    report = recorded("quick")
    report["gpus"] = [{k: report["gpus"][0][k] for k in ("index", "name", "nvml_uuid")} | fields]
    found = judged(report, asked("quick"))
    assert found["outcome"] == outcome
    assert any(answer["code"] == code for answer in found["results"]), found["results"]
    told = next(value for key, value in fields.items() if key in ("error", "busy", "unsuited"))
    assert told in why(found)


def test_failures_outweigh_what_could_not_be_told() -> None:
    report = changed("quick", lambda r: r["gpus"][0].update(busy="pid 1 (x)"))
    assert judged(report, asked("quick", driver="590.1"))["outcome"] == "fail"


def test_a_stand_in_is_named_in_a_pass() -> None:
    report = recorded("quick")
    report["gpus"][0]["name"] = "NVIDIA H100 80GB HBM3 (stand-in)"
    found = judged(report, asked("quick"))
    assert any("stand-in" in note for note in found["notes"])
    assert found["outcome"] == "fail", "a stand-in is asked for other sizes than a GPU"


def test_tensor_cores_that_are_off_fail() -> None:
    report = recorded("quick")
    measured(report, "ratio")["samples"]["ratio_f16_per_fma"] = [0.9] * 5
    found = judged(report, asked("quick"))
    assert (found["outcome"], found["code"]) == ("fail", "TENSOR_CORES_OFF")


def test_without_figures_from_before_that_is_said() -> None:
    found = judged(recorded("standard"), asked("standard"))
    assert found["outcome"] == "pass"
    assert any("no report from before the change" in note for note in found["notes"])
    spoiled = judge_gate(text_of("standard"), asked("standard"), "garbage")
    assert spoiled["outcome"] == "pass"
    assert any("cannot be read" in note for note in spoiled["notes"])


_JSON = st.recursive(st.none() | st.booleans() | st.integers(-3, 9000) | st.text(max_size=5),
                     lambda inner: (st.lists(inner, max_size=3)
                                    | st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=6)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return every place in a document, but of long lists the first two."""
    found = [at] if at else []
    if isinstance(value, dict):
        found += [path for key in sorted(value) for path in paths(value[key], (*at, key))]
    elif isinstance(value, list):
        found += [path for place in range(min(2, len(value))) for path in paths(value[place], (*at, place))]
    return found


PLACES = paths({key: value for key, value in REPORTS["standard"].items() if key != "software"})


@given(st.sampled_from(PLACES), _JSON)
@settings(max_examples=150, deadline=None)
@pytest.mark.property
def test_whatever_stands_in_a_report_the_judge_answers(place: tuple[Any, ...], value: Any) -> None:
    report = recorded("standard")
    inner: Any = report
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    found = judged(report, asked("standard"), text_of("standard-again"))
    assert found["outcome"] in ("pass", "fail", "inconclusive")
    assert found["reasons"] or found["outcome"] == "pass"
