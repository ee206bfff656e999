"""Operating system, kernel, compilers, lockstep and hygiene: what is told about a whole machine, and what is not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from planner.check.domains import judge_across
from planner.check.evaluate import problems
from planner.check.verdict import Verdict
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State

FAMILIES = {
    "driver-lockstep", "loaded-driver", "rdma-modules", "dcgm-driver", "nvswitch-fabric", "host-compiler", "toolkit-os",
    "kernel-module", "secure-boot", "driver-kernel", "pinning", "library-copies", "gpu-count", "changed-default",
}
HGX: dict[str, tuple[str, ...]] = {
    "os": ("ubuntu-22.04",),
    "kernel": ("5.15.0-113-generic",),
    "next_kernel": ("5.15.0-113-generic",),
    "module_for_kernel": ("yes",),
    "nouveau": ("no",),
    "secure_boot": ("yes",),
    "virtualisation": ("none",),
    "driver": ("580.159.04",),
    "driver_owner": ("apt",),
    "driver_flavour": ("open",),
    "loaded_driver": ("580.159.04",),
    "fabric_manager": ("580.159.04",),
    "nscq": ("580.159.04",),
    "persistenced": ("580.159.04",),
    "gsp_firmware": ("580.159.04",),
    "imex": (),
    "nvswitch": ("yes",),
    "gpu_model": ("h100-sxm",),
    "compute_capability": ("9.0",),
    "gpu_count_pci": ("8",),
    "gpu_count_nvml": ("8",),
    "cuda_toolkits": ("12.8.1",),
    "gcc": ("11.4.0",),
    "glibc": ("2.35",),
    "auto_upgrades": ("unattended-upgrades",),
    "packages_held": ("yes",),
    "libcuda_copies": ("1",),
}
UNKNOWN = object()


def told(change: Mapping[str, object], matrices: MatrixSet) -> set[tuple[str, str]]:
    state: State = {k: v for k, v in {**HGX, **change}.items() if isinstance(v, tuple)}
    return {(j.rule, j.severity) for j in problems(state, matrices)
            if j.family in FAMILIES and j.verdict is Verdict.UNSUPPORTED}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"driver": ("580",), "secure_boot": ("no",), "loaded_driver": UNKNOWN, "gsp_firmware": UNKNOWN},
        {"virtualisation": ("docker",), "fabric_manager": (), "loaded_driver": (), "module_for_kernel": UNKNOWN},
        {"virtualisation": ("wsl",), "nvswitch": ("no",), "fabric_manager": (), "nscq": (), "loaded_driver": ()},
        {"driver_owner": ("operator",), "fabric_manager": (), "nscq": (), "module_for_kernel": ("no",)},
        {"os": ("ubuntu-24.04",), "kernel": ("6.17.0-19-generic",), "next_kernel": UNKNOWN, "gcc": ("13.3.0",)},
        {"os": ("ubuntu-24.04",), "gcc": ("13.3.0",), "cuda_toolkits": ("12.5.1",)},
        {"os": ("rhel-9.6",), "kernel": ("5.14.0-570.12.1.el9_6.x86_64",), "next_kernel": UNKNOWN, "gcc": ("11.5.0",)},
    ],
    ids=["hgx", "bare-branch", "container", "wsl", "operator", "noble-hwe", "noble-12.5", "rhel-9"],
)
def test_sound_machines_are_left_alone(change: dict[str, object], shipped: MatrixSet) -> None:
    assert told(change, shipped) == set()


@pytest.mark.parametrize(
    ("change", "rule", "severity"),
    [
        ({"fabric_manager": ("580.95.05",)}, "fabric-manager-equals-driver", "error"),
        ({"fabric_manager": ("580.95.05",), "nvswitch": ("no",)}, "idle-fabric-manager-equals-driver", "info"),
        ({"virtualisation": ("kvm",), "fabric_manager": ()}, "nvswitch-in-a-vm-needs-fabric-manager", "warning"),
        ({"loaded_driver": ("580.95.05",)}, "loaded-driver-equals-driver", "warning"),
        ({"loaded_driver": ("580.95.05",), "userspace_driver": ("580.159.04",)}, "user-mode-equals-module", "error"),
        ({"module_for_kernel": ("no",)}, "no-module-for-kernel", "error"),
        ({"loaded_driver": (), "module_for_kernel": UNKNOWN}, "secure-boot-module-not-loaded", "warning"),
        ({"module_signed": ("no",)}, "secure-boot-refuses-unsigned-module", "error"),
        ({"loaded_driver": (), "nouveau": ("yes",)}, "nouveau-holds-the-gpu", "error"),
        ({"gcc": ("14.2.0",), "cuda_toolkits": ("12.4.1",)}, "nvcc-12.4-gcc", "error"),
        ({"glibc": ("2.41",)}, "nvcc-12-glibc-2.41", "warning"),
        ({"packages_held": ("no",)}, "automatic-upgrades-unpinned", "warning"),
        ({"gpu_count_nvml": ("7",)}, "every-gpu-seen-by-nvml", "warning"),
        ({"kernel": ("6.8.0-60-generic",), "loaded_driver": (), "module_for_kernel": UNKNOWN, "secure_boot": ("no",)},
         "jammy-hwe-needs-gcc-12", "warning"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_is_wrong_is_told(change: dict[str, object], rule: str, severity: str, shipped: MatrixSet) -> None:
    assert (rule, severity) in told(change, shipped)


def test_distributions_that_bring_their_own_toolkit_are_excepted(shipped: MatrixSet) -> None:
    """Ubuntu 24.04 packages CUDA 12.0 and makes it call an older gcc than the default one."""
    change = {"gcc": ("13.3.0",), "cuda_toolkits": ("12.0.1",)}
    assert ("nvcc-12.0-gcc", "error") in told(change, shipped)
    assert ("nvcc-12.0-gcc", "error") not in told({**change, "os": ("ubuntu-24.04",)}, shipped)


def test_nodes_of_one_job_with_two_drivers(shipped: MatrixSet) -> None:
    members = tuple((f"n{i}", {"driver": (v,)}) for i, v in enumerate(("535.183.01", "550.127.05")))
    judged = [judge_across(rule, members, shipped) for rule in shipped.across if rule.name == "driver-equal-in-job"]
    assert [(j.verdict, j.severity, j.root_cause) for j in judged if j] == [
        (Verdict.UNSUPPORTED, "warning", "mixed_driver_fleet")]
