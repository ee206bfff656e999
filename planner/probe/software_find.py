"""Finds the CUDA software of a node by looking at files: libraries, toolkits, interpreters and their frameworks.

Nothing is loaded or imported here; what is found is told with the folder that it lies in, links resolved.
"""

from __future__ import annotations

import glob
import json
import os
import pkgutil
import re
import shutil
from typing import Any

from .observe_run import run_command
from .software_run import run_program

# check -> the library's name; with it are found lib<name>.so.<numbers>
LIBRARIES = {
    "cudart": "cudart", "nvrtc": "nvrtc", "cublas": "cublas", "cublaslt": "cublasLt", "cufft": "cufft",
    "cudnn": "cudnn", "curand": "curand", "cusolver": "cusolver", "cusparse": "cusparse", "npp": "nppc",
    "nvjpeg": "nvjpeg", "nvjitlink": "nvJitLink", "tensorrt": "nvinfer",
}
FRAMEWORKS = ("torch", "tensorflow", "jax", "onnxruntime")
TOOLKITS = ("/usr/local/cuda", "/usr/local/cuda-*", "/opt/cuda", "/opt/cuda-*", "/opt/nvidia/cuda*",
            "/opt/nvidia/hpc_sdk/*/*/cuda/[0-9]*")
FOLDERS = ("/opt/*/lib", "/opt/*/lib64", "/opt/nvidia/hpc_sdk/*/*/math_libs/*/lib64", "/usr/local/lib",
           "/usr/local/cudnn*/lib*", "/usr/local/TensorRT*/lib", "/opt/TensorRT*/lib", "/usr/lib64", "/usr/lib",
           "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu")
INSIDE = ("", "lib64", "lib", "targets/*/lib")
WHEELS = ("nvidia/*/lib", "nvidia/*/bin", "tensorrt_libs", "tensorrt")
SUBJECTS_MAX = 8            # copies of one library that are tried; the rest is told by name
INSPECT_S = 20.0


class Found:
    """What there is on this node.

    Attributes:
        libraries: Check -> [(path, real path)], one entry for each file, the path ending in the name a loader asks for.
        toolkits: Folders that hold ``bin/nvcc``, links resolved.
        interpreters: {"path", "asked", "frameworks": {name: version}, "error"} for each Python.
        search_path: Folders of LD_LIBRARY_PATH, as given.
        left_out: Check -> files that were found and are not tried.
    """

    def __init__(self) -> None:
        self.libraries: dict[str, list[tuple[str, str]]] = {check: [] for check in LIBRARIES}
        self.toolkits: list[str] = []
        self.interpreters: list[dict[str, Any]] = []
        self.search_path: list[str] = []
        self.left_out: dict[str, list[str]] = {}


def find(request: dict[str, Any]) -> Found:
    """Look for everything.

    Args:
        request: ``roots``: more toolkits or folders of libraries; ``only_roots``: look nowhere else; ``pythons``:
            interpreters in place of ``python3`` on PATH.
    """
    found = Found()
    roots = [root for root in request.get("roots") or () if isinstance(root, str)]
    everywhere = request.get("only_roots") is not True
    found.search_path = [f for f in os.environ.get("LD_LIBRARY_PATH", "").split(":") if f]
    found.interpreters = _interpreters(request)
    patterns = [*(TOOLKITS if everywhere else ()), *roots]
    toolkits = sorted({os.path.realpath(p) for pattern in patterns for p in glob.glob(pattern) if os.path.isdir(p)})
    found.toolkits = [t for t in toolkits if os.access(t + "/bin/nvcc", os.X_OK)]
    folders: list[str] = []
    for toolkit in toolkits:
        folders += [f for part in INSIDE for f in sorted(glob.glob(os.path.join(toolkit, part)))]
    for interpreter in found.interpreters:
        for site in interpreter["sites"]:
            folders += [f for part in WHEELS for f in sorted(glob.glob(os.path.join(site, part)))]
    if everywhere:
        folders += _cached_folders()
        folders += found.search_path
        folders += [f for pattern in FOLDERS for f in sorted(glob.glob(pattern))]
    _collect(found, _once(folders))
    return found


def _once(folders: list[str]) -> list[str]:
    """Return the folders with links resolved, each once, in the order given."""
    return list(dict.fromkeys(os.path.realpath(folder) for folder in folders if os.path.isdir(folder)))


def _collect(found: Found, folders: list[str]) -> None:
    patterns = {check: re.compile(r"^lib%s\.so\.[0-9]+(\.[0-9]+)*$" % name) for check, name in LIBRARIES.items()}
    seen: dict[str, dict[str, str]] = {check: {} for check in LIBRARIES}
    for folder in folders:
        if os.path.basename(folder) in ("stubs", "compat"):
            continue
        try:
            # The shortest name of a file is the one that programs ask the loader for.
            names = sorted((n for n in os.listdir(folder) if n.startswith("lib") and ".so." in n),
                           key=lambda n: (len(n), n))
        except OSError:
            continue
        for name in names:
            for check, pattern in patterns.items():
                path = os.path.join(folder, name)
                if pattern.match(name) and _loadable(path):
                    seen[check].setdefault(os.path.realpath(path), path)
    for check, files in seen.items():
        ordered = [(path, real) for real, path in files.items()]
        found.libraries[check] = ordered[:SUBJECTS_MAX]
        if ordered[SUBJECTS_MAX:]:
            found.left_out[check] = [path for path, _ in ordered[SUBJECTS_MAX:]]


def _loadable(path: str) -> bool:
    """Say whether the file is a library of this very machine's kind (ELF class and processor)."""
    return _elf(path) is not None and _elf(path) == _elf("/proc/self/exe")


def _elf(path: str) -> bytes | None:
    try:
        with open(path, "rb") as stream:
            head = stream.read(20)
    except OSError:
        return None
    return head[4:6] + head[18:20] if head[:4] == b"\x7fELF" and len(head) == 20 else None


def _cached_folders() -> list[str]:
    """Return the folders in which the loader's cache knows a library that is looked for."""
    names = "|".join(LIBRARIES.values())
    text = run_command(["ldconfig", "-p"], 10)["stdout"]
    return [os.path.dirname(path) for path in re.findall(r"^\s*lib(?:%s)\.so\.[\d.]+ .*=> (\S+)$" % names, text, re.M)]


def _interpreters(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the Pythons to look into: those asked for, or ``python3`` on PATH where it has a framework."""
    asked = [path for path in request.get("pythons") or () if isinstance(path, str)]
    if asked:
        return [_inspect(path, True) for path in dict.fromkeys(asked)]
    path = shutil.which("python3")
    if path is None:
        return []
    seen = _inspect(path, False)
    return [seen] if seen["frameworks"] else []


def _inspect(path: str, asked: bool) -> dict[str, Any]:
    script = script_text("inspect_python")
    answer = run_program([path, "-c", script, *FRAMEWORKS], INSPECT_S, environment=user_environment())
    seen: dict[str, Any] = {"path": path, "asked": asked, "frameworks": {}, "sites": [], "error": None}
    try:
        told = json.loads(answer["stdout"].strip().splitlines()[-1])
        return dict(seen, frameworks=dict(told["frameworks"]), sites=[str(site) for site in told["sites"]])
    except (ValueError, IndexError, KeyError, TypeError):
        words = answer.get("error") or answer["stderr"].strip()[-300:] or "it ended with %s" % answer["rc"]
        return dict(seen, error=words)


def script_text(name: str) -> str:
    """Return a script that a user's own interpreter runs."""
    text = pkgutil.get_data(__package__ or "planner.probe", "scripts/%s.py" % name)
    assert text is not None, "the probe is incomplete"
    return text.decode("utf-8")


def user_environment() -> dict[str, str]:
    """Return settings with which an interpreter finds what its user installed, wherever HOME points meanwhile."""
    import pwd

    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return {}
    return {} if os.environ.get("PYTHONUSERBASE") else {"PYTHONUSERBASE": os.path.join(home, ".local")}
