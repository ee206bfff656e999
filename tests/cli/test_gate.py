"""``planner gate`` on made-up nodes: what is printed, for whom, and with which exit code."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from planner.cli import gate as verbs
from planner.cli.main import invoke
from planner.gates.baseline import baseline_json, read_baseline
from planner.gates.figures import baseline_of
from planner.gates.judge import judge_gate
from planner.report.gate_view import gate_table, junit, openmetrics
from tests.gates import together
from tests.gates.right import report

GOLDEN = Path(__file__).parent / "golden"


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


# --- pairs, all-reduces and load: recorded ones of two H200


def real(run: int = 0, *, loss: float = 0.0, host: str = "vm", slices: int | None = 20) -> dict[str, Any]:
    """Return what is kept of two recorded GPUs, of which copies from the second to the first lost ``loss``."""
    found = together.report(run, host=host, slices=slices)
    pair = found["pairs"]["pairs"][1]["copy"]
    pair["gbps"] = [value * (1 - loss) for value in pair["gbps"]]
    judged = {"verdict": "pass", "action": "continue", "exit_code": 0, "reasons": [], "notes": [], "results": []}
    return {"schema": "planner.gate-result/2", "request": {"profile": "deep", "nonce": "aa", "host": host},
            "report": found, "judged": judged}


@pytest.mark.parametrize(("name", "code"), [("compare-pairs.txt", 7), ("compare-missing.txt", 1),
                                            ("compare-replaced.txt", 7), ("compare-wave.txt", 7)])
def test_what_is_printed_of_a_comparison(name: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    before, after = [real()], [real(1, loss=0.15)]
    if name == "compare-missing.txt":
        before, after = [real()], [real(1)]
        before[0]["report"].pop("pairs")
        after[0]["report"]["load"] = [{"uuid": together.A, "error": "timeout"}]
        after[0]["report"]["collective"] = {"status": "skip", "reason": "no libnccl.so.2"}
    elif name == "compare-replaced.txt":
        after = [together.renamed(real(1), (together.B, together.B.replace("5555", "6666")))]
    elif name == "compare-wave.txt":
        hosts = [f"n{number}" for number in range(6)]
        before = [real(host=host) for host in hosts]
        after = [real(host=host) for host in hosts]
        for each in after:
            each["report"]["started_at"] = "2026-11-26T22:00:00Z"
            for pair in each["report"]["pairs"]["pairs"]:
                pair["copy"]["gbps"] = [0.98 * value for value in pair["copy"]["gbps"]]
    files = [keep(tmp_path / "b.json", *before), keep(tmp_path / "a.json", *after)]
    assert invoke(["gate", "compare", *files]) == code
    told = capsys.readouterr().out
    if os.environ.get("PLANNER_UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(told, encoding="utf-8")
    assert told == (GOLDEN / name).read_text(encoding="utf-8")


def test_figures_alone_are_a_document_that_compare_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(profile: str, *_: Any) -> list[dict[str, Any]]:
        asked.append(profile)
        return [real(len(asked) - 1, slices=None)]

    monkeypatch.setattr(verbs, "_run", run)
    out = tmp_path / "before.json"
    assert invoke(["gate", "baseline", "--profile", "deep", "--out", str(out), "-o", "figures"]) == 0
    text = capsys.readouterr().out
    assert read_baseline(text, name="x") == baseline_of(together.report())
    figures = tmp_path / "figures.json"
    figures.write_text(text, encoding="utf-8")
    # With one file the gate runs now, with the load where there was one.
    assert invoke(["gate", "compare", str(figures), "-o", "json"]) == 0
    assert asked == ["deep", "deep"]
    parts = {row["part"] for row in json.loads(capsys.readouterr().out)["figures"]}
    assert parts == {"", "pairs", "collective", "load"}
    assert invoke(["gate", "compare", str(figures), str(out)]) == 0
    assert invoke(["gate", "baseline", "--host", "a", "--host", "b", "--out", str(out), "-o", "figures"]) == 2


def test_a_directory_of_ranks_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / "before", tmp_path / "after"]
    for run, folder in enumerate(folders):
        folder.mkdir()
        for each in together.ranks(run):
            (folder / f"{each['host']}.nccl.json").write_text(json.dumps(each), encoding="utf-8")
    names = [str(folder) for folder in folders]
    assert invoke(["gate", "compare", *names]) == 0
    told = capsys.readouterr().out
    assert told.startswith("n1 and n2: before and after\n")
    assert "all-reduce over 2 GPUs, ranks in processes of their own" in told
    assert "all_reduce_64_MiB" in told
    for output, start in (("svg", "<svg"), ("html", "<!doctype html>"), ("json", "{")):
        assert invoke(["gate", "compare", *names, "-o", output]) == 0
        assert capsys.readouterr().out.startswith(start)
    (folders[1] / "n2.nccl.json").unlink()
    assert invoke(["gate", "compare", *names]) != 0
    assert "ranks [0] of 2" in capsys.readouterr().err
    (folders[1] / "n1.nccl.json").write_text("[]", encoding="utf-8")
    assert invoke(["gate", "compare", *names]) != 0
    assert "Traceback" not in capsys.readouterr().err


def test_pairs_are_told_by_the_worst_and_measured_by_each() -> None:
    before = read_baseline(json.dumps(baseline_json(baseline_of(together.report()))), name="b")
    after = real(1, loss=0.15)
    lines = [line.split() for line in gate_table(after, before).splitlines()]
    (worst,) = [line for line in lines if "peer_copy_back" in line]
    assert worst[:5] == ["0-1", "peer_copy_back", "(worst", "of", "2)"]
    assert worst[-2:] == ["-14.8", "%"]
    assert not [line for line in lines if "peer_copy_forth" in line]
    assert [line[:2] for line in lines if "all_reduce_1_GiB" in line] == [["0-1", "all_reduce_1_GiB"]]
    metrics = openmetrics([after], {"vm": before})
    assert 'planner_gate_measure{node="vm",gpu="0-1",figure="peer_copy_forth",unit="B/s"} 3.8' in metrics
    assert 'planner_gate_baseline_ratio{node="vm",gpu="0-1",figure="peer_copy_back",unit="B/s"} 0.85' in metrics
    assert 'planner_gate_measure{node="vm",gpu="1",figure="load_busy",unit="1"} 0.99' in metrics
