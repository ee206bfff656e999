"""Between the benchmark's JSON and the timetable: instances and paths in, the schedule of an answer out.

    schedule, fleet_conflict, lower_bound = bench_schedule.schedule(instance, paths)

``paths`` are the answer's entries, one a cohort, all with status "ok". What comes back:

* a schedule: ``(list, None, bound)``;
* no schedule, and the benchmark has a checked form for the reason: ``(None, [{"type", "pool", "kind"}], 0)``;
* other paths are needed first: ``NeedsReplanError`` is raised. Its ``hops`` are (path, kind, places): search the cohort
  again with hops of ``kind`` of at most ``places`` (the skew of its communication domain). Its ``lengths`` are (path,
  kinds, minutes): search again without one act on ``kinds`` together, which is longer than every window. Call again
  with the new paths; when the search finds none under these limits, the fleet is infeasible;
* no schedule for a reason without a checked form (unequal starts, acts that wait for each other): ``NoScheduleError``
  is raised with the reasons.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from planner.schedule.timeline.build import TRIALS, build_timetable
from planner.schedule.timeline.model import (
    Act,
    Bunch,
    Chain,
    Change,
    Fleet,
    FleetRule,
    PoolRule,
    Refusal,
    Refused,
    Timetable,
    Window,
)

Document = dict[str, Any]
Cohort = tuple[int, int, int]
COLUMNS = ("state", "arch", "target", "pool", "fd", "comm", "nvl")


class NeedsReplanError(Exception):
    """These paths have no schedule, others may: ``hops`` (path, kind, places), ``lengths`` (path, kinds, minutes)."""

    def __init__(self, hops: list[tuple[int, str, int]], lengths: list[tuple[int, tuple[str, ...], int]]) -> None:
        super().__init__(f"smaller steps needed: {hops or lengths}")
        self.hops, self.lengths = hops, lengths


class NoScheduleError(Exception):
    """These paths have no schedule (or none was found: cause STUCK); ``reasons`` say why."""

    def __init__(self, reasons: tuple[Refusal, ...]) -> None:
        super().__init__("; ".join(f"{r.cause.value} (pool {r.pool}, {', '.join(r.kinds)})" for r in reasons[:5]))
        self.reasons = reasons


def schedule(instance: Document, paths: list[Document],
             trials: int = TRIALS) -> tuple[list[Document] | None, list[Document] | None, int]:  # fmt: skip
    """Return (schedule, fleet conflict, lower bound in minutes); see above for what is raised."""
    fleet = make_fleet(instance, paths)
    made = build_timetable(fleet, trials)
    if isinstance(made, Refused):
        conflict = fleet_conflict(instance, fleet, made)
        if conflict:
            return None, conflict, 0
        if made.hops or made.lengths:
            raise NeedsReplanError([(h.chain, h.kind, h.places) for h in made.hops],
                              [(x.chain, x.kinds, x.minutes) for x in made.lengths])  # fmt: skip
        raise NoScheduleError(made.refusals)
    return entries(made), None, made.lower_bound


def entries(made: Timetable) -> list[Document]:
    """Return a timetable in the answer's format."""
    return [{"path": p.chain, "step": p.act, "start": p.start, "nodes": [list(r) for r in p.nodes]}
            for p in made.placements]  # fmt: skip


def make_fleet(instance: Document, paths: list[Document]) -> Fleet:
    """Return the fleet of an instance; chain number = path number."""
    places = {k: {v: i for i, v in enumerate(d["versions"])} for k, d in instance["kinds"].items()}
    policy = instance["policy"]
    watched = sorted({*policy["equal"], *policy["skew"]})
    number = {(p["state"], p["arch"], p["target"]): i for i, p in enumerate(paths)}
    chains = tuple(_chain(instance, places, watched, path) for path in paths)
    pools = tuple(
        PoolRule(p["max_unavailable"], p["canary"], p["growth"], p["soak"],
                 Window(p["window"]["period"], tuple((a, b) for a, b in p["window"]["open"])) if p["window"] else None)
        for p in instance["pools"]
    )  # fmt: skip
    rule = FleetRule(policy["fd_max_unavailable"], tuple(sorted(policy["equal"])), policy["max_mixed_minutes"],
                     tuple(sorted(policy["skew"].items())), tuple(sorted(policy["nvl_atomic"])))  # fmt: skip
    return Fleet(chains, tuple(_bunches(instance["nodes"], number)), pools, rule)


def _bunches(nodes: Document, number: dict[Cohort, int]) -> list[Bunch]:
    found, first = [], 0
    rows = zip(*(nodes[column] for column in COLUMNS), strict=True)
    for (state, arch, target, pool, failure, comm, nvlink), run in groupby(rows):
        count = sum(1 for _ in run)
        found.append(Bunch(((first, first + count - 1),), pool, failure, number[state, arch, target],
                           comm if comm >= 0 else None, nvlink if nvlink >= 0 else None))  # fmt: skip
        first += count
    return found


def _chain(instance: Document, places: dict[str, dict[str, int]], watched: list[str], path: Document) -> Chain:
    stack = {k: {places[k][v] for v in vs} for k, vs in instance["states"][path["state"]].items()}
    start = tuple((k, tuple(sorted(stack[k]))) for k in watched)
    acts = []
    for step in path["steps"]:
        add, remove = ({k: vs for k, vs in step.get(w, {}).items() if vs} for w in ("add", "remove"))
        changes = []
        for kind in sorted({*add, *remove}):
            old = tuple(sorted(stack[kind]))
            stack[kind] = stack[kind] - {places[kind][v] for v in remove.get(kind, ())}
            stack[kind] |= {places[kind][v] for v in add.get(kind, ())}
            changes.append(Change(kind, old, tuple(sorted(stack[kind]))))
        acts.append(Act(tuple(changes), *_cost(instance["kinds"], add, changes)))
    return Chain(tuple(acts), start)


def _cost(kinds: Document, add: Document, changes: list[Change]) -> tuple[int, bool]:
    """Return (minutes, out of service) of a step."""
    minutes, down = 0, False
    for change in changes:
        cost = kinds[change.kind]["cost"]
        if kinds[change.kind]["mode"] == "set" and change.kind not in add:
            minutes += cost.get("remove_minutes", cost["minutes"])
        else:
            minutes += cost["minutes"]
            down = down or bool(cost["reboot"] or cost["drain"])
    return minutes, down


def fleet_conflict(instance: Document, fleet: Fleet, refused: Refused) -> list[Document]:
    """Return the reasons that the benchmark can check: an NVLink domain or a kind's own step that cannot fit."""
    found = set()
    atomic, kinds = set(instance["policy"]["nvl_atomic"]), instance["kinds"]
    for reason in refused.refusals:
        for kind in reason.kinds:
            cost = kinds[kind]["cost"]
            down = cost["drain"] or cost["reboot"]
            if not down or not _must_change(instance, reason.chains, fleet, kind, reason.pool):
                continue
            if reason.cause_name == "NVLINK_SIZE" and kind in atomic:
                found.add(("nvl", reason.pool, kind))
            window = instance["pools"][reason.pool]["window"]
            if reason.cause_name == "WINDOW" and window and all(b - a < cost["minutes"] for a, b in window["open"]):
                found.add(("window", reason.pool, kind))
    return [{"type": t, "pool": p, "kind": k} for t, p, k in sorted(found)]


def _must_change(instance: Document, chains: tuple[int, ...], fleet: Fleet, kind: str, pool: int) -> bool:
    """Tell whether the goal of one of the cohorts names a kind that its start does not satisfy."""
    nodes = instance["nodes"]
    cohorts = {(nodes["state"][b.nodes[0][0]], nodes["target"][b.nodes[0][0]]) for b in fleet.bunches
               if b.chain in chains and b.pool == pool}  # fmt: skip
    for state, target in sorted(cohorts):
        goal, have = instance["targets"][target].get(kind), set(instance["states"][state][kind])
        if goal is None:
            continue
        met = have <= set(goal["in"]) if "in" in goal else (
            set(goal.get("has", ())) <= have and not have & set(goal.get("not", ())))  # fmt: skip
        if not met:
            return True
    return False
