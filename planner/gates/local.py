"""Runs the gate on this very machine: the same probe file that goes to nodes, in a process of its own."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from planner.data import probe_zip
from planner.diagnostics import Diagnostic
from planner.errors import PlannerError

TIMEOUT_S = 1800


def run_local_gate(profile: str, host: str, expect: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return (what the probe printed, what it was asked), with a fresh nonce.

    Args:
        profile: quick | full.
        host: Name that enters the kernels' seeds.
        expect: Versions and number of GPUs that must be found; may be empty.

    Raises:
        PlannerError: The probe itself could not run or did not end.
    """
    request = {"profile": profile, "nonce": secrets.token_hex(16), "host": host, "expect": expect}
    with tempfile.TemporaryDirectory(prefix="planner-gate-") as directory:
        probe = Path(directory) / "probe.zip"
        probe.write_bytes(probe_zip())
        argv = [sys.executable, str(probe), "gate", "--request", json.dumps(request)]
        try:
            ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
                                   check=False)
        except subprocess.TimeoutExpired as exc:
            raise _failed(f"no answer after {TIMEOUT_S} s", "look for state D: ps -eo pid,stat,comm") from exc
    if ended.returncode:
        raise _failed(ended.stderr.strip() or f"exit status {ended.returncode}", "planner doctor -i INVENTORY")
    return ended.stdout, request


def _failed(words: str, hint: str) -> PlannerError:
    return PlannerError(Diagnostic(code="gate-not-run", subject="this machine", summary=f"the probe failed: {words}",
                                   hint=hint))
