"""Marks that keep jobs to one half of a mixed domain: the module, what plays are told, and the roles' own tasks.

``scontrol`` and ``kubectl`` here are stand-ins that keep features and labels in a file; the lab has a real Slurm.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.emit.assets import load_assets
from planner.emit.fences import FENCE_FILE, FENCE_VARS
from planner.emit.render import render_bundle
from planner.emit.write import write_bundle
from planner.emit.yaml_text import Unsafe
from planner.schedule.fences import fence_mark
from planner.schedule.plan import Plan
from tests.emit.conftest import PLAYBOOKS, load_module
from tests.emit.sample import ASSETS, document, finished
from tests.emit.test_render import Loader

MARK = "planner-r-1"
PLACES = {"ahead": 0, "a": 1, "b": 2, "c": 2, "keeps": 3}
WINDOW = {"domain": "ib {{ 1 }}", "components": ["driver"], "opens": "w1b1", "closes": "w2b1", "batches": 2,
          "minutes": 100, "approval": True, "fences": ["slurm"],
          "because": [{"claim": "equal", "statement": "must be equal", "source": "matrices/x.yml:equal"}]}


def mixed() -> Plan:
    """Return the sample with its four nodes in one domain, which its driver mixes."""
    value = document()
    for node in value["nodes"].values():
        node |= {"comm_domain": WINDOW["domain"], "scheduler": "slurm"}
    return finished({**value, "mixed": [WINDOW]})


# --- the module -----------------------------------------------------------------------------------------------------


class StandInSlurm:
    """Stands in for ``scontrol``: features of nodes, and whoever may change them."""

    def __init__(self, features: dict[str, list[str]], *, refuses: bool = False) -> None:
        self.features, self.refuses = features, refuses
        self.updates: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], told: str) -> str:
        if argv[1] == "--oneliner":
            return "\n".join(
                f"NodeName={n} Arch=x86_64 AvailableFeatures={','.join(f) or '(null)'} "
                f"ActiveFeatures={','.join(f) or '(null)'} OS=Linux 6.8 #1 Reason=see ActiveFeatures={MARK}-new ok"
                for n, f in sorted(self.features.items()))
        if self.refuses:
            raise load_module("planner_fence").FenceError(told % "Invalid user id")
        self.updates.append(argv)
        names, available, active = (word.partition("=")[2] for word in argv[2:])
        assert available == active
        for name in names.split(","):
            self.features[name] = [f for f in active.split(",") if f]
        return ""


def act(slurm: StandInSlurm, action: str, node: str = "", *, check: bool = False, names: Any = ()) -> dict[str, str]:
    module = load_module("planner_fence")
    params = {"action": action, "by": "slurm", "places": PLACES, "names": list(names), "node": node, "mark": MARK}
    found: dict[str, str] = module.fence(module.Slurm(slurm.run, MARK), params, check)
    return found


def fleet(**features: list[str]) -> StandInSlurm:
    return StandInSlurm({**{name: [] for name in PLACES}, **features})


def test_the_first_changed_node_puts_everybody_into_a_half() -> None:
    slurm = fleet(b=["fast"], other=["theirs"])
    act(slurm, "set", "a")
    assert slurm.features == {
        "ahead": [f"{MARK}-new"], "a": [f"{MARK}-new"], "b": ["fast", f"{MARK}-old"], "c": [f"{MARK}-old"],
        "keeps": [f"{MARK}-old"], "other": ["theirs"]}
    assert len(slurm.updates) == 3      # those that get the same features, in one command
    assert act(slurm, "set", "a") == {}
    assert len(slurm.updates) == 3      # what is right is not written again


def test_later_nodes_change_their_own_half_and_nobody_elses() -> None:
    slurm = fleet(b=["fast"])
    act(slurm, "set", "a")
    assert act(slurm, "set", "b") == {"b": "new"}
    assert slurm.features["b"] == ["fast", f"{MARK}-new"]
    assert act(slurm, "set", "c") == {"c": "new"}
    assert act(slurm, "set", "a") == {}         # tried again, a batch behind: nobody goes back
    assert slurm.features["keeps"] == [f"{MARK}-old"]


def test_only_own_marks_are_taken_off() -> None:
    slurm = fleet(b=["fast", "planner-other-2-new"], c=["x"])
    before = json.loads(json.dumps(slurm.features))
    act(slurm, "set", "a")
    act(slurm, "remove")
    assert slurm.features == before
    assert act(slurm, "remove") == {}


def test_check_mode_tells_and_writes_nothing() -> None:
    slurm = fleet()
    assert act(slurm, "set", "a", check=True) == {"ahead": "new", "a": "new", "b": "old", "c": "old", "keeps": "old"}
    assert slurm.updates == []


def test_nodes_go_by_the_schedulers_names_and_unknown_ones_are_told() -> None:
    slurm = StandInSlurm({"node-a": [], "b": []})
    assert act(slurm, "set", "a", names=[["a", "node-a"], ["b", ""]]) == {"node-a": "new", "b": "old"}
    with pytest.raises(Exception, match=r"Slurm knows no node c; .*planner_slurm_node"):
        act(slurm, "set", "c")


def test_without_the_right_the_task_says_what_to_do() -> None:
    slurm = StandInSlurm(fleet().features, refuses=True)
    with pytest.raises(Exception, match=r"Invalid user id; give this user the right .*rollout: \{fence: false\}"):
        act(slurm, "set", "a")


def test_a_scheduler_that_forgets_is_found_out() -> None:
    slurm = fleet()
    slurm.run = lambda argv, told: StandInSlurm.run(fleet(), argv, told)     # type: ignore[method-assign]
    with pytest.raises(Exception, match="does not show them on a, ahead, b, c, keeps"):
        act(slurm, "set", "a")


def test_kubernetes_keeps_the_marks_as_values_of_one_label() -> None:
    labels: dict[str, str] = dict.fromkeys(PLACES, "")
    written: list[Sequence[str]] = []

    def run(argv: Sequence[str], told: str) -> str:
        if argv[1] == "get":
            half = argv[-1].partition("=")[2] if "-l" in argv else None
            return "".join(f"node/{n}\n" for n, v in sorted(labels.items()) if half is None or v == half)
        written.append(argv)
        value = argv[-2].partition("=")[2] if argv[-1] == "--overwrite" else ""
        labels.update(dict.fromkeys((n for n in argv[3:] if n in labels), value))
        return ""

    module = load_module("planner_fence")
    params = {"action": "set", "by": "kubernetes", "places": PLACES, "names": [], "node": "a", "mark": MARK}
    for _ in range(2):
        module.fence(module.Kubernetes(run, MARK), params, False)
    assert labels == {"ahead": "new", "a": "new", "b": "old", "c": "old", "keeps": "old"}
    module.fence(module.Kubernetes(run, MARK), {**params, "action": "remove", "node": None}, False)
    assert set(labels.values()) == {""}
    assert written[0] == ["kubectl", "label", "nodes", "a", "ahead", f"{MARK}=new", "--overwrite"]
    assert written[-1] == ["kubectl", "label", "nodes", "a", "ahead", "b", "c", "keeps", f"{MARK}-"]
    assert len(written) == 3


# --- what plays are told ----------------------------------------------------------------------------------------------


def test_a_bundle_with_a_mixed_domain_carries_its_fence_and_others_nothing() -> None:
    plan = mixed()
    files = render_bundle(plan, ASSETS)
    assert yaml.load(files[FENCE_FILE], Loader=Loader) == {"planner_fences": {"d1": {    # a safe loader
        "domain": Unsafe("ib {{ 1 }}"), "components": ["driver"], "mark": fence_mark(plan),
        "slurm": {"gpu01": 1, "gpu02": 2, "gpu03": 2, "gpu04": 3}, "waves": {"w1": ["gpu01"], "w2": ["gpu02", "gpu03"]},
    }}}
    (play,) = yaml.load(files["plays/w2-batch.yml"], Loader=Loader)
    assert play["vars_files"] == [FENCE_VARS]
    assert play["vars"]["planner_fence_of"] == {"gpu02": "d1", "gpu03": "d1"}
    plain = render_bundle(finished(document()), ASSETS)
    assert FENCE_FILE not in plain
    assert b"fence" not in plain["plays/w2-batch.yml"]


def test_the_review_says_from_when_to_when_and_what_jobs_ask_for() -> None:
    plan = mixed()
    text = render_bundle(plan, ASSETS)["PLAN.md"].decode()
    mark = fence_mark(plan)
    assert "| ib {{ 1 }} | driver | `w1b1` to `w2b1` | 2 | 1 h 40 min, and the wait for approval | slurm |" in text
    assert "- Why: must be equal (`equal`) — matrices/x.yml:equal" in text
    assert f'`--constraint="[{mark}-old|{mark}-new]"`' in text
    assert "Kubernetes:" not in text
    assert "one job's reach" not in render_bundle(finished(document()), ASSETS)["PLAN.md"].decode()


# --- the shipped roles and plays --------------------------------------------------------------------------------------

SCONTROL = """#!/usr/bin/env python3
# Stand-in for scontrol: one node a file.
import os, sys
home, words = os.environ["STAND_IN_SLURM"], dict(w.split("=", 1) for w in sys.argv[1:] if "=" in w)
if "show" in sys.argv:
    for name in sorted(os.listdir(home)):
        had = open(os.path.join(home, name)).read() or "(null)"
        print("NodeName=%s State=IDLE AvailableFeatures=%s ActiveFeatures=%s" % (name, had, had))
elif os.path.exists(home + ".locked"):
    sys.exit("slurm_update error: Invalid user id")
else:
    for name in words["NodeName"].split(","):
        open(os.path.join(home, name), "w").write(words["ActiveFeatures"])
"""


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs tasks of the shipped roles on the sample's nodes, with a bundle's own variables of the fence."""
    bundle = tmp_path / "bundle"
    write_bundle(render_bundle(mixed(), load_assets()), bundle)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(SCONTROL)
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    (tmp_path / "slurm").mkdir()
    for name in ("gpu01", "gpu02", "gpu03", "slurm-4"):
        (tmp_path / "slurm" / name).write_text("fast" if name == "gpu02" else "")
    one = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {f"gpu0{n}": one for n in (1, 2, 3)} | {"gpu04": {**one, "planner_slurm_node": "slurm-4"}}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    names = dict.fromkeys(("gpu01", "gpu02", "gpu03", "gpu04"), "slurm")
    of = {"planner_schedulers": names, "planner_fence_of": dict.fromkeys(("gpu01", "gpu02", "gpu03"), "d1"),
          "planner_rollout": "r"}

    def run(tasks: list[Any], limit: str, *more: str) -> subprocess.CompletedProcess[str]:
        written = [{"hosts": "all", "gather_facts": False, "vars_files": [FENCE_VARS], "vars": of, "tasks": tasks}]
        (bundle / "plays" / "try.yml").write_text(yaml.safe_dump(written, sort_keys=False))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")} | {
            "ANSIBLE_NOCOLOR": "1", "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "STAND_IN_SLURM": str(tmp_path / "slurm")}
        return subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "-i", "../hosts.json", "--limit", limit, *more,
             "plays/try.yml"], cwd=bundle, env=environment, stdin=subprocess.DEVNULL, check=False, capture_output=True,
            text=True, timeout=300)

    return run


def features(tmp_path: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((tmp_path / "slurm").iterdir())}


def fence_tasks(role: str) -> list[Any]:
    """Return those tasks of a role that are about marks, as they are shipped."""
    tasks = yaml.safe_load((PLAYBOOKS / "roles" / role / "tasks" / "main.yml").read_text())
    found = [t for t in tasks if "planner_fence" in json.dumps(t)]
    for task in found:
        if "ansible.builtin.include_tasks" in task:
            task["ansible.builtin.include_tasks"] = f"../roles/{role}/tasks/{task['ansible.builtin.include_tasks']}"
    return found + [t for t in tasks if t["name"] == "Let jobs span the communication domain again" and t not in found]


def records(tmp_path: Path, *names: str) -> None:
    for name in names:
        place = tmp_path / "bundle" / "records" / ("w1" if name == "gpu01" else "w2") / f"{name}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({"rollout": "r", "verdict": "overridden" if name == "gpu01" else "pass"}))


def test_marks_are_set_as_nodes_go_back_and_taken_off_behind_the_last_record(
        tmp_path: Path, play: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """By Ansible, from the shipped tasks: check mode, first node, the same again, the rest, the end."""
    mark, undrain, record = fence_mark(mixed()), fence_tasks("planner_undrain"), fence_tasks("planner_record")
    before = features(tmp_path)
    for options, wanted in (
        (("gpu01", "--check"), before),
        (("gpu01",), {"gpu01": f"{mark}-new", "gpu02": f"fast,{mark}-old", "gpu03": f"{mark}-old",
                      "slurm-4": f"{mark}-old"}),
        (("gpu01",), {"gpu01": f"{mark}-new", "gpu02": f"fast,{mark}-old", "gpu03": f"{mark}-old",
                      "slurm-4": f"{mark}-old"}),
    ):
        done = play([*undrain, *record], *options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert features(tmp_path) == wanted
    assert "changed=0" in done.stdout
    records(tmp_path, "gpu01", "gpu02")
    done = play([*undrain, *record], "gpu02,gpu03")
    assert done.returncode == 0, done.stdout + done.stderr
    assert features(tmp_path) == {"gpu01": f"{mark}-new", "gpu02": f"fast,{mark}-new", "gpu03": f"{mark}-new",
                                  "slurm-4": f"{mark}-old"}
    records(tmp_path, "gpu03")
    done = play(record, "gpu03")
    assert done.returncode == 0, done.stdout + done.stderr
    assert features(tmp_path) == before


def test_a_user_without_the_right_is_told_what_to_do(
        tmp_path: Path, play: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    (tmp_path / "slurm.locked").touch()
    done = play(fence_tasks("planner_undrain"), "gpu01")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "did not let" in done.stdout
    assert "rollout: {fence: false}" in done.stdout


def test_a_release_takes_off_the_marks_that_are_left(
        tmp_path: Path, play: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The play of an abort, its leases left out: these need a node."""
    before, plan = features(tmp_path), mixed()
    assert play(fence_tasks("planner_undrain"), "gpu01").returncode == 0
    assert features(tmp_path) != before
    (release,) = yaml.safe_load((PLAYBOOKS / "release.yml").read_text())
    (task,) = [t for t in release["tasks"] if "ansible.builtin.include_tasks" in t]
    task["ansible.builtin.include_tasks"] = str(PLAYBOOKS / task["ansible.builtin.include_tasks"])
    told = json.dumps({"planner_unfence": {"mark": fence_mark(plan), "slurm": sorted(plan.nodes), "kubernetes": []}})
    done = play([task], "all", "-e", told)
    assert done.returncode == 0, done.stdout + done.stderr
    assert features(tmp_path) == before
