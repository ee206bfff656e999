"""Reads rules straight from parsed YAML and applies them. Deliberately its own code: own versions, own conditions.

Nothing here is shared with ``planner.check``, ``planner.search`` or the compiled index, so that a mistake there cannot
hide itself here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

State = Mapping[str, tuple[str, ...]]
RawMatrices = Iterable[tuple[str, Mapping[str, Any]]]   # (file name, parsed YAML), overlays after shipped files


def compare(left: str, right: str) -> int:
    """Compare two versions: numbers numerically, letters before the end, missing numbers as zero; -1, 0 or 1.

    A zero before letters or at the end counts as missing: 2.0rc1 is 2rc1.
    """
    a, b = (re.findall(r"\d+|[A-Za-z]+", re.sub(r"(?<!\d)(?:0+[^0-9A-Za-z]*)+(?=[A-Za-z]|$)", ".", text.lower()))
            for text in (left, right))
    for index in range(max(len(a), len(b))):
        x, y = (part[index] if index < len(part) else None for part in (a, b))
        if x == y:
            continue
        rank_x, rank_y = _rank(x), _rank(y)
        if rank_x != rank_y:
            return -1 if rank_x < rank_y else 1
    return 0


def _rank(part: str | None) -> tuple[int, int, str]:
    if part is None:
        return (1, 0, "")
    return (1, int(part), "") if part.isdigit() else (0, 0, part)


@lru_cache(maxsize=65_536)
def in_range(version: str, text: str) -> bool:
    """Tell whether a version lies in a range text (same language as the matrices use)."""
    return any(all(_meets(version, c) for c in _split(part)) for part in text.split("|"))


def _split(part: str) -> list[str]:
    joined = re.sub(r"(>=|<=|==|!=|>|<)\s+", r"\1", part.strip())
    return [c for c in re.split(r"[\s,]+", joined) if c]


def _meets(version: str, constraint: str) -> bool:
    match = re.match(r"(>=|<=|==|!=|>|<)?(.*)\Z", constraint)
    assert match is not None
    operator, bound = match.group(1), match.group(2)
    if operator is None:
        if bound == "*":
            return True
        wanted = re.findall(r"\d+|[A-Za-z]+", bound.removesuffix(".*").lower())
        have = re.findall(r"\d+|[A-Za-z]+", version.lower())
        same = len(have) >= len(wanted) and all(_rank(x) == _rank(y) for x, y in zip(have, wanted, strict=False))
        return same or compare(version, bound.removesuffix(".*")) == 0
    order = compare(version, bound)
    return {">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0,
            "==": order == 0, "!=": order != 0}[operator]


def _tied(relation: str, versions: list[str], parts: int) -> bool:
    """Tell whether versions stand in a lockstep relation; a shorter one equals whatever it begins."""
    length = {"same-branch": 1, "same-major": 1, "same-minor": 2}.get(relation, parts)
    lists = [[_rank(p) for p in re.findall(r"\d+|[A-Za-z]+", v.lower())][:length or None] for v in versions]

    def alike(a: list[tuple[int, int, str]], b: list[tuple[int, int, str]]) -> bool:
        return all(x == y for x, y in zip(a, b, strict=False))

    if relation in ("not-older", "not-newer"):
        return all(alike(lists[0], other) or (lists[0] > other) == (relation == "not-older") for other in lists[1:])
    return all(alike(a, b) for i, a in enumerate(lists) for b in lists[i + 1:])


class Rules:
    """All rules of the raw matrices, later files winning by name."""

    def __init__(self, files: RawMatrices) -> None:
        tables: dict[str, dict[str, Mapping[str, Any]]] = {
            k: {} for k in ("components", "moves", "families", "lockstep", "claims", "packages", "across",
                      "times")}
        for _, raw in files:
            for section, table in tables.items():
                for entry in raw.get(section) or ():
                    table.pop(entry["name"], None)
                    table[entry["name"]] = entry
        self.components, self.moves = tables["components"], tables["moves"]
        self.families, self.lockstep = tables["families"], tables["lockstep"]
        self.packages, self.across, self.times = tables["packages"], tables["across"], tables["times"]
        self._boots = {p["component"] for p in self.packages.values() if p.get("boot_entries")}
        self.claims = [c for c in tables["claims"].values() if not c.get("tombstone")]
        # Claims that can break, and what each reads: one that reads nothing that changed answers as it did before.
        self._breakable = [(c, tuple({**c["if"], **(c.get("then") or {}), **(c.get("unless") or {})}))
                           for c in self.claims if c.get("severity", "error") == "error"]
        self._of_family: dict[str, list[Mapping[str, Any]]] = {}
        for claim in self.claims:
            self._of_family.setdefault(claim["family"], []).append(claim)
        self._judged: dict[object, frozenset[tuple[str, tuple[str, ...]]]] = {}
        self._claimed: dict[object, set[tuple[str, tuple[str, ...]]]] = {}

    def many(self, component: str) -> bool:
        """Tell whether several values of a component live side by side."""
        return bool(self.components.get(component, {}).get("many", False))

    def displaced(self, component: str, version: str, beside: Iterable[str]) -> list[str]:
        """Return the values that a new one takes the place of: those with the same leading numbers."""
        parts = self.components.get(component, {}).get("slot_parts")
        numbers = re.findall(r"\d+", version)[:parts]
        return [v for v in beside if parts and numbers and re.findall(r"\d+", v)[:parts] == numbers]

    def text(self, component: str) -> bool:
        """Tell whether a component's values are words, not versions."""
        return bool(self.components.get(component, {}).get("values", "version") == "text")

    def boots(self, component: str) -> bool:
        """Tell whether versions of a component lie beside each other and the boot loader chooses among them."""
        return component in self._boots

    def value_meets(self, component: str, value: str, condition: Any) -> bool:
        """Tell whether one value meets one condition as written in the file."""
        if isinstance(condition, list):
            return any(self.value_meets(component, value, c) for c in condition)
        if condition in ("present", "absent"):
            return bool(condition == "present")
        if self.text(component):
            return fnmatchcase(value, str(condition))
        return in_range(value, str(condition))

    def meets(self, state: State, component: str, condition: Any) -> bool | None:
        """Tell whether a state meets a condition; None where the component is not known."""
        if component not in state:
            return None
        allows_none = condition == "absent" or (isinstance(condition, list) and "absent" in condition)
        if not state[component]:
            return allows_none
        return any(self.value_meets(component, v, condition) for v in state[component])

    def broken(self, state: State) -> frozenset[tuple[str, tuple[str, ...]]]:
        """Return every broken or (in a closed family) unanswered rule as (rule, values it is about)."""
        key = tuple(sorted((name, tuple(values)) for name, values in state.items()))
        if key not in self._judged:     # cohorts often differ in nothing that rules look at
            self._judged[key] = frozenset(self._judge(state))
        return self._judged[key]

    def _judge(self, state: State) -> set[tuple[str, tuple[str, ...]]]:
        found: set[tuple[str, tuple[str, ...]]] = set()
        for claim, reads in self._breakable:
            key = (claim["name"], tuple(map(state.get, reads)))
            if key not in self._claimed:
                self._claimed[key] = self._broken_claim(claim, state)
            found |= self._claimed[key]
        for group in self.lockstep.values():
            found |= self._broken_lockstep(group, state)
        for family in self.families.values():
            found |= self._uncovered(family, state)
        return found

    def _broken_claim(self, claim: Mapping[str, Any], state: State) -> set[tuple[str, tuple[str, ...]]]:
        side_by_side = [c for c in claim["if"] if self.many(c)]
        split = next((c for c in side_by_side if len(state.get(c, ())) > 1), None)
        found = set()
        for narrowed in [{**state, split: (v,)} for v in state[split]] if split else [state]:
            if not all(self.meets(narrowed, c, condition) is True for c, condition in claim["if"].items()):
                continue
            if self._excepted(claim, narrowed):
                continue
            answers = [self.meets(narrowed, c, condition) for c, condition in (claim.get("then") or {}).items()]
            closed = bool(self.families.get(claim["family"], {}).get("closed", False))
            if claim.get("forbids") or False in answers or (None in answers and closed):
                found.add((claim["name"], tuple(v for c in side_by_side for v in narrowed.get(c, ()))))
        return found

    def _excepted(self, rule: Mapping[str, Any], state: State) -> bool:
        return any(self.meets(state, c, condition) is True for c, condition in (rule.get("unless") or {}).items())

    def _broken_lockstep(self, group: Mapping[str, Any], state: State) -> set[tuple[str, tuple[str, ...]]]:
        if group.get("severity", "error") != "error" or self._excepted(group, state):
            return set()
        if not all(self.meets(state, c, condition) is True for c, condition in (group.get("when") or {}).items()):
            return set()
        versions = [state[c][0] for c in group["components"] if state.get(c)]
        if len(versions) > 1 and not _tied(group["relation"], versions, group.get("parts", 0)):
            return {(group["name"], ())}
        return set()

    def _uncovered(self, family: Mapping[str, Any], state: State) -> set[tuple[str, tuple[str, ...]]]:
        over, against = family.get("over"), family.get("against")
        if not family.get("closed") or not over or (against and not state.get(against)):
            return set()
        if over not in state:
            return {(family["name"], ())}
        return {(family["name"], (v,)) for v in state[over] if not any(
            self._covers(c, over, v, state) for c in self._of_family.get(family["name"], ()))}

    def _covers(self, claim: Mapping[str, Any], over: str, value: str, state: State) -> bool:
        if over not in claim["if"] or not self.value_meets(over, value, claim["if"][over]):
            return False
        return all(self.meets(state, c, condition) is not False for c, condition in claim["if"].items() if c != over)

    def names_of(self, rule: str) -> set[str]:
        """Return the names under which a user may accept a rule: its own and its risk's."""
        found = next((r for r in (*self.claims, *self.lockstep.values()) if r["name"] == rule), {})
        return {rule, str(found.get("risk") or rule)}
