"""Finds known messages in text. Knows no message: patterns come from the matrices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from planner.matrix.schema import Signature

LINES_MAX = 200_000
LINE_CHARACTERS_MAX = 4_000


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
    lines = []
    for line in text.splitlines()[:LINES_MAX]:
        plain = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", line[:LINE_CHARACTERS_MAX])
        plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", plain).strip()
        if plain:
            lines.append(plain)
    return tuple(dict.fromkeys(lines))


def find(lines: Sequence[str], signatures: Sequence[Signature]) -> Iterator[Match]:
    """Yield every signature that a line matches, in the order of the matrices."""
    whole = "\n".join(lines)
    for signature in signatures:
        first, count = "", 0
        facts: dict[str, str] = {}
        for pattern in signature.match:
            for found in compiled(pattern).finditer(whole):
                count += 1
                if count == 1:
                    start, end = whole.rfind("\n", 0, found.start()) + 1, whole.find("\n", found.end())
                    first = whole[start:end if end >= 0 else len(whole)]
                for name, value in found.groupdict().items():
                    if value:
                        facts.setdefault(name, value.strip())
        if count:
            yield Match(signature, first[:300], tuple(facts.items()), count)


@lru_cache(maxsize=4_096)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern ready to search lines: case ignored, ``^`` and ``$`` at line ends."""
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)
