"""The seam to pip: what the metadata of one published wheel says, read without fetching the wheel.

pip asks whatever index the user has configured; nothing here names one. ``fast-deps`` reads the tail of a wheel, but an
index without range requests, or a pip before 25.3, makes it fetch the whole file without a word: what pip writes is
watched, and pip is stopped when that grows beyond what metadata can be.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

_LOOK_EVERY_S = 0.05
_RETRIES = 1
_UNREACHABLE = re.compile(
    r"NewConnectionError|NameResolutionError|Failed to establish a new connection|Temporary failure in name resolution|"
    r"Name or service not known|ConnectTimeout|Connection refused|Network is unreachable|ProxyError|"
    r"Cannot connect to proxy|Read timed out|Connection reset", re.IGNORECASE)
_EXCLUDED = re.compile(r"conflicting dependencies")      # of one requirement alone: a constraint that is configured
_NO_SUCH = re.compile(r"No matching distribution found|Could not find a version")
_OLD_TAGS = {"x86_64": ("manylinux1", "manylinux2010", "manylinux2014"), "aarch64": ("manylinux2014",)}
_FIRST_MINOR = {"x86_64": 5, "aarch64": 17}


class PipError(Exception):
    """pip gave no report.

    Attributes:
        kind: ``no-pip``, ``offline``, ``no-such`` (the index shows no such version to this Python and platform),
            ``constrained`` (pip's configuration excludes it), ``too-big``, ``too-slow`` or ``failed``.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


def tags(arch: str, glibc_minor: int) -> tuple[str, ...]:
    """Return every platform tag that a machine with glibc 2.``glibc_minor`` accepts; one left out hides wheels."""
    old = _OLD_TAGS.get(arch, ())
    return (*(f"{name}_{arch}" for name in old),
            *(f"manylinux_2_{minor}_{arch}" for minor in range(_FIRST_MINOR.get(arch, 17), glibc_minor + 1)),
            f"linux_{arch}")


class Pip:
    """Asks pip, one question at a time.

    Attributes:
        bytes_read: The most that lay on disk at one time, over all questions.
    """

    def __init__(self, command: Sequence[str], *, seconds: float, most_bytes: int) -> None:
        """Keep how pip is called and what one answer may cost."""
        self._command, self._seconds, self._most = tuple(command), seconds, most_bytes
        self.bytes_read = 0

    def report(self, requirement: str, *, python: str, arch: str, glibc_minor: int) -> dict[str, Any]:
        """Return pip's entry for one requirement: ``metadata`` and ``download_info``.

        Raises:
            PipError: No report, and why.
        """
        # pip before 24 compares Requires-Python with the Python it runs on, whatever --python-version says: it is told
        # not to look, and the answer is judged here.
        with tempfile.TemporaryDirectory(prefix="planner-pip-") as scratch:
            out = Path(scratch, "report.json")
            command = [*self._command, "install", "--dry-run", "--ignore-installed", "--no-deps", "--no-cache-dir",
                       "--quiet", "--disable-pip-version-check", "--no-input", "--retries", str(_RETRIES),
                       "--use-feature=fast-deps", "--only-binary=:all:", "--implementation", "cp",
                       "--python-version", python, "--ignore-requires-python",
                       "--target", str(Path(scratch, "target")), "--report", str(out)]
            for tag in tags(arch, glibc_minor):
                command += ["--platform", tag]
            code, said = self._run([*command, requirement], Path(scratch))
            if code != 0:
                raise PipError(_kind(said), _last_words(said))
            entry = _entry(out)
        wanted = str(entry["metadata"].get("requires_python") or "")
        if not _takes(wanted, python):
            raise PipError("no-such", f"{requirement} needs Python {wanted}, not {python}")
        return entry

    def _run(self, command: Sequence[str], scratch: Path) -> tuple[int, str]:
        environment = {**os.environ, "TMPDIR": str(scratch), "PIP_NO_COLOR": "1", "LC_ALL": "C.UTF-8"}
        log = scratch / "stderr"
        with log.open("wb") as sink:
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                                           env=environment, start_new_session=True)
            except OSError as exc:
                raise PipError("no-pip", f"{command[0]}: {exc.strerror or exc}") from exc
            try:
                self._watch(process, scratch)
            finally:
                _end(process)
        return process.returncode, log.read_bytes().decode("utf-8", "replace")

    def _watch(self, process: subprocess.Popen[bytes], scratch: Path) -> None:
        """Wait for pip; stop it when it takes too long or writes more than metadata."""
        limit = time.monotonic() + self._seconds
        while process.poll() is None:
            size = _on_disk(scratch)
            self.bytes_read = max(self.bytes_read, size)
            if size > self._most:
                raise PipError("too-big", f"pip began to fetch more than {self._most // 1_000_000} MB")
            if time.monotonic() > limit:
                raise PipError("too-slow", f"pip gave no answer within {self._seconds:.0f} s")
            time.sleep(_LOOK_EVERY_S)


def _on_disk(folder: Path) -> int:
    """Return what files under a folder really take; a file full of holes, as range requests leave it, counts little."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += Path(root, name).lstat().st_blocks * 512
            except OSError:          # gone since it was listed
                continue
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _takes(requires_python: str, python: str) -> bool:
    try:
        return SpecifierSet(requires_python).contains(f"{python}.0")
    except InvalidSpecifier:         # pip lets such a wheel pass, too
        return True


def _kind(said: str) -> str:
    if _UNREACHABLE.search(said):
        return "offline"
    if _EXCLUDED.search(said):
        return "constrained"
    return "no-such" if _NO_SUCH.search(said) else "failed"


def _last_words(said: str) -> str:
    """Return the lines of pip that say why: that no host answered, else its error and who had asked for what."""
    if "No module named pip" in said:
        return "this Python has no pip"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    unreachable = [line for line in lines if _UNREACHABLE.search(line)][:1]
    told = [line.removeprefix("ERROR: ") for line in lines if line.startswith(("ERROR:", "The user requested"))][:3]
    return "; ".join(unreachable or told or lines[-1:] or ["pip said nothing"])[:600]


def _entry(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        entry = document["install"][0]
        entry["metadata"]["version"], entry["download_info"]["url"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as exc:
        raise PipError("failed", f"pip's report cannot be read: {exc}; pip 22.2 or later writes one") from exc
    found: dict[str, Any] = entry
    return found
