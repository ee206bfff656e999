"""GPU models: spellings of people and of NVML find their model, and every model says how people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.documents import parse_yaml
from planner.matrix.index import MatrixSet

SPELLINGS = parse_yaml((Path(__file__).with_name("gpu_spellings.yml")).read_text(), name="gpu_spellings.yml")


@pytest.mark.parametrize("case", SPELLINGS, ids=lambda case: case["write"])
def test_spellings_find_their_model(case: dict[str, str | None], shipped: MatrixSet) -> None:
    model = shipped.gpu_model_of_people(str(case["write"]))
    assert (model.name if model else None) == case["name"]


def test_there_are_enough_models_and_spellings(shipped: MatrixSet) -> None:
    assert len(shipped.gpu_models) >= 60
    assert len(SPELLINGS) >= 60
    assert [m.name for m in shipped.gpu_models if not m.people] == []
    assert {m.gpu_class for m in shipped.gpu_models} == {"data-center", "workstation", "geforce", "jetson"}


def test_every_generation_is_judged(shipped: MatrixSet) -> None:
    """A compute capability without a claim about its drivers would leave every machine with it unknown."""
    capabilities = {m.compute_capability for m in shipped.gpu_models}
    for family in ("gpu-driver", "gpu-toolkit"):
        covered = {c.if_.get("compute_capability") for c in shipped.claims if c.family == family}
        assert capabilities - covered == set(), family
