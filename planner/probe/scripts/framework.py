"""Runs in a user's interpreter: multiplies matrices of the run's integers on every GPU that a framework shows.

Argument: JSON with ``framework``, ``prefix`` (of the run's numbers), ``n`` (rows and columns), ``gpus`` (how many there
are). Prints one line: PLANNER and JSON. Every failure is told, none raises.
"""

import hashlib
import importlib
import json
import struct
import sys
import warnings
from typing import Any


def small(prefix: Any, purpose: Any, count: Any) -> Any:
    """Return the run's integers from -8 to 7."""
    found = b""
    while len(found) < count:
        found += hashlib.sha256(("%s:%s:%d" % (prefix, purpose, len(found) // 32)).encode()).digest()
    return [(byte & 15) - 8 for byte in found[:count]]


def digest(values: Any) -> Any:
    """Return the SHA-256 of whole numbers as 32-bit words."""
    if not all(abs(v) < 1 << 31 and v == int(v) for v in values):
        return "inexact"
    return hashlib.sha256(struct.pack("<%di" % len(values), *[int(v) for v in values])).hexdigest()


def rows(values: Any, n: Any) -> Any:
    """Return a list as a list of rows."""
    return [values[i * n:(i + 1) * n] for i in range(n)]


def flat(table: Any) -> Any:
    """Return a list of rows as one list."""
    return [value for row in table for value in row]


def each(seen: Any, count: Any, work: Any) -> Any:
    """Do the work on every device; an error of one is told there."""
    for index in range(count):
        device: Any = {"index": index}
        seen["devices"].append(device)
        try:
            device.update(work(index))
        except Exception as exc:
            device["error"] = "%s: %s" % (type(exc).__name__, str(exc)[-600:])


def use_torch(seen: Any, a: Any, b: Any, n: Any, _gpus: Any) -> Any:
    """PyTorch; see the module."""
    torch = importlib.import_module("torch")
    seen.update(version=torch.__version__, built=torch.version.cuda, hip=getattr(torch.version, "hip", None))
    seen["count"] = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if seen["count"]:
        seen["archs"] = list(torch.cuda.get_arch_list())
        cudnn = torch.backends.cudnn.version()
        seen["cudnn"] = cudnn
    elif seen["built"]:
        try:
            torch.zeros(1).cuda()
        except Exception as exc:
            seen["words"] = str(exc)[-600:]

    def work(index: Any) -> Any:
        device = torch.device("cuda:%d" % index)
        left = torch.tensor(rows(a, n), dtype=torch.float32, device=device)
        right = torch.tensor(rows(b, n), dtype=torch.float32, device=device)
        product = left @ right
        torch.cuda.synchronize(device)
        return {"device": str(product.device), "digest": digest(flat(product.cpu().tolist())),
                "name": torch.cuda.get_device_name(index),
                "capability": list(torch.cuda.get_device_capability(index))}

    each(seen, seen["count"], work)


def use_tensorflow(seen: Any, a: Any, b: Any, n: Any, _gpus: Any) -> Any:
    """TensorFlow; see the module. An operation that no GPU takes is an error, not moved to the CPU."""
    tf = importlib.import_module("tensorflow")
    seen.update(version=tf.__version__, built=tf.sysconfig.get_build_info().get("cuda_version")
                if tf.test.is_built_with_cuda() else None)
    tf.config.set_soft_device_placement(False)
    seen["count"] = len(tf.config.list_physical_devices("GPU"))

    def work(index: Any) -> Any:
        with tf.device("/GPU:%d" % index):
            product = tf.matmul(tf.constant(rows(a, n), tf.float32), tf.constant(rows(b, n), tf.float32))
        return {"device": str(product.device), "digest": digest(flat(product.numpy().tolist()))}

    each(seen, seen["count"], work)


def use_jax(seen: Any, a: Any, b: Any, n: Any, _gpus: Any) -> Any:
    """JAX; see the module."""
    jax = importlib.import_module("jax")
    numpy = importlib.import_module("numpy")
    metadata = importlib.import_module("importlib.metadata")
    jaxlib = importlib.import_module("jaxlib")
    plugins = sorted((d.metadata["Name"] or "") + " " + (d.version or "") for d in metadata.distributions()
                     if (d.metadata["Name"] or "").lower().startswith("jax-cuda"))
    version = str(getattr(jaxlib, "__version__", ""))
    seen.update(version=jax.__version__, built="; ".join(plugins) or (version if "cuda" in version else None))
    devices = []
    try:
        devices = jax.devices("gpu")
    except Exception as exc:
        seen["words"] = str(exc)[-600:]
    seen["count"] = len(devices)
    seen["backend"] = jax.default_backend()

    def work(index: Any) -> Any:
        left, right = (jax.device_put(numpy.array(rows(m, n), numpy.float32), devices[index]) for m in (a, b))
        product = jax.numpy.matmul(left, right, precision="highest")
        where = sorted("%s:%s" % (d.platform, d.id) for d in product.devices())
        return {"device": ",".join(where), "digest": digest(flat(numpy.asarray(product).tolist())),
                "name": devices[index].device_kind}

    each(seen, seen["count"], work)


def use_onnxruntime(seen: Any, a: Any, b: Any, n: Any, gpus: Any) -> Any:
    """ONNX Runtime; see the module. The model is one MatMul, written here byte by byte."""
    ort = importlib.import_module("onnxruntime")
    numpy = importlib.import_module("numpy")
    providers = list(ort.get_available_providers())
    seen.update(version=ort.__version__, providers=providers, count=0,
                built="CUDAExecutionProvider" if "CUDAExecutionProvider" in providers else None)

    def work(index: Any) -> Any:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        session = ort.InferenceSession(model(n), options, providers=[("CUDAExecutionProvider", {"device_id": index})])
        product = session.run(None, {"a": numpy.array(rows(a, n), numpy.float32),
                                     "b": numpy.array(rows(b, n), numpy.float32)})[0]
        first = session.get_providers()[0]
        seen["count"] += first == "CUDAExecutionProvider"
        return {"device": "%s:%d" % (first, index), "digest": digest(flat(product.tolist()))}

    each(seen, gpus if seen["built"] else 0, work)


def model(n: Any) -> Any:
    """Return an ONNX model (protocol buffers) that multiplies two matrices ``a`` and ``b`` to ``c``."""
    def varint(value: Any) -> Any:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    def number(field: Any, value: Any) -> Any:
        return varint(field << 3) + varint(value)

    def text(field: Any, value: Any) -> Any:
        data = value if isinstance(value, bytes) else value.encode()
        return varint(field << 3 | 2) + varint(len(data)) + data

    def matrix(name: Any) -> Any:
        shape = text(1, number(1, n)) * 2
        return text(1, name) + text(2, text(1, number(1, 1) + text(2, shape)))

    node = text(1, "a") + text(1, "b") + text(2, "c") + text(4, "MatMul")
    graph = text(1, node) + text(2, "planner") + text(11, matrix("a")) + text(11, matrix("b")) + text(12, matrix("c"))
    return number(1, 7) + text(7, graph) + text(8, text(1, "") + number(2, 13))


def main(request: Any) -> Any:
    """Return what was seen."""
    n, prefix = request["n"], request["prefix"]
    a, b = small(prefix, "a", n * n), small(prefix, "b", n * n)
    seen: Any = {"devices": [], "count": None}
    work = {"torch": use_torch, "tensorflow": use_tensorflow, "jax": use_jax, "onnxruntime": use_onnxruntime}
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            work[request["framework"]](seen, a, b, n, request["gpus"])
        except Exception as exc:
            seen["error"] = "%s: %s" % (type(exc).__name__, str(exc)[-1200:])
            seen["import_failed"] = isinstance(exc, (ImportError, OSError))
    seen["warnings"] = sorted({str(note.message)[:300] for note in noted})[:10]
    return seen


if __name__ == "__main__":
    print("\nPLANNER " + json.dumps(main(json.loads(sys.argv[1]))))
    sys.stdout.flush()
