"""Package lists of VM images, as dpkg, rpm and people write them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cli.inputs import load_rules
from planner.cli.main import invoke
from planner.errors import InputError
from planner.stack.manifest import manifest_values, read_manifest

MATRICES = load_rules(())
DPKG_LIST = """\
Desired=Unknown/Install/Remove/Purge/Hold
| Status=Not/Inst/Conf-files/Unpacked/halF-conf/Half-inst/trig-aWait/Trig-pend
||/ Name                          Version              Architecture Description
+++-=============================-====================-============-======================
ii  cuda-toolkit-12-8             12.8.1-1             amd64        CUDA Toolkit 12.8 meta-package
ii  libcudnn9-cuda-12             9.8.0.87-1           amd64        cuDNN
hi  libnccl2:amd64                2.25.1-1+cuda12.8    amd64        NCCL
ii  linux-image-6.8.0-45-generic  6.8.0-45.45          amd64        Signed kernel image generic
ii  nvidia-dkms-570-server-open   570.124.06-0ubuntu1  amd64        module
ii  nvidia-fabricmanager-570      570.133.20-1         amd64        fabric manager
ii  nvidia-container-toolkit      1.17.3-1             amd64        toolkit
rc  nvidia-imex-560               560.35.03-1          amd64        gone, its configuration stayed
ii  docker-ce                     5:27.3.1-1~ubuntu.22.04~jammy amd64 Docker
"""
APT = {"os_family": ("apt",), "arch": ("x86_64",), "cuda_toolkits": ("12.8.1",), "cudnn": ("9.8.0.87",),
       "nccl": ("2.25.1",), "kernel": ("6.8.0-45-generic",), "driver": ("570.124.06",), "driver_flavour": ("open",),
       "fabric_manager": ("570.133.20",), "container_toolkit": ("1.17.3",), "imex": (), "docker": ("27.3.1",)}
RPM = """\
kmod-nvidia-open-dkms-580.95.05-1.el9.noarch
nvidia-driver-cuda-3:580.95.05-1.el9.x86_64
nvidia-fabricmanager-580.95.05-1.el9.x86_64
cuda-toolkit-13-0-13.0.2-1.x86_64
cuda-toolkit-12-8-12.8.1-1.x86_64
libnccl-2.28.7-1+cuda13.0.x86_64
kernel-core-5.14.0-427.13.1.el9_4.x86_64
kernel-core-5.14.0-362.8.1.el9_3.x86_64
nvidia-container-toolkit-1.19.1-1.x86_64
gpg-pubkey-d42d0685-62589a51
"""


def state(text: str) -> dict[str, tuple[str, ...]]:
    return manifest_values(*read_manifest(text, "packages"), MATRICES)


def test_a_list_of_dpkg() -> None:
    found = state(DPKG_LIST)
    assert {name: found.get(name) for name in APT} == APT


@pytest.mark.parametrize("form", ["{name}\t{version}", "{name}:amd64\t{version}", "{name}|{version}|amd64|ii "])
def test_queries_of_dpkg(form: str) -> None:
    packages = read_manifest(DPKG_LIST, "x")[0]
    text = "\n".join(form.format(name=name, version=version) for name, version in packages.items())
    found = state(text)
    assert {name: found.get(name) for name in APT if name != "arch"} == {k: v for k, v in APT.items() if k != "arch"}


@pytest.mark.parametrize("form", ["- {name}={version}", "- {name}=={version}", "{name}: '{version}'"])
def test_yaml(form: str) -> None:
    packages = read_manifest(DPKG_LIST, "x")[0]
    found = state("\n".join(form.format(name=name, version=version) for name, version in packages.items()))
    assert found["fabric_manager"] == ("570.133.20",)
    assert found["os_family"] == ("apt",)


def test_a_list_of_rpm() -> None:
    found = state(RPM)
    expected = {"os_family": ("dnf",), "driver": ("580.95.05",), "driver_flavour": ("open",), "arch": ("x86_64",),
                "fabric_manager": ("580.95.05",), "cuda_toolkits": ("12.8.1", "13.0.2"), "nccl": ("2.28.7",),
                "kernel": ("5.14.0-427.13.1.el9_4.x86_64",), "container_toolkit": ("1.19.1",), "cudnn": ()}
    assert {name: found.get(name) for name in expected} == expected


def test_an_image_without_a_kernel_says_nothing_about_it() -> None:
    assert "kernel" not in state("libnccl2\t2.25.1-1+cuda12.8\n")


@pytest.mark.parametrize("text", ["", "nothing here\n", "[]", "{}", "- x\n", "\x00"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(InputError):
        read_manifest(text, "x")


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        manifest_values(*read_manifest(text, "x"), MATRICES)


def test_check_of_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "packages.txt").write_text(DPKG_LIST)
    assert invoke(["check", "--manifest", str(tmp_path / "packages.txt"), "-o", "json"]) == 3
    findings = {f["code"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["fabric-manager-equals-driver"]["severity"] == "error"
    assert findings["container-toolkit-cve-2025-23359"]["subject"] == "packages.txt"
