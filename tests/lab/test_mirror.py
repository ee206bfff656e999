"""What stands in for whom in a rehearsal, and when a rehearsal has passed. No lab is needed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.cli.inputs import load_facts, load_target
from planner.cli.plan import build_plan
from planner.data import data_dir
from planner.emit.assets import load_assets
from planner.emit.fences import FENCE_FILE
from planner.emit.render import render_bundle
from planner.errors import BundleError
from planner.lab.mirror import choose_nodes, mirror_plan, stand_in_packages
from planner.lab.rehearsal import (
    SIMULATED,
    STAND_INS,
    Rehearsal,
    RehearsedNode,
    as_document,
    as_markdown,
    assets_of,
    lab_names,
    missed_goals,
    specs_for,
)
from planner.schedule.assemble import finish
from planner.schedule.plan import Plan


@pytest.fixture(scope="module")
def plan() -> Plan:
    example = data_dir("examples") / "01-two-generations"
    return build_plan(load_facts(example / "facts.json"), load_target(example / "target.yml"), (), inventory="x")


def kinds(plan: Plan, chosen: tuple[str, ...]) -> set[str]:
    return {wave.kind for wave in plan.waves for batch in wave.batches if set(batch.nodes) & set(chosen)}


def test_every_cohort_is_mirrored_even_when_it_is_more_than_asked(plan: Plan) -> None:
    for most in (1, 5, 8):
        chosen = set(choose_nodes(plan, most))
        assert all(chosen & set(cohort.nodes) for cohort in plan.cohorts if cohort.steps)


def test_one_node_more_than_cohorts_meets_what_comes_after_the_approval(plan: Plan) -> None:
    cohorts = sum(bool(c.steps) for c in plan.cohorts)
    assert kinds(plan, choose_nodes(plan, cohorts + 1)) == {"canary", "batch"}
    assert kinds(plan, choose_nodes(plan, cohorts + 2)) == {"staging", "canary", "batch"}
    assert len(choose_nodes(plan, cohorts + 2)) == cohorts + 2


def test_a_mirrored_plan_differs_only_in_nodes_pins_and_waits(plan: Plan) -> None:
    chosen = choose_nodes(plan, 6)
    names = lab_names(chosen)
    made = mirror_plan(plan, chosen, {name: f"{i:032x}" for i, name in enumerate(names)}).plan
    before = {c.id: c for c in plan.cohorts}
    for cohort in made.cohorts:
        assert set(cohort.nodes) <= set(names)
        for ours, theirs in zip(cohort.steps, before[cohort.id].steps, strict=True):
            assert ours.model_copy(update={"packages": theirs.packages}) == theirs
            assert ours.packages.remove == theirs.packages.remove
            assert ours.packages.brings == theirs.packages.brings
            assert ours.packages.install == {n: v + "+standin" for n, v in theirs.packages.install.items()}
    assert all(wave.soak_minutes == 0 for wave in made.waves)
    offered = {pair for pairs in stand_in_packages(made).values() for pair in pairs}
    assert {pair for c in made.cohorts for s in c.steps for pair in s.packages.install.items()} <= offered


def test_lab_nodes_start_where_the_plans_nodes_start(plan: Plan) -> None:
    names = lab_names(choose_nodes(plan, 6))
    for spec in specs_for(plan, names):
        cohort = next(c for c in plan.cohorts if names[spec.name] in c.nodes)
        assert spec.gpus == len(cohort.gpu_names)
        assert spec.kernel == cohort.start["kernel"][0]
        assert spec.nvswitch == (cohort.start["nvswitch"] == ("yes",))
        assert set(spec.packages) == set(cohort.installed)


def test_the_bundles_own_files_are_taken_and_changed_plays_are_refused(plan: Plan) -> None:
    assets = load_assets()
    files = render_bundle(plan, assets)
    assert assets_of(files, plan) == dict(assets)
    play = next(name for name in files if name.startswith("plays/"))
    with pytest.raises(BundleError, match="not what plan"):
        assets_of({**files, play: files[play] + b"# edited\n"}, plan)
    with pytest.raises(BundleError, match="not what plan"):
        assets_of({**files, "plays/w9-extra.yml": b"---\n"}, plan)


def test_a_mirrored_plan_renders_with_the_bundles_roles_unchanged(plan: Plan) -> None:
    chosen = choose_nodes(plan, 6)
    made = mirror_plan(plan, chosen, {name: f"{i:032x}" for i, name in enumerate(lab_names(chosen))}).plan
    assets = load_assets()
    rendered = render_bundle(finish(made, made.seal), assets)
    assert {name: rendered[name] for name in assets} == dict(assets)
    # The plan's domains carry marks of a scheduler; lab nodes have none.
    assert FENCE_FILE in render_bundle(plan, assets)
    assert FENCE_FILE not in rendered
    assert not any(b"fence" in rendered[w.play] for w in made.waves)


def test_a_goal_that_was_missed_is_told(plan: Plan) -> None:
    cohort = next(c for c in plan.cohorts if c.steps)
    reached = {**cohort.goal, "loaded_driver": cohort.goal["driver"]}
    assert missed_goals(cohort, reached) == ()
    assert "driver is 1.2.3, planned" in missed_goals(cohort, {**reached, "driver": ("1.2.3",)})[0]
    assert "loaded_driver is 1.2.3" in missed_goals(cohort, {**reached, "loaded_driver": ("1.2.3",)})[0]
    assert missed_goals(cohort, {})


NODE = RehearsedNode(name="r01", stands_for="a", cohort="c", state="done", verdict="pass", boots=1)
GOOD = Rehearsal(plan="p", digest="d", simulated=False, exit_codes=(("planner apply", 0),), nodes=(NODE,))


@pytest.mark.parametrize("bad", [
    replace(GOOD, nodes=()), replace(GOOD, trouble=("halted",)), replace(GOOD, nodes=(replace(NODE, state="failed"),)),
    replace(GOOD, nodes=(NODE, replace(NODE, missed=("driver is x",)))),
])
def test_a_rehearsal_passes_only_when_everything_ended_well(bad: Rehearsal) -> None:
    assert GOOD.passed
    assert not bad.passed
    assert "FAILED" in as_markdown(bad)
    assert as_document(bad)["passed"] is False


def test_a_report_says_what_it_proves() -> None:
    assert STAND_INS in as_markdown(GOOD)
    simulated = as_markdown(replace(GOOD, simulated=True))
    assert SIMULATED in simulated
    assert STAND_INS not in simulated


def test_a_simulated_rehearsal_says_so(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from planner.cli.main import invoke
    from planner.emit.write import write_bundle

    write_bundle(render_bundle(plan, load_assets()), tmp_path / "bundle")
    assert invoke(["rehearse", str(tmp_path / "bundle"), "--simulate", "1"]) == 0
    told = capsys.readouterr()
    assert SIMULATED in told.out
    assert STAND_INS not in told.out
    assert SIMULATED in (tmp_path / "bundle/records/rehearsal/report.md").read_text()
