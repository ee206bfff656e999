"""Each reason for which a fleet has no timetable, in the smallest fleet that has it, next to one that just has not."""

from __future__ import annotations

import pytest

from planner.schedule.timeline.build import build_timetable
from planner.schedule.timeline.model import Act, Bunch, Change, HopLimit, LengthLimit, Refused, Timetable
from tests.schedule.timeline.fleets import WINDOW as OPEN
from tests.schedule.timeline.fleets import chain, fleet, pool, step
from tests.schedule.timeline.rules import violations


def causes(given):
    made = build_timetable(given)
    assert isinstance(made, Refused)
    return {refusal.cause_name for refusal in made.refusals}


def placed(given):
    made = build_timetable(given)
    assert isinstance(made, Timetable), made
    assert violations(given, made) == []
    return made


LINK, CORE, JOB = step("link", 0, 1), step("core", 0, 1), step("job", 0, 1)


def whole(size, failure=(0,)):
    """Return an NVLink domain of a size, over failure domains."""
    share = size // len(failure)
    return [Bunch(((i * share, (i + 1) * share - 1),), 0, f, 0, None, 7) for i, f in enumerate(failure)]


def test_an_nvlink_domain_larger_than_a_limit():
    """Larger than the pool's or the failure domain's limit is refused; just as large goes at once."""
    assert causes(fleet([chain(LINK)], whole(3), pool(2))) == {"NVLINK_SIZE"}
    assert causes(fleet([chain(LINK)], whole(3), pool(3), failure_domain_max_unavailable=2)) == {"NVLINK_SIZE"}
    assert placed(fleet([chain(LINK)], whole(4, (0, 1)), pool(4), failure_domain_max_unavailable=2)).makespan == 10
    assert placed(fleet([chain(CORE)], whole(3), pool(2))).makespan > 25      # not a kind of the whole domain


def test_an_nvlink_domain_with_unequal_steps():
    """All nodes of a domain must take the same step at once, so a node with nothing to do forbids it."""
    bunches = [Bunch(((0, 0),), 0, 0, 0, None, 7), Bunch(((1, 1),), 0, 0, 1, None, 7)]
    assert causes(fleet([chain(LINK), chain()], bunches)) == {"NVLINK_STEPS"}
    placed(fleet([chain(CORE), chain()], bunches))


def test_an_act_longer_than_every_window():
    """One kind's act is refused; of several kinds together a search may help."""
    long = Act((Change("base", (0,), (1,)),), 181, True)
    assert causes(fleet([chain(long)], [Bunch(((0, 0),), 0, 0, 0)], pool(window=OPEN))) == {"WINDOW"}
    both = Act((*long.changes, Change("core", (0,), (1,))), 181, True)
    made = build_timetable(fleet([chain(both)], [Bunch(((0, 0),), 0, 0, 0)], pool(window=OPEN)))
    assert isinstance(made, Refused)
    assert made.lengths == (LengthLimit(0, ("base", "core"), 180),)
    fits = Act(long.changes, 180, True)
    assert placed(fleet([chain(fits)], [Bunch(((0, 0),), 0, 0, 0)], pool(window=OPEN))).makespan == 240


def test_no_room_at_all():
    """A pool that lets no node go is refused at once."""
    assert causes(fleet([chain(CORE)], [Bunch(((0, 0),), 0, 0, 0)], pool(0))) == {"NO_CAPACITY"}
    alone = [Bunch(((0, 0),), 0, 0, 0)]
    assert causes(fleet([chain(CORE)], alone, failure_domain_max_unavailable=0)) == {"NO_CAPACITY"}
    placed(fleet([chain(JOB)], [Bunch(((0, 0),), 0, 0, 0)], pool(0)))


def test_kinds_that_must_be_equal():
    """Unequal starts or steps are refused where no mixed time is allowed, and held to the time where it is."""
    bunches = [Bunch(((0, 1),), 0, 0, 0, 5), Bunch(((2, 3),), 0, 1, 1, 5)]
    assert causes(fleet([chain(JOB), chain(job=1)], bunches)) == {"EQUAL_STARTS"}
    assert causes(fleet([chain(JOB), chain()], bunches)) == {"EQUAL_STEPS"}
    assert causes(fleet([chain(JOB), chain()], bunches, max_mixed_minutes=90)) == {"EQUAL_STEPS"}      # ends mixed
    assert placed(fleet([chain(JOB), chain(job=1)], bunches, max_mixed_minutes=5)).makespan == 5
    assert causes(fleet([chain(JOB), chain(job=1)], bunches, max_mixed_minutes=4)) == {"STUCK"}
    two = [chain(step("job", 0, 1), step("job", 1, 2)), chain(step("job", 0, 2))]
    assert causes(fleet(two, bunches)) == {"EQUAL_STEPS"}
    placed(fleet(two, bunches, max_mixed_minutes=5))


def test_an_equal_kind_that_takes_nodes_out_of_service():
    """The whole domain goes at once if there is room, else it is refused; with mixed time it goes in turns."""
    away = Act((Change("job", (0,), (1,)),), 20, True)
    bunches = [Bunch(((0, 2),), 0, 0, 0, 5)]
    assert causes(fleet([chain(away)], bunches, pool(2))) == {"EQUAL_SIZE"}
    assert placed(fleet([chain(away)], bunches, pool(3, 3))).makespan == 20
    assert placed(fleet([chain(away)], bunches, pool(2, 2), max_mixed_minutes=20)).makespan == 40
    assert causes(fleet([chain(away)], bunches, pool(2, 2), max_mixed_minutes=19)) == {"STUCK"}


def test_a_hop_larger_than_the_skew():
    """A domain that fits hops at once; a larger one needs smaller hops, and says for which cohort."""
    hop = step("core", 0, 3)
    domain = [Bunch(((0, 2),), 0, 0, 0, 5)]
    assert placed(fleet([chain(hop)], domain, pool(3, 3))).makespan == 25
    made = build_timetable(fleet([chain(hop)], domain, pool(2, 3)))
    assert isinstance(made, Refused)
    assert made.hops == (HopLimit(0, "core", 2),)
    assert not made.refusals
    steps = [chain(step("core", 0, 2), step("core", 2, 3))]
    placed(fleet(steps, domain, pool(2, 3)))
    assert placed(fleet([chain(hop)], [Bunch(((0, 0),), 0, 0, 0, 5)])).makespan == 25      # alone in its domain
    assert causes(fleet([chain(step("core", 0, 1))], domain, pool(2, 3), skew=(("core", 0),))) == {"SKEW_HOP"}
    assert causes(fleet([chain(), chain(core=3)], [*domain, Bunch(((3, 3),), 0, 0, 1, 5)])) == {"SKEW_STARTS"}


def test_a_hop_at_once_that_canaries_never_allow():
    """The whole domain fits the room but not the canary: nothing starts, and smaller hops are asked for."""
    made = build_timetable(fleet([chain(step("core", 0, 3))], [Bunch(((0, 2),), 0, 0, 0, 5)], pool(3, 1)))
    assert isinstance(made, Refused)
    assert {r.cause_name for r in made.refusals} == {"STUCK"}
    assert made.hops == (HopLimit(0, "core", 2),)


def test_skew_holds_back_the_first():
    """Nodes wait for the last of their domain before they go further than the skew."""
    path = chain(*(step("core", i, i + 1) for i in range(4)))
    made = placed(fleet([path], [Bunch(((0, 3),), 0, 0, 0, 5)], pool(1, 4), skew=(("core", 1),)))
    assert made.makespan == 16 * 25


def test_growth_of_one_is_stuck():
    """With growth 1 nothing spreads beyond the canary."""
    given = fleet([chain(CORE)], [Bunch(((0, 3),), 0, 0, 0)], pool(4, 2, 1.0))
    assert causes(given) == {"STUCK"}


def test_pools_share_a_failure_domain():
    """Two pools with room enough take turns in the failure domain that they share."""
    bunches = [Bunch(((0, 1),), 0, 0, 0), Bunch(((2, 3),), 1, 0, 0)]
    rules = (pool(2, 2), pool(2, 2))
    assert placed(fleet([chain(CORE)], bunches, *rules, failure_domain_max_unavailable=2)).makespan == 50
    assert placed(fleet([chain(CORE)], bunches, *rules, failure_domain_max_unavailable=4)).makespan == 25


def test_nothing_to_do():
    """Empty fleets, empty pools and nodes already there have a timetable of no length."""
    assert placed(fleet([], [])).makespan == 0
    assert placed(fleet([chain()], [Bunch(((0, 9),), 0, 0, 0, 1, 1)])).placements == ()


@pytest.mark.parametrize(
    ("minute", "minutes", "start"),
    [(0, 10, 60), (100, 10, 100), (235, 10, 300), (0, 180, 60), (61, 180, 660), (385, 10, 660), (0, 181, None)],
)
def test_next_start(minute, minutes, start):
    """A window's next start is the first minute from which the act ends before the window does."""
    assert OPEN.next_start(minute, minutes) == start


def test_bounds_by_hand():
    """Chain, room, spread and the three together, worked out by hand."""
    # Ten nodes, two at a time, 25 minutes: five rounds. With canary 1, growth 2 and soak 5, have started: 1 at 0,
    # 2 at 30, 4 at 60, 6 at 90, then two every 25 minutes: 8 at 115, 10 at 140.
    made = placed(fleet([chain(CORE)], [Bunch(((0, 9),), 0, 0, 0)], pool(2, 1, 2, 5)))
    assert made.bounds[0].chain == 25
    assert made.bounds[0].capacity == 125
    assert made.lower_bound == made.makespan == 165
    windowed = placed(fleet([chain(CORE)], [Bunch(((0, 9),), 0, 0, 0)], pool(2, 10, 2, 0, OPEN)))
    assert windowed.lower_bound == windowed.makespan == 185
