"""Runs planner against the NVIDIA GPUs of this very machine, and keeps what was seen as one JSON file.

Use, on a machine with a GPU: python benchmarks/gpu_evidence.py --out benchmarks/evidence
The file carries date, GPU, driver, every command with its exit code, and the answers; host names are replaced.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from planner.data import probe_zip
from planner.gates.judge import judge_gate

HERE = "this-machine"
INVENTORY = {"all": {"hosts": {HERE: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable,
                                      "ansible_become": False}}}}
TARGETS: dict[str, dict[str, Any]] = {
    "as-it-is": {"driver": None},
    "newer-branch": {"driver": ">=590"},
    "cuda-13.1-beside": {"cuda_toolkits": {"present": ["13.1"], "default": "13.1"}},
}
TEXT_MAX = 20_000
_PTX = ".version {version}\n.target {target}\n.address_size 64\n.visible .entry nothing() {{ ret; }}\n"
# name -> (CUDA_VISIBLE_DEVICES or None, PTX that is given to the driver)
PROVOKED = {
    "ptx-newer-than-the-driver": (None, _PTX.format(version="9.9", target="sm_90")),
    "ptx-for-another-gpu": (None, _PTX.format(version="8.7", target="sm_120")),
    "ptx-that-is-none": (None, "this is no PTX"),
    "no-visible-device": ("", ""),
}
PROVOKE = """
import ctypes, sys
from planner.probe.cuda import CudaError, Driver
try:
    driver, device, context, module = Driver(), ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p()
    driver.call("cuInit", 0)
    driver.call("cuDeviceGet", ctypes.byref(device), 0)
    driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    driver.call("cuCtxSetCurrent", context)
    driver.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(sys.argv[1].encode()))
    print("the driver took it")
except CudaError as exc:
    print(exc)
"""


def main() -> int:
    """Run everything; the exit status is 0 only when the gate passed on every GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for the evidence file")
    out: Path = parser.parse_args().out
    with tempfile.TemporaryDirectory(prefix="planner-evidence-") as folder:
        document = collect(Path(folder))
    out.mkdir(parents=True, exist_ok=True)
    gpu = document["gpu"].lower().replace(" ", "-").removeprefix("nvidia-")
    path = out / f"{gpu}-{document['driver']}-{document['date'][:10]}.json"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    for step in document["steps"]:
        print(f"{step['exit_code']:>3}  {step['seconds']:6.2f} s  {step['command']}")
    verdict = document["probe_by_hand"]["judged"]["verdict"]
    print(f"{document['gpu']}, driver {document['driver']}: gate by hand: {verdict}; written to {path.name}")
    return 0 if verdict == "pass" else 1


def collect(folder: Path) -> dict[str, Any]:
    """Return the evidence document."""
    steps: list[dict[str, Any]] = []
    (folder / "hosts.json").write_text(json.dumps(INVENTORY), encoding="utf-8")
    by_hand = probe_by_hand(folder)
    run(steps, folder, "discover", "-i", "hosts.json", "--out", "facts.json")
    run(steps, folder, "check", "--facts", "facts.json", "-o", "json")
    run(steps, folder, "check", "--python", sys.executable, "--facts", "facts.json", "-o", "json")
    messages = provoke(folder)
    for message in messages.values():
        run(steps, folder, "explain", "--message", message, "-o", "json")
        run(steps, folder, "explain", "--message", message, "--stack", "facts.json", "-o", "json")
    facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    facts_set = next(iter(facts["fact_sets"].values()), {})
    driver = str(facts_set.get("driver", {}).get("loaded"))
    gpus = [g["model"] for g in facts_set.get("gpus", ())]
    run(steps, folder, "gate", "run", "--driver", driver, "--gpus", str(len(gpus)), "-o", "json")
    run(steps, folder, "gate", "baseline", "--out", "before.json")
    run(steps, folder, "gate", "compare", "before.json")
    run(steps, folder, "gate", "run", "--driver", "999.99.99")
    for name, want in TARGETS.items():
        target = {"schema": "planner.target/1", "name": name,
                  "want": {k: v or driver for k, v in want.items()}, "rollout": {"soak_minutes": 0}}
        (folder / f"{name}.yml").write_text(json.dumps(target), encoding="utf-8")
        run(steps, folder, "plan", "--facts", "facts.json", "--target", f"{name}.yml")
    return {"schema": "planner.evidence/1", "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": "python benchmarks/gpu_evidence.py --out benchmarks/evidence",
            "gpu": gpus[0] if gpus else "none",
            "gpus": len(gpus), "driver": driver, "python": sys.version.split()[0], "facts": facts_set,
            "probe_by_hand": by_hand, "provoked": messages, "steps": steps}


def provoke(folder: Path) -> dict[str, str]:
    """Make this machine's driver refuse things on purpose; returns what it said, in its own words.

    Each is tried in a process of its own; nothing is left on the GPU.
    """
    said = {}
    for name, (visible, ptx) in PROVOKED.items():
        environment = {**os.environ, **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})}
        done = subprocess.run([sys.executable, "-c", PROVOKE, ptx], cwd=folder, env=environment, capture_output=True,
                              text=True, check=False, timeout=60)
        said[name] = (done.stdout or done.stderr).strip()
    return said


def probe_by_hand(folder: Path) -> dict[str, Any]:
    """Run the probe's zip as a person would, and judge what it printed."""
    (folder / "probe.zip").write_bytes(probe_zip())
    request = {"profile": "full", "nonce": hashlib.sha256(str(time.time_ns()).encode()).hexdigest()[:32], "host": HERE}
    started = time.monotonic()
    done = subprocess.run([sys.executable, "probe.zip", "gate", "--request", json.dumps(request)], cwd=folder,
                          capture_output=True, text=True, check=False)
    return {"command": "python3 probe.zip gate --request …", "request": request, "exit_code": done.returncode,
            "seconds": round(time.monotonic() - started, 3), "report": json.loads(done.stdout or "{}"),
            "judged": judge_gate(done.stdout, request), "probe_sha256": hashlib.sha256(probe_zip()).hexdigest()}


def run(steps: list[dict[str, Any]], folder: Path, *words: str) -> None:
    """Run one command of planner and keep what it said."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "planner", *words], cwd=folder, capture_output=True, text=True,
                          check=False)
    seconds = round(time.monotonic() - started, 3)
    steps.append({"command": "planner " + " ".join(words), "exit_code": done.returncode, "seconds": seconds,
                  "stdout": done.stdout[-TEXT_MAX:], "stderr": done.stderr[-TEXT_MAX:]})


if __name__ == "__main__":
    sys.exit(main())
