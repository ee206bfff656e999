"""Which words a text must hold before a pattern can match it, so that a long log is not read by every pattern.

Read off the parse tree of the pattern. Where the tree holds something unknown, nothing is demanded: the answer may be
too weak (a pattern is tried in vain), never too strong (a match is missed).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

try:
    from re import _parser as _tree  # type: ignore[attr-defined]  # no public module gives the tree
except ImportError:                  # another Python: every pattern is tried
    _tree = None

Clause = frozenset[str]              # any of these words, lower case
_SHORTEST = 2
_WIDEST = 40                         # words of one clause; more are dearer to look for than the pattern


@lru_cache(maxsize=4_096)
def clauses(pattern: str) -> tuple[Clause, ...]:
    """Return what must all hold of a text, in lower case, that the pattern can match; () demands nothing."""
    if _tree is None or not pattern.isascii():
        return ()
    try:
        return tuple(_of(_tree.parse(pattern, re.IGNORECASE | re.MULTILINE)))
    except re.error:
        return ()


def _of(items: Sequence[tuple[Any, Any]]) -> Iterator[Clause]:
    run = ""
    for operator, argument in (*items, (None, None)):
        if str(operator) == "LITERAL":
            run += chr(argument).lower()
            continue
        if len(run) >= _SHORTEST:
            yield frozenset({run})
        run = ""
        yield from _within(str(operator), argument)


def _within(operator: str, argument: Any) -> Iterator[Clause]:
    if operator == "SUBPATTERN":
        yield from _of(argument[3])
    elif operator in ("MAX_REPEAT", "MIN_REPEAT") and argument[0] > 0:
        yield from _of(argument[2])
    elif operator == "BRANCH":
        best = [max(_of(branch), key=lambda clause: min(map(len, clause)), default=frozenset())
                for branch in argument[1]]
        words = frozenset[str]().union(*best)
        if all(best) and len(words) <= _WIDEST:
            yield words
