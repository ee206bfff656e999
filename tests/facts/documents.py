"""Synthetic probe documents of nodes as the fleet's owners know them; each test changes what it is about."""

from __future__ import annotations

from typing import Any

SYNTHETIC = "synthetic: an HGX H100 on Ubuntu 22.04 with driver 570 from apt, and a RHEL 9 node"


def answer(stdout: str, rc: int = 0) -> dict[str, Any]:
    """Return a command's answer as the probe writes it."""
    return {"argv": [], "rc": rc, "stdout": stdout, "stderr": ""}


def ubuntu_node(machine_id: str = "a" * 32, **changes: Any) -> dict[str, Any]:
    """Return the document of an HGX H100 node, two GPUs shown, packages from apt."""
    lib = "/usr/lib/x86_64-linux-gnu/"
    document: dict[str, Any] = {
        "schema": "planner.probe-facts/1",
        "machine": "x86_64",
        "observed_at": "2026-11-24T10:00:00Z",
        "clock": 1000.0,
        "probe": {"python": "3.10.12", "executable": "/usr/bin/python3", "uid": 0},
        "commands": {
            "uname": answer("Linux 6.8.0-85-generic x86_64\n"),
            "glibc": answer("glibc 2.35\n"),
            "virtualisation": answer("none\n", 1),
            "dpkg_arch": answer("amd64\n"),
            "modinfo": answer("filename: /x/nvidia.ko\nversion:        570.195.03\nlicense:        Dual MIT/GPL\n"),
            "modinfo_version:6.8.0-85-generic": answer("570.195.03\n"),
            "dpkg_packages": answer(
                "libnvidia-compute-570|570.195.03-0ubuntu1|amd64|ii \n"
                "nvidia-dkms-570-open|570.195.03-0ubuntu1|amd64|ii \n"
                "nvidia-fabricmanager-570|570.195.03-1|amd64|ii \nlibnvidia-nscq-570|570.195.03-1|amd64|ii \n"
                "cuda-toolkit-12-8|12.8.1-1|amd64|ii \nlibnccl2|2.27.7-1+cuda12.9|amd64|ii \n"
                "nvidia-container-toolkit|1.17.8-1|amd64|ii \nunattended-upgrades|2.8ubuntu1|all|ii \n"
            ),
            "dpkg_owners": answer(
                f"libnvidia-compute-570:amd64: {lib}libcuda.so.570.195.03\nlibnccl2: {lib}libnccl.so.2.27.7\n"
            ),
            "apt_holds": answer("nvidia-dkms-570-open\n"),
            "dpkg_audit": answer(""),
            "apt_available": answer(
                "libnvidia-compute-580 | 580.105.08-0ubuntu1 | http://m stable/main amd64 Packages\n"
            ),
            "apt_periodic": answer('APT::Periodic::Unattended-Upgrade "1";\n'),
            "units": answer("Id=nvidia-fabricmanager.service\nLoadState=loaded\nActiveState=active\nUnitFileState=\n"),
            "slurmd": answer("slurm-wlm 22.05.8\n"),
        },
        "files": {
            "/etc/os-release": 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
            "/etc/machine-id": machine_id + "\n",
            "/sys/module/nvidia/version": "570.195.03\n",
            "/proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.195.03  R\n",
            "/proc/sys/kernel/random/boot_id": "00000000-0000-0000-0000-000000000001\n",
        },
        "nvml": {
            "available": True,
            "driver": "570.195.03",
            "cuda": 12080,
            "nvml_version": "12.570.195.03",
            "gpus": [
                {
                    "index": i,
                    "name": "NVIDIA H100 80GB HBM3",
                    "compute_capability": [9, 0],
                    "uuid": f"GPU-{machine_id[:4]}-{i}",
                    "memory": {"total": 85520809984},
                    "mig": [0, 0],
                    "virtualization": 0,
                    "fabric_state": 3,
                }
                for i in range(2)
            ],
        },
        "disk": {
            "present": ["/run/systemd/system", "/sys/firmware/acpi", "/sys/firmware/efi"],
            "efi_secure_boot": 0,
            "kernels": {
                "6.8.0-85-generic": {"bootable": True, "modules": ["/lib/modules/x/nvidia.ko"]},
                "6.8.0-87-generic": {"bootable": True, "modules": []},
            },
            "root": {"mount": "27 1 8:2 / / rw - ext4 /dev/sda2 rw", "upper_mount": None},
            "pci": [{"class": "0x030200", "device": "0x2330"}, {"class": "0x068000", "device": "0x22a3"}],
            "rdma": [{"name": "mlx5_0", "hca_type": "MT4129", "board_id": "MT_0000000838"}],
        },
        "found": {
            "libraries": [{"path": lib + "libcuda.so.570.195.03"}, {"path": lib + "libnccl.so.2.27.7"}],
            "toolkits": [
                {
                    "path": "/usr/local/cuda-12.8",
                    "texts": {"version.json": '{"cuda":{"version":"12.8.1"}}'},
                    "nvcc": None,
                    "source": "usr-local",
                    "default": True,
                }
            ],
        },
        "envs": {
            "envs": [
                {
                    "path": "/opt/train/lib/python3.11/site-packages",
                    "dists": ["torch-2.7.0+cu126.dist-info"],
                    "conda": [],
                }
            ],
            "truncated": False,
        },
        "problems": {},
        "access": {
            "space": {"/": 50_000, "/var": 50_000, "/boot": 500, "/tmp": 5_000},
            "tools": {"systemd-run": "/usr/bin/systemd-run", "apt-get": "/usr/bin/apt-get"},
            "scheduler": {"scontrol": "/usr/bin/scontrol"},
            "repositories": [{"url": "http://mirror", "ok": True}],
        },
    }
    document.update(changes)
    return document


def rhel_node(machine_id: str = "b" * 32) -> dict[str, Any]:
    """Return the document of a RHEL 9 node, packages from dnf, module loaded from an older package."""
    document = ubuntu_node(machine_id)
    document["files"].update(
        {
            "/etc/os-release": 'ID="rhel"\nVERSION_ID="9.4"\n',
            "/sys/module/nvidia/version": "570.195.03\n",
            "/etc/dnf/plugins/versionlock.list": "nvidia-driver-cuda-libs-3:580.95.05-1.el9.*\n",
        }
    )
    path = "/usr/lib64/libcuda.so.580.95.05"
    document["found"] = {"libraries": [{"path": path}], "toolkits": []}
    document["commands"] = {
        "uname": answer("Linux 5.14.0-503.11.1.el9_5.x86_64 x86_64\n"),
        "virtualisation": answer("none\n"),
        "rpm_packages": answer(
            "nvidia-driver-cuda-libs|3|580.95.05-1.el9|x86_64\nnvidia-fabric-manager|0|580.95.05-1|x86_64\n"
        ),
        "rpm_owners": answer(f"{path}|nvidia-driver-cuda-libs\n"),
        "dnf_available": answer("nvidia-driver-cuda-libs|3|590.48.01-1.el9|x86_64\n\n"),
        "grubby_default": answer("/boot/vmlinuz-5.14.0-570.12.1.el9_6.x86_64\n"),
    }
    return document
