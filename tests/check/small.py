"""Small invented matrices: engines, blades and what messages about them mean. No real name is in them."""

from __future__ import annotations

from pathlib import Path

from planner.matrix.index import MatrixSet
from planner.matrix.load import load_matrices

TEXT = """
schema: planner.matrix/1
topic: invented
sources:
  book: {title: "The engine book", retrieved: "2026-01-01", kind: vendor}
components:
  - {name: engine, title: engine}
  - {name: blades, title: blades, many: true}
  - {name: gearbox, title: gearbox}
  - {name: fuel, title: fuel, values: text, role: attribute}
families:
  - {name: blades-engine, title: blades on an engine}
  - {name: engine-gearbox, title: engine and gearbox}
  - {name: in-one-wing, title: what engines of one wing share}
lockstep:
  - name: gearbox-not-older
    family: engine-gearbox
    components: [gearbox, engine]
    relation: not-older
    parts: 2
    unless: {fuel: "sail*"}
    severity: warning
    root_cause: other
    statement: "A gearbox older than its engine slips"
    provenance: book
    accepts: {gearbox: ["2.1"], engine: ["2.1.5"]}
    rejects: {gearbox: ["2.0"], engine: ["2.1.5"]}
claims:
  - name: blades-3-engine
    family: blades-engine
    statement: "Blades 3 need engine 2.1 or later"
    if: {blades: "3"}
    unless: {fuel: "sail*"}
    then: {engine: ">=2.1"}
    root_cause: driver_too_old_for_runtime
    hint: "take engine 2.1"
    provenance: book
    accepts: {blades: ["3.1"], engine: ["2.1"]}
    rejects: {blades: ["3.1"], engine: ["2.0"]}
across:
  - name: engines-alike
    family: in-one-wing
    domain: job
    component: engine
    relation: same-minor
    when: {fuel: [absent, "oil*"]}
    severity: error
    root_cause: mixed_driver_fleet
    hint: "change both at once"
    statement: "Engines of one wing must be of one minor version"
    provenance: book
    accepts: [{engine: ["2.1.1"], fuel: ["oil"]}, {engine: ["2.1.9"], fuel: ["oil"]}]
    rejects: [{engine: ["2.1.1"], fuel: ["oil"]}, {engine: ["2.2.0"], fuel: ["oil"]}]
signatures:
  - name: cough
    title: The engine coughs
    match: ['engine (?P<engine>[0-9.]+)? ?coughs', 'error 17\\b']
    causes:
      - root_cause: driver_too_old_for_runtime
        prior: 0.5
        summary: "Engine {engine} is too old for blades {blades}"
        fix: "take engine 2.1"
        judged_by: [blades-engine]
        facts: [blades]
      - root_cause: hardware_fault
        prior: 0.4
        summary: "The engine is worn"
        fix: "have it looked at"
        evidence:
          - {text: 'smoke', times: 6, because: "there is smoke"}
          - {facts: {fuel: "mud*"}, times: 4, because: "mud wears engines"}
    provenance: book
    examples: ["engine 2.0 coughs", "error 17"]
    counter_examples: ["error 171"]
questions:
  - {component: blades, read: "count them"}
vocabulary:
  - {kind: library, write: '^fuel$', component: fuel}
  - {kind: library, write: '^gear ?box$', component: gearbox}
"""


def load(directory: Path) -> MatrixSet:
    """Write the matrices into a directory and load them."""
    (directory / "all.yml").write_text(TEXT, encoding="utf-8")
    return load_matrices(directory)
