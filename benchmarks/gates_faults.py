"""Faults that are made for real on the machine at hand, and what the gates say of each. Part of ``gates.py``.

Nothing stays: compiled files lie in a temporary folder, processes end, the driver's settings are not touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from planner.gates.failures import code_of

OTHER_ARCHITECTURE = r"""
#include <cstdio>
__global__ void seven(int *out) { *out = 7; }
int main() {
    int *device, host = 5;
    cudaMalloc(&device, 4);
    cudaMemcpy(device, &host, 4, cudaMemcpyHostToDevice);
    seven<<<1, 1>>>(device);
    int launch = cudaGetLastError(), synchronize = cudaDeviceSynchronize();
    cudaMemcpy(&host, device, 4, cudaMemcpyDeviceToHost);
    printf("launch %d synchronize %d result %d\n", launch, synchronize, host);
}
"""
HOLDER = "import sys, time, torch; x = torch.ones(1 << 28, device='cuda'); print('held', flush=True); time.sleep(120)"
WRONG_RUNTIME = ("int cudaRuntimeGetVersion(int *v) { *v = 10020; return 0; }\n"
                 "int cudaDriverGetVersion(int *v) { *v = 10020; return 0; }\n")
Judged = Callable[..., dict[str, Any]]


class Faults:
    """Makes faults and asks the gates."""

    def __init__(self, probe: Any, folder: Path, judged: Judged, standard: dict[str, Any],
                 before: dict[str, Any]) -> None:
        self.probe, self.folder, self.judged, self.standard, self.before = probe, folder, judged, standard, before

    def all(self) -> list[dict[str, Any]]:
        """Return, for each fault, whether it was caught and how."""
        found = []
        for act in (self.other_architecture, self.ptx_too_new, self.wrong_runtime, self.wrong_driver_library,
                    self.no_driver_library, self.foreign_process, self.framework_on_cpu, self.slower_by_15,
                    self.slower_by_1):
            try:
                fault, caught, seen = act()
            except Exception as exc:
                fault, caught, seen = act.__name__, False, f"{type(exc).__name__}: {exc}"
            found.append({"fault": fault, "caught": caught, "seen": seen[:400]})
        return found

    def _codes(self, run: dict[str, Any], before: dict[str, Any] | None = None) -> tuple[dict[str, Any], str]:
        found = self.judged(run, before)
        codes = sorted({answer["code"] for answer in found["results"]
                        if answer["verdict"] not in ("pass", "skip", "warn")})
        return found, f"{found['verdict']}, exit code {found['exit_code']}, {', '.join(codes)}"

    def other_architecture(self) -> tuple[str, bool, str]:
        """Code for another architecture only: the launch fails, the next synchronize says success."""
        source, program = self.folder / "other.cu", self.folder / "other"
        source.write_text(OTHER_ARCHITECTURE, encoding="utf-8")
        subprocess.run(["nvcc", "-arch=sm_120", "-o", str(program), str(source)], check=True, capture_output=True)
        said = subprocess.run([str(program)], capture_output=True, text=True, check=False).stdout.strip()
        answers = [answer for answer in self.standard["report"]["software"] if answer["check"] in ("nvcc", "nvrtc")]
        told = [str(answer["evidence"].get("other")) for answer in answers]
        caught = "launch 209 synchronize 0 result 5" in said and code_of("cuda", 209) == "NO_KERNEL_IMAGE" \
            and any("209" in text for text in told)
        return "code for another architecture only", caught, f"{said}; the gate's own trap: {'; '.join(told)[:200]}"

    def ptx_too_new(self) -> tuple[str, bool, str]:
        """PTX of a version that the driver does not know."""
        path = self._changed("too-new.zip", "planner/probe/kernels/planner_mix.ptx", ".version 6.0", ".version 9.9")
        found, words = self._codes(self.probe.run("quick", path=path))
        return "PTX newer than the driver", "PTX_TOO_NEW" in words and found["outcome"] == "fail", words

    def wrong_runtime(self) -> tuple[str, bool, str]:
        """A runtime library of another version first on LD_LIBRARY_PATH."""
        library = self._compiled("libcudart.so.13", WRONG_RUNTIME)
        found, words = self._codes(self.probe.run("standard", env=self._before_all(library.parent)))
        caught = found["outcome"] == "fail" and "LIB_VERSION" in words
        return "a wrong libcudart first on LD_LIBRARY_PATH", caught, words

    def wrong_driver_library(self) -> tuple[str, bool, str]:
        """A libcuda that says success and does nothing, first on LD_LIBRARY_PATH."""
        library = self._compiled("libcuda.so.1", "int cuInit(unsigned f) { return 0; }\n")
        found, words = self._codes(self.probe.run("quick", env=self._before_all(library.parent)))
        return "a libcuda without work first on LD_LIBRARY_PATH", found["outcome"] == "fail", words

    def no_driver_library(self) -> tuple[str, bool, str]:
        """No libcuda at all: every copy is hidden in a mount namespace of its own."""
        versions = self.standard["report"]["versions"]
        loader = self.standard["report"]["host_state"]["loader"]["libcuda_file"]
        paths = sorted({os.path.realpath(each["path"] if isinstance(each, dict) else each) for each in loader})
        hide = " && ".join(f"mount --bind /dev/null {path}" for path in paths)
        found, words = self._codes(self.probe.run(
            "quick", prefix=("unshare", "-m", "sh", "-c", f'{hide} && exec "$@"', "sh")))
        told = "; ".join(found["reasons"])
        return (f"no libcuda ({len(paths)} hidden, driver {versions['loaded']})",
                found["outcome"] == "fail" and "libcuda" in told, f"{words}: {told}")

    def foreign_process(self) -> tuple[str, bool, str]:
        """Somebody else's process holds memory of the GPU."""
        with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as holder:
            try:
                assert holder.stdout is not None
                holder.stdout.readline()
                found, words = self._codes(self.probe.run("quick"))
            finally:
                holder.kill()
        time.sleep(2)
        ran = [gpu for gpu in found["results"] if gpu["gate"] == "vector"]
        return ("somebody else's process holds the GPU",
                found["outcome"] == "inconclusive" and "ENV_FOREIGN_PROCESS" in words and not ran, words)

    def framework_on_cpu(self) -> tuple[str, bool, str]:
        """An interpreter whose frameworks see no GPU."""
        wrapper = self.folder / "python-on-cpu"
        wrapper.write_text(f'#!/bin/sh\nCUDA_VISIBLE_DEVICES= JAX_PLATFORMS=cpu exec {sys.executable} "$@"\n',
                           encoding="utf-8")
        wrapper.chmod(0o755)
        found, words = self._codes(self.probe.run("standard", software={"pythons": [str(wrapper)]}))
        names = sorted(answer["gate"] for answer in found["results"] if answer["code"] == "FW_CPU_FALLBACK")
        return "frameworks forced to the CPU", {"torch", "jax"} <= set(names), f"{words}: {', '.join(names)}"

    def slower_by_15(self) -> tuple[str, bool, str]:
        """A Tensor Core kernel that really takes 15 % longer for the same work."""
        found, words = self._codes(self._slowed(0.15), self.before)
        return "a kernel slowed by 15 %", found["outcome"] == "fail" and "PERF_DROP" in words, words

    def slower_by_1(self) -> tuple[str, bool, str]:
        """The same by 1 %: no reason to stop."""
        found, words = self._codes(self._slowed(0.01), self.before)
        return "a kernel slowed by 1 % must not fail", found["outcome"] == "pass", words

    def _slowed(self, share: float) -> dict[str, Any]:
        """Run a probe that times a kernel with more rounds than it reports; what it proves is the untouched one."""
        more = 1 / (1 - share)
        path = self._changed(
            f"slow-{share}.zip", "planner/probe/measure.py",
            "session.timed_ms(run)) for _ in range(sizes[\"samples\"])]\n        session.set_words(out",
            "session.timed_ms(session.launcher(function, blocks, THREADS, left, right, out,\n"
            f"            _u32(int(rounds * {more}))))) for _ in range(sizes[\"samples\"])]\n"
            "        session.set_words(out")
        return self.probe.run("standard", path=path, without=["software", "collective", "pairs"])

    def _changed(self, name: str, member: str, old: str, new: str) -> Path:
        """Return a copy of the probe with one text replaced in one of its files."""
        path = self.folder / name
        with zipfile.ZipFile(self.probe.path) as source, zipfile.ZipFile(path, "w") as target:
            for info in source.infolist():
                data = source.read(info.filename)
                if info.filename == member:
                    text = data.decode("utf-8")
                    if old not in text:
                        raise ValueError(f"{member} has changed: {old[:60]!r} is not in it")
                    data = text.replace(old, new).encode("utf-8")
                target.writestr(info.filename, data)
        return path

    def _compiled(self, name: str, source: str) -> Path:
        place = self.folder / name.replace(".", "-")
        place.mkdir(exist_ok=True)
        (place / "wrong.c").write_text(source, encoding="utf-8")
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(place / name),
                        str(place / "wrong.c")], check=True, capture_output=True)
        return place / name

    @staticmethod
    def _before_all(folder: Path) -> dict[str, str]:
        return {**os.environ, "LD_LIBRARY_PATH": f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
