"""Communication domains that are mixed for a while, and the marks that keep jobs to one half of them meanwhile. Pure.

A domain is mixed from the batch whose nodes change first to the batch whose nodes change last. Until then each of its
nodes carries a mark of the rollout where its scheduler keeps such marks: the changed ones ``MARK-new``, the others
``MARK-old``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from planner.matrix.index import MatrixSet
from planner.schedule.plan import Claimed, Cohort, MixedWindow, NodePlan, Plan, Wave

FENCES = ("kubernetes", "slurm")     # schedulers that keep a mark on a node which jobs can ask for
NEW, OLD = "-new", "-old"
MARK_CHARS = 63                      # of a Kubernetes label, the longest form of a mark included
_NAMES_MAX = 4

Mixing = Mapping[str, Mapping[str, frozenset[str]]]     # domain -> node -> what it changes that must be equal in a job


@dataclass(frozen=True, slots=True)
class Halves:
    """Who is in which half of a mixed domain, and when.

    Attributes:
        places: Node -> 0 where it has the new versions already, the number of its batch in the window (from 1) where
            it changes, one more than the last of these where it keeps what it has.
        waves: Wave -> nodes that change in it; when all have their records, the window is closed.
    """

    places: Mapping[str, int]
    waves: Mapping[str, tuple[str, ...]]


def equal_claims(matrices: MatrixSet) -> dict[str, tuple[Claimed, ...]]:
    """Return what must be equal on all nodes of a job, and the claims that say so.

    That is every component marked ``equal_in_job``, and every component of an ``across`` rule about jobs whose breach
    is an error.
    """
    rules = [r for r in matrices.across if r.domain == "job" and r.severity == "error"]
    names = {name for name, c in matrices.components.items() if c.equal_in_job} | {r.component for r in rules}
    return {name: tuple(
        Claimed(claim=r.name, statement=r.statement, source=matrices.source_of(r.name, r.provenance))
        for r in rules if r.component == name) or (_plainly(name, matrices),) for name in sorted(names)}


def _plainly(component: str, matrices: MatrixSet) -> Claimed:
    return Claimed(claim=component, statement=f"{matrices.components[component].title} must be equal within a job",
                   source="equal_in_job")


def mixed_windows(waves: Iterable[Wave], mixing: Mixing, nodes: Mapping[str, NodePlan],
                  fence: bool | None, pauses: Mapping[str, int] | None = None) -> tuple[MixedWindow, ...]:
    """Return the window of every domain that does not change in one batch, by domain.

    Args:
        waves: The finished schedule.
        mixing: Who changes what.
        nodes: All nodes of the plan.
        fence: False where the target wants no marks.
        pauses: Wave -> minutes until the next one, where pairs take longer than its soak.
    """
    pauses = pauses or {}
    line = [(wave, batch) for wave in waves for batch in wave.batches]
    place = {name: spot for spot, (_, batch) in enumerate(line) for name in batch.nodes}
    schedulers: dict[str, list[str]] = {}
    for name in sorted(nodes):
        schedulers.setdefault(nodes[name].comm_domain, []).append(nodes[name].scheduler)
    found = []
    for domain, members in sorted(mixing.items()):
        spots = [place[n] for n in members]
        first, last = min(spots), max(spots)
        if first == last:
            continue
        ended = [w for (w, _), (after, _) in pairwise(line[first:last + 1]) if w is not after]
        here = schedulers[domain]
        kept = tuple(f for f in FENCES if f in here and fence is not False)
        found.append(MixedWindow.model_validate({
            "domain": domain, "components": tuple(sorted({c for own in members.values() for c in own})),
            "opens": line[first][1].id, "closes": line[last][1].id, "batches": last - first + 1,
            "minutes": sum(b.minutes for _, b in line[first:last + 1]) + sum(
                pauses.get(w.id, w.soak_minutes) for w in ended),
            "approval": any(w.approval for w in ended), "fences": kept,
            "unfenced": sum(s not in kept for s in here),
        }))
    return tuple(found)


def mixing_warnings(windows: Iterable[MixedWindow], fence: bool | None) -> Iterator[str]:
    """Yield a sentence for every window in which people have to keep jobs to one half, and why."""
    for window in windows:
        if window.unfenced:
            wait = ", plus the wait for approval" if window.approval else ""
            number = f"{window.unfenced} node{'s' * (window.unfenced > 1)}"
            why = "the target turns fences off" if fence is False else \
                f"no planner_scheduler of {number} is slurm or kubernetes"
            yield (f"communication domain {window.domain} is mixed in {', '.join(window.components)} for "
                   f"{window.batches} batches, {window.minutes} minutes{wait}; keeping each job to one half is up to "
                   f"you: {why}")


def unequal_warnings(mixing: Mixing, nodes: Mapping[str, NodePlan], cohort_of: Mapping[str, Cohort]) -> Iterator[str]:
    """Yield a sentence for every domain that the plan leaves with several versions of what must be equal in a job."""
    members: dict[str, list[str]] = {}
    for name in sorted(nodes):
        members.setdefault(nodes[name].comm_domain, []).append(name)
    for domain, changed in sorted(mixing.items()):
        for component in sorted({c for own in changed.values() for c in own}):
            values: dict[tuple[str, ...], list[str]] = {}
            for name in members[domain]:
                if value := cohort_of[nodes[name].cohort].goal.get(component):
                    values.setdefault(value, []).append(name)
            if len(values) > 1:
                told = "; ".join(f"{', '.join(value)} on {_few(names)}" for value, names in sorted(values.items()))
                yield f"communication domain {domain} stays mixed in {component} after this plan: {told}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
    return ", ".join(names[:_NAMES_MAX]) + more


def fence_mark(plan: Plan) -> str:
    """Return what the marks of a finished plan begin with; no other plan has it. Fit for a label and for a feature."""
    tail = f"-{plan.digest.removeprefix('sha256:')[:8]}"
    return f"planner-{plan.name}"[:MARK_CHARS - len(tail) - len(NEW)] + tail


def domain_nodes(plan: Plan, window: MixedWindow, scheduler: str = "") -> tuple[str, ...]:
    """Return the nodes of a window's domain, sorted; with ``scheduler`` only those that it runs."""
    return tuple(sorted(name for name, node in plan.nodes.items() if node.comm_domain == window.domain
                        and scheduler in ("", node.scheduler)))


def halves(plan: Plan, window: MixedWindow) -> Halves:
    """Return who is in which half of a mixed domain."""
    moving = {c.id for c in plan.cohorts if _moves(c, window.components)}
    goals = {c.id: _goal(c, window.components) for c in plan.cohorts}
    members = domain_nodes(plan, window)
    movers = {n for n in members if plan.nodes[n].cohort in moving}
    wanted = {goals[plan.nodes[n].cohort] for n in movers}
    waves: dict[str, tuple[str, ...]] = {}
    places: dict[str, int] = {}
    number = 0
    for wave in plan.waves:
        for batch in wave.batches:
            if here := [n for n in batch.nodes if n in movers]:
                number += 1
                places |= dict.fromkeys(here, number)
                waves[wave.id] = (*waves.get(wave.id, ()), *here)
    for name in members:
        if name not in movers:
            places[name] = 0 if goals[plan.nodes[name].cohort] in wanted else number + 1
    return Halves(places=dict(sorted(places.items())), waves=waves)


def _moves(cohort: Cohort, components: Collection[str]) -> bool:
    return any(change.component in components for step in cohort.steps for change in step.changes)


def _goal(cohort: Cohort, components: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(cohort.goal.get(c, ()) for c in components)
