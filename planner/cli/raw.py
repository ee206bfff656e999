"""The matrices as parsed YAML and nothing more: what the validator reads. Parsing is kept by the digest of the text."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from planner.cli.inputs import matrix_sources
from planner.documents import parse_yaml
from planner.matrix.sources import Kept, Sources

Raw = list[tuple[str, dict[str, Any]]]

# What a validator of plans looks at. Messages, releases and models of GPUs are most of the text.
_SECTIONS = ("components", "moves", "families", "lockstep", "claims", "packages", "across", "times")
# What an entry says to people and to its tests: no rule is judged by it. Most of the rest of the text.
_WORDS = frozenset({"accepts", "description", "hint", "provenance", "rejects", "root_cause", "statement", "title"})


def raw_matrices(overlays: tuple[Path, ...]) -> Raw:
    """Return (file, its rules) of the shipped matrices, then of each overlay."""
    return raw_rules(matrix_sources(overlays))


def raw_rules(sources: Sources) -> Raw:
    """Return (file, its rules) of matrix files, in their order; what YAML made of the text is kept as JSON."""
    kept = Kept(sources, "raw.json", (" ".join(_SECTIONS).encode(), " ".join(sorted(_WORDS)).encode()))
    if (data := kept.read()) is not None:
        with suppress(ValueError):
            return [(name, rules) for name, rules in json.loads(data)]
    parsed = [(name, _rules(parse_yaml(data.decode(), name=name))) for name, data in sources.files]
    kept.write(json.dumps(parsed).encode())
    return parsed


def _rules(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        return {}
    return {section: [_judged(entry) for entry in raw[section] or ()] for section in _SECTIONS if section in raw}


def _judged(entry: Any) -> Any:
    return {key: value for key, value in entry.items() if key not in _WORDS} if isinstance(entry, dict) else entry
