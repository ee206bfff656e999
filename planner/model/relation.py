"""How versions of two or more things may be tied to each other."""

from __future__ import annotations

import re

from planner.model.version import Version

_NUMBER = re.compile(r"\d{1,4000}|[A-Za-z]+")     # Python refuses to read a number of more than 4300 digits
_LENGTHS = {"same-branch": 1, "same-major": 1, "same-minor": 2}


def related(relation: str, versions: tuple[str, ...], parts: int = 0) -> bool:
    """Tell whether versions stand in a relation.

    Args:
        relation: ``equal``, ``same-branch``, ``same-major``, ``same-minor``: all of them alike; ``not-older``,
            ``not-newer``: the first against each other one.
        versions: At least two; one that is written shorter is equal to every version that it begins.
        parts: How many leading numbers count for ``equal``, ``not-older`` and ``not-newer``; 0: all.
    """
    length = _LENGTHS.get(relation, parts)
    cut = [_cut(text, length) for text in versions]
    first, others = cut[0], cut[1:]
    if relation in ("not-older", "not-newer"):
        older = relation == "not-newer"
        return all(_alike(first, other) or (Version(first) < Version(other)) is older for other in others)
    return all(_alike(a, b) for i, a in enumerate(cut) for b in cut[i + 1:])


def _cut(text: str, length: int) -> str:
    return ".".join(_NUMBER.findall(text)[:length]) if length else text


def _alike(left: str, right: str) -> bool:
    if Version(left) == Version(right):
        return True
    a, b = _parts(left), _parts(right)
    return a[: len(b)] == b or b[: len(a)] == a


def _parts(text: str) -> list[str]:
    return [str(int(p)) if p.isdigit() else p.lower() for p in _NUMBER.findall(text)]
