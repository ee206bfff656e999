"""``nvidia-smi`` and NVML: driver, CUDA and GPUs. NVML comes first; the tables are for nodes where it fails.

Driver 610 renamed the fields: "Driver Version" became "KMD Version", "CUDA Version" became "CUDA UMD Version"; the
long form keeps the old names with a note that they are deprecated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.facts.schema import GpuFacts

STAND_IN_MARK = "(stand-in)"
_VGPU_GUEST = 2
_ERROR_LINE = re.compile(
    r"^.*(?:has failed because|Failed to initialize NVML|couldn't find lib|Unable to determine|No devices"
    r"|Failed to properly shut down).*$", re.MULTILINE)
_PLAIN = re.compile(r"^\d+(\.\d+)+$")


@dataclass(frozen=True, slots=True)
class SmiBanner:
    """Versions at the head of ``nvidia-smi``; None where it shows none (``ERR!``, ``N/A``)."""

    smi: str | None
    driver: str | None
    cuda: str | None
    error: str | None = None


def parse_smi(text: str) -> SmiBanner:
    """Parse the table or the long form (``-q``) of ``nvidia-smi``, old and new field names; also its error texts."""
    smi = _field(text, r"NVIDIA-SMI\s+(?:version\s*:\s*)?(\S+)")
    driver = _version(text, "KMD Version") or _version(text, "Driver Version") or _version(text, "DRIVER version")
    cuda = _version(text, "CUDA UMD Version") or _version(text, "CUDA Version")
    error = None
    if driver is None:
        bad = _ERROR_LINE.search(text)
        error = bad.group(0).strip() if bad else (text.strip().splitlines() or ["no output"])[0][:200]
    return SmiBanner(smi if smi and _PLAIN.match(smi) else None, driver, cuda, error)


def _field(text: str, pattern: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None


def _version(text: str, label: str) -> str | None:
    """Return the version after a label; a note in brackets is not a version, nor is part of another label."""
    for found in re.finditer(rf"(?<![A-Za-z] ){re.escape(label)}\s*:\s*([^\s|]+)", text):
        if _PLAIN.match(found.group(1)):
            return found.group(1)
    return None


def parse_smi_query(text: str) -> tuple[GpuFacts, ...]:
    """Parse ``nvidia-smi --query-gpu=index,name,driver_version,memory.total,mig.mode.current,vbios_version`` as CSV.

    Fields that a driver does not know read ``[N/A]`` or ``[Not Supported]`` and become None.
    """
    gpus = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < 6 or not cells[0].isdigit():
            continue
        memory = re.match(r"(\d+)\s*MiB", cells[3])
        gpus.append(GpuFacts(
            index=int(cells[0]), model=cells[1], memory_mib=int(memory.group(1)) if memory else None,
            mig_enabled={"Enabled": True, "Disabled": False}.get(cells[4]),
            vbios=None if cells[5].startswith("[") or not cells[5] else cells[5], stand_in=STAND_IN_MARK in cells[1]))
    return tuple(gpus)


def parse_nvml(document: Mapping[str, Any]) -> tuple[GpuFacts, ...]:
    """Return the GPUs of a probe's ``nvml`` part in index order; one that NVML could not open is left out."""
    gpus = []
    for raw in document.get("gpus", ()):
        if not raw.get("name"):
            continue
        capability, mig, memory = raw.get("compute_capability"), raw.get("mig"), (raw.get("memory") or {}).get("total")
        mode = raw.get("virtualization")
        gpus.append(GpuFacts(
            index=raw["index"], model=raw["name"],
            compute_capability=".".join(str(p) for p in capability) if isinstance(capability, list) else None,
            memory_mib=memory // (1024 * 1024) if isinstance(memory, int) else None,
            mig_enabled=bool(mig[0]) if isinstance(mig, list) and mig else None,
            vgpu=mode == _VGPU_GUEST if isinstance(mode, int) else None,
            stand_in=STAND_IN_MARK in raw["name"], vbios=raw.get("vbios")))
    return tuple(sorted(gpus, key=lambda g: g.index))


def parse_cuda_number(value: object) -> str | None:
    """Return NVML's CUDA number as text: 13000 -> ``13.0``, 12080 -> ``12.8``; None for anything else."""
    if not isinstance(value, int) or value < 1000:
        return None
    return f"{value // 1000}.{value % 1000 // 10}"


def parse_nvml_library(text: str | None) -> str | None:
    """Return the driver version that NVML's own version carries: ``13.580.95.05`` -> ``580.95.05``."""
    found = re.match(r"^\d{1,2}\.(\d{3}(?:\.\d+)+)", text or "")
    return found.group(1) if found else None
