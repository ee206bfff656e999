"""``planner gate`` on made-up nodes: what is printed, for whom, and with which exit code."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from planner.cli.main import invoke
from planner.gates.judge import judge_gate
from planner.report.gate_view import gate_table, junit, openmetrics
from tests.gates.right import report


def result(host: str = "n1", loss: float = 0.0, **changes: Any) -> dict[str, Any]:
    """Return what ``planner gate run`` keeps of one node with two GPUs."""
    document = copy.deepcopy(report("standard", "aa", host, gpus=2) | changes)
    for gpu in document["gpus"]:
        gpu["processes"] = [copy.deepcopy(process) for process in gpu["processes"]]
        for process in gpu["processes"]:
            for each in process["results"]:
                each["samples"] = {key: [value * (1 - loss) for value in values]
                                   for key, values in each["samples"].items()}
    request = {"profile": "standard", "nonce": "aa", "host": host, "expect": {}}
    return {"schema": "planner.gate-result/2", "request": request, "report": document,
            "judged": judge_gate(json.dumps(document), request)}


def keep(path: Path, *results: dict[str, Any]) -> str:
    document = results[0] if len(results) == 1 else {"schema": "planner.gate-results/2", "results": list(results)}
    path.write_text(json.dumps(document), encoding="utf-8")
    return str(path)


AFTER = {"started_at": "2026-11-24T11:00:00Z"}


@pytest.mark.parametrize(("loss", "code"), [(0.0, 0), (0.01, 0), (0.15, 7)])
def test_a_node_is_compared_with_itself(tmp_path: Path, loss: float, code: int) -> None:
    before, after = keep(tmp_path / "b.json", result()), keep(tmp_path / "a.json", result(loss=loss, **AFTER))
    assert invoke(["gate", "compare", before, after, after]) == code


def test_a_wave_fails_though_each_gpu_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = [f"n{i}" for i in range(4)]
    before = keep(tmp_path / "b.json", *(result(host) for host in hosts))
    after = keep(tmp_path / "a.json", *(result(host, loss=0.025, **AFTER) for host in hosts))
    assert invoke(["gate", "compare", before, after]) == 7
    told = capsys.readouterr().out
    assert told.count("pass") >= len(hosts)
    assert "8 of 8" in told
    assert invoke(["gate", "compare", before, after, "--host", "n2"]) == 0
    assert invoke(["gate", "compare", before, before]) == 0


def test_a_node_that_was_not_measured_again_is_no_pass(tmp_path: Path) -> None:
    before = keep(tmp_path / "b.json", result("n1"), result("n2"))
    after = keep(tmp_path / "a.json", result("n1", **AFTER))
    assert invoke(["gate", "compare", before, after]) == 8


def test_formats_for_people_ci_and_monitoring() -> None:
    good, bad = result("n1"), result("n2")
    bad["judged"]["results"][0] |= {"verdict": "fail", "code": "RESULT_WRONG", "evidence": ["a <b> & \x00c"]}
    table = gate_table(good)
    assert "n1: warn, continue (standard profile" in table
    assert "4.2 TB/s" in table
    suites = ElementTree.fromstring(junit([good, bad]).partition("?>")[2])
    assert [(s.get("name"), s.get("failures")) for s in suites] == [("n1", "0"), ("n2", "1")]
    assert "a <b> & \ufffdc" in (suites[1].find(".//failure").get("message") or "")  # type: ignore[union-attr]
    metrics = openmetrics([good], {})
    assert metrics.endswith("# EOF\n")
    assert 'planner_gate_result{node="n1",gate="kernel",subject="GPU-n1-0",planner_gate_result="pass"} 1' in metrics
    assert 'planner_gate_measure{node="n1",gpu="0",figure="copy_device",unit="B/s"} 4.2e+12' in metrics


def test_this_machine_is_judged_and_the_result_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(["gate", "run", "--out", str(tmp_path / "gate.json"), "-o", "json"])
    kept = json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))
    assert json.loads(capsys.readouterr().out) == kept
    assert kept["schema"] == "planner.gate-result/2"
    assert code == kept["judged"]["exit_code"]
    if not kept["report"]["gpus"]:
        assert code != 0, "a machine without a GPU proves nothing"


@pytest.mark.parametrize("words", [("--local", "--host", "n1"), ("--host", "n1")])
def test_hosts_need_an_inventory(words: tuple[str, ...]) -> None:
    assert invoke(["gate", "run", *words]) == 2


def test_codes_of_gates_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["explain", "PERF_DROP"]) == 0
    told = capsys.readouterr().out
    assert "PERF_DROP: a gate's answer, fail (exit code 7)" in told
    assert "PCIe link trained down" in told
    assert invoke(["explain", "FABRIC_NOT_READY", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["actions"][0] == "retry-after-idle"
