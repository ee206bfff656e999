"""Baselines of made-up nodes with the recorded noise of an H200: a stand-in for measurements, and named as one."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from planner.gates.baseline import read_baseline
from planner.gates.figures import Baseline
from tests.gates.noise import MEASURED, measured

UNITS = {"compute": "op/s", "bandwidth": "B/s", "latency": "s", "latency-async": "s"}


def gpu(uuid: str, seed: str, *, loss: float = 0.0, figures: tuple[str, ...] = ("copy_device", "wmma_f16"),
        steady: bool = True) -> dict[str, Any]:
    """Return one GPU of a baseline document."""
    random = Random(seed + uuid)
    return {"uuid": uuid, "name": "NVIDIA H200", "driver": "580.159.04", "power_limit_w": 700.0, "sm_clock_mhz": 1980.0,
            "memory_clock_mhz": 3201.0, "temperature_c": 41.0, "throttled": [], "foreign": [], "figures": [
                {"name": name, "class": MEASURED[name][1], "unit": UNITS[MEASURED[name][1]],
                 "better": "higher" if MEASURED[name][2] else "lower",
                 "samples": [[float(f"{x:.6g}") for x in group]
                             for group in measured(name, random, loss=loss, steady=steady)]} for name in figures]}


def document(seed: str = "before", *, gpus: int = 1, loss: float = 0.0, taken_at: str = "2026-11-24T10:00:00Z",
             host: str = "gpu-17", **more: Any) -> dict[str, Any]:
    """Return a baseline document; ``more`` goes to each GPU."""
    return {"schema": "planner.baseline/1", "host": host, "taken_at": taken_at, "gate": "1", "kernels": "sha256:00ff",
            "stand_in": True, "gpus": [gpu(f"GPU-{host}-{n}", seed, loss=loss, **more) for n in range(gpus)]}


def after(seed: str = "after", **more: Any) -> dict[str, Any]:
    """Return a document of an hour later."""
    return document(seed, taken_at="2026-11-24T11:00:00Z", **more)


def parsed(value: dict[str, Any]) -> Baseline:
    """Return the document as planner reads it."""
    return read_baseline(json.dumps(value), name="baseline.json")


def edited(value: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """Return a copy with one value replaced, or removed where ``to`` is ``...``."""
    result = copy.deepcopy(value)
    place: Any = result
    for step in path[:-1]:
        place = place[step]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return result
