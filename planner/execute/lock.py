"""The rollout lock: one controller at a time, and a fencing token that shuts out the one before."""

from __future__ import annotations

import getpass
import os
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from planner.diagnostics import Diagnostic
from planner.errors import LockedError
from planner.execute.clock import Clock
from planner.execute.states import Entry
from planner.execute.store import Fenced, Store

HEARTBEAT_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """Who is asking: a process of a person on a machine."""

    owner: str
    host: str
    pid: int
    process_start: str

    @classmethod
    def here(cls) -> Controller:
        """Return this process."""
        host = platform.node()
        return cls(owner=f"{_user()}@{host}", host=host, pid=os.getpid(), process_start=_process_start(os.getpid()))


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):      # a user id without a name, as in containers
        return str(os.getuid())


def _process_start(pid: int) -> str:
    """Return when a process began, in the kernel's ticks, "" when that cannot be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def process_lives(row: Mapping[str, Any]) -> bool:
    """Tell whether the process of a lock on this machine is still the one that took it."""
    try:
        os.kill(int(row["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    start = _process_start(int(row["pid"]))
    return not start or not row["process_start"] or start == row["process_start"]


class RolloutLock:
    """Held while a controller runs; writes its heartbeat, and fences every entry of the journal."""

    def __init__(self, store: Store, clock: Clock, *, bundle: str, controller: Controller | None = None,
                 lives: Callable[[Mapping[str, Any]], bool] = process_lives) -> None:
        self._store, self._clock, self._bundle, self._lives = store, clock, bundle, lives
        self.controller = controller or Controller.here()
        self.token = 0
        self.took_over: Mapping[str, Any] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> RolloutLock:
        """Take the lock.

        Raises:
            LockedError: A live controller, or one on another machine, holds it.
        """
        now = _text(self._clock.now())
        me = self.controller
        seen: list[dict[str, Any] | None] = []

        def may_take(held: dict[str, Any] | None) -> bool:
            seen.append(held)
            return not held or not held["owner"] or (held["host"] == me.host and not self._lives(held))

        token = self._store.take_lock({"owner": me.owner, "host": me.host, "pid": me.pid, "since": now,
                                       "process_start": me.process_start, "heartbeat": now}, may_take)
        held = seen[-1]
        if token is None:
            assert held is not None
            raise locked(held, self._bundle)
        self.token, self.took_over = token, held if held and held["owner"] else None
        self._thread = threading.Thread(target=self._beat, name="planner-heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Give the lock back, unless somebody else has it by now."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._store.update_lock(self.token, owner="", pid=0, heartbeat=_text(self._clock.now()))

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            if not self._store.update_lock(self.token, heartbeat=_text(self._clock.now())):
                return      # fenced: the next entry of the journal says so

    def append(self, *entries: Mapping[str, Any], after: int | None = None) -> tuple[Entry, ...]:
        """Write entries as the holder of the lock; ``after`` as in ``Store.append``.

        Raises:
            LockedError: Another controller has taken over.
            Conflict: There are entries after ``after``.
        """
        try:
            return self._store.append(entries, at=_text(self._clock.now()), token=self.token, after=after)
        except Fenced:
            raise locked(self._store.lock_row() or {}, self._bundle) from None


def break_lock(store: Store, clock: Clock, *, by: Controller, force: bool,
               lives: Callable[[Mapping[str, Any]], bool] = process_lives, bundle: str = "") -> dict[str, Any] | None:
    """Take the lock away from whoever holds it and leave it free; return who held it, None when nobody did.

    The token rises, so that the old controller's next act is refused, here and on every node that the next run touches.

    Raises:
        LockedError: The holder runs on this machine, and ``force`` is not set.
    """
    held = store.lock_row()
    if held is None or not held["owner"]:
        return None
    if held["host"] == by.host and lives(held) and not force:
        raise LockedError(Diagnostic(
            code="controller-alive", subject=f"process {held['pid']}", summary=f"{held['owner']} is still at work",
            hint=f"stop it after what is in flight: planner pause {bundle}; or take over all the same: --force"))
    now = _text(clock.now())
    store.take_lock({"owner": "", "host": by.host, "pid": 0, "process_start": "", "since": now, "heartbeat": now},
                    lambda row: True)
    return held


def locked(row: Mapping[str, Any], bundle: str) -> LockedError:
    """Return the error that says who holds the rollout."""
    who = row.get("owner") or "another controller"
    return LockedError(Diagnostic(
        code="rollout-locked", subject=bundle,
        summary=f"{who} works on this rollout since {row.get('since', 'some time')}",
        why=(f"host {row.get('host', '?')}, process {row.get('pid', '?')}",
             f"last sign of life {row.get('heartbeat', '?')}"),
        hint=f"wait for it; or, if that controller is gone: planner unlock {bundle}"))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
