"""Maintenance windows and capacity floors: read, kept by the schedule, kept by the engine."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import ScheduleError
from planner.model.target import RolloutPolicy
from planner.model.window import DAYS, always_meet, common_start, next_start, parse_window
from planner.schedule.limits import unavailable
from planner.schedule.verify import _spared, verify_schedule
from tests.schedule.fleets import batches, plain, world

NIGHT = "Sat,Sun 02:00-06:00 Europe/Berlin"
MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_the_next_window_is_found_in_local_time() -> None:
    assert next_start([NIGHT], MONDAY, 240) == datetime(2026, 1, 10, 1, tzinfo=UTC)
    assert next_start([NIGHT], datetime(2026, 7, 6, tzinfo=UTC), 240) == datetime(2026, 7, 11, 0, tzinfo=UTC)


def test_an_open_window_is_used_while_enough_is_left_of_it() -> None:
    inside = datetime(2026, 1, 10, 3, tzinfo=UTC)
    assert next_start([NIGHT], inside, 120) == inside
    assert next_start([NIGHT], inside, 121) == datetime(2026, 1, 11, 1, tzinfo=UTC)


def test_the_night_on_which_clocks_go_forward_is_an_hour_shorter() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)      # clocks change on Sunday 29 March at 02:00
    assert next_start(["Sun 01:00-05:00 Europe/Berlin"], before, 180) == datetime(2026, 3, 29, 0, tzinfo=UTC)
    assert next_start(["Sun 01:00-05:00 Europe/Berlin"], before, 240) == datetime(2026, 4, 4, 23, tzinfo=UTC)


def test_the_night_on_which_clocks_go_back_is_an_hour_longer() -> None:
    before = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert next_start(["Sun 01:00-05:00 Europe/Berlin"], before, 300) == datetime(2026, 10, 24, 23, tzinfo=UTC)


def test_a_window_may_run_over_midnight_and_meet_the_next() -> None:
    assert parse_window("Fri 22:00-04:00 UTC").minutes == 360
    assert next_start(["Fri 22:00-04:00 UTC"], MONDAY, 360) == datetime(2026, 1, 9, 22, tzinfo=UTC)
    assert next_start(["Fri 22:00-00:00 UTC", "Sat 00:00-05:00 UTC"], MONDAY, 400) == datetime(
        2026, 1, 9, 22, tzinfo=UTC)


def test_no_window_is_long_enough_and_none_means_at_any_time() -> None:
    assert next_start([NIGHT], MONDAY, 241) is None
    assert next_start([], MONDAY, 10_000) == MONDAY


@pytest.mark.parametrize(("text", "said"), [
    ("Sat 02:00-06:00", "is not a window"), ("Samstag 02:00-06:00 UTC", "no day"), ("Sat 25:00-06:00 UTC", "no times"),
    ("Sat 02:00-06:00 Mars/Olympus", "no time zone"), ("Sat 02:00-06:00 ../etc/passwd", "is not a window"),
    ("", "is not")])
def test_what_is_no_window_is_a_clear_error(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RolloutPolicy(windows=(text,))


def test_ranges_of_days_wrap_around_the_week() -> None:
    assert parse_window("Sat-Mon 00:00-01:00 UTC").days == (0, 5, 6)
    assert parse_window("daily 00:00-01:00 UTC").days == tuple(range(7))


def test_a_floor_of_capacity_bounds_what_may_be_away() -> None:
    for most, floor, total, spared in (("50%", "80%", 10, 2), ("50%", 9, 10, 1), ("10%", "50%", 10, 1),
                                       ("50%", "100%", 10, 0), (8, "75%", 10, 2), (3, None, 10, 3)):
        policy = RolloutPolicy(max_unavailable=most, min_in_service=floor)
        assert unavailable(policy, total) == spared == _spared(policy, total)


@settings(deadline=None)
@given(day=st.sampled_from(DAYS), opens=st.integers(0, 23), length=st.integers(1, 23),
       zone=st.sampled_from(("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")),
       hours=st.integers(0, 24 * 400), minutes=st.integers(1, 1200))
def test_what_is_found_lies_in_the_window_whole(day: str, opens: int, length: int, zone: str, hours: int,
                                                minutes: int) -> None:
    window = parse_window(f"{day} {opens:02}:00-{(opens + length) % 24:02}:00 {zone}")
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hours)
    text = f"{day} {opens:02}:00-{(opens + length) % 24:02}:00 {zone}"
    start = next_start([text], now, minutes)
    if start is None:
        assert minutes > window.minutes - 61
        return
    assert start >= now
    assert any(a <= start and start + timedelta(minutes=minutes) <= b for a, b in window.intervals(start))


def test_pools_wait_for_a_window_of_each() -> None:
    both = [["Sat 02:00-06:00 UTC"], ["Sat 04:00-08:00 UTC"]]
    assert common_start(both, MONDAY, 120) == datetime(2026, 1, 10, 4, tzinfo=UTC)
    assert common_start(both, MONDAY, 121) is None
    assert common_start([["Sat 02:00-06:00 UTC"], ["Sun 02:00-06:00 UTC"]], MONDAY, 10) is None


APART = {"p": {"windows": ("Sat 02:00-06:00 UTC",)}, "q": {"windows": ("Sun 02:00-06:00 UTC",)}}


def test_pools_that_never_share_a_window_move_one_after_another() -> None:
    """Each in batches of its own, canaries too; the one that may always move goes with the first of them."""
    table = {f"{pool}{i}": {"pool": pool} for pool in "pqr" for i in range(3)}
    made = world(table, None, {**APART, "r": {}}, max_unavailable=1)
    plan = made.plan()
    assert verify_schedule(plan, made.own) == ()
    assert batches(plan, "canary") == [("p0", "r0"), ("q0",)]
    assert batches(plan) == [("p1", "r1"), ("p2", "r2"), ("q1",), ("q2",)]


def test_pools_whose_windows_meet_too_shortly_for_a_batch_move_one_after_another() -> None:
    """A quarter of an hour in common holds one turn of ten minutes; the large batches of both pools take three."""
    table = {f"{pool}{i:02}": {"pool": pool, "cohort": pool} for pool in "pq" for i in range(41)}
    policy = {"max_unavailable": "100%", "growth": 50}
    own = {"p": {**policy, "windows": ("Sat 02:00-06:00 UTC",)}, "q": {**policy, "windows": ("Sat 05:45-08:00 UTC",)}}
    made = world(table, None, own)
    plan = made.plan()
    assert verify_schedule(plan, made.own) == ()
    assert [{name[0] for name in batch} for batch in batches(plan)] == [{"p"}, {"q"}]


def test_a_batch_that_soaks_is_a_wave_of_its_own_beside_other_windows_too() -> None:
    table = {f"{pool}{i}": {"pool": pool} for pool in "pq" for i in range(3)}
    own = {pool: {**fields, "batch_soak_minutes": 5} for pool, fields in APART.items()}
    made = world(table, None, own, batch_soak_minutes=5)
    assert verify_schedule(made.plan(), made.own) == ()


@pytest.mark.parametrize("windows", [
    {"p": "Sat 02:00-02:09 UTC", "q": "Sat 02:00-06:00 UTC"}, {"p": "Sat 02:00-06:00 UTC", "q": "Sun 02:00-06:00 UTC"},
    {"p": "Sat 02:00-02:30 UTC", "q": "Sat 04:25-06:00 Europe/Berlin"},
])
def test_a_batch_that_no_window_holds_is_found_out(windows: dict[str, str]) -> None:
    wide = {pool: {"windows": ("Sat 00:00-23:00 UTC",)} for pool in "pq"}
    made = world({f"{pool}{i}": {"pool": pool} for pool in "pq" for i in range(2)}, None, wide)
    plan = made.plan()
    assert verify_schedule(plan, made.own) == ()
    narrow = plan.model_copy(update={"pools": {
        pool: limit.model_copy(update={"windows": (windows[pool],)}) for pool, limit in plan.pools.items()}})
    own = {pool: RolloutPolicy(windows=(windows[pool],)) for pool in "pq"}
    assert any("batch w1b1, 10 minutes long, fits into no window of p, q" in c for c in verify_schedule(narrow, own))


def test_an_nvlink_domain_of_pools_that_never_share_a_window_is_refused() -> None:
    table = {"a": {"pool": "p", "nvlink_domain": "rack"}, "b": {"pool": "q", "nvlink_domain": "rack"}}
    with pytest.raises(ScheduleError) as refused:
        world(table, None, APART).schedule()
    assert refused.value.diagnostics[0].code == "windows-never-meet"


def test_a_batch_of_many_turns_that_no_window_holds_is_told_to_be_smaller() -> None:
    """40 nodes of one cohort take three turns of ten minutes, and the window is a quarter of an hour long."""
    with pytest.raises(ScheduleError) as refused:
        world(plain(41), windows=("Sat 02:00-02:15 UTC",), max_unavailable="100%", growth=50).schedule()
    assert "takes 30 minutes" in refused.value.diagnostics[0].summary
    assert "batch_max: 16" in refused.value.diagnostics[0].hint



@pytest.mark.parametrize(("text", "around", "opened"), [
    ("Sun 02:15-02:45 Europe/Berlin", datetime(2027, 3, 28, tzinfo=UTC), None),                 # never comes
    ("Sun 01:50-02:30 Europe/Berlin", datetime(2027, 3, 28, tzinfo=UTC), ("00:50", "01:00")),   # ends in the jump
    ("Sun 02:30-04:00 Europe/Berlin", datetime(2027, 3, 28, tzinfo=UTC), ("01:00", "02:00")),   # begins in it
    ("Sun 02:30-04:00 Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), ("01:30", "03:00")),  # its begin comes twice
    ("Sun 01:00-02:30 Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), ("23:00", "00:30")),  # its end does
    ("Sun 02:10-02:50 Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC), ("00:10", "00:50")),  # both do
    ("Sun 01:45-02:45 Australia/Lord_Howe", datetime(2026, 10, 3, 15, tzinfo=UTC), ("15:15", "15:45")),
    ("Sun 01:40-01:55 Australia/Lord_Howe", datetime(2027, 4, 3, 15, tzinfo=UTC), ("14:40", "14:55")),
])
def test_it_is_open_only_while_the_clocks_there_show_it(text: str, around: datetime, opened: tuple[str, str] | None
                                                        ) -> None:
    found = [(f"{a:%H:%M}", f"{b:%H:%M}") for a, b in parse_window(text).intervals(around)
             if abs(a - around) < timedelta(hours=20)]
    assert found == ([opened] if opened else [])


CHANGES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Casablanca", "UTC")


@settings(deadline=None, max_examples=60)
@given(day=st.sampled_from(DAYS), opens=st.integers(0, 1439), length=st.integers(1, 1439),
       zone=st.sampled_from(CHANGES), week=st.integers(0, 52))
def test_no_minute_of_it_is_outside_its_local_times(day: str, opens: int, length: int, zone: str, week: int) -> None:
    closes = (opens + length) % 1440
    text = f"{day} {opens // 60:02d}:{opens % 60:02d}-{closes // 60:02d}:{closes % 60:02d} {zone}"
    for begin, end in parse_window(text).intervals(MONDAY + timedelta(weeks=week)):
        moment = begin
        while moment < end:
            local = moment.astimezone(ZoneInfo(zone))
            minute = local.hour * 60 + local.minute
            assert opens <= minute < closes if closes > opens else minute >= opens or minute < closes
            moment += timedelta(minutes=5)


def test_windows_that_meet_in_half_of_the_year_share_no_batch() -> None:
    """New York and Santiago are two hours apart in January, and none in July."""
    table = {**plain(4, pool="a"), **{f"m{i}": {"pool": "b", "cohort": "d"} for i in range(4)}}
    own = {"a": {"windows": ["Sun 01:30-03:30 America/New_York"], "max_unavailable": 2},
           "b": {"windows": ["Sun 01:30-03:30 America/Santiago"], "max_unavailable": 2}}
    for begin in (None, "2026-07-01T00:00:00Z"):
        made = world(table, own=own, not_before=begin).plan()
        assert verify_schedule(made, {p: RolloutPolicy(**fields) for p, fields in own.items()}) == ()
        assert all(len({made.nodes[n].pool for n in b.nodes}) == 1 for w in made.waves for b in w.batches)
    assert not always_meet([own["a"]["windows"], own["b"]["windows"]], MONDAY, 10)     # type: ignore[list-item]
    july = common_start([own["a"]["windows"], own["b"]["windows"]], MONDAY, 10)        # type: ignore[list-item]
    assert july is not None
    drawn = {**plain(2, pool="a", nvlink_domain="d"), "m": {"pool": "b", "cohort": "d", "nvlink_domain": "d"}}
    both = world(drawn, own=own, canary=0).schedule()
    assert any("may wait for months: the windows of its pools a, b" in w for w in both.warnings)
    assert not any("months" in w for w in world(table, own=own).schedule().warnings)
    assert july.month == 3, "New York's clocks have changed, Santiago's change in April"


@pytest.mark.parametrize(("windows", "told"), [
    (("Sat,Sun 00:00-23:59 UTC",), True), (("Fri 20:00-23:59 UTC", "Sat 00:00-06:00 UTC"), True),
    (("Sat,Sun 00:00-00:00 UTC",), False), (("Sat 00:00-23:59 UTC",), False), (("Fri 20:00-06:00 UTC",), False)])
def test_a_minute_that_was_meant_to_be_midnight_is_told(windows: tuple[str, ...], told: bool) -> None:
    found = [w for w in world(plain(3), windows=windows).schedule().warnings if "23:59" in w]
    assert len(found) == told
