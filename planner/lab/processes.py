"""Processes of a lab, found by what they carry and not by what was written down: marks and namespaces."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

from planner.lab.registry import MARK

_STEP_S = 0.02


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def marked(token: str) -> set[int]:
    """Return the processes whose environment carries a lab's token, this one left out."""
    wanted = f"{MARK}={token}".encode()
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found - {os.getpid()} if token else set()


def in_namespaces(kind: str, ids: Collection[str]) -> set[int]:
    """Return the processes in any of the given namespaces.

    Args:
        kind: net | pid.
        ids: As the links under ``/proc/PID/ns`` read: ``net:[4026532290]``.
    """
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str((folder / "ns" / kind).readlink()) in ids:
                found.add(int(folder.name))
    return found


def init_of(supervisor: int) -> int | None:
    """Return the machine's pid of a node's pid 1: the descendant of its supervisor that is 1 in its own namespace."""
    todo = [supervisor]
    while todo:
        parent = todo.pop()
        for child in _children(parent):
            if _inner_pid(child) == 1:
                return child
            todo.append(child)
    return None


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def _inner_pid(pid: int) -> int | None:
    """Return a process's number in its innermost namespace, None when it has only one."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    numbers = next((line.split()[1:] for line in text.splitlines() if line.startswith("NSpid:")), [])
    return int(numbers[-1]) if len(numbers) > 1 else None


def end(pids: Collection[int], timeout_s: float = 10.0) -> set[int]:
    """Kill processes and wait until they are gone; returns those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + timeout_s
    left = {pid for pid in pids if is_alive(pid)}
    while left and time.monotonic() < deadline:
        time.sleep(_STEP_S)
        for pid in left:
            with contextlib.suppress(OSError, ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        left = {pid for pid in left if is_alive(pid)}
    return left
