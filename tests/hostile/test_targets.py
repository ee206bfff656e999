"""Targets that people get wrong, or write in bad faith: file and line, the documented code, nothing written."""

from __future__ import annotations

import pytest
from hostile_desk import PLAN, Desk

HEAD = "schema: planner.target/1\nname: t\n"


def _bomb() -> str:
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 400)]
    return "l0: &l0 [lol]\n" + "\n".join(levels) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('schema: planner.target/1\nname: t\nwant: {driver: "580\n', ("bad-yaml", "target.yml:", "hint:")),
        (HEAD + "want:\n  driver: '>=580'\nwannt: {}\n", ("target.yml:5", "wannt", "hint:")),
        (HEAD + "name: again\n", ("bad-yaml", "target.yml:3", "duplicate key 'name'")),
        (HEAD + "want:\n  driver: 'newest please'\n", ("target.yml:4", "driver")),
        (HEAD + "rollout: {max_unavailable: '200%'}\n", ("target.yml:3", "200%")),
        (HEAD + "rollout:\n  max_unavailable: -1\n", ("target.yml:4", "negative")),
        (HEAD + "rollout:\n  growth: 0.5\n", ("target.yml:4", "growth")),
        (HEAD + "policy: reckless\n", ("target.yml:3", "policy")),
        (HEAD + "accept: [{risk: x, because: ''}]\n", ("target.yml:3", "because")),
        ("schema: planner.target/9\nname: t\n", ("target.yml:1", "schema")),
        ("- a\n- list\n", ("target.yml", "bad-document")),
        ("", ("target.yml", "bad-document")),
        ("name: !!python/object/apply:os.system ['touch pwned']\n", ("bad-yaml", "target.yml:1")),
        ("schema: planner.target/1\nname: \"{{ lookup('pipe', 'touch pwned') }}\"\n", ("target.yml:2", "name")),
        ("schema: planner.target/1\nname: ../../etc/t\n", ("target.yml:2", "name")),
        ("a: b\n---\nc: d\n", ("bad-yaml", "target.yml:2")),
        ("name: \x00\n", ("bad-yaml", "target.yml")),
        ("[" * 20_000, ("bad-yaml", "target.yml")),
    ],
    ids=[
        "unclosed-quote", "unknown-key", "duplicate-key", "unreadable-range", "percent-over-100", "negative", "growth",
        "unknown-policy", "risk-without-reason", "other-schema", "a-list", "empty", "python-object", "template-as-name",
        "path-as-name", "two-documents", "nul-byte", "deep-nesting",
    ],
)  # fmt: skip
def test_broken_target_is_refused_with_file_and_line(desk: Desk, text: str, says: tuple[str, ...]) -> None:
    """The message names the file, the line where there is one, and what to correct."""
    desk.write("target.yml", text)
    desk.refuses(*PLAN, code=1, says=says)


def test_an_alias_bomb_is_refused_before_it_grows(desk: Desk) -> None:
    """Expanded, this document would not fit into any memory."""
    desk.write("target.yml", _bomb())
    desk.refuses(*PLAN, code=1, says=("bad-yaml", "target.yml:", "too many aliases"))


def test_bytes_that_are_no_text_are_refused(desk: Desk) -> None:
    """A picture is not a target."""
    (desk.path / "target.yml").write_bytes(b"\x89PNG\r\n\xff\xfe")
    desk.refuses(*PLAN, code=1, says=("target.yml",))


@pytest.mark.parametrize("missing", ["target.yml", "facts.json"])
def test_a_missing_file_is_named(desk: Desk, missing: str) -> None:
    """The path as it was typed is in the message."""
    (desk.path / missing).unlink()
    desk.refuses(*PLAN, code=1, says=("file-missing", missing))


@pytest.mark.parametrize(
    ("addition", "code", "says"),
    [
        ("pools: {no-such-pool: {want: {}}}\n", 1, ("no-such-pool",)),
        ("select: [no-such-node]\n", 1, ("no-such-node",)),
        ("want: {no_such_component: '1.0'}\n", 1, ("no_such_component",)),
    ],
    ids=["pool", "selector", "component"],
)
def test_unknown_names_are_refused(desk: Desk, addition: str, code: int, says: tuple[str, ...]) -> None:
    """A name that nothing has is an error of the target, not an empty plan."""
    desk.write("target.yml", HEAD + addition)
    answer = desk.refuses(*PLAN, code=code, says=says)
    assert "hint:" in answer.err


def test_an_unknown_version_has_no_path(desk: Desk) -> None:
    """A driver that no repository offers and no matrix knows: exit 4 with the component and a hint."""
    desk.write("target.yml", HEAD + "want: {driver: '999.1'}\n")
    answer = desk.refuses(*PLAN, code=4, says=("driver", "999.1"))
    assert "hint:" in answer.err
