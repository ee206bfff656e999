"""Runs one program of the node for a check: bounded, killed together with the probe, nothing kept in a pipe."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from typing import Any, Callable

from .children import die_with, end_group

OUTPUT_BYTES = 1_000_000    # kept of each stream, the end of it


def run_program(argv: list[str], timeout_s: float, environment: dict[str, str] | None = None,
                folder: str | None = None) -> dict[str, Any]:
    """Run a program in a session of its own.

    Args:
        argv: Exact arguments; never a shell string.
        timeout_s: After this time its whole process group is killed.
        environment: On top of this process's own.
        folder: Where it runs.

    Returns:
        ``rc`` (None: it did not run or did not end), ``stdout``, ``stderr`` and, where there is one, ``error``:
        ``timeout``, ``hung`` (it cannot even be killed) or the system's words.
    """
    answer: dict[str, Any] = {"rc": None, "stdout": "", "stderr": ""}
    # Files and no pipes: a grandchild that lives on would hold a pipe open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder,
                                     env=dict(os.environ, LC_ALL="C.UTF-8", **(environment or {})),
                                     start_new_session=True, preexec_fn=_mortal(os.getpid()))
        except (OSError, subprocess.SubprocessError) as exc:
            answer["error"] = getattr(exc, "strerror", None) or str(exc)
            return answer
        deadline = time.monotonic() + timeout_s
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if child.poll() is None:
            answer["error"] = "timeout" if end_group(child) else "hung"
        answer["rc"] = child.returncode if "error" not in answer else None
        with contextlib.suppress(OSError):      # what it started goes with it
            os.killpg(child.pid, signal.SIGKILL)
        for name, stream in (("stdout", out), ("stderr", err)):
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - OUTPUT_BYTES))
            answer[name] = stream.read().decode("utf-8", "replace")
    return answer


def _mortal(parent: int) -> Callable[[], None]:
    def mark() -> None:
        die_with(parent)

    return mark
