"""What the worked stories are about, beyond the words that are kept: orders, versions, canaries, refusals."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from planner.cli.main import invoke

ROOT = Path(__file__).resolve().parents[2]
Plan = dict[str, Any]


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and inventories are named from the project's root."""
    monkeypatch.chdir(ROOT)


def plan_of(example: str, target: str, out: Path) -> Plan:
    """Plan a story's facts with one of its targets and return the document."""
    argv = ["plan", "--facts", f"examples/{example}/facts.json", "--target", f"examples/{example}/{target}.yml"]
    assert invoke([*argv, "--out", str(out)]) == 0
    document: Plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that plans a story once and returns its document."""
    @cache
    def plan(example: str) -> Plan:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(ROOT)
            return plan_of(example, "target", tmp_path_factory.mktemp("story") / "bundle")
    return plan


def place(cohort: Plan, component: str, version: str) -> int:
    """Return the position of the step that brings a version."""
    return next(i for i, s in enumerate(cohort["steps"]) for c in s["changes"]
                if c["component"] == component and c["to"].startswith(version))


def cohort_of(plan: Plan, pool: str) -> Plan:
    """Return the first cohort of a pool."""
    return next(c for c in plan["cohorts"] if pool in c["pools"])


@pytest.mark.parametrize(("example", "pool", "earlier", "later"), [
    ("05-dgx-a100", "dgx", ("driver", "580.159.04"), ("cuda_toolkits", "12.8")),
    ("05-dgx-a100", "dgx", ("cuda_toolkits", "12.8"), ("cuda_toolkits", "13.0")),
    ("06-three-drivers", "hgx", ("driver", "580.159.04"), ("cuda_toolkits", "13.0")),
    ("07-volta-and-hopper", "hopper", ("driver", "580"), ("cuda_toolkits", "13.0")),
    ("08-rtx-5090", "desk", ("driver", "580"), ("cuda_toolkits", "13.0")),
    ("09-l4-inference", "serve", ("driver", "580"), ("cuda_runtime", "12.8")),
    ("10-a10-vgpu", "guests", ("vgpu_host", "19.5"), ("vgpu_guest", "19.5")),
    ("11-release-upgrade", "a30", ("driver", "580"), ("os", "ubuntu-24.04")),
    ("12-three-toolkits", "dev", ("driver", "580"), ("cuda_toolkits", "12.8")),
    ("12-three-toolkits", "dev", ("cuda_toolkits", "12.8"), ("cuda_toolkits", "13.0")),
])
def test_orders_follow(example: str, pool: str, earlier: tuple[str, str], later: tuple[str, str], plans: Any) -> None:
    """What has to be first is first, in one step with nothing that must come after."""
    cohort = cohort_of(plans(example), pool)
    assert place(cohort, *earlier) < place(cohort, *later)


def test_dgx_changes_driver_companions_and_flavour_at_once(plans: Any) -> None:
    """One reboot, and not the newest driver: its Fabric Manager is in no repository."""
    (cohort,) = plans("05-dgx-a100")["cohorts"]
    assert {c["component"] for c in cohort["steps"][0]["changes"]} == {
        "driver", "driver_flavour", "fabric_manager", "nscq"}
    assert cohort["cost"]["reboots"] == 1
    assert cohort["goal"]["driver"] == cohort["goal"]["fabric_manager"] == ["580.159.04"]


def test_every_driver_of_today_has_a_canary(plans: Any) -> None:
    """Three drivers, three cohorts, one canary each; NCCL is told as mixed."""
    plan = plans("06-three-drivers")
    starts = {node: c["start"]["driver"][0] for c in plan["cohorts"] for node in c["nodes"]}
    canaries = [n for w in plan["waves"] if w["kind"] == "canary" for b in w["batches"] for n in b["nodes"]]
    assert sorted(starts[n] for n in canaries) == ["535.183.01", "550.127.05", "570.195.03"]
    assert [(w["domain"], w["components"], w["fences"]) for w in plan["mixed"]] == [("ib-hgx", ["nccl"], ["slurm"])]


def test_volta_keeps_its_last_toolkit_and_flavour(plans: Any) -> None:
    """12.9 and proprietary modules there, 13.0 and open ones here."""
    plan = plans("07-volta-and-hopper")
    volta, hopper = cohort_of(plan, "volta"), cohort_of(plan, "hopper")
    assert max(volta["goal"]["cuda_toolkits"]).startswith("12.9")
    assert max(hopper["goal"]["cuda_toolkits"]).startswith("13.0")
    for cohort, opened in ((volta, False), (hopper, True)):
        names = {n for s in cohort["steps"] for n in s["packages"]["install"] if "dkms" in n}
        assert {n.endswith("-open") for n in names} == {opened}


def test_the_old_images_keep_their_runtimes(plans: Any) -> None:
    """The pinned images of the inference pool are judged from the start to the goal."""
    (cohort,) = plans("09-l4-inference")["cohorts"]
    assert cohort["start"]["cuda_runtime"] == ["11.8", "12.1"]
    assert cohort["goal"]["cuda_runtime"] == ["11.8", "12.1", "12.8"]


def test_the_release_upgrade_says_that_there_is_no_way_back(plans: Any) -> None:
    """The step that people make is marked before the first node is touched."""
    (cohort,) = plans("11-release-upgrade")["cohorts"]
    assert cohort["no_return_after"] == cohort["steps"][-1]["id"]
    assert "restore the snapshot" in cohort["no_return_why"]


def test_a_driver_that_only_the_new_system_needs_comes_along_and_first(tmp_path: Path) -> None:
    """The target names the operating system alone; 525 is at home on the old one only."""
    (cohort,) = plan_of("11-release-upgrade", "os-alone", tmp_path / "bundle")["cohorts"]
    assert place(cohort, "driver", "580") < place(cohort, "os", "ubuntu-24.04")


def test_driver_first_is_a_preference_where_claims_leave_it_open(tmp_path: Path) -> None:
    """Without CUDA 13 no claim asks for a driver: 12.8 comes on the one that is there, and none moves."""
    text = (ROOT / "examples/12-three-toolkits/target.yml").read_text(encoding="utf-8")
    target, out = tmp_path / "target.yml", tmp_path / "bundle"
    target.write_text(text.replace(', "13.0"]', "]"), encoding="utf-8")
    facts = "examples/12-three-toolkits/facts.json"
    assert invoke(["plan", "--facts", facts, "--target", str(target), "--out", str(out)]) == 0
    (cohort,) = json.loads((out / "plan.json").read_text(encoding="utf-8"))["cohorts"]
    assert cohort["goal"]["driver"] == cohort["start"]["driver"] == ["550.163.01"]
    assert cohort["goal"]["cuda_toolkits"] == ["11.8.0", "12.8.1"]


def test_what_did_not_change_stays_in_its_batches(tmp_path: Path) -> None:
    """A node that got another driver since moves by another path, and every batch is as it was."""
    document = json.loads((ROOT / "examples/06-three-drivers/facts.json").read_text(encoding="utf-8"))
    nodes = {n["name"]: n for n in document["nodes"]}
    nodes["hgx-06"]["facts"] = nodes["hgx-09"]["facts"]
    facts, before, after = tmp_path / "facts.json", tmp_path / "before", tmp_path / "after"
    facts.write_text(json.dumps(document), encoding="utf-8")
    old = plan_of("06-three-drivers", "target", before)
    argv = ["plan", "--facts", str(facts), "--target", "examples/06-three-drivers/target.yml"]
    assert invoke([*argv, "--like", str(before), "--out", str(after)]) == 0
    new = json.loads((after / "plan.json").read_text(encoding="utf-8"))
    assert [c["id"] for c in new["cohorts"]] == [c["id"] for c in old["cohorts"]]
    batches = [[sorted(b["nodes"]) for w in plan["waves"] for b in w["batches"]] for plan in (old, new)]
    assert batches[0] == batches[1]


def test_the_default_toolkit_is_never_missing(plans: Any) -> None:
    """12.8 is there before 12.4 leaves, with the link in that step; cuDNN is the build of the default toolkit."""
    (cohort,) = plans("12-three-toolkits")["cohorts"]
    removed = next(i for i, s in enumerate(cohort["steps"]) for c in s["changes"]
                   if c["component"] == "cuda_toolkits" and not c["to"])
    assert place(cohort, "cuda_toolkits", "12.8") < removed
    assert {s["id"]: s["links"] for s in cohort["steps"] if s["links"]} == {
        cohort["steps"][removed]["id"]: {"/usr/local/cuda": "/usr/local/cuda-12.8"}}
    assert "libcudnn9-cuda-12" in cohort["steps"][place(cohort, "cudnn", "9.13")]["packages"]["install"]


def test_nothing_to_do_is_nothing(plans: Any) -> None:
    """No step and no wave, though the repository has newer things."""
    plan = plans("13-nothing-to-do")
    assert [c["steps"] for c in plan["cohorts"]] == [[]]
    assert plan["waves"] == []


@pytest.mark.parametrize(("example", "target", "rule"), [
    ("07-volta-and-hopper", "cuda13-for-all", "gpu-7.0-last-toolkit"),
    ("08-rtx-5090", "proprietary", "blackwell-needs-open-modules"),
    ("10-a10-vgpu", "guests", "vgpu-guest-not-newer-than-host"),
    ("14-out-of-reach", "target", "cuda-13-driver-floor"),
])
def test_refusals_name_their_rule(example: str, target: str, rule: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 4, the rule with its source, nothing on stdout."""
    argv = ["plan", "--facts", f"examples/{example}/facts.json", "--target", f"examples/{example}/{target}.yml"]
    assert invoke(argv) == 4
    printed = capsys.readouterr()
    assert (printed.out, f":{rule} https://" in printed.err) == ("", True)


def test_a_refusal_names_every_link_of_its_proof(capsys: pytest.CaptureFixture[str]) -> None:
    """CUDA 13 hangs on a driver, the driver on a system: both are told at once."""
    facts, target = (f"examples/14-out-of-reach/{name}" for name in ("facts.json", "target.yml"))
    assert invoke(["plan", "--facts", facts, "--target", target]) == 4
    reasons = [line.strip() for line in capsys.readouterr().err.splitlines() if line.strip().startswith("because ")]
    assert [("needs driver 580" in r, "ubuntu-20.04 with driver 580" in r) for r in reasons] == [
        (True, False), (False, True)]
