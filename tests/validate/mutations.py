"""Single mutations of a plan: one thing changed, everything else as it was."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any, get_args

from planner.schedule.plan import Change, Cohort, Plan, Step

Mutant = tuple[str, Plan]      # what was done, the plan it made
DISRUPTIONS = get_args(Step.model_fields["disruption"].annotation)


def mutants(plan: Plan) -> Iterator[Mutant]:
    """Yield every single mutation of every cohort that makes a move which no cohort before it makes."""
    seen: set[str] = set()
    for at, cohort in enumerate(plan.cohorts):
        made = {s.move for s in cohort.steps} - seen
        if made:
            seen |= made
            for label, changed in of_cohort(cohort):
                cohorts = (*plan.cohorts[:at], changed, *plan.cohorts[at + 1:])
                yield f"{label} ({cohort.id})", plan.model_copy(update={"cohorts": cohorts})


def of_cohort(cohort: Cohort) -> Iterator[tuple[str, Cohort]]:
    """Yield mutations of the path, of the way back, and of what the cohort says of itself."""
    for label, steps in of_steps(cohort.steps):
        yield label, cohort.model_copy(update={"steps": steps})
    for label, steps in of_steps(cohort.way_back):
        yield f"way back, {label}", cohort.model_copy(update={"way_back": steps})
    for name, values in sorted(cohort.goal.items()):
        yield f"goal without {name}", _said(cohort, goal={k: v for k, v in cohort.goal.items() if k != name})
        yield f"goal with another {name}", _said(cohort, goal={**cohort.goal, name: (*values[:-1], "999.1")})
        yield f"start with another {name}", _said(cohort, start={**cohort.start, name: ("999.1",)})
    yield "goal as the start", _said(cohort, goal=cohort.start)
    yield "a node less", _said(cohort, nodes=cohort.nodes[1:])
    yield "a node twice", _said(cohort, nodes=(*cohort.nodes, cohort.nodes[0]))
    yield "a node more", _said(cohort, nodes=(*cohort.nodes, "stranger"))
    yield "no way back", _said(cohort, way_back=())
    yield "a point of no return that is no step", _said(cohort, no_return_after="s99")
    if cohort.no_return_after:
        yield "point of no return not told", _said(cohort, no_return_after=None)
    else:
        yield "needless point of no return", _said(cohort, no_return_after="s1")
    yield "without a cost", _said(cohort, cost={})
    for name, value in sorted(cohort.cost.items()):
        yield f"another cost in {name}", _said(cohort, cost={**cohort.cost, name: value + 1})


def _said(cohort: Cohort, **update: Any) -> Cohort:
    return cohort.model_copy(update=update)


def of_steps(steps: tuple[Step, ...]) -> Iterator[tuple[str, tuple[Step, ...]]]:
    """Yield mutations of a sequence of steps."""
    for at, step in enumerate(steps):
        yield f"{step.move} dropped", (*steps[:at], *steps[at + 1:])
        yield f"{step.move} twice", (*steps[:at + 1], step, *steps[at + 1:])
        for label, changed in of_step(step):
            yield f"{step.move} {label}", (*steps[:at], changed, *steps[at + 1:])
    for a, b in combinations(range(len(steps)), 2):
        named = steps[a].model_copy(update={"id": steps[b].id})
        yield f"{steps[a].move} under the id of another step", (*steps[:a], named, *steps[a + 1:])
    for a, b in combinations(range(len(steps)), 2):
        turned = list(steps)
        turned[a], turned[b] = turned[b], turned[a]
        yield f"{steps[a].move} and {steps[b].move} swapped", tuple(turned)


def of_step(step: Step) -> Iterator[tuple[str, Step]]:
    """Yield mutations of one step."""
    def made(label: str, **update: Any) -> tuple[str, Step]:
        return label, step.model_copy(update=update)

    yield from (made(f"with disruption {d}", disruption=d) for d in DISRUPTIONS if d != step.disruption)
    yield made("with the other gate", quick_gate=not step.quick_gate)
    none = {"manager": "none", "install": {}, "remove": ()}
    yield made("without packages", packages=step.packages.model_copy(update=none))
    if step.packages.install:
        wrong = dict.fromkeys(step.packages.install, "0.0.1-1")
        yield made("with other versions of packages", packages=step.packages.model_copy(update={"install": wrong}))
    yield made("that ends the plan", ends=True)
    yield made("handed over", handover=True)
    yield made("with instructions", instructions=("do as you like",))
    yield made("as no move at all", move="no-such-move")
    yield made("with other minutes", minutes=step.minutes + 1)
    yield made("with another title", title="something")
    yield made("with links elsewhere", links=dict.fromkeys(step.links or ("/usr/local/cuda",), "/nowhere"))
    if step.links:
        yield made("without links", links={})
    for at, change in enumerate(step.changes):
        for label, other in _of_change(change):
            listed = (*step.changes[:at], *other, *step.changes[at + 1:])
            yield made(f"{change.component} {label}", changes=listed)


def _of_change(change: Change) -> Iterator[tuple[str, tuple[Change, ...]]]:
    def made(**update: str) -> tuple[Change, ...]:
        return (change.model_copy(update=update),)

    yield "left out", ()
    yield "of another component", made(component="driver" if change.component != "driver" else "nccl")
    yield "to a version that nobody wants", made(to="1.0")
    if change.to:
        yield "to a later build", made(to=f"{change.to}.9")
        yield "taken away", made(to="")
    if change.from_:
        yield "from a version that is not there", made(from_="1.0")
        yield "from nothing", made(from_="")
