"""How a rollout goes when some nodes fail: the engine's decisions, played fast enough for thousands of rollouts.

Pure. The rules are those of ``decide``: batches as far as pools have room, whole NVLink domains, canaries that stop at
the first failure, the failure budget, the breaker for lost nodes, pairs of half upgraded domains, soaks. A test plays
both against each other. Batches that nothing has happened to are taken from a list made once; only what is near a
failure is worked out node by node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from planner.execute.course_pairs import PairCourse, Verdict, play_series
from planner.execute.decide import LOST_BREAKER, failure_budget
from planner.execute.states import start_state
from planner.execute.trial import Dice, End, Fate, Kind, Person, Trial
from planner.gates.multi_node import Attempt, pairing
from planner.schedule.estimate import gpu_count
from planner.schedule.opening import first_opening, has_windows, opening
from planner.schedule.plan import Plan


@dataclass(frozen=True, slots=True)
class _Call:
    nodes: tuple[str, ...]
    gpus: int


class Course:
    """One plan, ready to be played."""

    def __init__(self, plan: Plan, begin: datetime | None = None) -> None:
        """Prepare a plan; ``begin`` is when it starts, at its first maintenance window by default."""
        state = start_state(plan)
        self.begin = (begin or first_opening(plan)) if has_windows(plan) else None
        self.worst = {b.id: b.minutes for w in plan.waves for b in w.batches}
        cohorts = {c.id: c for c in plan.cohorts}
        self.plan, self.moving = plan, frozenset(state.nodes)
        self.budget = failure_budget(plan, state)
        self.gpus = {name: gpu_count(cohorts[plan.nodes[name].cohort]) for name in state.nodes}
        self.limits = {name: _limits_of(plan, name) for name in state.nodes}
        self.early = frozenset(w.id for w in plan.waves if w.kind in ("staging", "canary"))
        self.wave_of = {name: status.wave for name, status in state.nodes.items()}
        self.waves = [w for w in plan.waves if any(n in self.moving for b in w.batches for n in b.nodes)]
        self.down = frozenset(name for limit in plan.pools.values() for name in limit.already_down)
        self.down_counts = Counter(what for name in self.down for what, _ in _limits_of(plan, name))
        self.pairs = PairCourse(plan, self.moving)
        self.mates: dict[str, tuple[str, ...]] = {}
        self.batches: dict[str, tuple[str, ...]] = {}
        self.batch_of: dict[str, str] = {}
        self.usual: dict[str, tuple[_Call, ...]] = {}
        for batch in (b for w in self.waves for b in w.batches):
            nodes = tuple(sorted(n for n in batch.nodes if n in self.moving))
            units = self._units(nodes)
            self.mates |= {name: unit for unit in units for name in unit if plan.nodes[name].nvlink_domain}
            self.batches[batch.id] = nodes
            self.batch_of |= dict.fromkeys(nodes, batch.id)
            self.usual[batch.id] = self._usual(units)

    def _units(self, nodes: Iterable[str]) -> list[tuple[str, ...]]:
        units: dict[str, list[str]] = {}
        for name in nodes:
            domain = self.plan.nodes[name].nvlink_domain
            units.setdefault(f"domain {domain}" if domain else f"node {name}", []).append(name)
        return [tuple(members) for members in units.values()]

    def _usual(self, units: list[tuple[str, ...]]) -> tuple[_Call, ...]:
        """Return the calls of a batch while nothing is away but what is down; empty where there is no room for it."""
        calls, left = [], units
        while left:
            counts, away = Counter(self.down_counts), set(self.down)
            taken = [unit for unit in left if self.take(unit, counts, away)]
            if not taken:
                return ()
            nodes = tuple(sorted(n for unit in taken for n in unit))
            calls.append(_Call(nodes, sum(self.gpus[n] for n in nodes)))
            gone = set(taken)
            left = [unit for unit in left if unit not in gone]
        return tuple(calls)

    def take(self, unit: Iterable[str], counts: Counter[str], away: set[str]) -> bool:
        """Count a unit out of service if the pools and failure domains have room for it, and tell whether they had."""
        new = [name for name in unit if name not in away]
        if len(new) == 1:
            limits = self.limits[new[0]]
            if any(limit is not None and counts[what] >= limit for what, limit in limits):
                return False
            for what, _ in limits:
                counts[what] += 1
            away.add(new[0])
            return True
        after = Counter(what for name in new for what, _ in self.limits[name])
        if any(limit is not None and counts[what] + after[what] > limit
               for name in new for what, limit in self.limits[name]):
            return False
        counts.update(after)
        away.update(new)
        return True

    def counts(self, away: Iterable[str]) -> Counter[str]:
        """Return how many of some nodes count against which limit."""
        return Counter(what for name in away for what, _ in
                       (self.limits[name] if name in self.limits else _limits_of(self.plan, name)))

    def with_room(self, nodes: Iterable[str], away: set[str]) -> tuple[str, ...]:
        """Return as many of these nodes, sorted, as may be away at once now; whole NVLink domains only."""
        counts, after, taken = self.counts(away), set(away), list[str]()
        for unit in self._units(sorted(nodes)):
            if self.take(unit, counts, after):
                taken += unit
        return tuple(sorted(taken))

    def play(self, dice: Dice, person: Person | None = None, *, trace: bool = False) -> Trial:
        """Play one rollout to its end."""
        return _Play(self, dice, person or Person(), trace=trace).run()


def _limits_of(plan: Plan, name: str) -> tuple[tuple[str, int | None], ...]:
    """Return what a node counts against, and how much of that its pool allows; None: as much as others allow."""
    node = plan.nodes.get(name)
    pool = node.pool if node else next((p for p, limit in plan.pools.items() if name in limit.already_down), "")
    limit = plan.pools.get(pool)
    if limit is None:
        return ()
    found: list[tuple[str, int | None]] = [(f"pool {pool}", limit.max_unavailable)]
    if domain := node.failure_domain if node is not None else (limit.down_domains or {}).get(name, ""):
        found.append((f"domain {domain}", limit.max_unavailable_per_domain))
    return tuple(found)


class _Play:
    """One rollout under way. ``broken`` holds failed, lost and unreachable nodes, ``waiting`` those that passed and
    whose NVLink domain has not; ``out_since`` tells since when nodes that were not given back are away.
    """

    def __init__(self, course: Course, dice: Dice, person: Person, *, trace: bool) -> None:
        self._course, self._dice, self._person, self._trace = course, dice, person, trace
        self._first = dice.first()
        self._touched = {name for name in self._first if name in course.moving}
        self._trial, self._done, self._started = Trial(), set[str](), 0
        self._broken: dict[str, Kind] = {}
        self._waiting: set[str] = set()
        self._out_since: dict[str, float] = {}
        self._tries: Counter[str] = Counter()
        self._whole: set[str] = set()          # batches that were taken from the list
        self._soaked: set[str] = set()         # waves that were closed once
        self._ended: dict[str, float] = {}     # wave -> minute at which its last batch ended
        self._approved: set[str] = set()       # waves that somebody let pass because of their pairs
        self._failed_pairs: Counter[str] = Counter()           # wave -> how often pairs of it failed
        self._settled: set[tuple[str, str]] = set()            # wave, domain: nothing more is asked of its pairs
        self._attempts: list[Attempt] = []
        self._again: dict[tuple[str, str], tuple[str, str]] = {}      # with which pair a failed series began
        self._as_expected = True               # so far the pairs were those of the forecast

    def run(self) -> Trial:
        """Go on until the end, answering stops as often as the person does."""
        while (end := self._pass()) is not None:
            self._trial.stops += 1
            if not (self._answer_pair() if end is End.PAIR_FAILED else self._answer()):
                return self._end(end)
        if any(kind is Kind.UNREACHABLE for kind in self._broken.values()):
            self._trial.stops += 1
            return self.run() if self._answer() else self._end(End.UNREACHABLE)
        return self._end(End.WITH_FAILURES if self._broken else End.FINISHED)

    def _pass(self) -> End | None:
        """Go through all waves from the first; return why it stopped, None at the end of the last one."""
        for wave in self._course.waves:
            for batch in wave.batches:
                if (end := self._batch(wave.id, batch.id)) is not None:
                    return end
            if wave.id not in self._soaked:
                ended = self._ended.setdefault(wave.id, self._trial.minutes)
                if (end := self._pairs(wave.id)) is not None:
                    return end
                self._soaked.add(wave.id)
                asked = wave.approval and wave is not self._course.waves[-1] and wave.id not in self._approved
                self._trial.minutes = max(self._trial.minutes, ended + wave.soak_minutes)
                self._trial.minutes += self._person.approval_minutes if asked else 0
        return None

    def _pairs(self, wave: str) -> End | None:
        """Try a pair of each domain that a wave leaves mixed, while it soaks."""
        failed, unclear = False, []
        for domain in self._course.pairs.domains.get(wave, ()):
            if (wave, domain) in self._settled:
                continue
            verdict = self._series(wave, domain)
            if verdict is Verdict.BAD:
                failed = True
                self._seen(wave, 1)
            elif verdict is Verdict.UNCLEAR:
                unclear.append((wave, domain))
            else:
                self._settled.add((wave, domain))
        if failed:
            self._failed_pairs[wave] += 1
            return End.PAIR_FAILED
        if unclear:       # nothing failed: somebody lets the rollout go on, which is the wave's approval, too
            self._trial.stops += 1
            self._trial.minutes += self._person.answer_minutes
            self._settled.update(unclear)
            self._approved.add(wave)
        return None

    def _series(self, wave: str, domain: str) -> Verdict | None:
        """Let the pairs of a domain happen; None where the wave changed nothing there, or nothing of it waits."""
        pairs, quiet = self._course.pairs, not self._broken and not self._waiting and self._as_expected

        def sides() -> tuple[list[str], list[str]]:
            return pairs.halves(wave, domain, self._is_done, {*self._broken, *self._waiting})

        first = self._again.get((wave, domain)) or (pairs.expected(wave, domain) if quiet else None)
        if first is None:
            first = pairing(*sides(), self._attempts)
            self._as_expected = False
        if first is None:
            return None
        verdict = play_series(first, sides, self._attempts, fails=lambda: self._dice.pair_fails(first[0]),
                              attempt=lambda nodes: self._attempt(wave, nodes))
        if verdict is Verdict.BAD:
            self._again[wave, domain], self._as_expected = first, False
        return verdict

    def _attempt(self, wave: str, nodes: tuple[str, str]) -> bool:
        """Let one pair happen, if it has room and a window."""
        course, trial = self._course, self._trial
        away = self._away()
        if not course.take(nodes, course.counts(away), away):
            return False
        if course.begin is not None:
            now = course.begin + timedelta(minutes=trial.minutes)
            if (start := opening(course.plan, nodes, now, course.pairs.minutes)) is None:
                return False
            trial.minutes += (start - now).total_seconds() / 60
        if self._trace:
            trial.calls.append((wave, nodes))
        minutes = self._dice.pair_minutes()
        trial.minutes += minutes
        trial.gpu_minutes += minutes * sum(course.gpus[n] for n in nodes)
        return True

    def _is_done(self, node: str) -> bool:
        return node in self._done or self._course.batch_of[node] in self._whole

    def _seen(self, wave: str, failures: int) -> None:
        """Count attempts that failed; the first of all is told apart."""
        self._trial.failures += failures
        self._trial.exposed = self._trial.exposed or self._started
        self._trial.seen_in = self._trial.seen_in or wave

    def _batch(self, wave: str, batch: str) -> End | None:
        course, nodes = self._course, self._course.batches[batch]
        if batch in self._whole:
            return None
        usual = course.usual[batch]
        if usual and not self._out_since and self._touched.isdisjoint(nodes) and self._done.isdisjoint(nodes):
            for call in usual:
                if not self._opened(batch, call.nodes):
                    return End.NO_WINDOW
                self._quiet(wave, call)
            self._whole.add(batch)
            return None
        new = [n for n in nodes if n not in self._done and n not in self._waiting and n not in self._broken]
        while new:
            # Between preflight and change nothing happens here, so what one may take the other may.
            taken = usual[0].nodes if usual and len(new) == len(nodes) and not self._out_since else self._with_room(new)
            if not taken:
                return End.NO_ROOM
            taken = self._begun_alone(batch, taken)
            if not self._opened(batch, taken):
                return End.NO_WINDOW
            self._change(wave, taken, {n: fate for n in taken if (fate := self._fate(n)) is not None})
            if (end := self._stop()) is not None:
                return end
            left = set(new).difference(taken)
            new = [n for n in new if n in left]
        return None

    def _opened(self, batch: str, nodes: tuple[str, ...]) -> bool:
        """Wait for the maintenance windows of these nodes, and tell whether they are long enough."""
        course, begun = self._course, self._begun(nodes)
        fresh = [n for n in nodes if n not in begun]
        if course.begin is None or not fresh:
            return True
        now = course.begin + timedelta(minutes=self._trial.minutes)
        start = opening(course.plan, fresh, now, course.worst[batch])
        if start is not None:
            self._trial.minutes += (start - now).total_seconds() / 60
        return start is not None

    def _begun_alone(self, batch: str, nodes: tuple[str, ...]) -> tuple[str, ...]:
        """Return those that are away already where the others would have to wait for a window, else all."""
        course, begun = self._course, self._begun(nodes)
        fresh = [n for n in nodes if n not in begun]
        if course.begin is None or not begun or not fresh:
            return nodes
        now = course.begin + timedelta(minutes=self._trial.minutes)
        waits = opening(course.plan, fresh, now, course.worst[batch]) != now
        return tuple(n for n in nodes if n in begun) if waits else nodes

    def _begun(self, nodes: Iterable[str]) -> set[str]:
        """Return nodes that are out of service already, with the whole NVLink domains of such."""
        if not self._out_since:
            return set()
        planned, begun = self._course.plan.nodes, {n for n in nodes if n in self._out_since}
        domains = {planned[n].nvlink_domain for n in begun} - {""}
        return begun | {n for n in nodes if planned[n].nvlink_domain in domains}

    def _away(self) -> set[str]:
        return set(self._out_since) | {n for n in self._course.down if n not in self._done}

    def _with_room(self, nodes: list[str]) -> tuple[str, ...]:
        return self._course.with_room(nodes, self._away())

    def _fate(self, node: str) -> Fate | None:
        self._tries[node] += 1
        return self._first.get(node) if self._tries[node] == 1 else self._dice.again(node)

    def _quiet(self, wave: str, call: _Call) -> None:
        """Let a call happen in which everybody passes, while nobody else is away."""
        if self._trace:
            self._trial.calls.append((wave, call.nodes))
        minutes = self._dice.minutes(call.nodes, {})
        self._started += len(call.nodes)
        self._trial.minutes += minutes
        self._trial.gpu_minutes += call.gpus * minutes
        if self._course.down:
            self._done.update(call.nodes)      # what was down and is done is not away any more

    def _change(self, wave: str, nodes: tuple[str, ...], fates: Mapping[str, Fate]) -> None:
        """Let a call happen, and give back what has passed."""
        trial, begin = self._trial, self._trial.minutes
        if self._trace:
            trial.calls.append((wave, nodes))
        self._started += sum(n not in self._out_since for n in nodes)
        trial.minutes += self._dice.minutes(nodes, fates)
        for name in nodes:
            self._out_since.setdefault(name, begin)
        for name, fate in fates.items():
            self._broken[name] = fate.kind
        self._waiting.update(n for n in nodes if n not in fates)
        if fates:
            self._seen(wave, len(fates))
        self._give_back()

    def _give_back(self) -> None:
        for name in sorted(self._waiting):
            mates = self._course.mates.get(name, ())
            if all(m in self._done or m in self._waiting for m in mates):
                self._done.add(name)
                self._trial.gpu_minutes += self._course.gpus[name] * (self._trial.minutes - self._out_since.pop(name))
        self._waiting -= self._done

    def _stop(self) -> End | None:
        """Return the stop that broken nodes ask for."""
        failed = [n for n, kind in self._broken.items() if kind is not Kind.UNREACHABLE]
        unknown = len(self._broken) - len(failed)
        if sum(kind is Kind.LOST for kind in self._broken.values()) >= LOST_BREAKER:
            return End.NODES_LOST
        course = self._course
        if len(failed) > course.budget or any(course.wave_of[n] in course.early for n in failed):
            return End.HALTED
        early = any(course.wave_of[n] in course.early for n in self._broken)
        return End.UNREACHABLE if unknown and (early or len(self._broken) > course.budget) else None

    def _answer(self) -> bool:
        """Let a person try all broken nodes again, unless there is none or one was tried often enough."""
        if not self._broken or any(self._tries[n] > self._person.retries for n in self._broken):
            return False
        self._trial.minutes += self._person.answer_minutes
        self._broken.clear()
        return True

    def _answer_pair(self) -> bool:
        """Let a person mend what a pair has shown, and try it again, unless that was done often enough."""
        if max(self._failed_pairs.values()) > self._person.retries:
            return False
        self._trial.minutes += self._person.answer_minutes
        return True

    def _end(self, end: End) -> Trial:
        trial, gpus = self._trial, self._course.gpus
        trial.end, trial.broken, trial.changed = end, len(self._broken), self._started
        trial.gpu_minutes += sum(gpus[n] * (trial.minutes - since) for n, since in self._out_since.items())
        return trial
