"""Functions in processes of their own, side by side: what hangs or crashes takes only its child with it.

A child answers with one JSON text. It dies with its parent, whatever kills that; one that stays in state D after
SIGKILL is abandoned and called hung. Nothing here waits without a limit.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import time
from typing import Any, Callable, Mapping

KILL_GRACE_S = 2.0          # time for a killed process group to go; one in D state stays and is abandoned
POLL_S = 0.2                # a grandchild may hold the pipe open, so the child's own end is looked for, too
_PR_SET_PDEATHSIG = 1


class _Child:
    def __init__(self, function: Callable[[], Any], others: list[int]) -> None:
        reader, writer = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _answer(function, parent, [*others, reader], writer)
        os.close(writer)
        self.reader, self.data, self.reaped, self.status = reader, b"", False, 0

    def read(self) -> bool:
        """Take what is there; return whether the child has said all it will say."""
        chunk = os.read(self.reader, 1 << 16)
        self.data += chunk
        return not chunk

    def ended(self) -> bool:
        if not self.reaped:
            pid, self.status = os.waitpid(self.pid, os.WNOHANG)
            self.reaped = bool(pid)
        return self.reaped

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(OSError):      # before it has a group of its own
            os.kill(self.pid, signal.SIGKILL)
        deadline = time.monotonic() + KILL_GRACE_S
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.01)

    def result(self, in_time: bool) -> tuple[Any, str | None]:
        if not in_time:
            return None, "timeout" if self.reaped else "hung: it cannot be killed"
        try:
            value = json.loads(self.data.decode("utf-8"))
        except ValueError:
            number = os.WTERMSIG(self.status) if self.reaped and os.WIFSIGNALED(self.status) else 0
            return None, "killed by signal %d" % number if number else "ended without an answer"
        return (value["result"], None) if "result" in value else (None, str(value.get("error", "failed")))


def run_all(functions: Mapping[Any, Callable[[], Any]], timeout_s: float) -> dict[Any, tuple[Any, str | None]]:
    """Run functions at the same time, each in a forked child, and return what each returned.

    Args:
        functions: Key -> a function whose result JSON can carry.
        timeout_s: Children that have not ended by then are killed with all they started.

    Returns:
        Key -> (result, None), or (None, reason): ``timeout``, ``hung: …`` (it could not even be killed),
        ``killed by signal N``, ``ended without an answer``, or the words of the exception that was raised.
    """
    children: dict[Any, _Child] = {}
    for key, function in functions.items():
        children[key] = _Child(function, [child.reader for child in children.values()])
    deadline = time.monotonic() + timeout_s
    open_ = dict(children)
    while open_ and time.monotonic() < deadline:
        left = max(0.0, min(POLL_S, deadline - time.monotonic()))
        ready, _, _ = select.select([child.reader for child in open_.values()], [], [], left)
        for key, child in list(open_.items()):
            ended = child.ended()       # asked before reading: what it wrote is then all there
            if (child.reader in ready and child.read()) or (ended and not _readable(child.reader)):
                del open_[key]
    for child in children.values():
        if not child.ended():
            child.kill()
        else:       # it may have left processes behind
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
        os.close(child.reader)
    return {key: child.result(key not in open_) for key, child in children.items()}


def _readable(reader: int) -> bool:
    return bool(select.select([reader], [], [], 0)[0])


def bounded(function: Callable[[], Any], timeout_s: float, fallback: Any) -> tuple[Any, str | None]:
    """Run one function in a forked child.

    Returns:
        (result, None), or (``fallback``, reason) when the child failed or did not end within ``timeout_s`` seconds;
        the reasons are those of ``run_all``.
    """
    value, reason = run_all({"": function}, timeout_s)[""]
    return (value, None) if reason is None else (fallback, reason)


def end_group(child: subprocess.Popen[bytes]) -> bool:
    """Kill a command with its whole process group; return whether the command itself is gone."""
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)
    deadline = time.monotonic() + KILL_GRACE_S
    while child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return child.poll() is not None


def die_with(parent: int) -> None:
    """Let the kernel kill this process as soon as ``parent``, which started it, is gone."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:      # it went before the kernel was told
        os._exit(1)


def _answer(function: Callable[[], Any], parent: int, others: list[int], writer: int) -> None:
    """Be the child: run the function, write its result, end."""
    code = 1
    try:
        os.setsid()
        die_with(parent)
        for other in others:
            os.close(other)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        try:
            text = json.dumps({"result": function()})
        except Exception as exc:
            text = json.dumps({"error": "%s: %s" % (type(exc).__name__, exc)})
        data = text.encode("utf-8")
        while data:
            data = data[os.write(writer, data):]
        code = 0
    finally:
        os._exit(code)
