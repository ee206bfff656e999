"""``planner discover`` and ``planner doctor`` as a person meets them, with a stand-in for Ansible's runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from planner.cli import facts as cli
from planner.cli.main import invoke
from planner.facts.schema import FactDocument
from planner.runner.port import HostOutcome
from tests.facts.documents import rhel_node, ubuntu_node
from tests.facts.fakes import FakeRunner

INVENTORY = "all:\n  hosts:\n    a: {planner_pool: h100}\n    b: {planner_pool: h100}\n    c: {}\n"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in_zip: bytes) -> Path:
    """Return a scratch directory that holds an inventory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.yml").write_text(INVENTORY, encoding="utf-8")
    monkeypatch.setattr(cli, "package_globs", lambda matrices: ("cuda*",))
    monkeypatch.setattr(cli, "load_rules", lambda overlays: None)
    return tmp_path


def _runner(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], failures: dict[str, Any] | None = None) -> None:
    monkeypatch.setattr(cli, "make_runner", lambda: FakeRunner(answers, failures))


UNREACHABLE = (HostOutcome.UNREACHABLE, {"msg": "No route to host"})


def test_discover_writes_facts_and_reports_what_it_left_out(
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Table on stdout, the unreadable node and the next command on stderr, exit 0."""
    _runner(monkeypatch, {"a": ubuntu_node("1" * 32), "b": rhel_node("2" * 32)}, {"c": UNREACHABLE})
    assert invoke(["discover", "-i", "hosts.yml", "--out", "facts.json"]) == 0
    seen = capsys.readouterr()
    assert "2x NVIDIA H100 80GB HBM3" in seen.out
    assert "580.95.05 (loaded 570.195.03)" in seen.out
    assert "2 nodes, 2 fact sets, 1 unreadable" in seen.out
    assert "No route to host" in seen.err
    assert "next: planner plan --facts facts.json" in seen.err
    document = FactDocument.model_validate_json((desk / "facts.json").read_text(encoding="utf-8"))
    assert [n.name for n in document.nodes] == ["a", "b"]
    assert document.created_at.endswith("Z")
    assert sorted(p.name for p in desk.iterdir()) == ["facts.json", "hosts.yml"]


def test_the_table_shows_versions_as_their_makers_write_them() -> None:
    """Facts keep what the package manager said; the table leaves out epochs and packaging revisions."""
    document = FactDocument.model_validate({
        "schema": "planner.facts/1", "nodes": [{"name": "a", "facts": "x", "identity": {}}],
        "fact_sets": {"x": {"fabric_manager": {"version": "570.195.03-1+standin", "package": "nvidia-fabricmanager"},
                            "driver": {"package": "3:570.195.03-1.el9", "loaded": "570.195.03"}}}})
    row = cli.summary_table(document).splitlines()[1].split()
    assert [cell for cell in row if cell.startswith("570")] == ["570.195.03", "570.195.03"]
    assert not any("standin" in cell or "3:" in cell or "loaded" in cell for cell in row)


def test_discover_prints_the_document(
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With -o json and no --out, standard output is facts.json and nothing else."""
    _runner(monkeypatch, {n: ubuntu_node(n * 32) for n in "abc"})
    assert invoke(["discover", "-i", "hosts.yml", "-o", "json"]) == 0
    assert len(FactDocument.model_validate_json(capsys.readouterr().out).fact_sets) == 1
    assert [p.name for p in desk.iterdir()] == ["hosts.yml"]


def test_discover_without_a_single_readable_node_writes_nothing(
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 1, every node's reason, and the command that tells more."""
    _runner(monkeypatch, {}, dict.fromkeys("abc", UNREACHABLE))
    assert invoke(["discover", "-i", "hosts.yml", "--out", "facts.json"]) == 1
    seen = capsys.readouterr()
    assert seen.err.count("No route to host") == 3
    assert "planner doctor -i hosts.yml" in seen.err
    assert [p.name for p in desk.iterdir()] == ["hosts.yml"]


def test_discover_into_a_missing_directory(
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A clear message instead of a traceback."""
    _runner(monkeypatch, {n: ubuntu_node(n * 32) for n in "abc"})
    assert invoke(["discover", "-i", "hosts.yml", "--out", "no/facts.json"]) == 1
    assert "cannot-write" in capsys.readouterr().err


def test_doctor_says_what_is_missing_and_how_to_cure_it(
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 1 with one error block a lack."""
    node = ubuntu_node()
    node["probe"]["uid"] = 1000
    node["clock"] = 0.0
    _runner(monkeypatch, {"a": node, "b": ubuntu_node(clock=4e9)}, {"c": UNREACHABLE})
    monkeypatch.setattr(cli.time, "time", lambda: 4e9)
    assert invoke(["doctor", "-i", "hosts.yml"]) == 1
    seen = capsys.readouterr()
    assert "become" in seen.err
    assert "clock" in seen.err
    assert "No route to host" in seen.err
    assert seen.err.count("hint: ") == seen.err.count("error: ") == 3


def test_doctor_of_a_ready_fleet(
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 0, and the JSON says so."""
    _runner(monkeypatch, {n: ubuntu_node(n * 32, clock=4e9) for n in "abc"})
    monkeypatch.setattr(cli.time, "time", lambda: 4e9)
    assert invoke(["doctor", "-i", "hosts.yml", "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert {c["status"] for c in document["checks"]} == {"ok"}


def test_pid_of_this_machine_and_of_a_node(
    desk: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Local processes are read directly, others through the probe."""
    assert invoke(["discover", "--pid", str(os.getpid()), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["pid"] == os.getpid()
    library = {"name": "libcuda", "version": "570.195.03", "path": "/usr/lib/libcuda.so.570.195.03", "deleted": True}
    answer = json.dumps({"pid": 7, "command": "python", "libraries": [library], "error": None})
    runner = FakeRunner({"b": answer})
    monkeypatch.setattr(cli, "make_runner", lambda: runner)
    assert invoke(["discover", "-i", "hosts.yml", "--pid", "b:7"]) == 0
    assert "/usr/lib/libcuda.so.570.195.03 (deleted)" in capsys.readouterr().out
    assert runner.requests[0].limit == ("b",)
    assert runner.requests[0].extra_vars["planner_probe_argv"] == ["pid", "7"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["discover"], 2, "-i INVENTORY"),
        (["discover", "--pid", "x"], 2, "NODE:PID"),
        (["discover", "--pid", "b:7"], 2, "-i INVENTORY"),
        (["discover", "-i", "hosts.yml", "--pid", "a:&b:7"], 2, "NODE:PID"),
        (["discover", "-i", "hosts.yml", "--pid", "zz:7"], 1, "no such host"),
        (["discover", "--pid", "4194305"], 1, "cannot read"),
        (["doctor", "-i", "none.yml"], 1, "none.yml"),
    ],
)
def test_wrong_use(desk: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str) -> None:
    """Usage errors are 2, input errors 1; each says what to do."""
    assert invoke(arguments) == code
    assert says in capsys.readouterr().err
