"""Reads the journals of earlier rollouts, for durations that were measured instead of planned."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from planner.cli.rollout import DATABASE, PLAN_COPY, SIMULATED, state_places
from planner.diagnostics import Diagnostic
from planner.documents import digest, validate
from planner.errors import InputError
from planner.schedule.plan import MeasuredTime, Plan


def read_history(places: tuple[Path, ...]) -> tuple[tuple[MeasuredTime, ...], str]:
    """Return what earlier rollouts took, and the digest of all that was read.

    Args:
        places: Bundles that were applied, or directories that ``--state`` named.

    Raises:
        InputError: A place holds no journal of a real rollout.
        ApplyError: A journal was changed.
    """
    from planner.execute.history import digest_samples, samples_of
    from planner.execute.store import Store

    rollouts, read = [], {}
    for place in places:
        found = list(_journals(place))
        for plan, url in found:
            if plan.digest in read:
                continue
            store = Store(url, plan.digest)
            try:
                entries = store.read()
            finally:
                store.close()
            read[plan.digest] = entries[-1].hash if entries else ""
            rollouts.append(samples_of(plan, entries))
        if not found:
            raise InputError(Diagnostic(
                code="no-history", subject=str(place), summary="there is no journal of a rollout",
                why=("simulated rollouts prove nothing about durations, and are not read",),
                hint="name a bundle that was applied, or its state: planner plan … --history DIR"))
    return digest_samples(rollouts), digest(sorted(read.items()))


def _journals(place: Path) -> Iterator[tuple[Plan, str]]:
    """Yield plan and database URL of every real rollout at a place."""
    from planner.emit.render import MANIFEST
    from planner.emit.write import read_bundle

    if (place / MANIFEST).is_file():
        plan = read_bundle(place)
        folder, url = state_places(place, os.environ.get("PLANNER_STATE", ""), plan)
        if not url.startswith("sqlite:") or (folder / DATABASE).is_file():
            yield plan, url
        return
    for database in sorted({*place.glob(DATABASE), *place.glob(f"*/{DATABASE}")}):
        copy = database.with_name(PLAN_COPY)
        if copy.is_file() and not database.parent.name.endswith(SIMULATED):
            yield _plan(copy), f"sqlite:///{database.absolute()}"


def _plan(path: Path) -> Plan:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise InputError(Diagnostic(code="bad-json", subject=str(path), summary=f"cannot be read: {exc}",
                                    hint="name the bundle instead: planner plan … --history BUNDLE")) from exc
    return validate(Plan, value, name=str(path))
