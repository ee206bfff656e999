"""Every PTX text of the probe is taken by NVIDIA's assembler, for every architecture that three toolkits know.

The assemblers come from the wheels of the configured Python index, once, into ``.cache/ptxas`` (one program each).
Without an index the tests are skipped. No GPU is needed; that the code computes what it should, only a GPU shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

from planner.probe.kernels import MODULES, module_text

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "ptxas"
WHEELS = {      # toolkit -> package
    "11.8": "nvidia-cuda-nvcc-cu11==11.8.89", "12.9": "nvidia-cuda-nvcc-cu12==12.9.86",
    "13.x": "nvidia-cuda-nvcc>=13,<14",
}
DISASSEMBLER = "nvidia-cuda-nvdisasm>=13,<14"
DOWNLOAD_S = 300
# The oldest driver that is served reads PTX up to 7.0; scalar kernels stay older still.
NEWEST_PTX = {"core": (6, 5), "planner_mix": (6, 5), "tensor_f16": (7, 0), "tensor_s8": (7, 0)}


@cache
def tool(package: str, name: str, folder: str) -> Path | str:
    """Return the path of one program out of a wheel, kept for the next time, or why there is none."""
    kept = CACHE / folder / name
    if kept.is_file():
        return kept
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "the wheels are for Linux on x86_64"
    with tempfile.TemporaryDirectory() as download:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--retries",
                "0", "--dest", download, package]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False)
        except subprocess.TimeoutExpired:
            return f"no index answered within {DOWNLOAD_S} s"
        wheels = list(Path(download).glob("*.whl"))
        if done.returncode or not wheels:
            return f"{package} cannot be had: {(done.stderr.strip().splitlines() or ['no words'])[-1]}"
        with zipfile.ZipFile(wheels[0]) as archive:
            member = next(n for n in archive.namelist() if n.endswith(f"/bin/{name}"))
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f"{name}.{os.getpid()}")
            with archive.open(member) as source, part.open("wb") as target:
                shutil.copyfileobj(source, target)
    part.chmod(0o755)
    part.replace(kept)      # another process that does the same at the same time ends with the same file
    return kept


def ptxas(toolkit: str) -> Path:
    return needed(WHEELS[toolkit], "ptxas", toolkit)


def needed(package: str, name: str, folder: str) -> Path:
    found = tool(package, name, folder)
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def architectures(program: Path) -> tuple[int, ...]:
    """Return the numbers of all architectures that an assembler makes code for; variants with a letter left out."""
    words = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    section = words[words.index("--gpu-name"):]
    return tuple(sorted({int(number) for number in re.findall(r"'sm_(\d+)'", section)}))


def assemble(program: Path, text: bytes, architecture: int, folder: Path) -> subprocess.CompletedProcess[str]:
    source = folder / "kernel.ptx"
    source.write_bytes(text)
    return subprocess.run([program, "-v", f"--gpu-name=sm_{architecture}", source, "-o", folder / "kernel.cubin"],
                          capture_output=True, text=True, timeout=120, check=False)


def oldest(name: str) -> int:
    major, minor = MODULES[name][0] if name in MODULES else (5, 0)
    return 10 * major + minor


@pytest.mark.parametrize("name", [*sorted(MODULES), "planner_mix"])
@pytest.mark.parametrize("toolkit", sorted(WHEELS))
def test_every_text_assembles_for_every_architecture(toolkit: str, name: str, tmp_path: Path) -> None:
    program = ptxas(toolkit)
    wanted = [number for number in architectures(program) if number >= oldest(name)]
    assert len(wanted) >= 5, "the assembler's list of architectures was not understood"
    refused = {}
    for number in wanted:
        done = assemble(program, module_text(name), number, tmp_path)
        spilled = re.findall(r"([1-9]\d*) bytes spill stores", done.stderr)
        if done.returncode or spilled:
            refused[f"sm_{number}"] = done.stderr.strip()[:500] or f"spills {spilled}"
    assert refused == {}


@pytest.mark.parametrize("toolkit", sorted(WHEELS))
def test_a_tensor_text_is_refused_below_its_target(toolkit: str, tmp_path: Path) -> None:
    program = ptxas(toolkit)
    below = [number for number in architectures(program) if number < 70]
    if not below:
        pytest.skip("this assembler knows no architecture without Tensor Cores")
    assert assemble(program, module_text("tensor_f16"), below[-1], tmp_path).returncode != 0


@pytest.mark.parametrize(("name", "instruction"), [("core", None), ("tensor_f16", "HMMA"), ("tensor_s8", "IMMA")])
def test_compiled_code_uses_the_units_that_it_is_to_measure(name: str, instruction: str | None, tmp_path: Path) -> None:
    """Products run on Tensor Cores, and no multiply-add has an operand that all threads share: a compiler that chose
    otherwise would measure something else, and could look like another speed of the GPU."""
    program, disassembler = ptxas("13.x"), needed(DISASSEMBLER, "nvdisasm", "13.x")
    wrong = {}
    for number in {number // 10: number for number in architectures(program)}.values():     # the newest of each major
        assert assemble(program, module_text(name), number, tmp_path).returncode == 0
        code = disassembled(disassembler, tmp_path)
        fused = re.findall(r"\bFFMA2? .*", code)
        if (instruction and f"{instruction}." not in code) or (name != "tensor_s8" and len(fused) < 16):
            wrong[number] = "other instructions"
        elif shared := [words for words in fused if re.search(r"\bUR\d|c\[", words)]:
            wrong[number] = shared[0]
    assert wrong == {}


def disassembled(program: Path, folder: Path) -> str:
    return subprocess.run([program, "-c", folder / "kernel.cubin"], capture_output=True, text=True, timeout=120,
                          check=True).stdout


@pytest.mark.parametrize("name", sorted(NEWEST_PTX))
def test_texts_are_old_enough_for_old_drivers(name: str) -> None:
    text = module_text(name).decode("ascii")
    version, target = re.findall(r"^\.version (\d+)\.(\d+)$", text, re.MULTILINE), re.findall(r"^\.target (\w+)$", text,
                                                                                             re.MULTILINE)
    assert [tuple(map(int, v)) <= NEWEST_PTX[name] for v in version] == [True]
    assert target == [f"sm_{oldest(name)}"]     # no suffix: nothing that belongs to one architecture alone


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_table_names_the_kernels_that_are_there(name: str) -> None:
    found = re.findall(r"^\.visible \.entry (\w+)", module_text(name).decode("ascii"), re.MULTILINE)
    assert tuple(found) == MODULES[name][1]
