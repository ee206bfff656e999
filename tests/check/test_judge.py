"""The judge that remembers gives what the plain evaluator gives, for every state; exceptions and domains count."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.check.domains import judge_across
from planner.check.evaluate import judge_state
from planner.check.fleet import check_states
from planner.check.judge import StateJudge
from planner.cli.inputs import load_rules
from planner.matrix.schema import State
from tests.check.small import load

SHIPPED = load_rules(())
EXAMPLES = [state for claim in SHIPPED.claims for state in (claim.accepts, claim.rejects) if state]


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(EXAMPLES), min_size=1, max_size=4), st.lists(st.sampled_from(EXAMPLES), max_size=3))
def test_remembered_answers_are_the_plain_ones(parts: list[State], before: list[State]) -> None:
    state = {name: values for part in parts for name, values in part.items()}
    judge = StateJudge(SHIPPED)
    for earlier in (*before, state):
        judge.judge(earlier)
    plain = judge_state(state, SHIPPED)
    assert sorted(map(repr, judge.judge(state))) == sorted(map(repr, plain))


def test_an_exception_silences_a_rule(tmp_path: Path) -> None:
    matrices = load(tmp_path)
    broken = {"blades": ("3.1",), "engine": ("2.0",), "gearbox": ("1.9",)}
    assert {f.code for f in check_states([("m", broken)], matrices).findings} == {"blades-3-engine",
                                                                                   "gearbox-not-older"}
    assert check_states([("m", {**broken, "fuel": ("sail",)})], matrices).findings == ()


def test_a_finding_names_cause_component_and_source(tmp_path: Path) -> None:
    report = check_states([("m", {"blades": ("3.1",), "engine": ("2.0",)})], load(tmp_path))
    (finding,) = report.findings
    assert (finding.root_cause, finding.component, finding.hint) == ("driver_too_old_for_runtime", "engine",
                                                                     "take engine 2.1")
    assert finding.why[0] == "here: blades 3.1, engine 2.0"
    assert "The engine book" in finding.sources[0]
    assert report.has_errors


def test_nodes_of_one_domain_are_compared_where_they_count(tmp_path: Path) -> None:
    matrices = load(tmp_path)
    (rule,) = matrices.across
    oil = {"fuel": ("oil",)}
    members = [("a", {"engine": ("2.1.1",), **oil}), ("b", {"engine": ("2.2.0",), **oil})]
    judged = judge_across(rule, members, matrices)
    assert judged is not None
    assert judged.statement.endswith("(here: 2.1.1 on a; 2.2.0 on b)")
    assert judge_across(rule, [members[0], ("b", {"engine": ("2.2.0",), "fuel": ("wind",)})], matrices) is None
    report = check_states([], matrices, {("job", "wing"): members})
    assert [(f.code, f.subject, f.severity.value) for f in report.findings] == [("engines-alike", "wing", "error")]
    assert check_states([], matrices, {("fleet", "wing"): members}).findings == ()
