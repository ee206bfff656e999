"""Toolkits, runtimes, GPUs and compatibility packages: ordinary stacks pass in silence, broken ones get their cause."""

from __future__ import annotations

import pytest

from planner.check.evaluate import judge_state
from planner.check.verdict import Verdict
from planner.matrix.index import MatrixSet

FAMILIES = frozenset({
    "cuda-driver", "cuda-runtime-driver", "cuda-ptx", "gpu-driver", "gpu-model-driver", "gpu-toolkit",
    "gpu-toolkit-age", "gpu-runtime", "forward-compat", "mig", "coherent-memory", "jetpack",
})


def causes(gpu: str, matrices: MatrixSet, least: str, **facts: str) -> set[str]:
    """Root causes that my families find at a severity or above."""
    model = matrices.gpu_model_of_people(gpu)
    assert model is not None
    state = {name: (value,) for name, value in facts.items()}
    state |= {"gpu_model": (model.name,), "compute_capability": (model.compute_capability,),
              "gpu_class": (model.gpu_class,)}
    wanted = {"error"} if least == "error" else {"error", "warning"}
    return {j.root_cause for j in judge_state(state, matrices)
            if j.verdict is Verdict.UNSUPPORTED and j.family in FAMILIES and j.severity in wanted}


@pytest.mark.parametrize(
    ("gpu", "facts"),
    [
        ("H100 SXM", {"driver": "535.161.08", "cuda_toolkits": "12.2", "cuda_runtime": "12.1"}),
        ("RTX 4090", {"driver": "550.107.02", "cuda_toolkits": "12.1", "cuda_runtime": "12.4"}),
        ("RTX 4090", {"driver": "525.105.17", "cuda_runtime": "11.7"}),   # code for 8.6 runs
        ("RTX 3090", {"driver": "535.183.01", "cuda_toolkits": "11.8", "cuda_runtime": "12.4"}),   # within one major
        ("A100", {"driver": "470.256.02", "cuda_runtime": "11.8"}),
        ("RTX 5090", {"driver": "570.86.16", "cuda_toolkits": "12.8", "cuda_runtime": "12.8"}),
        ("Tesla T4", {"driver": "525", "cuda_runtime": "12.0"}),                                   # a bare branch
        ("B200", {"driver": "580", "cuda_runtime": "13.0"}),
        ("V100", {"driver": "580.95.05", "cuda_toolkits": "12.8", "cuda_runtime": "12.6"}),
        ("H100", {"driver": "570.133.20", "cuda_runtime": "13.0", "cuda_compat": "13.0"}),
        ("GTX 980", {"driver": "470.256.02", "cuda_runtime": "11.8"}),
        ("DGX Spark", {"driver": "580.95.05", "cuda_toolkits": "13.0", "cuda_runtime": "13.0"}),
        ("Jetson Orin", {"driver": "540.4.0", "jetpack": "6.2", "l4t": "36.4.3", "cuda_toolkits": "12.6"}),
        ("Jetson AGX Thor", {"driver": "580.00", "jetpack": "7.0", "l4t": "38.2", "cuda_toolkits": "13.0"}),
        ("Jetson Nano", {"jetpack": "4.6.1", "l4t": "32.7.1", "cuda_toolkits": "10.2"}),
        ("A100-SXM4-80GB", {"driver": "535.183.01", "mig": "yes"}),
    ],
)
def test_ordinary_stacks_pass_in_silence(gpu: str, facts: dict[str, str], shipped: MatrixSet) -> None:
    assert causes(gpu, shipped, "warning", **facts) == set()


@pytest.mark.parametrize(
    ("gpu", "facts", "severity", "root_cause"),
    [
        ("H100", {"driver": "550.54.15", "cuda_runtime": "13.0"}, "error", "driver_too_old_for_runtime"),
        ("RTX 3090", {"driver": "515.105.01", "cuda_toolkits": "12.1"}, "error", "driver_too_old_for_runtime"),
        ("RTX 3090", {"driver": "535.183.01", "cuda_toolkits": "12.8"}, "warning", "driver_too_old_for_toolkit_ptx"),
        ("GTX 1080 Ti", {"driver": "590.48.01"}, "error", "arch_dropped_by_driver"),
        ("Tesla K80", {"driver": "535.183.01"}, "error", "arch_dropped_by_driver"),
        ("RTX 5090", {"driver": "550.107.02"}, "error", "gpu_needs_newer_driver"),
        ("B300", {"driver": "575.57.08"}, "error", "gpu_needs_newer_driver"),
        ("RTX 5080", {"driver": "570.86.16", "cuda_runtime": "12.4"}, "warning", "arch_not_supported_by_build"),
        ("H100", {"driver": "535.161.08", "cuda_runtime": "11.7"}, "warning", "arch_not_supported_by_build"),
        ("V100", {"driver": "580.95.05", "cuda_runtime": "13.0"}, "error", "arch_dropped_by_toolkit"),
        ("Tesla P40", {"driver": "580.95.05", "cuda_toolkits": "13.0"}, "error", "arch_dropped_by_toolkit"),
        ("RTX 3060", {"driver": "525.147.05", "cuda_compat": "12.4"}, "error", "forward_compat_misuse"),
        ("RTX A6000", {"driver": "525.147.05", "cuda_compat": "12.4"}, "warning", "forward_compat_misuse"),
        ("A100", {"driver": "580.95.05", "cuda_compat": "570.86.15"}, "error", "forward_compat_misuse"),
        ("A100", {"driver": "570.133.20", "cuda_compat": "12.8"}, "warning", "forward_compat_misuse"),
        ("L40S", {"driver": "580.95.05", "mig": "yes"}, "error", "user_bug"),
        ("Jetson Xavier", {"jetpack": "6.0", "l4t": "36.3"}, "error", "arch_dropped_by_driver"),
        ("Jetson Nano", {"jetpack": "4.6", "cuda_runtime": "11.8"}, "error", "driver_too_old_for_runtime"),
    ],
)
def test_broken_stacks_get_their_cause(
    gpu: str, facts: dict[str, str], severity: str, root_cause: str, shipped: MatrixSet
) -> None:
    assert root_cause in causes(gpu, shipped, severity, **facts)
