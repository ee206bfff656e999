"""The user's own interpreter must compute on the GPUs; an answer from the CPU has to show as one.

The environment is the user's: a setting that hides all GPUs hides them from the user's programs, too, and stays. One
that picks some is replaced by those that nobody else uses: none of the others may be touched.
"""

from __future__ import annotations

import glob
import json
import os
import re
from typing import Any

from .software_find import script_text, user_environment
from .software_kit import LibraryError, N
from .software_run import run_program

MARK = "PLANNER "
# Settings of our own process only: it takes as much memory as it needs, and no cache outlives it.
FRUGAL = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
TELLING = ("CUDA_VISIBLE_DEVICES", "JAX_PLATFORMS", "JAX_PLATFORM_NAME", "LD_LIBRARY_PATH", "LD_PRELOAD",
           "PYTHONPATH", "CUDA_DISABLE_PTX_JIT")


def check_framework(name: str, python: str, uuids: list[str], prefix: str, timeout_s: float,
                    evidence: dict[str, Any]) -> None:
    """Run the work in the interpreter; see ``guarded``.

    Args:
        name: torch, tensorflow, jax or onnxruntime.
        python: The interpreter.
        uuids: GPUs that nobody else uses.
        prefix: Of the run's numbers.
        timeout_s: For the whole program.
        evidence: Filled here.
    """
    environment = dict(user_environment(), **FRUGAL)
    if not hides_all(os.environ.get("CUDA_VISIBLE_DEVICES"), len(uuids)):
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(uuids)
    request = {"framework": name, "prefix": prefix, "n": N, "gpus": len(uuids)}
    evidence.update(asked=uuids, environment={n: os.environ[n] for n in TELLING if n in os.environ})
    answer = run_program([python, "-c", script_text("framework"), json.dumps(request)], timeout_s, environment)
    lines = [line for line in answer["stdout"].splitlines() if line.startswith(MARK)]
    tail = answer["stderr"].strip()[-600:]
    try:
        evidence.update(json.loads(lines[-1][len(MARK):]))
    except (IndexError, ValueError) as exc:
        code = {"timeout": "GATE_TIMEOUT", "hung": "GATE_HUNG_D"}.get(answer.get("error", ""), "LIB_LOAD")
        words = answer.get("error") or "it ended with %s" % answer["rc"]
        raise LibraryError("%s: %s%s" % (os.path.basename(python), words, "; " + tail if tail else ""), code) from exc
    if evidence.get("error"):
        raise LibraryError(evidence["error"], "LIB_LOAD" if evidence.get("import_failed") else "LIB_CALL")
    if tail:
        evidence["stderr"] = tail


def hides_all(setting: str | None, at_least: int) -> bool:
    """Say whether a value of CUDA_VISIBLE_DEVICES leaves no GPU: its first word names none.

    Args:
        setting: The value; None where it is not set.
        at_least: GPUs that are known to be there.
    """
    if setting is None:
        return False
    first = setting.split(",")[0].strip()
    if re.match(r"(GPU|MIG)-", first):
        return False
    there = max(at_least, len(glob.glob("/proc/driver/nvidia/gpus/*")), len(glob.glob("/dev/nvidia[0-9]*")))
    return not first.isdigit() or int(first) >= there
