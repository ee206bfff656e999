"""Ranks causes of a message: shares of each cause among all reports, moved by facts, by rules and by other words.

Odds multiply: a fact that makes a cause five times as likely counts five. Rules of the matrices speak where a cause
names families of them: a broken rule proves the cause, kept rules speak against it. A rule between nodes says more
than its severity: nodes that differ are rare, and where some work and others do not, what differs is where to look.
What people say (``spoken``) decides alone, with more doubt, and weighs little beside a line that a program wrote.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.check.fleet import finding_of
from planner.check.stack import judge_views
from planner.check.verdict import Judgement, Verdict
from planner.explain.text import Match, clean_lines, compiled, find
from planner.matrix.conditions import holds
from planner.matrix.index import MatrixSet
from planner.matrix.schema import Cause, Condition, State
from planner.stack.schema import Stack

_PROVED = {"error": 12.0, "warning": 3.0, "info": 1.2}
_PROVED_BETWEEN = 6.0        # at least, for a rule between nodes of warning severity
_RESULTS_DIFFER = 4.0        # for causes between nodes, where some nodes work and others do not
_KEPT = 0.2                  # rules that speak for the cause are known to hold
_ELSEWHERE = 0.25            # weight of a proved conflict that no matched message speaks of
_BESIDE = 0.12               # … of a conflict that is likely only, and of nodes that differ
_FULL = 1.0                  # strength of a line that a program wrote about one thing
_BESIDE_A_LINE = 0.3         # what people say weighs this much where a program's own line stands
_DOUBT = 0.12                # what stays open whatever is known
_DOUBT_OF_WORDS = 0.45       # … where nothing but people's own words is known: no line of a program, no fact
_CERTAIN = 0.97
_ASKED_FROM = 0.08           # causes below this share need no facts
_QUESTIONS_MAX = 6
_OTHER = "other"
# Where no message is known and every rule about the machine holds: it is worth saying that versions are not to blame.
_ELSE = (
    ("valid_combo", 0.30, "The versions fit each other as far as they are known: look elsewhere",
     "compare with a machine where it works (planner diff), and run the failing program with its own diagnostics on"),
    ("user_bug", 0.25, "The program, its input or the way it was started may be at fault",
     "reproduce it with the smallest input, and with a known good program on the same GPU"),
    ("hardware_fault", 0.15, "The machine itself may be at fault",
     "read the kernel's log for errors of this device, and run the same program on another device"),
)
_PREPOSITIONS = frozenset({"of", "by", "than", "for", "with", "to", "from", "on", "in", "and", "that", "refuses"})


@dataclass(frozen=True, slots=True)
class Explained:
    """One cause, ready to be told."""

    root_cause: str
    confidence: float
    summary: str
    why: tuple[str, ...]
    fix: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """A fact that would decide, and how it is read."""

    fact: str
    how_to_read_it: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer: best cause first."""

    causes: tuple[Explained, ...]
    missing_facts: tuple[Missing, ...]
    matched: tuple[str, ...] = ()


@dataclass
class _Known:
    """What is known of the machines: their states, and what the rules say about them."""

    states: list[State]
    judgements: Sequence[Judgement]
    text: str
    between: frozenset[str] = frozenset()               # names of rules between nodes
    families_between: frozenset[str] = frozenset()      # their families, where nodes do not see the same result
    broken: Mapping[str, list[Judgement]] = field(default_factory=dict)      # family -> judgements
    kept: frozenset[tuple[str, str]] = frozenset()      # family and cause of rules that hold, none of them broken

    def __post_init__(self) -> None:
        broken: dict[str, list[Judgement]] = defaultdict(list)
        for judged in self.judgements:
            if judged.verdict is Verdict.UNSUPPORTED:
                broken[judged.family].append(judged)
        self.broken = broken
        self.kept = frozenset((j.family, j.root_cause) for j in self.judgements
                              if j.verdict is Verdict.SUPPORTED and j.family not in broken)


def explain(message: str, stack: Stack | None, matrices: MatrixSet) -> Explanation:
    """Rank the causes of a message.

    Args:
        message: Any text: a line, a traceback, a log.
        stack: What is known of the machines; None: nothing.
        matrices: Signatures and rules.
    """
    lines = clean_lines(message)
    matches = tuple(find(lines, matrices.signatures, matrices.needed_words))
    known = _known(matches, stack, "\n".join(lines), matrices)
    scores: dict[str, float] = defaultdict(float)
    best: dict[str, tuple[float, Explained]] = {}
    asked: dict[str, float] = defaultdict(float)
    full = any(match.signature.strength >= _FULL and not match.signature.spoken for match in matches)
    for match in matches:
        strength = match.signature.strength
        if full and match.signature.spoken:
            strength *= _BESIDE_A_LINE
        odds = [(cause, *_odds(cause, known, matrices)) for cause in match.signature.causes]
        total = sum(value for _, value, _ in odds) or 1.0
        for cause, value, reasons in odds:
            share = strength * value / total
            scores[cause.root_cause] += share
            if share > best.get(cause.root_cause, (0.0, None))[0]:
                best[cause.root_cause] = (share, _told(cause, reasons, match, known, matrices))
            if value / total >= _ASKED_FROM and len(odds) > 1:
                for name in _wanted(cause, known):
                    asked[name] += share
    _add_conflicts(scores, best, known, bool(matches), matrices)
    only_words = stack is None and bool(matches) and all(match.signature.spoken for match in matches)
    return Explanation(_ranked(scores, best, _DOUBT_OF_WORDS if only_words else _DOUBT), _missing(asked, matrices),
                       tuple(match.signature.name for match in matches))


def _known(matches: Sequence[Match], stack: Stack | None, text: str, matrices: MatrixSet) -> _Known:
    said: dict[str, tuple[str, ...]] = {
        name: (value,) for match in reversed(matches) for name, value in match.facts if name in matrices.components}
    if stack is None:
        states: list[State] = [said] if said else []
        views = [("the message", said)] if said else []
        return _Known(states, judge_views(views, matrices), text)
    between = frozenset(rule.name for rule in matrices.across)
    differ = len({m.result.strip().lower() for m in stack.machines if m.result.strip()}) > 1
    families = frozenset(rule.family for rule in matrices.across) if differ else frozenset[str]()
    # What the message says fills gaps; what a person has stated stands.
    views = [(v.subject, {**said, **v.state}) for v in stack.views]
    members = [(m.name, {**said, **m.views[0].state}) for m in stack.machines]
    return _Known([state for _, state in views], judge_views(views, matrices, members, stack.domains), text,
                  between, families)


def _odds(cause: Cause, known: _Known, matrices: MatrixSet) -> tuple[float, list[str]]:
    value, reasons = cause.prior, []
    for evidence in cause.evidence:
        if evidence.text and not compiled(evidence.text).search(known.text):
            continue
        if evidence.facts and not _all_hold(evidence.facts, known.states, matrices):
            continue
        value *= evidence.times
        if evidence.because:
            reasons.append(evidence.because)
    broken = [j for family in cause.judged_by for j in known.broken.get(family, ())
              if j.root_cause in ("", cause.root_cause)]
    if broken:
        strongest = max(broken, key=lambda j: _proof(j, known))
        value *= _proof(strongest, known)
        reasons.append(strongest.statement)
    elif any((family, root) in known.kept for family in cause.judged_by for root in ("", cause.root_cause)):
        # A rule of the family that is about another cause says nothing of this one.
        value *= _KEPT
    elif known.families_between.intersection(cause.judged_by):
        value *= _RESULTS_DIFFER
        reasons.append("the nodes do not all see the same result")
    return value, reasons


def _proof(judged: Judgement, known: _Known) -> float:
    """Return how many times as likely a broken rule makes the cause that it speaks of."""
    plain = _PROVED[judged.severity]
    return max(plain, _PROVED_BETWEEN) if judged.rule in known.between and judged.severity == "warning" else plain


def _all_hold(conditions: Mapping[str, Condition], states: Sequence[State], matrices: MatrixSet) -> bool:
    """Tell whether any state is known to meet all conditions."""
    return any(all(holds(c, name, state, text=matrices.is_text(name)) for name, c in conditions.items())
               for state in states)


def _told(cause: Cause, reasons: Sequence[str], match: Match, known: _Known, matrices: MatrixSet) -> Explained:
    source = matrices.source_of(match.signature.name, match.signature.provenance)
    rules = [matrices.source_of(j.rule, j.provenance) for family in cause.judged_by
             for j in known.broken.get(family, ()) if j.provenance and j.root_cause in ("", cause.root_cause)]
    return Explained(cause.root_cause, 0.0, _filled(cause.summary, known),
                     (f"the message: {match.line}", *(_filled(step, known) for step in cause.why), *reasons),
                     _filled(cause.fix, known), tuple(dict.fromkeys((source, *rules))))


def _filled(template: str, known: _Known) -> str:
    """Put values for names; a name without a value leaves the sentence, and its brackets with it."""
    values = {name: next((" and ".join(s[name]) for s in known.states if s.get(name)), "")
              for name in set(re.findall(r"\{([a-z_]+)\}", template))}

    def bracketed(match: re.Match[str]) -> str:
        return match.group() if all(values[n] for n in re.findall(r"\{([a-z_]+)\}", match.group())) else ""

    def plain(match: re.Match[str]) -> str:
        before, word, name = match.group(1) or "", match.group(2), match.group(3)
        if values[name]:
            return f"{before}{word} {values[name]}"
        if word in _PREPOSITIONS:
            return f"{before}{word} an unknown version"
        if before.strip() in _PREPOSITIONS and word.islower():
            return f"{before}the {word}"
        return f"The {word.lower()}" if not match.start() and word.istitle() and not before else f"{before}{word}"

    text = re.sub(r" ?\([^()]*\{[a-z_]+\}[^()]*\)", bracketed, template)
    text = re.sub(r"(?:(\b\w+ ))?(\b\w+) \{([a-z_]+)\}", plain, text)
    return re.sub(r"\{([a-z_]+)\}", lambda m: values[m.group(1)] or "an unknown version", text)


def _wanted(cause: Cause, known: _Known) -> list[str]:
    names = [*cause.facts, *(name for e in cause.evidence for name in e.facts)]
    return [name for name in dict.fromkeys(names) if not any(name in state for state in known.states)]


def _add_conflicts(scores: dict[str, float], best: dict[str, tuple[float, Explained]], known: _Known, matched: bool,
                   matrices: MatrixSet) -> None:
    """Let conflicts that rules prove stand beside what messages speak of; alone they are the answer.

    A conflict that is only likely is told where no message is known, or where it is between nodes.
    """
    every = [j for judgements in known.broken.values() for j in judgements if j.root_cause not in ("", *best)]
    for severity in ("error", "warning"):
        for judged in every:
            if judged.severity != severity or (severity == "warning" and (
                    judged.root_cause == _OTHER or (matched and judged.rule not in known.between))):
                continue
            weight = _BESIDE if severity == "warning" else _ELSEWHERE if matched else 1.0
            if weight <= scores[judged.root_cause]:
                continue
            finding = finding_of(judged, ["this machine"], matrices)
            scores[judged.root_cause] = weight
            best[judged.root_cause] = (weight, Explained(judged.root_cause, 0.0, finding.summary, finding.why,
                                                         finding.hint, finding.sources))
    if not best:
        held = sum(j.verdict is Verdict.SUPPORTED for j in known.judgements)
        why = f"no message that the matrices know; {held} rules about the machine hold, no broken one explains this"
        for cause, weight, summary, fix in _ELSE if held else ():
            scores[cause] = weight
            best[cause] = (weight, Explained(cause, 0.0, summary, (why,), fix, ()))
        scores[_OTHER] = _DOUBT
        best[_OTHER] = (_DOUBT, Explained(
            _OTHER, 0.0, "no message that the matrices know, and no conflict in what is known of the machine", (),
            "give more of the log, or a stack description (--stack)", ()))


def _ranked(scores: Mapping[str, float], best: Mapping[str, tuple[float, Explained]],
            doubt: float) -> tuple[Explained, ...]:
    total = sum(scores.values()) + doubt
    order = sorted(best, key=lambda name: (-scores[name], name))
    return tuple(replace(best[name][1], confidence=round(min(scores[name] / total, _CERTAIN), 2)) for name in order)


def _missing(asked: Mapping[str, float], matrices: MatrixSet) -> tuple[Missing, ...]:
    names = sorted(asked, key=lambda name: (-asked[name], name))[:_QUESTIONS_MAX]
    return tuple(Missing(n, matrices.questions[n].read if n in matrices.questions else f"state {n} in the stack file")
                 for n in names)
