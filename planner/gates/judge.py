"""Judges what the probe saw of a node's GPUs. Pure, and standard library only: every bundle carries this very package.

The probe observes and proves; nothing it says of itself is believed. What each kernel computed is computed again here
from the run's nonce: a return code of zero, a remembered answer or a constant is no pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from . import mig
from .asked import sizes_asked
from .compare import compare
from .expect import tensor_cores_work, wrong
from .failures import WORST_FIRST, Action, Verdict, code_of
from .figures import STAND_IN, baseline_of, read_report
from .load import judge_load
from .node_findings import gpus_of
from .node_state import judge_state
from .pairs import judge_collective, judge_pairs
from .software import judge_software
from .verdicts import Decision, GateResult, Policy, fold

SCHEMA = "planner.gate/2"
PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"

# What every GPU must prove; Tensor Cores are asked for where the GPU is new enough to have been tried.
REQUIRED = ("kernel", "vector", "memory", "device_copy", "host_copy", "launch", "fma")
COMPARED = ("standard", "deep")     # profiles whose figures are compared with those from before the change
RETRY_AFTER_S = 30                  # of idle, before a fresh attempt

_OUTCOME = {Verdict.PASS: PASS, Verdict.WARN: PASS, Verdict.FAIL: FAIL, Verdict.HUNG: FAIL}


def judge_gate(text: str, request: Mapping[str, Any], before: str | None = None,
               earlier: Sequence[tuple[str, Mapping[str, Any]]] = ()) -> dict[str, Any]:
    """Return the verdict on a gate report.

    Args:
        text: What the probe printed.
        request: What it was asked: ``profile``, ``nonce``, ``host``, ``expect`` (``gpus``, and versions that must run);
            optional ``required`` (names of gates that the policy asks for besides those of every GPU), ``way_back``
            and ``rollback`` (see ``Policy``).
        before: This node's report from before the change; None or "" where there is none.
        earlier: Attempts of this same run, the first one first: (text, request).

    Returns:
        ``verdict`` (one of seven words), ``outcome`` (what a rollout goes by: pass | fail | inconclusive), ``code`` of
        the worst result, ``action``, ``allowed``, ``exit_code``, ``reasons`` (empty for a pass), ``notes`` (what a
        reader must know of a pass: warnings), ``not_tried`` (what was not, and why),
        ``wrong_results`` (kernels ran and gave another result than arithmetic does), ``retry_after_s`` (0: no retry)
        and ``results``. Missing evidence is never a pass.
    """
    old, notes = _before(before)
    attempts = [*earlier, (text, request)]
    results: list[GateResult] = []
    reports: list[dict[str, Any] | None] = []
    for number, (words, asked) in enumerate(attempts, start=1):
        report, found = _attempt(words, asked, old)
        reports.append(report)
        results += [_numbered(result, number) for result in found]
    last = reports[-1]
    results += _figures(old, reports, request)
    if last is not None:
        notes += _notes(last)
    return _told(fold(results, _policy(last, request, old)), last, notes, compared=old is not None)


def _before(text: str | None) -> tuple[dict[str, Any] | None, list[str]]:
    if not text:
        return None, []
    try:
        return read_report(text), []
    except ValueError as exc:
        return None, [f"the report from before the change cannot be read ({exc}): nothing is compared with it"]


def _numbered(result: GateResult, number: int) -> GateResult:
    return GateResult(result.gate, result.subject, result.code, result.evidence, number, result.passed_before)


def _attempt(text: str, request: Mapping[str, Any], before: Mapping[str, Any] | None
             ) -> tuple[dict[str, Any] | None, list[GateResult]]:
    """Judge one report by itself; a report that cannot be read gives one answer, which is no pass."""
    host = str(request.get("host", ""))
    try:
        report = read_report(text)
        for key, kind in (("gpus", list), ("versions", dict), ("nvml", dict)):
            if not isinstance(report.get(key), kind) and "busy" not in report:
                raise ValueError(f"{key} is no {kind.__name__}")
        if not all(isinstance(gpu, dict) for gpu in report.get("gpus") or ()):
            raise ValueError("a GPU is no object")
    except (ValueError, TypeError) as exc:
        words = "it printed nothing" if not str(text or "").strip() else f"its report cannot be read ({exc})"
        return None, [GateResult("report", host, "GATE_NO_RESULT", (f"the probe gave no report: {words}",))]
    foreign = [f"the report is of another {words}: {key} {report.get(key)!r}, asked {request.get(key)!r}"
               for key, words in (("nonce", "run"), ("host", "host"), ("profile", "profile"))
               if report.get(key) != request.get(key)]
    if foreign:
        return None, [GateResult("report", host, "REPORT_FOREIGN", tuple(foreign))]
    if "busy" in report:
        return None, [GateResult("report", host, "GATE_BUSY", (str(report["busy"]),))]
    try:
        before = mig.as_known_now(before, report)
        return report, [*judge_state(report, request, before), *_inventory(report, host),
                        *(result for gpu in report["gpus"] for result in _gpu(gpu, request, before)),
                        *_parts(report, request, before)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as exc:
        words = f"its report cannot be read ({type(exc).__name__}: {exc})"
        return None, [GateResult("report", host, "GATE_NO_RESULT", (words,))]


def _parts(report: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[GateResult]:
    """Judge what lies beyond one GPU, as far as the report has it."""
    found: list[GateResult] = []
    without = request.get("without") or ()
    alone, whole = mig.too_few_whole(report), mig.whole_only(report)
    for part, judge in (("pairs", judge_pairs), ("collective", judge_collective)):
        if part not in without and alone and request.get("profile") in COMPARED:
            found.append(GateResult(part, str(request.get("host", "")), "PART_MISSING", (mig.TOO_FEW,)))
        elif part not in without:
            found += judge(whole, request, before)
    if "load" not in without:
        found += judge_load(report, request, before)
    if "software" in report:
        # What the plan takes away is no loss.
        software = dict(request.get("software") or {})
        dropped = [*(software.get("dropped") or ()), *((request.get("expect") or {}).get("dropped") or ())]
        found += judge_software(mig.devices_listed(report), {**request, "software": {**software, "dropped": dropped}},
                                None if before is None else mig.devices_listed(before))
    return found


def _inventory(report: Mapping[str, Any], host: str) -> list[GateResult]:
    """Every GPU that NVML lists must have answered, once; every MIG device in the place of its GPU."""
    listed, tried = mig.wanted(report), [str(gpu.get("index")) for gpu in report["gpus"]]
    found = [GateResult("report", host, "GATE_BUG", (f"GPU {index}: {tried.count(index)} results instead of one",))
             for index in listed if tried.count(index) != 1]
    for gpu in report["gpus"]:
        index = str(gpu.get("index"))
        if mig.is_mig(gpu) and (not listed.get(index) or listed[index] != gpu.get("nvml_uuid")):
            words = f"GPU {index}: NVML lists {listed.get(index) or 'no MIG device there'}, not {gpu.get('nvml_uuid')}"
            found.append(GateResult("report", host, "GATE_BUG", (words,)))
        elif mig.is_mig(gpu) and (count := mig.sharers_listed(report, gpu)) != mig.sharers(gpu):
            words = f"GPU {index}: NVML lists {count} devices with its memory, not {mig.sharers(gpu)}"
            found.append(GateResult("report", host, "GATE_BUG", (words,)))
    if not tried and not found and not report["nvml"].get("error"):
        found.append(GateResult("report", host, "GPU_MISSING", ("no kernel ran on any GPU",)))
    return found


def subject_of(gpu: Mapping[str, Any]) -> str:
    """Return what a GPU or MIG device is called in results: its UUID as NVML tells it, else its number."""
    return str(gpu.get("nvml_uuid") or gpu.get("uuid") or f"GPU {gpu.get('index')}")


def _gpu(gpu: Mapping[str, Any], request: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[GateResult]:
    subject = subject_of(gpu)
    if gpu.get("busy"):
        words = f"used by {gpu['busy']}; no kernel was started there"
        return [GateResult("kernel", subject, "ENV_FOREIGN_PROCESS", (words,))]
    if gpu.get("unsuited"):
        return [GateResult("kernel", subject, "PART_MISSING", (str(gpu["unsuited"]),))]
    found = []
    if gpu.get("error"):
        found.append(GateResult("kernel", subject, _error_code(gpu), (str(gpu["error"]),)))
    if gpu.get("uuid") and gpu.get("nvml_uuid") and not mig.same_device(gpu):
        words = f"CUDA says {gpu['uuid']}, NVML says {gpu['nvml_uuid']}"
        found.append(GateResult("kernel", subject, "RESULT_WRONG", (words,)))
    label = f"{request.get('host')}:{gpu.get('index')}"
    for process in gpu.get("processes") or ():
        found += _process(process, gpu, request, label)
    found += _tensor_cores(gpu, before)
    return _worst_each(found)


def _error_code(gpu: Mapping[str, Any]) -> str:
    ended = str(gpu.get("ended", ""))
    if ended == "timeout":
        return "GATE_TIMEOUT"
    if ended == "hung":
        return "GATE_HUNG_D"
    if ended.startswith("killed by signal"):
        return "GATE_CRASHED"
    if ended == "not loaded":
        return "LIB_LOAD"
    if isinstance(gpu.get("nvml_code"), int):
        return code_of("nvml", gpu["nvml_code"])
    return code_of("cuda", gpu["code"]) if isinstance(gpu.get("code"), int) else "UNKNOWN_CODE"


def _process(process: Mapping[str, Any], gpu: Mapping[str, Any], request: Mapping[str, Any],
             label: str) -> list[GateResult]:
    """Judge all that one process measured; what was asked for and is not there stays without an answer."""
    subject, nonce = subject_of(gpu), str(request.get("nonce"))
    room_bytes = mig.room_bytes(gpu, process) if mig.is_mig(gpu) else None
    sizes = sizes_asked(str(request.get("profile")), str(gpu.get("name", "")), room_bytes)
    found = []
    if room_bytes is not None and (short := mig.short_of_memory(gpu, process)):
        found.append(GateResult("memory", subject, "MEMORY_SHORT", (short,)))
    for result in process["results"]:
        name = str(result["name"])
        reason = str(result.get("reason", ""))
        if result["status"] == "skip":
            found.append(GateResult(name, subject, "PART_MISSING", (reason,)))
        elif result["status"] == "inconclusive":
            found.append(GateResult(name, subject, "MEMORY_SHORT", (reason,)))
        elif result["status"] == "error":
            code = result.get("code")
            found.append(GateResult(name, subject, code_of("cuda", code) if isinstance(code, int) else "GATE_BUG",
                                    (reason,)))
        else:
            bad = tuple(wrong(result, sizes.get(name, {}), nonce, label))
            found.append(GateResult(name, subject, "RESULT_WRONG" if bad else "OK", bad))
    found += [GateResult("given-back", subject, "UNKNOWN_CODE", (str(text),))
              for text in process.get("problems") or ()]
    seen = {result.gate for result in found}
    found += [GateResult(name, subject, "GATE_NO_RESULT", ("asked for, and no answer",))
              for name in sizes if name not in seen]
    return found


def _worst_each(found: Iterable[GateResult]) -> list[GateResult]:
    """Keep, of the answers of several processes to the same question, the worst: one wrong result is enough."""
    kept: dict[str, GateResult] = {}
    for result in found:
        have = kept.get(result.gate)
        if have is None or WORST_FIRST.index(result.verdict) < WORST_FIRST.index(have.verdict):
            kept[result.gate] = result
    return list(kept.values())


def _ratios(gpu: Mapping[str, Any]) -> list[float]:
    return [float(value) for process in gpu.get("processes") or () for result in process["results"]
            if result["name"] == "ratio" for value in result["samples"].get("ratio_f16_per_fma") or ()]


def _tensor_cores(gpu: Mapping[str, Any], before: Mapping[str, Any] | None) -> list[GateResult]:
    """Tensor Cores that do not work show in the ratio to plain arithmetic, not in wrong results."""
    now = _ratios(gpu)
    if not now or (STAND_IN in str(gpu.get("name", "")) and median(now) <= 0):
        return []
    old = [value for each in (before or {}).get("gpus") or () if subject_of(each) == subject_of(gpu)
           for value in _ratios(each)]
    was = median(old) if old else None
    if tensor_cores_work(median(now), was):
        return []
    words = f"Tensor Cores are {median(now):.1f} times as fast as plain arithmetic" + (
        f", {was:.1f} times before" if was else "")
    return [GateResult("ratio", subject_of(gpu), "TENSOR_CORES_OFF", (words,), 1, None if was is None else True)]


def _figures(before: Mapping[str, Any] | None, reports: Sequence[Mapping[str, Any] | None],
             request: Mapping[str, Any]) -> list[GateResult]:
    """Compare every figure with the node's own from before the change, over all attempts."""
    host = str(request.get("host", ""))
    if request.get("profile") not in COMPARED or any(report is None for report in reports):
        return []
    if before is None:
        return [GateResult("figures", host, "BASELINE_MISSING", ("no figures from before the change",), len(reports))]
    known = [report for report in reports if report is not None]
    try:
        old = baseline_of(mig.measured_in_all(mig.as_known_now(before, known[-1]) or {}, known))
        new = [baseline_of(report) for report in known]
    except ValueError as exc:
        return [GateResult("figures", host, "BASELINE_OTHER", (f"they cannot be compared: {exc}",), len(reports))]
    if not old.gpus or not all(each.gpus for each in new):
        return [GateResult("figures", host, "BASELINE_MISSING", ("a GPU was not measured",), len(reports))]
    return list(compare(old, *new).results)


def _policy(report: Mapping[str, Any] | None, request: Mapping[str, Any], before: Mapping[str, Any] | None) -> Policy:
    """Ask for kernels on every GPU and MIG device, for pairs and load of whole GPUs.

    A GPU that is cut into no MIG instance, and was not before, has nothing to prove, as long as another one has.
    """
    free = [] if report is None else [gpu for gpu in report["gpus"] if not gpu.get("error") and not gpu.get("busy")]
    asked = [gpu for gpu in free if not mig.was_empty(gpu, before)] or free
    subjects = [subject_of(gpu) for gpu in asked if not gpu.get("unsuited")]
    whole = [subject_of(gpu) for gpu in asked if not gpu.get("unsuited") and not mig.is_mig(gpu)]
    required = {gate: frozenset(subjects) for gate in REQUIRED if subjects}
    if asked:       # of one that is unsuited, too: why nothing ran there is told once
        required["kernel"] = frozenset(map(subject_of, asked))
    if request.get("profile") in COMPARED and len(whole) > 1:
        required["pairs"] = frozenset()
    if request.get("profile") == "deep" and whole:
        required["load"] = frozenset(whole)
    required |= {str(gate): frozenset() for gate in request.get("required") or ()}
    return Policy(required=required, rollback=bool(request.get("rollback")), way_back=bool(request.get("way_back")))


def _notes(report: Mapping[str, Any]) -> list[str]:
    if any(STAND_IN in str(gpu.get("name", "")) for gpu in report["gpus"]):
        return ["stand-in GPUs: the driver API answered, no real GPU was proved"]
    return []


def _told(decision: Decision, report: Mapping[str, Any] | None, notes: Sequence[str], *,
          compared: bool) -> dict[str, Any]:
    names = {} if report is None else {subject_of(gpu): f"GPU {gpu.get('index')}" for gpu in (
        *gpus_of(report).values(), *report["gpus"])}
    bad = [r for r in decision.results if r.verdict not in (Verdict.PASS, Verdict.SKIP, Verdict.WARN)]
    watched = [r for r in decision.results if r.verdict is Verdict.WARN]
    skipped = [r for r in decision.results if r.verdict is Verdict.SKIP and (compared or r.code != "BASELINE_MISSING")]
    if not compared and report is not None and report.get("profile") in COMPARED:
        notes = [*notes, "no report from before the change: nothing is compared with it"]
    worst = decision.results[0]
    return {
        "verdict": decision.verdict.value, "outcome": _OUTCOME.get(decision.verdict, INCONCLUSIVE),
        "code": worst.code, "action": decision.action.value, "allowed": [each.value for each in decision.allowed],
        "exit_code": decision.exit_code, "reasons": [_sentence(r, names) for r in bad],
        "notes": [*notes, *(_sentence(r, names) for r in watched)],
        "not_tried": [_sentence(r, names) for r in skipped],
        "wrong_results": any(r.code == "RESULT_WRONG" for r in decision.results),
        "retry_after_s": RETRY_AFTER_S if decision.action is Action.RETRY else 0,
        "results": [r.as_dict() for r in decision.results],
    }


def _sentence(result: GateResult, names: Mapping[str, str]) -> str:
    """Return ``GPU 0: kernel: what was seen (CODE)``."""
    subject = names.get(result.subject, "" if result.gate == "report" else result.subject)
    head = ": ".join(part for part in (subject, result.gate if result.gate != "report" else "") if part)
    words = [text.removeprefix(f"{result.gate}: ") for text in result.evidence]
    return f"{head}: {'; '.join(words) or result.row.seen_as} ({result.code})".removeprefix(": ")
