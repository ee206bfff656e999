"""What a batch does side by side, and what it does in turns. Pure.

The engine calls Ansible once for each cohort of a batch, a few cohorts at a time; each call works on as many nodes at a
time as it has forks, and a reboot keeps a fork busy until the node is back. So a batch lasts as long as its slowest
node only while it is small.
"""

from __future__ import annotations

from collections.abc import Iterable

FORKS = 16       # nodes of one cohort at a time, unless ``planner apply --forks`` says otherwise
CALLS = 8        # cohorts at a time


def turns(nodes: int) -> int:
    """Return how many turns a call takes for some nodes of one cohort."""
    return -(-nodes // FORKS)


def side_by_side(minutes: Iterable[float]) -> float:
    """Return how long calls of some minutes take, begun in this order as soon as one of the places is free."""
    busy: list[float] = []
    for length in minutes:
        if len(busy) < CALLS:
            busy.append(length)
        else:
            first = busy.index(min(busy))
            busy[first] += length
    return max(busy, default=0.0)


def batch_minutes(cohorts: Iterable[tuple[int, int]]) -> int:
    """Return the minutes of a batch, at least one.

    Args:
        cohorts: Minutes on one node and number of nodes, for each cohort of the batch, in the order of the plan.
    """
    return max(1, int(side_by_side([minutes * turns(nodes) for minutes, nodes in cohorts])))
