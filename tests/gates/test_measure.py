"""Measurements and expectations together, on the stand-in driver: what is right passes, everything else is named."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.data import probe_zip
from planner.gates.expect import tensor_cores_work, wrong
from planner.probe.kernels import pack_digest
from planner.probe.measure import MEASUREMENTS, measure_all
from tests.gates.standin_driver import NAME, StandInDriver

NONCE, LABEL = "0123456789abcdef", "n1:0"
KIB = 1024
SIZES = {
    "kernel": {"threads": 300, "rounds": 4},
    "vector": {"words": 8192, "samples": 2}, "memory": {"bytes": 32 * KIB},
    "device_copy": {"bytes": 32 * KIB, "samples": 2}, "host_copy": {"bytes": 32 * KIB, "samples": 2},
    "launch": {"launches": 5, "samples": 2, "singles": 3}, "fma": {"rounds": 3, "samples": 1},
    "wmma_f16": {"rounds": 5, "samples": 1}, "wmma_s8": {"rounds": 5, "samples": 1},
    "ratio": {"rounds": 5, "fma_rounds": 3, "samples": 2},
}


def run(driver: StandInDriver, *names: str, nonce: str = NONCE) -> dict[str, Any]:
    sizes = {name: SIZES[name] for name in names or SIZES}
    document = measure_all("GPU-stand-in", nonce, LABEL, "quick", driver, sizes)
    return json.loads(json.dumps(document))     # what a controller gets


def judge(document: dict[str, Any], nonce: str = NONCE) -> dict[str, list[str]]:
    return {r["name"]: wrong(r, SIZES[r["name"]], nonce, LABEL) for r in document["results"]}


@pytest.fixture(scope="module")
def right() -> dict[str, Any]:
    return run(StandInDriver())


def test_work_that_was_done_right_passes(right: dict[str, Any]) -> None:
    assert judge(right) == {name: [] for name in SIZES}
    assert set(SIZES) == set(MEASUREMENTS)
    assert right["name"] == NAME
    assert right["problems"] == []


def test_samples_are_lists_of_numbers_with_units_in_their_names(right: dict[str, Any]) -> None:
    samples = {name: values for result in right["results"] for name, values in result["samples"].items()}
    assert sorted(samples) == [
        "copy_cpu_us", "copy_kernel_gbps", "d2d_gbps", "d2h_gbps", "fma_flop_per_cycle", "fma_tflops", "h2d_gbps",
        "launch_async_us", "launch_cpu_us", "launch_sync_us", "memory_check_gbps", "memory_write_gbps",
        "ratio_f16_per_fma", "vector_us", "wmma_f16_flop_per_cycle", "wmma_f16_tflops", "wmma_s8_tops"]
    assert all(values and all(isinstance(v, float) for v in values) for values in samples.values())
    assert samples["ratio_f16_per_fma"][0] == pytest.approx(8, rel=0.1)
    assert samples["d2d_gbps"][0] == pytest.approx(2 * 32 * KIB / 10e-3 / 1e9, abs=1e-4)


def test_nothing_is_left_behind() -> None:
    driver = StandInDriver()
    document = run(driver)
    assert (driver.device, driver.host, driver.modules, driver.events, driver.contexts) == ({}, {}, {}, 0, 0)
    assert document["memory_bytes"]["free_after"] == document["memory_bytes"]["free_before"]


def test_evidence_of_another_run_does_not_pass(right: dict[str, Any]) -> None:
    assert all(judge(right, "another nonce").values())


def test_other_sizes_than_asked_do_not_pass(right: dict[str, Any]) -> None:
    for result in right["results"]:
        assert wrong(result, dict(SIZES[result["name"]], more=1), NONCE, LABEL)


@pytest.mark.parametrize(("kernel", "names"), [
    ("planner_vector", ["vector"]), ("planner_fill", ["memory", "device_copy", "host_copy"]),
    ("planner_check", ["memory"]), ("planner_sum", ["vector", "device_copy", "host_copy"]),
    ("planner_copy", ["device_copy"]), ("planner_tick", ["launch"]), ("planner_fma", ["fma"]),
    ("planner_wmma_f16", ["wmma_f16"]), ("planner_wmma_s8", ["wmma_s8"]), ("planner_ratio", ["ratio"]),
    ("planner_same", ["wmma_f16", "wmma_s8", "ratio"]),
])  # fmt: skip
def test_a_kernel_that_says_success_and_does_nothing_is_caught(kernel: str, names: list[str]) -> None:
    found = judge(run(StandInDriver(idle=(kernel,)), *names))
    assert sorted(name for name, words in found.items() if words) == sorted(names)


@pytest.mark.parametrize(("kernel", "name", "word"), [
    ("planner_vector", "vector", 4711), ("planner_fill", "memory", 77), ("planner_copy", "device_copy", 8191),
    ("planner_wmma_f16", "wmma_f16", 3), ("planner_wmma_s8", "wmma_s8", 1024 * 31 + 5),
    ("planner_ratio", "ratio", 9000),
])  # fmt: skip
def test_one_wrong_bit_is_caught(kernel: str, name: str, word: int) -> None:
    assert judge(run(StandInDriver(flip={kernel: word}), name))[name]


def test_a_wrong_memory_cell_is_named() -> None:
    words = judge(run(StandInDriver(flip={"planner_fill": 77}), "memory"))["memory"]
    assert words[0] == ("memory: pattern solid, mask 00000000, chunk 0: 1 words wrong, the first at 77, "
                        "wrong bits 00000200")


def test_memory_in_several_allocations_has_a_pattern_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.probe.measure.CHUNK_BYTES", 16 * KIB)
    monkeypatch.setattr("planner.gates.expect.CHUNK_WORDS", 4 * KIB)
    document = run(StandInDriver(), "memory")
    assert judge(document) == {"memory": []}
    checks = document["results"][0]["evidence"]["checks"]
    assert [check["chunk"] for check in checks] == [0, 1] * 10
    sums = {check["report"][2] for check in checks if check["pattern"] in ("address", "hash")}
    assert len(sums) == 8       # no two of them alike: writing one in the other's place would be seen


def test_a_module_for_newer_gpus_is_skipped_with_the_drivers_words() -> None:
    driver = StandInDriver(capability=(6, 1), refuse={"sm_70": 209, "sm_72": 209})
    found = {r["name"]: r for r in run(driver)["results"]}
    for name in ("wmma_f16", "wmma_s8", "ratio"):
        assert (found[name]["status"], found[name]["code"]) == ("skip", 209)
        assert "cuModuleLoadDataEx failed with 209" in found[name]["reason"]
        assert wrong(found[name], SIZES[name], NONCE, LABEL)      # a skip is no pass
    assert found["fma"]["status"] == "ok"


def test_a_module_refused_by_a_gpu_that_should_take_it_is_an_error() -> None:
    found = {r["name"]: r for r in run(StandInDriver(refuse={"sm_50": 222}))["results"]}
    assert {r["status"] for r in found.values()} == {"error"}
    assert {r["code"] for r in found.values()} == {222}


def test_an_error_on_an_old_gpu_after_the_module_was_taken_is_no_skip() -> None:
    driver = StandInDriver(capability=(6, 1), fail={"cuEventRecord": 700})
    assert {r["status"] for r in run(driver, "wmma_f16", "fma")["results"]} == {"error"}


def test_too_little_memory_is_inconclusive() -> None:
    found = run(StandInDriver(free_bytes=16 * KIB), "memory")["results"][0]
    assert (found["status"], found["samples"]) == ("inconclusive", {})
    assert "32768 bytes asked, 16344 of 16384 free" in found["reason"]


def test_memory_that_cannot_be_given_back_is_told() -> None:
    document = run(StandInDriver(fail={"cuMemFree_v2": 700}), "vector")
    assert document["problems"] == ["cuMemFree_v2 failed with 700 (stand-in)"] * 4


@pytest.mark.parametrize("name", sorted(SIZES))
def test_evidence_that_is_missing_or_forged_never_passes(right: dict[str, Any], name: str) -> None:
    result = next(r for r in right["results"] if r["name"] == name)
    for key, value in result["evidence"].items():
        for forged in (None, 0, "", [], "AAAA", [[1, 2, 3]] * 2, value[:-1] if isinstance(value, list) else -1):
            changed = copy.deepcopy(result)
            changed["evidence"][key] = forged
            if forged != value:
                assert wrong(changed, SIZES[name], NONCE, LABEL), (key, forged)
        changed = copy.deepcopy(result)
        del changed["evidence"][key]
        assert wrong(changed, SIZES[name], NONCE, LABEL), key


@pytest.mark.parametrize(("ratio", "before", "works"), [
    (10.3, None, True), (2.0, None, True), (0.9, None, False), (10.3, 10.3, True), (7.3, 10.3, True),
    (6.9, 10.3, False), (1.1, 1.1, False),
])  # fmt: skip
def test_the_ratio_tells_whether_tensor_cores_work(ratio: float, before: float | None, works: bool) -> None:
    assert tensor_cores_work(ratio, before) is works


def test_the_probes_one_file_carries_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "probe.zip").write_bytes(probe_zip())
    text = ("import sys; sys.path.insert(0, 'probe.zip'); from planner.probe import measure, kernels as k; "
            "print(k.__file__.startswith('probe.zip'), measure.pack_digest(), len(measure.MEASUREMENTS))")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", text], cwd=tmp_path, capture_output=True, text=True,
                          check=False)
    assert done.stdout.split() == ["True", pack_digest(), str(len(SIZES))], done.stderr


def test_the_script_runs_without_planner_installed_and_says_what_it_found(tmp_path: Path) -> None:
    """With a GPU every measurement must be right; without one the file says why there is none, and the status is 1."""
    script = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_kernels.py"
    done = subprocess.run([sys.executable, "-I", "-S", script, "--out", tmp_path, "--quick-runs", "1",
                           "--standard-runs", "0"], capture_output=True, text=True, check=False, timeout=300)
    document = json.loads(next(tmp_path.glob("kernels-*.json")).read_text(encoding="utf-8"))
    if document["gpus"]:
        assert done.returncode == 0, done.stdout
    else:
        assert done.returncode == 1, done.stderr
        assert document["error"]
