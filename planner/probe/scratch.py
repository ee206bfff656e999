"""A private directory for what a gate must have on disk; it is gone afterwards, also when the gate is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from typing import Iterator


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """Lend a directory that is TMPDIR and HOME of everything started meanwhile.

    A process of its own waits for this one to end, in whatever way, and removes the directory then.

    Raises:
        OSError: There is no place for one.
    """
    reader, writer = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.close(told)
        _sweep(reader, tell)
    os.close(reader)
    os.close(tell)
    with os.fdopen(told, "rb") as stream:
        path = os.fsdecode(stream.read())
    if not path:
        os.close(writer)
        os.waitpid(pid, 0)
        raise OSError("no private directory can be made below %s" % tempfile.gettempdir())
    before = {name: os.environ.get(name) for name in ("TMPDIR", "HOME")}
    os.environ.update(TMPDIR=path, HOME=path)
    tempfile.tempdir = None
    try:
        yield path
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        tempfile.tempdir = None
        os.close(writer)
        os.waitpid(pid, 0)


def _sweep(reader: int, tell: int) -> None:
    """Be the sweeper: make the directory, wait until nobody holds the other end, remove it, end.

    The directory is made here, so that no moment comes at which it is there and nobody would remove it.
    """
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):        # the caller's pipes must not stay open for this process's sake
            os.dup2(null, stream)
        path = tempfile.mkdtemp(prefix="planner-gate-")
        with contextlib.suppress(OSError):
            os.write(tell, os.fsencode(path))
        os.close(tell)
        with contextlib.suppress(OSError):
            os.read(reader, 1)
        # Children that are being killed may still write: what appears meanwhile is removed, too.
        for _ in range(50):
            shutil.rmtree(path, ignore_errors=True)
            if not os.path.lexists(path):
                break
    finally:
        os._exit(0)
