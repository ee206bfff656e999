"""Rows that software makes: stand-ins for CUDA libraries, NCCL, a compiler, torch and podman that fail.

All of it lies in /run/stand-in of a node of its own; nothing of this machine's software is looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.gates.failure_plays import OLD_DRIVER, STANDARD, Play
from tests.gates.software_play import NVCC, torch
from tests.gates.standin_libraries import DRIVER
from tests.gates.standin_run import SITE

PYTHON = f"/{SITE}/python3"
CUDART, CUBLAS, NCCL = "lib64/libcudart.so.13", "lib64/libcublas.so.13", "lib64/libnccl.so.2"


def soft(gpus: int = 1, image: str = "", **more: Any) -> Play:
    """A node whose software is looked at."""
    software = {"roots": [f"/{SITE}"], "only_roots": True, "pythons": [PYTHON], **({"image": image} if image else {})}
    return Play(profile=STANDARD, gpus=gpus, request={"software": software, "expect": {"gpus": gpus}}, **more)


def framework(**changes: Any) -> dict[str, str]:
    """Return the files of an interpreter whose torch is a stand-in."""
    start = f'#!/bin/sh\n# a stand-in for a user\'s interpreter\nPYTHONPATH=/{SITE}/site exec {{python}} "$@"'
    return {PYTHON[1:]: start, f"{SITE}/site/torch/__init__.py": torch(**changes)}


# One GPU, whose stand-in NVML answers inside the container as that of a container whose devices were taken away.
PODMAN = """#!/bin/sh
# a stand-in for podman
[ "$1" = run ] || exit 0
while [ "$1" != python3 ]; do
  [ "$1" = -v ] && zip=${2%%:*}
  shift
done
shift 2
mkdir "$PLANNER_STANDIN_DIR/inside"
cp -r "$PLANNER_STANDIN_DIR/etc" "$PLANNER_STANDIN_DIR/run" "$PLANNER_STANDIN_DIR/inside"
echo 'call NVML 999' > "$PLANNER_STANDIN_DIR/inside/plays"
PLANNER_STANDIN_DIR="$PLANNER_STANDIN_DIR/inside" exec unshare -n {python} -I "$zip" "$@"
"""
# A program of a container (its control group is put over its own) that still has the library of the driver before.
CONTAINED = """#!{python}
# a stand-in for a job in a container
import mmap, os, subprocess, sys, time
root = os.environ["PLANNER_STANDIN_DIR"]
group, library = root + "/cgroup", root + "/libcuda.so.VERSION"
for path, text in ((group, "0::/system.slice/docker-standin.scope\\n"), (library, "stand-in" * 512)):
    with open(path, "w") as stream:
        stream.write(text)
subprocess.run(["mount", "--bind", group, "/proc/%d/cgroup" % os.getpid()], check=True)
with open(library) as stream:
    kept = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
open(sys.argv[1], "w").close()
while os.path.exists("/proc/" + sys.argv[2]):
    time.sleep(0.02)
""".replace("VERSION", OLD_DRIVER)


def cdi(driver: str, *there: str) -> dict[str, str]:
    """Return a CDI file that names a device and the library of a driver; ``there`` are those of them that exist."""
    names = [f"/{SITE}/nvidia0", f"/{SITE}/libcuda.so.{driver}"]
    spec = "# a stand-in\ncdiVersion: 0.5.0\nkind: nvidia.com/gpu\ncontainerEdits:\n  mounts:\n" + "".join(
        f"  - hostPath: {name}\n" for name in names)
    return {f"run/cdi/{driver}.yaml": spec, **{f"{SITE}/{name}": "stand-in" for name in there}}


BROKEN_NVCC = "#!{python}\n" + NVCC.replace("text =", "sys.exit('cudafe++ died (stand-in)')\n    text =")
TORN = soft(libraries={CUBLAS: "torn cublas 13000"})
SOFTWARE_PLAYS: dict[str, list[Play]] = {
    "OK": [soft(libraries={CUDART: "cudart 13000", CUBLAS: "cublas 13000", NCCL: "nccl 22901"}, gpus=2,
                files={**framework(count="2"), **cdi(DRIVER, "nvidia0", f"libcuda.so.{DRIVER}")})],
    "LIB_LOAD": [soft(libraries={CUBLAS: "torn cublas 13000", CUDART: "cudart 13000 missing_symbol"}, times=2)],
    "LIB_VERSION": [soft(libraries={"lib64/libcudart.so.12": "cudart 13000"})],
    "LIB_CALL": [soft(libraries={CUBLAS: "cublas 13000 refuses"}, files={f"{SITE}/bin/nvcc": BROKEN_NVCC}, times=2)],
    "RUNTIME_TOO_NEW": [soft(libraries={CUDART: "cudart 13000 driver_too_old",
                                        "lib/libcudart.so.13": "cudart 13000 call_too_new"}, times=2)],
    "FW_GPU_COUNT": [soft(libraries={CUDART: "cudart 13000 sees_one"}, files=framework(count="3"), gpus=2, times=2)],
    "FW_CPU_FALLBACK": [soft(files=framework(count="0")), soft(files=framework(where="'cpu'"))],
    "NCCL_ERROR": [soft(libraries={NCCL: "nccl 22901"}, gpus=2, environment={"STANDIN_NCCL": "refuse"})],
    "INHERITED": [replace(TORN, before=TORN)],
    "CDI_STALE": [soft(files={**cdi(DRIVER, "nvidia0"), **cdi(OLD_DRIVER, "nvidia0", f"libcuda.so.{OLD_DRIVER}")},
                       times=2)],
    "CTR_NO_GPU": [soft(image="local/stand-in", programs={"podman": PODMAN.replace(
        "NVML", "nvmlDeviceGetHandleByIndex_v2")}), soft(programs={"first": CONTAINED})],
}
