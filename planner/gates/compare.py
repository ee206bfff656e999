"""What differs between two gate reports of one node: before a change and after it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSIONS = ("loaded", "libcuda", "nvml", "cuda", "fabric_manager")


@dataclass(frozen=True, slots=True)
class Comparison:
    """``lost``: sentences about what was there and is gone. ``rows``: (what, before, after) for people."""

    lost: tuple[str, ...]
    rows: tuple[tuple[str, str, str], ...]


def compare_reports(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Compare two reports; only what is gone counts, timings are shown and not judged here."""
    old, new = _gpus(before), _gpus(after)
    lost = [f"GPU {uuid} ({gpu.get('name', '')}) is gone" for uuid, gpu in sorted(old.items()) if uuid not in new]
    lost += [f"GPU {uuid} ran a kernel before and does not now: {_trouble(new[uuid])}"
             for uuid, gpu in sorted(old.items()) if uuid in new and gpu.get("output") and not new[uuid].get("output")]
    rows = [(f"version {name}", _text(before["versions"].get(name)), _text(after["versions"].get(name)))
            for name in VERSIONS if before["versions"].get(name) != after["versions"].get(name)]
    rows += [(f"kernel release of {host}", _text(before.get("kernel")), _text(after.get("kernel")))
             for host in (after.get("host"),) if before.get("kernel") != after.get("kernel")]
    for uuid in sorted(set(old) & set(new)):
        for key in ("context_s", "kernel_s"):
            rows.append((f"{uuid} {key}", _text(old[uuid].get(key)), _text(new[uuid].get(key))))
    return Comparison(lost=tuple(lost), rows=tuple(rows))


def _gpus(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(gpu.get("nvml_uuid") or gpu.get("uuid")): gpu for gpu in report.get("gpus", ())}


def _trouble(gpu: Mapping[str, Any]) -> str:
    return str(gpu.get("error") or gpu.get("busy") or "no output")


def _text(value: object) -> str:
    return "-" if value is None else str(value)
