"""Templates of package names: whether two of them can mean the same package."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.matrix.globs import matches, overlap


@pytest.mark.parametrize(("left", "right", "expected"), [
    ("lib*-{dashed}", "libcublas-{dashed}", True), ("lib*-{dashed}", "libtwo-{branch}", False),
    ("lib-*-{branch}", "lib-two-{branch}", True), ("lib-*-{branch}-server", "lib-two-{branch}", False),
    ("lib-[0-9][0-9]", "lib-{branch}", True), ("lib-[a-z]", "lib-{branch}", False),
    ("lib-[!0-9]", "lib-{cuda_major}", False),
    ("lib-one*", "lib-{version}", False), ("lib-*-one", "lib-{version}", True), ("a?c", "abc", True),
    ("a?c", "ac", False),
    ("image-{version}", "image-{abi}-*", True), ("kit-{dotted}", "kit-{dashed}", False), ("plain", "plain", True),
    ("a*", "*b", True), ("*", "", True), ("a*", "b*", False),
])  # fmt: skip
def test_known_pairs(left: str, right: str, expected: bool) -> None:
    assert overlap(left, right) is overlap(right, left) is expected


@given(st.text("ab*?", max_size=6), st.text("ab", max_size=6))
def test_a_plain_name_is_met_exactly_where_the_glob_matches_it(glob: str, name: str) -> None:
    assert overlap(glob, name) == fnmatchcase(name, glob)


@given(st.text("ab*?", max_size=5), st.text("ab*?", max_size=5), st.text("ab", max_size=5))
def test_a_common_name_is_never_missed(left: str, right: str, name: str) -> None:
    if fnmatchcase(name, left) and fnmatchcase(name, right):
        assert overlap(left, right)


@given(st.text("ab*?[]!-.", max_size=8), st.text("ab*?[]!-.", max_size=8))
def test_matching_is_that_of_the_standard_library(text: str, glob: str) -> None:
    """Only faster: most names begin otherwise than most globs."""
    assert matches(text, glob) == fnmatchcase(text, glob)
