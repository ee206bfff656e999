"""Which labs are on this machine. One directory per lab id under /run: taken before anything else, removed last.

A lab is found again after its starter was killed: the id gives the names of its bridge, interfaces, network namespaces
and control groups, the token marks its processes' environments, the directory holds its mounts.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from planner.diagnostics import Diagnostic
from planner.errors import LabError

ROOT = Path("/run/planner-lab-host")
IDS = range(250)
MARK = "PLANNER_LAB"        # environment variable that every process of a lab carries


@dataclass(frozen=True)
class Entry:
    """One lab as recorded."""

    id: int
    token: str                # random; tells this lab from an earlier one with the same id
    directory: str

    @property
    def bridge(self) -> str:
        """Return the name of its network bridge."""
        return f"lab{self.id}br"

    @property
    def address(self) -> str:
        """Return the machine's own address on the bridge."""
        return f"198.18.{self.id}.1"

    @property
    def marks(self) -> dict[str, str]:
        """Return the environment of its processes."""
        return {MARK: self.token}

    def node_address(self, index: int) -> str:
        """Return the address of a node by its index from 0."""
        return f"198.18.{self.id}.{index + 10}"

    def namespace(self, node: str) -> str:
        """Return the name of a node's network namespace and control group."""
        return f"lab{self.id}-{node}"

    def interface(self, index: int) -> str:
        """Return the machine's end of a node's cable."""
        return f"l{self.id}v{index + 1}"


def entries() -> tuple[Entry, ...]:
    """Return all labs on this machine, by id. A lab whose record was never finished has an empty directory."""
    found = []
    for folder in ROOT.glob("[0-9]*"):
        try:
            found.append(Entry(**json.loads((folder / "lab.json").read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError):
            found.append(Entry(int(folder.name), "", ""))
    return tuple(sorted(found, key=lambda entry: entry.id))


def find(lab_id: int | None) -> Entry:
    """Return one lab: the one with this id, or the only one there is.

    Raises:
        LabError: There is none, or several and no id was given.
    """
    known = entries()
    chosen = [entry for entry in known if lab_id is None or entry.id == lab_id]
    if len(chosen) == 1:
        return chosen[0]
    if not chosen:
        what = "no lab runs on this machine" if lab_id is None else f"no lab with id {lab_id} runs on this machine"
        raise LabError(Diagnostic(code="no-lab", summary=what, hint="planner lab up"))
    raise LabError(Diagnostic(
        code="which-lab", summary=f"{len(chosen)} labs run on this machine",
        why=tuple(f"id {entry.id}: {entry.directory}" for entry in chosen),
        hint=f"say which: --id {chosen[0].id}"))


def claim(directory: Path, lab_id: int | None) -> Entry:
    """Take an id for a new lab: the given one, or the first that is free here and has no bridge.

    Raises:
        LabError: The id is taken, or none is left.
    """
    ROOT.mkdir(parents=True, exist_ok=True)
    for candidate in [lab_id] if lab_id is not None else IDS:
        if candidate not in IDS:
            break
        if lab_id is None and Path(f"/sys/class/net/lab{candidate}br").exists():
            continue
        try:
            (ROOT / str(candidate)).mkdir()
        except FileExistsError:
            continue
        entry = Entry(candidate, f"{candidate}-{secrets.token_hex(8)}", str(directory))
        (ROOT / str(candidate) / "starter").write_text(f"{os.getpid()} {_started(os.getpid())}", encoding="ascii")
        part = ROOT / str(candidate) / "lab.json.part"
        part.write_text(json.dumps(asdict(entry)), encoding="utf-8")
        part.rename(ROOT / str(candidate) / "lab.json")
        return entry
    summary = "no lab id is free"
    if lab_id is not None:
        summary = f"lab id {lab_id} is taken or not in {IDS.start} to {IDS.stop - 1}"
    raise LabError(Diagnostic(code="lab-id", summary=summary, hint="planner lab status"))


def _started(pid: int) -> str:
    """Return when a process was started, in ticks since boot; "" when it is gone. Tells it from a later one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def starter(entry: Entry) -> int | None:
    """Return the process that is starting this lab now; None when it is up, or its starter was killed."""
    try:
        pid, _, begun = (ROOT / str(entry.id) / "starter").read_text(encoding="ascii").partition(" ")
        return int(pid) if _started(int(pid)) == begun != "" else None
    except (OSError, ValueError):
        return None


def started(entry: Entry) -> None:
    """Note that a lab is up: its starter may go."""
    (ROOT / str(entry.id) / "starter").unlink(missing_ok=True)


def release(entry: Entry) -> None:
    """Forget a lab that is gone."""
    folder = ROOT / str(entry.id)
    for name in ("starter", "lab.json.part", "lab.json"):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


# --- one limit of the machine that many systemds need raised: it is put back when the last lab goes

_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
_PER_NODE = 16


def raise_limits(nodes: int) -> None:
    """Allow as many inotify instances as the nodes' systemds take (the default, 128, is enough for 24)."""
    before = int(_LIMIT.read_text(encoding="ascii"))
    wanted = before + _PER_NODE * nodes
    saved = ROOT / "inotify-before"
    with contextlib.suppress(FileExistsError), saved.open("x", encoding="ascii") as handle:
        handle.write(str(before))
    _LIMIT.write_text(str(wanted), encoding="ascii")


def restore_limits() -> None:
    """Put the limit back when no lab is left."""
    saved = ROOT / "inotify-before"
    if not entries() and saved.exists():
        _LIMIT.write_text(saved.read_text(encoding="ascii"), encoding="ascii")
        saved.unlink()
        with contextlib.suppress(OSError):
            ROOT.rmdir()
