"""What a rollout knows of itself: node states as a table, and the fold that makes a state out of a journal.

Pure. A state names the duty that comes next, so that a crash leaves instructions. The journal is the only source: the
same entries give the same state on every controller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from planner.execute import pairing
from planner.schedule.plan import Plan


class NodeState(StrEnum):
    """Each state names the duty that comes next."""

    PENDING = "pending"                        # waits for its batch
    PREFLIGHT_REQUIRED = "preflight-required"  # facts must be read again, packages fetched
    CHANGE_REQUIRED = "change-required"        # drain, change, reboot and gate must run
    GATE_REQUIRED = "gate-required"            # the gate could not judge; it must run again
    UNDRAIN_REQUIRED = "undrain-required"      # the gate has passed; the node must be given back
    HELD = "held"                              # its facts differ from the plan; resume looks again
    DONE = "done"
    FAILED = "failed"                          # a person decides: retry or skip
    LOST = "lost"                              # never came back from its reboot; a person decides
    SKIPPED = "skipped"                        # a person left it out


class Event(StrEnum):
    """What moves a node from one state to another."""

    PREFLIGHT_BEGUN = "preflight-begun"
    FACTS_FIT = "facts-fit"
    AT_GOAL = "at-goal"                # already there, and nothing of ours is left to do
    AT_GOAL_GATED = "at-goal-gated"    # already there, gated by this rollout, perhaps not given back yet
    STALE = "stale"
    REFUSED = "refused"                # another rollout or controller holds the node's lease
    CHANGE_BEGUN = "change-begun"
    GATE_PASSED = "gate-passed"
    GATE_FAILED = "gate-failed"
    GATE_UNCLEAR = "gate-unclear"
    HANDOVER_OPEN = "handover-open"    # a step waits for what people, or their own automation, have to do
    UNDRAINED = "undrained"
    TASK_FAILED = "task-failed"
    UNREACHABLE = "unreachable"        # nobody knows; looked at again at resume
    REBOOT_LOST = "reboot-lost"
    RESUMED = "resumed"
    RETRY = "retry"
    SKIP = "skip"


S, E = NodeState, Event
_AGAIN = (S.PREFLIGHT_REQUIRED, S.CHANGE_REQUIRED, S.GATE_REQUIRED, S.HELD)
_OPEN = (S.PENDING, *_AGAIN, S.UNDRAIN_REQUIRED)

TRANSITIONS: Final[Mapping[tuple[NodeState, Event], NodeState]] = MappingProxyType({
    (S.PENDING, E.PREFLIGHT_BEGUN): S.PREFLIGHT_REQUIRED,
    (S.PREFLIGHT_REQUIRED, E.PREFLIGHT_BEGUN): S.PREFLIGHT_REQUIRED,
    (S.PREFLIGHT_REQUIRED, E.FACTS_FIT): S.CHANGE_REQUIRED,
    (S.PREFLIGHT_REQUIRED, E.AT_GOAL): S.DONE,
    (S.PREFLIGHT_REQUIRED, E.AT_GOAL_GATED): S.UNDRAIN_REQUIRED,
    (S.PREFLIGHT_REQUIRED, E.STALE): S.HELD,
    (S.PREFLIGHT_REQUIRED, E.REFUSED): S.HELD,
    (S.PREFLIGHT_REQUIRED, E.TASK_FAILED): S.FAILED,
    (S.PREFLIGHT_REQUIRED, E.UNREACHABLE): S.PREFLIGHT_REQUIRED,
    **{(state, E.CHANGE_BEGUN): state for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED)},
    **{(state, E.GATE_PASSED): S.UNDRAIN_REQUIRED for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED)},
    **{(state, E.GATE_FAILED): S.FAILED for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED)},
    **{(state, E.GATE_UNCLEAR): S.GATE_REQUIRED for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED)},
    **{(state, E.HANDOVER_OPEN): S.CHANGE_REQUIRED for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED)},
    **{(state, E.TASK_FAILED): S.FAILED for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED, S.UNDRAIN_REQUIRED)},
    **{(state, E.UNREACHABLE): state for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED, S.UNDRAIN_REQUIRED)},
    **{(state, E.REBOOT_LOST): S.LOST for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED)},
    **{(state, E.REFUSED): S.HELD for state in (S.CHANGE_REQUIRED, S.GATE_REQUIRED, S.UNDRAIN_REQUIRED)},
    (S.UNDRAIN_REQUIRED, E.UNDRAINED): S.DONE,
    # After a pause or a crash facts are read again first; a node whose gate has passed only has to be given back.
    **{(state, E.RESUMED): S.PREFLIGHT_REQUIRED for state in _AGAIN},
    (S.UNDRAIN_REQUIRED, E.RESUMED): S.UNDRAIN_REQUIRED,
    **{(state, E.RETRY): S.PREFLIGHT_REQUIRED for state in (S.FAILED, S.LOST, S.HELD, S.SKIPPED)},
    **{(state, E.SKIP): S.SKIPPED for state in (*_OPEN, S.FAILED, S.LOST)},
})

PHASE_GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "preflight": ("preflight", "prefetch"),
    "change": ("drain", "baseline", "change", "reboot", "gate"),
    "undrain": ("undrain", "record"),
})
FINAL: Final = frozenset({S.DONE, S.FAILED, S.LOST, S.SKIPPED})


def transition(state: NodeState, event: Event) -> NodeState:
    """Return the state after ``event``; an absent pair is a programmer error."""
    assert (state, event) in TRANSITIONS, f"illegal: {event} in {state}"
    return TRANSITIONS[state, event]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of the journal. ``node``, ``wave`` and ``batch`` are "" where it is about none."""

    seq: int
    at: str                            # ISO 8601, UTC
    kind: str
    node: str = ""
    wave: str = ""
    batch: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    prev: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """What is known of one node."""

    wave: str
    batch: str
    state: NodeState = NodeState.PENDING
    started: bool = False              # its drain may have begun: it counts as unavailable until it is done
    leased: bool = False               # its preflight may have taken the lease
    recorded: bool = False             # its record lies in the bundle
    unknown: bool = False              # out of reach, its gate could not judge, or handed over; looked at at resume
    reason: str = ""
    code: str = ""                     # the event that brought it where it is
    phase: str = ""                    # the last phase heard of
    verdict: str = ""                  # of the last gate
    evidence: str = ""                 # where the last gate's report lies, relative to the state directory
    evidence_digest: str = ""          # of that report, as it was when it was heard
    canary: str = ""                   # verdict on the site's own command, the last time that it ran
    canary_evidence: str = ""          # where its report lies
    baseline: str = ""                 # digest of the report from before the change
    differences: tuple[Mapping[str, str], ...] = ()
    since: str = ""

    @property
    def gates(self) -> str:
        """What the last gate said and, where one ran, the site's own command; "" before any."""
        return f"{self.verdict}, own command {self.canary}" if self.canary else self.verdict

    @property
    def unavailable(self) -> bool:
        """Whether the node cannot be counted on now: drained by us, broken, lost or out of reach."""
        return (self.started and self.state is not NodeState.DONE) or (self.unknown and self.code == E.UNREACHABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutState:
    """The whole rollout as its journal tells it."""

    nodes: Mapping[str, NodeStatus]
    seq: int = 0
    opened: bool = False
    runs: int = 0
    waves_finished: Mapping[str, str] = field(default_factory=dict)   # wave -> when its last batch ended
    approval_needed: frozenset[str] = frozenset()
    approved: frozenset[str] = frozenset()
    slower: Mapping[str, str] = field(default_factory=dict)           # wave -> what it lost as a whole
    paused: str = ""                   # who asked for a pause that nobody has lifted
    aborted: str = ""                  # who gave the rollout up
    finished: bool = False
    in_flight: tuple[str, ...] = ()    # nodes of a call that has begun and not ended, as far as the journal knows
    call: str = ""                     # what that call is: preflight, change, undrain or release
    owner: str = ""
    pairs: pairing.Pairs = field(default_factory=pairing.Pairs)
    unfenced: bool = False             # marks of mixed domains were taken off, and no node was given back since


def moving_nodes(plan: Plan) -> frozenset[str]:
    """Return the nodes that have steps; the others are there already and take no part."""
    return frozenset(name for cohort in plan.cohorts if cohort.steps for name in cohort.nodes)


def start_state(plan: Plan) -> RolloutState:
    """Return the state of a rollout that has not begun."""
    moving = moving_nodes(plan)
    return RolloutState(nodes={
        name: NodeStatus(wave=wave.id, batch=batch.id)
        for wave in plan.waves for batch in wave.batches for name in batch.nodes if name in moving
    })


def replay(plan: Plan, entries: Iterable[Entry]) -> RolloutState:
    """Return the state that the journal's entries add up to."""
    return fold(start_state(plan), entries)


def fold(state: RolloutState, entries: Iterable[Entry]) -> RolloutState:
    """Return the state after some more entries."""
    nodes = dict(state.nodes)
    for entry in entries:
        if entry.kind == "node":
            nodes[entry.node] = _moved(nodes[entry.node], entry)
        elif entry.kind in _NODE_FACTS and entry.node in nodes:
            nodes[entry.node] = _NODE_FACTS[entry.kind](nodes[entry.node], entry)
        elif entry.kind in _ROLLOUT_FACTS:
            state = _ROLLOUT_FACTS[entry.kind](state, entry, nodes)
        if entry.kind in _PAIR_FACTS:
            state = _paired(state, entry)
        state = replace(state, seq=entry.seq)
    return replace(state, nodes=nodes)


def _moved(status: NodeStatus, entry: Entry) -> NodeStatus:
    event = Event(entry.data["event"])
    told: dict[str, Any] = {
        "state": transition(status.state, event), "reason": str(entry.data.get("reason", "")), "code": event.value,
        "unknown": event in (E.UNREACHABLE, E.GATE_UNCLEAR, E.HANDOVER_OPEN), "since": entry.at,
        "differences": tuple(entry.data.get("differences", ())),
    }
    if event is E.PREFLIGHT_BEGUN:
        told["leased"] = True
    elif event is E.CHANGE_BEGUN or (event is E.FACTS_FIT and entry.data.get("started")):
        told["started"] = True
    elif event is E.UNDRAINED:
        told |= {"leased": False, "recorded": True}
    return replace(status, **told)


def _phase(status: NodeStatus, entry: Entry) -> NodeStatus:
    return replace(status, phase=str(entry.data.get("phase", "")))


def _gate(status: NodeStatus, entry: Entry) -> NodeStatus:
    return replace(status, verdict=str(entry.data.get("verdict", "")), evidence=str(entry.data.get("evidence", "")),
                   evidence_digest=str(entry.data.get("digest", "")))


def _canary(status: NodeStatus, entry: Entry) -> NodeStatus:
    return replace(status, canary=str(entry.data.get("verdict", "")),
                   canary_evidence=str(entry.data.get("evidence", "")))


def _baseline(status: NodeStatus, entry: Entry) -> NodeStatus:
    return replace(status, baseline=str(entry.data.get("digest", "")))


def _released(status: NodeStatus, entry: Entry) -> NodeStatus:
    return replace(status, leased=False)


def _run_started(state: RolloutState, entry: Entry, nodes: dict[str, NodeStatus]) -> RolloutState:
    # What an earlier run left half way is looked at from the start of its duty; every act can be repeated.
    for name, status in nodes.items():
        if (status.state, E.RESUMED) in TRANSITIONS:
            nodes[name] = replace(status, state=transition(status.state, E.RESUMED), unknown=False, reason="")
    return replace(state, runs=state.runs + 1, in_flight=(), call="", owner=str(entry.data.get("owner", "")))


def _call_started(state: RolloutState, entry: Entry, nodes: dict[str, NodeStatus]) -> RolloutState:
    call = str(entry.data.get("call", ""))
    return replace(state, in_flight=tuple(entry.data.get("nodes", ())), call=call,
                   unfenced=state.unfenced and call != "undrain")


def _wave_finished(state: RolloutState, entry: Entry, nodes: dict[str, NodeStatus]) -> RolloutState:
    lost = str(entry.data.get("slower", ""))
    state = replace(state, waves_finished={**state.waves_finished, entry.wave: entry.at})
    return replace(state, slower={**state.slower, entry.wave: lost},
                   approval_needed=state.approval_needed | {entry.wave}) if lost else state


def _paired(state: RolloutState, entry: Entry) -> RolloutState:
    pairs = pairing.take(state.pairs, entry.kind, entry.wave, entry.data, state.approved)
    # A person's word from before such a verdict was not about it.
    news = entry.kind in ("pairs-judged", "pair-lost") and pairs.asking(entry.wave)
    return replace(state, pairs=pairs, approved=state.approved - {entry.wave} if news else state.approved)


def _call_ended(state: RolloutState, entry: Entry, nodes: dict[str, NodeStatus]) -> RolloutState:
    return replace(state, in_flight=(), call="")


_NODE_FACTS: Final[Mapping[str, Callable[[NodeStatus, Entry], NodeStatus]]] = {
    "phase": _phase, "gate": _gate, "canary": _canary, "baseline": _baseline, "lease-released": _released,
}
_PAIR_FACTS: Final = frozenset({"run-started", "call-started", "pair", "pair-lost", "pairs-judged", "pair-retry"})
_ROLLOUT_FACTS: Final[Mapping[str, Callable[[RolloutState, Entry, dict[str, NodeStatus]], RolloutState]]] = {
    "rollout-opened": lambda state, entry, nodes: replace(state, opened=True),
    "run-started": _run_started,
    "call-started": _call_started,
    "call-ended": _call_ended,
    "wave-finished": _wave_finished,
    "approval-needed": lambda state, entry, nodes: replace(
        state, approval_needed=state.approval_needed | {entry.wave}),
    "approved": lambda state, entry, nodes: replace(state, approved=state.approved | {entry.wave}),
    "pause-requested": lambda state, entry, nodes: replace(state, paused=str(entry.data.get("by", "somebody"))),
    "resumed": lambda state, entry, nodes: replace(state, paused=""),
    "aborted": lambda state, entry, nodes: replace(state, aborted=str(entry.data.get("by", "somebody"))),
    "fences-removed": lambda state, entry, nodes: replace(state, unfenced=True),
    "finished": lambda state, entry, nodes: replace(state, finished=True),
}
