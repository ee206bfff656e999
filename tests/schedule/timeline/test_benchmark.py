"""The benchmark's adapter: a small instance in its format gives a schedule, a conflict, or a wish for other paths."""

from __future__ import annotations

import pytest

from benchmarks.bench_schedule import NeedsReplanError, NoScheduleError, make_fleet, schedule
from planner.schedule.timeline.build import build_timetable
from planner.schedule.timeline.model import Act, Change, Timetable
from tests.schedule.timeline.rules import violations


def kind(mode="single", drain=0, minutes=5, **more):
    cost = {"reboot": 0, "drain": drain, "minutes": minutes, "risk": 1} | more
    return {"mode": mode, "versions": ["a", "b", "c", "d"], "cost": cost}


def instance(nodes=4, **pool):
    """Return one pool of one cohort in one communication domain and one NVLink domain."""
    columns = {"state": 0, "arch": 0, "target": 0, "pool": 0, "fd": 0, "comm": 0, "nvl": 0}
    rule = {"max_unavailable": 4, "canary": 1, "growth": 2, "soak": 0, "window": None} | pool
    return {
        "kinds": {"core": kind(drain=1, minutes=20), "job": kind(), "link": kind(drain=1, minutes=10),
                  "tool": kind("set", remove_minutes=2)},
        "targets": [{"core": {"in": ["c"]}, "link": {"in": ["b"]}, "tool": {"has": ["b"], "not": ["a"]}}],
        "states": [{"core": ["a"], "job": ["a"], "link": ["a"], "tool": ["a"]}],
        "nodes": {name: [value] * nodes for name, value in columns.items()},
        "pools": [rule],
        "policy": {"fd_max_unavailable": 4, "equal": ["job"], "max_mixed_minutes": 0, "skew": {"core": 2},
                   "nvl_atomic": ["link"]},
    }  # fmt: skip


def steps(*moves):
    return [{"add": {k: [n] for k, _, n in move if n}, "remove": {k: [o] for k, o, _ in move if o}} for move in moves]


def path(*moves):
    return {"state": 0, "arch": 0, "target": 0, "status": "ok", "steps": steps(*moves)}


FULL = path([("core", "a", "c"), ("link", "a", "b")], [("job", "a", "b")], [("tool", None, "b")], [("tool", "a", None)])


def test_a_schedule_in_the_answers_format():
    """Steps of several kinds add up, removals are short and need no service, and every node is named once a step."""
    made, conflict, bound = schedule(instance(), [FULL])
    assert conflict is None
    starts = (0, 30, 35, 40)
    assert made == [{"path": 0, "step": i, "start": start, "nodes": [[0, 3]]} for i, start in enumerate(starts)]
    assert bound == 42


def test_the_fleet_of_an_instance():
    """Versions become places, steps become acts."""
    given = make_fleet(instance(), [FULL])
    assert given.chains[0].acts[0] == Act((Change("core", (0,), (2,)), Change("link", (0,), (1,))), 30, True)
    assert given.chains[0].acts[3] == Act((Change("tool", (0, 1), (1,)),), 2, False)
    assert given.chains[0].start == (("core", (0,)), ("job", (0,)))
    assert given.bunches[0].nodes == ((0, 3),)
    made = build_timetable(given)
    assert isinstance(made, Timetable)
    assert violations(given, made) == []


def test_conflicts_that_the_benchmark_can_check():
    """An NVLink domain above a limit, and a step longer than every window."""
    assert schedule(instance(max_unavailable=3), [FULL])[1] == [{"type": "nvl", "pool": 0, "kind": "link"}]
    short = {"period": 100, "open": [[0, 19]]}
    alone = path([("link", "a", "b")], [("core", "a", "c")])
    assert schedule(instance(window=short), [alone])[1] == [{"type": "window", "pool": 0, "kind": "core"}]


def test_other_paths_are_asked_for():
    """A step of several kinds too long for the windows, and a hop too wide for the skew."""
    with pytest.raises(NeedsReplanError) as asked:
        schedule(instance(window={"period": 100, "open": [[0, 25]]}), [FULL])
    assert asked.value.lengths == [(0, ("core", "link"), 25)]
    wide = instance(max_unavailable=3)
    wide["policy"]["skew"] = {"core": 1}
    with pytest.raises(NeedsReplanError) as asked:
        schedule(wide, [path([("core", "a", "c")])])
    assert asked.value.hops == [(0, "core", 1)]
    assert schedule(wide, [path([("core", "a", "b")], [("core", "b", "c")])])[0]


def test_reasons_without_a_checked_form():
    """Starts that must be equal and are not: the reason is told."""
    given = instance()
    given["states"].append({**given["states"][0], "job": ["b"]})
    given["nodes"]["state"] = [0, 0, 0, 1]
    given["nodes"]["nvl"] = [-1] * 4
    others = {**path([("core", "a", "c")]), "state": 1}
    with pytest.raises(NoScheduleError, match="must be equal"):
        schedule(given, [FULL, others])
