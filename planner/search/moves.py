"""Which steps are legal from a state: the moves of the matrices applied to a cohort's candidate versions."""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import product

from planner.matrix.conditions import holds
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Move, State
from planner.model.version import contains, version_key
from planner.search.problem import Goal, Problem, Transition

Changes = tuple[tuple[str, str, str], ...]


def transitions(
    state: State, problem: Problem, matrices: MatrixSet,
) -> Iterator[tuple[Transition, dict[str, tuple[str, ...]]]]:
    """Yield every legal step with the state it leads to, in the order of the matrices (not yet judged)."""
    changed = changed_early(state, problem, matrices)
    places = overtaken(state, problem, matrices)
    for move in matrices.moves:
        for changes in changes_of(move, state, problem, matrices):
            after = apply_changes(state, changes, matrices)
            early = changed if move.disruption == "reboot" else 0
            order = places[move.name] + sooner(changes, state, problem)
            cost = {**cost_of(move, changes, problem, matrices), "early": early, "order": order}
            yield Transition(move=move.name, changes=changes, cost=cost), after


def apply_changes(state: State, changes: Changes, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return the state after some changes; side-by-side components keep their values sorted."""
    after = dict(state)
    for component, old, new in changes:
        if matrices.is_many(component):
            values = {v for v in after.get(component, ()) if v != old} | ({new} if new else set())
            after[component] = tuple(sorted(values, key=version_key))
        else:
            after[component] = (new,) if new else ()
    return after


def changed_early(state: State, problem: Problem, matrices: MatrixSet) -> int:
    """Count the values that were changed since the start although no move of theirs reboots; one for another is one.

    Charged to a step that reboots: what needs a reboot decides what the rest may be, so it comes first where it can.
    """
    names = set(problem.candidates) | set(problem.goals)
    changed = ((set(state.get(name, ())), set(problem.start.get(name, ()))) for name in names
               if not needs_reboot(name, matrices))
    return sum(max(len(now - before), len(before - now)) for now, before in changed)


def overtaken(state: State, problem: Problem, matrices: MatrixSet) -> dict[str, int]:
    """Return, for each move, how many parts of goals are still open whose own moves all stand earlier.

    Summed over a path this counts the pairs of steps that stand the other way round than in the matrices.
    """
    last = {component: place for place, move in enumerate(matrices.moves) for component in move.components}
    unmet = [(last[name], goal.unmet(state.get(name, ()))) for name, goal in problem.goals.items() if name in last]
    return {move.name: sum(parts for own, parts in unmet if own < place) for place, move in enumerate(matrices.moves)}


def sooner(changes: Changes, state: State, problem: Problem) -> int:
    """Count what a step of side-by-side versions leaves open that should come before it.

    Versions come in the order in which the goal names them. Old ones leave when the new ones are there and when what
    else is wanted has come: until then something may need them. Each such part counts twice, or the order of the
    matrices (``overtaken``) would have its way.
    """
    total = 0
    going = {component for component, _, new in changes if not new}
    if going:
        total += 2 * sum(g.unmet(state.get(name, ())) for name, g in problem.goals.items() if name not in going)
    for component, _, new in changes:
        goal = problem.goals.get(component)
        if goal is None or goal.want:
            continue
        missing = [p for p in goal.present if not any(goal.matches(p, v) for v in state.get(component, ()))]
        total += len(missing) if not new else next((i for i, p in enumerate(missing) if goal.matches(p, new)), 0)
    return total


def needs_reboot(component: str, matrices: MatrixSet) -> bool:
    """Tell whether every move of a component reboots the node."""
    disruptions = [m.disruption for m in matrices.moves if component in m.components]
    return bool(disruptions) and all(d == "reboot" for d in disruptions)


def companions(move: Move, matrices: MatrixSet) -> tuple[str, ...]:
    """Return the components of a move that must carry the lead's version, by the lockstep groups."""
    if move.lead is None:
        return ()
    tied = {c for g in matrices.lockstep if move.lead in g.components and g.relation == "equal" for c in g.components}
    return tuple(c for c in move.components if c != move.lead and c in tied)


def changes_of(move: Move, state: State, problem: Problem, matrices: MatrixSet,
               guests: Container[str] = ()) -> Iterator[Changes]:
    """Yield what a move can change in a state that knows at least the move's components (not yet judged).

    ``guests`` names companions that may come with their lead's version although no goal names them (``guests_of``).
    """
    if len(move.components) == 1 and matrices.is_many(move.components[0]):
        yield from _set_changes(move, state, problem, matrices)
        return
    followers = companions(move, matrices)
    free = [c for c in move.components if c not in followers]
    # Of two words neither is the newer one.
    options: list[list[tuple[str, str, str] | None]] = [
        list(_single_changes(c, state, problem, downgrade=matrices.is_text(c) or _may_go_down(c, move, problem)))
        for c in free]
    for place, component in enumerate(free):
        if move.lead not in (None, component) and state.get(component) == ():
            options[place].append(None)      # a companion that is not there may stay away
    for choice in product(*options):
        chosen = tuple(change for change in choice if change is not None)
        if move.lead is None:
            yield chosen
            continue
        stays = (state.get(move.lead) or ("",))[0]
        lead_version = next((new for component, _, new in chosen if component == move.lead), stays)
        for following in _follow(followers, lead_version, state, problem, guests) if lead_version else ():
            if chosen or following:
                yield (*chosen, *following)


def _may_go_down(component: str, move: Move, problem: Problem) -> bool:
    """Tell whether a step may put on an older version: only of what the move is about, and only where asked for."""
    own = move.lead == component or len(move.components) == 1
    goal = problem.goals.get(component)
    return move.downgrade and own and goal is not None and not goal.met_by(problem.start.get(component, ()))


def _single_changes(
    component: str, state: State, problem: Problem, *, downgrade: bool,
) -> Iterator[tuple[str, str, str]]:
    if component not in state:
        return      # not known: nothing may be changed on a guess
    old = state[component][0] if state[component] else ""
    for new in problem.candidates.get(component, ()):
        newer = not old or version_key(new) > version_key(old)
        if newer or (downgrade and version_key(new) != version_key(old)):
            yield component, old, new


def _set_changes(move: Move, state: State, problem: Problem, matrices: MatrixSet) -> Iterator[Changes]:
    """Yield what comes beside the values of a component or in the place of one of the same slot, and what leaves."""
    component = move.components[0]
    values = state.get(component, ())
    goal = problem.goals.get(component, Goal(component=component))
    for new in problem.candidates.get(component, ()):
        wanted = [p for p in goal.present if contains(p, new)]
        if new in values or not any(not any(contains(p, v) for v in values) for p in wanted):
            continue
        slot = matrices.slot_of(component, new)
        before = next((v for v in values if matrices.slot_of(component, v) == slot), "")
        if not before or move.downgrade or version_key(new) > version_key(before):
            yield ((component, before, new),)
    for old in values:
        if any(contains(a, old) for a in goal.absent):
            yield ((component, old, ""),)


def guests_of(problem: Problem, matrices: MatrixSet) -> frozenset[str]:
    """Return the components that are not there, and that some rule about nodes like this one looks for.

    No goal asks for them, but a version that a goal asks for may need them. What no rule looks for is never of use.
    """
    fixed = problem.start.keys() - problem.candidates.keys() - problem.goals.keys()
    found: set[str] = set()
    for claim in matrices.claims:
        absent = {c for c in (*claim.if_, *claim.then, *claim.unless)
                  if problem.start.get(c) == () and problem.candidates.get(c)}
        if claim.severity == "error" and not absent <= found and all(
                holds(claim.if_[c], c, problem.start, text=matrices.is_text(c)) is not False
                for c in fixed.intersection(claim.if_)):
            found |= absent
    return frozenset(found)


def _follow(followers: tuple[str, ...], lead_version: str, state: State, problem: Problem,
            guests: Container[str]) -> Iterator[Changes]:
    """Yield the companions' changes.

    One that is there follows where it can be had in the lead's version, and else stays as it is: the rules decide
    whether it may. One that is not there comes where a goal names it, may come or stay away where it is a guest, and
    else stays away.
    """
    options: list[list[tuple[tuple[str, str, str], ...]]] = []
    for component in followers:
        values = state.get(component, ())
        if values and version_key(values[0]) == version_key(lead_version):
            continue
        wanted, may_come = component in problem.goals, component in guests
        if not values and not ((wanted or may_come) and component in state):
            continue
        offered = problem.candidates.get(component, ())
        match = next((v for v in offered if version_key(v) == version_key(lead_version)), None)
        stays: list[tuple[tuple[str, str, str], ...]] = [] if wanted or (values and match) else [()]
        options.append([*stays, *([((component, values[0] if values else "", match),)] if match else [])])
    for choice in product(*options):
        yield tuple(change for changes in choice for change in changes)


def cost_of(move: Move, changes: Changes, problem: Problem, matrices: MatrixSet) -> dict[str, int]:
    """Return what a step costs by itself, whatever the rest of the state is.

    What no goal names stays in its branch, or away, where that is enough: nobody asked for more than that. Where it has
    to leave its branch, one with long-term support is nearer.
    """
    age = sum(
        [v for v in problem.candidates.get(c, ()) if problem.goals[c].met_by((v,))].index(new)
        for c, _, new in changes
        if new and c in problem.goals and problem.goals[c].want and problem.goals[c].met_by((new,))
    )
    strayed = sum(1 + matrices.is_short_lived(c, new) for c, old, new in changes
                  if c not in problem.goals and new and old.split(".")[0] != new.split(".")[0])
    return {"reboots": int(move.disruption == "reboot"), "steps": 1, "minutes": move.minutes, "age": age + strayed}
