"""NCCL over two nodes while a fleet is half upgraded: whom to pair, and whom to blame.

Pure, and standard library only. A pair that fails blames nobody: its partner is swapped first, then the old nodes are
tried with each other, then another upgraded one, and only then is a verdict given.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .failures import Verdict
from .pairs import speed, wrong_sums
from .samples import cuda_code, guarded
from .verdicts import GateResult

GATE = "nccl-mixed"
LABEL = "nccl"
BYTES = (8, 64 << 20, 4 << 30)
_GOOD = (Verdict.PASS, Verdict.WARN)
# The heaviest first: what one rank of a pair saw, when the other saw something else.
_ABSENT = ("ENV_FOREIGN_PROCESS", "PART_MISSING", "MEMORY_SHORT")      # this rank never took part
_HEAVIEST = ("GATE_HUNG_D", "RESULT_WRONG", "NCCL_VERSION_MIX", "NCCL_HANG", "NCCL_ERROR")


def pairing(upgraded: Sequence[str], waiting: Sequence[str], attempts: Sequence[Attempt] = ()
            ) -> tuple[str, str] | None:
    """Return (upgraded node, node that waits) to try first; None where one of both is missing.

    The upgraded node is the last one, which nobody tried yet; its partner the waiting node that was tried least, and
    of equals the one that will be upgraded last: it has to talk to upgraded ones for the longest time.

    Args:
        upgraded: In the order of their upgrade.
        waiting: In the order in which they will be upgraded.
        attempts: What was tried so far in this rollout.
    """
    if not upgraded or not waiting:
        return None
    tried = Counter(node for attempt in attempts for node in attempt.pair)
    return upgraded[-1], min(reversed(waiting), key=tried.__getitem__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One all-reduce of a pair: ``code`` is what ``judge_pair`` said."""

    pair: tuple[str, str]
    code: str
    evidence: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the pair works."""
        return GateResult(GATE, "", self.code).verdict in _GOOD


def next_pair(attempts: Sequence[Attempt], upgraded: Sequence[str], waiting: Sequence[str]
              ) -> tuple[str, str] | tuple[GateResult, ...]:
    """Return the pair to try next, or the verdict where nothing more is to be learned.

    Args:
        attempts: What was tried for this upgraded node, the pair of ``pairing`` first; a pair is tried once.
        upgraded: All upgraded nodes.
        waiting: All nodes that wait.

    Returns:
        Two nodes; or results of the gate ``nccl-mixed``, one for each node that it blames or clears.

    Raises:
        ValueError: No attempt.
    """
    if not attempts:
        raise ValueError("nothing was tried")
    first = attempts[0]
    node, partner = first.pair
    if first.good:
        return (GateResult(GATE, node, first.code, first.evidence),)
    done = {frozenset(attempt.pair): attempt for attempt in attempts}
    another = _after(partner, waiting, {node})
    if another is None:
        words = f"{node} with {partner}; there is no other node to swap the partner with"
        return (GateResult(GATE, node, first.code, (words, *first.evidence)),)
    swapped = done.get(frozenset((node, another)))
    if swapped is None:
        return node, another
    if swapped.good:
        return _blame_partner(first, swapped, node, partner, another)
    old = done.get(frozenset((partner, another)))
    if old is None:
        return partner, another
    if not old.good:
        words = f"{node} fails with {partner} and {another}, and these two with each other: not the change"
        return tuple(GateResult(GATE, each, old.code, (words, *old.evidence)) for each in sorted({partner, another}))
    second = _after(node, [each for each in upgraded if each != node], {partner, another})
    if second is not None:
        mixed = done.get(frozenset((second, partner)))
        if mixed is None:
            return second, partner
        if not mixed.good:
            words = f"upgraded {node} and {second} fail with nodes that wait, while these work with each other"
            return (GateResult(GATE, node, "NCCL_VERSION_MIX", (words, *first.evidence, *mixed.evidence)),)
    words = f"{node} fails with {partner} and with {another}, which work with each other"
    return (GateResult(GATE, node, first.code, (words, *first.evidence)),)


def _blame_partner(first: Attempt, swapped: Attempt, node: str, partner: str, another: str) -> tuple[GateResult, ...]:
    words = f"{node} works with {another}, not with {partner}"
    return (GateResult(GATE, node, swapped.code, swapped.evidence),
            GateResult(GATE, partner, first.code, (words, *first.evidence)))


def _after(node: str, nodes: Sequence[str], besides: set[str]) -> str | None:
    """Return the last of ``nodes`` that is neither ``node`` nor among ``besides``."""
    return next((each for each in reversed(nodes) if each != node and each not in besides), None)


# --- one pair -----------------------------------------------------------------------------------------------------

def judge_pair(reports: Mapping[str, Any], request: Mapping[str, Any], before: Sequence[Mapping[str, Any]] | None = None
               ) -> Attempt:
    """Judge what both ranks of a pair said.

    Args:
        reports: Node -> its ``planner.nccl/1``, in the order of their ranks.
        request: What both were asked: nonce, label, bytes, ranks.
        before: ``sizes`` of the same pair before the change, where it was measured.
    """
    names = tuple(str(name) for name in reports)
    pair = (names[0], names[1]) if len(names) == 2 else ("", "")
    found = guarded(GATE, "", lambda: [_pair(reports, request, before)])
    return Attempt(pair, found[0].code, found[0].evidence)


def pair_verdict(text: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the verdict on a pair for a play, with the keys of ``judge_gate``; the engine goes by ``judge_pair``.

    Args:
        text: JSON list of what both ranks printed.
        request: As ``judge_pair`` takes it, with ``hosts``: the names of both, in the order of their ranks.
    """
    def judged() -> list[GateResult]:
        texts, hosts = json.loads(text), [str(name) for name in request["hosts"]]
        if len(texts) != 2 or len(set(hosts)) != 2:
            raise ValueError(f"{len(texts)} reports of {len(hosts)} nodes")
        attempt = judge_pair({host: json.loads(each) for host, each in zip(hosts, texts, strict=True)}, request)
        return [GateResult(GATE, " and ".join(hosts), attempt.code, attempt.evidence)]

    (result,) = guarded(GATE, "", judged)
    bad = result.verdict in (Verdict.FAIL, Verdict.HUNG)
    words = [f"{result.subject}: {'; '.join(result.evidence) or result.row.seen_as} ({result.code})"]
    passed = result.verdict in _GOOD
    return {
        "verdict": result.verdict.value, "outcome": "pass" if passed else "fail" if bad else "inconclusive",
        "code": result.code, "action": result.row.actions[0].value,
        "allowed": [action.value for action in result.row.actions], "exit_code": result.row.exit_code,
        "reasons": [] if passed else words, "notes": words if passed else [], "not_tried": [],
        "wrong_results": result.code == "RESULT_WRONG", "retry_after_s": 0, "results": [result.as_dict()],
    }


def _pair(reports: Mapping[str, Any], request: Mapping[str, Any], before: Sequence[Mapping[str, Any]] | None
          ) -> GateResult:
    if len(reports) != 2:
        raise ValueError(f"{len(reports)} reports of a pair")
    found = [_rank(node, report, request) for node, report in reports.items()]
    versions = {str(report["nccl"]["version"]) for report in reports.values()
                if isinstance(report, Mapping) and isinstance(report.get("nccl"), Mapping)
                and report["nccl"].get("version")}
    bad = [result for result in found if result.code != "OK"]
    if any(result.code in _ABSENT for result in bad):       # who waits for one that does not come can only time out
        bad = [result for result in bad if result.code not in ("NCCL_HANG", "NCCL_ERROR", "GATE_BUG")]
    if bad:
        bad.sort(key=lambda result: _HEAVIEST.index(result.code) if result.code in _HEAVIEST else len(_HEAVIEST))
        words = tuple(word for result in bad for word in result.evidence)
        mixed = len(versions) > 1 and bad[0].code in ("NCCL_HANG", "NCCL_ERROR", "RESULT_WRONG")
        if mixed:
            words = (f"NCCL {' and '.join(sorted(versions))} in one job", *words)
        return GateResult(GATE, "", "NCCL_VERSION_MIX" if mixed else bad[0].code, words)
    local = [rank for report in reports.values() for rank in range(report["rank"], report["rank"] + report["local"])]
    if sorted(local) != list(range(request["ranks"])):
        raise ValueError(f"ranks {local} of {request['ranks']}")
    note = (f"NCCL {' and '.join(sorted(versions))}",)
    if before is None:
        return GateResult(GATE, "", "OK", note)
    slowest = speed(GATE, "", before, next(iter(reports.values()))["sizes"])
    return GateResult(GATE, "", slowest.code, (*slowest.evidence, *note))


def _rank(node: str, report: Any, request: Mapping[str, Any]) -> GateResult:
    """Judge one rank by itself."""
    if not isinstance(report, Mapping) or report.get("schema") != "planner.nccl/1":
        return GateResult(GATE, node, "GATE_BUG", (f"{node}: no report planner.nccl/1",))
    if report.get("nonce") != request["nonce"] or report.get("label", LABEL) != request.get("label", LABEL):
        return GateResult(GATE, node, "REPORT_FOREIGN", (f"{node}: nonce or label of another run",))
    status, words = str(report.get("status")), f"{node}: {report.get('status')}: {report.get('reason')}"
    if status == "ok":
        local = range(report["rank"], report["rank"] + report["local"])
        wrong = wrong_sums(report["sizes"], request["bytes"], str(request["nonce"]), str(request.get("label", LABEL)),
                           local, request["ranks"])
        return GateResult(GATE, node, "RESULT_WRONG" if wrong else "OK", tuple(f"{node}: {word}" for word in wrong))
    if status == "error":
        code = "NCCL_ERROR" if "nccl_code" in report else cuda_code(report)
    else:
        code = {"timeout": "NCCL_HANG", "hung": "GATE_HUNG_D", "skip": "PART_MISSING", "busy": "ENV_FOREIGN_PROCESS",
                "inconclusive": "MEMORY_SHORT"}.get(status, "UNKNOWN_CODE")
    return GateResult(GATE, node, code, (words,))
