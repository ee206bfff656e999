"""Groups of one request: at the same time, heard in one thread, as bad together as the worst of them."""

from __future__ import annotations

import threading

import pytest

from planner.runner.parallel import merge, run_together, split
from planner.runner.port import HostEvent, HostOutcome, RunRequest, RunResult

REQUEST = RunRequest(directory="d", playbook="p", inventory="i", limit=("a", "b", "c"), groups=(("a", "b"), ("c",)),
                     run_id="r.1.2", extra_vars={"x": 1, "planner_run_id": "r.1.2"})


def ended(request: RunRequest, status: str = "successful", code: int = 0) -> RunResult:
    return RunResult(status=status, return_code=code, hosts=dict.fromkeys(request.limit, HostOutcome.OK), failures={})


def test_a_request_is_split_by_its_groups() -> None:
    first, second = split(REQUEST)
    assert (first.limit, second.limit) == (("a", "b"), ("c",))
    assert first.run_id != second.run_id
    assert first.run_id.startswith("r.1.2.")
    assert first.extra_vars == {"x": 1, "planner_run_id": first.run_id}
    assert split(RunRequest(directory="d", playbook="p", inventory="i", groups=(("a",),)))[0].limit == ()


def test_no_run_id_is_the_beginning_of_another() -> None:
    groups = tuple((f"n{i}",) for i in range(120))
    many = RunRequest(directory="d", playbook="p", inventory="i", run_id="r", groups=groups)
    ids = [r.run_id for r in split(many)]
    assert not [(a, b) for a in ids for b in ids if a != b and b.startswith(a)]


def test_groups_run_at_the_same_time_and_are_heard_in_one_thread() -> None:
    both = threading.Barrier(2, timeout=20)     # breaks unless both calls are under way together
    heard: list[tuple[str, int]] = []

    def run(request: RunRequest, hear, stop) -> RunResult:  # type: ignore[no-untyped-def]
        both.wait()
        for host in request.limit:
            hear(HostEvent(host=host, task="t", kind="ok"))
        return ended(request)

    result = run_together(split(REQUEST), run, on_event=lambda e: heard.append((e.host, threading.get_ident())),
                          cancelled=None)
    assert {host for host, _ in heard} == {"a", "b", "c"}
    assert {thread for _, thread in heard} == {threading.get_ident()}
    assert result.hosts == dict.fromkeys("abc", HostOutcome.OK)


def test_a_listener_that_fails_stops_every_call_and_is_raised_after_their_end() -> None:
    finished: list[str] = []

    def run(request: RunRequest, hear, stop) -> RunResult:  # type: ignore[no-untyped-def]
        hear(HostEvent(host=request.limit[0], task="t", kind="ok"))
        pause = threading.Event()
        for _ in range(400):
            if stop():
                break
            pause.wait(0.02)
        finished.append(request.limit[0])
        return ended(request, "canceled" if stop() else "successful")

    def listen(event: HostEvent) -> None:
        raise RuntimeError("journal is full")

    with pytest.raises(RuntimeError, match="journal is full"):
        run_together(split(REQUEST), run, on_event=listen, cancelled=None)
    assert sorted(finished) == ["a", "c"]


def test_cancelling_reaches_every_call() -> None:
    result = run_together(split(REQUEST), lambda r, hear, stop: ended(r, "canceled" if stop() else "successful"),
                          on_event=None, cancelled=lambda: True)
    assert result.status == "canceled"


@pytest.mark.parametrize(("statuses", "worst"), [
    (("successful", "successful"), "successful"), (("successful", "failed"), "failed"),
    (("failed", "timeout"), "timeout"),
    (("canceled", "failed"), "canceled"), (("successful", "a new word"), "a new word"),
])
def test_together_they_are_as_bad_as_the_worst(statuses: tuple[str, str], worst: str) -> None:
    parts = [RunResult(status=s, return_code=i, hosts={str(i): HostOutcome.OK}, failures={})
             for i, s in enumerate(statuses)]
    result = merge(parts)
    assert result.status == worst
    assert set(result.hosts) == {"0", "1"}
