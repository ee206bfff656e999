"""The dumper's shortcuts write what PyYAML would."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from planner.emit import yaml_text
from planner.emit.yaml_text import Unsafe, dump_yaml

LINES = "\x85\u2028\u2029"      # PyYAML folds these in quotes; no name, version or command of a plan holds one
TEXTS = st.one_of(
    st.text(st.characters(exclude_characters=LINES), max_size=12),
    st.from_regex(r"[A-Za-z0-9_.:#-]{0,9}( [a-z:#-]{1,4})?", fullmatch=True),
    st.sampled_from(["yes", "NO", "null", "~", "1.10", "1e3", "0x1f", "1_0", "2026-01-01", "-", "---", "...", ".", "=",
                     "on", "12:30:45", ".inf", "a" * 130, "node-1", "580.159.04-1ubuntu1", "a-", "a.", "-a",
                     "x y" * 60]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(TEXTS, TEXTS.map(Unsafe), st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)), max_leaves=12)


@given(VALUES)
@example("alone")
@example({"a-key": ["alone", "two words", {"x": "1.0"}]})
def test_shortcuts_for_words_change_no_byte(value: Any) -> None:
    short = dump_yaml(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_text, "_WORD", re.compile(r"(?!)"))
        assert short == dump_yaml(value)


@given(VALUES)
def test_what_is_dumped_is_read_back(value: Any) -> None:
    class Loader(yaml.SafeLoader):
        """Knows the tag."""

    Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))
    assert yaml.load(dump_yaml(value), Loader=Loader) == value
