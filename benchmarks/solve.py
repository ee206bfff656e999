"""Answer one instance of the synthetic benchmark with planner's own search and schedule.

    python benchmarks/solve.py --instance IN.json[.gz] --out OUT.json [--conflict-ms FILE]

Exit codes: 0 every cohort has a path and there is a schedule; 3 at least one has none (the answer says why); 1 there
are paths, no schedule was found, and the reason has no form that can be checked.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_schedule import NeedsReplanError, NoScheduleError, schedule
from benchmarks.bench_task import COST_FIELDS, Cohort, Universe
from planner.search.core.conflict import minimal_conflict
from planner.search.core.solve import solve
from planner.search.core.task import NoPath, unpack

REPLANS_MAX = 8


def read(path: Path) -> dict[str, Any]:
    """Return an instance."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


@dataclass(kw_only=True)
class Limits:
    """What the fleet around it asks of a cohort's path."""

    hops: dict[str, int] = field(default_factory=dict)     # kind -> places of one step, so that a domain stays close
    longest_minutes: int | None = None                     # of a step that has to fit into a window


def path_of(universe: Universe, cohort: Cohort, times: list[float], limits: Limits | None = None) -> dict[str, Any]:
    """Return the answer for one cohort: its path, or a minimal conflict."""
    named = {"state": cohort[0], "arch": cohort[1], "target": cohort[2]}
    limits = limits or Limits()
    task, names = universe.task(cohort, hops=limits.hops, longest_minutes=limits.longest_minutes)
    found = solve(task)
    if not isinstance(found, NoPath):
        cost = list(unpack(found.cost, len(COST_FIELDS)))
        return {**named, "status": "ok", "steps": universe.answer(cohort, found, names), "cost": cost}
    begun = time.perf_counter()
    conflict = conflict_of(universe, cohort, {names[v] for v in found.variables})
    times.append(time.perf_counter() - begun)
    return {**named, "status": "infeasible", "conflict": conflict}


def conflict_of(universe: Universe, cohort: Cohort, kinds: set[str]) -> list[str]:
    """Return a minimal conflict; ``kinds`` are those whose constraints are known to be enough."""
    named = universe.constraints(cohort)
    rules = universe.rules_within(cohort, kinds)
    local = [c for c in named if c in rules or (not c.startswith("rule:") and c.partition(":")[2] in kinds)]

    def infeasible(kept: frozenset[str]) -> bool:
        return not universe.feasible(cohort, kept)

    return minimal_conflict(local if infeasible(frozenset(local)) else named, infeasible)


def answer(instance: dict[str, Any], times: list[float]) -> dict[str, Any]:
    """Return the answer for one instance: paths first, then a schedule; paths that no schedule can hold are searched
    again in smaller steps."""
    universe, nodes = Universe(instance), instance["nodes"]
    cohorts: list[Cohort] = sorted(set(zip(nodes["state"], nodes["arch"], nodes["target"], strict=True)))
    paths = [path_of(universe, cohort, times) for cohort in cohorts]
    limits = [Limits() for _ in cohorts]
    good: dict[str, Any] = {"format": "fleet-plan/1", "status": "ok", "paths": paths}
    for _ in range(REPLANS_MAX):
        if any(p["status"] != "ok" for p in paths):
            return {**good, "status": "infeasible"}
        try:
            made, conflict, bound = schedule(instance, paths)
        except NeedsReplanError as needed:
            _tighten(limits, needed)
            for place in {p for p, *_ in (*needed.hops, *needed.lengths)}:
                paths[place] = path_of(universe, cohorts[place], times, limits[place])
            continue
        if conflict:
            return {**good, "status": "infeasible", "fleet_conflict": conflict}
        return {**good, "schedule": made, "lower_bound_minutes": bound}
    raise NoScheduleError(())


def _tighten(limits: list[Limits], needed: NeedsReplanError) -> None:
    for place, kind, places in needed.hops:
        limits[place].hops[kind] = min(places, limits[place].hops.get(kind, places))
    for place, _, minutes in needed.lengths:
        limits[place].longest_minutes = min(minutes, limits[place].longest_minutes or minutes)


def main() -> int:
    """Read, solve, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instance", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--conflict-ms", type=Path, help="append the milliseconds of every conflict set")
    args = parser.parse_args()
    times: list[float] = []
    try:
        found = answer(read(args.instance), times)
    except NoScheduleError as none:
        sys.stderr.write(f"every cohort has a path, but no schedule was found: {none}\n")
        return 1
    args.out.write_text(json.dumps(found), encoding="utf-8")
    if args.conflict_ms:
        with args.conflict_ms.open("a", encoding="utf-8") as file:
            file.writelines(f"{1000 * t:.1f}\n" for t in times)
    return 0 if found["status"] == "ok" else 3


if __name__ == "__main__":
    sys.exit(main())
