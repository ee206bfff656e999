"""Inventories with broken syntax, names that would be code elsewhere, or nothing in them. No host is contacted."""

from __future__ import annotations

import json

import pytest
from hostile_desk import Desk

DISCOVER = ("discover", "-i", "hosts.yml", "--out", "new.json")


@pytest.mark.parametrize("name", [
    "{{ 7*7 }}", "{{ lookup('pipe', 'touch pwned') }}", "$(touch pwned)", "a:&b", "-oX=y"])
def test_hostile_host_names_are_refused_before_any_contact(desk: Desk, name: str) -> None:
    """A name becomes an SSH argument, a pattern and a file name: what is not a plain name is refused, and named."""
    desk.write("hosts.yml", f"all:\n  hosts:\n    {json.dumps(name)}: {{ansible_connection: local}}\n")
    desk.refuses(*DISCOVER, code=1, says=("name", "hint:"))
    assert not (desk.path / "pwned").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("all:\n  hosts:\n    gpu-01: {\n", ("hosts.yml", "hint:")),
        ("all:\n  hosts:\n   gpu-01:\n  bad indent\n", ("hosts.yml:",)),
        ("", ("hosts.yml", "hint:")),
        ("all: {hosts: {}}\n", ("hint:",)),
        ("all:\n  hosts:\n    gpu-01: {planner_pol: a100}\n", ("planner_pol", "hint:")),
    ],
    ids=["cut", "indent", "empty", "no-hosts", "misspelt-key"],
)
def test_a_broken_inventory_is_refused(desk: Desk, text: str, says: tuple[str, ...]) -> None:
    """Ansible would warn and go on with what it understood; planner does not plan for half a fleet."""
    desk.write("hosts.yml", text)
    desk.refuses(*DISCOVER, code=1, says=says)


def test_a_missing_inventory_is_named(desk: Desk) -> None:
    """Ansible would fall back to an empty inventory."""
    desk.refuses(*DISCOVER, code=1, says=("hosts.yml", "hint:"))
