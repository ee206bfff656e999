"""Derives, from a plan, a small plan that runs on lab nodes: same steps, same roles, nodes and pins replaced. Pure.

The lab's packages are stand-ins and say so in their versions, so every pin gets the stand-in suffix; nothing else of a
step changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.lab.spec import Manager
from planner.model.target import RolloutPolicy
from planner.schedule.plan import Batch, Cohort, NodePlan, Plan, PoolLimit, Step, Wave

DEB_SUFFIX = "+standin"
RPM_SUFFIX = ".standin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """A plan on lab nodes, and which real node each of them stands for."""

    plan: Plan
    stands_for: Mapping[str, str]     # lab node -> real node


def stand_in_version(version: str, manager: str) -> str:
    """Return a package version with the suffix that marks a stand-in."""
    return version + (DEB_SUFFIX if manager == "apt" else RPM_SUFFIX)


def manager_of(cohort: Cohort) -> Manager:
    """Return the package manager of a cohort's nodes."""
    managers = {*(step.packages.manager for step in cohort.steps), *cohort.start.get("os_family", ())}
    return "dnf" if "dnf" in managers else "apt"


def choose_nodes(plan: Plan, most: int) -> tuple[str, ...]:
    """Return the real nodes to mirror: one of every cohort with steps, then of every kind of wave while there is room.

    Args:
        plan: The real plan.
        most: Nodes at most; every cohort gets one even when that makes more.
    """
    cohort_of = {n: c.id for c in plan.cohorts if c.steps for n in c.nodes}
    places = [(n, wave.kind) for wave in plan.waves for b in wave.batches for n in b.nodes if n in cohort_of]
    # Canaries first: staging may lack cohorts. The rest, a wave of growing batches, is what comes after the approval.
    ranked = sorted(places, key=lambda place: ("canary", "batch", "staging").index(place[1]))
    chosen: dict[str, str] = {}
    covered: set[str] = set()
    for node, kind in ranked:
        if cohort_of[node] not in covered:
            covered.add(cohort_of[node])
            chosen[node] = kind
    for by_cohort in (False, True):     # first a wave of every kind, then every cohort in every kind
        for node, kind in ranked:
            met = {(cohort_of[n] if by_cohort else "", k) for n, k in chosen.items()}
            if len(chosen) < most and (cohort_of[node] if by_cohort else "", kind) not in met:
                chosen[node] = kind
    return tuple(sorted(chosen))


def mirror_plan(plan: Plan, chosen: tuple[str, ...], machine_ids: Mapping[str, str]) -> Mirrored:
    """Return the plan for lab nodes.

    Args:
        plan: The real plan.
        chosen: Real nodes to stand in for.
        machine_ids: Lab node -> its machine-id, as many as ``chosen``; names in sorted order stand for nodes in order.
    """
    lab_of = dict(zip(chosen, sorted(machine_ids), strict=True))
    cohorts = tuple(_cohort(c, lab_of) for c in plan.cohorts if any(n in lab_of for n in c.nodes))
    waves = tuple(w for wave in plan.waves if (w := _wave(wave, lab_of)).batches)
    nodes = {lab: _node(plan.nodes[real], machine_ids[lab]) for real, lab in lab_of.items()}
    pools = {pool: PoolLimit(nodes=sum(n.pool == pool for n in nodes.values()), max_unavailable=limit.max_unavailable,
                             max_unavailable_per_domain=limit.max_unavailable_per_domain)
             for pool, limit in plan.pools.items() if any(n.pool == pool for n in nodes.values())}
    quick = RolloutPolicy.model_validate({**plan.rollout.model_dump(), "soak_minutes": 0, "batch_soak_minutes": 0,
                                          "not_before": None,
                                          "nccl_pairs": None, "canary_command": None})
    derived = plan.model_copy(update={
        "name": f"{plan.name}-rehearsal"[:64], "cohorts": cohorts, "waves": waves, "nodes": nodes, "pools": pools,
        "excluded": (), "rollout": quick, "inventory": "", "seal": f"rehearsal of {plan.digest}", "digest": "",
        "mixed": None,      # no scheduler runs lab nodes, so nothing marks them
        "pair_minutes": None,
    })
    return Mirrored(plan=derived, stands_for={lab: real for real, lab in lab_of.items()})


def _cohort(cohort: Cohort, lab_of: Mapping[str, str]) -> Cohort:
    manager = manager_of(cohort)
    return cohort.model_copy(update={
        "nodes": tuple(sorted(lab_of[n] for n in cohort.nodes if n in lab_of)),
        "steps": tuple(_step(s) for s in cohort.steps),
        "way_back": tuple(_step(s) for s in cohort.way_back),
        "installed": {name: stand_in_version(v, manager) for name, v in cohort.installed.items()},
    })


def _step(step: Step) -> Step:
    act = step.packages
    pins = {name: stand_in_version(version, act.manager) for name, version in act.install.items()}
    return step.model_copy(update={"packages": act.model_copy(update={"install": pins})})


def _wave(wave: Wave, lab_of: Mapping[str, str]) -> Wave:
    batches = tuple(
        Batch(id=b.id, minutes=b.minutes, nodes=tuple(sorted(lab_of[n] for n in b.nodes if n in lab_of)))
        for b in wave.batches if any(n in lab_of for n in b.nodes)
    )
    return wave.model_copy(update={"batches": batches, "soak_minutes": 0})


def _node(node: NodePlan, machine_id: str) -> NodePlan:
    return node.model_copy(update={"machine_id": machine_id, "scheduler": "none"})


def stand_in_packages(plan: Plan) -> dict[Manager, tuple[tuple[str, str], ...]]:
    """Return every (name, version) that a mirrored plan needs, by package manager, sorted."""
    wanted: dict[Manager, set[tuple[str, str]]] = {}
    for cohort in plan.cohorts:
        manager = manager_of(cohort)
        wanted.setdefault(manager, set()).update(cohort.installed.items())
        for step in (*cohort.steps, *cohort.way_back):
            wanted.setdefault(manager, set()).update(step.packages.install.items())
    return {manager: tuple(sorted(packages)) for manager, packages in sorted(wanted.items())}
