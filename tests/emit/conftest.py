"""Lets tests import the node modules as Ansible does, and tells whether golden files are to be written anew."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import ansible.module_utils
import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "playbooks"
ansible.module_utils.__path__.append(str(PLAYBOOKS / "module_utils"))


def load_module(name: str) -> ModuleType:
    """Return a module of playbooks/library, loaded by its path."""
    spec = importlib.util.spec_from_file_location(f"library_{name}", PLAYBOOKS / "library" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def update_golden() -> bool:
    """Whether ``PLANNER_UPDATE_GOLDEN=1`` asks for the golden files to be written anew."""
    return os.environ.get("PLANNER_UPDATE_GOLDEN") == "1"
