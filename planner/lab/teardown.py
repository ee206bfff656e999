"""Takes a lab down, whatever state it is in: half started, killed, or already half gone. Never another lab's things."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from pathlib import Path

from planner.diagnostics import Diagnostic
from planner.errors import LabError
from planner.lab import registry
from planner.lab.processes import end, in_namespaces, is_alive, marked
from planner.lab.registry import Entry
from planner.lab.tools import mounts_below, run

_NETNS = Path("/run/netns")
_ROUNDS = 5                 # a supervisor may start one more process while it is being ended


def take_down(entry: Entry) -> None:
    """End every process of a lab and remove its mounts, namespaces, interfaces, control groups and files.

    Calling it twice does no harm.

    Raises:
        LabError: Something could not be removed; the lab stays recorded, so that it can be tried again. Or another
            process is starting the lab just now.
    """
    directory = Path(entry.directory) if entry.directory else None
    starter = registry.starter(entry)
    if starter not in (None, os.getpid()):
        raise LabError(Diagnostic(code="lab-starting", subject=f"lab {entry.id}",
                                  summary=f"process {starter} is starting it right now",
                                  hint=f"wait, or end that process and then: planner lab down --id {entry.id}"))
    if directory is not None:
        for node in (directory / "nodes").glob("*"):
            (node / "stop").touch()
    for _ in range(_ROUNDS):
        if not (running := _processes(entry)):
            break
        end(running)
    _unmount(directory)
    _network(entry)
    _control_groups(entry)
    if directory is not None:
        shutil.rmtree(directory / "nodes", ignore_errors=True)
        for name in ("known_hosts", "inventory.json", "id_ed25519", "id_ed25519.pub", "repository", "repository-faults",
                     "server.log", "lab.json"):
            (directory / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()
    rest = leftovers(entry)
    if rest:
        raise LabError(Diagnostic(code="lab-not-gone", subject=f"lab {entry.id}", summary="some of it is still there",
                                  why=rest, hint=f"planner lab down --id {entry.id}"))
    registry.release(entry)
    registry.restore_limits()


def leftovers(entry: Entry) -> tuple[str, ...]:
    """Return what of a lab is on this machine, one line each; empty when nothing is."""
    lines = [f"process {pid}: {_command(pid)}" for pid in sorted(_processes(entry))]
    if entry.directory:
        lines += [f"mount {path}" for path in mounts_below(Path(entry.directory))]
    lines += [f"network namespace {path.name}" for path in _namespaces(entry)]
    lines += [f"interface {name}" for name in _interfaces(entry)]
    lines += [f"control group {path}" for path in _groups(entry)]
    return tuple(lines)


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    return b" ".join(words).decode(errors="replace").strip()[:120]


def _processes(entry: Entry) -> set[int]:
    nets = set()
    for path in _namespaces(entry):
        with contextlib.suppress(OSError):
            nets.add(f"net:[{path.stat().st_ino}]")
    found = (marked(entry.token) | in_namespaces("net", nets)) - {os.getpid()}
    return {pid for pid in found if is_alive(pid)}


def _namespaces(entry: Entry) -> list[Path]:
    return sorted(_NETNS.glob(f"lab{entry.id}-*")) if _NETNS.is_dir() else []


def _interfaces(entry: Entry) -> list[str]:
    own = re.compile(rf"l{entry.id}v\d+|{entry.bridge}")
    return sorted(path.name for path in Path("/sys/class/net").iterdir() if own.fullmatch(path.name))


def _groups(entry: Entry) -> list[Path]:
    roots = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
    return [path for root in roots for path in sorted(root.glob(f"lab{entry.id}-*")) if path.is_dir()]


def _unmount(directory: Path | None) -> None:
    for path in reversed(mounts_below(directory)) if directory is not None and directory.exists() else []:
        if run("umount", path, check=False).returncode:
            run("umount", "-l", path, check=False)


def _network(entry: Entry) -> None:
    for path in _namespaces(entry):
        run("ip", "netns", "del", path.name, check=False)
    for name in _interfaces(entry):
        run("ip", "link", "del", name, check=False)


def _control_groups(entry: Entry) -> None:
    for group in _groups(entry):
        for folder, _, _ in sorted(os.walk(group), reverse=True):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
