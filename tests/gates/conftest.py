"""What tests of the gates share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.gates.failure_stage import Stage
from tests.gates.standin_libraries import Software, compile_libraries
from tests.gates.standin_run import namespaces, write_probe


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the stand-in libraries, compiled once."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler here (apt-get install gcc libc6-dev)")
    return compile_libraries(tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Software:
    """Return what puts stand-ins for CUDA libraries into a folder, each compiled once."""
    return Software(tmp_path_factory.mktemp("software"))


@pytest.fixture(scope="session")
def stage(compiled: Path, build: Software, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Return what runs plays of the failure table."""
    if not namespaces():
        pytest.skip("no user may make namespaces here")
    root = tmp_path_factory.mktemp("stage")
    return Stage(compiled, build, write_probe(root / "probe.zip"), root)
