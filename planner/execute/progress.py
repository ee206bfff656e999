"""What people and programs see of a rollout while it runs: a live view on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from planner.execute.predict import minutes_left
from planner.execute.states import FINAL, NodeState, RolloutState
from planner.schedule.plan import Plan

SHOWN_NODES = 24      # nodes at work listed one a line; a terminal has no room for more
SHOWN_EVENTS = 6

_STYLES = {NodeState.DONE: "green", NodeState.FAILED: "bold red", NodeState.LOST: "bold red", NodeState.HELD: "yellow",
           NodeState.SKIPPED: "dim", NodeState.PENDING: "dim"}


class Reporter(Protocol):
    """What the engine tells, as it happens."""

    def event(self, kind: str, at: datetime, **data: Any) -> None:
        """Take one event."""
        ...

    def state(self, plan: Plan, state: RolloutState) -> None:
        """Take the state after every change."""
        ...


class SilentReporter:
    """Tells nothing."""

    def event(self, kind: str, at: datetime, **data: Any) -> None:
        """Ignore the event."""

    def state(self, plan: Plan, state: RolloutState) -> None:
        """Ignore the state."""


class JsonReporter:
    """One JSON object a line, for programs and for logs."""

    def __init__(self, stream: TextIO, *, label: str = "") -> None:
        self._stream, self._label = stream, label

    def event(self, kind: str, at: datetime, **data: Any) -> None:
        """Write one line, at once."""
        line = {"event": kind, "at": at.isoformat(timespec="seconds"), **{k: v for k, v in data.items() if v != ""}}
        if self._label:
            line["simulated"] = self._label
        self._stream.write(json.dumps(line, sort_keys=True, ensure_ascii=False) + "\n")
        self._stream.flush()

    def state(self, plan: Plan, state: RolloutState) -> None:
        """Lines tell events; a state is for ``planner status``."""


class LineReporter:
    """One short line for each thing that a person would note, where nothing can be redrawn."""

    def __init__(self, stream: TextIO, *, label: str = "") -> None:
        self._stream, self._label = stream, f" ({label.partition(',')[0]})" if label else ""

    def event(self, kind: str, at: datetime, **data: Any) -> None:
        """Write a line for calls, gates, finished nodes, waits and the end; phases are too many."""
        text = ""
        if kind == "call-started":
            text = f"{data['batch']} {data['call']}: {' '.join(data['nodes'])}" if data.get("batch") else ""
        elif kind in ("gate", "canary"):
            reasons = "; ".join(data.get("reasons") or ())
            text = f"{data['node']} {'own command' if kind == 'canary' else kind}: {data['verdict']}" + (
                f" ({reasons})" if reasons else "")
        elif kind == "node" and data.get("state") not in ("change-required", "undrain-required"):
            text = f"{data['node']} {data['state']}" + (f": {data['reason']}" if data.get("reason") else "")
        elif kind in ("pair", "pair-lost"):
            text = f"{' with '.join(data['pair'])} nccl: {data.get('code', kind)} ({_listed(data)})"
        elif kind == "pairs-judged":
            text = f"{data['wave']} nccl in {data['domain']}: {data['outcome']} ({data['reason']})"
        elif kind == "waiting":
            text = f"waiting until {data['until']}: {data['reason']}"
        elif kind in ("wave-finished", "finished", "stopped"):
            text = " ".join(filter(None, (data.get("wave", ""), kind, str(data.get("reason", "")))))
        if text:
            self._stream.write(f"  {at.astimezone():%H:%M:%S} {text}{self._label}\n")
            self._stream.flush()

    def state(self, plan: Plan, state: RolloutState) -> None:
        """Lines tell events."""


class LiveReporter:
    """Waves, nodes at work, the last events and how much is left, redrawn in place."""

    def __init__(self, console: Console, clock: Callable[[], datetime], *, label: str = "") -> None:
        self._console, self._clock, self._label = console, clock, label
        self._plan: Plan | None = None
        self._state: RolloutState | None = None
        self._events: list[str] = []
        self._waiting = ""
        self._live = Live(console=console, get_renderable=self._view, refresh_per_second=4, transient=False)

    def __enter__(self) -> LiveReporter:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Leave the last picture on the terminal."""
        self._live.stop()

    def event(self, kind: str, at: datetime, **data: Any) -> None:
        """Keep the last few events; a wait stays until something else happens."""
        self._waiting = f"{data.get('reason', '')} until {data.get('until', '')}" if kind == "waiting" else ""
        if kind != "phase":
            told = " ".join(str(data[k]) for k in ("node", "wave", "batch", "call", "state", "verdict", "reason")
                            if data.get(k))
            self._events = [*self._events, f"{at.astimezone():%H:%M:%S}  {kind}  {told}"][-SHOWN_EVENTS:]

    def state(self, plan: Plan, state: RolloutState) -> None:
        """Remember the state for the next picture."""
        self._plan, self._state = plan, state

    def _view(self) -> Group:
        if self._plan is None or self._state is None:
            return Group(Text("starting …"))
        parts: list[Any] = [waves_table(self._plan, self._state)]
        at_work = [(n, s) for n, s in sorted(self._state.nodes.items())
                   if s.state not in FINAL and s.state is not NodeState.PENDING]
        if at_work:
            parts.append(nodes_table(at_work[:SHOWN_NODES]))
        parts += [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self._events]
        left = minutes_left(self._plan, self._state)
        words = f"at most {left // 60} h {left % 60:02d} min left, drains excluded" if left else "nothing left"
        parts.append(Text(" · ".join(word for word in (self._waiting, words, self._label) if word), style="bold"))
        return Group(*parts)


def _listed(data: Mapping[str, Any]) -> str:
    return "; ".join(data.get("reasons") or ()) or str(data.get("reason", ""))


def waves_table(plan: Plan, state: RolloutState) -> Table:
    """Return one line a wave: how many nodes are where."""
    table = Table(box=None, pad_edge=False)
    for name in ("wave", "kind", "nodes", "done", "at work", "failed", "left out", "soak", "approval"):
        table.add_column(name)
    for wave in plan.waves:
        count = Counter(s.state for s in state.nodes.values() if s.wave == wave.id)
        if not count:
            continue
        resting = (NodeState.DONE, NodeState.FAILED, NodeState.LOST, NodeState.SKIPPED, NodeState.PENDING)
        asked = wave.approval or wave.id in state.approval_needed or state.pairs.asking(wave.id)
        table.add_row(
            wave.id, wave.kind, str(count.total()), str(count[NodeState.DONE]),
            str(sum(n for s, n in count.items() if s not in resting)),
            Text(str(failed := count[NodeState.FAILED] + count[NodeState.LOST]), style="bold red" if failed else ""),
            str(count[NodeState.SKIPPED]), f"{wave.soak_minutes} min" if wave.soak_minutes else "-",
            "approved" if wave.id in state.approved else "needed" if asked else "-")
    return table


def nodes_table(nodes: list[tuple[str, Any]]) -> Table:
    """Return one line a node: state, phase, gate, reason."""
    table = Table(box=None, pad_edge=False)
    for name in ("node", "wave", "state", "phase", "gate", "reason"):
        table.add_column(name, overflow="fold")
    for name, status in nodes:
        table.add_row(name, status.wave, Text(status.state.value, style=_STYLES.get(status.state, "cyan")),
                      status.phase or "-", status.gates or "-", status.reason or "-")
    return table
