"""What must hold of the search whatever the rules say: fewer rules, fewer versions, another order, half a plan."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from planner.check.judge import judgements_of
from planner.check.verdict import Verdict
from planner.cli.inputs import load_facts, load_target
from planner.cli.plan import build_plan
from planner.cli.raw import raw_matrices
from planner.documents import dump_model
from planner.facts.schema import FactDocument
from planner.matrix.index import MatrixSet
from planner.model.target import Target
from planner.schedule import cohorts
from planner.schedule.plan import Plan
from planner.search.explain import explain_refusal
from planner.search.path import find_path
from planner.search.problem import COST_ORDER, Path, Problem
from planner.validate.rules import Rules
from tests.search.worlds import claim, matrices, problem, raw

pytestmark = pytest.mark.property
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ROOT = File(__file__).resolve().parents[2]
NAMES = ("base", "engine", "twin", "tools", "lib")
COMPARED = COST_ORDER[:5]       # what follows compares versions by their place among those that are offered
CONDITIONS = st.one_of(st.sampled_from(["1", "2", ">=2", "<3", "1 | 3", "present", "absent", "!=2"]),
                       st.lists(st.sampled_from(["1", "3", "absent"]), min_size=1, max_size=2))


@st.composite
def rules(draw: Any, families: tuple[str, ...] = ("open",)) -> list[dict[str, Any]]:
    """Return a few claims; some carry a risk's name."""
    made = []
    for number in range(draw(st.integers(1, 6))):
        if_ = draw(st.dictionaries(st.sampled_from(NAMES), CONDITIONS, min_size=1, max_size=2))
        then = draw(st.dictionaries(st.sampled_from(NAMES), CONDITIONS, max_size=1))
        more = {"risk": f"risk-{number}"} if draw(st.booleans()) else {}
        more["family"] = draw(st.sampled_from(families))
        made.append(claim(f"rule-{number}", if_, then, forbids=not then, **more))
    return made


@st.composite
def problems(draw: Any) -> Problem:
    """Return a start, goals for some components, and versions on offer."""
    start = {n: draw(st.sampled_from([("1",), ("2",), ()])) for n in ("base", "engine", "lib")}
    start["twin"] = draw(st.sampled_from([start["engine"], ()]))
    start["tools"] = tuple(sorted(draw(st.sets(st.sampled_from("12")))))
    offered = {n: tuple(sorted(draw(st.sets(st.sampled_from("123"), min_size=1)), reverse=True)) for n in NAMES}
    goals: dict[str, Any] = {n: draw(st.sampled_from(["1", "2", "3", ">=2"]))
                             for n in sorted(draw(st.sets(st.sampled_from(["base", "engine", "lib"]), min_size=1)))}
    if draw(st.booleans()):
        goals["tools"] = draw(st.sampled_from([{"present": ("2",)}, {"present": ("3",), "absent": ("1",)},
                                               {"absent": ("1", "2")}, {"present": ("1", "3")}]))
    accepted = draw(st.frozensets(st.sampled_from(["risk-0", "risk-1", "rule-2"])))
    return problem(start, goals, offered, accepted=accepted)


SHUT = ({"name": "shut", "title": "shut", "closed": True, "over": "engine", "against": "lib"},)


def cost(path: Path | None, fields: tuple[str, ...] = COMPARED) -> tuple[float, ...]:
    """Return what a path costs; no path costs more than any."""
    return tuple(path.cost.get(f, 0) for f in fields) if path else (float("inf"),)


def told(path: Path | None) -> str:
    """Return everything about a path as text."""
    return json.dumps(path and [[[t.move, t.changes, dict(t.cost)] for t in path.transitions],
                                [dict(s) for s in path.states], dict(path.cost)], sort_keys=True)


# --- fewer rules, fewer releases ---------------------------------------------------------------------------------


NO_TWIN = problem({"base": ("1",), "engine": ("1",), "lib": ("1",), "twin": (), "tools": ()}, {"base": "3"},
                  {"base": ("3",), "engine": ("2", "1"), "twin": ("2", "1"), "tools": ("1",), "lib": ("1",)})


@example([claim("rule-0", {"twin": ["absent"], "base": ["3"]}, forbids=True),
          claim("rule-1", {"twin": ["absent"]}, forbids=True)], NO_TWIN)
@settings(QUICK, max_examples=80)
@given(rules(), problems())
def test_removing_a_rule_never_removes_a_path_nor_makes_it_dearer(claims: list[dict[str, Any]], task: Problem) -> None:
    """Each rule in turn, all fields of the cost."""
    whole = cost(find_path(task, matrices(raw(claims))), COST_ORDER)
    for out in range(len(claims)):
        assert cost(find_path(task, matrices(raw(claims[:out] + claims[out + 1:]))), COST_ORDER) <= whole


def test_removing_a_lockstep_group_never_removes_a_path_where_its_members_are_there() -> None:
    """The companion may follow or go its own way."""
    start = dict.fromkeys(NAMES, ("1",))
    document = raw()
    for offered in (("3",), ("3", "2", "1")):
        task = problem(start, {"engine": "3"}, {"engine": offered, "twin": offered})
        assert find_path(task, matrices(document)) is not None
        assert find_path(task, matrices({**document, "lockstep": []})) is not None


def test_removing_a_lockstep_group_never_removes_a_path() -> None:
    """An absent companion stays absent, whether or not anything ties it."""
    task = problem({**dict.fromkeys(NAMES, ("1",)), "twin": ()}, {"engine": "3"}, {"engine": ("3",)})
    assert find_path(task, matrices(raw())) is not None
    assert find_path(task, matrices({**raw(), "lockstep": []})) is not None


@settings(QUICK, max_examples=60)
@given(rules(("open", "shut")), problems())
def test_opening_a_closed_family_never_removes_a_path(claims: list[dict[str, Any]], task: Problem) -> None:
    """What was not covered by any claim is no obstacle any more."""
    opened = [{**SHUT[0], "closed": False}]
    shut = cost(find_path(task, matrices(raw(claims, families=SHUT))), COST_ORDER)
    assert cost(find_path(task, matrices(raw(claims, families=opened))), COST_ORDER) <= shut


@settings(QUICK, max_examples=80)
@given(rules(("open", "shut")), problems())
def test_removing_a_release_never_creates_a_path_nor_makes_it_cheaper(claims: list[dict[str, Any]], task: Problem
                                                                      ) -> None:
    """Each version of each component in turn."""
    world = matrices(raw(claims, families=SHUT))
    whole = cost(find_path(task, world))
    for name, versions in task.candidates.items():
        for out in versions:
            fewer = {**task.candidates, name: tuple(v for v in versions if v != out)}
            assert cost(find_path(replace(task, candidates=fewer), world)) >= whole


@settings(QUICK, max_examples=60)
@given(rules(("open", "shut")), problems())
def test_dropping_a_goal_or_accepting_a_risk_never_removes_a_path(claims: list[dict[str, Any]], task: Problem) -> None:
    """Asking for less, and standing more, leaves at least as many ways.

    Except that versions side by side come only where they are asked for, also where one would mend the start.
    """
    world = matrices(raw(claims, families=SHUT))
    if find_path(task, world) is None:
        return
    wrong = any(j.blocking and j.verdict is not Verdict.SUPPORTED for j in judgements_of(task.start, world))
    for name in [n for n in task.goals if n != "tools" or not wrong]:
        rest = {n: g for n, g in task.goals.items() if n != name}
        assert find_path(replace(task, goals=rest), world) is not None
    assert find_path(replace(task, accepted=task.accepted | {"rule-0", "rule-1", "shut"}), world) is not None


# --- another order -------------------------------------------------------------------------------------------------


def turned(values: Mapping[str, Any], by: int) -> dict[str, Any]:
    """Return the same mapping with its keys in another order."""
    items = list(values.items())
    return dict([*items[by % len(items):], *items[:by % len(items)]][::-1 if by % 2 else 1]) if items else {}


@settings(QUICK, max_examples=80)
@given(rules(("open", "shut")), problems(), st.integers(0, 9))
def test_the_order_of_dictionaries_and_claims_means_nothing(claims: list[dict[str, Any]], task: Problem, by: int
                                                            ) -> None:
    """The same path to the last field, and the same refusal; goals are sorted by those who ask."""
    other = replace(task, start=turned(task.start, by), candidates=turned(task.candidates, by + 1),
                    accepted=frozenset(sorted(task.accepted, reverse=True)))
    at = by % len(claims)
    one, two = (matrices(raw(c, families=SHUT)) for c in (claims, [*claims[at:], *claims[:at]]))
    path = find_path(task, one)
    assert told(path) == told(find_path(replace(other, goals=turned(task.goals, by)), two))
    if path is None:
        assert explain_refusal(task, one) == explain_refusal(other, two)


SEEDS = ("0", "1", "1234")
SHUFFLED = """
import hashlib, random, sys
from pathlib import Path
from planner.cli.inputs import load_facts, load_target
from planner.cli.plan import build_plan
from planner.documents import canonical_json, dump_model
from planner.errors import PlannerError
from planner.facts.schema import FactDocument
from planner.model.target import Target

chance = random.Random(int(sys.argv[1]))

def shuffled(value):
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {k: shuffled(value[k]) for k in keys}
    return [shuffled(v) for v in value] if isinstance(value, list) else value

def said(facts, target):
    document = FactDocument.model_validate(facts)
    try:
        plan = dump_model(build_plan(document, target, (), inventory=document.inventory))
    except PlannerError as exc:
        return {"refused": str(exc.diagnostics)}
    return plan

for path in sys.argv[2:]:
    facts = shuffled(dump_model(load_facts(Path("examples/01-two-generations/facts.json"))))
    target = Target.model_validate(shuffled(dump_model(load_target(Path(path)))))
    plans = [said(facts, target)]
    chance.shuffle(facts["nodes"])
    plans.append(said(facts, target))
    without = {**plans[1], "inputs": {**plans[1].get("inputs", {}), "facts": ""}, "seal": "", "digest": ""}
    for plan in (*plans, without):
        print(hashlib.sha256(str(canonical_json(plan)).encode()).hexdigest())
"""


@cache
def shuffled_plans() -> tuple[tuple[str, ...], ...]:
    """Return, for each seed, the digests of what planner says of a fleet and of a refusal, inputs shuffled."""
    targets = ("examples/01-two-generations/target.yml", "examples/03-refused/v100-to-cuda13.yml")
    said = []
    for seed in SEEDS:
        run = subprocess.run([sys.executable, "-c", SHUFFLED, seed, *targets], cwd=ROOT, timeout=300, check=False,
                             env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        said.append(tuple(run.stdout.split()))
    return tuple(said)


def test_shuffled_mappings_give_the_same_bytes_over_processes_and_hash_seeds() -> None:
    """Keys have no order that means something, neither in facts nor in targets."""
    assert len({(plan, refusal) for plan, _, _, refusal, _, _ in shuffled_plans()}) == 1


def test_shuffled_nodes_give_the_same_plan_over_processes_and_hash_seeds() -> None:
    """Everything but the digests: those of the facts are over their bytes."""
    assert len({(without, refusal) for _, _, without, _, refusal, _ in shuffled_plans()}) == 1


def test_shuffled_nodes_give_the_same_bytes() -> None:
    """The digests, too."""
    assert len({nodes for _, nodes, _, _, _, _ in shuffled_plans()}) == 1


# --- half a plan -------------------------------------------------------------------------------------------------


@settings(QUICK, max_examples=80)
@given(rules(("open", "shut")), problems())
def test_every_prefix_leaves_a_state_no_worse_than_the_start(claims: list[dict[str, Any]], task: Problem) -> None:
    """By the validator's own rules; at the end nothing is broken that nobody has accepted."""
    document = raw(claims, families=SHUT)
    path = find_path(task, matrices(document))
    if path is None:
        return
    judge = Rules([("test.yml", document)])
    broken = [{b for b in judge.broken(s) if not judge.names_of(b[0]) & task.accepted} for s in path.states]
    assert path.states[0] == task.start
    assert all(worse <= broken[0] for worse in broken)
    assert not broken[-1]


@cache
def worked(name: str) -> tuple[Plan, tuple[tuple[Problem, MatrixSet, Path | None], ...]]:
    """Return the plan of an example and every search that was made for it."""
    folder, seen = ROOT / "examples" / name, []
    document = load_facts(folder / "facts.json")

    def spied(task: Problem, world: MatrixSet) -> Path | None:
        path = find_path(task, world)
        seen.append((task, world, path))
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cohorts, "find_path", spied)
        made = build_plan(document, load_target(folder / "target.yml"), (), inventory=document.inventory)
    return made, tuple(seen)


EXAMPLES = ("01-two-generations", "02-one-node", "04-dnf")


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_prefix_of_an_example_leaves_nodes_no_worse(name: str) -> None:
    """Steps forth and back, with the shipped matrices, state by state as the plan's own changes make them."""
    made, _ = worked(name)
    judge, steps = Rules(raw_matrices(())), 0
    accepted = {a.risk for a in made.accepted}
    for cohort in made.cohorts:
        state = {k: set(v) for k, v in cohort.start.items()}
        start = judge.broken({k: tuple(v) for k, v in state.items()})
        for step in (*cohort.steps, *cohort.way_back):
            for change in step.changes:
                state[change.component] = state.get(change.component, set()) - {change.from_} | (
                    {change.to} if change.to else set())
            worse = judge.broken({k: tuple(sorted(v)) for k, v in state.items()}) - start
            assert not {b for b in worse if not judge.names_of(b[0]) & accepted}, (cohort.id, step.id)
            steps += 1
    assert steps


@pytest.mark.parametrize("name", EXAMPLES)
def test_with_the_shipped_matrices_fewer_rules_and_fewer_releases_behave(name: str) -> None:
    """One path of each example: every rule that speaks of what moves, and every version on offer, left out in turn."""
    _, searches = worked(name)
    task, world, path = next((s for s in searches if s[2] is not None and s[2].transitions), searches[0])
    assert path is not None
    near = {j.rule for s in path.states for j in judgements_of(s, world)}
    left_out = [c.name for c in world.claims if c.name in near][:20]
    closed = {f.name for f in world.families.values() if f.closed}
    assert left_out
    for rule in left_out:
        fewer = replace(world, claims=tuple(c for c in world.claims if c.name != rule or c.family in closed))
        assert cost(find_path(task, fewer), COST_ORDER) <= cost(path, COST_ORDER), rule
    for component, versions in task.candidates.items():
        for version in versions:
            rest = {**task.candidates, component: tuple(v for v in versions if v != version)}
            assert cost(find_path(replace(task, candidates=rest), world)) >= cost(path), (component, version)


# --- releases in repositories ------------------------------------------------------------------------------------


def library_for_old_gpus(newer: int) -> tuple[str, ...]:
    """Return the library that Volta gets where the repositories have some versions that no longer support it."""
    facts = dump_model(load_facts(ROOT / "examples" / "01-two-generations" / "facts.json"))
    node = next(n for n in facts["nodes"] if n["declared"].get("pool") == "v100")
    stack = facts["fact_sets"][node["facts"]]
    for name, versions in stack["available"].items():
        if name.startswith("libcudnn"):
            old = [v for v in versions if not v.startswith("9.13.")]
            stack["available"][name] = [*(f"9.13.{n}.50-1" for n in reversed(range(newer))), *old]
    facts |= {"nodes": [node], "unreadable": [], "fact_sets": {node["facts"]: stack}}
    target = {"schema": "planner.target/1", "name": "t", "want": {
        "driver": "580.159.04", "cuda_toolkits": {"present": ["12.8"], "default": "12.8", "absent": ["11.*", "13.*"]},
        "cudnn": ">=9.10", "nccl": "2.28.9"}}
    made = build_plan(FactDocument.model_validate(facts), Target.model_validate(target), (), inventory="")
    (cohort,) = made.cohorts
    return cohort.goal["cudnn"]


@pytest.mark.parametrize("newer", [0, 1, 3, 11, 12, 40])
def test_newer_releases_in_the_repositories_never_hide_an_older_one_that_fits(newer: int) -> None:
    """Removing a release must not create a plan, so adding some must not remove one, however many there are."""
    assert library_for_old_gpus(newer) == ("9.10.2.21",)
