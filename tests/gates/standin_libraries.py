"""A node of stand-in GPUs in a directory: the lab's C stand-ins compiled for tests, able to play every failure.

The libraries name themselves stand-ins in every device's name. Nothing of this is part of the wheel.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from planner.lab.build import fill_slot

ROOT = Path(__file__).resolve().parents[2]
SOURCE, PLAYS = ROOT / "planner" / "lab" / "standin", Path(__file__).with_name("standin")
SOFTWARE, NCCL = (Path(__file__).with_name(f"standin_{name}.c") for name in ("software", "nccl"))
FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-fvisibility=hidden", "-shared", "-DPLANNER_PLAYS")
DRIVER, CUDA = "580.95.05", "13.0"


def compile_libraries(folder: Path) -> Path:
    """Compile both libraries into a folder, versions not yet filled in, and ``stuck``. Needs gcc."""
    for name in ("cuda", "nvml"):
        subprocess.run(["gcc", *FLAGS, f"-I{PLAYS}", "-o", folder / f"{name}.so", *sorted(SOURCE.glob(f"{name}*.c"))],
                       check=True)
    subprocess.run(["gcc", "-O1", "-Wall", "-o", folder / "stuck", PLAYS / "stuck.c"], check=True)
    return folder


class Software:
    """Stand-ins for CUDA libraries, each compiled once. Call it to put one where a test wants it."""

    def __init__(self, store: Path) -> None:
        self.store = store

    def __call__(self, target: Path, library: str, version: int = 13000, fault: str = "") -> Path:
        """Put a library of ``standin_software.c`` at a path, with the version it tells and its fault. Needs cc.

        ``nccl`` is standin_nccl.c, whose faults are asked for in the environment.
        """
        made = self.store / f"{library}-{version}-{fault}.so"
        if not made.exists():
            source = NCCL if library == "nccl" else SOFTWARE
            flags = [f"-DLIB_{library}", f"-DVERSION={version}", *([f"-DFAULT_{fault}"] if fault else [])]
            subprocess.run(["cc", "-shared", "-fPIC", "-w", "-O1", *flags, source, "-o", made], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made, target)
        return target


class StandInNode:
    """One node below a directory.

    Args:
        compiled: Folder of ``compile_libraries``.
        root: Directory for the node's files; the libraries lie in ``lib`` below it.
        gpus: How many GPUs it has.
        loaded: Version of the driver that runs; None is none.
        driver: Version of the libraries.
        plays: Lines of ``plays`` (tests/gates/standin/plays.h).
        faults: The lab's faults: file name -> line.
        config: The lab's configuration: file name -> line, on top of the usual.
    """

    def __init__(self, compiled: Path, root: Path, gpus: int = 2, loaded: str | None = DRIVER, driver: str = DRIVER,
                 plays: Iterable[str] = (), faults: Mapping[str, str] | None = None,
                 config: Mapping[str, str] | None = None) -> None:
        self.root, self.lib = root, root / "lib"
        usual = {"gpus": str(gpus), "gpu-name": "NVIDIA H200", "compute-capability": "9.0", "memory-mib": "256"}
        for name, line in {**usual, **(config or {})}.items():
            self.write(f"etc/planner-lab/{name}", line)
        self.write("etc/machine-id", "5" * 32)
        for name, line in (faults or {}).items():
            self.write(f"etc/planner-lab/fault/{name}", line)
        self.write("run/planner-lab/mod/.keep", "")
        if loaded:
            self.write("run/planner-lab/mod/nvidia", loaded)
        self.play(*plays)
        self.lib.mkdir(parents=True, exist_ok=True)
        for stem, name in (("cuda", "libcuda"), ("nvml", "libnvidia-ml")):
            image = fill_slot((compiled / f"{stem}.so").read_bytes(), "version", driver)
            (self.lib / f"{name}.so.{driver}").write_bytes(fill_slot(image, "cuda", CUDA))
            (self.lib / f"{name}.so.1").symlink_to(f"{name}.so.{driver}")

    def write(self, name: str, line: str) -> None:
        """Write one small file of the node."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line + "\n", encoding="utf-8")

    def play(self, *lines: str) -> None:
        """Play these from now on, in processes that start now."""
        self.write("plays", "\n".join(lines))

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that shall see this node's libraries and no others."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA_", "LD_"))}
        return dict(kept, LD_LIBRARY_PATH=str(self.lib), PLANNER_STANDIN_DIR=str(self.root))
