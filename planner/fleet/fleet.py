"""The fleet: nodes that may be acted on, and those that may not, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from planner.facts.schema import FactDocument, FactSet, NodeRecord
from planner.fleet.state import Declared, build_state
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State

# Roles on which planner never acts unless the node is named for it in the target's selection.
PROTECTED_ROLES = frozenset({"controller", "bastion", "scheduler", "control-plane", "etcd", "storage"})
RECOGNISED_OWNERS = frozenset({"apt", "dnf"})
# People who declare which image a diskless node runs can plan the change of that image; its packages stay untouched.
IMAGE_KEY = "node_image"
IMAGE_HINT = ("change the image: install the goal stack in a copy of it, boot one node of each class from the copy, "
              "then the others in waves; to have planner do the waves, declare planner_node_image in the inventory and "
              "want node_image in the target")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node that can be planned for."""

    name: str
    facts: FactSet
    facts_digest: str
    machine_id: str
    state: State
    gpu: str
    hardware_class: str
    pool: str = "default"
    environment: str = "production"
    failure_domain: str = ""
    nvlink_domain: str = ""
    comm_domain: str = ""
    scheduler: str = "none"
    role: str = ""
    groups: tuple[str, ...] = ()


class LeftOut(NamedTuple):
    """A node that no step touches, and why."""

    name: str
    reason: str
    detail: str
    hint: str = ""
    pool: str = "default"


class Fleet(NamedTuple):
    """All nodes of a discovery, sorted by name; ``watched`` are left out of steps, and can be judged all the same."""

    nodes: tuple[Node, ...]
    left_out: tuple[LeftOut, ...]
    watched: tuple[Node, ...] = ()


def build_fleet(document: FactDocument, matrices: MatrixSet) -> Fleet:
    """Turn a discovery into nodes with states; whatever must not be touched is left out with its reason.

    States are built once per distinct fact set and declared workloads, not once per node.
    """
    twins = Counter(n.identity.machine_id or "" for n in document.nodes)
    told = ("workload_runtimes", "role", *(c.declared for c in matrices.components.values() if c.declared))
    states: dict[tuple[str, object], tuple[State, str, str, tuple[str, str, str] | None]] = {}
    nodes: list[Node] = []
    watched: list[Node] = []
    left = [LeftOut(name=u.name, reason="unreadable", detail=u.reason, hint=u.hint,
                    pool=_text(u.declared, "pool", "default")) for u in document.unreadable]
    for record in document.nodes:
        facts = document.fact_sets.get(record.facts)
        if facts is None:
            left.append(LeftOut(name=record.name, reason="no-facts", detail="its fact set is missing from the document",
                                hint="run: planner discover", pool=_text(record.declared, "pool", "default")))
            continue
        key = (record.facts, tuple(record.declared.get(name) for name in told))
        if key not in states:
            state: State = build_state(facts, record.declared, matrices)
            states[key] = (state, _gpu_line(facts, state), _hardware_class(facts, state, record.declared),
                           _misdeclared(state, matrices))
        state, gpu, hardware_class, misdeclared = states[key]
        node = _node(record, facts, state, gpu, hardware_class)
        refusal = _refusal(record, facts, twins) or misdeclared
        if refusal is None:
            nodes.append(node)
            continue
        reason, detail, hint = refusal
        left.append(LeftOut(name=record.name, reason=reason, detail=detail, hint=hint, pool=node.pool))
        if facts.gpus:
            watched.append(node)
    return Fleet(tuple(sorted(nodes, key=lambda n: n.name)), tuple(sorted(left, key=lambda n: n.name)),
                 tuple(sorted(watched, key=lambda n: n.name)))


def _node(record: NodeRecord, facts: FactSet, state: State, gpu: str, hardware_class: str) -> Node:
    declared = record.declared
    return Node(
        name=record.name, facts=facts, facts_digest=record.facts, machine_id=record.identity.machine_id or "",
        state=state, gpu=gpu, hardware_class=hardware_class, pool=_text(declared, "pool", "default"),
        environment=_text(declared, "environment", "production"), failure_domain=_text(declared, "failure_domain"),
        nvlink_domain=_text(declared, "nvlink_domain"), comm_domain=_text(declared, "comm_domain"),
        scheduler=_text(declared, "scheduler", "none"), role=_text(declared, "role"), groups=record.groups,
    )


def _text(declared: Declared, key: str, default: str = "") -> str:
    value = declared.get(key, default)
    return value if isinstance(value, str) else default


def _refusal(record: NodeRecord, facts: FactSet, twins: Counter[str]) -> tuple[str, str, str] | None:
    """Return (reason, detail, hint) when planner must never act on this node in place."""
    machine_id, role = record.identity.machine_id, _text(record.declared, "role")
    if not machine_id:
        return ("no-identity", "its machine-id could not be read", "check /etc/machine-id on the node")
    if twins[machine_id] > 1:
        return ("same-machine", f"another inventory name has the same machine-id {machine_id}",
                "remove one of the two names from the inventory")
    if role in PROTECTED_ROLES:
        return ("protected-role", f"its role is {role}", "planner never acts on such a node")
    if not facts.gpus and facts.driver.owner in (None, "none"):
        if facts.pci_gpus:
            seen = f"{facts.pci_gpus} GPU{'s' * (facts.pci_gpus > 1)} on the PCI bus, and no driver that tells which"
            return ("no-driver", seen, "put a driver on by hand, or finish what broke off; then run: planner discover")
        return ("no-gpu", "no GPU and no driver were found", "")
    if facts.os.root_diskless and not _text(record.declared, IMAGE_KEY):
        return ("diskless", "its root file system is an image or network mount", IMAGE_HINT)
    return None


def _misdeclared(state: State, matrices: MatrixSet) -> tuple[str, str, str] | None:
    """Return (reason, detail, hint) when people declared a word that means nothing: a rule would not hear it."""
    for name, component in matrices.components.items():
        for value in state.get(name, ()) if component.declared and component.options else ():
            if value not in component.options:
                key, words = f"planner_{component.declared}", ", ".join(component.options)
                return ("bad-declaration", f"{key} is {value!r}, which is none of {words}",
                        f"correct {key} in the inventory")
    return None


def _gpu_line(facts: FactSet, state: State) -> str:
    models = " + ".join(state.get("gpu_model", ())) or "no GPU"
    return f"{len(facts.gpus)}x {models}"


def _hardware_class(facts: FactSet, state: State, declared: Declared) -> str:
    parts: Iterable[str] = (
        _gpu_line(facts, state),
        "+".join(sorted({g.vbios for g in facts.gpus if g.vbios})),
        " ".join(state.get("os", ())),
        facts.kernel.running,
        "+".join(sorted(set(facts.nics))),
        _text(declared, "role"),
    )
    return " / ".join(part for part in parts if part)
