"""Stack descriptions as people write them: every key, several spellings, several machines, mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.cli.inputs import load_rules
from planner.errors import InputError
from planner.matrix.schema import State
from planner.stack.read import read_stack
from planner.stack.values import versions

MATRICES = load_rules(())


def base(text: str) -> State:
    return read_stack(text, "stack.yml", MATRICES).machines[0].views[0].state


def test_the_example_of_the_format() -> None:
    state = base("""
gpus: [{name: 'H100 80GB HBM3 x8 (SXM)', compute_capability: '9.0'}]
driver: 550.107.02
fabric_manager: 550.90.07
cuda_toolkit: '12.4'
cuda_runtime: '12.8'
libraries: {cudnn: 9.1.0, nccl: 2.21.5, tensorrt: 10.3.0, gcc: '13', glibc: '2.31', kernel_module: 550.90.07,
            kernel_module_flavour: open, secure_boot: true, nvidia-container-toolkit: 1.16.1}
os: Ubuntu 22.04.5
kernel: 6.8.0-64-generic
""")
    expected = {
        "gpu_model": ("h100-sxm",), "compute_capability": ("9.0",), "nvswitch": ("yes",), "driver": ("550.107.02",),
        "fabric_manager": ("550.90.07",), "cuda_toolkits": ("12.4",), "cuda_runtime": ("12.8",), "cudnn": ("9.1.0",),
        "nccl": ("2.21.5",), "tensorrt": ("10.3.0",), "gcc": ("13",), "glibc": ("2.31",),
        "loaded_driver": ("550.90.07",), "driver_flavour": ("open",), "secure_boot": ("yes",),
        "container_toolkit": ("1.16.1",), "os": ("ubuntu-22.04",), "kernel": ("6.8.0-64-generic",)}
    assert {name: state.get(name) for name in expected} == expected


def test_absent_is_unknown_and_null_is_absent() -> None:
    assert "fabric_manager" not in base("driver: 580.95.05")
    assert base("fabric_manager: null")["fabric_manager"] == ()
    assert base("libraries: {nccl: null}")["nccl"] == ()


def test_numbers_keep_their_zeros() -> None:
    assert base("cuda_toolkit: 12.10")["cuda_toolkits"] == ("12.10",)
    assert base("driver: 580")["driver"] == ("580",)
    assert base("cuda_toolkit: [11.8, 12.4]")["cuda_toolkits"] == ("11.8", "12.4")


def test_a_framework_is_a_view_of_its_own() -> None:
    stack = read_stack("""
driver: 550.54.15
frameworks: [{name: PyTorch, version: 2.7.0+cu126, cuda: '12.6', cudnn: 9.5.1, nccl: 2.26.2},
             {name: jax, version: 0.5.0}]
""", "stack.yml", MATRICES)
    (machine,) = stack.machines
    assert [view.subject for view in machine.views] == ["this machine", "PyTorch 2.7.0+cu126", "jax 0.5.0"]
    torch = machine.views[1].state
    expected = {"pytorch": ("2.7.0",), "pytorch_build": ("cu126",), "built_cuda": ("12.6",), "cuda_runtime": ("12.6",),
                "built_cudnn": ("9.5.1",)}
    assert {name: torch[name] for name in expected} == expected
    jax = machine.views[2].state
    assert (jax["framework"], jax["pytorch"]) == (("jax",), ("2.7.0",))       # one environment
    assert "built_cudnn" not in jax


def test_the_name_of_a_framework_can_mean_its_build() -> None:
    views = read_stack("frameworks: [{name: tensorflow-cpu, version: 2.10.0}, {name: tensorflow-gpu, version: 2.10.0}]",
                       "stack.yml", MATRICES).machines[0].views
    assert [view.state["tensorflow"] for view in views[1:]] == [("2.10.0",), ("2.10.0",)]
    assert views[1].state["tensorflow_build"] == ("cpu",)


def test_nodes_override_what_all_have() -> None:
    stack = read_stack("""
driver: 535.161.08
libraries: {nccl: 2.19.3, cudnn: 9.1.0}
nodes: [{name: a, result: works}, {name: b, driver: 550.90.07, libraries: {nccl: 2.23.4}, result: fails}]
""", "stack.yml", MATRICES)
    a, b = (machine.views[0].state for machine in stack.machines)
    assert (a["driver"], a["nccl"]) == (("535.161.08",), ("2.19.3",))
    assert (b["driver"], b["nccl"], b["cudnn"]) == (("550.90.07",), ("2.23.4",), ("9.1.0",))
    assert [(m.name, m.result) for m in stack.machines] == [("a", "works"), ("b", "fails")]


def test_what_nothing_is_known_about_is_said() -> None:
    stack = read_stack("libraries: {frobnicator: '3'}\ngpus: [Voodoo 2]\nos: BeOS\n", "stack.yml", MATRICES)
    assert len(stack.not_judged) == 3
    assert any("frobnicator" in note for note in stack.not_judged)


@pytest.mark.parametrize(("text", "where"), [
    ("drivr: 580", "stack.yml:1"),
    ("driver: 580\nnodes: [{name: a, drivers: 1}]", "stack.yml:2"),
    ("- driver", "stack.yml"),
    ("driver: [", "stack.yml:2"),
])
def test_mistakes_are_named_with_their_line(text: str, where: str) -> None:
    with pytest.raises(InputError) as caught:
        read_stack(text, "stack.yml", MATRICES)
    assert caught.value.diagnostics[0].subject.startswith(where)


def test_a_bomb_is_refused() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 200)}]" for i in range(8))
    with pytest.raises(InputError):
        read_stack(bomb, "stack.yml", MATRICES)


@pytest.mark.property
@given(st.recursive(st.none() | st.booleans() | st.text(max_size=20) | st.integers(),
                    lambda inner: st.lists(inner, max_size=3)))
def test_any_value_gives_versions_or_nothing(value: object) -> None:
    for version in versions(value):
        assert version[0].isdigit()
