"""Score ``check`` and ``explain`` on the incidents under tests/incidents, which nobody wrote a rule for.

Use: python benchmarks/incidents.py [--held-out] [--file NAME] [--only ID] [--json] [--matrix DIR]
Prints every miss, and exits 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.check.stack import check_stack
from planner.data import data_dir
from planner.documents import parse_yaml
from planner.errors import PlannerError
from planner.explain.rank import Explained, Explanation, explain
from planner.matrix.index import MatrixSet
from planner.matrix.load import load_matrices
from planner.stack.read import read_stack
from planner.stack.schema import Stack

CORPUS = Path(__file__).resolve().parent.parent / "tests" / "incidents"
NEGATIVES = ("hardware_fault", "user_bug", "valid_combo")
CONFIDENT = 0.6
ALWAYS_HARMFUL = ("ld.so.conf",)       # a compat library registered for the whole system
# A sentence that warns against a step does not advise it.
_WARNS = re.compile(r"\b(?:not|never|no|without|avoid|instead of|rather than)\b|n't\b", re.IGNORECASE)
_UNDOES = re.compile(r"\b(?:remove|delete|take)\b", re.IGNORECASE)
TARGETS = {"check recall": 0.95, "false errors on negatives": 0, "explain top-1": 0.85, "explain top-3": 0.95,
           "harmful fixes": 0}

Case = Mapping[str, Any]


@dataclass
class Tally:
    """What one run counted."""

    cases: int = 0
    right_errors: int = 0
    wrong_errors: int = 0
    expected: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    negatives: int = 0
    top1: Counter[str] = field(default_factory=Counter)         # "facts", "none" -> cases right
    top3: Counter[str] = field(default_factory=Counter)
    cost: Counter[str] = field(default_factory=Counter)         # wrong answers; confident ones without facts twice
    misses: dict[str, list[str]] = field(default_factory=dict)
    pairs: int = 0
    pairs_right: int = 0
    sides_right: int = 0

    def miss(self, kind: str, text: str) -> None:
        """Note what went wrong."""
        self.misses.setdefault(kind, []).append(text)

    def bad(self, kind: str) -> int:
        """Return how often something went wrong."""
        return len(self.misses.get(kind, ()))


def main() -> int:
    """Score, print, and compare with the targets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--held-out", action="store_true", help="only the incidents kept apart from all tuning")
    parser.add_argument("--file", metavar="NAME", help="only the incidents of one file: held-out-5.yml")
    parser.add_argument("--only", metavar="ID", help="one incident or pair, with the whole answer")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--matrix", type=Path, action="append", default=[], help="directory of further matrix files")
    options = parser.parse_args()
    matrices = load_matrices(data_dir("matrices"), options.matrix)
    incidents, pairs = load(CORPUS, held_out=options.held_out)
    if options.file:
        incidents, pairs = parse(CORPUS / options.file), []
    if options.only:
        incidents = [c for c in incidents if c["id"] == options.only]
        pairs = [c for c in pairs if c["id"] == options.only]
        if not incidents and not pairs:
            parser.error(f"no incident or pair is called {options.only}")
        for case in (*incidents, *(side_case(pair, side) for pair in pairs for side in "ab")):
            print(json.dumps(whole_answer(case, matrices), indent=1))
    tally = score(incidents, pairs, matrices)
    numbers = summary(tally)
    if options.json:
        print(json.dumps({"numbers": numbers, "misses": tally.misses}, indent=1, sort_keys=True))
    else:
        print("\n".join(table(tally, numbers)))
    return int(any(not met(name, numbers) for name in TARGETS)) if not options.only else 0


def load(folder: Path, *, held_out: bool = False) -> tuple[list[Case], list[Case]]:
    """Return the incidents (or the held-out ones alone) and the pairs, in the order of their files."""
    incidents: list[Case] = []
    for path in sorted(folder.glob("*.yml")):
        if path.name != "pairs.yml" and path.name.startswith("held-out-") == held_out:
            incidents += parse(path)
    pairs_path = folder / "pairs.yml"
    return incidents, parse(pairs_path) if not held_out and pairs_path.exists() else []


def parse(path: Path) -> list[Case]:
    """Return the entries of one file; numbers stay as written, so that 460.80 is no 460.8."""
    entries: list[Case] = parse_yaml(path.read_text(encoding="utf-8"), name=path.name, numbers_as_text=True)
    return entries


def side_case(pair: Case, side: str) -> Case:
    """Return one side of a pair in the shape of an incident."""
    return {**pair[side], "id": f"{pair['id']}/{side}", "message": pair["message"]}


def score(incidents: Sequence[Case], pairs: Sequence[Case], matrices: MatrixSet) -> Tally:
    """Run everything."""
    tally = Tally()
    for case in incidents:
        tally.cases += 1
        stack, trouble = stack_of(case, matrices)
        if stack is None:
            tally.miss("unreadable stacks", f"{case['id']}: {trouble}")
        else:
            score_check(tally, case, stack, matrices)
        score_explain(tally, case, "facts", explain(case["message"], stack, matrices))
        score_explain(tally, case, "none", explain(case["message"], None, matrices))
    for pair in pairs:
        right = [score_side(tally, side_case(pair, side), matrices) for side in "ab"]
        tally.pairs += 1
        tally.pairs_right += all(right)
        tally.sides_right += sum(right)
    return tally


def stack_of(case: Case, matrices: MatrixSet) -> tuple[Stack | None, str]:
    """Return the stack of a case, or none and why it cannot be read."""
    try:
        return read_stack(json.dumps(case["stack"]), case["id"], matrices), ""
    except PlannerError as exc:
        return None, str(exc)


def accepted(case: Case) -> frozenset[str]:
    """Return the root causes that count as right."""
    return frozenset((case["root_cause"], *case.get("acceptable", ())))


def told_causes(answer: Explanation) -> tuple[Explained, ...]:
    """Return what the answer names; "other" where no message is known says nothing, so it is never right."""
    return tuple(cause for cause in answer.causes if answer.matched or cause.root_cause != "other")


def score_check(tally: Tally, case: Case, stack: Stack, matrices: MatrixSet) -> None:
    """Count what ``check`` says of one stack. Hygiene told as warning or info is neither right nor wrong."""
    report, right = check_stack(stack, matrices), accepted(case)
    errors = [f for f in report.findings if f.severity == "error"]
    told = [f for f in report.findings if f.severity in ("error", "warning")]
    named = [f"{f.code} ({f.root_cause})" for f in errors]
    negative = case["root_cause"] in NEGATIVES
    for finding in errors:
        if finding.root_cause in right and not negative:
            tally.right_errors += 1
        else:
            tally.wrong_errors += 1
            tally.miss("wrong errors", f"{case['id']}: {finding.code} says {finding.root_cause}, "
                                       f"the thread says {case['root_cause']}: {finding.summary}")
    if negative:
        tally.negatives += 1
        if errors:
            tally.miss("false errors on negatives", f"{case['id']}: {', '.join(named)}")
    if case["check"] == "expected":
        tally.expected[case["root_cause"]] += 1
        if any(f.root_cause in right for f in told):
            tally.found[case["root_cause"]] += 1
        else:
            told_names = ", ".join(sorted({f.root_cause for f in told})) or "nothing"
            tally.miss("not found by check", f"{case['id']}: {case['root_cause']}; told {told_names}")
    for finding in report.findings:
        note_harm(tally, case, finding.hint)


def score_explain(tally: Tally, case: Case, mode: str, answer: Explanation) -> None:
    """Count the causes that ``explain`` names, with facts or with none."""
    right, causes = accepted(case), told_causes(answer)
    ranks = [position for position, cause in enumerate(causes) if cause.root_cause in right]
    first = ranks[0] if ranks else len(causes) + 3
    tally.top1[mode] += first == 0
    tally.top3[mode] += first < 3
    if first > 0:
        best = f"{causes[0].root_cause} {causes[0].confidence:.2f}" if causes else "nothing"
        confident = mode == "none" and bool(causes) and causes[0].confidence >= CONFIDENT
        tally.cost[mode] += 2 if confident else 1
        place = f"rank {first + 1}" if ranks else "not named"
        tally.miss(f"explain, {'with' if mode == 'facts' else 'without'} facts",
                   f"{case['id']}: {case['root_cause']} {place}; first is {best}{', confident' if confident else ''}")
    for cause in causes:
        note_harm(tally, case, cause.fix)


def score_side(tally: Tally, case: Case, matrices: MatrixSet) -> bool:
    """Tell whether one side of a pair gets its own cause first."""
    stack, trouble = stack_of(case, matrices)
    if stack is None:
        tally.miss("pairs", f"{case['id']}: {trouble}")
        return False
    causes = told_causes(explain(case["message"], stack, matrices))
    for cause in causes:
        note_harm(tally, case, cause.fix)
    if causes and causes[0].root_cause in accepted(case):
        return True
    best = f"{causes[0].root_cause} {causes[0].confidence:.2f}" if causes else "nothing"
    tally.miss("pairs", f"{case['id']}: {case['root_cause']}; first is {best}")
    return False


def note_harm(tally: Tally, case: Case, fix: str) -> None:
    """Note a fix that advises a step which would harm here."""
    always = [] if _UNDOES.search(fix) else ALWAYS_HARMFUL
    for word in harm_in(fix, (*always, *case.get("harmful", ()))):
        text = f"{case['id']}: {word!r} in: {fix}"
        if text not in tally.misses.get("harmful fixes", ()):
            tally.miss("harmful fixes", text)


def harm_in(fix: str, words: Iterable[str]) -> list[str]:
    """Return the words that a fix advises; a clause that warns against one does not."""
    clauses = re.split(r"[.;\n]+\s+", fix)
    return [word for word in words
            if any(word.lower() in clause.lower() and not _WARNS.search(clause) for clause in clauses)]


def summary(tally: Tally) -> dict[str, float]:
    """Return the numbers that are compared with the targets, and the others."""
    judged = tally.right_errors + tally.wrong_errors
    return {
        "incidents": tally.cases,
        "check precision": _share(tally.right_errors, judged),
        "check recall": _share(tally.found.total(), tally.expected.total()),
        "false errors on negatives": tally.bad("false errors on negatives"),
        "explain top-1": _share(tally.top1["facts"], tally.cases),
        "explain top-3": _share(tally.top3["facts"], tally.cases),
        "explain top-1 without facts": _share(tally.top1["none"], tally.cases),
        "explain top-3 without facts": _share(tally.top3["none"], tally.cases),
        "cost of wrong answers": tally.cost["facts"],
        "cost of wrong answers without facts": tally.cost["none"],
        "harmful fixes": tally.bad("harmful fixes"),
        "unreadable stacks": tally.bad("unreadable stacks"),
        "pairs": tally.pairs,
        "pairs right": tally.pairs_right,
        "pair sides right": tally.sides_right,
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 1.0


def _is_share(name: str) -> bool:
    return "recall" in name or "precision" in name or "top-" in name


def met(name: str, numbers: Mapping[str, float]) -> bool:
    """Tell whether a target is met: shares must reach it, counts must not exceed it."""
    target = TARGETS[name]
    return numbers[name] >= target if target else numbers[name] <= target


def table(tally: Tally, numbers: Mapping[str, float]) -> list[str]:
    """Return the lines to print."""
    lines = []
    for name, value in numbers.items():
        shown = f"{value:.1%}" if _is_share(name) else str(value)
        goal = TARGETS.get(name)
        wanted = "" if goal is None else f"   target {goal:.0%}" if goal else "   target 0"
        lines.append(f"{name:<38}{shown:>8}{wanted}{'' if goal is None or met(name, numbers) else ', missed'}")
    lines += ["", "recall of check where the facts suffice, by root cause:"]
    for cause, expected in sorted(tally.expected.items()):
        lines.append(f"  {cause:<36}{tally.found[cause]:>4} of {expected}")
    for kind, entries in sorted(tally.misses.items()):
        lines += ["", f"{kind} ({len(entries)}):", *(f"  {entry}" for entry in entries)]
    return lines


def whole_answer(case: Case, matrices: MatrixSet) -> dict[str, Any]:
    """Return everything that the product says about one case."""
    stack, trouble = stack_of(case, matrices)
    findings = check_stack(stack, matrices).findings if stack else ()
    return {
        "id": case["id"], "root_cause": case["root_cause"], "acceptable": case.get("acceptable", []),
        "trouble": trouble,
        "check": [finding.as_dict() for finding in findings],
        "with facts": told(explain(case["message"], stack, matrices)),
        "without facts": told(explain(case["message"], None, matrices)),
    }


def told(answer: Explanation) -> dict[str, Any]:
    """Return what ``explain`` said, without the reasoning."""
    causes = [{"root_cause": cause.root_cause, "confidence": cause.confidence, "summary": cause.summary,
               "fix": cause.fix} for cause in answer.causes]
    return {"matched": list(answer.matched), "causes": causes, "missing": [fact.fact for fact in answer.missing_facts]}


if __name__ == "__main__":
    sys.exit(main())
