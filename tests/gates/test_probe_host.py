"""What the probe reads of a node without a GPU call, on made-up trees of files: stand-ins for real machines."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.probe.host import fabric_manager, pci_gpus, read_host, read_versions
from planner.probe.kernel_log import read_kernel_log, since_boot
from planner.probe.node import Node
from planner.probe.processes import own_root, read_processes

DRIVER = "580.159.04"
KERNEL = "6.8.0-60-generic"
OPEN = (f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER}  Release Build  (builder@host)\n"
        "GCC version: 13.3.0\n")
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.261.03  Wed Jun 11 09:00:00 UTC 2025\n"
XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python3, GPU has fallen off the bus."
Runner = Callable[[list[str], float], dict[str, Any]]


def write(root: Path, path: str, text: str = "") -> None:
    where = root / path.lstrip("/")
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(text)


def programs(answers: dict[str, str]) -> Runner:
    """Return a runner that knows some programs by their name and nothing else."""
    def run(argv: list[str], timeout_s: float = 20.0) -> dict[str, Any]:
        name = Path(argv[0]).name
        if name not in answers:
            return {"argv": argv, "rc": None, "stdout": "", "stderr": "", "error": "not-found"}
        return {"argv": argv, "rc": 0, "stdout": answers[name], "stderr": ""}

    return run


def process(root: Path, pid: int, comm: str, *, state: str = "S", parent: int = 1, fds: tuple[str, ...] = (),
            wchan: str = "0", cmdline: str = "", threads: tuple[int, ...] = ()) -> None:
    for base in (f"/proc/{pid}", *(f"/proc/{pid}/task/{tid}" for tid in (pid, *threads))):
        stuck = base.endswith(f"/task/{threads[-1]}") if threads else True
        write(root, f"{base}/stat", f"{pid} ({comm}) {state if stuck else 'S'} {parent} 1 1 0\n")
        write(root, f"{base}/comm", comm[:15] + "\n")
        write(root, f"{base}/wchan", wchan)
        write(root, f"{base}/status", "voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t1\n")
    write(root, f"/proc/{pid}/cmdline", cmdline or comm + "\0")
    folder = root / f"proc/{pid}/fd"
    folder.mkdir(exist_ok=True)
    for number, target in enumerate(fds):
        (folder / str(number)).symlink_to(target)


def healthy(root: Path) -> Node:
    """Return a node with one loaded open driver, as Ubuntu lays it out."""
    libraries = f"/usr/lib/{platform.machine()}-linux-gnu"
    write(root, "/sys/module/nvidia/version", DRIVER + "\n")
    write(root, "/sys/module/nvidia_uvm/version", DRIVER + "\n")
    write(root, "/proc/driver/nvidia/version", OPEN)
    write(root, "/proc/sys/kernel/osrelease", KERNEL + "\n")
    write(root, "/proc/sys/kernel/random/boot_id", "boot-a\n")
    write(root, "/proc/meminfo", "MemTotal: 100 kB\nMemAvailable:   64 kB\n")
    for node in ("nvidia0", "nvidiactl", "nvidia-uvm", "null"):
        write(root, f"/dev/{node}")
    write(root, f"/lib/firmware/nvidia/{DRIVER}/gsp_ga10x.bin")
    write(root, f"/lib/modules/{KERNEL}/updates/dkms/nvidia.ko.zst")
    for name in ("libcuda.so", "libnvidia-ml.so"):
        write(root, f"{libraries}/{name}.{DRIVER}")
        (root / libraries.lstrip("/") / f"{name}.1").symlink_to(f"{name}.{DRIVER}")
    arch = {"x86_64": "x86-64", "aarch64": "AArch64"}.get(platform.machine(), "")
    cache = "".join(f"\t{name}.1 (libc6,{each}) => {where}/{name}.1\n" for name in ("libcuda.so", "libnvidia-ml.so")
                    for each, where in (("none", "/usr/lib/i386"), (arch, libraries)))
    modinfo = f"version:        {DRIVER}\nlicense:        Dual MIT/GPL\n"
    return Node(str(root), programs({"ldconfig": cache, "modinfo": modinfo, "dmesg": "[    1.000000] Linux\n"}), {})


def test_versions_of_a_healthy_node_agree(tmp_path: Path) -> None:
    found = read_versions({"driver": DRIVER}, [{"processes": [{"libcuda": DRIVER, "cuda": "13.0"}]}], healthy(tmp_path))
    for key in ("loaded", "nvml", "libcuda", "on_disk", "libcuda_file", "libnvidia_ml_file"):
        assert found[key] == DRIVER, key
    assert (found["flavour"], found["on_disk_flavour"], found["cuda"]) == ("open", "open", "13.0")
    assert found["fabric_manager"] is None


def test_the_version_is_found_where_only_proc_tells_it(tmp_path: Path) -> None:
    write(tmp_path, "/proc/driver/nvidia/version", CLOSED)
    found = read_versions({}, [], Node(str(tmp_path), programs({}), {}))
    assert (found["loaded"], found["flavour"]) == ("535.261.03", "proprietary")
    assert (found["on_disk"], found["libcuda_file"], found["nvml"]) == (None, None, None)


def test_an_empty_machine_gives_an_empty_answer(tmp_path: Path) -> None:
    node = Node(str(tmp_path), programs({}), {})
    found = read_host({}, node)
    json.dumps(found)
    assert found["modules"]["nvidia"] is False
    assert found["pci"] is None
    assert found["kernel_log"]["source"] == "unreadable"
    assert found["processes"]["holders"] == []
    assert pci_gpus(node) is None
    assert read_versions({}, [], node)["loaded"] is None


def test_modules_firmware_nodes_and_memory(tmp_path: Path) -> None:
    found = read_host({}, healthy(tmp_path))
    assert found["modules"] == {"nvidia": True, "nvidia_uvm": True, "uvm_node": True, "nouveau": False, "sysfs": True,
                                "gsp_firmware": ["gsp_ga10x.bin"]}
    assert found["device_nodes"] == ["nvidia-uvm", "nvidia0", "nvidiactl"]
    assert found["memory_available_bytes"] == 64 * 1024


def test_a_library_path_comes_first_and_compat_folders_are_listed(tmp_path: Path) -> None:
    node = healthy(tmp_path)
    write(tmp_path, "/opt/mine/libcuda.so.575.57.08")
    (tmp_path / "opt/mine/libcuda.so.1").symlink_to("libcuda.so.575.57.08")
    write(tmp_path, "/usr/local/cuda-13.1/compat/libcuda.so.590.44.01")
    (tmp_path / "usr/local/cuda-13.1/compat/libcuda.so.1").symlink_to("libcuda.so.590.44.01")
    copies = read_host({}, node)["loader"]["libcuda_file"]
    assert [(each["how"], each["kind"], each["version"]) for each in copies] == [
        ("ldconfig", "driver", DRIVER), ("compat", "compat", "590.44.01")]
    node.environment["LD_LIBRARY_PATH"] = "relative:/none:/opt/mine/"
    copies = read_host({}, node)["loader"]["libcuda_file"]
    assert (copies[0]["version"], copies[0]["how"], copies[0]["path"]) == (
        "575.57.08", "LD_LIBRARY_PATH", "/opt/mine/libcuda.so.1")
    assert read_versions({}, [], node)["libcuda_file"] == "575.57.08"
    node.environment["LD_LIBRARY_PATH"] = "/usr/local/cuda-13.1/compat"
    assert read_host({}, node)["loader"]["libcuda_file"][0]["kind"] == "compat"


def test_variables_that_forge_are_found_in_environment_and_files(tmp_path: Path) -> None:
    node = healthy(tmp_path)
    node.environment.update({"CUDA_DISABLE_PTX_JIT": "1", "CUDA_HOME": "/x", "SECRET": "s", "COMPUTE_PROFILE": ""})
    write(tmp_path, "/etc/environment", 'PATH="/bin"\nCUDA_AUTO_BOOST=0\nTOKEN=s\n')
    write(tmp_path, "/etc/profile.d/x.sh", "export CUDA_INJECTION64_PATH=/opt/tool.so\n")
    found = read_host({}, node)["environment"]
    assert found["variables"] == {"CUDA_DISABLE_PTX_JIT": "1"}
    assert found["other_names"] == ["CUDA_HOME"]
    assert [(each["path"], each["name"]) for each in found["files"]] == [
        ("/etc/environment", "CUDA_AUTO_BOOST"), ("/etc/profile.d/x.sh", "CUDA_INJECTION64_PATH")]


def test_a_reboot_that_waits(tmp_path: Path) -> None:
    node = healthy(tmp_path)
    assert read_host({}, node)["reboot"] == {"running": KERNEL, "newest_with_module": KERNEL, "newer": False,
                                             "required": False, "packages": []}
    write(tmp_path, "/lib/modules/6.8.0-100-generic/updates/dkms/nvidia.ko")
    write(tmp_path, "/run/reboot-required")
    write(tmp_path, "/run/reboot-required.pkgs", "linux-base\nlinux-base\n")
    assert read_host({}, node)["reboot"] == {"running": KERNEL, "newest_with_module": "6.8.0-100-generic",
                                             "newer": True, "required": True, "packages": ["linux-base"]}


def test_the_bus_shows_display_controllers_of_the_vendor_only(tmp_path: Path) -> None:
    for name, vendor, kind in (("0000:3b:00.0", "0x10de", "0x030200"), ("0000:3c:00.0", "0x10de", "0x068000"),
                               ("0000:3d:00.0", "0x1002", "0x030000")):
        write(tmp_path, f"/sys/bus/pci/devices/{name}/vendor", vendor + "\n")
        write(tmp_path, f"/sys/bus/pci/devices/{name}/class", kind + "\n")
    node = Node(str(tmp_path), programs({}), {})
    assert pci_gpus(node) == 1
    assert read_host({}, node)["pci"] == ["0000:3b:00.0"]


@pytest.mark.parametrize(("state", "active"), [("active\n", True), ("failed\n", False), ("", None)])
def test_the_fabric_manager_tells_its_version(tmp_path: Path, state: str, active: bool | None) -> None:
    write(tmp_path, "/usr/bin/nv-fabricmanager")
    node = Node(str(tmp_path), programs({"nv-fabricmanager": f"Fabric Manager version is : {DRIVER}\n",
                                         "systemctl": state}), {})
    assert fabric_manager(node) == {"fabric_manager": DRIVER, "fabric_manager_active": active}


# --- processes


def test_holders_are_others_and_not_the_own_tree(tmp_path: Path) -> None:
    process(tmp_path, 100, "python3", fds=("/dev/nvidiactl", "/dev/nvidia0", "/dev/null"))
    process(tmp_path, 200, "probe", fds=("/dev/nvidia0",))
    process(tmp_path, 201, "probe", parent=200, fds=("/dev/nvidia0",))
    process(tmp_path, 202, "a (b) c", parent=201, fds=("/dev/nvidia-uvm",))
    process(tmp_path, 300, "bash")
    found = read_processes(Node(str(tmp_path), programs({}), {}), own=200)
    assert found["holders"] == [{"pid": 100, "comm": "python3", "devices": ["/dev/nvidia0", "/dev/nvidiactl"]}]
    assert (found["stuck"], found["cut"]) == ([], False)


@pytest.mark.parametrize(("comm", "wchan", "fds", "by"), [
    ("nvidia-smi", "0", (), "comm"), ("python3", "_nv042kms", (), "wchan"), ("nv_queue", "0", (), "comm"),
    ("python3", "rwsem_down_read", ("/dev/nvidia0",), "holder"), ("dd", "folio_wait", (), None)])
def test_stuck_tasks_are_those_of_the_driver(tmp_path: Path, comm: str, wchan: str, fds: tuple[str, ...],
                                             by: str | None) -> None:
    process(tmp_path, 100, comm, state="D", wchan=wchan, fds=fds)
    found = read_processes(Node(str(tmp_path), programs({}), {}), own=999, look_s=0.0)["stuck"]
    assert [(task["pid"], task["by"]) for task in found] == ([(100, by)] if by else [])


def test_a_thread_in_state_d_is_found_where_its_process_holds_a_gpu(tmp_path: Path) -> None:
    process(tmp_path, 100, "trainer", state="D", fds=("/dev/nvidia0",), threads=(101, 102))
    found = read_processes(Node(str(tmp_path), programs({}), {}), own=999, look_s=0.0)["stuck"]
    assert [(task["pid"], task["tid"]) for task in found] == [(100, 102)]


def test_a_task_that_runs_again_is_not_stuck(tmp_path: Path) -> None:
    class Moving(Node):
        looks = 0

        def text(self, path: str) -> str | None:
            if path.endswith("/status"):
                self.looks += 1
                return f"voluntary_ctxt_switches:\t{self.looks}\n"
            return super().text(path)

    process(tmp_path, 100, "nvidia-smi", state="D")
    assert read_processes(Moving(str(tmp_path), programs({}), {}), own=999, look_s=0.01)["stuck"] == []


def test_mps_is_told_by_its_command_line(tmp_path: Path) -> None:
    process(tmp_path, 100, "nvidia-cuda-mps-control", cmdline="/usr/bin/nvidia-cuda-mps-control\0-d\0")
    node = Node(str(tmp_path), programs({}), {})
    assert read_processes(node, own=999)["mps"] == {"control": True, "server": False}
    process(tmp_path, 101, "nvidia-cuda-mps-server", cmdline="nvidia-cuda-mps-server\0")
    assert read_processes(node, own=999)["mps"] == {"control": True, "server": True}


def test_a_fork_belongs_to_the_process_it_came_from() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(own_root(Node())).encode())
        os._exit(0)
    os.close(writer)
    told = int(os.read(reader, 32))
    os.close(reader)
    os.waitpid(child, 0)
    assert told == own_root(Node())
    assert told != child


# --- the kernel's log


def kmsg(*lines: tuple[int, float, str]) -> str:
    return "".join(f"4,{number},{int(at * 1e6)},-;{text}\n SUBSYSTEM=pci\n" for number, at, text in lines)


def test_xid_sxid_and_mismatch_are_read_from_the_ring(tmp_path: Path) -> None:
    write(tmp_path, "/dev/kmsg", kmsg(
        (0, 1.5, "Linux version 6.8"), (1, 20.0, XID),
        (2, 21.0, "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28002, Non-fatal, Link 48 sourcetrack"),
        (3, 22.0, "NVRM: API mismatch: the client 'nvidia-smi' (pid 77)\\x0aNVRM: has the version 580.159.04, but"),
        (4, 23.0, "NVRM: Xid (PCI:0000:3b:00): 45, pid='<unknown>', name=<unknown>, Ch 00000008"),
        (5, 24.0, "INFO: task nvidia-smi:4242 blocked for more than 122 seconds.")))
    found = read_kernel_log(None, Node(str(tmp_path), programs({}), {}))
    assert (found["source"], found["complete"], found["dropped"]) == ("kmsg", True, 0)
    assert [(x["at_s"], x["pci"], x["number"], x["pid"], x["name"]) for x in found["xids"]] == [
        (20.0, "0000:3b:00", 79, 1234, "python3"), (23.0, "0000:3b:00", 45, None, "<unknown>")]
    assert found["sxids"][0]["number"] == 28002
    assert "has the version 580.159.04" in found["api_mismatch"][0]["text"]
    assert found["blocked"][0]["pid"] == 4242
    later = read_kernel_log(22.5, Node(str(tmp_path), programs({}), {}))
    assert [x["number"] for x in later["xids"]] == [45]
    assert later["api_mismatch"] == []


def test_what_the_ring_forgot_comes_from_the_journal(tmp_path: Path) -> None:
    write(tmp_path, "/dev/kmsg", kmsg((9000, 500.0, "later")))
    journal = f"[    1.000000] gpu-17 kernel: Linux\n[   20.000000] gpu-17 kernel: {XID}\nnoise\n"
    found = read_kernel_log(None, Node(str(tmp_path), programs({"journalctl": journal}), {}))
    assert (found["source"], found["complete"]) == ("journalctl", True)
    assert [x["number"] for x in found["xids"]] == [79]
    found = read_kernel_log(None, Node(str(tmp_path), programs({}), {}))
    assert (found["source"], found["complete"]) == ("kmsg", False)
    assert read_kernel_log(600, Node(str(tmp_path), programs({}), {}))["complete"] is True


def test_dmesg_is_the_last_resort_and_unreadable_is_said(tmp_path: Path) -> None:
    found = read_kernel_log(None, Node(str(tmp_path), programs({"dmesg": f"[   20.5] {XID}\n"}), {}))
    assert (found["source"], found["complete"], found["xids"][0]["at_s"]) == ("dmesg", False, 20.5)
    found = read_kernel_log(None, Node(str(tmp_path), programs({"journalctl": ""}), {}))
    assert found["source"] == "unreadable"
    assert len(found["why"]) == 3
    assert "journalctl: it prints nothing" in found["why"]


def test_a_storm_keeps_the_newest(tmp_path: Path) -> None:
    write(tmp_path, "/dev/kmsg", kmsg(*((n, float(n), XID) for n in range(300))))
    found = read_kernel_log(None, Node(str(tmp_path), programs({}), {}))
    assert (len(found["xids"]), found["dropped"], found["xids"][-1]["at_s"]) == (200, 100, 299.0)


@pytest.mark.parametrize(("since", "seconds"), [(None, 0.0), (5, 5.0), (-1, 0.0), ("soon", 0.0), (True, 0.0),
                                                ("1970-01-01T00:00:00Z", 0.0)])
def test_since_is_seconds_of_this_boot(since: object, seconds: float) -> None:
    assert since_boot(since) == seconds


def test_a_time_of_day_becomes_seconds_since_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.probe.kernel_log.time.time", lambda: 1_800_000_000.0)
    monkeypatch.setattr("planner.probe.kernel_log.time.monotonic", lambda: 5000.0)
    assert since_boot("2027-01-15T07:50:00Z") == 4400.0
    assert since_boot("2027-01-15T07:50:00") == 4400.0


def test_seconds_of_another_boot_do_not_count(tmp_path: Path) -> None:
    node = healthy(tmp_path)
    write(tmp_path, "/dev/kmsg", kmsg((0, 20.0, XID)))
    assert read_host({"since": 900.0, "since_boot_id": "boot-a"}, node)["kernel_log"]["xids"] == []
    assert len(read_host({"since": 900.0, "since_boot_id": "boot-z"}, node)["kernel_log"]["xids"]) == 1


def test_a_real_task_in_state_d_is_seen_and_gone_again(tmp_path: Path) -> None:
    """A parent of vfork waits uninterruptibly until its child executes; here that child waits for a pipe first."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    child = os.fork()
    if child == 0:
        Path("/proc/self/comm").write_text("nvidia-standin")
        actions = [(os.POSIX_SPAWN_OPEN, 3, str(pipe), os.O_RDONLY, 0)]
        os._exit(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=actions), 0)[1])
    deadline = time.monotonic() + 20
    found: list[dict[str, Any]] = []
    while not found and time.monotonic() < deadline:
        # The grandchild shares the name; it sleeps in state S.
        found = [task for task in read_processes(Node(), own=-1, look_s=0.2)["stuck"] if task["pid"] == child]
    os.close(os.open(pipe, os.O_WRONLY))
    assert [(task["comm"], task["by"]) for task in found] == [("nvidia-standin", "comm")]
    assert found[0]["seconds"] >= 0.2
    assert os.waitpid(child, 0)[1] == 0
    assert not [task for task in read_processes(Node(), own=-1, look_s=0.0)["stuck"] if task["pid"] == child]
