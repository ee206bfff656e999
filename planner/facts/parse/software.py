"""Toolkits, libraries and Python environments, from file names and small text files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from planner.facts.schema import LibraryFacts, PythonEnvFacts

_LIBRARY_NAMES = {"cudnn": "cudnn", "nccl": "nccl", "nvinfer": "tensorrt"}
_BUILD_DATE = re.compile(r"^(\d+\.\d+)\.\d{8}$")


def parse_version_json(text: str) -> str | None:
    """Return the toolkit's version in ``version.json``; a build date in third place (``11.8.20220929``) is cut off."""
    try:
        version = json.loads(text)["cuda"]["version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(version, str):
        return None
    dated = _BUILD_DATE.match(version)
    return dated.group(1) if dated else version


def parse_version_txt(text: str) -> str | None:
    """Return the version in the ``version.txt`` of old toolkits: ``CUDA Version 10.2.89`` -> ``10.2.89``."""
    found = re.search(r"CUDA Version (\d+(?:\.\d+)+)", text)
    return found.group(1) if found else None


def parse_nvcc(text: str) -> str | None:
    """Return the toolkit release in ``nvcc --version``; the compiler's own number (``V13.0.88``) is another count."""
    found = re.search(r"release (\d+\.\d+)", text)
    return found.group(1) if found else None


def toolkit_version(texts: Mapping[str, str], nvcc: str, path: str) -> str | None:
    """Return a toolkit's version from the best source: version file, compiler, path."""
    named = (re.findall(r"(?:cuda|CUDA)[-/_]?v?(\d+\.\d+(?:\.\d+)?)", path)
             or re.findall(r"/(\d+\.\d+(?:\.\d+)?)(?=/|$)", path))
    return (parse_version_json(texts.get("version.json", "")) or parse_version_txt(texts.get("version.txt", ""))
            or parse_nvcc(nvcc) or (named[-1] if named else None))


def parse_library(path: str) -> LibraryFacts | None:
    """Return the library that a real file path names, or None: ``…/libnccl.so.2.28.9`` -> nccl 2.28.9."""
    found = re.search(r"/lib(cudnn|nccl|nvinfer)\.so\.(\d[\d.]*)$", path)
    if not found:
        return None
    return LibraryFacts(name=_LIBRARY_NAMES[found.group(1)], version=found.group(2), path=path)


def parse_userspace(paths: Iterable[str]) -> str | None:
    """Return the driver version in the names of ``libcuda``'s or ``libnvidia-ml``'s real files.

    ``libcuda.so.1`` alone tells nothing. Files under ``compat`` or a driver container's root do not count.
    """
    versions: dict[str, str] = {}
    for path in paths:
        found = re.search(r"/lib(cuda|nvidia-ml)\.so\.(\d{3,}(?:\.\d+)+)$", path)
        if found and "/compat/" not in path and not path.startswith("/run/nvidia/driver/"):
            versions.setdefault(found.group(1), found.group(2))
    return versions.get("cuda") or versions.get("nvidia-ml")


def parse_env(raw: Mapping[str, Any]) -> PythonEnvFacts | None:
    """Return one Python environment from the names of its ``dist-info`` directories or conda records.

    Args:
        raw: ``{"path", "dists", "conda"}`` of the probe.
    """
    frameworks: dict[str, str] = {}
    wheels: dict[str, str] = {}
    for name in raw.get("dists", ()):
        found = re.match(r"^(.+?)-([^-]+)\.dist-info$", name)
        if not found:
            continue
        dashed = re.sub(r"[-_.]+", "-", found.group(1)).lower()
        (wheels if dashed.startswith("nvidia-") else frameworks)[dashed] = found.group(2)
    for name in raw.get("conda", ()):
        found = re.match(r"^(.+)-([^-]+)-([^-]+)\.json$", name)
        if found:
            is_wheel = found.group(1).startswith(("cuda", "cudnn", "nccl"))
            (wheels if is_wheel else frameworks)["conda:" + found.group(1)] = found.group(2)
    if not frameworks and not wheels:
        return None
    path = str(raw.get("path", ""))
    python = re.search(r"python(\d+\.\d+)", path)
    root = re.sub(r"(/lib(64)?/python\d+(\.\d+)?)?/(site-packages|dist-packages)$|/conda-meta$", "", path)
    return PythonEnvFacts(path=root or path, python=python.group(1) if python else None,
                          frameworks=dict(sorted(frameworks.items())), nvidia_wheels=dict(sorted(wheels.items())))
