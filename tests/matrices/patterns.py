"""A text that a regular expression finds: enough of it for the patterns of the matrices, checked by whoever asks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, product
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]

from planner.explain.text import compiled

_SAMPLES = {op.CATEGORY_DIGIT: "1", op.CATEGORY_SPACE: " ", op.CATEGORY_WORD: "a",
            op.CATEGORY_NOT_DIGIT: "a", op.CATEGORY_NOT_SPACE: "a", op.CATEGORY_NOT_WORD: " "}
_TRIES = 200


def text_for(pattern: str) -> str | None:
    """Return a text in which a pattern is found, or None where none was made."""
    tree = parser.parse(pattern, re.IGNORECASE | re.MULTILINE)
    return next((t for t in islice(_texts(tree), _TRIES) if compiled(pattern).search(t)), None)


def _texts(tree: object) -> Iterator[str]:
    parts = [list(islice(_part(code, argument), 6)) for code, argument in tree]  # type: ignore[attr-defined]
    for chosen in product(*parts):
        yield "".join(chosen)


def _part(code: object, argument: object) -> Iterator[str]:
    if code is op.LITERAL:
        yield chr(argument)  # type: ignore[arg-type]
    elif code is op.ANY:
        yield from ("x", " ")
    elif code is op.NOT_LITERAL:
        yield from [c for c in "x y" if argument != ord(c)][:2]
    elif code is op.IN:
        yield from _one_of(argument)  # type: ignore[arg-type]
    elif code is op.BRANCH:
        for branch in argument[1]:  # type: ignore[index]
            yield from islice(_texts(branch), 3)
    elif code is op.SUBPATTERN:
        yield from _texts(argument[-1])  # type: ignore[index]
    elif code in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
        low, high, tree = argument  # type: ignore[misc]
        once = list(islice(_texts(tree), 4))
        for times in dict.fromkeys((low, max(low, min(high, 1)))):
            yield from (text * times for text in once)
    elif code is op.ASSERT:
        yield from ("", *islice(_texts(argument[1]), 2))  # type: ignore[index]
    else:                          # anchors and what must not stand there: nothing to write
        yield ""


def _one_of(members: list[tuple[object, object]]) -> Iterator[str]:
    if members[0][0] is op.NEGATE:
        excluded = "".join(t for member in members[1:] for t in _one_of([member]))
        yield from [c for c in "x 1-_." if c not in excluded][:2]
        return
    for code, argument in members:
        if code is op.LITERAL:
            yield chr(argument)  # type: ignore[arg-type]
        elif code is op.RANGE:
            yield chr(argument[0])  # type: ignore[index]
        elif code is op.CATEGORY:
            yield _SAMPLES[argument]
