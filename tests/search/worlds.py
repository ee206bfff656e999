"""Small worlds with invented components: the search knows no real names, so these exercise all of it."""

from __future__ import annotations

from typing import Any

from planner.documents import validate
from planner.matrix.index import MatrixSet
from planner.matrix.schema import MatrixFile
from planner.search.problem import Goal, Problem

PROVENANCE = {"title": "invented for tests", "retrieved": "2026-01-01", "kind": "derived"}


def claim(name: str, if_: dict[str, Any], then: dict[str, Any] | None = None, **extra: Any) -> dict[str, Any]:
    return {"name": name, "family": extra.pop("family", "open"), "statement": f"{name} holds", "if": if_,
            "then": then or {}, "provenance": PROVENANCE, "accepts": {}, "rejects": {}, **extra}


def raw(claims: list[dict[str, Any]] = (), *, moves: list[dict[str, Any]] | None = None,  # type: ignore[assignment]
        lockstep: list[dict[str, Any]] = (), families: list[dict[str, Any]] = ()) -> dict[str, Any]:  # type: ignore[assignment]
    """Engine and its twin move in lockstep with a reboot; libraries drain; tools live side by side."""
    return {
        "schema": "planner.matrix/1", "topic": "test",
        "components": [{"name": n, "title": n, "many": n == "tools"}
                       for n in ("base", "engine", "twin", "tools", "lib")]
        + [{"name": "arch", "title": "arch", "role": "attribute", "values": "text"}],
        "moves": moves or [
            {"name": "base", "title": "base", "components": ["base"], "disruption": "reboot", "minutes": 5},
            {"name": "engine", "title": "engine", "components": ["engine", "twin"], "lead": "engine",
             "disruption": "reboot", "minutes": 10},
            {"name": "base-and-engine", "title": "both", "components": ["base", "engine", "twin"], "lead": "engine",
             "disruption": "reboot", "minutes": 12},
            {"name": "tools", "title": "tools", "components": ["tools"], "disruption": "drain", "minutes": 5},
            {"name": "lib", "title": "lib", "components": ["lib"], "disruption": "drain", "minutes": 2},
        ],
        "families": [{"name": "open", "title": "open"}, *families],
        "lockstep": [{"name": "twins", "components": ["engine", "twin"], "relation": "equal", "family": "open",
                      "statement": "engine and twin are equal", "provenance": PROVENANCE, "accepts": {}, "rejects": {}},
                     *lockstep],
        "claims": list(claims),
    }


def matrices(document: dict[str, Any]) -> MatrixSet:
    file = validate(MatrixFile, document, name="test.yml")
    return MatrixSet(
        components={c.name: c for c in file.components}, moves=file.moves, families={f.name: f for f in file.families},
        lockstep=file.lockstep, claims=file.claims, releases={}, packages=(), gpu_models=(), files={}, digest="",
    )


def problem(start: dict[str, tuple[str, ...]], goals: dict[str, Any], candidates: dict[str, tuple[str, ...]],
            **extra: Any) -> Problem:
    wanted = {
        name: Goal(component=name, want=want) if isinstance(want, str) else Goal(component=name, **want)
        for name, want in goals.items()
    }
    return Problem(start=start, goals=wanted, candidates=candidates, **extra)
