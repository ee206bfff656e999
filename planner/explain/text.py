"""Finds known messages in text. Knows no message: patterns come from the matrices."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from planner.matrix.literals import Clause
from planner.matrix.schema import Signature

LINES_MAX = 200_000
LINE_CHARACTERS_MAX = 4_000
ALIKE_MAX = 50               # lines that differ in numbers only; the rest of a log's own repetition is not read
SPOKEN_MAX = 100             # lines at either end of a log in which a person may say something about it
_LONG = 20_000               # characters from which looking for words first is worth its price


@dataclass(frozen=True, slots=True)
class Match:
    """One signature found in a message.

    Attributes:
        line: The first line that matches, cut to a readable length.
        facts: Component -> value, as the message itself says it.
        count: How many distinct lines match.
    """

    signature: Signature
    line: str
    facts: tuple[tuple[str, str], ...]
    count: int


def clean_lines(text: str) -> tuple[str, ...]:
    """Return the distinct lines of a text in order, without control characters, overlong ones cut."""
    lines, alike = [], Counter[str]()
    for line in text.splitlines()[:LINES_MAX]:
        plain = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", line[:LINE_CHARACTERS_MAX])
        plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", plain).strip()
        form = re.sub(r"\d+", "0", plain)
        if plain and alike[form] < ALIKE_MAX:
            alike[form] += 1
            lines.append(plain)
    return tuple(dict.fromkeys(lines))


def find(lines: Sequence[str], signatures: Sequence[Signature], needed: Mapping[str, tuple[Clause, ...]]
         ) -> Iterator[Match]:
    """Yield every signature that a line matches, in the order of the matrices.

    Args:
        lines: ``clean_lines``.
        signatures: What is looked for.
        needed: Pattern -> words without which it cannot match; patterns that cannot are not even compiled.
    """
    haystack = ends = _Haystack(lines, needed)
    if len(lines) > 2 * SPOKEN_MAX:
        ends = _Haystack([*lines[:SPOKEN_MAX], *lines[-SPOKEN_MAX:]], needed)
    for signature in signatures:
        first, count = "", 0
        facts: dict[str, str] = {}
        for pattern in signature.match:
            whole = (ends if signature.spoken else haystack).worth_reading(pattern)
            for found in compiled(pattern).finditer(whole) if whole else ():
                count += 1
                if count == 1:
                    start, end = whole.rfind("\n", 0, found.start()) + 1, whole.find("\n", found.end())
                    first = whole[start:end if end >= 0 else len(whole)]
                for name, value in found.groupdict().items():
                    if value:
                        facts.setdefault(name, value.strip())
        if count:
            yield Match(signature, first[:300], tuple(facts.items()), count)


class _Haystack:
    """The lines of a message. Of a long one a pattern reads only lines that hold the words it needs."""

    def __init__(self, lines: Sequence[str], needed: Mapping[str, tuple[Clause, ...]]) -> None:
        self._lines, self._needed = lines, needed
        self._whole = "\n".join(lines)
        self._all = self._whole.lower()
        self._lower = [line.lower() for line in lines] if len(self._whole) > _LONG else []
        self._seen: dict[str, frozenset[int]] = {}

    def worth_reading(self, pattern: str) -> str:
        """Return the lines that a pattern could match, with their neighbours: a message may break over two lines."""
        needed = self._needed.get(pattern, ())
        if any(not any(word in self._all for word in words) for words in needed):
            return ""
        if not needed or not self._lower:
            return self._whole
        numbers: frozenset[int] | None = None
        for words in needed:
            held = frozenset[int]().union(*(self._near(word) for word in words))
            numbers = held if numbers is None else numbers & held
            if not numbers:
                return ""
        return "\n".join(self._lines[n] for n in sorted(numbers or ()))

    def _near(self, word: str) -> frozenset[int]:
        if word not in self._seen:
            hits = [n for n, line in enumerate(self._lower) if word in line]
            self._seen[word] = frozenset(m for n in hits for m in (n - 1, n, n + 1) if 0 <= m < len(self._lower))
        return self._seen[word]


@lru_cache(maxsize=4_096)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern ready to search lines: case ignored, ``^`` and ``$`` at line ends."""
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)
