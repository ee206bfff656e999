"""Cohorts: nodes with equal stack, hardware class, workloads and target share one search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from planner.diagnostics import Diagnostic
from planner.documents import digest, dump_model
from planner.errors import InputError
from planner.fleet.fleet import Fleet, Node
from planner.fleet.state import asked_state
from planner.matrix.index import MatrixSet
from planner.model.target import Target, ToolkitWant, Want
from planner.model.version import parse_range
from planner.schedule.boots import Boot, first_boot, next_boot
from planner.schedule.builds import with_builds
from planner.schedule.default_link import tell_lost_defaults, turn_default_links
from planner.schedule.ending import (
    ending_goals,
    ends_with,
    forgotten,
    joined,
    only_goals,
    without_goals,
)
from planner.schedule.handover import moves_for
from planner.schedule.judged import inherited, known_problems, running
from planner.schedule.limits import shown
from planner.schedule.mixed import not_of_one_version, settled
from planner.schedule.pending import load_installed
from planner.schedule.plan import Cohort, Step
from planner.schedule.problems import (
    Offers,
    accepted_names,
    build_problem,
    default_version,
    goals_of,
    known_components,
    place_of,
    read_by_packages,
    want_for,
    widened,
)
from planner.schedule.refuse import Stuck, refuse, want_of
from planner.schedule.steps import build_steps, kept_values, with_links_back
from planner.search.core.task import SearchLimitError
from planner.search.explain import Refusal
from planner.search.nearest import Trial
from planner.search.path import find_path
from planner.search.problem import Goal, Path, Problem

SOURCES_MAX = 12


class Group(NamedTuple):
    """Nodes that are alike, and what is wanted of them."""

    nodes: tuple[Node, ...]
    want: Want


def select_nodes(fleet: Fleet, target: Target) -> tuple[Node, ...]:
    """Return the nodes a target selects, by pool, group or name; every name it uses must mean something.

    Raises:
        InputError: A selector, pool or component is unknown; the nearest known name is suggested.
    """
    pools = {n.pool for n in fleet.nodes} | {n.pool for n in fleet.left_out}
    names = {n.name for n in fleet.nodes} | {n.name for n in fleet.left_out}
    groups = {g for n in fleet.nodes for g in n.groups}
    selectable = pools | names | groups
    complaints = [_unknown("select", s, selectable, ("select", at)) for at, s in enumerate(target.select)
                  if s not in selectable]
    complaints += [_unknown("pools", p, pools, ("pools", p)) for p in target.pools if p not in pools]
    if complaints:
        raise InputError(*complaints)
    chosen = [
        n for n in fleet.nodes
        if not target.select or n.pool in target.select or n.name in target.select or set(n.groups) & set(target.select)
    ]
    return tuple(n for n in chosen if not (n.pool in target.pools and target.pools[n.pool].skip))


def check_components(target: Target, matrices: MatrixSet) -> None:
    """Refuse a target that names unknown components or risks, or gives a side-by-side component a single version.

    Raises:
        InputError: One diagnostic per complaint.
    """
    known = known_components(matrices)
    complaints = []
    wants: list[tuple[tuple[str | int, ...], Want]] = [(("want",), target.want)]
    wants += [(("pools", pool, "want"), own.want) for pool, own in target.pools.items()]
    for path, want in wants:
        where = ".".join(str(step) for step in path)
        for component, wanted in want.items():
            if component not in known:
                complaints.append(_unknown(where, component, set(known), (*path, component)))
            elif known[component] != isinstance(wanted, ToolkitWant):
                form = '{present: ["12.8"], default: "12.8"}' if known[component] else \
                    "one text" if matrices.is_text(component) else '"1.2.3" or a range'
                complaints.append(Diagnostic(
                    code="wrong-form", subject=f"target, {where}.{component}",
                    summary=f"{component} is wanted as {form}", hint=f"correct {where}.{component}",
                    places=((*path, component),)))
            elif problem := _unreadable(component, wanted, matrices):
                complaints.append(Diagnostic(
                    code="wrong-form", subject=f"target, {where}.{component}", summary=problem,
                    hint=f"correct {where}.{component}", places=((*path, component),)))
    risks = _acceptable(matrices)
    complaints += [_unknown("accept", a.risk, risks, ("accept", at)) for at, a in enumerate(target.accept)
                   if a.risk not in risks]
    if complaints:
        raise InputError(*complaints)


def _unreadable(component: str, wanted: str | ToolkitWant, matrices: MatrixSet) -> str:
    """Return why what is wanted cannot be read, "" where it can: text is any text, versions are ranges."""
    texts = (wanted,) if isinstance(wanted, str) else (*wanted.present, *wanted.absent,
                                                       *filter(None, [wanted.default]))
    for text in texts if not matrices.is_text(component) else ():
        try:
            parse_range(text)
        except ValueError as exc:
            return str(exc)
    return ""


def _acceptable(matrices: MatrixSet) -> set[str]:
    """Return every name that a judgement may carry; those of claims that no longer hold stay harmless."""
    named = [(c.name, c.risk) for c in (*matrices.claims, *matrices.tombstones)]
    named += [(g.name, g.risk) for g in matrices.lockstep]
    return {name for pair in named for name in pair if name} | set(matrices.families)


def _unknown(where: str, name: str, known: set[str], place: tuple[str | int, ...]) -> Diagnostic:
    near = get_close_matches(name, sorted(known), n=1)
    listed = ", ".join(sorted(known)[:12]) + (" …" if len(known) > 12 else "")
    return Diagnostic(code="unknown-name", subject=f"target, {where}",
                      summary=f"{name!r} is not known (known: {listed})",
                      hint=f"did you mean {near[0]!r}?" if near else f"correct {where}", places=(place,))


def group_nodes(nodes: Iterable[Node], target: Target) -> tuple[Group, ...]:
    """Split nodes into groups that are alike; sorted by the first node's name."""
    groups: dict[tuple[object, ...], list[Node]] = {}
    wants: dict[tuple[object, ...], Want] = {}
    per_pool: dict[str, tuple[Want, str]] = {}
    for node in nodes:
        if node.pool not in per_pool:
            want = want_for(target, node.pool)
            text = digest({c: w if isinstance(w, str) else dump_model(w) for c, w in want.items()})
            per_pool[node.pool] = (want, text)
        want, text = per_pool[node.pool]
        key = (node.facts_digest, _fixed_declared(node), node.hardware_class, text)
        groups.setdefault(key, []).append(node)
        wants[key] = want
    found = [Group(tuple(sorted(members, key=lambda n: n.name)), wants[key]) for key, members in groups.items()]
    return tuple(sorted(found, key=lambda g: g.nodes[0].name))


def _fixed_declared(node: Node) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what people declared that changes the state of nodes with equal facts."""
    return tuple(sorted(node.state.items()))


class Paths:
    """Finds paths, each once: groups that differ in nothing that rules look at have the same."""

    def __init__(self) -> None:
        self._known: dict[object, Path | None] = {}
        self._offers: dict[object, Offers] = {}
        self._read: frozenset[str] | None = None

    def offers(self, node: Node, matrices: MatrixSet) -> Offers:
        """Return what a node's repositories have: asked once for nodes that differ in nothing that packages look at."""
        if self._read is None:
            self._read = read_by_packages(matrices)
        key = (node.facts_digest, *sorted((n, v) for n, v in node.state.items() if n in self._read))
        if key not in self._offers:
            self._offers[key] = Offers(node)
        return self._offers[key]

    def find(self, problem: Problem, matrices: MatrixSet) -> Path | None:
        """Return what ``find_path`` returns."""
        key = (tuple(problem.start.items()), tuple(problem.goals.items()), tuple(problem.candidates.items()),
               problem.accepted, problem.optimize, tuple(m.name for m in matrices.moves))
        if key not in self._known:
            self._known[key] = find_path(problem, matrices)
        return self._known[key]


class Known(NamedTuple):
    """What was found for other goals of the same nodes, and what they boot next where that is another kernel."""

    paths: Paths
    offers: Offers
    booted: tuple[Boot, Offers] | None = None


def solve(group: Group, target: Target, matrices: MatrixSet, optimize: tuple[str, ...] = (),
          paths: Paths | None = None) -> Cohort | Refusal:
    """Find the path of one group, or why there is none.

    Args:
        group: Nodes that are alike.
        target: Accepted risks.
        matrices: What is known.
        optimize: Order of the cost fields; empty for the default.
        paths: What was found for other groups with the same matrices.
    """
    node, accepted = group.nodes[0], accepted_names(target)
    boot = next_boot(node, matrices)
    paths = paths or Paths()
    known = Known(paths, paths.offers(node, matrices), (boot, paths.offers(boot.node, matrices)) if boot else None)
    found = _found(group, accepted, matrices, optimize, known)
    if isinstance(found, Cohort):
        return found
    before = found.whole.goals

    def feasible(goals: Mapping[str, Goal], risks: frozenset[str]) -> bool:
        """Plan the group for other goals, as far as to its steps."""
        other = _found(Group(group.nodes, want_of(goals, group.want, before)), risks, matrices, optimize, known)
        if isinstance(other, Stuck) and other.limited:
            raise SearchLimitError
        return isinstance(other, Cohort)

    refusal = refuse(found, Trial(found.whole, feasible))
    return refusal._replace(why=boot.refused(refusal.why)) if boot else refusal


def _found(group: Group, accepted: frozenset[str], matrices: MatrixSet, optimize: tuple[str, ...], known: Known
           ) -> Cohort | Stuck:
    """Return the plan of a group, or where it ends: on what its nodes boot next, as soon as a step reboots."""
    now = known.booted and _planned(group, None, accepted, matrices, optimize, known)
    if isinstance(now, Cohort) and first_boot(now.steps) is None:
        return now
    boot, offers = known.booted or (None, known.offers)
    nodes = (boot.node, *group.nodes[1:]) if boot else group.nodes
    then = _planned(group._replace(nodes=nodes), boot, accepted, matrices, optimize, known._replace(offers=offers))
    return now if now and isinstance(then, Cohort) and first_boot(then.steps) is None else then


def _planned(group: Group, boot: Boot | None, accepted: frozenset[str], matrices: MatrixSet, optimize: tuple[str, ...],
             known: Known) -> Cohort | Stuck:
    """Return the plan of a group as the state of its first node has it, or where it ends."""
    node = group.nodes[0]
    goals = goals_of(group.want, matrices)
    asked = asked_state(sorted(goals), node.facts, node.state, matrices)
    mine = moves_for({**node.state, **asked}, goals, matrices)
    problem = build_problem(node, group.want, mine, accepted=accepted, optimize=optimize, known=known.offers)
    ending = ending_goals(problem, mine)
    if apart := (ending[0], ending[1:]) if len(ending) > 1 else forgotten(problem, mine):
        return Stuck(problem, problem, ending, mine, apart=apart)
    path = _path(problem, ending, group, mine, known)
    if isinstance(path, Stuck):
        return path
    made = _cohort(group, path, boot, mine, accepted, matrices)
    return made if isinstance(made, Cohort) else Stuck(problem, problem, ending, mine, refusal=made)


def _path(problem: Problem, ending: tuple[str, ...], group: Group, matrices: MatrixSet, known: Known) -> Path | Stuck:
    """Return the path of a group, or the widest problem that has none.

    First what the target names moves, and what is tied to it; then whatever a node's repositories offer; then more
    versions of every wanted branch. Nothing is called out of reach before all of it was tried.
    """
    paths, offers, whole, freed = known.paths, known.offers, problem, problem
    try:
        path = paths.find(without_goals(whole, ending), matrices)
        if path is None or ending:
            freed = build_problem(group.nodes[0], group.want, matrices, accepted=problem.accepted,
                                  optimize=problem.optimize, free=True, known=offers)
        if path is None:
            whole = freed
            path = paths.find(without_goals(whole, ending), matrices)
        if path is None:
            whole = widened(freed, group.nodes[0], group.want, matrices, offers)
            path = paths.find(without_goals(whole, ending), matrices)
        if path is None:
            return Stuck(whole, without_goals(whole, ending), ending, matrices)
        if not ending:
            return path
        last = only_goals(problem, path, ending)
        rest = paths.find(last, matrices)
        if rest is not None:
            return joined(path, rest)
        everything = paths.find(freed, matrices)      # something that nobody asked for may have to come before the end
        if everything is not None and ends_with(everything, ending):
            return everything
        return Stuck(freed, freed if everything is None else last, ending, matrices)
    except SearchLimitError:
        return Stuck(whole, without_goals(whole, ending), ending, matrices, limited=True)


def _cohort(group: Group, path: Path, boot: Boot | None, matrices: MatrixSet, accepted: frozenset[str],
            everything: MatrixSet) -> Cohort | Refusal:
    node = group.nodes[0]
    major = default_version(group.want, node, matrices).split(".")[0]
    rebuilt = with_builds(path, node, matrices, major)
    path = rebuilt.path
    listed = build_steps(path, node, group.want, matrices, cuda_major=major, accepted=accepted)
    if listed.failure:
        return Refusal(code="not-obtainable", goals=(), why=(listed.failure,), sources=(), nearest=())
    listed = rebuilt.told(listed)
    if mixed := not_of_one_version(goals_of(group.want, matrices).values(), listed.steps, node, matrices):
        return mixed
    turned = turn_default_links(listed.steps, path.states[-1], node, group.want, everything)
    if turned.failure:
        return Refusal(code="no-default", goals=(), why=(turned.failure,), sources=(), nearest=())
    pending = load_installed(listed.steps, path.states[0], group.want, everything)
    listed = pending.before_all(turned.added_to(listed))
    listed = tell_lost_defaults(listed, path.states[-1], node, group.want, everything)
    start = path.states[0]
    if boot is not None and first_boot(listed.steps) is not None:
        listed, start = boot.said_by(listed, start, accepted, everything), boot.start(start)
    kept, goal = kept_values(node, everything), running(path.states[-1], listed.steps, matrices)
    cohort = Cohort(
        id="", pools=tuple(sorted({n.pool for n in group.nodes})), gpu=node.gpu, hardware_class=node.hardware_class,
        nodes=tuple(n.name for n in group.nodes),
        start=_plain({**start, **turned.before, **pending.before}),
        goal=_plain({**path.states[-1], **turned.after, **pending.after}),
        installed=dict(sorted(node.facts.packages.items())), gpu_names=tuple(g.model for g in node.facts.gpus),
        steps=listed.steps, way_back=listed.way_back, no_return_after=listed.no_return_after,
        no_return_why=listed.no_return_why, no_return_packages=listed.no_return_packages,
        inherited=inherited(start, matrices), cost=_cost(path, (*pending.steps, *turned.steps)),
        warnings=known_problems({**kept, **start}, {**settled(kept, listed.steps, matrices), **goal}, matrices),
    )
    slug = (node.state.get("gpu_model") or ("nogpu",))[0].replace("_", "-").replace(" ", "-").lower()[:24]
    # Not of its nodes: one that leaves or joins changes nothing for the others.
    named = [dump_model(cohort.model_copy(update={"nodes": (), "pools": ()})), node.facts_digest, _fixed_declared(node),
             {c: w if isinstance(w, str) else dump_model(w) for c, w in group.want.items()}]
    # Links on the way back say nothing more of a cohort: they are among the facts.
    return with_links_back(cohort.model_copy(update={"id": f"c-{slug}-{digest(named)[7:13]}"}), node)


def _plain(state: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return dict(sorted(state.items()))


def _cost(path: Path, more: Sequence[Step]) -> dict[str, int]:
    cost = {name: path.cost.get(name, 0) for name in ("reboots", "risks", "steps", "minutes")}
    return {**cost, "steps": cost["steps"] + len(more), "reboots": cost["reboots"] + sum(
        s.disruption == "reboot" for s in more), "minutes": cost["minutes"] + sum(s.minutes for s in more),
            "drains": int(bool(path.transitions or more))}


def refusal_diagnostics(refused: Iterable[tuple[Refusal, Group]], target: Target | None = None
                        ) -> tuple[Diagnostic, ...]:
    """Return one message for each distinct refusal; groups that are refused for the same reasons share it.

    ``target`` tells where in it the goals out of reach are written.
    """
    shared: dict[Refusal, list[Group]] = {}
    for refusal, group in refused:
        shared.setdefault(refusal, []).append(group)
    return tuple(_refusal_diagnostic(refusal, groups, target) for refusal, groups in shared.items())


def _refusal_diagnostic(refusal: Refusal, groups: list[Group], target: Target | None) -> Diagnostic:
    """Return the message: reasons, sources, nodes, nearest feasible target."""
    names = sorted(n.name for g in groups for n in g.nodes)
    count = "1 node" if len(names) == 1 else f"{len(names)} nodes"
    listed = sorted({n.pool for g in groups for n in g.nodes})
    pools = ("pool " if len(listed) == 1 else "pools ") + ", ".join(listed)
    gpus = " and ".join(dict.fromkeys(g.nodes[0].gpu for g in groups))
    nearest = "; or ".join(refusal.nearest[:3])
    components = [goal.split()[0] for goal in refusal.goals]
    places = [place_of(target, pool, c) for pool in listed for c in components] if target else []
    return Diagnostic(
        code=f"no-path-{refusal.code}", subject=f"{pools}, {gpus}, {count} ({shown(names)})",
        summary="no safe path to " + (" and ".join(refusal.goals) or "the target"), why=refusal.why,
        sources=refusal.sources[:SOURCES_MAX],
        hint=f"nearest feasible target for {pools}: {nearest}" if nearest else
             "change the target for these nodes, or leave them out with: pools: {"
             + ", ".join(f"{pool}: {{skip: true}}" for pool in listed) + "}",
        places=tuple(dict.fromkeys(places)),
    )


def with_ids(cohorts: Iterable[Cohort]) -> tuple[Cohort, ...]:
    """Return cohorts sorted by id; equal ids (which cannot share a digest) would be a programmer error."""
    result = tuple(sorted(cohorts, key=lambda c: c.id))
    assert len({c.id for c in result}) == len(result), "two cohorts share an id"
    return result

