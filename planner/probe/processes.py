"""Who uses the GPUs' device files, which tasks are stuck in the driver, and whether MPS runs: all from /proc."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from .node import Node

SCAN_SECONDS = 3.0
LOOK_SECONDS = 31.0         # a task that stands still for less may be in a long but ordinary call
LOOK_EVERY_SECONDS = 0.2
LISTED_MAX = 64
DEVICE = re.compile(r"^/dev/(nvidia\d+|nvidiactl|nvidia-uvm|nvidia-caps/.*|dxg)$")
OF_DRIVER = re.compile(r"nvidia|nv_queue|nvswitch|^uvm|^UVM|_nv\d|^nv_|^os_acquire|^rm_")


def read_processes(node: Node, own: int | None = None, look_s: float = LOOK_SECONDS) -> dict[str, Any]:
    """Return holders of device files, stuck tasks and MPS.

    Args:
        node: The machine.
        own: Process whose whole tree is left out; by default the process that this one was forked from.
        look_s: Where a task in state D is found, look at it for at most so many seconds, until it runs again.

    Returns:
        ``holders`` ({"pid", "comm", "devices"}), ``unreadable`` (processes whose files another user may not see),
        ``stuck`` ({"pid", "tid", "comm", "wchan", "by", "seconds"}: tasks in state D that did not run once in the
        ``seconds`` that they were looked at), ``mps`` ({"control", "server"}), ``cut`` (the scan ran out of time).
    """
    deadline = time.monotonic() + SCAN_SECONDS
    pids = [int(name) for name in node.names("/proc") if name.isdigit()]
    parents = {pid: _parent(node, pid) for pid in pids}
    mine = _tree(parents, own if own is not None else own_root(node))
    answer: dict[str, Any] = {"holders": [], "unreadable": 0, "stuck": [], "mps": {"control": False, "server": False},
                              "cut": False}
    stuck: list[dict[str, Any]] = []
    for pid in sorted(parents):
        if pid in mine:
            continue
        if time.monotonic() > deadline:
            answer["cut"] = True
            break
        comm = (node.text("/proc/%d/comm" % pid) or "").strip()
        if comm.startswith("nvidia-cuda-mps"):
            _mps(node, pid, answer["mps"])
        devices = _devices(node, pid)
        if devices is None:
            answer["unreadable"] += 1
        elif devices and len(answer["holders"]) < LISTED_MAX:
            answer["holders"].append({"pid": pid, "comm": comm, "devices": devices})
        stuck += _in_d(node, pid, bool(devices))
    answer["stuck"] = _still(node, stuck[:LISTED_MAX], look_s)
    return answer


def mps_seen(node: Node) -> dict[str, bool]:
    """Return whether an MPS control daemon and server run."""
    seen = {"control": False, "server": False}
    for name in node.names("/proc"):
        if name.isdigit() and (node.text("/proc/%s/comm" % name) or "").startswith("nvidia-cuda-mps"):
            _mps(node, int(name), seen)
    return seen


def own_root(node: Node) -> int:
    """Return the process that this one was forked from: a fork keeps the command line of its parent."""
    pid = os.getpid()
    mine = node.text("/proc/%d/cmdline" % pid)
    while mine:
        parent = _parent(node, pid)
        if parent is None or parent <= 1 or node.text("/proc/%d/cmdline" % parent) != mine:
            break
        pid = parent
    return pid


def _stat(node: Node, path: str) -> list[str] | None:
    """Return the fields after the name: state, parent …; a name may hold blanks and brackets."""
    text = node.text(path)
    if not text or ")" not in text:
        return None
    return text[text.rindex(")") + 1:].split()


def _parent(node: Node, pid: int) -> int | None:
    fields = _stat(node, "/proc/%d/stat" % pid)
    return int(fields[1]) if fields and len(fields) > 1 and fields[1].isdigit() else None


def _tree(parents: dict[int, int | None], root: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        if parent is not None:
            children.setdefault(parent, []).append(pid)
    found, todo = set(), [root]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children.get(pid, [])
    return found


def _devices(node: Node, pid: int) -> list[str] | None:
    """Return the GPU device files that a process holds open; None where its files may not be seen."""
    folder = node.path("/proc/%d/fd" % pid)
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError:
        return None
    found = set()
    for name in names:
        try:
            target = os.readlink("%s/%s" % (folder, name))
        except OSError:
            continue
        if DEVICE.match(target):
            found.add(target)
    return sorted(found)


def _mps(node: Node, pid: int, seen: dict[str, bool]) -> None:
    """The kernel cuts names at 15 characters: control and server differ only in the command line."""
    program = (node.text("/proc/%d/cmdline" % pid) or "").split("\0")[0]
    seen["server" if os.path.basename(program).endswith("server") else "control"] = True


def _in_d(node: Node, pid: int, holds: bool) -> list[dict[str, Any]]:
    """Return tasks of a process in state D that have to do with the driver; threads only of those that hold a GPU."""
    tasks = [name for name in node.names("/proc/%d/task" % pid) if name.isdigit()] if holds else []
    found = []
    for tid in [int(name) for name in tasks] or [pid]:
        base = "/proc/%d/task/%d" % (pid, tid) if tasks else "/proc/%d" % pid
        fields = _stat(node, base + "/stat")
        if not fields or fields[0] != "D":
            continue
        comm = (node.text(base + "/comm") or "").strip()
        wchan = (node.text(base + "/wchan") or "").strip().strip("0")
        by = ("comm" if OF_DRIVER.search(comm) else "wchan" if OF_DRIVER.search(wchan)
              else "stack" if "nvidia" in (node.text(base + "/stack") or "") else "holder" if holds else "")
        if by:
            found.append({"pid": pid, "tid": tid, "comm": comm, "wchan": wchan, "by": by, "base": base})
    return found


def _still(node: Node, stuck: list[dict[str, Any]], look_s: float) -> list[dict[str, Any]]:
    """Keep looking: a call into the driver that lasts milliseconds is in state D too, and runs on.

    No file of /proc tells since when a task is in state D, and the scheduler's clock leaves out time stolen by a host.
    """
    begun = time.monotonic()
    left = [(task, _switches(node, task["base"])) for task in stuck]
    while left and time.monotonic() - begun < look_s:
        time.sleep(min(LOOK_EVERY_SECONDS, look_s))
        left = [(task, switches) for task, switches in left if _stands(node, task["base"], switches)]
    seconds = round(time.monotonic() - begun, 1)
    return [dict({key: value for key, value in task.items() if key != "base"}, seconds=seconds) for task, _ in left]


def _stands(node: Node, base: str, switches: list[str]) -> bool:
    fields = _stat(node, base + "/stat")
    return fields is not None and fields[:1] == ["D"] and _switches(node, base) == switches


def _switches(node: Node, base: str) -> list[str]:
    return re.findall(r"ctxt_switches:\s*(\d+)", node.text(base + "/status") or "")
