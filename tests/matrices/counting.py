"""Does a rule count? Looks for states beside its own examples whose answer changes when the rule is removed.

Bounded and without chance: values come from releases, from the examples of all rules, and from beside the bounds in
the rule's own conditions. An answer is a set of findings without the rules' names, so a rule whose finding another one
gives as well does not count there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

from planner.check.domains import Members, judge_domains
from planner.check.evaluate import judge_coverage
from planner.check.judge import StateJudge
from planner.check.verdict import Judgement, Verdict
from planner.matrix.conditions import matches_value, wants_absence
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Across, Claim, Condition, Family, Lockstep, State
from planner.model.version import version_key

TRIES_MAX = 400          # states looked at for one rule
_WEIGHT = {"error": 3, "warning": 2, "info": 1}
_BOUND = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+~-]*")

Rule = Claim | Lockstep
Values = tuple[str, ...] | None          # None: not known
Finding = tuple[str, str, str, str, str, tuple[str, ...]]      # verdict, severity, cause, component, risk, values


@dataclass(frozen=True, slots=True)
class Proof:
    """A state for which a rule counts: by other values than its examples, or the same value in a whole stack."""

    how: str
    state: State


def finding(judged: Judgement) -> Finding:
    """Return what a person is told, whoever says it; a risk is what a target would have to accept."""
    if judged.verdict is Verdict.UNKNOWN:
        return (judged.verdict.value, judged.severity, judged.family, " ".join(judged.components), "", judged.values)
    return (judged.verdict.value, judged.severity, judged.root_cause, judged.at_fault, judged.risk, ())


def said_anyway(told: Finding, others: set[Finding]) -> bool:
    """Tell whether others find the same fault in the same component, at least as severe."""
    return any(o[0] == told[0] and o[2:] == told[2:] and _WEIGHT[o[1]] >= _WEIGHT[told[1]] for o in others)


class Counter:
    """Looks for proofs; everything that is the same for all rules is worked out once."""

    def __init__(self, matrices: MatrixSet, bases: Sequence[State]) -> None:
        self.matrices = matrices
        self.bases = bases
        self.tries = 0
        self._judge = StateJudge(matrices)
        self._rules: dict[str, Rule] = {r.name: r for r in (*matrices.claims, *matrices.lockstep)}
        self._redundant = frozenset(c.name for c in matrices.claims if c.redundant)
        self._models = {m.name: m for m in matrices.gpu_models}
        self._known = self._known_values()
        self._bounds = self._all_bounds()
        self._without: dict[str, tuple[Family, MatrixSet]] = {}

    def _known_values(self) -> dict[str, tuple[str, ...]]:
        pool: dict[str, dict[str, None]] = {}
        m = self.matrices
        states: list[State] = [s for r in (*m.claims, *m.lockstep) for s in (r.accepts, r.rejects)]
        states += [s for r in m.across for s in (*r.accepts, *r.rejects)]
        states += [{"gpu_model": (g.name,), "compute_capability": (g.compute_capability,), "gpu_class": (g.gpu_class,)}
                   for g in m.gpu_models]
        states += [{name: (release.version,)} for name, found in m.releases.items() for release in found]
        for state in states:
            for name, values in state.items():
                pool.setdefault(name, {}).update(dict.fromkeys(values))
        return {name: tuple(sorted(values, key=lambda v: (version_key(v), v))) for name, values in pool.items()}

    def _all_bounds(self) -> dict[str, tuple[str, ...]]:
        """Return the bounds that any rule draws: what lies beyond the newest release is found there."""
        found: dict[str, dict[str, None]] = {}
        for rule in self._rules.values():
            about = rule.when if isinstance(rule, Lockstep) else {**rule.if_, **rule.then}
            for name, condition in about.items():
                if not self.matrices.is_text(name):
                    bounds = (b for part in _parts(condition) for b in _BOUND.findall(part) if b[0].isdigit())
                    found.setdefault(name, {}).update(dict.fromkeys(bounds))
        return {name: tuple(sorted(values, key=version_key)) for name, values in found.items()}

    # -- one rule ------------------------------------------------------------------------------------------------

    def proof(self, rule: Rule) -> Proof | None:
        """Return a state for which the answer changes when the rule is removed, or None."""
        self._without.clear()
        for state in islice(self._candidates(rule), TRIES_MAX):
            if self.is_another(rule, state) and self.changes(rule, state):
                return Proof("other values", state)
        for state in islice(self._silenced(rule), TRIES_MAX):
            if self.is_another(rule, state) and self.changes(rule, state):
                return Proof("other values, where others keep quiet", state)
        for base in self.bases:
            for state in islice(self._candidates(rule), TRIES_MAX // 8):
                if self.is_another(rule, state) and self.changes(rule, {**base, **state}):
                    return Proof("other values, in a whole stack", {**base, **state})
        if self._speaks_elsewhere(rule):
            return None
        for base in self.bases:
            for example in (rule.rejects, rule.accepts):
                whole = {**base, **self.complete(example)}
                if example and self.changes(rule, whole):
                    return Proof("its one value, in a whole stack", whole)
        return None

    def _speaks_elsewhere(self, rule: Rule) -> bool:
        """Tell whether a rule finds fault with more than its example: then it is not about one value only."""
        return any(self.is_another(rule, state) and any(
            j.rule == rule.name and j.verdict is Verdict.UNSUPPORTED for j in self._judge.judge(state))
            for state in islice(self._candidates(rule), TRIES_MAX))

    def changes(self, rule: Rule, state: State) -> bool:
        """Tell whether the answer on a state changes when the rule is removed."""
        self.tries += 1
        judged = self._judge.judge(state)
        mine = {finding(j) for j in judged if j.rule == rule.name and j.verdict is not Verdict.SUPPORTED}
        others = {finding(j) for j in judged if j.rule not in {rule.name, *self._redundant}
                  and j.verdict is not Verdict.SUPPORTED}
        if any(not said_anyway(told, others) for told in mine):
            return True
        if isinstance(rule, Lockstep) or not self.matrices.families[rule.family].closed:
            return False
        if not any(j.rule == rule.name for j in judged):
            return False
        family, without = self._family_without(rule)
        return {finding(j) for j in judge_coverage(family, state, without)} != {
            finding(j) for j in judged if j.rule == family.name}

    def _family_without(self, rule: Claim) -> tuple[Family, MatrixSet]:
        if rule.name not in self._without:
            rest = tuple(c for c in self.matrices.claims if c.family == rule.family and c is not rule)
            self._without[rule.name] = (self.matrices.families[rule.family], replace(self.matrices, claims=rest))
        return self._without[rule.name]

    def is_another(self, rule: Rule, state: State) -> bool:
        """Tell whether a state differs from each example of the rule in a value that the rule reads."""
        return all(any(_key(state.get(name)) != _key(example.get(name)) for name in reads(rule))
                   for example in (rule.accepts, rule.rejects) if example)

    # -- states --------------------------------------------------------------------------------------------------

    def _candidates(self, rule: Rule) -> Iterator[State]:
        for parts in self._ways(rule):
            share = max(2, int(TRIES_MAX ** (1 / max(1, sum(len(v) > 1 for v in parts.values())))))
            for values in product(*(_spread(v, share) for v in parts.values())):
                state = {name: v for name, v in zip(parts, values, strict=True) if v is not None}
                yield self.complete(state)

    def _silenced(self, rule: Rule) -> Iterator[State]:
        """Yield states with one more fact, about which a rule that says as much says that it does not apply."""
        for state in islice(self._candidates(rule), TRIES_MAX // 8):
            judged = [j for j in self._judge.judge(state) if j.verdict is not Verdict.SUPPORTED]
            told = {(j.root_cause, j.at_fault) for j in judged if j.rule == rule.name}
            for other in (self._rules[j.rule] for j in judged if (j.root_cause, j.at_fault) in told):
                for name, condition in other.unless.items():
                    if name not in state:
                        yield from ({**state, name: v} for v in
                                    _spread(self.values(name, condition, meets=True), 4) if v is not None)

    def _ways(self, rule: Rule) -> Iterator[dict[str, list[Values]]]:
        """Yield the values to combine for each component: for a broken rule first, then for one that is met."""
        conditions = rule.when if isinstance(rule, Lockstep) else rule.if_
        about = {name: self.values(name, c, meets=True) for name, c in conditions.items()}
        spared: dict[str, list[Values]] = {
            name: [None, *self.values(name, c, meets=False)] for name, c in rule.unless.items()
            if name not in about}
        if isinstance(rule, Lockstep):
            members = {name: self.values(name, "*", meets=True) for name in rule.components}
            yield {**spared, **about, **members}
            return
        for broken in rule.then:
            other = {name: self.values(name, c, meets=name != broken) for name, c in rule.then.items()}
            yield {**spared, **self._both(about, other, rule)}
        met = {name: self.values(name, c, meets=True) for name, c in rule.then.items()}
        family = self.matrices.families[rule.family]
        against = {family.against: _spread([(v,) for v in self._known.get(family.against, ())], 6)} \
            if family.closed and family.against else {}
        yield {**spared, **against, **self._both(about, met, rule)}

    def _both(self, about: Mapping[str, list[Values]], other: Mapping[str, list[Values]],
              rule: Claim) -> dict[str, list[Values]]:
        """Join the values of ``if`` and ``then``; a component that both name has what is right for both."""
        joined = {**other, **about}
        for name in about.keys() & other.keys():
            many = self.matrices.is_many(name)
            alike = [v for v in about[name] if v in other[name]]
            joined[name] = alike or ([(*a, *b) for a in about[name] for b in other[name] if a and b] if many else [])
        return joined

    def values(self, name: str, condition: Condition, *, meets: bool) -> list[Values]:
        """Return values of a component that meet a condition (or do not): known ones first, then invented ones."""
        text = self.matrices.is_text(name)
        invented = [v for part in _parts(condition) for v in _beside(part, text=text)]
        found: list[Values] = []
        for value in dict.fromkeys((*self._known.get(name, ()), *invented, *self._bounds.get(name, ()))):
            if text and ("*" in value or not value):
                continue
            if matches_value(condition, value, text=text) is meets and not (not meets and condition == "present"):
                found.append((value,))
        if wants_absence(condition) is meets:
            found.append(())
        return found

    def complete(self, state: State) -> State:
        """Add what a GPU's model implies, as every reader of stacks does."""
        models = [m for name in state.get("gpu_model", ()) if (m := self._models.get(name))]
        if not models:
            return state
        return {"compute_capability": tuple(dict.fromkeys(m.compute_capability for m in models)),
                "gpu_class": tuple(dict.fromkeys(m.gpu_class for m in models)),
                "nvswitch": ("yes" if any(m.nvswitch for m in models) else "no",), **state}

    # -- rules across nodes --------------------------------------------------------------------------------------

    def proof_across(self, rule: Across) -> Proof | None:
        """Return what differs on a second node so that the answer changes when the rule is removed."""
        conditions = {name: self.values(name, c, meets=True) for name, c in rule.when.items()
                      if name != rule.component}
        wanted = rule.when.get(rule.component, "*")
        own = _spread(self.values(rule.component, wanted, meets=True), 12)
        for around in islice(product(*(_spread(v, 4) for v in conditions.values())), 16):
            shared = dict(zip(conditions, around, strict=True))
            for left, right in product(own, own):
                pair = [{**shared, rule.component: v} for v in (left, right) if v]
                if len(pair) == 2 and self._across_changes(rule, pair) and not self._is_example(rule, pair):
                    return Proof("other values", {rule.component: (*(left or ()), *(right or ()))})
        for base in self.bases:
            pair = [{**base, **state} for state in rule.rejects]
            if self._across_changes(rule, pair):
                return Proof("its one value, in a whole stack", pair[0])
        return None

    def _across_changes(self, rule: Across, pair: Sequence[State]) -> bool:
        members: Members = [(f"n{i}", state) for i, state in enumerate(pair)]
        judged = [j for _, j in judge_domains({(rule.domain, "d"): members}, self.matrices)]
        others = {finding(j) for j in judged if j.rule != rule.name}
        return any(not said_anyway(finding(j), others) for j in judged if j.rule == rule.name)

    def _is_example(self, rule: Across, pair: Sequence[State]) -> bool:
        mine = {_key(s[rule.component]) for s in pair}
        return any(mine == {_key(s.get(rule.component)) for s in example} for example in (rule.accepts, rule.rejects))


def reads(rule: Rule) -> tuple[str, ...]:
    """Return the components that a rule looks at."""
    if isinstance(rule, Lockstep):
        return tuple(dict.fromkeys((*rule.when, *rule.components, *rule.unless)))
    return tuple(dict.fromkeys((*rule.if_, *rule.then, *rule.unless)))


def _key(values: Values) -> object:
    return None if values is None else frozenset(version_key(v) for v in values)


def _parts(condition: Condition) -> tuple[str, ...]:
    return condition if isinstance(condition, tuple) else (condition,)


def _beside(condition: str, *, text: bool) -> Iterator[str]:
    """Yield invented values: what a glob means, or versions at and next to the bounds of a range."""
    if condition in ("present", "absent", "*"):
        return
    if text:
        plain = condition.replace("?", "1")
        yield from (plain.replace("*", ""), plain.replace("*", "x"), plain.replace("*", "-2"))
        return
    for bound in _BOUND.findall(condition):
        yield bound
        yield bound + ".1"
        head, _, last = bound.rpartition(".")
        if last.isdigit():
            yield from (f"{head}.{n}".lstrip(".") for n in (int(last) + 1, int(last) - 1) if n >= 0)


def _spread(values: Sequence[Values], most: int) -> list[Values]:
    """Return at most so many values, from the whole length of a list."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
