"""Faults of a lab's nodes: what a machine, its GPUs, its network or a person may do at a bad moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planner.diagnostics import Diagnostic
from planner.errors import LabError

# Kept on the node as a file, over reboots: name -> what it does, with its argument.
NODE_FILES: Final[Mapping[str, str]] = {
    "gpu-lost": "[GPU] this GPU has fallen off the bus",
    "gate-wrong": "[GPU] one element of every kernel's result is wrong on this GPU",
    "gpu-busy": "[GPU PID] a foreign process uses this GPU",
    "ecc": "GPU COUNT uncorrected memory errors",
    "wall-clock": "times of kernels are the processor's own, another one in every run",
    "slow-percent": "PERCENT [GPU] kernels and copies are so much slower",
    "jitter-percent": "PERCENT [GPU] their times spread so far",
    "cuinit-code": "CODE cuInit answers with this code",
    "smi-hang": "[SECONDS] NVML and nvidia-smi hang at their start",
    "fm-fail": "the fabric manager fails",
    "dkms-fail": "the driver's module cannot be built",
    "dkms-seconds": "SECONDS the module's build takes",
    "modprobe-fail": "modules cannot be loaded",
    "module-busy": "modules cannot be unloaded",
    "kernel-post-fail": "installing a kernel package fails half way",
}
# Done from outside.
OUTSIDE: Final[Mapping[str, str]] = {
    "power-off": "cut the power", "power-on": "give it back", "power-cycle": "cut the power for a moment",
    "link-down": "pull the network cable", "link-up": "put it back",
    "slow-link": "KBIT_PER_SECOND limit the network", "fast-link": "no limit again",
    "no-boot": "never come back from the next boot", "boot-delay": "SECONDS of firmware before each boot",
    "disk-full": "[MIB] leave this much free space (0)", "disk-free": "the disk's usual size again",
    "clock": "SECONDS the clock is off, for programs started from now on",
    "sshd-kill": "kill sshd and every session",
    "clear": "[FAULT] end one fault that is kept on the node, or all of them",
}
REPOSITORY: Final[Mapping[str, str]] = {
    "503": "PART_OF_PATH answer with an error", "hang": "PART_OF_PATH never answer",
    "slow": "PART_OF_PATH:BYTES_PER_SECOND", "cut": "PART_OF_PATH break off in the middle",
    "corrupt": "PART_OF_PATH send one wrong bit", "clear": "no fault any more",
}


def fault_table() -> str:
    """Return all faults with their arguments, for ``--help``."""
    rows = [f"  {name:<17}{text}" for table in (NODE_FILES, OUTSIDE) for name, text in sorted(table.items())]
    rows += ["", "\b", "On the package server (NODE is repo):"]
    rows += [f"  {name:<17}{text}" for name, text in sorted(REPOSITORY.items())]
    return "\n".join(rows)


def unknown_fault(node: str, what: str) -> LabError:
    """Return the error for a fault that does not exist."""
    known = sorted(REPOSITORY if node == "repo" else {**NODE_FILES, **OUTSIDE})
    return LabError(Diagnostic(code="lab-fault", subject=f"{node} {what}", summary="there is no such fault",
                               why=(", ".join(known),), hint="planner lab fault --help"))


def repository_fault(what: str, argument: str) -> str:
    """Return the server's line for a fault.

    Raises:
        LabError: No such fault, or its argument is missing.
    """
    if what not in REPOSITORY or what == "clear":
        raise unknown_fault("repo", what)
    part, _, rate = argument.partition(":")
    if not part or (what == "slow" and not rate.isdigit()):
        raise LabError(Diagnostic(code="lab-fault", subject=f"repo {what}", summary=f"it needs {REPOSITORY[what]}",
                                  hint="planner lab fault --help"))
    return " ".join([what, part, rate]).strip() + "\n"
