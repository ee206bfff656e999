"""A real Slurm on lab nodes: Debian's slurmctld, slurmd and munge. Only the GPUs are null devices."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from planner.diagnostics import Diagnostic
from planner.errors import LabError

_READY_S = 60
_CPUS = 8
_CONFIGURATION = """ClusterName=planner-lab
SlurmctldHost={controller}
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/var/lib/slurm/ctld
SlurmdSpoolDir=/var/lib/slurm/d
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
SlurmctldParameters=enable_configless
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
RebootProgram=/usr/sbin/reboot
ResumeTimeout=60
SlurmdTimeout=20
ReturnToService=1
SchedulerParameters=sched_interval=2,bf_interval=5
"""
_SLURMD_UNIT = """[Unit]
ConditionPathExists=
After=munge.service
[Service]
Delegate=no
Restart=on-failure
RestartSec=1
"""
_CGROUPS = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n"      # slurmd dies of a mixed control group tree


class Exec(Protocol):
    """Runs a command inside a node."""

    def __call__(self, node: str, *cmd: str, check: bool = True, stdin: str | None = None,
                 timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run it and return it with its output."""


def start(execute: Exec, controller: str, gpus: Mapping[str, int]) -> None:
    """Configure and start Slurm; returns when every worker is idle.

    Args:
        execute: Runs a command inside a node.
        controller: Node for slurmctld.
        gpus: Worker -> number of its GPUs.

    Raises:
        LabError: A worker is not idle in time; carries what Slurm says of it.
    """
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda node: _munge(execute, node), [controller, *gpus]))
    _write(execute, controller, "/etc/slurm/slurm.conf", configuration(controller, gpus))
    _write(execute, controller, "/etc/slurm/gres.conf", gres(gpus))
    _write(execute, controller, "/etc/slurm/cgroup.conf", _CGROUPS)
    execute(controller, "systemctl", "enable", "-q", "slurmctld")
    execute(controller, "systemctl", "restart", "slurmctld")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda node: _slurmd(execute, node, controller), gpus))
    _wait_idle(execute, controller, sorted(gpus))


def configuration(controller: str, gpus: Mapping[str, int]) -> str:
    """Return ``slurm.conf``."""
    lines = [f"NodeName={name} CPUs={_CPUS} RealMemory=1000" + (f" Gres=gpu:standin:{count}" if count else "") +
             " State=UNKNOWN\n" for name, count in sorted(gpus.items())]
    partition = f"PartitionName=gpu Nodes={','.join(sorted(gpus))} Default=YES MaxTime=INFINITE State=UP\n"
    return _CONFIGURATION.format(controller=controller) + "".join(lines) + partition


def gres(gpus: Mapping[str, int]) -> str:
    """Return ``gres.conf``: the device files that lab nodes have in place of GPUs."""
    return "".join(f"NodeName={name} Name=gpu Type=standin File=/dev/nvidia[0-{count - 1}]\n"
                   for name, count in sorted(gpus.items()) if count)


def _write(execute: Exec, node: str, path: str, text: str) -> None:
    execute(node, "sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, stdin=text)


def _munge(execute: Exec, node: str) -> None:
    execute(node, "mkdir", "-p", "/var/lib/slurm/ctld", "/var/lib/slurm/d", "/etc/slurm")
    execute(node, "rm", "-f", "/etc/slurm/plugstack.conf")
    execute(node, "systemctl", "enable", "-q", "--now", "munge")


def _slurmd(execute: Exec, node: str, controller: str) -> None:
    _write(execute, node, "/etc/default/slurmd", f"SLURMD_OPTIONS=--conf-server={controller}\n")
    _write(execute, node, "/etc/systemd/system/slurmd.service.d/planner-lab.conf", _SLURMD_UNIT)
    execute(node, "systemctl", "daemon-reload")
    execute(node, "systemctl", "enable", "-q", "slurmd")
    execute(node, "systemctl", "restart", "slurmd")


def _wait_idle(execute: Exec, controller: str, workers: list[str]) -> None:
    deadline = time.monotonic() + _READY_S
    said = ""
    while time.monotonic() < deadline:
        answer = execute(controller, "timeout", "5", "sinfo", "-h", "-N", "-o", "%N %T", check=False)
        said = answer.stdout + answer.stderr
        states = dict(line.split()[:2] for line in answer.stdout.splitlines() if len(line.split()) > 1)
        if answer.returncode == 0 and all(states.get(name) == "idle" for name in workers):
            return
        time.sleep(0.3)
    raise LabError(Diagnostic(code="lab-slurm", subject=f"node {controller}", summary="Slurm's nodes are not idle",
                              why=tuple(said.splitlines()), hint=f"planner lab exec {controller} -- sinfo -N -l"))
