"""Containers: what CDI files promise must be there, a local image must reach the GPUs, old ones must be restarted."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from typing import Any

from .observe_run import read_text
from .software_kit import LibraryError, Numbers, SkipError
from .software_run import run_program

CDI_FOLDERS = ("/etc/cdi", "/var/run/cdi", "/run/cdi")
RUNTIMES = ("podman", "docker", "nerdctl", "apptainer", "singularity", "enroot")
NAMED_MAX = 20
_VERSION_IN_NAME = re.compile(r"\.so\.(\d{3,}\.\d+(?:\.\d+)?)$|/firmware/nvidia/(\d{3,}\.\d+(?:\.\d+)?)/")
_PAIR = re.compile(r"""^\s*(-\s+)?["']?(hostPath|path|kind)["']?\s*:\s*["']?([^"',]+?)["']?\s*,?\s*$""")
_LIBCUDA = re.compile(r"\s(/\S*libcuda\.so\.(\d[\d.]*))( \(deleted\))?$", re.M)


def cdi_files() -> list[str]:
    """Return the CDI files of this node, each once."""
    found = [p for folder in CDI_FOLDERS for end in ("yaml", "yml", "json") for p in glob.glob(folder + "/*." + end)]
    return list({os.path.realpath(path): path for path in sorted(found, reverse=True)}.values())[::-1]


def check_cdi(path: str, evidence: dict[str, Any]) -> None:
    """Look whether each path of the host exists that a CDI file names; see ``guarded``."""
    text = read_text(path, 1 << 22)
    if text is None:
        raise LibraryError("%s cannot be read" % path, "CDI_STALE")
    kind, paths = named_paths(text)
    if "nvidia" not in (kind or ""):
        raise SkipError("it is of kind %s" % (kind or "unknown"))
    missing = [p for p in paths if not os.path.exists(p)]
    versions: dict[str, str] = {}
    for name in paths:
        match = _VERSION_IN_NAME.search(name)
        if match:
            versions.setdefault(match.group(1) or match.group(2), name)
    evidence.update(kind=kind, paths=len(paths), missing=missing[:NAMED_MAX], missing_count=len(missing),
                    driver_versions=versions, loaded=loaded_driver())


def named_paths(text: str) -> tuple[str | None, list[str]]:
    """Return (kind, paths of the host, sorted) of a CDI file in JSON or YAML, read tolerantly.

    Of an entry that has both, ``path`` is inside the container and ``hostPath`` counts.
    """
    try:
        return _from_json(json.loads(text))
    except (ValueError, RecursionError):
        pass
    kind, found = None, set()
    entry: dict[str, str] = {}
    for line in [*text.splitlines(), "- end:"]:
        if line.lstrip().startswith("- ") or line.strip() == "-":
            found.add(entry.get("hostPath") or entry.get("path") or "")
            entry = {}
        match = _PAIR.match(line)
        if match and match.group(2) == "kind":
            kind = kind or match.group(3)
        elif match:
            entry[match.group(2)] = match.group(3)
    return kind, sorted(path for path in found if path.startswith("/"))


def _from_json(document: Any) -> tuple[str | None, list[str]]:
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for each in node:
                walk(each)
        elif isinstance(node, dict):
            path = node.get("hostPath") or node.get("path")
            if isinstance(path, str) and path.startswith("/"):
                found.add(path)
            for each in node.values():
                walk(each)

    walk(document)
    kind = document.get("kind") if isinstance(document, dict) else None
    return str(kind) if kind else None, sorted(found)


def loaded_driver() -> str | None:
    """Return the version of the loaded kernel module."""
    told = (read_text("/sys/module/nvidia/version") or "").strip()
    words = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", read_text("/proc/driver/nvidia/version") or "")
    return told or (words.group(1) if words else None)


def check_running(evidence: dict[str, Any]) -> None:
    """List processes in containers whose libcuda was replaced or is of another version; see ``guarded``."""
    loaded = loaded_driver()
    stale = []
    seen = 0
    for pid in sorted((int(n) for n in os.listdir("/proc") if n.isdigit())):
        container = _container_of(pid)
        if container is None:
            continue
        match = _LIBCUDA.search(read_text("/proc/%d/maps" % pid, 1 << 24) or "")
        if match is None:
            continue
        seen += 1
        version = match.group(2) if match.group(2).count(".") else None
        if match.group(3) or (version and loaded and version != loaded):
            stale.append({"pid": pid, "name": (read_text("/proc/%d/comm" % pid) or "").strip(), "container": container,
                          "library": match.group(1), "deleted": bool(match.group(3)), "version": version})
    evidence.update(loaded=loaded, with_gpu=seen, must_restart=stale[:NAMED_MAX], must_restart_count=len(stale))
    if not seen:
        raise SkipError("no process in a container has libcuda loaded")


def _container_of(pid: int) -> str | None:
    """Return the name of the control group that tells a container, or None for a process of the host."""
    for line in (read_text("/proc/%d/cgroup" % pid) or "").splitlines():
        if re.search(r"docker|libpod|containerd|kubepods|crio|lxc|nerdctl|apptainer|enroot", line):
            return line.rsplit("/", 1)[-1][:80]
    return None


def check_container(runtime: str, image: str, numbers: Numbers, host: str, timeout_s: float,
                    evidence: dict[str, Any]) -> None:
    """Run the quick gate inside a container of a local image; see ``guarded``. Nothing is pulled, no network."""
    archive = probe_archive()
    if archive is None:
        raise SkipError("the probe does not run from its zip, so there is nothing to mount")
    name = "planner-gate-" + numbers.data("name", 4).hex()
    nonce = numbers.data("container", 16).hex()
    gate = ["python3", "/planner-probe.zip", "gate", "--request",
            json.dumps({"profile": "quick", "nonce": nonce, "host": host})]
    evidence.update(runtime=runtime, image=image, nonce=nonce, ways=[])
    for way, argv in _command_lines(runtime, image, name, archive):
        try:
            answer = run_program([*argv, *gate], timeout_s)
        finally:
            if runtime in ("podman", "docker", "nerdctl"):
                run_program([runtime, "rm", "-f", name], 20)
        seen: dict[str, Any] = {"way": way, "rc": answer["rc"]}
        evidence["ways"].append(seen)
        try:
            seen["report"] = json.loads(answer["stdout"].strip().splitlines()[-1])
            return
        except (ValueError, IndexError):
            seen["error"] = str(answer.get("error") or answer["stderr"].strip()[-600:]
                                or "it ended with %s" % answer["rc"])
    if any("python3" in seen["error"] and "not found" in seen["error"] for seen in evidence["ways"]):
        raise SkipError("the image %s has no python3" % image)
    raise LibraryError("; ".join("%s: %s" % (seen["way"], seen["error"]) for seen in evidence["ways"]), "CTR_NO_GPU")


def image_is_there(runtime: str, image: str) -> bool:
    """Say whether the image is on this node already."""
    if runtime in ("apptainer", "singularity"):
        return os.path.exists(image)
    if runtime == "enroot":
        return image in run_program(["enroot", "list"], 20)["stdout"].split()
    return bool(run_program([runtime, "image", "inspect", image], 20)["rc"] == 0)


def runtimes() -> list[str]:
    """Return the container runtimes on PATH."""
    return [name for name in RUNTIMES if shutil.which(name)]


def _command_lines(runtime: str, image: str, name: str, archive: str) -> list[tuple[str, list[str]]]:
    """Return (what it is, command) for each way into a GPU container, the preferred one first."""
    mount = "%s:/planner-probe.zip:ro" % archive
    if runtime in ("apptainer", "singularity"):
        # A network of its own keeps the gate inside from waiting for the lock of the one outside.
        alone = ["unshare", "--net"] if os.geteuid() == 0 else []
        flags = [] if alone else ["--net", "--network", "none"]
        return [("--nv", [*alone, runtime, "exec", "--nv", *flags, "--bind", mount, image])]
    if runtime == "enroot":
        alone = ["unshare", "--net"] if os.geteuid() == 0 else []
        return [("enroot", [*alone, "enroot", "start", "--mount", "%s:/planner-probe.zip" % archive, image])]
    base = [runtime, "run", "--rm", "--pull=never", "--network", "none", "--name", name, "-v", mount,
            "--entrypoint", ""]
    if runtime == "podman":
        base += ["--security-opt", "label=disable"]
    ways = [("CDI", [*base, "--device", "nvidia.com/gpu=all", image])]
    if runtime in ("docker", "nerdctl"):
        ways.append(("--gpus all", [*base, "--gpus", "all", image]))
    return ways


def probe_archive() -> str | None:
    """Return the zip that this very program runs from."""
    path = os.path.abspath(__file__)
    while len(path) > 1:
        if os.path.isfile(path) and not path.endswith(".py"):
            return path
        path = os.path.dirname(path)
    return None
