"""Runs in a user's interpreter: tells where its packages lie and which of the named ones it has, importing none."""

import contextlib
import importlib.util
import json
import sys
from typing import Any

try:
    from importlib.metadata import distributions
except ImportError:
    distributions = None  # type: ignore[assignment]


def found(names: Any) -> Any:
    """Return name -> version ("" where no record tells it) of the packages that can be imported."""
    have = {}
    for name in names:
        with contextlib.suppress(ImportError, ValueError):
            if importlib.util.find_spec(name) is not None:
                have[name] = ""
    if distributions is not None:
        for dist in distributions():
            title = (dist.metadata["Name"] or "").lower().replace("-", "_")
            for name in have:
                if title == name or (title.startswith(name + "_") and not have[name]):
                    have[name] = dist.version or ""
    return have


print(json.dumps({"frameworks": found(sys.argv[1:]), "sites": [p for p in sys.path if p], "version": sys.version}))
