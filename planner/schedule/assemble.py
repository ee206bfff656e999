"""The verb of planning: facts, target and matrices in, one plan document out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from planner.diagnostics import Diagnostic
from planner.documents import digest, dump_model
from planner.errors import NoPathError, PlannerError, ScheduleError
from planner.facts.schema import FactDocument, NodeRecord, UnreadableNode
from planner.fleet.fleet import Fleet, Node, build_fleet
from planner.matrix.index import MatrixSet
from planner.model.target import Target
from planner.schedule.build import build_waves
from planner.schedule.cohorts import (
    Group,
    Paths,
    check_components,
    group_nodes,
    refusal_diagnostics,
    select_nodes,
    solve,
    with_ids,
)
from planner.schedule.fences import equal_claims
from planner.schedule.figures import figures_of
from planner.schedule.gains import gains_of
from planner.schedule.phases import broken_meanwhile
from planner.schedule.plan import Claimed, Cohort, Excluded, NodePlan, Plan, PoolLimit
from planner.schedule.problems import accepted_names
from planner.schedule.verify import verify_schedule
from planner.search.explain import Refusal

Progress = Callable[[int, int], None]

LEFT_OUT_SHOWN = 10         # nodes named in an error


def make_plan(
    document: FactDocument, target: Target, matrices: MatrixSet, *, planner_version: str, inventory: str = "",
    optimize: tuple[str, ...] = (), progress: Progress | None = None, like: Plan | None = None,
) -> Plan:
    """Plan a rollout.

    Args:
        document: What the nodes said.
        target: What is wanted.
        matrices: What is known.
        planner_version: Written into the plan.
        inventory: Path as the user gave it; carried along for ``apply``.
        optimize: Order of the cost fields; empty for the default.
        progress: Called with (cohorts done, cohorts in all).
        like: An earlier plan: what did not change stays in its batches, as far as the policy allows.

    Returns:
        A plan without seal and digest; the caller validates it, then calls ``finish``.

    Raises:
        InputError: The target names something unknown.
        NoPathError: At least one cohort has no safe path; one diagnostic for all that share its reasons.
        ScheduleError: Paths exist, but no schedule.
    """
    check_components(target, matrices)
    fleet = build_fleet(document, matrices)
    chosen = select_nodes(fleet, target)
    if not chosen:
        raise _nobody(fleet, target)
    cohorts = _cohorts(chosen, target, matrices, optimize, progress)
    if unborne := tuple(broken_meanwhile(cohorts, matrices, accepted_names(target))):
        raise ScheduleError(*unborne)
    cohort_of = {name: c.id for c in cohorts for name in c.nodes}
    nodes = {n.name: _node_plan(n, cohort_of[n.name]) for n in chosen}
    down = {pool: tuple(sorted(n.name for n in fleet.left_out if n.reason == "unreadable" and n.pool == pool))
            for pool in sorted({n.pool for n in chosen})}
    down_domains = _declared("failure_domain", document.unreadable)
    nvlink_domains = _declared("nvlink_domain", (*document.nodes, *document.unreadable))
    inputs = _inputs(document, target, matrices) | ({"like": like.digest} if like else {})
    gains = gains_of(cohorts, matrices)
    equal, figures = equal_claims(matrices), figures_of(matrices)

    def scheduled(order: Plan | None, *more: str) -> Plan:
        schedule = build_waves(cohorts, nodes, target.rollout, target.own_rollouts(), down,
                               equal_components=frozenset(equal), like=order, down_domains=down_domains,
                               nvlink_domains=nvlink_domains, figures=figures)
        mixed = tuple(w.model_copy(update={"because": tuple(c for name in w.components for c in equal[name])})
                      for w in schedule.mixed)
        return Plan(
            planner_version=planner_version, name=target.name, inputs=inputs, inventory=inventory, policy=target.policy,
            accepted=target.accept, rollout=target.rollout, pools=schedule.pools, cohorts=cohorts, waves=schedule.waves,
            nodes=nodes, excluded=_excluded(fleet, chosen, target), risks=_risks(cohorts, target), gains=gains,
            warnings=(*schedule.warnings, *more), eta_minutes=schedule.eta_minutes,
            bound_minutes=_bound(cohorts, nodes, schedule.pools), mixed=mixed or None,
            pair_minutes=figures.pair_minutes if target.rollout.nccl_pairs else None,
        )

    return scheduled(None) if like is None else _like(like, scheduled, target)


def _like(like: Plan, scheduled: Callable[..., Plan], target: Target) -> Plan:
    """Return the plan with the batches of an earlier one, or where these cannot be kept, with its own, and why."""
    unkept = f"the batches of plan {like.digest[:15]} could not be kept: "
    try:
        made = scheduled(like)
    except ScheduleError as exc:
        return scheduled(None, unkept + exc.diagnostics[0].summary)
    broken = verify_schedule(made, target.own_rollouts())
    return scheduled(None, unkept + broken[0]) if broken else made


def _declared(key: str, nodes: Iterable[NodeRecord | UnreadableNode]) -> dict[str, str]:
    """Return what people declared under a key, by node; nodes without it are left out."""
    return {n.name: value for n in sorted(nodes, key=lambda n: n.name)
            if isinstance(value := n.declared.get(key), str) and value}


def finish(plan: Plan, seal: str) -> Plan:
    """Return the plan with its seal and the digest over everything else."""
    sealed = plan.model_copy(update={"seal": seal, "digest": ""})
    return sealed.model_copy(update={"digest": digest(dump_model(sealed))})


def _cohorts(chosen: tuple[Node, ...], target: Target, matrices: MatrixSet, optimize: tuple[str, ...],
             progress: Progress | None) -> tuple[Cohort, ...]:
    groups = group_nodes(chosen, target)
    paths = Paths()
    solved: list[Cohort] = []
    refused: list[tuple[Refusal, Group]] = []
    for number, group in enumerate(groups, start=1):
        result = solve(group, target, matrices, optimize, paths)
        if isinstance(result, Refusal):
            refused.append((result, group))
        else:
            solved.append(result)
        if progress:
            progress(number, len(groups))
    if refused:
        raise NoPathError(*refusal_diagnostics(refused, target))
    return with_ids(solved)


def _bound(cohorts: tuple[Cohort, ...], nodes: Mapping[str, NodePlan], pools: Mapping[str, PoolLimit]) -> int:
    if sum(len(c.nodes) for c in cohorts if c.steps) < 2:
        return 0       # one node waits for nobody, and what times fleets need not be read
    from planner.schedule.bound import bound_minutes

    return bound_minutes(cohorts, nodes, pools)


def _nobody(fleet: Fleet, target: Target) -> PlannerError:
    """Return the error for a target that leaves no node, with the reason of each node that was left out."""
    excluded = _excluded(fleet, (), target)
    told = [f"{e.node}: {e.reason}, {e.detail}" + (f" ({e.hint})" if e.hint else "") for e in excluded[:LEFT_OUT_SHOWN]]
    if len(excluded) > LEFT_OUT_SHOWN:
        told.append(f"and {len(excluded) - LEFT_OUT_SHOWN} more")
    return PlannerError(Diagnostic(code="nothing-selected", summary="no node is left to plan for", why=tuple(told),
                                   hint="mend that and run planner discover again, or widen select and pools"))


def _node_plan(node: Node, cohort: str) -> NodePlan:
    return NodePlan(
        cohort=cohort, pool=node.pool, environment=node.environment, failure_domain=node.failure_domain,
        nvlink_domain=node.nvlink_domain, comm_domain=node.comm_domain, scheduler=node.scheduler,
        machine_id=node.machine_id, facts=node.facts_digest,
    )


def _inputs(document: FactDocument, target: Target, matrices: MatrixSet) -> dict[str, str]:
    nodes = sorted(document.nodes, key=lambda n: n.name)
    facts = {"nodes": [[n.name, n.facts, n.identity.machine_id or ""] for n in nodes]}
    return {
        "facts": digest(facts), "inventory": document.inventory_digest, "target": digest(dump_model(target)),
        "matrices": matrices.digest,
    }


def _excluded(fleet: Fleet, chosen: tuple[Node, ...], target: Target) -> tuple[Excluded, ...]:
    names = {n.name for n in chosen}
    found = [Excluded(node=n.name, reason=n.reason, detail=n.detail, hint=n.hint) for n in fleet.left_out]
    found += [
        Excluded(node=n.name, reason="not-selected", detail="its pool is skipped"
                 if n.pool in target.pools and target.pools[n.pool].skip else "not in the selection")
        for n in fleet.nodes if n.name not in names
    ]
    return tuple(sorted(found, key=lambda e: e.node))


def _risks(cohorts: tuple[Cohort, ...], target: Target) -> tuple[Claimed, ...]:
    taken = {r for c in cohorts for s in c.steps for r in s.risks}
    return tuple(
        Claimed(claim=a.risk, statement=f"accepted because: {a.because}"
                + ("" if a.risk in taken else " (no step of this plan runs it)"), source="target")
        for a in target.accept
    )

