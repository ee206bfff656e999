"""Every kind of mistake, planted one at a time into a small clean set, is found where it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from planner.cli.matrix import _verdict_on_nodes, _verdicts
from planner.errors import MatrixError
from planner.matrix.lint import lint

CLEAN = """\
schema: planner.matrix/1
topic: invented
sources:
  book: {title: "A book", retrieved: "2026-01-01", kind: vendor}
components:
  - {name: engine, title: Engine}
  - {name: pump, title: Pump}
  - {name: blades, title: Blades, many: true}
  - {name: colour, title: Colour, role: attribute, values: text}
families:
  - {name: blades-engine, title: blades and engine, closed: true, over: blades, against: engine}
  - {name: engine-pump, title: engine and pump}
moves:
  - {name: engine, title: Change the engine, components: [engine, pump], lead: engine, disruption: reboot, minutes: 5}
lockstep:
  - {name: pump-equals-engine, components: [engine, pump], relation: equal, family: engine-pump, statement: "equal",
     provenance: book, accepts: {engine: ["2.0"], pump: ["2.0"]}, rejects: {engine: ["2.0"], pump: ["1.0"]}}
claims:
  - name: blades-3
    family: blades-engine
    statement: "Blades 3 need engine 2"
    if: {blades: "3"}
    then: {engine: ">=2"}
    provenance: book
    accepts: {blades: ["3.1"], engine: ["2.0"]}
    rejects: {blades: ["3.1"], engine: ["1.0"]}
  - name: red-pump
    family: engine-pump
    statement: "Pump 1 must not be red"
    if: {pump: "1", colour: red}
    forbids: true
    provenance: book
    accepts: {pump: ["1.0"], colour: [blue]}
    rejects: {pump: ["1.0"], colour: [red]}
releases:
  - {component: engine, version: "1.0", provenance: book}
  - {component: engine, version: "2.0", provenance: book}
packages:
  - {name: engine-deb, component: engine, manager: apt, install: ["engine-{branch}"], version: "{version}-*",
     brings: ["engine-lib-{branch}", "pu-*"], provenance: book}
  - {name: pump-deb, component: pump, manager: apt, install: ["pump-{branch}"], version: "{version}-*",
     provenance: book}
  - {name: pump-rpm, component: pump, manager: dnf, install: ["engine-lib-{branch}"], version: "{version}-*",
     provenance: book}
gpu_models:
  - {name: big, match: "*Big*", compute_capability: "1.0", gpu_class: geforce, provenance: book}
  - {name: small, match: "*Small*", compute_capability: "1.0", gpu_class: geforce, provenance: book}
"""

Plant = Callable[[str], str]


def swap(old: str, new: str) -> Plant:
    def plant(text: str) -> str:
        assert text.count(old) >= 1, old
        return text.replace(old, new, 1)

    return plant


def directory(tmp_path: Path, text: str, name: str = "rules") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "all.yml").write_text(text)
    return folder


def test_clean_set_is_clean(tmp_path: Path) -> None:
    report = lint((directory(tmp_path, CLEAN),), _verdicts, _verdict_on_nodes)
    assert report.findings == ()
    assert report.counts == {
        "components": 4,
        "families": 2,
        "moves": 1,
        "lockstep": 1,
        "claims": 2,
        "releases": 2,
        "packages": 3,
        "gpu_models": 2,
        "across": 0,
        "times": 0,
        "signatures": 0,
        "files": 1,
        "tombstones": 0,
        "examples": 6,
    }


@pytest.mark.parametrize(
    ("plant", "code", "marker"),
    [
        (swap("topic: invented", "topic: [1, 2]"), "bad-document", "topic:"),
        (swap("name: blades-3", "name: Blades 3"), "bad-document", "name: Blades 3"),
        (swap("claims:", "claimz:"), "bad-document", ""),
        (
            swap("    provenance: book\n    accepts: {pump", "    provenance: book\n    accepts: {pump: [}"),
            "bad-yaml",
            "",
        ),
        (swap("topic: invented", "topic: invented\ntopic: twice"), "bad-yaml", "topic: twice"),
        (
            swap("provenance: book\n    accepts: {blades", "provenance: nobody\n    accepts: {blades"),
            "unknown-source",
            "nobody",
        ),
        (
            swap("components:\n", "  idle: {title: Idle, retrieved: '2026-01-01', kind: vendor}\ncomponents:\n"),
            "unused-source",
            "idle:",
        ),
        (swap('{title: "A book", retrieved', "{retrieved"), "incomplete-provenance", "book: {"),
        (swap("kind: vendor}", "kind: measured}"), "incomplete-provenance", "book: {"),
        (swap("- name: red-pump", "- name: blades-3"), "duplicate-name", "- name: blades-3\n    family: engine-pump"),
        (swap("- name: red-pump", "- name: engine-pump"), "duplicate-name", "- name: engine-pump"),
        (swap('version: "2.0", provenance', 'version: "1.0.0", provenance'), "duplicate-name", 'version: "1.0.0"'),
        (swap("family: engine-pump\n", "family: nowhere\n"), "unknown-family", "family: nowhere"),
        (swap('then: {engine: ">=2"}', 'then: {motor: ">=2"}'), "unknown-component", "motor"),
        (swap("over: blades", "over: sails"), "unknown-component", "over: sails"),
        (swap('if: {blades: "3"}', 'if: {blades: ">="}'), "bad-range", 'blades: ">="'),
        (
            swap('accepts: {blades: ["3.1"], engine: ["2.0"]}', 'accepts: {blades: ["3.1"], engine: ["2.5"]}'),
            "unknown-version",
            '"2.5"',
        ),
        (
            swap('accepts: {blades: ["3.1"], engine: ["2.0"]}', 'accepts: {blades: ["3.1"], engine: ["1.0"]}'),
            "bad-example",
            "accepts: {blades",
        ),
        (
            swap('rejects: {blades: ["3.1"], engine: ["1.0"]}', 'rejects: {blades: ["2.1"], engine: ["1.0"]}'),
            "bad-example",
            "rejects: {blades",
        ),
        (
            swap('accepts: {pump: ["1.0"], colour: [blue]}', 'accepts: {pump: ["1.0"], colour: [red]}'),
            "bad-example",
            "accepts: {pump",
        ),
        (
            swap('rejects: {engine: ["2.0"], pump: ["1.0"]}', 'rejects: {engine: ["2.0"], pump: ["2.0"]}'),
            "bad-example",
            "provenance: book, accepts: {engine",
        ),
        (swap('    rejects: {pump: ["1.0"], colour: [red]}\n', ""), "no-example", "- name: red-pump"),
        (swap("    forbids: true\n", ""), "bad-claim", "- name: red-pump"),
        (swap("    forbids: true\n", '    forbids: true\n    then: {pump: "2"}\n'), "bad-claim", "- name: red-pump"),
        (swap("must not be red", "must not be red."), "full-stop", "must not be red."),
        (swap('if: {blades: "3"}', 'if: {engine: "2"}'), "covers-nothing", 'if: {engine: "2"}'),
        (swap("lead: engine", "lead: blades"), "bad-move", "- {name: engine, title: Change"),
        (swap("engine-{branch}", "engine-{brunch}"), "bad-template", "engine-deb"),
        (swap('version: "{version}-*"', 'version: "*"'), "bad-template", "engine-deb"),
        (
            swap('version: "{version}-*"', 'version: "{version}-*", version_suffix: ".{machine}"'),
            "bad-template",
            "engine-deb",
        ),
        (swap('"pu-*"', '"lib-{brunch}"'), "bad-template", "engine-deb"),
        (swap('"pu-*"', '"*"'), "bad-template", "brings:"),
        (swap('"pu-*"', '"pu* x"'), "bad-template", "brings:"),
        (swap('"pu-*"', '"pu*-{branch}"'), "stranger", "brings:"),
        (swap("brings:", 'sweep: ["pu*-{version}"], brings:'), "stranger", "brings:"),
        (swap("brings:", 'sweep: ["engine-*"], brings:'), "bad-template", "brings:"),
        (swap("brings:", 'sweep: ["engine-*-{branch}"], brings:'), "bad-template", "brings:"),
        (swap("brings:", 'sweep: ["engine-{dashes}"], brings:'), "bad-template", "engine-deb"),
        (swap("brings:", 'replaces: ["pump-[0-9]*"], brings:'), "stranger", "brings:"),
        (swap("brings:", 'heirs: {engine-old: "engine-heir-{branch}"}, brings:'), "bad-heir", "engine-deb"),
        (swap('match: "*Small*"', 'match: "*Small Big*"'), "shadowed-model", "name: small"),
        (swap("families:\n", "families:\n  - {name: lonely, title: Lonely}\n"), "empty-family", "name: lonely"),
    ],
    ids=lambda v: v if isinstance(v, str) and v.replace("-", "").isalpha() else "",
)
def test_planted_faults_are_found_where_they_stand(plant: Plant, code: str, marker: str, tmp_path: Path) -> None:
    text = plant(CLEAN)
    report = lint((directory(tmp_path, text),), _verdicts, _verdict_on_nodes)
    found = [f for f in report.findings if f.code == code]
    assert found, [f.code for f in report.findings]
    assert all(f.hint and f.subject.startswith("rules/all.yml") for f in report.findings)
    if marker:
        line = text[: text.index(marker)].count("\n") + 1
        assert f"rules/all.yml:{line}" in {f.subject for f in found}, [f.subject for f in found]


def test_contradiction_within_a_family(tmp_path: Path) -> None:
    other = """\
  - name: blades-3-other
    family: blades-engine
    statement: "Blades 3 need engine 1"
    if: {blades: "3"}
    then: {engine: "1"}
    provenance: book
    accepts: {blades: ["3.1"], engine: ["1.0"]}
    rejects: {blades: ["3.1"], engine: ["2.0"]}
"""
    text = CLEAN.replace("releases:\n", other + "releases:\n")
    report = lint((directory(tmp_path, text),), _verdicts, _verdict_on_nodes)
    assert [f.summary for f in report.findings if f.code == "contradiction"] == [
        "blades-3-other rejects the state that blades-3 accepts",
        "blades-3 rejects the state that blades-3-other accepts",
    ]


def test_tombstones_are_kept_and_not_judged(tmp_path: Path) -> None:
    dead = CLEAN.replace(
        '    then: {engine: ">=2"}\n', '    then: {engine: ">=2"}\n    tombstone: "disproved"\n'
    ).replace('rejects: {blades: ["3.1"], engine: ["1.0"]}', 'rejects: {blades: ["9"], engine: ["1.0"]}')
    report = lint((directory(tmp_path, dead),), _verdicts, _verdict_on_nodes)
    assert report.counts["tombstones"] == 1
    assert {f.code for f in report.findings} == {"empty-family"}  # nothing else covers blades any more


def test_overlay_may_replace_but_not_repeat(tmp_path: Path) -> None:
    base = directory(tmp_path, CLEAN)
    claim = CLEAN[CLEAN.index("  - name: red-pump") : CLEAN.index("releases:")]
    head = CLEAN[: CLEAN.index("components:")] + "claims:\n"
    assert lint((base, directory(tmp_path, head + claim, "own")), _verdicts, _verdict_on_nodes).findings == ()
    twice = lint((base, directory(tmp_path, head + claim + claim, "twice")), _verdicts, _verdict_on_nodes)
    assert [(f.code, f.subject) for f in twice.findings] == [("duplicate-name", "twice/all.yml:14")]


def test_every_broken_file_is_reported(tmp_path: Path) -> None:
    folder = directory(tmp_path, CLEAN.replace("topic: invented", "topic: [1]"))
    (folder / "more.yml").write_text("just text\n")
    findings = lint((folder,), _verdicts, _verdict_on_nodes).findings
    assert {f.subject.split(":")[0] for f in findings} == {"rules/all.yml", "rules/more.yml"}


def test_empty_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MatrixError) as caught:
        lint((tmp_path,), _verdicts, _verdict_on_nodes)
    assert caught.value.diagnostics[0].code == "matrix-missing"
