"""Proves that the software of a node reaches its GPUs: libraries, compilers, frameworks, containers.

It observes; ``planner.gates.software`` judges. Each subject of a check gets a child of its own, one after the other:
nothing that hangs, crashes or loads a wrong library touches the next one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Callable

from . import software_containers as containers
from .children import bounded
from .software_compile import check_nvcc, check_nvrtc
from .software_find import FRAMEWORKS, Found, find
from .software_frameworks import check_framework
from .software_kit import Numbers, guarded
from .software_libraries import (
    by_loader,
    check_cublas,
    check_cudart,
    check_cudnn,
    check_cufft,
    version_only,
)
from .targets import is_mig, targets

# Seconds that one subject may take; the first use of a GPU after a boot takes many of them.
LIMITS_S = {"cudart": 20.0, "nvrtc": 30.0, "nvcc": 75.0, "cublas": 30.0, "cublaslt": 15.0, "cufft": 30.0, "cudnn": 30.0,
            "curand": 15.0, "cusolver": 15.0, "cusparse": 15.0, "npp": 15.0, "nvjpeg": 15.0, "nvjitlink": 15.0,
            "tensorrt": 20.0, "torch": 90.0, "tensorflow": 90.0, "jax": 90.0, "onnxruntime": 90.0, "cdi": 10.0,
            "container": 90.0}
CHECKS = tuple(LIMITS_S)
WORKING = {"cublas": check_cublas, "cufft": check_cufft, "cudnn": check_cudnn}
TOTAL_S = 400.0             # for all checks together
LOADER_S, FIND_S = 20.0, 60.0
_NO_GPU = "no GPU here that nobody else uses"


class _Run:
    """One run over all checks."""

    def __init__(self, request: dict[str, Any], gpus: list[Any]) -> None:
        software = request.get("software")
        self.wanted: dict[str, Any] = software if isinstance(software, dict) else {}
        self.nonce, self.host = str(request.get("nonce", "")), str(request.get("host", ""))
        free = [uuid for uuid in map(_free, gpus) if uuid]
        # A process sees one MIG device: where there is no whole GPU the first one speaks for all.
        self.uuids = [uuid for uuid in free if not is_mig(uuid)] or free[:1]
        self.hidden = len(free) < len(gpus)
        self.answers: list[dict[str, Any]] = []
        self.deadline = time.monotonic() + float(self.wanted.get("seconds") or TOTAL_S)
        self.hung: str | None = None

    def numbers(self, check: str, subject: str) -> Numbers:
        return Numbers(self.nonce, self.host, check, subject)

    def skip(self, check: str, subject: str, reason: str, code: str = "PART_MISSING",
             extra: dict[str, Any] | None = None) -> None:
        self.answers.append({"check": check, "subject": subject, "status": "skip", "reason": reason, "code": code,
                             "evidence": extra or {}, "seconds": 0.0})

    def add(self, check: str, subject: str, act: Callable[[dict[str, Any]], None], needs_gpu: bool = True,
            extra: dict[str, Any] | None = None) -> None:
        """Run one subject in a child and keep its answer."""
        if self.hung:
            self.skip(check, subject, "not tried: %s hangs" % self.hung, "GATE_HUNG_D", extra)
            return
        if needs_gpu and not self.uuids:
            self.skip(check, subject, _NO_GPU, "ENV_FOREIGN_PROCESS" if self.hidden else "PART_MISSING", extra)
            return
        started = time.monotonic()
        limit_s = min(LIMITS_S[check], self.deadline - started)
        answer: dict[str, Any] = {"status": "timeout", "code": "GATE_TIMEOUT", "evidence": {},
                                  "reason": "not begun: the time for all checks is used up"}
        if limit_s > 0:
            value, reason = bounded(guarded(act), limit_s, None)
            answer = value if reason is None else _ended(reason, limit_s)
        if answer["code"] in ("GATE_TIMEOUT", "GATE_HUNG_D"):
            answer["status"] = "hung" if answer["code"] == "GATE_HUNG_D" else "timeout"
        if answer["status"] == "skip":
            answer["code"] = "PART_MISSING"
        if answer["status"] == "hung":
            self.hung = "%s of %s" % (check, subject)
        answer["evidence"].update(extra or {})
        self.answers.append({"check": check, "subject": subject, **answer,
                             "seconds": round(time.monotonic() - started, 3)})


def _ended(reason: str, limit_s: float) -> dict[str, Any]:
    if reason.startswith("hung"):
        return {"status": "hung", "code": "GATE_HUNG_D", "reason": reason, "evidence": {}}
    if reason == "timeout":
        return {"status": "timeout", "code": "GATE_TIMEOUT", "reason": "no answer after %g s" % limit_s, "evidence": {}}
    return {"status": "error", "code": "GATE_CRASHED", "reason": "its process was %s" % reason
            if reason.startswith("killed") else reason, "evidence": {}}


def _free(gpu: Any) -> str | None:
    """Return the UUID of a GPU or MIG device if a kernel may start on it."""
    if not isinstance(gpu, dict) or any(gpu.get(key) for key in ("error", "busy", "unsuited")):
        return None
    if gpu.get("mig") is True or any(isinstance(process, int) for process in gpu.get("processes") or ()):
        return None
    uuid = gpu.get("uuid") or gpu.get("nvml_uuid")
    return uuid if isinstance(uuid, str) and uuid else None


def check_software(request: dict[str, Any], gpus: list[Any]) -> list[dict[str, Any]]:
    """Return one answer for each subject of each check, ``skip`` with the reason where there is none.

    Args:
        request: ``nonce``, ``host`` and ``software`` (``roots``, ``pythons``, ``image``, ``seconds``).
        gpus: As NVML or the gate lists them; those in error or in use are left alone. MIG devices, of which a process
            sees one, are used where there is no whole GPU.

    Returns:
        {check, subject, status (ok | skip | error | timeout | hung), reason, code (number of a CUDA error, a word, or
        None), evidence, seconds} each, in a fixed order. Never raises because something is missing.
    """
    run = _Run(request, gpus)
    found, reason = bounded(lambda: vars(find(run.wanted)), FIND_S, None)
    there = Found()
    if reason is None:
        vars(there).update(found)
    else:
        run.answers.append({"check": "find", "subject": run.host, "seconds": FIND_S, **_ended(reason, FIND_S)})
        run.hung = "the search for software" if reason.startswith("hung") else None
    _libraries(run, there)
    _compilers(run, there)
    _frameworks(run, there)
    _containers(run)
    order = {check: place for place, check in enumerate(CHECKS)}
    return sorted(run.answers, key=lambda a: order.get(a["check"], -1))


def _libraries(run: _Run, found: Found) -> None:
    loaded = _loader(run, found)
    for check, files in found.libraries.items():
        if not files:
            run.skip(check, run.host, "no such library was found")
        for path, _ in files:
            name = os.path.basename(path)
            extra: dict[str, Any] = {"by_loader": loaded.get(name), "search_path": found.search_path}
            if check in found.left_out:
                extra["left_out"] = found.left_out[check]
            if check == "nvrtc":
                run.add(check, path, lambda e, p=path: check_nvrtc(  # type: ignore[misc]
                    p, run.uuids[0], run.numbers("nvrtc", p), e), extra=extra)
            elif check == "cudart":
                run.add(check, path, lambda e, p=path: check_cudart(  # type: ignore[misc]
                    p, run.uuids, run.numbers("cudart", p), e), extra=extra)
            elif check in WORKING:
                run.add(check, path, lambda e, p=path, c=check: WORKING[c](  # type: ignore[misc]
                    p, run.uuids[0], run.numbers(c, p), e), extra=extra)
            else:
                run.add(check, path, lambda e, p=path, c=check: version_only(p, c, e),  # type: ignore[misc]
                        needs_gpu=False, extra=extra)


def _loader(run: _Run, found: Found) -> dict[str, Any]:
    """Return what the loader takes for each name; one that crashes its child is asked for alone."""
    wanted = {os.path.basename(path): check for check, files in found.libraries.items() for path, _ in files}
    if run.hung or not wanted:
        return {}
    value, reason = bounded(lambda: by_loader(wanted), LOADER_S, {})
    seen: dict[str, Any] = dict(value)
    for name, check in sorted(wanted.items()):
        if reason is not None:
            one, alone = bounded(lambda n=name, c=check: by_loader({n: c}), LOADER_S / 4, {})  # type: ignore[misc]
            seen[name] = {"error": "what the loader takes: %s" % alone} if alone else one[name]
        # Which folder of LD_LIBRARY_PATH has the name first, if one has it.
        seen[name]["folder"] = next((f for f in found.search_path if os.path.exists(os.path.join(f, name))), None)
    return seen


def _compilers(run: _Run, found: Found) -> None:
    if not found.toolkits:
        run.skip("nvcc", run.host, "no toolkit with nvcc was found")
    for toolkit in found.toolkits:
        run.add("nvcc", toolkit, lambda e, t=toolkit: check_nvcc(  # type: ignore[misc]
            t, run.uuids[0], run.numbers("nvcc", t), e))


def _frameworks(run: _Run, found: Found) -> None:
    for name in FRAMEWORKS:
        having = [i for i in found.interpreters if name in i["frameworks"]]
        broken = [i for i in found.interpreters if i["error"]]
        for interpreter in broken:
            run.skip(name, interpreter["path"], "the interpreter does not answer: %s" % interpreter["error"])
        if not having and not broken:
            where = ", ".join(i["path"] for i in found.interpreters) or "python3 on PATH, and no other was named"
            run.skip(name, run.host, "not installed in %s" % where)
        for interpreter in having:
            path = interpreter["path"]
            numbers = run.numbers(name, path)
            run.add(name, path, lambda e, n=name, p=path, x=numbers: check_framework(  # type: ignore[misc]
                n, p, run.uuids, x.prefix, LIMITS_S[n] - 5, e),
                extra={"asked_for": interpreter["asked"], "found_version": interpreter["frameworks"][name]})


def _containers(run: _Run) -> None:
    files = containers.cdi_files()
    if not files:
        run.skip("cdi", run.host, "no CDI file in %s" % ", ".join(containers.CDI_FOLDERS))
    for path in files:
        run.add("cdi", path, lambda e, p=path: containers.check_cdi(p, e), needs_gpu=False)  # type: ignore[misc]
    run.add("container", "running containers", containers.check_running, needs_gpu=False)
    image, have = run.wanted.get("image"), containers.runtimes()
    if not have:
        run.skip("container", run.host, "no container runtime on PATH")
    elif not isinstance(image, str) or not image:
        run.skip("container", run.host, "%s is here, no image was named" % ", ".join(have))
    else:
        with_image = [name for name in have if not run.hung and containers.image_is_there(name, image)]
        if not with_image:
            run.skip("container", run.host, "no image %s on this node for %s; none is pulled"
                     % (image, ", ".join(have)))
        for name in with_image:
            run.add("container", name, lambda e, n=name: containers.check_container(  # type: ignore[misc]
                n, image, run.numbers("container", n), run.host, 35.0, e))


def main() -> int:
    """Run all checks on this machine's GPUs and print the answers as JSON."""
    from .gate import completed
    from .scratch import scratch
    from .state import read_state

    request = completed(json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    nvml, reason = bounded(read_state, 60.0, {"gpus": []})
    with scratch():
        answers = check_software(request, targets(nvml["gpus"]))
    sys.stdout.write(json.dumps({"nonce": request["nonce"], "host": request["host"], "nvml": nvml, "nvml_error": reason,
                                 "software": answers}, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
