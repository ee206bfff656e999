"""Before and after: no alarm on the noise of a real GPU, and the power with which a loss is seen, by simulation."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.gates.statistics import (
    IDLE_S,
    PROCESSES_MOST,
    RETRIES_MOST,
    TOLERANCES,
    Change,
    Surroundings,
    again,
    apart,
    change_of,
    deviation,
    mad,
    outlying,
    robust_z,
    spoiled_by,
    usable,
    wave_of,
)
from tests.gates.noise import MEASURED, measured

THROUGHPUT = sorted(name for name, row in MEASURED.items() if row[2])
BANDWIDTH = TOLERANCES["bandwidth"]
VALUES = st.floats(1e-6, 1e15)
GROUPS = st.lists(st.lists(st.floats(50.0, 150.0), min_size=5, max_size=8), min_size=2, max_size=4)


def change(name: str, random: Random, *, loss: float = 0.0, processes: int = 2, steady: bool = True) -> Change:
    """Return one figure measured before and after with recorded noise."""
    _, kind, higher, *_ = MEASURED[name]
    return change_of(measured(name, random, processes=processes),
                     measured(name, random, loss=loss, processes=processes, steady=steady),
                     TOLERANCES[kind], higher_is_better=higher)


def codes(name: str, runs: int, *, loss: float = 0.0, steady: bool = True) -> Counter[str]:
    """Return how often each code came out of ``runs`` comparisons."""
    return Counter(change(name, Random(f"{name} {loss} {i}"), loss=loss, steady=steady).code for i in range(runs))


# --- the estimators


@given(st.lists(VALUES, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
@pytest.mark.property
def test_spread_does_not_depend_on_the_order(values: list[float], random: Random) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert mad(shuffled) == mad(values)
    assert deviation(shuffled) == deviation(values)


@given(st.lists(st.floats(1.0, 1e6), min_size=2, max_size=12), st.integers(-30, 30))
@settings(max_examples=100, deadline=None)
@pytest.mark.property
def test_spread_scales_with_the_unit(values: list[float], power: int) -> None:
    scaled = [value * 2.0**power for value in values]
    assert mad(scaled) == mad(values) * 2.0**power
    assert math.isclose(deviation(scaled), deviation(values), rel_tol=1e-12, abs_tol=1e-15)


def test_the_spread_of_known_values() -> None:
    assert mad([1, 1, 2, 2, 4, 6, 9]) == 1
    assert deviation([100.0] * 5) == 0.0
    assert math.isclose(deviation([98.0, 99.0, 100.0, 101.0, 102.0]), 1.4826 / 100)


def test_half_a_mad_hides_what_quartiles_show() -> None:
    third_is_slow = [100.0] * 7 + [80.0] * 3
    assert mad(third_is_slow) == 0.0
    assert deviation(third_is_slow) > 0.1


def test_robust_z_is_not_masked_by_its_own_outlier() -> None:
    peers = [100.0, 100.5, 99.5, 100.2, 99.8]
    assert robust_z(90.0, peers) < -3.5
    assert robust_z(90.0, [*peers, 89.0]) < -3.5      # a second bad one does not hide it
    assert robust_z(100.0, [100.0] * 5) == 0.0
    assert robust_z(99.0, [100.0] * 5) == -math.inf
    assert robust_z(99.0, [100.0] * 5, floor=0.01) == -1.0


def test_an_outlier_needs_five_peers_distance_and_a_loss_that_matters() -> None:
    peers = [100.0, 100.1, 99.9, 100.05, 99.95]
    assert outlying(95.0, peers, BANDWIDTH, higher_is_better=True) is not None
    assert outlying(95.0, peers[:4], BANDWIDTH, higher_is_better=True) is None
    assert outlying(98.5, peers, BANDWIDTH, higher_is_better=True) is None
    assert outlying(105.0, peers, BANDWIDTH, higher_is_better=True) is None
    assert outlying(105.0, peers, BANDWIDTH, higher_is_better=False) is not None


# --- one figure before and after


@given(GROUPS, GROUPS, st.randoms(use_true_random=False), st.integers(-40, 40))
@settings(max_examples=150, deadline=None)
@pytest.mark.property
def test_order_and_unit_change_nothing(before: list[list[float]], after: list[list[float]], random: Random,
                                       power: int) -> None:
    first = change_of(before, after, BANDWIDTH, higher_is_better=True)
    mixed = [[random.sample(group, len(group)) for group in random.sample(groups, len(groups))]
             for groups in (before, after)]
    assert change_of(*mixed, BANDWIDTH, higher_is_better=True) == first
    scaled = [[[x * 2.0**power for x in group] for group in groups] for groups in (before, after)]
    found = change_of(*scaled, BANDWIDTH, higher_is_better=True)
    assert (found.code, found.odd, found.unsteady) == (first.code, first.odd, first.unsteady)
    assert math.isclose(found.loss, first.loss, rel_tol=1e-9, abs_tol=1e-12)


@given(GROUPS, st.sampled_from(sorted(TOLERANCES)), st.booleans())
@settings(max_examples=100, deadline=None)
@pytest.mark.property
def test_equal_samples_never_show_a_loss(samples: list[list[float]], kind: str, higher: bool) -> None:
    found = change_of(samples, samples, TOLERANCES[kind], higher_is_better=higher)
    assert found.loss == 0
    assert found.code in ("OK", "BASELINE_NOISY", "PERF_UNSTEADY")
    if found.code == "PERF_UNSTEADY":
        assert found.spread_after > TOLERANCES[kind].unsteady


@given(st.floats(0.0, 0.9), st.floats(0.0, 0.9))
@settings(max_examples=100, deadline=None)
@pytest.mark.property
def test_more_loss_is_never_a_better_code(one: float, other: float) -> None:
    gravity = ["PERF_FASTER", "OK", "PERF_SLOWER", "PERF_DROP", "PERF_COLLAPSE"]
    small, large = sorted((one, other))
    found = [gravity.index(change_of([[100.0] * 5] * 2, [[100.0 * (1 - loss)] * 5] * 2, BANDWIDTH,
                                     higher_is_better=True).code) for loss in (small, large)]
    assert found[0] <= found[1]


@pytest.mark.parametrize(("loss", "code"), [
    (-0.10, "PERF_FASTER"), (-0.02, "OK"), (0.0, "OK"), (0.01, "OK"), (0.02, "OK"), (0.031, "PERF_SLOWER"),
    (0.049, "PERF_SLOWER"), (0.051, "PERF_DROP"), (0.15, "PERF_DROP"), (0.29, "PERF_DROP"), (0.31, "PERF_COLLAPSE"),
])
def test_the_limits_of_bandwidth(loss: float, code: str) -> None:
    found = change_of([[100.0] * 5] * 2, [[100.0 * (1 - loss)] * 5] * 2, BANDWIDTH, higher_is_better=True)
    assert found.code == code


def test_latency_must_lose_a_microsecond_or_two_as_well() -> None:
    def code(before_us: float, after_us: float) -> str:
        return change_of([[before_us * 1e-6] * 5] * 2, [[after_us * 1e-6] * 5] * 2, TOLERANCES["latency"],
                         higher_is_better=False).code

    assert code(0.5, 1.2) == "OK"              # more than twice, and nobody would notice
    assert code(8.0, 9.0) == "OK"              # 12 %, the noise is as large
    assert code(8.0, 10.1) == "PERF_SLOWER"
    assert code(8.0, 13.0) == "PERF_DROP"
    assert code(8.0, 30.0) == "PERF_COLLAPSE"


def test_a_figure_that_became_unsteady_does_not_widen_its_own_limits() -> None:
    before = [[100.0, 100.1, 99.9, 100.0, 100.0]] * 2
    after = [[94.0, 80.0, 94.0, 110.0, 94.0]] * 2
    found = change_of(before, after, BANDWIDTH, higher_is_better=True)
    assert (found.fail, found.code, found.unsteady) == (0.05, "PERF_DROP", True)


def test_a_noisy_baseline_gives_no_verdict_but_a_collapse_is_seen() -> None:
    before = [[100.0, 86.0, 114.0, 93.0, 107.0]] * 2
    found = [change_of(before, [[value] * 5] * 2, BANDWIDTH, higher_is_better=True).code for value in (100, 60, 4)]
    assert found == ["BASELINE_NOISY"] * 3
    before = [[100.0, 92.0, 108.0, 95.0, 105.0]] * 2
    found = [change_of(before, [[value] * 5] * 2, BANDWIDTH, higher_is_better=True).code for value in (100, 60, 4)]
    assert found == ["BASELINE_NOISY", "BASELINE_NOISY", "PERF_COLLAPSE"]


def test_processes_that_differ_widen_the_limits_from_four_on() -> None:
    middles = [100.0, 97.0, 103.0, 98.5, 101.5]
    found = [change_of([[x] * 5 for x in middles[:count]], [[92.0] * 5] * 2, BANDWIDTH, higher_is_better=True).fail
             for count in (3, 5)]
    assert found[0] == 0.05
    assert found[1] > 0.1


def test_an_aa_run_widens_the_limits() -> None:
    samples = [[100.0] * 5] * 2
    found = change_of(samples, [[92.0] * 5] * 2, BANDWIDTH, higher_is_better=True, between_known=0.02)
    assert (found.code, round(found.warn, 3), round(found.fail, 3)) == ("PERF_SLOWER", 0.06, 0.1)


@pytest.mark.parametrize(("samples", "fraction"), [
    ([[100.0] * 5] * 2, 0.0), ([[100.0] * 5, [94.0] * 5], 0.0619), ([[100.0] * 5], 0.0),
    ([[100.0] * 50 + [90.0] * 50], 0.1053), ([[100.0] * 50 + [90.0] * 49], 0.0)])
def test_how_far_processes_or_beginning_and_end_lie_apart(samples: list[list[float]], fraction: float) -> None:
    assert apart(samples) == pytest.approx(fraction, abs=1e-3)


@given(GROUPS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
@pytest.mark.property
def test_the_order_of_processes_changes_nothing(groups: list[list[float]], random: Random) -> None:
    mixed = random.sample(groups, len(groups))
    assert apart(mixed) == apart(groups) >= 0
    for before, after in ((groups, mixed), (mixed, groups)):
        assert change_of(before, after, BANDWIDTH, higher_is_better=True).code in ("OK", "BASELINE_NOISY")


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_processes_that_lie_apart_as_they_did_before_are_no_finding(name: str) -> None:
    value, kind, higher, *_ = MEASURED[name]
    steady, parted = [[value] * 5] * 2, [[value] * 5, [value * (0.7 if higher else 3.0)] * 5]
    assert change_of(steady, parted, TOLERANCES[kind], higher_is_better=higher).unsteady
    assert not change_of(parted, parted, TOLERANCES[kind], higher_is_better=higher).unsteady


# --- false alarms and power, on recorded noise


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_noise_of_a_real_gpu_raises_no_alarm(name: str) -> None:
    found = codes(name, 1000)
    assert not set(found) & {"PERF_DROP", "PERF_COLLAPSE", "BASELINE_NOISY"}
    assert found["OK"] >= 997


@pytest.mark.parametrize("name", THROUGHPUT)
@pytest.mark.parametrize(("loss", "wanted", "power"), [
    (0.01, {"OK", "PERF_UNSTEADY"}, 1.0),                     # must not be held against a GPU
    (0.02, {"OK", "PERF_UNSTEADY", "PERF_SLOWER"}, 1.0),      # one GPU alone cannot show it: the wave does
    (0.05, {"PERF_SLOWER", "PERF_DROP"}, 0.98),               # at the limit: always seen, a failure in every second
    (0.05, {"PERF_DROP"}, 0.40),
    (0.09, {"PERF_DROP"}, 0.99),
    (0.15, {"PERF_DROP"}, 1.0),
])
def test_power_for_one_gpu(name: str, loss: float, wanted: set[str], power: float) -> None:
    found = codes(name, 300, loss=loss)
    assert sum(found[code] for code in wanted) >= power * 300, found


@pytest.mark.parametrize(("name", "power"), [("launch_sync", 0.99), ("launch_async", 0.95)])
def test_twice_the_latency_is_seen_and_a_tenth_more_fails_nobody(name: str, power: float) -> None:
    small, large = codes(name, 300, loss=0.10), codes(name, 300, loss=1.0)
    assert not small["PERF_DROP"] + small["PERF_COLLAPSE"]
    assert large["PERF_SLOWER"] + large["PERF_DROP"] + large["PERF_COLLAPSE"] >= power * 300, large


@pytest.mark.parametrize("name", THROUGHPUT)
def test_unsteady_performance_is_a_finding_though_the_median_is_the_same(name: str) -> None:
    found = [change(name, Random(f"{name} {i}"), steady=False) for i in range(200)]
    assert sum(each.unsteady for each in found) >= 196


@pytest.mark.parametrize("name", THROUGHPUT)
@pytest.mark.parametrize("count", [6, 8, 32])
@pytest.mark.parametrize(("loss", "least", "most"), [(0.0, 0.0, 0.0), (0.005, 0.0, 0.0), (0.01, 0.0, 0.02),
                                                     (0.02, 0.95, 1.0), (0.03, 1.0, 1.0)])
def test_power_of_the_wave_rule(name: str, count: int, loss: float, least: float, most: float) -> None:
    kind, runs, halted = MEASURED[name][1], 60, 0
    for i in range(runs):
        random = Random(f"{name} {count} {loss} {i}")
        losses = [change(name, random, loss=loss).loss for _ in range(count)]
        halted += wave_of(losses, TOLERANCES[kind]).code == "PERF_DROP_WAVE"
    assert least * runs <= halted <= most * runs


# --- the wave rule by hand


def test_a_wave_that_lost_two_per_cent_halts_though_each_gpu_passes() -> None:
    losses = [0.019, 0.020, 0.021, 0.020, 0.022, 0.018]
    assert all(change_of([[100.0] * 5] * 2, [[100 * (1 - x)] * 5] * 2, BANDWIDTH, higher_is_better=True).code == "OK"
               for x in losses)
    found = wave_of(losses, BANDWIDTH)
    assert (found.code, found.slower, found.count) == ("PERF_DROP_WAVE", 6, 6)


@pytest.mark.parametrize(("losses", "code"), [
    ([0.02] * 5, "OK"),                                   # too few for the sign test
    ([0.02] * 8 + [-0.001] * 2, "OK"),                    # eight of ten
    ([0.02] * 9 + [-0.001], "PERF_DROP_WAVE"),
    ([0.01] * 100, "OK"),
    ([-0.06] * 6, "PERF_FASTER"),
    ([-0.06] * 5 + [0.0], "OK"),
    ([], "OK"),
])
def test_where_the_wave_rule_bites(losses: list[float], code: str) -> None:
    assert wave_of(losses, BANDWIDTH).code == code


def test_latency_never_halts_a_wave() -> None:
    assert wave_of([0.2] * 20, TOLERANCES["latency"]).code == "OK"


@given(st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=20), st.randoms(use_true_random=False),
       st.floats(0.0, 0.2))
@settings(max_examples=100, deadline=None)
@pytest.mark.property
def test_the_wave_rule_ignores_order_and_never_eases_when_all_get_slower(losses: list[float], random: Random,
                                                                         more: float) -> None:
    first = wave_of(losses, BANDWIDTH)
    assert wave_of(random.sample(losses, len(losses)), BANDWIDTH) == first
    if first.code == "PERF_DROP_WAVE":
        assert wave_of([x + more for x in losses], BANDWIDTH).code == "PERF_DROP_WAVE"


# --- measuring again


def a_change(code: str, loss: float = 0.0) -> Change:
    return Change(code, 100.0, 100 * (1 - loss), loss, 0.005, 0.03, 0.05, 0.002, 0.002, 0, False)


def test_a_failure_is_measured_again_once_after_idle() -> None:
    first = again([a_change("PERF_DROP", 0.08)])
    assert first is not None
    assert first.wait_s == IDLE_S
    assert again([a_change("PERF_DROP", 0.08), a_change("PERF_DROP", 0.08)]) is None
    assert again([a_change("PERF_DROP", 0.08), a_change("OK")]) is None


def test_a_collapse_needs_no_repetition_and_a_clear_pass_neither() -> None:
    assert again([a_change("PERF_COLLAPSE", 0.6)]) is None
    assert again([a_change("OK", 0.001)]) is None


def test_near_a_limit_more_processes_are_asked_for_once() -> None:
    near = a_change("OK", 0.028)
    more = again([near])
    assert more is not None
    assert more.processes == PROCESSES_MOST
    assert again([near, near], processes=PROCESSES_MOST) is None


def test_a_spoiled_measurement_is_taken_again_a_few_times_only() -> None:
    assert [again([], spoiled=n) is not None for n in range(1, RETRIES_MOST + 2)] == [True, True, False, False]


def test_measuring_always_ends() -> None:
    for code in ("OK", "PERF_SLOWER", "PERF_DROP"):
        changes: list[Change] = []
        while (more := again(changes)) is not None:
            changes.append(a_change(code, 0.0499))
            assert more.processes <= PROCESSES_MOST
            assert len(changes) < 4


# --- what spoils a comparison


SAME = Surroundings(700.0, 1980.0, 3201.0, 45.0)


@pytest.mark.parametrize(("now", "code"), [
    (SAME, ""),
    (replace(SAME, sm_clock_mhz=1965.0, temperature_c=55.0), ""),
    (replace(SAME, temperature_c=62.0), "ENV_TEMPERATURE"),
    (replace(SAME, throttled=("hw-thermal",)), "ENV_THROTTLED"),
    (replace(SAME, foreign=("pid 7 (python3)",)), "ENV_FOREIGN_PROCESS"),
    (replace(SAME, power_limit_w=650.0), "ENV_POWER_CAP"),
    (replace(SAME, sm_clock_mhz=1800.0), "ENV_CLOCKS"),
    (replace(SAME, memory_clock_mhz=2619.0), "ENV_CLOCKS"),
])
def test_what_spoils_a_comparison_is_named_either_way(now: Surroundings, code: str) -> None:
    assert [found[0] for found in spoiled_by(SAME, now)] == ([code] if code else [])
    assert [found[0] for found in spoiled_by(now, SAME)] == ([code] if code else [])


def test_a_degree_over_a_bound_is_the_same_class() -> None:
    assert not spoiled_by(replace(SAME, temperature_c=59.0), replace(SAME, temperature_c=61.0))


@pytest.mark.parametrize(("samples", "words"), [
    ([[1.0] * 5], "1 processes"), ([[1.0] * 5, [1.0] * 4], "4 samples"), ([[1.0] * 5, [1.0] * 4 + [0.0]], "above zero"),
    ([[1.0] * 5, [1.0] * 4 + [math.nan]], "above zero"), ([[1.0] * 5] * 2, ""),
])
def test_too_few_or_impossible_samples_are_refused(samples: list[list[float]], words: str) -> None:
    assert words in usable(samples)
    assert bool(words) == bool(usable(samples))
