"""Thousands of rollouts of one plan, with drawn failures and times. Pure: chance is passed in, and so is its seed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from planner.execute.course import Course
from planner.execute.trial import End, Fate, Kind, Person, Trial
from planner.schedule.canary import canary_commands
from planner.schedule.estimate import FACTOR, Durations, Group
from planner.schedule.pairs import plan_domains
from planner.schedule.plan import Cohort, Plan, Step
from planner.schedule.turns import FORKS, side_by_side

# Names of rates beside those of moves; the last two are that of the gate unless they are given.
LOST, UNREACHABLE, COMMAND, PAIR = "lost", "unreachable", "command", "pair"
_OWN_RATES = frozenset({LOST, UNREACHABLE})
_REBOOTS = frozenset({"reboot", "module-reload"})

T = TypeVar("T", str, int, End)


class Chance(Protocol):
    """A source of chance; the same seed has to give the same numbers."""

    def random(self) -> float:
        """Return a number, at least 0 and below 1."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Chances of failure, between 0 and 1, each for one node and one attempt.

    Attributes:
        node: That a node fails its last gate.
        moves: Move -> that a step of it fails; ``lost``: that a node does not come back from a reboot;
            ``unreachable``: that it cannot be reached any more once its turn has come; ``command``: that its pool's own
            command fails, ``pair``: that it fails the all-reduce after its wave, both as ``node`` where not given.
    """

    node: float = 0.0
    moves: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Percentiles of a number over rollouts."""

    p5: float
    p50: float
    p95: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """Return the nearest ranks; None without any value."""
        line = sorted(values)
        if not line:
            return None
        p5, p50, p95 = (line[max(0, math.ceil(share * len(line)) - 1)] for share in (0.05, 0.5, 0.95))
        return cls(p5=p5, p50=p50, p95=p95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What many rollouts came to. Times are minutes, approvals and answers as the person was told to take them."""

    runs: int
    ends: Mapping[End, int]
    makespan: Spread | None            # of rollouts that went to the end
    until_stop: Spread | None          # of those that did not
    stops: Mapping[int, int]           # how often a person was needed -> rollouts
    failures: Spread                   # attempts that failed, in all rollouts
    broken: Spread                     # nodes that are broken at the end
    exposed: Spread | None             # nodes with the new stack when the first failure was seen, where there was one
    seen_in: Mapping[str, int]         # wave of the first failure -> rollouts
    gpu_hours: Spread                  # out of service until given back, or until the end
    moving: int                        # nodes that the plan moves


def rate_names(plan: Plan) -> tuple[str, ...]:
    """Return the names that a rate may have for a plan, sorted."""
    also = {COMMAND} if canary_commands(plan) else set()
    also |= {PAIR} if plan_domains(plan) else set()
    return tuple(sorted({s.move for c in plan.cohorts for s in c.steps} | _OWN_RATES | also))


def simulate(plan: Plan, rates: Rates, *, runs: int, chance: Chance, person: Person | None = None) -> Summary:
    """Play many rollouts.

    Args:
        plan: The plan.
        rates: Chances of failure.
        runs: How many; at least one.
        chance: Seeded by the caller.
        person: What people do meanwhile.
    """
    person = person or Person()
    course, cup = Course(plan), Cup(plan, rates, chance, handover_minutes=person.answer_minutes)
    return summary([course.play(cup.shaken(), person) for _ in range(runs)], moving=len(course.moving))


def summary(trials: Sequence[Trial], *, moving: int) -> Summary:
    """Return the spread of what some rollouts came to; at least one."""
    ended = [t for t in trials if t.end in (End.FINISHED, End.WITH_FAILURES)]
    failures, broken = Spread.of(t.failures for t in trials), Spread.of(t.broken for t in trials)
    gpu_hours = Spread.of(t.gpu_minutes / 60 for t in trials)
    assert failures, "no rollout was played"
    assert broken, "no rollout was played"
    assert gpu_hours, "no rollout was played"
    return Summary(
        runs=len(trials), ends=_counted(t.end for t in trials), makespan=Spread.of(t.minutes for t in ended),
        until_stop=Spread.of(t.minutes for t in trials if t.end not in (End.FINISHED, End.WITH_FAILURES)),
        stops=_counted(t.stops for t in trials), failures=failures, broken=broken,
        exposed=Spread.of(t.exposed for t in trials if t.exposed),
        seen_in=_counted(t.seen_in for t in trials if t.seen_in), gpu_hours=gpu_hours, moving=moving)


def _counted(values: Iterable[T]) -> dict[T, int]:
    return dict(sorted(Counter(values).items()))


@dataclass(frozen=True, slots=True)
class _Odds:
    """What may happen on one cohort's path: fates with the sums of their chances, the last of which is the whole."""

    fates: tuple[Fate, ...]
    sums: tuple[float, ...]

    @property
    def whole(self) -> float:
        """The chance that anything happens."""
        return self.sums[-1] if self.sums else 0.0

    def pick(self, drawn: float) -> Fate:
        """Return the fate at a number below the whole."""
        return self.fates[min(bisect_left(self.sums, drawn), len(self.fates) - 1)]


def odds_of(cohort: Cohort, rates: Rates, *, command: bool = False) -> _Odds:
    """Return what may happen on a path, in the order in which it would: reaching the node, each step, the gate.

    ``command``: the nodes run a command of their pool behind it.
    """
    fates: list[Fate] = []
    sums: list[float] = []
    passing, whole = 1.0, 0.0

    def add(kind: Kind, step: int, rate: float) -> None:
        nonlocal passing, whole
        if rate > 0:
            whole, passing = whole + passing * rate, passing * (1 - rate)
            fates.append(Fate(kind, step))
            sums.append(whole)

    add(Kind.UNREACHABLE, 0, rates.moves.get(UNREACHABLE, 0.0))
    for place, step in enumerate(cohort.steps):
        add(Kind.FAILED, place, rates.moves.get(step.move, 0.0))
        if step.disruption in _REBOOTS:
            add(Kind.LOST, place, rates.moves.get(LOST, 0.0))
    add(Kind.FAILED, len(cohort.steps), rates.node)
    if command:
        add(Kind.FAILED, len(cohort.steps) + 1, rates.moves.get(COMMAND, rates.node))
    return _Odds(tuple(fates), tuple(sums))


class Cup:
    """Dice for one plan: shaken anew for every rollout."""

    def __init__(self, plan: Plan, rates: Rates, chance: Chance, *, handover_minutes: float = 0.0) -> None:
        """Prepare the dice; ``handover_minutes`` are added for each step of a path that is left to people."""
        self._handovers = {c.id: handover_minutes * sum(bool(s.handover) for s in c.steps) for c in plan.cohorts}
        self._chance, self._durations = chance, Durations(plan)
        cohorts, commands = [c for c in plan.cohorts if c.steps], canary_commands(plan)
        self._cohort_of = {name: c.id for c in cohorts for name in c.nodes}
        self._members: list[tuple[_Odds, tuple[str, ...]]] = []      # nodes to which the same may happen
        for cohort in cohorts:
            for runs in (False, True):
                if names := tuple(n for n in cohort.nodes if (n in commands) is runs):
                    self._members.append((odds_of(cohort, rates, command=runs), names))
        self._odds = {name: odds for odds, names in self._members for name in names}
        self._steps = {c.id: c.steps for c in cohorts}
        self._shares: dict[tuple[str, str], tuple[float, ...]] = {}
        self._reboot_minutes = plan.rollout.reboot_timeout_minutes
        self._pair_rate = rates.moves.get(PAIR, rates.node)
        self._groups: dict[tuple[str, ...], tuple[Group, ...]] = {}
        self._factor = 1.0

    def shaken(self) -> Cup:
        """Draw by how much planning figures are wrong this time."""
        self._factor = 1.0 if self._durations.certain else FACTOR.quantile(self._drawn())
        return self

    def _drawn(self) -> float:
        """Return a number above 0 and below 1: quantiles have no other ones."""
        return min(max(self._chance.random(), 1e-12), 1 - 1e-12)

    def first(self) -> dict[str, Fate]:
        """Return what happens to nodes at their first attempt; passes over those that nothing happens to at once."""
        fates: dict[str, Fate] = {}
        for odds, names in self._members:
            place = -1
            if odds.whole <= 0:
                continue
            while True:
                # How many nodes in a row pass is geometric.
                skipped = 0 if odds.whole >= 1 else int(math.log(self._drawn()) / math.log1p(-odds.whole))
                place += 1 + skipped
                if place >= len(names):
                    break
                fates[names[place]] = odds.pick(self._chance.random() * odds.whole)
        return fates

    def again(self, node: str) -> Fate | None:
        """Return what happens to a node at a further attempt."""
        odds = self._odds[node]
        drawn = self._chance.random()
        return odds.pick(drawn) if drawn < odds.whole else None

    def minutes(self, nodes: tuple[str, ...], fates: Mapping[str, Fate]) -> float:
        """Return how long a call takes: as long as its slowest node, turn by turn, and the calls around it."""
        groups = self._groups.get(nodes)
        if groups is None:
            groups = self._groups[nodes] = self._durations.groups(nodes)
        failing = Counter(self._cohort_of[name] for name in fates)
        calls = {group.cohort: self._call(group, group.nodes - failing[group.cohort]) for group in groups}
        for name, fate in sorted(fates.items()):
            group = next(g for g in groups if g.cohort == self._cohort_of[name])
            calls[group.cohort] = max(calls[group.cohort], self._until(group, fate))
        slowest = side_by_side(calls.values()) + max((self._handovers[g.cohort] for g in groups), default=0.0)
        around = self._durations.around
        return slowest + (around.quantile(self._drawn()) if around is not None else 0.0)

    def pair_fails(self, node: str) -> bool:
        """Draw whether the upgraded node of a pair fails with whoever waits."""
        return self._chance.random() < self._pair_rate

    def pair_minutes(self) -> float:
        """Draw how long one all-reduce of a pair takes."""
        return self._durations.pair.quantile(self._drawn(), self._factor)

    def _call(self, group: Group, passing: int) -> float:
        """Return the minutes of one cohort's nodes that pass, as many at a time as a call works on."""
        time, minutes = self._durations.time(group), 0.0
        for begun in range(0, passing, FORKS):
            minutes += time.quantile(self._drawn() ** (1 / min(FORKS, passing - begun)), self._factor)
        return minutes

    def _until(self, group: Group, fate: Fate) -> float:
        """Return the minutes until it is clear that a node has failed."""
        whole = self._durations.time(group).quantile(self._drawn(), self._factor)
        key = (group.cohort, group.pool)
        if key not in self._shares:
            command = self._durations.command(group)
            self._shares[key] = _shares(self._steps[group.cohort], command.mean(1.0) if command else 0.0)
        return whole * self._shares[key][fate.step] + (self._reboot_minutes if fate.kind is Kind.LOST else 0.0)


def _shares(steps: Sequence[Step], command: float) -> tuple[float, ...]:
    """Return the share of a path's time that has passed when each step, the gate and a pool's command have ended.

    The gate belongs to the last step; ``command`` is in minutes.
    """
    path = sum(step.minutes for step in steps)
    whole = path + command or 1
    passed, shares = 0, []
    for step in steps:
        passed += step.minutes
        shares.append(passed / whole)
    return (*shares, path / whole if command else 1.0, 1.0)
