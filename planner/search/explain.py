"""Why there is no path: a minimal set of rules and goals that cannot hold together, and what is nearest to feasible."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from math import prod
from operator import attrgetter
from typing import NamedTuple

from planner.check.verdict import Judgement
from planner.matrix.conditions import holds, matches_value
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Condition, State
from planner.model.version import contains, version_key
from planner.search.compile import compile_task, movable
from planner.search.core.conflict import minimal_conflict
from planner.search.core.solve import solve
from planner.search.core.task import NoPath, SearchLimitError
from planner.search.judge import Judge
from planner.search.moves import apply_changes, companions
from planner.search.nearest import Trial, by_search, nearest_targets
from planner.search.problem import Goal, Problem

_RULE, _GOAL = "rule ", "goal "
_FIRMNESS = ("documented", "measured", "derived", "recalled")
_STATES_MAX = 20_000      # combinations that are looked at to tell what cannot stand from what cannot be reached
_EVIDENCE_SHOWN = 2       # claims of a family; the last by name are those of its newest members
_WORD = re.compile(r"[^a-z]")


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


def explain_refusal(problem: Problem, matrices: MatrixSet, trial: Trial | None = None) -> Refusal:
    """Explain a problem for which ``find_path`` returned None (or met its bound).

    Args:
        problem: What has no path.
        matrices: What it was searched with.
        trial: How other goals are tried; by a search among the same candidates unless given.
    """
    trial = trial or by_search(problem, matrices)
    try:
        missing = tuple(_unobtainable(problem, matrices))
        nearest = tuple(nearest_targets(trial, matrices))
        if missing:
            goals = tuple(dict.fromkeys(goal for goal, _, _ in missing))
            why = tuple(dict.fromkeys(sentence for _, sentence, _ in missing))
            return Refusal(code="not-obtainable", goals=goals, nearest=nearest,
                           why=(*why, f"so {' and '.join(goals)} {'are' if len(goals) > 1 else 'is'} out of reach"),
                           sources=tuple(dict.fromkeys(s for _, _, s in missing if s)))
        return _conflict(problem, matrices, nearest, trial)
    except SearchLimitError:
        return given_up(problem)


def given_up(problem: Problem) -> Refusal:
    """Return that a search met its bound."""
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
            if not _must_follow(lead.component, follower, problem, matrices):
                continue
            leads = [v for v in problem.candidates.get(lead.component, ()) if lead.met_by((v,))]
            if leads and not any(contains(f"=={v}", f) for v in leads for f in problem.candidates.get(follower, ())):
                yield from _missing_companion(lead, follower, leads[0], problem, matrices)
        return      # moves that share a lead say the same


def _must_follow(lead: str, follower: str, problem: Problem, matrices: MatrixSet) -> bool:
    """Tell whether a rule that counts on these nodes ties a companion to its lead."""
    def meets(name: str, condition: Condition) -> bool | None:
        return holds(condition, name, problem.start, text=matrices.is_text(name))

    return any(g.severity == "error" and g.relation == "equal" and {lead, follower} <= set(g.components)
               and not any(meets(n, c) is False for n, c in g.when.items())
               and not any(meets(n, c) for n, c in g.unless.items()) for g in matrices.lockstep)


def _forbidden_anyway(name: str, wanted: str, problem: Problem, matrices: MatrixSet) -> Iterator[tuple[str, str, str]]:
    """Yield the rules that the newest known release in a range would break: another repository would not help.

    The other goals are taken as met: what they would mend is not held against this one.
    """
    state = dict(problem.start)
    for other, goal in problem.goals.items():
        parts = [wanted] if other == name else [w for w in (goal.want, *goal.present) if w]
        for part in parts if not goal.met_by(state.get(other, ())) else ():
            if newest := _newest_known(goal, part, problem, matrices):
                tied = {other, *_tied(other, matrices)}
                state |= {c: (newest,) for c in tied if state.get(c) and c != other}
                state = apply_changes(state, ((other, "", newest),), matrices)
    if state == problem.start:
        return
    judge = Judge(matrices, problem.start, frozenset(state))
    before = {j.key for j in judge.blocking(problem.start)}
    for judgement in sorted(judge.blocking(state), key=attrgetter("rule", "values")):
        named = judgement.names & problem.accepted or judgement.key in before
        if name in judgement.components and judgement.provenance is not None and not named:
            yield (f"{name} {wanted}", f"and where they had it: {judgement.statement}",
                   matrices.source_of(judgement.rule, judgement.provenance))


def _tied(name: str, matrices: MatrixSet) -> set[str]:
    return {c for g in matrices.lockstep if name in g.components and g.relation == "equal" for c in g.components}


def _newest_known(goal: Goal, wanted: str, problem: Problem, matrices: MatrixSet) -> str:
    """Return the newest that is known of what a part of a goal speaks of, "" where nothing is."""
    component = matrices.components[goal.component]
    known = [*component.options, *(r.version for r in matrices.releases.get(goal.component, ())),
             *reversed(problem.candidates.get(goal.component, ()))]
    return next((v for v in reversed(known) if goal.matches(wanted, v)), "")


def _missing_companion(goal: Goal, follower: str, version: str, problem: Problem,
                       matrices: MatrixSet) -> Iterator[tuple[str, str, str]]:
    group = next(g for g in matrices.lockstep if {goal.component, follower} <= set(g.components))
    have = ", ".join(problem.candidates.get(follower, ())) or "no version at all"
    reason = problem.unobtainable.get((follower, version), f"the nodes' repositories offer {follower} in {have}")
    yield (goal.describe(), f"because {group.statement}, and {reason}, {follower} {version} cannot be installed",
           matrices.source_of(group.name, group.provenance))


def _conflict(problem: Problem, matrices: MatrixSet, nearest: tuple[str, ...], trial: Trial) -> Refusal:
    judge = Judge(matrices, problem.start, movable(problem))
    found = solve(compile_task(problem, matrices, judge).task)
    assert isinstance(found, NoPath), "a problem with a path has nothing to explain"
    for judgement in judge.blocking(problem.start):
        judge.seen.setdefault(judgement.rule, judgement)

    # Moves are those of all goals: where one of these is wanted what carries it moves with it or not at all, so that
    # without it the carrier's own goal would seem to be out of reach.
    carried = [f"{_GOAL}{n}" for n, g in problem.goals.items()
               if matrices.components[n].carrier and not g.met_by(problem.start.get(n, ()))]

    def infeasible(kept: frozenset[str]) -> bool:
        rules = frozenset(c.removeprefix(_RULE) for c in kept if c.startswith(_RULE))
        goals = frozenset(c.removeprefix(_GOAL) for c in (*kept, *carried) if c.startswith(_GOAL))
        return isinstance(solve(compile_task(problem, matrices, judge, enforced=rules, goals=goals).task), NoPath)

    pool: list[str] = []
    while True:
        known = [c for c in _blamable(judge, problem) if c not in carried]
        assert known != pool, "the rules that were met do not prove what they proved together"
        pool = known
        if infeasible(frozenset(pool)):
            break       # dropping rules opened states that other rules close: those have been met now, try again
    core = minimal_conflict(pool, infeasible)
    core += _carried_too(core, carried, problem, matrices, judge)
    rules = [c.removeprefix(_RULE) for c in core if c.startswith(_RULE)]
    wanted = [problem.goals[c.removeprefix(_GOAL)].describe() for c in core if c.startswith(_GOAL)]
    met = _as_wanted(problem, matrices)
    evidence = [text for name in rules for text in (_evidence(_shown(name, judge, met), problem, judge, wanted),
                                                    *_would_do(name, problem, matrices))]
    evidence += [_stays(name, reason, problem, matrices) for name, reason in problem.fixed.items()
                 if name not in problem.goals and any(name in judge.seen[rule].components for rule in rules)]
    conclusion = f"so {' and '.join(wanted)} {'are' if len(wanted) > 1 else 'is'} out of reach for these nodes"
    stands = _stands(problem, matrices, judge, core) if rules else None
    if stands is False:
        conclusion += f": no combination of what they can get keeps {'this rule' if len(rules) == 1 else 'these rules'}"
    elif stands:
        conclusion += (": a combination that keeps them exists, but no order of steps leads to it without breaking one "
                       "on the way")
    if rules and not wanted:
        mends = tuple(_asked_too(trial, matrices))
        conclusion = ("so nothing can be planned for these nodes while that is so: "
                      + (f"what mends it, the target does not ask for ({', '.join(mends)})" if mends else
                         "there is a state without it, and no step of this target leads there" if stands else
                         "nothing that they can get mends it"))
        nearest = (*(f"want {word}, too" for word in mends), *nearest, *_accepting(rules, problem, judge, trial))
    if not rules:
        conclusion = next(_contradictions(problem, matrices), f"no legal step leads to {' and '.join(wanted)} "
                          "(a downgrade, or a component that is not known on the nodes)")
    return Refusal(
        code="conflict" if rules else "no-move", goals=tuple(wanted), why=(*evidence, conclusion), nearest=nearest,
        sources=tuple(source for name in rules for source in _sources(judge.seen[name], matrices)),
    )


def _as_wanted(problem: Problem, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return the start with the goals met as far as candidates go, and with what must be equal to them."""
    state = dict(problem.start)
    for name, goal in problem.goals.items():
        offered = [v for v in problem.candidates.get(name, ()) if goal.want and goal.met_by((v,))]
        if offered and not goal.met_by(state.get(name, ())):
            state |= {c: (offered[0],) for c in _tied(name, matrices) if state.get(c)} | {name: (offered[0],)}
    return state


def _shown(rule: str, judge: Judge, state: State) -> Judgement:
    """Return a rule's verdict on what was asked for; where it is none, that on the state that met it first."""
    scope = judge.scope_of.get(rule)
    found = judge.of(scope, tuple(map(state.get, scope))) if scope else iter(())
    return next((j for j in found if j.rule == rule), judge.seen[rule])


def _stays(name: str, reason: str, problem: Problem, matrices: MatrixSet) -> str:
    """Return why a component that would mend a rule does not move; one that a wanted step brings is not known yet."""
    bringing = sorted({c for m in matrices.moves if name in m.unpredicted for c in m.components} & problem.goals.keys())
    return f"and which {name} {' or '.join(bringing)} brings is not known before: plan the rest when that is there" \
        if bringing else f"and {name} stays as it is: {reason}"


def _contradictions(problem: Problem, matrices: MatrixSet) -> Iterator[str]:
    """Yield goals that bar each other: what is wanted and forbidden in one breath, of one place, or tied and unlike."""
    fitting = {(name, wanted): [v for v in (*problem.start.get(name, ()), *problem.candidates.get(name, ()))
                                if goal.matches(wanted, v)]
               for name, goal in problem.goals.items() for wanted in (goal.want, *goal.present) if wanted}
    for name, goal in problem.goals.items():
        for wanted in goal.present:
            barred = [a for a in goal.absent if any(goal.matches(a, v) for v in fitting[name, wanted])]
            if barred and all(any(goal.matches(a, v) for a in barred) for v in fitting[name, wanted]):
                yield f"{name} {wanted} is wanted, and the same target takes away {' and '.join(barred)}"
        for one, other in combinations(goal.present, 2):
            places = {matrices.slot_of(name, v) for part in (one, other) for v in fitting[name, part]}
            if len(places) == 1 and not set(fitting[name, one]) & set(fitting[name, other]):
                yield f"{name} {one} and {other} take one place: only one of them can be there"
    for group in matrices.lockstep:
        wants = [(c, problem.goals[c].want) for c in group.components if c in problem.goals and problem.goals[c].want]
        for lead, tied in combinations(wants, 2) if group.relation == "equal" else ():
            first, second = ({version_key(v) for v in fitting[pair]} for pair in (lead, tied))
            if first and second and not first & second:
                yield f"{' '.join(lead)} and {' '.join(tied)} are not one version: {group.statement}"


def _carried_too(core: list[str], carried: list[str], problem: Problem, matrices: MatrixSet, judge: Judge) -> list[str]:
    """Return the goals out of ``carried`` that take part in a conflict: with their carrier's, or alone."""
    names = {c.removeprefix(_GOAL) for c in core if c.startswith(_GOAL)}
    rules = frozenset(c.removeprefix(_RULE) for c in core if c.startswith(_RULE))
    bare = compile_task(problem, matrices, judge, enforced=rules, goals=frozenset(names)).task
    needed = bool(carried) and not isinstance(solve(bare), NoPath)
    return [c for c in carried if needed or matrices.components[c.removeprefix(_GOAL)].carrier in names]


def _would_do(rule: str, problem: Problem, matrices: MatrixSet) -> Iterator[str]:
    """Yield what a rule asks for and the nodes' repositories have, and why it cannot be put on there all the same."""
    claim = next((c for c in matrices.claims if c.name == rule), None)
    for component, condition in claim.then.items() if claim is not None else ():
        text = matrices.is_text(component)
        found = [(v, why) for (c, v), why in sorted(problem.unobtainable.items())
                 if c == component and v not in problem.candidates.get(c, ()) and _fits(condition, v, text)]
        if found and not any(_fits(condition, v, text) for v in problem.candidates.get(component, ())):
            yield f"{component} {found[-1][0]} would do, but {found[-1][1]}"


def _fits(condition: Condition, value: str, text: bool) -> bool:
    try:
        return matches_value(condition, value, text=text)
    except ValueError:
        return False      # a range that was wanted, not a version


def _asked_too(trial: Trial, matrices: MatrixSet) -> Iterator[str]:
    """Yield values that move only where a target asks for them, and with which there would be a plan."""
    problem = trial.problem
    for name, component in sorted(matrices.components.items()):
        if not component.carrier or name in problem.goals or name not in problem.start:
            continue
        for value in component.options:
            goal = Goal(component=name, want=value, text=True)
            if not goal.met_by(problem.start[name]) and trial.with_goals({name: goal}):
                yield f"{name} {value}"


def _accepting(rules: list[str], problem: Problem, judge: Judge, trial: Trial) -> Iterator[str]:
    """Yield that a target may accept what is wrong from the start, where that opens a way: all of it at once."""
    told = {judge.seen[rule].risk or rule for rule in rules}
    everything = {j.risk or j.rule for j in judge.blocking(problem.start) if not j.names & problem.accepted}
    for names in (told, told | everything):
        if trial.feasible(trial.problem.goals, problem.accepted | names):
            yield f"accept {' and '.join(sorted(names))} by name, with a reason (accept: in the target)"
            return


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
