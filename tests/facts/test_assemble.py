"""Whole synthetic documents become facts; loaded, on-disk and packaged driver stay apart."""

from __future__ import annotations

import json
from typing import Any

import pytest

from planner.errors import FactsError
from planner.facts.assemble import assemble_facts, read_probe
from planner.facts.parse.driver import driver_owner
from tests.facts.documents import answer, rhel_node, ubuntu_node


def test_an_hgx_node_on_ubuntu() -> None:
    """Every field that the rules look at."""
    facts, identity = assemble_facts(ubuntu_node())
    assert facts.driver.model_dump() == {
        "loaded": "570.195.03",
        "on_disk": "570.195.03",
        "userspace": "570.195.03",
        "package": "570.195.03-0ubuntu1",
        "flavour": "open",
        "owner": "apt",
        "cuda_reported": "12.8",
        "nvml_error": None,
    }
    assert (facts.kernel.running, facts.kernel.next_boot) == ("6.8.0-85-generic", "6.8.0-87-generic")
    assert facts.kernel.modules_built == {"6.8.0-85-generic": "570.195.03"}
    assert facts.fabric_manager.model_dump() == {
        "version": "570.195.03-1",
        "active": True,
        "package": "nvidia-fabricmanager-570",
    }
    assert facts.imex.version is None
    assert facts.services["nscq"].version == "570.195.03-1"
    assert facts.nvswitch is True
    assert [(t.version, t.default) for t in facts.toolkits] == [("12.8.1", True)]
    assert [(lib.name, lib.version, lib.package) for lib in facts.libraries] == [("nccl", "2.27.7", "libnccl2")]
    assert facts.holds == ("nvidia-dkms-570-open",)
    assert facts.available == {"libnvidia-compute-580": ("580.105.08-0ubuntu1",)}
    assert facts.os.auto_upgrades == ("unattended-upgrades",)
    assert facts.container_toolkit == "1.17.8-1"
    assert facts.scheduler == {"slurm": "22.05.8"}
    assert facts.nics == ("MT4129 MT_0000000838",)
    assert facts.python_envs[0].frameworks == {"torch": "2.7.0+cu126"}
    assert identity.machine_id == "a" * 32
    assert identity.gpu_uuids == ("GPU-aaaa-0", "GPU-aaaa-1")


def test_a_rhel_node_whose_new_driver_is_not_loaded() -> None:
    """Packages are one version ahead of the loaded module; the next kernel comes from grubby."""
    facts, _ = assemble_facts(rhel_node())
    assert (facts.os.family, facts.driver.owner) == ("dnf", "dnf")
    assert (facts.driver.loaded, facts.driver.userspace, facts.driver.package) == (
        "570.195.03",
        "580.95.05",
        "3:580.95.05-1.el9",
    )
    assert facts.kernel.next_boot == "5.14.0-570.12.1.el9_6.x86_64"
    assert facts.available == {"nvidia-driver-cuda-libs": ("3:590.48.01-1.el9",)}
    assert facts.holds == ("nvidia-driver-cuda-libs",)
    assert facts.fabric_manager.package == "nvidia-fabric-manager"


def test_a_lab_node_without_versions_in_file_names() -> None:
    """The lab's library has no version in its name: its package and NVML tell; the GPU says what it is."""
    lib = "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
    document = ubuntu_node()
    document["found"] = {"libraries": [{"path": lib}], "toolkits": []}
    document["commands"]["dpkg_owners"] = answer(f"libnvidia-compute-570: {lib}\n")
    document["nvml"]["gpus"][0]["name"] = "NVIDIA H100 80GB HBM3 (stand-in)"
    facts, _ = assemble_facts(document)
    assert (facts.driver.userspace, facts.driver.package) == ("570.195.03", "570.195.03-0ubuntu1")
    assert (facts.gpus[0].model, facts.gpus[0].stand_in) == ("NVIDIA H100 80GB HBM3 (stand-in)", True)
    assert facts.gpus[1].stand_in is False


def test_repositories_that_were_not_read_are_not_empty() -> None:
    """Unknown and empty lead to different plans."""
    unread = ubuntu_node()
    unread["commands"]["apt_available"] = answer("", 0) | {"error": "no package lists"}
    assert assemble_facts(unread)[0].available is None
    failed = ubuntu_node()
    failed["commands"]["apt_available"] = answer("", 100)
    assert assemble_facts(failed)[0].available is None
    empty = ubuntu_node()
    empty["commands"]["apt_available"] = answer("")
    assert assemble_facts(empty)[0].available == {}


def test_what_could_not_be_read_is_a_problem() -> None:
    """A lost GPU, a hung part and a half-installed package are all told."""
    document = ubuntu_node(problems={"toolkits": "timeout"})
    document["nvml"]["gpus"][1] = {"index": 1, "error": "GPU is lost"}
    document["commands"]["dpkg_packages"]["stdout"] += "nvidia-dkms-580-open|580.95.05-0ubuntu1|amd64|iF \n"
    facts, _ = assemble_facts(document)
    assert facts.problems == (
        "nvidia-dkms-580-open: half configured",
        "GPU 1: GPU is lost",
        "toolkits: not read (timeout)",
    )
    assert len(facts.gpus) == 1


def test_gpus_come_from_nvidia_smi_where_nvml_is_missing() -> None:
    """WSL without the bundled library still shows its GPU, and its driver is the image's."""
    document = ubuntu_node(nvml={"available": False, "gpus": [], "error": "NVML did not answer: timeout"})
    document["files"].pop("/sys/module/nvidia/version")
    document["files"].pop("/proc/driver/nvidia/version")
    document["disk"]["present"] = ["/dev/dxg", "/usr/lib/wsl/lib/libcuda.so.1"]
    document["commands"]["nvidia_smi"] = answer(
        "| NVIDIA-SMI 545.46   Driver Version: 546.80   CUDA Version: ERR!  |\n"
    )
    document["commands"]["nvidia_smi_query"] = answer("0, NVIDIA GeForce RTX 3060, 546.80, 6144 MiB, [N/A], [N/A]\n")
    facts, _ = assemble_facts(document)
    assert (facts.os.virtualisation, facts.driver.owner, facts.driver.loaded) == ("wsl", "image", "546.80")
    assert [g.model for g in facts.gpus] == ["NVIDIA GeForce RTX 3060"]
    assert facts.driver.nvml_error == "NVML did not answer: timeout"


@pytest.mark.parametrize(
    ("present", "virtualisation", "packaged", "anything", "owner"),
    [
        ((), "none", True, True, "apt"),
        ((), "none", False, False, "none"),
        (("/usr/bin/nvidia-uninstall",), "none", False, True, "runfile"),
        (("/usr/bin/nvidia-uninstall",), "none", True, True, "apt"),
        (("/usr/bin/nvidia-uninstall",), "none", False, False, "none"),
        (("/run/nvidia/driver/usr/bin/nvidia-smi",), "none", False, True, "operator"),
        (("/run/ostree-booted",), "none", True, True, "image"),
        ((), "docker", False, True, "image"),
        ((), "none", False, True, None),
    ],
)
def test_who_owns_the_driver(
    present: tuple[str, ...],
    virtualisation: str,
    packaged: bool,
    anything: bool,
    owner: str | None,
) -> None:
    """Only what is recognised is named; a driver of unknown origin has no owner."""
    assert (
        driver_owner(present=present, virtualisation=virtualisation, family="apt", packaged=packaged, anything=anything)
        == owner
    )


@pytest.mark.parametrize("text", ["", "Welcome!", "{", "[]", '{"schema": "planner.probe-facts/9"}', "{}\nbye {"])
def test_other_answers_are_refused(text: str) -> None:
    """What is no probe document is never taken for facts."""
    with pytest.raises(FactsError, match="not a document"):
        read_probe(text)


def test_a_banner_before_the_answer_is_skipped() -> None:
    """Login messages on standard output are common."""
    assert read_probe("Welcome to gpu-17!\n" + json.dumps(ubuntu_node()))["machine"] == "x86_64"


@pytest.mark.parametrize(
    "broken", [{"nvml": []}, {"disk": {"kernels": []}}, {"found": {"libraries": [{}]}}, {"commands": 7}]
)
def test_a_misshapen_document_is_refused_whole(broken: dict[str, Any]) -> None:
    """A part of an unknown shape makes the node unreadable, not wrong."""
    with pytest.raises(FactsError, match="cannot be read"):
        assemble_facts(ubuntu_node(**broken))
