"""The journal's chain, the schema, the lock: what must hold when anything is killed or edited."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from planner.errors import ApplyError, LockedError
from planner.execute.clock import SystemClock, VirtualClock
from planner.execute.journal import GENESIS, chain, verify
from planner.execute.lock import Controller, RolloutLock, break_lock, process_lives
from planner.execute.store import MIGRATIONS, Conflict, Fenced, Store

AT = "2026-03-01T12:00:00.000+00:00"


def url(directory: Path) -> str:
    return f"sqlite:///{directory / 'state.db'}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store with three entries."""
    made = Store(url(tmp_path), "sha256:plan")
    made.append([{"kind": "rollout-opened"}, {"kind": "run-started", "data": {"owner": "anna"}}], at=AT)
    made.append([{"kind": "node", "node": "n1", "wave": "w1", "batch": "w1b1", "data": {"event": "skip"}}], at=AT)
    return made


def edit(directory: Path, statement: str) -> None:
    engine = sa.create_engine(url(directory))
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def test_entries_are_chained_and_read_back_as_written(store: Store) -> None:
    entries = store.read()
    assert [e.seq for e in entries] == [1, 2, 3]
    assert entries[0].prev == GENESIS
    assert [e.prev for e in entries[1:]] == [e.hash for e in entries[:-1]]
    assert entries[2].data == {"event": "skip"}
    assert store.read(2, previous=entries[1].hash) == entries[2:]


@pytest.mark.parametrize("statement", [
    "UPDATE journal SET data = '{\"event\": \"retry\"}' WHERE seq = 3",
    "UPDATE journal SET data = 'no json' WHERE seq = 2",
    "UPDATE journal SET node = 'n2' WHERE seq = 3",
    "UPDATE journal SET at = '2027-01-01' WHERE seq = 1",
    "UPDATE journal SET kind = 'approved' WHERE seq = 2",
    "DELETE FROM journal WHERE seq = 2",
    "DELETE FROM journal WHERE seq = 1",
    "UPDATE journal SET seq = 9 WHERE seq = 3",
])
def test_a_journal_that_was_edited_is_refused(store: Store, tmp_path: Path, statement: str) -> None:
    edit(tmp_path, statement)
    with pytest.raises(ApplyError) as caught:
        store.read()
    assert caught.value.diagnostics[0].code == "journal-broken"


def test_a_hash_put_right_for_one_entry_does_not_fit_the_next(store: Store, tmp_path: Path) -> None:
    """Whoever edits an entry has to rewrite all that follow."""
    first, second, third = store.read()
    forged = chain(first.hash, 2, AT, "run-started", data={"owner": "mallory"})
    assert forged.hash != second.hash
    with pytest.raises(ApplyError):
        verify((first, forged, third))


def test_rollouts_in_one_database_keep_apart(store: Store, tmp_path: Path) -> None:
    other = Store(url(tmp_path), "sha256:other")
    assert other.read() == ()
    other.append([{"kind": "rollout-opened"}], at=AT)
    assert len(store.read()) == 3


def test_an_append_after_an_old_entry_conflicts(store: Store) -> None:
    store.append([{"kind": "resumed"}], at=AT, after=3)
    with pytest.raises(Conflict):
        store.append([{"kind": "resumed"}], at=AT, after=3)


def test_an_append_with_an_old_token_is_fenced_and_writes_nothing(store: Store) -> None:
    holder = {"owner": "a", "host": "h", "pid": 1, "process_start": "", "since": AT, "heartbeat": AT}
    first = store.take_lock(holder, lambda held: True)
    second = store.take_lock(holder, lambda held: True)
    assert (first, second) == (1, 2)
    with pytest.raises(Fenced):
        store.append([{"kind": "resumed"}], at=AT, token=1)
    assert store.last_seq() == 3
    store.append([{"kind": "resumed"}], at=AT, token=2)


def test_many_processes_append_without_losing_the_chain(tmp_path: Path) -> None:
    program = ("import sys; from planner.execute.store import Store; s = Store(sys.argv[1], 'r');\n"
               "for i in range(10): s.append([{'kind': 'phase', 'node': sys.argv[2]}], at='t')")
    workers = [subprocess.Popen([sys.executable, "-c", program, url(tmp_path), str(n)]) for n in range(3)]
    assert [w.wait(60) for w in workers] == [0, 0, 0]
    assert len(Store(url(tmp_path), "r").read()) == 30


def test_sqlite_waits_for_the_disk_at_every_commit(tmp_path: Path) -> None:
    opened = Store(url(tmp_path), "r")
    with opened._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_the_schema_is_versioned_and_a_newer_one_is_refused(store: Store, tmp_path: Path) -> None:
    Store(url(tmp_path), "sha256:plan").close()      # opening again migrates nothing
    assert len(store.read()) == 3
    edit(tmp_path, f"UPDATE schema_version SET version = {len(MIGRATIONS) + 1}")
    with pytest.raises(ApplyError) as caught:
        Store(url(tmp_path), "sha256:plan")
    assert caught.value.diagnostics[0].code == "state-too-new"


def test_a_migration_runs_once_on_a_store_of_the_version_before(
        store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollout in flight survives an upgrade of planner."""
    ran = []
    monkeypatch.setattr("planner.execute.store.MIGRATIONS", (*MIGRATIONS, lambda connection: ran.append(1)))
    for _ in range(2):
        assert len(Store(url(tmp_path), "sha256:plan").read()) == 3
    assert ran == [1]


def test_a_place_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("this is no database, and long enough to be seen as none" * 20)
    with pytest.raises(ApplyError) as caught:
        Store(url(tmp_path), "r")
    assert caught.value.diagnostics[0].code == "state-unusable"


def controller(owner: str, **fields: object) -> Controller:
    base = {"owner": owner, "host": "laptop", "pid": os.getpid(), "process_start": ""}
    return Controller(**{**base, **fields})  # type: ignore[arg-type]


def test_the_lock_shuts_out_a_second_controller_and_opens_after_the_first(store: Store) -> None:
    clock = VirtualClock(datetime(2026, 3, 1, tzinfo=UTC))
    with RolloutLock(store, clock, bundle="b", controller=controller("anna@laptop")) as held:
        with pytest.raises(LockedError) as caught, \
                RolloutLock(store, clock, bundle="b", controller=controller("ben@laptop")):
            pass
        assert "anna@laptop" in caught.value.diagnostics[0].summary
        assert held.append({"kind": "resumed"})[0].seq == 4
    with RolloutLock(store, clock, bundle="b", controller=controller("ben@laptop")) as later:
        assert later.token == held.token + 1


def test_a_controller_killed_outright_is_taken_over_on_its_own_machine(tmp_path: Path) -> None:
    program = ("import os, sys; from planner.execute.store import Store\n"
               "from planner.execute.clock import SystemClock\n"
               "from planner.execute.lock import RolloutLock\n"
               "RolloutLock(Store(sys.argv[1], 'r'), SystemClock(), bundle='b').__enter__(); os.kill(os.getpid(), 9)")
    assert subprocess.run([sys.executable, "-c", program, url(tmp_path)], check=False).returncode == -9
    opened = Store(url(tmp_path), "r")
    row = opened.lock_row()
    assert row is not None
    assert row["owner"]
    assert not process_lives(row)
    with RolloutLock(opened, SystemClock(), bundle="b") as lock:
        assert (lock.token, lock.took_over is not None) == (2, True)


def test_a_process_number_used_again_is_not_the_old_controller() -> None:
    own = Controller.here()
    assert process_lives({"pid": own.pid, "process_start": own.process_start})
    assert not process_lives({"pid": own.pid, "process_start": "1"})


def test_a_dead_looking_controller_elsewhere_is_never_taken_over(store: Store) -> None:
    clock = VirtualClock(datetime(2026, 3, 1, tzinfo=UTC))
    lock = RolloutLock(store, clock, bundle="b", controller=controller("anna@desk", host="desk", pid=1))
    lock.__enter__()
    with pytest.raises(LockedError), \
            RolloutLock(store, clock, bundle="b", controller=controller("anna@laptop"), lives=lambda row: False):
        pass


def test_unlock_leaves_a_live_controller_alone_unless_forced(store: Store) -> None:
    clock, me = SystemClock(), Controller.here()
    with RolloutLock(store, clock, bundle="b", controller=me) as held:
        with pytest.raises(LockedError):
            break_lock(store, clock, by=me, force=False)
        assert break_lock(store, clock, by=me, force=True) is not None
        with pytest.raises(LockedError):
            held.append({"kind": "resumed"})
    assert break_lock(store, clock, by=me, force=False) is None
