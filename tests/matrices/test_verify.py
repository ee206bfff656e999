"""``planner matrix verify``: recorded reports of pip through a stand-in for it, and one question to the real one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planner.cli.main import invoke
from planner.matrix.index import MatrixSet
from planner.matrix.verify import SUBJECTS, default_requests, full_version
from planner.matrix.wheels import agrees, allows_python, constraints, floor, machine, wheel_of
from planner.runner.pip import Pip, PipError, tags

RECORDED = Path(__file__).with_name("verify")
PIP = str(RECORDED / "pip")


def verify(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = invoke(["matrix", "verify", "--pip", PIP, *argv])
    out = capsys.readouterr()
    return code, out.out, out.err


def entry(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())["install"][0]
    return found


# --- what is read off a report

def test_pins_of_a_wheel_hold_for_the_machine_asked_for() -> None:
    x86 = wheel_of(entry("torch-2.8.0"), python="3.12", arch="x86_64")
    arm = wheel_of(entry("torch-2.8.0"), python="3.12", arch="aarch64")
    assert (x86.pin("nvidia-cudnn"), x86.pin("nvidia-nccl"), x86.glibc) == ("==9.10.2.21", "==2.27.3", "2.28")
    assert x86.sha256.startswith("b2aca0939fb7")
    assert arm.pin("nvidia-cudnn") == ""           # every one of its pins is marked x86_64


def test_extras_count_when_they_are_asked_for() -> None:
    bare = wheel_of(entry("tensorflow-2.20.0"), python="3.12", arch="x86_64")
    full = wheel_of(entry("tensorflow-2.20.0"), python="3.12", arch="x86_64", extras=("and-cuda",))
    assert bare.pin("nvidia-cudnn") == ""
    assert full.pin("nvidia-cudnn") == "<10.0,>=9.3.0.75"


def test_a_pin_is_found_whatever_cuda_major_its_name_ends_in_and_nothing_else() -> None:
    wheel = wheel_of(entry("torch-2.14.1"), python="3.12", arch="x86_64")
    assert wheel.pin("nvidia-cudnn") == "==9.24.0.43"
    assert wheel.pin("nvidia-cusparse") == ""      # not nvidia-cusparselt-cu13
    assert wheel.pin("nvidia-cuda-runtime", "cuda-toolkit") == "==13.0.3"


def test_a_rebuilt_file_keeps_its_version() -> None:
    wheel = wheel_of(entry("torch-2.10.0"), python="3.12", arch="x86_64")
    assert (wheel.version, wheel.filename.split("-")[2]) == ("2.10.0", "3")


@pytest.mark.parametrize(("known", "published", "answer"), [
    ("12.8", "==12.8.90", True), ("12.8", "==12.9.79", False), ("9.1", "==9.10.2.21", False),
    ("9.10.2.21", "==9.10.2.21", True), (">=9.8 <10", "<10.0,>=9.8", True), (">=9.8 <10", ">=9.8", False),
    (">=9.8", "<10.0,>=9.8", True), (">=9.7", "<10.0,>=9.8", False), ("3.9-3.12", ">=3.9", True),
    ("3.9-3.12", ">=3.10", False), (">=3.9", ">=3.9.0", True), ("3.8", "~=3.8.0", True),
    ("13.0.96", "==13.0.96.*", True), ("12.1", ">=12.1.105", True), ("13.0.3", "==13.0.3.0", True), ("2.27", "", False),
])
def test_what_agrees(known: str, published: str, answer: bool) -> None:
    assert agrees(known, published) is answer


def test_constraints_and_floors() -> None:
    assert constraints("<10.0,>=9.8") == (("<", "10.0"), (">=", "9.8"))
    assert (floor("<10.0,>=9.8"), floor("==13.0.96.*"), floor("<3"), floor("")) == ("9.8", "13.0.96", "", "")


def test_python_of_a_wheel() -> None:
    wheel = wheel_of(entry("vllm-0.33.0"), python="3.12", arch="x86_64")
    assert [allows_python(wheel, p) for p in ("3.10", "3.11", "3.14", "3.15")] == [False, True, True, False]


def test_tags_leave_none_out() -> None:
    found = tags("x86_64", 39)
    assert {"manylinux2014_x86_64", *(f"manylinux_2_{minor}_x86_64" for minor in (18, 31, 39))} <= {*found}
    assert "manylinux_2_40_x86_64" not in found
    assert machine("3.12", "aarch64")["platform_machine"] == "aarch64"


# --- the command

def test_known_releases_are_confirmed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = verify(capsys, "torch==2.8.0", "tensorflow==2.20", "vllm==0.33.0", "cuda-toolkit==13.0.3",
                          "-o", "json")
    document = json.loads(out)
    assert code == 0
    assert "contradicted" not in document["counts"]
    by_what = {(c["about"], c["what"]): c["verdict"] for r in document["releases"] for c in r["checks"]}
    for key in (("pytorch 2.8", "default_cuda"), ("pytorch 2.8", "default_cudnn"), ("pytorch 2.8", "wheel_glibc"),
                ("tensorflow 2.20", "and_cuda"), ("vllm 0.33.0", "pytorch"), ("cublas 13.1.1.3", "cudart"),
                ("vllm-0.33.0-pytorch", "claim"), ("vllm-0.32-python", "claim")):
        assert by_what[key] == "confirmed", key


def test_two_plugins_are_one_release(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = verify(capsys, "jax==0.8.3")
    assert code == 0
    assert "cu12 <10.0,>=9.8; cu13 <10.0,>=9.12.0.46" in out
    assert "jax-0.7-python" in out


def overlay(folder: Path, text: str) -> str:
    folder.mkdir()
    (folder / "own.yml").write_text(text)
    return str(folder)


WRONG = """
schema: planner.matrix/1
topic: own
sources: {own: {title: own notes, retrieved: "2026-11-01", kind: derived, confidence: recalled}}
releases:
  - component: pytorch
    version: "2.8"
    notes: ["kept"]
    attributes: {default_cuda: "12.6", default_cudnn: "9.10.2.21", archs_cu128: "7.0 7.5"}
    provenance: own
claims:
  - {name: own-vllm-rule, family: vllm-pytorch, statement: "vLLM 0.33 needs PyTorch 2.12",
     if: {vllm: "0.33", pytorch: present}, then: {pytorch: "2.12"}, provenance: own,
     accepts: {vllm: ["0.33.0"], pytorch: ["2.12"]}, rejects: {vllm: ["0.33.0"], pytorch: ["2.14"]}}
"""


def test_a_contradiction_becomes_a_patch_that_lints_and_wins(capsys: pytest.CaptureFixture[str],
                                                             tmp_path: Path) -> None:
    own, patch = overlay(tmp_path / "own", WRONG), tmp_path / "patch" / "wheels.yml"
    code, out, _ = verify(capsys, "torch==2.8.0", "vllm==0.33.0", "--matrix", own, "--out", str(patch))
    assert code == 3
    assert "contradicted  pytorch 2.8  default_cuda" in out
    assert "missing       pytorch 2.8  default_nccl" in out
    assert "contradicted: own-vllm-rule" in out
    text = patch.read_text()
    assert "own-vllm-rule is contradicted" in text
    assert "sha256 b2aca0939fb7" in text
    assert "archs_cu128" in text.split("locator")[1].split("retrieved")[0]     # kept, and said to be kept
    # own-vllm-rule and the shipped rules of its family contradict each other; the patch is judged without it
    assert invoke(["matrix", "lint", "--matrix", str(patch.parent)]) == 0
    capsys.readouterr()
    code, out, _ = verify(capsys, "torch==2.8.0", "--matrix", own, "--matrix", str(patch.parent))
    assert (code, "0 contradicted, 0 missing" in out) == (0, True)
    assert invoke(["matrix", "show", "pytorch@2.8", "--matrix", own, "--matrix", str(patch.parent)]) == 0
    shown = capsys.readouterr().out
    assert "default_cuda 12.8" in shown
    assert "archs_cu128 7.0 7.5" in shown
    assert "kept" in shown


def test_nothing_differs_nothing_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = verify(capsys, "torch==2.8.0", "--out", str(tmp_path / "p.yml"))
    assert (code, "written" in out, (tmp_path / "p.yml").exists()) == (0, False, False)


def test_a_release_that_is_not_known_is_written_whole(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch, shipped: MatrixSet) -> None:
    without = {**shipped.releases, "pytorch": tuple(r for r in shipped.releases["pytorch"] if r.version != "2.14")}
    monkeypatch.setattr("planner.cli.matrix_verify.load_rules", lambda _: replace(shipped, releases=without))
    code, out, _ = verify(capsys, "torch==2.14.1", "--out", str(tmp_path / "p.yml"))
    assert code == 0
    assert "missing  pytorch 2.14  default_cuda" in out
    text = (tmp_path / "p.yml").read_text()
    assert "version: '2.14'" in text
    assert "default_cuda: '13.0'" in text


@pytest.mark.parametrize(("mode", "code", "words"), [
    ("offline", "index-unreachable", "Temporary failure in name resolution"),
    ("constrained", "nothing-verified", "constrained"),
    ("big", "nothing-verified", "more than 1 MB"), ("slow", "nothing-verified", "no answer within 1 s"),
    ("junk", "nothing-verified", "report cannot be read"),
])
def test_no_answer_is_said_and_nothing_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path, mode: str,
                                                  code: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_PIP", mode)
    started = time.monotonic()
    rc, out, err = verify(capsys, "torch==2.8.0", "--out", str(tmp_path / "p.yml"), "--megabytes", "1", "--seconds",
                          "1" if mode == "slow" else "30")
    assert (rc, out) == (1, "")
    assert code in err
    assert words in err
    assert not (tmp_path / "p.yml").exists()
    assert time.monotonic() - started < 20


def test_what_the_index_does_not_show_is_listed_beside_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = verify(capsys, "torch==2.8.0", "torch==9.9.9")
    assert code == 0
    assert "not read: torch 9.9.9: no-such" in out
    assert "1 not read" in out


def test_a_wheel_for_another_python_is_told_from_the_python_of_pip(capsys: pytest.CaptureFixture[str]) -> None:
    """The Python that is asked for counts, not that of pip, which an older pip compares with."""
    code, out, _ = verify(capsys, "torch==2.8.0", "vllm==0.33.0", "--python", "3.15")
    assert code == 0
    assert re.search(r"not read: vllm 0\.33\.0: no-such: vllm===0\.33\.0 needs Python \S+, not 3\.15", out)
    assert "1 not read" in out


def test_no_pip(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["matrix", "verify", "torch==2.8.0", "--pip", "/no/such/pip"]) == 1
    assert "no-pip" in capsys.readouterr().err


@pytest.mark.parametrize(("argument", "code"), [
    ("torch", "bad-request"), ("torch>=2", "bad-request"), ("torch==2.8.0+cu126", "bad-request"),
    ("numpy==2.0", "unknown-project")])
def test_requests_that_mean_nothing(capsys: pytest.CaptureFixture[str], argument: str, code: str) -> None:
    rc, _, err = verify(capsys, argument)
    assert (rc, code in err) == (1, True)


def test_how_pip_is_asked(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_PIP_LOG", str(tmp_path / "log"))
    verify(capsys, "torch==2.8", "cuda-toolkit==13.0.3", "--python", "3.11", "--glibc", "2.28")
    first, second = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert (first[-1], second[-1]) == ("torch===2.8.0", "cuda-toolkit==13.0.3")
    assert {"--dry-run", "--no-deps", "--use-feature=fast-deps", "--only-binary=:all:",
            "--ignore-requires-python"} <= {*first}
    assert not any(word.startswith(("--index-url", "-i", "--extra-index", "http")) for word in first)
    assert first[first.index("--python-version") + 1] == "3.11"
    assert "manylinux_2_29_x86_64" not in first


def test_default_requests_are_few_and_known(shipped: MatrixSet) -> None:
    found = default_requests(shipped)
    assert {project for project, _ in found} <= {*SUBJECTS}
    assert 3 <= len(found) <= 8
    assert full_version("torch", "2.8") == "2.8.0"
    assert full_version("vllm", "0.33") == "0.33"


def test_the_real_pip_reads_a_meta_wheel() -> None:
    """One small question (some tens of kB) to whatever index this machine's pip is configured for."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this Python has no pip")
    pip = Pip((sys.executable, "-m", "pip"), seconds=60, most_bytes=4_000_000)
    try:
        found = pip.report("cuda-toolkit==12.8.1", python="3.12", arch="x86_64", glibc_minor=39)
    except PipError as exc:
        pytest.skip(f"no package index answers for cuda-toolkit 12.8.1: {exc.kind}: {exc}")
    wheel = wheel_of(found, python="3.12", arch="x86_64", extras=("cudart", "cublas"))
    assert agrees("12.8.90", wheel.pin("nvidia-cuda-runtime"))
    assert pip.bytes_read < 4_000_000
