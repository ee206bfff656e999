"""Real nodes: what they are, how they change, reboot, fail and are repaired."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from planner.errors import LabError
from planner.lab.lab import Lab
from planner.lab.nodes import answers_ssh

pytestmark = pytest.mark.lab

OPEN_580 = dict.fromkeys((
    "nvidia-headless-580-server-open", "nvidia-dkms-580-server-open", "nvidia-kernel-common-580-server",
    "libnvidia-compute-580-server", "nvidia-utils-580-server"), "580.95.05-0ubuntu0.22.04.1+standin")
FABRIC_580 = {"nvidia-fabricmanager-580": "580.95.05-1+standin", "libnvidia-nscq-580": "580.95.05-1+standin"}
LAUNCH = Path(__file__).with_name("launch.py").read_text(encoding="utf-8")


def wait(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def say(lab: Lab, node: str, command: str) -> str:
    """Run a shell line on a node; returns everything it printed."""
    done = lab.exec(node, "sh", "-c", command, check=False, timeout_s=60)
    return (done.stdout + done.stderr).strip()


def launch(lab: Lab, node: str, entry: str = "planner_mix") -> dict[str, int]:
    """Launch a kernel on a node's first GPU; returns the codes and how many elements are wrong."""
    done = lab.exec(node, "python3", "-", entry, stdin=LAUNCH, timeout_s=60)
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


def rebooted(lab: Lab, node: str, before: str) -> bool:
    """Tell whether a node is up in another boot and answers."""
    return lab.boot_id(node) != before and lab.pid(node) is not None and answers_ssh(lab.address(node)) \
        and say(lab, node, "systemctl is-system-running") in ("running", "degraded")


def ssh(lab: Lab, node: str, command: str) -> str:
    """Run a command over SSH, as the inventory says."""
    document = json.loads(lab.inventory_path.read_text())["all"]
    options = document["vars"]["ansible_ssh_common_args"].split()
    argv = ["ssh", "-n", *options, "-i", document["vars"]["ansible_ssh_private_key_file"],
            f"root@{document['hosts'][node]['ansible_host']}", command]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=30).stdout


def test_nodes_are_what_they_were_specified_to_be(lab: Lab) -> None:
    """Over SSH: own systemd, own kernel release, GPUs that say that they are stand-ins."""
    assert lab.nodes() == ("ctl", "n01", "n02", "n03")
    assert ssh(lab, "n01", "uname -r; cat /proc/1/comm").split() == ["6.8.0-85-generic", "systemd"]
    assert ssh(lab, "n01", "cat /proc/sys/kernel/random/boot_id").strip() == lab.boot_id("n01")
    assert ssh(lab, "n01", "cat /etc/machine-id").strip() == lab.machine_id("n01")
    gpus = say(lab, "n01", "nvidia-smi --query-gpu=index,name,driver_version --format=csv,noheader").splitlines()
    assert gpus[7] == "7, NVIDIA H100 80GB HBM3 (stand-in), 570.195.03"
    assert "Stand-in for RHEL 9" in say(lab, "n03", "cat /etc/os-release")
    assert "kmod-nvidia-open-dkms-570.195.03-1.el9.standin.x86_64" in say(lab, "n03", "rpm -qa")
    assert "proprietary" in say(lab, "n02", "cat /lib/modules/*/updates/dkms/nvidia.ko")
    assert "couldn't communicate" not in say(lab, "n02", "nvidia-smi")
    status = lab.status()
    assert (status["n01"]["fabric_manager"], status["n02"]["fabric_manager"]) == ("570.195.03", "")
    assert say(lab, "n01", "systemctl --failed --no-legend") == ""


def test_what_reaches_the_real_machine_is_closed(lab: Lab) -> None:
    """A node cannot set the machine's kernel, make devices, or see its files and processes."""
    assert "Read-only" in say(lab, "n01", "echo 1 > /proc/sys/kernel/panic")
    assert "not permitted" in say(lab, "n01", "mknod /tmp/disk b 8 0")
    assert "Read-only" in say(lab, "n01", "mkdir /sys/fs/x")
    assert int(say(lab, "n01", "ls -d /proc/[0-9]* | wc -l")) < 60
    assert say(lab, "n01", f"ls {Path(sys.executable).parent}").endswith("No such file or directory")
    with pytest.raises(LabError):
        lab.exec("n01", "ping", "-c1", "-W1", "192.0.2.2")


def test_kernel_launch_is_computed_and_nothing_else_pretends(lab: Lab) -> None:
    """The one known kernel gives the right numbers, a planted fault one wrong one, another kernel is refused."""
    assert launch(lab, "n01") == {"init": 0, "launch": 0, "wrong": 0}
    lab.fault("n01", "gate-wrong")
    assert launch(lab, "n01") == {"init": 0, "launch": 0, "wrong": 1}
    lab.fault("n01", "clear", "gate-wrong")
    assert launch(lab, "n01")["wrong"] == 0
    assert launch(lab, "n01", "another")["launch"] == 801
    lab.fault("n01", "cuinit-code", "999")
    assert launch(lab, "n01")["init"] == 999
    lab.fault("n01", "clear")
    assert launch(lab, "n03") == {"init": 0, "launch": 0, "wrong": 0}


def test_fabric_manager_decides_on_machines_with_switches(lab: Lab) -> None:
    """Without it cuInit says 802, while nvidia-smi looks healthy."""
    lab.exec("n01", "systemctl", "stop", "nvidia-fabricmanager")
    assert launch(lab, "n01")["init"] == 802
    assert "NVIDIA H100" in say(lab, "n01", "nvidia-smi -L")
    lab.fault("n01", "fm-fail")
    lab.exec("n01", "systemctl", "start", "nvidia-fabricmanager", check=False)
    assert say(lab, "n01", "systemctl is-active nvidia-fabricmanager") == "failed"
    lab.fault("n01", "clear")
    lab.exec("n01", "systemctl", "start", "nvidia-fabricmanager")
    assert launch(lab, "n01")["init"] == 0


def test_module_reload_changes_the_loaded_driver(lab: Lab) -> None:
    """Modules in use stay; taken out and put in again they are what is on disk."""
    assert "in use by" in say(lab, "n02", "modprobe -r nvidia")
    assert "proprietary" not in say(lab, "n02", "cat /proc/driver/nvidia/version")
    said = say(lab, "n02", "modprobe -r nvidia_uvm && modprobe -r nvidia && nvidia-smi")
    assert said.startswith("NVIDIA-SMI has failed")
    assert launch(lab, "n02")["init"] == 100
    lab.fault("n02", "modprobe-fail")
    assert "Key was rejected" in say(lab, "n02", "modprobe nvidia")
    lab.fault("n02", "clear")
    lab.exec("n02", "modprobe", "nvidia_uvm")
    assert launch(lab, "n02")["init"] == 0


def test_upgrade_needs_its_reboot(lab: Lab) -> None:
    """Real apt replaces the branch; the old module stays loaded until the reboot, then kernel and driver are new."""
    pins = " ".join(f"{name}={version}" for name, version in {
        **OPEN_580, **FABRIC_580, "linux-image-6.8.0-87-generic": "6.8.0-87.88+standin",
        "cuda-toolkit-13-0": "13.0.2-1+standin"}.items())
    simulated = say(lab, "n01", f"apt-get -s install {pins}")
    assert "Remv nvidia-dkms-570-server-open" in simulated
    lab.exec("n01", "sh", "-c", f"DEBIAN_FRONTEND=noninteractive apt-get -y -q install {pins}", timeout_s=120)
    assert "Driver/library version mismatch" in say(lab, "n01", "nvidia-smi")
    assert launch(lab, "n01")["init"] == 803
    assert say(lab, "n01", "readlink -f /usr/local/cuda") == "/usr/local/cuda-13.0"
    before = lab.boot_id("n01")
    say(lab, "n01", "shutdown -r now")
    wait(lambda: rebooted(lab, "n01", before))
    node = lab.status()["n01"]
    assert (node["kernel"], node["driver"], node["fabric_manager"]) == ("6.8.0-87-generic", "580.95.05", "580.95.05")
    assert int(say(lab, "n01", "cut -d. -f1 /proc/uptime")) < 60
    assert launch(lab, "n01") == {"init": 0, "launch": 0, "wrong": 0}


def test_dnf_upgrades_and_renames(lab: Lab) -> None:
    """Real dnf: same names with a new version, a companion under a new name, kernels side by side."""
    version = "3:580.95.05-1.el9.standin"
    new = [f"{name}-{version}" for name in ("kmod-nvidia-open-dkms", "nvidia-driver-cuda", "nvidia-driver-cuda-libs",
                                            "nvidia-kmod-common")]
    new += ["nvidia-fabricmanager-580.95.05-1.standin", "libnvidia-nscq-580-580.95.05-1.standin",
            "kernel-core-5.14.0-503.15.1.el9_5.standin"]
    script = f"install {' '.join(new)}\nremove nvidia-fabric-manager\nremove libnvidia-nscq-570\nrun\n"
    lab.exec("n03", "sh", "-c", "cat > /tmp/script && dnf -q -y --allowerasing shell /tmp/script", stdin=script,
             timeout_s=120)
    assert say(lab, "n03", "rpm -q kernel-core | wc -l") == "2"
    assert launch(lab, "n03")["init"] == 803
    before = lab.boot_id("n03")
    lab.power("n03", "cycle")
    wait(lambda: rebooted(lab, "n03", before))
    node = lab.status()["n03"]
    assert (node["kernel"], node["driver"], node["fabric_manager"]) == (
        "5.14.0-503.15.1.el9_5.x86_64", "580.95.05", "580.95.05")
    assert launch(lab, "n03") == {"init": 0, "launch": 0, "wrong": 0}


def test_failed_module_build_and_its_repair(lab: Lab) -> None:
    """dpkg is left half way, says so, and can be repaired; the loaded driver stays."""
    lab.fault("n02", "dkms-fail")
    pins = " ".join(f"{n.removesuffix('-open')}={v}" for n, v in OPEN_580.items())
    assert "Bad return status for module build" in say(lab, "n02", f"apt-get -y -q install {pins}")
    assert "nvidia-dkms-580-server" in say(lab, "n02", "dpkg --audit")
    lab.fault("n02", "clear")
    say(lab, "n02", "dpkg --configure -a")
    assert say(lab, "n02", "dpkg --audit") == ""
    assert lab.status()["n02"]["driver"] == "570.195.03"
    assert say(lab, "n02", "modinfo -F version nvidia") == "580.95.05"


def test_gpu_faults_show_where_the_real_ones_do(lab: Lab) -> None:
    """A lost GPU, a foreign process, a hanging driver."""
    lab.fault("n03", "gpu-lost", "3")
    assert "Unable to determine the device handle for GPU3" in say(lab, "n03", "nvidia-smi")
    lab.fault("n03", "clear", "gpu-lost")
    lab.fault("n03", "gpu-busy", "1 4242")
    assert say(lab, "n03", "nvidia-smi --query-compute-apps=pid --format=csv,noheader").startswith("4242,")
    lab.fault("n03", "smi-hang", "1")
    begun = time.monotonic()
    say(lab, "n03", "nvidia-smi -L")
    assert time.monotonic() - begun >= 1
    assert lab.status()["n03"]["faults"] == ["gpu-busy", "smi-hang"]
    lab.fault("n03", "clear")
    assert lab.status()["n03"]["faults"] == []


def test_power_link_disk_clock_and_sshd(lab: Lab) -> None:
    """Faults from outside, and their ends."""
    lab.power("n02", "off")
    wait(lambda: lab.pid("n02") is None)
    lab.fault("n02", "ecc", "0 5")      # a disk can be written while its machine is off
    lab.power("n02", "on")
    wait(lambda: lab.pid("n02") is not None and answers_ssh(lab.address("n02")))
    assert say(lab, "n02", "cat /etc/planner-lab/fault/ecc") == "0 5"
    lab.link("n02", "down")
    assert not answers_ssh(lab.address("n02"))
    lab.link("n02", "up")
    wait(lambda: answers_ssh(lab.address("n02")))
    lab.fault("n02", "disk-full")
    assert "No space left" in say(lab, "n02", "dd if=/dev/zero of=/fill bs=1M count=4")
    lab.fault("n02", "disk-free")
    say(lab, "n02", "rm -f /fill")
    lab.fault("n02", "clock", "-864000")
    now = int(say(lab, "n02", "date +%s"))
    assert abs(now + 864000 - time.time()) < 60
    lab.fault("n02", "clear")
    lab.fault("n02", "sshd-kill")
    wait(lambda: answers_ssh(lab.address("n02")))


def test_node_that_never_boots_and_package_server_faults(lab: Lab) -> None:
    """no-boot keeps a node down until it is cleared; the package server fails as it is told."""
    lab.fault("n02", "no-boot")
    say(lab, "n02", "systemctl reboot")
    wait(lambda: lab.pid("n02") is None)
    time.sleep(1.5)
    assert lab.pid("n02") is None
    lab.fault("n02", "clear")
    wait(lambda: lab.pid("n02") is not None and answers_ssh(lab.address("n02")))
    fetch = "cd /tmp && apt-get -q download libnccl2"
    lab.fault("repo", "503", "libnccl")
    assert "503" in say(lab, "n02", fetch)
    lab.fault("repo", "clear")
    lab.fault("repo", "corrupt", "libnccl2_2.28")
    assert "Hash Sum mismatch" in say(lab, "n02", fetch)
    lab.fault("repo", "clear")
    assert lab.exec("n02", "sh", "-c", fetch).returncode == 0
    for wrong in (("n02", "nonsense"), ("repo", "slow"), ("n99", "clear")):
        with pytest.raises(LabError):
            lab.fault(*wrong)


def test_slurm_is_real(lab: Lab) -> None:
    """A job with GPUs runs; a drained node finishes it first."""
    lab.slurm("ctl", ["n01", "n02"])
    said = say(lab, "ctl", "timeout 20 srun -w n01 --gres=gpu:8 sh -c 'hostname; echo $CUDA_VISIBLE_DEVICES'")
    assert said.split() == ["n01", "0,1,2,3,4,5,6,7"]
    job = say(lab, "ctl", "sbatch --parsable -w n01 -o /tmp/job.out --wrap 'sleep 4; echo done'")
    wait(lambda: say(lab, "ctl", f"squeue -h -j {job} -o %T") == "RUNNING")
    say(lab, "ctl", "scontrol update NodeName=n01 State=DRAIN Reason=test")
    assert say(lab, "ctl", "sinfo -h -n n01 -o %T") == "draining"
    wait(lambda: say(lab, "ctl", "sinfo -h -n n01 -o %T") == "drained")
    assert say(lab, "n01", "cat /tmp/job.out") == "done"
    say(lab, "ctl", "scontrol update NodeName=n01 State=RESUME")
    wait(lambda: say(lab, "ctl", "sinfo -h -n n01 -o %T") == "idle")
