"""A stand-in for Ansible: replays a rollout on a simulated fleet, with durations and faults from a seed.

Nothing it reports is proof of anything on a real machine. It keeps the promises that the roles keep (acts can be
repeated, marks and leases on the node), so that the engine can be tested, and a plan be rehearsed without root.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from planner.runner.port import HostEvent, HostOutcome, RunRequest, RunResult

FACTS_TASK = "Read the facts again"
LEASE_TASK = "Check who this machine is, and who may act on it"
HANDOVER_TASK = "Stop for what is left to people"
GATE_TASK = "Run the gate"
VERDICT_TASK = "Judge the gate"
CANARY_TASK = "Run the site's own command"
CANARY_VERDICT_TASK = "Judge the site's own command"
PAIR_LEASE_TASK = "Take the lease for the pair"
PAIR_REPORT_TASK = "Say what this rank reported"
PAIR_BACK_TASK = "Give the lease of the pair back"
RELEASE, PAIRS = "release.yml", "pairs.yml"

_SECONDS = {"preflight": (5, 20), "prefetch": (20, 120), "drain": (10, 600), "baseline": (20, 60), "change": (60, 300),
            "reboot": (90, 300), "gate": (20, 90), "undrain": (2, 10), "record": (1, 3)}


class SimulatedCrash(BaseException):
    """The controller dies here; only a test or a scenario raises it, nothing catches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong on a node in a phase.

    ``kind``: unreachable | task-failed | gate-fail | gate-inconclusive | canary-fail | lost | drift | crash | handover,
    in the phase ``pair`` also a code of the table (``NCCL_HANG``), with the other node as ``value`` or with any.
    ``times``: how often it strikes, 0 for always. ``drift`` sets ``component`` to ``value`` before the facts are read;
    ``handover`` leaves the first open step to people.
    """

    node: str
    phase: str
    kind: str
    times: int = 1
    component: str = ""
    value: str = ""


@dataclass(slots=True, kw_only=True)
class SimulatedNode:
    """One machine that is not there: its state, and what the rollout has left on it."""

    state: dict[str, list[str]]
    steps: list[dict[str, Any]]
    marks: dict[str, Any] = field(default_factory=dict)
    lease: dict[str, Any] = field(default_factory=dict)
    drained: bool = False
    lost: bool = False
    boots: int = 0
    canary: list[str] = field(default_factory=list)     # the site's own command after the gate; empty: none
    acts: list[str] = field(default_factory=list)   # what really changed something, in order


@dataclass(slots=True)
class SimulatedFleet:
    """All of them; survives between commands as JSON."""

    nodes: dict[str, SimulatedNode]
    struck: dict[str, int] = field(default_factory=dict)   # fault -> how often it has struck

    def to_json(self) -> str:
        """Return the fleet as JSON text, labelled as what it is."""
        return json.dumps({"simulated": True, **asdict(self)}, sort_keys=True, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SimulatedFleet:
        """Read what ``to_json`` wrote."""
        value = json.loads(text)
        return cls(nodes={name: SimulatedNode(**node) for name, node in value["nodes"].items()}, struck=value["struck"])


class _HostStopped(Exception):  # noqa: N818  # ends one host's part of a call
    def __init__(self, outcome: HostOutcome, event: HostEvent) -> None:
        super().__init__(outcome.value)
        self.outcome, self.event = outcome, event


class ScriptedRunner:
    """Implements ``PlaybookRunner`` on a simulated fleet."""

    label = "simulated, nothing proved"

    def __init__(self, fleet: SimulatedFleet, *, rollout: str, seed: int = 0, faults: Sequence[Fault] = (),
                 sleep: Callable[[float], None] = lambda seconds: None,
                 on_change: Callable[[SimulatedFleet], None] = lambda fleet: None,
                 follows: Mapping[str, str] | None = None) -> None:
        """Take over a fleet.

        Args:
            fleet: Changed in place.
            rollout: Name that leases carry.
            seed: Of the durations.
            faults: What goes wrong.
            sleep: Lets virtual time pass.
            on_change: Called after everything that changes a node; for invariants, and for saving the fleet.
            follows: Facts that take over another component's value at a reboot.
        """
        self.fleet, self._rollout, self._faults, self._sleep = fleet, rollout, tuple(faults), sleep
        self._random = random.Random(seed)  # noqa: S311  # durations, not secrets
        self._on_change, self._follows = on_change, dict(follows or {})

    def run(self, request: RunRequest, *, on_event: Callable[[HostEvent], None] | None = None,
            cancelled: Callable[[], bool] | None = None) -> RunResult:
        """Play the phases of a request on its hosts, phase by phase as the linear strategy does."""
        hear = on_event or (lambda event: None)
        outcomes = {host: HostOutcome.OK for host in request.limit if host in self.fleet.nodes}
        failures: dict[str, HostEvent] = {}
        if request.playbook.endswith(PAIRS):
            return self._pair(request, hear)
        phases = ("release",) if request.playbook.endswith(RELEASE) else request.tags
        for phase in phases:
            if cancelled is not None and cancelled():
                return RunResult(status="canceled", return_code=254, failures=failures, output_tail=self.label, hosts={
                    host: outcome if host in failures else HostOutcome.NOT_RUN for host, outcome in outcomes.items()})
            self._sleep(self._random.uniform(*_SECONDS.get(phase, (1, 2))))
            for host, outcome in outcomes.items():
                if outcome is HostOutcome.OK:
                    try:
                        self._phase(phase, host, request, hear)
                    except _HostStopped as stopped:
                        outcomes[host], failures[host] = stopped.outcome, stopped.event
                        hear(stopped.event)
        # A node that is not simulated holds nothing that could be given back.
        absent = HostOutcome.OK if phases == ("release",) else HostOutcome.NOT_RUN
        missing = dict.fromkeys((h for h in request.limit if h not in outcomes), absent)
        return RunResult(status="failed" if failures else "successful", return_code=2 if failures else 0,
                         hosts={**missing, **outcomes}, failures=failures, output_tail=self.label)

    def _pair(self, request: RunRequest, hear: Callable[[HostEvent], None]) -> RunResult:
        """Drain two nodes, say that they summed, which they did not, and give back what can be reached."""
        outcomes = dict.fromkeys(request.limit, HostOutcome.OK)
        failures: dict[str, HostEvent] = {}
        faults = {host: self._fault(host, "pair", others) for host in request.limit
                  if (others := [other for other in request.limit if other != host])}
        self._sleep(self._random.uniform(*_SECONDS["drain"]))
        for host in request.limit:
            node, fault = self.fleet.nodes[host], faults[host]
            try:
                self._lease(node, host, "pair", request)
                hear(_event(host, "pair", PAIR_LEASE_TASK, "changed"))
                self._change(node, "drain", drained=True)
                if fault is not None and fault.kind == "crash":
                    raise SimulatedCrash(f"{host} pair")
                if fault is not None and fault.kind in ("unreachable", "task-failed"):
                    kind = "unreachable" if fault.kind == "unreachable" else "failed"
                    raise _stopped(host, "pair", kind, {"msg": "simulated failure in pair"})
            except _HostStopped as stopped:
                outcomes[host], failures[host] = stopped.outcome, stopped.event
        code = next((fault.kind for fault in faults.values() if fault is not None and fault.kind.isupper()), "OK")
        report = {"simulated": self.label, "nonce": str(request.extra_vars.get("planner_nonce", "")), "code": code}
        self._sleep(self._random.uniform(5, 30))
        for host in request.limit:
            node = self.fleet.nodes[host]
            if not failures:
                facts = {"planner_gate_nccl_report": json.dumps(report, sort_keys=True)}
                hear(_event(host, "pair", PAIR_REPORT_TASK, "ok", {"ansible_facts": facts}))
            mine = node.lease.get("rollout") == self._rollout
            if mine and outcomes[host] is not HostOutcome.UNREACHABLE:      # in any case, as the play's always
                self._change(node, "undrain", drained=False, lease={})
                hear(_event(host, "pair", PAIR_BACK_TASK, "changed"))
        return RunResult(status="failed" if failures else "successful", return_code=2 if failures else 0,
                         hosts=outcomes, failures=failures, output_tail=self.label)

    def _phase(self, phase: str, host: str, request: RunRequest, hear: Callable[[HostEvent], None]) -> None:
        node = self.fleet.nodes[host]
        hear(_event(host, phase, f"Begin {phase}", "started"))
        if node.lost:
            raise _stopped(host, phase, "unreachable", {"msg": "no answer"})
        fault = self._fault(host, phase)
        kind = fault.kind if fault else ""
        if kind == "crash":
            raise SimulatedCrash(f"{host} {phase}")
        if kind == "unreachable":
            raise _stopped(host, phase, "unreachable", {"msg": "connection timed out"})
        if fault is not None and kind == "drift":
            node.state[fault.component] = [fault.value] if fault.value else []
        self._lease(node, host, phase, request)
        if kind == "task-failed":
            if phase == "change":
                self._half_step(node)
            raise _stopped(host, phase, "failed", {"msg": f"simulated failure in {phase}"})
        if kind == "handover":
            self._on_change(self.fleet)      # how often it has struck is kept: the next command finds it done
            raise _HostStopped(HostOutcome.FAILED, _event(host, phase, HANDOVER_TASK, "failed", {"msg": _handed(node)}))
        act: Callable[..., None] = getattr(self, f"_do_{phase}", lambda *args: None)
        act(host, node, request, hear, kind)
        if phase == "record" or phase == "release":
            self._change(node, "release", lease={})

    def _fault(self, host: str, phase: str, others: Sequence[str] = ()) -> Fault | None:
        for place, fault in enumerate(self._faults):
            if (fault.node, fault.phase) == (host, phase) and (not others or fault.value in ("", *others)):
                count = self.fleet.struck.get(str(place), 0)
                if not fault.times or count < fault.times:
                    self.fleet.struck[str(place)] = count + 1
                    return fault
        return None

    def _lease(self, node: SimulatedNode, host: str, phase: str, request: RunRequest) -> None:
        token, owner = int(request.extra_vars.get("planner_token", 0)), request.extra_vars.get("planner_owner", "")
        held = node.lease
        if held and (held["rollout"] != self._rollout or token < held["token"]):
            raise _stopped(host, phase, "failed", {
                "msg": f"rollout {held['rollout']} of {held['owner']} holds this node, token {held['token']}"})
        if phase not in ("record", "release"):
            node.lease = {"rollout": self._rollout, "owner": owner, "token": token}

    def _change(self, node: SimulatedNode, act: str, **fields: Any) -> None:
        changed = {name: value for name, value in fields.items() if getattr(node, name) != value}
        for name, value in changed.items():
            setattr(node, name, value)
        if changed:
            node.acts.append(act)
            self._on_change(self.fleet)

    def _half_step(self, node: SimulatedNode) -> None:
        """Leave the next step half done, as a power cut does: its first change is in place, its mark says started."""
        step = next((s for s in node.steps if node.marks.get(s["id"], {}).get("state") != "done"), None)
        if step is not None:
            _apply(node, step["changes"][:1])
            node.marks[step["id"]] = {"state": "started"}
            self._on_change(self.fleet)

    def _do_preflight(self, host: str, node: SimulatedNode, request: RunRequest, hear: Callable[[HostEvent], None],
                      fault: str) -> None:
        hear(_event(host, "preflight", LEASE_TASK, "ok", {"marks": json.loads(json.dumps(node.marks))}))
        text = json.dumps({"simulated": True, "state": node.state}, sort_keys=True)
        hear(_event(host, "preflight", FACTS_TASK, "ok", {"stdout": text}))

    def _do_drain(self, host: str, node: SimulatedNode, request: RunRequest, hear: Callable[[HostEvent], None],
                  fault: str) -> None:
        self._change(node, "drain", drained=True)

    def _do_change(self, host: str, node: SimulatedNode, request: RunRequest, hear: Callable[[HostEvent], None],
                   fault: str) -> None:
        """Run the steps in order, each with its reboot and quick gate, as the roles interleave them."""
        for step in node.steps:
            mark = node.marks.get(step["id"], {}).get("state")
            if mark != "done":
                _apply(node, step["changes"])
                node.marks[step["id"]] = {"state": "done", "boot": node.boots}
                node.marks.pop("gate", None)
                node.acts.append(f"step {step['id']}")
                self._on_change(self.fleet)
            if step["disruption"] in ("reboot", "module-reload") and f"{step['id']}-boot" not in node.marks:
                self._reboot(host, node, step["id"])

    def _reboot(self, host: str, node: SimulatedNode, step: str) -> None:
        if node.boots == node.marks[step]["boot"]:      # a later boot has loaded the packages already
            node.boots += 1
        for fact, component in self._follows.items():
            if fact in node.state and component in node.state:
                node.state[fact] = list(node.state[component])
        fault = self._fault(host, "reboot")
        if fault is not None and fault.kind == "lost":
            node.lost = True
            self._on_change(self.fleet)
            raise _stopped(host, "reboot", "failed", {"msg": "timed out waiting for the node", "rebooted": True})
        if fault is not None:
            raise _stopped(host, "reboot", "unreachable" if fault.kind == "unreachable" else "failed",
                           {"msg": "simulated failure in reboot"})
        node.marks[f"{step}-boot"] = {"state": "done"}
        self._on_change(self.fleet)

    def _do_gate(self, host: str, node: SimulatedNode, request: RunRequest, hear: Callable[[HostEvent], None],
                 fault: str) -> None:
        verdict = {"gate-fail": "fail", "gate-inconclusive": "inconclusive"}.get(fault, "pass")
        nonce = str(request.extra_vars.get("planner_nonce", ""))
        report = {"schema": "planner.gate/2", "simulated": self.label, "profile": "standard", "host": host,
                  "nonce": nonce, "verdict": verdict}
        hear(_event(host, "gate", GATE_TASK, "ok", {"stdout": json.dumps(report, sort_keys=True)}))
        reasons = [] if verdict == "pass" else [f"simulated verdict {verdict}"]
        hear(_event(host, "gate", VERDICT_TASK, "ok", {"verdict": verdict, "outcome": verdict, "reasons": reasons}))
        canary = "not asked for"
        if node.canary and verdict == "pass":
            canary = self._canary(host, node, nonce, hear, "fail" if fault == "canary-fail" else "pass")
            verdict, reasons = canary, [] if canary == "pass" else ["simulated failure of the site's own command"]
        node.marks["gate"] = {"verdict": verdict, "canary": canary}
        self._on_change(self.fleet)
        if verdict != "pass":
            raise _stopped(host, "gate", "failed", {"msg": f"standard gate: {verdict}: {'; '.join(reasons)}"})

    def _canary(self, host: str, node: SimulatedNode, nonce: str, hear: Callable[[HostEvent], None],
                verdict: str) -> str:
        """Say that the site's own command ran, which it did not; return the verdict."""
        report = {"schema": "planner.canary/1", "simulated": self.label, "host": host, "nonce": f"{nonce}-canary",
                  "argv": node.canary, "verdict": verdict}
        hear(_event(host, "gate", CANARY_TASK, "ok", {"stdout": json.dumps(report, sort_keys=True)}))
        reasons = [] if verdict == "pass" else [f"simulated verdict {verdict}"]
        hear(_event(host, "gate", CANARY_VERDICT_TASK, "ok", {"outcome": verdict, "reasons": reasons}))
        return verdict

    def _do_undrain(self, host: str, node: SimulatedNode, request: RunRequest, hear: Callable[[HostEvent], None],
                    fault: str) -> None:
        if node.marks.get("gate", {}).get("verdict") != "pass":
            raise _stopped(host, "undrain", "failed", {"msg": "the standard gate has not passed"})
        self._change(node, "undrain", drained=False)


def _handed(node: SimulatedNode) -> str:
    """Return what the role says of the first step that is not done."""
    step = next((s for s in node.steps if node.marks.get(s["id"], {}).get("state") != "done"), {"id": "s1"})
    return f"step {step['id']} (simulated) is handed over: simulated. Do this: 1. nothing; Then: planner resume BUNDLE"


def _apply(node: SimulatedNode, changes: Sequence[Mapping[str, str]]) -> None:
    for change in changes:
        values = set(node.state.get(change["component"], [])) - {change["from"]}
        node.state[change["component"]] = sorted(values | ({change["to"]} if change["to"] else set()))


def _event(host: str, phase: str, task: str, kind: str, result: Mapping[str, Any] | None = None) -> HostEvent:
    return HostEvent(host=host, task=task, kind=kind, tags=(phase,), result=result or {}, play="simulated")


def _stopped(host: str, phase: str, kind: str, result: Mapping[str, Any]) -> _HostStopped:
    outcome = HostOutcome.UNREACHABLE if kind == "unreachable" else HostOutcome.FAILED
    return _HostStopped(outcome, _event(host, phase, f"Simulated {phase}", kind, result))
