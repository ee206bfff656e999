"""The site's own commands, as plays carry them: one file of variables beside them, every word of it data. Pure."""

from __future__ import annotations

from typing import Any

from planner.emit.yaml_text import Exact
from planner.schedule.canary import Command, canary_commands
from planner.schedule.plan import Plan

CANARY_FILE = "plays/vars/canary.yml"
CANARY_VARS = "vars/canary.yml"     # as a play names it


def canary_ids(plan: Plan) -> dict[str, str]:
    """Return node -> id of the command that it runs after its standard gate."""
    ids = {command: key for key, command in _commands(plan).items()}
    return {name: ids[command] for name, command in canary_commands(plan).items()}


def canary_variables(plan: Plan) -> dict[str, Any]:
    """Return the content of the file: id -> argument vector and seconds."""
    return {"planner_canaries": {key: {"argv": Exact(argv), "seconds": minutes * 60}
                                 for key, (argv, minutes) in _commands(plan).items()}}


def _commands(plan: Plan) -> dict[str, Command]:
    found = sorted(set(canary_commands(plan).values()))
    return {f"c{number}": command for number, command in enumerate(found, start=1)}
