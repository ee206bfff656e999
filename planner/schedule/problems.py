"""From target and node to a search problem: goals, and the versions that the node's repositories can give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from planner.fleet.fleet import RECOGNISED_OWNERS, Node
from planner.fleet.packages import Unresolvable, obtainable_versions, resolve_install
from planner.matrix.index import MatrixSet
from planner.model.target import Target, ToolkitWant, Want
from planner.model.version import Version, contains, newest
from planner.search.problem import Goal, Problem

# Versions kept per wanted range: enough to fall back when the newest conflicts, few enough to stay fast.
_PER_RANGE = 3
_TOGETHER = ("equal", "same-branch")     # relations whose members move together


def want_for(target: Target, pool: str) -> Want:
    """Return what is wanted of a pool: the default, key by key replaced by the pool's own."""
    own = target.pools.get(pool)
    return {**target.want, **(own.want if own else {})}


def goals_of(want: Want) -> dict[str, Goal]:
    """Return goals by component, sorted by name."""
    goals: dict[str, Goal] = {}
    for component, wanted in sorted(want.items()):
        if isinstance(wanted, ToolkitWant):
            goals[component] = Goal(component=component, present=wanted.present, absent=wanted.absent)
        else:
            goals[component] = Goal(component=component, want=wanted)
    return goals


def default_version(want: Want, node: Node, matrices: MatrixSet) -> str:
    """Return the side-by-side version that is wanted as the default (a range), or "" when none is named."""
    for component, wanted in sorted(want.items()):
        if isinstance(wanted, ToolkitWant) and matrices.is_many(component):
            if wanted.default:
                return wanted.default
            if wanted.present:
                return newest(wanted.present)[0]
            return newest(node.state.get(component, ("",)))[0]
    return ""


def build_problem(node: Node, want: Want, matrices: MatrixSet, *, accepted: frozenset[str] = frozenset(),
                  optimize: tuple[str, ...] = (), free: bool = False) -> Problem:
    """Return the search problem of one cohort, whose nodes are all like ``node``.

    Args:
        node: Any node of the cohort.
        want: What its pool wants.
        matrices: Moves, lockstep groups, package sets.
        accepted: Names of accepted risks.
        optimize: Order of cost fields; empty for the default.
        free: Whether components that the target does not name may move, too.
    """
    goals = goals_of(want)
    tied = {c for g in matrices.lockstep if g.relation in _TOGETHER for c in g.components
            if set(g.components) & set(goals)}
    movable = {c for move in matrices.moves for c in move.components}
    names = sorted(movable & (set(goals) | tied | (set(node.state) if free else set())))
    major = default_version(want, node, matrices).split(".")[0]
    candidates: dict[str, tuple[str, ...]] = {}
    unobtainable: dict[tuple[str, str], str] = {}
    fixed = _fixed(names, node, matrices)
    for name in names:
        if name in fixed:
            candidates[name] = ()
            continue
        exact = name not in goals and name in tied
        offered = obtainable_versions(name, node.facts, node.state, matrices)
        relevant = offered if exact else _relevant(
            offered, goals.get(name), node.state.get(name, ()), matrices.is_many(name))
        kept = []
        for version in relevant:
            plan = resolve_install(name, version, node.facts, node.state, matrices, cuda_major=major,
                                   installed=node.facts.packages)
            if isinstance(plan, Unresolvable):
                unobtainable[name, version] = plan.reason
            else:
                kept.append(version)
        candidates[name] = tuple(kept)
    return Problem(start=node.state, goals=goals, candidates=candidates, accepted=accepted, optimize=optimize,
                   unobtainable=unobtainable, fixed=fixed)


def _fixed(names: Iterable[str], node: Node, matrices: MatrixSet) -> dict[str, str]:
    """Return components that must not move on a node: somebody else than its package manager owns them."""
    found = {}
    for name in names:
        owner = (node.state.get(matrices.components[name].owner or "") or ("",))[0]
        if owner and owner != "none" and owner not in RECOGNISED_OWNERS:
            found[name] = (f"{name} is owned by {owner}, which planner does not change in place: change it there, "
                           "or hand it over to the package manager first")
    return found


def _relevant(offered: tuple[str, ...], goal: Goal | None, current: tuple[str, ...], many: bool) -> tuple[str, ...]:
    """Keep the newest versions of each wanted range, and the newest of each branch as hops and as alternatives."""
    kept: dict[str, None] = {}
    for wanted in (goal.want, *goal.present) if goal else ():
        kept.update(dict.fromkeys([v for v in offered if wanted and contains(wanted, v)][:_PER_RANGE]))
    branches: set[object] = set()
    for version in offered:
        branch = version.split(".")[:2] if many else Version(version).branch
        if str(branch) not in branches and version not in current:
            branches.add(str(branch))
            kept[version] = None
    return tuple(v for v in offered if v in kept)


def place_of(target: Target, pool: str, component: str) -> tuple[str | int, ...]:
    """Return the path of keys in a target that says what a pool wants of a component."""
    own = target.pools.get(pool)
    return ("pools", pool, "want", component) if own and component in own.want else ("want", component)


def accepted_names(target: Target) -> frozenset[str]:
    """Return the names of risks and rules that the target accepts with a reason."""
    return frozenset(a.risk for a in target.accept)


def known_components(matrices: MatrixSet) -> Mapping[str, bool]:
    """Return what a target may name: component -> whether several versions live side by side."""
    return {name: c.many for name, c in matrices.components.items() if c.role == "component"}
