"""The matrices as parsed YAML and nothing more: what the validator reads. Parsing is kept by the digest of the text."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from planner.data import data_dir
from planner.documents import parse_yaml

Raw = list[tuple[str, dict[str, Any]]]

# What a validator of plans looks at. Messages, releases and models of GPUs are most of the text.
_SECTIONS = ("components", "moves", "families", "lockstep", "claims", "packages")


def raw_matrices(overlays: tuple[Path, ...]) -> Raw:
    """Return (file name, its rules) of the shipped matrices, then of each overlay.

    What YAML made of the text is kept as JSON in the user's cache directory; a cache that cannot be read or written is
    ignored.
    """
    files = [p for folder in (data_dir("matrices"), *overlays) for p in sorted(folder.glob("*.yml"))]
    texts = [(p, p.read_bytes()) for p in files]
    named = (part for p, data in texts for part in (str(p).encode(), data))
    digest = hashlib.sha256(b"\0".join((" ".join(_SECTIONS).encode(), *named))).hexdigest()
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(root) / "planner" / "raw" / f"{digest}.json"
    with suppress(OSError, ValueError):
        if cache.stat().st_uid == os.getuid():
            return [(name, raw) for name, raw in json.loads(cache.read_bytes())]
    parsed = [(p.name, _rules(parse_yaml(data.decode(), name=str(p)))) for p, data in texts]
    with suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary = cache.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(parsed), encoding="utf-8")
        temporary.replace(cache)
    return parsed


def _rules(raw: Any) -> dict[str, Any]:
    return {section: raw[section] for section in _SECTIONS if section in raw} if isinstance(raw, dict) else {}
