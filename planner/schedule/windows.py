"""Maintenance windows and batches: which pools may share one, and which batch would wait for ever. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from planner.diagnostics import Diagnostic
from planner.errors import ScheduleError
from planner.model.window import always_meet, common_start, next_start, parse_window
from planner.schedule.limits import Unit
from planner.schedule.plan import Batch, NodePlan, PoolLimit, Wave
from planner.schedule.turns import FORKS

NEVER_MEET = "windows-never-meet"
_ANY_WEEK = datetime(2026, 1, 5, tzinfo=UTC)      # no clocks change in it, or in the next ones

Windows = frozenset[tuple[str, ...]]              # those of several pools; pools without windows are not among them


def meeting(units: Iterable[Unit], pools: Mapping[str, PoolLimit], minutes: Callable[[Unit], int],
            not_before: str | None, *, one_by_one: bool) -> tuple[tuple[Unit, ...], ...]:
    """Return units in groups whose windows have room for the longest of them in common, in every season.

    Pools of one group move side by side; groups follow each other, because a batch of both would never begin. The
    group whose window opens first after ``not_before`` (of any week where that is None) comes first. With
    ``one_by_one`` only pools with the same windows, or with none, are of one group.
    """
    kinds: dict[Windows, list[Unit]] = {}
    for unit in units:
        kinds.setdefault(frozenset(w for pool, _ in unit.pools if (w := pools[pool].windows)), []).append(unit)
    if len(kinds) < 2:
        return tuple(tuple(found) for found in kinds.values())
    begin = datetime.fromisoformat(not_before) if not_before else _ANY_WEEK
    longest = {windows: max(map(minutes, found)) for windows, found in kinds.items()}

    def opens(windows: Windows) -> tuple[bool, datetime, list[tuple[str, ...]]]:
        at = common_start(sorted(windows), begin, longest[windows])
        return (not windows, at or datetime.max.replace(tzinfo=UTC), sorted(windows))

    groups: list[tuple[Windows, int, list[Unit]]] = []
    for windows in sorted(kinds, key=opens):
        for at, (known, most, members) in enumerate(groups):
            both, either = known | windows, max(most, longest[windows])
            if not windows or (not one_by_one and always_meet(both, begin, either)):
                groups[at] = both, either, [*members, *kinds[windows]]
                break
        else:
            groups.append((windows, longest[windows], kinds[windows]))
    return tuple(tuple(members) for _, _, members in groups)


def minute_gaps(pools: Mapping[str, PoolLimit]) -> Iterator[str]:
    """Yield which pools have windows with one minute between them: 23:59 was meant to be midnight."""
    gaps: dict[tuple[str, ...], list[str]] = {}
    for pool, limit in sorted(pools.items()):
        if limit.windows and any(" 23:59" in text or "-23:59" in text for text in limit.windows):
            line = sorted(i for text in limit.windows for i in parse_window(text).intervals(_ANY_WEEK))
            if any(begin - end == timedelta(minutes=1) for (_, end), (begin, _) in pairwise(line)):
                gaps.setdefault(limit.windows, []).append(pool)
    for windows, names in gaps.items():
        yield (f"the windows of pool{'s' * (len(names) > 1)} {', '.join(names)} ({'; '.join(windows)}) close for a "
               "minute at 23:59, so no batch runs over midnight: 00:00 is the end of a day")


def long_waits(waves: Iterable[Wave], nodes: Mapping[str, NodePlan], pools: Mapping[str, PoolLimit],
               not_before: str | None) -> Iterator[str]:
    """Yield which batches may wait for months, because windows of their pools meet in part of the year only."""
    begin = datetime.fromisoformat(not_before) if not_before else _ANY_WEEK
    told: set[tuple[str, ...]] = set()
    for batch in (b for wave in waves for b in wave.batches):
        named = tuple(sorted({nodes[n].pool for n in batch.nodes if pools[nodes[n].pool].windows}))
        if len({pools[p].windows for p in named}) > 1 and named not in told and not always_meet(
                [pools[p].windows for p in named], begin, batch.minutes):
            told.add(named)
            yield (f"batch {batch.id} may wait for months: the windows of its pools {', '.join(named)} have "
                   f"{batch.minutes} minutes in common in part of the year only; give them a common window")


def fit_windows(waves: Iterable[Wave], nodes: Mapping[str, NodePlan], pools: Mapping[str, PoolLimit]) -> None:
    """Refuse a batch that is longer than every maintenance window of one of its pools: it would wait for ever.

    Raises:
        ScheduleError: One diagnostic for each pool, or for the pools of a batch whose windows never meet.
    """
    longest: dict[str, Batch] = {}
    every = [batch for wave in waves for batch in wave.batches]
    for batch in every:
        for pool in {nodes[n].pool for n in batch.nodes}:
            if pool not in longest or batch.minutes > longest[pool].minutes:
                longest[pool] = batch
    problems = [_too_short(pool, batch, pools[pool].windows) for pool, batch in sorted(longest.items())
                if next_start(pools[pool].windows, _ANY_WEEK, batch.minutes) is None]
    for batch in every if not problems else ():
        named = sorted({nodes[n].pool for n in batch.nodes})
        if common_start([pools[p].windows for p in named], _ANY_WEEK, batch.minutes) is None:
            problems.append(Diagnostic(
                code=NEVER_MEET, subject=f"pools {', '.join(named)}",
                summary=f"batch {batch.id} has nodes of all of them; their windows have no {batch.minutes} minutes in "
                        "common",
                why=tuple(f"{p}: {'; '.join(pools[p].windows) or 'at any time'}" for p in named),
                hint="give them a common window, or plan them one after another with select: [POOL]",
                places=(("rollout", "windows"),)))
    if problems:
        raise ScheduleError(*problems)


def _too_short(pool: str, batch: Batch, windows: tuple[str, ...]) -> Diagnostic:
    smaller = f", or make its batches smaller: batch_max: {FORKS}" if len(batch.nodes) > FORKS else ""
    return Diagnostic(
        code="window-too-short", subject=f"pool {pool}",
        summary=f"batch {batch.id} takes {batch.minutes} minutes, and no maintenance window is that long",
        why=windows, hint=f"give the pool a window of at least {batch.minutes} minutes{smaller}",
        places=(("rollout", "windows"),))
