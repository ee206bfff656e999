"""The validator against plans that are wrong in one place, and against a search that has been broken on purpose."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from planner.check.evaluate import judge_state
from planner.check.verdict import Verdict
from planner.cli.inputs import load_facts, load_rules, load_target
from planner.cli.plan import build_plan
from planner.cli.raw import raw_matrices
from planner.errors import BundleError, NoPathError
from planner.facts.schema import FactDocument
from planner.matrix.index import MatrixSet
from planner.model.target import Target
from planner.schedule.plan import Cohort, Plan, Step
from planner.search import compile as compiler
from planner.search import moves
from planner.validate import replay
from planner.validate.rules import Rules
from tests.validate.mutations import mutants

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ("01-two-generations", "02-one-node", "04-dnf")
REFUSED = ROOT / "examples" / "03-refused"

# Mutations that leave a plan as safe as it was, and why. Swaps are judged one by one (see below).
HARMLESS = {
    r"with another title": "a line for people",
    r"(toolkit|cudnn|nccl) with the other gate": "a gate more than needed, behind a step that does not reboot",
    r"goal without": "components that the goal says are not there: left out or absent is one state to the replay",
    r"needless point of no return": "more careful than need be",
}
# Mutations that only the nodes' repositories could tell from the truth; the validator reads plan, target and matrices.
BEYOND = {
    r"point of no return not told": "whether the old packages can still be had is known to the repositories alone",
    r"with other versions of packages": "which packages make a version is known to the repositories alone",
}


@cache
def shared_rules() -> Rules:
    """Return the shipped rules as the validator reads them; they remember what they judged."""
    return Rules(raw_matrices(()))


@cache
def shipped() -> MatrixSet:
    """Return the shipped rules as the search reads them."""
    return load_rules(())


def violations(plan: Plan, target: Target) -> tuple[str, ...]:
    """Return what the validator says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replay, "Rules", lambda _: shared_rules())
        return replay.validate_plan(plan, target, ())


@cache
def example(name: str) -> tuple[FactDocument, Target, Plan]:
    """Return an example's facts and target, and the plan they make."""
    folder = ROOT / "examples" / name
    document, target = load_facts(folder / "facts.json"), load_target(folder / "target.yml")
    return document, target, build_plan(document, target, (), inventory=document.inventory)


@cache
def survivors(name: str) -> tuple[tuple[str, Plan], ...]:
    """Return the mutants of an example that the validator takes for valid."""
    _, target, plan = example(name)
    return tuple((label, mutant) for label, mutant in mutants(plan) if not violations(mutant, target))


def _plain(label: str) -> str:
    return label.rpartition(" (")[0]


def _listed(label: str, patterns: Mapping[str, str]) -> bool:
    return any(re.search(p, label) for p in patterns)


@pytest.mark.parametrize("name", EXAMPLES)
def test_plans_are_valid_before_anything_is_changed(name: str) -> None:
    """Otherwise rejecting mutants would show nothing."""
    _, target, plan = example(name)
    assert violations(plan, target) == ()


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_mutant_is_rejected_but_for_those_that_are_listed(name: str) -> None:
    """Most are; what survives is harmless for a reason, or a known gap, or a swap that the rules leave open."""
    assert len(list(mutants(example(name)[2]))) > 150
    left = [label for label, _ in survivors(name)]
    unknown = [label for label in left if not _listed(_plain(label), {**HARMLESS, **BEYOND})]
    assert [label for label in unknown if not _plain(label).endswith("swapped")] == []


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("back", [False, True], ids=["forth", "back"])
def test_swapped_steps_are_rejected_exactly_when_the_other_judge_finds_a_state_worse(name: str, back: bool) -> None:
    """The compiled rules, which the validator does not use, say for each swap whether it is safe."""
    _, target, plan = example(name)
    verdicts = {}
    for label, mutant in mutants(plan):
        if label.startswith("way back") == back and _plain(label).endswith("swapped"):
            (cohort,) = (c for c in mutant.cohorts if label.endswith(f"({c.id})"))
            verdicts[label] = (_safe(cohort, back=back), _links_come_last(cohort), not violations(mutant, target))
    assert {safe for safe, _, _ in verdicts.values()} == {True, False}
    assert [label for label, (safe, linked, valid) in verdicts.items() if (safe and linked) != valid] == []


def _safe(cohort: Cohort, *, back: bool) -> bool:
    """Tell whether every state on a path is as good as the start, by the compiled rules."""
    state = {k: tuple(v) for k, v in (cohort.goal if back else cohort.start).items()}
    allowed = _bad(cohort.start)
    for step in cohort.way_back if back else cohort.steps:
        state = _after(state, step)
        if not _bad(state) <= allowed:
            return False
    return True


def _links_come_last(cohort: Cohort) -> bool:
    """Tell whether no step that has the say over the default link follows the one that sets it."""
    return not any(step.links and {c.component for c in step.changes} & {c.component for s in cohort.steps[at:]
                                                                         for c in s.changes}
                   for at, step in enumerate(cohort.steps, start=1))


def _after(state: Mapping[str, tuple[str, ...]], step: Step) -> dict[str, tuple[str, ...]]:
    after = {k: set(v) for k, v in state.items()}
    for change in step.changes:
        after[change.component] = after.get(change.component, set()) - {change.from_} | ({change.to} - {""})
    return {k: tuple(sorted(v)) for k, v in after.items()}


def _bad(state: Mapping[str, tuple[str, ...]]) -> set[object]:
    return {j.key for j in judge_state(state, shipped()) if j.blocking and j.verdict is not Verdict.SUPPORTED}


# --- a search that is broken on purpose ------------------------------------------------------------------------------


def plan_again(name: str, target: Path | None = None) -> Plan:
    """Plan an example anew."""
    folder = ROOT / "examples" / name
    document = load_facts(folder / "facts.json")
    return build_plan(document, load_target(target or folder / "target.yml"), (), inventory=document.inventory)


TOO_NEW = REFUSED / "v100-to-cuda13.yml"


def test_a_search_that_ignores_the_rules_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is out of reach gets a path; nothing is sealed."""
    with pytest.raises(NoPathError):
        plan_again("01-two-generations", TOO_NEW)
    monkeypatch.setattr(compiler._Rules, "blocks", lambda *_: False)
    monkeypatch.setattr(compiler._Rules, "blocks_goal", lambda *_: False)
    with pytest.raises(BundleError) as caught:
        plan_again("01-two-generations", TOO_NEW)
    assert caught.value.diagnostics[0].code == "plan-not-valid"
    assert any("is broken" in line for line in caught.value.diagnostics[0].why)


def test_a_search_that_takes_every_problem_for_an_inherited_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """As good as no rules at all on the way; at the goal they still count."""
    monkeypatch.setattr(compiler._View, "counts", lambda *_: False)
    with pytest.raises(BundleError, match="validator"):
        plan_again("01-two-generations", TOO_NEW)


def test_a_search_that_drops_the_constraints_of_one_component_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that read side-by-side toolkits are lost, all others count."""
    original = compiler._Rules.blocks_goal
    monkeypatch.setattr(compiler._Rules, "blocks", lambda self, v: "cuda_toolkits" not in self.names
                        and any(j.key not in self.view.inherited for j in self._open(v)))
    monkeypatch.setattr(compiler._Rules, "blocks_goal",
                        lambda self, v: "cuda_toolkits" not in self.names and original(self, v))
    with pytest.raises(BundleError, match="validator"):
        plan_again("01-two-generations", TOO_NEW)


def test_a_search_that_leaves_companions_behind_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver moves without its fabric manager; the rules that would object are lost, too."""
    monkeypatch.setattr(compiler._Rules, "blocks", lambda *_: False)
    monkeypatch.setattr(compiler._Rules, "blocks_goal", lambda *_: False)
    monkeypatch.setattr(moves, "_follow", lambda *_: iter([()]))
    with pytest.raises(BundleError) as caught:
        plan_again("04-dnf")
    assert any("fabric" in line for line in caught.value.diagnostics[0].why)


def test_a_search_that_forgets_a_goal_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every value seems good enough: nothing is done, and the target is not reached."""
    monkeypatch.setattr(compiler, "_met_by", lambda goal: lambda _: True)
    with pytest.raises(BundleError) as caught:
        plan_again("02-one-node")
    assert any("is not reached" in line or "is missing" in line for line in caught.value.diagnostics[0].why)


def test_a_search_that_is_wrong_about_what_a_step_leaves_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a side-by-side version that comes for the only one that is there."""
    original = compiler.applied

    def only_the_new(state: Any, changes: Any, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
        after = original(state, changes, matrices)
        return {**after, **{c: (new,) for c, _, new in changes if new}}

    monkeypatch.setattr(compiler, "applied", only_the_new)
    with pytest.raises(BundleError, match="validator"):
        plan_again("02-one-node")


def _costs() -> Iterator[tuple[str, dict[str, int]]]:
    yield "all alike", {"reboots": 0, "steps": 1, "minutes": 0, "age": 0}
    yield "nothing at all", {"reboots": 0, "steps": 0, "minutes": 0, "age": 0}


@pytest.mark.parametrize("cost", [c for _, c in _costs()], ids=[n for n, _ in _costs()])
def test_wrong_costs_make_dearer_plans_but_never_unsafe_ones(cost: dict[str, int], monkeypatch: pytest.MonkeyPatch
                                                             ) -> None:
    """Safety does not hang on costs: that they are wrong is all that the validator has to say."""
    monkeypatch.setattr(compiler, "cost_of", lambda *_: dict(cost))
    for name in EXAMPLES:
        with pytest.raises(BundleError) as caught:
            plan_again(name)
        why = caught.value.diagnostics[0].why
        assert why
        assert [line for line in why if "its cost in " not in line] == []
