"""Targets that people get wrong, or write in bad faith: file and line, the documented code, nothing written."""

from __future__ import annotations

import json

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
        (HEAD + "pools:\n  a100:\n    want: {driver: newest please}\n", ("target.yml:5", "pools.a100.want.driver")),
        (HEAD + "want:\n  driver: 580.10\n", ("target.yml:4: want.driver: 580.1 is not text", "in quotes")),
        (HEAD + "want:\n  cuda_toolkits: {presnt: ['12.8']}\n", ("target.yml:4: want.cuda_toolkits.presnt:",)),
        (HEAD + f"want:\n  driver: '{'9' * 5000}'\n", ("target.yml:4", "5000 characters")),
        (HEAD + "rollout: {max_unavailable: '200%'}\n", ("target.yml:3", "200%")),
        (HEAD + "rollout: {max_unavailable: '\u00b2%'}\n", ("target.yml:3", "neither a number nor a percentage")),
        (HEAD + "rollout: {max_unavailable: true}\n", ("target.yml:3", "true is not a number")),
        (HEAD + "rollout: {soak_minutes: 100000000000000}\n", ("target.yml:3", "soak_minutes")),
        (HEAD + "rollout: {not_before: tomorrow}\n", ("target.yml:3", "'tomorrow' is not a time")),
        (HEAD + "rollout: {not_before: '2026-03-01T14:00:00'}\n", ("target.yml:3", "no time zone")),
        (HEAD + "rollout: {not_before: 2026-03-01T14:00:00Z}\n", ("target.yml:3", "in quotes")),
        (HEAD + "rollout: {canary_command: /opt/x --all}\n", ("target.yml:3", "no list of texts such as")),
        (HEAD + "rollout: {canary_command: []}\n", ("target.yml:3", "no list of texts such as")),
        (HEAD + "rollout: {canary_command: [/opt/x, 5]}\n", ("target.yml:3", "no list of texts such as")),
        (HEAD + 'rollout: {canary_command: [""]}\n', ("target.yml:3", "the command has no name")),
        (HEAD + 'rollout: {canary_command: [a, "b\\0"]}\n', ("target.yml:3", "argument 1 has a character")),
        (HEAD + 'rollout: {canary_command: [a, "\\ud800"]}\n', ("target.yml:3",)),
        (HEAD + f"rollout: {{canary_command: [a, {'b' * 131_072}]}}\n", ("target.yml:3", "argument 1 is longer than")),
        (HEAD + f"rollout: {{canary_command: [{', '.join(['b' * 131_000] * 9)}]}}\n", ("target.yml:3", "in all")),
        (HEAD + "rollout: {canary_command_timeout_minutes: 0}\n", ("target.yml:3", "canary_command_timeout_minutes")),
        (HEAD + "pools: {a100: {rollout: {failure_budget: 3}}}\n", ("target.yml:3", "holds for the whole rollout")),
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
        "unclosed-quote", "unknown-key", "duplicate-key", "unreadable-range", "unreadable-range-of-a-pool",
        "number-as-version", "unknown-key-of-toolkits", "endless-version", "percent-over-100", "odd-digit",
        "truth-as-number", "endless-soak", "no-time", "no-time-zone", "time-without-quotes", "command-line",
        "no-command", "number-in-command", "nameless-command", "nul-in-command", "surrogate-in-command",
        "endless-argument", "endless-command", "no-time-for-command", "pool-with-fleet-rules",
        "negative", "growth", "unknown-policy", "risk-without-reason", "other-schema", "a-list", "empty",
        "python-object", "template-as-name", "path-as-name", "two-documents", "nul-byte", "deep-nesting",
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
        ("pools:\n  no-such-pool:\n    want: {}\n", 1, ("target.yml:4", "no-such-pool")),
        ("select:\n  - a100\n  - no-such-node\n", 1, ("target.yml:5", "no-such-node")),
        ("want: {no_such_component: '1.0'}\n", 1, ("target.yml:3", "no_such_component")),
        ("pools:\n  a100:\n    want:\n      drivr: '1.0'\n", 1, ("target.yml:6", "drivr", "did you mean 'driver'?")),
        ("want: {driver: {present: ['580']}}\n", 1, ("target.yml:3", "want.driver")),
        ("accept:\n  - {risk: r570-end-of-lif, because: soon}\n", 1, ("target.yml:4", "r570-end-of-lif")),
        ("want: {driver: '580.159.04'}\nrollout: {max_unavailable: '25%', canary: [no-such-node]}\n", 4,
         ("target.yml:4", "no-such-node")),
    ],
    ids=["pool", "selector", "component", "component-of-a-pool", "wrong-form", "risk", "canary"],
)
def test_unknown_names_are_refused(desk: Desk, addition: str, code: int, says: tuple[str, ...]) -> None:
    """A name that nothing has is an error of the target, not an empty plan."""
    desk.write("target.yml", HEAD + addition)
    answer = desk.refuses(*PLAN, code=code, says=says)
    assert "hint:" in answer.err


def test_an_unknown_version_has_no_path(desk: Desk) -> None:
    """A driver that no repository offers and no matrix knows: exit 4 with the component and a hint."""
    desk.write("target.yml", HEAD + "want: {driver: '999.1'}\npools:\n  v100:\n    want: {driver: '998.1'}\n")
    answer = desk.refuses(*PLAN, code=4, says=("driver", "999.1", "asked for in target.yml:3\n", "target.yml:6\n"))
    assert "hint:" in answer.err


def test_a_pools_own_rollout_keeps_what_it_does_not_write(desk: Desk) -> None:
    """A soak of one pool must not set the pool's limit back to the default."""
    desk.write("target.yml", HEAD + "want: {driver: '580.159.04'}\n"
               "rollout: {max_unavailable: 2}\npools: {a100: {rollout: {soak_minutes: 5}}}\n")
    answer = desk.planner(*PLAN, "-o", "json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["pools"]["a100"]["max_unavailable"] == 2


def test_the_review_does_not_promise_a_rollback(desk: Desk) -> None:
    """Planner never takes a node back by itself; PLAN.md must not say that it will."""
    desk.write("target.yml", HEAD + "want: {driver: '580.159.04'}\n"
               "rollout: {max_unavailable: 2, on_failure: rollback}\n")
    assert desk.planner(*PLAN).code == 0
    review = (desk.path / "bundle" / "PLAN.md").read_text(encoding="utf-8")
    assert "the rollout will halt; `on_failure: rollback` is left to a person" in review
