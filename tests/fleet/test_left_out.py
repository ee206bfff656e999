"""Nodes that no step touches say why."""

from __future__ import annotations

import pytest

from planner.facts.schema import DriverFacts, FactSet
from planner.fleet.fleet import build_fleet
from tests.schedule.machines import document, shipped


@pytest.mark.parametrize(("on_the_bus", "reason", "words"), [
    (8, "no-driver", "8 GPUs on the PCI bus, and no driver"), (1, "no-driver", "1 GPU on the PCI bus"),
    (0, "no-gpu", "no GPU and no driver were found"), (None, "no-gpu", "no GPU and no driver were found"),
])
def test_a_node_whose_gpus_have_no_driver_is_not_one_without_gpus(on_the_bus: int | None, reason: str, words: str
                                                                  ) -> None:
    facts = FactSet(driver=DriverFacts(owner="none"), pci_gpus=on_the_bus)
    (left,) = build_fleet(document(facts, names=("n1",)), shipped()).left_out
    assert left.reason == reason
    assert words in left.detail
    assert bool(left.hint) == (reason == "no-driver")
