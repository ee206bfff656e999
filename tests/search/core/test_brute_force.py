"""The search against plain Dijkstra over whole states, on small random universes: costs, paths, refusals."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.bench_task import Universe
from benchmarks.solve import path_of
from planner.search.core.conflict import minimal_conflict
from planner.search.core.solve import ROUNDS, solve
from planner.search.core.task import NoPath, Solution, unpack
from tests.search.core.bench import WHOLE, Instance, Truth, instance, is_minimal_conflict, kind

pytestmark = pytest.mark.property
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
SINGLES = ("p", "q", "r")


@st.composite
def kinds(draw: Any) -> dict[str, Any]:
    """Two or three single kinds, often one of several versions side by side."""
    flags = st.integers(0, 1)
    made = {name: kind(draw(st.integers(2, 4)), down=draw(st.booleans()), hop=draw(st.sampled_from([None, None, 1, 2])),
                       reboot=draw(flags), drain=draw(flags), minutes=draw(st.integers(0, 9)), risk=draw(flags))
            for name in SINGLES[:draw(st.integers(2, 3))]}
    if draw(st.integers(0, 3)):
        size = draw(st.integers(2, 4))
        least = draw(st.integers(0, 2))
        made["many"] = kind(size, several=True, least=least, most=draw(st.integers(max(1, least), size)),
                            minutes=draw(st.integers(0, 9)), drain=draw(flags))
        if draw(st.booleans()):
            made["many"]["cost"]["remove_minutes"] = draw(st.integers(0, 9))
    return made


def _some(draw: Any, versions: list[str], least: int = 1) -> list[str]:
    return sorted(draw(st.sets(st.sampled_from(versions), min_size=least)))


@st.composite
def universes(draw: Any) -> Instance:
    """Rules are drawn blindly, or carved so that the start breaks none."""
    made = draw(kinds())
    names = list(made)
    start = {}
    for name, data in made.items():
        size = (1, 1) if data["mode"] == "single" else (data["min"], data["max"])
        start[name] = sorted(draw(st.sets(st.sampled_from(data["versions"]), min_size=size[0], max_size=size[1])))
    rules = []
    for number in range(draw(st.integers(0, 7))):
        read = draw(st.sets(st.sampled_from(names), min_size=1, max_size=3))
        if_ = {k: _some(draw, made[k]["versions"]) for k in sorted(read)}
        then = {k: _some(draw, made[k]["versions"]) for k in sorted(draw(st.sets(st.sampled_from(names), max_size=2)))}
        broken = all(set(start[k]) & set(vs) for k, vs in if_.items()) and not any(
            set(start[k]) & set(vs) for k, vs in then.items())
        if broken and draw(st.integers(0, 9)):      # seldom a start that is wrong already
            continue
        rules.append({"id": f"r{number}", "if": if_, "then": then, "why": ""})
    goal: dict[str, Any] = {}
    for name in sorted(draw(st.sets(st.sampled_from(names), min_size=1, max_size=3))):
        versions = made[name]["versions"]
        if made[name]["mode"] == "single":
            goal[name] = {"in": _some(draw, versions)}
        else:
            has = _some(draw, versions, 0)
            goal[name] = {"has": has, "not": [v for v in _some(draw, versions, 0) if v not in has]}
    single = [n for n in names if made[n]["mode"] == "single"]
    bundles = draw(st.lists(st.sets(st.sampled_from(single), min_size=2), max_size=2))
    return instance(made, rules, {k: " ".join(v) for k, v in start.items()}, goal, [sorted(b) for b in bundles])


def tangled(seed: int) -> Instance:
    """Return a universe with many rules and goals away from the start: longer paths than ``universes`` mostly gives."""
    chance = random.Random(seed)
    flag = (0, 1)
    made = {name: kind(chance.randint(3, 4), down=chance.random() < 0.2, hop=chance.choice([None, None, 1, 2]),
                       reboot=chance.choice(flag), drain=chance.choice(flag), minutes=chance.randint(0, 9))
            for name in (*SINGLES, "s")[:chance.randint(3, 4)]}
    single = list(made)
    if chance.random() < 0.5:
        made["many"] = kind(3, several=True, least=1, most=chance.randint(2, 3), minutes=chance.randint(0, 9))
    start = {name: chance.choice(data["versions"][:2]) for name, data in made.items()}
    rules: list[dict[str, Any]] = []
    wanted = chance.randint(3, 9)
    while len(rules) < wanted:
        names = chance.sample(list(made), 2)
        if_, then = ({n: chance.sample(made[n]["versions"], chance.randint(1, len(made[n]["versions"]) - 1))}
                     for n in names)
        if start[names[0]] in if_[names[0]] and start[names[1]] not in then[names[1]]:
            continue
        rules.append({"id": f"r{len(rules)}", "if": if_, "then": then, "why": ""})
    goal: dict[str, Any] = {n: {"in": made[n]["versions"][-chance.randint(1, 2):]} for n in chance.sample(single, 2)}
    if "many" in made:
        goal["many"] = {"has": ["2"], "not": chance.choice([[], ["0"], ["0", "1"]])}
    bundles = [chance.sample(single, 2)] if chance.random() < 0.3 else []
    return instance(made, rules, start, goal, bundles)


SEEDS = st.integers(0, 1 << 32)


def found(made: Instance) -> Solution | NoPath:
    """Solve without the benchmark's own explanation."""
    return solve(Universe(made).task(WHOLE)[0])


def check(made: Instance) -> str:
    """Solve an instance, check the answer against the truth, and tell what it was."""
    truth, times = Truth(made), list[float]()
    answer = path_of(Universe(made), WHOLE, times)
    best = truth.optimum()
    if answer["status"] == "infeasible":
        assert best is None, f"refused, although a path of cost {best} exists"
        assert is_minimal_conflict(made, answer["conflict"]), answer["conflict"]
        return "infeasible"
    assert best is not None, "a path where none can be"
    cost, states = truth.replay(answer["steps"])
    assert cost == tuple(answer["cost"]) == best
    assert all(truth.allowed(s) for s in states)
    assert truth.ends(states[-1])
    return "path" if answer["steps"] else "empty"


@settings(QUICK, max_examples=150)
@given(universes())
def test_costs_states_and_refusals_are_those_of_plain_dijkstra(made: Instance) -> None:
    """Cost equal, every state allowed, refused exactly when there is none, and for minimal reasons."""
    check(made)


def test_random_universes_have_paths_refusals_and_nothing_to_do() -> None:
    """The generator above reaches every kind of answer; otherwise its test would show little."""
    answers: Counter[str] = Counter()

    @settings(QUICK, max_examples=100, database=None, derandomize=True)
    @given(universes())
    def count(made: Instance) -> None:
        best = Truth(made).optimum()
        answers["none" if best is None else "empty" if not best[2] else "one" if best[2] == 1 else "several"] += 1

    count()
    assert min(answers[k] for k in ("none", "empty", "one", "several")) >= 5, answers


@settings(QUICK, max_examples=100)
@given(SEEDS)
def test_tangled_universes_agree_with_plain_dijkstra(seed: int) -> None:
    """Many rules, goals away from the start."""
    check(tangled(seed))


def test_tangled_universes_have_long_paths_and_refusals() -> None:
    """Drawn from fixed seeds: many have several steps, some have none."""
    best = [Truth(tangled(seed)).optimum() for seed in range(100)]
    assert sum(b is not None and b[2] > 2 for b in best) > 20
    assert sum(b is None for b in best) > 10


def test_constraints_between_tables_that_are_never_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables of single clusters: the search over whole states checks every rule, and still finds the cheapest path."""
    monkeypatch.setattr("planner.search.core.solve.ROUNDS", ((1, 0),))
    for seed in range(300):
        made = tangled(seed)
        answer, best = found(made), Truth(made).optimum()
        assert (None if isinstance(answer, NoPath) else unpack(answer.cost, 5)) == best, seed


@settings(QUICK, max_examples=120)
@given(st.one_of(universes(), SEEDS.map(tangled), SEEDS.map(tangled)), st.sampled_from([1, 2, 5, 20]))
def test_the_size_of_tables_never_changes_the_answer(made: Instance, rows: int) -> None:
    """Tables that hold next to nothing only make the search longer."""
    usual = found(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("planner.search.core.solve.ROUNDS", ((rows, 0),))
        small = found(made)
    assert isinstance(usual, NoPath) == isinstance(small, NoPath)
    if isinstance(usual, Solution) and isinstance(small, Solution):
        assert usual.cost == small.cost
        assert Truth(made).optimum() == unpack(small.cost, 5)


@settings(QUICK, max_examples=30)
@given(universes())
def test_a_round_that_is_given_up_is_followed_by_a_larger_one(made: Instance) -> None:
    """A bound of one state ends the first rounds at once; the answer stays."""
    usual = found(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("planner.search.core.solve.ROUNDS", ((1, 1), (2, 2), ROUNDS[-1]))
        later = found(made)
    assert isinstance(usual, NoPath) == isinstance(later, NoPath)
    if isinstance(usual, Solution) and isinstance(later, Solution):
        assert usual.cost == later.cost


@settings(QUICK, max_examples=50)
@given(universes())
def test_the_variables_of_a_refusal_are_enough_to_prove_it(made: Instance) -> None:
    """The constraints that speak of these kinds alone leave no path."""
    universe = Universe(made)
    task, names = universe.task(WHOLE)
    answer = solve(task)
    if isinstance(answer, NoPath):
        own = {names[v] for v in answer.variables}
        local = {c for c in universe.constraints(WHOLE) if c.partition(":")[2] in own and not c.startswith("rule:")}
        kept = frozenset(local | universe.rules_within(WHOLE, own))
        assert Truth(made, kept).optimum() is None


@settings(QUICK, max_examples=40)
@given(universes(), st.randoms(use_true_random=False))
def test_any_part_of_the_constraints_is_judged_like_dijkstra_does(made: Instance, chance: random.Random) -> None:
    """The oracle behind minimal conflicts, asked about random subsets."""
    universe = Universe(made)
    names = universe.constraints(WHOLE)
    for share in (0.3, 0.6, 0.9):
        kept = frozenset(n for n in names if chance.random() < share)
        assert universe.feasible(WHOLE, kept) == (Truth(made, kept).optimum() is not None), sorted(kept)


# --- minimal conflicts by themselves ---------------------------------------------------------------------------------


@st.composite
def oracles(draw: Any) -> tuple[list[str], list[frozenset[str]]]:
    """Return constraints, and the sets of them that are infeasible together with everything that holds them."""
    names = [f"c{i}" for i in range(draw(st.integers(1, 12)))]
    reasons = draw(st.lists(st.frozensets(st.sampled_from(names), min_size=1, max_size=5), min_size=1, max_size=4))
    return draw(st.permutations(names)), reasons


@settings(QUICK, max_examples=400)
@given(oracles())
def test_a_conflict_is_one_of_the_minimal_reasons_and_the_earliest(given_: tuple[list[str], list[frozenset[str]]]
                                                                   ) -> None:
    """For any monotone oracle; asked few times; the constraints stand in their order."""
    names, reasons = given_
    asked: list[frozenset[str]] = []

    def infeasible(kept: frozenset[str]) -> bool:
        asked.append(kept)
        return any(reason <= kept for reason in reasons)

    core = minimal_conflict(names, infeasible)
    assert frozenset(core) in {r for r in reasons if not any(other < r for other in reasons)}
    assert core == [n for n in names if n in core]
    size, total = len(core), len(names)
    assert len(asked) <= 2 * size * (1 + max(0, (total - 1).bit_length())) + 2
    # Of several reasons: the one whose last constraint stands earliest, then the one before it, and so on.
    ranked = min(sorted((names.index(n) for n in r), reverse=True) for r in reasons)
    assert [names.index(n) for n in reversed(core)] == ranked


def test_no_constraint_at_all_is_to_blame_where_nothing_helps() -> None:
    """An oracle that never sees a path: dropping constraints cannot help."""
    assert minimal_conflict(["a", "b"], lambda kept: True) == []
