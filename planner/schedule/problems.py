"""From target and node to a search problem: goals, and the versions that the node's repositories can give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from planner.fleet.fleet import RECOGNISED_OWNERS, Node
from planner.fleet.packages import (
    PackagePlan,
    Unresolvable,
    obtainable_versions,
    owner_set,
    publisher,
    read_version,
    resolve_install,
)
from planner.fleet.state import asked_state
from planner.matrix.index import MatrixSet
from planner.matrix.schema import PackageSet, State
from planner.model.target import Target, ToolkitWant, Want
from planner.model.version import Version, contains, newest
from planner.schedule.handover import handed_over, holds_all, moves_of, offers, unfit
from planner.search.problem import Goal, Problem

# Versions kept per wanted range: enough to fall back when the newest conflicts, few enough to stay fast.
_PER_RANGE = 3
_TOGETHER = ("equal", "same-branch")     # relations whose members move together
_UNREAD = ("what the repositories of these nodes have was not read: see that their package manager answers, then read "
           "it with planner discover")


def want_for(target: Target, pool: str) -> Want:
    """Return what is wanted of a pool: the default, key by key replaced by the pool's own."""
    own = target.pools.get(pool)
    return {**target.want, **(own.want if own else {})}


def goals_of(want: Want, matrices: MatrixSet) -> dict[str, Goal]:
    """Return goals by component, sorted by name."""
    goals: dict[str, Goal] = {}
    for component, wanted in sorted(want.items()):
        text = matrices.is_text(component)
        if isinstance(wanted, ToolkitWant):
            goals[component] = Goal(component=component, present=wanted.present, absent=wanted.absent, text=text)
        else:
            goals[component] = Goal(component=component, want=wanted, text=text)
    return goals


def default_version(want: Want, node: Node, matrices: MatrixSet) -> str:
    """Return the side-by-side version that is wanted as the default (a range), or "" when none is named."""
    for component, wanted in sorted(want.items()):
        if isinstance(wanted, ToolkitWant) and matrices.is_many(component):
            if wanted.default:
                return wanted.default
            if wanted.present:
                return newest(wanted.present)[0]
            return next(iter(newest(node.state.get(component, ()))), "")
    return ""


def read_by_packages(matrices: MatrixSet) -> frozenset[str]:
    """Return the names of a state that may decide which packages bring something.

    These are what packages bring, what their conditions name, and whatever names one of them or is named by one: an
    owner, a publisher, what carries it.
    """
    named = {name for s in matrices.packages for name in (s.component, *s.when)}
    tied = {name: {w for w in vars(c).values() if isinstance(w, str) and w in matrices.components and w != name}
            for name, c in matrices.components.items()}
    return frozenset(named | {other for name in named for other in tied.get(name, ())}
                     | {name for name, others in tied.items() if others & named})


class Offers:
    """What one node's repositories have, each asked once: refusals build many problems of one node, with other moves.

    Package sets are the same in all matrices that it is given.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._versions: dict[object, tuple[str, ...]] = {}
        self._plans: dict[object, PackagePlan | Unresolvable] = {}

    def versions(self, name: str, matrices: MatrixSet, becomes: State | None = None) -> tuple[str, ...]:
        """Return what ``obtainable_versions`` returns."""
        key = (name, tuple(sorted((becomes or {}).items())))
        if key not in self._versions:
            self._versions[key] = obtainable_versions(name, self._node.facts, self._node.state, matrices, becomes)
        return self._versions[key]

    def plan(self, name: str, version: str, major: str, matrices: MatrixSet, becomes: State | None = None
             ) -> PackagePlan | Unresolvable:
        """Return what ``resolve_install`` returns with the packages that are installed now."""
        key, facts = (name, version, major, tuple(sorted((becomes or {}).items()))), self._node.facts
        if key not in self._plans:
            self._plans[key] = resolve_install(name, version, facts, self._node.state, matrices, cuda_major=major,
                                               installed=facts.packages, becomes=becomes)
        return self._plans[key]


def build_problem(node: Node, want: Want, matrices: MatrixSet, *, accepted: frozenset[str] = frozenset(),
                  optimize: tuple[str, ...] = (), free: bool = False, known: Offers | None = None) -> Problem:
    """Return the search problem of one cohort, whose nodes are all like ``node``.

    Args:
        node: Any node of the cohort.
        want: What its pool wants.
        matrices: Moves of such a node (``handover.moves_for``), lockstep groups, package sets.
        accepted: Names of accepted risks.
        optimize: Order of cost fields; empty for the default.
        free: Whether components that the target does not name may move, too: those that packages bring.
        known: What was asked of the node's repositories for other problems.
    """
    goals = goals_of(want, matrices)
    start = {**node.state, **asked_state(sorted(goals), node.facts, node.state, matrices)}
    tied = {c for g in matrices.lockstep if g.relation in _TOGETHER for c in g.components
            if set(g.components) & set(goals)}
    movable = {c for move in matrices.moves for c in move.components}
    freed = {c for c in node.state if handed_over(c, matrices) is None and not matrices.components[c].carrier} \
        if free else set()
    names = sorted(movable & (set(goals) | tied | freed))
    candidates: dict[str, tuple[str, ...]] = {}
    unobtainable: dict[tuple[str, str], str] = {}
    kinds = (c for c in sorted(freed) if matrices.components[c].role == "component")
    fixed = _fixed((*goals, *names, *kinds), node, goals, matrices)
    offer = _Offer(node, start, goals, default_version(want, node, matrices).split(".")[0], matrices,
                   known or Offers(node))
    for name in names:
        offered, missing = ((), {}) if name in fixed else offer.of(name, exact=name not in goals and name in tied)
        candidates[name] = offered
        unobtainable |= {(name, version): reason for version, reason in missing.items()}
    return Problem(start=start, goals=goals, candidates=candidates, accepted=accepted, optimize=optimize,
                   unobtainable=unobtainable, fixed=fixed)


def becoming(goals: Mapping[str, Goal], state: State, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return values that other components' packages bring and that the goals change: name -> the new value."""
    found: dict[str, tuple[str, ...]] = {}
    for name, goal in goals.items():
        component = matrices.components.get(name)
        if component is not None and component.carrier and not goal.met_by(state.get(name, ())):
            options = [v for v in component.options if goal.met_by((v,))]
            found |= {name: (options[0],)} if options else {}
    return found


class _Offer:
    """What one node can get: from its repositories, or by a hand-over."""

    def __init__(self, node: Node, start: State, goals: Mapping[str, Goal], major: str, matrices: MatrixSet,
                 known: Offers) -> None:
        self._node, self._start, self._goals, self._major, self._matrices = node, start, goals, major, matrices
        self._known = known
        self._becomes = becoming(goals, start, matrices)

    def of(self, name: str, *, exact: bool) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the values that a component may take, and reasons for those that it may not."""
        goal, component = self._goals.get(name), self._matrices.components[name]
        if goal is not None and component.carrier:
            return self._carried(name, goal, component.carrier)
        move = handed_over(name, self._matrices)
        if move is not None:
            return offers(move, goal, self._start, self._matrices) if goal is not None else ((), {})
        facts, state, many = self._node.facts, self._node.state, self._matrices.is_many(name)
        if facts.available is None and goal is not None:
            return (), dict.fromkeys((*filter(None, [goal.want]), *goal.present), _UNREAD)
        offered = self._known.versions(name, self._matrices, self._turned(name))
        relevant = offered if exact else _relevant(offered, goal, self._start.get(name, ()), many)
        kept, missing = [], {}
        for version in relevant:
            plan = self._resolved(name, version, self._turned(name))
            if isinstance(plan, Unresolvable):
                missing[version] = plan.reason
            else:
                kept.append(version)
        if goal is not None and goal.want and not any(goal.met_by((v,)) for v in (*offered, *state.get(name, ()))):
            missing |= self._otherwise(name, goal, offered)
        return tuple(kept), missing

    def _otherwise(self, name: str, goal: Goal, offered: tuple[str, ...]) -> dict[str, str]:
        """Return where a wanted version is to be had after all: with another value of what its packages carry."""
        for other, component in self._matrices.components.items():
            if component.carrier != name or other in self._becomes:
                continue
            for value in component.options:
                found = [] if (value,) == self._start.get(other) else [
                    v for v in self._known.versions(name, self._matrices, {other: (value,)}) if goal.met_by((v,))]
                if found and other in self._start:
                    have = ", ".join(offered) or "none"
                    return {goal.want: f"the nodes' repositories have {name} {found[0]} with {other} {value} only: "
                                       f"want {other}: {value}, too ({' '.join(self._start[other])}: {have})"}
        told = self._under_other_names(name, goal)
        return {goal.want: told} if told else {}

    def _under_other_names(self, name: str, goal: Goal) -> str:
        """Return where a wanted version is to be had under names that do not go with those that are installed."""
        facts, state, matrices = self._node.facts, {**self._node.state, **self._turned(name)}, self._matrices
        own = owner_set(name, facts, self._node.state, matrices)
        if own is None:
            return ""
        for other in matrices.packages:
            if (other.component, other.manager) != (name, own.manager) or other.line == own.line or \
                    not holds_all(other.when, state, matrices):
                continue
            for package, version in ((p, v) for p, versions in (facts.available or {}).items() for v in versions):
                found = read_version(other, package, version, arch=facts.os.arch)
                if found is not None and goal.met_by((found,)):
                    return self._said_of_others(name, found, package, publisher(other, {package: version}), own)
        return ""

    def _said_of_others(self, name: str, version: str, package: str, who: str, own: PackageSet) -> str:
        mine = publisher(own, self._node.facts.packages)
        asked = next((n for n, c in self._matrices.components.items() if c.origin_of == name), "")
        way = f"want {asked} {who} first, alone, then plan again" if asked and who and who != mine else \
            "change over to these names by hand, then discover again"
        return (f"the nodes' repositories have {name} {version} under other names only ({package}"
                f"{f' of {who}' if who else ''}), which do not go with those that are installed: {way}")

    def _turned(self, name: str) -> dict[str, tuple[str, ...]]:
        return {c: v for c, v in self._becomes.items() if self._matrices.components[c].carrier == name}

    def _resolved(self, name: str, version: str, becomes: Mapping[str, tuple[str, ...]]) -> PackagePlan | Unresolvable:
        return self._known.plan(name, version, self._major, self._matrices, becomes)

    def _carried(self, name: str, goal: Goal, carrier: str) -> tuple[tuple[str, ...], dict[str, str]]:
        """Return the values that packages of some version of the carrier bring in the node's own line."""
        if name not in self._start:
            return (), {goal.want: f"{name} of these nodes is not known; read it first: planner discover"}
        options = self._matrices.components[name].options
        if not any(goal.met_by((v,)) for v in options):
            return (), {goal.want: f"{name} is one of {', '.join(options)}; {goal.want} is none of them"}
        turned = self._becomes.get(name, ())
        offered = self._known.versions(carrier, self._matrices, {name: turned})
        moving = self._goals.get(carrier)
        within = [*(v for v in offered if moving is not None and moving.met_by((v,))), *self._start.get(carrier, ())]
        plans = [self._resolved(carrier, version, {name: turned}) for version in within]
        if any(not isinstance(plan, Unresolvable) for plan in plans) or not turned:
            return turned, {}
        reasons = [plan.reason for plan in plans if isinstance(plan, Unresolvable)]
        return (), {goal.want: reasons[0] if reasons else
                    f"the repositories have no {carrier} packages with {name} {' '.join(turned)}"}


def _fixed(names: Iterable[str], node: Node, goals: Mapping[str, Goal], matrices: MatrixSet) -> dict[str, str]:
    """Return components that must not move on a node, and why: somebody else owns them, or no move fits."""
    found = {}
    for name in dict.fromkeys(names):
        move = handed_over(name, matrices)
        owner = (node.state.get(matrices.components[name].owner or "") or ("",))[0]
        reason = unfit(name, node.state, matrices)
        declared = matrices.components[name].declared
        if declared and name not in node.state:
            found[name] = f"{name} of these nodes is not known; say it in the inventory: planner_{declared}"
        elif reason:
            found[name] = reason
        elif node.facts.os.root_diskless and move is None:
            found[name] = (f"{name} lies in the image that these nodes boot, which planner does not change in place: "
                           "change the image, and want another node_image")
        elif move is None and owner and owner not in (*RECOGNISED_OWNERS, "none"):
            told = f"{name} is owned by {owner}, which planner does not change in place: change it there" \
                if name in goals else \
                f"it is owned by {owner}, and moves at most where a target asks for it: want {name}, too"
            found[name] = f"{told}, or {_handed_back(name, owner, matrices)}"
        elif name in goals and not moves_of(name, matrices):
            found[name] = f"no move changes {name} on such a node"
    return found


def _handed_back(name: str, owner: str, matrices: MatrixSet) -> str:
    """Return how what somebody else owns comes to the package manager: by a goal of its own where there is one."""
    attribute = matrices.components[name].owner
    for other, component in matrices.components.items():
        carrier = matrices.components.get(component.origin_of or "")
        if carrier is not None and carrier.owner == attribute and owner in component.options:
            ways = " or ".join(v for v in component.options if v != owner)
            return f"want {other} {ways} first, alone, then discover and plan again"
    return "hand it over to the package manager first"


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


def widened(problem: Problem, node: Node, want: Want, matrices: MatrixSet, known: Offers) -> Problem:
    """Return the problem with more versions of the branches that are wanted.

    The first search looks at the newest few only; nothing is called out of reach before the older ones were tried.
    """
    major = default_version(want, node, matrices).split(".")[0]
    candidates = dict(problem.candidates)
    for name, goal in problem.goals.items():
        if goal.text or name in problem.fixed or handed_over(name, matrices) is not None:
            continue
        branch = goal.want.strip("=<>!~ ").split(".")[0]
        near = [v for v in known.versions(name, matrices) if Version(v).branch == branch]
        more = {v for v in near if not isinstance(known.plan(name, v, major, matrices), Unresolvable)}
        candidates[name] = tuple(newest(more | set(candidates.get(name, ()))))
    return replace(problem, candidates=candidates)


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
