"""Compare the search with independent reference solvers on many seeded synthetic instances.

    python benchmarks/solve_agree.py --bench DIR [--seeds 500] [--first 1000] [--json OUT]

``DIR`` holds the generator, the checker and the reference solvers of the synthetic benchmark (``instances.py``,
``checker.py``, ``refsolve.py``). Every answer is checked; small instances are compared with a plain Dijkstra, larger
ones with clingo where it is installed. Prints what was valid, optimal and minimal.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.bench_task import Universe
from benchmarks.solve import path_of

SMALL_STATES_MAX = 60_000     # states that the plain Dijkstra may settle
CLINGO_S = 10
SMALL = ((4, 5), (5, 5), (6, 5))
LARGE = ((8, 8), (8, 12), (10, 10), (12, 10), (12, 15))


def instances(make: Any, first: int, count: int) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Yield (name, instance, small): every family in turn, every third instance with goals, limits or rules changed."""
    for seed in range(first, first + count):
        rng = random.Random(f"agree-{seed}")  # noqa: S311  # seeds, no secrets
        small = seed % 2 == 0
        kinds, versions = rng.choice(SMALL if small else LARGE)
        family = ("planted", "planted", "infeasible", "trap", "staircase", "ring")[seed % 6]
        if family == "planted":
            instance = make.planted(seed, kinds, versions, arch=rng.choice(make.ARCHS),
                                    tight=rng.choice((0, 0.25, 0.5, 0.75, 1)))
        elif family == "infeasible":
            instance = make.infeasible(seed, max(kinds, 5), versions)
        elif family == "trap":
            instance = make.trap(rng.choice(make.TRAPS), seed, rng.randrange(3) if small else 5)
        elif family == "staircase":
            instance = make.staircase(seed, kinds, versions if not small else 4, rng.randint(1, kinds // 2))
        else:
            instance = make.ring(seed, rng.randint(2, 6), 4 if small else 8)
        if seed % 3 == 0:
            _mutate(instance, rng)
        yield f"{family}-k{kinds}-v{versions}-s{seed}", instance, small


def _mutate(instance: dict[str, Any], rng: random.Random) -> None:
    """Free a goal, allow a downgrade, limit a hop, or withdraw a version."""
    goals, kinds = instance["targets"][0], instance["kinds"]
    single = [k for k, d in kinds.items() if d["mode"] == "single"]
    for _ in range(rng.randint(1, 3)):
        what, kind = rng.randrange(4), rng.choice(single)
        if what == 0 and len(goals) > 1:
            goals.pop(rng.choice(sorted(goals)))
        elif what == 1:
            kinds[kind]["moves"]["down"] = True
        elif what == 2:
            kinds[kind]["moves"]["max_hop"] = rng.randint(1, 3)
        else:
            instance["rules"].append({"id": f"w{len(instance['rules'])}", "then": {}, "why": "withdrawn",
                                      "if": {kind: [rng.choice(kinds[kind]["versions"])]}})


def reference(refsolve: Any, instance: dict[str, Any], cohort: Any, small: bool, steps: int) -> tuple[Any, str]:
    """Return (cost or None, how it is known); ``("", why not)`` where no reference proves anything."""
    if small:
        cost, _ = refsolve.dijkstra(instance, cohort, SMALL_STATES_MAX)
        return ("", "too many states") if cost == "limit" else (cost, "dijkstra")
    try:
        cost, how = refsolve.clingo_solve(instance, cohort, steps + 2, CLINGO_S)
    except ImportError:
        return "", "clingo is not installed"
    if cost is None and how != "proved":
        return "", "clingo found none in time"
    return (cost, "clingo") if how in ("OPTIMAL", "proved") else ("", "clingo proved nothing in time")


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sys.path.insert(0, str(args.bench))
    sys.dont_write_bytecode = True
    make, checker, refsolve = (importlib.import_module(n) for n in ("instances", "checker", "refsolve"))
    tally: Counter[str] = Counter()
    conflicts: list[float] = []
    path_ms: list[float] = []
    for name, instance, small in instances(make, args.first, args.seeds):
        universe, cohort = Universe(instance), (0, instance["nodes"]["arch"][0], 0)
        begun = time.perf_counter()
        path = path_of(universe, cohort, conflicts)
        good = path["status"] == "ok"
        if good:
            path_ms.append(1000 * (time.perf_counter() - begun))
        check = checker.Check(instance, {"status": path["status"], "paths": [path]})
        valid = check.run(conflicts=True)
        tally["run"] += 1
        tally["paths" if good else "refusals"] += 1
        tally["valid"] += valid
        if not good:
            tally["minimal"] += valid and not any(k.endswith("unproved") for k in check.info)
            tally["minimality unproved"] += any(k.endswith("unproved") for k in check.info)
        cost, how = reference(refsolve, instance, cohort, small, len(path.get("steps", ())) or 14)
        tally[f"reference: {how}"] += 1
        if cost != "":
            tally["compared"] += 1
            agreed = path.get("cost") == (list(cost) if cost is not None else None)
            tally["agreed"] += agreed
        if not valid or (cost != "" and not agreed):
            sys.stdout.write(f"DIFFERS {name}: {path.get('cost')} {path.get('conflict')} reference {cost} {how} "
                             f"{check.err[:2]}\n")
            sys.stdout.flush()
    report = {**tally, "path_ms_median": _at(path_ms, 0.5), "path_ms_p95": _at(path_ms, 0.95),
              "conflict_ms_median": 1000 * _at(conflicts, 0.5), "conflict_ms_p95": 1000 * _at(conflicts, 0.95),
              "conflict_ms_max": 1000 * _at(conflicts, 1)}
    sys.stdout.write("".join(f"{key:28} {value:g}\n" for key, value in report.items()))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if tally["valid"] == tally["run"] and tally["agreed"] == tally["compared"] else 1


def _at(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


if __name__ == "__main__":
    sys.exit(main())
