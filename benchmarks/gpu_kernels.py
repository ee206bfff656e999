"""Runs every measuring kernel of the gates on the real GPUs of this machine; keeps samples, evidence and expectations.

Use, with nothing installed but Python and a driver: python3 benchmarks/gpu_kernels.py --out DIR
One JSON file: date, driver, GPU, nonce, every sample, and for each result what was expected where it is another. The
exit status is 0 only when every measurement ran on every GPU and was right. No host name enters the file.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import ctypes
import json
import platform
import re
import secrets
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from planner.gates.expect import tensor_cores_work, wrong  # noqa: E402
from planner.probe.cuda import CudaError, Driver, identity  # noqa: E402
from planner.probe.kernels import SIZES  # noqa: E402
from planner.probe.measure import measure_all  # noqa: E402

LIMIT_S = 150


def main() -> int:
    """Run everything and write the evidence; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for the evidence file")
    parser.add_argument("--quick-runs", type=int, default=5, help="processes a GPU with the quick sizes")
    parser.add_argument("--standard-runs", type=int, default=2, help="the same with the standard sizes")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(json.loads(options.child))
    started = time.monotonic()
    listed = in_child({"list": True})
    gpus, runs = listed.get("gpus", []), []
    for profile, repeats in (("quick", options.quick_runs), ("standard", options.standard_runs)):
        for _ in range(repeats):
            runs += [one(profile, index, gpu, "one at a time") for index, gpu in enumerate(gpus)]
    if len(gpus) > 1:
        with concurrent.futures.ThreadPoolExecutor(len(gpus)) as pool:
            runs += pool.map(lambda pair: one("quick", *pair, "all at once"), enumerate(gpus))
    document = {"schema": "planner.kernels-evidence/1", "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": "python3 benchmarks/gpu_kernels.py --out DIR", "driver": driver_version(),
                "gpus": gpus, "python": platform.python_version(), "runs": runs, "summary": summary(runs),
                "error": listed.get("error"), "compute_processes_elsewhere": others(),
                "seconds": round(time.monotonic() - started, 1)}
    options.out.mkdir(parents=True, exist_ok=True)
    name = gpus[0]["name"].lower().replace(" ", "-").removeprefix("nvidia-") if gpus else "none"
    path = options.out / f"kernels-{name}-{len(gpus)}-{document['driver']}-{document['date'][:10]}.json"
    text = json.dumps(document, indent=1, sort_keys=True)
    text = re.sub(r"\[[\s\d.,e+-]+\]", lambda m: re.sub(r"\s+", " ", m.group()), text)   # a list of numbers: one line
    path.write_text(text + "\n", encoding="utf-8")
    tell(document, path)
    return 0 if runs and not any(run["wrong"] for run in runs) else 1


def one(profile: str, index: int, gpu: dict[str, Any], how: str) -> dict[str, Any]:
    """Run one profile on one GPU in a fresh process, and judge it."""
    nonce, label, started = secrets.token_hex(16), f"this-machine:{index}", time.monotonic()
    report = in_child({"uuid": gpu["uuid"], "nonce": nonce, "label": label, "profile": profile})
    process_s = round(time.monotonic() - started, 3)
    bad = [report["error"]] if "error" in report else []
    for result in report.get("results", ()):
        bad += wrong(result, SIZES[profile][result["name"]], nonce, label)
        ratios = result["samples"].get("ratio_f16_per_fma")
        if ratios and not tensor_cores_work(statistics.median(ratios)):
            bad.append(f"ratio: Tensor Cores seem to be off: {statistics.median(ratios)}")
    bad += [f"missing: {name}" for name in SIZES[profile] if name not in [r["name"] for r in report.get("results", ())]]
    judged_s = round(time.monotonic() - started - process_s, 3)
    return {"profile": profile, "index": index, "how": how, "nonce": nonce, "process_s": process_s,
            "judged_s": judged_s, "wrong": bad, "report": report}


def in_child(request: dict[str, Any]) -> dict[str, Any]:
    """Run this file in a process of its own, so that a driver that hangs or crashes takes only that with it."""
    argv = [sys.executable, __file__, "--out", ".", "--child", json.dumps(request)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer after {LIMIT_S} s"}
    except ValueError:
        return {"error": f"exit status {done.returncode}: {done.stderr[-2000:]}"}
    return answer


def child(request: dict[str, Any]) -> int:
    """List the GPUs, or measure one; print the answer."""
    try:
        answer = {"gpus": list_gpus()} if "list" in request else measure_all(**request)
    except CudaError as exc:
        answer = {"error": str(exc)}
    sys.stdout.write(json.dumps(answer))
    return 0


def list_gpus() -> list[dict[str, Any]]:
    """Return what the driver says of each GPU that it shows."""
    driver, count = Driver(), ctypes.c_int()
    driver.call("cuInit", ctypes.c_uint(0))
    driver.call("cuDeviceGetCount", ctypes.byref(count))
    found = []
    for number in range(count.value):
        device = ctypes.c_int()
        driver.call("cuDeviceGet", ctypes.byref(device), number)
        found.append(identity(driver, device))
    return found


def driver_version() -> str:
    """Return the loaded driver's version, as the kernel module or the driver's tool says it."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="ascii").strip()
    except OSError:
        return (smi("--query-gpu=driver_version") or ["unknown"])[0]


def others() -> list[str] | None:
    """Return process numbers that use a GPU now, when all children have ended; None where nobody can tell."""
    return smi("--query-compute-apps=pid")


def smi(query: str) -> list[str] | None:
    """Return the lines that nvidia-smi answers, or None."""
    argv = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else None


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return for each profile and figure its median, and in percent how far runs and samples in a run spread."""
    medians: dict[str, dict[str, list[float]]] = {}
    inside: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        if run["how"] == "one at a time":
            for result in run["report"].get("results", ()):
                for name, samples in result["samples"].items():
                    middle = statistics.median(samples)
                    medians.setdefault(run["profile"], {}).setdefault(name, []).append(middle)
                    mad = statistics.median(abs(x - middle) for x in samples)
                    inside.setdefault(run["profile"], {}).setdefault(name, []).append(148.26 * mad / (middle or 1))
    answer: dict[str, dict[str, Any]] = {}
    for profile, figures in medians.items():
        for name, values in sorted(figures.items()):
            middle = statistics.median(values)
            answer.setdefault(profile, {})[name] = {
                "median": round(middle, 3), "lowest_percent": round(100 * (min(values) / (middle or 1) - 1), 2),
                "highest_percent": round(100 * (max(values) / (middle or 1) - 1), 2),
                "inside_mad_percent": round(statistics.median(inside[profile][name]), 2)}
    return answer


def tell(document: dict[str, Any], path: Path) -> None:
    """Print what was found."""
    for profile, figures in document["summary"].items():
        for name, figure in figures.items():
            print(f"{profile:9} {name:26} {figure['median']:12.3f}  runs {figure['lowest_percent']:+.2f} … "
                  f"{figure['highest_percent']:+.2f} %  inside {figure['inside_mad_percent']:.2f} %")
    for run in document["runs"]:
        report = run["report"]
        print(f"{run['profile']:9} GPU {run['index']} {run['how']}: process {run['process_s']} s, measured in "
              f"{report.get('seconds')} s, context {report.get('context_ms')} ms, JIT {report.get('jit_ms')}, "
              f"judged in {run['judged_s']} s, {'right' if not run['wrong'] else 'WRONG'}")
        for words in run["wrong"]:
            print(f"    {words[:600]}")
    print(f"{len(document['gpus'])} GPU(s), driver {document['driver']}, {document['seconds']} s; "
          f"written to {path.name}{'; ' + document['error'] if document['error'] else ''}")


if __name__ == "__main__":
    sys.exit(main())
