"""The stack description: what a person can type from a bug report. Absent is unknown, null is known to be absent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import field_validator

from planner.documents import Document
from planner.matrix.schema import State


class Machine(Document):
    """The keys of one machine; every one is optional."""

    gpus: tuple[Any, ...] | None = None
    driver: Any = None
    fabric_manager: Any = None
    cuda_toolkit: Any = None
    cuda_runtime: Any = None
    frameworks: tuple[Any, ...] | None = None
    libraries: dict[str, Any] | None = None
    container: Any = None
    os: Any = None
    kernel: Any = None
    vm: Any = None

    @field_validator("gpus", "frameworks", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | dict) else value


class NodeEntry(Machine):
    """One of several machines that differ."""

    name: str = ""
    result: Any = None


class StackFile(Machine):
    """The whole file."""

    nodes: tuple[NodeEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """One state to judge: the machine itself, or the machine as one framework or container sees it."""

    subject: str
    state: State


@dataclass(frozen=True, slots=True)
class Described:
    """One machine of a stack: its own view first, then one for each framework and container."""

    name: str
    views: tuple[View, ...]
    result: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that a stack file says.

    Attributes:
        machines: At least one.
        not_judged: Sentences about keys and values that nothing is known about.
    """

    machines: tuple[Described, ...]
    not_judged: tuple[str, ...] = ()

    @property
    def domains(self) -> tuple[str, ...]:
        """Kinds of domains that several machines of one description may be: one job; NVLink where IMEX is spoken of."""
        one_fabric = any("imex" in view.state for view in self.views)
        return ("job", "fleet", "vgpu", *(("nvlink",) if one_fabric else ()))

    @property
    def views(self) -> tuple[View, ...]:
        """Every view of every machine."""
        return tuple(view for machine in self.machines for view in machine.views)
