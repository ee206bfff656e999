"""Recommendations on the example fleets: reachable, with reasons, and a target that plan takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.check.fleet import changed
from planner.cli.inputs import load_facts, load_rules
from planner.cli.main import invoke
from planner.fleet.fleet import build_fleet
from planner.recommend.choose import Advice, recommend
from planner.recommend.judge import Scorer

FACTS = Path(__file__).parents[2] / "examples" / "01-two-generations" / "facts.json"
MATRICES = load_rules(())


@pytest.fixture(scope="module")
def fleet() -> Any:
    return build_fleet(load_facts(FACTS), MATRICES)


@pytest.fixture(scope="module")
def production(fleet: Any) -> tuple[Advice, ...]:
    return recommend(fleet, "production", MATRICES)


def moved(advice: Advice) -> dict[str, str]:
    return {c.component: c.to[-1] for c in advice.choices}


def test_production_takes_the_long_term_branch_that_each_class_can_reach(production: tuple[Advice, ...]) -> None:
    by_pool = {a.pool: a for a in production}
    assert moved(by_pool["a100"])["driver"].startswith("580.")
    assert moved(by_pool["v100"])["driver"].startswith("580.")                  # the last branch of this GPU
    assert any("LTSB" in reason for c in by_pool["h100"].choices for reason in c.because)
    assert any("r535-end-of-life" in text for text in by_pool["a100"].gains)
    # A newer release of the branch is in sight, but its companion is not in these nodes' repositories: said, not taken.
    assert any(text.startswith("driver 580.178.04: ") for text in by_pool["a100"].kept_back)


def test_no_choice_breaks_a_rule_and_nobody_is_forgotten(fleet: Any, production: tuple[Advice, ...]) -> None:
    nodes = {n.name: n for n in fleet.nodes}
    assert sorted(name for a in production for name in a.nodes) == sorted(nodes)
    scorer = Scorer(MATRICES)
    for advice in production:
        state = dict(nodes[advice.nodes[0]].state)
        before = set(scorer.score(state).errors)
        for choice in advice.choices:
            state = changed(state, {choice.component: choice.to}, MATRICES)
            assert set(scorer.score(state).errors) <= before


def test_production_moves_nothing_without_a_reason(production: tuple[Advice, ...]) -> None:
    for advice in production:
        for choice in advice.choices:
            assert any("known problems" in reason or "rules broken" in reason for reason in choice.because), choice


def test_written_targets_can_be_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["recommend", "--facts", str(FACTS), "--out", str(tmp_path / "target.yml")]) == 0
    written = sorted(tmp_path.glob("target*.yml"))
    assert written
    for path in written:
        document = yaml.safe_load(path.read_text())
        document["rollout"] = {"max_unavailable": 2}
        path.write_text(yaml.safe_dump(document))
        assert invoke(["plan", "--facts", str(FACTS), "--target", str(path)]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert invoke(["recommend", "--facts", str(FACTS), "--policy", "development", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["policy"] == "development"
    newest = {c["class"]: {x["component"]: x["to"] for x in c["choices"]} for c in document["classes"]}
    assert any("cuda_toolkits" in choices for choices in newest.values())
    reasons = {r for c in document["classes"] for x in c["choices"] for r in x["because"]}
    assert not any("known problems" in reason for reason in reasons)
