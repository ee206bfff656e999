"""Whose driver it is decides what a refusal says: what to do instead, not only who stands in the way."""

from __future__ import annotations

from typing import Any

import pytest

from planner.errors import NoPathError
from tests.schedule.machines import NEW, plan_for, target, ubuntu


def refusal(owner: str, declared: dict[str, Any], **want: str) -> str:
    with pytest.raises(NoPathError) as refused:
        plan_for(ubuntu(owner=owner), target(**want), declared)
    (found,) = refused.value.diagnostics
    return " ".join(found.why)


@pytest.mark.parametrize("owner", ["apt", "runfile"])
def test_a_guest_is_sent_to_its_release_whatever_installed_its_driver(owner: str) -> None:
    told = refusal(owner, {"vgpu_host": "18.3", "vgpu_guest": "18.0"}, driver=NEW)
    assert "belongs to its vGPU release (18.0); want another vgpu_guest" in told
    assert "driver_origin" not in told


def test_a_runfile_of_no_guest_is_sent_to_the_packages() -> None:
    assert "want driver_origin distribution or vendor first" in refusal("runfile", {}, driver=NEW)


def test_what_the_operator_installs_is_not_taken_over_in_place() -> None:
    told = refusal("operator", {"gpu_operator_driver": "pinned"}, driver_origin="distribution")
    assert "lies in a container of the GPU Operator" in told
    assert "planner_gpu_operator_driver to host" in told
    assert "not known" not in told
