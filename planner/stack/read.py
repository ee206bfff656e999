"""Reads a stack description. Pure: text in, states out."""

from __future__ import annotations

from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import parse_yaml, validate
from planner.errors import InputError
from planner.matrix.index import MatrixSet
from planner.model.version import version_key
from planner.stack.schema import Described, Machine, Stack, StackFile, View
from planner.stack.values import build_of, count, local_part, terms, versions, words

_FULL_BOARD = 8
_OF_ONE = frozenset({"framework", "cuda_runtime", "built_cuda", "built_cudnn", "built_nccl"})
_BUILT = {"cuda": "built_cuda", "cudnn": "built_cudnn", "nccl": "built_nccl"}

Values = dict[str, tuple[str, ...]]


def read_stack(text: str, name: str, matrices: MatrixSet) -> Stack:
    """Read a stack file.

    Args:
        text: YAML (or JSON).
        name: Shown in errors, usually the path.
        matrices: The vocabulary, GPU models and components.

    Raises:
        InputError: No YAML, no mapping, an unknown key, a value of the wrong shape; names file and line.
    """
    raw = parse_yaml(text, name=name, numbers_as_text=True)
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise InputError(Diagnostic(code="bad-document", subject=name, summary="a stack description is a mapping",
                                    hint="for example: driver: 550.90.07"))
    return stack_of(validate(StackFile, raw, name=name, text=text), matrices)


def stack_of(document: StackFile, matrices: MatrixSet) -> Stack:
    """Return the states of a validated description."""
    notes: list[str] = []
    common = document.model_dump(exclude_unset=True, exclude={"nodes"})
    if not document.nodes:
        return Stack((_described("", "", document, matrices, notes),), tuple(dict.fromkeys(notes)))
    machines = []
    for position, node in enumerate(document.nodes, start=1):
        own = node.model_dump(exclude_unset=True, exclude={"name", "result"})
        merged = {**common, **own}
        if common.get("libraries") and own.get("libraries"):
            merged["libraries"] = {**common["libraries"], **own["libraries"]}
        machine = Machine.model_validate(merged)
        machines.append(_described(node.name or f"node {position}", str(node.result or ""), machine, matrices, notes))
    return Stack(tuple(machines), tuple(dict.fromkeys(notes)))


def _described(name: str, result: str, machine: Machine, matrices: MatrixSet, notes: list[str]) -> Described:
    base = _Reader(machine, matrices, notes).base()
    subject = name or "this machine"
    views = [View(subject, base)]
    frameworks = [_framework(framework, matrices, notes) for framework in machine.frameworks or ()]
    for title, own in frameworks:
        if own:
            # One environment: each framework meets the versions of the others, not what these were built with.
            beside = {k: v for _, other in frameworks for k, v in other.items() if k not in _OF_ONE}
            views.append(View(f"{name}: {title}" if name else title, {**base, **beside, **own}))
    if machine.container:
        title, own = _container(machine.container, base, matrices, notes)
        # What an image brings is seen together with the framework that runs in it.
        views = [View(v.subject, {**v.state, **{k: x for k, x in own.items() if k not in v.state}}) for v in views]
        views.append(View(f"{name}: {title}" if name else title, {**views[-1].state, **own}))
    return Described(name, tuple(views), result)


class _Reader:
    """Turns the keys of one machine into a state."""

    def __init__(self, machine: Machine, matrices: MatrixSet, notes: list[str]) -> None:
        self._machine, self._matrices, self._notes = machine, matrices, notes
        self._said = machine.model_fields_set

    def base(self) -> Values:
        """Return the machine's own state."""
        machine, state = self._machine, Values()
        self._versions(state, "driver", "driver", machine.driver)
        if "driver" in state:          # what people call the driver is what its programs print: the user-mode side
            state["userspace_driver"] = state["driver"]
        self._versions(state, "fabric_manager", "fabric_manager", machine.fabric_manager)
        self._versions(state, "cuda_toolkit", "cuda_toolkits", machine.cuda_toolkit)
        self._versions(state, "cuda_runtime", "cuda_runtime", machine.cuda_runtime)
        if "kernel" in self._said and machine.kernel:
            state["kernel"] = (str(machine.kernel).strip().split()[0],)
        self._os(state)
        self._gpus(state)
        self._vm(state)
        for key, value in (machine.libraries or {}).items():
            self._library(state, str(key), value)
        return state

    def _versions(self, state: Values, key: str, component: str, value: Any) -> None:
        if key not in self._said:
            return
        found = versions(value)
        if found or value in (None, False):
            state[component] = tuple(sorted(found, key=version_key))
        else:
            self._notes.append(f"{key}: {value!r} is not a version")

    def _os(self, state: Values) -> None:
        if "os" not in self._said or not self._machine.os:
            return
        found = terms("os", str(self._machine.os), self._matrices)
        for term, value in found:
            state[term.component] = (value,)
        if not found:
            self._notes.append(f"os: {self._machine.os!r} is not a system that the matrices know")

    def _gpus(self, state: Values) -> None:
        if self._machine.gpus is None:
            return
        models, capabilities, classes, switches = [], set(), set(), []
        for entry in self._machine.gpus:
            item = entry if isinstance(entry, dict) else {"name": str(entry)}
            name = str(item.get("name") or "")
            model = self._matrices.gpu_model_of_people(name) if name else None
            models.append(model.name if model else name)
            capability = versions(item.get("compute_capability")) or ((model.compute_capability,) if model else ())
            capabilities |= set(capability)
            if model:
                classes.add(model.gpu_class)
                whole = (count(name, item.get("count")) or 0) >= _FULL_BOARD
                switches.append("yes" if model.nvswitch and whole else "no" if not model.nvswitch else "")
            elif name and not capability:
                self._notes.append(f"gpus: {name!r} is no model that the matrices know; give its compute_capability")
        if any(models):
            state["gpu_model"] = tuple(sorted({m for m in models if m}))
        if capabilities:
            state["compute_capability"] = tuple(sorted(capabilities, key=version_key))
        if classes:
            state["gpu_class"] = tuple(sorted(classes))
        if switches and all(switches) and not self._machine.vm:
            state["nvswitch"] = ("yes" if "yes" in switches else "no",)
        if not self._machine.gpus:
            state.update(gpu_model=(), compute_capability=(), gpu_class=())

    def _vm(self, state: Values) -> None:
        vm = self._machine.vm
        if not isinstance(vm, dict):
            return
        if vm.get("hypervisor"):
            for term, value in terms("hypervisor", str(vm["hypervisor"]), self._matrices):
                state[term.component] = (value,)
        vgpu = vm.get("vgpu")
        if isinstance(vgpu, dict):
            for side in ("host", "guest"):
                if side in vgpu:
                    state[f"vgpu_{side}"] = versions(vgpu[side])
        unread = sorted({*vm} - {"hypervisor", "vgpu"})
        self._notes += [f"vm.{key}: not judged" for key in unread]

    def _library(self, state: Values, key: str, value: Any) -> None:
        found = terms("library", key, self._matrices)
        if not found:
            self._notes.append(f"libraries.{key}: nothing in the matrices is about it")
            return
        component = found[0][0].component
        read = words(component, value, self._matrices)
        if read is None:
            self._notes.append(f"libraries.{key}: its version is not said")
        else:
            state[component] = read


def _framework(entry: Any, matrices: MatrixSet, notes: list[str]) -> tuple[str, Values]:
    item = entry if isinstance(entry, dict) else {"name": str(entry)}
    name, version = str(item.get("name") or ""), str(item.get("version") or "")
    title = f"{name} {version}".strip()
    found = terms("framework", name, matrices)
    own = Values()
    if found:
        component = found[0][0].component
        own["framework"] = (component,)
        if versions(version):
            own[component] = versions(version)
        build = local_part(version) or str(item.get("build") or "").lower() or found[0][1]
        if build:
            own |= build_of(component, build, matrices)
    else:
        notes.append(f"frameworks: nothing in the matrices is about {name or 'a framework without a name'}")
    for key, component in _BUILT.items():
        if key in item:
            own[component] = versions(item[key])
    if own.get("built_cuda"):
        own["cuda_runtime"] = own["built_cuda"]
    if found and "cuda" in item and not own["built_cuda"] and f"{own['framework'][0]}_build" not in own:
        own[f"{own['framework'][0]}_build"] = ("cpu",)
    notes += [f"frameworks.{name}.{key}: not judged" for key in sorted({*item} - {"name", "version", "build", *_BUILT})]
    return title or "framework", own


def _container(entry: Any, state: Values, matrices: MatrixSet, notes: list[str]) -> tuple[str, Values]:
    from planner.stack.image import image_of, image_values  # few descriptions have a container

    image = image_of(entry)
    own, unread = image_values(image, state, matrices)
    notes += unread
    return f"container {image.reference}".strip(), own
