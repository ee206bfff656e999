"""Each rule for the node itself, seen from both sides, on a stand-in node that the probe's own readers looked at."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.gates.failures import FAILURES, Verdict
from planner.gates.node_findings import as_number, pci_key
from planner.gates.node_state import RULES, judge_state
from planner.gates.verdicts import Policy, fold
from tests.gates.standin_node import GPUS, HOST, build, changed, gpu_changed, judged, one, seen
from tests.gates.standin_nvml import DRIVER

OTHER = "575.57.08"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return build(tmp_path_factory.mktemp("node"))


# --- the whole


def test_a_healthy_node_passes_every_gate_beside_its_record(node: dict[str, Any]) -> None:
    results = judged(node, node, driver=DRIVER, gpus=2, flavour="open")
    assert {r.code for r in results} == {"OK"}, [r for r in results if r.code != "OK"]
    assert list(dict.fromkeys(r.gate for r in results)) == list(RULES)
    for gate in ("nvml", "inventory", "health", "settings", "fabric", "modes", "residue"):
        assert {r.subject for r in results if r.gate == gate} >= set(GPUS), gate
    assert fold(results, Policy({gate: frozenset() for gate in RULES})).exit_code == 0


def test_without_a_record_nothing_is_compared_and_nothing_fails(node: dict[str, Any]) -> None:
    results = judged(node)
    assert {r.code for r in results} == {"OK", "BASELINE_MISSING"}
    assert {r.gate for r in results if r.code == "BASELINE_MISSING"} == {"settings", "modes"}


def test_the_answer_is_the_same_every_time_and_in_one_order(node: dict[str, Any]) -> None:
    report = gpu_changed(changed(node, "versions", "nvml", to=OTHER), "recovery_action", to=2)
    assert judged(report, node) == judged(copy.deepcopy(report), copy.deepcopy(node))


def test_what_passed_before_is_known_of_each_gate(node: dict[str, Any]) -> None:
    broken = gpu_changed(changed(node, "versions", "nvml", to=OTHER), "recovery_action", to=1)
    assert one(judged(broken, node), "driver-versions").passed_before is True
    assert one(judged(broken, broken), "driver-versions").passed_before is False
    assert one(judged(broken), "driver-versions").passed_before is None
    assert one(judged(broken, broken), "health", GPUS[0]).passed_before is False
    assert one(judged(node, {}), "host").passed_before is None


# --- host


@pytest.mark.parametrize(("seconds", "code"), [(31.0, "GATE_HUNG_D"), (2.0, "GATE_BUSY")])
def test_stuck_tasks(node: dict[str, Any], seconds: float, code: str) -> None:
    task = {"pid": 9, "tid": 10, "comm": "nvidia-smi", "wchan": "_nv01", "by": "comm", "seconds": seconds}
    report = changed(node, "host_state", "processes", "stuck", to=[task])
    found, words = seen(report, "host")
    assert found == code
    assert "task 10 (nvidia-smi)" in words
    assert "it was so before" in seen(report, "host", before=report)[1]
    blocked = changed(report, "host_state", "kernel_log", "blocked", to=[{"pid": 10, "seconds": 122}])
    assert seen(blocked, "host")[0] == "GATE_HUNG_D", "the kernel itself calls it stuck"


@pytest.mark.parametrize(("comm", "devices", "code"), [
    ("python3", ["/dev/nvidia-uvm", "/dev/nvidia0"], "ENV_FOREIGN_PROCESS"), ("nvvs", ["/dev/nvidia-uvm"], "GATE_BUSY"),
    ("telegraf", ["/dev/nvidia0", "/dev/nvidiactl"], "OK"), ("nv-hostengine", ["/dev/nvidia-uvm"], "OK"),
    ("nvidia-cuda-mps", ["/dev/nvidia-uvm"], "OK"), ("Xorg", ["/dev/nvidia-uvm"], "OK")])
def test_holders(node: dict[str, Any], comm: str, devices: list[str], code: str) -> None:
    report = changed(node, "host_state", "processes", "holders", to=[{"pid": 5, "comm": comm, "devices": devices}])
    found, words = seen(report, "host")
    assert found == code
    assert f"pid 5 ({comm})" in words


def test_a_holder_that_nvml_lists_computes_whatever_it_holds(node: dict[str, Any]) -> None:
    holder = {"pid": 5, "comm": "game", "devices": ["/dev/nvidia0"]}
    report = gpu_changed(changed(node, "host_state", "processes", "holders", to=[holder]), "graphics_processes", to=[5])
    assert seen(report, "host")[0] == "ENV_FOREIGN_PROCESS"


@pytest.mark.parametrize(("error", "code"), [("timeout", "GATE_TIMEOUT"), ("hung: it cannot be killed", "GATE_HUNG_D"),
                                             ("KeyError: 'x'", "GATE_BUG")])
def test_files_that_were_not_read(node: dict[str, Any], error: str, code: str) -> None:
    report = changed(node, "host_state", to={"error": error})
    for gate in ("host", "environment"):
        assert seen(report, gate) == (code, f"the node's files could not be read: {error}")
    assert seen(report, "health")[0] == "PART_MISSING"


# --- versions


@pytest.mark.parametrize(("key", "words"), [
    ("nvml", "NVML is"), ("libcuda", "libcuda is"), ("on_disk", "module on disk"), ("libcuda_file", "libcuda.so.1"),
    ("libnvidia_ml_file", "libnvidia-ml.so.1")])
def test_every_part_must_be_of_the_planned_version(node: dict[str, Any], key: str, words: str) -> None:
    found = seen(changed(node, "versions", key, to=OTHER), "driver-versions", driver=DRIVER)
    assert found[0] == "DRV_LIB_MISMATCH"
    assert words in found[1]
    assert f"{OTHER}, planned is {DRIVER}" in found[1]


def test_without_a_plan_the_parts_must_agree(node: dict[str, Any]) -> None:
    assert seen(changed(node, "versions", "nvml", to=OTHER), "driver-versions") == (
        "DRV_LIB_MISMATCH", f"NVML is {OTHER}, loaded is {DRIVER}")
    assert seen(changed(node, "versions", "on_disk", to=OTHER), "driver-versions")[0] == "DRV_REBOOT_PENDING"
    for key in ("on_disk", "libcuda_file", "libcuda"):
        assert seen(changed(node, "versions", key, to=None), "driver-versions")[0] == "OK"


def test_the_old_one_runs_and_the_planned_one_is_on_disk(node: dict[str, Any]) -> None:
    report = changed(node, "versions", "on_disk", to="590.44")
    for key in ("nvml", "libcuda", "libcuda_file", "libnvidia_ml_file"):
        report = changed(report, "versions", key, to=None)
    found = seen(report, "driver-versions", driver="590.44")
    assert found == ("DRV_REBOOT_PENDING",
                     f"loaded driver is {DRIVER}, planned is 590.44; the module on disk is 590.44: reboot")
    neither = changed(report, "versions", "on_disk", to=OTHER)
    assert seen(neither, "driver-versions", driver="590.44") == (
        "DRV_LIB_MISMATCH", f"loaded driver is {DRIVER}, planned is 590.44; the module on disk is {OTHER}")
    unread = changed(node, "versions", "on_disk", to=None)
    assert seen(unread, "driver-versions", driver=DRIVER) == ("OK", "the version of the module on disk cannot be read")
    assert seen(node, "driver-versions", driver=DRIVER) == ("OK", "")


def test_no_driver(node: dict[str, Any]) -> None:
    report = changed(node, "versions", "loaded", to=None)
    words = f"no driver is loaded, planned is {DRIVER}"
    assert seen(report, "driver-versions", driver=DRIVER) == ("DRV_NOT_LOADED", words)
    assert seen(report, "driver-versions")[0] == "OK", "where no module is, as in a guest of WSL, NVML is the proof"
    assert seen(changed(report, "versions", "nvml", to=None), "driver-versions")[0] == "DRV_NOT_LOADED"
    nouveau = changed(report, "host_state", "modules", to={"nvidia": False, "nouveau": True, "sysfs": True})
    assert "nouveau is loaded and holds the devices" in seen(nouveau, "driver-versions", driver=DRIVER)[1]


def test_flavours(node: dict[str, Any]) -> None:
    assert seen(node, "driver-versions", flavour="proprietary")[0] == "DRV_LIB_MISMATCH"
    report = changed(node, "versions", "on_disk_flavour", to="proprietary")
    assert seen(report, "driver-versions")[0] == "DRV_REBOOT_PENDING"
    code, words = seen(node, "driver-versions", before=changed(node, "versions", "flavour", to="proprietary"))
    assert (code, "before it was the proprietary one" in words) == ("OK", True)


def test_a_compat_library_is_a_warning_and_no_mismatch(node: dict[str, Any]) -> None:
    copy_ = {"path": "/c/libcuda.so.1", "real": "/c/x", "how": "LD_LIBRARY_PATH", "kind": "compat", "version": "590.44"}
    report = changed(changed(node, "versions", "libcuda_file", to="590.44"), "host_state", "loader", "libcuda_file",
                     to=[copy_, *node["host_state"]["loader"]["libcuda_file"]])
    assert seen(report, "driver-versions")[0] == "OK"
    assert seen(report, "environment")[0] == "ENV_SUSPECT"
    for version, code in ((OTHER, "ENV_SUSPECT"), (None, "ENV_SUSPECT"), (DRIVER, "OK")):
        own = changed(node, "host_state", "loader", "libcuda_file", to=[dict(copy_, kind="driver", version=version)])
        assert seen(own, "environment")[0] == code
    for kind, code in (("compat", "ENV_SUSPECT"), ("stub", "ENV_SUSPECT"), ("driver", "OK")):
        own = changed(node, "host_state", "loader", "libcuda_file", to=[dict(copy_, kind=kind, how="ldconfig")])
        assert seen(own, "environment")[0] == code
    later = changed(node, "host_state", "loader", "libcuda_file",
                    to=[*node["host_state"]["loader"]["libcuda_file"], dict(copy_, how="compat")])
    assert seen(later, "environment")[0] == "OK"


def test_uvm_is_missing_only_where_nothing_ran(node: dict[str, Any]) -> None:
    report = changed(node, "host_state", "modules", "nvidia_uvm", to=False)
    assert seen(report, "driver-versions")[0] == "OK"
    report["gpus"] = [{"index": 0, "error": "cuInit failed with 999"}]
    assert seen(report, "driver-versions") == ("UVM_MISSING", "the module nvidia_uvm is not loaded")


def test_api_mismatch_counts_after_a_boot_and_while_the_gate_ran(node: dict[str, Any]) -> None:
    line = {"at_s": 20.0, "text": "NVRM: API mismatch: the client has 575.57.08"}
    report = changed(node, "host_state", "kernel_log", "api_mismatch", to=[line])
    assert seen(report, "driver-versions", before=node)[0] == "OK"
    assert seen(report, "driver-versions", before=changed(node, "boot_id", to="boot-z"))[0] == "DRV_LIB_MISMATCH"
    during = changed(node, "kernel_log_after", to={"api_mismatch": [line]})
    assert seen(during, "driver-versions")[0] == "DRV_LIB_MISMATCH"


# --- environment


@pytest.mark.parametrize(("name", "code"), [("CUDA_DISABLE_PTX_JIT", "ENV_FORGED"), ("CUDA_AUTO_BOOST", "ENV_SUSPECT"),
                                            ("LD_PRELOAD", "ENV_SUSPECT"), ("CUDA_VISIBLE_DEVICES", "OK")])
def test_variables(node: dict[str, Any], name: str, code: str) -> None:
    report = changed(node, "host_state", "environment", "variables", to={name: "1"})
    assert seen(report, "environment")[0] == code
    line = {"path": "/etc/environment", "name": name, "value": "1"}
    by_file = changed(node, "host_state", "environment", "files", to=[line])
    assert seen(by_file, "environment")[0] == code
    if code != "OK":
        assert "it was so before" in seen(report, "environment", before=report)[1]
        assert "it was so before" not in seen(report, "environment", before=node)[1]


# --- NVML


@pytest.mark.parametrize(("error", "number", "code"), [
    ("Driver Not Loaded", 9, "DRV_NOT_LOADED"), ("mismatch", 18, "DRV_LIB_MISMATCH"), ("GPU is lost", 15, "GPU_LOST"),
    ("NVML Shared Library Not Found", 12, "LIB_LOAD"), ("Unknown Error", 999, "UNKNOWN_CODE"),
    ("it did not answer: timeout", None, "GATE_TIMEOUT"), ("it did not answer: hung: it cannot be killed", None,
                                                           "GATE_HUNG_D"),
    ("pynvml cannot be imported: x", None, "GATE_BUG"), ("what?", None, "UNKNOWN_CODE")])
def test_nvml_that_does_not_answer(node: dict[str, Any], error: str, number: int | None, code: str) -> None:
    report = changed(node, "nvml", to={"gpus": [], "error": error, "error_code": number})
    results = judged(report, node, gpus=2)
    assert one(results, "nvml").code == code
    assert one(results, "nvml").evidence[0].startswith(f"NVML: {error}")
    assert one(results, "inventory").code == "PART_MISSING", "no GPU is called missing because a driver does not load"
    for gate in ("health", "settings", "modes", "residue"):
        assert not [r for r in results if r.gate == gate and r.code == "OK" and r.subject != HOST]
    assert fold(results, Policy({})).verdict in (Verdict.FAIL, Verdict.HUNG, Verdict.ERROR)


def test_a_gpu_with_an_error_of_its_own(node: dict[str, Any]) -> None:
    report = gpu_changed(gpu_changed(node, "error", to="GPU is lost"), "error_code", to=15)
    assert seen(report, "nvml", GPUS[0])[0] == "GPU_LOST"
    assert seen(report, "nvml", GPUS[1])[0] == "OK"
    only_after = changed(changed(node, "nvml_after", "gpus", 0, "error", to="reset"), "nvml_after", "gpus", 0,
                         "error_code", to=16)
    assert seen(only_after, "nvml", GPUS[0])[0] == "GPU_RESET_REQUIRED"
    assert seen(only_after, "residue", GPUS[0])[0] == "PART_MISSING"


def test_nvml_that_is_silent_after_the_kernels(node: dict[str, Any]) -> None:
    report = changed(node, "nvml_after", to={"gpus": [], "error": "Unknown Error", "error_code": 999})
    assert seen(report, "nvml")[0] == "UNKNOWN_CODE"
    assert seen(report, "residue")[0] == "PART_MISSING"
    hung = changed(node, "nvml_after", to={"gpus": [], "error": "not tried: the driver hangs"})
    assert seen(hung, "nvml")[0] == "OK", "the gate of the kernels says that it hangs"


# --- inventory


def test_counts(node: dict[str, Any]) -> None:
    code, words = seen(node, "inventory", gpus=8)
    assert (code, words) == ("GPU_MISSING", "NVML shows 2 of 8 GPUs; the PCI bus shows 2 of 8 GPUs")
    report = changed(node, "pci_gpus", to=3)
    nodes = ["nvidia-uvm", "nvidia0", "nvidia1", "nvidia2", "nvidiactl"]
    assert seen(changed(report, "host_state", "device_nodes", to=nodes), "inventory")[0] == "GPU_LOST"
    code, words = seen(changed(report, "host_state", "device_nodes", to=nodes[:3]), "inventory")
    assert (code, "no device file here" in words) == ("OK", True), "a container sees the whole bus and its own GPUs"
    assert seen(changed(report, "host_state", "device_nodes", to=[]), "inventory")[0] == "GPU_LOST"
    assert seen(report, "inventory", gpus=2)[0] == "OK"
    assert seen(report, "inventory", before=report)[0] == "INHERITED"
    assert seen(report, "inventory", before=node)[0] == "GPU_LOST"


def test_the_same_gpus_as_before(node: dict[str, Any]) -> None:
    fewer = changed(node, "nvml", "gpus", to=node["nvml"]["gpus"][:1])
    assert seen(fewer, "inventory", GPUS[1], before=node)[0] == "GPU_MISSING"
    assert seen(node, "inventory", GPUS[1], before=fewer)[0] == "GPU_CHANGED"
    twice = changed(node, "nvml", "gpus", to=[node["nvml"]["gpus"][0]] * 2)
    assert seen(twice, "inventory")[0] == "GATE_BUG"


@pytest.mark.parametrize("key", ["serial", "bus_id", "vbios", "bar1_total_bytes"])
def test_another_slot_or_firmware(node: dict[str, Any], key: str) -> None:
    report = gpu_changed(node, key, to="x" if key != "bar1_total_bytes" else 5)
    assert seen(report, "inventory", GPUS[0], before=node)[0] == "GPU_CHANGED"
    assert seen(gpu_changed(node, key, to=...), "inventory", GPUS[0], before=node)[0] == "OK"


def test_pcie_links(node: dict[str, Any]) -> None:
    for key, value in (("gen_max", 4), ("width_max", 8), ("width", 8)):
        assert seen(gpu_changed(node, "pcie", key, to=value), "inventory", GPUS[0], before=node)[0] == "PCIE_DOWN"
    rested = gpu_changed(node, "pcie", "gen", to=1)
    assert seen(rested, "inventory", GPUS[0], before=node)[0] == "OK", "a link at rest trains down"

    def under_load(pcie: str, samples: int = 9) -> dict[str, Any]:
        return changed(node, "conditions", to={GPUS[0]: {"pcie": pcie, "loaded_samples": samples}})

    fast = under_load("gen5 x16")
    assert seen(under_load("gen4 x16"), "inventory", GPUS[0], before=fast)[0] == "PCIE_DOWN"
    assert seen(under_load("gen5 x8"), "inventory", GPUS[0], before=fast)[0] == "PCIE_DOWN"
    assert seen(under_load("gen4 x16", 1), "inventory", GPUS[0], before=fast)[0] == "OK"
    assert seen(under_load("gen4 x16"), "inventory", GPUS[0], before=under_load("gen99 x16"))[0] == "OK"
    assert seen(under_load("gen4 x16"), "inventory", GPUS[0], before=under_load("gen5 xx"))[0] == "OK"
    assert seen(fast, "inventory", GPUS[0], before=under_load("gen4 x16"))[0] == "OK"


# --- residue


def test_what_stays_on_a_gpu(node: dict[str, Any]) -> None:
    used = node["nvml"]["gpus"][0]["memory"]["used_bytes"]

    def after(*path: str, to: Any) -> dict[str, Any]:
        return changed(node, "nvml_after", "gpus", 0, *path, to=to)

    assert seen(after("processes", to=[77]), "residue", GPUS[0])[0] == "GATE_RESIDUE"
    assert seen(after("memory", "used_bytes", to=used + (64 << 20)), "residue", GPUS[0])[0] == "OK"
    assert seen(after("memory", "used_bytes", to=used + (65 << 20)), "residue", GPUS[0])[0] == "GATE_RESIDUE"
    assert seen(gpu_changed(after("processes", to=[77]), "processes", to=[77]), "residue", GPUS[0])[0] == "OK"
    assert seen(after("processes_unread", to=True), "residue", GPUS[0])[0] == "PART_MISSING"
    assert seen(changed(node, "nvml_after", to=...), "residue")[0] == "PART_MISSING"


# --- what a real machine printed


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_a_real_h200_passes_and_a_second_run_differs_in_nothing(name: str) -> None:
    recorded = Path(__file__).parent / "recorded"
    report = json.loads((recorded / f"h200-580.159.04-{name}.json").read_text())
    request = {"host": report["host"], "expect": {"driver": DRIVER, "gpus": 1, "flavour": "open"}}
    results = judge_state(report, request, None)
    assert {r.code for r in results} <= {"OK", "BASELINE_MISSING", "PART_MISSING"}, [r for r in results if r.evidence]
    again = json.loads((recorded / "h200-580.159.04-standard-again.json").read_text())
    results = judge_state(again, request, report)
    assert {r.gate for r in results if r.code != "OK"} == {"fabric"}, "a guest with one GPU and no NVLink"


# --- whatever a node may print

VALUES = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(-5, 2**40), st.floats(), st.text(max_size=5)),
                      lambda inner: st.one_of(st.lists(inner, max_size=3),
                                              st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=6)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, each in inner for found in _paths(each, (*path, key)))] if path or inner else [path]


@given(st.data())
@settings(max_examples=120, deadline=None)
@pytest.mark.property
def test_no_malformed_report_raises_or_passes_whole(node: dict[str, Any], data: st.DataObject) -> None:
    paths = [path for path in _paths(node) if path]
    report, before = copy.deepcopy(node), copy.deepcopy(node)
    for target in (report, before):
        for path in data.draw(st.lists(st.sampled_from(paths), max_size=3)):
            place: Any = target
            try:
                for step in path[:-1]:
                    place = place[step]
                place[path[-1]] = data.draw(VALUES)
            except (KeyError, IndexError, TypeError):
                continue
    results = judged(report, before, driver=DRIVER, gpus=2)
    assert list(dict.fromkeys(r.gate for r in results)) == list(RULES)
    assert all(r.code in FAILURES for r in results)
    assert all(r.evidence for r in results if r.code != "OK")
    assert len({r.key for r in results}) == len(results)
    json.dumps([r.as_dict() for r in results])


@pytest.mark.parametrize("report", [{}, {"host_state": 3, "nvml": [], "versions": None}, {"nvml": {"gpus": 7}},
                                    {"nvml": {"gpus": [None, 3, {"uuid": []}]}}, [], None])
def test_a_report_of_nothing_passes_nothing(report: Any) -> None:
    results = judge_state(report, {"host": HOST}, report)
    assert not {r.gate for r in results if r.code == "OK"} & {"host", "driver-versions", "environment", "residue"}
    assert fold(results, Policy({})).verdict is Verdict.ERROR


@pytest.mark.parametrize("key", ["host_state", "versions", "nvml", "nvml_after", "boot_id", "pci_gpus"])
def test_a_missing_part_is_no_pass_where_it_is_what_a_gate_reads(node: dict[str, Any], key: str) -> None:
    of = {"host_state": ("host", "environment"), "versions": ("driver-versions",), "nvml": ("nvml", "settings"),
          "nvml_after": ("residue",)}
    for gate in of.get(key, ()):
        assert seen(changed(node, key, to=...), gate, before=node)[0] != "OK"


@pytest.mark.parametrize("nvml", [{"driver": DRIVER}, {"driver": DRIVER, "gpus": {}}, {"gpus": []}, "gone"])
def test_nvml_without_its_parts_is_a_fault_of_the_gate(node: dict[str, Any], nvml: object) -> None:
    assert seen(changed(node, "nvml", to=nvml), "nvml")[0] == "GATE_BUG"


def test_a_number_is_a_finite_one() -> None:
    assert [as_number(value) for value in (0, -3, 2.5)] == [0, -3, 2.5]
    for value in (True, "3", None, [], float("nan"), float("inf"), -float("inf")):
        assert as_number(value) is None


def test_the_three_ways_to_write_a_pci_address() -> None:
    assert pci_key("00000000:3B:00.0") == pci_key("0000:3b:00") == pci_key("0000:3b:00.0") == "0:3b:0"
    assert pci_key(None) == "0"
