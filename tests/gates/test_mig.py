"""MIG devices: a real probe on stand-in libraries that play MIG, the controller's judge, and who reads its reports.

No real GPU with MIG on was ever asked: what is tested is that planner does what the documents of NVML and CUDA say.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from planner.cli.main import invoke
from planner.gates import mig
from planner.gates.figures import FIGURES, baseline_of
from planner.gates.judge import judge_gate
from planner.probe.targets import SHARED, room_bytes
from planner.report import gate_view
from tests.gates.failure_plays import DEEP, QUICK, STANDARD, Play
from tests.gates.failure_plays_software import CUDART, PODMAN, PYTHON, framework, soft
from tests.gates.failure_stage import Stage, timed
from tests.gates.standin_run import HOST
from tests.gates.test_judge import _JSON as ANY_JSON
from tests.gates.test_judge import paths

RECORDED = Path(__file__).parent / "recorded"
# GPU NUMBER PROFILE START SIZE GPU_INSTANCE COMPUTE_INSTANCE [SERIAL]
SMALL, MIDDLE, OTHER = "0 0 1g.32gb 0 1 7 0", "0 1 2g.64gb 2 2 3 0", "1 0 3g.128gb 0 4 1 0"
ALL = (SMALL, MIDDLE, OTHER)
# Made again after a boot: other instance ids and UUIDs at the same places.
AGAIN = ("0 0 1g.32gb 0 1 9 0 5", "0 1 2g.64gb 2 2 5 0 5", "1 0 3g.128gb 0 4 2 0 5")
PLANNED = {"expect": {"gpus": 2, "may_change": ["mig", "mig_pending", "mig_layout"]}}


def node(*lines: str, profile: str = QUICK, **more: Any) -> Play:
    """A node of two GPUs with MIG as the lines say; what software it has is nobody's concern here."""
    request = {"without": ["software"], **more.pop("request", {})}
    return Play(config={"mig": "\n".join(lines)}, profile=profile, request=request, **more)


def codes(found: dict[str, Any], verdict: str | None = None) -> set[tuple[str, str]]:
    """Return (gate, code) of what is no pass, or of one verdict."""
    return {(r["gate"], r["code"]) for r in found["results"]
            if (r["verdict"] == verdict if verdict else r["verdict"] not in ("pass", "skip", "warn"))}


def entry(report: dict[str, Any], index: str) -> dict[str, Any]:
    return next(gpu for gpu in report["gpus"] if gpu["index"] == index)


BEFORE = node(*ALL, profile=STANDARD)


# --- the probe on a node


def test_each_device_is_proved_in_a_process_of_its_own_beside_whole_gpus(stage: Stage) -> None:
    found, report = stage.judged(node(SMALL, MIDDLE))
    assert found["verdict"] == "pass", found["reasons"]
    assert [gpu["index"] for gpu in report["gpus"]] == ["0.0", "0.1", 1]
    parent = report["nvml"]["gpus"][0]["uuid"]
    for number, (profile, start, size) in enumerate((("1g.32gb", 0, 1), ("2g.64gb", 2, 2))):
        gpu = entry(report, f"0.{number}")
        assert gpu["parent"] == {"index": 0, "uuid": parent}
        assert (gpu["mig"]["profile"], gpu["mig"]["start"], gpu["mig"]["size"]) == (profile, start, size)
        assert gpu["uuid"] == gpu["nvml_uuid"]
        assert gpu["uuid"].startswith("MIG-")
        (process,) = gpu["processes"]
        assert process["label"] == f"{HOST}:0.{number}"
        assert process["name"] == f"NVIDIA H200 MIG {profile} (stand-in)"
        assert process["memory_bytes"]["total"] == size * 32 << 20
    assert any("stand-in" in note for note in found["notes"])
    proved = {r["subject"] for r in found["results"] if r["gate"] == "kernel" and r["code"] == "OK"}
    assert proved == {gpu["nvml_uuid"] for gpu in report["gpus"]}
    assert report["conditions"].keys() >= {gpu["nvml_uuid"] for gpu in report["gpus"]}
    assert "remapped" not in report["nvml"]["gpus"][0], "NVML does not tell rows of a GPU with instances"


def test_the_same_devices_pass_and_their_figures_are_compared(stage: Stage) -> None:
    found, report = stage.judged(node(*ALL, profile=STANDARD, before=BEFORE))
    assert (found["verdict"], found["reasons"]) == ("pass", [])
    compared = {(r["gate"], r["subject"]) for r in found["results"] if r["code"] == "OK"}
    assert {("wmma_f16", gpu["nvml_uuid"]) for gpu in report["gpus"]} <= compared
    for part in ("pairs", "collective"):        # what a MIG device cannot do is a skip, and nobody asks for it
        assert (part, "PART_MISSING") in codes(found, "skip")


def test_devices_that_were_made_again_are_known_by_their_place(stage: Stage) -> None:
    found, report = stage.judged(node(*AGAIN, profile=STANDARD, before=BEFORE))
    before = json.loads(stage.before(BEFORE))
    assert not {gpu["nvml_uuid"] for gpu in report["gpus"]} & {gpu["nvml_uuid"] for gpu in before["gpus"]}
    assert (found["verdict"], found["reasons"]) == ("pass", [])
    assert not [r for r in found["results"] if r["code"] == "BASELINE_MISSING"]
    old = baseline_of(mig.as_known_now(before, report) or {})
    assert {gpu.uuid for gpu in old.gpus} == {gpu["nvml_uuid"] for gpu in report["gpus"]}
    slow, _ = stage.judged(node(*AGAIN, profile=STANDARD, before=BEFORE, faults={"slow-percent": "45 1"}))
    worst = {r["subject"] for r in slow["results"] if r["code"] == "PERF_COLLAPSE"}
    assert worst == {entry(report, "1.0")["nvml_uuid"]}


def test_another_shape_is_not_compared_with_the_old_one(stage: Stage) -> None:
    larger = node("0 0 2g.64gb 0 2 7 0", MIDDLE, OTHER, profile=STANDARD, before=BEFORE)
    found, _ = stage.judged(larger)
    assert (found["verdict"], found["code"]) == ("fail", "SETTING_CHANGED")
    planned = node("0 0 2g.64gb 0 2 7 0", MIDDLE, OTHER, profile=STANDARD, before=BEFORE, request=PLANNED)
    found, report = stage.judged(planned)
    assert found["verdict"] == "pass", found["reasons"]
    new = [r for r in found["results"] if r["code"] == "BASELINE_MISSING" and r["gate"] == "inventory"]
    assert [r["subject"] for r in new] == [entry(report, "0.0")["nvml_uuid"]]
    assert not [r for r in found["results"] if r["code"].startswith("PERF")]


@pytest.mark.parametrize(("line", "told"), [(SMALL, "were 1g.32gb (stand-in), 2g.64gb (stand-in)"), ("0", "are none")])
def test_an_instance_that_is_gone_is_a_changed_setting(line: str, told: str, stage: Stage) -> None:
    found, _ = stage.judged(node(line, OTHER, profile=STANDARD, before=BEFORE))
    assert (found["verdict"], found["code"]) == ("fail", "SETTING_CHANGED")
    assert told in found["reasons"][0]
    assert found["reasons"][0].startswith("GPU 0: modes: ")
    assert not codes(found) & {("inventory", "GPU_MISSING")}, "no hardware is gone"


def test_an_instance_that_goes_while_the_gate_runs_is_told(stage: Stage) -> None:
    found, report = stage.judged(node(*ALL, plays=("later mig_gone 1 0",)))
    assert codes(found) == {("modes", "SETTING_CHANGED")}
    assert found["reasons"][0].startswith("GPU 0: modes: while the gate ran the MIG devices are 1g.32gb (stand-in), ")
    assert all("processes" in gpu for gpu in report["gpus"])


def test_where_nothing_is_cut_there_is_nothing_to_prove(stage: Stage) -> None:
    empty, nothing = node("0", OTHER), node("0", "1")
    found, report = stage.judged(node("0", OTHER, before=empty))
    assert found["verdict"] == "pass", found["reasons"]
    assert "has no instance" in report["gpus"][0]["unsuited"]
    assert ("kernel", "PART_MISSING") in codes(found, "skip")
    for play in (empty, node("0", "1", before=nothing)):        # nobody knows how it was; and no kernel ran at all
        found, _ = stage.judged(play)
        assert (found["outcome"], found["code"], found["exit_code"]) == ("inconclusive", "REQUIRED_SKIPPED", 8)
    bare = node("0", "1", profile=STANDARD, before=node("0", "1", profile=STANDARD))
    assert stage.judged(bare)[0]["code"] == "REQUIRED_SKIPPED"


def test_a_stranger_on_one_device_leaves_its_sisters_alone(stage: Stage) -> None:
    busy = {"mig-busy": "0 1 4242"}
    found, report = stage.judged(node(*ALL, profile=STANDARD, faults=busy, before=BEFORE))
    assert (found["verdict"], found["code"]) == ("inconclusive", "ENV_FOREIGN_PROCESS")
    assert codes(found) == {("kernel", "ENV_FOREIGN_PROCESS")}
    assert [gpu["index"] for gpu in report["gpus"] if "busy" in gpu] == ["0.1"]
    assert found["reasons"] == [
        "GPU 0.1: kernel: used by pid 4242 (not visible here); no kernel was started there (ENV_FOREIGN_PROCESS)"]
    _, report = stage.judged(node(*ALL, faults={**busy, "mig-use-untold": ""}))
    assert [gpu["index"] for gpu in report["gpus"] if "busy" in gpu] == ["0.0", "0.1"]
    _, report = stage.judged(node(*ALL, faults={"gpu-busy": "1 77"}))
    assert [gpu["index"] for gpu in report["gpus"] if "busy" in gpu] == ["1.0"], "nobody knows where on the GPU"


def test_a_device_that_computes_wrong_is_named_alone(stage: Stage) -> None:
    found, report = stage.judged(node(*ALL, faults={"mig-wrong": "0 1"}))
    assert (found["verdict"], found["code"], found["action"]) == ("fail", "RESULT_WRONG", "halt")
    assert {r["subject"] for r in found["results"] if r["code"] == "RESULT_WRONG"} == {entry(report, "0.1")["uuid"]}


def test_mig_that_was_switched_is_a_changed_setting_unless_planned(stage: Stage) -> None:
    whole = Play(profile=STANDARD, request={"without": ["software"]})
    for play in (node(*ALL, profile=STANDARD, before=whole), Play(profile=STANDARD, request=whole.request,
                                                                  before=BEFORE)):
        found, _ = stage.judged(play)
        assert (found["verdict"], found["code"]) == ("fail", "SETTING_CHANGED")
        assert codes(found) == {("modes", "SETTING_CHANGED")}
    found, _ = stage.judged(node(*ALL, profile=STANDARD, before=whole, request=PLANNED))
    assert (found["verdict"], found["reasons"]) == ("pass", [])
    pending = node(*ALL, profile=STANDARD, before=BEFORE, plays=("value mig_pending 0 1",))
    assert codes(stage.judged(pending)[0]) == {("modes", "SETTING_CHANGED")}


def test_a_load_is_for_whole_gpus(stage: Stage) -> None:
    found, report = stage.judged(node(SMALL, MIDDLE, profile=DEEP, request={"load_seconds": 1}))
    assert found["verdict"] == "pass", found["reasons"]
    loads = {r["subject"]: r["code"] for r in found["results"] if r["gate"] == "load"}
    assert loads == {entry(report, "0.0")["uuid"]: "PART_MISSING", entry(report, "0.1")["uuid"]: "PART_MISSING",
                     report["gpus"][2]["uuid"]: "OK"}
    found, _ = stage.judged(node(*ALL, profile=DEEP, request={"load_seconds": 1}))
    assert found["verdict"] == "pass", found["reasons"]


def test_a_small_device_is_asked_for_as_much_as_it_holds(stage: Stage) -> None:
    tiny = node(SMALL, MIDDLE)
    found, report = stage.judged(replace(tiny, config={**tiny.config, "memory-mib": "8"}))
    assert found["verdict"] == "pass", found["reasons"]
    sizes = {gpu["index"]: {r["name"]: r["parameters"].get("bytes") for r in gpu["processes"][0]["results"]}
             for gpu in report["gpus"]}
    assert (sizes["0.0"]["memory"], sizes["0.1"]["memory"], sizes[1]["memory"]) == (768 << 10, 1 << 20, 1 << 20)


def test_compute_instances_of_one_gpu_instance_share_its_memory(stage: Stage) -> None:
    found, report = stage.judged(node("0 0 1c.2g.64gb 0 2 3 0", "0 1 1c.2g.64gb 0 2 3 1", profile=STANDARD))
    assert found["verdict"] == "pass", found["reasons"]
    assert [len(gpu["mig_layout"]) for gpu in report["nvml"]["gpus"] if gpu["mig"]] == [1]
    assert [gpu["mig"]["sharers"] for gpu in report["gpus"][:2]] == [2, 2]
    assert len({gpu["uuid"] for gpu in report["gpus"]}) == 3
    names = {figure.name for gpu in baseline_of(report).gpus[:2] for figure in gpu.figures}
    assert names == {"fma_f32", "wmma_f16", "wmma_s8"}
    alone = copy.deepcopy(report)
    alone["gpus"][0]["mig"]["sharers"] = 5      # so that less is tested
    assert ("report", "GATE_BUG") in codes(verdict(alone))
    assert room_bytes(60 << 20, 64 << 20, 2) == 32 << 20
    assert room_bytes(20 << 20, 64 << 20, 2) == 20 << 20


def test_software_takes_a_whole_gpu_or_else_the_first_free_device(stage: Stage) -> None:
    files = framework(count="1")
    for lines, faults, index in (((SMALL, OTHER), {}, "0.0"), ((SMALL, MIDDLE, OTHER), {"mig-busy": "0 0 7"}, "0.1"),
                                 ((SMALL, MIDDLE), {}, 1)):
        play = soft(libraries={CUDART: "cudart 13000 sees_one"}, files=files, gpus=2, faults=faults,
                    config={"mig": "\n".join(lines)})
        found, report = stage.judged(play)
        answers = {answer["check"]: answer for answer in report["software"]}
        assert answers["torch"]["subject"] == PYTHON
        uuid = next(gpu for gpu in report["gpus"] if gpu["index"] == index)["uuid"]
        for check in ("torch", "cudart"):
            assert answers[check]["evidence"]["asked"] == [uuid]
            assert (check, "OK") in codes(found, "pass"), found["reasons"]


def test_a_container_proves_each_device(stage: Stage) -> None:
    working = PODMAN.replace("call NVML 999", "")
    play = soft(image="local/stand-in", programs={"podman": working}, config={"mig": "\n".join((SMALL, MIDDLE))})
    found, report = stage.judged(play)
    assert ("container", "OK") in codes(found, "pass"), found["reasons"]
    ways = next(a for a in report["software"] if a["check"] == "container" and a["evidence"].get("ways"))
    assert [gpu["index"] for gpu in ways["evidence"]["ways"][-1]["report"]["gpus"]] == ["0.0", "0.1"]


# --- the judge


@pytest.fixture(scope="module")
def told(stage: Stage) -> dict[str, Any]:
    """Return what the probe said of a node with MIG devices and nothing else."""
    request = {"profile": STANDARD, "nonce": "ab", "host": HOST, "without": ["software"]}
    return dict(json.loads(stage.report(node(*ALL, profile=STANDARD), request)))


def verdict(report: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    request = {"profile": report["profile"], "nonce": report["nonce"], "host": HOST, "without": ["software"]}
    return judge_gate(json.dumps(report), request, json.dumps(before) if before else None)


def test_no_device_may_be_left_out_or_made_up(told: dict[str, Any]) -> None:
    assert verdict(told)["verdict"] == "pass"
    lost = copy.deepcopy(told)
    del lost["gpus"][1]
    assert ("report", "GATE_BUG") in codes(verdict(lost))
    twice = copy.deepcopy(told)
    twice["gpus"].append(twice["gpus"][0])
    assert ("report", "GATE_BUG") in codes(verdict(twice))
    invented = copy.deepcopy(told)
    invented["gpus"][0]["index"] = "0.5"
    assert ("report", "GATE_BUG") in codes(verdict(invented))
    other = copy.deepcopy(told)
    other["gpus"][0]["nvml_uuid"] = other["gpus"][0]["uuid"] = "MIG-other"
    assert ("report", "GATE_BUG") in codes(verdict(other))
    whole = copy.deepcopy(told)         # a GPU with MIG on has no kernels of its own
    whole["gpus"][:2] = [{**{k: v for k, v in told["gpus"][0].items() if k not in ("parent", "mig")}, "index": 0}]
    assert verdict(whole)["verdict"] == "fail"


def test_each_device_answers_its_own_question(told: dict[str, Any]) -> None:
    swapped = copy.deepcopy(told)
    first, second = swapped["gpus"][:2]
    first["processes"], second["processes"] = second["processes"], first["processes"]
    assert ("kernel", "RESULT_WRONG") in codes(verdict(swapped))
    strange = copy.deepcopy(told)
    strange["gpus"][0]["uuid"] = strange["gpus"][1]["uuid"]
    assert ("kernel", "RESULT_WRONG") in codes(verdict(strange))


def test_a_driver_before_11_4_knows_only_the_gpus_uuid(told: dict[str, Any]) -> None:
    old = copy.deepcopy(told)
    gpu = old["gpus"][0]
    gpu["uuid"] = gpu["parent"]["uuid"]
    assert ("kernel", "RESULT_WRONG") in codes(verdict(old)), "this driver knows better"
    for process in gpu["processes"]:
        process["cuda"] = "11.3"
    assert verdict(old)["verdict"] == "pass"


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.property
def test_whatever_stands_in_a_report_the_judge_answers(told: dict[str, Any], data: st.DataObject) -> None:
    report, before = copy.deepcopy(told), copy.deepcopy(told)
    for side in (report, before):
        parts = {key: side[key] for key in ("gpus", "nvml", "nvml_after", "conditions", "pairs", "collective")}
        for gpu in parts["gpus"]:
            gpu["processes"] = gpu["processes"][:1]
        place = data.draw(st.sampled_from(paths(parts)))
        inner: Any = side
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = data.draw(ANY_JSON)
    found = verdict(report, before)
    assert found["outcome"] in ("pass", "fail", "inconclusive")
    assert found["reasons"] or found["outcome"] == "pass"


@pytest.mark.parametrize(("free", "code"), [(8 << 20, "MEMORY_SHORT"), (None, "GATE_NO_RESULT")])
def test_a_device_whose_memory_is_held_proves_too_little(told: dict[str, Any], free: int | None, code: str) -> None:
    short = copy.deepcopy(told)
    short["gpus"][0]["processes"][0]["memory_bytes"]["free_before"] = free
    found = verdict(short)
    assert code in {r["code"] for r in found["results"]}
    assert found["outcome"] != "pass"


def test_memory_that_stays_on_one_device_is_residue(told: dict[str, Any]) -> None:
    left = copy.deepcopy(told)
    left["nvml_after"]["gpus"][0]["mig_devices"][1]["memory"]["used_bytes"] += 65 << 20
    found = verdict(left)
    assert [(r["gate"], r["subject"]) for r in found["results"] if r["code"] == "GATE_RESIDUE"] == [
        ("residue", left["gpus"][1]["uuid"])]
    left["nvml_after"]["gpus"][0]["mig_devices"][1]["processes"] = [4242]
    residue = [r for r in verdict(left)["results"] if r["code"] == "GATE_RESIDUE"]
    assert [r["subject"] for r in residue] == [told["nvml"]["gpus"][0]["uuid"]], "whoever came has the memory"


def test_places_count_where_both_sides_tell_them(told: dict[str, Any]) -> None:
    moved = copy.deepcopy(told)
    for gpu in (moved["nvml"]["gpus"][0], moved["nvml_after"]["gpus"][0]):
        gpu["mig_layout"][0]["start"] = 6
    assert codes(verdict(moved, told)) == {("modes", "SETTING_CHANGED")}
    for gpu in (moved["nvml"]["gpus"][0], moved["nvml_after"]["gpus"][0]):
        del gpu["mig_layout"]       # only root may see it
    assert verdict(moved, told)["verdict"] == "pass"


@cache
def recorded(name: str) -> dict[str, Any]:
    return dict(json.loads((RECORDED / f"h200-580.159.04-{name}.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["quick", "standard", "standard-again"])
def test_reports_of_whole_gpus_are_read_as_they_always_were(name: str) -> None:
    report = recorded(name)
    assert mig.as_known_now(recorded("standard"), report) == recorded("standard")
    assert mig.measured_in_all(report, [report]) == mig.whole_only(report) == mig.devices_listed(report) == report
    assert list(mig.wanted(report)) == [str(gpu["index"]) for gpu in report["nvml"]["gpus"]]
    assert not mig.too_few_whole(report)
    request = {key: report[key] for key in ("profile", "nonce", "host")}
    found = judge_gate(json.dumps(report), request, json.dumps(recorded("standard")))
    assert (found["outcome"], found["reasons"]) == ("pass", [])


def test_a_report_from_before_devices_were_proved_stays_no_pass() -> None:
    report = copy.deepcopy(recorded("quick"))
    gpu = report["gpus"][0]
    report["gpus"] = [{**{key: gpu[key] for key in ("index", "name", "nvml_uuid")},
                       "unsuited": "MIG is on; this gate proves whole GPUs only"}]
    for side in ("nvml", "nvml_after"):
        devices = [{"index": 0, "uuid": "MIG-1", "name": "H200 MIG 1g.18gb"}]
        report[side]["gpus"][0].update(mig=True, mig_devices=devices)
    found = judge_gate(json.dumps(report), {key: report[key] for key in ("profile", "nonce", "host")})
    assert (found["outcome"], found["code"]) == ("inconclusive", "REQUIRED_SKIPPED")


def test_no_figure_is_taken_of_what_sisters_share(told: dict[str, Any]) -> None:
    assert set(SHARED) <= set(FIGURES)
    assert not set(SHARED.values()) & set(FIGURES)
    names = {figure.name for gpu in baseline_of(told).gpus for figure in gpu.figures}
    assert names == {"copy_device", "copy_kernel", "fma_f32", "wmma_f16", "wmma_s8"}
    samples = {key for process in told["gpus"][0]["processes"] for r in process["results"] for key in r["samples"]}
    assert samples >= set(SHARED.values())


# --- who reads it


def test_tables_junit_and_openmetrics_show_devices_like_gpus(told: dict[str, Any], stage: Stage) -> None:
    report = json.loads(timed(json.dumps(told)))
    request = {"profile": STANDARD, "nonce": "ab", "host": HOST, "without": ["software"]}
    before = stage.before(BEFORE)
    result = {"request": request, "report": report, "judged": judge_gate(json.dumps(report), request, before)}
    table = gate_view.gate_table(result, baseline_of(json.loads(before)))
    for gpu in report["gpus"]:
        line = next(line for line in table.splitlines() if line.startswith(f"{gpu['index']} "))
        assert gpu["nvml_uuid"] in line
        assert gpu["mig"]["profile"] in line
    assert any(line.startswith("0.1 ") and "wmma_f16" in line for line in table.splitlines())
    cases = [case.attrib for case in ElementTree.fromstring(gate_view.junit([result])).iter("testcase")]
    assert {(gpu["nvml_uuid"], "kernel") for gpu in report["gpus"]} <= {(c["name"], c["classname"]) for c in cases}
    metrics = gate_view.openmetrics([result], {HOST: baseline_of(json.loads(before))})
    assert f'planner_gate_measure{{node="{HOST}",gpu="0.1",figure="wmma_f16",unit="op/s"}}' in metrics
    assert f'planner_gate_baseline_ratio{{node="{HOST}",gpu="1.0",figure="copy_device",unit="B/s"}} 1\n' in metrics


def test_kept_results_are_compared_device_by_device(stage: Stage, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    def keep(name: str, play: Play) -> Path:
        request = {"profile": STANDARD, "nonce": name, "host": HOST, "without": ["software"]}
        report = json.loads(stage.report(play, request))
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({"schema": "planner.gate-result/2", "request": request, "report": report}))
        return path

    before, again = keep("be", BEFORE), keep("af", node(*AGAIN, profile=STANDARD))
    assert invoke(["gate", "compare", str(before), str(again)]) == 0, capsys.readouterr().out
    assert json.loads(again.read_text())["report"]["gpus"][0]["nvml_uuid"] in capsys.readouterr().out
    lost = keep("10", node(SMALL, OTHER, profile=STANDARD))
    assert invoke(["gate", "compare", str(before), str(lost)]) == 7
    assert "(stand-in) is gone (GPU_MISSING)" in capsys.readouterr().out
