"""``planner apply`` and what goes with it: status, pause, approve, resume, retry, skip, abort, unlock."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from planner.cli.inputs import FORMATS, matrix_option
from planner.errors import ExitCode

_bundle = click.argument("bundle", type=click.Path(path_type=Path))
_state = click.option("--state", "state", default="", metavar="DIR|URL",
                      help="Where the journal lives (default: .planner beside the bundle; PLANNER_STATE).")
_simulate = click.option("--simulate", "simulate", default="", metavar="SEED|FILE",
                         help="Act on a simulated fleet instead; proves nothing about real machines.")
_because = click.option("--because", default="", metavar="TEXT", help="Why; written to the journal.")


def _acting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the verbs that run Ansible."""
    for option in reversed((
        _bundle, _state, _simulate,
        click.option("-i", "--inventory", default="", help="Ansible inventory (default: the one the plan names)."),
        click.option("--forks", default=16, show_default=True, type=click.IntRange(1, 500),
                     help="Nodes that Ansible talks to at the same time."),
        click.option("--allow-local", is_flag=True, help="Let the rollout touch the machine that planner runs on."),
        matrix_option,
    )):
        command = option(command)
    return command


@click.command(epilog="""\b
Examples:
  planner apply bundle/ --canary            staging and canaries, then stop with the evidence
  planner approve bundle/                   a person has looked at them
  planner resume bundle/                    the rest
  planner apply bundle/ --simulate 1        the same on a simulated fleet, without any machine
""")
@_acting
@click.option("--canary", is_flag=True, help="Stop for approval after the staging and canary waves.")
@click.option("--resume", "resume_", is_flag=True, help="The same as planner resume.")
def apply(bundle: Path, state: str, simulate: str, inventory: str, forks: int, allow_local: bool,
          overlays: tuple[Path, ...], canary: bool, resume_: bool) -> int:
    """Run a bundle on the fleet; continues where an earlier run stopped."""
    return _run(bundle, state, simulate, inventory, forks, allow_local, overlays, canary=canary, lift_pause=resume_)


@click.command(epilog="\b\nExample:\n  planner resume bundle/")
@_acting
def resume(bundle: Path, state: str, simulate: str, inventory: str, forks: int, allow_local: bool,
           overlays: tuple[Path, ...]) -> int:
    """Go on with a rollout: after a pause, a stop, an approval or a crash."""
    return _run(bundle, state, simulate, inventory, forks, allow_local, overlays, canary=False, lift_pause=True)


def _run(bundle: Path, state: str, simulate: str, inventory: str, forks: int, allow_local: bool,
         overlays: tuple[Path, ...], *, canary: bool, lift_pause: bool) -> int:
    from planner.cli.apply_view import print_outcome
    from planner.cli.rollout import open_rollout, run_engine

    with open_rollout(bundle, state, simulate=simulate, must_exist=lift_pause) as rollout:
        before = rollout.state()
        if lift_pause and before.paused:
            _append(rollout, {"kind": "resumed", "data": {"by": _person()}})
        outcome = run_engine(rollout, canary_only=canary, inventory=inventory, forks=forks, allow_local=allow_local,
                             simulate=simulate, overlays=overlays)
        return print_outcome(rollout, outcome)


@click.command(epilog="\b\nExample:\n  planner status bundle/ -o json")
@_bundle
@_state
@_simulate
@click.option("-o", "--output", "output", type=FORMATS, default="table", help="Format of what is printed.")
def status(bundle: Path, state: str, simulate: str, output: str) -> int:
    """Tell where a rollout stands: waves, nodes, gates, who is at work, how much is left."""
    from planner.cli.apply_view import print_status
    from planner.cli.rollout import open_rollout

    with open_rollout(bundle, state, simulate=simulate, must_exist=True) as rollout:
        print_status(rollout, output)
    return 0


@click.command(epilog="\b\nExample:\n  planner pause bundle/")
@_bundle
@_state
@_simulate
@_because
def pause(bundle: Path, state: str, simulate: str, because: str) -> int:
    """Stop a rollout after what is in flight; nodes that are away are given back first."""
    from planner.cli.rollout import open_rollout

    with open_rollout(bundle, state, simulate=simulate, must_exist=True) as rollout:
        _append(rollout, {"kind": "pause-requested", "data": {"by": _person(), "because": because}})
    sys.stderr.write(f"the rollout pauses after what is in flight; go on with: planner resume {rollout.spelled}\n")
    return 0


@click.command(epilog="\b\nExample:\n  planner approve bundle/ --because 'canaries looked at, JIRA-12'")
@_bundle
@_state
@_simulate
@_because
@click.option("--wave", default="", help="Wave to approve (default: the one that waits for it).")
def approve(bundle: Path, state: str, simulate: str, because: str, wave: str) -> int:
    """Record that a person has seen a wave's evidence and lets the rollout go on."""
    from planner.cli.apply_view import waits_for_approval
    from planner.cli.rollout import open_rollout
    from planner.diagnostics import Diagnostic
    from planner.errors import ApplyError

    with open_rollout(bundle, state, simulate=simulate, must_exist=True) as rollout:
        now = rollout.state()
        waiting = waits_for_approval(rollout.plan, now)
        chosen = wave or (waiting[0] if waiting else "")
        if chosen not in waiting:
            raise ApplyError(Diagnostic(
                code="nothing-to-approve", subject=wave or str(bundle),
                summary="this wave does not wait for approval" if wave else "no wave waits for approval",
                hint=f"see where the rollout stands: planner status {rollout.spelled}"))
        _append(rollout, {"kind": "approved", "wave": chosen, "data": {"by": _person(), "because": because}})
    sys.stderr.write(f"wave {chosen} is approved; go on with: planner resume {rollout.spelled}\n")
    return 0


@click.command(epilog="\b\nExample:\n  planner retry bundle/ gpu-17")
@_bundle
@click.argument("nodes", nargs=-1, required=True)
@_state
@_simulate
@_because
def retry(bundle: Path, nodes: tuple[str, ...], state: str, simulate: str, because: str) -> int:
    """Let failed, lost, held or skipped nodes try again; only a new passing gate makes them done.

    Of a node that a failed pair blames the same pair is tried again.
    """
    from planner.execute.states import Event

    _move(bundle, nodes, state, simulate, because, Event.RETRY, "will try again")
    return 0


@click.command(epilog="\b\nExample:\n  planner skip bundle/ gpu-17 --because 'board is being replaced'")
@_bundle
@click.argument("nodes", nargs=-1, required=True)
@_state
@_simulate
@_because
def skip(bundle: Path, nodes: tuple[str, ...], state: str, simulate: str, because: str) -> int:
    """Leave nodes out of the rest of the rollout; what is done to them stays done, what is drained stays drained."""
    from planner.execute.states import Event

    _move(bundle, nodes, state, simulate, because, Event.SKIP, "left out")
    return 0


@click.command(epilog="\b\nExample:\n  planner abort bundle/ --because 'newer driver planned'")
@_acting
@_because
def abort(bundle: Path, state: str, simulate: str, inventory: str, forks: int, allow_local: bool,
          overlays: tuple[Path, ...], because: str) -> int:
    """Give a rollout up for good: release leases where nothing was begun, and say what is left."""
    from planner.cli.apply_view import nothing_to_give_up, print_left
    from planner.cli.rollout import open_rollout, release_all

    with open_rollout(bundle, state, simulate=simulate, must_exist=True) as rollout:
        if nothing_to_give_up(rollout.state()):
            sys.stderr.write("the rollout has ended already; there is nothing to give up\n")
            return 0
        left = release_all(rollout, inventory=inventory, forks=forks, simulate=simulate,
                           entry={"kind": "aborted", "data": {"by": _person(), "because": because}})
        print_left(rollout, left)
    return 0


@click.command(epilog="\b\nExample:\n  planner unlock bundle/")
@_bundle
@_state
@_simulate
@click.option("--force", is_flag=True, help="Also when the controller is alive on this machine.")
def unlock(bundle: Path, state: str, simulate: str, force: bool) -> int:
    """Take a rollout away from a controller that is gone; its next act is refused."""
    from planner.cli.rollout import open_rollout
    from planner.execute.clock import SystemClock
    from planner.execute.lock import Controller, break_lock

    with open_rollout(bundle, state, simulate=simulate, must_exist=True) as rollout:
        held = break_lock(rollout.store, SystemClock(), by=Controller.here(), force=force, bundle=rollout.spelled)
        if held is not None:
            _append(rollout, {"kind": "unlocked", "data": {"by": _person(), "from": held["owner"]}})
        told = f"taken from {held['owner']} (since {held['since']})" if held else "nobody held it"
        sys.stderr.write(f"unlocked: {told}; go on with: planner resume {rollout.spelled}\n")
    return int(ExitCode.DONE)


def _person() -> str:
    from planner.execute.lock import Controller

    return Controller.here().owner


def _append(rollout: Any, *entries: dict[str, Any], after: int | None = None) -> None:
    from planner.cli.rollout import clock_of

    rollout.store.append(entries, at=clock_of(rollout).now().isoformat(timespec="milliseconds"), after=after)


def _move(bundle: Path, nodes: tuple[str, ...], state: str, simulate: str, because: str, event: Any,
          words: str) -> None:
    """Write a person's word on nodes, NVLink domains whole, and say which were meant."""
    from planner.cli.apply_view import movable
    from planner.cli.rollout import open_rollout
    from planner.execute.store import Conflict

    with open_rollout(bundle, state, simulate=simulate, must_exist=True) as rollout:
        while True:
            now = rollout.state()
            pairs = _blamed(now, nodes) if event.value == "retry" else {}
            others = tuple(n for n in nodes if n not in pairs)
            meant = movable(rollout.plan, now, others, event, rollout.spelled)
            entries = [{"kind": "pair-retry", "wave": wave, "data": {"domain": domain, "reason": because,
                                                                     "by": _person()}}
                       for wave, domain in sorted(set(pairs.values()))]
            entries += [{"kind": "node", "node": n, "wave": now.nodes[n].wave, "batch": now.nodes[n].batch,
                        "data": {"event": event.value, "reason": because, "by": _person()}} for n in meant]
            try:
                _append(rollout, *entries, after=now.seq)
            except Conflict:
                continue
            told = [f"{', '.join(meant)} {words}"] if meant else []
            told += [f"the pair of {name} will be tried again" for name in pairs]
            sys.stderr.write(f"{'; '.join(told)}; go on with: planner resume {rollout.spelled}\n")
            return


def _blamed(state: Any, nodes: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Return those of some nodes that a failed pair blames -> its wave and communication domain."""
    from planner.execute.pairing import blaming

    found = ((name, blaming(state.pairs, state.approved, name)) for name in dict.fromkeys(nodes))
    return {name: (verdict[1], verdict[0].domain) for name, verdict in found if verdict is not None}
