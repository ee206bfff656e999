"""Copies between GPUs and all-reduces on stand-ins: what is right passes, everything else is named."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.gates.expect import pattern_word
from planner.gates.pairs import COLLECTIVE_SIZES, PAIR_SIZES, judge_collective, judge_pairs, reduced_sums
from planner.probe import collective, pairs
from planner.probe.collective import measure_collective, run_collective
from planner.probe.pairs import measure_pairs
from tests.gates.standin_pairs import StandInNccl, StandInNode

NONCE, HOST = "0123456789abcdef", "n1"
REQUEST = {"profile": "standard", "nonce": NONCE, "host": HOST}
A, B, C = (StandInNode.uuid(n) for n in range(3))


def run(driver: StandInNode, sizes: dict[str, int] | None = None, nonce: str = NONCE) -> dict[str, Any]:
    uuids = [StandInNode.uuid(n) for n in range(driver.gpus)]
    return json.loads(json.dumps({"gpus": [{} for _ in uuids], "pairs": measure_pairs(
        uuids, nonce, HOST, sizes or PAIR_SIZES["stand-in"], driver)}))


def codes(report: dict[str, Any], before: dict[str, Any] | None = None) -> dict[tuple[str, str], str]:
    return {(r.gate, r.subject): r.code for r in judge_pairs(report, REQUEST, before)}


@pytest.fixture(scope="module")
def right() -> dict[str, Any]:
    return run(StandInNode())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Least work, on both sides."""
    for table in (PAIR_SIZES, pairs.SIZES):
        monkeypatch.setitem(table, "stand-in", {"bytes": 16384, "samples": 5, "budget_ms": 30000})


def test_both_sides_ask_for_the_same_work() -> None:
    assert PAIR_SIZES == pairs.SIZES
    assert COLLECTIVE_SIZES == collective.SIZES


def test_right_copies_pass_and_equal_themselves(right: dict[str, Any]) -> None:
    assert codes(right, right) == {("pairs.matrix", HOST): "OK", **{(gate, uuid): "OK" for uuid in (A, B)
                                                                   for gate in ("pairs", "pairs.bandwidth")}}
    assert right["pairs"]["matrix"] == [[0, 1], [1, 0]]
    assert right["pairs"]["problems"] == []
    assert {pair["access"] for pair in right["pairs"]["pairs"]} == {"open"}
    assert all(len(pair[way]["gbps"]) == 5 for pair in right["pairs"]["pairs"] for way in ("copy", "read"))


def test_without_a_baseline_data_pass_and_speed_is_not_judged(right: dict[str, Any]) -> None:
    found = codes(right)
    assert {code for (gate, _), code in found.items() if gate == "pairs"} == {"OK"}
    assert {code for (gate, _), code in found.items() if gate != "pairs"} == {"BASELINE_MISSING"}


def test_everything_is_given_back() -> None:
    driver = StandInNode(3)
    run(driver, {"bytes": 16384, "samples": 1, "budget_ms": 30000})
    assert (driver.contexts, driver.events, driver.device, driver.modules) == (0, 0, {}, {})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("way", ["copy", "read"])
def test_one_wrong_bit_and_work_not_done_are_wrong_results(way: str) -> None:
    spoiled = run(StandInNode(spoil={(0, 1, way): 4095}))
    assert codes(spoiled)["pairs", A] == "RESULT_WRONG"
    assert codes(spoiled)["pairs", B] == "OK"
    lazy = run(StandInNode(lazy=(way,)))
    assert {codes(lazy)["pairs", uuid] for uuid in (A, B)} == {"RESULT_WRONG"}


@pytest.mark.usefixtures("small")
def test_peers_that_are_lost_or_new_are_a_change() -> None:
    whole, apart = run(StandInNode(3)), run(StandInNode(3, apart={(0, 2), (2, 0)}))
    results = {(r.gate, r.subject): r for r in judge_pairs(apart, REQUEST, whole)}
    assert results["pairs.matrix", HOST].code == "P2P_CHANGED"
    assert results["pairs.matrix", HOST].evidence == (f"{A} cannot reach {C}", f"{C} cannot reach {A}")
    assert results["pairs", A].code == "OK"                     # copies by way of the host are still right
    assert results["pairs.bandwidth", A].code == "GATE_NO_RESULT"   # the direct read is gone
    assert codes(whole, apart)["pairs.matrix", HOST] == "P2P_CHANGED"
    assert codes(apart, apart)["pairs.matrix", HOST] == "OK"


@pytest.mark.usefixtures("small")
def test_access_that_is_offered_and_refused_is_a_change_even_without_a_baseline() -> None:
    report = run(StandInNode(refuse_access={(1, 0): 711}))
    assert codes(report)["pairs.matrix", HOST] == "P2P_CHANGED"
    assert "read" not in next(p for p in report["pairs"]["pairs"] if p["from"] == A)


@pytest.mark.usefixtures("small")
def test_slower_pairs_are_named_by_their_source() -> None:
    before = run(StandInNode())
    after = copy.deepcopy(before)
    pair = after["pairs"]["pairs"][0]
    pair["copy"]["gbps"] = [value * 0.9 for value in pair["copy"]["gbps"]]
    found = {(r.gate, r.subject): r for r in judge_pairs(after, REQUEST, before)}
    assert found["pairs.bandwidth", A].code == "PERF_DROP"
    assert B in found["pairs.bandwidth", A].evidence[0]
    assert found["pairs.bandwidth", B].code == "OK"
    pair["copy"]["gbps"] = [value * 0.6 for value in before["pairs"]["pairs"][0]["copy"]["gbps"]]
    assert codes(after, before)["pairs.bandwidth", A] == "PERF_COLLAPSE"


@pytest.mark.usefixtures("small")
def test_errors_of_the_driver_keep_their_code() -> None:
    assert codes(run(StandInNode(fail={"cuMemcpyPeerAsync": 214})))["pairs", A] == "ECC_UNCORRECTED"
    ready = codes(run(StandInNode(fail={"cuInit": 802})))
    assert ready == {("pairs", A): "FABRIC_NOT_READY", ("pairs", B): "FABRIC_NOT_READY"}
    assert codes(run(StandInNode(broken=(1,))))["pairs", B] == "UNKNOWN_CODE"
    assert codes(run(StandInNode(free_bytes=16384)))["pairs", HOST] == "MEMORY_SHORT"


def test_late_pairs_are_proved_but_not_compared() -> None:
    report = run(StandInNode(), {"bytes": 16384, "samples": 5, "budget_ms": 0})
    assert all(pair["late"] and len(pair["copy"]["gbps"]) == 1 for pair in report["pairs"]["pairs"])


def test_another_run_other_sizes_and_missing_pairs_do_not_pass(right: dict[str, Any]) -> None:
    for key, value, code in (("nonce", "f" * 16, "REPORT_FOREIGN"), ("host", "n2", "REPORT_FOREIGN"),
                             ("parameters", {}, "GATE_BUG")):
        changed = copy.deepcopy(right)
        changed["pairs"][key] = value
        assert codes(changed) == {("pairs", HOST): code}
    changed = copy.deepcopy(right)
    del changed["pairs"]["pairs"][1]
    assert codes(changed)["pairs", B] == "GATE_NO_RESULT"
    other = run(StandInNode(), nonce="f" * 16)
    other["pairs"]["nonce"] = NONCE
    assert {codes(other)["pairs", uuid] for uuid in (A, B)} == {"RESULT_WRONG"}


@pytest.mark.parametrize(("seen", "code"), [
    ({"hung": True}, "GATE_HUNG_D"), ({"error": "timeout"}, "GATE_TIMEOUT"), ({"timeout": True}, "GATE_TIMEOUT"),
    ({"error": "hung: it cannot be killed"}, "GATE_HUNG_D"), ({"short": "x"}, "MEMORY_SHORT"),
    ({"error": "x", "code": 802}, "FABRIC_NOT_READY"), ({"error": "KeyError: x"}, "GATE_BUG"), ({}, "GATE_BUG"),
    ({"error": "killed by signal 11", "ended": "killed by signal 11"}, "GATE_CRASHED"),
])  # fmt: skip
def test_a_child_that_gave_no_answer(seen: dict[str, Any], code: str) -> None:
    assert codes({"pairs": seen}) == {("pairs", HOST): code}


@pytest.mark.parametrize(("gpus", "profile", "found"), [
    ([{}], "standard", ["PART_MISSING"]), ([{}, {"busy": "pid 1"}], "deep", ["PART_MISSING"]),
    ([{}, {}], "standard", ["GATE_NO_RESULT"]), ([{}, {}], "quick", []), (7, "deep", ["GATE_BUG"]),
])  # fmt: skip
def test_nothing_there_is_a_skip_only_where_too_few_gpus_are_free(gpus: Any, profile: str, found: list[str]) -> None:
    request = {**REQUEST, "profile": profile}
    for judge in (judge_pairs, judge_collective):
        assert [result.code for result in judge({"gpus": gpus}, request, None)] == found


# --- all-reduce ---------------------------------------------------------------------------------------------------

def reduce(driver: StandInNode | None = None, nccl: StandInNccl | None = None) -> dict[str, Any]:
    driver = driver or StandInNode()
    uuids = [StandInNode.uuid(n) for n in range(driver.gpus)]
    return json.loads(json.dumps({"gpus": [{} for _ in uuids], "collective": measure_collective(
        uuids, NONCE, HOST, COLLECTIVE_SIZES["stand-in"], "libnccl.so.2", driver, nccl or StandInNccl())}))


def judged(report: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, str]:
    return {r.gate: r.code for r in judge_collective(report, REQUEST, before)}


@pytest.fixture(scope="module")
def reduced() -> dict[str, Any]:
    report = reduce()
    report["collective"]["log"] = {"via": {"P2P/CUMEM": 8}, "network": "Socket", "nvls": False, "lines": []}
    return report


def test_right_sums_pass_and_equal_themselves(reduced: dict[str, Any]) -> None:
    assert judged(reduced, reduced) == {"collective": "OK", "collective.transports": "OK", "collective.speed": "OK"}
    assert judged(reduced) == {"collective": "OK", "collective.speed": "BASELINE_MISSING"}
    small, large = reduced["collective"]["sizes"]
    assert (len(small["us"]), "gbps" in small, len(large["gbps"])) == (5, False, 5)


def test_communicators_streams_and_memory_are_given_back() -> None:
    driver, nccl = StandInNode(), StandInNccl()
    reduce(driver, nccl)
    assert (driver.contexts, driver.events, driver.streams, driver.device, nccl.comms) == (0, 0, 0, {}, {})


@pytest.mark.parametrize("size", COLLECTIVE_SIZES["stand-in"]["bytes"])
def test_one_wrong_bit_on_one_rank_is_a_wrong_result(size: int) -> None:
    found = judge_collective(reduce(nccl=StandInNccl(spoil=(size, 1))), REQUEST, None)
    assert found[0].code == "RESULT_WRONG"
    assert f"{size} bytes, rank 1" in found[0].evidence[0]


def test_nccls_own_errors_and_those_of_the_driver_keep_their_words() -> None:
    report = reduce(nccl=StandInNccl(fail={"ncclCommInitAll": 2}))
    assert judged(report) == {"collective": "NCCL_ERROR"}
    assert "ncclCommInitAll failed with 2" in report["collective"]["error"]
    assert judged(reduce(StandInNode(fail={"cuMemAlloc_v2": 214}))) == {"collective": "ECC_UNCORRECTED"}
    nccl = StandInNccl(fail={"ncclAllReduce": 6})
    assert judged(reduce(nccl=nccl)) == {"collective": "NCCL_ERROR"}
    assert nccl.calls.count("ncclCommAbort") == 2


def test_other_ways_than_before_are_a_change(reduced: dict[str, Any]) -> None:
    after = copy.deepcopy(reduced)
    after["collective"]["log"]["via"] = {"SHM/direct": 8}
    found = {r.gate: r for r in judge_collective(after, REQUEST, reduced)}
    assert found["collective.transports"].code == "P2P_CHANGED"
    assert found["collective.transports"].evidence == ("transports P2P before, SHM now",)
    after["collective"]["log"] = {"reason": "NCCL_DEBUG_FILE is set"}
    assert judged(after, reduced)["collective.transports"] == "PART_MISSING"


def test_slower_all_reduces_fail(reduced: dict[str, Any]) -> None:
    after = copy.deepcopy(reduced)
    after["collective"]["sizes"][1]["gbps"] = [0.85 * x for x in after["collective"]["sizes"][1]["gbps"]]
    assert judged(after, reduced)["collective.speed"] == "PERF_DROP"
    del after["collective"]["sizes"][1]
    assert judged(after, reduced) == {"collective": "RESULT_WRONG", "collective.transports": "OK",
                                      "collective.speed": "GATE_NO_RESULT"}


@pytest.mark.parametrize(("seen", "code"), [
    ({"status": "skip", "reason": "no library"}, "PART_MISSING"), ({"error": "timeout"}, "NCCL_HANG"),
    ({"hung": True}, "GATE_HUNG_D"), ({"error": "x", "code": 700}, "UNKNOWN_CODE"), ({}, "GATE_BUG"),
])  # fmt: skip
def test_a_collective_that_gave_no_answer(seen: dict[str, Any], code: str) -> None:
    assert judged({"collective": seen}) == {"collective": code}


def test_no_library_is_a_skip() -> None:
    assert run_collective([A], NONCE, HOST, COLLECTIVE_SIZES["quick"], [])["status"] == "skip"


# --- arithmetic, and reports from anywhere ------------------------------------------------------------------------

@settings(deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9), st.sampled_from([1, 2, 4095, 4096, 4097, 9000]))
def test_the_closed_form_of_wrapped_sums_equals_plain_addition(seeds: list[int], count: int) -> None:
    cells = [sum(pattern_word(i, 3, seed, 0) for seed in seeds) % 2**32 for i in range(count)]
    weighted = sum(x * (i + 1) for i, x in enumerate(cells)) % 2**64
    assert reduced_sums(tuple(seeds), count) == (sum(cells) % 2**64, weighted, count)


_JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8), lambda inner: (
    st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)), max_leaves=12)


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, inner in inside for spot in spots(inner, (*path, key)))]


@settings(deadline=None)
@given(st.data())
def test_no_malformed_report_raises_and_none_passes_unless_it_is_whole(right: dict[str, Any], reduced: dict[str, Any],
                                                                       data: st.DataObject) -> None:
    for judge, part, whole in ((judge_pairs, "pairs", right), (judge_collective, "collective", reduced)):
        report = copy.deepcopy(whole)
        path = data.draw(st.sampled_from(spots(report[part])))
        place: Any = report
        for step in (part, *path)[:-1]:
            place = place[step]
        place[(part, *path)[-1]] = data.draw(_JSON)
        for before in (None, whole, report):
            results = judge(report, REQUEST, before)
            assert results
            assert all(result.row.code == result.code for result in results)
        results = judge(whole, REQUEST, report)
        assert results[0].code in ("OK", "BASELINE_MISSING", "P2P_CHANGED", "GATE_BUG")
