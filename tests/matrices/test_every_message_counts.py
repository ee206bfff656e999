"""Removing any message changes an answer, and every cause of a message is the answer for some facts or words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product

import pytest

from planner.check.evaluate import judge_claim, judge_lockstep
from planner.check.verdict import Verdict
from planner.explain.rank import Explanation, explain
from planner.explain.text import clean_lines, find
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Across, Cause, Claim, Evidence, Lockstep, Signature, State
from planner.stack.schema import Described, Stack, View
from tests.matrices.counting import Counter
from tests.matrices.patterns import text_for

RULES_MAX = 4        # broken rules tried for one cause
KEPT_MAX = 3         # rules for other causes that are kept, and so speak against these
# Patterns that are held to the start of a line on purpose, because the words alone are too common.
HELD: frozenset[str] = frozenset({"nvidia-smi-no-devices"})

FORMS: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "timestamp": lambda text: "\n".join(f"2026-11-26T15:36:20.123Z gpu-17 {line}" for line in text.splitlines()),
}


def answer(told: Explanation) -> object:
    return [(c.root_cause, c.confidence, c.fix) for c in told.causes], told.missing_facts


def counts(signature: Signature, message: str, matrices: MatrixSet) -> bool:
    """Tell whether the answer to a message changes without a signature; only those that match can matter."""
    matching = tuple(m.signature for m in find(clean_lines(message), matrices.signatures, matrices.needed_words))
    if signature not in matching:
        return False
    rest = tuple(s for s in matching if s is not signature)
    small = replace(matrices, claims=(), lockstep=(), across=(), families={})
    return answer(explain(message, None, replace(small, signatures=matching))) != answer(
        explain(message, None, replace(small, signatures=rest)))


@pytest.mark.parametrize("form", FORMS)
def test_removing_a_message_changes_an_answer(form: str, shipped: MatrixSet) -> None:
    idle = [s.name for s in shipped.signatures
            if not any(counts(s, FORMS[form](example), shipped) for example in s.examples)]
    assert set(idle) - (HELD if form == "timestamp" else frozenset()) == set()


class Attempts:
    """Words and facts under which a cause should be the answer."""

    def __init__(self, matrices: MatrixSet) -> None:
        self.matrices = matrices
        self.values = Counter(matrices, ()).values

    def of(self, cause: Cause, signature: Signature) -> Iterator[tuple[str, Sequence[State]]]:
        """Yield words to add, and states: none, each evidence, all of it, a broken rule, each with all evidence."""
        mine = [e for e in cause.evidence if e.times > 1]
        others = [c for c in signature.causes if c.root_cause != cause.root_cause]
        against = [e for c in others for e in c.evidence if e.times < 1]
        kept = [state for c in sorted(others, key=lambda c: -c.prior) for state in islice(self._kept(c), 2)][:KEPT_MAX]
        for pieces in ([], *([e] for e in mine), mine, [*mine, *against]):
            words, facts = self._said(pieces)
            broken = [{}, *islice(self._broken(cause), RULES_MAX)]
            for good, bad in product([{}, *kept], broken):
                state = {**facts, **good, **bad}
                yield words, (state,) if state else ()
            for rule in self._across(cause):
                yield words, tuple({**facts, **member} for member in rule.rejects)

    def _said(self, pieces: Sequence[Evidence]) -> tuple[str, State]:
        words = [text for e in pieces if e.text and (text := text_for(e.text))]
        facts: dict[str, tuple[str, ...]] = {}
        for piece in pieces:
            for name, condition in piece.facts.items():
                found = next((v for v in self.values(name, condition, meets=True) if v is not None), None)
                if found is not None:
                    facts.setdefault(name, found)
        return "\n".join(words), facts

    def something_speaks_for(self, cause: Cause) -> bool:
        """Tell whether a cause has evidence; families without a rule about this very cause are none."""
        return bool(cause.evidence or self._rules(cause) or self._across(cause))

    def _across(self, cause: Cause) -> list[Across]:
        return [r for r in self.matrices.across
                if r.family in cause.judged_by and r.root_cause in ("", cause.root_cause)]

    def _rules(self, cause: Cause) -> list[Claim | Lockstep]:
        rules = [r for r in (*self.matrices.claims, *self.matrices.lockstep)
                 if r.family in cause.judged_by and r.root_cause in ("", cause.root_cause) and r.rejects]
        return sorted(rules, key=lambda r: ("error", "warning", "info").index(r.severity))

    def _broken(self, cause: Cause) -> Iterator[State]:
        """Yield states in which a rule that speaks for the cause is broken, the gravest first."""
        yield from (r.rejects for r in self._rules(cause) if self._finds(r, r.rejects, Verdict.UNSUPPORTED))

    def _kept(self, cause: Cause) -> Iterator[State]:
        """Yield states in which a rule that speaks for the cause holds."""
        yield from (r.accepts for r in self._rules(cause) if self._finds(r, r.accepts, Verdict.SUPPORTED))

    def _finds(self, rule: Claim | Lockstep, state: State, verdict: Verdict) -> bool:
        judged = [judge_lockstep(rule, state, self.matrices)] if isinstance(rule, Lockstep) else [
            *judge_claim(rule, state, self.matrices)]
        return any(j is not None and j.verdict is verdict for j in judged)


def standing(cause: Cause, signature: Signature, attempts: Attempts) -> str:
    """Return what facts and words can make of a cause: ``first``, ``raised``, or ``second`` whatever is known."""
    families = {f for c in signature.causes for f in c.judged_by}
    matrices = attempts.matrices
    told_apart = tuple(c.model_copy(update={"summary": f"cause {i}"}) for i, c in enumerate(signature.causes))
    small = replace(
        matrices, signatures=(signature.model_copy(update={"causes": told_apart}),), families={},
        across=tuple(r for r in matrices.across if r.family in families),
        claims=tuple(c for c in matrices.claims if c.family in families),
        lockstep=tuple(g for g in matrices.lockstep if g.family in families))
    mine = f"cause {signature.causes.index(cause)}"
    shares = []
    for words, states in attempts.of(cause, signature):
        stack = Stack(tuple(Described(f"m{i}", (View(f"m{i}", s),)) for i, s in enumerate(states))) if states else None
        for example in signature.examples:
            told = explain(f"{example}\n{words}", stack, small).causes
            if told[0].summary == mine:
                return "first"
            shares.append(next((c.confidence for c in told if c.root_cause == cause.root_cause), 0.0))
    plain = signature.strength * cause.prior / sum(c.prior for c in signature.causes) / (signature.strength + 0.12)
    return "raised" if max(shares) > min(shares[0], plain) + 0.005 else "second"


def test_every_cause_can_come_first(shipped: MatrixSet, capsys: pytest.CaptureFixture[str]) -> None:
    """Facts or words make a cause the answer, or likelier; a rare one that nothing speaks for may stay second."""
    attempts = Attempts(shipped)
    tally: dict[str, list[str]] = {"first": [], "raised": [], "second": []}
    idle = []
    for signature in shipped.signatures:
        highest = max(c.prior for c in signature.causes)
        for cause in signature.causes:
            found = standing(cause, signature, attempts)
            tally[found].append(f"{signature.name}: {cause.root_cause}")
            if found == "second" and (attempts.something_speaks_for(cause) or cause.prior >= highest):
                idle.append(f"{shipped.files[signature.name]}: {tally[found][-1]}: {cause.summary}")
    with capsys.disabled():
        print("\ncauses:", ", ".join(f"{name}: {len(found)}" for name, found in tally.items()))
        print("never first:", "; ".join(tally["raised"]))
    assert idle == [], "their evidence changes nothing: mend it or leave it out"
    assert len(tally["first"]) >= 0.75 * sum(map(len, tally.values()))


def test_evidence_can_be_written(shipped: MatrixSet) -> None:
    """For every pattern of evidence there is a text in which it is found: none is impossible."""
    patterns = {e.text for s in shipped.signatures for c in s.causes for e in c.evidence if e.text}
    assert sorted(p for p in patterns if text_for(p) is None) == []


def test_rules_that_a_cause_names_speak_of_it(shipped: MatrixSet) -> None:
    """A family without a rule about the cause has no effect; one between nodes tells where nodes differ."""
    spoken: dict[str, set[str]] = {}
    for rule in (*shipped.claims, *shipped.lockstep, *shipped.across):
        spoken.setdefault(rule.family, set()).add(rule.root_cause)
    between = {rule.family for rule in shipped.across}
    idle = [f"{s.name}: {c.root_cause}: {family}"
            for s in shipped.signatures for c in s.causes for family in c.judged_by
            if family not in between and not spoken.get(family, set()) & {"", c.root_cause}]
    assert idle == []
