"""Why there is no path: a minimal set of rules and goals that cannot hold together, and what is nearest to feasible."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import NamedTuple

from planner.check.verdict import Judgement
from planner.matrix.conditions import matches_value
from planner.matrix.index import MatrixSet
from planner.model.version import contains
from planner.search.compile import compile_task, movable
from planner.search.core.conflict import minimal_conflict
from planner.search.core.solve import solve
from planner.search.core.task import NoPath, SearchLimitError
from planner.search.judge import Judge
from planner.search.moves import companions
from planner.search.path import find_path
from planner.search.problem import Goal, Problem

ALTERNATIVES_MAX = 8      # each is a search of its own
_RULE, _GOAL = "rule ", "goal "
_FIRMNESS = ("documented", "measured", "derived", "recalled")
_STATES_MAX = 20_000      # combinations that are looked at to tell what cannot stand from what cannot be reached
_EVIDENCE_SHOWN = 2       # claims of a family; the last by name are those of its newest members
_WORD = re.compile(r"[^a-z]")
_NUMBER = re.compile(r"\d+")


class Refusal(NamedTuple):
    """A proof that a target is out of reach for one cohort.

    Attributes:
        code: ``not-obtainable`` (no repository has it), ``conflict`` (rules against it), ``no-move`` (no legal step),
            ``search-limit`` (given up, nothing proved).
        goals: The goals that take part; without any one of them there is a path (or the proof names one alone).
        why: The derivation in sentences, the conclusion last.
        sources: One line a claim.
        nearest: Targets that are feasible, one sentence each, nearest first.
    """

    code: str
    goals: tuple[str, ...]
    why: tuple[str, ...]
    sources: tuple[str, ...]
    nearest: tuple[str, ...]


def explain_refusal(problem: Problem, matrices: MatrixSet) -> Refusal:
    """Explain a problem for which ``find_path`` returned None (or met its bound)."""
    try:
        missing = tuple(_unobtainable(problem, matrices))
        nearest = tuple(_nearest(problem, matrices))
        if missing:
            goals = tuple(dict.fromkeys(goal for goal, _, _ in missing))
            why = tuple(sentence for _, sentence, _ in missing)
            return Refusal(code="not-obtainable", goals=goals, nearest=nearest,
                           why=(*why, f"so {' and '.join(goals)} is out of reach"),
                           sources=tuple(dict.fromkeys(s for _, _, s in missing if s)))
        return _conflict(problem, matrices, nearest)
    except SearchLimitError:
        return Refusal(code="search-limit", goals=(), sources=(), nearest=(), why=(
            f"the search was given up after {problem.expansions_max} states; nothing is proved either way",))


def _unobtainable(problem: Problem, matrices: MatrixSet) -> Iterator[tuple[str, str, str]]:
    """Yield (goal, sentence, source) for goals that no candidate version meets, companions included."""
    for name, goal in problem.goals.items():
        values, offered = problem.start.get(name, ()), problem.candidates.get(name, ())
        for wanted in (goal.want, *goal.present):
            if not wanted or any(goal.matches(wanted, v) for v in (*values, *offered)):
                continue
            reasons = sorted({r for (c, v), r in problem.unobtainable.items()
                              if c == name and (v == wanted or goal.matches(wanted, v))})
            have = ", ".join(offered) or "none"
            told = problem.fixed.get(name) or "; ".join(reasons) or \
                f"the nodes' repositories have no {name} matching {wanted} (they have: {have})"
            yield (f"{name} {wanted}", told, "")
            yield from _forbidden_anyway(name, wanted, problem, matrices)
    for move in matrices.moves:
        lead = problem.goals.get(move.lead or "")
        if lead is None or not lead.want or lead.met_by(problem.start.get(lead.component, ())):
            continue
        for follower in companions(move, matrices):
            if not problem.start.get(follower):
                continue
            leads = [v for v in problem.candidates.get(lead.component, ()) if lead.met_by((v,))]
            if leads and not any(contains(f"=={v}", f) for v in leads for f in problem.candidates.get(follower, ())):
                yield from _missing_companion(lead, follower, leads[0], problem, matrices)
        return      # moves that share a lead say the same


def _forbidden_anyway(name: str, wanted: str, problem: Problem, matrices: MatrixSet) -> Iterator[tuple[str, str, str]]:
    """Yield the rules that the newest known release in a range would break: another repository would not help."""
    known = [r.version for r in matrices.releases.get(name, ()) if contains(wanted, r.version)]
    if not known:
        return
    tied = {c for g in matrices.lockstep if name in g.components and g.relation == "equal" for c in g.components}
    old = () if not matrices.is_many(name) else problem.start.get(name, ())
    state = {**problem.start, **{c: (known[-1],) for c in tied if problem.start.get(c)}, name: (*old, known[-1])}
    judge = Judge(matrices, problem.start, frozenset(state))
    before = {j.key for j in judge.blocking(problem.start)}
    for judgement in judge.blocking(state):
        named = judgement.names & problem.accepted or judgement.key in before
        if name in judgement.components and judgement.provenance is not None and not named:
            yield (f"{name} {wanted}", f"and where they had it: {judgement.statement}",
                   matrices.source_of(judgement.rule, judgement.provenance))


def _missing_companion(goal: Goal, follower: str, version: str, problem: Problem,
                       matrices: MatrixSet) -> Iterator[tuple[str, str, str]]:
    group = next(g for g in matrices.lockstep if {goal.component, follower} <= set(g.components))
    have = ", ".join(problem.candidates.get(follower, ())) or "no version at all"
    reason = problem.unobtainable.get((follower, version), f"the nodes' repositories offer {follower} in {have}")
    yield (goal.describe(), f"because {group.statement}, and {reason}, {follower} {version} cannot be installed",
           matrices.source_of(group.name, group.provenance))


def _conflict(problem: Problem, matrices: MatrixSet, nearest: tuple[str, ...]) -> Refusal:
    judge = Judge(matrices, problem.start, movable(problem))
    found = solve(compile_task(problem, matrices, judge).task)
    assert isinstance(found, NoPath), "a problem with a path has nothing to explain"
    for judgement in judge.blocking(problem.start):
        judge.seen.setdefault(judgement.rule, judgement)

    def infeasible(kept: frozenset[str]) -> bool:
        rules = frozenset(c.removeprefix(_RULE) for c in kept if c.startswith(_RULE))
        goals = frozenset(c.removeprefix(_GOAL) for c in kept if c.startswith(_GOAL))
        return isinstance(solve(compile_task(problem, matrices, judge, enforced=rules, goals=goals).task), NoPath)

    pool: list[str] = []
    while True:
        known = _blamable(judge, problem)
        assert known != pool, "the rules that were met do not prove what they proved together"
        pool = known
        if infeasible(frozenset(pool)):
            break       # dropping rules opened states that other rules close: those have been met now, try again
    core = minimal_conflict(pool, infeasible)
    rules = [c.removeprefix(_RULE) for c in core if c.startswith(_RULE)]
    wanted = [problem.goals[c.removeprefix(_GOAL)].describe() for c in core if c.startswith(_GOAL)]
    evidence = [_evidence(judge.seen[name], problem, judge, wanted) for name in rules]
    conclusion = (f"so {' and '.join(wanted) or 'any change'} {'are' if len(wanted) > 1 else 'is'} out of reach "
                  "for these nodes")
    stands = _stands(problem, matrices, judge, core) if rules else None
    if stands is False:
        conclusion += f": no combination of what they can get keeps {'this rule' if len(rules) == 1 else 'these rules'}"
    elif stands:
        conclusion += (": a combination that keeps them exists, but no order of steps leads to it without breaking one "
                       "on the way")
    if not rules:
        conclusion = (f"no legal step leads to {' and '.join(wanted)} "
                      "(a downgrade, or a component that is not known on the nodes)")
    return Refusal(
        code="conflict" if rules else "no-move", goals=tuple(wanted), why=(*evidence, conclusion), nearest=nearest,
        sources=tuple(source for name in rules for source in _sources(judge.seen[name], matrices)),
    )


def _sources(judgement: Judgement, matrices: MatrixSet) -> list[str]:
    """Return where a rule comes from; of a family without positive evidence, where the evidence there is comes from."""
    if judgement.provenance is not None:
        return [matrices.source_of(judgement.rule, judgement.provenance)]
    family, value = matrices.families[judgement.family], next(iter(judgement.values), "")
    word = _WORD.split(value)[0]      # ubuntu of ubuntu-20.04: what is known of its relatives tells most
    claims = matrices.claims_of(judgement.family)
    over = family.over or ""
    near = [c for c in claims if over in c.if_ and matches_value(c.if_[over], value, text=matrices.is_text(over))] or [
        c for c in claims if word and word in str(c.if_.get(over, ""))] or claims
    shown = sorted(near, key=lambda c: c.name)[-_EVIDENCE_SHOWN:]
    return [f"{matrices.source_of(c.name, c.provenance)} (what is known)" for c in shown]


def _stands(problem: Problem, matrices: MatrixSet, judge: Judge, core: list[str]) -> bool | None:
    """Tell whether a state exists that keeps the rules of a conflict and meets its goals, whatever leads there.

    None when there are too many states to look at.
    """
    rules = frozenset(c.removeprefix(_RULE) for c in core if c.startswith(_RULE))
    goals = frozenset(c.removeprefix(_GOAL) for c in core if c.startswith(_GOAL))
    names = goals.union(*(judge.scope_of.get(rule, ()) for rule in rules))
    if prod(len(problem.candidates.get(name, ())) + 1 for name in names) > _STATES_MAX:
        return None
    task = compile_task(problem, matrices, judge, enforced=rules, goals=goals, at_once=names).task
    try:
        return not isinstance(solve(task), NoPath)
    except SearchLimitError:
        return None


def _blamable(judge: Judge, problem: Problem) -> list[str]:
    """Return what may be blamed: rules that have blocked a state, those with the firmest source first, then goals."""
    def firmness(name: str) -> tuple[int, str]:
        provenance = judge.seen[name].provenance
        return (_FIRMNESS.index(provenance.confidence) if provenance else len(_FIRMNESS), name)

    rules = [name for name, j in judge.seen.items() if not j.names & problem.accepted]
    return [*(f"{_RULE}{n}" for n in sorted(rules, key=firmness)), *(f"{_GOAL}{n}" for n in sorted(problem.goals))]


def _evidence(judgement: Judgement, problem: Problem, judge: Judge, wanted: list[str]) -> str:
    inherited = any(j.rule == judgement.rule for j in judge.blocking(problem.start))
    note = (" - already so at the start, and the target does not clear it; accept it by name "
            f"({judgement.risk or judgement.rule}) or change the target") if inherited else ""
    return f"because {judgement.statement}{note}"


def _nearest(problem: Problem, matrices: MatrixSet) -> Iterator[str]:
    """Yield feasible targets that differ from the wanted one in a single goal, closest first."""
    for name, goal in problem.goals.items():
        for changed, sentence in _relaxed(goal, problem):
            goals: Mapping[str, Goal] = {**problem.goals, name: changed}
            if find_path(replace(problem, goals=goals), matrices) is not None:
                yield sentence
                break


def _relaxed(goal: Goal, problem: Problem) -> Iterator[tuple[Goal, str]]:
    name = goal.component
    for wanted in goal.present:
        rest = tuple(p for p in goal.present if p != wanted)
        if not rest:      # nothing would be left of the goal: first what could stand in for it
            others = [v for v in problem.candidates.get(name, ()) if not goal.matches(wanted, v)]
            for version in _closest(wanted, others):
                yield goal._replace(present=(_exactly(version, goal),)), f"{name} {version} instead of {wanted}"
        yield goal._replace(present=rest), f"leave out {name} {wanted}" + (f" (keep {', '.join(rest)})" if rest else "")
    if goal.absent:
        yield goal._replace(absent=()), f"let {name} {', '.join(goal.absent)} stay"
    if goal.want:
        current = problem.start.get(name, ())
        others = [v for v in problem.candidates.get(name, ()) if not goal.met_by((v,)) and v not in current]
        for version in _closest(goal.want, others):
            yield goal._replace(want=_exactly(version, goal)), f"{name} {version} instead of {goal.want}"
        if current:
            yield goal._replace(want=_exactly(current[0], goal)), f"keep {name} {current[0]}"


def _exactly(version: str, goal: Goal) -> str:
    return version if goal.text else f"=={version}"


def _closest(wanted: str, versions: list[str]) -> list[str]:
    """Return versions, those that share most leading numbers with the wanted one first, else in the order given."""
    numbers = _NUMBER.findall(wanted.partition("|")[0].split(" ")[0])

    def shared(version: str) -> int:
        pairs = zip(numbers, _NUMBER.findall(version), strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), len(numbers))

    return sorted(versions, key=shared, reverse=True)[:ALTERNATIVES_MAX]
