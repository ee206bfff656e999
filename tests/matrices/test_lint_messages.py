"""Planted mistakes in what explain and domain rules read: each is found where it stands; the sound set is clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.cli.matrix import _verdict_on_nodes, _verdicts
from planner.matrix.lint import lint
from tests.check.small import TEXT

PLANTED = {
    "a word for a cause that nobody knows": ("root_cause: mixed_driver_fleet", "root_cause: gremlins", "unknown-cause"),
    "an exception about nothing": ('unless: {fuel: "sail*"}', 'unless: {feul: "sail*"}', "unknown-component"),
    "a fix that has done harm": ('fix: "have it looked at"', 'fix: "sudo rm -rf /usr/lib"', "harmful-fix"),
    "a pattern that is none": ("'error 17\\b'", "'error (17'", "bad-pattern"),
    "an example that no pattern matches": ('"error 17"]\n    counter', '"error 18"]\n    counter', "bad-example"),
    "a look-alike that matches": ('counter_examples: ["error 171"]', 'counter_examples: ["error 17"]', "bad-example"),
    "a group that is no component": ("(?P<engine>", "(?P<motor>", "unknown-component"),
    "a family that judges nothing": ("judged_by: [blades-engine]", "judged_by: [blades]", "unknown-family"),
    "a sentence about an unknown component": ("Engine {engine} is too old", "Engine {motor} is too old",
                                              "unknown-component"),
    "nodes that are not alike and accepted": ('- {engine: ["2.1.9"], fuel: ["oil"]}',
                                              '- {engine: ["3.0"], fuel: ["oil"]}', "bad-example"),
    "evidence without anything": ("{text: 'smoke', times: 6", "{times: 6", "bad-evidence"),
    "a question about nothing": ("questions:\n  - {component: blades", "questions:\n  - {component: wings",
                                 "unknown-component"),
}
SOUND = TEXT.replace('accepts: [{engine: ["2.1.1"], fuel: ["oil"]}, {engine: ["2.1.9"], fuel: ["oil"]}]',
                     'accepts:\n      - {engine: ["2.1.1"], fuel: ["oil"]}\n      - {engine: ["2.1.9"], fuel: ["oil"]}')


def codes(directory: Path, text: str) -> set[str]:
    (directory / "all.yml").write_text(text, encoding="utf-8")
    return {f.code for f in lint((directory,), _verdicts, _verdict_on_nodes).findings}


def test_the_sound_set_is_clean(tmp_path: Path) -> None:
    assert codes(tmp_path, SOUND) == set()


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found(mistake: str, tmp_path: Path) -> None:
    sound, broken, code = PLANTED[mistake]
    assert sound in SOUND
    assert code in codes(tmp_path, SOUND.replace(sound, broken, 1))
