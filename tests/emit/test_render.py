"""The text of a bundle: byte for byte, and with hostile values kept data."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from planner.documents import digest
from planner.emit.expect import _dropped, expectations
from planner.emit.render import is_downgrade, render_bundle, rollout_id
from planner.emit.yaml_text import Unsafe, plain
from planner.errors import BundleError
from planner.schedule.plan import PHASES, Plan
from tests.emit.sample import ASSETS, DRIVER, document, finished

GOLDEN = Path(__file__).parent / "golden"


class Loader(yaml.SafeLoader):
    """Reads plays; keeps apart what is tagged unsafe."""


Loader.add_constructor("!unsafe", lambda loader, node: Unsafe(loader.construct_scalar(node)))  # type: ignore[arg-type]


def render(value: dict[str, Any]) -> dict[str, bytes]:
    return render_bundle(finished(value), ASSETS)


def plays(files: dict[str, bytes], path: str) -> Any:
    return yaml.load(files[path], Loader=Loader)  # derived from the safe loader


def test_the_bundle_is_the_golden_one_byte_for_byte(update_golden: bool) -> None:
    """Changes of what Ansible will be told are reviewed as differences of these files."""
    files = render(document())
    if update_golden:
        for name, content in files.items():
            (GOLDEN / name).parent.mkdir(parents=True, exist_ok=True)
            (GOLDEN / name).write_bytes(content)
    golden = {p.relative_to(GOLDEN).as_posix(): p.read_bytes() for p in GOLDEN.rglob("*") if p.is_file()}
    assert sorted(files) == sorted(golden)
    for name, content in files.items():
        assert content.decode() == golden[name].decode(), name


def test_the_manifest_names_every_other_file_with_its_digest() -> None:
    files = render(document())
    manifest = json.loads(files["MANIFEST.json"])
    assert manifest["files"] == {name: digest(content) for name, content in files.items() if name != "MANIFEST.json"}
    assert manifest["plan"] == json.loads(files["plan.json"])["digest"]


def test_no_step_comes_before_the_reboot_and_the_quick_gate_of_the_one_before() -> None:
    """The order of tasks in a play is the order on each node."""
    (play,) = plays(render(document()), "plays/w2-batch.yml")
    order = [(task["tags"][0], task["name"]) for task in play["tasks"]]
    assert [phase for phase, _ in order] == [
        "preflight", "prefetch", "drain", "baseline", "change", "reboot", "gate", "change", "gate", "undrain", "record"]
    assert {phase for phase, _ in order} == set(PHASES)
    assert [name for phase, name in order if phase == "gate"] == ["Step s1: quick gate", "Standard gate"]


def test_a_play_names_its_hosts_and_asks_for_its_predecessor() -> None:
    (play,) = plays(render(document()), "plays/w2-batch.yml")
    assert play["hosts"] == ["gpu02", "gpu03"]
    assert (play["vars"]["planner_predecessor"], play["vars"]["planner_predecessor_hosts"]) == ("w1", ["gpu01"])
    assert play["serial"] == 2
    assert "any_errors_fatal" not in play
    assert play["vars"]["planner_schedulers"] == {"gpu02": "slurm", "gpu03": "slurm"}


def test_another_plan_is_another_rollout() -> None:
    """Marks of an older plan under the same name must not speak for this one."""
    changed = document()
    changed["eta_minutes"] = 126
    assert rollout_id(finished(document())) != rollout_id(finished(changed))


def test_gates_expect_the_state_after_each_step() -> None:
    plan = finished(document())
    assert expectations(plan.cohorts[0]) == {
        "start": {"driver": "570.1", "fabric_manager": "570.1", "gpus": 8},
        "s1": {"driver": "580.2", "fabric_manager": "580.2", "gpus": 8},
        "s2": {"driver": "580.2", "fabric_manager": "580.2", "gpus": 8},
    }


def test_a_kernel_is_expected_from_the_step_on_that_moves_it() -> None:
    value = document()
    moving = {"component": "kernel", "from": "6.8.0-45-generic", "to": "6.8.0-100-generic"}
    value["cohorts"][0]["start"]["kernel"] = ["6.8.0-45-generic"]
    value["cohorts"][0]["steps"][0] = {**DRIVER, "changes": [*DRIVER["changes"], moving]}
    found = expectations(finished(value).cohorts[0])
    assert {name: wanted.get("kernel") for name, wanted in found.items()} == {
        "start": None, "s1": "6.8.0-100-generic", "s2": "6.8.0-100-generic"}
    (play,) = plays(render(value), "plays/w2-batch.yml")
    (reboot,) = [task for task in play["tasks"] if task["tags"] == ["reboot"]]
    assert reboot["vars"]["planner_reboot_kernel"] == (
        "{{ planner_expect[planner_steps[0].id].kernel | default('') }}")


def test_downgrades_are_told_apart() -> None:
    plan = finished(document())
    assert [is_downgrade(s) for s in (*plan.cohorts[0].steps, *plan.cohorts[0].way_back)] == [False, False, True]


def test_a_plan_without_seal_or_with_a_wrong_digest_is_not_written() -> None:
    plan = finished(document())
    for broken in (plan.model_copy(update={"seal": ""}), plan.model_copy(update={"name": "other"})):
        with pytest.raises(BundleError, match="no seal"):
            render_bundle(broken, ASSETS)


HOSTILE = ("{{ lookup('pipe', 'id') }}", "a:&b", "$(id)", "a b", "x,y", "!gpu01", "~.*", "all", "-x", "a\nb", "gpü")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_host_name_is_refused(name: str) -> None:
    """Ansible would take these for templates, patterns, groups or options."""
    text = json.dumps(document()).replace('"gpu02"', json.dumps(name))
    with pytest.raises(BundleError) as caught:
        render(json.loads(text))
    assert repr(name) in caught.value.diagnostics[0].subject


@pytest.mark.parametrize(("path", "value"), [
    (("packages", "install"), {"-oDpkg::Pre-Invoke::=id": "1"}),
    (("packages", "install"), {"libnccl2": "1; id"}),
    (("packages", "install"), {"libnccl2": "{{ 1 }}"}),
    (("packages", "remove"), ["x y"]),
    (("packages", "brings"), ["lib* x"]),
    (("packages", "brings"), ["*"]),
    (("packages", "brings"), ["-oAPT*"]),
    (("packages", "brings"), ["lib{{ 1 }}*"]),
    (("links",), {"/usr/local/cuda": "/usr/../etc/{{ x }}"}),
    (("links",), {"/usr/local/cuda": "/usr/local/../../etc"}),
    (("restarts",), ["--now"]),
    (("id",), "s1/../../x"),
])
def test_hostile_package_words_are_refused(path: tuple[str, ...], value: object) -> None:
    """A package manager, systemd or a path must not be talked into anything else."""
    changed = copy.deepcopy(document())
    step = copy.deepcopy(DRIVER)
    place: Any = step
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    changed["cohorts"][0]["steps"][0] = step
    with pytest.raises(BundleError, match="safely"):
        render(changed)


def test_texts_of_people_stay_data() -> None:
    """A title or a GPU name with a template in it is tagged unsafe in variables, and defused in names."""
    changed = copy.deepcopy(document())
    title = "evil {{ lookup('pipe','id') }}\n- hosts: all"
    changed["cohorts"][0]["steps"][0] = {**copy.deepcopy(DRIVER), "title": title}
    changed["cohorts"][0]["gpu"] = "8x {% raw %}"
    files = render(changed)
    (play,) = plays(files, "plays/w2-batch.yml")
    assert isinstance(play["vars"]["planner_steps"][0]["title"], Unsafe)
    names = [play["name"], *(task["name"] for task in play["tasks"])]
    assert not [name for name in names if "{" in name or "\n" in name]
    assert "Step s1: evil (( lookup('pipe','id') )) - hosts: all" in names


def test_the_review_shows_texts_as_they_are() -> None:
    """Markdown and Mermaid signs in texts of people do not break the tables and graphs of PLAN.md."""
    changed = copy.deepcopy(document())
    changed["cohorts"][0]["steps"][0] = {**copy.deepcopy(DRIVER), "title": 'a"] --> x | <b>`rm`</b>\n# head'}
    review = render(changed)["PLAN.md"].decode()
    assert '"a"]' not in review
    assert "<b>`" not in review
    assert "\n# head" not in review
    assert 'step1["s1: a#quot;] --#gt; x | #lt;b#gt;' in review


def test_names_are_made_plain() -> None:
    assert plain("step\t{{ x }} #1 %}") == "Step (( x )) _1 _)"


def test_cohorts_without_steps_have_no_play() -> None:
    """A node that is already there is touched by nobody."""
    files = render(document())
    assert not [name for name, content in files.items() if name.startswith("plays/") and b"gpu04" in content]


def test_the_same_plan_gives_the_same_bytes() -> None:
    plan = finished(document())
    again = Plan.model_validate_json(render_bundle(plan, ASSETS)["plan.json"])
    assert render_bundle(again, dict(reversed(ASSETS.items()))) == render_bundle(plan, ASSETS)


def test_long_lists_of_a_review_are_folded_and_nothing_of_them_is_lost() -> None:
    """Up to six notes stand open; more are behind their number, all of them."""
    for count in (6, 7):
        plan = copy.deepcopy(document())
        plan["cohorts"][0]["steps"][0]["notes"] = [f"note {n} of {count}" for n in range(count)]
        review = render(plan)["PLAN.md"].decode()
        assert review.count("- Crossed: note") == count
        assert ("<details><summary>7 release notes crossed</summary>\n\n- Crossed: note 0" in review) == (count == 7)
        assert "\n\n\n" not in review


def test_the_gate_may_miss_only_what_the_steps_take_away() -> None:
    def kept(*changes: tuple[str, str, str]) -> list[str]:
        steps = [SimpleNamespace(changes=[SimpleNamespace(component=c, from_=old, to=new)]) for c, old, new in changes]
        return _dropped(cast("Any", steps))

    assert kept(("driver", "570.1", "580.2"), ("cuda_toolkits", "", "13.0.2")) == []
    assert kept(("cuda_toolkits", "12.4.1", "")) == ["/usr/local/cuda-12.4"]
    assert kept(("cuda_toolkits", "12.4.0", "12.4.1")) == [], "an update lies in the same folder"
    assert kept(("cuda_toolkits", "12.4.1", "12.8.1"), ("cudnn", "8.9.7", "9.1.0")) == ["/usr/local/cuda-12.4", "cudnn"]
