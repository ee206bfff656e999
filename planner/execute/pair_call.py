"""One pair's call: what is asked of the play, what is heard of both nodes, and what its end means."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.documents import digest
from planner.execute.calls import Setting, keep_text, said, words_of
from planner.execute.decide import Act
from planner.gates.multi_node import GATE, LABEL, Attempt, judge_pair
from planner.gates.verdicts import GateResult
from planner.runner.port import HostEvent, HostOutcome, RunResult

LEASE_TASK = "Take the lease for the pair"
REPORT_TASK = "Say what this rank reported"
BACK_TASK = "Give the lease of the pair back"
REPORT_FACT = "planner_gate_nccl_report"

# Node -> report in the order of their ranks, and the request, in; what the pair is worth out.
PairJudge = Callable[[Mapping[str, str], Mapping[str, Any]], Attempt]


def judge_reports(texts: Mapping[str, str], request: Mapping[str, Any]) -> Attempt:
    """Judge what both ranks printed; a text that is no JSON is no report."""
    return judge_pair({node: _parsed(text) for node, text in texts.items()}, request)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def pair_variables(setting: Setting, act: Act) -> dict[str, Any]:
    """Return the extra variables of the play."""
    return {"planner_pair": ",".join(act.nodes), "planner_nccl_bytes": list(setting.pair_bytes),
            "planner_nccl_gpus": 1, "planner_nccl_out": str((setting.state_dir / "nccl").absolute())}


def pair_request(setting: Setting, nonce: str) -> dict[str, Any]:
    """Return what both ranks are asked, as the judge has to know it."""
    return {"nonce": nonce, "label": LABEL, "ranks": 2, "bytes": list(setting.pair_bytes)}


@dataclass(slots=True)
class PairListener:
    """Hears a pair's call; nothing of it moves a node to another state."""

    leased: set[str] = field(default_factory=set)      # taken by this call: they have to be given back
    back: set[str] = field(default_factory=set)        # given back, in service
    reports: dict[str, str] = field(default_factory=dict)

    def hear(self, event: HostEvent) -> None:
        """Take one event."""
        if event.kind not in ("ok", "changed"):
            return
        if event.task == LEASE_TASK:
            self.leased.add(event.host)
        elif event.task == BACK_TASK:
            self.back.add(event.host)
        elif event.task == REPORT_TASK:
            facts = event.result.get("ansible_facts")
            self.reports[event.host] = said(facts.get(REPORT_FACT)) if isinstance(facts, Mapping) else ""


def pair_entry(act: Act, seq: int, state_dir: Path, listener: PairListener, result: RunResult,
               judge: Callable[[Mapping[str, str]], Attempt]) -> dict[str, Any]:
    """Return what the journal has to say of a pair's call; evidence is on disk before.

    As long as it is not sure that both nodes were given back, the attempt has not ended: ``pair-lost``.
    """
    unsure = [node for node in act.nodes if node not in listener.back and (
        node in listener.leased or result.hosts.get(node, HostOutcome.NOT_RUN) in (
            HostOutcome.UNREACHABLE, HostOutcome.NOT_RUN))]
    failed = tuple(f"{node}: {words_of(event)}" for node in act.nodes
                   if (event := result.failures.get(node)) is not None)
    base = {"domain": act.domain, "pair": list(act.nodes)}
    if unsure:
        tail = " ".join(result.output_tail.split()[-40:])
        words = "; ".join(failed) or f"{', '.join(unsure)}: the call ended early ({result.status}) {tail}".strip()
        return {"kind": "pair-lost", "wave": act.wave, "data": {**base, "nodes": unsure, "reason": words[:500]}}
    evidence = {}
    for node, text in sorted(listener.reports.items()):
        place = f"evidence/{node}-{seq}-nccl.json"
        keep_text(state_dir / place, text)
        evidence[node] = {"evidence": place, "digest": digest(text.encode())}
    absent = [node for node in act.nodes if node not in listener.reports]
    if absent or failed:
        code, reasons = "GATE_NO_RESULT", failed or (f"no report of {' and '.join(absent)} was heard",)
    else:
        try:
            attempt = judge({node: listener.reports[node] for node in act.nodes})
            code, reasons = attempt.code, attempt.evidence
        except Exception as exc:  # a node's text must not end the controller
            code, reasons = "GATE_BUG", (f"the reports cannot be judged: {type(exc).__name__}: {exc}",)
    verdict = GateResult(GATE, "", code).verdict.value
    return {"kind": "pair", "wave": act.wave, "data": {
        **base, "code": code, "verdict": verdict, "reasons": [reason[:500] for reason in reasons],
        "reports": evidence}}
