"""Doctor: each lack is found and has a cure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from planner.facts.doctor import controller_checks, node_checks, run_doctor
from planner.facts.inventory import Host, Inventory
from planner.runner.port import HostOutcome
from tests.facts.documents import ubuntu_node
from tests.facts.fakes import FakeRunner

SLURM = Host("gpu-01", {"scheduler": "slurm"})


def _lacks(change: Callable[[dict[str, Any]], None], received: float = 1000.0) -> dict[str, str]:
    document = ubuntu_node()
    change(document)
    checks = node_checks(SLURM, document, received)
    assert all(c.hint for c in checks if c.status != "ok")
    return {c.name: c.status for c in checks if c.status != "ok"}


def test_a_ready_node_lacks_nothing() -> None:
    """Every check is made and passes."""
    assert _lacks(lambda d: None) == {}
    names = {c.name for c in node_checks(SLURM, ubuntu_node(), 1000.0)}
    assert names == {
        "access",
        "python",
        "become",
        "systemd",
        "package manager",
        "repositories",
        "space",
        "clock",
        "slurm",
    }


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        (lambda d: d["probe"].update(python="3.6.8"), {"python": "missing"}),
        (lambda d: d["probe"].update(uid=1000), {"become": "missing"}),
        (lambda d: d["access"]["tools"].update({"systemd-run": None}), {"systemd": "missing"}),
        (lambda d: d["disk"]["present"].remove("/run/systemd/system"), {"systemd": "missing"}),
        (lambda d: d["files"].update({"/etc/os-release": 'ID="sles"\n'}), {"package manager": "missing"}),
        (lambda d: d["access"].update(repositories=[]), {"repositories": "missing"}),
        (
            lambda d: d["access"]["repositories"].append({"url": "http://x", "ok": False, "error": "404"}),
            {"repositories": "missing"},
        ),
        (lambda d: d["access"]["space"].update({"/var": 10}), {"space /var": "missing"}),
        (lambda d: d["access"]["space"].update({"/": 2_000}), {"space /": "warn"}),
        (lambda d: d.update(clock=1000.0 - 86_400), {"clock": "missing"}),
        (lambda d: d["access"]["scheduler"].update(scontrol=None), {"slurm": "missing"}),
    ],
)
def test_each_lack_is_found(change: Callable[[dict[str, Any]], None], lacks: dict[str, str]) -> None:
    """One thing is taken away, one check tells."""
    assert _lacks(change) == lacks


def test_slurm_commands_may_live_on_another_host() -> None:
    """A node whose drains are delegated needs no client commands of its own."""
    document = ubuntu_node()
    document["access"]["scheduler"] = {}
    delegated = Host("gpu-01", {"scheduler": "slurm"}, settings=("slurm_host",))
    assert "slurm" not in {c.name for c in node_checks(delegated, document, None)}
    assert "slurm" in {c.name for c in node_checks(SLURM, document, None) if c.status == "missing"}


@pytest.mark.usefixtures("stand_in_zip")
def test_unreachable_nodes_are_missing_access() -> None:
    """A node that cannot be reached is one lack, not nine."""
    inventory = Inventory("hosts.yml", (Host("a"), Host("b")), "sha256:0")
    runner = FakeRunner({"a": ubuntu_node()}, {"b": (HostOutcome.UNREACHABLE, {"msg": "Connection refused"})})
    checks = run_doctor(inventory, runner, clock=lambda: 1000.5)
    assert runner.request_document == {"access": True, "packages": []}
    of_b = [c for c in checks if c.subject == "b"]
    assert [(c.name, c.status) for c in of_b] == [("access", "missing")]
    assert "Connection refused" in of_b[0].detail
    assert {c.status for c in checks if c.subject == "a"} == {"ok"}


def test_the_controller_needs_ssh_only_for_remote_nodes() -> None:
    """A one-machine fleet needs no SSH client; a Kubernetes fleet needs kubectl."""
    local = Inventory("i", (Host("me", connection={"ansible_connection": "local"}),), "")
    remote = Inventory("i", (Host("x", {"scheduler": "kubernetes"}),), "")
    assert {c.name for c in controller_checks(local)} == {"ansible-playbook", "ansible-inventory"}
    assert {c.name for c in controller_checks(remote)} == {"ansible-playbook", "ansible-inventory", "ssh", "kubectl"}
