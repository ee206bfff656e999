"""Ranking causes: priors alone, facts, rules that prove or refute, words of the message, several machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.explain.rank import explain
from planner.explain.text import clean_lines
from planner.matrix.index import MatrixSet
from planner.stack.read import read_stack
from planner.stack.schema import Described, Stack, View
from tests.check.small import load


@pytest.fixture
def matrices(tmp_path: Path) -> MatrixSet:
    return load(tmp_path)


def best(message: str, matrices: MatrixSet, stack: str = "") -> tuple[str, float]:
    described = read_stack(stack, "stack", matrices) if stack else None
    cause = explain(message, described, matrices).causes[0]
    return cause.root_cause, cause.confidence


def test_without_facts_the_usual_cause_comes_first_and_is_not_called_certain(matrices: MatrixSet) -> None:
    cause, confidence = best("Error 17", matrices)
    assert cause == "driver_too_old_for_runtime"
    assert 0.4 < confidence < 0.6
    asked = explain("Error 17", None, matrices).missing_facts
    assert [(m.fact, m.how_to_read_it) for m in asked] == [("blades", "count them"),
                                                           ("fuel", "state fuel in the stack file")]


def test_words_of_the_message_move_the_odds(matrices: MatrixSet) -> None:
    assert best("Error 17\nsmoke over the wing", matrices)[0] == "hardware_fault"


def test_facts_move_the_odds(matrices: MatrixSet) -> None:
    assert best("error 17", matrices, "libraries: {fuel: mud from the river}")[0] == "hardware_fault"


def test_a_broken_rule_proves_and_a_kept_one_refutes(matrices: MatrixSet) -> None:
    def rank(engine: str) -> tuple[str, float]:
        state = {"engine": (engine,), "blades": ("3.1",)}
        stack = Stack((Described("", (View("this machine", state),)),))
        cause = explain("error 17", stack, matrices).causes[0]
        return cause.root_cause, cause.confidence

    assert rank("2.0")[0] == "driver_too_old_for_runtime"
    assert rank("2.0")[1] > 0.8
    assert rank("2.4")[0] == "hardware_fault"


def test_what_the_message_says_is_a_fact(matrices: MatrixSet) -> None:
    explanation = explain("engine 2.0 coughs", None, matrices)
    assert explanation.causes[0].summary == "Engine 2.0 is too old for the blades"
    assert explanation.causes[0].why[0] == "the message: engine 2.0 coughs"


def test_an_unknown_message_is_said_to_be_one(matrices: MatrixSet) -> None:
    explanation = explain("the wings fell off", None, matrices)
    assert explanation.matched == ()
    assert [(c.root_cause, c.confidence <= 0.5) for c in explanation.causes] == [("other", True)]


def wing(matrices: MatrixSet, severity: str) -> MatrixSet:
    """The small matrices, their rule between nodes of a severity, and a cause of coughs that it judges."""
    rule = matrices.across[0].model_copy(update={"severity": severity})
    cough = matrices.signatures[0]
    cause = cough.causes[1].model_copy(update={
        "root_cause": rule.root_cause, "prior": 0.15, "judged_by": (rule.family,), "evidence": ()})
    return replace(matrices, across=(rule,),
                   signatures=(cough.model_copy(update={"causes": (*cough.causes, cause)}),))


def test_what_people_say_weighs_little_beside_a_line_that_a_program_wrote(matrices: MatrixSet) -> None:
    cough = matrices.signatures[0]
    said = cough.model_copy(update={
        "name": "said", "match": ("my plane is ill",), "strength": 0.5, "spoken": True,
        "causes": (cough.causes[1].model_copy(update={"root_cause": "user_bug", "prior": 1.0, "evidence": ()}),)})
    both = replace(matrices, signatures=(cough, said))
    # Nothing but words: the answer is the same with facts of the machine, and less sure without.
    assert best("my plane is ill", both) == ("user_bug", 0.53)
    assert best("my plane is ill", both, "driver: '3.1'") == ("user_bug", 0.81)
    causes = explain("my plane is ill\nerror 17", None, both).causes
    assert [(c.root_cause, c.confidence < 0.2) for c in causes][-1] == ("user_bug", True)
    log = [f"step {word}" for word in (chr(97 + i // 26) + chr(97 + i % 26) for i in range(26 * 26))]
    inside, tail = "\n".join([*log[:300], "my plane is ill", *log[300:]]), "\n".join([*log, "my plane is ill"])
    assert (explain(inside, None, both).matched, explain(tail, None, both).matched) == ((), ("said",))


def two(left: str, right: str, *results: str) -> Stack:
    """Two nodes with an engine each, and what was seen there."""
    engines, seen = (left, right), results or ("", "")
    return Stack(tuple(Described(name, (View(name, {"engine": (engine,), "fuel": ("oil",)} if engine else {}),), result)
                       for name, engine, result in zip(("left", "right"), engines, seen, strict=True)))


def first(message: str, matrices: MatrixSet, stack: Stack) -> tuple[str, float]:
    cause = explain(message, stack, matrices).causes[0]
    return cause.root_cause, cause.confidence


def test_nodes_that_differ_count_more_than_a_warning_does(matrices: MatrixSet) -> None:
    apart = two("2.1.1", "2.2.0")
    assert first("error 17", wing(matrices, "warning"), apart)[0] == "mixed_driver_fleet"
    assert first("error 17", wing(matrices, "info"), apart)[0] == "driver_too_old_for_runtime"
    assert first("error 17", wing(matrices, "warning"), two("2.1.1", "2.1.1"))[0] != "mixed_driver_fleet"


def test_nodes_that_see_different_results_are_compared(matrices: MatrixSet) -> None:
    assert first("error 17", wing(matrices, "warning"), two("", "", "works", "fails"))[0] == "mixed_driver_fleet"
    same = first("error 17", wing(matrices, "warning"), two("", "", "works", "works"))
    assert same[0] == "driver_too_old_for_runtime"


def test_a_likely_conflict_is_told_where_no_message_is_known_or_nodes_differ(matrices: MatrixSet) -> None:
    apart = two("2.1.1", "2.2.0")
    alone = first("the wings fell off", wing(matrices, "warning"), apart)
    assert alone == ("mixed_driver_fleet", 0.5)
    assert first("the wings fell off", wing(matrices, "info"), apart)[0] == "other"
    plain = replace(wing(matrices, "warning"), signatures=matrices.signatures)
    beside = explain("error 17", apart, plain).causes
    assert [c.root_cause for c in beside][-1] == "mixed_driver_fleet"


def test_versions_that_fit_are_said_to_fit(matrices: MatrixSet) -> None:
    from planner.stack.schema import Described, Stack, View

    state = {"engine": ("2.4",), "blades": ("3.1",)}
    explanation = explain("the wings fell off", Stack((Described("", (View("this machine", state),)),)), matrices)
    assert [c.root_cause for c in explanation.causes] == ["valid_combo", "user_bug", "hardware_fault", "other"]
    assert explanation.causes[0].confidence < 0.4
    assert "1 rules about" in explanation.causes[0].why[0]


def test_lines_are_cleaned_and_bounded() -> None:
    assert clean_lines("\x1b[31mred\x1b[0m\x00\n\nred\nnext\r\n") == ("red", "next")
    assert len(clean_lines("x" * 10_000_000)[0]) == 4_000
