"""Looks for mistakes in what ``explain`` and domain rules read: messages, causes, words for causes, vocabulary."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from planner.matrix.index import MatrixSet
from planner.matrix.lint_moves import moves
from planner.matrix.root_causes import ROOT_CAUSES
from planner.matrix.schema import Across, Cause, MatrixFile, Signature, State

Path = tuple[object, ...]
Complaint = tuple[str, Path, str]         # code, where, summary
JudgeAcross = Callable[[Across, Sequence[tuple[str, State]], MatrixSet], str]

# Words of a fix that has done harm: a library linked under another name, a driver put into an image, a module that
# the GPU refuses, protection switched off for good.
_HARMFUL = re.compile(
    r"ln -s\b.*lib(?:cuda|cudart|nvidia|cudnn|nccl)|rm -rf|--no-verify|mokutil --disable|"
    r"ld\.so\.conf.*compat|dkms .*--force\b|chmod 777|"
    r"install (?:the|a) driver in(?:side|to) (?:the|an) (?:image|container)",
    re.IGNORECASE)


def more(content: MatrixFile, matrices: MatrixSet, judge: JudgeAcross) -> Iterator[Complaint]:
    """Yield every complaint about one file."""
    yield from _rules(content, matrices)
    yield from moves(content, matrices)
    for position, rule in enumerate(content.across):
        yield from _across(rule, ("across", position), matrices, judge)
    for position, signature in enumerate(content.signatures):
        yield from _signature(signature, ("signatures", position), matrices)
    for position, question in enumerate(content.questions):
        if question.component not in matrices.components:
            yield "unknown-component", ("questions", position), f"component {question.component!r} is not defined"
    for position, term in enumerate(content.vocabulary):
        yield from _pattern(term.write, ("vocabulary", position, "write"))
        if term.component not in matrices.components:
            yield "unknown-component", ("vocabulary", position), f"component {term.component!r} is not defined"


def _rules(content: MatrixFile, matrices: MatrixSet) -> Iterator[Complaint]:
    for section in ("claims", "lockstep", "across"):
        for position, rule in enumerate(getattr(content, section)):
            if rule.root_cause and rule.root_cause not in ROOT_CAUSES:
                yield "unknown-cause", (section, position, "root_cause"), f"{rule.root_cause!r} is no word for a cause"
            if _HARMFUL.search(rule.hint):
                yield "harmful-fix", (section, position, "hint"), f"{rule.name}: this hint could do harm"
            for component in getattr(rule, "unless", {}):
                if component not in matrices.components:
                    yield "unknown-component", (section, position, "unless"), f"component {component!r} is not defined"


def _across(rule: Across, path: Path, matrices: MatrixSet, judge: JudgeAcross) -> Iterator[Complaint]:
    if rule.component not in matrices.components:
        yield "unknown-component", (*path, "component"), f"component {rule.component!r} is not defined"
        return
    if rule.family not in matrices.families:
        yield "unknown-family", (*path, "family"), f"family {rule.family!r} is not defined"
    for key, states, wanted in (("accepts", rule.accepts, "supported"), ("rejects", rule.rejects, "unsupported")):
        got = judge(rule, [(f"n{i}", state) for i, state in enumerate(states)], matrices)
        if got != wanted:
            yield ("bad-example", (*path, key),
                   f"{rule.name}: the nodes under {key} are {got or 'not judged'}, not {wanted}")


def _signature(signature: Signature, path: Path, matrices: MatrixSet) -> Iterator[Complaint]:
    patterns = []
    for number, text in enumerate(signature.match):
        complaints = list(_pattern(text, (*path, "match", number)))
        yield from complaints
        if not complaints:
            patterns.append(re.compile(text, re.IGNORECASE | re.MULTILINE))
    for pattern in patterns:
        for name in pattern.groupindex:
            if name not in matrices.components:
                yield "unknown-component", (*path, "match"), f"{signature.name}: group {name!r} is no component"
    for number, line in enumerate(signature.examples):
        if not any(p.search(line) for p in patterns):
            yield "bad-example", (*path, "examples", number), f"{signature.name}: no pattern matches this example"
    for number, line in enumerate(signature.counter_examples):
        if any(p.search(line) for p in patterns):
            yield "bad-example", (*path, "counter_examples", number), f"{signature.name}: a pattern matches this line"
    for number, cause in enumerate(signature.causes):
        yield from _cause(signature.name, cause, (*path, "causes", number), matrices)


def _cause(name: str, cause: Cause, path: Path, matrices: MatrixSet) -> Iterator[Complaint]:
    if cause.root_cause not in ROOT_CAUSES:
        yield "unknown-cause", (*path, "root_cause"), f"{name}: {cause.root_cause!r} is no word for a cause"
    if _HARMFUL.search(cause.fix):
        yield "harmful-fix", (*path, "fix"), f"{name}: this fix could do harm"
    named = {c for e in cause.evidence for c in e.facts} | set(cause.facts)
    named |= set(re.findall(r"\{([a-z_]+)\}", " ".join((cause.summary, cause.fix, *cause.why))))
    for component in sorted(named - set(matrices.components)):
        yield "unknown-component", path, f"{name}: component {component!r} is not defined"
    for family in cause.judged_by:
        if family not in matrices.families:
            yield "unknown-family", (*path, "judged_by"), f"{name}: family {family!r} is not defined"
    for number, evidence in enumerate(cause.evidence):
        if not evidence.facts and not evidence.text:
            yield "bad-evidence", (*path, "evidence", number), f"{name}: evidence needs facts or text"
        if evidence.text:
            yield from _pattern(evidence.text, (*path, "evidence", number, "text"))


def _pattern(text: str, path: Path) -> Iterator[Complaint]:
    try:
        re.compile(text)
    except re.error as exc:
        yield "bad-pattern", path, f"{text!r} is no regular expression: {exc}"
