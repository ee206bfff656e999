"""What was measured on one H200 (driver 580.159.04, which reports CUDA 13.0) is what the matrices say.

17 CUDA runtimes, 11.7 to 13.5, all start and work; machine code for the GPU runs from the toolkits 11.8 to 13.5; PTX
runs up to 13.0 and fails with error 222 from 13.1 on; machine code for another architecture only does not run.
"""

from __future__ import annotations

import pytest

from planner.check.evaluate import judge_state
from planner.check.verdict import Judgement, Verdict
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State

H200: dict[str, tuple[str, ...]] = {
    "driver": ("580.159.04",),
    "loaded_driver": ("580.159.04",),
    "fabric_manager": ("580.159.04",),
    "compute_capability": ("9.0",),
    "gpu_model": ("h200-sxm",),
    "gpu_class": ("data-center",),
    "nvswitch": ("yes",),
    "driver_flavour": ("open",),
    "arch": ("x86_64",),
    "cuda_compat": (),
}
RUNTIMES = (
    "11.7", "11.8", "12.0", "12.1", "12.2", "12.3", "12.4", "12.5", "12.6", "12.8", "12.9",
    "13.0", "13.1", "13.2", "13.3", "13.4", "13.5",
)  # fmt: skip
JIT_WORKS = RUNTIMES[: RUNTIMES.index("13.0") + 1]
MACHINE_CODE = RUNTIMES[RUNTIMES.index("11.8") :]


def judged(state: State, family: str, matrices: MatrixSet) -> list[Judgement]:
    return [j for j in judge_state({**H200, **state}, matrices) if j.family == family]


def test_seventeen_runtimes_were_measured() -> None:
    assert len(RUNTIMES) == 17


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_starts_and_works(runtime: str, shipped: MatrixSet) -> None:
    state = {"cuda_runtime": (runtime,)}
    assert [j.rule for j in judge_state({**H200, **state}, shipped) if j.blocking
            and j.verdict is not Verdict.SUPPORTED and "cuda_runtime" in j.components] == []
    assert {j.verdict for j in judged(state, "cuda-runtime-driver", shipped)} == {Verdict.SUPPORTED}


@pytest.mark.parametrize("toolkit", MACHINE_CODE)
def test_machine_code_for_the_gpu_runs(toolkit: str, shipped: MatrixSet) -> None:
    state = {"cuda_toolkits": (toolkit,)}
    for family in ("cuda-driver", "gpu-toolkit", "gpu-toolkit-age"):
        assert {j.verdict for j in judged(state, family, shipped)} == {Verdict.SUPPORTED}, family


@pytest.mark.parametrize("component", ["cuda_toolkits", "cuda_runtime"])
@pytest.mark.parametrize("version", RUNTIMES)
def test_ptx_runs_up_to_the_cuda_of_the_driver(version: str, component: str, shipped: MatrixSet) -> None:
    found = judged({component: (version,)}, "cuda-ptx", shipped)
    wanted = Verdict.SUPPORTED if version in JIT_WORKS else Verdict.UNSUPPORTED
    assert [j.verdict for j in found] == [wanted]
    if wanted is Verdict.UNSUPPORTED:
        assert found[0].root_cause == "driver_too_old_for_toolkit_ptx"
        assert "error 222" in found[0].statement
        assert not found[0].blocking      # machine code of the same toolkit runs


@pytest.mark.parametrize(
    ("state", "root_cause"),
    [
        ({"cuda_toolkits": ("11.7",)}, "arch_not_supported_by_build"),       # has nothing newer than 8.7
        ({"cuda_runtime": ("11.7",)}, "arch_not_supported_by_build"),
        ({"cuda_runtime": ("12.6",), "compute_capability": ("10.0",)}, "arch_not_supported_by_build"),
        ({"cuda_runtime": ("13.0",), "compute_capability": ("7.0",)}, "arch_dropped_by_toolkit"),
        ({"cuda_toolkits": ("13.0",), "compute_capability": ("7.0",)}, "arch_dropped_by_toolkit"),
    ],
)
def test_code_for_other_architectures_is_told(state: State, root_cause: str, shipped: MatrixSet) -> None:
    """Machine code for another architecture fails at launch (209); PTX beside it may still be compiled."""
    bad = [j for j in judge_state({**H200, **state}, shipped) if j.verdict is Verdict.UNSUPPORTED]
    assert root_cause in {j.root_cause for j in bad}
    if root_cause == "arch_not_supported_by_build":
        assert not [j for j in bad if j.blocking]


def test_compat_libraries_lift_the_limit_of_ptx_and_are_refused_where_they_do_not_fit(shipped: MatrixSet) -> None:
    newer = {"cuda_runtime": ("13.4",), "cuda_compat": ("13.4",)}
    assert judged(newer, "cuda-ptx", shipped) == []
    assert [j for j in judged(newer, "forward-compat", shipped) if j.severity == "error"] == []
    shadow = {"cuda_compat": ("12.8",)}
    refused = [j for j in judged(shadow, "forward-compat", shipped) if j.blocking]
    assert [(j.rule, j.root_cause) for j in refused] == [("compat-12.8-above-own-branch", "forward_compat_misuse")]
