"""What the next boot brings with it: the boot loader's choice is another release than the one that runs.

A reboot does not ask why it was made. A driver's step boots the kernel that an earlier upgrade installed, so the path
is searched on that kernel, and the step says that it boots it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from planner.check.judge import judgements_of
from planner.check.verdict import Verdict
from planner.fleet.fleet import Node
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.schedule.plan import Change, Step
from planner.schedule.steps import StepList

_BOOTS = "reboot"


class Boot(NamedTuple):
    """What a node boots next.

    Attributes:
        node: The node as it is after a boot without a change.
        before: What runs now: component -> version.
        after: What runs then.
    """

    node: Node
    before: Mapping[str, tuple[str, ...]]
    after: Mapping[str, tuple[str, ...]]

    def told(self) -> str:
        """Return in words what boots."""
        return " and ".join(f"{name} {value} boots next ({' '.join(self.before[name])} runs now)"
                            for name, (value,) in self.after.items())

    def refused(self, why: tuple[str, ...]) -> tuple[str, ...]:
        """Return a refusal's sentences, headed by what boots where they speak of it."""
        if not any(value in text for text in why for (value,) in self.after.values()):
            return why
        told = (f"{self.told()}, and every step that reboots boots it: choose another entry of the boot loader and "
                "discover again to keep what runs")
        return (told, *why)

    def start(self, state: State) -> State:
        """Return the state of the node before its first boot."""
        return {**state, **self.before}

    def said_by(self, listed: StepList, start: State, accepted: frozenset[str], matrices: MatrixSet) -> StepList:
        """Return steps of which the first that reboots says what it boots; without one, as they were.

        No reboot brings back what ran before: where what is installed now does not go with what boots, the way back
        ends at this step.

        Args:
            listed: Steps and way back.
            start: State of the node as it is after a boot without a change.
            accepted: Names of accepted risks.
            matrices: What is known.
        """
        place = first_boot(listed.steps)
        if place is None:
            return listed
        step = listed.steps[place]
        steps = list(listed.steps)
        steps[place] = self._booted(step)
        why = self._no_return(start, accepted, matrices)
        earlier = [s.id for s in listed.steps[:place + 1]]
        if why and listed.no_return_after not in earlier:
            return replace(listed, steps=tuple(steps), no_return_after=step.id, no_return_packages=(),
                           no_return_why=why)
        return replace(listed, steps=tuple(steps))

    def _booted(self, step: Step) -> Step:
        """Return a step that reboots with what it boots; what it puts on itself comes instead of what runs now."""
        changes, title = list(step.changes), step.title
        own = {change.component: place for place, change in enumerate(changes)}
        for name, (value,) in self.after.items():
            now = self.before[name][0]
            if name in own:
                changes[own[name]] = changes[own[name]].model_copy(update={"from_": now})
                title = title.replace(f"{name} {value} ->", f"{name} {now} ->")
            else:
                changes.append(Change.model_validate({"component": name, "from": now, "to": value}))
                title += f", boots {name} {value}"
        told = () if len(changes) == len(step.changes) else (
            f"{self.told()}: the reboot brings it, no package does",)
        return step.model_copy(update={"changes": tuple(changes), "title": title,
                                       "remarks": (*(step.remarks or ()), *told) or None})

    def _no_return(self, start: State, accepted: frozenset[str], matrices: MatrixSet) -> str:
        """Return what is wrong with what is installed now on what boots next, "" where nothing is that was not so."""
        known = {j.key for j in judgements_of(self.start(start), matrices)
                 if j.blocking and j.verdict is not Verdict.SUPPORTED}
        wrong = [j for j in judgements_of(start, matrices) if j.blocking and j.verdict is not Verdict.SUPPORTED
                 and j.key not in known and not j.names & accepted]
        return f"{self.told()}, and there what the way back leads to is wrong: {wrong[0].statement}" if wrong else ""


def first_boot(steps: tuple[Step, ...]) -> int | None:
    """Return the place of the first step that reboots; None where people make it: they may bring any kernel."""
    place = next((place for place, step in enumerate(steps) if step.disruption == _BOOTS), None)
    return None if place is None or steps[place].handover else place


def next_boot(node: Node, matrices: MatrixSet) -> Boot | None:
    """Return what a reboot alone would change on a node, None where nothing, or where nobody knows."""
    before, after = dict[str, tuple[str, ...]](), dict[str, tuple[str, ...]]()
    for name, component in sorted(matrices.components.items()):
        following, now = node.state.get(name, ()), node.state.get(component.next_of or "", ())
        if component.next_of and following and now and following != now:
            before[component.next_of], after[component.next_of] = now, following
    if not after:
        return None
    return Boot(replace(node, state={**node.state, **after}), before, after)
