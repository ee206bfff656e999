"""The libraries of the node, one function each: load, version, and where their interface allows it exact work.

Each runs in a child of its own. Results are whole numbers, so that they are exact whatever units computed them.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Any, Callable

from .session import Session
from .software_kit import Library, LibraryError, N, Numbers, digest, floats, guarded, pack_words

ROUND_TRIP_BYTES = 256
FFT_POINTS = 1024
IMAGE, FILTER = 8, 3        # pixels along an edge of the convolution's picture and of its kernel
_C2C, _FORWARD = 0x29, -1
_int, _void, _size = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
_ref = ctypes.byref


def check_cudart(path: str, uuids: list[str], numbers: Numbers, evidence: dict[str, Any]) -> None:
    """Count GPUs and carry the run's bytes to the first one, across its memory and back, by this runtime alone."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(uuids)
    library = Library(path)
    evidence["asked"] = uuids
    library.tell(evidence)

    def must(name: str, *arguments: Any) -> None:
        status = library.call(name, *arguments)
        if status:
            function = library.function("cudaGetErrorName")
            function.restype = ctypes.c_char_p
            word = (function(status) or b"?").decode("utf-8", "replace")
            raise LibraryError("%s failed with %d (%s)" % (name, status, word), status)

    for key, name in (("version", "cudaRuntimeGetVersion"), ("driver", "cudaDriverGetVersion"),
                      ("count", "cudaGetDeviceCount")):
        value = _int()
        must(name, _ref(value))
        evidence[key] = value.value
    first, second = _void(), _void()
    data = numbers.data("round trip", ROUND_TRIP_BYTES)
    back = ctypes.create_string_buffer(ROUND_TRIP_BYTES)
    must("cudaMalloc", _ref(first), _size(ROUND_TRIP_BYTES))
    must("cudaMalloc", _ref(second), _size(ROUND_TRIP_BYTES))
    for target, source, way in ((first, ctypes.c_char_p(data), 1), (second, first, 3), (back, second, 2)):
        must("cudaMemcpy", target, source, _size(ROUND_TRIP_BYTES), _int(way))
    evidence["output"] = pack_words(back.raw)
    must("cudaFree", first)
    must("cudaFree", second)
    must("cudaDeviceReset")


def check_cublas(path: str, uuid: str, numbers: Numbers, evidence: dict[str, Any]) -> None:
    """Multiply two matrices of small integers."""
    with Session(uuid) as session:
        library = Library(path)
        library.tell(evidence)
        handle, version = _void(), _int()
        library.must("cublasCreate_v2", _ref(handle))
        library.must("cublasGetVersion_v2", handle, _ref(version))
        evidence.update(version=_VERSIONS["cublas"](library), told=version.value)
        with session.memory(4 * N * N) as a, session.memory(4 * N * N) as b, session.memory(4 * N * N) as c:
            session.upload(a, floats(numbers.small("a", N * N)))
            session.upload(b, floats(numbers.small("b", N * N)))
            session.set_words(c, 0x7FC00000, N * N)     # not a number, wherever nobody writes
            one, zero = ctypes.c_float(1), ctypes.c_float(0)
            size = _int(N)
            library.must("cublasSgemm_v2", handle, _int(0), _int(0), size, size, size, _ref(one), a, size, b, size,
                         _ref(zero), c, size)
            session.synchronize()
            found = struct.unpack("<%df" % (N * N), session.download(c, 4 * N * N))
        evidence["digest"] = digest(found)
        library.must("cublasDestroy_v2", handle)


def check_cufft(path: str, uuid: str, numbers: Numbers, evidence: dict[str, Any]) -> None:
    """Transform an impulse: every point of the result is its height."""
    with Session(uuid) as session:
        library = Library(path)
        version, plan = _int(), _int()
        library.must("cufftGetVersion", _ref(version))
        library.tell(evidence)
        evidence["version"] = version.value
        height = numbers.data("height", 1)[0] + 1
        with session.memory(8 * FFT_POINTS) as source, session.memory(8 * FFT_POINTS) as target:
            session.upload(source, floats([height] + [0] * (2 * FFT_POINTS - 1)))
            session.set_words(target, 0x7FC00000, 2 * FFT_POINTS)
            library.must("cufftPlan1d", _ref(plan), _int(FFT_POINTS), _int(_C2C), _int(1))
            library.must("cufftExecC2C", plan, source, target, _int(_FORWARD))
            session.synchronize()
            found = struct.unpack("<%df" % (2 * FFT_POINTS), session.download(target, 8 * FFT_POINTS))
        evidence["digest"] = digest(found)
        library.must("cufftDestroy", plan)


def check_cudnn(path: str, uuid: str, numbers: Numbers, evidence: dict[str, Any]) -> None:
    """Convolve a picture with a kernel, no padding; where this version has no such call, add two pictures."""
    with Session(uuid) as session:
        library = Library(path)
        function = library.function("cudnnGetVersion")
        function.restype = _size
        library.tell(evidence)
        evidence["version"] = function()
        handle = _void()
        library.must("cudnnCreate", _ref(handle))
        out = IMAGE - FILTER + 1
        with session.memory(4 * IMAGE ** 2) as x, session.memory(4 * FILTER ** 2) as w, \
                session.memory(4 * IMAGE ** 2) as y:
            session.upload(x, floats(numbers.small("x", IMAGE ** 2)))
            session.upload(w, floats(numbers.small("w", FILTER ** 2)))
            try:
                session.set_words(y, 0x7FC00000, out ** 2)
                _convolve(library, handle, x, w, y, out)
                evidence["work"], count = "convolution", out ** 2
            except LibraryError as exc:
                evidence["convolution"] = str(exc)
                session.upload(y, floats(numbers.small("y", IMAGE ** 2)))
                _add(library, handle, x, y)
                evidence["work"], count = "sum", IMAGE ** 2
            session.synchronize()
            evidence["digest"] = digest(struct.unpack("<%df" % count, session.download(y, 4 * count)))
        library.must("cudnnDestroy", handle)


def _tensor(library: Library, edge: int) -> ctypes.c_void_p:
    described = _void()
    library.must("cudnnCreateTensorDescriptor", _ref(described))
    # 0, 0: rows of pixels, 32-bit floats; then pictures, channels, height, width
    library.must("cudnnSetTensor4dDescriptor", described, _int(0), _int(0), _int(1), _int(1), _int(edge), _int(edge))
    return described


def _convolve(library: Library, handle: ctypes.c_void_p, x: Any, w: Any, y: Any, edge: int) -> None:
    source, target = _tensor(library, IMAGE), _tensor(library, edge)
    kernel, way = _void(), _void()
    library.must("cudnnCreateFilterDescriptor", _ref(kernel))
    library.must("cudnnSetFilter4dDescriptor", kernel, _int(0), _int(0), _int(1), _int(1), _int(FILTER), _int(FILTER))
    library.must("cudnnCreateConvolutionDescriptor", _ref(way))
    # no padding, steps of one, no dilation; 1: correlation, which does not turn the kernel round; 0: 32-bit floats
    library.must("cudnnSetConvolution2dDescriptor", way, *(_int(n) for n in (0, 0, 1, 1, 1, 1, 1, 0)))
    one, zero = ctypes.c_float(1), ctypes.c_float(0)
    library.must("cudnnConvolutionForward", handle, _ref(one), source, x, kernel, w, way, _int(0), None, _size(0),
                 _ref(zero), target, y)


def _add(library: Library, handle: ctypes.c_void_p, x: Any, y: Any) -> None:
    one, both = ctypes.c_float(1), _tensor(library, IMAGE)
    library.must("cudnnAddTensor", handle, _ref(one), both, x, _ref(one), both, y)


def version_only(path: str, check: str, evidence: dict[str, Any]) -> None:
    """Load a library and ask its version; no GPU is touched."""
    library = Library(path)
    library.tell(evidence)
    evidence["version"] = _VERSIONS[check](library)


def _by_pointer(name: str) -> Callable[[Library], Any]:
    def read(library: Library) -> Any:
        value = _int()
        library.must(name, _ref(value))
        return value.value

    return read


def _by_value(name: str, kind: Any = _size) -> Callable[[Library], Any]:
    def read(library: Library) -> Any:
        function = library.function(name)
        function.restype = kind
        return int(function())

    return read


def _by_property(name: str) -> Callable[[Library], Any]:
    def read(library: Library) -> Any:
        found = []
        for part in range(3):       # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
            value = _int()
            library.must(name, _int(part), _ref(value))
            found.append(value.value)
        return found

    return read


def _npp(library: Library) -> Any:
    function = library.function("nppGetLibVersion")
    function.restype = ctypes.POINTER(_int * 3)
    told = function()
    return list(told.contents) if told else None


def _nvjitlink(library: Library) -> Any:
    major, minor = ctypes.c_uint(), ctypes.c_uint()
    library.must("nvJitLinkVersion", _ref(major), _ref(minor))
    return [major.value, minor.value]


def _nvrtc(library: Library) -> Any:
    major, minor = _int(), _int()
    library.must("nvrtcVersion", _ref(major), _ref(minor))
    return [major.value, minor.value]


# How each library tells its version without a GPU.
_VERSIONS: dict[str, Callable[[Library], Any]] = {
    "cudart": _by_pointer("cudaRuntimeGetVersion"), "nvrtc": _nvrtc, "cublas": _by_property("cublasGetProperty"),
    "cublaslt": _by_value("cublasLtGetVersion"), "cufft": _by_pointer("cufftGetVersion"),
    "cudnn": _by_value("cudnnGetVersion"), "curand": _by_pointer("curandGetVersion"),
    "cusolver": _by_pointer("cusolverGetVersion"), "cusparse": _by_property("cusparseGetProperty"), "npp": _npp,
    "nvjpeg": _by_property("nvjpegGetProperty"), "nvjitlink": _nvjitlink,
    "tensorrt": _by_value("getInferLibVersion", _int),
}


def by_loader(wanted: dict[str, str]) -> dict[str, Any]:
    """Return for each file name what the loader takes for it: real path and version, or its words.

    Args:
        wanted: File name (``libcudart.so.12``) -> check.
    """
    seen: dict[str, Any] = {}
    for name, check in sorted(wanted.items()):
        told = guarded(lambda e, n=name, c=check: version_only(n, c, e))()  # type: ignore[misc]
        seen[name] = dict(told["evidence"], **({"error": told["reason"]} if told["reason"] else {}))
    return seen
