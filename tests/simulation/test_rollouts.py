"""Rollouts under injected faults and crashes: the end is the same, and the invariants hold at every instant."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from planner.errors import ExitCode
from planner.execute.decide import Act, decide
from planner.execute.states import Entry, Event, NodeState, replay
from planner.execute.store import Store
from planner.runner.scripted import Fault, SimulatedCrash
from tests.execute.world import ME, World, make_plan

pytestmark = pytest.mark.simulation
SEEDS = range(25)
KINDS = (("preflight", "unreachable"), ("prefetch", "task-failed"), ("drain", "unreachable"), ("drain", "task-failed"),
         ("change", "task-failed"), ("change", "unreachable"), ("change", "crash"), ("reboot", "lost"),
         ("reboot", "unreachable"), ("gate", "gate-fail"), ("gate", "gate-inconclusive"), ("gate", "crash"),
         ("undrain", "unreachable"), ("undrain", "crash"), ("record", "task-failed"), ("drain", "crash"))


class CrashingStore(Store):
    """Dies before or after its n-th append, as a power cut does."""

    def __init__(self, url: str, rollout: str, *, at: int, after: bool) -> None:
        super().__init__(url, rollout)
        self._left, self._after_write = at, after

    def append(self, entries: Sequence[Mapping[str, Any]], *, at: str, token: int | None = None,
               after: int | None = None) -> tuple[Entry, ...]:
        self._left -= 1
        if self._left == 0 and not self._after_write:
            raise SimulatedCrash("before an append")
        written = super().append(entries, at=at, token=token, after=after)
        if self._left == 0:
            raise SimulatedCrash("after an append")
        return written


def crash_then_finish(directory: Path, *, at: int, after: bool) -> tuple[bool, World]:
    """Run with a crash at one append, then without; tell whether the crash came."""
    world = World(make_plan(canary=1, batches=(2,), approval=False, soak=1), directory)
    store = CrashingStore(f"sqlite:///{directory / 'state.db'}", world.plan.digest, at=at, after=after)
    crashed = False
    try:
        world.run(store=store)
    except SimulatedCrash:
        crashed = True
    assert world.run().code is ExitCode.DONE
    return crashed, world


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_resume_after_a_crash_at_any_entry_reaches_the_same_end(tmp_path: Path, after: bool) -> None:
    at, crashed = 0, True
    while crashed:
        at += 1
        (tmp_path / str(at)).mkdir()
        crashed, world = crash_then_finish(tmp_path / str(at), at=at, after=after)
        assert world.at_goal(), f"crash at append {at}"
        for name, node in world.fleet.nodes.items():
            assert [a for a in node.acts if a.startswith("step")] == ["step s1", "step s2"], f"{name}, append {at}"
            assert node.boots == 1
    assert at > 30      # the loop really walked through a whole rollout


def random_world(directory: Path, seed: int) -> World:
    chance = random.Random(seed)
    plan = make_plan(canary=chance.choice((0, 1, 2)), batches=[chance.randint(1, 4) for _ in range(3)], soak=5,
                     limit=chance.randint(2, 5), budget=chance.choice((0, 1, 3, "30%")), approval=False)
    names = sorted(plan.nodes)
    faults = []
    for _ in range(chance.randint(1, 5)):
        phase, kind = chance.choice(KINDS)
        faults.append(Fault(node=chance.choice(names), phase=phase, kind=kind, times=chance.choice((1, 1, 2))))
    return World(plan, directory, faults=tuple(faults), seed=seed)


def act_as_a_person(world: World) -> None:
    """Do what the stop asks for: bring back what does not answer, retry what failed."""
    for name, status in world.state().nodes.items():
        world.fleet.nodes[name].lost = False
        if status.state in (NodeState.FAILED, NodeState.LOST):
            world.move(name, Event.RETRY)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_faults_leave_a_fleet_that_a_person_can_bring_to_its_goal(tmp_path: Path, seed: int) -> None:
    """World.check holds the fleet to max-unavailable and to "no ungated node in service" after every single change."""
    world = random_world(tmp_path, seed)
    for _ in range(40):
        try:
            outcome = world.run()
        except SimulatedCrash:
            continue
        if outcome.code is ExitCode.DONE:
            break
        act_as_a_person(world)
    assert world.at_goal(), f"seed {seed}: {world.faults}"
    assert all(status.state is NodeState.DONE for status in world.state().nodes.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_deciding_twice_on_any_prefix_gives_one_answer_within_the_limit(tmp_path: Path, seed: int) -> None:
    world = random_world(tmp_path, seed)
    with contextlib.suppress(SimulatedCrash):
        world.run()
    entries = world.entries()
    for length in range(0, len(entries) + 1, 3):
        state = replay(world.plan, entries[:length])
        now = world.clock.now()
        decision = decide(world.plan, state, now)
        assert decision == decide(world.plan, replay(world.plan, entries[:length]), now)
        if isinstance(decision, Act) and decision.call in ("preflight", "change"):
            away = {n for n, s in state.nodes.items() if s.unavailable} | set(decision.nodes)
            assert len(away) <= world.limit


def test_the_faults_of_the_seeds_reach_every_kind_of_stop(tmp_path: Path) -> None:
    """The seeds above would prove little if they never met trouble."""
    met = set()
    for seed in SEEDS:
        (tmp_path / str(seed)).mkdir()
        world = random_world(tmp_path / str(seed), seed)
        try:
            met.add(world.run().kind)
        except SimulatedCrash:
            met.add("crash")
    assert {"crash", "gate-failed", "unreachable", "task-failed"} <= met


def test_a_fenced_controller_cannot_write_any_more(tmp_path: Path) -> None:
    """Another controller takes over in the middle of a call; the first one's next entry is refused."""
    from planner.errors import LockedError
    from planner.execute.lock import break_lock

    world = World(make_plan(canary=0), tmp_path)

    class TakenOver:
        def event(self, kind: str, at: object, **data: object) -> None:
            if kind == "call-started" and data["call"] == "change":
                store = world.store
                break_lock(store, world.clock, by=ME, force=True)
                store.close()

        def state(self, plan: object, state: object) -> None:
            """Nothing to do."""

    with pytest.raises(LockedError):
        world.run(reporter=TakenOver())
    assert world.run().code is ExitCode.DONE
    assert world.at_goal()
