"""Container images: references, inspections, environment; and what comes of running them on a machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.check.stack import check_stack
from planner.cli.inputs import load_rules
from planner.cli.main import invoke
from planner.errors import InputError
from planner.matrix.schema import State
from planner.stack.image import cuda_level, image_of, image_values, read_image
from planner.stack.read import read_stack

MATRICES = load_rules(())
REQUIRE = ("cuda>=13.0 brand=unknown,driver>=535,driver<536 brand=tesla,driver>=535,driver<536 "
           "brand=nvidia,driver>=535,driver<536 brand=nvidia,driver>=570,driver<571")
H100_535: State = {"driver": ("535.274.02",), "gpu_class": ("data-center",), "compute_capability": ("9.0",)}
RTX4090_535: State = {"driver": ("535.183.01",), "gpu_class": ("geforce",), "compute_capability": ("8.9",)}


def values(entry: object, state: State | None = None) -> dict[str, tuple[str, ...]]:
    return image_values(image_of(entry), state or {}, MATRICES)[0]


@pytest.mark.parametrize(("reference", "expected"), [
    ("nvidia/cuda:12.4.1-devel-ubuntu22.04",
     {"container_image": "nvidia/cuda", "container_tag": "12.4.1-devel-ubuntu22.04", "container_cuda": "12.4.1",
      "container_compat": "12.4"}),
    ("docker.io/nvidia/cuda:13.0.2-base-ubuntu24.04", {"container_image": "nvidia/cuda", "container_cuda": "13.0.2"}),
    ("nvcr.io/nvidia/pytorch:24.03-py3",
     {"container_image": "nvcr.io/nvidia/pytorch", "ngc_release": "24.03", "container_cuda": "12.4.0.041",
      "container_compat": "12.4"}),
    ("nvcr.io/nvidia/tritonserver:25.08-vllm-python-py3", {"ngc_release": "25.08", "container_cuda": "13.0.1.012"}),
    ("nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3", {"container_image": "nvcr.io/nvidia/tritonserver"}),
    ("pytorch/pytorch:2.3.0-cuda12.1-cudnn8-runtime",
     {"container_cuda": "12.1", "pytorch": "2.3.0", "pytorch_build": "cu121"}),
    ("tensorflow/tensorflow:2.15.0-gpu", {"tensorflow": "2.15.0", "container_tag": "2.15.0-gpu"}),
    ("vllm/vllm-openai:v0.11.0", {"container_image": "vllm/vllm-openai", "vllm": "0.11.0"}),
    ("vllm/vllm-openai:v0.28.0-cu129", {"container_cuda": "12.9"}),
    ("lmsysorg/sglang:v0.5.3-cu129-amd64", {"container_cuda": "12.9"}),
    ("vllm/vllm-openai", {"container_image": "vllm/vllm-openai", "container_tag": "none"}),
    ("registry.local:5000/team/app", {"container_image": "registry.local:5000/team/app", "container_tag": "none"}),
    ("registry.local:5000/team/app:1.2", {"container_image": "registry.local:5000/team/app", "container_tag": "1.2"}),
    ("team/app:1.2@sha256:0123456789abcdef", {"container_image": "team/app", "container_tag": "sha256"}),
    ("ubuntu:22.04", {"container_image": "ubuntu", "container_tag": "22.04"}),
])
def test_references(reference: str, expected: dict[str, str]) -> None:
    found = values(reference)
    assert {name: found.get(name) for name in expected} == {name: (value,) for name, value in expected.items()}


@pytest.mark.parametrize("reference", [
    "ubuntu:22.04", "python:3.11-slim", "nvcr.io/nvidia/tritonserver:26.07-trtllm-python-py3", "team/cuda12-app:1.0",
    "ollama/ollama:0.33.2"])
def test_no_cuda_is_invented(reference: str) -> None:
    assert "container_cuda" not in values(reference)


DOCKER = [{"RepoTags": ["team/train:7"], "Config": {
    "Env": ["PATH=/usr/bin", "CUDA_VERSION=13.0.2", f"NVIDIA_REQUIRE_CUDA={REQUIRE}",
            "NV_LIBNCCL_PACKAGE_VERSION=2.28.3-1", "NV_CUDNN_VERSION=9.14.0.64-1", "NVIDIA_VISIBLE_DEVICES=all",
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility"],
    "Labels": {"maintainer": "someone"}}}]
SKOPEO_CONFIG = {"architecture": "amd64", "config": {
    "Env": ["CUDA_VERSION=12.4.1", "NV_CUDA_COMPAT_PACKAGE=cuda-compat-12-4"],
    "Labels": {"com.nvidia.cudnn.version": "9.1.0.70"}}}
SKOPEO = {"Name": "docker.io/nvidia/cuda", "RepoTags": ["12.4.1-base", "12.8.0-base"], "Layers": ["sha256:aa"],
          "Env": ["CUDA_VERSION=12.4.1"], "Labels": None}


def test_an_inspection_of_docker() -> None:
    found, notes = image_values(read_image(json.dumps(DOCKER), "x"), H100_535, MATRICES)
    assert notes == ()
    assert found == {
        "container_image": ("team/train",), "container_tag": ("7",), "container_cuda": ("13.0.2",),
        "cudnn": ("9.14.0.64",), "nccl": ("2.28.3",), "container_devices": ("all",),
        "container_capabilities": ("compute,utility",),
        "container_compat": ("13.0",), "cuda_compat": ("13.0",), "require_cuda_met": ("yes",)}


def test_inspections_of_skopeo() -> None:
    found = image_values(read_image(json.dumps(SKOPEO_CONFIG), "x"), {}, MATRICES)[0]
    assert (found["container_cuda"], found["container_compat"]) == (("12.4.1",), ("12.4",))
    assert found["cudnn"] == ("9.1.0.70",)
    assert values(SKOPEO)["container_image"] == ("nvidia/cuda",)
    assert values(SKOPEO)["container_cuda"] == ("12.4.1",)


def test_yaml_by_hand() -> None:
    image = read_image("image: team/app:3\nenv:\n  CUDA_VERSION: 12.10\n  NVIDIA_DISABLE_REQUIRE: '1'\n"
                       "packages: [libnvidia-compute-550=550.54, curl=8]\nsize: 3\n", "x")
    found, notes = image_values(image, {}, MATRICES)
    assert found["container_cuda"] == ("12.10",)          # a number in YAML keeps its zero
    assert found["container_driver"] == ("yes",)
    assert found["container_require_disabled"] == ("yes",)
    assert notes == ("container.size: not judged",)


@pytest.mark.parametrize("text", ["", "[]", "just words", "3", "[1, 2"])
def test_what_is_no_image(text: str) -> None:
    with pytest.raises(InputError):
        read_image(text, "x")


def test_compatibility_libraries_count_as_in_use_where_they_can_work() -> None:
    assert values("nvidia/cuda:13.0.2-base-ubuntu24.04", H100_535)["cuda_compat"] == ("13.0",)
    assert "cuda_compat" not in values("nvidia/cuda:13.0.2-base-ubuntu24.04", RTX4090_535)
    assert "cuda_compat" not in values("nvidia/cuda:12.2.2-base-ubuntu22.04", H100_535)
    assert "cuda_compat" not in values("pytorch/pytorch:2.9.0-cuda13.0-cudnn9-runtime", H100_535)
    path = {"cuda": "12.4", "env": {"LD_LIBRARY_PATH": "/opt/lib:/usr/local/cuda/compat"}}
    assert values(path)["cuda_compat"] == ("12.4",)
    # images of a monthly stack name a link there that their entry point makes only when it is needed
    assert "cuda_compat" not in values({"cuda": "12.4", "env": {"LD_LIBRARY_PATH": "/usr/local/cuda/compat/lib"}})


def test_the_level_of_a_driver() -> None:
    assert cuda_level(("535.274.02",), MATRICES) == "12.2"
    assert cuda_level(("550",), MATRICES) == "12.4"
    assert cuda_level((), MATRICES) is None
    assert cuda_level(("1.2.3",), MATRICES) is None


def errors_and_warnings(text: str) -> set[tuple[str, str]]:
    report = check_stack(read_stack(text, "x", MATRICES), MATRICES)
    return {(f.severity.value, f.root_cause) for f in report.findings
            if f.root_cause in ("container_newer_than_driver", "container_toolkit_problem", "forward_compat_misuse",
                                "wrong_library_loaded", "arch_dropped_by_toolkit", "driver_too_old_for_runtime")
            and f.severity.value != "info"}


NEWER = "container_newer_than_driver"


@pytest.mark.parametrize(("gpu", "driver", "container", "expected"), [
    ("RTX 3090", "535.183.01", "{image: 'nvidia/cuda:13.0.2-base-ubuntu24.04'}", {("error", NEWER)}),
    ("RTX 3090", "550.163.01", "{image: 'nvidia/cuda:12.8.1-base-ubuntu24.04'}", {("warning", NEWER)}),
    ("RTX 3090", "550.163.01", "{cuda: '12.8'}", {("warning", NEWER)}),  # built upon nvidia/cuda, as most are: refused
    ("RTX 3090", "535.183.01", "{image: 'nvidia/cuda:12.4.1-base-ubuntu22.04'}", set()),
    ("RTX 3090", "580.95.05", "{image: 'nvidia/cuda:13.0.2-base-ubuntu24.04'}", set()),
    ("H100", "535.274.02", "{image: 'nvidia/cuda:13.0.2-base-ubuntu24.04'}", set()),
    ("H100", "550.163.01", "{image: 'nvidia/cuda:13.0.2-base-ubuntu24.04'}", set()),
    ("H100", "550.163.01", "{image: 'nvidia/cuda:13.2.0-base-ubuntu24.04'}", {("warning", NEWER)}),
    ("H100", "535.274.02", "{image: 'nvcr.io/nvidia/pytorch:25.09-py3'}", set()),
    ("H100", "535.274.02", "{cuda: '13.0'}", {("warning", NEWER)}),       # no compatibility libraries known
    ("H100", "525.147.05", "{image: 'nvidia/cuda:13.0.2-base-ubuntu24.04'}", {("error", NEWER), ("warning", NEWER)}),
    ("V100", "535.274.02", "{image: 'nvcr.io/nvidia/pytorch:25.09-py3'}", {("error", "arch_dropped_by_toolkit")}),
])
def test_images_on_machines(gpu: str, driver: str, container: str, expected: set[tuple[str, str]]) -> None:
    found = errors_and_warnings(f"gpus: [{{name: {gpu}}}]\ndriver: {driver}\ncontainer: {container}\n")
    assert found == expected


def test_the_requirement_of_the_image_at_hand_wins_over_the_list_of_its_name() -> None:
    described = """
gpus: [{name: RTX 4090}]
driver: 550.163.01
container: {image: 'nvidia/cuda:12.8.1-base-ubuntu24.04', env: {NVIDIA_REQUIRE_CUDA: 'cuda>=12.%s'}}
"""
    assert errors_and_warnings(described % 8) == {("error", NEWER)}
    assert errors_and_warnings(described % 4) == set()
    newer_toolkit = "libraries: {nvidia-container-toolkit: 1.20.0}\n"
    assert errors_and_warnings(described % 8 + newer_toolkit) == {("warning", NEWER)}


def test_check_of_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check", "--image", "vllm/vllm-openai:latest"]) == 0
    assert "container-floating-tag" in capsys.readouterr().out
    (tmp_path / "inspect.json").write_text(json.dumps(DOCKER))
    (tmp_path / "stack.yml").write_text("gpus: [{name: RTX 4090}]\ndriver: 550.163.01\n")
    command = ["check", "--stack", str(tmp_path / "stack.yml"), "--image", str(tmp_path / "inspect.json"), "-o", "json"]
    assert invoke(command) == 3
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert {f["code"] for f in findings if f["severity"] == "error"} == {
        "container-cuda-13-geforce", "container-requirement-unmet"}
    assert all("image team/train:7" in f["subject"] for f in findings if f["severity"] == "error")


def test_check_needs_something_to_judge(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["check"]) == 2
    assert invoke(["check", "--image", "x", "--node", "a"]) == 2
    assert "--node, --target and --since-rollout go with --facts" in capsys.readouterr().err


json_values = st.recursive(st.none() | st.booleans() | st.text(max_size=8) | st.integers(), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(
        ["Config", "config", "Env", "Labels", "RepoTags", "Name", "image", "env", "labels", "cuda", "packages"]), inner,
        max_size=4)), max_leaves=12)


@given(json_values)
def test_any_shape_is_read_without_failing(entry: object) -> None:
    image_values(image_of(entry), H100_535, MATRICES)


@given(st.text(max_size=60))
def test_any_reference_is_read_without_failing(reference: str) -> None:
    values(reference)


def test_an_image_on_every_node_of_a_fleet(capsys: pytest.CaptureFixture[str]) -> None:
    facts = Path(__file__).parents[2] / "examples" / "01-two-generations" / "facts.json"
    assert invoke(["check", "--facts", str(facts), "--image", "nvidia/cuda:13.2.0-base-ubuntu24.04", "-o", "json"]) == 3
    told = json.loads(capsys.readouterr().out)["findings"]
    old = next(f for f in told if f["code"] == "container-cuda-13-old-gpu")
    assert "image nvidia/cuda:13.2.0-base-ubuntu24.04" in old["subject"]
