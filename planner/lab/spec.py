"""What a lab node is to be, as callers say it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from planner.diagnostics import Diagnostic
from planner.errors import LabError

Manager = Literal["apt", "dnf"]

NODES_MAX: Final = 200      # of one lab: its bridge has 254 addresses
NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
RESERVED = frozenset({"head", "repo", "localhost", "all", "ungrouped"})

OS_RELEASE: Final[Mapping[Manager, Mapping[str, str]]] = {
    "apt": {"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_ID": "22.04", "NAME": "Planner lab stand-in",
            "PRETTY_NAME": "Stand-in for Ubuntu 22.04 (planner lab, Debian userland)"},
    "dnf": {"ID": "rhel", "ID_LIKE": "fedora", "VERSION_ID": "9.4", "PLATFORM_ID": "platform:el9",
            "NAME": "Planner lab stand-in", "PRETTY_NAME": "Stand-in for RHEL 9 (planner lab, Debian userland)"},
}
# A node that is given no kernel package still runs some kernel.
KERNEL: Final[Mapping[Manager, str]] = {"apt": "6.8.0-85-generic", "dnf": "5.14.0-503.11.1.el9_5.x86_64"}


@dataclass(frozen=True)
class NodeSpec:
    """One node of a lab.

    Attributes:
        name: Host name, lower case.
        manager: Package manager, and with it the flavour of the system: apt | dnf.
        gpus: Stand-in GPUs; 0 makes a node without any (a scheduler's head, for example).
        gpu_name: What NVML calls them; nodes append `` (stand-in)``.
        compute_capability: Of every GPU, ``9.0``.
        memory_mib: Memory of one GPU.
        nvswitch: The GPUs work only after a fabric manager of the loaded driver's version has started.
        packages: Stand-in packages installed at the start, name -> exact version.
        links: Symbolic links set at the start, path -> target.
        kernel: Release of the kernel that runs at the start; empty: the newest among ``packages``, else a default.
        os_release: Keys over those of the flavour's ``/etc/os-release``.
        machine_vars: Variables of this host in the inventory.
    """

    name: str
    manager: Manager = "apt"
    gpus: int = 8
    gpu_name: str = "NVIDIA H100 80GB HBM3"
    compute_capability: str = "9.0"
    memory_mib: int = 81559
    nvswitch: bool = False
    packages: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""
    os_release: Mapping[str, str] = field(default_factory=dict)
    machine_vars: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what no node can be.

        Raises:
            LabError: The name, package manager, number of GPUs, a link or an os-release key is unusable.
        """
        bad = ""
        if not NAME.match(self.name) or self.name in RESERVED:
            bad = f"{self.name!r} is no name for a lab node (lower case letters, digits, dashes)"
        elif self.manager not in OS_RELEASE:
            bad = f"package manager {self.manager!r}; there are apt and dnf"
        elif not 0 <= self.gpus <= 16:
            bad = f"{self.gpus} GPUs; a node has 0 to 16"
        elif any(not path.startswith("/") or "=" in path or ".." in path for path in self.links):
            bad = "links must be absolute paths"
        elif any(not re.fullmatch(r"[A-Z_]+", k) or set(v) & set('"\\\n') for k, v in self.os_release.items()):
            bad = "os_release has a key or value that the file cannot hold"
        if bad:
            raise LabError(Diagnostic(code="lab-spec", subject=f"node {self.name}", summary=bad,
                                      hint="planner lab up --help"))


def os_release_text(spec: NodeSpec) -> str:
    """Return the text of the node's ``/etc/os-release``; it says that it is a stand-in."""
    keys = {**OS_RELEASE[spec.manager], **spec.os_release}
    if "stand-in" not in keys["PRETTY_NAME"].lower():
        keys["PRETTY_NAME"] = f"Stand-in for {keys['PRETTY_NAME']} (planner lab, Debian userland)"
    return "".join(f'{key}="{value}"\n' for key, value in keys.items())
