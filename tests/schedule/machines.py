"""Facts of invented machines with real package names, to plan for with the shipped matrices."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planner.cli.inputs import load_rules
from planner.cli.raw import raw_matrices
from planner.documents import digest, dump_model
from planner.facts.schema import (
    DriverFacts,
    FactDocument,
    FactSet,
    GpuFacts,
    Identity,
    KernelFacts,
    NodeRecord,
    OsFacts,
    ServiceFacts,
    UnreadableNode,
)
from planner.matrix.index import MatrixSet
from planner.model.target import Target
from planner.schedule.assemble import finish, make_plan
from planner.schedule.plan import Plan
from planner.validate.replay import seal_of, validate_plan

OLD, NEW = "570.211.01", "580.159.03"
FLAVOURS = ("proprietary", "open")


@functools.cache
def shipped() -> MatrixSet:
    return load_rules(())


@functools.cache
def raw() -> tuple[tuple[str, Any], ...]:
    return tuple(raw_matrices(()))


def ubuntu_driver(version: str, flavour: str, *, origin: str = "0ubuntu0.22.04.1", server: bool = True
                  ) -> dict[str, str]:
    """Return Ubuntu's packages of one driver: those of the modules' flavour, and those of both."""
    branch, kind = version.split(".")[0], "-server" if server else ""
    tail = "-open" if flavour == "open" else ""
    names = [f"{stem}-{branch}{kind}{tail}" for stem in (
        "nvidia-headless", "nvidia-headless-no-dkms", "nvidia-dkms", "nvidia-kernel-source")]
    names += [f"{stem}-{branch}{kind}" for stem in (
        "nvidia-kernel-common", "nvidia-compute-utils", "nvidia-utils", "libnvidia-compute", "libnvidia-cfg1")]
    return dict.fromkeys(names, f"{version}-{origin}")


def offered(*parts: dict[str, str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for part in parts:
        for name, version in part.items():
            found[name] = (*(v for v in found.get(name, ()) if v != version), version)
    return dict(sorted(found.items()))


COMPAT = {"cuda-compat-12-8": "570.211.01-1", "cuda-compat-13-0": "580.159.03-1"}
CONTAINER = dict.fromkeys(("nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools",
                           "libnvidia-container1"), "1.17.8-1")
CONTAINER_NEW = dict.fromkeys(CONTAINER, "1.19.1-1")


def ubuntu(*, flavour: str = "proprietary", version: str = OLD, model: str = "NVIDIA L4", capability: str = "8.9",
           release: str = "22.04", packages: dict[str, str] | None = None, owner: str = "apt",
           **fields: Any) -> FactSet:
    """Return one Ubuntu machine with a GPU; its repositories have two drivers in both flavours."""
    own = ubuntu_driver(version, flavour) if owner == "apt" else {}
    known = {
        "os": OsFacts(id="ubuntu", version_id=release, arch="x86_64", family="apt", virtualisation="none",
                      root_diskless=False, secure_boot=False),
        "kernel": KernelFacts(running="5.15.0-151-generic"),
        "driver": DriverFacts(loaded=version, on_disk=version, userspace=version, flavour=flavour, owner=owner,
                              package=f"{version}-0ubuntu0.22.04.1" if owner == "apt" else None),
        "gpus": (GpuFacts(index=0, model=model, compute_capability=capability),), "nvswitch": False,
        "fabric_manager": ServiceFacts(), "imex": ServiceFacts(), "container_toolkit": None,
        "packages": dict(sorted({**own, **(packages or {})}.items())),
        "available": offered(*(ubuntu_driver(v, f) for v in (OLD, NEW) for f in FLAVOURS), COMPAT, CONTAINER,
                             CONTAINER_NEW),
    }
    return FactSet(**{**known, **fields})


def document(facts: FactSet, declared: dict[str, Any] | None = None, names: tuple[str, ...] = ("n1", "n2")
             ) -> FactDocument:
    name = digest(dump_model(facts))
    nodes = tuple(NodeRecord(name=n, facts=name, identity=Identity(machine_id=f"{i:032x}"), declared=declared or {})
                  for i, n in enumerate(names, start=1))
    return FactDocument(schema="planner.facts/1", fact_sets={name: facts}, nodes=nodes)


def fleet(nodes: Mapping[str, tuple[FactSet, dict[str, Any]]], down: Mapping[str, dict[str, Any]] | None = None
          ) -> FactDocument:
    """Return the document of several kinds of nodes: name -> facts and what is declared; ``down``: name -> declared."""
    sets = {digest(dump_model(facts)): facts for facts, _ in nodes.values()}
    records = tuple(NodeRecord(name=name, facts=digest(dump_model(facts)), declared=declared,
                               identity=Identity(machine_id=digest(name)[7:39])) for name, (facts, declared)
                    in sorted(nodes.items()))
    lost = tuple(UnreadableNode(name=name, reason="timed out", declared=declared)
                 for name, declared in sorted((down or {}).items()))
    return FactDocument(schema="planner.facts/1", fact_sets=sets, nodes=records, unreadable=lost)


def target(**want: Any) -> Target:
    return Target.model_validate({"schema": "planner.target/1", "name": "t", "want": want})


def plan_for(facts: FactSet, wanted: Target, declared: dict[str, Any] | None = None) -> Plan:
    """Return the sealed plan; the validator has replayed it from the raw YAML."""
    made = make_plan(document(facts, declared), wanted, shipped(), planner_version="0")
    violations = validate_plan(made, wanted, raw())
    assert violations == (), "\n".join(violations)
    return finish(made, seal_of(made))


def write(folder: Path, facts: FactSet, declared: dict[str, Any] | None = None) -> Path:
    """Write facts as ``planner discover`` does; return the file."""
    path = folder / "facts.json"
    path.write_text(json.dumps(dump_model(document(facts, declared))), encoding="utf-8")
    return path
