"""Times what the driver needs to open this machine's GPUs, alone and together, beside what the quick gate adds to it.

Use, with nothing installed but Python and a driver: python3 benchmarks/gpu_contexts.py --out DIR --probe probe.zip
Each row opens GPUs with cuInit, a context, and its release, and does nothing else: one process a GPU, then one process
for all. Then the quick profile runs; its figures come apart into contexts, own work and the rest. One JSON file.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SETTLE_S = 0.2      # processes are there before the clock starts
STEPS = ("init_s", "context_s", "end_s")


def main() -> int:
    """Run everything and write the evidence; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for the evidence file")
    parser.add_argument("--probe", type=Path, required=True, help="probe.zip")
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each row")
    options = parser.parse_args()
    query = ["nvidia-smi", "--query-gpu=uuid,name,driver_version,persistence_mode", "--format=csv,noheader"]
    listed = [line.split(", ") for line in subprocess.run(query, stdout=subprocess.PIPE, text=True, check=True)
              .stdout.splitlines()]
    uuids = [gpu[0] for gpu in listed]
    counts = sorted({count for count in (1, 2, 4, 8, len(uuids)) if count <= len(uuids)})
    rows = [row(f"{count} process{'es' if count > 1 else ''}, one GPU each", [[uuid] for uuid in uuids[:count]],
                options.runs) for count in counts]
    rows.append(row(f"1 process, {len(uuids)} GPUs in threads", [uuids], options.runs))
    gates = [gate(options.probe) for _ in range(options.runs)]
    for found in gates:
        print("quick gate: {seconds_s:.2f} s; contexts {context_s:.2f} s, own work {work_s:.2f} s, release "
              "{release_s:.2f} s, NVML and the rest {rest_s:.2f} s; {ready} of {gpus} GPUs answered".format(**found))
    date = datetime.now(UTC).isoformat(timespec="seconds")
    document = {"schema": "planner.contexts-evidence/1", "date": date, "driver": listed[0][2],
                "command": "python3 benchmarks/gpu_contexts.py --out DIR --probe probe.zip",
                "gpus": [{"name": gpu[1], "persistence": gpu[3]} for gpu in listed], "processors": os.cpu_count(),
                "python": platform.python_version(), "rows": rows, "gates": gates}
    options.out.mkdir(parents=True, exist_ok=True)
    kind = listed[0][1].lower().replace(" ", "-").removeprefix("nvidia-")
    path = options.out / f"contexts-{kind}-{len(uuids)}-{listed[0][2]}-{date[:10]}.json"
    path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"written to {path.name}")
    return 0 if all(found["ready"] == len(uuids) for found in gates) else 1


def row(name: str, processes: Sequence[Sequence[str]], runs: int) -> dict[str, Any]:
    """Open GPUs ``runs`` times; print and return when the slowest process had come how far, in seconds."""
    seen = [together(processes) for _ in range(runs)]
    found: dict[str, Any] = {"name": name, "runs": seen}
    found.update({step: round(statistics.median(run[step] for run in seen), 3) for step in STEPS})
    print(f"{name:34} initialised {found['init_s']:6.2f}  all contexts {found['context_s']:6.2f}  "
          f"all given back {found['end_s']:6.2f} s")
    return found


def together(processes: Sequence[Sequence[str]]) -> dict[str, float]:
    """Let processes begin at the same moment; return the latest of each step."""
    start = time.monotonic() + SETTLE_S
    children = []
    for uuids in processes:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, json.dumps(opened(uuids, start)).encode())
            os._exit(0)
        os.close(writer)
        children.append((pid, reader))
    answers = []
    for pid, reader in children:
        answers.append(json.loads(os.read(reader, 4096)))
        os.close(reader)
        os.waitpid(pid, 0)
    return {step: round(max(answer[step] for answer in answers), 3) for step in STEPS}


def opened(uuids: Sequence[str], start: float) -> dict[str, float]:
    """Open GPUs and give them back, with the environment that the gate has; seconds since ``start``."""
    os.environ.update(CUDA_VISIBLE_DEVICES=",".join(uuids), CUDA_CACHE_DISABLE="1", CUDA_DEVICE_MAX_CONNECTIONS="1")
    while time.monotonic() < start:
        pass
    library, found = ctypes.CDLL("libcuda.so.1"), {}
    checked(library.cuInit(0))
    found["init_s"] = time.monotonic() - start

    def retain(number: int) -> None:
        device, context = ctypes.c_int(), ctypes.c_void_p()
        checked(library.cuDeviceGet(ctypes.byref(device), number))
        checked(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))

    on_each(retain, len(uuids))
    found["context_s"] = time.monotonic() - start
    on_each(lambda number: checked(library.cuDevicePrimaryCtxRelease_v2(number)), len(uuids))
    found["end_s"] = time.monotonic() - start
    return found


def on_each(function: Callable[[int], None], count: int) -> None:
    """Call a function for every GPU at the same time."""
    threads = [threading.Thread(target=function, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def checked(code: int) -> None:
    """Raise unless the driver says success."""
    if code:
        raise SystemExit(f"the driver answers {code}")


def gate(probe: Path) -> dict[str, Any]:
    """Run the quick profile; return its seconds, and how they come apart for the slowest GPU of each part."""
    report = json.loads(subprocess.run([sys.executable, str(probe), "gate", "--profile", "quick"],
                                       stdout=subprocess.PIPE, text=True, check=True).stdout)
    seen = [gpu["processes"][0] for gpu in report["gpus"] if gpu.get("processes")]
    works = [sum(result["seconds"] for result in one["results"]) for one in seen]
    context, work = max(one["context_ms"] for one in seen) / 1e3, max(works)
    release = max(one["seconds"] - one["context_ms"] / 1e3 - own for one, own in zip(seen, works, strict=True))
    ready = sum(all(result["status"] == "ok" for result in one["results"]) for one in seen)
    return {"seconds_s": report["seconds"], "context_s": round(context, 3), "work_s": round(work, 3),
            "release_s": round(release, 3), "rest_s": round(report["seconds"] - max(one["seconds"] for one in seen), 3),
            "gpus": len(report["gpus"]), "ready": ready}


if __name__ == "__main__":
    sys.exit(main())
