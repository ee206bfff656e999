"""Values as people write them -> values that rules compare."""

from __future__ import annotations

import re
from typing import Any

from planner.matrix.index import MatrixSet
from planner.matrix.schema import Term

_VERSION = re.compile(r"(?<![\w.])[vVrR]?(\d+(?:\.\d+)*(?:(?:rc|a|b|alpha|beta|dev|post|\.post|\.dev)\d*)?)")
_COUNT = re.compile(r"(?:^|[\s(])(?:x\s*(\d+)|(\d+)\s*x)(?=$|[\s)(,])", re.IGNORECASE)
_LOCAL = re.compile(r"\+([A-Za-z0-9.]+)")
_BUILT_FOR = re.compile(r"torch(\d+\.\d+(?:\.\d+)?)")
_NO = frozenset({"no", "none", "absent", "not installed", "n/a"})
_KEPT_WHOLE = frozenset({"kernel", "next_kernel"})


def versions(value: Any) -> tuple[str, ...]:
    """Return the versions in a value: one or a list; ``None`` and words for "none" give ()."""
    if value is None or value is False:
        return ()
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(v for item in value for v in versions(item)))
    text = str(value).strip()
    if text.lower() in _NO:
        return ()
    found = _VERSION.search(text)
    return (found.group(1),) if found else ()


def words(component: str, value: Any, matrices: MatrixSet) -> tuple[str, ...] | None:
    """Return the values of a component that a text or boolean stands for; None where it cannot be read."""
    if value is None:
        return ()
    if component in _KEPT_WHOLE:
        return (str(value).strip().split()[0],) if str(value).strip() else None
    if matrices.is_text(component):
        if isinstance(value, bool):
            return ("yes" if value else "no",)
        return tuple(str(v).strip().lower() for v in (value if isinstance(value, list) else [value]))
    if value is True:
        return None                    # installed, the version is not said
    found = versions(value)
    return found if found or value is False or str(value).strip().lower() in _NO else None


def local_part(version: str) -> str:
    """Return what stands behind the plus sign: ``cu126`` of ``2.7.0+cu126``."""
    found = _LOCAL.search(version)
    return found.group(1).lower() if found else ""


def build_of(component: str, build: str, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return what the local part of a version says: the build, and the framework that an extension was built for."""
    state: dict[str, tuple[str, ...]] = {f"{component}_build": (build,)}
    found = _BUILT_FOR.search(build)
    if found and f"{component}_torch" in matrices.components:
        state[f"{component}_torch"] = (found.group(1),)
    return state


def count(name: str, stated: Any) -> int | None:
    """Return how many GPUs an entry means, or None when it does not say."""
    if str(stated or "").isdigit():
        return int(stated)
    found = _COUNT.search(name)
    return int(found.group(1) or found.group(2)) if found else None


def terms(kind: str, text: str, matrices: MatrixSet) -> list[tuple[Term, str]]:
    """Return the terms of the vocabulary that a text matches, each with its value filled in.

    The first term for each component counts.
    """
    found: dict[str, tuple[Term, str]] = {}
    for term in matrices.vocabulary:
        if term.kind != kind or term.component in found:
            continue
        match = re.search(term.write, text.strip(), re.IGNORECASE)
        if match:
            value = re.sub(r"\{(\d+)\}", lambda m, g=match: g.group(int(m.group(1))) or "", term.value)  # type: ignore[misc]
            found[term.component] = (term, value.strip("-. "))
    return list(found.values())
