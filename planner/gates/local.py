"""Runs the gate on this very machine: the same probe file that goes to nodes, in a process of its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.data import probe_zip
from planner.diagnostics import Diagnostic
from planner.errors import PlannerError


def run_local_gate(request: Mapping[str, Any], host: str, timeout_s: int) -> tuple[str, dict[str, Any]]:
    """Return (what the probe printed, what it was asked), with a fresh nonce.

    Args:
        request: ``profile`` and, where wanted, ``expect``, ``software``, ``required``.
        host: Name that enters the kernels' seeds.
        timeout_s: Limit of the whole probe.

    Raises:
        PlannerError: The probe itself could not run or did not end.
    """
    asked = {**request, "nonce": secrets.token_hex(16), "host": host}
    with tempfile.TemporaryDirectory(prefix="planner-gate-") as directory:
        probe, wanted = Path(directory) / "probe.zip", Path(directory) / "request.json"
        probe.write_bytes(probe_zip())
        wanted.write_text(json.dumps(asked), encoding="utf-8")
        argv = [sys.executable, str(probe), "gate", "--request", f"@{wanted}"]
        try:
            ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s,
                                   check=False)
        except subprocess.TimeoutExpired as exc:
            raise _failed(f"no answer after {timeout_s} s", "look for state D: ps -eo pid,stat,comm") from exc
    if ended.returncode:
        raise _failed(ended.stderr.strip() or f"exit status {ended.returncode}", "planner doctor -i INVENTORY")
    return ended.stdout, asked


def _failed(words: str, hint: str) -> PlannerError:
    return PlannerError(Diagnostic(code="gate-not-run", subject="this machine", summary=f"the probe failed: {words}",
                                   hint=hint))
