"""What the reboot role decides: the role's own conditions, run by Ansible on hosts that only say what they would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "playbooks" / "roles" / "planner_reboot" / "tasks" / "main.yml"
DECIDE = "Decide whether the node has still to boot"
BEFORE = "Stop when the next boot would not bring the planned kernel and driver"
AFTER = "Stop when another kernel runs than planned"
OLD, NEW = "6.8.0-45-generic", "6.8.0-100-generic"


def host(*, planned: str = NEW, before: str = OLD, following: str = NEW, after: str = NEW, boot: str = "b1",
         mark: str = "b1", passed: bool = False) -> dict[str, Any]:
    """Return a host's variables: kernels before, next and after, the present boot and that of the mark."""
    problems = [f"kernel {following} will boot, {planned} is planned"] if planned not in ("", following) else []
    return {
        "planner_reboot_step": {"id": "s1", "disruption": "reboot"}, "planner_reboot_driver": "",
        "planner_reboot_kernel": planned,
        "planner_reboot_turn": {"passed": passed, "marks": {"s1": {"state": "done", "boot_id": mark}}},
        "planner_reboot_before": {"running_kernel": before, "next_kernel": following, "loaded": "", "boot_id": boot,
                                  "problems": problems},
        "planner_reboot_after": {"running_kernel": after, "loaded": ""},
    }


# name: (host, whether it reboots, the task that stops it)
CASES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "comes-up-as-planned": (host(), True, ""),
    "would-boot-another": (host(following=OLD), True, BEFORE),
    "came-up-with-another": (host(after=OLD), True, AFTER),
    "booted-already": (host(before=NEW, boot="b2"), False, ""),
    "booted-another-before": (host(boot="b2"), True, ""),
    "nothing-changed-here-and-runs": (host(before=NEW, following="6.8.0-101-generic", mark=""), False, ""),
    "no-kernel-planned": (host(planned="", following=OLD, after=OLD), True, ""),
    "no-kernel-planned-and-booted": (host(planned="", boot="b2", after=OLD), False, ""),
    "long-behind": (host(passed=True, after=OLD), False, ""),
}


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run the role's three decisions once for all hosts; return host -> what came of them."""
    directory = tmp_path_factory.mktemp("reboot")
    tasks = {task["name"]: task for task in yaml.safe_load(ROLE.read_text(encoding="utf-8"))}
    told = "{{ {'needed': planner_reboot_needed, 'before': before, 'after': after} | to_json }}"
    place = "{{ playbook_dir }}/{{ inventory_hostname }}.json"
    keep = {"name": "Tell", "ansible.builtin.copy": {"content": told, "dest": place}}
    play = {"hosts": "all", "gather_facts": False, "connection": "local", "tasks": [
        tasks[DECIDE], {**tasks[BEFORE], "register": "before", "ignore_errors": True},
        {**tasks[AFTER], "register": "after", "ignore_errors": True}, keep]}
    (directory / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    settings = {"ansible_python_interpreter": sys.executable}
    (directory / "hosts.json").write_text(json.dumps(
        {"all": {"hosts": {name: {**settings, **case[0]} for name, case in CASES.items()}}}), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    ended = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts.json", "play.yml"], cwd=directory, check=False,
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return {name: json.loads((directory / f"{name}.json").read_text(encoding="utf-8")) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_what_is_planned_boots_and_nothing_else(name: str, heard: dict[str, dict[str, Any]]) -> None:
    _, reboots, stops = CASES[name]
    assert heard[name]["needed"] is reboots
    failed = [task for task, key in ((BEFORE, "before"), (AFTER, "after")) if heard[name][key].get("failed")]
    assert failed == [stops] * bool(stops)
    if stops == AFTER:
        assert heard[name]["after"]["msg"] == f"kernel {OLD} runs, {NEW} was planned"
