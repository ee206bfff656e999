"""Globs over names, and whether two templates of package names can mean the same package."""

from __future__ import annotations

import re
import string
from fnmatch import fnmatchcase
from functools import lru_cache

_NAME = frozenset(string.ascii_lowercase + string.ascii_uppercase + string.digits + ".+_-")
_DIGITS = frozenset(string.digits)
_PART = re.compile(r"\{(?P<field>\w+)\}|\[(?P<set>[^]]+)\]|(?P<wild>[*?])|(?P<plain>.)")
_WIDE = frozenset({"version", "abi"})          # these hold more than digits

# A template is a chain of links: the characters that may stand there, and whether they may stand any number of times.
_Link = tuple[frozenset[str], bool]
_NUMBER: tuple[_Link, ...] = ((_DIGITS, False), (_DIGITS, True))
_FIELD_LINKS: dict[str, tuple[_Link, ...]] = {
    "branch": _NUMBER, "cuda_major": _NUMBER,
    "dashed": (*_NUMBER, (frozenset("-"), False), *_NUMBER),
    "dotted": (*_NUMBER, (frozenset("."), False), *_NUMBER),
}


_SPECIAL = re.compile(r"[*?[]")


def matches(text: str, glob: str) -> bool:
    """Tell what ``fnmatchcase`` tells; a glob that begins in another way, or has stars only, is not compiled."""
    prefix, parts = _shape(glob)
    if parts is None:
        return text.startswith(prefix) and fnmatchcase(text, glob)
    if len(parts) == 1:
        return text == glob
    first, *middle, last = parts
    at, end = len(first), len(text) - len(last)
    if at > end or not (text.startswith(first) and text.endswith(last)):
        return False
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


@lru_cache(maxsize=16_384)
def _shape(glob: str) -> tuple[str, tuple[str, ...] | None]:
    """Return what stands before everything special, and what stands between stars; None where not only stars do."""
    found = _SPECIAL.search(glob)
    prefix = glob if found is None else glob[:found.start()]
    return prefix, None if "?" in glob or "[" in glob else tuple(glob.split("*"))


def overlap(left: str, right: str) -> bool:
    """Tell whether some package name matches both templates, each with versions of its own in its fields.

    Walks both chains at once, as one would through the product of two automata.
    """
    first, second = _links(left), _links(right)
    todo, seen = [(0, 0)], {(0, 0)}
    while todo:
        a, b = todo.pop()
        if a == len(first) and b == len(second):
            return True
        following = set()
        if a < len(first) and first[a][1]:
            following.add((a + 1, b))
        if b < len(second) and second[b][1]:
            following.add((a, b + 1))
        if a < len(first) and b < len(second) and first[a][0] & second[b][0]:
            following.add((a + (not first[a][1]), b + (not second[b][1])))
        todo += following - seen
        seen |= following
    return False


def _links(template: str) -> tuple[_Link, ...]:
    links: list[_Link] = []
    for part in _PART.finditer(template):
        if field := part.group("field"):
            links += ((_DIGITS, False), (_NAME, True)) if field in _WIDE else _FIELD_LINKS.get(field, ((_NAME, True),))
        elif part.group("set"):
            links.append((_members(part.group("set")), False))
        elif wild := part.group("wild"):
            links.append((_NAME, wild == "*"))
        else:
            links.append((frozenset(part.group("plain")), False))
    return tuple(links)


def _members(text: str) -> frozenset[str]:
    """Return the characters of a bracket's inside: single ones and ranges, all others after ``!``."""
    listed = text.removeprefix("!")
    found = {c for a, b in re.findall(r"(.)-(.)", listed) for c in map(chr, range(ord(a), ord(b) + 1))}
    found |= set(re.sub(r".-.", "", listed))
    return _NAME - found if text.startswith("!") else frozenset(found)
