"""From what a node said to the state that rules judge. The one place where fact fields meet component names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from planner.facts.schema import FactSet
from planner.fleet.packages import installed_versions, owner_set, publisher
from planner.fleet.toolkits import own_toolkits
from planner.matrix.globs import matches
from planner.matrix.index import STAND_IN_SUFFIX, MatrixSet
from planner.matrix.schema import Component, GpuModel, State
from planner.model.version import version_key

Declared = Mapping[str, str | tuple[str, ...] | bool]

_RUNTIME_WHEEL = re.compile(r"^nvidia-cuda-runtime(-cu\d+)?$")


def build_state(facts: FactSet, declared: Declared, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return the state of one node.

    Args:
        facts: What the node said.
        declared: Its ``planner_*`` variables, prefix removed.
        matrices: GPU models and package sets.

    Returns:
        Component or attribute -> values. ``()`` is known to be absent, a missing key is unknown.
    """
    state: dict[str, tuple[str, ...]] = {}
    _system(facts, state)
    _hardware(facts, state, matrices)
    _driver(facts, state, matrices)
    state["cuda_toolkits"] = tuple(sorted({t.version for t in own_toolkits(facts)}, key=version_key))
    for library in ("cudnn", "nccl", "tensorrt"):
        state[library] = _library(library, facts, state, matrices)
    state["container_toolkit"] = _one(facts.container_toolkit)
    state["cuda_runtime"] = _runtimes(facts, declared)
    return {**state, **_told_by_packages(facts, matrices), **_said(declared, matrices)}


def _told_by_packages(facts: FactSet, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return the values that installed packages tell by their names alone; without any of them nothing is said."""
    return {name: (value,) for name, component in matrices.components.items() if component.told_by
            for value, globs in component.told_by.items()
            if any(matches(package, glob) for glob in globs for package in facts.packages)}


def asked_state(names: Iterable[str], facts: FactSet, state: State, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return the values of components that count only where a target names them.

    Args:
        names: Those that are named; others than ``asked`` components are left out.
        facts: What the node said.
        state: As ``build_state`` gives it.
        matrices: Components and package sets.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in names:
        component = matrices.components.get(name)
        if component is None or not component.asked:
            continue
        if component.default_of:
            found[name] = tuple(t.version for t in own_toolkits(facts) if t.default)[:1]
        elif component.origin_of:
            origin = _origin(component, facts, state, matrices)
            found |= {name: origin} if origin is not None else {}
        else:
            found[name] = tuple(reversed(installed_versions(name, facts, state, matrices)))
    return found


def _origin(component: Component, facts: FactSet, state: State, matrices: MatrixSet) -> tuple[str, ...] | None:
    """Return who published what carries a component: told by its owner, else by its packages' versions."""
    carrier = component.origin_of or ""
    owner = state.get(matrices.components[carrier].owner or "", ())
    if set(owner) & set(component.options):
        return owner
    package_set = owner_set(carrier, facts, state, matrices)
    if package_set is not None and (origin := publisher(package_set, facts.packages)):
        return (origin,)
    return None if state.get(carrier) or carrier not in state else ()


def _said(declared: Declared, matrices: MatrixSet) -> dict[str, tuple[str, ...]]:
    """Return what people declared about components that no probe can see."""
    found = {}
    for name, component in matrices.components.items():
        value = declared.get(component.declared) if component.declared else None
        if isinstance(value, str | tuple):
            values = (value,) if isinstance(value, str) else value
            # People write releases with a v, as tags and charts do.
            found[name] = tuple(v if matrices.is_text(name) else re.sub(r"\Av(?=\d)", "", v) for v in values)
    return found


def upstream(version: str | None) -> str | None:
    """Return a package version without epoch and packaging revision: ``3:580.95.05-1.el9`` -> ``580.95.05``."""
    return None if not version else version.rpartition(":")[2].partition("-")[0]


def _one(value: str | None) -> tuple[str, ...]:
    return (value,) if value else ()


def _system(facts: FactSet, state: dict[str, tuple[str, ...]]) -> None:
    if facts.os.id:
        state["os"] = (f"{facts.os.id}-{facts.os.version_id}",)
    if facts.os.family:
        state["os_family"] = (facts.os.family,)
    if facts.os.arch:
        state["arch"] = (facts.os.arch,)
    if facts.kernel.running:
        state["kernel"] = (facts.kernel.running,)
    if facts.kernel.next_boot not in (None, facts.kernel.running):
        state["next_kernel"] = _one(facts.kernel.next_boot)      # only another one is news
    if facts.os.secure_boot is not None:
        state["secure_boot"] = ("yes" if facts.os.secure_boot else "no",)


def gpu_models(facts: FactSet, matrices: MatrixSet) -> tuple[GpuModel, ...]:
    """Return the known models among a node's GPUs, without repeats, in index order."""
    found = {m.name: m for g in facts.gpus if (m := matrices.gpu_model(g.model)) is not None}
    return tuple(found.values())


def _hardware(facts: FactSet, state: dict[str, tuple[str, ...]], matrices: MatrixSet) -> None:
    models = gpu_models(facts, matrices)
    capabilities = {g.compute_capability for g in facts.gpus if g.compute_capability}
    capabilities |= {m.compute_capability for m in models}
    if capabilities or not facts.gpus:
        state["compute_capability"] = tuple(sorted(capabilities, key=version_key))
    names = {g.model.removesuffix(STAND_IN_SUFFIX) for g in facts.gpus}
    state["gpu_model"] = tuple(sorted(m.name if (m := matrices.gpu_model(n)) else n for n in names))
    if models:
        state["gpu_class"] = tuple(sorted({m.gpu_class for m in models}))
    if facts.nvswitch is not None:
        state["nvswitch"] = ("yes" if facts.nvswitch else "no",)
    elif models and not any(m.nvswitch for m in models):
        state["nvswitch"] = ("no",)
    elif models and facts.os.virtualisation in (None, "none"):
        # A guest or container may have been given one GPU of a board: its model tells nothing about switches there.
        state["nvswitch"] = ("yes",)


def service_versions(facts: FactSet) -> dict[str, tuple[str, ...]]:
    """Return the versions of all companion services, by component."""
    return {name.replace("-", "_"): _one(upstream(service.version)) for name, service in sorted(facts.services.items())}


def _driver(facts: FactSet, state: dict[str, tuple[str, ...]], matrices: MatrixSet) -> None:
    driver = facts.driver
    installed = driver.userspace or upstream(driver.package) or driver.on_disk or driver.loaded
    state["driver"] = _one(installed) or installed_versions("driver", facts, state, matrices)[:1]
    state["loaded_driver"] = _one(driver.loaded)
    if driver.flavour:
        state["driver_flavour"] = (driver.flavour,)
    if driver.owner:
        state["driver_owner"] = (driver.owner,)
    state["fabric_manager"] = _one(upstream(facts.fabric_manager.version))
    state["imex"] = _one(upstream(facts.imex.version))
    # What no step moves by itself follows the driver's packages: it tells nothing about a state on the way.
    movable = {component for move in matrices.moves for component in move.components}
    state |= {name: version for name, version in service_versions(facts).items() if name in movable}


def _library(name: str, facts: FactSet, state: dict[str, tuple[str, ...]], matrices: MatrixSet) -> tuple[str, ...]:
    packaged = installed_versions(name, facts, state, matrices)
    if packaged:
        return packaged[:1]
    found = sorted({lib.version for lib in facts.libraries if lib.name == name}, key=version_key)
    return tuple(found[-1:])


def _runtimes(facts: FactSet, declared: Declared) -> tuple[str, ...]:
    named = declared.get("workload_runtimes", ())
    runtimes = set((named,) if isinstance(named, str) else named if isinstance(named, tuple) else ())
    for env in facts.python_envs:
        runtimes |= {v for wheel, v in env.nvidia_wheels.items() if _RUNTIME_WHEEL.match(wheel)}
    return tuple(sorted(runtimes, key=version_key))
