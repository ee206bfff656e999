"""Time ``planner --help``: what a person waits for before anything happens. Target: 0.2 s at most."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 20
TARGET_S = 0.2


def measure(rounds: int = ROUNDS) -> list[float]:
    """Return the wall times in seconds of ``rounds`` fresh processes, after one unmeasured to fill the file cache."""
    command = [sys.executable, "-m", "planner", "--help"]
    subprocess.run(command, capture_output=True, check=True)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    return times


def main() -> int:
    """Print median and extremes; exit 1 when the median misses the target."""
    times = measure()
    median = statistics.median(times)
    sys.stdout.write(
        f"planner --help, {ROUNDS} runs: median {median:.3f} s, min {min(times):.3f} s, max {max(times):.3f} s "
        f"(target {TARGET_S} s)\n"
    )
    return int(median > TARGET_S)


if __name__ == "__main__":
    sys.exit(main())
