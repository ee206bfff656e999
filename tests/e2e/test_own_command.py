"""The site's own command and a pair of NCCL on real nodes: over SSH, through hooks, with what is left afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.documents import digest
from planner.lab.stacks import example_packages, example_specs
from tests.e2e.conftest import StartSite
from tests.e2e.faulty import driver_target, ended, given_back

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("lab_machine")]

HOOK = """mkdir -p /etc/planner/hooks
for act in drain undrain; do
  printf '#!/bin/sh\\necho '$act' >> /var/tmp/acts\\n' > /etc/planner/hooks/$act; chmod 755 /etc/planner/hooks/$act
done"""


def test_own_commands_and_a_pair_on_a_mixed_domain(start_site: StartSite) -> None:
    """A canary whose command passes, a pair whose NCCL is a stand-in without functions, a node whose command fails."""
    specs = [replace(spec, gpus=1, machine_vars={"planner_pool": pool, "planner_comm_domain": "ib",
                                                 "planner_scheduler": "hook"})
             for spec, pool in zip(example_specs(["apt"] * 2, ["v100"]), ("good", "bad"), strict=True)]
    site = start_site(specs, example_packages(["apt"]))
    for node in ("n01", "n02"):
        site.say(node, HOOK)
    target: dict[str, Any] = driver_target(canary=["n01"], batch_max=1, nccl_pairs=True)
    target["pools"] = {
        "good": {"rollout": {"canary_command": ["/usr/bin/touch", "/var/tmp/{{ own }} 'command'"]}},
        "bad": {"rollout": {"canary_command": ["/bin/sh", "-c", "echo no GPU >&2; exit 3"],
                            "canary_command_timeout_minutes": 1}}}
    bundle = site.plan(target)

    stopped = site.planner("apply", bundle, code=7)
    assert (ended(stopped)["why"], ended(stopped)["nodes"]) == ("pair-failed", ["n01"])
    assert "this NCCL has no ncclGetUniqueId" in stopped.stderr
    assert site.say("n01", "ls /var/tmp").splitlines().count("{{ own }} 'command'") == 1
    assert site.say("n01", "cat /var/tmp/acts").split() == ["drain", "undrain", "drain", "undrain"]
    assert site.say("n02", "cat /var/tmp/acts").split() == ["drain", "undrain"]
    for node in ("n01", "n02"):
        given_back(site, node)
    (tried,) = site.status(bundle)["pairs"]["tried"]
    assert (tried["nodes"], tried["code"]) == (["n01", "n02"], "NCCL_ERROR")
    evidence = Path(site.status(bundle)["nodes"]["n01"]["canary"]["evidence"])
    assert json.loads(evidence.read_text(encoding="utf-8"))["exit_code"] == 0
    heard = [json.loads(line) for line in stopped.stdout.splitlines()]
    assert [e["digest"] for e in heard if e["event"] == "canary"] == [digest(evidence.read_bytes())]

    site.planner("approve", bundle, "--because", "stand-ins")
    halted = site.planner("resume", bundle, code=7)
    assert ended(halted)["why"] == "gate-failed"
    assert "the site's own command: exit status 3 after" in halted.stderr
    assert "no GPU (CANARY_FAILED)" in halted.stderr
    assert site.status(bundle)["nodes"]["n02"]["canary"]["verdict"] == "fail"
    assert site.say("n02", "cat /var/tmp/acts").split() == ["drain", "undrain", "drain"]
    assert next(iter(site.marks("n02").values()))["gate"]["verdict"] == "fail"
