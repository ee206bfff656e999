"""The chain that makes a journal append-only: each entry carries the hash of the one before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import digest
from planner.errors import ApplyError
from planner.execute.states import Entry

GENESIS = "genesis"


def chain(previous: str, seq: int, at: str, kind: str, *, node: str = "", wave: str = "", batch: str = "",
          data: Mapping[str, Any] | None = None) -> Entry:
    """Return the next entry, linked to the hash of the one before (``GENESIS`` for the first)."""
    plain = dict(data or {})
    return Entry(seq=seq, at=at, kind=kind, node=node, wave=wave, batch=batch, data=plain, prev=previous,
                 hash=_hash(previous, seq, at, kind, node, wave, batch, plain))


def _hash(previous: str, seq: int, at: str, kind: str, node: str, wave: str, batch: str,
          data: Mapping[str, Any]) -> str:
    return digest([previous, seq, at, kind, node, wave, batch, dict(data)])


def verify(entries: Iterable[Entry], *, previous: str = GENESIS, seq: int = 0, where: str = "the journal") -> str:
    """Check that entries follow each other without a gap and unchanged; return the last hash.

    Args:
        entries: In order.
        previous: Hash of the entry before the first of them.
        seq: Number of the entry before the first of them.
        where: Named in the error.

    Raises:
        ApplyError: An entry is missing, was changed or was put in.
    """
    for entry in entries:
        expected = _hash(previous, entry.seq, entry.at, entry.kind, entry.node, entry.wave, entry.batch, entry.data)
        if entry.seq != seq + 1:
            raise _broken(where, entry, f"entry {seq + 1} is missing")
        if entry.prev != previous or entry.hash != expected:
            raise _broken(where, entry, f"entry {entry.seq} ({entry.kind}) is not the one that was written")
        previous, seq = entry.hash, entry.seq
    return previous


def _broken(where: str, entry: Entry, what: str) -> ApplyError:
    return ApplyError(Diagnostic(
        code="journal-broken", subject=where, summary=f"{what}: the chain of hashes does not hold",
        why=("the journal is the only record of what has been done to the nodes; nothing goes on from a broken one",),
        hint="bring the file back from a backup; or move it away and apply again: every node is then read afresh"))
