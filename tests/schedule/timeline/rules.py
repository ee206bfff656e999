"""The six rules in their plainest form: node by node, instant by instant. Shares nothing but shapes with the code."""

from __future__ import annotations

import math
from collections import defaultdict

from planner.schedule.timeline.model import Fleet, Timetable


def spread_out(fleet: Fleet) -> dict[int, object]:
    """Return node -> its bunch."""
    return {n: b for b in fleet.bunches for lo, hi in b.nodes for n in range(lo, hi + 1)}


def actions(made: Timetable) -> dict[int, list[tuple[int, int, int]]]:
    """Return node -> (start, chain, act), by start."""
    found = defaultdict(list)
    for placement in made.placements:
        for lo, hi in placement.nodes:
            for node in range(lo, hi + 1):
                found[node].append((placement.start, placement.act, placement.chain))
    return {node: sorted(acts) for node, acts in found.items()}


def violations(fleet: Fleet, made: Timetable) -> list[str]:
    """Return every broken rule."""
    nodes, acted = spread_out(fleet), actions(made)
    broken = [f"node {node} is unknown" for node in acted if node not in nodes]
    latest = 0
    away = []            # node, start, end of acts out of service
    put_on = defaultdict(list)        # pool, kind, place -> (start, end)
    for node, bunch in nodes.items():
        chain = fleet.chains[bunch.chain]
        mine = acted.get(node, [])
        if [act for _, act, _ in mine] != list(range(len(chain.acts))) or any(c != bunch.chain for _, _, c in mine):
            broken.append(f"node {node} does not do its acts in order")
            continue
        free = 0
        for start, number, _ in mine:
            act = chain.acts[number]
            if start < free:
                broken.append(f"node {node} does two acts at once")
            free = start + act.minutes
            latest = max(latest, free)
            if act.down:
                away.append((node, start, free))
                window = fleet.pools[bunch.pool].window
                offset = start % window.period_minutes if window else 0
                if window and not any(a <= offset and offset + act.minutes <= b for a, b in window.open):
                    broken.append(f"node {node} is outside its window at {start}")
                for change in act.changes:
                    for place in set(change.new) - set(change.old):
                        put_on[bunch.pool, change.kind, place].append((start, free))
    if latest != made.makespan:
        broken.append(f"makespan is {latest}")
    return broken + room(fleet, nodes, away) + growth(fleet, nodes, put_on) + nvlink(fleet, nodes, acted) + \
        domains(fleet, nodes, acted)


def room(fleet, nodes, away):
    """Rule 2: nodes out of service in each pool and failure domain, at every start."""
    broken = []
    for instant in sorted({start for _, start, _ in away}):
        gone = [nodes[node] for node, start, end in away if start <= instant < end]
        for pool, rule in enumerate(fleet.pools):
            if sum(b.pool == pool for b in gone) > rule.max_unavailable:
                broken.append(f"pool {pool} at {instant}")
        broken += [f"failure domain {domain} at {instant}" for domain in sorted({b.failure_domain for b in gone})
                   if sum(b.failure_domain == domain for b in gone) > fleet.rule.failure_domain_max_unavailable]
    return broken


def growth(fleet, nodes, put_on):
    """Rule 4: canary and growth, at every start."""
    broken = []
    for (pool, kind, place), spans in sorted(put_on.items()):
        rule = fleet.pools[pool]
        domains = [b.nvlink_domain for b in nodes.values() if b.nvlink_domain is not None]
        largest = max((domains.count(d) for d in {b.nvlink_domain for b in nodes.values() if b.pool == pool} - {None}),
                      default=0)
        for instant in sorted({start for start, _ in spans}):
            started = sum(start <= instant for start, _ in spans)
            soaked = sum(end + rule.soak_minutes <= instant for _, end in spans)
            if started > max(rule.canary, largest, math.floor(rule.growth * soaked)):
                broken.append(f"pool {pool} {kind}={place} at {instant}: {started} started, {soaked} soaked")
    return broken


def nvlink(fleet, nodes, acted):
    """Rule 6: an act on a kind of a whole NVLink domain has the same start, end and versions on all its nodes."""
    broken = []
    for domain in sorted({b.nvlink_domain for b in nodes.values()} - {None}):
        seen = []
        for node in (n for n, b in nodes.items() if b.nvlink_domain == domain):
            chain = fleet.chains[nodes[node].chain]
            seen.append([(start, start + chain.acts[i].minutes, sorted((c.kind, c.new) for c in chain.acts[i].changes))
                         for start, i, _ in acted.get(node, [])
                         if any(c.kind in fleet.rule.nvlink_atomic for c in chain.acts[i].changes)])
        if any(other != seen[0] for other in seen):
            broken.append(f"NVLink domain {domain} is torn")
    return broken


def domains(fleet, nodes, acted):
    """Rule 5: skew and equality in each communication domain, by replaying every node's versions."""
    broken = []
    for domain in sorted({b.comm_domain for b in nodes.values()} - {None}):
        mine = [n for n, b in nodes.items() if b.comm_domain == domain]
        for kind in sorted({*fleet.rule.equal, *dict(fleet.rule.skew)}):
            values = {n: [(0, dict(fleet.chains[nodes[n].chain].start)[kind])] for n in mine}
            for n in mine:
                for start, i, chain in acted.get(n, []):
                    act = fleet.chains[chain].acts[i]
                    values[n] += [(start + act.minutes, c.new) for c in act.changes if c.kind == kind]
            mixed_since = None
            for instant in sorted({minute for course in values.values() for minute, _ in course}):
                now = {[value for minute, value in course if minute <= instant][-1] for course in values.values()}
                places = [place for value in now for place in value]
                if kind in dict(fleet.rule.skew) and max(places) - min(places) > dict(fleet.rule.skew)[kind]:
                    broken.append(f"domain {domain} {kind} skew at {instant}")
                if kind in fleet.rule.equal:
                    if len(now) > 1 and mixed_since is None:
                        mixed_since = instant
                    elif len(now) == 1 and mixed_since is not None:
                        if instant - mixed_since > fleet.rule.max_mixed_minutes:
                            broken.append(f"domain {domain} {kind} mixed from {mixed_since} to {instant}")
                        mixed_since = None
            if mixed_since is not None:
                broken.append(f"domain {domain} {kind} ends mixed")
    return broken
