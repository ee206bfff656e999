"""Time and memory of ``planner check`` on 100,000 nodes in 1,000 distinct stacks, and of its start-up.

Targets on 2 cores: 5 s and 500 MB for the fleet, 0.5 s for one described machine, 0.2 s for ``planner --help``.
The fleet is invented: stacks vary those of examples/01-two-generations.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NODES, STACKS, ROUNDS = 100_000, 1_000, 7
EXAMPLE = Path(__file__).parents[1] / "examples" / "01-two-generations" / "facts.json"
DRIVERS = ("535.183.01", "550.163.01", "570.195.03", "580.95.05", "580.159.04")
STACK = "gpus: [H100 80GB HBM3 x8 (SXM)]\ndriver: 550.107.02\nfabric_manager: 550.90.07\ncuda_runtime: '13.0'\n"


def fleet() -> dict[str, Any]:
    """Return a facts document with NODES nodes that share STACKS fact sets."""
    document = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    kinds = sorted(document["fact_sets"])
    sets: dict[str, Any] = {}
    for number in range(STACKS):
        facts = copy.deepcopy(document["fact_sets"][kinds[number % len(kinds)]])
        driver = DRIVERS[number % len(DRIVERS)]
        facts["driver"].update(loaded=driver, userspace=driver, on_disk=driver)
        if facts.get("fabric_manager", {}).get("version"):
            facts["fabric_manager"]["version"] = f"{driver}-1"
        for service in facts.get("services", {}).values():
            if service.get("version"):
                service["version"] = f"{driver}-1"
        facts["kernel"]["running"] = f"6.8.0-{40 + number // 40}-generic"
        facts["available"] = {}
        digest = hashlib.sha256(json.dumps([number, facts], sort_keys=True).encode()).hexdigest()
        sets[f"sha256:{digest}"] = facts
    names = sorted(sets)
    nodes = [{"name": f"gpu-{n:06d}", "facts": names[n % STACKS],
              "identity": {"machine_id": f"{n:032x}"}, "observed_at": "2026-01-01T00:00:00+00:00",
              "declared": {"pool": f"pool-{n % 20}", "comm_domain": f"ib-{n % 200}"}, "groups": ["all"]}
             for n in range(NODES)]
    return {"schema": "planner.facts/1", "created_at": "2026-01-01T00:00:00+00:00", "fact_sets": sets, "nodes": nodes,
            "unreadable": []}


def run(words: Sequence[str | Path], directory: Path) -> tuple[float, float]:
    """Run ``planner WORDS`` to its end; returns wall seconds and the peak memory in MB."""
    began = time.perf_counter()
    with (directory / "out").open("w", encoding="utf-8") as out:
        process = subprocess.Popen([sys.executable, "-m", "planner", *map(str, words)], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 3):
        raise SystemExit(f"planner {' '.join(map(str, words))} ended with {code}")
    return seconds, usage.ru_maxrss / 1024


def main() -> int:
    """Print every figure beside its target; exit 1 when one is missed."""
    missed = False
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "facts.json").write_text(json.dumps(fleet()), encoding="utf-8")
        (directory / "stack.yml").write_text(STACK, encoding="utf-8")
        run(["check", "--stack", directory / "stack.yml"], directory)           # fills the cache of the matrices
        seconds, memory = run(["check", "--facts", directory / "facts.json", "-o", "json"], directory)
        answer = json.loads((directory / "out").read_text(encoding="utf-8"))
        print(f"{NODES} nodes in {STACKS} stacks: {seconds:.2f} s (target 5 s), {memory:.0f} MB (target 500 MB); "
              f"{len(answer['findings'])} findings, {answer['supported']} claims held")
        missed |= seconds > 5 or memory > 500
        for words, target in ((["check", "--stack", directory / "stack.yml"], 0.5), (["--help"], 0.2)):
            times = [run(words, directory)[0] for _ in range(ROUNDS)]
            print(f"planner {words[0]}, {ROUNDS} runs: median {statistics.median(times):.3f} s, "
                  f"min {min(times):.3f} s (target {target} s)")
            missed |= statistics.median(times) > target
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
