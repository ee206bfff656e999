"""Reads what every bundle carries unchanged: roles, modules, Ansible's configuration, the probe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from planner.data import data_dir, probe_zip
from planner.gates import judge

KINDS = ("roles", "library", "module_utils")
PROBE_PATH = "files/probe.zip"
# The controller's own judge, so that a play run by hand judges alike: standard library only, relative imports only.
JUDGE_PATH = "module_utils/planner_gates"
JUDGE_PARTS = ("__init__", "asked", "canary", "compare", "expect", "failures", "figures", "judge", "load", "mig",
               "multi_node", "node_findings", "node_gpus", "node_links", "node_state", "pairs", "samples", "software",
               "software_expect", "statistics", "verdicts")


def load_assets() -> Mapping[str, bytes]:
    """Return bundle path -> content of everything that does not depend on the plan.

    Raises:
        PlannerError: The installation is incomplete.
    """
    root = data_dir("playbooks")
    found = {"ansible.cfg": (root / "ansible.cfg").read_bytes(), PROBE_PATH: probe_zip()}
    for name in JUDGE_PARTS:
        found[f"{JUDGE_PATH}/{name}.py"] = (Path(judge.__file__).parent / f"{name}.py").read_bytes()
    for kind in KINDS:
        for path in sorted((root / kind).rglob("*")):
            if path.is_file() and path.suffix in (".yml", ".py"):
                found[path.relative_to(root).as_posix()] = path.read_bytes()
    return found
