"""Leases and marks on a node, the turn of a step, the next boot, records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import planner_node as node  # type: ignore[attr-defined]

from tests.emit.conftest import load_module

MINE = {"rollout": "r", "owner": "me", "token": 3, "since": "then"}


def params(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    return {"rollout": "r", "owner": "me", "token": 3, "machine_id": "", "state_dir": str(tmp_path), **changes}


@pytest.mark.parametrize(("rollout", "owner", "token", "word"), [
    ("other", "me", 9, "rollout r of me"), ("r", "me", 2, "older"), ("r", "you", 2, "older"),
    ("r", "you", 3, "token=4"),
])
def test_a_lease_is_refused(rollout: str, owner: str, token: int, word: str) -> None:
    """Another rollout, an older token, or another owner with the same token may not act."""
    with pytest.raises(node.LeaseError, match=word):
        node.decide_lease(MINE, rollout, owner, token)


def test_the_same_rollout_enters_again_and_a_newer_token_takes_over() -> None:
    assert node.decide_lease(MINE, "r", "me", 3) == MINE
    taken = node.decide_lease(MINE, "r", "you", 4)
    assert (taken["owner"], taken["token"]) == ("you", 4)


def test_the_lease_file_is_written_renewed_and_released(tmp_path: Path) -> None:
    assert node.hold_lease(params(tmp_path), False, False)[1] is True
    assert node.hold_lease(params(tmp_path), False, True)[1] is False
    assert node.hold_lease(params(tmp_path, token=4), False, True)[1] is True
    with pytest.raises(node.LeaseError):
        node.release_lease(params(tmp_path))
    assert node.release_lease(params(tmp_path, token=4)) is True
    assert node.release_lease(params(tmp_path, token=4)) is False


def test_acting_without_a_lease_is_refused_except_in_check_mode(tmp_path: Path) -> None:
    with pytest.raises(node.LeaseError, match="preflight"):
        node.hold_lease(params(tmp_path), False, True)
    assert node.hold_lease(params(tmp_path), True, True)[1] is False
    assert not (tmp_path / "lease.json").exists()


def test_another_machine_under_the_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "machine_id", lambda: "aa")
    with pytest.raises(node.LeaseError, match="another machine"):
        node.hold_lease(params(tmp_path, machine_id="bb"), False, False)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_lease_is_nobodys(tmp_path: Path, text: str) -> None:
    """What cannot be read is never overwritten."""
    (tmp_path / "lease.json").write_text(text)
    with pytest.raises(node.LeaseError, match=r"lease\.json"):
        node.hold_lease(params(tmp_path), False, False)
    assert (tmp_path / "lease.json").read_text() == text


def test_marks_of_rollouts_are_kept_apart(tmp_path: Path) -> None:
    node.write_mark(params(tmp_path, rollout="old"), "s1", {"state": "done"})
    assert node.write_mark(params(tmp_path), "s1", {"state": "started"}) is True
    assert node.write_mark(params(tmp_path), "s1", {"state": "started"}) is False
    assert node.write_mark(params(tmp_path), "drained", None) is False
    assert node.read_marks(params(tmp_path)) == {"s1": {"state": "started"}}
    assert node.write_mark(params(tmp_path), "s1", None) is True
    assert json.loads((tmp_path / "marks.json").read_text()) == {"old": {"s1": {"state": "done"}}, "r": {}}


STEPS = [{"id": "s1", "disruption": "reboot", "quick_gate": True},
         {"id": "s2", "disruption": "drain", "quick_gate": False},
         {"id": "s3", "disruption": "drain", "quick_gate": False}]
DONE: dict[str, Any] = {"s1": {"state": "done"}, "s1-boot": {"state": "done"}, "s1-gate": {"verdict": "pass"}}


@pytest.mark.parametrize(("marks", "word"), [
    ({}, "not done"), ({"s1": {"state": "applied"}}, "not done"), ({"s1": {"state": "done"}}, "not come back"),
    ({**DONE, "s1-gate": {"verdict": "fail"}}, "gate"),
    ({"s1": {"state": "done"}, "s1-boot": {"state": "done"}}, "gate"),
])
def test_no_step_begins_before_reboot_and_gate_of_the_one_before(marks: dict[str, Any], word: str) -> None:
    passed, unready = node.step_turn(marks, STEPS, "s2")
    assert not passed
    assert len(unready) == 1
    assert word in unready[0]


def test_a_step_may_begin_when_all_before_are_finished() -> None:
    assert node.step_turn({}, STEPS, "s1") == (False, [])
    assert node.step_turn(DONE, STEPS, "s2") == (False, [])
    assert node.step_turn({**DONE, "s2": {"state": "done"}}, STEPS, "s3") == (False, [])


def test_a_step_is_behind_us_once_a_later_one_has_begun() -> None:
    """Going over it again would take the node back to versions that the later step replaced."""
    assert node.step_turn({**DONE, "s2": {"state": "started"}}, STEPS, "s1") == (True, [])


KERNELS = ["6.8.0-85-generic", "6.8.0-100-generic", "6.8.0-85-generic-64k"]


@pytest.mark.parametrize(("options", "expected"), [
    ({}, "6.8.0-100-generic"),
    ({"grubby": "/boot/vmlinuz-5.14.0-503.el9.x86_64\n"}, "5.14.0-503.el9.x86_64"),
    ({"grub_default": "GRUB_DEFAULT=saved\n", "grub_environment": "saved_entry=Linux 6.8.0-85-generic\n"},
     "6.8.0-85-generic"),
    ({"grub_default": 'GRUB_DEFAULT="1>Linux, with 6.8.0-85-generic-64k"\n'}, "6.8.0-85-generic-64k"),
    ({"grub_default": "GRUB_DEFAULT=0\n", "grub_environment": "saved_entry=6.8.0-85-generic\n"}, "6.8.0-100-generic"),
    ({"grub_environment": "next_entry=6.8.0-85-generic\n"}, "6.8.0-85-generic"),
    ({"grub_default": "GRUB_DEFAULT=0\nGRUB_DEFAULT='Linux 6.8.0-85-generic'\n"}, "6.8.0-85-generic"),
])
def test_the_kernel_that_will_boot(options: dict[str, str], expected: str) -> None:
    boot = load_module("planner_boot")
    assert boot.choose_kernel(KERNELS, "6.1.0", **options) == expected
    assert boot.choose_kernel([], "6.1.0") == "6.1.0"


def test_a_boot_into_another_kernel_than_planned_is_told() -> None:
    """Before the module is looked for: another kernel has another module."""
    boot = load_module("planner_boot")
    assert boot.find_problems("580.1", "nvidia", "6.8.0-100-generic", "580.1", "", False, "6.8.0-100-generic") == []
    (problem,) = boot.find_problems("580.1", "nvidia", "6.8.0-45-generic", "", "", False, "6.8.0-100-generic")
    assert problem.startswith("kernel 6.8.0-45-generic will boot, 6.8.0-100-generic is planned: ")
    assert boot.find_problems("", "nvidia", "6.8.0-45-generic", "", "", False, "6.8.0-100-generic") == [problem]


def test_a_reboot_without_a_built_or_signed_module_is_told() -> None:
    boot = load_module("planner_boot")
    assert boot.find_problems("580.1", "nvidia", "6.8", "580.1", "", False) == []
    assert boot.find_problems("", "nvidia", "6.8", "", "", True) == []
    assert "not built" in boot.find_problems("580.1", "nvidia", "6.8", "", "", False)[0]
    assert "not signed" in boot.find_problems("580.1", "nvidia", "6.8", "580.1", "", True)[0]
    assert boot.find_problems("580.1", "nvidia", "6.8", "580.1", "DKMS key", True) == []


def test_kernel_packages_are_held_and_nothing_else() -> None:
    lease = load_module("planner_lease")
    listing = "\n".join(f"{name}\t{status}" for name, status in (
        ("linux-image-6.8.0-85-generic", "installed"), ("linux-generic", "installed"), ("linux-libc-dev", "installed"),
        ("linux-headers-6.1.0-1-amd64", "config-files"), ("linux-image-generic-hwe-22.04", "installed"),
        ("nvidia-driver-580", "installed")))
    assert lease.kernel_packages(listing) == ["linux-generic", "linux-image-6.8.0-85-generic",
                                              "linux-image-generic-hwe-22.04"]


class Guarded:
    """A node with two kernel packages and one timer, and the programs that hold, release and stop them."""

    def __init__(self, tmp_path: Path) -> None:
        self.check_mode, self.params = False, params(tmp_path)
        self.held: set[str] = set()
        self.enabled = {"apt-daily-upgrade.timer"}
        self.installed = ["linux-image-generic", "linux-nvidia-hwe-22.04"]

    def get_bin_path(self, name: str, required: bool = False) -> str:
        return name

    def run_command(self, argv: list[str], check_rc: bool = False) -> tuple[int, str, str]:
        act, names = argv[1], set(argv[2:]) - {"--now"}
        if act == "-W":
            return 0, "".join(f"{name}\tinstalled\n" for name in self.installed), ""
        if act == "showhold":
            return 0, "\n".join(sorted(self.held)), ""
        if act == "is-enabled":
            return 0, "enabled" if names <= self.enabled else "disabled", ""
        if act in ("hold", "unhold"):
            assert names <= set(self.installed), "apt-mark does not know this package"
        self.held = self.held | names if act == "hold" else self.held - names if act == "unhold" else self.held
        self.enabled = self.enabled - names if act == "disable" else self.enabled | names if act == "enable" else \
            self.enabled
        return 0, "", ""


def test_the_guard_is_finished_after_a_crash_and_undone_whole(tmp_path: Path) -> None:
    """The mark is written before the act: what it names may not be done yet."""
    lease, machine = load_module("planner_lease"), Guarded(tmp_path)
    node.write_mark(machine.params, "held", machine.installed)
    node.write_mark(machine.params, "timers", ["apt-daily-upgrade.timer"])
    assert lease.guard(machine) is True
    assert (machine.held, machine.enabled) == (set(machine.installed), set())
    assert lease.guard(machine) is False
    machine.installed.remove("linux-image-generic")      # somebody removed it meanwhile; the hold went with it
    machine.held.discard("linux-image-generic")
    assert lease.unguard(machine) is True
    assert (machine.held, machine.enabled) == (set(), {"apt-daily-upgrade.timer"})


def test_holds_of_others_stay(tmp_path: Path) -> None:
    lease, machine = load_module("planner_lease"), Guarded(tmp_path)
    machine.held = {"linux-image-generic"}
    assert lease.guard(machine) is True
    assert lease.unguard(machine) is True
    assert machine.held == {"linux-image-generic"}


def test_a_wave_needs_a_passing_record_of_the_same_rollout_from_every_host(tmp_path: Path) -> None:
    record = load_module("planner_record")
    for host, content in (("a", {"rollout": "r", "verdict": "pass"}), ("b", {"rollout": "old", "verdict": "pass"}),
                          ("c", {"rollout": "r", "verdict": "overridden"})):
        assert record.keep(str(tmp_path / "w1" / f"{host}.json"), content, False) is True
        assert record.keep(str(tmp_path / "w1" / f"{host}.json"), content, False) is False
    assert record.missing_records(str(tmp_path), "r", "w1", ["a", "b", "c", "d"]) == [
        "b: its record is of rollout old", "c: overridden", "d: no record"]
