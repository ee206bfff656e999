"""Baselines: what is read and what is refused, and a node compared with itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.gates.baseline import read_baseline
from planner.gates.compare import Comparison, compare, compare_wave, si
from planner.gates.verdicts import Policy, fold
from tests.gates.nodes import after, document, edited, parsed

GPU = "GPU-gpu-17-0"
FIRST = ("gpus", 0, "figures", 0, "samples")


def refused(text: str) -> list[str]:
    """Return the complaints about a text that is no baseline."""
    with pytest.raises(InputError) as caught:
        read_baseline(text, name="b.json")
    assert all(d.hint and d.subject == "b.json" for d in caught.value.diagnostics)
    return [d.summary for d in caught.value.diagnostics]


def answers(comparison: Comparison) -> dict[tuple[str, str], str]:
    return {(r.gate, r.subject): r.code for r in (*comparison.others, *(row.result for row in comparison.rows))}


def compared(*later: dict[str, Any], before: dict[str, Any] | None = None) -> Comparison:
    return compare(parsed(before or document()), *(parsed(each) for each in later))


# --- reading


@pytest.mark.parametrize(("text", "words"), [
    ("", "not a baseline"), ("no JSON", "not a baseline"), ("[]", "no object but list"), ("null", "but NoneType"),
    ('{"schema": "planner.gate-result/1"}', "'planner.gate-result/1', not planner.baseline/1"),
    ('{"schema": {"a": 1}}', "not planner.baseline/1"), ("[" * 100_000, "nested too deep"), ("{}", "'None'"),
    ('{"schema": "planner.baseline/1"}', "host: Field required"),
])
def test_what_is_no_baseline_says_so(text: str, words: str) -> None:
    assert any(words in line for line in refused(text))


@pytest.mark.parametrize("path", [
    ("host",), ("taken_at",), ("gate",), ("kernels",), ("gpus",), ("gpus", 0, "uuid"), ("gpus", 0, "driver"),
    ("gpus", 0, "power_limit_w"), ("gpus", 0, "sm_clock_mhz"), ("gpus", 0, "memory_clock_mhz"),
    ("gpus", 0, "temperature_c"), ("gpus", 0, "throttled"), ("gpus", 0, "foreign"), ("gpus", 0, "figures"),
    ("gpus", 0, "figures", 0, "class"), ("gpus", 0, "figures", 0, "unit"), ("gpus", 0, "figures", 0, "better"), FIRST,
])
def test_each_missing_key_is_named(path: tuple[str | int, ...]) -> None:
    (words,) = refused(json.dumps(edited(document(), *path, to=...)))
    assert words == ".".join(map(str, path)) + ": Field required"


@pytest.mark.parametrize(("path", "value"), [
    ((*FIRST, 0, 0), 0.0), ((*FIRST, 0, 0), -1.0), ((*FIRST, 0, 0), True), ((*FIRST, 0, 0), "4260"),
    ((*FIRST, 0, 0), None), ((*FIRST, 0, 0), float("nan")), ((*FIRST, 0, 0), float("inf")), ((*FIRST, 0), [1.0] * 4),
    ((*FIRST, 0, 0), 10**400), ((*FIRST, 0, 0), 1e-300), ((*FIRST, 0, 0), 1e300), (FIRST, []), (FIRST, {}),
    ((*FIRST, 0), [1.0] * 10_001),
    (("gpus", 0, "power_limit_w"), 0.0), (("taken_at",), "yesterday"),
    (("taken_at",), "2026-11-24T10:00:00"), (("gpus", 0, "name"), "x" * 200), (("host",), "a\x1b[2Jb"),
    (("gpus", 0, "temperature_c"), 1e9), (("gpus", 0, "figures", 0, "class"), "speed"),
])
def test_impossible_values_are_refused_and_named(path: tuple[str | int, ...], value: object) -> None:
    words = refused(json.dumps(edited(document(), *path, to=value)))
    assert any(line.startswith(".".join(map(str, path[:3]))) for line in words)


def test_empty_lists_are_refused() -> None:
    assert refused(json.dumps(edited(document(), "gpus", to=[]))) == ["(top level): no GPU at all"]
    assert refused(json.dumps(edited(document(), "gpus", 0, "figures", to=[]))) == ["gpus.0: a GPU without figures"]


def test_a_gpu_or_figure_that_is_there_twice_is_refused() -> None:
    twice = document()
    twice["gpus"] *= 2
    assert "a GPU is there twice" in refused(json.dumps(twice))[0]
    twice = document()
    twice["gpus"][0]["figures"] *= 2
    assert "a figure is there twice" in refused(json.dumps(twice))[0]


def test_keys_of_a_newer_version_are_dropped() -> None:
    assert parsed({**document(), "colour": "green"}) == parsed(document())


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
                    max_leaves=8)
PLACES = [("gpus",), ("gpus", 0), ("gpus", 0, "figures"), ("gpus", 0, "figures", 0), FIRST, (*FIRST, 0), ("host",),
          ("gpus", 0, "uuid"), ("gpus", 0, "throttled"), ("taken_at",), ("stand_in",)]


@given(st.sampled_from(PLACES), JSON)
@settings(max_examples=200, deadline=None)
@pytest.mark.property
def test_whatever_a_node_writes_is_read_or_refused_without_a_traceback(path: tuple[str | int, ...], value: Any) -> None:
    text = json.dumps(edited(document(), *path, to=value))
    try:
        found = read_baseline(text, name="b.json")
    except InputError:
        return
    assert compare(found, parsed(after())).results


# --- a node with itself


def test_the_same_node_passes() -> None:
    found = compared(after())
    assert answers(found) == {("copy_device", GPU): "OK", ("wmma_f16", GPU): "OK"}
    assert fold(found.results, Policy(required={"copy_device": frozenset({GPU})})).exit_code == 0


@pytest.mark.parametrize(("loss", "code", "exit_code"), [
    (0.01, "OK", 0), (0.04, "PERF_SLOWER", 0), (0.15, "PERF_DROP", 7), (0.6, "PERF_COLLAPSE", 7)])
def test_a_slower_node_is_seen(loss: float, code: str, exit_code: int) -> None:
    found = compared(after(loss=loss))
    assert set(answers(found).values()) == {code}
    assert fold(found.results, Policy(required={})).exit_code == exit_code


def test_a_drop_names_figures_limits_and_both_medians() -> None:
    (row, _) = compared(after(loss=0.15)).rows
    assert row.result.evidence[0] == "3.615 TB/s, before 4.254 TB/s (−15.0 %)"
    assert row.result.evidence[1] == "warning beyond 3.0 %, failure beyond 5.0 %"


def test_a_drop_counts_when_it_repeats() -> None:
    once, twice = compared(after(loss=0.15)), compared(after(loss=0.15), after("again", loss=0.15))
    flaky = compared(after(loss=0.15), after("again"))
    actions = [fold(each.results, Policy(required={})).action.value for each in (once, twice, flaky)]
    assert actions == ["retry-after-idle", "quarantine", "continue"]
    assert set(answers(flaky).values()) == {"PERF_FLAKY"}


@pytest.mark.parametrize(("path", "value", "code"), [
    (("gpus", 0, "power_limit_w"), 500.0, "ENV_POWER_CAP"), (("gpus", 0, "sm_clock_mhz"), 1500.0, "ENV_CLOCKS"),
    (("gpus", 0, "temperature_c"), 80.0, "ENV_TEMPERATURE"),
    (("gpus", 0, "throttled"), ["power-brake"], "ENV_THROTTLED"),
    (("gpus", 0, "foreign"), ["pid 7 (python3)"], "ENV_FOREIGN_PROCESS"), (("gate",), "2", "BASELINE_OTHER"),
    (("kernels",), "sha256:0100", "BASELINE_OTHER"), (("host",), "gpu-18", "BASELINE_OTHER"),
    (("taken_at",), "2026-11-23T10:00:00Z", "BASELINE_OTHER"), (("taken_at",), "2026-12-25T10:00:01Z", "BASELINE_OLD"),
    (("stand_in",), False, "BASELINE_OTHER"),
])
@pytest.mark.parametrize("loss", [0.0, 0.5])
def test_what_cannot_be_compared_is_neither_pass_nor_failure(path: tuple[str | int, ...], value: Any, code: str,
                                                             loss: float) -> None:
    found = compared(edited(after(loss=loss), *path, to=value))
    assert set(answers(found).values()) == {code}
    assert fold(found.results, Policy(required={})).exit_code == 8


def test_one_process_is_too_few() -> None:
    value = after()
    value["gpus"][0]["figures"][0]["samples"] = value["gpus"][0]["figures"][0]["samples"][:1]
    assert answers(compared(value))["copy_device", GPU] == "BASELINE_OTHER"


def test_other_units_are_not_compared() -> None:
    assert answers(compared(edited(after(), "gpus", 0, "figures", 0, "unit", to="bit/s")))["copy_device", GPU] \
        == "BASELINE_OTHER"


def test_a_gpu_or_figure_that_is_gone_is_no_pass() -> None:
    gone = compared(after(gpus=1), before=document(gpus=2))
    assert answers(gone)["inventory", "GPU-gpu-17-1"] == "GPU_MISSING"
    assert fold(gone.results, Policy(required={})).action.value == "quarantine"
    fewer = compared(edited(after(), "gpus", 0, "figures", 0, to=...))
    assert answers(fewer)["copy_device", GPU] == "GATE_NO_RESULT"
    assert fold(fewer.results, Policy(required={})).exit_code == 1


def test_a_gpu_that_was_away_for_one_attempt_stays_missing() -> None:
    found = compared(after(gpus=1), after("again", gpus=2), before=document(gpus=2))
    assert answers(found)["inventory", "GPU-gpu-17-1"] == "GPU_MISSING"


def test_what_is_new_is_skipped_and_said() -> None:
    found = compared(after(gpus=2, figures=("copy_device", "wmma_f16", "fma_f32")))
    assert answers(found)["inventory", "GPU-gpu-17-1"] == "BASELINE_MISSING"
    assert answers(found)["fma_f32", GPU] == "BASELINE_MISSING"
    required = Policy(required={"fma_f32": frozenset()})
    assert fold(found.results, required).exit_code == 8


def test_unsteady_figures_are_a_finding() -> None:
    assert set(answers(compared(after(steady=False))).values()) == {"PERF_UNSTEADY"}


# --- peers and waves


def test_a_gpu_far_from_its_equals_is_named_unless_it_always_was() -> None:
    before, slow = document(gpus=8), after(gpus=8)
    slow["gpus"][3] = after("odd", gpus=8, loss=0.04)["gpus"][3]
    found = answers(compared(slow, before=before))
    assert found["peers:copy_device", "GPU-gpu-17-3"] == "PEER_OUTLIER"
    assert [key for key, code in found.items() if code == "PEER_OUTLIER" and key[1] != "GPU-gpu-17-3"] == []
    before["gpus"][3] = document("odd", gpus=8, loss=0.04)["gpus"][3]
    assert "PEER_OUTLIER" not in answers(compared(slow, before=before)).values()


def test_four_peers_are_too_few() -> None:
    slow = after(gpus=5)
    slow["gpus"][3] = after("odd", gpus=5, loss=0.04)["gpus"][3]
    assert "PEER_OUTLIER" not in answers(compared(slow, before=document(gpus=5))).values()


def wave(loss: float, **changed: Any) -> list[Comparison]:
    hosts = [f"gpu-{n}" for n in range(8)]
    return [compared({**after(host=host, loss=loss), **changed}, before=document(host=host)) for host in hosts]


def test_a_wave_two_per_cent_slower_halts_though_each_node_passes() -> None:
    nodes = wave(0.02)
    assert {r.code for node in nodes for r in node.results} == {"OK"}
    found = compare_wave(nodes)
    assert [(r.gate, r.code) for r, _ in found] == [("wave:copy_device", "PERF_DROP_WAVE"),
                                                    ("wave:wmma_f16", "PERF_DROP_WAVE")]
    decision = fold([r for r, _ in found], Policy(required={}))
    assert (decision.verdict.value, decision.action.value, decision.exit_code) == ("fail", "halt", 7)


def test_a_wave_that_lost_nothing_goes_on_and_spoiled_nodes_do_not_vote() -> None:
    assert {r.code for r, _ in compare_wave(wave(0.0))} == {"OK"}
    assert compare_wave(wave(0.02, kernels="other")) == ()


def test_comparing_with_nothing_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="nothing"):
        compare(parsed(document()))


@given(st.permutations(range(4)), st.permutations(range(2)))
@settings(max_examples=30, deadline=None)
@pytest.mark.property
def test_the_order_of_gpus_and_figures_changes_nothing(gpus: list[int], figures: list[int]) -> None:
    mixed = after(gpus=4, loss=0.04)
    mixed["gpus"] = [mixed["gpus"][n] for n in gpus]
    for each in mixed["gpus"]:
        each["figures"] = [each["figures"][n] for n in figures]
    before = document(gpus=4)
    assert compared(mixed, before=before).results == compared(after(gpus=4, loss=0.04), before=before).results


@pytest.mark.parametrize(("value", "unit", "text"), [(4.26e12, "B/s", "4.26 TB/s"), (3.7e-6, "s", "3.7 µs"),
                                                     (5e-9, "s", "5 ns"), (1.0, "s", "1 s")])
def test_values_have_prefixes(value: float, unit: str, text: str) -> None:
    assert si(value, unit) == text
