"""Versions and ranges of versions.

A version keeps the text it was written in (``580.65.06``); comparison is numeric, so a lost zero (``580.65.6``)
compares equal. Missing parts count as zero: ``13.0`` equals ``13.0.0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, total_ordering

_TOKEN = re.compile(r"\d{1,4000}|[A-Za-z]+")     # Python refuses to read a number of more than 4300 digits
_CONSTRAINT = re.compile(r"(>=|<=|==|!=|>|<)?\s*([0-9A-Za-z][0-9A-Za-z._+~:-]*(?:\.\*)?|\*)")

RANGE_MAX = 1000     # what people write is short; what is longer is a slip or an attack

# Order of one part: letters (pre-release) < end of version < number.
Key = tuple[tuple[int, ...] | tuple[int, str], ...]


@lru_cache(maxsize=65_536)
def version_key(text: str) -> Key:
    """Return the sort key of a version text; equal keys mean equal versions."""
    parts: list[tuple[int, ...] | tuple[int, str]] = []
    for token in [*_TOKEN.findall(text), ""]:
        if not token.isdigit():       # 2.0rc1 comes before 2.0: zeros before letters, and at the end, count for nothing
            while parts and parts[-1] == (2, 0):
                parts.pop()
        if token:
            parts.append((2, int(token)) if token.isdigit() else (0, token.lower()))
    return (*parts, (1,))


@total_ordering
@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One version; compares by value, prints as it was written."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and version_key(self.text) == version_key(other.text)

    def __lt__(self, other: Version) -> bool:
        return version_key(self.text) < version_key(other.text)

    def __hash__(self) -> int:
        return hash(version_key(self.text))

    def __str__(self) -> str:
        return self.text

    @property
    def branch(self) -> str:
        """Leading number: ``580`` of ``580.65.06``."""
        return _TOKEN.findall(self.text)[0] if _TOKEN.search(self.text) else self.text


@dataclass(frozen=True, slots=True)
class VersionRange:
    """A set of versions: alternatives joined by ``|``, each a conjunction of constraints joined by space or comma.

    A bare version is a prefix: ``12.8`` holds 12.8 and 12.8.1; ``580.65.06`` holds just itself; ``11.*`` is the
    prefix 11; ``*`` holds everything. Operators compare exactly: ``==12.8``, ``>=580.65 <581``.
    """

    text: str
    alternatives: tuple[tuple[tuple[str, str], ...], ...]

    def __contains__(self, version: object) -> bool:
        return contains(self.text, version.text if isinstance(version, Version) else str(version))

    def __str__(self) -> str:
        return self.text


@lru_cache(maxsize=16_384)
def parse_range(text: str) -> VersionRange:
    """Parse a range.

    Raises:
        ValueError: The text is not a range; the message shows the part that is wrong.
    """
    if len(text) > RANGE_MAX:
        raise ValueError(f"{text[:20]!r}… has {len(text)} characters, a version range has at most {RANGE_MAX}")
    alternatives = tuple(tuple(_constraints(part, text)) for part in text.split("|"))
    return VersionRange(text, alternatives)


def _constraints(part: str, whole: str) -> Iterable[tuple[str, str]]:
    rest = part.strip().strip(",")
    if not rest:
        raise ValueError(f"empty alternative in version range {whole!r}")
    while rest:
        match = _CONSTRAINT.match(rest)
        if not match:
            raise ValueError(f"cannot read {rest!r} in version range {whole!r}")
        operator, version = match.group(1) or "prefix", match.group(2)
        if not re.search(r"\d", version) and version != "*":
            raise ValueError(f"{version!r} is not a version in range {whole!r}")
        if version.endswith(".*"):
            if operator != "prefix":
                raise ValueError(f"{operator} does not go with {version!r} in range {whole!r}")
            version = version[:-2]
        yield operator, version
        rest = rest[match.end():].lstrip(" ,")


@lru_cache(maxsize=262_144)
def contains(range_text: str, version_text: str) -> bool:
    """Tell whether a version lies in a range (both as text; results are cached)."""
    return any(
        all(_holds(op, bound, version_text) for op, bound in alternative)
        for alternative in parse_range(range_text).alternatives
    )


def _holds(operator: str, bound: str, version: str) -> bool:
    if operator == "prefix":
        if bound == "*":
            return True
        wanted, have = _plain_parts(bound), _plain_parts(version)
        return have[: len(wanted)] == wanted or version_key(bound) == version_key(version)
    left, right = version_key(version), version_key(bound)
    return {
        ">=": left >= right, "<=": left <= right, ">": left > right,
        "<": left < right, "==": left == right, "!=": left != right,
    }[operator]


def _plain_parts(text: str) -> list[str | int]:
    return [int(t) if t.isdigit() else t.lower() for t in _TOKEN.findall(text)]


def newest(versions: Iterable[str]) -> list[str]:
    """Return version texts, newest first; ties broken by text."""
    return sorted(versions, key=lambda v: (version_key(v), v), reverse=True)
