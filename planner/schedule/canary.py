"""The site's own commands, as a plan has them by pool: who runs which, and how people read them. Pure."""

from __future__ import annotations

import json

from planner.documents import digest
from planner.schedule.plan import Plan, PoolLimit

SHOWN_CHARS = 200      # of a command, where people read; plan.json has all of it

Command = tuple[tuple[str, ...], int]       # argument vector, minutes


def canary_commands(plan: Plan) -> dict[str, Command]:
    """Return node -> the command that it runs after its standard gate, sorted; who changes nothing runs none."""
    found: dict[str, Command] = {}
    if not any(limit.canary_command for limit in plan.pools.values()):
        return found
    for name in sorted(name for cohort in plan.cohorts if cohort.steps for name in cohort.nodes):
        limit = plan.pools.get(plan.nodes[name].pool)
        if limit is not None and limit.canary_command:
            found[name] = limit.canary_command, limit.canary_command_timeout_minutes or 0
    return found


def command_digest(argv: tuple[str, ...]) -> str:
    """Return the name under which the time of a command is kept: two rollouts with the same command share it."""
    return digest(list(argv))


def canary_sentences(plan: Plan) -> tuple[str, ...]:
    """Return a sentence for each command of a plan: which pools run it, and for how long."""
    pools: dict[Command, list[str]] = {}
    for name, (argv, minutes) in canary_commands(plan).items():
        known = pools.setdefault((argv, minutes), [])
        if plan.nodes[name].pool not in known:
            known.append(plan.nodes[name].pool)
    return tuple(f"each node of {', '.join(sorted(names))} runs {command_words(argv)} after its standard gate, "
                 f"{minutes} min at most{_expected(plan, argv, plan.pools[names[0]])}; another exit status than 0 is a "
                 "failed gate" for (argv, minutes), names in sorted(pools.items()))


def _expected(plan: Plan, argv: tuple[str, ...], limit: PoolLimit) -> str:
    """Say what a command is counted with where the course of a rollout is told."""
    name = command_digest(argv)
    if found := next((m for m in plan.measured or () if (m.kind, m.name) == ("command", name)), None):
        return f" and about {found.median_minutes:g} by {found.nodes} measurements"
    if limit.canary_command_minutes is None:
        return ""
    return f", counted with {limit.canary_command_minutes} until a rollout has measured it"


def command_words(argv: tuple[str, ...]) -> str:
    """Return an argument vector for people: as JSON on one line, signs that a terminal would obey escaped, cut."""
    whole = json.dumps(list(argv), ensure_ascii=False)
    words = "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in whole[:SHOWN_CHARS])
    return words if len(whole) <= SHOWN_CHARS else f"{words}… ({len(whole)} characters; all of it is in plan.json)"
