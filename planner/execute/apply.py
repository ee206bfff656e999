"""The engine: decide, write the intent, act, write what came of it; again, until there is a reason to stop.

It holds no state of its own beside the journal: it may be killed at any moment, and another run goes on from there.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import digest
from planner.errors import ApplyError, ExitCode, LockedError
from planner.execute.calls import Listener, ReadState, Setting, baseline_place, build_request, judge
from planner.execute.clock import Clock
from planner.execute.decide import Act, Note, Stop, Wait, decide
from planner.execute.fences import fenced_nodes
from planner.execute.interrupts import Interrupts
from planner.execute.lock import RolloutLock
from planner.execute.pair_call import PairJudge, PairListener, judge_reports, pair_entry, pair_request, pair_variables
from planner.execute.pairing import CALL as PAIR
from planner.execute.progress import Reporter, SilentReporter
from planner.execute.states import TRANSITIONS, Event, NodeState, RolloutState, fold, start_state
from planner.execute.store import Conflict, Store
from planner.execute.verdicts import CanaryJudge, GateJudge, GateRulings
from planner.execute.wave import slower
from planner.gates.canary import canary_verdict
from planner.gates.judge import judge_gate
from planner.runner.leftovers import Leftover, end_leftovers, wait_for_leftovers
from planner.runner.port import HostOutcome, PlaybookRunner, RunRequest, RunResult
from planner.schedule.canary import canary_commands
from planner.schedule.plan import Cohort

LEFTOVERS_WAIT_S = 60      # a task under way when a controller died ends by itself; after that it is ended

_BEGUN = {"preflight": Event.PREFLIGHT_BEGUN, "change": Event.CHANGE_BEGUN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended, and the state it left."""

    code: ExitCode
    kind: str
    reason: str
    nodes: tuple[str, ...]
    state: RolloutState
    changed: bool                     # whether this run called Ansible at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """How processes of an earlier run are found and ended; a simulation has none."""

    wait: Callable[[str, float], tuple[Leftover, ...]] = lambda prefix, limit: wait_for_leftovers(prefix, limit_s=limit)
    end: Callable[[str], tuple[Leftover, ...]] = lambda prefix: end_leftovers(prefix)


NO_LEFTOVERS = Leftovers(wait=lambda prefix, limit: (), end=lambda prefix: ())


class Engine:
    """One run of one rollout, under its lock."""

    def __init__(self, setting: Setting, *, store: Store, lock: RolloutLock, runner: PlaybookRunner, clock: Clock,
                 read_state: ReadState, reporter: Reporter | None = None, interrupts: Interrupts | None = None,
                 canary_only: bool = False, ignored: frozenset[str] = frozenset(),
                 leftovers: Leftovers | None = None, nonce: Callable[[], str] = lambda: secrets.token_hex(16),
                 gate_judge: GateJudge = judge_gate, canary_judge: CanaryJudge = canary_verdict,
                 pair_judge: PairJudge = judge_reports) -> None:
        """Wire the engine.

        Args:
            setting: Plan, places, names.
            store: Journal.
            lock: Held by the caller.
            runner: Runs playbooks.
            clock: Time.
            read_state: Turns what the probe printed into a state; raises ``PlannerError`` when it cannot.
            reporter: Hears what happens.
            interrupts: Ctrl-C.
            canary_only: Stop for approval after staging and canaries.
            ignored: Keys of a state that no node says itself.
            leftovers: Looks for processes of an earlier run here.
            nonce: Fresh randomness for each call's gates.
            gate_judge: Judges every gate's report again, whatever the bundle's module says of it.
            canary_judge: The same for the site's own command.
            pair_judge: Judges what two nodes said of their all-reduce.
        """
        self._setting, self._plan = setting, setting.plan
        self._store, self._lock, self._runner, self._clock = store, lock, runner, clock
        self._read_state, self._reporter = read_state, reporter or SilentReporter()
        self._interrupts, self._canary_only = interrupts or Interrupts(), canary_only
        self._ignored, self._leftovers, self._nonce = ignored, leftovers or Leftovers(), nonce
        self._gate_judge, self._canary_judge = gate_judge, canary_judge
        self._pair_judge, self._canaries = pair_judge, canary_commands(self._plan)
        self._cohorts: dict[str, Cohort] = {n: cohort for cohort in self._plan.cohorts for n in cohort.nodes}
        self._state = start_state(self._plan)
        self._hash = ""
        self._calls = 0

    def run(self) -> Outcome:
        """Go on until the end, a stop or Ctrl-C.

        Raises:
            LockedError: Another controller took over, or an earlier one is still at work.
            ApplyError: Ansible refuses the bundle or the inventory; the journal is broken.
        """
        self._begin()
        while True:
            self._refresh()
            if self._interrupts.aborting:
                away = tuple(sorted(n for n, s in self._state.nodes.items() if s.unavailable))
                return self._end(Stop(code=ExitCode.INTERRUPTED, kind="aborted-call", nodes=away,
                                      reason="the call in flight was ended on request"))
            decision = decide(self._plan, self._state, self._clock.now(), canary_only=self._canary_only,
                              winding_down=self._interrupts.stopping)
            if isinstance(decision, Act):
                self._act(decision)
            elif isinstance(decision, Note):
                data = self._finished(decision.wave) if decision.kind == "wave-finished" else decision.data
                self._write({"kind": decision.kind, "wave": decision.wave, "data": data})
                self._tell(decision.kind, wave=decision.wave, **decision.data)
            elif isinstance(decision, Wait):
                self._wait(decision)
            else:
                return self._end(decision)

    def _begin(self) -> None:
        self._refresh()
        prefix = f"{self._setting.rollout}."
        left = self._leftovers.wait(prefix, LEFTOVERS_WAIT_S)
        if left and self._state.runs:
            left = self._leftovers.end(prefix)
        if left:
            raise LockedError(Diagnostic(
                code="leftovers", subject=f"process {left[0].pid}", why=tuple(item.command[:120] for item in left[:5]),
                summary="processes of this rollout are still at work on this machine",
                hint=f"wait for them, or end them by their process id, then: planner resume {self._setting.bundle}"))
        controller = self._lock.controller
        opened = [] if self._state.opened else [
            {"kind": "rollout-opened", "data": {"plan": self._plan.digest, "version": self._plan.planner_version}}]
        self._write(*opened, {"kind": "run-started", "data": {
            "owner": controller.owner, "host": controller.host, "pid": controller.pid, "token": self._lock.token,
            "canary_only": self._canary_only, "took_over": bool(self._lock.took_over)}})
        self._tell("run-started", owner=controller.owner, rollout=self._setting.rollout)

    def _refresh(self) -> None:
        """Take in what the journal has gained, our own entries and those of other commands."""
        previous = {"previous": self._hash} if self._hash else {}
        entries = self._store.read(self._state.seq, **previous)
        if entries:
            self._hash = entries[-1].hash
            self._state = fold(self._state, entries)
            self._reporter.state(self._plan, self._state)

    def _write(self, *entries: Mapping[str, Any]) -> None:
        if entries:
            self._lock.append(*entries)
            self._refresh()

    def _tell(self, kind: str, **data: Any) -> None:
        self._reporter.event(kind, self._clock.now(), **data)

    def _act(self, act: Act) -> None:
        """Make one call: intent on disk first, then the nodes, then what came of it, in one transaction."""
        self._calls += 1
        seq = self._state.seq + 1
        run_id = f"{self._setting.rollout}.{self._lock.token}.{seq}"
        intent: list[dict[str, Any]] = [
            {"kind": "call-started", "wave": act.wave, "batch": act.batch,
             "data": {"call": act.call, "nodes": list(act.nodes), "run_id": run_id, "held_back": act.held_back,
                      **({"domain": act.domain} if act.domain else {})}}]
        if (event := _BEGUN.get(act.call)) is not None:
            intent += [self._node(act, name, {"event": event.value}) for name in act.nodes]
        self._write(*intent)
        self._tell("call-started", call=act.call, wave=act.wave, batch=act.batch, nodes=list(act.nodes),
                   reason=act.held_back)
        nonce = self._nonce()
        request = build_request(self._setting, act, token=self._lock.token, nonce=nonce, run_id=run_id,
                                acknowledge=self._unrecorded(), pair=pair_variables(self._setting, act))
        if act.call == PAIR:
            self._pair(act, seq, request, pair_request(self._setting, nonce))
            return
        listener = Listener(self._setting.state_dir, act, seq, self._heard, GateRulings(
            cohorts={name: self._cohorts[name] for name in act.nodes}, nonce=nonce, judge=self._gate_judge,
            before=self._before, canary_judge=self._canary_judge,
            canaries={name: self._canaries[name] for name in act.nodes if name in self._canaries}))
        result = self._runner.run(request, on_event=listener.hear, cancelled=lambda: self._interrupts.aborting)
        self._conclude(act, result, listener)

    def _pair(self, act: Act, seq: int, request: RunRequest, asked: Mapping[str, Any]) -> None:
        """Let two nodes do their all-reduce, and write what it came to."""
        listener = PairListener()
        result = self._runner.run(request, on_event=listener.hear, cancelled=lambda: self._interrupts.aborting)
        entry = pair_entry(act, seq, self._setting.state_dir, listener, result,
                           lambda texts: self._pair_judge(texts, asked))
        ended = {"kind": "call-ended", "wave": act.wave, "data": {
            "call": act.call, "status": result.status, "rc": result.return_code}}
        self._write(entry, ended)
        self._tell(entry["kind"], wave=act.wave, **{k: v for k, v in entry["data"].items() if k != "reports"})

    def _finished(self, wave: str) -> dict[str, str]:
        """Return what a wave that ended lost as a whole, as the journal keeps it."""
        nodes = sorted(name for name, status in self._state.nodes.items()
                       if status.wave == wave and status.state is NodeState.DONE)
        lost = slower(nodes, self._before, self._last_gate)
        return {"slower": lost} if lost else {}

    def _last_gate(self, node: str) -> str:
        """Return the report of a node's last gate, "" where there is none that is what the journal noted."""
        status = self._state.nodes[node]
        return self._kept(status.evidence, status.evidence_digest)

    def _before(self, node: str) -> str:
        """Return a node's report from before the change, "" where there is none that is what the journal noted."""
        status = self._state.nodes.get(node)
        return self._kept(baseline_place(node), status.baseline) if status is not None else ""

    def _kept(self, place: str, noted: str) -> str:
        """Return a text that was kept as evidence, "" unless it still has the digest that the journal noted."""
        try:
            text = (self._setting.state_dir / place).read_text(encoding="utf-8") if place else ""
        except (OSError, ValueError):
            return ""
        return text if noted and noted == digest(text.encode()) else ""

    def _conclude(self, act: Act, result: RunResult, listener: Listener) -> None:
        ended = {"kind": "call-ended", "wave": act.wave, "batch": act.batch,
                 "data": {"call": act.call, "status": result.status, "rc": result.return_code}}
        if act.call == "release":
            # A lease that could not be given back is no reason to stop: it names its rollout, and abort tries again.
            off = act.fenced and all(result.hosts.get(name) is HostOutcome.OK for name in act.fenced)
            self._write(*[{"kind": "lease-released", "node": name} for name in act.nodes], ended,
                        *[{"kind": "fences-removed"}] * bool(off))
            return
        self._write_judged(act, result, listener, ended)
        for name in act.nodes:
            status = self._state.nodes[name]
            self._tell("node", node=name, wave=act.wave, batch=act.batch, state=status.state.value, change=status.code,
                       verdict=status.verdict if act.call == "change" else "", reason=status.reason)
        nobody = all(result.hosts.get(n, HostOutcome.NOT_RUN) is HostOutcome.NOT_RUN for n in act.nodes)
        if nobody and result.status == "failed":
            raise ApplyError(Diagnostic(
                code="ansible-refused", subject=f"{act.wave} {act.call}",
                summary="Ansible ended before any node was asked",
                why=tuple(result.output_tail.strip().splitlines()[-6:]),
                hint=f"correct the inventory ({self._setting.inventory}), then: planner resume {self._setting.bundle}"))

    def _write_judged(self, act: Act, result: RunResult, listener: Listener, ended: Mapping[str, Any]) -> None:
        """Write what a call came to, against the state as it is now: a person may have skipped a node meanwhile."""
        while True:
            self._refresh()
            judged = {name: judge(act, name, self._state.nodes[name], self._cohorts[name], result, listener.heard,
                                  self._read_state, self._ignored, canary=name in self._canaries)
                      for name in act.nodes}
            entries = [self._node(act, name, data) for name, data in judged.items()
                       if (self._state.nodes[name].state, Event(data["event"])) in TRANSITIONS]
            try:
                self._lock.append(*entries, ended, after=self._state.seq)
            except Conflict:
                continue
            self._refresh()
            return

    @staticmethod
    def _node(act: Act, name: str, data: Mapping[str, Any]) -> dict[str, Any]:
        return {"kind": "node", "node": name, "wave": act.wave, "batch": act.batch, "data": dict(data)}

    def _heard(self, entry: Mapping[str, Any]) -> None:
        """Write what was heard in the middle of a call, and show it."""
        if entry["node"] in self._state.nodes:
            self._write(entry)
            self._tell(str(entry["kind"]), node=entry["node"], **entry["data"])

    def _unrecorded(self) -> tuple[str, ...]:
        """Return the finished waves for which the bundle holds no full record: nodes skipped, failed or there already.

        The plays ask for the records of the wave before; this journal knows why they are missing.
        """
        return tuple(sorted(wave for wave in self._state.waves_finished
                            if any(s.wave == wave and not s.recorded for s in self._state.nodes.values())))

    def _wait(self, wait: Wait) -> None:
        seq = self._state.seq
        self._tell("waiting", wave=wait.wave, reason=wait.reason, until=wait.until.isoformat(timespec="seconds"))
        while (left := (wait.until - self._clock.now()).total_seconds()) > 0:
            if self._interrupts.stopping or self._store.last_seq() != seq:
                return
            self._clock.sleep(min(left, self._clock.slice_s))

    def _end(self, stop: Stop) -> Outcome:
        self._release_idle(everything=stop.code in (ExitCode.DONE, ExitCode.PARTIAL))
        kind = "finished" if stop.code in (ExitCode.DONE, ExitCode.PARTIAL) else "stopped"
        self._write({"kind": kind, "wave": stop.wave, "data": {
            "code": int(stop.code), "why": stop.kind, "reason": stop.reason, "nodes": list(stop.nodes)}})
        self._tell(kind, code=int(stop.code), why=stop.kind, reason=stop.reason, nodes=list(stop.nodes), wave=stop.wave)
        return Outcome(code=stop.code, kind=stop.kind, reason=stop.reason, nodes=stop.nodes, state=self._state,
                       changed=self._calls > 0)

    def _release_idle(self, *, everything: bool) -> None:
        """Give back leases on nodes where nothing was changed; at the end of the rollout on all that have one.

        With the rollout end its marks on nodes of mixed domains, where a node of them is not done.
        """
        if self._interrupts.aborting:
            return
        idle = tuple(sorted(
            name for name, s in self._state.nodes.items()
            if s.leased and not s.unknown and s.code != Event.REFUSED and s.state is not NodeState.UNDRAIN_REQUIRED
            and (everything or not s.started)))
        fenced = fenced_nodes(self._plan, self._state) if everything else ()
        if idle or fenced:
            self._act(Act(call="release", wave="", batch="", nodes=idle, fenced=fenced))
