"""``planner rehearse``: a sound bundle passes, one whose role does nothing fails, and a simulation proves nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.emit.assets import load_assets
from planner.emit.render import render_bundle
from planner.emit.write import read_bundle, write_bundle
from planner.facts.schema import DriverFacts, KernelFacts
from planner.lab import registry
from tests.schedule.machines import NEW, OLD, ubuntu, write

pytestmark = pytest.mark.lab

EXAMPLES = Path(__file__).parents[2] / "examples"
CHANGE = "roles/planner_change/tasks/main.yml"
TARGET = """schema: planner.target/1
name: rehearsed
policy: production
want: {driver: "DRIVER"}
rollout: {max_unavailable: 2, soak_minutes: 30}
"""


def planner(directory: Path, *words: str | Path, code: int) -> subprocess.CompletedProcess[str]:
    """Run the command line and assert its exit code."""
    done = subprocess.run([sys.executable, "-m", "planner", *map(str, words)], cwd=directory, check=False, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=400)
    assert done.returncode == code, f"{words} ended with {done.returncode}, not {code}:\n{done.stdout}\n{done.stderr}"
    return done


def make_bundle(directory: Path, example: str, driver: str) -> Path:
    """Plan one step, a driver, for an example fleet."""
    (directory / "target.yml").write_text(TARGET.replace("DRIVER", driver), encoding="utf-8")
    planner(directory, "plan", "--facts", EXAMPLES / example / "facts.json", "--target", "target.yml", "--out",
            "bundle", code=0)
    return directory / "bundle"


def with_changed_role(bundle: Path, out: Path, change: Callable[[str], str]) -> Path:
    """Write the bundle's plan again with one role changed; manifest and plays fit each other."""
    assets = dict(load_assets())
    text = assets[CHANGE].decode()
    assets[CHANGE] = change(text).encode()
    assert assets[CHANGE].decode() != text
    write_bundle(render_bundle(read_bundle(bundle), assets), out)
    return out


def report(bundle: Path) -> dict[str, Any]:
    """Return the rehearsal's report; the one for people says the same verdict."""
    folder = bundle / "records" / "rehearsal"
    document: dict[str, Any] = json.loads((folder / "rehearsal.json").read_text(encoding="utf-8"))
    verdict = "passed" if document["passed"] else "FAILED"
    assert (folder / "report.md").read_text(encoding="utf-8").startswith(f"# Rehearsal of rehearsed: {verdict}")
    return document


def labs_of_rehearsals() -> list[str]:
    """Return what rehearsals have left running; labs of tests that run beside this one are not theirs."""
    return [entry.directory for entry in registry.entries() if "planner-rehearse-" in entry.directory]


def does_nothing(role: str) -> str:
    """Return the role with a task that says something where packages were changed, and a mark that says done."""
    begin, end = role.index("  planner_step:\n"), role.index("  when: not planner_change_turn.passed\n")
    role = role[:begin] + "  ansible.builtin.debug:\n    msg: the packages are fine as they are\n" + role[end:]
    return role.replace("{{ planner_change_done.mark.boot_id }}", "").replace(
        "planner_change_done.mark.state != 'done'", "true")


@pytest.mark.usefixtures("lab_machine")
def test_a_sound_bundle_passes_on_lab_nodes_in_the_state_of_the_fleet(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, "04-dnf", "580.159.04")
    told = planner(tmp_path, "rehearse", bundle, code=0)
    assert "rehearsal passed in" in told.stdout
    assert "NVIDIA's own code is not" in told.stdout
    found = report(bundle)
    assert [(node["state"], node["gate"], node["boots"], node["missed"]) for node in found["nodes"]] == [
        ("done", "pass", 1, [])] * 2
    assert [(ran["command"], ran["code"]) for ran in found["exit_codes"]] == [
        ("planner apply --canary", 8), ("planner approve && planner resume", 0)]
    assert CHANGE in found["assets"]
    assert labs_of_rehearsals() == []
    planner(tmp_path, "show", bundle, code=0)                  # the report does not count as a change of the bundle


@pytest.mark.usefixtures("lab_machine")
def test_a_node_that_was_upgraded_behind_its_back_is_rebooted_and_proved(tmp_path: Path) -> None:
    """Libraries of one driver, the module of another: NVML answers nobody, so its GPUs are not known before.

    And the kernel that boots is not the one that runs.
    """
    kernels = {f"linux-image-5.15.0-{n}-generic": f"5.15.0-{n}.{n}" for n in (151, 161)}
    driver = DriverFacts(loaded=OLD, on_disk=NEW, userspace=NEW, package=f"{NEW}-0ubuntu0.22.04.1", owner="apt",
                         flavour="open", nvml_error="Driver/library version mismatch")
    write(tmp_path, ubuntu(version=NEW, flavour="open", driver=driver, gpus=(), nvswitch=None, packages=kernels,
                           kernel=KernelFacts(running="5.15.0-151-generic", next_boot="5.15.0-161-generic")))
    (tmp_path / "target.yml").write_text(TARGET.replace("DRIVER", NEW) + "select: [n1]\n", encoding="utf-8")
    planner(tmp_path, "plan", "--facts", "facts.json", "--target", "target.yml", "--out", "bundle", code=0)
    assert "boots kernel 5.15.0-161-generic" in (tmp_path / "bundle" / "PLAN.md").read_text(encoding="utf-8")
    told = planner(tmp_path, "rehearse", tmp_path / "bundle", code=0)
    assert "rehearsal passed in" in told.stdout
    found = report(tmp_path / "bundle")
    (node,) = found["nodes"]
    assert (node["state"], node["gate"], node["boots"], node["missed"]) == ("done", "pass", 1, [])


@pytest.mark.usefixtures("lab_machine")
def test_a_role_that_changes_nothing_fails_and_the_report_says_what_is_missed(tmp_path: Path) -> None:
    sound = make_bundle(tmp_path, "02-one-node", "580.159.03")
    broken = with_changed_role(sound, tmp_path / "broken", does_nothing)
    told = planner(tmp_path, "rehearse", broken, code=7)
    assert "rehearsal FAILED in" in told.stdout
    found = report(broken)
    node, = found["nodes"]
    assert not found["passed"]
    assert node["state"] == "failed"
    assert "driver is 550.163.01, planned 580.159.03" in node["missed"]
    assert found["trouble"]
    assert labs_of_rehearsals() == []


def test_a_bundle_changed_on_disk_is_not_rehearsed(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, "02-one-node", "580.159.03")
    with (bundle / CHANGE).open("a", encoding="utf-8") as file:
        file.write("# a small correction\n")
    told = planner(tmp_path, "rehearse", bundle, code=1)
    assert f"{bundle / CHANGE}: this file was changed after the bundle was written" in told.stderr
    assert not (bundle / "records").exists()


def test_a_simulated_rehearsal_says_that_it_proves_nothing(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, "01-two-generations", "580.159.04")
    told = planner(tmp_path, "rehearse", bundle, "--simulate", "1", code=0)
    assert "simulated, nothing proved" in told.stdout
    found = report(bundle)
    assert (found["simulated"], found["proves"], found["passed"]) == (True, "simulated, nothing proved", True)
    assert {node["state"] for node in found["nodes"]} == {"done"}
    assert "simulated, nothing proved" in (bundle / "records/rehearsal/report.md").read_text(encoding="utf-8")
