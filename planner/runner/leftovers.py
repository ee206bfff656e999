"""Finds and ends processes of a run whose controller is gone, by the mark in their environment.

Ansible's workers have sessions of their own: they outlive a cancelled or killed ansible-playbook, and go on acting.
Only processes of this machine's own process namespace and of this user are looked at; nodes look after their own.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

MARK = "PLANNER_RUN_ID"
POLL_S = 0.2
_IDLE_MASTER = re.compile(r"ssh: .*\[mux\]$")     # a kept connection acts on nothing, and ends by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """One process that still carries the mark of a run."""

    pid: int
    run_id: str
    command: str


def find_leftovers(prefix: str) -> tuple[Leftover, ...]:
    """Return the processes here whose run id starts with ``prefix``, this process and its parents left out."""
    try:
        own = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return ()       # no /proc as Linux has it; there is nothing to look through
    kin = _ancestors()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in kin:
            continue
        try:
            run_id = _run_id((entry / "environ").read_bytes())
            if not run_id.startswith(prefix) or not run_id or (entry / "ns/pid").readlink() != own:
                continue
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if not _IDLE_MASTER.match(command):
                found.append(Leftover(pid=int(entry.name), run_id=run_id, command=command))
        except OSError:
            continue    # ended meanwhile, or somebody else's
    return tuple(sorted(found, key=lambda item: item.pid))


def wait_for_leftovers(prefix: str, *, limit_s: float) -> tuple[Leftover, ...]:
    """Wait until no process of the run is left; return those that are still there after ``limit_s`` seconds."""
    deadline = time.monotonic() + limit_s
    while (left := find_leftovers(prefix)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return left


def end_leftovers(prefix: str, *, grace_s: float = 5.0) -> tuple[Leftover, ...]:
    """Ask the run's processes to end, then force them; return those that did not."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for item in find_leftovers(prefix):
            try:
                os.kill(item.pid, sign)
            except OSError:
                continue
        if not wait_for_leftovers(prefix, limit_s=grace_s):
            return ()
    return find_leftovers(prefix)


def _run_id(environ: bytes) -> str:
    marks = [item for item in environ.split(b"\0") if item.startswith(MARK.encode() + b"=")]
    return marks[-1].partition(b"=")[2].decode(errors="replace") if marks else ""


def _ancestors() -> set[int]:
    """Return this process and those above it: one planner started by another must not end its parent."""
    kin: set[int] = set()
    pid = os.getpid()
    while pid > 1 and pid not in kin:
        kin.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return kin
