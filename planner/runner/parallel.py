"""Several calls at the same time, heard as one: events reach the caller in its own thread, one after another."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from planner.runner.port import HostEvent, HostOutcome, RunRequest, RunResult

AT_ONCE = 8                # calls; each is a process with as many forks as asked for
_TICK_S = 0.2              # how often the end of all calls is looked for while no event comes
# From the best to the worst that a call can come to; several together are as bad as the worst of them.
_ORDER = ("successful", "failed", "error", "timeout", "canceled")

Run = Callable[[RunRequest, Callable[[HostEvent], None], Callable[[], bool]], RunResult]


def run_together(requests: Sequence[RunRequest], run: Run, *, on_event: Callable[[HostEvent], None] | None,
                 cancelled: Callable[[], bool] | None) -> RunResult:
    """Run all requests side by side and return what they came to together.

    Args:
        requests: With disjoint hosts.
        run: Runs one of them; called in a thread of its own.
        on_event: Called in this thread for every event. When it raises, all calls are cancelled and it is raised
            again after they have ended.
        cancelled: Asked by every call.

    Raises:
        BaseException: What ``on_event`` or a call raised.
    """
    events: queue.SimpleQueue[HostEvent] = queue.SimpleQueue()
    trouble: list[BaseException] = []

    def stopped() -> bool:
        return bool(trouble) or bool(cancelled and cancelled())

    def deliver(event: HostEvent) -> None:
        if on_event is not None and not trouble:
            try:
                on_event(event)
            except BaseException as exc:  # raised again once every call has ended
                trouble.append(exc)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="planner-call") as pool:
        calls = [pool.submit(run, request, events.put, stopped) for request in requests]
        while not all(call.done() for call in calls) or not events.empty():
            try:
                deliver(events.get(timeout=_TICK_S))
            except queue.Empty:
                continue
    if trouble:
        raise trouble[0]
    return merge([call.result() for call in calls])


def merge(results: Sequence[RunResult]) -> RunResult:
    """Return what several calls came to as one result."""
    hosts: dict[str, HostOutcome] = {}
    failures: dict[str, HostEvent] = {}
    for result in results:
        hosts.update(result.hosts)
        failures.update(result.failures)
    worst = max(results, key=lambda r: _ORDER.index(r.status) if r.status in _ORDER else len(_ORDER))
    return RunResult(status=worst.status, return_code=worst.return_code, hosts=hosts, failures=failures,
                     output_tail=worst.output_tail)


def split(request: RunRequest) -> tuple[RunRequest, ...]:
    """Return one request for each of a request's groups; one that has none stays whole.

    Their run ids have one width, so that none is the beginning of another.
    """
    groups: Mapping[str, tuple[str, ...]] = {
        f"{request.run_id}.{number:03d}": group for number, group in enumerate(request.groups, start=1)}
    if len(groups) < 2:
        return (request,)
    return tuple(RunRequest(
        directory=request.directory, playbook=request.playbook, inventory=request.inventory, limit=group,
        tags=request.tags, extra_vars={**request.extra_vars, "planner_run_id": run_id}, run_id=run_id,
        forks=request.forks, timeout_s=request.timeout_s, check=request.check, artifacts=request.artifacts,
    ) for run_id, group in groups.items())
