"""Small and random fleets for the schedule; names are invented, only their relations matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from planner.model.target import RolloutPolicy
from planner.schedule.build import Schedule, build_waves
from planner.schedule.figures import UNSAID, Figures
from planner.schedule.plan import Cohort, NodePlan, PackageAct, Plan, Step

EQUAL = frozenset({"lib"})


@dataclass
class World:
    """Inputs of ``build_waves``."""

    cohorts: tuple[Cohort, ...]
    nodes: dict[str, NodePlan]
    rollout: RolloutPolicy = field(default_factory=RolloutPolicy)
    own: dict[str, RolloutPolicy] = field(default_factory=dict)
    down: dict[str, tuple[str, ...]] = field(default_factory=dict)
    down_domains: dict[str, str] = field(default_factory=dict)
    figures: Figures = UNSAID

    def schedule(self) -> Schedule:
        return build_waves(self.cohorts, self.nodes, self.rollout, self.own, self.down, equal_components=EQUAL,
                           down_domains=self.down_domains, figures=self.figures)

    def plan(self) -> Plan:
        made = self.schedule()
        return Plan(planner_version="0", name="test", inputs={}, policy="production", rollout=self.rollout,
                    pools=made.pools, cohorts=self.cohorts, waves=made.waves, nodes=self.nodes, warnings=made.warnings,
                    eta_minutes=made.eta_minutes,
                    pair_minutes=self.figures.pair_minutes if self.rollout.nccl_pairs else None)


def step(minutes: int = 10, component: str = "engine", id_: str = "s1") -> Step:
    return Step.model_validate({
        "id": id_, "move": component, "title": component, "disruption": "reboot", "minutes": minutes,
        "quick_gate": True, "packages": PackageAct(manager="apt"),
        "changes": [{"component": component, "from": "1", "to": "2"}]})


def world(table: Mapping[str, Mapping[str, Any]], cohorts: Mapping[str, Mapping[str, Any]] | None = None,
          own: Mapping[str, Mapping[str, Any]] | None = None, down: Mapping[str, tuple[str, ...]] | None = None,
          **rollout: Any) -> World:
    """Return a world.

    Args:
        table: Node -> fields of its NodePlan; cohort "c", pool "p" and environment "production" unless said.
        cohorts: Cohort -> ``hardware`` (default: its own id), ``minutes`` (a tuple, one a step; default: one step of
            10), ``component`` (what its steps change).
        own: Pool -> fields of its own policy.
        down: Pool -> nodes that are down.
        rollout: Fields of the default policy.
    """
    nodes = {
        name: NodePlan.model_validate({"cohort": "c", "pool": "p", "environment": "production", "facts": "sha256:0",
                                       "machine_id": name, **fields})
        for name, fields in table.items()
    }
    made = []
    for id_ in sorted({n.cohort for n in nodes.values()}):
        about = (cohorts or {}).get(id_, {})
        members = sorted(n for n in nodes if nodes[n].cohort == id_)
        steps = tuple(step(m, about.get("component", "engine"), f"s{i}")
                      for i, m in enumerate(about.get("minutes", (10,)), start=1))
        made.append(Cohort(id=id_, pools=tuple(sorted({nodes[n].pool for n in members})), gpu="gpu", start={}, goal={},
                           hardware_class=about.get("hardware", id_), nodes=tuple(members), steps=steps))
    return World(tuple(made), nodes, RolloutPolicy(**rollout),
                 {p: RolloutPolicy(**fields) for p, fields in (own or {}).items()}, dict(down or {}))


def plain(count: int, **fields: Any) -> dict[str, dict[str, Any]]:
    """Return ``count`` nodes n00, n01, … with the same fields."""
    return {f"n{i:02d}": dict(fields) for i in range(count)}


def batches(made: Schedule | Plan, kind: str = "batch") -> list[tuple[str, ...]]:
    """Return the nodes of every batch of one kind, in order."""
    return [b.nodes for w in made.waves if w.kind == kind for b in w.batches]


_LIMIT = st.sampled_from([1, 2, 3, 8, "1%", "10%", "25%", "34%", "50%", "100%"])
_POLICY = st.fixed_dictionaries({
    "max_unavailable": _LIMIT, "max_unavailable_per_domain": st.none() | _LIMIT,
    "canary": st.sampled_from(["auto", "auto", 0, 1, 2, 5]),
    "growth": st.sampled_from([1, 1.1, 1.5, 2, 3, 10]), "batch_max": st.sampled_from([None, None, 1, 4, 7]),
    "soak_minutes": st.sampled_from([0, 60]), "batch_soak_minutes": st.sampled_from([0, 0, 5]),
})


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a fleet of up to 40 nodes in racks, NVLink domains and communication domains that cross each other."""
    count = draw(st.integers(1, 40))
    width = draw(st.integers(1, 5))
    links = draw(st.booleans())
    def one(*values: str) -> str:
        return draw(st.sampled_from(values))

    table = {}
    for place in range(count):
        # Mates of an NVLink domain are mostly alike, as in life, but nothing forbids that they differ.
        own_pool = place if draw(st.integers(0, 9)) == 0 else place // width
        table[f"n{place:02d}"] = {
            "cohort": f"c{own_pool % 4}", "pool": f"p{own_pool % 3}",
            "nvlink_domain": f"d{place // width}" if links else "",
            "environment": one("production", "production", "production", "development", "staging"),
            "failure_domain": one("", "r0", "r1", "r2"), "comm_domain": one("", "m0", "m1"),
        }
    cohorts = {
        f"c{i}": {"hardware": one("h0", "h1", "h2"), "component": one("engine", "lib"),
                  "minutes": draw(st.sampled_from([(10,), (0,), (3, 20), ()]))} for i in range(4)}
    own = draw(st.dictionaries(st.sampled_from(["p0", "p1"]), _POLICY, max_size=1))
    down = draw(st.dictionaries(st.sampled_from(["p0", "p2"]), st.sampled_from([("x0",), ("x0", "x1")]), max_size=1))
    return world(table, cohorts, own, down, **draw(_POLICY))
