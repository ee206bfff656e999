"""What readers of a node look through: a root directory and a way to run commands, so that tests bring their own."""

from __future__ import annotations

import glob
import os
import platform
import re
from typing import Any, Callable, Mapping

from .observe_run import read_text, run_command

VERSION = re.compile(r"(?<![\w.])(\d{2,4}\.\d+(?:\.\d+)?)(?![\w.])")


class Node:
    """A machine as its files and programs show it.

    Attributes:
        root: Put before every absolute path; empty for the machine itself.
        run: Runs one command, bounded; see ``observe_run.run_command``.
        environment: Environment variables to look at.
    """

    def __init__(self, root: str = "", run: Callable[[list[str], float], dict[str, Any]] = run_command,
                 environment: Mapping[str, str] | None = None) -> None:
        self.root = root.rstrip("/")
        self.run = run
        self.environment = dict(os.environ if environment is None else environment)

    def path(self, path: str) -> str:
        """Return where an absolute path of the node lies here."""
        return self.root + path

    def text(self, path: str) -> str | None:
        """Return a file's text, or None where it cannot be read."""
        return read_text(self.path(path))

    def names(self, path: str) -> list[str]:
        """Return the sorted names in a directory; none where it cannot be read."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Return whether something lies at the path."""
        return os.path.exists(self.path(path))

    def glob(self, pattern: str) -> list[str]:
        """Return the node's own names of what matches, sorted."""
        return [found[len(self.root):] for found in sorted(glob.glob(self.path(pattern)))]

    def real(self, path: str) -> str:
        """Return the node's own name of what a path leads to."""
        found = os.path.realpath(self.path(path))
        base = os.path.realpath(self.root) if self.root else ""
        return found[len(base):] if base and found.startswith(base + "/") else found

    def release(self) -> str:
        """Return the release of the kernel that runs."""
        return (self.text("/proc/sys/kernel/osrelease") or platform.release()).strip()


def text_of(value: Any) -> str:
    """Return a plain string of what a C library gave."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
