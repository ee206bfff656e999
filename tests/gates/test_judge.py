"""The judge: real reports pass, and every way in which a report can be wrong, missing or forged does not."""

from __future__ import annotations

import base64
import json
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.gates import judge
from planner.gates.compare import compare_reports
from planner.gates.judge import expected_output, judge_gate, seed_of

RECORDED = Path(__file__).parent / "recorded"
NONCE = {"quick": "00ff", "full": "00fe", "busy": "00fd"}


def recorded(name: str) -> dict[str, Any]:
    """Return a report as one NVIDIA H200 with driver 580.159.04 gave it on 2026-11-24 (ids replaced)."""
    return dict(json.loads((RECORDED / f"h200-580.159.04-{name}.json").read_text()))


def asked(name: str, **expect: Any) -> dict[str, Any]:
    return {"profile": "full" if name == "full" else "quick", "nonce": NONCE[name], "host": "h200", "expect": expect}


def judged(report: object, request: dict[str, Any]) -> tuple[str, str]:
    found = judge_gate(report if isinstance(report, str) else json.dumps(report), request)
    return found["verdict"], "; ".join(found["reasons"])


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
    assert list(expected_output(seed, count, rounds)) == [mix(seed, i, rounds) for i in range(count)]


def test_seeds_differ_by_nonce_host_and_gpu() -> None:
    assert len({seed_of("a", "b", 0), seed_of("a", "b", 1), seed_of("a", "c", 0), seed_of("d", "b", 0)}) == 4


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_real_h200_passes(name: str) -> None:
    assert judged(recorded(name), asked(name, driver="580.159.04", gpus=1)) == ("pass", "")


def test_a_busy_gpu_is_inconclusive_and_named() -> None:
    verdict, why = judged(recorded("busy"), asked("busy", driver="580.159.04", gpus=1))
    assert verdict == "inconclusive"
    assert "pid 449 (python3)" in why


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"schema": "planner.gate/2"}', "null",
                                  '{"schema": "planner.gate/1", "gpus": {}, "versions": {}, "nvml": {}}'])
def test_no_report_is_never_a_pass(text: str) -> None:
    verdict, why = judged(text, asked("quick"))
    assert verdict == "inconclusive"
    assert "no report" in why


@pytest.mark.parametrize("key", ["nonce", "host", "profile"])
def test_an_old_or_foreign_report_fails(key: str) -> None:
    request = asked("quick")
    request[key] = "full" if key == "profile" else "other"
    assert judged(recorded("quick"), request)[0] == "fail"


def test_the_right_answer_to_another_nonce_fails() -> None:
    report, request = recorded("quick"), asked("quick")
    report["nonce"] = request["nonce"] = "1234"
    found = judge_gate(json.dumps(report), request)
    assert found["verdict"] == "fail"
    assert found["wrong_results"]


@given(st.integers(0, 4095), st.integers(0, 7))
@settings(max_examples=40)
@pytest.mark.property
def test_one_wrong_bit_anywhere_fails(byte: int, bit: int) -> None:
    report = recorded("quick")
    raw = bytearray(base64.b64decode(report["gpus"][0]["output"]))
    raw[byte] ^= 1 << bit
    report["gpus"][0]["output"] = base64.b64encode(bytes(raw)).decode()
    found = judge_gate(json.dumps(report), asked("quick"))
    assert found["verdict"] == "fail"
    assert found["wrong_results"]
    assert f"number {byte // 4} is" in found["reasons"][0]


@pytest.mark.parametrize("output", [None, "", "AAAA", "not base64!", base64.b64encode(bytes(4096)).decode(), 7])
def test_constant_missing_or_short_outputs_fail(output: object) -> None:
    report = recorded("quick")
    report["gpus"][0]["output"] = output
    assert judged(report, asked("quick"))[0] == "fail"


@pytest.mark.parametrize(("expect", "words"), [
    ({"driver": "590.44"}, "loaded driver is 580.159.04, planned is 590.44"),
    ({"gpus": 8}, "NVML shows 1 of 8 GPUs"),
    ({"fabric_manager": "580.159.04"}, "could not be read"),
])
def test_what_was_planned_must_be_found(expect: dict[str, Any], words: str) -> None:
    verdict, why = judged(recorded("quick"), asked("quick", **expect))
    assert verdict != "pass"
    assert words in why


@pytest.mark.parametrize(("change", "words"), [
    ({"loaded": None}, "no driver is loaded"),
    ({"libcuda": "575.57.08"}, "libcuda is 575.57.08"),
    ({"nvml": "575.57.08"}, "NVML is 575.57.08"),
])
def test_parts_of_the_driver_must_agree(change: dict[str, Any], words: str) -> None:
    report = recorded("quick")
    report["versions"].update(change)
    verdict, why = judged(report, asked("quick", driver="580.159.04"))
    assert verdict == "fail"
    assert words in why


def test_a_fabric_manager_of_another_version_or_dead_fails() -> None:
    report = recorded("quick")
    report["versions"].update(fabric_manager="580.95.05", fabric_manager_active=False)
    verdict, why = judged(report, asked("quick", fabric_manager="580.159.04"))
    assert verdict == "fail"
    assert "fabric manager is 580.95.05" in why
    assert "not running" in why


def test_a_gpu_left_out_or_told_twice_fails() -> None:
    report = recorded("quick")
    report["nvml"]["gpus"].append({"index": 1, "name": "another"})
    assert "GPU 1: 0 results" in judged(report, asked("quick"))[1]
    twice = recorded("quick")
    twice["gpus"].append(twice["gpus"][0])
    assert "GPU 0: 2 results" in judged(twice, asked("quick"))[1]
    none = recorded("quick")
    none["gpus"], none["nvml"]["gpus"] = [], []
    assert "no kernel ran" in judged(none, asked("quick"))[1]


def test_another_gpu_under_the_same_index_fails() -> None:
    report = recorded("quick")
    report["gpus"][0]["uuid"] = "GPU-other"
    assert judged(report, asked("quick"))[0] == "fail"


def test_driver_errors_are_told_in_its_own_words() -> None:
    report = recorded("quick")
    report["gpus"] = [{"index": 0, "error": "cuInit failed with 802 (CUDA_ERROR_SYSTEM_NOT_READY: not ready)"}]
    verdict, why = judged(report, asked("quick"))
    assert verdict == "fail"
    assert "CUDA_ERROR_SYSTEM_NOT_READY" in why


def test_failures_outweigh_what_could_not_be_told() -> None:
    report = recorded("busy")
    assert judged(report, asked("busy", driver="590.1"))[0] == "fail"


def test_a_stand_in_is_named_in_a_pass() -> None:
    report = recorded("quick")
    report["gpus"][0]["name"] = "NVIDIA H100 80GB HBM3 (stand-in)"
    found = judge_gate(json.dumps(report), asked("quick"))
    assert found["verdict"] == "pass"
    assert any("stand-in" in note for note in found["notes"])


def test_probe_and_judge_have_one_table_of_sizes() -> None:
    from planner.probe import cuda, gate

    assert gate.SIZES == judge.SIZES
    assert cuda.ENTRY == judge.ENTRY


def test_compare_tells_what_is_gone() -> None:
    before, after = recorded("quick"), recorded("full")
    assert compare_reports(before, after).lost == ()
    after["gpus"] = []
    assert "is gone" in compare_reports(before, after).lost[0]
    after = recorded("busy")
    assert "ran a kernel before and does not now" in compare_reports(before, after).lost[0]


def test_output_is_read_little_endian() -> None:
    report = recorded("quick")
    words = array("I", base64.b64decode(report["gpus"][0]["output"]))
    assert words[0] == mix(seed_of("00ff", "h200", 0), 0, 64)
