"""Random fleets: what is placed keeps all rules by a check of its own, and no bound lies above it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from planner.schedule.timeline.build import build_timetable
from planner.schedule.timeline.model import Bunch, Refused, Timetable
from tests.schedule.timeline.fleets import RULE, WINDOW, chain, fleet, fleets, pool, step
from tests.schedule.timeline.rules import violations

pytestmark = pytest.mark.property
quick = settings(max_examples=200, deadline=None, derandomize=True, database=None,
                 suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
TRIALS = 12
ROOT = Path(__file__).resolve().parents[3]


@quick
@given(fleets())
def test_placed_fleets_keep_every_rule(given_fleet):
    """Every timetable keeps the six rules, and its lower bounds are not above its length."""
    made = build_timetable(given_fleet, TRIALS)
    if isinstance(made, Refused):
        event("refused: " + ", ".join(sorted({r.cause_name for r in made.refusals} or {"replan"})))
        assert made.refusals or made.hops or made.lengths
        return
    event("placed")
    assert violations(given_fleet, made) == []
    assert made.lower_bound <= made.makespan
    for bounds, makespan in zip(made.bounds, made.pool_makespans, strict=True):
        assert bounds.best <= makespan


@quick
@given(fleets(), st.randoms(use_true_random=False))
def test_shuffled_fleets_give_the_same_timetable(given_fleet, random):
    """Neither the order of bunches nor how nodes are split into bunches shows in the answer."""
    first = build_timetable(given_fleet, TRIALS)
    singles = [replace(b, nodes=((n, n),))
               for b in given_fleet.bunches for lo, hi in b.nodes for n in range(lo, hi + 1)]  # fmt: skip
    random.shuffle(singles)
    assert build_timetable(replace(given_fleet, bunches=tuple(singles)), TRIALS) == first


@quick
@given(fleets())
def test_more_room_is_never_refused(given_fleet):
    """A fleet that was placed is not refused for size, windows or steps when limits are raised."""
    if isinstance(build_timetable(given_fleet, 0), Timetable):
        pools = tuple(replace(p, max_unavailable=p.max_unavailable + 3, window=None) for p in given_fleet.pools)
        made = build_timetable(replace(given_fleet, pools=pools), 0)
        assert isinstance(made, Timetable) or {r.cause_name for r in made.refusals} <= {"STUCK"}


PROCESS = """
from planner.schedule.timeline.build import build_timetable
from planner.schedule.timeline.model import Bunch
from tests.schedule.timeline.fleets import WINDOW, chain, fleet, pool, step
one = chain(step("base", 0, 1), step("core", 0, 2), step("job", 0, 1), step("link", 0, 1), step("core", 2, 3))
two = chain(step("core", 0, 1), step("job", 0, 1), step("core", 1, 3), step("base", 0, 2))
bunches = [Bunch(((9 * i, 9 * i + 8),), i % 2, i % 3, i % 2, i % 4, i if i % 4 == 0 else None) for i in range(8)]
print(build_timetable(fleet([one, two], bunches, pool(9, 2, 2, 30), pool(4, 1, 3, 0, WINDOW),
                            failure_domain_max_unavailable=9), 60))
"""


def test_processes_give_the_same_bytes():
    """Hash seeds do not show."""
    answers = {
        subprocess.run([sys.executable, "-c", PROCESS], cwd=ROOT, env={"PYTHONHASHSEED": seed}, check=True,
                       capture_output=True, timeout=60).stdout
        for seed in ("0", "1", "4711")
    }  # fmt: skip
    assert len(answers) == 1
    assert b"Timetable(" in answers.pop()


def test_the_check_of_the_rules_bites():
    """The plain check notices each kind of broken rule in a timetable that was good."""
    path = chain(step("core", 0, 1), step("job", 0, 1), step("link", 0, 1))
    bunches = [Bunch(((0, 1),), 0, 0, 0, 0, 0), Bunch(((2, 3),), 0, 1, 0, 0, None)]
    good = fleet([path], bunches, pool(2, 2, 2, 10, WINDOW))
    made = build_timetable(good)
    assert isinstance(made, Timetable)
    assert violations(good, made) == []

    def broken(changed, table=made):
        return " ".join(violations(changed, table))

    assert "pool 0" in broken(replace(good, pools=(replace(good.pools[0], max_unavailable=1),)))
    assert "failure domain" in broken(replace(good, rule=replace(RULE, failure_domain_max_unavailable=1)))
    assert "soaked" in broken(replace(good, pools=(replace(good.pools[0], soak_minutes=500),)))
    assert "outside" in broken(replace(good, pools=(replace(good.pools[0], window=replace(WINDOW, open=((0, 61),))),)))
    assert "skew" in broken(replace(good, rule=replace(RULE, skew=(("core", 0),))))
    late = tuple(replace(p, start=p.start + 3) if p.nodes == ((0, 3),) else p for p in made.placements)
    assert "torn" in broken(replace(good, bunches=(replace(bunches[0]), replace(bunches[1], nvlink_domain=0))))
    assert broken(good, replace(made, placements=late)) != ""
    assert "in order" in broken(good, replace(made, placements=made.placements[:-1]))
    assert "makespan" in broken(good, replace(made, makespan=1))
    split = [replace(p, nodes=((0, 1),)) for p in made.placements if p.nodes == ((0, 3),)]
    split += [replace(p, nodes=((2, 3),), start=p.start + 1) for p in made.placements if p.nodes == ((0, 3),)]
    others = [p for p in made.placements if p.nodes != ((0, 3),)]
    assert "mixed" in broken(good, replace(made, placements=tuple(others + split)))
