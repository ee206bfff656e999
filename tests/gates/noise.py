"""Simulated measurements with the noise of one idle H200 (driver 580.159.04, 21 fresh processes). Seeded, no clock.

The recorded ranges of process medians are skewed: a figure has a best value that most processes reach, and loses now
and then. They are drawn from triangles over the recorded ranges, mode at the median; so no process is ever further off
than the 21 that were seen, and the spread is at least theirs. Inside a process: normal noise of the recorded median
spread, and one sample in twenty as odd as the oddest that was recorded. Other cards, hosts and days are not in it.
"""

from __future__ import annotations

from random import Random

# figure: (value, class, higher is better, lowest and highest process median, spread inside, oddest sample inside)
MEASURED = {
    "wmma_f16": (631.6e12, "compute", True, -0.012, 0.001, 0.003, 0.023),
    "wmma_s8": (937.6e12, "compute", True, -0.011, 0.001, 0.004, 0.023),
    "fma_f32": (61.3e12, "compute", True, -0.011, 0.001, 0.002, 0.010),
    "copy_device": (4260e9, "bandwidth", True, -0.006, 0.001, 0.001, 0.007),
    "copy_to_device": (55.3e9, "bandwidth", True, -0.011, 0.0, 0.003, 0.037),
    "copy_to_host": (55.2e9, "bandwidth", True, -0.011, 0.0, 0.004, 0.024),
    "launch_async": (3.7e-6, "latency-async", False, -0.09, 0.54, 0.086, 0.23),
    "launch_sync": (8.4e-6, "latency", False, -0.04, 0.24, 0.042, 0.108),
}


def measured(name: str, random: Random, *, loss: float = 0.0, processes: int = 2, count: int = 5,
             steady: bool = True) -> list[list[float]]:
    """Return samples of one GPU that lost a fraction ``loss``; not ``steady``: a third of them is 20 % worse."""
    value, _, higher, low, high, spread, odd = MEASURED[name]
    worse = -1 if higher else 1
    value *= 1 + worse * loss
    groups = []
    for _ in range(processes):
        middle = value * (1 + random.triangular(low, high, 0.0))
        group = [middle * (1 + random.gauss(0, spread / 1.5)) for _ in range(count)]
        group = [x * (1 + worse * odd) if random.random() < 0.05 else x for x in group]
        if not steady:
            group = [x * (1 + worse * 0.2) if place % 3 == 0 else x for place, x in enumerate(group)]
        groups.append(group)
    return groups
