"""Removing any rule changes an answer that is not the rule's own example, or the rule says why it changes none."""

from __future__ import annotations

from collections import Counter as Tally
from dataclasses import replace

import pytest

from planner.matrix.index import MatrixSet
from planner.matrix.schema import Claim, State
from tests.matrices.counting import Counter, Proof, Rule, reads
from tests.matrices.test_shipped import HGX

PLAIN: State = {
    "os": ("ubuntu-24.04",),
    "arch": ("x86_64",),
    "driver": ("580.159.04",),
    "loaded_driver": ("580.159.04",),
    "gpu_model": ("rtx-4090",),
    "compute_capability": ("8.9",),
    "gpu_class": ("geforce",),
    "nvswitch": ("no",),
}


@pytest.fixture(scope="module")
def proofs(shipped: MatrixSet) -> dict[str, tuple[Rule, Proof | None]]:
    counter = Counter(shipped, (HGX, PLAIN))
    return {r.name: (r, counter.proof(r)) for r in (*shipped.claims, *shipped.lockstep)}


def redundant(rule: Rule) -> str:
    return rule.redundant if isinstance(rule, Claim) else ""


def test_removing_a_rule_changes_an_answer(
    proofs: dict[str, tuple[Rule, Proof | None]], shipped: MatrixSet, capsys: pytest.CaptureFixture[str]
) -> None:
    how = Tally(proof.how if proof else "for none, and says why" for _, proof in proofs.values())
    with capsys.disabled():
        print("\nrules that count for", ", ".join(f"{reason}: {number}" for reason, number in how.most_common()))
    idle = [f"{shipped.files[n]}: {n}" for n, (rule, proof) in proofs.items() if not proof and not redundant(rule)]
    assert idle == [], "give these a condition of their own, remove them, or say `redundant: why`"
    assert how["its one value, in a whole stack"] <= len(proofs) // 20


def test_what_is_marked_redundant_is_little(proofs: dict[str, tuple[Rule, Proof | None]]) -> None:
    marked = [rule for rule, _ in proofs.values() if redundant(rule)]
    assert len(marked) <= len(proofs) // 40
    assert all(len(redundant(rule)) > 20 for rule in marked)


def test_proofs_are_no_examples(proofs: dict[str, tuple[Rule, Proof | None]]) -> None:
    """The state of a proof has another value in something that the rule reads."""
    for rule, proof in proofs.values():
        if proof and proof.how.startswith("other values"):
            for example in filter(None, (rule.accepts, rule.rejects)):
                assert {k: proof.state.get(k) for k in reads(rule)} != {k: example.get(k) for k in reads(rule)}


def test_removing_a_rule_across_nodes_changes_an_answer(shipped: MatrixSet) -> None:
    counter = Counter(shipped, (HGX,))
    assert [rule.name for rule in shipped.across if counter.proof_across(rule) is None] == []


def test_no_two_rules_say_the_same(shipped: MatrixSet) -> None:
    """Two rules with the same conditions and the same consequence are one, unless one of them says why it is there."""
    seen: dict[object, list[str]] = {}
    for rule in shipped.claims:
        if not rule.redundant and (rule.then or rule.forbids):
            key = (rule.severity, rule.root_cause, rule.forbids,
                   *(frozenset(part.items()) for part in (rule.if_, rule.then, rule.unless)))
            seen.setdefault(key, []).append(rule.name)
    assert [names for names in seen.values() if len(names) > 1] == []


def test_the_search_notices_a_rule_that_does_not_count(shipped: MatrixSet) -> None:
    """A copy under another name changes nothing, and beside it the original counts no longer, either."""
    rule = next(c for c in shipped.claims if c.name == "cuda-13-driver-floor")
    copy = rule.model_copy(update={"name": "copy"})
    twice = replace(shipped, claims=(*shipped.claims, copy))
    counter = Counter(twice, (HGX, PLAIN))
    assert counter.proof(rule) is None
    assert counter.proof(copy) is None

