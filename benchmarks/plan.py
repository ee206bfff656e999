"""Time and memory of planning 1, 100 and 10,000 nodes (100 cohorts), each in a fresh process; copies of the example
fleet. Then the command itself for one node, from the interpreter's start to its end, in fresh processes.

    python benchmarks/plan.py                     all sizes, as a table, and the cold command
    python benchmarks/plan.py 100 --json out.json one size, and the figures as JSON
    python benchmarks/plan.py --cold-only         the cold command alone
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from planner.cli.inputs import load_facts, load_target
from planner.cli.plan import build_plan
from planner.documents import canonical_json, digest, dump_model
from planner.emit.assets import load_assets
from planner.emit.render import render_bundle
from planner.facts.schema import FactDocument, FactSet, Identity, NodeRecord
from planner.model.target import Target

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "01-two-generations"
SIZES = (1, 100, 10_000)
VARIANTS = ("", "B", "C", "D", "E")      # firmware levels of one stack
RUNTIMES = (("12.2",), ("11.8",), ("12.4",), ("11.8", "12.2"), ("12.2", "12.4"))     # CUDA runtimes of workloads
MANY_NODES = 1_000               # from here on all 4 stacks x 5 levels x 5 sets of runtimes: 100 cohorts
SHARES = {"a100": 50, "h100": 30, "v100": 20}     # percent of the nodes in each pool
RACK_NODES = 16
JOB_NODES = 512                  # nodes that one job may span
KILOBYTES_PER_MEBIBYTE = 1024
COLD_RUNS = 15
COLD_TARGET_S = 0.5
ADDITIONS = 2_000_000            # of the loop that tells how fast the machine is just then
COLUMNS = ("nodes", "fact_sets", "cohorts", "batches", "files", "plan_s", "render_s", "total_s", "peak_mib")


def stacks(example: FactDocument, levels: tuple[str, ...]) -> dict[str, list[FactSet]]:
    """Return pool -> distinct fact sets: each one of the example at some firmware levels."""
    found: dict[str, dict[str, FactSet]] = {}
    for node in example.nodes:
        pool = str(node.declared.get("pool", ""))
        if pool in SHARES:
            found.setdefault(pool, {})[node.facts] = example.fact_sets[node.facts]
    return {pool: [_at_firmware(facts, level) for facts in sets.values() for level in levels]
            for pool, sets in sorted(found.items())}


def _at_firmware(facts: FactSet, level: str) -> FactSet:
    gpus = tuple(g.model_copy(update={"vbios": f"{g.vbios}{level}"}) for g in facts.gpus)
    return facts.model_copy(update={"gpus": gpus})


def make_facts(size: int, example: FactDocument) -> FactDocument:
    """Return a fleet of ``size`` nodes; equal stacks share one fact set, the first node of each kind is staging."""
    levels, runtimes = (VARIANTS, RUNTIMES) if size >= MANY_NODES else (VARIANTS[:3], RUNTIMES[:1])
    named = {pool: [(digest(dump_model(s)), s) for s in sets] for pool, sets in stacks(example, levels).items()}
    records, used, staged = [], {}, set()
    for pool, share in SHARES.items():
        for number in range(max(1, size * share // 100) if size > 1 else int(pool == "a100")):
            name, facts = named[pool][number % len(named[pool])]
            runs = runtimes[number // len(named[pool]) % len(runtimes)]
            used[name] = facts
            staging = size > len(SHARES) * len(levels) * 2 and (name, runs) not in staged
            staged.add((name, runs))
            declared: dict[str, str | tuple[str, ...] | bool] = {
                "pool": pool, "environment": "staging" if staging else "production", "scheduler": "slurm",
                "failure_domain": f"{pool}-rack-{number // RACK_NODES}", "workload_runtimes": runs,
            }
            if not staging:
                declared["comm_domain"] = f"{pool}-jobs-{number // JOB_NODES}"
            host = f"{pool}-{number:05}"
            identity = Identity(machine_id=sha256(host.encode()).hexdigest()[:32])
            records.append(NodeRecord(name=host, facts=name, identity=identity, declared=declared, groups=(pool,)))
    return FactDocument(schema="planner.facts/1", inventory="inventories/benchmark",
                        fact_sets=used, nodes=tuple(sorted(records, key=lambda r: r.name)))


def inputs(size: int) -> tuple[FactDocument, Target]:
    """Return a fleet and the example's target, without pools that such a fleet has not."""
    target = load_target(EXAMPLE / "target.yml")
    document = make_facts(size, load_facts(EXAMPLE / "facts.json"))
    here = {str(n.declared["pool"]) for n in document.nodes}
    return document, target.model_copy(update={"pools": {p: w for p, w in target.pools.items() if p in here}})


def measure(size: int) -> dict[str, Any]:
    """Plan in this process: what ``planner plan --out`` does between reading its inputs and writing files."""
    document, target = inputs(size)
    start = time.perf_counter()
    plan = build_plan(document, target, (), inventory=document.inventory)
    planned = time.perf_counter()
    bundle = render_bundle(plan, load_assets())
    rendered = time.perf_counter()
    return {
        "nodes": len(document.nodes), "fact_sets": len(document.fact_sets), "cohorts": len(plan.cohorts),
        "batches": sum(len(w.batches) for w in plan.waves), "files": len(bundle),
        "plan_s": round(planned - start, 2), "render_s": round(rendered - planned, 2),
        "total_s": round(rendered - start, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // KILOBYTES_PER_MEBIBYTE,
    }


def in_child(size: int) -> dict[str, Any]:
    """Measure in a fresh process, so that one size's memory is not counted for the next."""
    command = [sys.executable, __file__, "--child", str(size)]
    result: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return result


def cold(runs: int = COLD_RUNS) -> dict[str, Any]:
    """Run ``planner plan`` for one node in fresh processes, after one that fills the caches; seconds.

    The loop of additions before each run tells the machine's speed: figures of two machines, or of two hours on a
    shared one, compare only beside it. ``cpu_s`` is the processor's time, which other people's work disturbs less.
    """
    document, target = inputs(1)
    wall, cpu = [], []
    loops: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as directory:
        facts_path, target_path = Path(directory) / "facts.json", Path(directory) / "target.yml"
        facts_path.write_text(canonical_json(dump_model(document)), encoding="utf-8")
        target_path.write_text(canonical_json(dump_model(target)), encoding="utf-8")     # JSON is YAML
        script = Path(sys.executable).with_name("planner")
        command = [script] if script.is_file() else [sys.executable, "-m", "planner"]
        words = [*map(str, command), "plan", "--facts", str(facts_path), "--target", str(target_path)]
        for number in range(runs + 1):
            loops.append(additions())
            before, start = os.times(), time.perf_counter()
            subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
            took, after = time.perf_counter() - start, os.times()
            if number:
                wall.append(took)
                cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return {"runs": runs, "median_s": round(statistics.median(wall), 3), "min_s": round(min(wall), 3),
            "max_s": round(max(wall), 3), "cpu_s": round(statistics.median(cpu), 3),
            "loop_s": round(statistics.median(took for took, _ in loops), 3),
            "loop_cpu_s": round(statistics.median(used for _, used in loops), 3)}


def additions() -> tuple[float, float]:
    """Return what a fixed loop takes now: seconds, and seconds of the processor."""
    start, used, total = time.perf_counter(), time.process_time(), 0
    for number in range(ADDITIONS):
        total += number
    return time.perf_counter() - start, time.process_time() - used


def main() -> int:
    """Print the table; write JSON where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, default=SIZES, help="numbers of nodes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cold-only", action="store_true", help="measure the cold command alone")
    options = parser.parse_args()
    if options.child is not None:
        json.dump(measure(options.child), sys.stdout)
        return 0
    rows = []
    if not options.cold_only:
        sys.stdout.write("  ".join(f"{name:>9}" for name in COLUMNS) + "\n")
        for size in options.sizes or SIZES:
            rows.append(in_child(size))
            sys.stdout.write("  ".join(f"{rows[-1][name]:>9}" for name in COLUMNS) + "\n")
            sys.stdout.flush()
    command = cold()
    sys.stdout.write(
        f"one node, cold command, {command['runs']} runs: median {command['median_s']:.3f} s, "
        f"min {command['min_s']:.3f} s, max {command['max_s']:.3f} s, processor {command['cpu_s']:.3f} s "
        f"(target {COLD_TARGET_S} s); {ADDITIONS:,} additions in a loop: {command['loop_s']:.3f} s, "
        f"processor {command['loop_cpu_s']:.3f} s\n")
    if options.json:
        host = {"python": platform.python_version(), "machine": platform.machine()}
        figures = {"host": host, "rows": rows, "cold": command}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
