"""Small fleets for the timetable, made by hypothesis or by hand."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from planner.schedule.timeline.model import Act, Bunch, Chain, Change, Fleet, FleetRule, PoolRule, Window

KINDS = ("base", "core", "job", "link", "tool")      # core is skewed, job equal, link atomic, tool a set
DOWN = {"base": True, "core": True, "job": False, "link": True, "tool": False}
MINUTES = {"base": 40, "core": 25, "job": 5, "link": 10, "tool": 12}
RULE = FleetRule(3, ("job",), 0, (("core", 2),), ("link",))
WINDOW = Window(600, ((60, 240), (300, 390)))


def step(kind: str, old: int, new: int, **more: object) -> Act:
    """Return an act that moves one kind of one version at a time."""
    return Act((Change(kind, (old,), (new,)),), MINUTES[kind], DOWN[kind], **more)


def chain(*acts: Act, **start: int) -> Chain:
    """Return a chain; kinds start at 0 unless told."""
    places = dict.fromkeys(("core", "job", "link"), 0) | start
    return Chain(acts, tuple((kind, (place,)) for kind, place in sorted(places.items())))


def pool(unavailable: int = 2, canary: int = 1, growth: float = 2, soak: int = 0,
         window: Window | None = None) -> PoolRule:  # fmt: skip
    """Return a pool's rule."""
    return PoolRule(unavailable, canary, growth, soak, window)


def fleet(chains: list[Chain], bunches: list[Bunch], *pools: PoolRule, **rule: object) -> Fleet:
    """Return a fleet."""
    return Fleet(tuple(chains), tuple(bunches), pools or (pool(),), replace(RULE, **rule))


@st.composite
def chains(draw: st.DrawFn, jobs: int) -> Chain:
    """Draw a path: kinds upwards in hops, two in one act now and then, ``jobs`` switches of the equal kind."""
    courses = {kind: sorted(draw(st.sets(st.integers(1, 3), max_size=2))) for kind in ("base", "core", "link")}
    courses["job"] = list(range(1, jobs + 1))
    queue = draw(st.permutations([kind for kind, course in courses.items() for _ in course]))
    at, acts = dict.fromkeys(courses, 0), []
    while queue:
        together = [queue.pop()]
        pair = {together[0], *queue[-1:]}
        if len(pair) == 2 and pair <= {"base", "core", "link"} and draw(st.booleans()):
            together.append(queue.pop())
        changes = []
        for kind in together:
            new = courses[kind].pop(0)
            changes.append(Change(kind, (at[kind],), (new,)))
            at[kind] = new
        acts.append(Act(tuple(changes), sum(MINUTES[k] for k in together), any(DOWN[k] for k in together)))
    if draw(st.booleans()):
        acts.insert(draw(st.integers(0, len(acts))), Act((Change("tool", (0,), (0, 2)),), 12, False))
    return chain(*acts)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Draw a fleet of one to three pools that may share failure domains, communication domains and NVLink domains."""
    jobs = draw(st.integers(0, 2))
    made = draw(st.lists(chains(jobs), min_size=1, max_size=3))
    pools = [
        pool(draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.sampled_from([2, 2.5, 3])),
             draw(st.sampled_from([0, 30])), draw(st.sampled_from([None, None, WINDOW])))
        for _ in range(draw(st.integers(1, 3)))
    ]
    # A domain keeps to one chain more often than not: mixed ones are refused more often than placed.
    home = draw(st.lists(st.integers(0, len(made) - 1), min_size=3, max_size=3))
    bunches, node = [], 0
    for _ in range(draw(st.integers(1, 7))):
        size, comm = draw(st.integers(1, 4)), draw(st.sampled_from([None, 0, 1, 2]))
        nvlink = draw(st.sampled_from([None, None, comm]))
        number = home[comm] if comm is not None and draw(st.integers(0, 3)) else draw(st.integers(0, len(made) - 1))
        bunches.append(Bunch(((node, node + size - 1),), draw(st.integers(0, len(pools) - 1)), draw(st.integers(0, 2)),
                             number, comm, nvlink))  # fmt: skip
        node += size
    rule = replace(RULE, failure_domain_max_unavailable=draw(st.integers(1, 6)),
                   max_mixed_minutes=draw(st.sampled_from([0, 0, 60])),
                   skew=(("core", draw(st.integers(1, 3))),))  # fmt: skip
    return Fleet(tuple(made), tuple(bunches), tuple(pools), rule)
