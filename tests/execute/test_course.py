"""The model that simulations play agrees with the engine: call by call with its decisions, and with whole runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import ExitCode
from planner.execute.course import Course
from planner.execute.decide import Act, Note, Stop, Wait, decide
from planner.execute.pairing import take
from planner.execute.states import Entry, NodeState, NodeStatus, RolloutState, fold, start_state
from planner.execute.trial import End, Fate, Kind, Person, Trial
from planner.runner.scripted import Fault
from planner.schedule.plan import Plan
from tests.emit.sample import document, finished
from tests.execute.world import World, make_plan

START = datetime(2026, 1, 1, tzinfo=UTC)
CALL_MINUTES, PAIR_MINUTES = 10.0, 7.0
_STATES = {Kind.FAILED: NodeState.FAILED, Kind.LOST: NodeState.LOST, Kind.UNREACHABLE: NodeState.CHANGE_REQUIRED}


@dataclass(slots=True)
class Written:
    """Dice whose numbers are written down: the kinds that strike a node, attempt by attempt, then nothing."""

    fates: Mapping[str, list[Kind]]
    bad_pairs: Mapping[str, int] = field(default_factory=dict)     # upgraded node -> series of pairs that it fails
    series: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    thrown: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def first(self) -> dict[str, Fate]:
        """Return the first attempts."""
        self.thrown = defaultdict(lambda: 1)
        return {name: Fate(kinds[0], 0) for name, kinds in self.fates.items() if kinds}

    def again(self, node: str) -> Fate | None:
        """Return the next attempt."""
        place = self.thrown[node]
        self.thrown[node] += 1
        kinds = self.fates.get(node, [])
        return Fate(kinds[place], 0) if place < len(kinds) else None

    def minutes(self, nodes: tuple[str, ...], fates: Mapping[str, Fate]) -> float:
        """Return the same for every call."""
        return CALL_MINUTES

    def pair_fails(self, node: str) -> bool:
        """Tell whether the next series of a node fails."""
        self.series[node] += 1
        return self.series[node] <= self.bad_pairs.get(node, 0)

    def pair_minutes(self) -> float:
        """Return the same for every pair."""
        return PAIR_MINUTES


def decided(plan: Plan, fates: Mapping[str, list[Kind]], retries: int = 0, bad: Mapping[str, int] | None = None
            ) -> Trial:
    """Play a rollout with the engine's own ``decide``; a person approves, and tries what is broken again at once."""
    state, now, trial = start_state(plan), START, Trial()
    nodes: dict[str, NodeStatus] = dict(state.nodes)
    tries: dict[str, int] = defaultdict(int)
    pairs = Written({}, bad or {})
    while True:
        state = replace(state, nodes=nodes)
        decision = decide(plan, state, now)
        if isinstance(decision, Act) and decision.call == "pair":
            state, now = _paired(state, decision, pairs, trial), now + timedelta(minutes=PAIR_MINUTES)
        elif isinstance(decision, Note) and decision.kind == "pairs-judged":
            state = _told(state, "pairs-judged", decision.wave, decision.data)
            if decision.data["outcome"] == "bad":
                trial.failures += 1
                trial.exposed = trial.exposed or sum(s.started for s in nodes.values())
                trial.seen_in = trial.seen_in or decision.wave
        elif isinstance(decision, Stop) and decision.kind.startswith("pair-"):
            tries[decision.wave] += 1
            if decision.kind == "pair-failed" and tries[decision.wave] > retries:
                return _ended(trial, decision, state, now)
            trial.stops += 1
            state = _mended(state, decision)
        elif isinstance(decision, Act):
            now += timedelta(minutes=_acted(decision, nodes, tries, fates, trial))
        elif isinstance(decision, Note):
            state = replace(state, waves_finished={**state.waves_finished, decision.wave: now.isoformat()})
        elif isinstance(decision, Wait):
            now = decision.until
        elif decision.kind == "approval":
            state = replace(state, approved=state.approved | {decision.wave})
        elif not (again := _again(decision, nodes, tries, retries)):
            return _ended(trial, decision, state, now)
        else:
            trial.stops += 1
            nodes = again


def _told(state: RolloutState, kind: str, wave: str, data: Mapping[str, Any]) -> RolloutState:
    """Return the state after an entry on pairs, as the journal's own fold has it."""
    return fold(state, [Entry(seq=0, at=START.isoformat(), kind=kind, wave=wave, data=dict(data))])


def _paired(state: RolloutState, act: Act, dice: Written, trial: Trial) -> RolloutState:
    """Let a pair happen: all of a series fail that its first upgraded node is part of, if it fails at all."""
    trial.calls.append((act.wave, act.nodes))
    fresh = not any(t.wave == act.wave and t.domain == act.domain for t in
                    state.pairs.tried[state.pairs.since.get((act.wave, act.domain), 0):])
    if fresh:
        dice.fates = {act.nodes[0]: []} if dice.pair_fails(act.nodes[0]) else {}
    data = {"call": "pair", "nodes": act.nodes, "domain": act.domain}
    code = "NCCL_HANG" if set(act.nodes) & set(dice.fates) else "OK"
    return _told(_told(state, "call-started", act.wave, data), "pair", act.wave,
                 {"domain": act.domain, "pair": act.nodes, "code": code})


def _mended(state: RolloutState, stop: Stop) -> RolloutState:
    """Let a person answer: what failed is tried again, what could not be tried is let pass."""
    if stop.kind == "pair-unclear":
        return replace(state, approved=state.approved | {stop.wave})
    for (wave, domain), judged in sorted(state.pairs.judged.items()):
        if wave == stop.wave and judged.outcome == "bad":
            state = _told(state, "pair-retry", wave, {"domain": domain})
    return replace(state, pairs=take(state.pairs, "run-started", "", {}, state.approved))


def _acted(act: Act, nodes: dict[str, NodeStatus], tries: dict[str, int], fates: Mapping[str, list[Kind]],
           trial: Trial) -> float:
    """Let a call happen; return its minutes."""
    for name in act.nodes:
        status = nodes[name]
        if act.call == "preflight":
            nodes[name] = replace(status, state=NodeState.CHANGE_REQUIRED, leased=True)
        elif act.call == "change":
            kinds, tries[name] = fates.get(name, []), tries[name] + 1
            kind = kinds[tries[name] - 1] if tries[name] <= len(kinds) else None
            trial.failures += kind is not None
            nodes[name] = replace(status, started=True, state=_STATES[kind] if kind else NodeState.UNDRAIN_REQUIRED,
                                  unknown=kind is Kind.UNREACHABLE, code="unreachable" if kind else "")
        else:
            nodes[name] = replace(status, state=NodeState.DONE, leased=False)
    if act.call != "change":
        return 0.0
    trial.calls.append((act.wave, act.nodes))
    if trial.failures:
        trial.exposed = trial.exposed or sum(s.started for s in nodes.values())
        trial.seen_in = trial.seen_in or act.wave
    return CALL_MINUTES


def _again(stop: Stop, nodes: dict[str, NodeStatus], tries: dict[str, int], retries: int) -> dict[str, NodeStatus]:
    """Return the nodes with all broken ones to be tried again; empty where nobody does that."""
    broken = [n for n, s in nodes.items() if s.state in (NodeState.FAILED, NodeState.LOST) or s.unknown]
    settled = stop.code in (ExitCode.DONE, ExitCode.PARTIAL)
    if settled or not broken or any(tries[n] > retries for n in broken):
        return {}
    return {n: replace(s, state=NodeState.PREFLIGHT_REQUIRED, unknown=False) if n in broken else s
            for n, s in nodes.items()}


def _ended(trial: Trial, stop: Stop, state: RolloutState, now: datetime) -> Trial:
    ends = {"finished": End.FINISHED, "finished-with-failures": End.WITH_FAILURES, "nodes-lost": End.NODES_LOST,
            "pair-failed": End.PAIR_FAILED,
            "max-unavailable": End.NO_ROOM, "unreachable": End.UNREACHABLE, "window-too-short": End.NO_WINDOW}
    # A halt is named after the event that broke the first node; this test writes "unreachable" for all of them.
    own = stop.code is not ExitCode.HALTED or stop.kind in ("nodes-lost", "pair-failed")
    trial.end = ends[stop.kind] if own else End.HALTED
    trial.stops += stop.code not in (ExitCode.DONE, ExitCode.PARTIAL)
    trial.minutes = (now - START).total_seconds() / 60
    trial.broken = sum(s.state in (NodeState.FAILED, NodeState.LOST) or s.unknown for s in state.nodes.values())
    trial.changed = sum(s.started for s in state.nodes.values())
    return trial


def plan_of(members: list[dict[str, Any]], waves: list[list[int]], **rollout: Any) -> Plan:
    """Return a plan of nodes ``n00`` …, each with pool and domains, in waves of batches of the given sizes."""
    plan, names = document(), [f"n{i:02}" for i in range(len(members))]
    moving = plan["cohorts"][0] | {"nodes": names, "pools": sorted({m["pool"] for m in members})}
    plan["cohorts"], plan["rollout"] = [moving], {"soak_minutes": 60, **rollout}
    plan["nodes"] = {n: {**plan["nodes"]["gpu01"], "cohort": moving["id"], **m}
                     for n, m in zip(names, members, strict=True)}
    left = list(names)
    plan["waves"] = []
    for number, sizes in enumerate(waves, start=1):
        batches = []
        for place, size in enumerate(sizes, start=1):
            taken, left = left[:size], left[size:]
            if taken:
                batches.append({"id": f"w{number}b{place}", "nodes": taken, "minutes": 10})
        kind = "canary" if number == 1 else "batch"
        if batches:
            plan["waves"].append({"id": f"w{number}", "kind": kind, "play": "x", "batches": batches,
                                  "soak_minutes": 30 if number == 1 else 0, "approval": number == 1})
    plan["waves"][-1]["batches"] += [{"id": "rest", "nodes": left, "minutes": 10}] if left else []
    return plan  # type: ignore[return-value]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a small fleet: two pools, failure domains, NVLink domains inside a batch or not, limits, a budget."""
    size = draw(st.integers(3, 12))
    members = [{"pool": draw(st.sampled_from(["a", "b"])), "failure_domain": draw(st.sampled_from(["", "r1", "r2"])),
                "nvlink_domain": draw(st.sampled_from(["", "", "", "x", "y"])),
                "comm_domain": draw(st.sampled_from(["", "ib", "ib", "roce"]))} for _ in range(size)]
    sizes = st.lists(st.integers(1, 5), min_size=1, max_size=3)
    waves = [[draw(st.integers(1, 2))], *draw(st.lists(sizes, max_size=4))]
    windows = draw(st.sampled_from([[], [], [], ["daily 02:00-02:25 UTC"], ["Fri 01:00-01:09 UTC"]]))
    pairs = {"nccl_pairs": True} if draw(st.booleans()) else {}
    plan: Any = plan_of(members, waves, failure_budget=draw(st.sampled_from([0, 1, 2, "20%", "50%"])), **pairs)
    plan["pair_minutes"] = draw(st.sampled_from([None, 5, 12]))
    plan["pools"] = {pool: {
        "nodes": size, "max_unavailable": draw(st.integers(1, size)),
        "max_unavailable_per_domain": draw(st.sampled_from([None, 1, 2])),
        "windows": windows, "already_down": draw(st.sampled_from([[], [], [f"down-{pool}"]]))} for pool in ("a", "b")}
    return finished(plan)


kinds = st.lists(st.sampled_from(list(Kind)), min_size=1, max_size=3)
NAMES = st.sampled_from([f"n{i:02}" for i in range(12)])
COMPARED = ("calls", "end", "stops", "failures", "broken", "changed", "exposed", "seen_in", "minutes")


@pytest.mark.property
@settings(max_examples=400, deadline=None)
@given(plans(), st.dictionaries(NAMES, kinds, max_size=4), st.integers(0, 2),
       st.dictionaries(NAMES, st.integers(1, 3), max_size=6))
def test_every_call_is_the_one_that_the_engine_decides(plan: Plan, fates: dict[str, list[Kind]], retries: int,
                                                       bad: dict[str, int]) -> None:
    """Same nodes in the same calls, same end, same time, whatever fails, and however often a person tries again."""
    expected = decided(plan, fates, retries, bad)
    played = Course(plan, START).play(Written(fates, bad), Person(retries=retries, answer_minutes=0), trace=True)
    assert {name: getattr(played, name) for name in COMPARED} == {name: getattr(expected, name) for name in COMPARED}


FAULTS = {Kind.FAILED: ("gate", "gate-fail"), Kind.LOST: ("reboot", "lost"), Kind.UNREACHABLE: ("drain", "unreachable")}
STORIES: dict[str, tuple[dict[str, Any], dict[str, list[Kind]]]] = {
    "nothing fails": ({}, {}),
    "a canary fails": ({}, {"n0": [Kind.FAILED]}),
    "one more than the budget": ({"budget": 1, "limit": 3}, {"n1": [Kind.FAILED], "n3": [Kind.FAILED]}),
    "within the budget": ({"budget": 2, "limit": 3}, {"n2": [Kind.FAILED]}),
    "two are lost": ({"budget": 4, "limit": 4}, {"n1": [Kind.LOST], "n3": [Kind.LOST]}),
    "one cannot be reached": ({"budget": 1, "limit": 3}, {"n2": [Kind.UNREACHABLE]}),
    "the failed one takes the last room": ({"budget": 3, "limit": 1, "batches": (1, 1, 1)}, {"n1": [Kind.FAILED]}),
    "half a domain fails": ({"budget": 2, "limit": 4, "domains": {"n1": "x", "n2": "x"}}, {"n2": [Kind.FAILED]}),
}


@pytest.mark.simulation
@pytest.mark.parametrize("story", STORIES)
def test_a_played_rollout_ends_as_the_engine_ends_on_simulated_nodes(story: str, tmp_path: Path) -> None:
    """The whole engine, with journal, lock and scripted runner: same nodes broken and begun, same kind of end."""
    options, fates = STORIES[story]
    plan = make_plan(**options)
    world = World(plan, tmp_path, tuple(Fault(node=name, phase=FAULTS[kind][0], kind=FAULTS[kind][1])
                                        for name, kinds in fates.items() for kind in kinds))
    outcome = world.run()
    if outcome.kind == "approval":
        world.say("approved", wave="w1")
        outcome = world.run()
    played = Course(plan, START).play(Written(fates))
    statuses = outcome.state.nodes.values()
    assert played.changed == sum(s.started for s in statuses)
    assert played.broken == sum(s.state in (NodeState.FAILED, NodeState.LOST) or s.unknown for s in statuses)
    codes = {End.FINISHED: ExitCode.DONE, End.WITH_FAILURES: ExitCode.PARTIAL, End.HALTED: ExitCode.HALTED,
             End.NODES_LOST: ExitCode.HALTED}
    assert codes.get(played.end, ExitCode.PAUSED) is outcome.code
    assert (played.end is End.NODES_LOST) == (outcome.kind == "nodes-lost")


def test_broken_nodes_are_out_of_service_until_the_end() -> None:
    """Canary of 8 GPUs for 10 minutes, its soak of 30, then the failed node's 8 GPUs count to the end."""
    plan: Any = plan_of([{"pool": "a"}] * 3, [[1], [1], [1]], failure_budget=1)
    plan["pools"] = {"a": {"nodes": 3, "max_unavailable": 2}}
    passed = Course(finished(plan)).play(Written({}))
    assert (passed.minutes, passed.gpu_minutes) == (60.0, 3 * 8 * 10.0)
    failed = Course(finished(plan)).play(Written({"n01": [Kind.FAILED]}))
    assert (failed.end, failed.minutes, failed.gpu_minutes) == (End.WITH_FAILURES, 60.0, 8 * (10 + 20 + 10))


def test_people_take_their_time() -> None:
    """Approval once, an answer for each stop; the second attempt passes."""
    plan: Any = plan_of([{"pool": "a"}] * 2, [[1], [1]])
    plan["pools"] = {"a": {"nodes": 2, "max_unavailable": 1}}
    person = Person(retries=1, answer_minutes=7, approval_minutes=100)
    trial = Course(finished(plan)).play(Written({"n01": [Kind.FAILED]}), person)
    assert (trial.end, trial.stops, trial.failures, trial.minutes) == (End.FINISHED, 1, 1, 10 + 30 + 100 + 10 + 7 + 10)
