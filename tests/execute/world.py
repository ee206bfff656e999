"""A whole small world for the engine: a plan, a simulated fleet, virtual time, and the invariants that always hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from planner.execute.apply import NO_LEFTOVERS, Engine, Outcome
from planner.execute.calls import Setting
from planner.execute.clock import VirtualClock
from planner.execute.interrupts import Interrupts
from planner.execute.lock import Controller, RolloutLock
from planner.execute.pair_call import PairJudge
from planner.execute.predict import FOLLOWS_AFTER_REBOOT
from planner.execute.simulation import (
    fleet_of,
    judge_simulated,
    judge_simulated_canary,
    judge_simulated_pair,
    read_simulated_state,
)
from planner.execute.states import Entry, Event, NodeState, RolloutState, replay
from planner.execute.store import Store
from planner.execute.verdicts import CanaryJudge, GateJudge
from planner.runner.scripted import Fault, ScriptedRunner, SimulatedFleet
from planner.schedule.plan import Plan
from tests.emit.sample import DRIVER, TOOLKIT, cohort, finished

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ME = Controller(owner="anna@laptop", host="laptop", pid=1234, process_start="77")
ROLLOUT = "prod-12345678"


def make_plan(*, canary: int = 1, batches: Sequence[int] = (2, 2), limit: int = 2, soak: int = 60,
              approval: bool = True, budget: int | str = 0, domains: dict[str, str] | None = None,
              down: Sequence[str] = (), windows: Sequence[str] = (), **rollout: Any) -> Plan:
    """Return a finished plan: canaries first, then one wave for each number of nodes.

    Node names are n0, n1, … in rollout order; ``domains`` maps a node to its NVLink domain.
    """
    sizes = [canary, *batches] if canary else list(batches)
    names = [f"n{i}" for i in range(sum(sizes))]
    waves, rest = [], list(names)
    for place, size in enumerate(sizes):
        nodes, rest = rest[:size], rest[size:]
        early = bool(canary) and place == 0
        waves.append({
            "id": f"w{place + 1}", "kind": "canary" if early else "batch", "play": f"plays/w{place + 1}.yml",
            "soak_minutes": soak if early else 0, "approval": early and approval,
            "batches": [{"id": f"w{place + 1}b1", "nodes": nodes, "minutes": 30}],
        })
    group = cohort("c-one", names, [DRIVER, TOOLKIT])
    group["start"]["loaded_driver"] = ["570.1"]
    return finished({
        "schema": "planner.plan/1", "planner_version": "0", "name": "prod", "inputs": {}, "inventory": "inv",
        "policy": "production", "rollout": {"failure_budget": budget, **rollout},
        "pools": {"train": {"nodes": len(names), "max_unavailable": limit, "already_down": list(down),
                            "windows": list(windows)}},
        "cohorts": [group], "waves": waves,
        "nodes": {name: {"cohort": "c-one", "pool": "train", "environment": "production", "facts": "sha256:00",
                         "machine_id": f"{i:032x}", "nvlink_domain": (domains or {}).get(name, "")}
                  for i, name in enumerate(names)},
    })


@dataclass
class World:
    """Plan, fleet and state directory; survives any number of runs, as the real ones do."""

    plan: Plan
    directory: Path
    faults: tuple[Fault, ...] = ()
    seed: int = 0
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START))
    most_away: int = 0
    runner: type[ScriptedRunner] = ScriptedRunner
    gate_judge: GateJudge = judge_simulated
    canary_judge: CanaryJudge = judge_simulated_canary
    pair_judge: PairJudge = judge_simulated_pair

    def __post_init__(self) -> None:
        self.fleet = fleet_of(self.plan)
        self.limit = self.plan.pools["train"].max_unavailable

    @property
    def store(self) -> Store:
        """Open the store as another process would."""
        return Store(f"sqlite:///{self.directory / 'state.db'}", self.plan.digest)

    def check(self, fleet: SimulatedFleet) -> None:
        """Hold the fleet to what must be true at every instant."""
        away = {name for name, node in fleet.nodes.items() if node.drained or node.lost}
        away |= set(self.plan.pools["train"].already_down)
        self.most_away = max(self.most_away, len(away))
        assert len(away) <= self.limit, f"{sorted(away)} are away, {self.limit} may be"
        for name, node in fleet.nodes.items():
            begun = any(step["id"] in node.marks for step in node.steps)
            gated = node.marks.get("gate", {}).get("verdict") == "pass"
            assert node.drained or not begun or gated or node.lost, f"{name} is in service without a passing gate"

    def run(self, *, canary_only: bool = False, interrupts: Interrupts | None = None, store: Store | None = None,
            controller: Controller = ME, reporter: Any = None) -> Outcome:
        """Run the engine once, as one command does."""
        store = store or self.store
        try:
            with RolloutLock(store, self.clock, bundle="bundle", controller=controller,
                             lives=lambda row: False) as lock:
                runner = self.runner(self.fleet, rollout=ROLLOUT, seed=self.seed, faults=self.faults,
                                     sleep=self.clock.sleep, on_change=self.check, follows=FOLLOWS_AFTER_REBOOT)
                return Engine(
                    Setting(plan=self.plan, bundle=self.directory, inventory="inv", state_dir=self.directory,
                            rollout=ROLLOUT, owner=controller.owner),
                    store=store, lock=lock, runner=runner, clock=self.clock, read_state=read_simulated_state,
                    canary_only=canary_only, interrupts=interrupts, leftovers=NO_LEFTOVERS, reporter=reporter,
                    gate_judge=self.gate_judge, canary_judge=self.canary_judge, pair_judge=self.pair_judge,
                ).run()
        finally:
            store.close()

    def say(self, kind: str, **fields: Any) -> None:
        """Write a person's entry, as approve, pause, retry and skip do."""
        store = self.store
        store.append([{"kind": kind, **fields}], at=self.clock.now().isoformat())
        store.close()

    def move(self, node: str, event: Event) -> None:
        """Retry or skip a node."""
        self.say("node", node=node, data={"event": event.value})

    def state(self) -> RolloutState:
        """Return what the journal adds up to."""
        return replay(self.plan, self.entries())

    def entries(self) -> tuple[Entry, ...]:
        """Return the journal."""
        store = self.store
        try:
            return store.read()
        finally:
            store.close()

    def states(self) -> dict[str, NodeState]:
        """Return each node's state."""
        return {name: status.state for name, status in self.state().nodes.items()}

    def at_goal(self) -> bool:
        """Tell whether every machine really is at its goal, in service and free."""
        goal = {name: sorted(values) for name, values in self.plan.cohorts[0].goal.items()}
        return all({k: sorted(v) for k, v in node.state.items() if k in goal} == goal and not node.drained
                   and not node.lease for node in self.fleet.nodes.values())
