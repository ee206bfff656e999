"""Why a plan does not use some version: the same search with that version wanted, and what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from planner.errors import InputError
from planner.facts.schema import FactDocument
from planner.fleet.fleet import build_fleet
from planner.matrix.index import MatrixSet
from planner.model.target import Target, ToolkitWant, Want
from planner.model.version import contains
from planner.schedule.cohorts import Group, check_components, group_nodes, select_nodes, solve
from planner.schedule.plan import Cohort
from planner.search.explain import Refusal
from planner.search.problem import COST_ORDER, Goal

_COSTS = {"reboots": "reboots", "risks": "accepted risks", "steps": "steps", "minutes": "minutes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WhyNot:
    """The answer for nodes that are alike.

    Attributes:
        nodes: Their names.
        gpu: What they are, for people.
        verdict: ``chosen`` (the plan does use it), ``refused`` (no safe path), ``worse`` (a path, at a higher cost or
            with more known problems), ``not-asked`` (as good; the target asks for something else).
        reasons: Sentences, the weightiest first.
        sources: One line a claim.
        nearest: Feasible targets, where it is refused.
    """

    nodes: tuple[str, ...]
    gpu: str
    verdict: str
    reasons: tuple[str, ...]
    sources: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()


def why_not(document: FactDocument, target: Target, matrices: MatrixSet, component: str, wanted: str,
            optimize: tuple[str, ...] = ()) -> tuple[WhyNot, ...]:
    """Return, for each group of nodes, why its path does not lead to ``wanted`` (a version or range) of a component.

    Raises:
        InputError: The component is not one that a target may name, its version cannot be read, or the target is wrong.
    """
    many = matrices.is_many(component)
    check_components(target, matrices)
    _check_asked(target, component, _instead(None, wanted, many), matrices)
    fleet = build_fleet(document, matrices)
    found = []
    for group in group_nodes(select_nodes(fleet, target), target):
        planned = solve(group, target, matrices, optimize)
        changed: Want = {**group.want, component: _instead(group.want.get(component), wanted, many)}
        other = solve(Group(group.nodes, changed), target, matrices, optimize)
        found.append(_answer(group, planned, other, component, wanted, matrices, optimize))
    return tuple(found)


def _check_asked(target: Target, component: str, asked: str | ToolkitWant, matrices: MatrixSet) -> None:
    """Refuse what no target may say, as a fault of the question: no line of the target is to blame."""
    try:
        check_components(target.model_copy(update={"want": {component: asked}, "pools": {}}), matrices)
    except InputError as exc:
        raise InputError(*(replace(d, subject="--why-not", places=(), hint=d.hint if "did you mean" in d.hint else
                                   "ask for COMPONENT=VERSION, such as driver=595")
                           for d in exc.diagnostics)) from None


def _instead(now: str | ToolkitWant | None, wanted: str, many: bool) -> str | ToolkitWant:
    if not many:
        return wanted
    kept = now if isinstance(now, ToolkitWant) else ToolkitWant(present=())
    return kept.model_copy(update={
        "present": tuple(dict.fromkeys((*kept.present, wanted))),
        "absent": tuple(a for a in kept.absent if not _takes_away(a, wanted))})


def _takes_away(absent: str, wanted: str) -> bool:
    """Tell whether what is to be absent speaks of the version that a range begins with."""
    first = wanted.partition("|")[0].strip("=<>!~ ").split(" ")[0].removesuffix(".*")
    try:
        return contains(absent, first)
    except ValueError:
        return False


def _answer(group: Group, planned: Cohort | Refusal, other: Cohort | Refusal, component: str, wanted: str,
            matrices: MatrixSet, optimize: tuple[str, ...]) -> WhyNot:
    nodes, gpu = tuple(n.name for n in group.nodes), group.nodes[0].gpu
    if isinstance(other, Refusal):
        return WhyNot(nodes=nodes, gpu=gpu, verdict="refused", reasons=other.why, sources=other.sources,
                      nearest=other.nearest)
    if isinstance(planned, Refusal):
        return WhyNot(nodes=nodes, gpu=gpu, verdict="worse", reasons=(
            f"with {component} {wanted} there is a path; the target as it is written has none", *planned.why))
    asked_for = Goal(component=component, want=wanted, text=matrices.is_text(component))
    if asked_for.met_by(planned.goal.get(component, ())):
        return WhyNot(nodes=nodes, gpu=gpu, verdict="chosen", reasons=(
            f"the plan does lead to {component} {' and '.join(planned.goal[component])}",))
    order = (*optimize, *(f for f in COST_ORDER if f not in optimize))
    reasons = [*_costlier(planned, other, order), *_warned(planned, other)]
    asked = group.want.get(component)
    told = (f"the target asks for {component} {asked}" if isinstance(asked, str) else
            f"the target does not ask for {component} {wanted}")
    return WhyNot(nodes=nodes, gpu=gpu, verdict="worse" if reasons else "not-asked", reasons=(*reasons, told),
                  sources=tuple(dict.fromkeys(w.source for w in other.warnings if w.claim not in _claims(planned))))


def _costlier(planned: Cohort, other: Cohort, order: tuple[str, ...]) -> Iterator[str]:
    """Say where the other path costs more, up to the first field in which it costs less."""
    for name in (f for f in order if f in _COSTS):
        now, then = planned.cost.get(name, 0), other.cost.get(name, 0)
        if then > now:
            noun = _COSTS[name].removesuffix("s") if then == 1 else _COSTS[name]
            yield f"it takes {then} {noun} instead of {now}"
        if then != now:
            return


def _warned(planned: Cohort, other: Cohort) -> Iterator[str]:
    known = _claims(planned)
    yield from (f"it brings a known problem: {w.statement}" for w in other.warnings if w.claim not in known)


def _claims(cohort: Cohort) -> frozenset[str]:
    return frozenset(w.claim for w in cohort.warnings)
