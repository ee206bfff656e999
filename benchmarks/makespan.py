"""How long planner's timetables are: against CP-SAT on small pools, against a proven lower bound on large ones.

    python benchmarks/makespan.py --generator BENCH/instances.py             small pools, then 5,000 nodes
    python benchmarks/makespan.py --generator … --seconds 25 --large 5000 20000 100000

The generator is the seeded one of the synthetic benchmark. CP-SAT comes from the package ortools, which planner itself
does not need; without it only planner's own figures are printed. CP-SAT starts from planner's timetable, so that no
ratio is below 1: it says how much shorter the best is that CP-SAT found.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import cpsat_schedule
from benchmarks.bench_schedule import make_fleet
from benchmarks.solve import answer
from planner.schedule.timeline.build import build_timetable
from planner.schedule.timeline.model import Fleet, Timetable

# (seed, nodes, cohorts, small): small ones have no windows, the others may have
SMALL = (
    (1, 12, 2, True), (2, 14, 2, True), (3, 16, 3, True), (4, 18, 3, True), (5, 20, 3, True), (6, 24, 4, True),
    (7, 30, 4, True), (11, 12, 2, False), (12, 16, 2, False), (13, 18, 3, False), (14, 20, 3, False),
    (15, 24, 3, False), (16, 28, 4, False), (17, 30, 4, False), (18, 15, 2, True), (19, 22, 3, True),
)  # fmt: skip
LARGE = {5_000: (2, 100, 12), 20_000: (3, 300, 12), 100_000: (3, 1000, 15)}      # nodes -> seed, cohorts, versions


def generator(path: Path) -> Any:
    """Return the generator's module."""
    spec = importlib.util.spec_from_file_location("instances", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"no generator of instances at {path}: name one with --generator")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def planned(instance: dict[str, Any]) -> tuple[Fleet, Timetable, float] | None:
    """Return fleet, timetable and seconds of CPU for the timetable; None where there is none."""
    found = answer(instance, [])
    if found["status"] != "ok":
        return None
    fleet = make_fleet(instance, found["paths"])
    begun = time.process_time()
    made = build_timetable(fleet)
    spent = time.process_time() - begun
    return (fleet, made, spent) if isinstance(made, Timetable) else None


def small(module: Any, seconds: float, workers: int) -> None:
    """Print the comparison with CP-SAT on small pools."""
    print("small pools: minutes; ratio = planner / best of CP-SAT")
    print(f"{'nodes':>6} {'seed':>5} {'window':>6} {'planner':>8} {'cp-sat':>8} {'status':>9} {'bound':>7} "
          f"{'cp bound':>8} {'ratio':>6} {'cpu s':>6}")  # fmt: skip
    ratios, broken = [], 0
    for seed, nodes, cohorts, tiny in SMALL:
        instance = module.fleet(seed, nodes, cohorts, small=tiny)
        got = planned(instance)
        window = "yes" if any(p["window"] for p in instance["pools"]) else "no"
        if got is None:
            print(f"{nodes:>6} {seed:>5} {window:>6}  no timetable", flush=True)
            continue
        fleet, made, spent = got
        try:
            best = cpsat_schedule.solve(fleet, made, seconds, workers)
        except ImportError:
            best = cpsat_schedule.Answer("no ortools", None, 0)
        ratio = "-"
        if best.makespan is not None:
            ratios.append(made.makespan / best.makespan)
            ratio = f"{ratios[-1]:.3f}"
            broken += made.lower_bound > best.makespan
        print(f"{nodes:>6} {seed:>5} {window:>6} {made.makespan:>8} {best.makespan or '-':>8} {best.status:>9} "
              f"{made.lower_bound:>7} {best.bound:>8} {ratio:>6} {spent:>6.2f}", flush=True)  # fmt: skip
    if ratios:
        print(f"mean ratio {statistics.mean(ratios):.3f}, largest {max(ratios):.3f}, over "
              f"{len(ratios)} of {len(SMALL)} instances that CP-SAT had a timetable for in time; "
              f"lower bounds above CP-SAT's timetable: {broken}")  # fmt: skip
    else:
        print("CP-SAT was not asked: the package ortools is not installed (an environment of its own can hold it)")


def large(module: Any, sizes: list[int]) -> None:
    """Print makespan / lower bound on large fleets."""
    print("large fleets: minutes; ratio = makespan / lower bound, of the fleet and of its pools")
    print(f"{'nodes':>7} {'pools':>6} {'makespan':>9} {'bound':>7} {'ratio':>6} {'pool median':>12} {'pool max':>9} "
          f"{'cpu s':>6}")  # fmt: skip
    for nodes in sizes:
        seed, cohorts, versions = LARGE[nodes]
        got = planned(module.fleet(seed, nodes, cohorts, nk=12, nv=versions))
        if got is None:
            print(f"{nodes:>7}  no timetable", flush=True)
            continue
        _, made, spent = got
        pools = [m / b.best for m, b in zip(made.pool_makespans, made.bounds, strict=True) if b.best]
        print(f"{nodes:>7} {len(made.bounds):>6} {made.makespan:>9} {made.lower_bound:>7} "
              f"{made.makespan / made.lower_bound:>6.3f} {statistics.median(pools):>12.3f} {max(pools):>9.3f} "
              f"{spent:>6.2f}", flush=True)  # fmt: skip


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, required=True, help="instances.py of the synthetic benchmark")
    parser.add_argument("--seconds", type=float, default=25, help="time of CP-SAT for each instance")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--large", type=int, nargs="*", choices=sorted(LARGE), default=[5_000])
    parser.add_argument("--no-small", action="store_true")
    args = parser.parse_args()
    if not args.generator.is_file():
        print(f"no generator of instances at {args.generator}: name one with --generator")
        return 0
    module = generator(args.generator)
    if not args.no_small:
        small(module, args.seconds, args.workers)
    large(module, args.large)
    return 0


if __name__ == "__main__":
    sys.exit(main())
