"""The words that answers of ``check`` and ``explain`` use for causes (the answer format of stack descriptions)."""

from __future__ import annotations

from typing import Final

ROOT_CAUSES: Final = frozenset({
    "driver_too_old_for_runtime", "driver_too_old_for_toolkit_ptx", "arch_not_supported_by_build",
    "arch_dropped_by_toolkit", "arch_dropped_by_driver", "gpu_needs_newer_driver", "kernel_module_userspace_mismatch",
    "kernel_upgrade_broke_module", "fabric_manager_mismatch", "imex_or_fabric_state", "forward_compat_misuse",
    "missing_library", "wrong_library_loaded", "cudnn_mismatch", "nccl_version_mismatch", "tensorrt_mismatch",
    "container_newer_than_driver", "container_toolkit_problem", "vgpu_mismatch", "framework_cpu_only_build",
    "framework_cuda_mismatch", "host_compiler_unsupported", "secure_boot", "mixed_driver_fleet",
    "proprietary_vs_open_module", "hardware_fault", "user_bug", "valid_combo", "other",
})
