"""Which toolkit serves which TensorFlow: the table of tested builds, both ways, and what it must stay silent about."""

from __future__ import annotations

import pytest

from planner.check.fleet import Report
from planner.check.stack import check_stack
from planner.matrix.index import MatrixSet
from planner.stack.read import read_stack


def told(shipped: MatrixSet, text: str) -> set[tuple[str, str]]:
    report: Report = check_stack(read_stack(text, "stack.yml", shipped), shipped)
    return {(f.severity, f.root_cause) for f in report.findings if f.code.startswith(("tensorflow", "wsl"))}


@pytest.mark.parametrize(("tensorflow", "toolkits"), [
    ("1.12.0", ["9.0"]), ("1.13.1", ["10.0"]), ("1.15.0", ["10.0"]), ("2.0.0", ["10.0"]), ("2.1.0", ["10.1"]),
    ("2.3.1", ["10.1"]), ("2.4.1", ["11.0"]), ("2.5.0", ["11.2"]), ("2.10.1", ["11.8"]), ("2.13.0", ["11.8"]),
    ("2.14.0", ["11.8"]), ("2.15.0", ["12.2"]), ("2.20.0", ["12.5", "12.8"])])
@pytest.mark.parametrize("stated", [True, False])
def test_the_toolkit_of_the_table_serves_and_another_does_not(shipped: MatrixSet, tensorflow: str, toolkits: list[str],
                                                              stated: bool) -> None:
    # What a framework was built with is no library on the machine: saying it takes no warning away.
    cuda = f", cuda: '{toolkits[0]}'" if stated and tensorflow < "2.14" else ""
    stack = "cuda_toolkit: {}\nframeworks: [{{name: tensorflow, version: {}{}}}]"
    assert told(shipped, stack.format(toolkits, tensorflow, cuda)) == set()
    assert told(shipped, stack.format([*toolkits, "9.2"], tensorflow, cuda)) == set()       # several side by side
    assert ("warning", "framework_cuda_mismatch") in told(shipped, stack.format(["9.2"], tensorflow, cuda))


def test_builds_of_ones_own_and_of_others_are_left_alone(shipped: MatrixSet) -> None:
    own = "cuda_toolkit: '10.2'\nframeworks: [{name: tensorflow, version: 2.1.0, cuda: '10.2'}]"
    assert told(shipped, own) == set()
    assert told(shipped, "cuda_toolkit: '12.8'\nframeworks: [{name: tensorflow-cpu, version: 2.10.0}]") == set()


@pytest.mark.parametrize(("version", "os", "expected"), [
    ("2.10.1", "Windows 11", set()), ("2.11.0", "Windows 11", {("error", "framework_cpu_only_build")}),
    ("2.11.0", "Windows 11, WSL 2", set()), ("2.11.0", "Ubuntu 22.04 on WSL 2 (Windows 11)", set())])
@pytest.mark.parametrize("expects_a_gpu", ["gpus: [RTX 3090]", "cuda_toolkit: '11.8'"])
def test_native_windows(shipped: MatrixSet, version: str, os: str, expected: set[tuple[str, str]],
                        expects_a_gpu: str) -> None:
    assert told(shipped, f"os: {os}\n{expects_a_gpu}\nframeworks: [{{name: tensorflow, version: {version}}}]"
                ) == expected


@pytest.mark.parametrize(("cudnn", "warned"), [("8", False), ("8.9.7", False), ("8.5.0", True), ("9.1.0", True)])
def test_cudnn_older_than_compiled_with(shipped: MatrixSet, cudnn: str, warned: bool) -> None:
    found = told(shipped, f"libraries: {{cudnn: '{cudnn}'}}\nframeworks: [{{name: tensorflow, version: 2.13.0}}]")
    assert (("warning", "cudnn_mismatch") in found) is warned


def test_linux_driver_packages_count_inside_wsl_only(shipped: MatrixSet) -> None:
    libraries = "libraries: {libnvidia-compute-535: installed}"
    assert told(shipped, f"os: Ubuntu 22.04 on WSL 2\n{libraries}") == {("warning", "wrong_library_loaded")}
    assert told(shipped, f"os: Ubuntu 22.04\n{libraries}") == set()
    assert told(shipped, "os: Ubuntu 22.04 on WSL 2\nlibraries: {libnvidia-compute-535: false}") == set()
