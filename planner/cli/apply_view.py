"""How a rollout looks to people: outcome, evidence, status, and which nodes a person's word may move."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from planner.cli.rollout import Rollout, clock_of
from planner.diagnostics import Diagnostic, Severity
from planner.errors import ApplyError, ExitCode, LockedError, PlannerError, StaleError
from planner.execute.apply import Outcome
from planner.execute.lock import Controller, process_lives
from planner.execute.predict import minutes_left
from planner.execute.states import FINAL, TRANSITIONS, Event, NodeState, RolloutState
from planner.report.console import format_table, print_diagnostics, print_json
from planner.schedule.plan import Cohort, Plan

_HANDED_STEP = re.compile(r"step (\S+) ")      # how the message of a step that is handed over begins
SHOWN = 20              # nodes listed in a message
EVIDENCE_SHOWN = 100    # lines of the table of evidence; what is not done comes first


def print_outcome(rollout: Rollout, outcome: Outcome) -> int:
    """Say how a run ended and what comes next; return the exit code."""
    if outcome.kind == "approval" or outcome.code in (ExitCode.HALTED, ExitCode.PARTIAL):
        print_evidence(rollout, outcome.state)
    if outcome.code is ExitCode.DONE:
        words = outcome.reason if outcome.changed else "nothing to do: every node is at its goal"
        sys.stderr.write(words + (f" (left out: {', '.join(outcome.nodes[:SHOWN])})" if outcome.nodes else "") + "\n")
        return int(outcome.code)
    error = outcome_error(rollout, outcome)
    print_diagnostics(error.diagnostics)
    return int(outcome.code)


def outcome_error(rollout: Rollout, outcome: Outcome) -> PlannerError:
    """Return what a stop means as diagnostics, with the next command."""
    bundle, nodes = rollout.spelled, outcome.nodes
    if outcome.code is ExitCode.STALE:
        return StaleError(*(
            Diagnostic(code="stale-plan", subject=f"node {d['node']}, {d['component']}",
                       summary=f"planned {d['planned']}, found {d['found']}",
                       hint="discover and plan again; or put it back as it was, then: planner resume " + bundle)
            for name in nodes for d in outcome.state.nodes[name].differences))
    if outcome.code is ExitCode.LOCKED:
        return LockedError(Diagnostic(code="node-locked", subject=f"node {nodes[0]}", summary=outcome.reason,
                                      hint="finish or give up that rollout (planner abort ITS_BUNDLE), then: "
                                           f"planner resume {bundle}"))
    shown = " ".join(nodes[:SHOWN])
    go_on = f"planner approve {bundle} --because WHY && planner resume {bundle}"
    hints = {
        "approval": f"look at the evidence, then: planner approve {bundle} && planner resume {bundle}",
        "wave-slower": f"look for what slows it (planner gate compare); if it may be so: planner approve {bundle} && "
                       f"planner resume {bundle}; else: planner abort {bundle}",
        "pair-failed": f"look at the reports (planner status {bundle} -o json) and at the network; mend that, then: "
                       f"planner retry {bundle} {shown} && planner resume {bundle} (the pair is tried again); if it "
                       f"may be so: {go_on}; else: planner abort {bundle}",
        "pair-unclear": f"mend that, then: planner resume {bundle} (it is tried again); or go on without: {go_on}",
        "pair-lost": f"bring {shown} back, then: planner resume {bundle} (the same pair is done again, and given "
                     f"back); or see to them by hand and go on: {go_on}",
        "pause-requested": f"planner resume {bundle}",
        "interrupted": f"planner resume {bundle}",
        "aborted-call": f"planner resume {bundle}",
        "unreachable": f"bring {shown} back, then: planner resume {bundle}; or: planner skip {bundle} {shown}",
        "handover": f"do this on {shown}, then: planner resume {bundle}; "
                    f"or leave them out: planner skip {bundle} {shown}",
        "gate-inconclusive": f"look at the reasons, then: planner resume {bundle}",
        "max-unavailable": f"bring nodes back, then: planner resume {bundle}",
        "aborted": "plan again: planner plan --facts FACTS --target TARGET --out BUNDLE",
    }
    hint = hints.get(outcome.kind, f"repair, then: planner retry {bundle} {shown}; or leave it out: "
                                   f"planner skip {bundle} {shown}; then: planner resume {bundle}")
    away = sorted(n for n, s in outcome.state.nodes.items() if s.unavailable)
    why = tuple(": ".join(filter(None, (f"{n} ({outcome.state.nodes[n].state})", outcome.state.nodes[n].reason)))
                for n in nodes[:SHOWN])
    why += (f"not in service now: {', '.join(away[:SHOWN])}",) if away else ()
    if outcome.kind == "handover":
        why = (*_left_to_people(rollout.plan, outcome), *why[len(nodes[:SHOWN]):])
    if outcome.code is ExitCode.HALTED:
        why += _ways_back(rollout.plan, nodes)
    # What was asked for is no error; what somebody has to look at is a warning; only a halt is one.
    asked = outcome.kind in ("approval", "handover", "pause-requested", "interrupted", "aborted-call")
    severity = Severity.INFO if asked else Severity.ERROR if outcome.code is ExitCode.HALTED else Severity.WARNING
    return ApplyError(Diagnostic(code=outcome.kind, subject=f"rollout {rollout.plan.name}", summary=outcome.reason,
                                 why=why, hint=hint, severity=severity))


def _left_to_people(plan: Plan, outcome: Outcome) -> tuple[str, ...]:
    """Say what people have to do on which nodes; nodes that wait for the same step are told together."""
    waiting: dict[tuple[str, str], list[str]] = {}
    for name in outcome.nodes:
        found = _HANDED_STEP.match(outcome.state.nodes[name].reason)
        waiting.setdefault((plan.nodes[name].cohort, found.group(1) if found else ""), []).append(name)
    lines: list[str] = []
    for (cohort_id, step_id), names in waiting.items():
        step = next((s for c in plan.cohorts if c.id == cohort_id for s in c.steps if s.id == step_id), None)
        told = step.instructions or () if step is not None else ()
        lines.append(f"{', '.join(names[:SHOWN])}: {step.title if step is not None else 'handed over'}")
        lines += [f"  {number}. {text}" for number, text in enumerate(told, start=1)]
        still = outcome.state.nodes[names[0]].reason.partition("handed over: ")[2].partition(". Do")[0]
        lines.append(f"  open: {still}")
    return tuple(lines)


def _ways_back(plan: Plan, nodes: Sequence[str]) -> tuple[str, ...]:
    """Say how failed nodes could be taken back; planner never does that by itself, whatever ``on_failure`` says."""
    lines = [f"way back of {cohort.id}: {'; '.join(step.title for step in cohort.way_back)} (PLAN.md)"
             for cohort in plan.cohorts if cohort.way_back and set(nodes) & set(cohort.nodes)]
    if plan.rollout.on_failure == "rollback":
        lines.append("on_failure: rollback is left to a person: plan with the old versions as target, and apply that")
    return tuple(lines)


def print_evidence(rollout: Rollout, state: RolloutState) -> None:
    """Show what each node that was at work came to; a table where a person looks, lines where a program does."""
    cohorts = {name: cohort for cohort in rollout.plan.cohorts for name in cohort.nodes}
    shown = sorted(((n, s) for n, s in state.nodes.items() if s.state is not NodeState.PENDING),
                   key=lambda item: (item[1].state is NodeState.DONE, item[0]))
    rows = [(name, status.state.value, change_of(cohorts[name]), status.gates or "-",
             ", ".join(str(rollout.state_dir / place) for place in (status.evidence, status.canary_evidence) if place)
             or "-") for name, status in shown[:EVIDENCE_SHOWN]]
    stream = sys.stdout if sys.stdout.isatty() else sys.stderr
    stream.write(format_table(("node", "state", "change", "gate", "evidence"), rows) + "\n")
    if len(shown) > EVIDENCE_SHOWN:
        stream.write(f"and {len(shown) - EVIDENCE_SHOWN} more: planner status {rollout.spelled} -o json\n")
    if rollout.simulated:
        stream.write("simulated, nothing proved\n")


def change_of(cohort: Cohort) -> str:
    """Return a cohort's way from start to goal in one line."""
    words = []
    for name in sorted({change.component for step in cohort.steps for change in step.changes}):
        before, after = cohort.start.get(name, ()), cohort.goal.get(name, ())
        if before != after:
            words.append(f"{name} {'+'.join(before) or 'absent'} -> {'+'.join(after) or 'absent'}")
    return "; ".join(words) or "nothing"


def waits_for_approval(plan: Plan, state: RolloutState) -> tuple[str, ...]:
    """Return the finished waves that need approval and have none."""
    return tuple(wave.id for wave in plan.waves
                 if wave.id in state.waves_finished and wave.id not in state.approved
                 and (wave.approval or wave.id in state.approval_needed or state.pairs.asking(wave.id)))


def movable(plan: Plan, state: RolloutState, names: Sequence[str], event: Event, spelled: str) -> tuple[str, ...]:
    """Return the nodes that a person's ``retry`` or ``skip`` moves: those named, and their NVLink mates.

    Raises:
        ApplyError: A name is not in the plan, is at work now, or is where the word makes no sense.
    """
    meant: set[str] = set(names)
    for name in names:
        domain = plan.nodes[name].nvlink_domain if name in plan.nodes else ""
        if domain:
            meant |= {n for n in state.nodes if plan.nodes[n].nvlink_domain == domain
                      and (state.nodes[n].state, event) in TRANSITIONS}
    bad = []
    for name in sorted(meant):
        if name not in state.nodes:
            bad.append((name, "no node of this plan that moves"))
        elif name in state.in_flight and state.call != "release":
            bad.append((name, f"at work in a {state.call} call; pause first, or wait"))
        elif (state.nodes[name].state, event) not in TRANSITIONS:
            bad.append((name, f"{state.nodes[name].state}: {event} makes no sense there"))
    if bad:
        raise ApplyError(*(Diagnostic(code=f"cannot-{event}", subject=f"node {name}", summary=words,
                                      hint=f"see where it stands: planner status {spelled}") for name, words in bad))
    return tuple(sorted(meant))


def nothing_to_give_up(state: RolloutState) -> bool:
    """Tell whether every node is at its end and free: a word that says otherwise would spoil a finished journal."""
    return state.finished and all(
        s.state in (NodeState.DONE, NodeState.SKIPPED) and not s.leased for s in state.nodes.values())


def print_left(rollout: Rollout, left: Sequence[str]) -> None:
    """Say which nodes an aborted rollout leaves half way."""
    state = rollout.state()
    sys.stderr.write("the rollout is given up\n")
    away = sorted({*(n for n, s in state.nodes.items() if s.started and s.state is not NodeState.DONE),
                   *(state.pairs.open.pair if state.pairs.open else ())})
    if away:
        sys.stderr.write(f"left as they are, drained or half way: {', '.join(away)}\n"
                         "look at them, then discover and plan again\n")
    if left:
        sys.stderr.write(f"leases or marks not taken off: {', '.join(left)}; when they answer again, abort once more, "
                         "or remove /var/lib/planner/lease.json there by hand\n")


def status_document(rollout: Rollout) -> dict[str, Any]:
    """Return the whole status as JSON values."""
    state, lock = rollout.state(), rollout.store.lock_row()
    return {
        "schema": "planner.status/1", "rollout": rollout.plan.name, "plan": rollout.plan.digest,
        "simulated": rollout.simulated, "seq": state.seq, "paused": state.paused, "aborted": state.aborted,
        "finished": state.finished, "waits_for_approval": list(waits_for_approval(rollout.plan, state)),
        "controller": {k: lock[k] for k in ("owner", "host", "pid", "since", "heartbeat", "token")}
        if lock and lock["owner"] else None,
        "in_flight": {"call": state.call, "nodes": list(state.in_flight)} if state.call else None,
        "minutes_left": minutes_left(rollout.plan, state),
        **({"pairs": _pairs(state)} if state.pairs.tried or state.pairs.judged or state.pairs.open else {}),
        "nodes": {name: {
            "state": s.state.value, "wave": s.wave, "batch": s.batch, "phase": s.phase, "verdict": s.verdict,
            "reason": s.reason, "since": s.since, "unavailable": s.unavailable,
            "evidence": str(rollout.state_dir / s.evidence) if s.evidence else "", "differences": list(s.differences),
            **({"canary": {"verdict": s.canary, "evidence": str(rollout.state_dir / s.canary_evidence)}}
               if s.canary else {}),
        } for name, s in sorted(state.nodes.items())},
    }


def _pairs(state: RolloutState) -> dict[str, Any]:
    """Return what all-reduces of pairs came to."""
    pairs = state.pairs
    return {
        "tried": [{"wave": t.wave, "domain": t.domain, "nodes": list(t.attempt.pair), "code": t.attempt.code,
                   "reasons": list(t.attempt.evidence)} for t in pairs.tried],
        "judged": [{"wave": wave, **judged.as_data()} for (wave, _), judged in sorted(pairs.judged.items())],
        "open": list(pairs.open.pair) if pairs.open else [],
    }


def print_status(rollout: Rollout, output: str) -> None:
    """Write the status to stdout."""
    if output == "json":
        print_json(status_document(rollout))
        return
    from rich.console import Console

    from planner.execute.progress import nodes_table, waves_table

    console = Console(highlight=False, soft_wrap=True)
    state, lock, clock = rollout.state(), rollout.store.lock_row(), clock_of(rollout)
    console.print(f"rollout {rollout.plan.name}" + ("  (simulated, nothing proved)" if rollout.simulated else ""))
    if lock and lock["owner"]:
        here = Controller.here()
        gone = lock["host"] == here.host and not process_lives(lock)
        console.print(f"controller {lock['owner']}, process {lock['pid']}, since {lock['since']}, "
                      f"last sign of life {lock['heartbeat']}"
                      + (f"; it is gone: planner resume {rollout.spelled}" if gone else ""))
    else:
        console.print("no controller at work")
    for words in (f"paused by {state.paused}" if state.paused else "", f"given up by {state.aborted}" if state.aborted
                  else "", *(f"wave {w} waits: planner approve {rollout.spelled}"
                             for w in waits_for_approval(rollout.plan, state))):
        if words:
            console.print(words)
    console.print(waves_table(rollout.plan, state))
    for each in _pairs(state)["judged"]:
        words = f"nccl after {each['wave']} in {each['domain']}: {each['outcome']}, {each['reason']}"
        console.print(words, markup=False)
    if state.pairs.open:
        console.print(f"nccl: {' and '.join(state.pairs.open.pair)} are at it, or still drained", markup=False)
    shown = [(n, s) for n, s in sorted(state.nodes.items())
             if s.state not in (NodeState.PENDING, NodeState.DONE, NodeState.SKIPPED)]
    if shown:
        console.print(nodes_table(shown))
    settled = sum(s.state in FINAL for s in state.nodes.values())
    left = minutes_left(rollout.plan, state)
    console.print(f"{settled} of {len(state.nodes)} nodes settled, at most {left // 60} h {left % 60:02d} min left "
                  f"(drains excluded), {clock.now():%Y-%m-%d %H:%M} UTC")
