"""Real-world steps from facts to a plan that the validator replays from the raw YAML; and honest refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.cli.main import invoke
from planner.documents import dump_model
from planner.emit.expect import expectations
from planner.errors import NoPathError
from planner.facts.schema import FactSet, OsFacts, ServiceFacts
from planner.model.target import Target
from planner.schedule.plan import Cohort, Step
from tests.schedule.machines import COMPAT, CONTAINER, NEW, OLD, offered, plan_for, target, ubuntu, ubuntu_driver, write

DISKLESS = OsFacts(id="ubuntu", version_id="22.04", arch="x86_64", family="apt", virtualisation="none",
                   root_diskless=True, secure_boot=False)
PINNED = {"gpu_operator": "25.3.2", "gpu_operator_driver": "pinned"}


def only(facts: FactSet, wanted: Target, declared: dict[str, Any] | None = None) -> Cohort:
    (cohort,) = plan_for(facts, wanted, declared).cohorts
    return cohort


def refused(facts: FactSet, wanted: Target, declared: dict[str, Any] | None = None) -> str:
    with pytest.raises(NoPathError) as told:
        plan_for(facts, wanted, declared)
    (item,) = told.value.diagnostics
    return " | ".join((item.code, *item.why, item.hint))


def by_hand(step: Step) -> None:
    assert step.handover
    assert (step.packages.manager, dict(step.packages.install), step.packages.remove) == ("none", {}, ())
    assert step.instructions
    assert {p.component for p in step.proofs or ()} == {c.component for c in step.changes}
    assert not any("{" in text for text in step.instructions)


# facts, what is wanted, what people declare, the moves of the path in their order
HANDED: dict[str, tuple[FactSet, dict[str, Any], dict[str, Any], list[str]]] = {
    "os": (ubuntu(), {"os": "ubuntu-24.04"}, {}, ["os-release"]),
    "os-after-the-driver": (ubuntu(), {"os": "ubuntu-24*", "driver": "580"}, {}, ["driver", "os-release"]),
    "operator": (ubuntu(), {"gpu_operator": "25.10.1"}, PINNED, ["gpu-operator"]),
    "operator-patch": (ubuntu(), {"gpu_operator": "25.3.4"}, PINNED, ["gpu-operator"]),
    "operator-beside-host-driver": (ubuntu(), {"gpu_operator": "25.10", "driver": NEW}, {
        **PINNED, "gpu_operator_driver": "host"}, ["driver", "gpu-operator"]),
    "operators-driver": (ubuntu(owner="operator"), {"driver": NEW}, PINNED, ["operator-driver"]),
    "origin": (ubuntu(), {"driver_origin": "vendor"}, {}, ["driver-origin"]),
    "origin-of-a-runfile": (ubuntu(owner="runfile"), {"driver_origin": "vendor"}, {}, ["driver-origin"]),
    "vgpu-manager": (ubuntu(), {"vgpu_host": "17.5"}, {"vgpu_host": "16.4"}, ["vgpu-manager"]),
    "vgpu-guest-after-its-host": (
        ubuntu(), {"vgpu_host": "17.5", "vgpu_guest": "17.5"}, {"vgpu_host": "16.4", "vgpu_guest": "16.4"},
        ["vgpu-manager-of-guests", "vgpu-guest"]),
    "vgpu-guest-on-a-new-host": (ubuntu(), {"vgpu_guest": "17.5"}, {"vgpu_host": "17.5", "vgpu_guest": "16.4"}, [
        "vgpu-guest"]),
    "image": (ubuntu(os=DISKLESS), {"node_image": "gpu-2026.11"}, {"node_image": "gpu-2026.05"}, ["node-image"]),
    "module-tree": (ubuntu(version=NEW), {"toolkit_module": "13.0"}, {"toolkit_module": "12.8"}, ["module-default"]),
    "module-tree-back": (ubuntu(), {"toolkit_module": "12.8"}, {"toolkit_module": "13.0"}, ["module-default"]),
    "workloads": (ubuntu(), {"cuda_runtime": {"present": ["12.6"], "absent": ["12.4"]}},
                  {"workload_runtimes": ("12.4",)}, ["workload-runtime", "workload-runtime"]),
}


@pytest.mark.parametrize("name", HANDED)
def test_steps_by_other_hands(name: str) -> None:
    facts, want, declared, moves = HANDED[name]
    cohort = only(facts, target(**want), declared)
    assert [s.move for s in cohort.steps] == moves
    for step in (*cohort.steps, *cohort.way_back):
        if step.move != "driver":
            by_hand(step)
    assert [s.changes[0].to for s in reversed(cohort.way_back)] == [s.changes[0].from_ for s in cohort.steps]


def test_workloads_that_need_a_newer_driver_come_after_it_and_the_order_follows_from_the_claims() -> None:
    want = {"driver": "580", "cuda_runtime": {"present": ["13.0"], "absent": ["12.4"]}}
    cohort = only(ubuntu(), target(**want), {"workload_runtimes": ("12.4",)})
    assert cohort.steps[0].move == "driver"
    assert {s.move for s in cohort.steps[1:]} == {"workload-runtime"}
    old = refused(ubuntu(available={}), target(cuda_runtime={"present": ["13.0"]}), {"workload_runtimes": ("12.4",)})
    assert "CUDA" in old
    assert "driver 570.211.01" in old


def test_a_release_of_the_system_ends_the_plan_and_marks_the_point_of_no_return() -> None:
    cohort = only(ubuntu(), target(os="ubuntu-24.04", driver="580"))
    assert [s.ends for s in cohort.steps] == [None, True]
    assert cohort.no_return_after == "s2"
    assert "not taken back in place" in cohort.no_return_why
    assert cohort.goal["os"] == ("ubuntu-24.04",)
    assert cohort.cost["reboots"] == 2


def test_images_of_diskless_nodes_are_left_alone_unless_people_say_which_they_run(tmp_path: Path,
                                                                                 capsys: Any) -> None:
    path = write(tmp_path, ubuntu(os=DISKLESS))
    (tmp_path / "t.yml").write_text('{schema: planner.target/1, name: t, want: {node_image: "x"}}')
    assert invoke(["plan", "--facts", str(path), "--target", str(tmp_path / "t.yml")]) == 1
    told = capsys.readouterr().err
    assert "n1: diskless" in told
    assert "install the goal stack in a copy" in told
    assert "planner_node_image" in told


# facts, what is wanted, what people declare, words that the refusal must have
REFUSED: dict[str, tuple[FactSet, dict[str, Any], dict[str, Any], list[str]]] = {
    "os-two-ahead": (ubuntu(), {"os": "ubuntu-26.04"}, {}, [
        "first ubuntu-24.04", "ubuntu-24.04 instead of ubuntu-26.04"]),
    "os-back": (ubuntu(), {"os": "ubuntu-20.04"}, {}, ["no way back in place", "nearest feasible"]),
    "os-of-others": (ubuntu(), {"os": "debian-13"}, {}, ["no way from os ubuntu-22.04 to debian-13"]),
    "os-with-kernel": (ubuntu(), {"os": "ubuntu-24.04", "kernel": "6.8.0-45-generic"}, {}, [
        "nothing follows os", "leave out kernel"]),
    "two-ends": (ubuntu(), {"os": "ubuntu-24.04", "driver_origin": "vendor"}, {}, ["discover and plan again"]),
    "origin-with-driver": (ubuntu(), {"driver_origin": "vendor", "driver": "580"}, {}, ["leave out driver"]),
    "origin-nonsense": (ubuntu(), {"driver_origin": "friend"}, {}, ["one of distribution, vendor, runfile"]),
    "operator-two-ahead": (ubuntu(), {"gpu_operator": "26.7.0"}, PINNED, [
        "one line after the other", "25.10.1 instead of 26.7.0"]),
    "operator-unheard-of": (ubuntu(), {"gpu_operator": "99.1"}, PINNED, ["no release gpu_operator 99.1 is known"]),
    "operator-back": (ubuntu(), {"gpu_operator": "24.9.2"}, PINNED, ["not newer than 25.3.2"]),
    "operator-unpinned": (ubuntu(), {"gpu_operator": "25.10"}, {**PINNED, "gpu_operator_driver": "unpinned"}, [
        "is not pinned", "pin driver.version"]),
    "operator-of-a-provider": (ubuntu(), {"gpu_operator": "25.10"}, {**PINNED, "gpu_operator_driver": "provider"}, [
        "the provider manages"]),
    "operator-without-a-word": (ubuntu(), {"gpu_operator": "25.10"}, {"gpu_operator": "25.3.2"}, [
        "nobody says who chooses the driver"]),
    "operator-not-declared": (ubuntu(), {"gpu_operator": "25.10"}, {}, ["planner_gpu_operator"]),
    "operators-driver-unpinned": (ubuntu(owner="operator"), {"driver": NEW}, {
        **PINNED, "gpu_operator_driver": "unpinned"}, ["is not pinned"]),
    "operators-driver-of-a-provider": (ubuntu(owner="operator"), {"driver": NEW}, {
        "gpu_operator_driver": "provider"}, ["the provider manages the driver"]),
    "runfile-driver": (ubuntu(owner="runfile"), {"driver": NEW}, {}, ["owned by runfile"]),
    "vgpu-guest-before-its-host": (ubuntu(), {"vgpu_guest": "17.5"}, {"vgpu_host": "16.4", "vgpu_guest": "16.4"}, [
        "newer major release than the host's vGPU manager"]),
    "driver-of-a-vgpu-guest": (ubuntu(), {"driver": NEW}, {"vgpu_host": "16.4", "vgpu_guest": "16.4"}, [
        "belongs to its vGPU release (16.4)", "want another vgpu_guest"]),
    "driver-of-a-hypervisor": (ubuntu(), {"driver": NEW}, {"vgpu_host": "16.4"}, ["is its vGPU manager"]),
    "vgpu-guest-and-driver": (ubuntu(), {"vgpu_guest": "16.5", "driver": "580"}, {
        "vgpu_host": "16.5", "vgpu_guest": "16.4"}, ["leave out driver"]),
    "vgpu-guest-unheard-of": (ubuntu(), {"vgpu_guest": "16.99"}, {"vgpu_host": "17.5", "vgpu_guest": "16.4"}, [
        "no release vgpu_guest 16.99 is known"]),
    "vgpu-manager-back": (ubuntu(), {"vgpu_host": "16.2"}, {"vgpu_host": "16.4"}, ["not newer than 16.4"]),
    "packages-of-an-image": (ubuntu(os=DISKLESS), {"driver": NEW}, {"node_image": "a"}, ["lies in the image"]),
    "flavour-that-gpus-do-not-take": (ubuntu(model="Tesla V100-SXM2-32GB", capability="7.0"), {
        "driver_flavour": "open"}, {}, ["Volta", "keep driver_flavour proprietary"]),
    "flavour-that-gpus-need": (ubuntu(flavour="open", version=NEW, model="NVIDIA B200", capability="10.0"), {
        "driver_flavour": "proprietary"}, {}, ["Blackwell"]),
    "flavour-nonsense": (ubuntu(), {"driver_flavour": "closed"}, {}, ["one of proprietary, open"]),
    "driver-of-the-other-flavour": (
        ubuntu(available=offered(ubuntu_driver(OLD, "proprietary"), ubuntu_driver("615.71.09", "open"))),
        {"driver": "615"}, {}, ["driver 615.71.09 with driver_flavour open only", "want driver_flavour: open, too"]),
    "flavour-nobody-offers": (ubuntu(available={}), {"driver_flavour": "open"}, {}, ["driver"]),
    "compat-nobody-offers": (ubuntu(), {"cuda_compat": {"present": ["13.2"]}}, {}, ["cuda_compat"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_with_reasons_and_what_is_nearest(name: str) -> None:
    facts, want, declared, words = REFUSED[name]
    told = refused(facts, target(**want), declared)
    for word in words:
        assert word in told, told


@pytest.mark.parametrize(("want", "declared"), [
    ({"node_image": "b"}, {"node_image": "a"}), ({"vgpu_guest": "17.5"}, {"vgpu_host": "17.5", "vgpu_guest": "16.4"}),
])
def test_gates_ask_for_no_version_of_what_nobody_predicts(want: dict[str, Any], declared: dict[str, Any]) -> None:
    facts = ubuntu(os=DISKLESS) if "node_image" in want else ubuntu()
    expected = expectations(only(facts, target(**want), declared))
    assert expected["start"] == {"driver": OLD, "gpus": 1}
    assert expected["s1"] == {"gpus": 1}


def test_a_refusal_has_its_exit_code(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path, ubuntu())
    (tmp_path / "t.yml").write_text('{schema: planner.target/1, name: t, want: {os: "ubuntu-20.04"}}')
    assert invoke(["plan", "--facts", str(path), "--target", str(tmp_path / "t.yml")]) == 4
    (tmp_path / "t.yml").write_text('{schema: planner.target/1, name: t, want: {driver: "latest"}}')
    assert invoke(["plan", "--facts", str(path), "--target", str(tmp_path / "t.yml")]) == 1
    assert "'latest' is not a version" in capsys.readouterr().err
    (tmp_path / "t.yml").write_text('{schema: planner.target/1, name: t, want: {os: "ubuntu-24.04; reboot"}}')
    assert invoke(["plan", "--facts", str(path), "--target", str(tmp_path / "t.yml")]) == 1
    assert "cannot read '; reboot'" in capsys.readouterr().err


# --- what packages do make ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("now", "wanted"), [("proprietary", "open"), ("open", "proprietary")])
@pytest.mark.parametrize("driver", [None, NEW])
def test_the_flavour_changes_by_packages_in_one_reboot(now: str, wanted: str, driver: str | None) -> None:
    """Packages of the state after the step; those of the old flavour leave; the way back brings them again."""
    want = {"driver_flavour": wanted, **({"driver": driver} if driver else {})}
    facts = ubuntu(flavour=now)
    cohort = only(facts, target(**want))
    (step,) = cohort.steps
    version, tail = driver or OLD, {"open": "-open", "proprietary": ""}
    branch = version.split(".")[0]
    assert step.disruption == "reboot"
    assert step.quick_gate
    assert step.packages.install[f"nvidia-dkms-{branch}-server{tail[wanted]}"].startswith(version)
    assert f"nvidia-dkms-{OLD.split('.')[0]}-server{tail[now]}" in step.packages.remove
    assert not set(step.packages.install) & set(step.packages.remove)
    left = {**facts.packages, **step.packages.install}
    for name in step.packages.remove:
        left.pop(name)
    assert not [n for n in left if "dkms" in n and n.endswith("-open") != (wanted == "open")]
    (back,) = cohort.way_back
    left |= back.packages.install
    for name in back.packages.remove:
        left.pop(name)
    assert left == facts.packages


def test_the_flavour_stays_where_nobody_asks_for_another() -> None:
    (step,) = only(ubuntu(), target(driver=NEW)).steps
    assert step.move == "driver"
    assert not [n for n in step.packages.install if n.endswith("-open")]


def test_a_new_flavour_is_kept_by_later_steps_of_the_driver() -> None:
    assert only(ubuntu(flavour="open"), target(driver_flavour="open")).steps == ()


def test_forward_compatibility_comes_and_goes_by_packages() -> None:
    (step,) = only(ubuntu(), target(cuda_compat={"present": ["13.0"]})).steps
    assert dict(step.packages.install) == {"cuda-compat-13-0": "580.159.03-1"}
    gone = only(ubuntu(packages=COMPAT), target(cuda_compat={"absent": ["12.*"]}))
    assert [s.packages.remove for s in gone.steps] == [("cuda-compat-12-8",)]
    assert gone.way_back[0].packages.install == {"cuda-compat-12-8": "570.211.01-1"}


def test_packages_that_lie_there_say_nothing_unless_a_target_names_them() -> None:
    facts = ubuntu(packages=COMPAT, model="NVIDIA GeForce RTX 4090")
    assert "cuda_compat" not in only(facts, target(driver=NEW)).start


def test_generated_device_files_are_made_again_with_toolkit_and_driver() -> None:
    (step,) = only(ubuntu(packages=CONTAINER, container_toolkit="1.17.8"), target(container_toolkit="1.19.1")).steps
    assert [(r.unit, r.argv[:2]) for r in step.refresh or ()] == [
        ("nvidia-cdi-refresh.service", ()), ("", ("nvidia-ctk", "cdi"))]
    (step,) = only(ubuntu(), target(driver=NEW)).steps
    assert step.refresh


def test_boards_with_switches_are_told_about_firmware() -> None:
    fabric = {v: {f"nvidia-fabricmanager-{v[:3]}": f"{v}-0ubuntu0.22.04.1"} for v in (OLD, NEW)}
    facts = ubuntu(model="NVIDIA H100 80GB HBM3", capability="9.0", nvswitch=True, packages=fabric[OLD],
                   fabric_manager=ServiceFacts(version=f"{OLD}-0ubuntu0.22.04.1"))
    facts = facts.model_copy(update={"available": {**(facts.available or {}), **offered(*fabric.values())}})
    (step,) = only(facts, target(driver=NEW)).steps
    assert [r for r in step.remarks or () if r.startswith("firmware: ") and NEW in r]
    (step,) = only(ubuntu(), target(driver=NEW)).steps
    assert step.remarks is None


def test_engines_have_to_be_rebuilt() -> None:
    old, new = "10.9.0.34-1+cuda12.8", "10.13.0.35-1+cuda12.9"
    facts = ubuntu(packages={"libnvinfer10": old})
    facts = facts.model_copy(update={"available": {**(facts.available or {}), "libnvinfer10": (new, old)}})
    (step,) = only(facts, target(tensorrt="10.13.0.35")).steps
    assert [r for r in step.remarks or () if "TensorRT 10.9.0.34" in r and "rebuild" in r]


def test_the_same_inputs_give_the_same_bytes() -> None:
    def once() -> str:
        return json.dumps(dump_model(plan_for(ubuntu(), target(os="ubuntu-24.04", driver="580"))), sort_keys=True)

    assert once() == once()
