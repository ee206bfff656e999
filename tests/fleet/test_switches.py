"""Whether a node has NVSwitch: what the node says, and what the model of its GPUs lets one conclude, and where not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from planner.cli.inputs import load_rules
from planner.facts.assemble import assemble_facts
from planner.facts.schema import FactSet, GpuFacts, OsFacts
from planner.fleet.state import build_state
from tests.facts.documents import ubuntu_node


@pytest.mark.parametrize(("model", "virtualisation", "said", "expected"), [
    ("Tesla V100-SXM2-32GB", "none", None, ("no",)),
    ("Tesla V100-SXM2-32GB", "docker", None, ("no",)),               # no board of this model carries switches
    ("NVIDIA A100-SXM4-80GB", "none", None, ("yes",)),
    ("NVIDIA A100-SXM4-80GB", "docker", None, None),                 # one GPU of eight, or a board without switches
    ("NVIDIA A100-SXM4-80GB", "none", False, ("no",)),               # a board with four GPUs: the node's word counts
])
def test_a_model_tells_only_where_the_node_does_not(
        model: str, virtualisation: str, said: bool | None, expected: tuple[str, ...] | None) -> None:
    facts = FactSet(os=OsFacts(virtualisation=virtualisation), gpus=(GpuFacts(index=0, model=model),), nvswitch=said)
    assert build_state(facts, {}, load_rules(())).get("nvswitch") == expected


@pytest.mark.parametrize(("name", "capability", "states", "expected"), [
    ("NVIDIA H100 80GB HBM3", [9, 0], [0, 0], False),                # "not supported" from a generation that tells
    ("NVIDIA H100 80GB HBM3", [9, 0], [1, 1], None),                 # not started: there may be switches
    ("NVIDIA H100 80GB HBM3", [9, 0], [3, 3], True),
    ("NVIDIA A100-SXM4-80GB", [8, 0], [0, 0], None),                 # this generation says so on switches, too
    ("NVIDIA A100-SXM4-80GB (stand-in)", [8, 0], [0, 0], False),     # the lab's stand-in always tells
])
def test_fabric_states_tell_from_hopper_on(name: str, capability: list[int], states: list[int],
                                           expected: bool | None) -> None:
    document: dict[str, Any] = copy.deepcopy(ubuntu_node())
    document["disk"] = {**document.get("disk", {}), "pci": []}
    for gpu, state in zip(document["nvml"]["gpus"], states, strict=True):
        gpu.update(name=name, compute_capability=capability, fabric_state=state)
    facts, _ = assemble_facts(document)
    assert facts.nvswitch is expected
