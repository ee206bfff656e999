"""Relations between versions, and the two independent readings of them: the evaluator's and the validator's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.model.relation import related
from planner.validate.rules import _tied

VERSIONS = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
RELATIONS = st.sampled_from(["equal", "same-branch", "same-major", "same-minor", "not-older", "not-newer"])


@pytest.mark.parametrize(("relation", "versions", "parts", "expected"), [
    ("equal", ("580.95.05", "580.95.5"), 0, True),
    ("equal", ("580.95.05", "580"), 0, True),              # a bare branch is what a person writes, not another version
    ("equal", ("580.95.05", "58"), 0, False),
    ("equal", ("580.95.05", "580.105.08"), 0, False),
    ("same-branch", ("580.95.05", "580.105.08"), 0, True),
    ("same-minor", ("2.27.1", "2.27.9"), 0, True),
    ("same-minor", ("2.27.1", "2.28.0"), 0, False),
    ("not-older", ("9.5.1", "9.5.2"), 2, True),
    ("not-older", ("9.4.0", "9.5.2"), 2, False),
    ("not-older", ("9.10.0", "9.9.0"), 2, True),
    ("not-newer", ("9.10.0", "9.9.0"), 2, False),
    ("not-newer", ("8.9.7", "9"), 1, True),
])
def test_relations(relation: str, versions: tuple[str, ...], parts: int, *, expected: bool) -> None:
    assert related(relation, versions, parts) is expected


@pytest.mark.property
@given(RELATIONS, st.lists(VERSIONS, min_size=2, max_size=3), st.integers(0, 3))
def test_evaluator_and_validator_agree(relation: str, versions: list[str], parts: int) -> None:
    assert related(relation, tuple(versions), parts) == _tied(relation, versions, parts)
