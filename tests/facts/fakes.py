"""A stand-in for Ansible: answers by host name, and remembers what was asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from planner.facts.collect import READ_TASK
from planner.runner.port import HostEvent, HostOutcome, RunRequest, RunResult


class FakeRunner:
    """Gives each host the probe document, failure message or outcome that a test laid out.

    Args:
        answers: Host -> probe document; a text is printed as it is; a ``HostOutcome`` gives no event.
        failures: Host -> (outcome, result of the failing task).
    """

    def __init__(
        self,
        answers: Mapping[str, Any],
        failures: Mapping[str, tuple[HostOutcome, dict[str, Any]]] | None = None,
    ) -> None:
        self.answers = answers
        self.failures = failures or {}
        self.requests: list[RunRequest] = []
        self.request_document: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}

    def run(
        self,
        request: RunRequest,
        *,
        on_event: Callable[[HostEvent], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> RunResult:
        """Answer for every host of the limit."""
        self.requests.append(request)
        folder = Path(request.directory)
        self.files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.request_document = json.loads(self.files["files/request.json"])
        hosts, failed = {}, {}
        for name in request.limit:
            answer = self.answers.get(name)
            if answer is not None and on_event is not None:
                text = answer if isinstance(answer, str) else json.dumps(answer)
                on_event(HostEvent(host=name, task=READ_TASK, kind="ok", result={"stdout": text}))
            outcome, result = self.failures.get(
                name, (HostOutcome.OK if answer is not None else HostOutcome.NOT_RUN, {})
            )
            hosts[name] = outcome
            if result:
                kind = "unreachable" if outcome is HostOutcome.UNREACHABLE else "failed"
                failed[name] = HostEvent(host=name, task="Make a temporary directory", kind=kind, result=result)
        status = "failed" if self.failures else "successful"
        return RunResult(status=status, return_code=2 if self.failures else 0, hosts=hosts, failures=failed)
