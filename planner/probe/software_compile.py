"""Compilers of the node: what NVRTC and nvcc make must run here, as machine code and as PTX text.

The text of the kernel carries the run's constants. The check checks itself, too: machine code for another
architecture must be refused by the driver.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import tempfile
from typing import Any

from .session import Session
from .software_kit import Library, LibraryError, Numbers, SkipError, attempt
from .software_run import run_program

_BUILTINS_MISSING, _INVALID_OPTION = 7, 5       # NVRTC_ERROR_BUILTIN_OPERATION_FAILURE, NVRTC_ERROR_INVALID_OPTION
OTHERS = ("sm_80", "sm_90", "sm_75", "sm_100", "sm_70")
NVCC_S = 50.0               # for all of one toolkit's compilations; together with the runs below the child's limit


def check_nvrtc(path: str, uuid: str, numbers: Numbers, evidence: dict[str, Any]) -> None:
    """Compile by this libnvrtc for the GPU's own architecture and as PTX, run both; see ``guarded``."""
    with Session(uuid) as session:
        compiler = _Nvrtc(path, evidence)
        major, minor = session.capability
        evidence["arch"], evidence["driver_cuda"] = "sm_%d%d" % (major, minor), session.identity["cuda"]
        known = compiler.known()
        for name, arch in (("cubin", "sm"), ("ptx", "compute")):
            text = numbers.kernel(name)
            wanted = major * 10 + minor
            if name == "ptx" and known:
                wanted = max([a for a in known if a <= wanted] or [wanted])
            image, words = compiler.compile(text, "%s_%d" % (arch, wanted), name)
            evidence[name] = {"arch": "%s_%d" % (arch, wanted)}
            if image is None:
                evidence[name]["not_made"] = words
            else:
                attempt(evidence, name, session.driver, image)
        other = _other(major, known)
        image, _ = compiler.compile(numbers.kernel("other"), other, "cubin") if other else (None, "")
        if image is not None:
            evidence["other"] = {"arch": other}
            attempt(evidence, "other", session.driver, image)


def _other(major: int, known: list[int]) -> str | None:
    """Return an architecture whose machine code this GPU cannot run."""
    for name in OTHERS:
        number = int(name[3:])
        if number // 10 != major and (not known or number in known):
            return name
    return None


class _Nvrtc:
    """libnvrtc through ctypes."""

    def __init__(self, path: str, evidence: dict[str, Any]) -> None:
        self._library, self._evidence = Library(path), evidence
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._library.must("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self._library.tell(evidence)
        evidence["version"] = [major.value, minor.value]

    def known(self) -> list[int]:
        """Return the architectures it compiles for, where it can tell."""
        count = ctypes.c_int()
        if not self._library.has("nvrtcGetSupportedArchs") \
                or self._library.call("nvrtcGetNumSupportedArchs", ctypes.byref(count)):
            return []
        numbers = (ctypes.c_int * max(1, count.value))()
        self._library.must("nvrtcGetSupportedArchs", numbers)
        return sorted(numbers[:count.value])

    def compile(self, text: str, arch: str, kind: str) -> tuple[bytes | None, str]:
        """Return (image, "") or (None, why it makes none): ``kind`` is cubin or ptx."""
        get = "nvrtcGetCUBIN" if kind == "cubin" else "nvrtcGetPTX"
        if not self._library.has(get):
            return None, "this NVRTC has no %s" % get
        program = ctypes.c_void_p()
        self._library.must("nvrtcCreateProgram", ctypes.byref(program), ctypes.c_char_p(text.encode()),
                           ctypes.c_char_p(b"planner.cu"), 0, None, None)
        try:
            options = (ctypes.c_char_p * 1)(("--gpu-architecture=" + arch).encode())
            status = self._library.call("nvrtcCompileProgram", program, 1, options)
            if status == _BUILTINS_MISSING and self._preload():
                status = self._library.call("nvrtcCompileProgram", program, 1, options)
            if status == _INVALID_OPTION:
                return None, "this NVRTC does not know %s" % arch
            if status:
                raise LibraryError("nvrtcCompileProgram failed with status %d: %s" % (status, self._log(program)),
                                   "LIB_CALL")
            size = ctypes.c_size_t()
            self._library.must(get + "Size", program, ctypes.byref(size))
            image = ctypes.create_string_buffer(max(1, size.value))
            self._library.must(get, program, image)
            return image.raw, ""
        finally:
            self._library.call("nvrtcDestroyProgram", ctypes.byref(program))

    def _preload(self) -> bool:
        """Load the compiler's own second library from beside it, as programs do that carry both."""
        folder = os.path.dirname(self._library.name)
        names = sorted(n for n in os.listdir(folder) if n.startswith("libnvrtc-builtins.so."))
        for name in names:
            ctypes.CDLL(os.path.join(folder, name), mode=ctypes.RTLD_GLOBAL)
        self._evidence["preloaded"] = names
        return bool(names)

    def _log(self, program: ctypes.c_void_p) -> str:
        size = ctypes.c_size_t()
        if self._library.call("nvrtcGetProgramLogSize", program, ctypes.byref(size)):
            return ""
        log = ctypes.create_string_buffer(max(1, size.value))
        self._library.call("nvrtcGetProgramLog", program, log)
        return log.value.decode("utf-8", "replace").strip()[-600:]


def check_nvcc(toolkit: str, uuid: str, numbers: Numbers, evidence: dict[str, Any]) -> None:
    """Compile a file by this toolkit's nvcc for the GPU's own architecture and as PTX, run both; see ``guarded``."""
    with Session(uuid) as session:
        major, minor = session.capability
        driver_cuda, driver = session.identity["cuda"], session.driver
        nvcc = os.path.join(toolkit, "bin", "nvcc")
        told = run_program([nvcc, "--version"], 10)
        found = re.search(r"V(\d+)\.(\d+)\.(\d+)", told["stdout"])
        if found is None:
            raise LibraryError("nvcc --version: %s" % _words(told), "LIB_LOAD")
        evidence.update(path=os.path.realpath(nvcc), version=[int(n) for n in found.groups()],
                        arch="sm_%d%d" % (major, minor), driver_cuda=driver_cuda, host_compiler=_host_compiler())
        if evidence["host_compiler"] is None:
            raise SkipError("nvcc needs a host compiler: no %s on PATH" % " or ".join(_host_compilers()))
        with tempfile.TemporaryDirectory(prefix="planner-nvcc-") as folder:
            for name, arch in (("cubin", "sm_%d%d" % (major, minor)), ("ptx", "compute_%d%d" % (major, minor)),
                               ("other", _other(major, []) or "")):
                image, words = _nvcc(nvcc, folder, name, arch, numbers)
                if name == "other" and image is None:
                    continue
                evidence[name] = {"arch": arch}
                if image is None:
                    evidence[name]["not_made"] = words
                else:
                    attempt(evidence, name, driver, image)


def _nvcc(nvcc: str, folder: str, name: str, arch: str, numbers: Numbers) -> tuple[bytes | None, str]:
    """Return (image, "") or (None, why it makes none)."""
    source, target = os.path.join(folder, name + ".cu"), os.path.join(folder, name + ".out")
    with open(source, "w") as stream:
        stream.write(numbers.kernel(name))
    kind = "-ptx" if name == "ptx" else "-cubin"
    answer = run_program([nvcc, kind, "-arch=" + arch, "-o", target, source], NVCC_S / 3, {"TMPDIR": folder}, folder)
    if answer["rc"] == 0:
        with open(target, "rb") as made:
            return made.read() + b"\0", ""
    words = _words(answer)
    if name == "other" or re.search(r"Unsupported gpu architecture|not defined for option", words):
        return None, words
    raise LibraryError("nvcc: %s" % words, "GATE_TIMEOUT" if answer.get("error") == "timeout" else "LIB_CALL")


def _words(answer: dict[str, Any]) -> str:
    return str(answer.get("error") or (answer["stderr"] or answer["stdout"]).strip()[-600:]
               or "it ended with %s" % answer["rc"])


def _host_compilers() -> list[str]:
    return [name for name in (os.environ.get("NVCC_CCBIN"), "g++", "gcc", "c++") if name]


def _host_compiler() -> str | None:
    return next((path for path in map(shutil.which, _host_compilers()) if path), None)
