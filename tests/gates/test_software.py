"""The judge of software: right answers pass, forged, missing, wrong and malformed ones do not, and nothing raises."""

from __future__ import annotations

import base64
import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.gates.failures import FAILURES, Verdict
from planner.gates.software import CHECKS, judge_software
from planner.gates.software_expect import Numbers
from planner.gates.verdicts import GateResult
from planner.probe.software_kit import Numbers as ProbeNumbers
from planner.probe.software_kit import digest, pack_words

UUIDS = ["GPU-0", "GPU-1"]
REQUEST = {"nonce": "00ff", "host": "n1", "profile": "standard"}
LIB = "/usr/local/cuda-13.0/lib64/"
PYTHON = "/opt/env/bin/python3"


def numbers(check: str, subject: str, nonce: str = "00ff") -> ProbeNumbers:
    return ProbeNumbers(nonce, "n1", check, subject)


def kernel_words(n: ProbeNumbers, purpose: str) -> str:
    """The kernel once more, from its text in the probe."""
    k = n.constants(purpose)
    out = b""
    for i in range(256):
        x = (i * k["a"] + k["b"]) % 2**32
        x = ((x ^ (x >> 13)) * k["c"]) % 2**32
        out += (x ^ (x >> 16)).to_bytes(4, "little")
    return pack_words(out)


def product(n: ProbeNumbers, size: int = 64) -> str:
    a, b = n.small("a", size * size), n.small("b", size * size)
    return digest([sum(a[i * size + k] * b[k * size + j] for k in range(size))
                   for i in range(size) for j in range(size)])


def evidence_of(check: str, subject: str, nonce: str = "00ff") -> dict[str, Any]:
    """What a probe on a node in order answers."""
    return copy.deepcopy(computed(check, subject, nonce))


@cache
def computed(check: str, subject: str, nonce: str) -> dict[str, Any]:
    n = numbers(check, subject, nonce)
    seen: dict[str, Any] = {"path": subject, "by_loader": {"path": subject, "version": 1, "folder": None}}
    if check == "cudart":
        seen |= {"version": 13000, "asked": UUIDS, "count": 2, "driver": 13000,
                 "output": pack_words(n.data("round trip", 256))}
    elif check in ("nvrtc", "nvcc"):
        seen |= {"version": [13, 0], "other": {"arch": "sm_80", "error": "no", "error_code": 209},
                 **{name: {"arch": "sm_90", "output": kernel_words(n, name)} for name in ("cubin", "ptx")}}
    elif check == "cublas":
        a, b = n.small("a", 4096), n.small("b", 4096)
        seen |= {"version": [13, 0, 2], "digest": digest([sum(a[i + 64 * k] * b[k + 64 * j] for k in range(64))
                                                         for j in range(64) for i in range(64)])}
    elif check == "cufft":
        seen |= {"version": 12000, "digest": digest([n.data("height", 1)[0] + 1, 0] * 1024)}
    elif check == "cudnn":
        x, y = n.small("x", 64), n.small("y", 64)
        seen |= {"version": 91002, "work": "sum", "digest": digest([p + q for p, q in zip(x, y, strict=True)])}
    elif check in ("torch", "tensorflow", "jax", "onnxruntime"):
        where = {"torch": "cuda:%d", "tensorflow": "/job:localhost/device:GPU:%d", "jax": "gpu:%d",
                 "onnxruntime": "CUDAExecutionProvider:%d"}[check]
        seen = {"asked": UUIDS, "count": 2, "built": "13.0", "backend": "gpu", "version": "2.0", "environment": {},
                "devices": [{"index": i, "device": where % i, "digest": product(n)} for i in range(2)]}
    elif check == "cdi":
        seen = {"paths": 9, "missing": [], "missing_count": 0, "driver_versions": {"580.1.2": "/l.so.580.1.2"}}
    elif check == "container":
        seen = {"must_restart": [], "must_restart_count": 0}
    else:
        seen["version"] = [13, 0, 1]
    return seen


def subject_of(check: str) -> str:
    if check in ("torch", "tensorflow", "jax", "onnxruntime"):
        return PYTHON
    return {"nvcc": "/usr/local/cuda-13.0", "cdi": "/etc/cdi/nvidia.yaml", "container": "running containers",
            "nvjitlink": LIB + "libnvJitLink.so.13"}.get(check, f"{LIB}lib{check}.so.13")


def answer(check: str, nonce: str = "00ff", **changes: Any) -> dict[str, Any]:
    subject = subject_of(check)
    return {"check": check, "subject": subject, "status": "ok", "reason": None, "code": None, "seconds": 0.1,
            "evidence": evidence_of(check, subject, nonce), **changes}


def report(*answers: Any, nonce: str = "00ff") -> dict[str, Any]:
    given_ = [a["check"] for a in answers if isinstance(a, dict)]
    return {"profile": "standard", "nonce": nonce, "host": "n1", "versions": {"loaded": "580.1.2"},
            "nvml": {"gpus": [{"uuid": uuid} for uuid in UUIDS]},
            "software": [*answers, *(answer(check, nonce) for check in CHECKS if check not in given_)]}


def result_of(document: dict[str, Any], check: str, request: dict[str, Any] | None = None,
              before: dict[str, Any] | None = None) -> GateResult:
    found = [r for r in judge_software(document, request or REQUEST, before) if r.gate == check]
    assert len(found) == 1, found
    return found[0]


def changed(check: str, **evidence: Any) -> dict[str, Any]:
    """A report in order but for the evidence of one check."""
    return report(answer(check, evidence={**evidence_of(check, subject_of(check)), **evidence}))


def test_a_node_in_order_passes_every_check() -> None:
    found = judge_software(report(), REQUEST, report(nonce="0123"))
    assert [(r.gate, r.code, r.evidence) for r in found] == [(check, "OK", ()) for check in CHECKS]
    assert all(r.passed_before for r in found)


def recorded() -> dict[str, Any]:
    """What two NVIDIA H200 of one host with driver 580.159.04 answered on 2026-11-26 (ids replaced)."""
    path = Path(__file__).parent / "recorded" / "h200-580.159.04-two-software.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_real_h200s_pass_and_what_is_not_there_is_skipped() -> None:
    real = recorded()
    found = judge_software(real, {"nonce": real["nonce"], "host": real["host"]}, real)
    passed = sorted({r.gate for r in found if r.code == "OK"})
    assert passed == sorted(set(CHECKS) - {"tensorrt", "tensorflow", "onnxruntime", "cdi", "container"})
    assert [r for r in found if r.code not in ("OK", "PART_MISSING")] == []


def test_the_same_answers_to_another_nonce_fail_wherever_something_was_computed() -> None:
    found = judge_software(recorded(), {"nonce": "00", "host": "vm"})
    assert {r.gate for r in found if r.code == "RESULT_WRONG"} == {
        "cudart", "nvrtc", "nvcc", "cublas", "cufft", "cudnn", "torch", "jax"}


PROVING = [c for c in CHECKS if c not in ("cdi", "container", "cublaslt", "curand", "cusolver", "cusparse", "npp",
                                          "nvjpeg", "nvjitlink", "tensorrt")]


@pytest.mark.parametrize("check", PROVING)
def test_the_right_answer_to_another_nonce_fails(check: str) -> None:
    assert result_of(report(answer(check, nonce="0bad")), check).code == "RESULT_WRONG"


@pytest.mark.parametrize("check", PROVING)
def test_the_right_answer_of_another_subject_fails(check: str) -> None:
    forged = answer(check, evidence=evidence_of(check, "/another" + subject_of(check)))
    assert result_of(report(forged), check).code == "RESULT_WRONG"


@pytest.mark.parametrize("check", CHECKS)
def test_success_without_work_fails(check: str) -> None:
    result = result_of(report(answer(check, evidence={"path": subject_of(check)})), check)
    assert result.verdict in (Verdict.FAIL, Verdict.ERROR), result


@pytest.mark.parametrize(("check", "evidence", "code", "words"), [
    ("cudart", {"count": 1}, "FW_GPU_COUNT", "1 GPUs of 2"), ("cudart", {"asked": ["GPU-9"]}, "GATE_BUG", "NVML lists"),
    ("cudart", {"version": 12080}, "LIB_VERSION", "is called libcudart.so.13"),
    ("cublas", {"version": None}, "LIB_CALL", "no version"),
    ("nvrtc", {"ptx": {"arch": "compute_90", "error": "x failed with 222", "error_code": 222}}, "PTX_TOO_NEW", "222"),
    ("nvcc", {"cubin": {"arch": "sm_90", "error": "x failed with 209", "error_code": 209}}, "NO_KERNEL_IMAGE", "209"),
    ("nvcc", {"ptx": {"arch": "compute_90", "error": "x failed with 221", "error_code": 221}}, "JIT_MISSING", "221"),
    ("nvrtc", {"cubin": {"arch": "sm_90", "not_made": "too old"}}, "OK", ""),
    ("nvrtc", {"ptx": {"arch": "x", "not_made": "no"}}, "LIB_CALL", "not made"),
    ("nvrtc", {"other": {"arch": "sm_80", "output": kernel_words(numbers("nvrtc", subject_of("nvrtc")), "other")}},
     "GATE_BUG", "sm_80 ran"),
    ("nvrtc", {"other": {"arch": "sm_80", "output": "never written"}}, "OK", ""),
    ("torch", {"count": 0, "devices": [], "environment": {"CUDA_VISIBLE_DEVICES": ""}}, "FW_CPU_FALLBACK", "CUDA_VIS"),
    ("jax", {"backend": "cpu", "environment": {"JAX_PLATFORMS": "cpu"}}, "FW_CPU_FALLBACK", "JAX_PLATFORMS='cpu'"),
    ("torch", {"built": None, "asked_for": True}, "FW_CPU_FALLBACK", "without CUDA"),
    ("torch", {"built": None, "asked_for": False}, "PART_MISSING", "without CUDA"),
    ("torch", {"count": 1}, "FW_GPU_COUNT", "1 GPUs of 2"), ("torch", {"devices": []}, "FW_GPU_COUNT", "of 2"),
    ("cdi", {"missing_count": 2, "missing": ["/a", "/b"]}, "CDI_STALE", "/a, /b"),
    ("cdi", {"driver_versions": {"570.1": "/l.so.570.1"}}, "CDI_STALE", "loaded is 580.1.2"),
    ("cdi", {"paths": 0}, "CDI_STALE", "no path"),
    ("container", {"must_restart": [{"pid": 7, "container": "c", "library": "/l", "deleted": True}],
                   "must_restart_count": 1}, "CTR_NO_GPU", "pid 7"),
])
def test_each_finding_has_its_code(check: str, evidence: dict[str, Any], code: str, words: str) -> None:
    result = result_of(changed(check, **evidence), check)
    assert (result.code, words in "; ".join(result.evidence)) == (code, True), result


@pytest.mark.parametrize(("where", "code"), [("cpu", "FW_CPU_FALLBACK"), ("cuda:0", "OK"), (None, "FW_CPU_FALLBACK")])
def test_a_result_on_the_processor_is_a_fallback(where: str | None, code: str) -> None:
    evidence = evidence_of("torch", PYTHON)
    evidence["devices"][0]["device"] = where
    assert result_of(changed("torch", **evidence), "torch").code == code


@pytest.mark.parametrize(("taken", "code"), [
    ({"path": "/stray/libcudart.so.13", "version": 12080, "folder": "/stray"}, "LIB_VERSION"),
    ({"path": "/stray/libcudart.so.13", "version": 13010, "folder": "/stray"}, "OK"),
    ({"path": "/stray/libcudart.so.13", "version": 14000, "folder": "/stray"}, "LIB_VERSION"),
    ({"path": "/stray/libcudart.so.13", "version": None, "folder": "/stray"}, "LIB_VERSION"),
    ({"path": "/other/libcudart.so.13", "version": 12080, "folder": None}, "OK"),
    ({"error": "undefined symbol", "folder": "/stray"}, "LIB_LOAD"), (None, "OK"),
])
def test_only_what_ld_library_path_puts_first_counts_as_wrong(taken: Any, code: str) -> None:
    assert result_of(changed("cudart", by_loader=taken), "cudart").code == code


@pytest.mark.parametrize(("status", "said", "reason", "code"), [
    ("error", 803, "", "DRV_LIB_MISMATCH"), ("error", 222, "", "PTX_TOO_NEW"), ("error", 35, "", "RUNTIME_TOO_NEW"),
    ("error", 31337, "", "UNKNOWN_CODE"), ("error", "LIB_LOAD", "", "LIB_LOAD"), ("error", "OK", "", "UNKNOWN_CODE"),
    ("error", "PART_MISSING", "", "UNKNOWN_CODE"), ("error", None, "", "UNKNOWN_CODE"),
    ("error", True, "", "UNKNOWN_CODE"), ("error", None, "libcuda.so.1 cannot be loaded: x", "DRV_NOT_LOADED"),
    ("timeout", "OK", "", "GATE_TIMEOUT"), ("hung", "OK", "", "GATE_HUNG_D"), ("skip", "OK", "none", "PART_MISSING"),
    ("skip", "ENV_FOREIGN_PROCESS", "", "ENV_FOREIGN_PROCESS"), ("fine", None, "", "GATE_BUG"),
])
def test_each_status_has_its_code(status: str, said: Any, reason: str, code: str) -> None:
    told = answer("cublas", status=status, code=said, reason=reason)
    assert result_of(report(told), "cublas").code == code


def test_a_runtime_without_any_driver_is_told_apart() -> None:
    told = answer("cudart", status="error", code=35, reason="x", evidence={"driver": 0})
    assert result_of(report(told), "cudart").code == "DRV_NOT_LOADED"


# --- before and after

BROKEN = {"status": "error", "code": 222, "reason": "PTX"}
ABSENT = {"status": "skip", "code": "PART_MISSING", "reason": "not found"}


def test_what_failed_before_is_inherited_and_told() -> None:
    old = report(answer("cublas", nonce="01", **BROKEN), nonce="01")
    result = result_of(report(answer("cublas", **BROKEN)), "cublas", before=old)
    assert (result.code, result.passed_before) == ("INHERITED", False)
    assert "PTX_TOO_NEW" in result.evidence[0]


def test_an_inherited_failure_of_a_required_check_stays_one() -> None:
    old = report(answer("cublas", nonce="01", **BROKEN), nonce="01")
    request = {**REQUEST, "software": {"required": ["cublas"]}}
    result = result_of(report(answer("cublas", **BROKEN)), "cublas", request, old)
    assert (result.code, result.passed_before) == ("PTX_TOO_NEW", False)


def test_another_failure_than_before_is_not_inherited() -> None:
    old = report(answer("cublas", nonce="01", **BROKEN), nonce="01")
    assert result_of(report(answer("cublas", **{**BROKEN, "code": 803})), "cublas", before=old).code \
        == "DRV_LIB_MISMATCH"


def test_wrong_results_are_never_inherited() -> None:
    old = report(answer("cublas", nonce="02", evidence={"version": [13], "digest": "x"}), nonce="01")
    result = result_of(changed("cublas", digest="x"), "cublas", before=old)
    assert (result.code, result.passed_before) == ("RESULT_WRONG", False)


@pytest.mark.parametrize(("check", "code"), [("cublas", "LIB_LOAD"), ("torch", "FW_CPU_FALLBACK"), ("cdi", "CDI_STALE"),
                                             ("container", "CTR_NO_GPU")])
def test_what_passed_before_and_is_skipped_or_gone_failed(check: str, code: str) -> None:
    old = report(nonce="01")
    skipped = result_of(report(answer(check, **ABSENT)), check, before=old)
    assert (skipped.code, skipped.passed_before) == (code, True)
    elsewhere = report(answer(check, **ABSENT, subject="n1"))
    found = {r.subject: r.code for r in judge_software(elsewhere, REQUEST, old) if r.gate == check}
    assert found == {"n1": "PART_MISSING", subject_of(check): code}


def test_what_the_plan_drops_may_be_gone() -> None:
    request = {**REQUEST, "software": {"dropped": ["/usr/local/cuda-13.0"]}}
    found = judge_software(report(answer("cublas", **ABSENT, subject="n1")), request, report(nonce="01"))
    assert [r.code for r in found if r.gate == "cublas"] == ["PART_MISSING"]


def test_a_skip_is_no_pass_where_the_check_is_required() -> None:
    request = {**REQUEST, "software": {"required": ["cudnn"]}}
    assert result_of(report(answer("cudnn", **ABSENT)), "cudnn", request).code == "REQUIRED_SKIPPED"


def test_silence_is_no_pass() -> None:
    assert judge_software({"profile": "quick"}, REQUEST) == []
    assert [r.code for r in judge_software({"profile": "standard"}, REQUEST)] == ["GATE_NO_RESULT"]
    busy = {"profile": "standard", "gpus": [{"busy": "pid 7"}, {"error": "x"}]}
    assert [r.code for r in judge_software(busy, REQUEST)] == ["PART_MISSING"]
    assert {r.code for r in judge_software({"software": []}, REQUEST)} == {"GATE_NO_RESULT"}


# --- a container

def inside(**changes: Any) -> dict[str, Any]:
    nonce = Numbers("00ff", "n1", "container", "podman").data("container", 16).hex()
    inner = {"nonce": nonce, "host": "n1", "nvml": {"gpus": []},
             "gpus": [{"index": i, "name": "x", "processes": [{"results": []}]} for i in range(2)], **changes}
    told = {"check": "container", "subject": "podman", "status": "ok", "reason": None, "code": None,
            "evidence": {"ways": [{"way": "CDI", "report": inner}]}}
    return {**report(), "software": [told]}


@pytest.mark.parametrize(("changes", "code"), [
    ({}, "OK"), ({"nonce": "0"}, "REPORT_FOREIGN"), ({"host": "x"}, "REPORT_FOREIGN"), ({"gpus": []}, "CTR_NO_GPU"),
    ({"nvml": {"error": "Unknown Error"}}, "CTR_NO_GPU"), ({"busy": "another gate"}, "GATE_BUSY"),
    ({"gpus": [{"index": i, "error": "cuInit failed"} for i in range(2)]}, "CTR_NO_GPU"),
    ({"gpus": [{"index": i, "processes": [{"results": [{"name": "vector", "status": "ok", "evidence": {}}]}]}
               for i in range(2)]}, "RESULT_WRONG"), ({"gpus": 3}, "GATE_BUG"),
])
def test_the_gate_inside_a_container_is_judged_like_any_other(changes: dict[str, Any], code: str) -> None:
    assert result_of(inside(**changes), "container").code == code


# --- whatever a node says

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
                    max_leaves=8)


@given(JSON, st.sampled_from(["software", "nvml", "versions", "nonce", "profile"]))
@settings(max_examples=40, deadline=None)
@pytest.mark.property
def test_a_malformed_part_never_raises(value: Any, key: str) -> None:
    for result in judge_software({**report(answer("cublas")), key: value}, REQUEST, {key: value}):
        assert result.code in FAILURES


@given(st.sampled_from(CHECKS), st.data())
@settings(max_examples=60, deadline=None)
@pytest.mark.property
def test_malformed_evidence_never_raises_and_never_passes_for_work(check: str, data: st.DataObject) -> None:
    told = answer(check)
    key = data.draw(st.sampled_from(sorted(told["evidence"])))
    told["evidence"][key] = data.draw(JSON)
    result = result_of({**report(), "software": [told]}, check)
    assert result.code in FAILURES
    if key in ("output", "digest", "cubin", "ptx"):
        assert result.code != "OK" or (key == "cubin" and told["evidence"][key])


@given(st.sampled_from(["status", "reason", "code", "evidence", "subject", "check"]), JSON)
@settings(max_examples=60, deadline=None)
@pytest.mark.property
def test_a_malformed_answer_never_raises(key: str, value: Any) -> None:
    for result in judge_software({**report(), "software": [{**answer("cublas"), key: value}, value]}, REQUEST):
        assert result.code in FAILURES


@given(st.integers(0, 1023), st.integers(0, 7))
@settings(max_examples=30, deadline=None)
@pytest.mark.property
def test_one_wrong_bit_of_a_compiled_kernel_fails(byte: int, bit: int) -> None:
    seen = evidence_of("nvcc", subject_of("nvcc"))
    raw = bytearray(base64.b64decode(seen["ptx"]["output"]))
    raw[byte] ^= 1 << bit
    assert result_of(changed("nvcc", ptx={"arch": "compute_90", "output": pack_words(bytes(raw))}), "nvcc").code \
        == "RESULT_WRONG"
