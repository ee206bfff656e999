"""From what a node said to the views that ``check`` judges: the machine itself, and one for each Python environment.

The machine's view knows more than the state that plans are made from: what only tells how a node is kept (pins,
automatic upgrades, copies of libraries) must not split a cohort.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from planner.diagnostics import short
from planner.facts.schema import FactSet, PythonEnvFacts
from planner.fleet.fleet import Node
from planner.fleet.packages import owner_set
from planner.fleet.parts import mixed_parts
from planner.fleet.state import service_versions
from planner.matrix.index import MatrixSet
from planner.matrix.schema import State
from planner.model.version import version_key
from planner.stack.schema import Described, Stack, View
from planner.stack.values import build_of, local_part, terms, versions

_WHEELS = {"cudnn": "cudnn", "nccl": "nccl", "nvshmem": "nvshmem", "cublas": "cublas", "cufft": "cufft",
           "cuda-nvrtc": "nvrtc"}
_COPIES = {"cudnn": "cudnn_copies", "nccl": "nccl_copies"}
_ON_PATH = frozenset({"LD_LIBRARY_PATH"})

Values = dict[str, tuple[str, ...]]
Members = Sequence[tuple[str, State]]


def views_of(name: str, facts: FactSet, state: State, environment: str, matrices: MatrixSet) -> tuple[View, ...]:
    """Return the views of one node.

    Args:
        name: Shown to people.
        facts: What the node said.
        state: What plans are made from (``build_state``).
        environment: production, staging or development.
        matrices: Vocabulary, package sets and GPU models.
    """
    base = {**state, **_kept(facts), "environment": (environment,)}
    base |= {**_packages_held(facts, base, matrices), **mixed_parts(facts, base, matrices)}
    return (View(name, base), *(View(f"{name}: {env.path}", {**base, **own}) for env in facts.python_envs
                                if (own := environment_values(env, matrices))))


def fleet_views(nodes: Sequence[Node], matrices: MatrixSet) -> tuple[list[View], dict[tuple[str, str], Members]]:
    """Return the views of a fleet, one for all nodes that are alike, and its domains.

    Returns:
        Views, named after the nodes that share them; (kind, name) -> members for every domain of two nodes or more.
    """
    alike: dict[tuple[str, str, int], list[Node]] = {}
    for node in nodes:
        alike.setdefault((node.facts_digest, node.environment, id(node.state)), []).append(node)
    views = [view for members in alike.values()
             for view in views_of(short([n.name for n in members], 2), members[0].facts, members[0].state,
                                  members[0].environment, matrices)]
    domains: dict[tuple[str, str], dict[int, list[Node]]] = {}
    for node in nodes:
        for kind, name in (("job", node.comm_domain), ("nvlink", node.nvlink_domain), ("fleet", f"pool {node.pool}")):
            if name:
                domains.setdefault((kind, name), {}).setdefault(id(node.state), []).append(node)
    return views, {key: [(short([n.name for n in same]), same[0].state) for same in by_state.values()]
                   for key, by_state in sorted(domains.items()) if len(by_state) > 1}


def stack_of_fleet(nodes: Sequence[Node], matrices: MatrixSet) -> Stack:
    """Return nodes of a discovery as a stack description would say them."""
    return Stack(tuple(Described(n.name, views_of(n.name, n.facts, n.state, n.environment, matrices)) for n in nodes))


def _kept(facts: FactSet) -> Values:
    state: Values = {**service_versions(facts), "auto_upgrades": tuple(sorted(facts.os.auto_upgrades))}
    for component, value in (("glibc", facts.os.glibc), ("virtualisation", facts.os.virtualisation),
                             ("userspace_driver", facts.driver.userspace), ("next_kernel", facts.kernel.next_boot)):
        if value:
            state[component] = (value,)
    for runtime in ("docker", "containerd"):
        if found := versions(facts.container_runtimes.get(runtime)):
            state[runtime] = found
    if facts.pci_gpus is not None and facts.driver.loaded:
        state |= {"gpu_count_pci": (str(facts.pci_gpus),), "gpu_count_nvml": (str(len(facts.gpus)),)}
    if any(g.mig_enabled is not None for g in facts.gpus):
        state["mig"] = ("yes" if any(g.mig_enabled for g in facts.gpus) else "no",)
    state |= _module(facts)
    state |= _copies(facts)
    return state


def _module(facts: FactSet) -> Values:
    """Tell whether a module lies ready for the kernel that boots next; a node without own modules says nothing."""
    kernel = facts.kernel.next_boot or facts.kernel.running
    if not kernel or not facts.kernel.modules_built:
        return {}
    return {"module_for_kernel": ("yes" if kernel in facts.kernel.modules_built else "no",)}


def _copies(facts: FactSet) -> Values:
    """Count different versions of one library; the same version under two names is one."""
    state: Values = {}
    for library, component in _COPIES.items():
        found = {lib.version for lib in facts.libraries if lib.name == library}
        if found:
            state[component] = (str(len(found)),)
    on_path = {t.version for t in facts.toolkits if t.source in _ON_PATH}
    if on_path:
        state["cudart_copies"] = (str(len(on_path)),)
    return state


def _packages_held(facts: FactSet, state: State, matrices: MatrixSet) -> Values:
    """Tell whether every installed package of the driver is held; unknown where no package set owns it."""
    owner = owner_set("driver", facts, state, matrices)
    if owner is None or facts.driver.package is None:
        return {}
    branch = (facts.driver.userspace or facts.driver.loaded or "").partition(".")[0]
    names = {template.replace("{branch}", branch) for template in (*owner.install, *owner.optional)}
    installed = names & set(facts.packages)
    if not installed:
        return {}
    return {"packages_held": ("yes" if installed <= set(facts.holds) else "no",)}


def environment_values(env: PythonEnvFacts, matrices: MatrixSet) -> Values:
    """Return what one Python environment changes: its frameworks, and the libraries that its wheels bring."""
    state: Values = {}
    for name, version in sorted(env.frameworks.items()):
        for term, named in terms("framework", name, matrices):
            state.setdefault("framework", (term.component,))
            state[term.component] = versions(version)
            if build := local_part(version) or named:
                state |= build_of(term.component, build, matrices)
    if not state:
        return {}
    if env.python and (found := versions(env.python)):
        state["python"] = found
    runtimes = _wheel_versions(env, "cuda-runtime")
    if runtimes:
        state["cuda_runtime"] = state["built_cuda"] = runtimes
    state |= {wheel: (version,) for wheel, version in env.nvidia_wheels.items() if wheel in matrices.components}
    for wheel, component in _WHEELS.items():
        if found := _wheel_versions(env, wheel):
            state[component] = found[-1:]
    return state


def _wheel_versions(env: PythonEnvFacts, short: str) -> tuple[str, ...]:
    name = re.compile(rf"nvidia-{re.escape(short)}(-cu\d+)?")
    return tuple(sorted({v for wheel, v in env.nvidia_wheels.items() if name.fullmatch(wheel)}, key=version_key))
