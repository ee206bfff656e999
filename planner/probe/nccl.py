"""NCCL as this node has it: where its library is, each call checked, and what its own log says of transports."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import re
from typing import Any

from .observe_run import run_command

SONAME = "libnccl.so.2"
LIBRARIES_MOST = 16
LOG_BYTES = 1 << 20
LINES_MOST = 40
ID_BYTES = 128
_FIND = ("import importlib.util as u\ns = u.find_spec('nvidia.nccl')\n"
         "print('\\n'.join(s.submodule_search_locations or ()) if s else '')")
_HEAD = re.compile(r"^\S+:\d+:\d+ \[[^\]]*\] ")       # host, process, thread, GPU: the host's name stays out
_VIA = re.compile(r"\bvia ([A-Z][A-Za-z0-9_]*(?:/[A-Za-z][A-Za-z0-9_]*)*)")
_NETWORK = re.compile(r"Using network (\S+)")
_NVLS = re.compile(r"(Connected NVLS tree|NVLS comm 0x)")
_KEPT = re.compile(r"WARN|NCCL version|Using network|NVLS|set by environment|via |Init COMPLETE|misc/")


class NcclError(Exception):
    """A call of NCCL failed; ``code`` is its ncclResult_t, None without a call."""

    def __init__(self, text: str, code: int | None) -> None:
        super().__init__(text)
        self.code = code


class UniqueId(ctypes.Structure):
    """ncclUniqueId: passed by value."""

    _fields_ = (("internal", ctypes.c_char * ID_BYTES),)


class Nccl:
    """libnccl.so.2, each call checked."""

    def __init__(self, path: str) -> None:
        try:
            self._library = ctypes.CDLL(path)
        except OSError as exc:
            raise NcclError("%s cannot be loaded: %s" % (path, exc), None) from exc

    def has(self, name: str) -> bool:
        """Say whether the library has a function or variable of this name."""
        return hasattr(self._library, name)

    def call(self, name: str, *arguments: Any) -> None:
        """Call one function; raise with NCCL's words unless it says success."""
        try:
            function = getattr(self._library, name)
        except AttributeError as exc:
            raise NcclError("this NCCL has no %s" % name, None) from exc
        function.restype = ctypes.c_int
        code = function(*arguments)
        if code:
            raise NcclError("%s failed with %d (%s)" % (name, code, self._words(code)), code)

    def check(self, comm: ctypes.c_void_p) -> None:
        """Raise what happened to a communicator meanwhile, on a peer too."""
        code = ctypes.c_int()
        self.call("ncclCommGetAsyncError", comm, ctypes.byref(code))
        if code.value:
            raise NcclError("the communicator failed with %d (%s)" % (code.value, self._words(code.value)), code.value)

    def version(self) -> str:
        """Return NCCL's own word on its version."""
        value = ctypes.c_int()
        self.call("ncclGetVersion", ctypes.byref(value))
        number = value.value
        if number < 10000:      # until 2.8 three digits
            return "%d.%d.%d" % (number // 1000, number % 1000 // 100, number % 100)
        return "%d.%d.%d" % (number // 10000, number % 10000 // 100, number % 100)

    def loaded(self) -> list[str]:
        """Return the files of NCCL that this process has mapped."""
        with contextlib.suppress(OSError), open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            names = {line.split(None, 5)[-1].strip() for line in maps if "libnccl" in line}
            return sorted(names)
        return []

    def _words(self, code: int) -> str:
        found = []
        for name, argument in (("ncclGetErrorString", ctypes.c_int(code)), ("ncclGetLastError", None)):
            with contextlib.suppress(AttributeError):
                function = getattr(self._library, name)
                function.restype = ctypes.c_char_p
                words = (function(argument) or b"").decode("utf-8", "replace").strip()
                found += [words[:400]] if words else []
        return "; ".join(found)


class Log:
    """What NCCL says while the ``with`` lasts, kept in memory; where somebody set NCCL_DEBUG_FILE, theirs gets it.

    Where a parent has entered it and the child that it forks enters it again, the parent can read what a child said
    that was killed.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._set: list[str] = []

    def __enter__(self) -> Log:
        if self._file is not None or "NCCL_DEBUG_FILE" in os.environ or not hasattr(os, "memfd_create"):
            return self
        self._file = os.memfd_create("nccl")
        settings = {"NCCL_DEBUG_FILE": "/proc/self/fd/%d" % self._file}
        if "NCCL_DEBUG" not in os.environ:
            settings["NCCL_DEBUG"] = "INFO"
        self._set = sorted(settings)
        os.environ.update(settings)
        return self

    def __exit__(self, *_: Any) -> None:
        for name in self._set:
            os.environ.pop(name, None)
        if self._set and self._file is not None:        # NCCL has opened it for itself
            os.close(self._file)
            self._file, self._set = None, []

    def read(self) -> dict[str, Any]:
        """Return ``via`` (transport -> lines), ``network``, ``nvls``, ``lines``; ``reason`` where nothing is known."""
        if self._file is None:
            return {"reason": "NCCL_DEBUG_FILE is set, or this Python cannot keep a file in memory"}
        return read_log(os.pread(self._file, LOG_BYTES, 0).decode("utf-8", "replace"))


def read_log(text: str) -> dict[str, Any]:
    """Return what a log of NCCL_DEBUG=INFO says of transports, host names left out."""
    via: dict[str, int] = {}
    kept: list[str] = []
    for line in text.splitlines():
        plain = _HEAD.sub("", line).strip()[:240]
        for word in _VIA.findall(plain):
            via[word] = via.get(word, 0) + 1
        if _KEPT.search(plain) and len(kept) < LINES_MOST and not (" via " in plain and sum(via.values()) > 4):
            kept.append(plain)
    network = _NETWORK.search(text)
    return {"via": dict(sorted(via.items())), "network": network.group(1) if network else None,
            "nvls": bool(_NVLS.search(text)), "lines": kept}


def find_libraries(pythons: list[str], roots: list[str]) -> list[str]:
    """Return paths of ``libnccl.so.2``: the loader's first, then the interpreters' wheels, then under ``roots``."""
    places = []
    for line in run_command(["ldconfig", "-p"], 10)["stdout"].splitlines():
        name, _, path = line.strip().partition(" => ")
        if name.split(" ")[0] == SONAME and path:
            places.append(path)
    for python in pythons:
        told = run_command([python, "-I", "-c", _FIND], 30)["stdout"].splitlines()
        places += [os.path.join(directory, "lib", SONAME) for directory in told]
    for root in roots:
        for inside in ("", "lib", "lib64", "nccl/lib", "nvidia/nccl/lib",
                       "lib/python3*/site-packages/nvidia/nccl/lib"):
            places += sorted(glob.glob(os.path.join(glob.escape(root), inside, SONAME)))
    found: dict[str, str] = {}
    for place in places:
        if os.path.isfile(place):
            found.setdefault(os.path.realpath(place), place)
    return list(found.values())[:LIBRARIES_MOST]
