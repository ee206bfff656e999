"""The node side of the gate: what runs here, and measured work on every GPU. It observes; the controller judges."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import socket
import time
from typing import Any, Callable

from .children import bounded, run_all
from .collective import run_collective
from .collective import sizes_for as collective_sizes
from .cuda import CudaError, LoadError
from .host import pci_gpus, read_host, read_versions
from .kernel_log import read_kernel_log
from .kernels import PROCESSES, pack_digest
from .load import run_load
from .measure import measure_all
from .nccl import find_libraries
from .observe_run import read_text
from .pairs import measure_pairs
from .pairs import sizes_for as pairs_sizes
from .scratch import scratch
from .software import check_software
from .state import read_state
from .targets import NO_LOAD, NO_PEERS, targets
from .watch import Watcher

SCHEMA = "planner.gate/2"
PROFILES = ("quick", "standard", "deep")
HOST_S, NVML_S = 60.0, 60.0
PAIRS_S, COLLECTIVE_S = 90.0, 120.0
KERNEL_S = {"quick": 120.0, "standard": 180.0, "deep": 300.0}   # the first context after a boot takes many seconds
CHILDREN_MORE, MORE_S = 8, 4.0      # the driver makes contexts one after the other: more time where there are more
BUSY_WAIT_S = 300.0         # for another gate on this node
LOAD_S, LOAD_MORE_S = 300.0, 120.0
LOCK = "\0planner-gate"     # a socket without a file: it is free again as soon as its process is gone


def run_gate(request: dict[str, Any]) -> dict[str, Any]:
    """Return the gate report ``planner.gate/2``.

    Args:
        request: ``profile`` (quick | standard | deep), ``nonce`` (fresh for each run), ``host`` (name that enters the
            seeds); optional ``expect``, ``software``, ``load_seconds``, ``busy_wait_seconds``, ``attempt``, ``without``
            (rungs that are not wanted: pairs, collective, load, software).

    Returns:
        Raw observations: host, NVML before and after, what each GPU computed and how fast, software. Never raises
        because something is missing or hangs.
    """
    request = completed(request)
    with contextlib.suppress(Exception):    # read once for all children; the driver's libraries are theirs alone
        import pynvml  # noqa: F401
    report: dict[str, Any] = {key: request[key] for key in ("profile", "nonce", "host", "attempt")}
    started = time.time()
    report["begun_s"] = round(time.monotonic(), 4)
    report.update(
        schema=SCHEMA, pack=pack_digest(), kernel=platform.release(), python=platform.python_version(),
        boot_id=(read_text("/proc/sys/kernel/random/boot_id") or "").strip(),
        started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)))
    lock = _lock(float(request.get("busy_wait_seconds", BUSY_WAIT_S)))
    if lock is None:
        report["busy"] = "another gate runs on this node"
    else:
        with lock, scratch():
            _observe(report, request)
    report["seconds"] = round(time.time() - started, 3)
    return report


def completed(request: dict[str, Any]) -> dict[str, Any]:
    """Return a request with what is missing when somebody runs the probe by hand.

    Raises:
        SystemExit: The profile is unknown.
    """
    profile = str(request.get("profile", "quick"))
    if profile not in PROFILES:
        raise SystemExit("probe: unknown profile %r; known: %s" % (profile, ", ".join(PROFILES)))
    return dict(request, profile=profile, nonce=str(request.get("nonce") or secrets.token_hex(16)),
                host=str(request.get("host") or platform.node() or "localhost"),
                attempt=int(request.get("attempt") or 1))


def _lock(wait_s: float) -> socket.socket | None:
    """Return the node's lock once nobody else holds it; None when somebody does for too long."""
    deadline = time.monotonic() + wait_s
    while True:
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(LOCK)
            return lock
        except OSError:
            lock.close()
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.1)


def _observe(report: dict[str, Any], request: dict[str, Any]) -> None:
    """Go up the ladder; a rung after one that hangs is not tried."""
    profile = request["profile"]
    own = os.getpid()       # the reader runs in a child, whose relatives are no strangers either
    host, reason = bounded(lambda: read_host(dict(request, own=own)), HOST_S, {})
    report["host_state"] = dict(host, **({"error": reason} if reason else {}))
    report["nvml"], hung = _nvml()
    report["pci_gpus"] = pci_gpus()
    gpus = targets(report["nvml"]["gpus"])
    report["gpus"] = gpus
    ready = [gpu for gpu in gpus if not set(gpu) & {"error", "busy", "unsuited"}]
    if hung:
        for gpu in ready:
            gpu["error"] = "not tried: the driver hangs"
        ready = []
    report["conditions"] = {}
    if ready:
        with Watcher() as watcher:
            for _ in range(PROCESSES[profile]):
                hung = _measure(ready, request) or hung
                ready = [gpu for gpu in ready if "error" not in gpu]
            if not hung:
                _beyond_one_gpu(report, ready, request)
        report["conditions"] = dict(watcher.result, **{
            gpu["nvml_uuid"]: watcher.result[gpu["parent"]["uuid"]] for gpu in gpus     # sisters share their GPU's
            if gpu.get("parent", {}).get("uuid") in watcher.result})
    if profile != "quick" and not hung:
        _software(report, request)
    if not hung:        # what the kernel had to say while the kernels ran
        since_s = report["host_state"].get("read_at_s")
        report["kernel_log_after"], _ = bounded(lambda: read_kernel_log(since_s), HOST_S, {})
    report["nvml_after"], _ = _nvml() if not hung else ({"gpus": [], "error": "not tried: the driver hangs"}, True)
    report["versions"] = read_versions(report["nvml"], gpus)


def _nvml() -> tuple[dict[str, Any], bool]:
    """Return what NVML says, and whether it did not answer at all."""
    state, reason = bounded(read_state, NVML_S, {"gpus": []})
    if reason:
        state["error"] = "it did not answer: %s" % reason
    return state, bool(reason)


def _measure(ready: list[dict[str, Any]], request: dict[str, Any]) -> bool:
    """Measure all GPUs and MIG devices at the same time, a fresh process each; return whether one hangs."""
    nonce, host, profile = request["nonce"], request["host"], request["profile"]

    def on(gpu: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        def child() -> dict[str, Any]:
            try:
                return measure_all(gpu["nvml_uuid"], nonce, "%s:%s" % (host, gpu["index"]), profile,
                                   sharers=gpu.get("mig", {}).get("sharers", 1))
            except CudaError as exc:
                ended = "not loaded" if isinstance(exc, LoadError) else ""
                return {"error": str(exc), "code": exc.code, "ended": ended}

        return child

    hung = False
    limit_s = float(request.get("kernel_seconds") or KERNEL_S[profile] + MORE_S * max(0, len(ready) - CHILDREN_MORE))
    for index, (value, reason) in run_all({gpu["index"]: on(gpu) for gpu in ready}, limit_s).items():
        gpu = next(gpu for gpu in ready if gpu["index"] == index)
        if reason:
            words = "no result after %g s" % limit_s if reason == "timeout" else reason
            gpu.update(error="the kernels: %s" % words, ended=reason.split(":")[0])
            hung = hung or reason.startswith("hung")
        elif "error" in value:
            gpu.update(error=value["error"], code=value["code"], ended=value["ended"])
        else:
            gpu.setdefault("processes", []).append(value)
            gpu["uuid"] = value["uuid"]
    return hung


def _beyond_one_gpu(report: dict[str, Any], ready: list[dict[str, Any]], request: dict[str, Any]) -> None:
    """Copy between the whole GPUs, sum over all of them, and keep them under load, as the profile asks."""
    profile, nonce, host = request["profile"], request["nonce"], request["host"]
    uuids = [gpu["nvml_uuid"] for gpu in ready if "parent" not in gpu]
    if profile == "quick" or not ready:
        return
    name, without = str(ready[0]["name"]), set(request.get("without") or ())
    if len(uuids) < len(ready) and len(uuids) < 2:
        report.update({part: {"status": "skip", "skip": NO_PEERS} for part in ("pairs", "collective")
                       if part not in without})
    if len(uuids) > 1 and "pairs" not in without:
        report["pairs"] = _in_child(lambda: measure_pairs(uuids, nonce, host, pairs_sizes(profile, name)), PAIRS_S)
    if len(uuids) > 1 and "collective" not in without:
        software = request.get("software") or {}
        libraries, reason = bounded(lambda: find_libraries(list(software.get("pythons") or ()),
                                                           list(software.get("roots") or ())), 60.0, [])
        report["collective"] = {"status": "error", "error": reason} if reason else _in_child(
            lambda: run_collective(uuids, nonce, host, collective_sizes(profile, name), libraries), COLLECTIVE_S)
    if profile == "deep" and "load" not in without:
        _load(report, ready, request)


def _in_child(function: Callable[[], dict[str, Any]], limit_s: float) -> dict[str, Any]:
    value, reason = bounded(function, limit_s, {})
    return dict(value, **({"error": reason, "ended": reason.split(":")[0]} if reason else {}))


def _load(report: dict[str, Any], ready: list[dict[str, Any]], request: dict[str, Any]) -> None:
    """Keep all whole GPUs busy at the same time."""
    seconds = float(request.get("load_seconds") or LOAD_S)
    whole = [gpu for gpu in ready if "parent" not in gpu]

    def on(gpu: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        label = "%s:%s" % (request["host"], gpu["index"])
        return lambda: run_load(gpu["nvml_uuid"], request["nonce"], label, seconds)

    found = run_all({gpu["index"]: on(gpu) for gpu in whole}, seconds + LOAD_MORE_S)
    report["load"] = [dict(value or {}, index=gpu["index"], uuid=gpu["nvml_uuid"],
                           **({"error": reason, "ended": reason.split(":")[0]} if reason else {}))
                      for gpu in whole for value, reason in [found[gpu["index"]]]]
    report["load"] += [{"index": gpu["index"], "uuid": gpu["nvml_uuid"], "skip": NO_LOAD}
                       for gpu in ready if "parent" in gpu]


def _software(report: dict[str, Any], request: dict[str, Any]) -> None:
    """Prove that the software on this node reaches the GPUs."""
    if "software" not in (request.get("without") or ()):
        report["software"] = check_software(request, report["gpus"])


def by_hand(argv: list[str]) -> dict[str, Any]:
    """Return the request that options on a command line make.

    Raises:
        ValueError: An option is unknown or lacks its value.
    """
    request: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        option = rest.pop(0)
        if option not in ("--profile", "--host", "--nonce") or not rest:
            raise ValueError("unexpected argument %r" % option)
        request[option[2:]] = rest.pop(0)
    if request.get("profile", "quick") not in PROFILES:
        raise ValueError("unknown profile %r; known: %s" % (request["profile"], ", ".join(PROFILES)))
    return request

