"""Replays what must be equal within a job, batch by batch, and holds the windows that a plan states against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.schedule.plan import Batch, Plan, Wave
from planner.validate.rules import Rules

_FENCED_BY = ("kubernetes", "slurm")


def misfenced(plan: Plan, fence: bool | None, rules: Rules) -> Iterator[str]:
    """Yield every window that a plan states wrongly, needlessly or not at all.

    Args:
        plan: With its schedule.
        fence: What the target says of marks; False: there are none.
        rules: Raw matrices; they say what must be equal within a job, and by which claims.
    """
    stated = list(plan.mixed or ())
    domains = sorted({n.comm_domain for n in plan.nodes.values()} - {""})
    due = {d: fields for d in domains if (fields := _window(plan, d, fence, rules)) is not None}
    if [w.domain for w in stated] != list(due):
        yield (f"windows are stated for domains {_listed([w.domain for w in stated])}; mixed for more than a batch are "
               f"{_listed(list(due))}")
        return
    for window in stated:
        # Statements and sources are lines for people; the claims themselves are named.
        said = {**window.model_dump(mode="json"), "because": [c.claim for c in window.because if c.source]}
        for key, value in due[window.domain].items():
            if said[key] != value:
                yield f"communication domain {window.domain}: {key} is said to be {said[key]}, the replay has {value}"


def _window(plan: Plan, domain: str, fence: bool | None, rules: Rules) -> dict[str, Any] | None:
    """Return the fields of a domain's window as its nodes' states come to it; None where it is mixed in no batch."""
    cohorts = {c.id: c for c in plan.cohorts}
    nodes = {name: node for name, node in plan.nodes.items() if node.comm_domain == domain}
    told = {cohorts[node.cohort].id: cohorts[node.cohort] for node in nodes.values()}
    changes = {name: {c.component for step in cohort.steps for c in step.changes} for name, cohort in told.items()}
    watched = {c for found in changes.values() for c in found if _claims(c, rules)}
    moved = {name: changes[node.cohort] & watched for name, node in nodes.items()}
    line: list[tuple[Wave, Batch]] = [(w, b) for w in plan.waves for b in w.batches]
    spots = [at for at, (_, batch) in enumerate(line) if any(moved.get(name) for name in batch.nodes)]
    if len(spots) < 2:
        return None
    inside = line[spots[0]:spots[-1] + 1]
    behind = [wave for wave in plan.waves if any(wave is w for w, _ in inside) and wave is not inside[-1][0]]
    components = sorted(set().union(*moved.values()))
    marked = [] if fence is False else [s for s in _FENCED_BY if any(n.scheduler == s for n in nodes.values())]
    return {
        "components": components, "opens": inside[0][1].id, "closes": inside[-1][1].id, "batches": len(inside),
        "minutes": sum(b.minutes for _, b in inside) + sum(_pause(plan, w) for w in behind),
        "approval": any(w.approval for w in behind), "fences": marked,
        "unfenced": sum(n.scheduler not in marked for n in nodes.values()),
        "because": [str(r.get("name", name)) for name in components for r in _claims(name, rules)],
    }


def _pause(plan: Plan, wave: Wave) -> int:
    """Return the minutes behind a wave: its soak, or a pair for each domain that it leaves mixed, if longer."""
    if not plan.rollout.nccl_pairs:
        return wave.soak_minutes
    moving = {n for c in plan.cohorts if c.steps for n in c.nodes}
    at = plan.waves.index(wave)
    changed, waiting = ({plan.nodes[n].comm_domain for w in waves for b in w.batches for n in b.nodes if n in moving}
                        for waves in ((wave,), plan.waves[at + 1:]))
    return max(wave.soak_minutes, len(changed & waiting - {""}) * (plan.pair_minutes or 15))


def _claims(component: str, rules: Rules) -> list[Mapping[str, Any]]:
    """Return the rules that a component be equal within a job; one without a name where only its mark says so."""
    named = [r for r in rules.across.values() if r["component"] == component and r["domain"] == "job"
             and r.get("severity", "warning") == "error"]
    marked = bool(rules.components.get(component, {}).get("equal_in_job"))
    return named or [{}] * marked


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
