"""What lies on the node's disks: kernels, driver files, toolkits, libraries, Python environments."""

from __future__ import annotations

import glob
import os
import re
import time
from typing import Any

from .observe_run import FILE_MAX, read_text

PLAIN_FILES = (
    "/etc/os-release", "/etc/machine-id", "/proc/sys/kernel/random/boot_id", "/proc/version",
    "/proc/sys/kernel/osrelease", "/sys/class/dmi/id/product_serial", "/sys/class/dmi/id/product_uuid",
    "/sys/module/nvidia/version", "/proc/driver/nvidia/version", "/etc/default/grub", "/etc/cuda-version",
    "/proc/sys/fs/binfmt_misc/WSLInterop",
)
PRESENT = (
    "/usr/bin/nvidia-uninstall", "/var/log/nvidia-installer.log", "/run/nvidia/driver/usr/bin/nvidia-smi",
    "/run/nvidia/validations", "/run/nvidia/driver", "/run/ostree-booted", "/run/systemd/system",
    "/usr/lib/wsl/lib/libcuda.so.1", "/dev/dxg", "/.dockerenv", "/run/.containerenv", "/sys/firmware/efi",
    "/sys/firmware/acpi", "/sys/firmware/memmap", "/etc/warewulf", "/usr/bin/nv-fabricmanager",
    "/usr/bin/nvidia-imex", "/proc/driver/nvidia-nvswitch",
)
LIBRARY = re.compile(r"^lib(cuda|nvidia-ml|cudnn|nccl|nvinfer)\.so\.[0-9][0-9.]*$")
LIBRARY_DIRS = (
    "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64",
    "/usr/lib", "/usr/lib/wsl/lib", "/run/nvidia/driver/usr/lib/x86_64-linux-gnu", "/usr/local/cuda*/lib64",
    "/usr/local/cuda*/targets/*/lib", "/opt/*/lib", "/opt/tensorrt*/targets/*/lib",
)
MODULE_DIRS = ("updates", "extra", "weak-updates", "kernel/drivers/video", "kernel/nvidia*", "kernel/extra", "misc")
TOOLKIT_DIRS = ("/usr/local/cuda-*", "/usr/local/cuda", "/opt/cuda*", "/opt/nvidia/hpc_sdk/*/*/cuda/[0-9]*")
MODULE_TREES = (
    "/usr/share/modules/modulefiles", "/usr/share/modulefiles", "/etc/modulefiles", "/opt/modulefiles",
    "/opt/apps/modulefiles", "/usr/local/modulefiles", "/opt/ohpc/pub/modulefiles", "/apps/modulefiles",
    "/cm/shared/modulefiles", "/usr/share/lmod/lmod/modulefiles",
)
PATH_LINE = re.compile(r"^\s*(export\s+|setenv\s+)?(PATH|LD_LIBRARY_PATH|CUDA_HOME|CUDA_PATH)[=\s].*cuda", re.I)
DIST = re.compile(
    r"^(torch|torchvision|tensorflow|tensorflow_cpu|tensorflow_gpu|jax|jaxlib|jax_cuda\d+_(plugin|pjrt)|cupy[a-z0-9_]*|vllm"
    r"|sglang|onnxruntime_gpu|tensorrt[a-z0-9_]*|transformer_engine[a-z0-9_]*|flash_attn|triton|deepspeed|xformers|numba"
    r"|paddlepaddle_gpu|mxnet[a-z0-9_]*|nvidia_[a-z0-9_]+)-([^-]+)\.dist-info$")
CONDA = re.compile(r"^(cudatoolkit|cuda-version|cuda-cudart|cuda-runtime|cudnn|nccl|pytorch|tensorflow|tensorflow-base"
                   r"|jaxlib|pytorch-cuda)-[^/]+\.json$")
ROOT_IN_TEXT = re.compile(r"(/[A-Za-z0-9._/+-]*cuda[A-Za-z0-9._/+-]*)", re.I)
ENV_ROOTS = ("/opt", "/usr/local", "/home", "/root", "/srv", "/usr/lib/python3")
ENV_DEPTH = 8
ENV_DIRS_MAX = 20_000
ENV_SECONDS = 20.0
SKIPPED = {"node_modules", "__pycache__", ".git", ".cache", "proc", "sys", "include", "share", "doc", "src", "pkgs"}
HIDDEN_WANTED = {".venv", ".local", ".conda", ".pyenv", ".virtualenvs", ".mamba"}


def observe_files() -> dict[str, Any]:
    """Return what local files say, each under its own key; see the dictionary below."""
    files = {}
    for path in PLAIN_FILES:
        text = read_text(path)
        if text is not None:
            files[path] = text
    return {
        "files": files,
        "present": [p for p in PRESENT if os.path.exists(p)],
        "kernels": _kernels(),
        "path_lines": _path_lines(),
        "efi_secure_boot": _efi_byte(),
        "root": _root(),
        "pci": _pci(),
        "rdma": _rdma(),
    }


def observe_toolkits() -> dict[str, Any]:
    """Return toolkits and libraries: ``{"toolkits": [...], "libraries": [...]}``.

    May touch network mounts, so call it in a bounded child.
    """
    libraries = {}
    for pattern in LIBRARY_DIRS:
        for folder in sorted(glob.glob(pattern)):
            for name in _names(folder):
                if LIBRARY.match(name):
                    path = os.path.join(folder, name)
                    libraries[os.path.realpath(path)] = path
    toolkits: dict[str, dict[str, Any]] = {}
    for pattern in TOOLKIT_DIRS:
        for folder in sorted(glob.glob(pattern)):
            _toolkit(folder, "usr-local" if folder.startswith("/usr/local/") else "opt", toolkits)
    for path, text in sorted(_module_files().items()):
        for folder in sorted(set(ROOT_IN_TEXT.findall(text))):
            _toolkit(_root_of(folder), "module", toolkits, path)
    for entry in _path_lines():
        source = "LD_LIBRARY_PATH" if "LD_LIBRARY_PATH" in entry["line"] else "PATH"
        for folder in ROOT_IN_TEXT.findall(entry["line"]):
            _toolkit(_root_of(folder), source, toolkits, entry["path"])
    return {"libraries": [{"path": p, "found_as": libraries[p]} for p in sorted(libraries)],
            "toolkits": [toolkits[p] for p in sorted(toolkits)]}


def describe_toolkit(folder: str) -> dict[str, Any] | None:
    """Return one toolkit directory as found, or None when it holds no toolkit."""
    texts = {}
    for name in ("version.json", "version.txt"):
        text = read_text(os.path.join(folder, name), 65_536)
        if text is not None:
            texts[name] = text
    nvcc = os.path.join(folder, "bin", "nvcc")
    if not texts and not os.path.exists(nvcc):
        return None         # runtime libraries alone are no toolkit
    return {"path": folder, "texts": texts, "nvcc": nvcc if os.path.exists(nvcc) else None}


def _root_of(folder: str) -> str:
    """Return the toolkit that a directory on a path belongs to: without ``/bin``, ``/lib64`` and the like."""
    return re.sub(r"/(bin|lib|lib64|include|targets/[^/]+/lib|extras/CUPTI/lib64)/*$", "", folder.rstrip("/"))


def _toolkit(folder: str, source: str, toolkits: dict[str, dict[str, Any]], named_in: str = "") -> None:
    real = os.path.realpath(folder)
    found = describe_toolkit(real)
    if found is None:
        return
    found.update(source=source, named_in=named_in)
    known = toolkits.setdefault(real, found)
    if folder == "/usr/local/cuda":
        known["default"] = True


def _module_files() -> dict[str, str]:
    """Return texts of environment-module files that are about CUDA, by path."""
    trees = set(MODULE_TREES) | {p for p in os.environ.get("MODULEPATH", "").split(":") if p}
    found: dict[str, str] = {}
    for tree in sorted(trees):
        for folder, folders, names in os.walk(tree):
            if folder[len(tree):].count(os.sep) >= 4:
                folders[:] = []
            if "cuda" not in folder.lower() and "nvhpc" not in folder.lower():
                continue
            for name in names:
                text = read_text(os.path.join(folder, name), 65_536)
                if text is not None and len(found) < 200:
                    found[os.path.join(folder, name)] = text
    return found


def _kernels() -> dict[str, Any]:
    """Return each installed kernel: whether it can boot, and its nvidia module files."""
    found: dict[str, Any] = {}
    for path in glob.glob("/boot/vmlinuz-*") + glob.glob("/boot/vmlinux-*"):
        release = os.path.basename(path).split("-", 1)[1]
        if "rescue" not in release:
            found.setdefault(release, {"bootable": True, "modules": []})
    for tree in glob.glob("/lib/modules/*"):
        release = os.path.basename(tree)
        modules: list[str] = []
        for sub in MODULE_DIRS:
            for folder in glob.glob(os.path.join(tree, sub)):
                for where, _, names in os.walk(folder):
                    modules += [os.path.join(where, n) for n in names if re.match(r"^nvidia\.ko(\.(xz|zst|gz))?$", n)]
        if modules or release in found:
            found.setdefault(release, {"bootable": False, "modules": []})["modules"] = sorted(modules)
    return found


def _path_lines() -> list[dict[str, str]]:
    """Return only lines that put CUDA on a path: these files may hold secrets, so nothing else is taken."""
    files = ["/etc/environment", "/etc/profile"]
    files += sorted(glob.glob("/etc/profile.d/*")) + sorted(glob.glob("/etc/ld.so.conf.d/*.conf"))
    found = [
        {"path": path, "line": line.strip()}
        for path in files
        for line in (read_text(path, 65_536) or "").splitlines()
        if PATH_LINE.match(line) or (path.endswith(".conf") and "cuda" in line and line.startswith("/"))
    ]
    return found + [{"path": "environment", "line": "%s=%s" % (name, os.environ.get(name, ""))}
                    for name in ("PATH", "LD_LIBRARY_PATH")]


def _efi_byte() -> int | None:
    """Return the last byte of the SecureBoot variable, or None."""
    try:
        with open(glob.glob("/sys/firmware/efi/efivars/SecureBoot-*")[0], "rb") as stream:
            return stream.read(16)[-1]
    except (OSError, IndexError):
        return None


def _root() -> dict[str, str | None]:
    """Return the mount line of ``/``, and what is mounted below an overlay's upper directory."""
    lines = (read_text("/proc/self/mountinfo", FILE_MAX) or "").splitlines()
    roots = [line for line in lines if len(line.split()) > 4 and line.split()[4] == "/"]
    line = roots[-1] if roots else ""
    upper = re.search(r"upperdir=([^,\s]+)", line)
    under = None
    if upper and os.path.isdir(upper.group(1)):
        holding = [m for m in lines if len(m.split()) > 4
                   and (upper.group(1) + "/").startswith(m.split()[4].rstrip("/") + "/")]
        under = max(holding, key=lambda m: len(m.split()[4])) if holding else None
    return {"mount": line, "upper_mount": under}


def _pci() -> list[dict[str, str]]:
    """Return NVIDIA's PCI functions as ``{"class", "device"}``."""
    return [{name: (read_text(folder + "/" + name, 64) or "").strip() for name in ("class", "device")}
            for folder in sorted(glob.glob("/sys/bus/pci/devices/*"))
            if (read_text(folder + "/vendor", 64) or "").strip() == "0x10de"]


def _rdma() -> list[dict[str, str]]:
    return [{"name": os.path.basename(d), "hca_type": (read_text(d + "/hca_type", 256) or "").strip(),
             "board_id": (read_text(d + "/board_id", 256) or "").strip()}
            for d in sorted(glob.glob("/sys/class/infiniband/*"))]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def observe_envs() -> dict[str, Any]:
    """Return ``{"envs": [{"path", "dists", "conda"}], "truncated": bool}``: found by names, nothing is imported."""
    found: list[dict[str, Any]] = []
    seen = 0
    deadline = time.monotonic() + ENV_SECONDS
    for root in ENV_ROOTS:
        device = _device(root)
        for folder, folders, names in os.walk(root):
            seen += 1
            if seen > ENV_DIRS_MAX or time.monotonic() > deadline:
                return {"envs": found, "truncated": True}
            base = os.path.basename(folder)
            if base in ("site-packages", "dist-packages") or base == "conda-meta":
                found += _environment(folder, folders + names)
                folders[:] = []
                continue
            if folder[len(root):].count(os.sep) >= ENV_DEPTH or _device(folder) != device:
                folders[:] = []
            folders[:] = sorted(n for n in folders
                                if n not in SKIPPED and (not n.startswith(".") or n in HIDDEN_WANTED))
    return {"envs": found, "truncated": False}


def _environment(folder: str, names: list[str]) -> list[dict[str, Any]]:
    """Return the environment of a package directory when it carries something of interest."""
    if os.path.basename(folder) == "conda-meta":
        conda = sorted(n for n in names if CONDA.match(n))
        return [{"path": folder, "dists": [], "conda": conda}] if conda else []
    dists = sorted(n for n in names if DIST.match(n.lower()))
    return [{"path": folder, "dists": dists, "conda": []}] if dists else []


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev
    except OSError:
        return None
