"""``playbooks/nccl.yml`` by plain ansible-playbook: two ranks on two stand-in nodes, reports on the controller."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from planner.gates.multi_node import judge_pair
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
