"""Containers: CDI files that are whole or stale, a gate inside a container, and what must be restarted."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.data import probe_zip
from planner.probe import software_containers
from tests.gates.software_play import PLAY, UUID, judged, program

SPEC = """cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: {root}/dev/nvidia0
    - hostPath: {root}/dev/nvidiactl
      path: /dev/inside
containerEdits:
  hooks:
  - hookName: createContainer
    path: {root}/bin/hook
    args:
    - nvidia-cdi-hook
    - update-ldcache
  mounts:
  - containerPath: /usr/lib/libcuda.so.{version}
    hostPath: {root}/lib/libcuda.so.{version}
    options: [ro]
"""


def cdi_tree(tmp_path: Path, version: str) -> Path:
    for name in ("dev/nvidia0", "dev/nvidiactl", "bin/hook", f"lib/libcuda.so.{version}"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    spec = tmp_path / "cdi" / "nvidia.yaml"
    spec.parent.mkdir()
    spec.write_text(SPEC.format(root=tmp_path, version=version))
    return spec


def looked(spec: Path, loaded: str | None) -> str:
    evidence: dict[str, Any] = {}
    software_containers.check_cdi(str(spec), evidence)
    evidence["loaded"] = loaded
    answer = {"check": "cdi", "subject": str(spec), "status": "ok", "reason": None, "code": None, "evidence": evidence}
    report = {"nonce": "0", "host": "n1", "versions": {}, "software": [answer]}
    return judged(report, {"nonce": "0", "host": "n1"}, "cdi").code


def test_a_cdi_file_is_whole_or_stale(tmp_path: Path) -> None:
    spec = cdi_tree(tmp_path, "580.159.04")
    assert looked(spec, "580.159.04") == "OK"
    assert looked(spec, "590.48.01") == "CDI_STALE"
    (tmp_path / "lib" / "libcuda.so.580.159.04").unlink()
    assert looked(spec, "580.159.04") == "CDI_STALE"


def test_yaml_and_json_of_one_cdi_file_name_the_same_paths(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    text = SPEC.format(root="/r", version="580.159.04")
    wanted = ("nvidia.com/gpu", ["/r/bin/hook", "/r/dev/nvidia0", "/r/dev/nvidiactl", "/r/lib/libcuda.so.580.159.04"])
    assert software_containers.named_paths(text) == wanted
    assert software_containers.named_paths(json.dumps(yaml.safe_load(text))) == wanted


def test_cdi_files_of_one_place_under_two_names_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = cdi_tree(tmp_path, "580.1")
    (tmp_path / "also").symlink_to(spec.parent)
    monkeypatch.setattr(software_containers, "CDI_FOLDERS", (str(spec.parent), str(tmp_path / "also"), "/nowhere"))
    assert len(software_containers.cdi_files()) == 1


@pytest.mark.parametrize(("text", "kind"), [("", None), ("kind: other.com/x\n", "other.com/x"), ("- : [", None),
                                            ("[1, 2]", None), ('{"kind": 3, "a": [{"path": 4}]}', "3")])
def test_any_text_can_be_read_as_a_cdi_file(text: str, kind: str | None) -> None:
    assert software_containers.named_paths(text) == (kind, [])


def test_the_gate_runs_inside_a_container_without_network_or_pull(tmp_path: Path) -> None:
    archive = tmp_path / "probe.zip"
    archive.write_bytes(probe_zip())
    calls = tmp_path / "calls"
    program(tmp_path / "bin" / "podman", f"""
import os, sys
open({str(calls)!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "run":
    at = sys.argv.index("python3")
    assert os.path.isfile(sys.argv[sys.argv.index("-v") + 1].split(":")[0])
    os.execv({sys.executable!r}, [{sys.executable!r}, {str(archive)!r}, *sys.argv[at + 2:]])
""")
    script = f"import sys; sys.path[:0] = [{str(archive)!r}]; " + PLAY
    gpus = [{"index": 0, "uuid": UUID, "processes": []}]
    request = {"nonce": "00ff", "host": "n1", "profile": "standard", "software": {
        "only_roots": True, "pythons": ["/no"], "image": "local/image"}}
    done = subprocess.run([sys.executable, "-I", "-c", script, json.dumps({**request, "gpus": gpus})], text=True,
                          capture_output=True, env={**os.environ, "PATH": str(tmp_path / "bin")}, check=True)
    answer = next(a for a in json.loads(done.stdout) if a["check"] == "container" and a["subject"] == "podman")
    inner = answer["evidence"]["ways"][0]["report"]
    assert (inner["host"], inner["nonce"], inner["profile"]) == ("n1", answer["evidence"]["nonce"], "quick")
    first, ran, removed = calls.read_text().splitlines()
    assert first == "image inspect local/image"
    wanted = ("--rm", "--pull=never", "--network none", "--device nvidia.com/gpu=all")
    assert [part for part in wanted if part not in ran] == []
    assert removed == "rm -f " + ran.split("--name ")[1].split()[0]
    report = {"profile": "standard", "nonce": "00ff", "host": "n1", "nvml": {"gpus": gpus}, "software": [answer]}
    if inner["nvml"]["gpus"]:
        pytest.skip("this machine has an NVIDIA GPU; the case is one without")
    assert judged(report, request, "container").code == "CTR_NO_GPU"


def test_containers_that_hold_an_old_libcuda_must_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "libcuda.so.570.1.2"
    library.write_bytes(b"\0" * 4096)
    monkeypatch.setattr(software_containers, "_container_of", lambda pid: "abc" if pid == os.getpid() else None)
    monkeypatch.setattr(software_containers, "loaded_driver", lambda: "580.1.2")
    with library.open("rb") as stream, mmap.mmap(stream.fileno(), 4096, prot=mmap.PROT_READ):
        other: dict[str, Any] = {}
        software_containers.check_running(other)
        library.unlink()
        deleted: dict[str, Any] = {}
        software_containers.check_running(deleted)
    stale = other["must_restart"][0]
    assert (stale["pid"], stale["version"], stale["deleted"]) == (os.getpid(), "570.1.2", False)
    assert deleted["must_restart"][0]["deleted"]
    answer = {"check": "container", "subject": "running containers", "status": "ok", "evidence": other}
    report = {"nonce": "0", "host": "n1", "software": [answer]}
    assert judged(report, {"nonce": "0", "host": "n1"}, "container").code == "CTR_NO_GPU"
