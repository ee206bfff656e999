"""Looks at lab nodes from outside while a rollout runs: who cannot do work now, and how many of a group at once.

Nothing here reads planner's journal. A node is down when its systemd is gone, nothing listens for SSH, its CUDA library
is of another version than the loaded driver, its marks say drained, or Slurm gives it no new work.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from planner.errors import LabError
from planner.lab.lab import Lab

STEP_S = 0.3
SLURM_EVERY = 3              # looks; asking Slurm costs more than all else, and its states last longer
_LISTEN_SSH = ":0016"        # port 22, as /proc/net/tcp writes it
_LISTENING = "0A"
_OUT_OF_SERVICE = ("drain", "drng", "down", "fail", "boot", "maint", "unk", "no_respond")

Down = Mapping[str, frozenset[str]]     # node -> why it is down


@dataclass
class Record:
    """What was seen.

    Attributes:
        samples: How often all nodes were looked at.
        longest_gap_s: The longest time between two looks.
        most: Group -> the largest number of its nodes that were down in one look.
        worst: Group -> which those were, and why.
        reasons: Node -> every reason ever seen.
        mark_keys: Node -> every key ever seen in its marks.
        timeline: (seconds since the start, node, reasons), one entry for each change.
    """

    samples: int = 0
    longest_gap_s: float = 0.0
    most: Counter[str] = field(default_factory=Counter)
    worst: dict[str, Down] = field(default_factory=dict)
    reasons: dict[str, set[str]] = field(default_factory=dict)
    mark_keys: dict[str, set[str]] = field(default_factory=dict)
    timeline: list[tuple[float, str, tuple[str, ...]]] = field(default_factory=list)

    def beyond(self, limit: int) -> dict[str, Down]:
        """Return the groups of which more than ``limit`` nodes were down at once, with those nodes."""
        return {group: self.worst[group] for group, count in self.most.items() if count > limit}


class Watch:
    """A thread that looks at all nodes about three times a second."""

    def __init__(self, lab: Lab, groups: Mapping[str, tuple[str, ...]], controller: str = "") -> None:
        """Prepare; ``watching`` starts it.

        Args:
            lab: Running.
            groups: Nodes counted together, by name: a pool, a failure domain. A node may be in several.
            controller: Node with slurmctld; "" for no Slurm.
        """
        self.record = Record()
        self._lab, self._groups, self._controller = lab, groups, controller
        self._nodes = tuple(sorted({node for nodes in groups.values() for node in nodes}))
        self._addresses = {node: lab.address(node) for node in self._nodes}
        self._with_gpus = {node for node, status in lab.status().items() if status["gpus"]}
        self._last: dict[str, frozenset[str]] = {}
        self._states: dict[str, str] = {}      # node -> what Slurm said last
        self._inits: dict[str, tuple[int, str]] = {}       # node -> its systemd's pid and pid namespace
        self._end = threading.Event()
        self._error: BaseException | None = None

    @contextmanager
    def watching(self) -> Iterator[Record]:
        """Watch as long as the block runs; what went wrong in the thread is raised at its end."""
        thread = threading.Thread(target=self._run, name="watch", daemon=True)
        thread.start()
        try:
            yield self.record
        finally:
            self._end.set()
            thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        begun = last = time.monotonic()
        try:
            while not self._end.is_set():
                self._note(self.look(), time.monotonic() - begun)
                self.record.longest_gap_s = max(self.record.longest_gap_s, time.monotonic() - last)
                last = time.monotonic()
                self._end.wait(STEP_S)
        except BaseException as exc:  # raised again in the caller's thread
            self._error = exc

    def _note(self, down: Down, at_s: float) -> None:
        record = self.record
        record.samples += 1
        for node in self._nodes:
            why = down.get(node, frozenset())
            if why != self._last.get(node, frozenset()):
                record.timeline.append((round(at_s, 1), node, tuple(sorted(why))))
            record.reasons.setdefault(node, set()).update(why)
        self._last = dict(down)
        for group, nodes in self._groups.items():
            of_group = {node: down[node] for node in nodes if node in down}
            if len(of_group) > record.most[group]:
                record.most[group], record.worst[group] = len(of_group), of_group

    # --- one look

    def look(self) -> dict[str, frozenset[str]]:
        """Return the nodes that are down now, with their reasons."""
        if self.record.samples % SLURM_EVERY == 0:
            self._states = self._slurm()
        # A real connection makes sshd start a process, so each look tries one node; the others' sockets are looked at.
        knocked = self._nodes[self.record.samples % len(self._nodes)]
        found = {node: self._why(node, self._states.get(node, ""), knock=node == knocked) for node in self._nodes}
        return {node: why for node, why in found.items() if why}

    def _why(self, node: str, slurm: str, *, knock: bool) -> frozenset[str]:
        why = {f"slurm {slurm}"} if any(word in slurm for word in _OUT_OF_SERVICE) else set()
        pid = self._pid(node)
        if pid is None:
            return frozenset({*why, "off"})
        try:
            if not _listens(pid) or (knock and not self._answers(node)):
                why.add("no ssh")
            if node in self._with_gpus and not _driver_fits(Path(f"/proc/{pid}/root")):
                why.add("driver")
            if "drained" in self._marks(node, pid):
                why.add("marks")
        except OSError:
            why.add("off")      # it went while it was looked at
        return frozenset(why)

    def _pid(self, node: str) -> int | None:
        """Return the pid of a node's systemd; searched for only when the last one is gone, which is cheaper."""
        pid, namespace = self._inits.get(node, (0, ""))
        if pid and _namespace(pid) == namespace:
            return pid
        found = self._lab.pid(node)
        if found is not None:
            self._inits[node] = (found, _namespace(found))
        return found

    def _answers(self, node: str) -> bool:
        try:
            socket.create_connection((self._addresses[node], 22), 1).close()
        except OSError:
            return False
        return True

    def _marks(self, node: str, pid: int) -> set[str]:
        try:
            text = Path(f"/proc/{pid}/root/var/lib/planner/marks.json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return set()
        keys = {key for marks in json.loads(text).values() for key in marks}
        self.record.mark_keys.setdefault(node, set()).update(keys)
        return keys

    def _slurm(self) -> dict[str, str]:
        if not self._controller:
            return {}
        with contextlib.suppress(LabError):
            told = self._lab.exec(self._controller, "timeout", "5", "sinfo", "-h", "-N", "-o", "%N %T").stdout
            return {name: state.lower() for name, state in (line.split()[:2] for line in told.splitlines())}
        raise AssertionError("Slurm's controller, which no rollout may touch, does not answer")


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return "gone"


def _listens(pid: int) -> bool:
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(_LISTEN_SSH) and fields[3] == _LISTENING:
                return True
    return False


def _driver_fits(root: Path) -> bool:
    """Tell whether a driver is loaded and CUDA's library is of its version."""
    try:
        loaded = (root / "run/planner-lab/mod/nvidia").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return False
    return any((root / folder / f"libcuda.so.{loaded}").exists()
               for folder in ("usr/lib/x86_64-linux-gnu", "usr/lib64"))
