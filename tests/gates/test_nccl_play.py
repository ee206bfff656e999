"""``playbooks/nccl.yml`` by plain ansible-playbook: two ranks on two stand-in nodes, reports on the controller."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import yaml

from planner.emit.assets import load_assets
from planner.emit.render import render_bundle
from planner.emit.write import write_bundle
from planner.execute.decide import Act
from planner.execute.pair_call import PairListener, judge_reports, pair_entry
from planner.gates.multi_node import judge_pair
from planner.runner.ansible import AnsibleRunner
from planner.runner.port import RunRequest
from tests.emit.sample import document, finished
from tests.gates.test_nccl_ranks import Fleet

BIN = Path(sys.executable).parent
PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
NONCE = "00c0ffee"


def play(fleet: Fleet, out: Path, pair: str, *plays: str, id_seconds: int = 60) -> subprocess.CompletedProcess[str]:
    """Run the play on the stand-in nodes: a wrapper gives each node's Python its own libraries."""
    if not (BIN / "ansible-playbook").is_file():
        pytest.skip("ansible-playbook is not installed beside this Python (./run setup installs it)")
    hosts = {}
    for node, what in zip(fleet.nodes, (*plays, "", "")[:2], strict=True):
        wrapper = node.root / "python3"
        wrapper.write_text(f"#!/bin/sh\nexport LD_LIBRARY_PATH={node.lib} PLANNER_STANDIN_DIR={node.root} "
                           f"STANDIN_NCCL={what}\nexec {sys.executable} -I \"$@\"\n", encoding="utf-8")
        wrapper.chmod(0o755)
        hosts[node.root.name] = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable,
                                 "planner_probe_python": str(wrapper)}
    inventory = out / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    extra = {"planner_pair": pair, "planner_probe_zip": str(fleet.probe), "planner_nccl_out": str(out / "reports"),
             "planner_nccl_bytes": [8, 65536], "planner_nccl_seconds": 20, "planner_nccl_roots": [str(fleet.nccl)],
             "planner_nonce": NONCE, "planner_nccl_id_seconds": id_seconds, "ansible_become": False,
             "ansible_remote_tmp": str(out / "remote"), "ansible_async_dir": str(out / "async")}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1",
                    "TMPDIR": str(out / "tmp"), "ANSIBLE_CONFIG": str(PLAYBOOKS / "ansible.cfg")}
    (out / "tmp").mkdir(exist_ok=True)
    return subprocess.run(["ansible-playbook", "-i", inventory, "-e", json.dumps(extra), "nccl.yml"], cwd=PLAYBOOKS,
                          env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
                          check=False)


@pytest.fixture(scope="module")
def fleet(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler here (apt-get install gcc libc6-dev)")
    return Fleet(compiled, tmp_path_factory.mktemp("fleet"))


# --- the play of a bundle, which drains both and gives them back

def bundle_of(tmp_path: Path) -> Path:
    """Return a bundle whose plan pairs nodes a and b, which are drained by a hook."""
    value = document()
    text = json.dumps(value).replace('"gpu01"', '"a"').replace('"gpu02"', '"b"')
    value = json.loads(text)
    value["rollout"] |= {"nccl_pairs": True, "drain_timeout_minutes": 1}
    for name in ("a", "b"):
        value["nodes"][name] |= {"comm_domain": "ib", "scheduler": "hook", "machine_id": ""}
    bundle = tmp_path / "bundle"
    write_bundle(render_bundle(finished(value), load_assets()), bundle)
    plays = yaml.safe_load((bundle / "plays" / "pairs.yml").read_text(encoding="utf-8"))
    for each in plays:      # both nodes are this machine: each keeps its lease and marks in a directory of its own
        each["module_defaults"] = {"planner_lease": {"state_dir": "{{ stand_in_state | default('/nowhere') }}"}}
    (bundle / "plays" / "try.yml").write_text(yaml.safe_dump(plays, sort_keys=False), encoding="utf-8")
    return bundle


def pair(fleet: Fleet, out: Path, bundle: Path, *, drain: Mapping[str, int] = MappingProxyType({})
         ) -> subprocess.CompletedProcess[str]:
    """Run the bundle's play of pairs by hand on the stand-in nodes."""
    inventory, extra, environment = site(fleet, out, drain)
    return subprocess.run(["ansible-playbook", "-i", inventory, "-e", json.dumps(extra), "plays/try.yml"], cwd=bundle,
                          env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
                          check=False)


def site(fleet: Fleet, out: Path, drain: Mapping[str, int] = MappingProxyType({})
         ) -> tuple[Path, dict[str, Any], dict[str, str]]:
    """Return inventory, extra variables and environment; hooks note drain and undrain, and end as told."""
    stubs = out / "bin"
    stubs.mkdir(exist_ok=True)
    for name in ("dpkg-query", "apt-mark", "systemctl"):     # this machine's own packages and timers are left alone
        (stubs / name).write_text("#!/bin/sh\nexit 0\n", encoding="utf-8")
        (stubs / name).chmod(0o755)
    hosts = {}
    for node in fleet.nodes:
        name = node.root.name
        wrapper = node.root / "python3"
        wrapper.write_text(f"#!/bin/sh\nexport LD_LIBRARY_PATH={node.lib} PLANNER_STANDIN_DIR={node.root}\n"
                           f"exec {sys.executable} -I \"$@\"\n", encoding="utf-8")
        wrapper.chmod(0o755)
        own = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable,
               "planner_python": str(wrapper), "stand_in_state": str(out / f"state-{name}")}
        for act in ("drain", "undrain"):
            hook = out / f"{act}-{name}"
            code = drain.get(name, 0) if act == "drain" else 0
            hook.write_text(f"#!/bin/sh\necho {act} {name} >> {out}/acts\nexit {code}\n", encoding="utf-8")
            hook.chmod(0o755)
            own[f"planner_{act}_hook"] = str(hook)
        hosts[name] = own
    inventory = out / "hosts.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    extra = {"planner_pair": "a,b", "planner_nccl_bytes": [8, 65536], "planner_nccl_seconds": 20,
             "planner_nccl_roots": [str(fleet.nccl)], "planner_nonce": NONCE, "planner_nccl_id_seconds": 30,
             "ansible_become": False, "ansible_remote_tmp": str(out / "remote"),
             "ansible_async_dir": str(out / "async")}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    environment |= {"PATH": f"{stubs}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1",
                    "TMPDIR": str(out / "tmp")}
    (out / "tmp").mkdir(exist_ok=True)
    return inventory, extra, environment


def left(out: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the acts in order, and what the rollout has left on both nodes: marks, and a lease where there is one."""
    acts = (out / "acts").read_text(encoding="utf-8").splitlines()
    marks = [next(iter(json.loads((out / f"state-{name}" / "marks.json").read_text(encoding="utf-8")).values()), {})
             for name in ("a", "b")]
    assert not [name for name in ("a", "b") if (out / f"state-{name}" / "lease.json").exists()]
    return acts, marks


def test_a_bundles_pair_is_drained_sums_and_is_given_back(fleet: Fleet, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """As the engine runs it: what it hears of both nodes is what it has to know."""
    bundle = bundle_of(tmp_path)
    inventory, extra, environment = site(fleet, tmp_path)
    for name in [name for name in os.environ if name.startswith("ANSIBLE_")]:
        monkeypatch.delenv(name)
    for name in ("PATH", "TMPDIR"):
        monkeypatch.setenv(name, environment[name])
    listener = PairListener()
    result = AnsibleRunner().run(RunRequest(directory=str(bundle), playbook="plays/try.yml", inventory=str(inventory),
                                            limit=("a", "b"), extra_vars=extra, timeout_s=240), on_event=listener.hear)
    assert result.status == "successful", result.output_tail
    assert listener.leased == listener.back == {"a", "b"}
    act = Act(call="pair", wave="w1", batch="", nodes=("a", "b"), domain="ib")
    entry = pair_entry(act, 7, tmp_path, listener, result, lambda texts: judge_reports(
        texts, {"nonce": NONCE, "label": "nccl", "ranks": 2, "bytes": [8, 65536]}))
    assert (entry["kind"], entry["data"]["code"], entry["data"]["verdict"]) == ("pair", "OK", "pass"), entry
    acts, marks = left(tmp_path)
    assert (sorted(acts[:2]), sorted(acts[2:])) == (["drain a", "drain b"], ["undrain a", "undrain b"])
    assert not any("drained" in each for each in marks)
    reports = {name: (bundle / "records" / "nccl" / f"{name}.nccl.json").read_text(encoding="utf-8")
               for name in ("a", "b")}
    asked = {"nonce": NONCE, "label": "nccl", "ranks": 2, "bytes": [8, 65536]}
    assert judge_reports(reports, asked).code == "OK"


def test_when_one_cannot_be_drained_nothing_is_tried_and_both_go_back_and_again_is_no_harm(fleet: Fleet,
                                                                                        tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    done = pair(fleet, tmp_path, bundle, drain={"b": 3})
    assert done.returncode == 2
    assert "the other node of the pair is not drained" in done.stdout
    assert not (bundle / "records" / "nccl").exists()
    acts, marks = left(tmp_path)
    assert sorted(acts) == ["drain a", "drain b", "undrain a", "undrain b"]
    assert not any("drained" in each for each in marks)
    # An interruption in the middle left this: the node is drained by us, and the lease is ours.
    rollout = yaml.safe_load((bundle / "plays" / "pairs.yml").read_text(encoding="utf-8"))[1]["vars"]["planner_rollout"]
    state = tmp_path / "state-a"
    (state / "marks.json").write_text(json.dumps({rollout: {"drained": {"by": "hook"}}}), encoding="utf-8")
    (tmp_path / "acts").unlink()
    done = pair(fleet, tmp_path, bundle)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "pass: a and b: NCCL 2.99.1 (OK)" in done.stdout
    acts, marks = left(tmp_path)
    assert "undrain a" in acts
    assert not any("drained" in each for each in marks)


def test_two_hosts_sum_and_both_reports_come_back(fleet: Fleet, tmp_path: Path) -> None:
    done = play(fleet, tmp_path, "a,b")
    assert done.returncode == 0, done.stdout + done.stderr
    reports = {name: json.loads((tmp_path / "reports" / f"{name}.nccl.json").read_text(encoding="utf-8"))
               for name in ("a", "b")}
    asked = {"nonce": NONCE, "label": "nccl", "ranks": 2, "bytes": [8, 65536]}
    attempt = judge_pair(reports, asked)
    assert attempt.code == "OK", attempt
    assert attempt.pair == ("a", "b")
    assert list((tmp_path / "tmp").glob("planner-nccl-*")) == []        # nothing stays on the nodes


def test_a_rank_that_is_refused_is_reported_and_no_pair_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    done = play(fleet, tmp_path, "a,b", "no-version", id_seconds=3)
    assert done.returncode == 0, done.stdout + done.stderr
    first = json.loads((tmp_path / "reports" / "a.nccl.json").read_text(encoding="utf-8"))
    assert first["status"] == "error"
    assert "ncclGetVersion failed with 3" in first["reason"]
    alone = play(fleet, tmp_path, "a")
    assert alone.returncode != 0
    assert "give two hosts of the inventory" in alone.stdout
