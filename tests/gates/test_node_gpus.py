"""Each rule for the GPUs of a node, seen from both sides: health, settings, fabric, links and modes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gates.standin_node import GPUS, HOST, build, changed, gpu_changed, judged, one, seen
from tests.gates.standin_nvml import DRIVER

GPU = GPUS[0]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return build(tmp_path_factory.mktemp("node"))


def rebooted(report: dict[str, Any]) -> dict[str, Any]:
    """Return the same node after a boot."""
    return changed(report, "boot_id", to="boot-b")


# --- health: marks


@pytest.mark.parametrize(("action", "words"), [(1, "reset the GPU"), (2, "reboot the node"), (7, "reboot the system"),
                                               (99, "not known here")])
def test_a_recovery_action_is_due(node: dict[str, Any], action: int, words: str) -> None:
    code, why = seen(gpu_changed(node, "recovery_action", to=action), "health", GPU, before=node)
    assert (code, words in why) == ("GPU_RESET_REQUIRED", True)
    assert "it was so before" not in why


def test_what_only_the_look_after_the_kernels_shows_counts(node: dict[str, Any]) -> None:
    report = changed(node, "nvml_after", "gpus", 0, "recovery_action", to=1)
    assert seen(report, "health", GPU)[0] == "GPU_RESET_REQUIRED"
    assert seen(report, "health", GPUS[1])[0] == "OK"


def test_rows_of_memory(node: dict[str, Any]) -> None:
    pending = gpu_changed(node, "remapped", to={"corrected": 0, "uncorrected": 1, "pending": 1, "failure": 0})
    failed = gpu_changed(node, "remapped", to={"corrected": 0, "uncorrected": 1, "pending": 1, "failure": 1})
    assert seen(pending, "health", GPU)[0] == "ROW_REMAP_PENDING"
    assert seen(failed, "health", GPU)[0] == "ROW_REMAP_FAILED"
    assert seen(gpu_changed(node, "retired_pending", to=1), "health", GPU)[0] == "ROW_REMAP_PENDING"
    assert seen(gpu_changed(node, "remapped", to=...), "health", GPU)[0] == "OK", "MIG hides them"
    done = gpu_changed(node, "remapped", to={"corrected": 0, "uncorrected": 1, "pending": 0, "failure": 0})
    assert seen(done, "health", GPU, before=node)[0] == "ROW_REMAP_PENDING"
    assert seen(done, "health", GPU, before=done)[0] == "OK"
    found = one(judged(failed, failed), "health", GPU)
    assert found.passed_before is False
    assert "it was so before the change" in found.evidence[0]


# --- health: counters


def with_ecc(node: dict[str, Any], volatile: int, aggregate: int, kind: str = "uncorrected", after: bool = True
             ) -> dict[str, Any]:
    report = gpu_changed(node, "ecc", "volatile", kind, to=volatile, after=after)
    return gpu_changed(report, "ecc", "aggregate", kind, to=aggregate, after=after)


@pytest.mark.parametrize(("before", "after", "boot", "code"), [
    ((0, 5), (0, 5), False, "OK"),                      # an old count of the GPU's life
    ((0, 5), (0, 6), False, "ECC_UNCORRECTED"),
    ((2, 5), (2, 5), False, "OK"),                      # counted before the change, in this boot
    ((2, 5), (3, 5), False, "ECC_UNCORRECTED"),
    ((2, 5), (1, 5), False, "ECC_UNCORRECTED"),         # the driver was loaded again, and counts one since
    ((2, 5), (0, 5), True, "OK"),
    ((2, 5), (2, 5), True, "ECC_UNCORRECTED"),          # volatile counters begin anew with a boot
    ((0, 5), (0, 4), True, "OK"),                       # cleared by somebody: nothing new is known
])
def test_uncorrected_errors(node: dict[str, Any], before: tuple[int, int], after: tuple[int, int], boot: bool, code: str
                            ) -> None:
    report = with_ecc(node, *after)
    assert seen(rebooted(report) if boot else report, "health", GPU, before=with_ecc(node, *before))[0] == code


def test_without_a_record_errors_since_the_boot_count_and_those_of_a_life_do_not(node: dict[str, Any]) -> None:
    assert seen(with_ecc(node, 1, 9), "health", GPU)[0] == "ECC_UNCORRECTED"
    assert seen(with_ecc(node, 0, 9), "health", GPU)[0] == "OK"
    while_it_ran = changed(node, "nvml_after", "gpus", 0, "ecc", "aggregate", "uncorrected", to=1)
    assert "while the gate ran" in seen(while_it_ran, "health", GPU)[1]


def test_corrected_errors_are_a_warning_only_where_they_are_new(node: dict[str, Any]) -> None:
    assert seen(with_ecc(node, 0, 7, "corrected"), "health", GPU, before=node)[0] == "ECC_CORRECTED"
    assert seen(with_ecc(node, 7, 7, "corrected"), "health", GPU)[0] == "OK"


def test_pcie_replays_and_link_errors(node: dict[str, Any]) -> None:
    assert seen(gpu_changed(node, "pcie", "replays", to=79), "health", GPU, before=node)[0] == "OK"
    many = gpu_changed(node, "pcie", "replays", to=80)
    assert seen(many, "health", GPU, before=node)[0] == "LINK_ERRORS"
    assert seen(rebooted(many), "health", GPU, before=node)[0] == "OK", "they count from zero after a boot"

    def link(name: str, value: int) -> dict[str, Any]:
        return changed(node, "nvml_after", "gpus", 0, "nvlinks", 3, "errors", name, to=value)

    assert seen(link("recovery", 1), "health", GPU, before=node)[0] == "LINK_ERRORS"
    assert seen(link("crc", 100), "health", GPU)[0] == "OK"
    code, words = seen(link("crc", 101), "health", GPU)
    assert (code, words) == ("LINK_ERRORS", "NVLink errors while the gate ran: link 3 100 crc")


# --- health: the kernel's log


def logged(node: dict[str, Any], number: int, *, at: float = 500.0, pci: str = "0000:30:00", kind: str = "xids",
           during: bool = False, text: str = "") -> dict[str, Any]:
    line = {"at_s": at, "pci": pci, "number": number, "pid": 7, "name": "x", "text": text or f"NVRM: Xid {number}"}
    path = ("kernel_log_after",) if during else ("host_state", "kernel_log")
    return changed(node, *path, kind, to=[line])


@pytest.mark.parametrize(("number", "during", "code"), [
    (79, False, "GPU_LOST"), (48, False, "XID_CRITICAL"), (119, True, "XID_CRITICAL"), (31, False, "XID_OTHER"),
    (31, True, "XID_APP"), (154, False, "XID_OTHER"), (92, True, "XID_OTHER")])
def test_xids(node: dict[str, Any], number: int, during: bool, code: str) -> None:
    results = judged(logged(node, number, during=during), node)
    assert one(results, "health", GPU).code == code
    assert one(results, "health", GPUS[1]).code == "OK"
    assert one(results, "health").code == "OK"


def test_xids_of_the_time_before_are_told_only(node: dict[str, Any]) -> None:
    old = logged(node, 79, at=99.0)
    code, words = seen(old, "health", GPU, before=node)
    assert (code, "before the change: NVRM: Xid 79" in words) == ("OK", True)
    assert seen(rebooted(old), "health", GPU, before=node)[0] == "GPU_LOST", "seconds of another boot say nothing"
    assert seen(old, "health", GPU)[0] == "GPU_LOST"


def test_an_xid_of_no_known_gpu_is_the_hosts(node: dict[str, Any]) -> None:
    assert seen(logged(node, 79, pci="0000:99:00"), "health")[0] == "GPU_LOST"


def test_sxids(node: dict[str, Any]) -> None:
    quiet = logged(node, 28002, kind="sxids", pci="0000:c1:00.0", text="SXid 28002, Non-fatal, Link 48")
    fatal = logged(node, 20034, kind="sxids", pci="0000:c1:00.0", text="SXid 20034, Fatal, Link 48")
    assert seen(quiet, "health")[0] == "XID_OTHER"
    assert seen(fatal, "health")[0] == "XID_CRITICAL"


def test_a_log_that_cannot_be_read_is_not_an_empty_one(node: dict[str, Any]) -> None:
    report = changed(node, "host_state", "kernel_log", to={"source": "unreadable", "why": ["/dev/kmsg: not permitted"]})
    code, words = seen(report, "health")
    assert (code, "/dev/kmsg: not permitted" in words) == ("PART_MISSING", True)
    assert seen(report, "health", GPU)[0] == "OK"
    assert seen(logged(report, 79, during=True, pci="0000:99:00"), "health")[0] == "GPU_LOST"
    part = changed(node, "host_state", "kernel_log", "complete", to=False)
    assert "does not reach back" in seen(part, "health")[1]


# --- settings


@pytest.mark.parametrize(("path", "value", "name"), [
    (("persistence",), 0, "persistence"), (("compute_mode",), 3, "compute_mode"),
    (("ecc", "mode", "current"), 0, "ecc"), (("ecc", "mode", "pending"), 0, "ecc_pending"),
    (("virtualization",), 2, "virtualization"),
    (("power", "limit_w"), 500.0, "power_limit_w"), (("power", "enforced_w"), 600.0, "power_enforced_w"),
    (("power", "max_w"), 650.0, "power_max_w"), (("clocks", "max_sm_mhz"), 1900, "clocks_max_sm_mhz"),
    (("clocks", "application_memory_mhz"), 2600, "clocks_application_memory_mhz")])
def test_settings_are_those_of_before(node: dict[str, Any], path: tuple[str, ...], value: float, name: str) -> None:
    record = gpu_changed(node, "clocks", to={"max_sm_mhz": 1980, "application_memory_mhz": 3201})
    report = gpu_changed(record, *path, to=value)
    code, words = seen(report, "settings", GPU, before=record)
    assert (code, f"{name} is {value:g}, was " in words) == ("SETTING_CHANGED", True)
    assert seen(report, "settings", GPUS[1], before=record)[0] == "OK"
    code, words = seen(report, "settings", GPU, before=record, may_change=[name])
    assert (code, "as planned" in words) == ("OK", True)
    code, words = seen(gpu_changed(record, *path, to=...), "settings", GPU, before=record)
    assert (code, "is told no more" in words) == ("OK", True)


def test_a_fraction_of_a_watt_is_no_change(node: dict[str, Any]) -> None:
    assert seen(gpu_changed(node, "power", "enforced_w", to=699.6), "settings", GPU, before=node)[0] == "OK"


def test_what_the_gate_itself_moved(node: dict[str, Any]) -> None:
    code, words = seen(changed(node, "nvml_after", "gpus", 0, "persistence", to=0), "settings", GPU, before=node)
    assert (code, words) == ("SETTING_CHANGED", "while the gate ran persistence became 0, was 1")


@pytest.mark.parametrize(("raw", "code"), [(0x1, "OK"), (0x4, "OK"), (0x2, "OK"), (0x8, "ENV_THROTTLED"),
                                           (0x40, "ENV_THROTTLED"), (0x84, "ENV_THROTTLED"), (0x20, "ENV_THROTTLED"),
                                           (0x10, "OK")])
def test_clocks_held_down_at_rest(node: dict[str, Any], raw: int, code: str) -> None:
    report = gpu_changed(node, "reasons", to={"raw": raw, "names": ["sync-boost"]})
    found, words = seen(report, "settings", GPU, before=node)
    assert found == code
    assert ("sync-boost" in words) == (raw == 0x10)


def test_a_gpu_without_a_record_is_compared_with_nothing(node: dict[str, Any]) -> None:
    fewer = changed(node, "nvml", "gpus", to=node["nvml"]["gpus"][:1])
    assert seen(node, "settings", GPUS[1], before=fewer)[0] == "BASELINE_MISSING"
    assert seen(node, "modes", GPUS[1], before=fewer)[0] == "BASELINE_MISSING"


# --- fabric


def test_the_planned_fabric_manager_runs(node: dict[str, Any]) -> None:
    def manager(version: str | None, active: bool | None) -> dict[str, Any]:
        return changed(changed(node, "versions", "fabric_manager", to=version), "versions", "fabric_manager_active",
                       to=active)

    assert seen(manager(DRIVER, True), "fabric", fabric_manager=DRIVER)[0] == "OK"
    assert seen(manager("580.95.05", True), "fabric", fabric_manager=DRIVER) == (
        "FABRIC_NOT_READY", f"fabric manager is 580.95.05, planned is {DRIVER}")
    assert seen(manager(DRIVER, False), "fabric", fabric_manager=DRIVER) == (
        "FABRIC_NOT_READY", "the fabric manager is not running")
    code, words = seen(manager(None, None), "fabric", fabric_manager=DRIVER)
    assert (code, words) == ("REQUIRED_SKIPPED", f"the fabric manager's version could not be read, planned is {DRIVER}")
    assert seen(manager("580.95.05", True), "fabric")[0] == "FABRIC_NOT_READY"
    assert seen(manager(DRIVER, False), "fabric")[0] == "OK", "installed and never started"
    assert seen(manager(DRIVER, False), "fabric", before=manager(DRIVER, True))[0] == "FABRIC_NOT_READY"


@pytest.mark.parametrize(("fabric", "code"), [
    ({"state": 3, "status": 0}, "OK"), ({"state": 2, "status": 0}, "FABRIC_NOT_READY"),
    ({"state": 1, "status": 0}, "FABRIC_NOT_READY"), ({"state": 9}, "FABRIC_NOT_READY"),
    ({"state": 3, "status": 999}, "FABRIC_NOT_READY"), ({"state": 3, "health_mask": 0b10}, "OK"),
    ({"state": 3, "health_mask": 0b01}, "LINK_ERRORS"), ({"state": 3, "health_mask": 0b010000}, "FABRIC_NOT_READY"),
    ({"state": 3, "health_mask": 5 << 8}, "FABRIC_NOT_READY"), ({"state": 3, "health_mask": 1 << 8}, "OK"),
    ({"state": 3, "health_summary": 2}, "FABRIC_NOT_READY"), ({"state": 3, "health_summary": 1}, "OK")])
def test_the_fabric_is_complete_and_healthy(node: dict[str, Any], fabric: dict[str, int], code: str) -> None:
    report = gpu_changed(node, "fabric", to=fabric)
    assert seen(report, "fabric", GPU, before=node)[0] == code
    inherited = {"OK": "OK", "LINK_ERRORS": "LINK_ERRORS"}.get(code, "INHERITED")
    found = seen(report, "fabric", GPU, before=report)[0]
    assert found == ("FABRIC_NOT_READY" if fabric["state"] == 2 else inherited), "what trains must end, before or not"


def test_a_fabric_that_is_gone_and_links_that_are_down(node: dict[str, Any]) -> None:
    assert seen(gpu_changed(node, "fabric", to={"state": 0}), "fabric", GPU, before=node)[0] == "FABRIC_NOT_READY"
    links = [dict(link, active=link["link"] != 5) for link in node["nvml"]["gpus"][0]["nvlinks"]]
    report = gpu_changed(node, "nvlinks", to=links)
    assert seen(report, "fabric", GPU, before=node) == (
        "FABRIC_NOT_READY", "17 NVLinks are up, 18 were; down is 5")
    assert seen(report, "fabric", GPU, before=report)[0] == "OK"
    assert seen(report, "fabric", GPU) == ("OK", "17 of 18 NVLinks are up")
    none = gpu_changed(node, "nvlinks", to=...)
    assert seen(none, "fabric", GPU, before=node)[0] == "FABRIC_NOT_READY"


def test_a_node_without_nvlinks_is_skipped_by_name(node: dict[str, Any]) -> None:
    for gpu in (0, 1):
        for key in ("fabric", "nvlinks"):
            node = changed(node, "nvml", "gpus", gpu, key, to=...)
    found = [r for r in judged(node, node) if r.gate == "fabric"]
    assert [(r.subject, r.code) for r in found] == [(HOST, "PART_MISSING")]


# --- modes


def test_mig_is_as_before(node: dict[str, Any]) -> None:
    on = gpu_changed(node, "mig_mode", to={"current": 1, "pending": 1})
    assert seen(on, "modes", GPU, before=node)[0] == "SETTING_CHANGED"
    assert seen(on, "modes", GPU, before=node, may_change=["mig", "mig_pending"])[0] == "OK"
    instance = {"profile": 19, "start": 0, "size": 1}
    record = gpu_changed(on, "mig_layout", to=[instance, dict(instance, start=1)])
    assert seen(gpu_changed(on, "mig_layout", to=[dict(instance, start=1), instance]), "modes", GPU,
                before=record)[0] == "OK", "their order says nothing"
    lost = gpu_changed(on, "mig_layout", to=[instance])
    assert seen(lost, "modes", GPU, before=record)[0] == "SETTING_CHANGED"
    assert seen(lost, "modes", GPU, before=record, may_change=["mig_layout"])[0] == "OK"
    devices = gpu_changed(on, "mig_devices", to=[{"name": "NVIDIA H200 MIG 1g.18gb", "uuid": "MIG-1"}])
    again = gpu_changed(on, "mig_devices", to=[{"name": "NVIDIA H200 MIG 1g.18gb", "uuid": "MIG-2"}])
    assert seen(again, "modes", GPU, before=devices)[0] == "OK", "a new instance has a new UUID"
    assert seen(gpu_changed(on, "mig_devices", to=[]), "modes", GPU, before=devices)[0] == "SETTING_CHANGED"


def test_mps_is_as_before(node: dict[str, Any]) -> None:
    runs = changed(node, "nvml", "mps", "control", to=True)
    assert seen(node, "modes", before=runs)[0] == "MPS_BAD"
    assert seen(runs, "modes", before=node)[0] == "MPS_BAD"
    assert seen(runs, "modes", before=runs)[0] == "OK"
    assert seen(node, "modes", before=runs, may_change=["mps"])[0] == "OK"


def test_a_guest_needs_its_licence(node: dict[str, Any]) -> None:
    bare = gpu_changed(node, "licence", to=[{"state": 0, "enabled": 0, "product": "NVIDIA vCS"}])
    found = seen(bare, "modes", GPU, before=node)
    assert found == ("LICENCE_MISSING", "no licence for NVIDIA vCS yet")
    assert "it was so before" in seen(bare, "modes", GPU, before=bare)[1]
    assert seen(gpu_changed(node, "licence", to=[{"state": 1}]), "modes", GPU, before=node)[0] == "OK"


def test_confidential_compute_is_as_before(node: dict[str, Any]) -> None:
    assert node["nvml"]["confidential_compute"] == 0
    on = changed(node, "nvml", "confidential_compute", to=1)
    assert seen(on, "modes", before=node) == ("SETTING_CHANGED", "confidential_compute is 1, was 0")
    assert seen(on, "modes", before=on)[0] == "OK"
    assert seen(on, "modes", before=node, may_change=["confidential_compute"])[0] == "OK"
