"""The user's own command, bounded: its exit status, its output cut to what is worth keeping, nothing left running."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from typing import Any, Iterator

from .children import POLL_S, die_with, end_group

SCHEMA = "planner.canary/1"
SECONDS, SECONDS_MOST = 900.0, 86400
KEPT_BYTES = 32768          # of each stream, from its beginning and from its end


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return ``planner.canary/1``: what ``run_canary`` returns, with ``host`` and ``nonce`` of the request.

    Args:
        request: ``argv`` (list of texts), ``seconds`` (900), ``host`` and ``nonce``.
    """
    base = {"schema": SCHEMA, "host": str(request.get("host", "")), "nonce": str(request.get("nonce", ""))}
    argv, seconds = request.get("argv"), request.get("seconds", SECONDS)
    if not isinstance(argv, list) or not argv or not all(isinstance(word, str) for word in argv):
        return dict(base, argv=[], exit_code=None, status="error", reason="argv is no list of texts")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= SECONDS_MOST:
        words = "seconds is %r, must be a number up to %d" % (seconds, SECONDS_MOST)
        return dict(base, argv=argv, exit_code=None, status="error", reason=words)
    return dict(base, **run_canary(argv, float(seconds)))


class _Kept:
    """The beginning and the end of a stream of any length."""

    def __init__(self) -> None:
        self.head, self.tail, self.size = b"", b"", 0

    def take(self, chunk: bytes) -> None:
        self.size += len(chunk)
        room = KEPT_BYTES - len(self.head)
        self.head += chunk[:room]
        self.tail = (self.tail + chunk[max(room, 0):])[-KEPT_BYTES:]

    def text(self) -> str:
        left_out = self.size - len(self.head) - len(self.tail)
        cut = "\n[%d bytes left out]\n" % left_out if left_out else ""
        return self.head.decode("utf-8", "replace") + cut + self.tail.decode("utf-8", "replace")


def run_canary(argv: list[str], seconds: float) -> dict[str, Any]:
    """Run one command with the environment as it is, and end all it started.

    Args:
        argv: Exact argument vector; never a shell string.
        seconds: After so many the command and its group are killed.

    Returns:
        ``status``: ``ok`` (it ended by itself; ``exit_code`` tells how, minus the signal's number where one ended it),
        ``timeout``, ``hung`` (it could not even be killed) or ``error`` with ``reason``; ``stdout`` and ``stderr``, cut
        in the middle; ``seconds``. Never raises because the command is missing or fails.
    """
    started, parent = time.monotonic(), os.getpid()
    answer: dict[str, Any] = {"argv": list(argv), "exit_code": None, "stdout": "", "stderr": ""}
    if not argv:
        return dict(answer, status="error", reason="no command")
    try:
        # Whatever the node's locale is, the command gets the bytes that the target has.
        child = subprocess.Popen([word.encode() for word in argv], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                                 preexec_fn=lambda: die_with(parent))
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        return dict(answer, status="error", reason=str(exc))
    assert child.stdout is not None
    assert child.stderr is not None
    kept = {child.stdout.fileno(): _Kept(), child.stderr.fileno(): _Kept()}
    out, err = kept.values()
    with _guarded(child.pid):
        in_time = _follow(child, dict(kept), started + seconds)
        reaped = end_group(child)
    for stream in (child.stdout, child.stderr):
        stream.close()
    status = "ok" if in_time else "timeout" if reaped else "hung"
    return dict(answer, status=status, exit_code=child.returncode if in_time else None, stdout=out.text(),
                stderr=err.text(), bytes=[out.size, err.size], seconds=round(time.monotonic() - started, 3),
                **({} if in_time else {"reason": "no end after %g s" % seconds}))


@contextlib.contextmanager
def _guarded(group: int) -> Iterator[None]:
    """Let a process of its own kill the command's whole group as soon as this process is gone, whatever ends it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.close(writer)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            null = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):        # the caller's pipes must not stay open for this process's sake
                os.dup2(null, stream)
            if not os.read(reader, 1):
                os.killpg(group, signal.SIGKILL)
        finally:
            os._exit(0)
    os.close(reader)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.write(writer, b"x")
        os.close(writer)
        os.waitpid(pid, 0)


def _follow(child: subprocess.Popen[bytes], open_: dict[int, _Kept], deadline: float) -> bool:
    """Read until the command has ended; a process that it left behind may hold its streams open for ever."""
    while time.monotonic() < deadline:
        ended = child.poll() is not None        # asked before reading: what it wrote is then all there
        ready, _, _ = select.select(list(open_), [], [], 0 if ended else min(POLL_S, deadline - time.monotonic()))
        for number in ready:
            chunk = os.read(number, 1 << 16)
            open_[number].take(chunk)
            if not chunk:
                del open_[number]
        if ended and not ready:
            return True
        if not open_ and not ended:
            time.sleep(0.01)
    return False
