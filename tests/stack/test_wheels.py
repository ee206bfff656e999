"""Python environments, requirements and lock files: what they pin, alone and on machines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.cli.check_python import load_environment
from planner.cli.inputs import load_rules
from planner.cli.main import invoke
from planner.matrix.schema import State
from planner.stack.wheels import environment_view

MATRICES = load_rules(())
FACTS = Path(__file__).parents[2] / "examples" / "02-one-node" / "facts.json"


def pinned(tmp_path: Path, text: str, name: str = "requirements.txt") -> State:
    (tmp_path / name).write_text(text)
    return environment_view(load_environment(None, tmp_path / name).environment, MATRICES)


def install(site: Path, name: str, version: str, *, requires: tuple[str, ...] = (), record: tuple[str, ...] = (),
            extras: tuple[str, ...] = ()) -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires),
             *(f"Provides-Extra: {e}" for e in extras), "", "Requires-Dist: in-the-description==1"]
    (folder / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines))
    (folder / "RECORD").write_text("".join(f"{path},sha256=x,1\n" for path in record))


def venv(root: Path, python: str = "3.12", config: str = "home = /usr/bin\n") -> Path:
    site = root / "lib" / f"python{python}" / "site-packages"
    site.mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin" / "python").symlink_to("/usr/bin/python3")
    (root / "pyvenv.cfg").write_text(config)
    (root / "lib64").symlink_to("lib")
    return site


def check(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = invoke(["check", *argv, "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


def codes(document: dict[str, Any]) -> set[str]:
    return {f["code"] for f in document["findings"]}


# --- requirements

def test_requirements_with_hashes_markers_and_comments(tmp_path: Path) -> None:
    state = pinned(tmp_path, """
# built for production
torch==2.7.0+cu126 \\
    --hash=sha256:aaaa \\
    --hash=sha256:bbbb
nvidia_cudnn.cu12==9.5.1.17   # pinned with torch
nvidia-cuda-runtime-cu12===12.6.77
pywin32==306 ; sys_platform == "win32"
jax==0.4.30 ; python_version < "3"
numpy
""")
    assert state["pytorch"] == ("2.7.0",)
    assert state["pytorch_build"] == ("cu126",)
    assert (state["cudnn"], state["cuda_runtime"], state["built_cuda"]) == (("9.5.1.17",), ("12.6.77",), ("12.6.77",))
    assert "jax" not in state
    assert "unpinned_package" not in state          # numpy is none of the set


def test_what_is_not_pinned_is_named(tmp_path: Path) -> None:
    state = pinned(tmp_path, "torch>=2.6\nvllm\ntriton==3.*\nnvidia-nccl-cu12~=2.27.0\nrequests>=2\n")
    assert state["unpinned_package"] == ("nvidia-nccl-cu12~=2.27.0", "torch>=2.6", "triton==3.*", "vllm")
    assert "pytorch" not in state


def test_includes_and_constraints(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("vllm==0.11.2\n-r requirements.txt\n")
    (tmp_path / "bounds.txt").write_text("torch==2.9.0\njax==0.8.3\n")
    state = pinned(tmp_path, "-r more.txt\n-c bounds.txt\ntorch\n")
    assert (state["pytorch"], state["vllm"]) == (("2.9.0",), ("0.11.2",))
    assert "jax" not in state                       # a constraint installs nothing
    assert "unpinned_package" not in state


@pytest.mark.parametrize(("line", "build"), [
    ("--index-url https://example.org/whl/cu128\ntorch==2.8.0", ("cu128",)),
    ("--extra-index-url=https://example.org/whl/cpu/\ntorch==2.8.0", ("cpu",)),
    ("-i https://example.org/simple\ntorch==2.8.0", None),
    ("torch @ https://example.org/whl/cu126/torch-2.8.0%2Bcu126-cp312-cp312-manylinux_2_28_x86_64.whl", ("cu126",)),
    ("./wheels/torch-2.8.0+cu129-cp312-cp312-linux_x86_64.whl", ("cu129",)),
])
def test_the_build_that_an_address_names(tmp_path: Path, line: str, build: tuple[str, ...] | None) -> None:
    state = pinned(tmp_path, line)
    assert (state["pytorch"], state.get("pytorch_build")) == (("2.8.0",), build)


def test_from_source_nothing_is_known(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("vllm @ git+https://example.org/vllm@abc\n-e .\n!!\ntorch==2.8.0\n")
    found = load_environment(None, tmp_path / "r.txt").environment
    assert [d.name for d in found.distributions] == ["torch"]
    assert any("what it is built for is not known" in note for note in found.notes)
    assert any("'!!'" in note for note in found.notes)


@pytest.mark.parametrize(("name", "text"), [
    ("uv.lock", ('version = 1\nrequires-python = ">=3.10"\n[[package]]\nname = "torch"\nversion = "2.8.0+cu126"\n'
                'source = { registry = "https://example.org" }\n')),
    ("poetry.lock", ('[[package]]\nname = "torch"\nversion = "2.8.0+cu126"\noptional = false\n[metadata]\n'
                    'python-versions = "^3.10"\n')),
    ("pylock.toml", ('lock-version = "1.0"\n[[packages]]\nname = "torch"\nversion = "2.8.0+cu126"\n'
                    '[[packages]]\nname = "torch"\nversion = "2.2.0"\nmarker = "sys_platform == \'darwin\'"\n')),
    ("Pipfile.lock", '{"default": {"torch": {"version": "==2.8.0+cu126", "hashes": []}}, "develop": {}}'),
])
def test_lock_files(tmp_path: Path, name: str, text: str) -> None:
    state = pinned(tmp_path, text, name)
    assert (state["pytorch"], state["pytorch_build"]) == (("2.8.0",), ("cu126",))


def test_a_lock_with_two_versions_says_so(tmp_path: Path) -> None:
    (tmp_path / "uv.lock").write_text('[[package]]\nname = "torch"\nversion = "2.8.0"\n'
                                      '[[package]]\nname = "torch"\nversion = "2.7.0"\n'
                                      '[[package]]\nname = "vllm"\nversion = "0.11.2"\n')
    found = load_environment(None, tmp_path / "uv.lock").environment
    assert [d.name for d in found.distributions] == ["vllm"]
    assert "torch is locked as 2.8.0 and as 2.7.0" in found.notes[0]


@pytest.mark.parametrize(("name", "text", "code"), [
    ("uv.lock", "[[package", "bad-lock"), ("uv.lock", "version = 1", "bad-lock"), ("Pipfile.lock", "{", "bad-lock"),
    ("poetry.lock", "package = 3", "bad-lock"), ("requirements.txt", "\n# nothing\n", "bad-requirements"),
    ("requirements.txt", "%%%\n", "bad-requirements"), ("Pipfile.lock", '{"default": [1]}', "bad-lock"),
])
def test_bad_files(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str, code: str) -> None:
    (tmp_path / name).write_text(text)
    assert invoke(["check", "-r", str(tmp_path / name)]) == 1
    assert code in capsys.readouterr().err


# --- environments on disk

def test_an_environment_is_read_without_an_import(tmp_path: Path) -> None:
    site = venv(tmp_path / "env")
    install(site, "torch", "2.8.0", requires=(
        'nvidia-cudnn-cu12==9.10.2.21; platform_system == "Linux"', 'nvidia-nccl-cu12==2.27.3', "numpy>=1"))
    install(site, "nvidia_cudnn_cu12", "9.1.0.70")
    install(site, "nvidia_cuda_runtime_cu12", "12.8.90")
    for path in (tmp_path / "env", tmp_path / "env" / "bin" / "python", site):
        state = environment_view(load_environment(path, None).environment, MATRICES)
        assert state["framework"] == ("pytorch",)
        assert (state["python"], state["pytorch"], state["cuda_runtime"]) == (("3.12",), ("2.8.0",), ("12.8.90",))
        assert (state["cudnn"], state["built_cudnn"]) == (("9.1.0.70",), ("9.10.2.21",))
        assert state["built_nccl"] == ("2.27.3",)


def test_a_floor_in_an_extra_is_what_a_framework_was_built_with(tmp_path: Path) -> None:
    site = venv(tmp_path / "env")
    install(site, "tensorflow", "2.20.0", extras=("and-cuda",),
            requires=('nvidia-cudnn-cu12<10.0,>=9.3.0.75; extra == "and-cuda"',))
    state = environment_view(load_environment(tmp_path / "env", None).environment, MATRICES)
    assert state["built_cudnn"] == ("9.3.0.75",)


def test_system_packages_count_where_the_environment_sees_them(tmp_path: Path) -> None:
    base = tmp_path / "usr"
    install(base / "lib" / "python3.12" / "site-packages", "torch", "2.8.0")
    install(base / "lib" / "python3.12" / "site-packages", "vllm", "0.10.2")
    for seen in ("true", "false"):
        site = venv(tmp_path / seen, config=f"home = {base / 'bin'}\ninclude-system-site-packages = {seen}\n")
        install(site, "torch", "2.9.0")
        found = {d.name: d.version for d in load_environment(tmp_path / seen, None).environment.distributions}
        assert found == {"torch": "2.9.0", **({"vllm": "0.10.2"} if seen == "true" else {})}


def test_two_versions_and_shared_libraries(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    site = venv(tmp_path / "env")
    library = "onnxruntime/capi/onnxruntime_pybind11_state.so"
    install(site, "torch", "2.6.0")
    install(site, "torch", "2.8.0")
    install(site, "onnxruntime", "1.20.0", record=(library, "onnxruntime/__init__.py"))
    install(site, "onnxruntime_gpu", "1.20.0", record=(library, "onnxruntime/__init__.py"))
    install(site, "nvidia_nccl_cu12", "2.27.3", record=("nvidia/nccl/lib/libnccl.so.2",))
    install(site, "nvidia_nccl_cu13", "2.28.9", record=("nvidia/nccl/lib/libnccl.so.2",))
    install(site, "opencv_python", "4.10", record=("cv2/cv2.abi3.so",))
    install(site, "opencv_python_headless", "4.10", record=("cv2/cv2.abi3.so",))
    code, document = check(capsys, "--python", str(tmp_path / "env"))
    assert code == 0                                # warnings
    assert {"package-installed-twice", "packages-share-libraries", "nccl-cu12-and-cu13"} <= codes(document)
    shared = [f for f in document["findings"] if f["code"] == "packages-share-libraries"]
    assert len(shared) == 1                         # NCCL's pair has its own claim, OpenCV is none of the set
    assert f"onnxruntime and onnxruntime-gpu: {library}" in shared[0]["why"][0]


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_no_environment(capsys: pytest.CaptureFixture[str], tmp_path: Path, what: str) -> None:
    (tmp_path / "empty").mkdir()
    assert invoke(["check", "--python", str(tmp_path / what)]) == 1
    assert ("no-environment" if what == "empty" else "file-missing") in capsys.readouterr().err


def test_files_of_a_distribution_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    site = venv(tmp_path / "env")
    (site / "torch-2.8.0.dist-info").mkdir()
    (site / "vllm-0.10.2.dist-info").mkdir()
    (site / "vllm-0.10.2.dist-info" / "METADATA").write_bytes(b"Requires-Dist: \xff\xfe==1\nRequires-Dist: ;;;\n")
    found = environment_view(load_environment(tmp_path / "env", None).environment, MATRICES)
    assert (found["pytorch"], found["vllm"]) == (("2.8.0",), ("0.10.2",))


# --- on machines

def test_alone_against_a_described_machine_and_on_nodes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    requirements, stack = tmp_path / "requirements.txt", tmp_path / "stack.yml"
    requirements.write_text("torch==2.8.0+cu128\nvllm==0.11.2\n")
    stack.write_text("driver: 470.256.02\ngpus: [V100]\n")
    code, document = check(capsys, "-r", str(requirements))
    assert code == 3
    assert "vllm-0.13.0-pytorch" in codes(document)      # 0.11.2 is compiled for PyTorch 2.9
    code, document = check(capsys, "-r", str(requirements), "--stack", str(stack))
    assert code == 3
    assert "pytorch-cu12-driver" in codes(document)
    assert any(f["subject"] == "this machine: requirements.txt" for f in document["findings"])
    requirements.write_text("torch==2.8.0+cpu\n")
    code, document = check(capsys, "-r", str(requirements), "--facts", str(FACTS))
    assert code == 3
    assert "pytorch-cpu-build-on-gpus" in codes(document)
    code, document = check(capsys, "--facts", str(FACTS))
    assert "pytorch-cpu-build-on-gpus" not in codes(document)


def test_a_fitting_environment_is_silent(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("torch==2.8.0+cu128\nnumpy==2.1.0\n")
    (tmp_path / "stack.yml").write_text("driver: 580.159.04\ngpus: [{name: 'H100 80GB HBM3'}]\nos: Ubuntu 22.04\n")
    code, document = check(capsys, "-r", str(tmp_path / "requirements.txt"), "--stack", str(tmp_path / "stack.yml"))
    assert (code, [f for f in document["findings"] if f["subject"] == "this machine: requirements.txt"]) == (0, [])


@pytest.mark.parametrize("argv", [
    ("--python", ".", "-r", "x"), ("--python", ".", "--image", "x"), ("-r", "x", "--facts", "f", "--stack", "s"), ()])
def test_what_does_not_go_together(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    assert invoke(["check", *argv]) == 2
    assert "give one of" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["unpinned-package", "package-installed-twice", "packages-share-libraries"])
def test_codes_are_explained(capsys: pytest.CaptureFixture[str], code: str) -> None:
    assert invoke(["explain", code]) == 0
    assert "environments" in capsys.readouterr().out
