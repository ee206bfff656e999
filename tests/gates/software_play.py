"""Helpers of the tests that run the probe's software checks in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from planner.gates.software import judge_software
from planner.gates.verdicts import GateResult

UUID = "GPU-07070707-0707-0707-0707-070707070707"
PLAY = ("import json, sys; from planner.probe.software import check_software; r = json.loads(sys.argv[1]);"
        "print(json.dumps(check_software(r, r.pop('gpus'))))")


def of(answers: list[dict[str, Any]], check: str) -> dict[str, Any]:
    found = [answer for answer in answers if answer["check"] == check]
    assert len(found) == 1, found
    return found[0]


def judged(report: dict[str, Any], request: dict[str, Any], check: str) -> GateResult:
    found = [result for result in judge_software(report, request, None) if result.gate == check]
    assert len(found) == 1, found
    return found[0]


def program(path: Path, text: str, site: Path | None = None) -> Path:
    """Write a program that this interpreter runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return path


# A stand-in for a compiler: its machine code is what standin_software.c can read.
NVCC = """
import re, sys
if "--version" in sys.argv:
    print("a stand-in for nvcc\\nCuda compilation tools, release 13.0, V13.0.88")
else:
    text = open(sys.argv[-1]).read()
    a, b = re.search(r"i \\* (\\d+)u \\+ (\\d+)u", text).groups()
    c = re.search(r"x \\*= (\\d+)u", text).group(1)
    arch = next(w for w in sys.argv if w.startswith("-arch="))[6:].split("_")
    out = sys.argv[sys.argv.index("-o") + 1]
    open(out, "w").write(f"image {arch[1]} ptx {int(arch[0] == 'compute')}: {a} {b} {c}")
"""

# A stand-in for a framework, on the processor.
TORCH = """# a stand-in
import types
__version__ = "2.99.0+standin"
version = types.SimpleNamespace(cuda={built!r}, hip=None)
float32 = "f"
class Tensor:
    def __init__(self, rows, device): self.rows, self.device = rows, device
    def __matmul__(self, other):
        columns = list(zip(*other.rows))
        return Tensor([[{sum} for c in columns] for r in self.rows], {where})
    def cpu(self): return self
    def tolist(self): return self.rows
def tensor(rows, dtype, device): return Tensor(rows, device)
def device(name): return name
class zeros:
    def __init__(self, n): pass
    def cuda(self): raise RuntimeError("No CUDA GPUs are available (stand-in)")
class cuda:
    is_available = staticmethod(lambda: {count} > 0)
    device_count = staticmethod(lambda: {count})
    get_arch_list = staticmethod(lambda: ["sm_90"])
    synchronize = staticmethod(lambda d: None)
    get_device_name = staticmethod(lambda i: "GPU (stand-in)")
    get_device_capability = staticmethod(lambda i: (9, 0))
backends = types.SimpleNamespace(cudnn=types.SimpleNamespace(version=lambda: 91002))
{more}
"""
WORKING = {"built": "13.0", "sum": "float(sum(x * y for x, y in zip(r, c)))", "where": "self.device", "count": "1",
           "more": ""}


def torch(**changes: Any) -> str:
    """Return the text of a stand-in for the torch module, with some of ``WORKING`` changed."""
    return TORCH.format(**{**WORKING, **changes})
