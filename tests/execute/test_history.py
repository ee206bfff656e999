"""Times of earlier rollouts, out of journals written by hand and by the engine on simulated nodes."""

from __future__ import annotations

from typing import Any

from planner.execute.history import digest_samples, samples_of
from planner.execute.states import Entry
from tests.emit.sample import document, finished

PLAN = finished(document())


def at(second: float) -> str:
    """Return a time of the invented rollout."""
    return f"2026-01-01T00:{int(second) // 60:02d}:{second % 60:06.3f}+00:00"


def node(name: str, second: float, event: str, **data: Any) -> Entry:
    """Return an entry that moves a node."""
    return Entry(seq=0, at=at(second), kind="node", node=name, wave="w1", batch="w1b1", data={"event": event, **data})


def heard(name: str, second: float, phase: str) -> Entry:
    """Return an entry that was heard in the middle of a call; "gate!" is a verdict."""
    if phase == "gate!":
        return Entry(seq=0, at=at(second), kind="gate", node=name, data={"verdict": "pass"})
    return Entry(seq=0, at=at(second), kind="phase", node=name, data={"phase": phase})


def way(name: str, start: float, *, drain: float = 60, work: float = 400, started: bool = False,
        end: str = "gate-passed") -> list[Entry]:
    """Return one node's way through its change call."""
    done = start + drain + work
    return [node(name, start, "facts-fit", started=started), node(name, start, "change-begun"),
            heard(name, start, "drain"), heard(name, start + drain, "baseline"),
            heard(name, start + drain + 20, "change"), heard(name, done - 30, "gate"), heard(name, done, "gate!"),
            node(name, done + 5, end)]


def test_work_is_shared_out_by_planned_minutes() -> None:
    """400 seconds from the end of the drain to the last verdict, of which 15 of 20 planned minutes are the driver's."""
    samples = samples_of(PLAN, way("gpu01", 10))
    assert samples["move", "driver"] == [400 / 60 * 15 / 20]
    assert samples["move", "toolkit"] == [400 / 60 * 5 / 20]
    assert samples["drain", ""] == [1.0]


def test_only_whole_ways_count() -> None:
    """Failed, found half done, retried: none of them tells how long a change takes."""
    assert samples_of(PLAN, way("gpu01", 0, end="gate-failed")) == {}
    assert samples_of(PLAN, way("gpu01", 0, started=True)) == {}
    cut = way("gpu01", 0)[:-2]
    assert samples_of(PLAN, [*cut, node("gpu01", 900, "unreachable")]) == {}
    assert samples_of(PLAN, [*cut, *way("gpu01", 1000, started=True)]) == {}


def test_nodes_that_took_turns_are_counted_by_their_turn() -> None:
    """Forty nodes of a cohort go in three turns: of a node's 400 seconds two thirds were the others'."""
    cohort = PLAN.cohorts[0]
    names = [f"n{i:02}" for i in range(40)]
    plan = PLAN.model_copy(update={"cohorts": (cohort.model_copy(update={"nodes": tuple(names)}),)})
    started = Entry(seq=0, at=at(0), kind="call-started", wave="w1", batch="w1b1", data={
        "call": "change", "nodes": names})
    samples = samples_of(plan, [started, *way("n07", 10)])
    assert samples["move", "driver"] == [400 / 60 / 3 * 15 / 20]
    assert samples["drain", ""] == [1 / 3]


def call(kind: str, name: str, second: float, status: str = "successful") -> Entry:
    """Return the begin or the end of a call on the first batch."""
    return Entry(seq=0, at=at(second), kind=f"call-{kind}", wave="w1", batch="w1b1",
                 data={"call": name, "status": status})


def test_calls_around_a_batch_are_added_up() -> None:
    """30 seconds of preflight and 12 of undrain; a batch that needed several calls is left out."""
    calls = [call("started", "preflight", 0), call("ended", "preflight", 30), call("started", "change", 40),
             call("ended", "change", 500), call("started", "undrain", 510), call("ended", "undrain", 522)]
    assert samples_of(PLAN, calls)["around", ""] == [0.7]
    again = [*calls, call("started", "preflight", 600), call("ended", "preflight", 610)]
    assert ("around", "") not in samples_of(PLAN, again)
    assert ("around", "") not in samples_of(PLAN, calls[:-1])


def test_median_and_nearest_rank_of_all_rollouts() -> None:
    """Two rollouts together; fewer than three nodes are no distribution."""
    found = digest_samples([{("move", "driver"): [3.0, 1.0], ("move", "rare"): [5.0, 6.0]},
                            {("move", "driver"): [2.0, 10.0]}])
    assert [(m.kind, m.name, m.nodes, m.median_minutes, m.p90_minutes) for m in found] == [
        ("move", "driver", 4, 2.5, 10.0)]


def test_the_order_of_rollouts_does_not_matter() -> None:
    """The same bytes, whatever was read first."""
    one, two = {("drain", ""): [1.0, 2.0]}, {("drain", ""): [4.0], ("around", ""): [1.0, 1.5, 0.5]}
    assert digest_samples([one, two]) == digest_samples([two, one])
