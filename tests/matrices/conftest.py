"""The shipped matrices, loaded once; no test writes into the user's cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.data import data_dir
from planner.matrix.index import MatrixSet
from planner.matrix.load import load_matrices


@pytest.fixture(scope="package")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="package")
def shipped() -> MatrixSet:
    return load_matrices(data_dir("matrices"))
