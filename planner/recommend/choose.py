"""Chooses a stack for each class of nodes, and makes sure that a path leads there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from planner.check.fleet import changed
from planner.fleet.fleet import Fleet, Node
from planner.fleet.packages import obtainable_versions
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Release
from planner.model.target import Target
from planner.model.version import Version, newest, version_key
from planner.recommend.judge import Score, Scorer, crossed_notes, rules_gone
from planner.schedule.cohorts import Group, solve
from planner.search.explain import Refusal

Policy = Literal["production", "development"]
_LONG_TERM = "LTSB"
_PER_BRANCH = 2            # releases of one branch that are looked at
_TRIES = 5                 # choices for one component before it stays as it is


@dataclass(frozen=True, slots=True)
class Choice:
    """One component and where it should go."""

    component: str
    now: tuple[str, ...]
    to: tuple[str, ...]
    because: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """What one class of nodes should move to.

    Attributes:
        name: Class: GPUs and pool.
        nodes: Their names.
        choices: What changes; empty where the class is well as it is.
        gains: Sentences: rules no longer broken.
        crossed: Release notes that the way crosses.
        gives_up: Sentences: rules newly broken, things that are dropped on the way.
        kept_back: Sentences: what would be better and cannot be reached, with the reason.
        alone: Whether other classes of its pool need something else, so that its nodes are named one by one.
    """

    name: str
    pool: str
    nodes: tuple[str, ...]
    choices: tuple[Choice, ...] = ()
    gains: tuple[str, ...] = ()
    crossed: tuple[str, ...] = ()
    gives_up: tuple[str, ...] = ()
    kept_back: tuple[str, ...] = ()
    alone: bool = False


@dataclass
class _Work:
    node: Node
    state: dict[str, tuple[str, ...]]
    choices: list[Choice] = field(default_factory=list)
    kept_back: list[str] = field(default_factory=list)


def recommend(fleet: Fleet, policy: Policy, matrices: MatrixSet) -> tuple[Advice, ...]:
    """Return advice for every class of nodes that are alike in pool, hardware and stack; sorted by name."""
    classes: dict[tuple[str, str, tuple[tuple[str, tuple[str, ...]], ...]], list[Node]] = {}
    for node in fleet.nodes:
        classes.setdefault((node.pool, node.gpu, tuple(sorted(node.state.items()))), []).append(node)
    same: dict[Advice, list[str]] = {}
    for nodes in classes.values():
        same.setdefault(_advise(nodes[0], policy, matrices), []).extend(n.name for n in nodes)
    found = [replace(advice, nodes=tuple(sorted(names))) for advice, names in same.items()]
    return tuple(sorted(found, key=lambda a: (a.pool, a.name, a.nodes)))


def _advise(node: Node, policy: Policy, matrices: MatrixSet) -> Advice:
    scorer = Scorer(matrices)
    work = _Work(node, dict(node.state))
    moved: set[str] = set()
    for move in matrices.moves:
        component = move.lead or (move.components[0] if len(move.components) == 1 else "")
        if component and component not in moved and node.state.get(component):
            moved.add(component)
            _choose(component, work, policy, scorer, matrices)
    before, after = scorer.problems(node.state), scorer.problems(work.state)
    notes = [f"{c.component} {note}" for c in work.choices for note in
             crossed_notes(c.component, c.now[-1], c.to[-1], matrices)]
    gains = [f"{j.rule}: {j.statement.partition(' (here: ')[0]}" for j in rules_gone(before, after)]
    gives = [f"{j.rule}: {j.statement.partition(' (here: ')[0]}" for j in rules_gone(after, before)]
    return Advice(f"{node.gpu}, pool {node.pool}", node.pool, (), tuple(work.choices), tuple(gains), tuple(notes),
                  tuple(gives), tuple(work.kept_back))


def _choose(component: str, work: _Work, policy: Policy, scorer: Scorer, matrices: MatrixSet) -> None:
    """Move one component to the best version that rules and repositories allow; leave it where nothing is better."""
    many, now = matrices.is_many(component), work.state[component]
    here = scorer.score(work.state)
    candidates = _candidates(component, work.node, matrices)
    options = []
    for place, version in enumerate(candidates):
        if version in now or (not many and version_key(version) < version_key(now[-1])):
            continue
        values = tuple(sorted({*now, version}, key=version_key)) if many else (version,)
        state = changed(work.state, {component: values}, matrices)
        there = scorer.score(state)
        if not set(there.errors) - set(here.errors):
            options.append((_rank(component, version, policy, there, place, matrices), values, state))
    stay = _rank(component, now[-1], policy, here, len(candidates), matrices)
    # Production moves only for a reason; which of several good versions is a matter of age.
    reasons = 3 if policy == "production" else len(stay)
    better = sorted((o for o in options if o[0][:reasons] < stay[:reasons]), key=lambda o: o[0])
    for rank, values, state in better[:_TRIES]:
        refusal = _refused(component, values, work, policy, matrices)
        if refusal:
            work.kept_back.append(f"{component} {values[-1]}: {refusal}")
            continue
        because = _because(component, values[-1], stay, rank, policy, matrices)
        work.choices.append(Choice(component, now, values, because))
        work.state = dict(state)
        return


def _rank(component: str, version: str, policy: Policy, score: Score, place: int, matrices: MatrixSet
          ) -> tuple[int, int, int, int]:
    """Return what is compared, less is better: production wants calm, development wants the newest that works."""
    errors, warnings = len(score.errors), len(score.warnings)
    if policy == "development":
        return (errors, place, warnings, 0)
    release = _branch_release(component, version, matrices)
    short_lived = int(release is not None and release.branch_type not in (None, _LONG_TERM))
    return (errors, warnings + short_lived, short_lived, place)


def _branch_release(component: str, version: str, matrices: MatrixSet) -> Release | None:
    known = matrices.release(component, version)
    if known is not None:
        return known
    return next((r for r in reversed(matrices.releases.get(component, ()))
                 if Version(r.version).branch == Version(version).branch), None)


def _candidates(component: str, node: Node, matrices: MatrixSet) -> tuple[str, ...]:
    """Return versions worth a look, newest first: the newest few of each branch that the node can get."""
    offered = obtainable_versions(component, node.facts, node.state, matrices)
    if not offered and node.facts.available is None:
        offered = tuple(newest(r.version for r in matrices.releases.get(component, ()) if not r.withdrawn))
    seen: dict[str, int] = {}
    kept = []
    for version in offered:
        release = matrices.release(component, version)
        if release is not None and release.withdrawn:
            continue
        branch = ".".join(version.split(".")[:2]) if matrices.is_many(component) else Version(version).branch
        seen[branch] = seen.get(branch, 0) + 1
        if seen[branch] <= _PER_BRANCH:
            kept.append(version)
    return tuple(kept)


def _refused(component: str, values: tuple[str, ...], work: _Work, policy: Policy, matrices: MatrixSet) -> str:
    """Return why no path leads there, or "": asked of the search itself, with all that is chosen so far."""
    wants = want_of([*work.choices, Choice(component, (), values, ())], matrices)
    target = Target.model_validate({"schema": "planner.target/1", "name": "recommended", "policy": policy,
                                    "want": wants})
    answer = solve(Group((work.node,), target.want), target, matrices)
    return (answer.why or (answer.code,))[0] if isinstance(answer, Refusal) else ""


def want_of(choices: Sequence[Choice], matrices: MatrixSet) -> dict[str, str | dict[str, object]]:
    """Return choices as a target writes them."""
    return {c.component: {"present": list(c.to)} if matrices.is_many(c.component) else c.to[-1] for c in choices}


def _because(component: str, to: str, stay: tuple[int, ...], rank: tuple[int, ...], policy: Policy,
             matrices: MatrixSet) -> tuple[str, ...]:
    release = _branch_release(component, to, matrices)
    reasons = []
    if release is not None and release.branch_type:
        until = f", supported until {release.eol}" if release.eol else ""
        reasons.append(f"branch type {release.branch_type}{until}")
    if rank[0] != stay[0]:
        reasons.append(f"{stay[0]} rules broken now, {rank[0]} then")
    if policy == "development":
        reasons.append("the newest that works and can be had")
    elif rank[1] < stay[1]:
        reasons.append(f"{stay[1]} known problems now, {rank[1]} then")
    return tuple(reasons)


def as_target(advice: Sequence[Advice], policy: Policy, name: str, matrices: MatrixSet) -> Mapping[str, object]:
    """Return a target document: one want for each pool, or, where one pool needs several, for the nodes it names."""
    document: dict[str, object] = {"schema": "planner.target/1", "name": name, "policy": policy}
    wants = {a.pool: {"want": want_of(a.choices, matrices)} for a in advice}
    if advice[0].alone:
        return {**document, "select": sorted(advice[0].nodes), "want": wants[advice[0].pool]["want"]}
    return {**document, "select": sorted(wants), "pools": dict(sorted(wants.items()))}


def split(advice: Sequence[Advice]) -> tuple[tuple[Advice, ...], ...]:
    """Return what moves in groups that fit into one target each: pools that want one thing together, others alone."""
    wants: dict[str, set[tuple[Choice, ...]]] = {}
    for item in advice:
        wants.setdefault(item.pool, set()).add(tuple(replace(c, now=(), because=()) for c in item.choices))
    together = tuple(a for a in advice if a.choices and len(wants[a.pool]) == 1)
    alone = tuple((replace(a, alone=True),) for a in advice if a.choices and len(wants[a.pool]) > 1)
    return (*((together,) if together else ()), *alone)
