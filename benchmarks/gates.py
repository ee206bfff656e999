"""Runs the gates on the real GPUs of this machine: every rung, how long it takes, how steady it is, what it catches.

Use, with nothing installed but Python and a driver: python3 benchmarks/gates.py --out DIR [--probe probe.zip]
Without --probe the probe is built from this checkout, which needs planner's packages. Six parts: the quick profile
(from process start to the first kernel's verdict, and in all), the standard profile with software, A/A comparisons of a
node with itself, figures beside the machine's ceilings, faults that are made here for real, and with --deep a load of
five minutes. One JSON file; the exit status is 0 only when everything passed that must, and every fault was caught. No
host name, serial number or UUID enters the file.
"""

from __future__ import annotations

import argparse
import itertools
import json
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
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from gates_faults import Faults  # noqa: E402

from planner.gates.figures import FIGURES  # noqa: E402
from planner.gates.judge import judge_gate  # noqa: E402

HOST = "this-machine"
# Of an H200: copies count bytes read and written; over PCIe 5 x16; wmma reaches about 80 % of what wgmma does.
CEILINGS = {"copy_device": ("4.25 TB/s", 4.25e12), "copy_kernel": ("4.25 TB/s", 4.25e12),
            "copy_to_device": ("55 GB/s", 55e9), "copy_to_host": ("55 GB/s", 55e9), "fma_f32": ("67 TFLOP/s", 67e12),
            "wmma_f16": ("790 TFLOP/s with wgmma", 790e12)}
LIMIT_S = 900


class Probe:
    """The probe's file, and runs of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(self, profile: str, *, env: dict[str, str] | None = None, prefix: tuple[str, ...] = (),
            path: Path | None = None, **request: Any) -> dict[str, Any]:
        """Run one gate in a fresh process; returns report, text, request, wall time, time to the first kernel."""
        asked = {"profile": profile, "nonce": secrets.token_hex(16), "host": HOST, **request}
        began = time.monotonic()
        done = subprocess.run([*prefix, sys.executable, str(path or self.path), "gate", "--request", json.dumps(asked)],
                              capture_output=True, text=True, timeout=LIMIT_S, check=False, env=env)
        wall_s = time.monotonic() - began
        try:
            report = json.loads(done.stdout)
        except ValueError:
            report = {"error": done.stderr[-2000:]}
        kernels = [result["ended_s"] - began for gpu in report.get("gpus", ()) for process in gpu.get("processes", ())
                   for result in process["results"] if result["name"] == "kernel"]
        return {"report": report, "text": done.stdout, "request": asked, "wall_s": round(wall_s, 3),
                "first_kernel_s": round(max(kernels[:max(1, len(report.get("gpus", ())))]), 3) if kernels else None}


def judged(run: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """Judge a run, against another one where it is given; adds how long that took."""
    began = time.monotonic()
    found = judge_gate(run["text"], run["request"], before["text"] if before else None)
    return {**found, "judged_s": round(time.monotonic() - began, 3)}


def main() -> int:
    """Run everything and write the evidence; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="directory for the evidence file")
    parser.add_argument("--probe", type=Path, help="the probe's file; by default it is built")
    parser.add_argument("--quick-runs", type=int, default=7)
    parser.add_argument("--same-runs", type=int, default=11, help="runs that are compared with each other")
    parser.add_argument("--deep", type=int, default=0, metavar="SECONDS", help="also the load, this long")
    parser.add_argument("--no-faults", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="planner-gates-") as folder:
        probe = Probe(options.probe.resolve() if options.probe else built(Path(folder)))
        document = measure(probe, options, Path(folder))
    path = options.out / f"gates-{document['name']}-{document['driver']}-{document['date'][:10]}.json"
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False)
    text = re.sub(r"\[[\s\d.,e+-]+\]", lambda m: re.sub(r"\s+", " ", m.group()), text)     # numbers: one line
    path.write_text(text + "\n", encoding="utf-8")
    tell(document)
    sys.stdout.write(f"written to {path.name}\n")
    return 0 if document["passed"] else 1


def built(folder: Path) -> Path:
    """Build the probe from this checkout."""
    from planner.data import probe_zip

    path = folder / "probe.zip"
    path.write_bytes(probe_zip())
    return path


def measure(probe: Probe, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all parts and return the evidence."""
    quick = [probe.run("quick") for _ in range(options.quick_runs)]
    standard = probe.run("standard")
    same = [probe.run("standard", without=["software", "collective", "pairs"]) for _ in range(options.same_runs)]
    first = quick[0]["report"]
    gpus = first.get("gpus") or [{}]
    document: dict[str, Any] = {
        "schema": "planner.gates-evidence/1", "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python3 benchmarks/gates.py " + " ".join(word for word in sys.argv[1:] if "/" not in word),
        "driver": (first.get("versions") or {}).get("loaded"), "gpus": [gpu.get("name") for gpu in gpus],
        "name": f"{re.sub('[^a-z0-9]+', '-', str(gpus[0].get('name', 'none')).lower()).removeprefix('nvidia-')}"
                f"-{len(gpus)}",
        "quick": [told(run) for run in quick], "standard": told(standard), "rungs": rungs(judged(standard)),
        "same": compared(same), "figures": figures([standard, *same]),
        "conditions": [value for run in [*quick, standard, *same] for value in run["report"]["conditions"].values()],
    }
    if options.deep:
        run = probe.run("deep", load_seconds=options.deep, without=["software"])
        loads = [{key: value for key, value in load.items() if key != "uuid"} for load in run["report"].get("load", ())]
        document["deep"] = told(run) | {"load": loads}
    document["faults"] = [] if options.no_faults else Faults(probe, folder, judged, standard, same[0]).all()
    document["passed"] = (
        all(run["outcome"] == "pass" for run in [*document["quick"], document["standard"]])
        and not document["same"]["false_alarms"] and all(fault["caught"] for fault in document["faults"])
        and document.get("deep", {}).get("outcome", "pass") == "pass")
    return document


def told(run: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of a run: verdict and times, not the report."""
    found = judged(run)
    return {"profile": run["request"]["profile"], "wall_s": run["wall_s"], "first_kernel_s": run["first_kernel_s"],
            "judged_s": found["judged_s"], "outcome": found["outcome"], "verdict": found["verdict"],
            "reasons": [plain(text) for text in found["reasons"]], "notes": [plain(text) for text in found["notes"]],
            "contexts_ms": [process["context_ms"] for gpu in run["report"].get("gpus", ())
                            for process in gpu.get("processes", ())]}


def plain(text: str) -> str:
    """Return text without this machine's GPUs."""
    return re.sub(r"GPU-[0-9a-f-]{36}", "GPU-…", text)


def rungs(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what each gate of the ladder came to, those not run with their reason."""
    return [{"gate": answer["gate"], "verdict": answer["verdict"], "code": answer["code"],
             "subject": plain(answer["subject"]), "why": [plain(text) for text in answer["evidence"]][:2]}
            for answer in sorted(found["results"], key=lambda a: (a["gate"], a["subject"]))]


def compared(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare every run with every later one: nothing changed, so each failure is a false alarm."""
    alarms, warnings, pairs, figures_seen = [], [], 0, 0
    for before, after in itertools.combinations(runs, 2):
        pairs += 1
        found = judged(after, before)
        figures_seen += sum(answer["gate"] in {row[0] for row in FIGURES.values()} for answer in found["results"])
        warnings += [plain(note) for note in found["notes"] if "PERF_" in note]
        if found["outcome"] != "pass":
            alarms.append([plain(text) for text in found["reasons"]])
    return {"comparisons": pairs, "figures": figures_seen, "false_alarms": len(alarms), "why": alarms,
            "warnings": len(warnings), "of": sorted({text.split(":")[1].strip() for text in warnings if ":" in text})}


def figures(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each figure's median over processes and how far their medians spread."""
    medians: dict[str, list[float]] = {}
    for run in runs:
        for gpu in run["report"].get("gpus", ()):
            for process in gpu.get("processes", ()):
                for result in process["results"]:
                    for key, samples in result["samples"].items():
                        if key in FIGURES:
                            medians.setdefault(key, []).append(statistics.median(samples) * FIGURES[key][3])
    rows = []
    for key, values in sorted(medians.items()):
        name, middle = FIGURES[key][0], statistics.median(values)
        ceiling = CEILINGS.get(name)
        rows.append({"figure": name, "unit": FIGURES[key][2], "median": middle, "processes": len(values),
                     "lowest_percent": round(100 * (min(values) / middle - 1), 2),
                     "highest_percent": round(100 * (max(values) / middle - 1), 2),
                     **({"ceiling": ceiling[0], "of_ceiling_percent": round(100 * middle / ceiling[1], 1)} if ceiling
                        else {})})
    return rows


def tell(document: dict[str, Any]) -> None:
    """Print one table."""
    print(f"{len(document['gpus'])} x {document['gpus'][0]}, driver {document['driver']}")
    for run in [*document["quick"], document["standard"], *([document["deep"]] if "deep" in document else [])]:
        print(f"{run['profile']:9} {run['verdict']:6} first kernel after {run['first_kernel_s']} s, in all "
              f"{run['wall_s']} s, judged in {run['judged_s']} s {'; '.join(run['reasons'])}")
    for rung in document["rungs"]:
        if rung["verdict"] != "pass":
            print(f"not passed: {rung['gate']:16} {rung['verdict']:12} {rung['code']}: {'; '.join(rung['why'])[:160]}")
    names = sorted({rung["gate"] for rung in document["rungs"] if rung["verdict"] == "pass"})
    print(f"passed: {', '.join(names)}")
    same = document["same"]
    print(f"A/A: {same['comparisons']} comparisons, {same['figures']} figures, {same['false_alarms']} false alarms, "
          f"{same['warnings']} warnings {', '.join(same['of'])}")
    for words in same["why"]:
        print(f"    {'; '.join(words)[:300]}")
    for row in document["figures"]:
        ceiling = f"{row['of_ceiling_percent']} % of {row['ceiling']}" if "ceiling" in row else ""
        print(f"{row['figure']:16} {row['median']:12.5g} {row['unit']:5} processes {row['lowest_percent']:+.2f} … "
              f"{row['highest_percent']:+.2f} %  {ceiling}")
    for fault in document["faults"]:
        print(f"{'caught' if fault['caught'] else 'MISSED'}: {fault['fault']}: {fault['seen']}")
    print("passed" if document["passed"] else "NOT PASSED")


if __name__ == "__main__":
    sys.exit(main())
