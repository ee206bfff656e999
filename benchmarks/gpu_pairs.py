"""Runs copies between GPUs and NCCL on the real GPUs of this machine, and prints each figure next to its ceiling.

Use, with nothing installed but Python, a driver and somewhere libnccl.so.2: python3 benchmarks/gpu_pairs.py --out DIR
NCCL is looked for by ldconfig, in this interpreter's wheels and under --root. NVML is read by the module pynvml: where
this interpreter has none, --probe probe.zip lends the one inside. The parts: every ordered pair; one process with all
GPUs; two ranks in two processes; the same, but each a host of its own to NCCL, so that they speak through sockets as
two nodes without a faster network do; and, where there are two versions of NCCL, a rank of each, which must be caught.
One JSON file; the exit status is 0 only when everything ran and was right. No host name enters the file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from planner.gates.multi_node import judge_pair  # noqa: E402
from planner.gates.pairs import judge_collective, judge_pairs  # noqa: E402
from planner.gates.verdicts import GateResult  # noqa: E402
from planner.probe import collective, pairs  # noqa: E402
from planner.probe.nccl import find_libraries  # noqa: E402
from planner.probe.state import read_state  # noqa: E402

LIMIT_S = 240
HOST = "this-machine"
CEILINGS = {"pair": 390.0, "all-reduce of 1 GiB": 320.0}     # GB/s one way over NVLink; algorithm bandwidth
TWO_RANKS = [8, 64 << 20, 1 << 30]


def main() -> int:
    """Run everything and write the evidence; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for the evidence file")
    parser.add_argument("--profile", default="standard", choices=("quick", "standard", "deep"))
    parser.add_argument("--runs", type=int, default=2, help="fresh processes of each part")
    parser.add_argument("--root", action="append", default=[], help="directory with libnccl.so.2 in or below it")
    parser.add_argument("--probe", type=Path, help="probe.zip, for the pynvml inside")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        sys.path.append(str(options.probe.resolve()))
    if options.child:
        return child(json.loads(options.child))
    started = time.monotonic()
    state = in_child({"part": "state"}, options)
    gpus = [gpu for gpu in state.get("gpus", []) if gpu.get("uuid") and not gpu.get("processes")]
    uuids, libraries = [gpu["uuid"] for gpu in gpus], find_libraries([sys.executable], options.root)
    runs: list[dict[str, Any]] = []
    for number in range(options.runs if uuids else 0):
        parts = ("pairs", "collective") if len(uuids) > 1 else ("collective",)
        runs += [one(part, gpus, libraries, options) for part in parts]
        if len(uuids) > 1 and libraries:
            runs += [two_ranks("two ranks", uuids[:2], options, number),
                     two_ranks("two ranks, two hosts to NCCL", uuids[:2], options, number, apart=True)]
            if len(libraries) > 1:
                runs.append(two_ranks("two versions of NCCL", uuids[:2], options, number, other=libraries[1]))
    document = {"schema": "planner.pairs-evidence/1", "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "command": "python3 benchmarks/gpu_pairs.py --out DIR", "driver": state.get("driver"),
                "gpus": [{key: gpu.get(key) for key in ("index", "name", "uuid")} for gpu in gpus],
                "python": platform.python_version(), "libraries": [Path(p).name for p in libraries], "runs": runs,
                "settings": {k: v for k, v in sorted(os.environ.items()) if k.startswith(("NCCL_", "NVSHMEM_"))},
                "error": state.get("error"), "seconds": round(time.monotonic() - started, 1)}
    options.out.mkdir(parents=True, exist_ok=True)
    name = gpus[0]["name"].lower().replace(" ", "-").removeprefix("nvidia-") if gpus else "none"
    path = options.out / f"pairs-{name}-{len(gpus)}-{document['driver']}-{document['date'][:10]}.json"
    text = json.dumps(document, indent=1, sort_keys=True)
    text = re.sub(r"\[[\s\d.,e+-]+\]", lambda m: re.sub(r"\s+", " ", m.group()), text)   # a list of numbers: one line
    path.write_text(text + "\n", encoding="utf-8")
    for run in runs:
        tell(run)
    print(f"{len(gpus)} GPU(s), driver {document['driver']}, {document['seconds']} s; written to {path.name}"
          f"{'; ' + document['error'] if document['error'] else ''}")
    return 0 if runs and not any(run["wrong"] for run in runs) else 1


def one(part: str, gpus: list[dict[str, Any]], libraries: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Run one part in a fresh process, and judge it."""
    request = {"part": part, "uuids": [gpu["uuid"] for gpu in gpus], "nonce": secrets.token_hex(16), "host": HOST,
               "profile": options.profile, "name": gpus[0]["name"], "libraries": libraries}
    began = time.monotonic()
    seen = in_child(request, options)
    process_s = round(time.monotonic() - began, 3)
    judge = judge_pairs if part == "pairs" else judge_collective
    results = judge({part: seen, "gpus": [{} for _ in gpus]}, request, None)
    return {"part": part, "process_s": process_s, "judged_s": round(time.monotonic() - began - process_s, 3),
            "wrong": troubles(results), "request": request, "report": seen}


def troubles(results: list[GateResult]) -> list[str]:
    """Return what is no pass and no lack of a baseline."""
    return [f"{r.gate} {r.subject} {r.code}: {'; '.join(r.evidence)}" for r in results
            if r.code not in ("OK", "BASELINE_MISSING")]


def two_ranks(part: str, uuids: list[str], options: argparse.Namespace, number: int, *, apart: bool = False,
              other: str = "") -> dict[str, Any]:
    """Run two ranks as two nodes would: two processes of the probe, the id handed over by a file.

    Args:
        part: Its name in the file.
        uuids: The GPU of each rank.
        options: Of the command line.
        number: Of the run.
        apart: NCCL is told that each rank is on a host of its own.
        other: Another libnccl.so.2 for the second rank; then the pair has to fail, and the verdict has to say why.
    """
    nonce, began = secrets.token_hex(16), time.monotonic()
    id_file = options.out.resolve() / f"nccl-id-{os.getpid()}-{number}"
    options.out.mkdir(parents=True, exist_ok=True)
    base = {"ranks": 2, "nonce": nonce, "label": "two-ranks", "bytes": TWO_RANKS, "seconds": 120, "samples": 9,
            "pythons": [sys.executable], "roots": options.root}
    hosts = [{"NCCL_HOSTID": f"rank-{rank}"} if apart else {} for rank in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        processes = [start(dict(base, rank=0, id="make", id_file=str(id_file), gpus=[uuids[0]]), options, hosts[0])]
        while not id_file.exists() and processes[0].poll() is None and time.monotonic() - began < LIMIT_S:
            time.sleep(0.05)
        if id_file.exists():
            request = dict(base, rank=1, id=id_file.read_text(encoding="ascii"), gpus=[uuids[1]])
            changed = first_found(other, Path(folder)) if other else {}
            processes.append(start(request, options, {**hosts[1], **changed}))
        reports = [finish(process) for process in processes]
    attempt = judge_pair(dict(zip(("first", "second"), reports, strict=False)), base)
    wanted = "NCCL_VERSION_MIX" if other else "OK"
    wrong = [] if attempt.code == wanted else [f"{attempt.code}, not {wanted}", *attempt.evidence]
    wrong += ["the id's file was left behind"] if id_file.exists() else []
    return {"part": part, "process_s": round(time.monotonic() - began, 3), "judged_s": 0, "wrong": wrong,
            "verdict": {"code": attempt.code, "evidence": list(attempt.evidence)}, "reports": reports,
            "report": reports[0]}


def first_found(library: str, folder: Path) -> dict[str, str]:
    """Return an environment in which the loader's list begins with a library: a stand-in for ldconfig tells so."""
    tool = folder / "ldconfig"
    words = f"#!/bin/sh\nprintf '\\tlibnccl.so.2 (stand-in for ldconfig) => %s\\n' '{library}'\n"
    tool.write_text(words, encoding="utf-8")
    tool.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}


def start(request: dict[str, Any], options: argparse.Namespace, more: dict[str, str]) -> subprocess.Popen[str]:
    """Start the probe's sub-command ``nccl``."""
    path = os.pathsep.join([str(ROOT), *([str(options.probe.resolve())] if options.probe else [])])
    return subprocess.Popen([sys.executable, "-m", "planner.probe", "nccl", "--request", json.dumps(request)],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "PYTHONPATH": path, **more})


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a rank said last."""
    try:
        out, err = process.communicate(timeout=LIMIT_S)
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
    except subprocess.TimeoutExpired:
        process.kill()
        return {"status": "timeout", "reason": f"no answer after {LIMIT_S} s"}
    except (ValueError, IndexError):
        return {"status": "error", "reason": f"exit status {process.returncode}: {err[-2000:]}"}
    return answer


def in_child(request: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Run this file in a process of its own, so that a driver that hangs or crashes takes only that with it."""
    argv = [sys.executable, __file__, "--out", ".", "--child", json.dumps(request)]
    argv += ["--probe", str(options.probe)] if options.probe else []
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": f"no answer after {LIMIT_S} s", "timeout": True}
    except (ValueError, IndexError):
        return {"error": f"exit status {done.returncode}: {done.stderr[-2000:]}"}
    return answer


def child(request: dict[str, Any]) -> int:
    """Do one part; print the answer."""
    if request["part"] == "state":
        answer = read_state()
    elif request["part"] == "pairs":
        answer = pairs.measure_pairs(request["uuids"], request["nonce"], request["host"],
                                     pairs.sizes_for(request["profile"], request["name"]))
    else:
        answer = collective.run_collective(request["uuids"], request["nonce"], request["host"],
                                           collective.sizes_for(request["profile"], request["name"]),
                                           request["libraries"])
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


def tell(run: dict[str, Any]) -> None:
    """Print the figures of one run, each with the part of its ceiling."""
    report = run["report"]
    print(f"{run['part']}: process {run['process_s']} s, measured in {report.get('seconds')} s, judged in "
          f"{run['judged_s']} s, {'right' if not run['wrong'] else 'WRONG'}")
    numbers = {gpu.get("uuid"): n for n, gpu in enumerate(report.get("gpus", ()))}
    for pair in report.get("pairs", ()):
        for way in ("copy", "read"):
            if pair.get(way, {}).get("gbps"):
                line(f"  {way} {numbers.get(pair['from'])} to {numbers.get(pair['to'])}", pair[way]["gbps"],
                     CEILINGS["pair"])
    for size in report.get("sizes", ()):
        if "gbps" in size:
            line(f"  all-reduce {size['bytes']} B", size["gbps"],
                 CEILINGS["all-reduce of 1 GiB"] if size["bytes"] == 1 << 30 else None)
        else:
            print(f"  all-reduce {size['bytes']} B: {statistics.median(size['us']):.2f} us")
    if "nccl" in report:
        log = report.get("log", {})
        print(f"  NCCL {report['nccl'].get('version')}, ways {log.get('via')}, network {log.get('network')}, "
              f"NVLS {log.get('nvls')}, joined after {report.get('joined_s')} s {log.get('reason', '')}")
    if "verdict" in run:
        print(f"  verdict {run['verdict']['code']}: {'; '.join(run['verdict']['evidence'])[:400]}")
    for words in [*run["wrong"], *report.get("problems", ())]:
        print(f"    {words[:600]}")


def line(what: str, samples: list[float], ceiling: float | None) -> None:
    """Print one figure in GB/s."""
    middle = statistics.median(samples)
    spread = 148.26 * statistics.median(abs(x - middle) for x in samples) / (middle or 1)
    part = f", {100 * middle / ceiling:.0f} % of {ceiling:.0f}" if ceiling else ""
    print(f"{what}: {middle:.1f} GB/s (lowest {min(samples):.1f}, spread {spread:.2f} %{part})")


if __name__ == "__main__":
    sys.exit(main())
