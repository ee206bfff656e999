"""What gates must find on a node, from its cohort's path. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.schedule.plan import Cohort, Step

LIBRARIES = frozenset({"cudnn", "nccl", "tensorrt"})     # gates of the same names look for their files


def expectations(cohort: Cohort) -> dict[str, dict[str, Any]]:
    """Return what must be found on a node at the start and after each step: ``{"start": …, "s1": …}``.

    The kernel counts from the step on that moves it: which one ran before is not the rollout's business.
    """
    state = {name: values[0] for name, values in cohort.start.items() if len(values) == 1}
    names = ["driver", "fabric_manager"]
    found = {"start": _expected(state, names, cohort)}
    for place, step in enumerate(cohort.steps, start=1):
        for change in step.changes:
            state[change.component] = change.to
            names += ["kernel"] * (change.component == "kernel")
        for name in step.unpredicted or ():
            state.pop(name, None)
        dropped = _dropped(cohort.steps[:place])
        found[step.id] = {**_expected(state, names, cohort), **({"dropped": dropped} if dropped else {})}
    return found


def _expected(state: Mapping[str, str], names: Sequence[str], cohort: Cohort) -> dict[str, Any]:
    return {**{name: state[name] for name in names if state.get(name)}, "gpus": len(cohort.gpu_names)}


def _dropped(steps: Sequence[Step]) -> list[str]:
    """Return what the gate may miss after these steps: folders of toolkits that went, and libraries that changed."""
    changes = [change for step in steps for change in step.changes]
    toolkits = [change for change in changes if change.component == "cuda_toolkits"]
    gone = {_folder(change.from_) for change in toolkits if change.from_}
    return sorted(gone - {_folder(change.to) for change in toolkits}) + sorted(
        LIBRARIES & {change.component for change in changes})


def _folder(toolkit: str) -> str:
    return f"/usr/local/cuda-{'.'.join(toolkit.split('.')[:2])}"
