"""How long kinds that must be equal in a communication domain were not, in a finished timetable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from planner.schedule.timeline.model import Fleet, Placement, Refusal

Value = tuple[int, ...]


def mixed_too_long(fleet: Fleet, watched: Iterable[tuple[int, str]],
                   placements: Iterable[Placement]) -> tuple[Refusal, ...]:  # fmt: skip
    """Return a refusal for each (communication domain, kind) that stays unequal longer than allowed."""
    keys = set(watched)
    counts: dict[tuple[int, str], Counter[Value]] = {key: Counter() for key in keys}
    domain_of: dict[int, int] = {}
    pool_of: dict[int, int] = {}
    for bunch in fleet.bunches:
        domain = bunch.comm_domain
        if domain is None:
            continue
        pool_of.setdefault(domain, bunch.pool)
        for kind, value in fleet.chains[bunch.chain].start:
            if (domain, kind) in keys:
                counts[domain, kind][value] += bunch.size
                domain_of.update((node, domain) for lo, hi in bunch.nodes for node in range(lo, hi + 1))
    events: dict[tuple[int, str], list[tuple[int, Value, Value, int]]] = {key: [] for key in keys}
    for placement in placements:
        act = fleet.chains[placement.chain].acts[placement.act]
        for change in act.changes:
            touched = Counter(domain_of[n] for lo, hi in placement.nodes for n in range(lo, hi + 1) if n in domain_of)
            for domain, nodes in sorted(touched.items()):
                if (domain, change.kind) in keys:
                    end = placement.start + act.minutes
                    events[domain, change.kind].append((end, change.old, change.new, nodes))
    found = []
    for domain, kind in sorted(keys):
        longest = _longest(counts[domain, kind], sorted(events[domain, kind]))
        if longest > fleet.rule.max_mixed_minutes:
            found.append(Refusal("STUCK", pool_of[domain], (kind,), (), domain, longest, fleet.rule.max_mixed_minutes))
    return tuple(found)


def _longest(count: Counter[Value], events: list[tuple[int, Value, Value, int]]) -> int:
    """Return the longest time of unequal versions, in minutes."""
    longest, since = 0, 0 if len(+count) > 1 else None
    for position, (minute, old, new, nodes) in enumerate(events):
        count[old] -= nodes
        count[new] += nodes
        if position + 1 < len(events) and events[position + 1][0] == minute:
            continue
        if len(+count) > 1:
            since = minute if since is None else since
        elif since is not None:
            longest, since = max(longest, minute - since), None
    return longest
