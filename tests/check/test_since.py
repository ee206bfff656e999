"""Nodes after a rollout: still at its goal, changed by somebody, or back at what they had before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.check.since import since_rollout
from planner.cli.main import invoke

EXAMPLE = Path(__file__).parents[2] / "examples" / "02-one-node"
START = {"driver": ("535.183.01",), "nccl": ("2.18.3",)}
GOAL = {"driver": ("580.159.04",), "nccl": ("2.28.9",)}


@pytest.mark.parametrize(("now", "expected"), [
    (GOAL, "same"),
    ({**GOAL, "driver": ("535.183.01",)}, "back: driver 580.159.04 -> 535.183.01"),
    ({**GOAL, "driver": ("595.91.07",)}, "changed: driver 580.159.04 -> 595.91.07"),
    ({**GOAL, "nccl": ()}, "changed: nccl 2.28.9 -> absent"),
    ({"driver": ("580.159.04",)}, "same"),                       # what is not known now says nothing
])
def test_a_node_against_its_goal(now: dict[str, tuple[str, ...]], expected: str) -> None:
    assert since_rollout(now, START, GOAL, ("driver", "nccl")) == {"since_rollout": (expected,)}


def test_check_tells_nodes_that_went_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The facts of an example are those before its rollout: as if the node had been installed again."""
    bundle = tmp_path / "bundle"
    assert invoke(["plan", "--facts", str(EXAMPLE / "facts.json"), "--target", str(EXAMPLE / "target.yml"),
                   "--out", str(bundle)]) == 0
    capsys.readouterr()
    invoke(["check", "--facts", str(EXAMPLE / "facts.json"), "--since-rollout", str(bundle), "-o", "json"])
    found = {f["code"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["back-since-rollout"]["severity"] == "warning"
    assert invoke(["check", "--since-rollout", str(bundle)]) == 2
