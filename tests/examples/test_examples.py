"""The example fleets: files up to date, every command of their READMEs ends as it says, the stories hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plan as plan_benchmark
from examples import generate
from planner.cli.inputs import load_facts
from planner.cli.main import invoke
from planner.facts.inventory import ansible_command

ROOT = Path(__file__).resolve().parents[2]
INVENTORIES = {
    "inventories/two-generations": 26, "inventories/one-node": 1, "inventories/rhel-pair": 2,
    **{str(path.relative_to(ROOT)): len(json.loads(path.with_name("facts.json").read_text(encoding="utf-8"))["nodes"])
       for path in sorted((ROOT / "examples").rglob("hosts.yml"))},
}


def plan_of(example: str, out: Path) -> dict[str, Any]:
    """Plan an example into a directory and return its plan document."""
    facts, target = (f"examples/{example}/{name}" for name in ("facts.json", "target.yml"))
    assert invoke(["plan", "--facts", facts, "--target", target, "--out", str(out)]) == 0
    document: dict[str, Any] = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    return document


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and inventories are named from the project's root."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the plan of the large example."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return plan_of("01-two-generations", tmp_path_factory.mktemp("fleet") / "bundle")


def cohorts(plan: dict[str, Any], pool: str) -> list[dict[str, Any]]:
    """Return the cohorts of one pool."""
    return [c for c in plan["cohorts"] if pool in c["pools"]]


def place(cohort: dict[str, Any], component: str, version: str) -> int:
    """Return the position of the step that brings a version."""
    return next(i for i, s in enumerate(cohort["steps"]) for c in s["changes"]
                if c["component"] == component and c["to"].startswith(version))


# --- files ----------------------------------------------------------------------------------------------------


def test_generated_files_are_up_to_date() -> None:
    """What lies on disk is what the script writes today."""
    assert generate.main(["--check"]) == 0


def test_a_changed_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed byte is a difference, and so is a file that is missing."""
    path = tmp_path / "facts.json"
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "render", lambda: {path: "{}\n"})
    assert generate.main(["--check"]) == 1
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    path.write_text("{ }\n", encoding="utf-8")
    assert generate.main(["--check"]) == 1


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("facts.json")), ids=lambda p: p.parent.name)
def test_facts_say_that_they_are_invented(path: Path) -> None:
    """Every fact set and every identity carries the mark."""
    document = json.loads(path.read_text(encoding="utf-8"))
    assert all("synthetic" in " ".join(s["sources"].values()) for s in document["fact_sets"].values())
    assert all(s.startswith("SYNTHETIC-") for n in document["nodes"] for s in n["identity"]["serials"])
    assert len({n["identity"]["machine_id"] for n in document["nodes"]}) == len(document["nodes"])


@pytest.mark.parametrize(("name", "hosts"), INVENTORIES.items())
def test_inventory_loads_in_ansible(name: str, hosts: int) -> None:
    """Ansible's own command reads each inventory without a complaint."""
    argv = [ansible_command("ansible-inventory"), "-i", name, "--list"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert len(json.loads(done.stdout)["_meta"]["hostvars"]) == hosts
    assert "WARNING" not in done.stderr


def test_script_runs_by_itself() -> None:
    """The script works as a command, from any directory."""
    command = [sys.executable, str(ROOT / "examples" / "generate.py"), "--check"]
    assert subprocess.run(command, cwd="/", check=False).returncode == 0


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "sources", "nearest"),
    [
        ("v100-to-cuda13", ["gpu-7.0-last-toolkit"], "cuda_toolkits 12.9.1 instead of 13.0"),
        ("proprietary-only", ["gpu-7.0-last-driver", "r615-open-modules-only"], "driver 580.178.04 instead of 615"),
        ("no-fabric-manager", ["fabric-manager-equals-driver"], "driver 580.159.04 instead of 580.178.04"),
    ],
)
def test_refusal_names_rules_sources_and_the_nearest_target(
    target: str, sources: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message holds the rule, the document behind it, the nodes, and what could be planned instead."""
    facts = "examples/01-two-generations/facts.json"
    assert invoke(["plan", "--facts", facts, "--target", f"examples/03-refused/{target}.yml"]) == 4
    text = capsys.readouterr().err
    for source in sources:
        assert re.search(rf"source: matrices/\S+:{re.escape(source)} https://", text)
    assert nearest in text
    assert "a100-02" in text or "v100-01" in text


def test_cohorts_that_are_refused_for_the_same_reasons_share_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Three cohorts of two pools lack the same fabric manager: said once, with all nodes and both pools."""
    facts = "examples/01-two-generations/facts.json"
    assert invoke(["plan", "--facts", facts, "--target", "examples/03-refused/no-fabric-manager.yml"]) == 4
    text = capsys.readouterr().err
    assert text.count("error: no-path") == 1
    assert "pools a100, h100, 8x a100-sxm4 and 8x h100-sxm, 18 nodes (a100-01, a100-02, " in text
    assert "and 12 more): no safe path to driver 580.178.04" in text
    assert "nearest feasible target for pools a100, h100: driver 580.159.04 instead of 580.178.04" in text


def test_refusals_of_different_reasons_stay_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two hardware generations with a rule each: a message each, and a hint that leaves both pools out."""
    path = tmp_path / "target.yml"
    wanted = {"schema": "planner.target/1", "name": "apart", "select": ["v100", "h100"], "want": {"driver": "615"}}
    path.write_text(json.dumps(wanted), encoding="utf-8")
    assert invoke(["plan", "--facts", "examples/01-two-generations/facts.json", "--target", str(path)]) == 4
    text = capsys.readouterr().err
    assert text.count("error: no-path") == 2
    assert ("  pool h100, 8x h100-sxm, 8 nodes (" in text, "  pool v100, 8x v100, 6 nodes (" in text) == (True, True)


@pytest.mark.parametrize("target", ["v100-to-cuda13", "proprietary-only", "no-fabric-manager"])
def test_nearest_target_can_be_planned(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the refusal offers is a target that planner accepts."""
    text = (ROOT / "examples" / "03-refused" / f"{target}.yml").read_text(encoding="utf-8")
    swaps = {
        "v100-to-cuda13": ('{present: ["13.0"], default: "13.0"}', '{present: ["12.9.1"], default: "12.9"}'),
        "proprietary-only": ('"615"', '"580.178.04"'),
        "no-fabric-manager": ('"580.178.04"', '"580.159.04"'),
    }
    path = tmp_path / "target.yml"
    path.write_text(text.replace(*swaps[target]), encoding="utf-8")
    assert invoke(["plan", "--facts", "examples/01-two-generations/facts.json", "--target", str(path)]) == 0
    capsys.readouterr()


# --- the story of the large example ---------------------------------------------------------------------------


def test_plan_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """Planned twice, every file of the bundle is equal."""
    one, two = tmp_path / "one", tmp_path / "two"
    plan_of("01-two-generations", one)
    plan_of("01-two-generations", two)
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(two) for p in two.rglob("*") if p.is_file())
    assert [n for n in names if (one / n).read_bytes() != (two / n).read_bytes()] == []


def test_volta_stays_behind(fleet: dict[str, Any]) -> None:
    """The V100 pool gets driver 580 and CUDA 12.8, no CUDA 13, no build for it, and says that it cannot go back."""
    (cohort,) = cohorts(fleet, "v100")
    assert cohort["goal"]["cuda_toolkits"] == ["12.2.2", "12.8.1"]
    assert cohort["goal"]["driver"] == ["580.159.04"]
    pins = {name: version for s in cohort["steps"] for name, version in s["packages"]["install"].items()}
    assert not [n for n, v in pins.items() if n.endswith(("-13-0", "-cuda-13", "-open")) or "+cuda13" in v]
    assert cohort["no_return_after"] == "s1"
    assert any("no staging node" in w and "v100" in w for w in fleet["warnings"])


@pytest.mark.parametrize("pool", ["a100", "h100"])
def test_hgx_pools_change_the_driver_first_and_as_one(pool: str, fleet: dict[str, Any]) -> None:
    """Driver and companions are one step, before the toolkit that needs it; the last link points at CUDA 13.0."""
    for cohort in cohorts(fleet, pool):
        first = cohort["steps"][0]
        moved = {c["component"] for c in first["changes"]}
        assert moved >= {"driver", "fabric_manager", "nscq"}
        assert (first["disruption"], first["quick_gate"]) == ("reboot", True)
        assert ("kernel" in moved) == (pool == "h100")
        assert place(cohort, "driver", "580.159.04") < place(cohort, "cuda_toolkits", "13.0")
        assert cohort["cost"]["reboots"] == 1
        assert [s["links"] for s in cohort["steps"] if s["links"]] == [{"/usr/local/cuda": "/usr/local/cuda-13.0"}]
        assert {"12.2.2", "12.8.1", "13.0.2"} == set(cohort["goal"]["cuda_toolkits"])


def test_runtimes_of_workloads_are_judged(fleet: dict[str, Any]) -> None:
    """The driver step rests on the rule for the runtime that jobs bring along."""
    for cohort in fleet["cohorts"]:
        assert "12.2" in cohort["start"]["cuda_runtime"]
        assert any(b["claim"] == "cuda-12-runtime-floor" for b in cohort["steps"][0]["because"])


def test_staging_goes_first_and_capacity_is_kept(fleet: dict[str, Any]) -> None:
    """Staging, canaries, batches; with one node down, one H100 node moves at a time."""
    waves = [(w["kind"], [n for b in w["batches"] for n in b["nodes"]]) for w in fleet["waves"]]
    assert [kind for kind, _ in waves][:2] == ["staging", "canary"]
    assert waves[0][1] == ["a100-01", "h100-01"]
    assert {n.split("-")[0] for n in waves[1][1]} == {"a100", "h100", "v100"}
    batches = [b["nodes"] for w in fleet["waves"] for b in w["batches"]]
    assert max(sum(n.startswith("h100") for n in b) for b in batches) == 1
    assert max(sum(n.startswith("a100") for n in b) for b in batches) == 2
    assert fleet["pools"]["h100"].items() >= {
        "nodes": 9, "max_unavailable_per_domain": 2, "already_down": ["h100-09"]}.items()
    assert {e["node"]: e["reason"] for e in fleet["excluded"]} == {
        "h100-09": "unreadable", "slurm-ctl-01": "protected-role"}


def test_steps_cite_rules_about_the_toolkit_they_bring(fleet: dict[str, Any]) -> None:
    """The removal of CUDA 11.8 rests on no rule about another toolkit, and adding 12.8 on none about 13."""
    steps = [s for c in fleet["cohorts"] for s in c["steps"] if s["move"] == "toolkit"]
    assert any(not s["changes"][0]["to"] for s in steps)
    for step in steps:
        (change,) = step["changes"]
        assert bool(change["to"]) == bool(step["because"])
        for reason in step["because"]:
            assert f"cuda_toolkits {change['to']}" in reason["statement"]


def test_known_problems_at_the_goal_are_told(fleet: dict[str, Any]) -> None:
    """Wrong results of compilers and of cuBLAS on Hopper, a driver with open CVEs; what a reboot mends is not there."""
    for cohort in fleet["cohorts"]:
        found = {w["claim"]: w for w in cohort["warnings"]}
        hopper = {"cuda-12.6.2-split-k"} if "h100" in cohort["id"] else set()
        known = {"cuda-12.8-reconvergence", "r580-open-cves", "container-toolkit-cve-2026-24260"}
        assert set(found) == known | hopper
        assert found["cuda-12.8-reconvergence"]["hint"].startswith("compile own kernels with")
        assert not found["cuda-12.8-reconvergence"]["at_start"]


def test_titles_say_a_common_version_once(fleet: dict[str, Any]) -> None:
    """What moves in lockstep shares its versions; what does not stands by itself, on the way back, too."""
    (h100,) = cohorts(fleet, "h100")
    driver = "driver + fabric_manager + nscq"
    assert h100["steps"][0]["title"] == (
        f"{driver} 535.183.01 -> 580.159.04, kernel 6.8.0-85-generic -> 6.8.0-87-generic")
    assert h100["way_back"][-1]["title"] == f"{driver} back to 535.183.01, boot kernel 6.8.0-85-generic by hand"


def test_every_release_note_crossed_is_kept(fleet: dict[str, Any]) -> None:
    """The oldest fixes are as wanted as the newest: from 535.183.01 on, none is dropped."""
    notes = cohorts(fleet, "v100")[0]["steps"][0]["notes"]
    assert len(notes) > 20
    assert [n.split()[1] for n in (notes[0], notes[-1])] == ["580.159.03", "535.216.01"]


def test_a_point_of_no_return_is_one_line_and_its_packages_a_list(fleet: dict[str, Any]) -> None:
    """The mirror has lost the old driver of the V100 nodes: how many packages, and which."""
    (v100,) = cohorts(fleet, "v100")
    lost = v100["no_return_packages"]
    assert len(lost) == 10
    assert "libnvidia-compute-535-server 535.183.01-0ubuntu0.22.04.1" in lost
    assert (v100["no_return_after"], v100["no_return_why"]) == (
        "s1", "driver 535.183.01 (10 packages are in no repository any more; kept where prefetched)")


# --- the small ones -------------------------------------------------------------------------------------------


def test_one_node(tmp_path: Path) -> None:
    """Driver, new toolkit, then the old one leaves; the runtime of the Python environment is known."""
    (cohort,) = plan_of("02-one-node", tmp_path / "bundle")["cohorts"]
    assert [c["component"] for c in cohort["steps"][0]["changes"]] == ["driver"]
    assert cohort["start"]["cuda_runtime"] == ["12.4.127"]
    assert cohort["goal"]["cuda_toolkits"] == ["13.0.2"]
    assert place(cohort, "cuda_toolkits", "13.0") == 1


def test_dnf_renames_the_fabric_manager(tmp_path: Path) -> None:
    """The old name goes and the new one comes in the driver's own step, epochs kept."""
    plan = plan_of("04-dnf", tmp_path / "bundle")
    first = plan["cohorts"][0]["steps"][0]
    assert first["packages"]["manager"] == "dnf"
    assert first["packages"]["remove"] == ["nvidia-fabric-manager"]
    assert first["packages"]["install"]["nvidia-fabricmanager"] == "580.159.04-1"
    assert first["packages"]["install"]["kmod-nvidia-open-dkms"] == "3:580.159.04-1.el9"
    assert all(len(b["nodes"]) == 1 for w in plan["waves"] for b in w["batches"])


def test_an_older_version_is_found_when_the_newest_lack_their_companion(tmp_path: Path) -> None:
    """Three newer drivers without a fabric manager do not hide the one that has it."""
    text = (ROOT / "examples/01-two-generations/facts.json").read_text(encoding="utf-8")
    document = json.loads(text)
    for facts in document["fact_sets"].values():
        for name, versions in facts["available"].items():
            if "-580-server" in name:
                newer = [f"580.17{i}.01-0ubuntu0.22.04.1" for i in (9, 8, 7)]
                facts["available"][name] = [*newer, *versions]
    facts, target, out = tmp_path / "facts.json", tmp_path / "target.yml", tmp_path / "bundle"
    facts.write_text(json.dumps(document), encoding="utf-8")
    wanted = {"schema": "planner.target/1", "name": "range", "select": ["h100"], "want": {"driver": "580"},
              "rollout": {"max_unavailable": 2}}
    target.write_text(json.dumps(wanted), encoding="utf-8")
    assert invoke(["plan", "--facts", str(facts), "--target", str(target), "--out", str(out)]) == 0
    (cohort,) = json.loads((out / "plan.json").read_text(encoding="utf-8"))["cohorts"]
    assert cohort["goal"]["driver"] == cohort["goal"]["fabric_manager"] == ["580.159.04"]


@pytest.mark.parametrize(("size", "sets", "kinds"), [(1, 1, 1), (100, 12, 12), (1000, 20, 100), (5000, 20, 100)])
def test_benchmark_fleets_share_their_fact_sets(size: int, sets: int, kinds: int) -> None:
    """The benchmark plans as many nodes as it says, on a dozen stacks; large fleets on 20, with 5 sets of runtimes."""
    document = plan_benchmark.make_facts(size, load_facts(ROOT / "examples/01-two-generations/facts.json"))
    assert (len(document.nodes), len(document.fact_sets)) == (size, sets)
    assert {n.facts for n in document.nodes} == set(document.fact_sets)
    assert len({(n.facts, n.declared["workload_runtimes"]) for n in document.nodes}) == kinds
