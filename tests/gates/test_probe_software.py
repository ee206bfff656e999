"""The probe's software checks against stand-in libraries that a C compiler makes here, and against fake interpreters.

No GPU is used: the libraries compute on the processor and say that they are stand-ins.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.probe import software_find
from planner.probe.software_frameworks import hides_all
from planner.probe.software_kit import Numbers, digest
from planner.probe.software_run import run_program
from tests.gates.software_play import NVCC, PLAY, UUID, judged, of, program, torch
from tests.gates.standin_libraries import Software

COMPILER = shutil.which("cc")
needs_cc = pytest.mark.skipif(COMPILER is None, reason="no C compiler here to make stand-ins with")


def play(tmp_path: Path, *, search: tuple[Path, ...] = (), gpus: Any = None, environment: dict[str, str] | None = None,
         **software: Any) -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """Run all checks in a process of their own; return (answers, report, request)."""
    gpus = [{"index": 0, "uuid": UUID, "processes": []}] if gpus is None else gpus
    software = {"roots": [str(tmp_path / "cuda")], "only_roots": True, "pythons": [str(tmp_path / "no-python")],
                **software}
    request = {"nonce": "00ff", "host": "n1", "profile": "standard", "software": software}
    folders = [str(tmp_path / "driver"), *map(str, search)]
    done = subprocess.run(
        [sys.executable, "-c", PLAY, json.dumps({**request, "gpus": gpus})], text=True, capture_output=True,
        env={**os.environ, "LD_LIBRARY_PATH": ":".join(folders), **(environment or {})}, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    report = {"profile": "standard", "nonce": "00ff", "host": "n1", "nvml": {"gpus": gpus}, "versions": {},
              "software": answers}
    return answers, report, request


LIBRARIES = {"cudart": "cudart", "nvrtc": "nvrtc", "cublas": "cublas", "cublaslt": "cublasLt", "cufft": "cufft",
             "cudnn": "cudnn", "curand": "curand", "cusolver": "cusolver", "cusparse": "cusparse", "npp": "nppc",
             "nvjpeg": "nvjpeg", "nvjitlink": "nvJitLink", "tensorrt": "nvinfer"}


@needs_cc
def test_every_library_that_works_passes_and_says_it_is_a_stand_in(tmp_path: Path, build: Software) -> None:
    build(tmp_path / "driver" / "libcuda.so.1", "cuda")
    for library in LIBRARIES.values():
        build(tmp_path / "cuda" / "lib64" / f"lib{library}.so.13", library)
    answers, report, request = play(tmp_path)
    for check in LIBRARIES:
        answer, result = of(answers, check), judged(report, request, check)
        assert (check, result.code, result.evidence) == (check, "OK", ()), answer
        assert "stand-in" in answer["evidence"]["stand_in"]
        assert answer["evidence"]["path"] == answer["subject"]
    trap = of(answers, "nvrtc")["evidence"]["other"]
    assert (trap["arch"], trap["error_code"], "output" in trap) == ("sm_80", 209, False)


@needs_cc
@pytest.mark.parametrize(("library", "fault", "code"), [
    ("cudart", "constant", "RESULT_WRONG"), ("cudart", "no_work", "RESULT_WRONG"),
    ("cudart", "missing_symbol", "LIB_LOAD"), ("cudart", "driver_too_old", "RUNTIME_TOO_NEW"),
    ("cudart", "crash", "GATE_CRASHED"), ("cublas", "constant", "RESULT_WRONG"), ("cublas", "no_work", "RESULT_WRONG"),
    ("cudnn", "no_convolution", "OK"), ("cuda", "constant", "RESULT_WRONG"), ("cuda", "old_driver", "PTX_TOO_NEW"),
    ("cuda", "runs_anything", "GATE_BUG"), ("cuda", "crash", "GATE_CRASHED"),
])
def test_each_fault_comes_to_its_code(tmp_path: Path, build: Software, library: str, fault: str, code: str) -> None:
    build(tmp_path / "driver" / "libcuda.so.1", "cuda", fault=fault if library == "cuda" else "")
    tried = "nvrtc" if library == "cuda" else library
    build(tmp_path / "cuda" / "lib64" / f"lib{tried}.so.13", tried, fault=fault if library != "cuda" else "")
    _, report, request = play(tmp_path)
    result = judged(report, request, tried)
    assert result.code == code, result
    if code == "PTX_TOO_NEW":
        assert "222" in result.evidence[0]
        assert "machine code" not in result.evidence[0], "machine code ran; only PTX is refused"


@needs_cc
def test_a_library_that_hangs_costs_only_its_own_time(tmp_path: Path, build: Software,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path / "cuda" / "lib64" / "libcurand.so.10", "curand", fault="hang")
    build(tmp_path / "cuda" / "lib64" / "libnvjpeg.so.13", "nvjpeg")
    limits = PLAY.replace("r = json", "import planner.probe.software as s; s.LIMITS_S['curand'] = 0.5;"
                          " s.LOADER_S = 0.5; r = json")
    monkeypatch.setitem(globals(), "PLAY", limits)
    answers, report, request = play(tmp_path)
    assert of(answers, "curand")["status"] == "timeout"
    assert judged(report, request, "curand").code == "GATE_TIMEOUT"
    assert judged(report, request, "nvjpeg").code == "OK"


@needs_cc
def test_a_missing_driver_is_told(tmp_path: Path, build: Software) -> None:
    build(tmp_path / "cuda" / "lib64" / "libcublas.so.13", "cublas")
    answers, report, request = play(tmp_path)
    if "cannot be loaded" not in str(of(answers, "cublas")["reason"]):
        pytest.skip("this machine has a driver; the case is one without")
    assert judged(report, request, "cublas").code == "DRV_NOT_LOADED"


@needs_cc
@pytest.mark.parametrize(("named", "version", "code"), [
    ("libcudart.so.13", 12080, "LIB_VERSION"),      # another toolkit's runtime under this one's name
    ("libcudart.so.13", 13000, "OK"), ("libcudart.so.13", 13010, "OK"),
])
def test_what_ld_library_path_puts_first_is_seen(tmp_path: Path, build: Software, named: str, version: int,
                                                 code: str) -> None:
    own = build(tmp_path / "cuda" / "lib64" / "libcudart.so.13", "cudart")
    first = build(tmp_path / "stray" / named, "cudart", version=version)
    answers, report, request = play(tmp_path, search=(tmp_path / "stray",))
    taken = of(answers, "cudart")["evidence"]["by_loader"]
    assert (taken["path"], taken["version"], taken["folder"]) == (str(first), version, str(tmp_path / "stray"))
    result = judged(report, request, "cudart")
    assert result.code == code, result
    if code != "OK":
        assert str(first) in result.evidence[0]
        assert str(own) in result.evidence[0]


@needs_cc
def test_a_name_that_lies_about_the_version_is_seen(tmp_path: Path, build: Software) -> None:
    build(tmp_path / "cuda" / "lib64" / "libcudart.so.12", "cudart", version=13000)
    _, report, request = play(tmp_path)
    assert judged(report, request, "cudart").code == "LIB_VERSION"


@needs_cc
def test_a_runtime_that_sees_too_few_gpus_fails(tmp_path: Path, build: Software) -> None:
    build(tmp_path / "cuda" / "lib64" / "libcudart.so.13", "cudart", fault="sees_one")
    gpus = [{"index": n, "uuid": UUID[:-1] + str(n), "processes": []} for n in range(2)]
    _, report, request = play(tmp_path, gpus=gpus)
    assert judged(report, request, "cudart").code == "FW_GPU_COUNT"


@needs_cc
def test_nothing_starts_where_others_hold_the_gpus(tmp_path: Path, build: Software) -> None:
    build(tmp_path / "cuda" / "lib64" / "libcudart.so.13", "cudart")
    answers, report, request = play(tmp_path, gpus=[{"index": 0, "uuid": UUID, "processes": [4711]}])
    assert of(answers, "cudart")["status"] == "skip"
    assert judged(report, request, "cudart").code == "ENV_FOREIGN_PROCESS"


@needs_cc
def test_nvcc_compiles_for_this_gpu_and_leaves_nothing(tmp_path: Path, build: Software) -> None:
    build(tmp_path / "driver" / "libcuda.so.1", "cuda")
    program(tmp_path / "cuda" / "bin" / "nvcc", NVCC)
    private = tmp_path / "tmp"
    private.mkdir()
    answers, report, request = play(tmp_path, environment={"TMPDIR": str(private)})
    answer = of(answers, "nvcc")
    assert judged(report, request, "nvcc").code == "OK", answer
    assert (answer["evidence"]["version"], answer["evidence"]["other"]["error_code"]) == ([13, 0, 88], 209)
    assert list(private.iterdir()) == []


@needs_cc
def test_nvcc_without_a_host_compiler_is_skipped_with_the_reason(tmp_path: Path, build: Software) -> None:
    build(tmp_path / "driver" / "libcuda.so.1", "cuda")
    program(tmp_path / "cuda" / "bin" / "nvcc", NVCC)
    _, report, request = play(tmp_path, environment={"PATH": str(tmp_path), "NVCC_CCBIN": ""})
    result = judged(report, request, "nvcc")
    assert (result.code, "host compiler" in result.evidence[0]) == ("PART_MISSING", True)


# --- frameworks

def fake_torch(tmp_path: Path, **changes: Any) -> Path:
    """Make an interpreter whose torch is a stand-in; return its path."""
    package = tmp_path / "site" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(torch(**changes))
    path = tmp_path / "venv" / "bin" / "python3"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\nPYTHONPATH={tmp_path / 'site'} exec {sys.executable} \"$@\"\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("changes", "code"), [
    ({}, "OK"), ({"count": "0"}, "FW_CPU_FALLBACK"), ({"built": None}, "FW_CPU_FALLBACK"),
    ({"where": "'cpu'"}, "FW_CPU_FALLBACK"), ({"sum": "42.0"}, "RESULT_WRONG"),
    ({"sum": "float('nan')"}, "RESULT_WRONG"),
    ({"count": "2"}, "FW_GPU_COUNT"), ({"more": "raise ImportError('libcublas.so.12: no such file')"}, "LIB_LOAD"),
    ({"more": "import os; os.abort()"}, "LIB_LOAD"),
    ({"more": "def tensor(*a, **k): raise RuntimeError('no kernel image is available')"}, "NO_KERNEL_IMAGE"),
    ({"more": "def tensor(*a, **k): raise RuntimeError('compiled with an unsupported toolchain')"}, "PTX_TOO_NEW"),
])
def test_a_framework_in_the_users_interpreter(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    python = fake_torch(tmp_path, **changes)
    answers, report, request = play(tmp_path, pythons=[str(python)])
    assert judged(report, request, "torch").code == code, of(answers, "torch")
    assert judged(report, request, "jax").code == "PART_MISSING"


def test_a_setting_that_hides_the_gpus_reaches_the_framework_and_is_named(tmp_path: Path) -> None:
    python = fake_torch(tmp_path, count="int(__import__('os').environ.get('CUDA_VISIBLE_DEVICES') != '')")
    _, report, request = play(tmp_path, pythons=[str(python)], environment={"CUDA_VISIBLE_DEVICES": ""})
    result = judged(report, request, "torch")
    assert (result.code, "CUDA_VISIBLE_DEVICES=''" in result.evidence[0]) == ("FW_CPU_FALLBACK", True)
    _, report, request = play(tmp_path, pythons=[str(python)])
    assert judged(report, request, "torch").code == "OK"


@pytest.mark.parametrize(("setting", "hidden"), [
    (None, False), ("", True), ("-1", True), ("none", True), ("NoDevFiles", True), ("0", False), ("1,0", False),
    ("64", True), ("GPU-07", False), ("MIG-1", False)])
def test_which_settings_leave_no_gpu(setting: str | None, hidden: bool) -> None:
    assert hides_all(setting, 2) is hidden


def test_an_interpreter_that_does_not_answer_is_told(tmp_path: Path) -> None:
    python = program(tmp_path / "python", "raise SystemExit(3)")
    _, report, request = play(tmp_path, pythons=[str(python)])
    result = judged(report, request, "tensorflow")
    assert (result.code, "does not answer" in result.evidence[0]) == ("PART_MISSING", True)


# --- finding

def test_links_and_copies_of_one_library_are_one_subject(tmp_path: Path) -> None:
    real = tmp_path / "cuda-13.0" / "lib64"
    real.mkdir(parents=True)
    shutil.copy("/proc/self/exe", real / "libcudart.so.13.0.96")
    (real / "libcudart.so.13").symlink_to("libcudart.so.13.0.96")
    (real / "libcudart.so").symlink_to("libcudart.so.13")
    (real / "libcublas.so.13").write_text("no library")
    (real / "stubs").mkdir()
    shutil.copy("/proc/self/exe", real / "stubs" / "libcufft.so.12")
    (tmp_path / "cuda").symlink_to(real.parent)
    found = software_find.find({"roots": [str(tmp_path / "cuda"), str(real)], "only_roots": True, "pythons": ["/no"]})
    assert found.libraries["cudart"] == [(str(real / "libcudart.so.13"), str(real / "libcudart.so.13.0.96"))]
    assert not found.libraries["cublas"]
    assert not found.libraries["cufft"]


# --- bounds

def test_a_program_that_ignores_its_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    text = (f"sh -c 'trap \"\" TERM; echo $$ > {mark}; while :; do sleep 0.1; done' & trap '' TERM; wait; sleep 100")
    started = time.monotonic()
    answer = run_program(["/bin/sh", "-c", text], 0.5)
    assert answer["error"] == "timeout"
    assert time.monotonic() - started < 60
    pid = int(mark.read_text())
    wait_for(lambda: gone(pid), "a grandchild lives on")


def test_a_program_that_is_not_there_is_told() -> None:
    assert "No such file" in run_program(["/no/such/program"], 5)["error"]


def test_numbers_differ_by_everything_that_names_them() -> None:
    names = [("a", "h", "c", "s"), ("b", "h", "c", "s"), ("a", "i", "c", "s"), ("a", "h", "d", "s"),
             ("a", "h", "c", "t")]
    assert len({Numbers(*name).data("x", 32) for name in names}) == len(names)
    assert digest([0.5]) == digest([float("nan")]) == digest([float("inf")]) == "inexact" != digest([1.0])


@needs_cc
def test_a_killed_probe_leaves_no_compiler_running(tmp_path: Path, build: Software) -> None:
    build(tmp_path / "driver" / "libcuda.so.1", "cuda")
    mark = tmp_path / "pid"
    program(tmp_path / "cuda" / "bin" / "nvcc", f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid()));"
            " time.sleep(1000)")
    request = {"nonce": "0", "host": "n1", "gpus": [{"uuid": UUID}],
               "software": {"roots": [str(tmp_path / "cuda")], "only_roots": True, "pythons": ["/no"]}}
    probe = subprocess.Popen([sys.executable, "-c", PLAY, json.dumps(request)], stdout=subprocess.DEVNULL,
                             env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path / "driver")})
    wait_for(lambda: mark.exists() and mark.read_text() != "", "nvcc did not start")
    probe.kill()
    probe.wait()
    wait_for(lambda: gone(int(mark.read_text())), "nvcc lives on")


def wait_for(true: Callable[[], bool], words: str) -> None:
    for _ in range(1200):
        if true():
            return
        time.sleep(0.05)
    pytest.fail(words)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True
