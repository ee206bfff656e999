"""What to do next. Pure and idempotent: the same plan, state and time give the same decision, however often asked.

Order of duties: give back what has passed its gate; stop where something asks for it; finish the batch at hand; take
new nodes, as many as the pools can spare; close the wave, soak, ask for approval; go on to the next wave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from planner.errors import ExitCode
from planner.execute.pairing import BAD, CALL, GOOD, UNCLEAR, Judged, next_duty
from planner.execute.room import Room
from planner.execute.states import FINAL, Event, NodeState, NodeStatus, RolloutState
from planner.schedule.opening import opening
from planner.schedule.pairs import pair_minutes
from planner.schedule.plan import Plan, Wave

LOST_BREAKER = 2      # so many nodes lost in reboot stop everything, whatever the budget says

_EARLY = ("staging", "canary")
_CHANGE = (NodeState.CHANGE_REQUIRED, NodeState.GATE_REQUIRED)
_NEW = (NodeState.PENDING, NodeState.PREFLIGHT_REQUIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One call on some nodes of one batch. ``call`` is preflight, change, undrain, release or pair."""

    call: str
    wave: str
    batch: str
    nodes: tuple[str, ...]
    held_back: str = ""                # why the batch was made smaller; "" when it was not
    fenced: tuple[str, ...] = ()       # for release: nodes whose marks of mixed domains are taken off
    domain: str = ""                   # for pair: the communication domain; the nodes are in the order of their ranks


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One entry for the journal that moves the rollout on without touching a node."""

    kind: str                          # wave-finished | approval-needed | pairs-judged
    wave: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing may be done before a time."""

    until: datetime
    reason: str
    wave: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The run ends here, with its exit code; ``nodes`` are those that a person has to look at."""

    code: ExitCode
    kind: str                          # stable kebab-case reason: gate-failed, approval, unreachable …
    reason: str
    nodes: tuple[str, ...] = ()
    wave: str = ""


Decision = Act | Note | Wait | Stop


def decide(plan: Plan, state: RolloutState, now: datetime, *, canary_only: bool = False,
           winding_down: bool = False) -> Decision:
    """Return what comes next.

    Args:
        plan: The plan.
        state: What the journal adds up to.
        now: Time-zone aware.
        canary_only: Stop for approval after the last staging or canary wave.
        winding_down: Give back what has passed, begin nothing.
    """
    if state.aborted:
        return Stop(code=ExitCode.ERROR, kind="aborted", reason=f"the rollout was given up by {state.aborted}")
    if (left := state.pairs.open) is not None and not left.lost:
        # Its nodes may be drained: the same pair is done again, whatever else there is to do, and given back.
        return Act(call=CALL, wave=left.wave, batch="", nodes=left.pair, domain=left.domain)
    given_back = _give_back(plan, state)
    if given_back is not None:
        return given_back
    stop = _stop(plan, state, winding_down=winding_down)
    if stop is not None:
        return stop
    start = datetime.fromisoformat(plan.rollout.not_before) if plan.rollout.not_before else None
    if start is not None and now < start:
        return Wait(until=start, reason="the plan starts nothing before then")
    approval: Stop | None = None
    for wave in plan.waves:
        decision = _in_window(plan, state, _wave(plan, state, wave, now, canary_only=canary_only), now)
        if isinstance(decision, Stop) and decision.kind == "approval" and not _begun(state, wave):
            # A wave that was at its goal before has shown nothing. Later nodes are looked at, too: when all are there,
            # nobody has to approve anything; the first one that needs a change does need it.
            approval = approval or decision
        elif decision is not None:
            held = approval and isinstance(decision, Act) and decision.call in ("change", CALL)
            return approval if approval and held else decision
    return _end(state)


def _give_back(plan: Plan, state: RolloutState) -> Act | None:
    """Return the call for nodes that passed their gate, or that hold a lease they no longer need."""
    for wave in plan.waves:
        for batch in wave.batches:
            passed = [n for n in batch.nodes
                      if _is(state, n, NodeState.UNDRAIN_REQUIRED) and not state.nodes[n].unknown]
            if nodes := [n for n in passed if not _domain_waits(plan, state, n)]:
                return Act(call="undrain", wave=wave.id, batch=batch.id, nodes=tuple(nodes))
            if nodes := [n for n in batch.nodes if _is(state, n, NodeState.DONE) and state.nodes[n].leased]:
                return Act(call="release", wave=wave.id, batch=batch.id, nodes=tuple(nodes))
    return None


def _is(state: RolloutState, node: str, *wanted: NodeState) -> bool:
    return node in state.nodes and state.nodes[node].state in wanted


def _domain_waits(plan: Plan, state: RolloutState, node: str) -> bool:
    """Tell whether a mate in the node's NVLink domain has not passed: the domain goes back into service whole."""
    domain = plan.nodes[node].nvlink_domain
    return bool(domain) and any(
        plan.nodes[mate].nvlink_domain == domain and status.batch == state.nodes[node].batch
        and status.state not in (NodeState.UNDRAIN_REQUIRED, NodeState.DONE, NodeState.SKIPPED)
        for mate, status in state.nodes.items())


def failure_budget(plan: Plan, state: RolloutState) -> int:
    """Return how many nodes may fail before the rollout halts; percentages round down, at least 1 unless written 0."""
    written = plan.rollout.failure_budget
    if isinstance(written, int):
        return written
    percent = int(written.removesuffix("%"))
    return max(1, len(state.nodes) * percent // 100) if percent else 0


def _stop(plan: Plan, state: RolloutState, *, winding_down: bool) -> Stop | None:
    held = _where(state, lambda s: s.state is NodeState.HELD)
    if refused := tuple(n for n in held if state.nodes[n].code == Event.REFUSED):
        return Stop(code=ExitCode.LOCKED, kind="lease-held", nodes=refused, reason=state.nodes[refused[0]].reason)
    failure = _failure(plan, state)
    if failure is not None:
        return failure
    if held:
        return Stop(code=ExitCode.STALE, kind="stale-plan", nodes=held,
                    reason="facts that the plan relies on have changed")
    unclear = _where(state, lambda s: s.state is NodeState.GATE_REQUIRED and s.unknown)
    if unclear:
        return Stop(code=ExitCode.PAUSED, kind="gate-inconclusive", nodes=unclear,
                    reason=state.nodes[unclear[0]].reason)
    handed = _where(state, lambda s: s.unknown and s.code == Event.HANDOVER_OPEN)
    if handed:
        return Stop(code=ExitCode.PAUSED, kind="handover", nodes=handed, wave=state.nodes[handed[0]].wave,
                    reason=f"a step of {len(handed)} node{'s' * (len(handed) > 1)} is left to people")
    unknown = _unknown(state)
    early = any(state.nodes[n].wave in _early(plan) for n in unknown)
    if unknown and (early or len(unknown) + len(_failed(state)) > failure_budget(plan, state)):
        return Stop(code=ExitCode.PAUSED, kind="unreachable", nodes=unknown, reason=state.nodes[unknown[0]].reason)
    if state.paused:
        return Stop(code=ExitCode.PAUSED, kind="pause-requested", reason=f"{state.paused} asked for a pause")
    if winding_down:
        return Stop(code=ExitCode.INTERRUPTED, kind="interrupted", reason="stopped on request")
    return None


def _failure(plan: Plan, state: RolloutState) -> Stop | None:
    """Return the halt that failed and lost nodes ask for. A failed gate stays failed until a person acts."""
    failed = _failed(state)
    if not failed:
        return None
    lost = tuple(n for n in failed if state.nodes[n].state is NodeState.LOST)
    early = _early(plan)
    first = next((n for n in failed if state.nodes[n].wave in early), failed[0])
    kind = state.nodes[first].code
    if len(lost) >= LOST_BREAKER:
        return Stop(code=ExitCode.HALTED, kind="nodes-lost", nodes=lost,
                    reason=f"{len(lost)} nodes did not come back from their reboot")
    if state.nodes[first].wave in early:
        return Stop(code=ExitCode.HALTED, kind=kind, nodes=failed,
                    reason=f"a node of {state.nodes[first].wave} failed: {state.nodes[first].reason}")
    budget = failure_budget(plan, state)
    if len(failed) > budget:
        return Stop(code=ExitCode.HALTED, kind=kind, nodes=failed,
                    reason=f"{len(failed)} failed, the budget is {budget}: {state.nodes[first].reason}")
    return None


def _begun(state: RolloutState, wave: Wave) -> bool:
    return any(status.started for status in state.nodes.values() if status.wave == wave.id)


def _early(plan: Plan) -> frozenset[str]:
    """Return the waves whose nodes are there to show trouble: one failure in them is enough."""
    return frozenset(wave.id for wave in plan.waves if wave.kind in _EARLY)


def _where(state: RolloutState, wanted: Callable[[NodeStatus], bool]) -> tuple[str, ...]:
    return tuple(sorted(name for name, status in state.nodes.items() if wanted(status)))


def _failed(state: RolloutState) -> tuple[str, ...]:
    return _where(state, lambda s: s.state in (NodeState.FAILED, NodeState.LOST))


def _unknown(state: RolloutState) -> tuple[str, ...]:
    return _where(state, lambda s: s.unknown and s.state not in FINAL)


def _wave(plan: Plan, state: RolloutState, wave: Wave, now: datetime, *, canary_only: bool) -> Decision | None:
    """Return the next duty of one wave, None when it is behind us."""
    for batch in wave.batches:
        todo = [n for n in batch.nodes if n in state.nodes and state.nodes[n].state not in FINAL
                and not state.nodes[n].unknown]
        change = tuple(n for n in todo if state.nodes[n].state in _CHANGE)
        if change:
            return _with_room(plan, state, wave.id, batch.id, change, "change")
        new = tuple(n for n in todo if state.nodes[n].state in _NEW)
        if new:
            return _with_room(plan, state, wave.id, batch.id, new, "preflight")
    if not any(name in state.nodes for batch in wave.batches for name in batch.nodes):
        return None      # nobody in it has anything to change
    if wave.id not in state.waves_finished:
        return Note(kind="wave-finished", wave=wave.id)
    return _after(plan, state, wave, now, canary_only=canary_only)


def _in_window(plan: Plan, state: RolloutState, decision: Decision | None, now: datetime) -> Decision | None:
    """Hold back what would take nodes out of service until a maintenance window of their pools is open long enough.

    A node that has been begun is finished, whatever the time is: half changed and drained it helps nobody.
    """
    if not isinstance(decision, Act) or decision.call not in ("preflight", "change"):
        return decision
    begun = {n for n in decision.nodes if state.nodes[n].started}
    domains = {plan.nodes[n].nvlink_domain for n in begun} - {""}      # they move as one
    begun |= {n for n in decision.nodes if plan.nodes[n].nvlink_domain in domains}
    fresh = [n for n in decision.nodes if n not in begun]
    if not fresh:
        return decision
    minutes = next(b.minutes for w in plan.waves for b in w.batches if b.id == decision.batch)
    pools = sorted({plan.nodes[n].pool for n in fresh})
    start = opening(plan, fresh, now, minutes)
    if start != now and begun:
        return replace(decision, nodes=tuple(sorted(begun)), held_back="the others wait for a maintenance window")
    if start is None:
        return Stop(code=ExitCode.PAUSED, kind="window-too-short", nodes=tuple(fresh), wave=decision.wave,
                    reason=f"batch {decision.batch} takes {minutes} minutes, and no maintenance window of pool "
                           f"{' and '.join(pools)} is that long")
    if start > now:
        return Wait(until=start, wave=decision.wave,
                    reason=f"the next maintenance window of pool {' and '.join(pools)} for a batch of {minutes} min")
    return decision


def _after(plan: Plan, state: RolloutState, wave: Wave, now: datetime, *, canary_only: bool) -> Decision | None:
    """Return what holds up the waves after one whose batches have ended: that it is slower, soak, approval."""
    if (lost := state.slower.get(wave.id)) and wave.id not in state.approved and _later(plan, state, wave):
        return Stop(code=ExitCode.HALTED, kind="wave-slower", wave=wave.id,
                    reason=f"{wave.kind} wave {wave.id} as a whole is slower than before: {lost}")
    if plan.rollout.nccl_pairs and (held := _pairs(plan, state, wave, now)) is not None:
        return held
    soaked = datetime.fromisoformat(state.waves_finished[wave.id]) + timedelta(minutes=wave.soak_minutes)
    if now < soaked and _begun(state, wave):
        return Wait(until=soaked, reason=f"soak of {wave.id} ({wave.soak_minutes} min)", wave=wave.id)
    asked = wave.approval or wave.id in state.approval_needed
    if canary_only and wave is _last_early(plan) and _later(plan, state, wave) and not asked:
        return Note(kind="approval-needed", wave=wave.id)
    if asked and wave.id not in state.approved and _later(plan, state, wave):
        return Stop(code=ExitCode.PAUSED, kind="approval", wave=wave.id,
                    reason=f"{wave.kind} wave {wave.id} is done; a person has to approve it")
    return None


def _pairs(plan: Plan, state: RolloutState, wave: Wave, now: datetime) -> Decision | None:
    """Return what the pairs after a wave ask for: one to try, a verdict to write down, or a person's word."""
    if (left := state.pairs.open) is not None:
        return Stop(code=ExitCode.PAUSED, kind="pair-lost", wave=left.wave, nodes=left.pair,
                    reason=f"{' and '.join(left.pair)} may still be drained after their all-reduce: {left.lost}")
    duty = next_duty(state.pairs, wave.id, mixed_after(plan, state, wave))
    if isinstance(duty, Judged):
        return Note(kind="pairs-judged", wave=wave.id, data=duty.as_data())
    if duty is not None:
        start = opening(plan, duty.pair, now, pair_minutes(plan))
        problem = Room(plan, state).take(duty.pair) if start is not None else "no maintenance window is long enough"
        if problem or start is None:
            judged = Judged(domain=duty.domain, outcome=UNCLEAR, words=f"{' and '.join(duty.pair)}: {problem}")
            return Note(kind="pairs-judged", wave=wave.id, data=judged.as_data())
        if start > now:
            return Wait(until=start, wave=wave.id, reason=f"the next maintenance window for a pair of {duty.domain}")
        return Act(call=CALL, wave=wave.id, batch="", nodes=duty.pair, domain=duty.domain)
    asked = [judged for (w, _), judged in sorted(state.pairs.judged.items()) if w == wave.id and judged.outcome != GOOD]
    if not asked or wave.id in state.approved or not _later(plan, state, wave):
        return None
    bad = [judged for judged in asked if judged.outcome == BAD]
    told = "; ".join(f"communication domain {judged.domain}: {judged.words}" for judged in bad or asked)
    if bad:
        return Stop(code=ExitCode.HALTED, kind="pair-failed", wave=wave.id, reason=f"NCCL after {wave.id}: {told}",
                    nodes=tuple(sorted({name for judged in bad for name in judged.nodes})))
    return Stop(code=ExitCode.PAUSED, kind="pair-unclear", wave=wave.id,
                reason=f"NCCL between upgraded and other nodes is not proved after {wave.id}: {told}")


def mixed_after(plan: Plan, state: RolloutState, wave: Wave) -> dict[str, tuple[list[str], list[str]]]:
    """Return each communication domain that a wave has left mixed -> upgraded nodes, and nodes that wait, in order."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    touched: set[str] = set()
    for each in plan.waves[:plan.waves.index(wave) + 1]:
        for name in (n for batch in each.batches for n in batch.nodes if _is(state, n, NodeState.DONE)):
            domain = plan.nodes[name].comm_domain
            found.setdefault(domain, ([], []))[0].append(name)
            touched |= {domain} if each is wave else set()
    for each in plan.waves[plan.waves.index(wave) + 1:]:
        for name in (n for batch in each.batches for n in batch.nodes if _is(state, n, NodeState.PENDING)):
            if (domain := plan.nodes[name].comm_domain) in found and not state.nodes[name].unknown:
                found[domain][1].append(name)
    return {domain: sides for domain, sides in found.items() if domain in touched - {""} and sides[1]}


def _last_early(plan: Plan) -> Wave | None:
    return next((wave for wave in reversed(plan.waves) if wave.kind in _EARLY), None)


def _later(plan: Plan, state: RolloutState, wave: Wave) -> bool:
    """Tell whether some wave after this one has nodes that are not settled."""
    after = {w.id for w in plan.waves[plan.waves.index(wave) + 1:]}
    return any(s.wave in after and s.state not in FINAL for s in state.nodes.values())


def _end(state: RolloutState) -> Stop:
    unknown = _unknown(state)
    if unknown:
        return Stop(code=ExitCode.PAUSED, kind="unreachable", nodes=unknown, reason=state.nodes[unknown[0]].reason)
    left_out = _where(state, lambda s: s.state is not NodeState.DONE)
    failed = _failed(state)
    if failed:
        return Stop(code=ExitCode.PARTIAL, kind="finished-with-failures", nodes=failed,
                    reason=f"finished; {len(failed)} failed within the budget")
    words = f"finished; {len(left_out)} left out" if left_out else "finished"
    return Stop(code=ExitCode.DONE, kind="finished", nodes=left_out, reason=words)


def _with_room(plan: Plan, state: RolloutState, wave: str, batch: str, nodes: tuple[str, ...], call: str) -> Act | Stop:
    """Return the call for as many nodes as may be away at once now; whole NVLink domains only.

    Nodes that are away already (a retry, a resume) take no room that they do not have.
    """
    room = Room(plan, state)
    taken: list[str] = []
    reason = ""
    for unit in _units(plan, nodes):
        problem = room.take(unit)
        if problem:
            reason = reason or problem
        else:
            taken += unit
    if not taken:
        return Stop(code=ExitCode.PAUSED, kind="max-unavailable", wave=wave, nodes=nodes, reason=reason)
    return Act(call=call, wave=wave, batch=batch, nodes=tuple(sorted(taken)), held_back=reason)


def _units(plan: Plan, nodes: Iterable[str]) -> list[tuple[str, ...]]:
    units: dict[str, list[str]] = {}
    for name in sorted(nodes):
        domain = plan.nodes[name].nvlink_domain
        units.setdefault(f"domain {domain}" if domain else f"node {name}", []).append(name)
    return [tuple(members) for members in units.values()]
