"""What every part of the lab needs of the machine: commands, the list of missing programs, the cache, locks."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from planner.diagnostics import Diagnostic
from planner.errors import LabError

HERE = Path(__file__).resolve().parent
LAST_LINES = 12             # of a failed command's output, shown to the user

# program -> Debian package that brings it
TOOLS: Mapping[str, str] = {
    "mmdebstrap": "mmdebstrap", "apt-ftparchive": "apt-utils", "dpkg-deb": "dpkg", "gpg": "gnupg", "ip": "iproute2",
    "tc": "iproute2", "gcc": "gcc", "rpmbuild": "rpm", "createrepo_c": "createrepo-c", "ssh-keygen": "openssh-client",
    "unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux",
    "setsid": "util-linux", "bash": "bash",
}
_C_HEADER = Path("/usr/include/stdio.h")


def missing_for_lab() -> tuple[str, ...]:
    """Return what stands between this machine and a lab, one line each; empty when a lab can run."""
    if sys.platform != "linux":
        return ("the lab needs Linux",)
    lines = [] if os.geteuid() == 0 else ["the lab needs root"]
    packages = missing_packages()
    if packages:
        lines.append("missing: " + " ".join(packages))
    return tuple(lines)


def missing_packages() -> tuple[str, ...]:
    """Return the Debian packages that must be installed before a lab can run, sorted."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    found = {package for program, package in TOOLS.items() if shutil.which(program, path=path) is None}
    if not _C_HEADER.exists():
        found.add("libc6-dev")
    return tuple(sorted(found))


def require_lab() -> None:
    """Refuse to go on where a lab cannot run.

    Raises:
        LabError: Not Linux, not root, or programs are missing; the hint is the one command that brings them.
    """
    lines = missing_for_lab()
    if not lines:
        return
    packages = missing_packages()
    hint = "run it as root: sudo planner lab up"
    if packages:
        hint = "apt-get install --no-install-recommends " + " ".join(packages)
    raise LabError(Diagnostic(code="lab-not-possible", summary="this machine cannot run lab nodes yet", why=lines,
                              hint=hint))


def run(
    *argv: object, check: bool = True, stdin: str | None = None, timeout_s: float | None = None,
    cwd: Path | None = None, env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end and return it with its output as text.

    Args:
        argv: Exact argument vector; paths and numbers are turned into text.
        check: Raise when it fails.
        stdin: Text for its standard input; None is no input.
        timeout_s: It is killed after this many seconds.
        cwd: Directory to run in.
        env: Environment on top of this process's own.

    Raises:
        LabError: It failed (with ``check``), is not there or took too long; carries its last lines.
    """
    words = [str(word) for word in argv]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}
    try:
        done = subprocess.run(words, input=stdin if stdin is not None else "", capture_output=True, text=True,
                              errors="replace", timeout=timeout_s, cwd=cwd, env=environment, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise LabError(Diagnostic(code="lab-command-failed", subject=words[0], summary=str(exc),
                                  hint="planner lab down")) from exc
    if check and done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise LabError(Diagnostic(
            code="lab-command-failed", subject=words[0],
            summary=f"{' '.join(words)[:200]} ended with {done.returncode}", why=tuple(lines[-LAST_LINES:]),
            hint="planner lab down"))
    return done


def cache_dir() -> Path:
    """Return the directory of what is built once: root file systems, packages, layers.

    ``PLANNER_LAB_CACHE``, else ``planner/lab`` under ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    told = os.environ.get("PLANNER_LAB_CACHE")
    if told:
        return Path(told).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "planner" / "lab"


def source_digest(*names: str) -> str:
    """Return a digest of shipped source files and directories of the lab, by name."""
    total = hashlib.sha256()
    for name in names:
        path = HERE / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(str(file.relative_to(HERE)).encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()[:16]


def digest_of(*parts: object) -> str:
    """Return a short digest of values by their text form."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other processes of this machine from building the same thing of the cache at the same time."""
    folder = cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def build_place(final: Path) -> Iterator[Path]:
    """Yield an empty directory beside ``final`` that takes its place when the block ends well, and is removed else.

    What an earlier, interrupted build left there is removed first; so call this under a lock.
    """
    part = final.with_name(final.name + ".part")
    remove_tree(part)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(final)
    except BaseException:
        remove_tree(part)
        raise


def remove_tree(path: Path) -> None:
    """Remove a directory tree; never follows a mount below it into something else."""
    for line in reversed(mounts_below(path)):
        run("umount", "-l", line, check=False)
    shutil.rmtree(path, ignore_errors=True)


def mounts_below(path: Path) -> list[Path]:
    """Return the mount points at or below a directory, outermost first."""
    resolved = path.resolve()
    points = [Path(line.split()[4].replace("\\040", " "))
              for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    return sorted(point for point in points if point == resolved or resolved in point.parents)
