"""The compiled stand-ins do the work that the measurements ask for, keep time as told, and play what they are told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.gates.asked import PLAYED
from planner.gates.expect import wrong
from tests.gates.standin_libraries import DRIVER, ROOT, StandInNode

NONCE = "0f1e2d"
MEASURE = ("import json, sys; from planner.probe.measure import measure_all; "
           f"print(json.dumps(measure_all(sys.argv[1], {NONCE!r}, 'n1:0', 'standard')))")


def measured(node: StandInNode, gpu: str = "0") -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", MEASURE, gpu], env=node.environment(), cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def samples(document: dict[str, Any]) -> dict[str, list[float]]:
    """Return the samples that events timed; the others hold what this machine's processor took."""
    kept = {name: values for result in document["results"] for name, values in result["samples"].items()}
    return {name: values for name, values in kept.items() if "cpu" not in name and not name.startswith("launch")}


def wrong_ones(document: dict[str, Any]) -> list[str]:
    return [r["name"] for r in document["results"] if wrong(r, PLAYED[r["name"]], NONCE, "n1:0")]


def test_all_work_is_done_and_right(compiled: Path, tmp_path: Path) -> None:
    seen = measured(StandInNode(compiled, tmp_path))
    assert seen["name"] == "NVIDIA H200 (stand-in)"
    assert [r["name"] for r in seen["results"]] == list(PLAYED)
    assert [words for r in seen["results"] for words in wrong(r, PLAYED[r["name"]], NONCE, "n1:0")] == []
    assert seen["libcuda"] == DRIVER
    assert seen["memory_bytes"]["free_after"] == seen["memory_bytes"]["free_before"] == 256 << 20
    assert seen["problems"] == []


def test_steady_times_are_those_of_nominal_rates_and_slowness_is_what_was_asked(
        compiled: Path, tmp_path: Path) -> None:
    steady = samples(measured(StandInNode(compiled, tmp_path / "a")))
    rates = {"d2d_gbps": 2000, "copy_kernel_gbps": 2000, "memory_write_gbps": 2000, "h2d_gbps": 50, "d2h_gbps": 50,
             "fma_tflops": 60, "wmma_f16_tflops": 600, "wmma_s8_tops": 900, "ratio_f16_per_fma": 8}
    for name, rate in rates.items():
        assert steady[name] == pytest.approx([rate] * len(steady[name]), rel=1e-5), name
    node = StandInNode(compiled, tmp_path / "b", faults={"slow-percent": "15 1"})
    assert samples(measured(node, "0")) == steady
    slow = samples(measured(node, "1"))
    for name in rates:
        assert slow[name][0] == pytest.approx(steady[name][0] * (1 if "ratio" in name else 0.85), rel=1e-4), name


def test_jitter_spreads_times_alike_in_every_run(compiled: Path, tmp_path: Path) -> None:
    node = StandInNode(compiled, tmp_path, faults={"jitter-percent": "8"})
    first, second = samples(measured(node)), samples(measured(node))
    assert first == second
    spread = first["memory_check_gbps"]
    assert 1.04 < max(spread) / min(spread) < 1.085


@pytest.mark.parametrize("line", ["idle *", "constant * 0", "constant * 0x3f800000", "flip * 77"])
def test_success_without_work_constants_and_wrong_bits_never_pass(line: str, compiled: Path, tmp_path: Path) -> None:
    assert wrong_ones(measured(StandInNode(compiled, tmp_path, plays=[line]))) == list(PLAYED)


def test_the_labs_own_wrong_results_are_seen_on_that_gpu_only(compiled: Path, tmp_path: Path) -> None:
    node = StandInNode(compiled, tmp_path, faults={"gate-wrong": "1"})
    assert wrong_ones(measured(node, "0")) == []
    assert wrong_ones(measured(node, "1")) == list(PLAYED)


@pytest.mark.parametrize("call", ["cuLaunchKernel", "cuMemAlloc_v2", "cuMemcpyDtoHAsync_v2", "cuEventRecord",
                                  "cuCtxSynchronize", "cuModuleLoadDataEx", "cuModuleGetFunction"])
def test_every_call_can_answer_every_error(call: str, compiled: Path, tmp_path: Path) -> None:
    seen = measured(StandInNode(compiled, tmp_path, plays=[f"call {call} 719 0", f"call {call} 700 1"]))
    bad = [r for r in seen["results"] if r["status"] != "ok"]
    assert bad
    assert {r["code"] for r in bad} == {719}
    assert all(f"{call} failed with 719 (CUDA_ERROR_LAUNCH_FAILED" in r["reason"] for r in bad)


def test_the_compilers_words_come_with_its_error(compiled: Path, tmp_path: Path) -> None:
    seen = measured(StandInNode(compiled, tmp_path, plays=["call cuModuleLoadDataEx 222"]))
    assert "unsupported toolchain.); ptxas (stand-in): module for sm_" in seen["results"][0]["reason"]


def test_an_older_gpu_takes_no_newer_module(compiled: Path, tmp_path: Path) -> None:
    seen = measured(StandInNode(compiled, tmp_path, config={"compute-capability": "6.1"}))
    assert {r["name"] for r in seen["results"] if r["status"] == "skip"} == {"wmma_f16", "wmma_s8", "ratio"}


def test_tensor_cores_that_are_off_show_in_the_ratio(compiled: Path, tmp_path: Path) -> None:
    seen = measured(StandInNode(compiled, tmp_path, plays=["value tensor_cores_off 1"]))
    assert wrong_ones(seen) == []
    assert samples(seen)["ratio_f16_per_fma"] == [1.0] * PLAYED["ratio"]["samples"]


def test_memory_can_be_short(compiled: Path, tmp_path: Path) -> None:
    seen = measured(StandInNode(compiled, tmp_path, config={"memory-mib": "1"}))
    assert {r["name"]: r["status"] for r in seen["results"]}["memory"] == "inconclusive"


def test_peers_reach_each_other_unless_they_are_hidden(compiled: Path, tmp_path: Path) -> None:
    text = ("import ctypes; c = ctypes.CDLL('libcuda.so.1'); c.cuInit(0); x = ctypes.c_int(); "
            "print([c.cuDeviceCanAccessPeer(ctypes.byref(x), a, b) or x.value for a in range(3) for b in range(3)])")
    node = StandInNode(compiled, tmp_path, gpus=3, plays=["value hidden_from_peers 1 2"])
    done = subprocess.run([sys.executable, "-c", text], env=node.environment(), capture_output=True, text=True,
                          check=True)
    assert json.loads(done.stdout) == [0, 1, 0, 1, 0, 0, 0, 0, 0]
