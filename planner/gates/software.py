"""Judges the software of a node: what libraries, compilers, frameworks and containers computed on its GPUs. Pure.

Nothing that the probe says of itself is believed: each result is computed again from the run's nonce, and a check that
passed before the change and is missing after it failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from .asked import sizes_asked
from .expect import wrong
from .failures import FAILURES, Verdict, code_of
from .software_expect import Numbers, version_key
from .verdicts import GateResult

CHECKS = ("cudart", "nvrtc", "nvcc", "cublas", "cublaslt", "cufft", "cudnn", "curand", "cusolver", "cusparse", "npp",
          "nvjpeg", "nvjitlink", "tensorrt", "torch", "tensorflow", "jax", "onnxruntime", "cdi", "container")
FRAMEWORKS = ("torch", "tensorflow", "jax", "onnxruntime")
# The first number of the file's name is that of the version only in these.
_NUMBERED = {"cudart": lambda v: v[0] // 1000, "cublas": lambda v: v[0], "nvrtc": lambda v: v[0],
             "nvjitlink": lambda v: v[0]}
_ON_GPU = {"torch": r"cuda:\d+$", "tensorflow": r".*GPU:\d+$", "jax": r"(cuda|gpu):\d+$",
           "onnxruntime": r"CUDAExecutionProvider:\d+$"}
_WORDS = (("no kernel image", "NO_KERNEL_IMAGE"), ("unsupported toolchain", "PTX_TOO_NEW"),
          ("driver version is insufficient", "RUNTIME_TOO_NEW"), ("PTX JIT compiler", "JIT_MISSING"),
          ("system not yet initialized", "FABRIC_NOT_READY"),
          ("system has unsupported display driver", "DRV_LIB_MISMATCH"))
_GONE = {"cdi": "CDI_STALE", "container": "CTR_NO_GPU", **dict.fromkeys(FRAMEWORKS, "FW_CPU_FALLBACK")}
_NEVER_OLD = ("RESULT_WRONG", "GATE_HUNG_D")        # whatever was before
Finding = tuple[str, str]       # code, words


def judge_software(report: Mapping[str, Any], request: Mapping[str, Any],
                   before: Mapping[str, Any] | None = None) -> list[GateResult]:
    """Return one answer for each subject of each check, in the order of ``CHECKS``.

    Args:
        report: Of the probe, ``software`` in it; a quick profile has none, which is no finding.
        request: ``nonce``, ``host``; in ``software`` the ``required`` checks, and ``dropped``: what the plan removes
            (beginnings of subjects), so that it may be gone.
        before: The node's own report from before the change.

    Returns:
        Never raises; what cannot be read is ``GATE_BUG``. A failure that the same subject showed before with the same
        code is ``INHERITED``, unless the check is required.
    """
    host = str(request.get("host", ""))
    if "software" not in report and report.get("profile") == "quick":
        return []
    wanted = _object(request.get("software"))
    required = {check for check in _list(wanted.get("required")) if isinstance(check, str)}
    now = _judged(report, str(request.get("nonce", "")), host)
    if now is None and _none_free(report):
        return [GateResult("software", host, "PART_MISSING", ("not tried: no GPU was free and in order",))]
    if now is None:
        return [GateResult("software", host, "GATE_NO_RESULT", ("its part of the report is missing",))]
    old: dict[tuple[str, str], GateResult] = {}
    if isinstance(before, Mapping):
        old = {r.key: r for r in _judged(before, str(before.get("nonce", "")), str(before.get("host", ""))) or ()}
    found = [_against(result, old.get(result.key), required) for result in now]
    found += _gone(found, old, [p for p in _list(wanted.get("dropped")) if isinstance(p, str)])
    found += [GateResult(check, host, "GATE_NO_RESULT", ("asked for, and no answer",))
              for check in CHECKS if check not in {result.gate for result in found}]
    order = {check: place for place, check in enumerate(CHECKS)}
    return sorted(found, key=lambda r: (order.get(r.gate, -1), r.subject, r.code, r.evidence))


def _none_free(report: Mapping[str, Any]) -> bool:
    """Say whether the report has GPUs and none on which a kernel may start; each of them is a finding of its own."""
    gpus = _list(report.get("gpus"))
    return bool(gpus) and all(isinstance(gpu, Mapping) and any(gpu.get(key) for key in ("error", "busy", "unsuited"))
                              for gpu in gpus)


def _judged(report: Mapping[str, Any], nonce: str, host: str) -> list[GateResult] | None:
    """Return what a report says by itself, or None where it has no such part."""
    answers = report.get("software")
    return [_answer(answer, report, nonce, host) for answer in answers] if isinstance(answers, list) else None


def _against(result: GateResult, old: GateResult | None, required: Iterable[str]) -> GateResult:
    """Set an answer against the one from before."""
    known = None if old is None or old.verdict not in (Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.HUNG) \
        else old.verdict in (Verdict.PASS, Verdict.WARN)
    result = replace(result, passed_before=known)
    if result.code == "PART_MISSING" and known:
        words = ("it passed before the change", *result.evidence)
        return replace(result, code=_GONE.get(result.gate, "LIB_LOAD"), evidence=words)
    if result.code == "PART_MISSING" and result.gate in required:
        return replace(result, code="REQUIRED_SKIPPED", evidence=("it is required", *result.evidence))
    if old is not None and result.verdict is Verdict.FAIL and old.code == result.code \
            and result.code not in _NEVER_OLD and result.gate not in required:
        words = (f"{result.code}, as before the change", *result.evidence)
        return replace(result, code="INHERITED", evidence=words)
    return result


def _gone(found: Iterable[GateResult], old: Mapping[tuple[str, str], GateResult],
          dropped: list[str]) -> list[GateResult]:
    """What passed before and has no answer now failed, unless the plan takes it away or an interpreter hangs."""
    have = {result.key for result in found}
    hung = any(result.verdict is Verdict.HUNG for result in found)
    return [GateResult(gate, subject, "PART_MISSING" if hung else _GONE.get(gate, "LIB_LOAD"),
                       ("it passed before the change and is not there now",), passed_before=True)
            for (gate, subject), result in sorted(old.items())
            if (gate, subject) not in have and result.verdict in (Verdict.PASS, Verdict.WARN)
            and gate not in dropped and not subject.startswith(tuple(dropped))]


def _answer(answer: Any, report: Mapping[str, Any], nonce: str, host: str) -> GateResult:
    """Judge one answer by itself."""
    known = isinstance(answer, Mapping) and all(isinstance(answer.get(k), str) for k in ("check", "subject", "status"))
    if not known:
        return GateResult("software", host, "GATE_BUG", ("an answer lacks check, subject or status",))
    check, subject, status = answer["check"], answer["subject"], answer["status"]
    evidence, reason = answer.get("evidence"), str(answer.get("reason") or "no reason was given")
    if check not in CHECKS and check != "find":
        return GateResult("software", host, "GATE_BUG", (f"no such check: {check!r}",))
    if status == "skip":
        code = "ENV_FOREIGN_PROCESS" if answer.get("code") == "ENV_FOREIGN_PROCESS" else "PART_MISSING"
        return GateResult(check, subject, code, (reason,))
    if status in ("timeout", "hung"):
        return GateResult(check, subject, "GATE_TIMEOUT" if status == "timeout" else "GATE_HUNG_D", (reason,))
    if not isinstance(evidence, Mapping) or status not in ("ok", "error"):
        return GateResult(check, subject, "GATE_BUG", (f"status {status!r}, or no evidence",))
    if status == "error":
        return GateResult(check, subject, *_error(check, answer.get("code"), reason, evidence))
    try:
        findings = _prove(check, subject, evidence, Numbers(nonce, host, check, subject), report)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as exc:
        findings = [("GATE_BUG", f"its evidence cannot be read ({type(exc).__name__}: {exc})")]
    if not findings:
        return GateResult(check, subject, "OK")
    code = min((code for code, _ in findings), key=lambda c: _WORST.get(FAILURES[c].verdict, 9))
    return GateResult(check, subject, code, tuple(words for _, words in findings))


_WORST = {Verdict.HUNG: 0, Verdict.FAIL: 1, Verdict.ERROR: 2, Verdict.INCONCLUSIVE: 3, Verdict.SKIP: 4, Verdict.WARN: 5}


def _error(check: str, code: Any, reason: str, evidence: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return (code, words) of an answer that tells an error."""
    words = (reason,)
    if isinstance(code, int) and not isinstance(code, bool):
        if check == "cudart" and code == 35 and evidence.get("driver") == 0:
            return "DRV_NOT_LOADED", (*words, "this runtime finds no driver at all")
        return code_of("cuda", code), words
    if check in FRAMEWORKS and _told_by(reason):
        return _told_by(reason) or "UNKNOWN_CODE", words
    if code is None and "libcuda.so.1 cannot be loaded" in reason:
        return "DRV_NOT_LOADED", words
    # A word of the probe may say that something failed, never that it is well.
    known = isinstance(code, str) and code in FAILURES and FAILURES[code].verdict in (Verdict.FAIL, Verdict.ERROR)
    return str(code) if known else "UNKNOWN_CODE", words


def _told_by(text: str) -> str | None:
    return next((code for words, code in _WORDS if words in text), None)


def _prove(check: str, subject: str, evidence: Mapping[str, Any], numbers: Numbers,
           report: Mapping[str, Any]) -> list[Finding]:
    """Return what is wrong with the evidence of a check that says it went well."""
    if check in FRAMEWORKS:
        return _framework(check, evidence, numbers, report)
    if check == "nvcc":
        return _compiled(evidence, numbers)
    if check == "cdi":
        return _cdi(evidence, report)
    if check == "container":
        return _running(evidence) if subject == "running containers" else _inside(evidence, numbers, report)
    found: list[Finding] = []
    if check == "nvrtc":
        found += _compiled(evidence, numbers)
    elif check == "cudart":
        found += _equal("the bytes that came back", evidence.get("output"), numbers.round_trip())
        found += _count(evidence, report)
    elif check in _DIGESTS:
        found += _equal("its result", evidence.get("digest"), _DIGESTS[check](numbers, evidence))
    return found + _version(check, subject, evidence)


_DIGESTS: Mapping[str, Callable[[Numbers, Mapping[str, Any]], str]] = {
    "cublas": lambda n, _: n.product_by_columns(), "cufft": lambda n, _: n.spectrum(),
    "cudnn": lambda n, e: n.sum_of_pictures() if e.get("work") == "sum" else n.convolution(),
}


def _equal(what: str, found: Any, wanted: str) -> list[Finding]:
    if found == wanted:
        return []
    return [("RESULT_WRONG", f"{what} {'is missing' if found is None else 'differs from arithmetic'}")]


def _asked(evidence: Mapping[str, Any], report: Mapping[str, Any]) -> tuple[int, list[Finding]]:
    """Return how many GPUs had to be seen; each must be one that NVML lists."""
    asked, nvml = evidence.get("asked"), _object(report.get("nvml")).get("gpus")
    listed = {gpu.get("uuid") for gpu in _list(nvml) if isinstance(gpu, Mapping)}
    if not isinstance(asked, list) or not asked or any(uuid not in listed for uuid in map(str, asked)):
        return 0, [("GATE_BUG", "it was not asked for the GPUs that NVML lists")]
    return len(asked), []


def _count(evidence: Mapping[str, Any], report: Mapping[str, Any]) -> list[Finding]:
    wanted, found = _asked(evidence, report)
    if not found and evidence.get("count") != wanted:
        found.append(("FW_GPU_COUNT", f"it sees {evidence.get('count')} GPUs of {wanted}"))
    return found


def _version(check: str, subject: str, evidence: Mapping[str, Any]) -> list[Finding]:
    """The library must tell its version, be what its name says, and not be hidden by an older or foreign copy."""
    own = version_key(evidence.get("version"))
    if own is None:
        return [("LIB_CALL", "it told no version")]
    found: list[Finding] = []
    named = re.search(r"\.so\.(\d+)", subject)
    if named and check in _NUMBERED and _NUMBERED[check](own) != int(named.group(1)):
        found.append(("LIB_VERSION", f"the file is called {subject.rsplit('/', 1)[-1]} and says it is {_shown(own)}"))
    taken = _object(evidence.get("by_loader"))
    if not taken.get("folder") or (taken.get("path") and taken.get("path") == evidence.get("path")):
        return found
    where = f"LD_LIBRARY_PATH puts {taken.get('path') or taken['folder']} before {evidence.get('path')}"
    if taken.get("error"):
        return [*found, ("LIB_LOAD", f"{where}: {taken['error']}")]
    other = version_key(taken.get("version"))
    if other is None or other < own or (check in _NUMBERED and _NUMBERED[check](other) != _NUMBERED[check](own)):
        told = "which tells no version" if other is None else f"which is {_shown(other)}"
        found.append(("LIB_VERSION", f"{where} ({_shown(own)}), {told}"))
    return found


def _shown(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _compiled(evidence: Mapping[str, Any], numbers: Numbers) -> list[Finding]:
    """Machine code and PTX must both have run, each with the run's own constants; another GPU's code must not run."""
    found: list[Finding] = []
    made = 0
    for name, words in (("cubin", "machine code"), ("ptx", "PTX")):
        seen = _object(evidence.get(name))
        what = f"{words} for {seen.get('arch')}"
        if seen.get("error"):
            number = seen.get("error_code")
            code = code_of("cuda", number) if isinstance(number, int) else "UNKNOWN_CODE"
            found.append((code, f"{what}: {seen['error']}"))
        elif seen.get("not_made") and name == "cubin":
            continue        # a toolkit older than the GPU; PTX is its way
        elif seen.get("not_made"):
            found.append(("LIB_CALL", f"{what} was not made: {seen['not_made']}"))
        else:
            found += _equal(f"the result of {what}", seen.get("output"), numbers.kernel_output(name))
            made += 1
    other = _object(evidence.get("other"))
    if other.get("output") == numbers.kernel_output("other"):
        found.append(("GATE_BUG", f"machine code for {other.get('arch')} ran, so the check cannot tell"))
    if not found and not made:
        found.append(("NO_KERNEL_IMAGE", "it makes no code for this GPU"))
    return found


def _framework(check: str, evidence: Mapping[str, Any], numbers: Numbers,
               report: Mapping[str, Any]) -> list[Finding]:
    """Every GPU must have multiplied right, on itself; nothing may have fallen back to the processor."""
    wanted, found = _asked(evidence, report)
    if found:
        return found
    if not evidence.get("built"):
        words = "built for ROCm" if evidence.get("hip") else f"{check} {evidence.get('version')} is built without CUDA"
        return [("FW_CPU_FALLBACK" if evidence.get("asked_for") is True else "PART_MISSING", words)]
    devices, count = evidence.get("devices"), evidence.get("count")
    if not isinstance(devices, list) or not all(isinstance(device, Mapping) for device in devices):
        return [("GATE_BUG", "it lists no devices")]
    told = "; ".join(f"{name}={value!r}" for name, value in sorted(_object(evidence.get("environment")).items()))
    errors = [f"GPU {device.get('index')}: {device['error']}" for device in devices if device.get("error")]
    found += [(_told_by(words) or ("FW_CPU_FALLBACK" if not count else "LIB_CALL"), words) for words in errors]
    if not count or (check == "jax" and evidence.get("backend") == "cpu"):
        seen = str(evidence.get("words") or "it sees no GPU and computes on the processor")
        return [*found, ("FW_CPU_FALLBACK", f"{seen}; {told}" if told else seen)]
    if count != wanted or sorted(str(d.get("index")) for d in devices) != sorted(str(i) for i in range(len(devices))) \
            or len(devices) != wanted:
        found.append(("FW_GPU_COUNT", f"it sees {count} GPUs of {wanted}{'; ' + told if told else ''}"))
    product = numbers.product_by_rows()
    for device in devices:
        if device.get("error"):
            continue
        if not re.match(_ON_GPU[check], str(device.get("device"))):
            found.append(("FW_CPU_FALLBACK", f"GPU {device.get('index')}: the result lies on {device.get('device')}"))
        found += _equal(f"GPU {device.get('index')}: the product", device.get("digest"), product)
    return found


def _cdi(evidence: Mapping[str, Any], report: Mapping[str, Any]) -> list[Finding]:
    """Every path must exist, and carry the loaded driver's version where it carries one."""
    paths, missing = evidence.get("paths"), evidence.get("missing_count")
    if not isinstance(paths, int) or not isinstance(missing, int) or paths <= 0:
        return [("CDI_STALE", "it names no path of the host")]
    found: list[Finding] = []
    if missing:
        named = ", ".join(map(str, _list(evidence.get("missing"))[:3]))
        found.append(("CDI_STALE", f"{missing} of {paths} paths are gone: {named}"))
    loaded = _object(report.get("versions")).get("loaded") or evidence.get("loaded")
    for version, name in sorted(_object(evidence.get("driver_versions")).items()):
        if loaded and version != loaded:
            found.append(("CDI_STALE", f"{name} is of driver {version}, loaded is {loaded}"))
    return found


def _running(evidence: Mapping[str, Any]) -> list[Finding]:
    stale = [each for each in _list(evidence.get("must_restart")) if isinstance(each, Mapping)]
    if not stale and evidence.get("must_restart_count") != 0:
        return [("GATE_BUG", "it does not list them")]
    names = [f"container {each.get('container')}, pid {each.get('pid')} ({each.get('name')}) holds "
             f"{each.get('library')}{' (deleted)' if each.get('deleted') else ''}" for each in stale]
    return [("CTR_NO_GPU", f"must restart: {name}") for name in names]


def _inside(evidence: Mapping[str, Any], numbers: Numbers, report: Mapping[str, Any]) -> list[Finding]:
    """The gate inside a container must have proved every GPU, with a nonce of its own."""
    nonce = numbers.data("container", 16).hex()
    way = _object(evidence["ways"][-1])
    inner = way["report"]
    listed = [g for g in _list(_object(report.get("nvml")).get("gpus")) if isinstance(g, Mapping)]
    if (inner.get("nonce"), inner.get("host")) != (nonce, report.get("host")):
        return [("REPORT_FOREIGN", "the report from inside is of another run")]
    if inner.get("busy"):
        return [("GATE_BUSY", f"inside: {inner['busy']}")]
    if _object(inner.get("nvml")).get("error"):
        return [("CTR_NO_GPU", f"NVML inside: {inner['nvml']['error']}")]
    found: list[Finding] = []
    gpus = inner["gpus"]
    if len(gpus) != len(listed) or not gpus:
        found.append(("CTR_NO_GPU", f"{len(gpus)} of {len(listed)} GPUs inside"))
    for gpu in gpus:
        label = f"GPU {gpu.get('index')} inside"
        if gpu.get("busy"):
            found.append(("ENV_FOREIGN_PROCESS", f"{label} is used by {gpu['busy']}"))
        elif gpu.get("error") or not gpu.get("processes"):
            found.append(("CTR_NO_GPU", f"{label}: {gpu.get('error') or gpu.get('unsuited') or 'nothing ran'}"))
        for process in gpu.get("processes") or ():
            sizes = sizes_asked("quick", str(gpu.get("name", "")))
            for result in process["results"]:
                if result["status"] == "ok":
                    bad = wrong(result, sizes.get(result["name"], {}), nonce, f"{inner.get('host')}:{gpu['index']}")
                    found += [("RESULT_WRONG", f"{label}: {words}") for words in bad]
                elif result["status"] != "skip":
                    found.append(("CTR_NO_GPU", f"{label}: {result['name']}: {result.get('reason')}"))
    return found


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []
