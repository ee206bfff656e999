"""One node's part in an all-reduce over several nodes: ``probe nccl --request JSON`` on each of them, side by side.

The first makes the id that all others need, hands it out at once and goes on: its socket lives as long as it does. Work
is done in a child that is killed when the time is over; a child that cannot be killed is abandoned and called hung.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import ctypes
import json
import os
import platform
import time
from typing import Any

from .children import bounded
from .collective import Rank, together
from .measure import Nonce
from .nccl import ID_BYTES, Log, Nccl, NcclError, UniqueId, find_libraries

SCHEMA = "planner.nccl/1"
MAKE = "make"
LABEL = "nccl"              # enters the seeds: the same on every node
SAMPLES = 9
NVML_SECONDS, VERSION_SECONDS = 60.0, 30.0
BYTES = (8, 64 << 20, 4 << 30)
BYTES_MOST = (1 << 31) * 2


class RequestError(Exception):
    """The request cannot be carried out."""


def run_rank(request: dict[str, Any]) -> dict[str, Any]:
    """Take part and return ``planner.nccl/1``; with ``"id": "make"`` the id goes out before.

    Args:
        request: ``id`` (base64 of NCCL's 128 bytes, or ``make`` on the first node), ``id_file`` (where ``make`` writes
            it instead of a first line ``{"id": …}`` on standard output; left empty where no id was made), ``rank`` (of
            this process's first GPU), ``local`` (GPUs to drive, 1), ``ranks`` (in all), ``nonce``, ``label`` (of the
            seeds, the same everywhere), ``bytes``, ``samples``, ``seconds``, ``gpus`` (UUIDs, else the first
            ``local``), ``pythons``, ``roots``.

    Returns:
        ``status``: ok (it ran; whether it ran right, the evidence tells), skip, busy, error, timeout or hung, with
        ``reason``; and what ``planner.probe.collective.together`` returns.
    """
    started = time.monotonic()
    answer: dict[str, Any] = {"schema": SCHEMA, "nonce": str(request.get("nonce", "")), "python":
                              platform.python_version(), "host": str(request.get("host", ""))}
    try:
        asked = _asked(request)
        answer.update({key: asked[key] for key in ("rank", "ranks", "local", "label")})
        libraries = find_libraries(asked["pythons"], asked["roots"])
        uuids = _free_gpus(asked["gpus"], asked["local"])
        found = _bounded(asked, uuids, libraries)
    except RequestError as exc:
        found = {"status": str(exc.args[1]) if len(exc.args) > 1 else "error", "reason": str(exc.args[0])}
    handed_out = found.pop("id_out", False)
    if request.get("id") == MAKE and not handed_out:
        _give_up(str(request.get("id_file") or ""))
    answer.update(found, total_s=round(time.monotonic() - started, 4))
    return answer


def _give_up(path: str) -> None:
    """Leave an empty id where others wait for one, so that they need not wait until their time is over."""
    if path:
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def _bounded(asked: dict[str, Any], uuids: list[str], libraries: list[str]) -> dict[str, Any]:
    """Run the child; it alone opens driver and NCCL."""
    if not libraries:
        return {"status": "skip", "reason": "no libnccl.so.2 by ldconfig, in the given interpreters or roots"}
    nccl: dict[str, Any] = {"library": libraries[0]}
    version, reason = bounded(lambda: Nccl(libraries[0]).version(), VERSION_SECONDS, None)
    if reason:
        return {"status": "error", "reason": reason, "nccl": nccl, "nccl_code": None}
    nccl["version"] = version       # known also where the all-reduce does not end
    out = os.dup(1)
    with Log() as log:
        try:
            found, reason = bounded(lambda: _take_part(asked, uuids, libraries[0], out, kept=log), asked["seconds"], {})
        finally:
            os.close(out)
            handed_out = _taken_back(asked["id_file"])
        if reason:
            status = "hung" if reason.startswith("hung") else "timeout" if reason == "timeout" else "error"
            words = "no end after %g s" % asked["seconds"] if status == "timeout" else reason
            return {"status": status, "reason": words, "nccl": nccl, "log": log.read(), "id_out": handed_out}
    status = "error" if "error" in found else "inconclusive" if "short" in found else "ok"
    told = {"reason": found.get("error") or found.get("short")} if status != "ok" else {}
    return dict(found, status=status, libraries=libraries, id_out=handed_out, **told)


def _taken_back(path: str) -> bool:
    """Remove the file with the id, and tell whether there was one."""
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _take_part(asked: dict[str, Any], uuids: list[str], library: str, out: int, driver: Any = None,
               nccl: Any = None, kept: Log | None = None) -> dict[str, Any]:
    """Be the child: join the others, all-reduce every size."""

    def join(nccl: Any, ranks: list[Rank]) -> None:
        unique = UniqueId()
        if asked["id"] == MAKE:
            nccl.call("ncclGetUniqueId", ctypes.byref(unique))
            _hand_out(bytes(unique)[:ID_BYTES], asked["id_file"], out)
        else:
            ctypes.memmove(ctypes.byref(unique), base64.b64decode(asked["id"]), ID_BYTES)
        nccl.call("ncclGroupStart")
        for rank in ranks:
            rank.session.use()
            nccl.call("ncclCommInitRank", ctypes.byref(rank.comm), asked["ranks"], unique, rank.number)
        nccl.call("ncclGroupEnd")

    sizes = {"bytes": asked["bytes"], "samples": asked["samples"]}
    return together(uuids, Nonce(asked["nonce"], asked["label"]), sizes, library, join, asked["rank"], asked["ranks"],
                    driver, nccl, kept)


def _hand_out(unique: bytes, path: str, out: int) -> None:
    """Give the id away before this process waits for the others."""
    text = base64.b64encode(unique).decode("ascii")
    if not path:
        os.write(out, (json.dumps({"id": text}) + "\n").encode())
        return
    fresh = "%s.%d" % (path, os.getpid())
    try:
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.replace(fresh, path)     # a reader sees all of it or nothing
    except OSError as exc:
        raise NcclError("the id cannot be written to %s: %s" % (path, exc), None) from exc


def _asked(request: dict[str, Any]) -> dict[str, Any]:
    """Return the request with what it leaves out. Raises RequestError."""
    asked: dict[str, Any] = {"id_file": str(request.get("id_file") or ""), "label": str(request.get("label", LABEL)),
                             "nonce": str(request.get("nonce", "")), "id": str(request.get("id", ""))}
    for name, least, most, default in (("rank", 0, 65535, None), ("ranks", 1, 65536, None), ("local", 1, 64, 1),
                                       ("samples", 1, 1000, SAMPLES), ("seconds", 1, 3600, 180)):
        value = request.get(name, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
            raise RequestError("%s is %r, must be a number from %d to %d" % (name, value, least, most))
        asked[name] = float(value) if name == "seconds" else int(value)
    for name in ("gpus", "pythons", "roots"):
        value = request.get(name) or []
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise RequestError("%s is no list of texts" % name)
        asked[name] = value
    sizes = request.get("bytes") or list(BYTES)
    if not isinstance(sizes, list) or not all(
            type(each) is int and 4 <= each <= BYTES_MOST and not each % 4 for each in sizes):
        raise RequestError("bytes is no list of multiples of four up to %d" % BYTES_MOST)
    asked["bytes"] = sizes
    if asked["gpus"]:
        asked["local"] = len(asked["gpus"])
    if asked["rank"] + asked["local"] > asked["ranks"]:
        raise RequestError("ranks %d to %d of %d" % (asked["rank"], asked["rank"] + asked["local"] - 1, asked["ranks"]))
    if asked["id"] != MAKE:
        with contextlib.suppress(binascii.Error, ValueError):
            if len(base64.b64decode(asked["id"], validate=True)) == ID_BYTES:
                return asked
        raise RequestError("id is neither %r nor base64 of %d bytes" % (MAKE, ID_BYTES))
    return asked


def _free_gpus(wanted: list[str], count: int) -> list[str]:
    """Return the UUIDs that are wanted, or the first ones. Raises RequestError where NVML lacks one or it is in use."""
    from .state import read_state

    state, reason = bounded(read_state, NVML_SECONDS, {})
    if reason or state.get("error"):
        raise RequestError("NVML: %s" % (reason or state["error"]), "hung" if (reason or "")[:4] == "hung" else "error")
    known = {gpu.get("uuid"): gpu for gpu in state.get("gpus", [])}
    chosen = wanted or [uuid for uuid in known if uuid][:count]
    missing = [uuid for uuid in chosen if uuid not in known]
    if missing or len(chosen) < count:
        raise RequestError("NVML shows %d GPUs, not %s" % (len(known), ", ".join(missing) or "%d" % count))
    for gpu in (known[uuid] for uuid in chosen):
        if gpu.get("error"):
            raise RequestError("NVML: %s" % gpu["error"])
        if gpu.get("processes"):
            raise RequestError("GPU %s is held by processes %s" % (gpu.get("index"), gpu["processes"]), "busy")
        if gpu.get("mig"):
            raise RequestError("GPU %s: MIG is on" % gpu.get("index"), "skip")
    return chosen
