"""Figures of pairs, all-reduces and load before and after: recorded ones that pass, and each that is made worse."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.execute.wave import slower as wave_slower
from planner.gates.baseline import baseline_json, read_baseline
from planner.gates.compare import Compared, Comparison, compare, compare_wave
from planner.gates.failures import Verdict
from planner.gates.figures import Baseline, baseline_of, ranks_of
from planner.gates.verdicts import Policy, fold
from tests.gates.test_pairs import _JSON, spots
from tests.gates.together import A, B, holders, ranks, recorded, renamed, report, slower

FIRST, SECOND = (baseline_json(baseline_of(report(run))) for run in range(2))
C = "GPU-00000000-1111-2222-3333-666666666666"
EACH = [(place, number) for place, holder in enumerate(holders(FIRST)) for number in range(len(holder["figures"]))]


def read(value: dict[str, Any]) -> Baseline:
    return read_baseline(json.dumps(value), name="b.json")


BEFORE = read(FIRST)


def compared(after: dict[str, Any], *again: dict[str, Any], before: dict[str, Any] | None = None) -> Comparison:
    return compare(BEFORE if before is None else read(before), *(read(each) for each in (after, *again)))


def later(value: dict[str, Any] = FIRST) -> dict[str, Any]:
    """Return the same measurement as if it had been taken again an hour later."""
    return copy.deepcopy(value) | {"taken_at": SECOND["taken_at"]}


def rows(found: Comparison, part: str) -> dict[tuple[str, str], Compared]:
    return {(row.gpu, row.figure): row for row in found.rows if row.part == part}


def codes(found: Comparison, part: str) -> set[str]:
    return {row.result.code for row in rows(found, part).values()}


# --- what is kept


def test_figures_have_units_directions_and_raw_samples() -> None:
    taken = baseline_of(report())
    (pair, whole) = taken.groups
    assert (pair.part, pair.gpus) == ("pairs", (A, B))
    assert [figure.name for figure in pair.figures] == ["peer_copy_back", "peer_copy_forth", "peer_read_back",
                                                        "peer_read_forth"]
    forth = pair.figure("peer_copy_forth")
    assert forth is not None
    assert (forth.kind, forth.unit, forth.better) == ("bandwidth", "B/s", "higher")
    assert forth.samples == (tuple(1e9 * x for x in report()["pairs"]["pairs"][0]["copy"]["gbps"]),)
    assert (whole.part, whole.gpus) == ("collective", (A, B))
    assert [(figure.name, figure.kind, figure.unit, figure.better) for figure in whole.figures] == [
        ("all_reduce_1_GiB", "collective", "B/s", "higher"), ("all_reduce_32_MiB", "collective", "B/s", "higher"),
        ("all_reduce_8_B", "latency", "s", "lower")]
    gpu = taken.gpu(B)
    assert gpu is not None
    assert {figure.name: (figure.unit, figure.better, len(figure.samples[0])) for figure in gpu.figures
            if figure.name.startswith("load_")} == {
        "load_tensor": ("op/s", "higher", 345), "load_copy": ("B/s", "higher", 345), "load_busy": ("1", "higher", 345),
        "load_launch_cpu": ("s", "lower", 345), "load_copy_cpu": ("s", "lower", 345)}


def test_the_document_is_read_as_it_was_written() -> None:
    for profile in ("standard", "deep"):
        taken = baseline_of(report(profile=profile))
        assert read(baseline_json(taken)) == taken
    assert read(baseline_json(ranks_of(ranks()))) == ranks_of(ranks())
    single = baseline_of(recorded("standard"))
    assert read(baseline_json(single)) == single
    assert {each.part: (each.tried, each.why) for each in single.absent} == {
        "pairs": (False, "it needs two GPUs, 1 could be used"),
        "collective": (False, "it needs two GPUs, 1 could be used"), "load": (False, "the standard profile has none")}


def test_what_nvml_does_not_tell_is_null_and_compared_with_nothing() -> None:
    silent = report()
    silent["conditions"] = {}
    value = baseline_json(baseline_of(silent))
    assert value["gpus"][0]["power_limit_w"] is None
    assert codes(compared(later(value), before=value), "") == {"OK"}


def test_documents_from_before_pairs_were_kept_are_read_and_nothing_is_missed() -> None:
    old = recorded("baseline")
    assert not {"pairs", "collectives", "absent"} & set(old)
    assert read(old).gpus[0].figures == baseline_of(recorded("standard")).gpus[0].figures
    found = compared(SECOND, before=old)
    assert {row.result.verdict for row in found.rows if not row.part} <= {Verdict.PASS, Verdict.WARN}
    assert {(row.result.code, *row.result.evidence) for row in found.rows if row.part} == {
        ("BASELINE_MISSING", "not measured before")}
    assert codes(compared(later(old), before=old), "") == {"OK"}


@pytest.mark.parametrize(("path", "value", "words"), [
    (("pairs", 0, "gpus"), [B, A], "not sorted"), (("pairs", 0, "gpus"), [A, A], "not sorted"),
    (("pairs", 0, "gpus"), [A, B, C], "pairs.0.gpus"), (("pairs", 0, "figures"), [], "without figures"),
    (("collectives", 0, "gpus"), [A], "collectives.0.gpus"), (("collectives", 0, "by"), "magic", "collectives.0.by"),
    (("pairs", 0, "figures", 0, "samples", 0, 0), -1.0, "pairs.0.figures"), (("absent",), [{"part": "x"}], "absent.0"),
    (("gpus", 0, "slot"), "a\x1bb", "gpus.0.slot"),
])
def test_impossible_pairs_and_collectives_are_refused_and_named(path: tuple[Any, ...], value: Any, words: str) -> None:
    changed = copy.deepcopy(FIRST)
    place: Any = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(InputError) as caught:
        read(changed)
    assert any(words in str(each.summary) for each in caught.value.diagnostics)


def test_a_pair_or_collective_that_is_there_twice_is_refused() -> None:
    for key in ("pairs", "collectives"):
        with pytest.raises(InputError, match="there twice"):
            read(copy.deepcopy(FIRST) | {key: FIRST[key] * 2})


# --- the same node


def test_recorded_measurements_of_the_same_gpus_never_fail() -> None:
    for found in (compared(SECOND), compared(later(), before=SECOND | {"taken_at": FIRST["taken_at"]})):
        assert {row.result.verdict for row in found.rows} <= {Verdict.PASS, Verdict.WARN}
        assert codes(found, "pairs") == codes(found, "load") == {"OK"}
        assert fold(found.everything, Policy(required={})).exit_code == 0


@pytest.mark.parametrize("way", ["one host", "sockets"])
@pytest.mark.parametrize(("one", "other"), [(0, 1), (1, 0), (0, 0)])
def test_recorded_ranks_never_fail(way: str, one: int, other: int) -> None:
    found = compare(ranks_of(ranks(one, way)), ranks_of(ranks(other, way)))
    assert {row.figure for row in found.rows} == {"all_reduce_8_B", "all_reduce_64_MiB", "all_reduce_1_GiB"}
    # Sockets of one machine spread by a tenth in one of both runs: a baseline that is no baseline, and said so.
    assert {row.result.code for row in found.rows} <= {"OK", "PERF_FASTER"} | (
        {"BASELINE_NOISY"} if way == "sockets" and one == 1 else set())


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
@pytest.mark.property
def test_neither_the_order_of_anything_nor_that_of_samples_makes_a_difference(random: Random) -> None:
    mixed = later(SECOND)
    for key in ("gpus", "pairs", "collectives"):
        random.shuffle(mixed[key])
    for holder in holders(mixed):
        random.shuffle(holder["figures"])
    found = compared(mixed)
    assert found.everything == compared(SECOND).everything
    assert [(row.gpu, row.figure, row.change) for row in found.rows] == [
        (row.gpu, row.figure, row.change) for row in compared(SECOND).rows]
    same = later()
    for holder in holders(same):
        for figure in holder["figures"]:
            for group in figure["samples"]:
                if len(group) < 100:        # of a long process beginning and end are told apart
                    random.shuffle(group)
    assert {row.result.code for row in compared(same).rows} == {"OK"}


def test_the_reports_order_makes_no_difference() -> None:
    other = report(1)
    other["gpus"].reverse()
    other["load"].reverse()
    other["pairs"]["pairs"].reverse()
    assert compare(baseline_of(report()), baseline_of(other)).everything == compare(
        baseline_of(report()), baseline_of(report(1))).everything


# --- what is worse


@given(st.sampled_from(EACH), st.sampled_from([0.15, 0.45]))
@settings(max_examples=50, deadline=None)
@pytest.mark.property
def test_a_loss_in_any_one_figure_is_told_as_its_limits_say_and_in_no_other(place: tuple[int, int],
                                                                            loss: float) -> None:
    worse = later()
    figure = holders(worse)[place[0]]["figures"][place[1]]
    slower(figure, loss)
    found = compared(worse, worse)
    changed = [row for row in found.rows if row.change and row.change.loss > 0.01]
    assert [row.figure for row in changed] == [figure["name"]]
    assert {row.result.code for row in found.rows if row is not changed[0]} == {"OK"}
    change, seconds = changed[0].change, figure["unit"] == "s"
    assert change is not None
    absolute = abs(change.after - change.before)
    if loss > change.fail and (not seconds or absolute > 2e-6):
        wanted = {Verdict.FAIL}
    elif loss > change.warn and (not seconds or absolute > 1e-6):
        wanted = {Verdict.WARN}
    else:
        wanted = {Verdict.PASS, Verdict.WARN}       # inside what this figure's noise before allows
    assert changed[0].result.verdict in wanted
    if figure["class"] in ("bandwidth", "compute", "collective") and figure["name"] != "copy_kernel":
        assert changed[0].result.verdict is Verdict.FAIL       # copy_kernel was noisy before: it fails from 26 % on


@pytest.mark.parametrize("place", EACH)
def test_a_figure_that_became_unsteady_is_a_finding_though_its_median_stays(place: tuple[int, int]) -> None:
    shaky = later()
    figure = holders(shaky)[place[0]]["figures"][place[1]]
    far = 0.2 if figure["better"] == "higher" else -2.0
    figure["samples"] = [[value * (1 - far) if number % 3 == 0 else value for number, value in enumerate(group)]
                         for group in figure["samples"]]
    (row,) = [row for row in compared(shaky).rows if row.change and row.change.unsteady]
    assert row.figure == figure["name"]
    assert row.result.code != "OK"
    assert any("spread" in words for words in row.result.evidence)


def test_steady_processes_that_disagree_are_unsteady() -> None:
    shaky = later()
    figure = next(each for each in shaky["gpus"][0]["figures"] if each["name"] == "copy_device")
    figure["samples"][1] = [0.92 * value for value in figure["samples"][0]]
    row = rows(compared(shaky), "")[A, "copy_device"]
    assert row.result.code in ("PERF_UNSTEADY", "PERF_SLOWER")
    assert row.change is not None
    assert row.change.unsteady
    assert row.change.spread_after < 0.02
    assert any("apart" in words for words in row.result.evidence)


def test_a_load_that_falls_slowly_is_unsteady_though_no_part_of_it_is() -> None:
    falling = later()
    figure = next(each for each in falling["gpus"][0]["figures"] if each["name"] == "load_copy")
    (group,) = figure["samples"]
    figure["samples"] = [[value * (1.03 - 0.06 * number / len(group)) for number, value in enumerate(group)]]
    assert rows(compared(falling), "load")[A, "load_copy"].result.code == "PERF_UNSTEADY"


# --- what is missing, and who is who


def test_what_was_not_measured_after_is_said_and_never_a_pass() -> None:
    for part, error, code, words in (
            ("pairs", {"error": "timeout"}, "GATE_NO_RESULT", "timeout"),
            ("collective", {"status": "skip", "reason": "no libnccl.so.2"}, "PART_MISSING", "no libnccl.so.2"),
            ("collective", {"status": "error", "error": "x", "nccl_code": 2}, "GATE_NO_RESULT", "x"),
            ("pairs", None, "PART_MISSING", "it was not asked for"), ("load", [], "GATE_NO_RESULT", "no figure"),
            ("load", None, "PART_MISSING", "it was not asked for")):
        after = report(1)
        after[part] = error
        found = compare(baseline_of(report()), baseline_of(after))
        assert {row.result.code for row in found.rows if row.part == part} == {code}
        assert all(words in row.result.evidence[0] for row in found.rows if row.part == part)
    found = compare(baseline_of(report()), baseline_of(report(1, profile="standard")))
    assert codes(found, "load") == {"PART_MISSING"}
    assert rows(found, "load")[A, "load_busy"].result.evidence == (
        "measured before, not after: the standard profile has none",)


def test_one_figure_that_is_gone_is_an_error() -> None:
    after = report(1)
    after["pairs"]["pairs"][0]["late"] = True
    del after["collective"]["sizes"][2]
    found = compare(baseline_of(report()), baseline_of(after))
    assert rows(found, "pairs")[f"{A} {B}", "peer_copy_forth"].result.code == "GATE_NO_RESULT"
    assert rows(found, "pairs")[f"{A} {B}", "peer_copy_back"].result.code == "OK"
    assert rows(found, "collective")[f"{A} {B}", "all_reduce_1_GiB"].result.code == "GATE_NO_RESULT"
    assert fold(found.everything, Policy(required={})).exit_code == 1


def test_gpus_are_known_by_uuid_whatever_their_number_and_slot() -> None:
    swapped = report(1)
    for number, gpu in enumerate(reversed(swapped["gpus"])):
        gpu["index"] = number
    slots = [gpu["bus_id"] for gpu in swapped["nvml"]["gpus"]]
    for gpu, slot in zip(swapped["nvml"]["gpus"], reversed(slots), strict=True):
        gpu["bus_id"] = slot
    found = compare(baseline_of(report()), baseline_of(swapped))
    assert found.everything == compare(baseline_of(report()), baseline_of(report(1))).everything


def test_a_gpu_that_sorts_elsewhere_keeps_its_directions() -> None:
    """Forth is from the UUID that is sorted first, not from the GPU that was listed first."""
    back = report()
    back["pairs"]["pairs"][0]["copy"]["gbps"] = [100.0] * 7
    (pair, _) = baseline_of(renamed(back, (A, B), (B, A))).groups
    figure = pair.figure("peer_copy_back")
    assert figure is not None
    assert figure.samples == ((1e11,) * 7,)


def test_a_replaced_gpu_is_named_and_what_it_had_with_others_is_not_compared() -> None:
    found = compare(baseline_of(report()), baseline_of(renamed(report(1), (B, C))))
    told = {(result.gate, result.subject): (result.code, result.evidence) for result in found.others}
    assert told["inventory", B] == ("GPU_MISSING", ("NVIDIA H200 is gone",
                                                    f"{C} (NVIDIA H200) is in its slot 00000000:01:06.0"))
    assert told["inventory", C] == ("BASELINE_MISSING", ("NVIDIA H200 was not there before",
                                                         f"it is in the slot of {B}, 00000000:01:06.0"))
    assert rows(found, "pairs") == {}
    whole = {gpu: (row.result.code, row.result.evidence[0]) for (gpu, _), row in rows(found, "collective").items()}
    assert whole == {f"{A} {B}": ("PART_MISSING", f"measured before, not after: {B} is gone"),
                     f"{A} {C}": ("BASELINE_MISSING", "not measured before")}
    assert {gpu for gpu, _ in rows(found, "")} == {A}


def test_surroundings_of_either_gpu_spoil_what_they_did_together() -> None:
    hot = report(1)
    hot["conditions"][B] = hot["conditions"][B] | {"throttled": ["hw-thermal"]}
    found = compare(baseline_of(report()), baseline_of(hot))
    assert codes(found, "pairs") == codes(found, "collective") == {"ENV_THROTTLED"}
    assert B in rows(found, "pairs")[f"{A} {B}", "peer_read_back"].result.evidence[0]
    assert {row.result.code for (gpu, _), row in rows(found, "load").items() if gpu == A} == {"OK"}


def test_a_gate_gets_the_answers_of_gpus_alone_because_its_parts_judge_the_rest() -> None:
    worse = later()
    for holder in (*worse["pairs"], *worse["collectives"]):
        for figure in holder["figures"]:
            slower(figure, 0.2)
    found = compared(worse)
    assert {result.code for result in found.results} == {"OK"}
    assert len([result for result in found.everything if result.code == "PERF_DROP"]) >= 6


# --- a wave


def wave(count: int, part: str, loss: float) -> list[Comparison]:
    found = []
    for number in range(count):
        before, worse = FIRST | {"host": f"n{number}"}, later() | {"host": f"n{number}"}
        for holder in holders(worse):
            for figure in holder["figures"]:
                if figure["name"].startswith(part):
                    slower(figure, loss)
        found.append(compared(worse, before=before))
    return found


@pytest.mark.parametrize(("part", "figures", "of"), [
    ("peer_copy", ["peer_copy"], "6 of 6 nodes lost"), ("all_reduce_32", ["all_reduce_32_MiB"], "6 of 6 nodes lost"),
    ("load_tensor", ["load_tensor"], "12 of 12 GPUs lost")])
def test_a_wave_two_per_cent_slower_fails_though_each_node_passes(part: str, figures: list[str], of: str) -> None:
    nodes = wave(6, part, 0.02)
    assert {row.result.code for node in nodes for row in node.rows} == {"OK"}
    found = {result.gate: result for result, _ in compare_wave(nodes) if result.code != "OK"}
    assert list(found) == [f"wave:{name}" for name in figures]
    assert of in next(iter(found.values())).evidence
    assert {result.code for result, _ in compare_wave(wave(6, part, 0.0))} == {"OK"}


def test_five_nodes_are_too_few_however_many_pairs_they_have_and_one_node_is_one_voice() -> None:
    assert {result.code for result, _ in compare_wave(wave(5, "peer_", 0.02))} == {"OK"}
    counts = {result.gate: change.count for result, change in compare_wave(wave(5, "peer_", 0.02))}
    assert (counts["wave:peer_copy"], counts["wave:load_copy"], counts["wave:copy_device"]) == (5, 10, 10)


def test_the_engine_halts_a_wave_for_its_pairs() -> None:
    def text(run: int, host: str, factor: float) -> str:
        value = report(0, profile="standard", host=host) | {"started_at": f"2026-11-26T2{run}:00:00Z"}
        for pair in value["pairs"]["pairs"]:
            pair["read"]["gbps"] = [factor * x for x in pair["read"]["gbps"]]
        return json.dumps(value)

    hosts = [f"n{number}" for number in range(6)]
    assert wave_slower(hosts, lambda host: text(1, host, 1), lambda host: text(2, host, 1)) == ""
    lost = wave_slower(hosts, lambda host: text(1, host, 1), lambda host: text(2, host, 0.975))
    assert lost.startswith("peer_read: median loss 2.5 %")


# --- reports from anywhere


@given(st.data())
@settings(max_examples=150, deadline=None)
@pytest.mark.property
def test_no_malformed_part_raises_and_none_passes_for_figures_it_lacks(data: st.DataObject) -> None:
    whole = report(slices=6)
    part = data.draw(st.sampled_from(["pairs", "collective", "load"]))
    path = (part, *data.draw(st.sampled_from(spots(whole[part]))))
    place: Any = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = data.draw(_JSON)
    found = compare(baseline_of(report(slices=6)), baseline_of(whole | {"started_at": "2026-11-26T22:00:00Z"}))
    assert {row.part for row in found.rows} == {"", "pairs", "collective", "load"}
    assert all(row.result.verdict is not Verdict.PASS for row in found.rows if row.after is None)


@given(st.data())
@settings(max_examples=100, deadline=None)
@pytest.mark.property
def test_malformed_ranks_are_refused_in_words(data: st.DataObject) -> None:
    value: list[Any] = ranks()
    path = data.draw(st.sampled_from([spot for spot in spots(value) if spot]))
    place: Any = value
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = data.draw(_JSON)
    try:
        found = ranks_of(value)
    except ValueError:
        return
    assert found.groups


@pytest.mark.parametrize(("reports", "words"), [
    ([], "one and the same run"), (ranks()[:1], "ranks [0] of 2"), ([*ranks(), ranks()[1]], "ranks [0, 1, 1] of 2"),
    (ranks(status="timeout", reason="after 180 s"), "rank 0 ended with timeout: after 180 s"),
    ([ranks(nonce="f")[0], ranks()[1]], "one and the same run"), (ranks(schema="planner.gate/2"), "'planner.gate/2'"),
    (ranks(local=10**9), "1000000000 GPUs of one process"), (ranks(sizes=[]), "0 figures"),
])
def test_ranks_that_are_no_whole_run_are_refused(reports: list[Any], words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("[", r"\[").replace("]", r"\]")):
        ranks_of(reports)


def test_of_ranks_the_slowest_counts() -> None:
    first, second = ranks()
    second["sizes"][2]["gbps"] = [x / 2 for x in second["sizes"][2]["gbps"]]
    (group,) = ranks_of([second, first]).groups
    figure = group.figure("all_reduce_1_GiB")
    assert figure is not None
    assert figure.samples == (tuple(1e9 * x for x in second["sizes"][2]["gbps"]),)
