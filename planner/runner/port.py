"""The seam to Ansible: what the engine asks for and what it hears back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class HostOutcome(StrEnum):
    """How one host ended in one call. UNREACHABLE means unknown, not failed."""

    OK = "ok"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    NOT_RUN = "not-run"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostEvent:
    """One thing that happened on one host: a task that started, ended, failed or could not connect."""

    host: str
    task: str
    kind: str                          # started | ok | changed | failed | unreachable | skipped
    tags: tuple[str, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)   # module result, no_log already applied
    play: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One ansible-runner call.

    Attributes:
        directory: Bundle or project directory; the play path is relative to it.
        playbook: Play file, relative.
        inventory: Path to what Ansible takes as an inventory.
        limit: Host names; never patterns. Empty means every host of the play.
        tags: Phases to run; empty means all.
        extra_vars: Passed as JSON, values marked unsafe by the runner where they come from users.
        run_id: Environment mark PLANNER_RUN_ID here and on the nodes, so that leftovers can be found.
        timeout_s: The call is cancelled after this many seconds; 0 means no limit.
        check: Ansible's check mode.
    """

    directory: str
    playbook: str
    inventory: str
    limit: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""
    forks: int = 16
    timeout_s: int = 0
    check: bool = False
    groups: tuple[tuple[str, ...], ...] = ()   # disjoint parts of ``limit`` that need not wait for each other
    artifacts: str = ""                # directory for ansible-runner's artifacts; "" means a temporary one


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a call ended: ansible-runner's status, and each host's outcome with the result that decided it."""

    status: str                        # successful | failed | timeout | canceled | error
    return_code: int
    hosts: Mapping[str, HostOutcome]
    failures: Mapping[str, HostEvent]  # host -> the event that failed it
    output_tail: str = ""


class PlaybookRunner(Protocol):
    """What the engine needs of Ansible; the real one is ``planner.runner.ansible``, the stand-in ``scripted``."""

    def run(self, request: RunRequest, *, on_event: Callable[[HostEvent], None] | None = None,
            cancelled: Callable[[], bool] | None = None) -> RunResult:
        """Run to the end. Raises nothing for failed hosts; ``ApplyError`` when Ansible itself cannot start."""
        ...
