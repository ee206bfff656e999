"""What earlier rollouts took, out of their journals. Pure.

A journal knows when each phase began on each node, not when each step ended: a node's time from the end of its drain
to the verdict of its last gate is shared out among its steps by their planned minutes; from there to the verdict of
the site's own command is that command's. Where the nodes of its cohort took turns (``turns``), it waited for others
most of that time: each turn counts as a node's own. Only nodes that went through in one piece count; what was retried,
cut off or found half done says little of how long a change takes. Of pairs those count whose sums were right.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from planner.execute.states import Entry, Event
from planner.schedule.canary import Command, canary_commands, command_digest
from planner.schedule.plan import Cohort, MeasuredTime, Plan
from planner.schedule.turns import turns

NODES_MIN = 3      # fewer measurements are no distribution

Key = tuple[str, str]              # kind and name of a MeasuredTime
Samples = dict[Key, list[float]]   # minutes

_AROUND = ("preflight", "undrain")
_PAIR = "pair"


@dataclass(slots=True)
class _Attempt:
    """One node's way through its change call."""

    drain: datetime | None = None
    drained: datetime | None = None
    gated: datetime | None = None
    commanded: datetime | None = None      # the site's own command had its verdict


@dataclass(slots=True)
class _Reader:
    """Follows one journal."""

    cohorts: Mapping[str, Cohort]      # of each node
    commands: Mapping[str, Command]    # of each node that runs one after its gate
    samples: Samples = field(default_factory=lambda: defaultdict(list))
    fresh: set[str] = field(default_factory=set)
    attempts: dict[str, _Attempt] = field(default_factory=dict)
    calls: dict[tuple[str, str], list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))
    begun: datetime | None = None
    sizes: Counter[str] = field(default_factory=Counter)      # of the call at hand: nodes by cohort

    def take(self, entry: Entry) -> None:
        """Take the next entry."""
        at = datetime.fromisoformat(entry.at)
        if entry.kind == "call-started":
            self.begun = at
            self.sizes = Counter(self.cohorts[n].id for n in entry.data.get("nodes", ()) if n in self.cohorts)
        elif entry.kind == "call-ended":
            if self.begun is not None and entry.data.get("status") == "successful":
                minutes = (at - self.begun).total_seconds() / 60
                self.calls[entry.wave, entry.batch].append((str(entry.data.get("call", "")), minutes))
            self.begun = None
        elif entry.kind == _PAIR and self.begun is not None and entry.data.get("code") == "OK":
            self.samples[_PAIR, ""].append((at - self.begun).total_seconds() / 60)
        elif entry.kind == "node":
            self._node(entry)
        elif entry.node in self.attempts:
            self._heard(self.attempts[entry.node], entry, at)

    def _node(self, entry: Entry) -> None:
        event = str(entry.data.get("event", ""))
        attempt = self.attempts.pop(entry.node, None)
        if event == Event.FACTS_FIT and not entry.data.get("started"):
            self.fresh.add(entry.node)
        elif event == Event.CHANGE_BEGUN and entry.node in self.fresh:
            self.fresh.discard(entry.node)
            self.attempts[entry.node] = _Attempt()
        elif event == Event.GATE_PASSED and attempt is not None and entry.node in self.cohorts:
            self._finished(entry.node, attempt, self.cohorts[entry.node])

    @staticmethod
    def _heard(attempt: _Attempt, entry: Entry, at: datetime) -> None:
        if entry.kind == "gate":
            attempt.gated = at
        elif entry.kind == "canary":
            attempt.commanded = at
        elif entry.kind == "phase":
            if entry.data.get("phase") == "drain":
                attempt.drain = attempt.drain or at
            else:
                attempt.drained = attempt.drained or at

    def _finished(self, node: str, attempt: _Attempt, cohort: Cohort) -> None:
        planned = sum(step.minutes for step in cohort.steps)
        if attempt.drained is None or attempt.gated is None or not planned:
            return
        taken = turns(self.sizes[cohort.id]) or 1
        minutes = (attempt.gated - attempt.drained).total_seconds() / 60 / taken
        for step in cohort.steps:
            self.samples["move", step.move].append(minutes * step.minutes / planned)
        if attempt.drain is not None:
            self.samples["drain", ""].append((attempt.drained - attempt.drain).total_seconds() / 60 / taken)
        if attempt.commanded is not None and node in self.commands:
            name = command_digest(self.commands[node][0])
            self.samples["command", name].append((attempt.commanded - attempt.gated).total_seconds() / 60 / taken)

    def end(self) -> Samples:
        """Return what was measured, the calls around each batch included."""
        for calls in self.calls.values():
            around = [(call, minutes) for call, minutes in calls if call in _AROUND]
            if sorted(call for call, _ in around) == sorted(_AROUND):
                self.samples["around", ""].append(sum(minutes for _, minutes in around))
        return self.samples


def samples_of(plan: Plan, entries: Iterable[Entry]) -> Samples:
    """Return the times, in minutes, that one rollout's journal holds.

    Args:
        plan: The plan that was run.
        entries: Its journal, in order.
    """
    reader = _Reader({name: cohort for cohort in plan.cohorts for name in cohort.nodes}, canary_commands(plan))
    for entry in entries:
        reader.take(entry)
    return reader.end()


def digest_samples(rollouts: Iterable[Samples]) -> tuple[MeasuredTime, ...]:
    """Return median and 90th percentile (nearest rank) of all times that were measured often enough, sorted."""
    gathered: Samples = defaultdict(list)
    for samples in rollouts:
        for key, minutes in samples.items():
            gathered[key] += minutes
    return tuple(
        MeasuredTime.model_validate({
            "kind": kind, "name": name, "nodes": len(minutes), "median_minutes": round(median(minutes), 2),
            "p90_minutes": round(sorted(minutes)[math.ceil(0.9 * len(minutes)) - 1], 2)})
        for (kind, name), minutes in sorted(gathered.items()) if len(minutes) >= NODES_MIN and max(minutes) > 0
    )
