"""Bounded acts on the node: commands and functions in their own process group, files read up to a limit.

Nothing here raises because something is missing or hangs; the answer says so instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from typing import Any, Callable

OUTPUT_MAX = 4_000_000      # characters kept of one command's output
FILE_MAX = 262_144          # bytes kept of one file
KILL_GRACE_S = 2.0          # time for a killed process group to go; one in D state stays and is abandoned


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
    merged = dict(os.environ, LC_ALL="C.UTF-8", LANGUAGE="C", PATH=_search_path(), **(env or {}))
    try:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 env=merged, start_new_session=True)
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


def bounded(function: Callable[[], Any], timeout_s: float, fallback: Any) -> tuple[Any, str | None]:
    """Run ``function`` in a forked child and return its JSON-able result.

    A library call or a network mount that hangs takes only the child with it. Returns ``(result, None)``, or
    ``(fallback, reason)`` when the child failed or did not end within ``timeout_s`` seconds.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(function, reader, writer)
    os.close(writer)
    data, ended = _drain(reader, time.monotonic() + timeout_s)
    os.close(reader)
    if not ended:
        _kill_group(pid)
    reaped = _reap(pid)
    if not ended:
        return fallback, "timeout" if reaped else "hung: cannot be killed"
    try:
        value = json.loads(data.decode("utf-8"))
    except ValueError:
        return fallback, "ended without an answer"
    return (value["result"], None) if "result" in value else (fallback, value.get("error", "failed"))


def _child(function: Callable[[], Any], reader: int, writer: int) -> None:
    code = 1
    try:
        os.setsid()
        os.close(reader)
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


def _drain(reader: int, deadline: float) -> tuple[bytes, bool]:
    """Read until the child closes its end; returns (bytes, whether it did in time)."""
    chunks: list[bytes] = []
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return b"".join(chunks), False
        ready, _, _ = select.select([reader], [], [], left)
        if not ready:
            return b"".join(chunks), False
        chunk = os.read(reader, 65536)
        if not chunk:
            return b"".join(chunks), True
        chunks.append(chunk)


def _reap(pid: int) -> bool:
    deadline = time.monotonic() + KILL_GRACE_S
    while time.monotonic() < deadline:
        done, _ = os.waitpid(pid, os.WNOHANG)
        if done:
            return True
        time.sleep(0.01)
    return False


def read_text(path: str, limit: int = FILE_MAX) -> str | None:
    """Return a file's text up to ``limit`` bytes, or None when it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read(limit).decode("utf-8", "replace")
    except OSError:
        return None
