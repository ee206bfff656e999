"""What people declare and what only counts where it is asked for: values in a node's state."""

from __future__ import annotations

from typing import Any

import pytest

from planner.facts.schema import FactSet
from planner.fleet.fleet import build_fleet
from planner.fleet.state import asked_state, build_state
from tests.schedule.machines import COMPAT, OLD, document, shipped, ubuntu, ubuntu_driver


def state(declared: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return build_state(ubuntu(), declared, shipped())


def test_declared_values_are_part_of_the_state_and_silence_is_unknown() -> None:
    found = state({"gpu_operator": "v25.3.2", "vgpu_host": "16.4", "node_image": "v2", "gpu_operator_driver": "pinned"})
    assert [found[n] for n in ("gpu_operator", "vgpu_host", "node_image", "operator_driver")] == [
        ("25.3.2",), ("16.4",), ("v2",), ("pinned",)]
    assert not {"gpu_operator", "vgpu_host", "node_image", "operator_driver", "toolkit_module"} & set(state({}))


def test_nodes_with_equal_facts_and_other_words_are_other_nodes() -> None:
    fleet = build_fleet(document(ubuntu(), {"gpu_operator": "25.3.2"}), shipped())
    assert {n.state["gpu_operator"] for n in fleet.nodes} == {("25.3.2",)}


def test_a_word_that_means_nothing_leaves_the_node_out() -> None:
    fleet = build_fleet(document(ubuntu(), {"gpu_operator_driver": "pined"}), shipped())
    assert fleet.nodes == ()
    assert {n.reason for n in fleet.left_out} == {"bad-declaration"}
    assert "none of pinned, unpinned, host, provider" in fleet.left_out[0].detail


def origin(facts: FactSet) -> tuple[str, ...] | None:
    return asked_state(["driver_origin"], facts, build_state(facts, {}, shipped()), shipped()).get("driver_origin")


def desktop(origin: str) -> dict[str, str]:
    return ubuntu_driver(OLD, "proprietary", origin=origin, server=False)


@pytest.mark.parametrize(("facts", "expected"), [
    (ubuntu(), ("distribution",)),
    (ubuntu().model_copy(update={"packages": desktop("0ubuntu1")}), ("vendor",)),
    (ubuntu().model_copy(update={"packages": desktop("1ubuntu1")}), ("vendor",)),
    (ubuntu().model_copy(update={"packages": desktop("0ubuntu3")}), ("distribution",)),      # a release under way
    (ubuntu(packages=ubuntu_driver(OLD, "proprietary", origin="0ubuntu1")), ("distribution",)),    # Ubuntu's alone
    (ubuntu(owner="runfile"), ("runfile",)),
    (ubuntu(owner="operator"), None),
])
def test_who_published_the_driver(facts: FactSet, expected: tuple[str, ...] | None) -> None:
    assert origin(facts) == expected


def test_what_is_asked_for_is_read_and_nothing_else() -> None:
    facts = ubuntu(packages=COMPAT)
    known = build_state(facts, {}, shipped())
    assert "cuda_compat" not in known
    assert asked_state(["cuda_compat", "driver"], facts, known, shipped()) == {"cuda_compat": ("12.8", "13.0")}
