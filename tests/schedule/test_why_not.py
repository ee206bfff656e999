"""Why a plan avoids a version: refused, worse, as good, or used after all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.cli.inputs import load_facts, load_rules, load_target
from planner.errors import InputError
from planner.report.why_not_view import why_not_lines
from planner.schedule.why_not import WhyNot, why_not
from tests.schedule.machines import document, shipped, target, ubuntu
from tests.test_cli import invoke

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "01-two-generations"


def asked(component: str, wanted: str) -> dict[str, WhyNot]:
    """Return the answers for the example's fleet by GPU."""
    found = why_not(load_facts(EXAMPLE / "facts.json"), load_target(EXAMPLE / "target.yml"), load_rules(()),
                    component, wanted)
    return {a.gpu: a for a in found}


def test_a_version_that_rules_close_is_refused_with_the_derivation_and_what_is_nearest() -> None:
    answer = asked("driver", "595")["8x v100"]
    assert answer.verdict == "refused"
    assert "Volta" in answer.reasons[0]
    assert answer.reasons[-1].startswith("so driver 595")
    assert any("gpu-drivers.yml" in s for s in answer.sources)
    assert answer.nearest


def test_a_version_that_is_as_good_is_said_not_to_be_asked_for() -> None:
    answer = asked("driver", "595")["8x h100-sxm"]
    assert answer.verdict == "not-asked"
    assert answer.reasons[-1] == "the target asks for driver 580.159.04"


def test_a_version_that_the_plan_uses_is_said_to_be_used() -> None:
    assert {a.verdict for a in asked("driver", "580.159.04").values()} == {"chosen"}


def test_a_side_by_side_version_is_asked_for_beside_the_others() -> None:
    """It replaces no other one, and a wish that it be absent gives way."""
    answers = asked("cuda_toolkits", "13.0")
    assert answers["8x h100-sxm"].verdict == "chosen"
    assert answers["8x v100"].verdict == "refused"
    assert "7.0" in answers["8x v100"].reasons[0]


def test_an_unknown_component_is_a_clear_error() -> None:
    with pytest.raises(InputError, match="drivr"):
        asked("drivr", "595")


def test_a_fault_of_the_question_is_not_blamed_on_a_line_of_the_target() -> None:
    for component, wanted in (("drivr", "595"), ("driver", ">="), ("cuda_toolkits", "[")):
        with pytest.raises(InputError) as told:
            asked(component, wanted)
        (item,) = told.value.diagnostics
        assert item.subject == "--why-not"
        assert not item.places


@pytest.mark.parametrize(("component", "wanted", "verdict"), [
    ("driver_flavour", "proprietary", "chosen"), ("driver_flavour", "open", "not-asked"),
    ("driver_flavour", "opne", "refused"), ("driver_origin", "vendor", "refused"), ("os", "ubuntu-22.04", "chosen"),
    ("os", "ubuntu-2[24].04", "chosen"), ("os", "ubuntu-24.04", "worse"), ("node_image", "gpu-2", "refused"),
    ("toolkit_module", "12.8", "refused"), ("cuda_runtime", "12.8", "worse"), ("cuda_toolkits", ">=12.8", "refused")])
def test_words_and_declared_components_are_asked_about_like_versions(component: str, wanted: str, verdict: str) -> None:
    asks = target(driver="580", cuda_toolkits={"absent": ["11.*"]})
    (answer,) = why_not(document(ubuntu()), asks, shipped(), component, wanted)
    assert answer.verdict == verdict
    assert answer.reasons


def test_nodes_with_the_same_answer_share_a_paragraph() -> None:
    one = WhyNot(nodes=("a1",), gpu="8x x", verdict="refused", reasons=("because", "so"))
    two = WhyNot(nodes=("b1",), gpu="4x y", verdict="refused", reasons=("because", "so"))
    lines = why_not_lines([one, two], "driver", "595")
    assert lines == ["driver 595 on 8x x and 4x y, 2 nodes (a1, b1): no safe path leads there", "  because", "  so"]


def test_the_command_answers_as_text_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "--facts", str(EXAMPLE / "facts.json"), "--target", str(EXAMPLE / "target.yml")]
    assert invoke([*command, "--why-not", "driver=595"]) == 0
    assert "no safe path leads there" in " ".join(capsys.readouterr().out.split())
    assert invoke([*command, "--why-not", "driver=595", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {a["verdict"] for a in document["answers"]} == {"refused", "not-asked"}
    assert invoke([*command, "--why-not", "driver"]) == 2
