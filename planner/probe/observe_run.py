"""Bounded acts on the node: commands and functions in their own process group, files read up to a limit.

Nothing here raises because something is missing or hangs; the answer says so instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from typing import Any

from .children import KILL_GRACE_S, bounded, die_with

__all__ = ["bounded", "read_text", "run_command"]

OUTPUT_MAX = 4_000_000      # characters kept of one command's output
FILE_MAX = 262_144          # bytes kept of one file


def run_command(argv: list[str], timeout_s: float = 20.0, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run one command and return ``{"argv", "rc", "stdout", "stderr"[, "error"]}``.

    Args:
        argv: Exact argument vector; never a shell string.
        timeout_s: The whole process group is killed after this many seconds.
        env: Environment on top of the probe's own; the locale is always C.UTF-8.

    Returns:
        ``rc`` is None when the command could not be run or did not end; ``error`` is then ``not-found``,
        ``timeout`` or the system's words.
    """
    answer: dict[str, Any] = {"argv": list(argv), "rc": None, "stdout": "", "stderr": ""}
    if os.sep not in argv[0] and shutil.which(argv[0], path=_search_path()) is None:
        answer["error"] = "not-found"
        return answer
    parent = os.getpid()
    merged = dict(os.environ, LC_ALL="C.UTF-8", LANGUAGE="C", PATH=_search_path(), **(env or {}))
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=merged, start_new_session=True, preexec_fn=lambda: die_with(parent))
    except OSError as exc:
        answer["error"] = exc.strerror or str(exc)
        return answer
    try:
        out, err = child.communicate(timeout=timeout_s)
        answer["rc"] = child.returncode
    except subprocess.TimeoutExpired:
        answer["error"] = "timeout"
        _kill_group(child.pid)
        try:
            out, err = child.communicate(timeout=KILL_GRACE_S)
        except subprocess.TimeoutExpired:
            out, err = b"", b""
    answer["stdout"] = out[:OUTPUT_MAX].decode("utf-8", "replace")
    answer["stderr"] = err[:OUTPUT_MAX].decode("utf-8", "replace")
    return answer


def _search_path() -> str:
    """Return PATH with the administrator's directories, which sudo or a login may leave out."""
    have = os.environ.get("PATH", "")
    extra = [d for d in ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin")
             if d not in have.split(":")]
    return ":".join([have, *extra]) if have else ":".join(extra)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(OSError, ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def read_text(path: str, limit: int = FILE_MAX) -> str | None:
    """Return a file's text up to ``limit`` bytes, or None when it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(limit).decode("utf-8", "replace")
    except OSError:
        return None
