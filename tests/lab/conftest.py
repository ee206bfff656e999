"""What tests of the lab share: a reason to skip, and one running lab for all that only look at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.lab.lab import Lab
from planner.lab.stacks import example_packages, example_specs
from planner.lab.tools import missing_for_lab


@pytest.fixture(scope="session")
def lab_machine() -> None:
    """Skip where no lab can run, naming what is missing."""
    missing = missing_for_lab()
    if missing:
        pytest.skip("; ".join(missing))


@pytest.fixture(scope="module")
def lab(lab_machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One apt node with NVSwitch, one without, one dnf node, and a head without GPUs; gone when the module ends."""
    started = Lab(Path(tmp_path_factory.mktemp("lab")) / "run")
    specs = example_specs(["apt", "apt", "dnf"], ["h100", "v100", "a100"], head=True)
    started.up(specs, example_packages(["apt", "dnf"]))
    yield started
    started.down()
