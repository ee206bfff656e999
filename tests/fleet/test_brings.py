"""Dependencies that a step may bring along: whose globs stand in a step, and how far the shipped ones reach."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from planner.data import data_dir
from planner.facts.schema import FactSet, OsFacts
from planner.fleet.fleet import Node
from planner.fleet.packages import brought_globs
from planner.matrix.index import MatrixSet
from planner.matrix.load import load_matrices
from planner.schedule.steps import StepList, build_steps
from planner.search.problem import Path, Transition

DRIVER = ("nvidia-headless-{b}-server-open", "nvidia-dkms-{b}-server-open", "nvidia-kernel-common-{b}-server",
          "libnvidia-compute-{b}-server", "nvidia-utils-{b}-server")
# Names of the vendor's packages that one toolkit depends on, as recalled; distribution packages apart.
TOOLKIT = """
cuda-cccl-12-8 cuda-command-line-tools-12-8 cuda-compiler-12-8 cuda-crt-12-8 cuda-cudart-12-8 cuda-cudart-dev-12-8
cuda-cuobjdump-12-8 cuda-cupti-12-8 cuda-cupti-dev-12-8 cuda-cuxxfilt-12-8 cuda-documentation-12-8 cuda-driver-dev-12-8
cuda-gdb-12-8 cuda-libraries-12-8 cuda-libraries-dev-12-8 cuda-nsight-12-8 cuda-nsight-compute-12-8
cuda-nsight-systems-12-8 cuda-nvcc-12-8 cuda-nvdisasm-12-8 cuda-nvml-dev-12-8 cuda-nvprof-12-8 cuda-nvprune-12-8
cuda-nvrtc-12-8 cuda-nvrtc-dev-12-8 cuda-nvtx-12-8 cuda-nvvm-12-8 cuda-nvvp-12-8 cuda-opencl-12-8 cuda-opencl-dev-12-8
cuda-profiler-api-12-8 cuda-sanitizer-12-8 cuda-toolkit-12-8-config-common cuda-toolkit-12-config-common
cuda-toolkit-config-common cuda-tools-12-8 cuda-visual-tools-12-8 gds-tools-12-8 libcublas-12-8 libcublas-dev-12-8
libcufft-12-8 libcufft-dev-12-8 libcufile-12-8 libcufile-dev-12-8 libcurand-12-8 libcurand-dev-12-8 libcusolver-12-8
libcusolver-dev-12-8 libcusparse-12-8 libcusparse-dev-12-8 libnpp-12-8 libnpp-dev-12-8 libnvfatbin-12-8
libnvfatbin-dev-12-8 libnvjitlink-12-8 libnvjitlink-dev-12-8 libnvjpeg-12-8 libnvjpeg-dev-12-8
nsight-compute-2025.1.1 nsight-systems-2024.6.2
"""
OTHERS = """
cuda-cudart-13-0 libcublas-13-0 cuda-toolkit-13-0 cuda-toolkit-13 cuda-toolkit-13-config-common libcublas-12-9
cuda-drivers cuda-drivers-580 nvidia-open nvidia-dkms-580-server-open nvidia-utils-580-server
libnvidia-compute-580-server libcuda1
nvidia-fabricmanager-580 libcudnn9-cuda-12 libnccl2 libnvinfer10 nvidia-container-toolkit libnvidia-container1
libc6 linux-image-6.8.0-45-generic slurmd
"""


@pytest.fixture(scope="module")
def shipped() -> MatrixSet:
    return load_matrices(data_dir("matrices"))


def packages(branch: int, version: str) -> dict[str, str]:
    return {name.format(b=branch): f"{version}-0ubuntu1" for name in DRIVER}


FACTS = FactSet(
    os=OsFacts(family="apt", arch="x86_64", id="ubuntu", version_id="22.04"),
    packages={**packages(535, "535.183.01"), "cuda-toolkit-12-2": "12.2.2-1"},
    available={n: (v,) for n, v in {**packages(580, "580.159.04"), "cuda-toolkit-12-8": "12.8.1-1"}.items()},
)
STATE = {"driver": ("535.183.01",), "cuda_toolkits": ("12.2.2",), "os": ("ubuntu-22.04",)}


def steps(shipped: MatrixSet, *transitions: tuple[str, str, str, str]) -> StepList:
    """Return the steps for (move, component, from, to) in this order."""
    node = Node(name="gpu01", facts=FACTS, facts_digest="", machine_id="", state=STATE, gpu="", hardware_class="")
    path = Path(states=(STATE,) * (len(transitions) + 1), cost={},
                transitions=tuple(Transition(move=m, changes=((c, a, b),), cost={}) for m, c, a, b in transitions))
    return build_steps(path, node, {}, shipped, cuda_major="12", accepted=frozenset())


def test_a_step_carries_the_globs_of_the_old_and_of_the_new_version(shipped: MatrixSet) -> None:
    made = steps(shipped, ("driver", "driver", "535.183.01", "580.159.04"))
    brings = made.steps[0].packages.brings
    assert {"libnvidia-*-535-server", "libnvidia-*-580-server", "nvidia-modprobe"} <= set(brings)
    assert list(brings) == sorted(set(brings))
    assert made.way_back[0].packages.brings == brings


def test_an_added_version_and_a_removed_one_carry_their_own_globs_alone(shipped: MatrixSet) -> None:
    made = steps(shipped, ("toolkit", "cuda_toolkits", "", "12.8.1"), ("toolkit", "cuda_toolkits", "12.2.2", ""))
    added, removed = (step.packages.brings for step in made.steps)
    assert ("lib*-12-8" in added, "lib*-12-2" in added) == (True, False)
    assert ("lib*-12-8" in removed, "lib*-12-2" in removed) == (False, True)
    assert [step.packages.brings for step in made.way_back] == [removed, added]


def test_a_whole_toolkit_may_come_and_nothing_of_another_one_or_of_the_driver(shipped: MatrixSet) -> None:
    globs = brought_globs("cuda_toolkits", ["12.8.1"], FACTS, STATE, shipped, cuda_major="12")
    assert [name for name in TOOLKIT.split() if not any(fnmatchcase(name, g) for g in globs)] == []
    assert [name for name in OTHERS.split() if any(fnmatchcase(name, g) for g in globs)] == []


@pytest.mark.parametrize(("component", "version", "covered"), [
    ("driver", "580.159.04", "libnvidia-cfg1-580-server libnvidia-gpucomp-580-server nvidia-compute-utils-580-server"),
    ("driver", "580.159.04", "nvidia-kernel-source-580-server-open nvidia-firmware-580-server-580.159.04 dkms"),
    ("kernel", "6.8.0-100-generic", "linux-modules-6.8.0-100-generic linux-headers-6.8.0-100"),
    ("kernel", "6.8.0-100-generic", "linux-hwe-6.8-headers-6.8.0-100"),
    ("kernel", "6.1.0-28-amd64", "linux-headers-6.1.0-28-common linux-kbuild-6.1 linux-compiler-gcc-12-x86"),
])
def test_known_dependencies_are_covered(component: str, version: str, covered: str, shipped: MatrixSet) -> None:
    globs = brought_globs(component, [version], FACTS, STATE, shipped, cuda_major="12")
    assert [name for name in covered.split() if not any(fnmatchcase(name, g) for g in globs)] == []


def test_no_other_branch_and_no_companion_comes_with_a_driver(shipped: MatrixSet) -> None:
    globs = brought_globs("driver", ["580.159.04"], FACTS, STATE, shipped, cuda_major="12")
    strange = ("libnvidia-compute-570-server", "nvidia-utils-570-server", "libnvidia-nscq-580", "nvidia-imex-580",
               "nvidia-fabricmanager-580", "nvidia-dkms-580-server", "linux-headers-6.8.0-100-generic",
               "libnvidia-container1", "cuda-toolkit-12-8", "libcublas-12-8")
    assert [name for name in strange if any(fnmatchcase(name, g) for g in globs)] == []
