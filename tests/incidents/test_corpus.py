"""The corpus is well formed. What the product makes of it is the business of benchmarks/incidents.py."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, ConfigDict, Field

from planner.documents import Document, parse_yaml, validate
from planner.matrix.root_causes import ROOT_CAUSES
from planner.stack.schema import StackFile

HERE = Path(__file__).parent
NEGATIVES = {"hardware_fault", "user_bug", "valid_combo"}


def _word(value: str) -> str:
    if value not in ROOT_CAUSES:
        raise ValueError(f"{value} is no root cause of the format")
    return value


def _url(value: str) -> str:
    if not re.fullmatch(r"https://[\w.-]+/\S+", value):
        raise ValueError(f"{value} is no web address")
    return value


RootCause = Annotated[str, AfterValidator(_word)]
Url = Annotated[str, AfterValidator(_url)]
Identity = Annotated[str, Field(pattern=r"[a-z0-9]+(-[a-z0-9]+)*")]
Text = Annotated[str, Field(min_length=5)]


class Labelled(Document):
    """What every case and every side of a pair says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Url
    stack: dict[str, Any]
    root_cause: RootCause
    acceptable: tuple[RootCause, ...] = ()
    harmful: tuple[Text, ...] = ()


class Incident(Labelled):
    """A real case from a public thread."""

    id: Identity
    title: Text
    established: Text
    message: Text
    check: Literal["expected", "silent", "unknown"]


class Side(Labelled):
    """One of the two cases of a message."""

    origin: Literal["real", "adapted", "derived"]


class Pair(Document):
    """One message with two right causes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Identity
    message: Text
    a: Side
    b: Side


def _entries(path: Path) -> list[Any]:
    raw = parse_yaml(path.read_text(encoding="utf-8"), name=path.name, numbers_as_text=True)
    assert isinstance(raw, list)
    return raw


FILES = sorted(path for path in HERE.glob("*.yml") if path.name != "pairs.yml")
HELD_OUT = [path for path in FILES if path.name.startswith("held-out-")]
INCIDENTS = {path: [validate(Incident, raw, name=path.name) for raw in _entries(path)] for path in FILES}
PAIRS = [validate(Pair, raw, name="pairs.yml") for raw in _entries(HERE / "pairs.yml")]
TUNED = [case for path in FILES if path not in HELD_OUT for case in INCIDENTS[path]]
ALL = [case for cases in INCIDENTS.values() for case in cases]


def test_names_are_unique() -> None:
    names = Counter([case.id for case in ALL] + [pair.id for pair in PAIRS])
    assert [name for name, times in names.items() if times > 1] == []


def test_no_incident_is_told_twice() -> None:
    threads = Counter(case.source for case in ALL)
    assert [source for source, times in threads.items() if times > 1] == []


def test_there_are_enough() -> None:
    assert len(TUNED) >= 80
    assert len(PAIRS) >= 30
    assert not HELD_OUT or sum(len(INCIDENTS[path]) for path in HELD_OUT) >= 20


def test_a_quarter_is_no_mismatch_of_versions() -> None:
    assert sum(case.root_cause in NEGATIVES for case in TUNED) >= len(TUNED) / 4


def test_every_root_cause_is_told_twice() -> None:
    times = Counter(case.root_cause for case in TUNED)
    assert sorted(word for word in ROOT_CAUSES if times[word] < 2) == []


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_stacks_keep_to_the_format(case: Incident) -> None:
    validate(StackFile, dict(case.stack), name=case.id)
    assert case.root_cause not in case.acceptable


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.id)
def test_where_nothing_is_wrong_check_is_to_be_silent(case: Incident) -> None:
    if case.root_cause in NEGATIVES:
        assert case.check == "silent"


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.id)
def test_the_sides_of_a_pair_differ(pair: Pair) -> None:
    for side in (pair.a, pair.b):
        validate(StackFile, dict(side.stack), name=pair.id)
    assert pair.a.stack != pair.b.stack
    assert pair.a.root_cause != pair.b.root_cause
    assert pair.a.root_cause not in pair.b.acceptable or pair.b.root_cause not in pair.a.acceptable
