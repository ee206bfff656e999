"""Which CUDA libraries a running process has mapped, with versions from the names of the mapped files."""

from __future__ import annotations

import os
import re
from typing import Any, Callable

from .observe_run import read_text

SCHEMA = "planner.probe-pid/1"
_WANTED = re.compile(r"^lib(cuda|cudart|cudadebugger|nvidia-|nvrtc|nvJitLink|cublas|cufft|curand|cusolver|cusparse"
                     r"|cudnn|nccl|nvinfer|nvshmem|cupti|cufile|nvfatbin|torch_cuda|tensorflow_framework)")
_VERSION = re.compile(r"\.so\.([0-9][0-9.]*)")
_DELETED = " (deleted)"


def read_pid(pid: int) -> dict[str, Any]:
    """Return the CUDA libraries that process ``pid`` has mapped.

    Returns:
        ``{"schema", "pid", "command", "libraries": [{"name", "version", "path", "deleted"}], "error"}``; ``error`` is
        None when the process could be read. ``deleted`` means that the file was replaced under the process, which
        still runs the old one.
    """
    answer: dict[str, Any] = {"schema": SCHEMA, "pid": pid, "command": "", "libraries": [], "error": None}
    try:
        with open("/proc/%d/maps" % pid, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except OSError as exc:
        answer["error"] = "cannot read /proc/%d/maps: %s" % (pid, exc.strerror)
        return answer
    answer["command"] = (read_text("/proc/%d/comm" % pid) or "").strip()
    root = "/proc/%d/root" % pid
    answer["libraries"] = mapped_libraries(text, lambda path: _real(root, path))
    return answer


def mapped_libraries(maps: str, real: Callable[[str], str] = lambda path: path) -> list[dict[str, Any]]:
    """Return the CUDA libraries in the text of a ``maps`` file, sorted by path.

    Args:
        maps: Text of ``/proc/PID/maps``.
        real: Resolves a path to the file's real path as the process sees it.
    """
    found: dict[str, dict[str, Any]] = {}
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) < 6 or not fields[5].startswith("/"):
            continue
        deleted = fields[5].endswith(_DELETED)
        path = fields[5][: -len(_DELETED)] if deleted else fields[5]
        name = os.path.basename(path)
        if not _WANTED.match(name):
            continue
        resolved = path if deleted else real(path)
        version = _VERSION.search(os.path.basename(resolved)) or _VERSION.search(name)
        found[path] = {"name": name.split(".so")[0], "version": version.group(1) if version else None,
                       "path": path, "deleted": deleted}
    return [found[path] for path in sorted(found)]


def _real(root: str, path: str) -> str:
    """Resolve a path inside the process's own root, which a container has changed."""
    try:
        resolved = os.path.realpath(root + path)
    except OSError:
        return path
    return resolved[len(root):] if resolved.startswith(root + "/") else resolved
