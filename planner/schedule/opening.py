"""When the maintenance windows of a plan let a batch begin."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from planner.model.window import common_start
from planner.schedule.plan import Plan

# Where nothing says when a rollout begins, its expected course is told from some Monday on.
SOME_MONDAY = datetime(2001, 1, 1, tzinfo=UTC)


def has_windows(plan: Plan) -> bool:
    """Tell whether any pool may be worked on at certain times only."""
    return any(limit.windows for limit in plan.pools.values())


def opening(plan: Plan, nodes: Iterable[str], now: datetime, minutes: int) -> datetime | None:
    """Return when a batch of some minutes may begin: at the first moment that is early enough in a window of each pool.

    Args:
        plan: The plan.
        nodes: Nodes of the batch.
        now: Time-zone aware; nothing begins before it.
        minutes: Worst case of the batch.

    Returns:
        The moment; None where some window is too short, or the windows of two pools never meet.
    """
    pools = [limit for name in sorted({plan.nodes[n].pool for n in nodes}) if (limit := plan.pools.get(name))]
    return common_start([limit.windows for limit in pools], now, minutes)


def first_opening(plan: Plan) -> datetime:
    """Return when a plan begins, as far as it says: at its earliest start, in the first window of its first batch."""
    written = plan.rollout.not_before
    begin = datetime.fromisoformat(written) if written else SOME_MONDAY
    first = next((b for w in plan.waves for b in w.batches), None)
    return begin if first is None else opening(plan, first.nodes, begin, first.minutes) or begin


def begins(plan: Plan) -> str:
    """Say when a plan may begin, "" where nothing says: its earliest start, and the first window after it."""
    written = plan.rollout.not_before
    if not written or not plan.waves:
        return ""
    first = first_opening(plan)
    window = f"; its first window opens {first.astimezone(UTC):%a %Y-%m-%d %H:%M} UTC"
    return f"begins at {written} at the earliest{window if first > datetime.fromisoformat(written) else ''}"
