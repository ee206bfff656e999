"""What is kept of the matrices between two commands says what the files say, or is not taken."""

from __future__ import annotations

import os
import re
from dataclasses import fields
from pathlib import Path

import pytest

from planner.cli import raw
from planner.data import data_dir
from planner.documents import dump_model
from planner.matrix.index import MatrixSet
from planner.matrix.load import load_matrices
from planner.matrix.sources import KEPT_MAX
from tests.check.small import TEXT

VALIDATOR = Path(__file__).resolve().parents[2] / "planner" / "validate"


@pytest.fixture
def matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small matrices, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    directory = tmp_path / "invented"
    directory.mkdir()
    (directory / "wings.yml").write_text(TEXT, encoding="utf-8")
    return directory


def kept_file(directory: Path) -> Path:
    """Return the one file in the cache."""
    (found,) = (directory.parent / "cache").rglob("*.pickle")
    return found


def said(loaded: MatrixSet) -> dict[str, object]:
    """Return everything a set holds, as plain values."""
    def plain(value: object) -> object:
        if hasattr(value, "model_dump"):
            return dump_model(value)
        if isinstance(value, str | int | frozenset):
            return value
        if hasattr(value, "items"):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value]  # type: ignore[attr-defined]

    return {f.name: plain(getattr(loaded, f.name)) for f in fields(loaded)}


def test_what_is_kept_says_the_same(matrices: Path) -> None:
    """The second command, which reads what the first has kept, knows exactly as much."""
    first, second = load_matrices(matrices), load_matrices(matrices)
    assert first is not second
    assert said(first) == said(second)
    assert len(second.signatures) == len(first.signatures) > 0


def test_messages_are_built_when_somebody_looks(matrices: Path) -> None:
    """Most verbs read no message, and most of the text is messages."""
    load_matrices(matrices)
    loaded = load_matrices(matrices)
    assert "_value" not in vars(loaded.signatures)
    assert loaded.signatures[0].name in [s.name for s in loaded.signatures]
    assert all(p in loaded.needed_words for s in loaded.signatures for p in s.match)


def test_a_changed_file_is_read_again(matrices: Path) -> None:
    """What is kept belongs to the bytes, whatever the time of the file says."""
    path = matrices / "wings.yml"
    before, times = load_matrices(matrices), path.stat()
    path.write_text(TEXT.replace("take engine 2.1", "take engine 2.2"), encoding="utf-8")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (before.claims[0].hint, load_matrices(matrices).claims[0].hint) == ("take engine 2.1", "take engine 2.2")


@pytest.mark.parametrize("data", [b"", b"no pickle", b"\x80\x04K\x01."], ids=["empty", "text", "another-type"])
def test_a_broken_cache_is_not_taken(matrices: Path, data: bytes) -> None:
    """It is as if nothing were kept, and it is mended."""
    first = load_matrices(matrices)
    kept_file(matrices).write_bytes(data)
    assert said(load_matrices(matrices)) == said(first)
    assert len(kept_file(matrices).read_bytes()) > len(data)


def test_what_was_kept_longest_ago_makes_room(matrices: Path) -> None:
    """Whoever writes matrices changes them often; the last few versions are enough."""
    cache = matrices.parent / "cache"
    for number in range(KEPT_MAX + 3):
        before = set(cache.rglob("*.pickle"))
        (matrices / "wings.yml").write_text(TEXT + f"# {number}\n", encoding="utf-8")
        load_matrices(matrices)
        assert len(set(cache.rglob("*.pickle")) - before) == 1, "the newest is never the one to go"
    assert len(list(cache.rglob("*.pickle"))) == KEPT_MAX


def test_equal_sources_are_one_object() -> None:
    """A source stands behind many claims; each would be built again at every start."""
    loaded = load_matrices(data_dir("matrices"))
    every = [c.provenance for c in loaded.claims]
    distinct = {(*vars(p).values(), *sorted(p.model_fields_set)) for p in every}
    assert len({id(p) for p in every}) == len(distinct) < len(every)


def test_the_validator_judges_by_nothing_that_is_left_out() -> None:
    """Words that are dropped from what the validator reads stand nowhere in its code."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted(VALIDATOR.glob("*.py")))
    read = set(re.findall(r"""(?:\[|get\(|in \()["']([a-z_]+)["']""", code))
    assert {"if", "then", "unless", "minutes"} <= read
    assert read & raw._WORDS == set()
