"""Wires the engine: places of state, runner, reader of facts, reporter. Shared by the verbs that act on a bundle."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from planner.diagnostics import Diagnostic
from planner.errors import ApplyError, InputError, StaleError
from planner.execute.apply import NO_LEFTOVERS, Engine, Outcome
from planner.execute.calls import Setting
from planner.execute.clock import SystemClock, VirtualClock
from planner.execute.interrupts import Interrupts
from planner.execute.lock import Controller, RolloutLock
from planner.execute.states import RolloutState, replay
from planner.execute.store import Store
from planner.schedule.plan import Plan

DATABASE = "state.db"
PLAN_COPY = "plan.json"       # beside the journal, which names steps by their ids alone
SIMULATED = "-simulated"
# What people declare, and no node says of itself; it is not compared before a node's turn.
DECLARED = frozenset({"cuda_runtime"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """An opened bundle: its plan, where its state lives, and the journal."""

    bundle: Path
    plan: Plan
    state_dir: Path
    store: Store
    simulated: bool
    spelled: str                       # bundle and options as the next command has to repeat them

    def state(self) -> RolloutState:
        """Return what the journal adds up to."""
        return replay(self.plan, self.store.read())


@contextmanager
def open_rollout(bundle: Path, state: str, *, simulate: str = "", must_exist: bool = False) -> Iterator[Rollout]:
    """Read a bundle and open its state.

    Args:
        bundle: Directory.
        state: Directory or database URL of ``--state``; "" for ``.planner`` beside the bundle.
        simulate: What ``--simulate`` was given; a simulation has a state of its own.
        must_exist: Refuse where nothing was ever applied, instead of making an empty state.

    Raises:
        BundleError: The bundle was changed or is none.
        ApplyError: There is no state, or it cannot be used.
    """
    from planner.emit.write import read_bundle

    plan = read_bundle(bundle)
    folder, url = state_places(bundle, state or os.environ.get("PLANNER_STATE", ""), plan, simulated=bool(simulate))
    if must_exist and url.startswith("sqlite:") and not (folder / DATABASE).is_file():
        raise ApplyError(Diagnostic(
            code="not-applied", subject=str(bundle), summary=f"there is no record of this rollout under {folder}",
            hint=f"begin it: planner apply {bundle} --canary; or say where its state is: --state DIR"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / PLAN_COPY).is_file():
            shutil.copyfile(bundle / PLAN_COPY, folder / PLAN_COPY)
    except OSError as exc:
        raise ApplyError(Diagnostic(
            code="state-unusable", subject=str(folder), summary=f"the state cannot be kept there: {exc.strerror}",
            hint="name a directory that you may write to: --state DIR")) from exc
    store = Store(url, plan.digest + (SIMULATED if simulate else ""))
    try:
        options = [*(["--state", state] if state else []), *(["--simulate", simulate] if simulate else [])]
        yield Rollout(bundle=bundle, plan=plan, state_dir=folder, store=store, simulated=bool(simulate),
                      spelled=shlex.join([str(bundle), *options]))
    finally:
        store.close()


def state_places(bundle: Path, state: str, plan: Plan, *, simulated: bool = False) -> tuple[Path, str]:
    """Return the directory for evidence and artifacts, and the database URL.

    Args:
        bundle: Directory of the bundle.
        state: Directory or database URL; "" for ``.planner`` beside the bundle.
        plan: Its plan: each has a place of its own.
        simulated: Whether no real node is meant.
    """
    name = plan.digest.removeprefix("sha256:")[:16] + (SIMULATED if simulated else "")
    beside = bundle.absolute().parent / ".planner" / name
    if "://" in state:
        return beside, state
    folder = Path(state).absolute() / name if state else beside
    return folder, f"sqlite:///{folder / DATABASE}"


def run_engine(rollout: Rollout, *, canary_only: bool, inventory: str, forks: int, allow_local: bool, simulate: str,
               overlays: tuple[Path, ...], lines: bool = False) -> Outcome:
    """Take the lock and run the engine to its end; ``lines`` tells progress as text where there is no terminal.

    Raises:
        PlannerError: Locked, stale, refused; the exit code says which.
    """
    from planner.emit.render import rollout_id

    plan, controller = rollout.plan, Controller.here()
    setting = Setting(plan=plan, bundle=rollout.bundle, inventory=_inventory(plan, inventory, simulate),
                      state_dir=rollout.state_dir, rollout=rollout_id(plan), owner=controller.owner, forks=forks,
                      allow_local=allow_local)
    with ExitStack() as stack:
        clock: SystemClock | VirtualClock = VirtualClock(_after(rollout)) if simulate else SystemClock()
        lock = stack.enter_context(RolloutLock(rollout.store, clock, bundle=rollout.spelled, controller=controller))
        parts = _simulated(rollout, simulate, setting.rollout, clock) if simulate else _real(plan, overlays)
        interrupts = stack.enter_context(Interrupts(_say_interrupt).on_signals())
        reporter = stack.enter_context(_reporter(clock.now, label=parts.pop("label", ""), lines=lines))
        return Engine(setting, store=rollout.store, lock=lock, clock=clock, reporter=reporter, interrupts=interrupts,
                      canary_only=canary_only, **{"ignored": DECLARED, **parts}).run()


def _inventory(plan: Plan, given: str, simulate: str) -> str:
    inventory = given or plan.inventory
    if not inventory and not simulate:
        raise InputError(Diagnostic(code="no-inventory", subject="--inventory", summary="the plan names no inventory",
                                    hint="name it: planner apply BUNDLE --inventory inventories/FLEET"))
    if inventory and "," not in inventory and not Path(inventory).exists() and not simulate:
        raise InputError(Diagnostic(code="inventory-missing", subject=inventory,
                                    summary="the inventory is not there (relative paths start where you stand)",
                                    hint="name it: planner apply BUNDLE --inventory inventories/FLEET"))
    return inventory


def _after(rollout: Rollout) -> datetime:
    """Return a time no entry of a simulated journal is later than: virtual time goes on where it stood."""
    entries = rollout.store.read()
    return datetime.fromisoformat(entries[-1].at) if entries else datetime.now(UTC)


def _simulated(rollout: Rollout, simulate: str, rollout_name: str, clock: SystemClock | VirtualClock) -> dict[str, Any]:
    from planner.execute.simulation import (
        judge_simulated,
        judge_simulated_canary,
        judge_simulated_pair,
        read_scenario,
        read_simulated_state,
        scripted_runner,
    )

    runner = scripted_runner(rollout.plan, read_scenario(simulate), rollout=rollout_name, state_dir=rollout.state_dir,
                             sleep=clock.sleep)
    judges = {"gate_judge": judge_simulated, "canary_judge": judge_simulated_canary, "pair_judge": judge_simulated_pair}
    return {"runner": runner, "read_state": read_simulated_state, **judges, "leftovers": NO_LEFTOVERS,
            "label": runner.label}


def _real(plan: Plan, overlays: tuple[Path, ...]) -> dict[str, Any]:
    from planner.cli.inputs import load_rules
    from planner.runner.ansible import AnsibleRunner

    matrices = load_rules(overlays)
    recheck(plan, matrices)
    declared = {name for name, component in matrices.components.items() if component.declared}
    return {"runner": AnsibleRunner(), "read_state": state_reader(matrices), "ignored": DECLARED | declared}


def state_reader(matrices: Any) -> Callable[[str], Mapping[str, tuple[str, ...]]]:
    """Return what turns a probe's answer into a state, judged names as in the matrices."""
    from planner.facts.assemble import assemble_facts, read_probe
    from planner.fleet.state import asked_state, build_state

    def read_state(text: str) -> Mapping[str, tuple[str, ...]]:
        facts, _ = assemble_facts(read_probe(text))
        state = build_state(facts, {}, matrices)
        return {**state, **asked_state(sorted(matrices.components), facts, state, matrices)}

    return read_state


def recheck(plan: Plan, matrices: Any) -> None:
    """Stop where what is known today speaks against a goal that was sound when the plan was made.

    Raises:
        StaleError: With one diagnostic per cohort and claim.
    """
    from planner.check.evaluate import judge_state
    from planner.check.verdict import Verdict

    if plan.inputs.get("matrices") == matrices.digest:
        return
    known = {a.risk for a in plan.accepted} | {c.claim for c in plan.risks}
    found = [
        Diagnostic(code="known-bad-since", subject=f"cohort {cohort.id} ({len(cohort.nodes)} nodes)",
                   summary=judged.statement, sources=(judged.provenance.url,) if judged.provenance else (),
                   hint="plan again with today's matrices: planner plan --facts FACTS --target TARGET --out BUNDLE")
        for cohort in plan.cohorts if cohort.steps for judged in judge_state(cohort.goal, matrices)
        if judged.blocking and judged.verdict is Verdict.UNSUPPORTED
        and not judged.names & (known | {c.claim for c in cohort.inherited})
    ]
    if found:
        raise StaleError(*found)


def clock_of(rollout: Rollout) -> SystemClock | VirtualClock:
    """Return the clock of a rollout; simulated time goes on where it stood."""
    return VirtualClock(_after(rollout)) if rollout.simulated else SystemClock()


def release_all(rollout: Rollout, *, inventory: str, forks: int, simulate: str,
                entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Write the end of a rollout, give back every lease and take its marks off; return the nodes where it did not work.

    Raises:
        LockedError: A controller is at work.
    """
    from planner.emit.render import rollout_id
    from planner.execute.calls import build_request
    from planner.execute.decide import Act
    from planner.execute.fences import fenced_nodes
    from planner.runner.ansible import AnsibleRunner
    from planner.runner.port import HostOutcome, PlaybookRunner

    plan, controller, clock = rollout.plan, Controller.here(), clock_of(rollout)
    setting = Setting(plan=plan, bundle=rollout.bundle, inventory=_inventory(plan, inventory, simulate),
                      state_dir=rollout.state_dir, rollout=rollout_id(plan), owner=controller.owner, forks=forks)
    with RolloutLock(rollout.store, clock, bundle=rollout.spelled, controller=controller) as lock:
        lock.append(entry)
        now = rollout.state()
        paired = now.pairs.open.pair if now.pairs.open else ()
        leased = tuple(sorted({*paired, *(name for name, status in now.nodes.items() if status.leased)}))
        fenced = fenced_nodes(plan, now)
        if not leased and not fenced:
            return ()
        runner: PlaybookRunner = (_simulated(rollout, simulate, setting.rollout, clock)["runner"] if simulate
                                  else AnsibleRunner())
        act = Act(call="release", wave="", batch="", nodes=leased, fenced=fenced)
        result = runner.run(build_request(setting, act, token=lock.token, nonce="", acknowledge=(),
                                          run_id=f"{setting.rollout}.{lock.token}.abort"))
        left = tuple(n for n in sorted({*leased, *fenced}) if result.hosts.get(n) is not HostOutcome.OK)
        lock.append(*[{"kind": "lease-released", "node": n} for n in leased if n not in left],
                    *[{"kind": "fences-removed"}] * bool(fenced and not set(fenced) & set(left)))
        return left


def _say_interrupt(count: int) -> None:
    words = ("finishing what is in flight, then stopping; once more aborts it" if count == 1 else
             "ending the call in flight; its nodes are looked at again at resume")
    sys.stderr.write(f"\n{words}\n")


@contextmanager
def _reporter(now: Callable[[], datetime], *, label: str, lines: bool) -> Iterator[Any]:
    from planner.execute.progress import JsonReporter, LineReporter, LiveReporter

    if sys.stdout.isatty() and sys.stderr.isatty():
        from rich.console import Console

        with LiveReporter(Console(stderr=True), now, label=label) as live:
            yield live
    elif lines:
        yield LineReporter(sys.stderr, label=label)
    else:
        yield JsonReporter(sys.stdout, label=label)
