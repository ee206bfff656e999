"""Where journal and lock live: SQLAlchemy Core, SQLite beside the bundle by default, any other database by URL."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import StaticPool

from planner.diagnostics import Diagnostic
from planner.errors import ApplyError
from planner.execute.journal import GENESIS, chain, verify
from planner.execute.states import Entry

BUSY_S = 30        # how long a writer waits for another one
_RETRIES = 20      # of an append that another controller was faster with

_meta = sa.MetaData()
_version = sa.Table("schema_version", _meta, sa.Column("version", sa.Integer, nullable=False))
_journal = sa.Table(
    "journal", _meta,
    sa.Column("rollout", sa.String(80), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.String(40), nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("node", sa.String(255), nullable=False),
    sa.Column("wave", sa.String(80), nullable=False),
    sa.Column("batch", sa.String(80), nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("prev", sa.String(80), nullable=False),
    sa.Column("hash", sa.String(80), nullable=False),
)
_lock = sa.Table(
    "lock", _meta,
    sa.Column("rollout", sa.String(80), primary_key=True),
    sa.Column("token", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(255), nullable=False),       # "" when nobody holds it
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("process_start", sa.String(40), nullable=False),   # tells a process from a later one with its number
    sa.Column("since", sa.String(40), nullable=False),
    sa.Column("heartbeat", sa.String(40), nullable=False),
)


def _first_version(connection: sa.Connection) -> None:
    _meta.create_all(connection)


# One function a version, in order; a released one is never edited, a new one is added.
MIGRATIONS: Final[tuple[Callable[[sa.Connection], None], ...]] = (_first_version,)


class Fenced(Exception):  # noqa: N818  # a signal to the lock, which turns it into words
    """The caller's fencing token is no longer the current one."""


class Conflict(Exception):  # noqa: N818  # a signal to read again and decide again
    """Somebody else has written since the caller last read."""


class Store:
    """One rollout's journal and lock. Every method is one transaction; safe to call from several threads."""

    def __init__(self, url: str, rollout: str) -> None:
        """Open the database, and bring its schema up to date.

        Args:
            url: SQLAlchemy URL.
            rollout: Digest of the plan: one database may hold many rollouts.

        Raises:
            ApplyError: It cannot be opened, or a newer planner has written it.
        """
        self.rollout = rollout
        self.url = url
        self._thread = threading.RLock()
        try:
            self._engine = _engine(url)
            with self._transaction() as connection:
                _migrate(connection, self.where)
        except (DBAPIError, sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as exc:
            raise ApplyError(Diagnostic(code="state-unusable", subject=self.where,
                                        summary=f"the state cannot be opened: {str(exc).splitlines()[0]}",
                                        hint="check the place, or name another: --state DIR")) from exc

    @property
    def where(self) -> str:
        """The place as messages name it, without a password."""
        try:
            shown = sa.engine.make_url(self.url)
        except sa.exc.ArgumentError:
            return "the URL of --state"
        return str(shown.database) if shown.get_backend_name() == "sqlite" else shown.render_as_string()

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._thread, self._engine.begin() as connection:
            yield connection

    def read(self, after: int = 0, *, previous: str = GENESIS) -> tuple[Entry, ...]:
        """Return the entries after ``after``, checked against the hash of that entry.

        Raises:
            ApplyError: The chain does not hold.
        """
        query = sa.select(_journal).where(_journal.c.rollout == self.rollout, _journal.c.seq > after)
        with self._transaction() as connection:
            rows = connection.execute(query.order_by(_journal.c.seq)).all()
        entries = tuple(_entry(row) for row in rows)
        verify(entries, previous=previous, seq=after, where=self.where)
        return entries

    def append(self, entries: Sequence[Mapping[str, Any]], *, at: str, token: int | None = None,
               after: int | None = None) -> tuple[Entry, ...]:
        """Write entries behind the last one, all or none; they are on disk when this returns.

        Args:
            entries: Each with ``kind`` and, as they apply, ``node``, ``wave``, ``batch``, ``data``.
            at: Time of all of them, ISO 8601, UTC.
            token: The caller's fencing token; None for people's own entries (approve, pause …), which need no lock.
            after: Number of the last entry the caller has read; None when later ones do not matter.

        Raises:
            Fenced: Another controller has taken over.
            Conflict: There are entries after ``after``.
        """
        for attempt in range(_RETRIES):
            try:
                return self._append(entries, at, token, after)
            except IntegrityError:
                if attempt == _RETRIES - 1:
                    raise
        raise AssertionError("unreachable")

    def _append(self, entries: Sequence[Mapping[str, Any]], at: str, token: int | None,
                after: int | None) -> tuple[Entry, ...]:
        last = sa.select(_journal.c.seq, _journal.c.hash).where(_journal.c.rollout == self.rollout)
        with self._transaction() as connection:
            if token is not None and self._token(connection) != token:
                raise Fenced
            row = connection.execute(last.order_by(_journal.c.seq.desc()).limit(1)).first()
            seq, previous = (row.seq, row.hash) if row else (0, GENESIS)
            if after is not None and seq != after:
                raise Conflict
            written: list[Entry] = []
            for fields in entries:
                entry = chain(previous, seq + 1, at, **_plain(fields))
                written.append(entry)
                seq, previous = entry.seq, entry.hash
            if written:
                connection.execute(sa.insert(_journal), [_row(self.rollout, entry) for entry in written])
        return tuple(written)

    def _token(self, connection: sa.Connection) -> int | None:
        found = connection.execute(sa.select(_lock.c.token).where(_lock.c.rollout == self.rollout)).scalar()
        return None if found is None else int(found)

    def last_seq(self) -> int:
        """Return the number of the last entry, 0 when there is none; cheap enough to ask every second."""
        query = sa.select(sa.func.max(_journal.c.seq)).where(_journal.c.rollout == self.rollout)
        with self._transaction() as connection:
            return int(connection.execute(query).scalar() or 0)

    def lock_row(self) -> dict[str, Any] | None:
        """Return who holds the lock, None when nobody ever did."""
        with self._transaction() as connection:
            row = connection.execute(sa.select(_lock).where(_lock.c.rollout == self.rollout)).first()
        return None if row is None else dict(row._mapping)

    def take_lock(self, values: Mapping[str, Any], may_take: Callable[[dict[str, Any] | None], bool]) -> int | None:
        """Take the lock when ``may_take`` agrees to who holds it now; return the new token, None when refused.

        Every taking raises the token by one: whoever held it before is fenced off.
        """
        with self._transaction() as connection:
            query = sa.select(_lock).where(_lock.c.rollout == self.rollout).with_for_update()
            row = connection.execute(query).first()
            held = None if row is None else dict(row._mapping)
            if not may_take(held):
                return None
            token = (held["token"] if held else 0) + 1
            if held is None:
                connection.execute(sa.insert(_lock).values(rollout=self.rollout, token=token, **values))
            else:
                ours = _lock.c.rollout == self.rollout
                connection.execute(sa.update(_lock).where(ours).values(token=token, **values))
            return token

    def update_lock(self, token: int, **values: Any) -> bool:
        """Change the lock's row where the token is still ours; return whether it was."""
        query = sa.update(_lock).where(_lock.c.rollout == self.rollout, _lock.c.token == token).values(**values)
        with self._transaction() as connection:
            return connection.execute(query).rowcount == 1


def _engine(url: str) -> sa.Engine:
    parsed = sa.engine.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, isolation_level="SERIALIZABLE", pool_pre_ping=True)
    return _sqlite(parsed)


def _sqlite(url: sa.URL) -> sa.Engine:
    """Open SQLite so that what is written survives a power cut, and writers wait for each other.

    The only function that speaks SQLite.
    """
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(url, poolclass=StaticPool,
                              connect_args={"timeout": BUSY_S, "check_same_thread": False, "isolation_level": None})

    @sa.event.listens_for(engine, "connect")
    def _tune(connection: Any, record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")      # the driver itself begins nothing: isolation_level is None
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _migrate(connection: sa.Connection, where: str) -> None:
    tables = sa.inspect(connection).get_table_names()
    found = connection.execute(sa.select(_version.c.version)).scalar() if _version.name in tables else None
    current = 0 if found is None else int(found)
    if current > len(MIGRATIONS):
        raise ApplyError(Diagnostic(code="state-too-new", subject=where,
                                    summary=f"a newer planner wrote it (schema {current}, known is {len(MIGRATIONS)})",
                                    hint="use that planner: pip install --upgrade planner"))
    for migration in MIGRATIONS[current:]:
        migration(connection)
    if current < len(MIGRATIONS):
        connection.execute(sa.delete(_version))
        connection.execute(sa.insert(_version).values(version=len(MIGRATIONS)))


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    data = json.loads(json.dumps(fields.get("data", {}), sort_keys=True, allow_nan=False))
    return {"kind": fields["kind"], "node": fields.get("node", ""), "wave": fields.get("wave", ""),
            "batch": fields.get("batch", ""), "data": data}


def _row(rollout: str, entry: Entry) -> dict[str, Any]:
    return {"rollout": rollout, "seq": entry.seq, "at": entry.at, "kind": entry.kind, "node": entry.node,
            "wave": entry.wave, "batch": entry.batch, "data": json.dumps(entry.data, sort_keys=True),
            "prev": entry.prev, "hash": entry.hash}


def _entry(row: Any) -> Entry:
    try:
        data = json.loads(row.data)
    except ValueError:
        data = {"unreadable": row.data}     # its hash does not fit, which is what the reader is told
    return Entry(seq=row.seq, at=row.at, kind=row.kind, node=row.node, wave=row.wave, batch=row.batch,
                 data=data, prev=row.prev, hash=row.hash)
