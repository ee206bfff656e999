"""A report of two H200 put together from recorded parts, and what tests change in it.

Every part is recorded (tests/gates/recorded): processes of one H200 twice, pairs and all-reduces of two, a load of one.
The parts are of different runs: both GPUs have the same processes and the same load.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"
A, B = "GPU-00000000-1111-2222-3333-444444444444", "GPU-00000000-1111-2222-3333-555555555555"
DRIVER = "h200-580.159.04"


def recorded(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((RECORDED / f"{DRIVER}-{name}.json").read_text(encoding="utf-8"))
    return value


def report(run: int = 0, *, profile: str = "deep", host: str = "vm", slices: int | None = None) -> dict[str, Any]:
    """Return the first or the second measurement, an hour apart.

    Args:
        run: 0 or 1.
        profile: ``deep``, or ``standard``, which has no load.
        host: Name of the node.
        slices: Of the load; all 345 by default.
    """
    found = recorded("standard-again" if run else "standard")
    part = recorded("two-pairs")["runs"][run]
    (gpu,), ((_, seen),) = found["gpus"], found["conditions"].items()
    (listed,) = found["nvml"]["gpus"]
    uuids = (A, B)
    found |= {
        "host": host, "profile": profile, "started_at": f"2026-11-26T2{run + 1}:00:00Z",
        "pairs": part["pairs"], "collective": part["collective"], "conditions": dict.fromkeys(uuids, seen),
        "gpus": [dict(gpu, index=i, uuid=uuid, nvml_uuid=uuid) for i, uuid in enumerate(uuids)]}
    found["nvml"]["gpus"] = [dict(listed, index=i, uuid=uuid, bus_id=f"00000000:0{i}:06.0")
                             for i, uuid in enumerate(uuids)]
    if profile == "deep":
        load = recorded("load")["load"]
        found["load"] = [dict(load, index=i, uuid=uuid, slices=load["slices"][:slices]) for i, uuid in enumerate(uuids)]
    return found


def ranks(run: int = 0, way: str = "one host", **changes: Any) -> list[dict[str, Any]]:
    """Return the recorded reports of two ranks, one GPU each.

    Args:
        run: 0 or 1.
        way: ``one host``, or ``sockets``: NCCL took both for hosts of their own.
        changes: Of the first rank's report.
    """
    found: list[dict[str, Any]] = recorded("ranks")["runs"][way][run]
    for number, each in enumerate(found):
        each["host"] = f"n{number + 1}"
    found[0] |= changes
    return found


def renamed(value: Any, *names: tuple[str, str]) -> Any:
    """Return a document with other UUIDs; all names change at once."""
    text = json.dumps(value)
    for number, (old, _) in enumerate(names):
        text = text.replace(old, f"@{number}@")
    for number, (_, new) in enumerate(names):
        text = text.replace(f"@{number}@", new)
    return json.loads(text)


def holders(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every GPU, pair and collective of a baseline document."""
    return [*document["gpus"], *document["pairs"], *document["collectives"]]


def slower(figure: dict[str, Any], loss: float) -> None:
    """Make a figure of a baseline document worse by a fraction of what it was."""
    factor = 1 - loss if figure["better"] == "higher" else 1 + loss
    figure["samples"] = [[value * factor for value in group] for group in figure["samples"]]
