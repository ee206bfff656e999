"""What the compiled stand-in NVML says of its GPUs, and how it plays changes and errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.gates.standin_libraries import DRIVER, ROOT, StandInNode

READ = "import json; from planner.probe.state import read_state; print(json.dumps(read_state()))"


def seen(node: StandInNode) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", READ], env=node.environment(), cwd=ROOT, capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def first(compiled: Path, root: Path, plays: Iterable[str] = (), **faults: str) -> dict[str, Any]:
    return dict(seen(StandInNode(compiled, root, plays=plays, faults=faults))["gpus"][0])


def test_healthy_gpus_have_an_answer_to_every_question(compiled: Path, tmp_path: Path) -> None:
    state = seen(StandInNode(compiled, tmp_path, gpus=3))
    assert (state["driver"], state["cuda"], len(state["gpus"])) == (DRIVER, 13000, 3)
    assert len({gpu["uuid"] for gpu in state["gpus"]}) == 3
    for gpu in state["gpus"]:
        assert gpu["name"] == "NVIDIA H200 (stand-in)"
        assert "error" not in gpu
        assert "errors" not in gpu
        assert gpu["processes"] == []
        assert gpu["ecc"]["volatile"]["uncorrected"] == gpu["remapped"]["pending"] == gpu["recovery_action"] == 0
        assert gpu["power"]["limit_w"] == 700
        assert gpu["clocks"]["sm_mhz"] == 1980
        assert gpu["pcie"] == {"gen": 5, "gen_max": 5, "width": 16, "width_max": 16, "replays": 0}


@pytest.mark.parametrize(("code", "words"), [
    (9, "Driver Not Loaded"), (15, "GPU is lost"), (16, "GPU requires restart"),
    (18, "RM has detected an NVML/RM version mismatch."), (999, "Unknown Error")])
def test_errors_at_the_start_and_of_one_gpu(code: int, words: str, compiled: Path, tmp_path: Path) -> None:
    state = seen(StandInNode(compiled, tmp_path / "a", plays=[f"call nvmlInitWithFlags {code}"]))
    assert (state["error"], state["error_code"], state["gpus"]) == (words, code, [])
    one, two = seen(StandInNode(compiled, tmp_path / "b",
                                plays=[f"call nvmlDeviceGetHandleByIndex_v2 {code} 1"]))["gpus"]
    assert "error" not in one
    assert (two["error"], two["error_code"]) == (words, code)


def test_no_driver_and_another_driver(compiled: Path, tmp_path: Path) -> None:
    assert seen(StandInNode(compiled, tmp_path / "a", loaded=None))["error_code"] == 9
    assert seen(StandInNode(compiled, tmp_path / "b", loaded="570.1"))["error_code"] == 18


@pytest.mark.parametrize(("plays", "path", "value"), [
    (["value ecc_uncorrected 3"], ["ecc", "volatile", "uncorrected"], 3),
    (["value remap_pending 1"], ["remapped", "pending"], 1), (["value remap_failed 1"], ["remapped", "failure"], 1),
    (["value recovery_action 2"], ["recovery_action"], 2), (["value fabric_state 1"], ["fabric", "state"], 1),
    (["value persistence 0"], ["persistence"], 0), (["value compute_mode 3"], ["compute_mode"], 3),
    (["value ecc_mode 0"], ["ecc", "mode", "current"], 0), (["value power_limit_mw 500000"], ["power", "limit_w"], 500),
    (["value throttle_reasons 0x8"], ["reasons", "names"], ["hw-slowdown"]), (["value mig 1"], ["mig"], True),
    (["value temperature_c 91"], ["temperature_c"], 91), (["value sm_clock_mhz 345"], ["clocks", "sm_mhz"], 345),
    (["value pcie_width 4"], ["pcie", "width"], 4),
    (["value virtualization 2", "value licence 0"], ["licence", 0, "enabled"], 0),
    (["value nvlinks 2", "value nvlinks_down 1"], ["nvlinks", 1, "active"], False),
    (["value nvlinks 1", "value nvlink_errors 5"], ["nvlinks", 0, "errors", "crc"], 5),
])  # fmt: skip
def test_every_state_can_be_played(plays: list[str], path: list[Any], value: object, compiled: Path,
                                   tmp_path: Path) -> None:
    found: Any = first(compiled, tmp_path, plays)
    for step in path:
        found = found[step]
    assert found == value


def test_use_and_hidden_gpus(compiled: Path, tmp_path: Path) -> None:
    assert first(compiled, tmp_path / "a", **{"gpu-busy": "0 4242"})["processes"] == [4242]
    gpus = seen(StandInNode(compiled, tmp_path / "b", plays=["value hidden_from_nvml 1 0"]))["gpus"]
    assert [gpu["bus_id"] for gpu in gpus] == ["00000000:11:00.0"]


def test_some_values_change_only_when_a_kernel_has_run(compiled: Path, tmp_path: Path) -> None:
    node = StandInNode(compiled, tmp_path, plays=["later ecc_uncorrected 3 1"])
    run = ("from planner.probe.measure import measure_all; import sys; "
           "measure_all(sys.argv[1], 'ab', 'n1:0', 'quick', None, {'kernel': {'threads': 8, 'rounds': 1}})")

    def counts() -> list[int]:
        return [gpu["ecc"]["volatile"]["uncorrected"] for gpu in seen(node)["gpus"]]

    assert counts() == [0, 0]
    subprocess.run([sys.executable, "-c", run, "0"], env=node.environment(), cwd=ROOT, check=True)
    assert counts() == [0, 0]
    subprocess.run([sys.executable, "-c", run, "1"], env=node.environment(), cwd=ROOT, check=True)
    assert counts() == [0, 3]
