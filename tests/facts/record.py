"""Turns a probe document into a recording: what tells the machine apart is replaced, nothing else is touched.

Use: python3 -m planner.probe facts | python -m tests.facts.record "recorded: what machine" > NAME.json
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

MACHINE_ID = "0" * 32
BOOT_ID = "00000000-0000-0000-0000-000000000000"
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_HOME = re.compile(r"/(?:home|root)/[^\s:\"',]*")


def scrub(value: Any, key: str = "") -> Any:
    """Return a copy without serial numbers, UUIDs, machine-ids, bus ids and paths below home directories."""
    if isinstance(value, dict):
        return {_text(k): scrub(v, k) for k, v in value.items()}
    if isinstance(value, list):
        return [scrub(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if key in ("serial", "/sys/class/dmi/id/product_serial", "/sys/class/dmi/id/product_uuid"):
        return "0"
    if key == "executable":
        return value.rpartition("/")[2]
    return (MACHINE_ID + "\n") if key == "/etc/machine-id" else _text(value)


def _text(text: str) -> str:
    return _HOME.sub("/home/someone", _UUID.sub(BOOT_ID, text))


if __name__ == "__main__":
    document = scrub(json.load(sys.stdin))
    json.dump({"origin": sys.argv[1], "document": document}, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")
