"""NCCL between upgraded nodes and nodes that wait: what was tried, what it came to, and whom to try next. Pure.

After each wave that changed nodes of a communication domain, while others of it wait, two nodes do an all-reduce
together. Who is to blame when it fails ``planner.gates.multi_node`` finds out; nothing but a pass counts as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from planner.gates.failures import Verdict
from planner.gates.multi_node import Attempt, next_pair, pairing
from planner.gates.verdicts import GateResult

GOOD, BAD, UNCLEAR = "good", "bad", "unclear"
CALL = "pair"
RETRY = "pair-retry"               # a person's word: the failed series is done again
WORDS_CHARS = 600

Pair = tuple[str, str]
Key = tuple[str, str]              # wave, communication domain

_GOOD = (Verdict.PASS, Verdict.WARN)
_BAD = (Verdict.FAIL, Verdict.HUNG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One all-reduce of a pair that came to an end; both nodes are back in service."""

    wave: str
    domain: str
    attempt: Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What the pairs of a domain came to after a wave: good | bad | unclear; ``nodes`` are those it blames."""

    domain: str
    outcome: str
    words: str
    nodes: tuple[str, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """Return the form in which the journal has it."""
        return {"domain": self.domain, "outcome": self.outcome, "reason": self.words, "nodes": list(self.nodes)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A pair whose call has begun: until it has ended its nodes may be drained. ``lost``: one did not come back."""

    wave: str
    domain: str
    pair: Pair
    lost: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """All that a journal says of pairs."""

    tried: tuple[Tried, ...] = ()
    judged: Mapping[Key, Judged] = field(default_factory=dict)
    since: Mapping[Key, int] = field(default_factory=dict)      # how many were tried before the series at hand
    first: Mapping[Key, Pair] = field(default_factory=dict)     # of the series that was judged last
    again: frozenset[Key] = frozenset()                         # a person asked for that series once more
    open: Open | None = None

    def asking(self, wave: str) -> bool:
        """Tell whether a person has to say whether the rollout goes on after a wave."""
        return any(w == wave and judged.outcome != GOOD for (w, _), judged in self.judged.items()) or (
            self.open is not None and self.open.wave == wave and bool(self.open.lost))


def take(pairs: Pairs, kind: str, wave: str, data: Mapping[str, Any], approved: Iterable[str]) -> Pairs:
    """Return what is known after one more entry of the journal."""
    domain = str(data.get("domain", ""))
    if kind == "call-started" and data.get("call") == CALL:
        first, second = data["nodes"]
        return replace(pairs, open=Open(wave=wave, domain=domain, pair=(str(first), str(second))))
    if kind == "pair":
        first, second = data["pair"]
        attempt = Attempt((str(first), str(second)), str(data["code"]), tuple(map(str, data.get("reasons", ()))))
        return replace(pairs, open=None, tried=(*pairs.tried, Tried(wave=wave, domain=domain, attempt=attempt)))
    if kind == "pair-lost" and pairs.open is not None:
        return replace(pairs, open=replace(pairs.open, lost=str(data.get("reason", "")) or "not given back"))
    if kind == "pairs-judged":
        found = Judged(domain=domain, outcome=str(data.get("outcome", UNCLEAR)), words=str(data.get("reason", "")),
                       nodes=tuple(map(str, data.get("nodes", ()))))
        key = (wave, domain)
        series = _series(pairs, key)
        first = {**pairs.first, key: series[0].pair} if series else pairs.first
        return replace(pairs, judged={**pairs.judged, key: found}, since={**pairs.since, key: len(pairs.tried)},
                       first=first, again=pairs.again - {key})
    if kind == RETRY:
        key = (wave, domain)
        return replace(pairs, judged={k: v for k, v in pairs.judged.items() if k != key}, again=pairs.again | {key})
    if kind == "run-started":       # what was unclear, and nobody let pass, is tried again
        left = pairs.open
        judged = {key: each for key, each in pairs.judged.items() if each.outcome != UNCLEAR or key[0] in approved}
        if left is not None and left.lost and left.wave in approved:
            judged[left.wave, left.domain] = Judged(domain=left.domain, outcome=UNCLEAR, words=left.lost)
            left = None
        elif left is not None:
            left = replace(left, lost="")
        return replace(pairs, open=left, judged=judged)
    return pairs


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """The pair that has to be tried next."""

    domain: str
    pair: Pair


def next_duty(pairs: Pairs, wave: str, domains: Mapping[str, tuple[Sequence[str], Sequence[str]]]
              ) -> Try | Judged | None:
    """Return what comes next after a wave; None where all its domains have been judged, or none is mixed.

    Args:
        pairs: What is known.
        wave: The wave that has ended.
        domains: Domain that is mixed because of it -> upgraded nodes in the order of their upgrade, nodes that wait in
            the order in which their turn comes.
    """
    for domain, (upgraded, waiting) in sorted(domains.items()):
        key = (wave, domain)
        if key in pairs.judged:
            continue
        series = _series(pairs, key)
        if not series:
            first = _once_more(pairs, key, upgraded, waiting) or pairing(
                upgraded, waiting, [each.attempt for each in pairs.tried])
            if first is not None:
                return Try(domain=domain, pair=first)
            continue
        last = GateResult("", "", series[-1].code).verdict
        if last not in (*_GOOD, *_BAD):      # nobody is to blame: a swapped partner would tell nothing of the upgrade
            return _judged(domain, [GateResult("", " and ".join(series[-1].pair), series[-1].code,
                                               series[-1].evidence)])
        found = next_pair(series, upgraded, waiting)
        if isinstance(found[0], str):
            return Try(domain=domain, pair=(str(found[0]), str(found[1])))
        return _judged(domain, cast("Sequence[GateResult]", found))
    return None


def _series(pairs: Pairs, key: Key) -> list[Attempt]:
    """Return the attempts of a wave's domain since its last verdict."""
    return [each.attempt for each in pairs.tried[pairs.since.get(key, 0):] if (each.wave, each.domain) == key]


def _once_more(pairs: Pairs, key: Key, upgraded: Sequence[str], waiting: Sequence[str]) -> Pair | None:
    """Return the pair with which a failed series began, where a person asked for it again and both are there."""
    pair = pairs.first.get(key) if key in pairs.again else None
    return pair if pair is not None and pair[0] in upgraded and pair[1] in waiting else None


def blaming(pairs: Pairs, approved: Iterable[str], node: str) -> tuple[Judged, str] | None:
    """Return the failed verdict that names a node and that nobody has let pass, and its wave; None without any."""
    let_pass = frozenset(approved)
    return next(((judged, wave) for (wave, _), judged in sorted(pairs.judged.items()) if judged.outcome == BAD
                 and node in judged.nodes and wave not in let_pass), None)


def _judged(domain: str, results: Sequence[GateResult]) -> Judged:
    bad = [result for result in results if result.verdict in _BAD]
    unclear = [result for result in results if result.verdict not in (*_BAD, *_GOOD)]
    told = bad or unclear or list(results)
    words = "; ".join(f"{result.subject}: {'; '.join(result.evidence) or result.row.seen_as} ({result.code})"
                      for result in told)
    return Judged(domain=domain, outcome=BAD if bad else UNCLEAR if unclear else GOOD, words=words[:WORDS_CHARS],
                  nodes=tuple(sorted({result.subject for result in bad})))
