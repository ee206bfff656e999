"""One call to Ansible: what is asked, what is heard while it runs, and what its end means for each node."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from planner.data import data_dir
from planner.documents import digest
from planner.emit.pairs import PAIR_PLAY
from planner.errors import PlannerError
from planner.execute.decide import Act
from planner.execute.fences import unfence_variables
from planner.execute.pairing import CALL as PAIR
from planner.execute.predict import at_goal, differences
from planner.execute.states import PHASE_GROUPS, Event, NodeStatus
from planner.execute.verdicts import QUICK, STANDARD, GateRulings, Ruling
from planner.gates.judge import FAIL, PASS
from planner.gates.multi_node import BYTES
from planner.runner.port import HostEvent, HostOutcome, RunRequest, RunResult
from planner.schedule.plan import Cohort, Plan

FACTS_TASK = "Read the facts again"
LEASE_TASK = "Check who this machine is, and who may act on it"
GATE_TASK = "Run the gate"
VERDICT_TASK = "Judge the gate"
BASELINE_TASK = "Run the baseline gate"
CANARY_TASK = "Run the site's own command"
CANARY_VERDICT_TASK = "Judge the site's own command"
HANDOVER_TASK = "Stop for what is left to people"
PROOF_TASKS = frozenset({"Read what steps by other hands leave on the node",
                         "Read what steps by other hands leave in the cluster"})
RELEASE_PLAY = "release.yml"
REASON_CHARS = 500

# What planner_lease says when somebody else may act on the node; the node itself is then as it was.
_LEASE = re.compile(r"holds this node|fencing token|nobody holds this node", re.IGNORECASE)
_LIMIT_FACTOR = 6          # a call is cut off after this many times its planned minutes, …
_LIMIT_LEAST_MINUTES = 60  # … at least this long: mirrors and disks have bad days

ReadState = Callable[[str], Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every call of a rollout has in common."""

    plan: Plan
    bundle: Path
    inventory: str
    state_dir: Path
    rollout: str
    owner: str
    forks: int = 16
    allow_local: bool = False
    pair_bytes: tuple[int, ...] = BYTES      # sizes of the all-reduce between two nodes


@dataclass(slots=True, kw_only=True)
class Heard:
    """What nodes said while a call ran."""

    facts: dict[str, str] = field(default_factory=dict)
    marks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    verdicts: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    reports: dict[str, str] = field(default_factory=dict)
    canaries: dict[str, tuple[str, str]] = field(default_factory=dict)      # report, and what came instead of one
    phases: dict[str, str] = field(default_factory=dict)
    proofs: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)     # what the probe does not see


def build_request(setting: Setting, act: Act, *, token: int, nonce: str, run_id: str,
                  acknowledge: tuple[str, ...], pair: Mapping[str, Any] = MappingProxyType({})) -> RunRequest:
    """Return the ansible-runner call of an act; ``pair`` holds what the play of a pair has to know beside."""
    plan = setting.plan
    extra: dict[str, Any] = {"planner_token": token, "planner_owner": setting.owner, "planner_nonce": nonce,
                             "planner_run_id": run_id}
    if acknowledge:
        extra["planner_acknowledge"] = list(acknowledge)
    if setting.allow_local:
        extra["planner_allow_local"] = True
    play = next((w.play for w in plan.waves if w.id == act.wave), "")
    if act.call == "release":
        play, extra["planner_rollout"] = str(data_dir("playbooks") / RELEASE_PLAY), setting.rollout
    nodes, groups = act.nodes, _groups(plan, act.nodes)
    if act.call == PAIR:
        play, groups = PAIR_PLAY, ()       # one play for both: they wait for each other
        extra |= pair
    if act.fenced:
        extra |= {"planner_unfence": unfence_variables(plan, act.fenced), "planner_leased": list(act.nodes)}
        nodes = tuple(sorted({*act.nodes, *act.fenced}))
        groups = _groups(plan, nodes)
    return RunRequest(
        directory=str(setting.bundle), playbook=play, inventory=setting.inventory, limit=nodes,
        tags=PHASE_GROUPS.get(act.call, ()), extra_vars=extra, run_id=run_id, forks=setting.forks,
        timeout_s=_limit_s(plan, act), groups=groups, artifacts=str(setting.state_dir / "artifacts"))


def _groups(plan: Plan, nodes: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Return a call's nodes by cohort: each has a play of its own, and no cohort's reboot waits for another's."""
    found = (tuple(n for n in nodes if n in set(cohort.nodes)) for cohort in plan.cohorts)
    return tuple(group for group in found if group)


def _limit_s(plan: Plan, act: Act) -> int:
    minutes = next((b.minutes for w in plan.waves for b in w.batches if b.id == act.batch and w.id == act.wave), 0)
    # The minutes of a batch are those of its steps and of the site's own command, which is waited for to its end.
    drain = plan.rollout.drain_timeout_minutes if act.call in ("change", PAIR) else 0
    return 60 * (drain + max(_LIMIT_LEAST_MINUTES, minutes * _LIMIT_FACTOR))


class Listener:
    """Takes the events of one call; what matters goes to the journal at once, through ``write``."""

    def __init__(self, state_dir: Path, act: Act, seq: int, write: Callable[[Mapping[str, Any]], None],
                 rulings: GateRulings) -> None:
        self.heard = Heard()
        self._state_dir, self._act, self._seq, self._write = state_dir, act, seq, write
        self._rulings, self._gates = rulings, 0
        self._passed: set[str] = set()      # nodes whose standard gate has passed in this call

    def hear(self, event: HostEvent) -> None:
        """Take one event."""
        heard = self.heard
        phase = event.tags[0] if event.tags else ""
        if phase and heard.phases.get(event.host) != phase:
            heard.phases[event.host] = phase
            self._write({"kind": "phase", "node": event.host, "data": {"phase": phase}})
        if event.kind not in ("ok", "changed"):
            return
        if event.task == LEASE_TASK:
            marks = event.result.get("marks")
            heard.marks[event.host] = marks if isinstance(marks, Mapping) else {}
        elif event.task == FACTS_TASK:
            heard.facts[event.host] = said(event.result.get("stdout"))
        elif event.task in PROOF_TASKS:
            heard.proofs.setdefault(event.host, {}).update(_proved(event.result.get("found")))
        elif event.task == GATE_TASK:
            heard.reports[event.host] = said(event.result.get("stdout"))
        elif event.task == BASELINE_TASK:
            self._baseline(event)
        elif event.task == VERDICT_TASK:
            self._gate(event)
        elif event.task == CANARY_TASK:
            heard.canaries[event.host] = (said(event.result.get("stdout")),
                                          said(event.result.get("stderr") or event.result.get("msg")))
        elif event.task == CANARY_VERDICT_TASK:
            self._canary(event)

    def _gate(self, event: HostEvent) -> None:
        report = self.heard.reports.pop(event.host, "")
        ruling = self._rulings.rule(event.host, report, event.result)
        verdict, reasons = ruling.verdict, ruling.reasons
        # A quick gate lets the steps go on; what a node is given back on is the standard one, and, where there is one,
        # the site's own command.
        missing = "only a quick gate was heard" if ruling.profile == QUICK else \
            "the site's own command was not heard" if event.host in self._rulings.canaries else ""
        self.heard.verdicts[event.host] = ("", (missing,)) if verdict == PASS and missing else (verdict, reasons)
        if (verdict, ruling.profile) == (PASS, STANDARD):
            self._passed.add(event.host)
        else:
            self._passed.discard(event.host)
        self._keep("gate", event.host, report, ruling)

    def _canary(self, event: HostEvent) -> None:
        report, said = self.heard.canaries.pop(event.host, ("", ""))
        ruling = self._rulings.rule_canary(event.host, report, said, event.result)
        if event.host in self._passed:
            self.heard.verdicts[event.host] = (ruling.verdict, ruling.reasons)
        self._keep("canary", event.host, report, ruling)

    def _keep(self, kind: str, host: str, report: str, ruling: Ruling) -> None:
        """Keep a report as evidence, and write what it was worth."""
        self._gates += 1
        place = f"evidence/{host}-{self._seq}-{self._gates}.json"
        keep_text(self._state_dir / place, report)
        told = {"code": ruling.code} if ruling.code not in ("", "OK") else {}
        self._write({"kind": kind, "node": host, "data": {
            "verdict": ruling.verdict, "reasons": list(ruling.reasons), "profile": ruling.profile, "evidence": place,
            "digest": digest(report.encode()), **told, **({"notes": list(ruling.notes)} if ruling.notes else {}),
            **({"again": True} if ruling.again else {})}})

    def _baseline(self, event: HostEvent) -> None:
        """Keep what a node could do before anything changed: its gates are judged against this very text."""
        report = said(event.result.get("stdout"))
        place = baseline_place(event.host)
        keep_text(self._state_dir / place, report)
        self._write({"kind": "baseline", "node": event.host, "data": {
            "evidence": place, "digest": digest(report.encode())}})


def baseline_place(host: str) -> str:
    """Return where a node's report from before the change lies, within the rollout's directory."""
    return f"evidence/{host}-baseline.json"


def _proved(found: Any) -> dict[str, tuple[str, ...]]:
    """Return what a module of a node says it found, as far as it has the shape of a state."""
    listed = found.items() if isinstance(found, Mapping) else ()
    return {str(name): tuple(map(str, values)) for name, values in listed if isinstance(values, list | tuple)}


def keep_text(path: Path, text: str) -> None:
    """Write evidence whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def judge(act: Act, node: str, status: NodeStatus, cohort: Cohort, result: RunResult, heard: Heard,
          read_state: ReadState, ignored: frozenset[str], *, canary: bool = False) -> dict[str, Any]:
    """Return what a call's end means for one node, as a journal entry's data: event, reason and what goes with it.

    ``canary`` tells whether the site's own command belongs to the node's gate.
    """
    outcome = result.hosts.get(node, HostOutcome.NOT_RUN)
    if outcome in (HostOutcome.UNREACHABLE, HostOutcome.NOT_RUN):
        failure = result.failures.get(node)
        words = words_of(failure) if failure else f"the call ended early ({result.status})"
        return {"event": Event.UNREACHABLE.value, "reason": f"not reachable: {words}"}
    if outcome is HostOutcome.FAILED:
        return _failed(act, node, result.failures.get(node), heard)
    if act.call == "preflight":
        return _compared(node, status, cohort, heard, read_state, ignored, canary=canary)
    if act.call == "undrain":
        return {"event": Event.UNDRAINED.value}
    verdict, reasons = heard.verdicts.get(node, ("", ()))
    if verdict == PASS:
        return {"event": Event.GATE_PASSED.value}
    if verdict == FAIL:      # Ansible took it for a pass, this controller does not
        return {"event": Event.GATE_FAILED.value, "reason": f"gate failed: {'; '.join(reasons)}"[:REASON_CHARS]}
    # Without a verdict of this call nothing is proved, whatever Ansible says of the host.
    told = "; ".join(reasons) or "no verdict was heard"
    return {"event": Event.GATE_UNCLEAR.value, "reason": f"gate inconclusive: {told}"}


def _failed(act: Act, node: str, failure: HostEvent | None, heard: Heard) -> dict[str, Any]:
    words = words_of(failure) if failure else "no reason given"
    if act.call == "change" and failure is not None and failure.task == HANDOVER_TASK:
        return {"event": Event.HANDOVER_OPEN.value, "reason": words}
    if _LEASE.search(words):
        return {"event": Event.REFUSED.value, "reason": words}
    if act.call == "change" and failure is not None:
        if failure.result.get("rebooted"):
            return {"event": Event.REBOOT_LOST.value, "reason": f"did not come back from its reboot: {words}"}
        verdict, reasons = heard.verdicts.get(node, ("", ()))
        told = "; ".join(reasons) or words
        if verdict == "inconclusive":
            return {"event": Event.GATE_UNCLEAR.value, "reason": f"gate inconclusive: {told}"[:REASON_CHARS]}
        if verdict not in ("", "pass"):
            return {"event": Event.GATE_FAILED.value, "reason": f"gate failed: {told}"[:REASON_CHARS]}
    task = f"{failure.task}: " if failure is not None and failure.task else ""
    return {"event": Event.TASK_FAILED.value, "reason": f"{task}{words}"[:REASON_CHARS]}


def _compared(node: str, status: NodeStatus, cohort: Cohort, heard: Heard, read_state: ReadState,
              ignored: frozenset[str], *, canary: bool) -> dict[str, Any]:
    if node not in heard.facts:
        return {"event": Event.TASK_FAILED.value, "reason": "its facts were not read again"}
    try:
        found = _with_proofs(read_state(heard.facts[node]), heard.proofs.get(node, {}))
    except PlannerError as exc:
        return {"event": Event.TASK_FAILED.value, "reason": exc.diagnostics[0].summary[:REASON_CHARS]}
    marks = heard.marks.get(node, {})
    begun = any(step.id in marks for step in cohort.steps)
    # The node's own mark tells of a gate that the journal missed; it never outweighs what the journal has.
    mark = marks["gate"] if isinstance(marks.get("gate"), Mapping) else {}
    gated = mark.get("verdict") == PASS and status.verdict in ("", PASS) and (not canary or (
        mark.get("canary") == PASS and status.canary in ("", PASS)))
    if at_goal(cohort, found) and (gated or not (status.started or begun)):
        return {"event": (Event.AT_GOAL_GATED if gated else Event.AT_GOAL).value, "reason": "already at its goal"}
    started = status.started or begun
    if unlike := differences(node, cohort, found, started=started, ignored=ignored):
        return {"event": Event.STALE.value, "reason": "its facts differ from the plan",
                "differences": [difference.as_dict() for difference in unlike]}
    return {"event": Event.FACTS_FIT.value, "started": started}


def _with_proofs(found: Mapping[str, tuple[str, ...]], proofs: Mapping[str, tuple[str, ...]]
                 ) -> Mapping[str, tuple[str, ...]]:
    """Return the facts with what only proofs show; where both speak, both count."""
    return {**found, **{name: tuple(sorted({*found.get(name, ()), *values})) for name, values in proofs.items()}}


def said(value: Any) -> str:
    """Return a text of a node as one that can be kept and read again: what is no text has no digest."""
    return str(value or "").encode("utf-8", "backslashreplace").decode()


def words_of(event: HostEvent) -> str:
    """Return the most telling text of a failed task, on one line."""
    result = event.result
    for key in ("msg", "stderr", "module_stderr", "stdout"):
        value = result.get(key)
        text = value if isinstance(value, str) else json.dumps(value) if value else ""
        if text.strip() and text.strip() not in ("non-zero return code", "MODULE FAILURE"):
            return " ".join(text.split())[:REASON_CHARS]
    return "no reason given"
