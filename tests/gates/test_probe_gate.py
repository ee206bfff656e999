"""The probe's gate where there is no driver, a wrong request, the one file that travels, and the Ansible module."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from planner.cli.main import invoke
from planner.data import data_dir, probe_zip
from planner.emit.assets import load_assets
from planner.gates.judge import judge_gate
from planner.probe.gate import LOCK

RECORDED = (Path(__file__).parent / "recorded" / "h200-580.159.04-quick.json").read_text(encoding="utf-8")
REQUEST = {key: json.loads(RECORDED)[key] for key in ("profile", "nonce", "host")}


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("probe") / "probe.zip"
    path.write_bytes(probe_zip())
    return path


def run(probe: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(probe), *arguments], capture_output=True, text=True, check=False)


def test_the_probe_is_the_same_bytes_every_time() -> None:
    first = probe_zip()
    probe_zip.cache_clear()
    assert probe_zip() == first
    names = zipfile.ZipFile(io.BytesIO(first)).namelist()
    assert names == sorted(names)
    assert {"__main__.py", "pynvml.py", "planner/probe/kernels/planner_mix.ptx"} <= set(names)
    assert not [n for n in names if n.endswith(".pyc") or "/.." in n]


def test_without_a_driver_the_report_says_so_and_fails(probe: Path) -> None:
    request = {"profile": "quick", "nonce": "00", "host": "n1", "expect": {"gpus": 1}}
    answer = run(probe, "gate", "--request", json.dumps(request))
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    if report["nvml"]["gpus"]:
        pytest.skip("this machine has an NVIDIA GPU; the case is one without")
    assert judge_gate(answer.stdout, request)["outcome"] == "fail"


def test_by_hand_it_needs_no_request(probe: Path) -> None:
    answer = run(probe, "gate", "--profile", "quick", "--host", "n1")
    assert answer.returncode == 0, answer.stderr
    report = json.loads(answer.stdout)
    assert (report["schema"], report["profile"], report["host"]) == ("planner.gate/2", "quick", "n1")
    assert len(report["nonce"]) == 32


@pytest.mark.parametrize("arguments", [("--request", '{"profile": "full"}'), ("--profile", "full")])
def test_an_unknown_profile_is_refused_by_name(probe: Path, arguments: tuple[str, ...]) -> None:
    answer = run(probe, "gate", *arguments)
    assert answer.returncode != 0
    assert "unknown profile 'full'; known: quick, standard, deep" in answer.stderr


def test_a_second_gate_on_the_node_waits_and_then_says_so(probe: Path) -> None:
    request = {"profile": "quick", "nonce": "00", "host": "n1", "busy_wait_seconds": 0.2}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        deadline = time.monotonic() + 60
        while True:
            try:
                lock.bind(LOCK)
                break
            except OSError:         # another test's gate runs on this machine
                assert time.monotonic() < deadline
                time.sleep(0.1)
        answer = run(probe, "gate", "--request", json.dumps(request))
    found = judge_gate(answer.stdout, request)
    assert (found["outcome"], found["code"], found["exit_code"]) == ("inconclusive", "GATE_BUSY", 8)


def test_facts_come_out_of_the_same_file(probe: Path) -> None:
    answer = run(probe, "facts", "--request", "{}")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["schema"] == "planner.probe-facts/1"


def carry_judge(directory: Path) -> Path:
    """Lay out the judge as a bundle carries it; returns the folder of module_utils."""
    for name, content in load_assets().items():
        if name.startswith("module_utils/planner_gates/"):
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return directory / "module_utils"


def test_bundles_carry_the_controllers_own_judge(tmp_path: Path) -> None:
    carry_judge(tmp_path)
    script = ("import json, sys; from planner_gates.judge import judge_gate; print(judge_gate(sys.stdin.read(), "
              f"{REQUEST!r})['outcome'])")
    answer = subprocess.run([sys.executable, "-S", "-c", script], input=RECORDED, cwd=tmp_path / "module_utils",
                            capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "pass", "the judge needs something that a controller without planner lacks: " \
        + answer.stderr


def test_the_verdict_module_judges_through_ansible(tmp_path: Path) -> None:
    root = data_dir("playbooks")
    utils = carry_judge(tmp_path)
    (tmp_path / "ansible.cfg").write_text(
        f"[defaults]\nlibrary={root / 'library'}\nmodule_utils={utils}\n")
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [
        {"planner_verdict": {"report": "{{ report }}", "request": "{{ request }}"}, "register": "seen"},
        {"ansible.builtin.copy": {"content": "{{ seen | to_json }}", "dest": str(tmp_path / "seen.json"),
                                  "mode": "0644"}}]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    (tmp_path / "vars.json").write_text(json.dumps({
        "report": RECORDED, "request": REQUEST | {"expect": {"gpus": 2}},
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable}))
    ansible = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run([str(ansible), "play.yml", "-e", "@vars.json"], cwd=tmp_path, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert (seen["outcome"], seen["exit_code"]) == ("fail", 7)
    assert not {"skipped", "unreachable", "rc"} & set(seen), "Ansible itself reads these words"
    assert any("1 of 2 GPUs" in reason for reason in seen["reasons"])


def test_what_is_no_baseline_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.json").write_text("{}")
    assert invoke(["gate", "compare", str(tmp_path / "b.json"), str(tmp_path / "b.json")]) == 1
    assert "planner gate baseline" in capsys.readouterr().err
