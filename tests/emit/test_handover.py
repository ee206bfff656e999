"""Steps by other hands in a bundle: the play byte for byte, what proves them, and what the role decides on a node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.emit.assets import load_assets
from planner.emit.render import render_bundle
from planner.emit.write import write_bundle
from planner.errors import BundleError
from tests.emit.conftest import PLAYBOOKS, load_module
from tests.emit.sample import ASSETS, OS_RELEASE, cohort, document, finished

TASKS = PLAYBOOKS / "roles" / "planner_change" / "tasks"
GOLDEN = Path(__file__).parent / "golden-handover"
BEGUN = "Note that the step by other hands has begun"
RELEASED = "Release our own holds and timers for a step that ends the plan"
STOP = "Stop for what is left to people"
proof = load_module("planner_proof")


def handed(**fields: Any) -> dict[str, Any]:
    """Return a plan whose first cohort has one step by other hands."""
    value = document()
    group = cohort("c-h100-aaaaaa", ["gpu01", "gpu02", "gpu03"], [{**OS_RELEASE, **fields}])
    group["start"]["os"], group["goal"] = ["ubuntu-22.04"], {**group["start"], "os": ["ubuntu-24.04"]}
    group["way_back"] = [{**OS_RELEASE, "id": "s1-undo", "title": "os back to ubuntu-22.04 by hand", "ends": None,
                          "instructions": ["restore the snapshot"]}]
    group |= {"no_return_after": "s1", "no_return_why": "a release is not taken back in place"}
    value["cohorts"][0] = group
    return value


def test_the_play_and_its_review_are_the_golden_ones(update_golden: bool) -> None:
    files = render_bundle(finished(handed()), ASSETS)
    for name in ("plays/w1-canary.yml", "PLAN.md"):
        path = GOLDEN / Path(name).name
        if update_golden:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(files[name])
        assert files[name].decode() == path.read_text(encoding="utf-8"), name


def test_generated_files_are_made_again_after_the_reboot_and_before_the_gate() -> None:
    (play,) = yaml.load(render_bundle(finished(handed()), ASSETS)["plays/w1-canary.yml"], Loader=_Loader)
    names = [task["name"] for task in play["tasks"]]
    assert names[4:8] == ["Step s1: os ubuntu-22.04 -> ubuntu-24.04 (handed over)", "Step s1: reboot",
                          "Step s1: make generated files again", "Step s1: quick gate"]
    drained = handed(disruption="drain", quick_gate=False)
    (play,) = yaml.load(render_bundle(finished(drained), ASSETS)["plays/w1-canary.yml"], Loader=_Loader)
    assert [t["tags"] for t in play["tasks"] if "generated" in t["name"]] == [["change"]]


def test_a_plan_without_such_steps_carries_nothing_of_them() -> None:
    for name, content in render_bundle(finished(document()), ASSETS).items():
        assert b"handover" not in content, name
        assert b"planner_proofs" not in content, name


@pytest.mark.parametrize("fields", [
    {"proofs": [{**OS_RELEASE["proofs"][0], "file": "/etc/../x; rm"}]},
    {"refresh": [{"unit": "a b"}]}, {"move": "os release"},
])
def test_unsafe_words_of_such_steps_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        render_bundle(finished(handed(**fields)), ASSETS)


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "shown"), [
    ('NAME=x\nID=ubuntu\nVERSION_ID="24.04"\n', "ubuntu-24.04"), ('VERSION_ID="9.6"\nID="rhel"\n', "rhel-9.6"),
    ("ID=ubuntu\n", ""), ("", ""), ("# ID=no\nXID=no\nVERSION_ID=1\n", ""),
])
def test_fields_are_read_line_by_line(text: str, shown: str) -> None:
    fields = {"id": r'^ID="?([A-Za-z0-9._-]+)', "release": r'^VERSION_ID="?([0-9.]+)'}
    assert proof.read_value(text, fields, "{id}-{release}") == shown


def test_what_the_inventory_says_is_a_text_or_a_list_or_nothing() -> None:
    assert [proof.said_values(v) for v in ("13.0", ["12.4", "13.0"], "", None, [], 13.5)] == [
        ["13.0"], ["12.4", "13.0"], [], [], [], ["13.5"]]


def test_unmet_names_what_is_missing_and_what_is_still_there() -> None:
    assert proof.unmet("x", ["1"], ["1"], ["0"]) == []
    assert proof.unmet("x", [], ["1"], []) == ["x is absent, 1 is planned"]
    assert proof.unmet("x", ["0"], [], ["0"]) == ["x still shows 0"]


# --- the role's own decisions, run by Ansible on hosts that only say what they would be -----------------------------


def host(where: str, *, shows: str = "old", automation: str = "", boot: str = "", variable: str = "",
         said: str = "") -> dict[str, Any]:
    """Return a host's variables. ``shows``: what its file says; ``boot``: of a mark that an earlier run left."""
    one = {"component": "os", "wanted": ["new"], "unwanted": ["old"], "where": "node"}
    one |= {"variable": variable} if variable else {
        "file": f"{where}/state", "fields": {"v": r"^(\w+)"}, "value": "{v}"}
    return {
        "planner_change_step": {"id": "s1", "move": "os-release", "title": "os old -> new", "handover": True,
                                "instructions": ["do this", "do that"], "proofs": [one]},
        "planner_change_turn": {"passed": False, "boot_id": "b2", "marks": {}},
        "planner_change_done": {"mark": {"state": "started" if boot else "applied", "boot_id": boot}},
        **({"planner_handover_os_release": automation} if automation else {}),
        **({variable: said} if variable else {}), "shows": shows, "state_file": f"{where}/state",
    }


# name: (host, what is left to people, the boot that is remembered)
CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "done-before": ({"shows": "new"}, "", ""),
    "left-to-people": ({}, "os is old, new is planned", "b2"),
    "done-since-the-pause": ({"shows": "new", "boot": "b1"}, "", "b1"),
    "own-tasks": ({"automation": "tasks.yml"}, "", "b2"),
    "own-role": ({"automation": "roles/mine"}, "", "b2"),
    "own-tasks-that-do-nothing": ({"automation": "idle.yml"}, "os is old, new is planned", "b2"),
    "the-inventory-says-so": ({"variable": "planner_node_image", "said": "new"}, "", "b2"),
    "the-inventory-does-not": ({"variable": "planner_node_image", "said": ""}, "os is absent, new is planned", "b2"),
}
REFUSED = ["../tasks.yml", "x; touch pwned", "{{ lookup('pipe', 'touch pwned') }}", "a/../../b"]


def _play(directory: Path, cases: dict[str, dict[str, Any]], *arguments: str) -> dict[str, dict[str, Any]]:
    """Run the role's tasks, those that need a lease left out, on local hosts; return host -> what it came to."""
    for name in ("handover.yml", "proof.yml"):
        tasks = [t for t in yaml.safe_load((TASKS / name).read_text(encoding="utf-8")) if t["name"] not in
                 (BEGUN, RELEASED)]
        for task in tasks:
            if task["name"] == STOP:
                task |= {"register": "planner_stop", "ignore_errors": True}
        (directory / name).write_text(yaml.safe_dump(tasks, sort_keys=False), encoding="utf-8")
    finish = [{"name": "Do it", "ansible.builtin.copy": {"content": "new\n", "dest": "{{ state_file }}"}}]
    (directory / "tasks.yml").write_text(yaml.safe_dump(finish), encoding="utf-8")
    (directory / "idle.yml").write_text("[]", encoding="utf-8")
    (directory / "roles" / "mine" / "tasks").mkdir(parents=True, exist_ok=True)
    shutil.copy(directory / "tasks.yml", directory / "roles" / "mine" / "tasks" / "main.yml")
    told = ("{{ {'open': planner_change_open, 'boots': planner_change_boots | default({}), "
            "'said': planner_stop.msg | default('')} | to_json }}")
    keep = {"name": "Tell", "ansible.builtin.copy": {
        "content": told, "dest": "{{ playbook_dir }}/{{ inventory_hostname }}.json"}, "check_mode": False}
    play = {"hosts": "all", "gather_facts": False, "connection": "local", "tasks": [
        {"name": "State", "ansible.builtin.copy": {"content": "{{ shows }}\n", "dest": "{{ state_file }}"},
         "check_mode": False}, {"ansible.builtin.include_tasks": "handover.yml"}, keep]}
    (directory / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
    hosts = {name: {"ansible_python_interpreter": sys.executable, **variables} for name, variables in cases.items()}
    (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_LIBRARY": str(PLAYBOOKS / "library"), "ANSIBLE_NOCOLOR": "1"}
    ended = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts.json", "play.yml", *arguments], cwd=directory,
        check=False, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    found = {n: json.loads(p.read_text()) for n in cases if (p := directory / f"{n}.json").is_file()}
    return {**found, "": {"output": ended.stdout + ended.stderr, "rc": ended.returncode}}


def _hosts(directory: Path, cases: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    made = {}
    for name, fields in cases.items():
        (directory / f"node-{name}").mkdir()
        made[name] = host(str(directory / f"node-{name}"), **fields)
    return made


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("handover")
    found = _play(directory, _hosts(directory, {name: case[0] for name, case in CASES.items()}))
    assert found[""]["rc"] == 0, found[""]["output"]
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_is_done_goes_on_and_what_is_open_stops(name: str, heard: dict[str, dict[str, Any]]) -> None:
    _, left, boot = CASES[name]
    assert heard[name]["open"] == [left] * bool(left)
    assert heard[name]["boots"] == {"s1": boot}
    if left:
        assert heard[name]["said"] == (f"step s1 (os old -> new) is handed over: {left}. Do this: 1. do this; "
                                       "2. do that; Then: planner resume BUNDLE, or run this play again")


def test_check_mode_runs_through(tmp_path: Path) -> None:
    cases = _hosts(tmp_path, {"open": {}, "own": {"automation": "tasks.yml"}})
    found = _play(tmp_path, cases, "--check")
    assert found[""]["rc"] == 0, found[""]["output"]
    assert found["open"]["open"] == ["os is old, new is planned"]
    assert (tmp_path / "node-own" / "state").read_text() == "old\n"


def test_names_that_are_none_are_refused(tmp_path: Path) -> None:
    cases = _hosts(tmp_path, {f"h{i}": {} for i in range(len(REFUSED))})
    for name, text in zip(cases, REFUSED, strict=True):
        cases[name]["planner_handover_os_release"] = {"__ansible_unsafe": text}
    found = _play(tmp_path, cases)
    assert found[""]["output"].count("FAILED! =>") == len(REFUSED), found[""]["output"]
    assert not list(tmp_path.rglob("pwned"))


# --- the whole play, with the shipped roles and modules -----------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "bundle"
    write_bundle(render_bundle(finished(handed()), load_assets()), directory)
    one = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (directory.parent / "hosts.json").write_text(json.dumps({"all": {"hosts": {f"gpu0{n}": one for n in (1, 2, 3)}}}))
    return directory


def _ansible(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")} | {"ANSIBLE_NOCOLOR": "1"}
    return subprocess.run([Path(sys.executable).parent / "ansible-playbook", "-i", "../hosts.json", *arguments],
                          cwd=bundle, env=environment, stdin=subprocess.DEVNULL, check=False, capture_output=True,
                          text=True, timeout=300)


def test_the_play_parses(bundle: Path) -> None:
    result = _ansible(bundle, "--syntax-check", *(f"plays/{p.name}" for p in sorted((bundle / "plays").glob("*.yml"))))
    assert result.returncode == 0, result.stdout + result.stderr


def test_check_mode_looks_at_the_node_and_stops_for_nobody(bundle: Path) -> None:
    """Every task of the phase runs as shipped; what this machine is does not matter."""
    result = _ansible(bundle, "--check", "--tags", "change", "--limit", "gpu01", "plays/w1-canary.yml",
                      "-e", '{"planner_machine_ids": {"gpu01": ""}, "ansible_become": false}')
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("Look whether the hand-over shows on the node", "Refuse a name that is none", STOP):
        assert f"planner_change : {name}]" in result.stdout, result.stdout


def test_generated_files_are_made_again_only_where_they_are(tmp_path: Path) -> None:
    """The role's own tasks, those that need a lease left out; a unit that is not there is not restarted."""
    tasks = yaml.safe_load((TASKS / "refresh.yml").read_text(encoding="utf-8"))
    (block,) = [t for t in tasks if "block" in t]
    block["block"] = [t for t in block["block"] if "planner_lease" not in t]
    play = {"hosts": "all", "gather_facts": False, "connection": "local", "tasks": [block]}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
    hosts = {}
    for name in ("has", "lacks", "passed", "refreshed"):
        marks = {"s1-refresh": {"state": "done"}} if name == "refreshed" else {}
        if name != "lacks":
            (tmp_path / f"{name}.yaml").write_text("old")
        hosts[name] = {
            "ansible_python_interpreter": sys.executable,
            "planner_change_refresh": {"passed": name == "passed", "marks": marks},
            "planner_change_step": {"id": "s1", "refresh": [
                {"file": "", "argv": [], "unit": "no-such-unit.service"},
                {"file": (place := f"{tmp_path}/{name}.yaml"), "argv": ["cp", "/dev/null", place], "unit": ""}]}}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    ended = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts.json", "play.yml"], cwd=tmp_path, check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert (tmp_path / "has.yaml").read_text() == ""
    assert not (tmp_path / "lacks.yaml").exists()
    assert [(tmp_path / f"{n}.yaml").read_text() for n in ("passed", "refreshed")] == ["old", "old"]
