"""Causes of a message, and rules, as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from planner.explain.rank import Explanation
from planner.explain.rules import Told

_WIDTH = 100
_CAUSES_SHOWN = 4
_SHOWN_FROM = 0.03


def explanation_lines(explanation: Explanation) -> list[str]:
    """Return the answer, best cause first; unlikely ones are only named."""
    lines: list[str] = []
    shown = [c for c in explanation.causes[:_CAUSES_SHOWN] if c.confidence >= _SHOWN_FROM] or explanation.causes[:1]
    for number, cause in enumerate(shown, start=1):
        lines += [*_wrapped(f"{number}. {cause.root_cause} ({cause.confidence:.0%}): {cause.summary}", "", "   "),
                  *(line for step in cause.why for line in _wrapped(step, "     - ", "       ")),
                  *_wrapped(f"fix: {cause.fix}", "   ", "        "),
                  *(line for source in cause.sources for line in _wrapped(f"source: {source}", "   ", "           "))]
    rest = explanation.causes[len(shown):]
    if rest:
        lines.append("less likely: " + ", ".join(c.root_cause for c in rest))
    if explanation.missing_facts:
        lines += ["", "facts that would decide:"]
        lines += [line for m in explanation.missing_facts
                  for line in _wrapped(f"{m.fact}: {m.how_to_read_it}", "   ", "      ")]
    return lines


def rule_lines(told: Told) -> list[str]:
    """Return a rule's page."""
    return list(_rule(told))


def _rule(told: Told) -> Iterator[str]:
    yield f"{told.code} ({told.kind})"
    yield from _wrapped(told.statement, "  ", "  ")
    facts = (("severity", told.severity), ("cause", told.root_cause), ("fix", told.hint), ("family", told.family),
             ("accepted by name as", told.risk), *(("accepts", a) for a in told.accepts),
             *(("rejects", r) for r in told.rejects), ("source", told.source),
             ("read", f"{told.retrieved}, {told.confidence}" if told.retrieved else ""))
    for name, value in facts:
        if value:
            yield from _wrapped(f"{name}: {value}", "  ", "    ")


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return fill(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False,
                break_on_hyphens=False).splitlines()
