"""What people see, and what is behind it: lines, hostile text, patterns that never run away."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from planner.cli.inputs import load_rules
from planner.cli.main import cli
from planner.explain.rank import explain
from planner.explain.text import clean_lines, find
from planner.matrix.index import MatrixSet
from planner.matrix.literals import clauses
from planner.stack.read import read_stack

LINES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "messages.yml").read_text())

SPOKEN: dict[str, list[str]] = yaml.safe_load((Path(__file__).parent / "spoken.yml").read_text())


@cache
def matrices() -> MatrixSet:
    return load_rules(())


def patterns() -> list[tuple[str, str]]:
    found = [(s.name, p) for s in matrices().signatures for p in s.match]
    return found + [(s.name, e.text) for s in matrices().signatures for c in s.causes for e in c.evidence if e.text]


def test_there_are_enough_lines() -> None:
    assert len(LINES) >= 120


@pytest.mark.parametrize("case", LINES, ids=lambda case: f"{case['best']}: {case['line'][:50]}")
def test_the_right_cause_comes_first(case: dict[str, Any]) -> None:
    stack = read_stack(json.dumps(case["stack"]), "stack", matrices()) if "stack" in case else None
    answer = explain(case["line"], stack, matrices())
    assert answer.matched
    ranked = [(cause.root_cause, cause.confidence) for cause in answer.causes[:4]]
    assert ranked[0][0] == case["best"], ranked
    assert answer.causes[0].fix


@pytest.mark.parametrize(("cause", "said"), [(c, said) for c, lines in SPOKEN.items() for said in lines])
def test_people_are_understood_without_a_line_of_a_program(cause: str, said: str) -> None:
    answer = explain(said, None, matrices())
    assert answer.matched
    assert [c.root_cause for c in answer.causes[:1]] == [cause], [(c.root_cause, c.confidence) for c in answer.causes]


def test_what_people_say_beside_a_line_of_a_program_does_not_outweigh_it() -> None:
    line = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, GPU has fallen off the bus."
    for cause in ("framework_cpu_only_build", "container_toolkit_problem", "arch_dropped_by_driver"):
        for said in SPOKEN[cause]:
            assert explain(f"{said}\n{line}", None, matrices()).causes[0].root_cause == "hardware_fault", said


def test_facts_separate_causes_of_one_line() -> None:
    by_line: dict[str, set[str]] = {}
    for case in LINES:
        by_line.setdefault(case["line"], set()).add(case["best"])
    assert sum(len(causes) > 1 for causes in by_line.values()) >= 6


@pytest.mark.parametrize("text", ["a" * 200_000, " " * 200_000, "1.2" * 66_000], ids=["a", "blank", "numbers"])
def test_no_pattern_runs_away(text: str) -> None:
    for name, pattern in patterns():
        compiled = re.compile(pattern, re.IGNORECASE | re.MULTILINE)
        started = time.process_time()
        assert not list(compiled.finditer(text)), name
        assert time.process_time() - started < 0.2, (name, pattern)


def test_words_of_a_pattern_never_hide_a_match() -> None:
    for signature in matrices().signatures:
        for line in signature.examples:
            for pattern in signature.match:
                if re.search(pattern, line, re.IGNORECASE | re.MULTILINE):
                    low = line.lower()
                    assert all(any(word in low for word in words) for words in clauses(pattern)), (pattern, line)


def test_a_long_log_is_read_like_a_short_one() -> None:
    noise = "\n".join(f"unit {chr(97 + n % 26)}{chr(97 + n // 26 % 26)} of cuda job started" for n in range(3_000))
    message = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus."
    known = matrices()
    short, long = (tuple(m.signature.name for m in find(clean_lines(text), known.signatures, known.needed_words))
                   for text in (message, f"{noise}\n{message}\n{noise}"))
    assert short == long != ()


def test_lines_that_differ_in_numbers_only_are_read_but_not_without_end() -> None:
    assert len(clean_lines("\n".join(f"step {n} done" for n in range(10_000)))) == 50


def test_a_line_of_ten_megabytes() -> None:
    started = time.process_time()
    answer = explain("CUDA error 222 " + "x" * 10_000_000, None, matrices())
    assert answer.causes[0].root_cause == "driver_too_old_for_toolkit_ptx"
    assert time.process_time() - started < 5


def test_control_characters_are_not_shown() -> None:
    answer = explain("\x1b[31mCUDA error:\x07 device-side assert triggered\x00\x1b[0m", None, matrices())
    assert answer.causes[0].root_cause == "user_bug"
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", " ".join(answer.causes[0].why))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    log = tmp_path / "journal"
    log.write_bytes(b"\xff\xfe\x80 Failed to initialize NVML: Driver/library version mismatch \xc3\x28\n\x00\x01")
    result = CliRunner().invoke(cli, ["explain", "--log", str(log), "-o", "json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["causes"][0]["root_cause"] == "kernel_module_userspace_mismatch"
    piped = CliRunner().invoke(cli, ["explain", "-o", "json"], input=log.read_bytes())
    assert json.loads(piped.stdout)["causes"] == json.loads(result.stdout)["causes"]


def test_nothing_known_says_so() -> None:
    answer = explain("hello world", None, matrices())
    assert [cause.root_cause for cause in answer.causes] == ["other"]
    assert answer.causes[0].confidence <= 0.5


def test_every_asked_fact_can_be_read() -> None:
    asked = {name for s in matrices().signatures for c in s.causes
             for name in (*c.facts, *(n for e in c.evidence for n in e.facts))}
    assert asked <= set(matrices().questions)


@pytest.mark.parametrize("case", [c for c in LINES if "stack" not in c][:40], ids=lambda case: case["line"][:40])
def test_sentences_hold_without_facts(case: dict[str, Any]) -> None:
    for cause in explain(case["line"], None, matrices()).causes:
        for sentence in (cause.summary, cause.fix, *cause.why[1:]):
            assert not re.search(r"\{[a-z_]+\}|  | \(\)| [,.;]|not known", sentence), sentence
