"""The table of failures, and how many answers become one: nothing but evidence passes, and a failure stays one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import ExitCode
from planner.gates.failures import (
    EXIT_CODES,
    FAILURES,
    LIGHTEST_FIRST,
    WORST_FIRST,
    Action,
    Kind,
    Verdict,
    code_of,
    failure,
)
from planner.gates.verdicts import Decision, GateResult, Policy, fold, settle

NOTHING_ASKED = Policy(required={})
ROLLS_BACK = Policy(required={}, rollback=True, way_back=True)


def result(code: str, gate: str = "kernel", subject: str = "GPU-a", **more: Any) -> GateResult:
    return GateResult(gate, subject, code, () if code == "OK" else ("seen",), **more)


def decided(*results: GateResult, policy: Policy = NOTHING_ASKED, **more: Any) -> tuple[str, str, int]:
    found = fold(results, policy, **more)
    return found.verdict.value, found.action.value, found.exit_code


# --- the table


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_each_row_is_whole(code: str) -> None:
    row = FAILURES[code]
    assert row.code == code
    assert row.exit_code == EXIT_CODES[row.verdict]
    assert row.seen_as
    assert row.cause
    assert row.remedy
    assert row.actions
    assert len(set(row.actions)) == len(row.actions)


@pytest.mark.parametrize("code", sorted(FAILURES))
def test_no_row_lets_a_failure_go_on_or_rolls_hardware_back(code: str) -> None:
    row = FAILURES[code]
    if row.verdict not in (Verdict.PASS, Verdict.WARN, Verdict.SKIP):
        assert Action.CONTINUE not in row.actions
    if row.kind in (Kind.HARDWARE, Kind.GATE, Kind.ENVIRONMENT, Kind.APPLICATION, Kind.PLAN, Kind.UNKNOWN):
        assert Action.ROLLBACK not in row.actions
    if row.verdict in (Verdict.PASS, Verdict.WARN):
        assert row.actions[0] is Action.CONTINUE


def test_the_orders_name_everything_once() -> None:
    assert sorted(WORST_FIRST) == sorted(Verdict)
    assert sorted(LIGHTEST_FIRST) == sorted(Action)
    assert set(EXIT_CODES) == set(Verdict)


def test_exit_codes_are_those_of_the_one_table() -> None:
    assert EXIT_CODES[Verdict.FAIL] == EXIT_CODES[Verdict.HUNG] == ExitCode.HALTED
    assert EXIT_CODES[Verdict.INCONCLUSIVE] == EXIT_CODES[Verdict.SKIP] == ExitCode.PAUSED
    assert EXIT_CODES[Verdict.ERROR] == ExitCode.ERROR
    assert EXIT_CODES[Verdict.PASS] == EXIT_CODES[Verdict.WARN] == ExitCode.DONE


# gates.md, b.4, row by row: what a run with this one answer comes to. Repeated where the table asks for it.
TABLED = {
    "DRV_NOT_LOADED": ("fail", "halt", 7), "DRV_REBOOT_PENDING": ("inconclusive", "pause", 8),
    "DRV_LIB_MISMATCH": ("fail", "halt", 7), "UVM_MISSING": ("fail", "retry-after-idle", 7),
    "COMPAT_BAD": ("fail", "halt", 7), "FABRIC_NOT_READY": ("fail", "retry-after-idle", 7),
    "MPS_BAD": ("fail", "retry-after-idle", 7), "GPU_MISSING": ("fail", "quarantine", 7),
    "GPU_LOST": ("fail", "quarantine", 7), "GPU_RESET_REQUIRED": ("fail", "pause", 7),
    "ECC_UNCORRECTED": ("fail", "quarantine", 7), "XID_CRITICAL": ("fail", "quarantine", 7),
    "XID_APP": ("error", "pause", 1), "JIT_MISSING": ("fail", "halt", 7), "PTX_TOO_NEW": ("fail", "halt", 7),
    "NO_KERNEL_IMAGE": ("fail", "pause", 7), "RESULT_WRONG": ("fail", "halt", 7),
    "PERF_DROP": ("fail", "quarantine", 7), "PERF_DROP_WAVE": ("fail", "halt", 7),
    "SETTING_CHANGED": ("fail", "pause", 7), "LIB_LOAD": ("fail", "halt", 7), "LIB_VERSION": ("fail", "halt", 7),
    "FW_CPU_FALLBACK": ("fail", "halt", 7), "CDI_STALE": ("fail", "retry-after-idle", 7),
    "CTR_NO_GPU": ("fail", "retry-after-idle", 7), "NCCL_VERSION_MIX": ("fail", "halt", 7),
    "NCCL_HANG": ("fail", "halt", 7), "GATE_TIMEOUT": ("fail", "halt", 7), "GATE_HUNG_D": ("hung", "halt", 7),
    "GATE_BUSY": ("inconclusive", "retry-after-idle", 8), "GATE_BUG": ("error", "pause", 1),
}


@pytest.mark.parametrize("code", sorted(TABLED))
def test_each_tabled_failure_comes_to_its_verdict_action_and_exit_code(code: str) -> None:
    assert decided(result(code), result(code, attempt=2)) == TABLED[code]


def test_an_unknown_code_is_the_worst() -> None:
    assert failure("FROM_THE_FUTURE").code == "UNKNOWN_CODE"
    assert decided(result("FROM_THE_FUTURE")) == ("fail", "halt", 7)


@pytest.mark.parametrize(("source", "words"), [("cuda", "CUDA|cuInit"), ("nvml", "NVML"), ("xid", "Xid")])
def test_numbers_lead_to_the_rows_that_name_them(source: str, words: str) -> None:
    named = [(int(number), code) for code, row in FAILURES.items()
             for listed in re.findall(rf"(?:{words}) ([0-9]+(?:(?:, | or )[0-9]+)*)", row.seen_as)
             for number in re.findall("[0-9]+", listed)]
    named = [pair for pair in named if pair != (79, "XID_CRITICAL")]      # the row of a lost GPU says more
    assert len(named) >= 4
    assert [(number, code_of(source, number)) for number, _ in named] == named
    assert code_of(source, 31337) == "UNKNOWN_CODE"


def test_the_documented_table_is_the_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "gate-verdicts.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| `[A-Z_0-9]+` \|", line)]
    assert rows == [f"| `{r.code}` | {r.verdict.value} | {r.seen_as} | {r.cause} | {r.remedy} | "
                    f"{', '.join(a.value for a in r.actions)} | {r.exit_code} |" for r in FAILURES.values()]


# --- skip, error and silence are no pass


def test_all_pass_goes_on() -> None:
    assert decided(result("OK"), result("OK", subject="GPU-b")) == ("pass", "continue", 0)


def test_a_skip_beside_a_pass_matters_only_where_the_policy_asks() -> None:
    answers = result("OK"), result("PART_MISSING", gate="container")
    assert decided(*answers) == ("pass", "continue", 0)
    asked = Policy(required={"container": frozenset()})
    assert decided(*answers, policy=asked) == ("inconclusive", "pause", 8)


def test_one_gpu_of_two_that_is_asked_for_and_silent_is_an_error() -> None:
    asked = Policy(required={"kernel": frozenset({"GPU-a", "GPU-b"})})
    assert decided(result("OK"), policy=asked) == ("error", "retry-after-idle", 1)
    assert decided(result("OK"), result("OK", subject="GPU-b"), policy=asked) == ("pass", "continue", 0)


@pytest.mark.parametrize("policy", [NOTHING_ASKED, Policy(required={"kernel": frozenset()})])
def test_nothing_at_all_is_no_pass(policy: Policy) -> None:
    assert decided(policy=policy)[2] == 1


def test_only_skips_pause() -> None:
    assert decided(result("PART_MISSING")) == ("skip", "pause", 8)


# --- failures are sticky


def test_a_wrong_result_stays_whatever_follows() -> None:
    assert decided(result("RESULT_WRONG"), result("OK", attempt=2), result("OK", attempt=3)) == ("fail", "halt", 7)


def test_a_drop_asks_for_a_repetition_then_counts_or_becomes_flaky() -> None:
    assert decided(result("PERF_DROP")) == ("fail", "retry-after-idle", 7)
    assert decided(result("PERF_DROP"), result("PERF_DROP", attempt=2)) == ("fail", "quarantine", 7)
    found = fold([result("PERF_DROP"), result("OK", attempt=2)], NOTHING_ASKED)
    assert (found.verdict, found.results[0].code, found.exit_code) == (Verdict.WARN, "PERF_FLAKY", 0)
    drops = result("PERF_DROP"), result("PERF_DROP", attempt=2)
    assert decided(*drops, result("OK", attempt=3)) == ("fail", "quarantine", 7)
    assert decided(result("PERF_DROP"), result("PERF_DROP")) == ("fail", "retry-after-idle", 7)   # one attempt


@pytest.mark.parametrize("later", ["GATE_BUSY", "GATE_BUG", "PART_MISSING"])
def test_a_failure_is_not_taken_back_by_what_proves_nothing(later: str) -> None:
    assert decided(result("PERF_DROP"), result(later, attempt=2))[0] == "fail"


def test_a_busy_gpu_that_is_free_later_passes() -> None:
    assert decided(result("GATE_BUSY"), result("OK", attempt=2)) == ("pass", "continue", 0)


def test_an_earlier_failure_stands_until_the_same_gate_passes_on_the_same_gpu() -> None:
    old = [result("LIB_LOAD", gate="cublas")]
    assert decided(result("OK"), standing=old)[0] == "fail"
    assert decided(result("OK"), result("OK", gate="cublas", subject="GPU-b"), standing=old)[0] == "fail"
    assert decided(result("OK"), result("PART_MISSING", gate="cublas"), standing=old)[0] == "fail"
    assert decided(result("OK"), result("OK", gate="cublas"), standing=old) == ("pass", "continue", 0)


def test_an_override_sets_a_failure_aside_and_is_shown_but_proves_nothing() -> None:
    policy = Policy(required={}, overrides=frozenset({("cublas", "GPU-a")}))
    found = fold([result("OK"), result("LIB_LOAD", gate="cublas")], policy)
    assert found.verdict is Verdict.PASS
    assert [r.code for r in found.overridden] == ["LIB_LOAD"]
    assert fold([result("LIB_LOAD", gate="cublas")], policy).exit_code == 1


# --- the way back


def test_rollback_needs_software_repetition_a_pass_before_and_a_way_back() -> None:
    twice = [result("LIB_LOAD", passed_before=True, attempt=n) for n in (1, 2)]
    assert decided(*twice, policy=ROLLS_BACK)[1] == "rollback"
    assert decided(twice[0], policy=ROLLS_BACK)[1] == "halt"
    assert decided(*(replace(r, passed_before=False) for r in twice), policy=ROLLS_BACK)[1] == "halt"
    assert decided(*(replace(r, passed_before=None) for r in twice), policy=ROLLS_BACK)[1] == "halt"
    assert decided(*twice, policy=replace(ROLLS_BACK, way_back=False))[1] == "halt"
    assert decided(*twice, policy=replace(ROLLS_BACK, rollback=False))[1] == "halt"


def test_a_hung_node_is_never_rolled_back() -> None:
    twice = [result("LIB_LOAD", passed_before=True, attempt=n) for n in (1, 2)]
    found = fold([*twice, result("GATE_HUNG_D", subject="GPU-b")], ROLLS_BACK)
    assert (found.verdict, found.action) == (Verdict.HUNG, Action.HALT)
    assert Action.ROLLBACK not in found.allowed


def test_broken_hardware_is_set_apart_rather_than_changed_again() -> None:
    twice = [result("LIB_LOAD", passed_before=True, attempt=n) for n in (1, 2)]
    found = fold([*twice, result("ECC_UNCORRECTED", gate="ecc", passed_before=True)], ROLLS_BACK)
    assert found.action is Action.QUARANTINE
    assert Action.ROLLBACK not in found.allowed


def test_reasons_name_gpu_gate_evidence_and_code() -> None:
    assert fold([result("LIB_LOAD")], NOTHING_ASKED).reasons == ("GPU-a: kernel: seen (LIB_LOAD)",)


RESULTS = st.lists(st.builds(
    GateResult, st.sampled_from(["kernel", "copy"]), st.sampled_from(["GPU-a", "GPU-b"]),
    st.sampled_from(sorted(FAILURES)), st.just(("seen",)), st.integers(1, 3),
    st.sampled_from([None, True, False])), max_size=8)
POLICIES = st.builds(Policy, st.sampled_from([{}, {"kernel": frozenset()}, {"kernel": frozenset({"GPU-a", "GPU-b"})}]),
                     st.booleans(), st.booleans())


@given(st.data(), RESULTS, POLICIES)
@settings(max_examples=150, deadline=None)
@pytest.mark.property
def test_the_order_of_answers_changes_nothing(data: st.DataObject, results: list[GateResult], policy: Policy) -> None:
    shuffled = data.draw(st.permutations(results))
    assert fold(results, policy) == fold(shuffled, policy)


@given(RESULTS, POLICIES)
@settings(max_examples=200, deadline=None)
@pytest.mark.property
def test_going_on_needs_proof_of_all_that_is_asked_and_no_failure(results: list[GateResult], policy: Policy) -> None:
    found: Decision = fold(results, policy)
    assert found.exit_code == EXIT_CODES[found.verdict]
    assert found.action in found.allowed
    if found.action is not Action.CONTINUE:
        return
    assert found.exit_code == 0
    # A failure goes only where a fresh attempt was asked for: to see it again, or because waiting may mend it.
    stays = [r for r in results if r.verdict in (Verdict.FAIL, Verdict.HUNG) and not r.row.must_repeat
             and r.row.actions[0] is not Action.RETRY]
    assert not stays
    proved = {r.key for r in results if r.verdict in (Verdict.PASS, Verdict.WARN)}
    for gate, subjects in policy.required.items():
        assert {(gate, s) for s in subjects} <= proved
        assert any(key[0] == gate for key in proved)


@given(RESULTS, st.sampled_from(sorted(c for c, r in FAILURES.items() if r.verdict is Verdict.FAIL)))
@settings(max_examples=150, deadline=None)
@pytest.mark.property
def test_one_more_failure_never_makes_it_better(results: list[GateResult], code: str) -> None:
    more = [*results, GateResult("new", "GPU-a", code, ("seen",))]
    before, after = fold(results, NOTHING_ASKED), fold(more, NOTHING_ASKED)
    assert after.exit_code == 7
    assert WORST_FIRST.index(after.verdict) <= WORST_FIRST.index(before.verdict)


@given(RESULTS.filter(bool))
@settings(max_examples=100, deadline=None)
@pytest.mark.property
def test_settling_is_idempotent(results: list[GateResult]) -> None:
    group = [replace(r, gate="kernel", subject="GPU-a") for r in results]
    once = settle(group)
    assert settle([once]) == once


@pytest.mark.parametrize(("codes", "outcome"), [
    (("FABRIC_NOT_READY", "OK"), ("pass", "continue", 0)), (("CTR_NO_GPU", "OK"), ("pass", "continue", 0)),
    (("FABRIC_NOT_READY", "INHERITED"), ("fail", "retry-after-idle", 7)),
    (("FABRIC_NOT_READY", "FABRIC_NOT_READY"), ("fail", "retry-after-idle", 7)),
    (("RESULT_WRONG", "OK"), ("fail", "halt", 7)),
])
def test_what_waiting_may_mend_is_gone_when_a_fresh_attempt_passes(codes: tuple[str, str],
                                                                  outcome: tuple[str, str, int]) -> None:
    assert decided(*(result(code, attempt=place) for place, code in enumerate(codes, start=1))) == outcome
