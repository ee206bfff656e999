"""Checks access before anything else: what planner needs of controller and nodes, with a cure for each lack."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from planner.facts.collect import FORKS, ask_nodes
from planner.facts.inventory import Host, Inventory
from planner.facts.parse.system import package_family, parse_os_release
from planner.runner.port import HostEvent, PlaybookRunner

CONTROLLER = "controller"
SKEW_MAX_S = 60.0
OLDEST_PYTHON = (3, 8)
# Free MiB: below the first number nothing can be installed, below the second a driver with a toolkit may not fit.
SPACE_MIB = {"/": (256, 10_240), "/var": (256, 4_096), "/boot": (64, 256), "/tmp": (32, 256)}  # noqa: S108  # a mount point

Status = Literal["ok", "warn", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at. ``missing`` stops a rollout, ``warn`` may."""

    subject: str
    name: str
    status: Status
    detail: str = ""
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the JSON form; keys are stable."""
        return {
            "subject": self.subject,
            "check": self.name,
            "status": self.status,
            "detail": self.detail,
            "hint": self.hint,
        }


def run_doctor(
    inventory: Inventory,
    runner: PlaybookRunner,
    *,
    clock: Callable[[], float],
    forks: int = FORKS,
    on_event: Callable[[HostEvent], None] | None = None,
) -> tuple[Check, ...]:
    """Look at the controller and every node; sorted as looked at, the controller first.

    Args:
        inventory: Nodes to look at.
        runner: Runs the probe there; nothing on the nodes is changed.
        clock: Seconds since the epoch on the controller.
        forks: Nodes looked at together.
        on_event: Called for every event, for progress.

    Raises:
        FactsError: Ansible itself failed before any node was asked.
    """
    checks = list(controller_checks(inventory))
    answers = ask_nodes(
        inventory, runner, request={"packages": [], "access": True}, forks=forks, clock=clock, on_event=on_event
    )
    for host in inventory.hosts:
        document = answers.documents.get(host.name)
        if document is None:
            refusal = answers.refusals[host.name]
            checks.append(
                Check(subject=host.name, name="access", status="missing", detail=refusal.reason, hint=refusal.hint)
            )
        else:
            checks += node_checks(host, document, answers.received.get(host.name))
    return tuple(checks)


def controller_checks(inventory: Inventory) -> tuple[Check, ...]:
    """Return what the controller has of the tools that a rollout over this inventory needs."""
    checks = [
        _tool(name, "pip install ansible-core ansible-runner") for name in ("ansible-playbook", "ansible-inventory")
    ]
    if any(not host.local for host in inventory.hosts):
        checks.append(_tool("ssh", "install the OpenSSH client"))
    if any(host.declared.get("scheduler") == "kubernetes" for host in inventory.hosts):
        checks.append(_tool("kubectl", "install kubectl and point KUBECONFIG at the cluster"))
    return tuple(checks)


def _tool(name: str, hint: str) -> Check:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    return Check(
        subject=CONTROLLER,
        name=name,
        status="ok" if found else "missing",
        detail=found or "not found",
        hint="" if found else hint,
    )


def node_checks(host: Host, document: Mapping[str, Any], received: float | None) -> list[Check]:
    """Judge one node's answer; pure.

    Args:
        host: The node as the inventory has it.
        document: What the probe said, with its ``access`` part.
        received: Controller's clock when the answer came; None: the clock is not judged.
    """
    access = document.get("access", {})

    def check(name: str, good: bool, detail: str, hint: str, *, bad: Status = "missing") -> Check:
        return Check(
            subject=host.name, name=name, status="ok" if good else bad, detail=detail, hint="" if good else hint
        )

    python = str(document.get("probe", {}).get("python", ""))
    uid = document.get("probe", {}).get("uid")
    tools = access.get("tools", {})
    present = document.get("disk", {}).get("present", ())
    family = package_family(parse_os_release(document.get("files", {}).get("/etc/os-release", "")))
    manager = {"apt": "apt-get", "dnf": "dnf"}.get(family, "")
    result = [
        check("access", True, "local" if host.local else "ssh", ""),
        check("python", _tuple(python) >= OLDEST_PYTHON, python or "unknown", "install Python 3.8 or newer"),
        check("become", uid == 0, "root" if uid == 0 else f"uid {uid}", "allow this user to become root (sudo)"),
        check(
            "systemd",
            bool(tools.get("systemd-run")) and "/run/systemd/system" in present,
            "runs as pid 1" if "/run/systemd/system" in present else "does not run here",
            "planner runs its steps as systemd units: boot the node with systemd",
        ),
        check(
            "package manager",
            bool(manager and tools.get(manager)),
            manager or "not recognised",
            "planner changes packages through apt or dnf only",
        ),
    ]
    result += _repositories(access.get("repositories", ()), check)
    result += _space(access.get("space", {}), check)
    if received is not None and isinstance(document.get("clock"), (int, float)):
        skew = document["clock"] - received
        result.append(
            check(
                "clock",
                abs(skew) <= SKEW_MAX_S,
                f"{skew:+.0f} s against the controller",
                "set the clock: package signatures and leases depend on it (timedatectl set-ntp true)",
            )
        )
    if host.declared.get("scheduler") == "slurm" and "slurm_host" not in host.settings:
        found = access.get("scheduler", {}).get("scontrol")
        result.append(
            check("slurm", bool(found), found or "no scontrol", "install Slurm's client commands on the node")
        )
    return result


def _repositories(repositories: Any, check: Callable[..., Check]) -> list[Check]:
    if not repositories:
        return [
            check("repositories", False, "none is configured", "add the repositories that carry the target versions")
        ]
    bad = [r for r in repositories if not r.get("ok")]
    if not bad:
        return [check("repositories", True, f"{len(repositories)} reachable", "")]
    return [
        check(
            "repositories",
            False,
            f"{r.get('url')}: {r.get('error') or 'not reachable'}",
            "reach it from the node, or take it out of the node's configuration",
        )
        for r in bad
    ]


def _space(space: Mapping[str, int], check: Callable[..., Check]) -> list[Check]:
    found = []
    for place, (least, enough) in SPACE_MIB.items():
        free = space.get(place)
        if free is None:
            continue
        if free < enough:
            found.append(
                check(
                    f"space {place}",
                    False,
                    f"{free} MiB free",
                    f"make room below {place}",
                    bad="missing" if free < least else "warn",
                )
            )
    return found or [check("space", True, ", ".join(f"{p} {space[p]} MiB" for p in sorted(space)), "")]


def _tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
