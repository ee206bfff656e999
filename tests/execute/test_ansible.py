"""The real runner: what Ansible says becomes our events; limits, cancels and leftovers. Local connections only."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from planner.runner.ansible import AnsibleRunner, environment, mark_unsafe, read_event
from planner.runner.leftovers import end_leftovers, find_leftovers, wait_for_leftovers
from planner.runner.port import HostEvent, HostOutcome, RunRequest

PLAY = """
- name: Try
  hosts: all
  gather_facts: false
  tasks:
    - name: Say it
      ansible.builtin.debug: {msg: "{{ planner_text }}"}
      tags: [preflight]
    - name: See the mark
      ansible.builtin.command: printenv PLANNER_RUN_ID
      environment: {PLANNER_RUN_ID: "{{ planner_run_id }}"}
      changed_when: false
      tags: [preflight]
    - name: Fail and go on
      ansible.builtin.fail: {msg: never mind}
      ignore_errors: true
      tags: [preflight]
    - name: Fail on one
      ansible.builtin.fail: {msg: out of order}
      when: inventory_hostname == 'bad'
      tags: [preflight]
    - name: Take long
      ansible.builtin.command: sleep 30
      tags: [drain]
"""


@pytest.fixture
def request_(tmp_path: Path) -> RunRequest:
    """Return a request on a small project: two local hosts, and one where nobody listens."""
    (tmp_path / "plays").mkdir()
    (tmp_path / "plays" / "p.yml").write_text(PLAY)
    local = "{ansible_connection: local, ansible_python_interpreter: " + sys.executable + "}"
    (tmp_path / "hosts.yml").write_text(
        f"all: {{hosts: {{good: {local}, bad: {local}, gone: {{ansible_host: 127.0.0.9, ansible_port: 1}}}}}}")
    return RunRequest(directory=str(tmp_path), playbook="plays/p.yml", inventory=str(tmp_path / "hosts.yml"),
                      limit=("good", "bad", "gone"), tags=("preflight",), run_id="planner-test.1.1",
                      extra_vars={"planner_text": "{{ 1 + 1 }}"}, artifacts=str(tmp_path / "artifacts"))


def test_each_host_ends_as_ansible_saw_it_end(request_: RunRequest, tmp_path: Path) -> None:
    events: list[HostEvent] = []
    result = AnsibleRunner().run(request_, on_event=events.append)
    assert result.hosts == {"good": HostOutcome.OK, "bad": HostOutcome.FAILED, "gone": HostOutcome.UNREACHABLE}
    failed = {host: event.task for host, event in result.failures.items()}
    assert failed == {"bad": "Fail on one", "gone": "See the mark"}
    told = {(e.host, e.task): e for e in events if e.kind in ("ok", "changed")}
    assert told["good", "Say it"].result["msg"] == "{{ 1 + 1 }}"       # a user's text is no template
    assert told["good", "See the mark"].result["stdout"] == "planner-test.1.1"
    assert told["good", "Fail and go on"].kind == "ok"                 # ignored: it decides nothing
    assert not list(tmp_path.glob("artifacts/*/command"))              # it would hold the whole environment
    assert not find_leftovers("planner-test.1.1")


def test_a_cancelled_call_leaves_nothing_running_here(request_: RunRequest) -> None:
    fields = {name: getattr(request_, name) for name in ("directory", "playbook", "inventory")}
    request = RunRequest(**fields, limit=("good",), tags=("drain",), run_id="planner-test.1.2")
    started: list[str] = []
    result = AnsibleRunner().run(request, on_event=lambda event: started.append(event.task),
                                 cancelled=lambda: "Take long" in started)
    assert (result.status, result.hosts) == ("canceled", {"good": HostOutcome.NOT_RUN})
    assert not find_leftovers("planner-test.1.2")


def test_what_goes_wrong_in_a_listener_ends_the_call_and_is_raised(request_: RunRequest) -> None:
    def broken(event: HostEvent) -> None:
        raise RuntimeError("fenced")

    with pytest.raises(RuntimeError, match="fenced"):
        AnsibleRunner().run(request_, on_event=broken)


def raw(name: str, **fields: Any) -> dict[str, Any]:
    return {"event": name, "event_data": {"host": "n1", "task": "T", "res": {}, **fields}}


@pytest.mark.parametrize(("data", "kind", "tags"), [
    (raw("runner_on_ok", role="planner_gate"), "ok", ("gate",)),
    (raw("runner_on_ok", res={"changed": True}), "changed", ()),
    (raw("runner_on_failed"), "failed", ()),
    (raw("runner_on_failed", ignore_errors=True), "ok", ()),
    (raw("runner_on_unreachable"), "unreachable", ()),
    (raw("runner_on_start", role="other"), "started", ()),
    (raw("runner_item_on_ok"), None, ()),
    ({"event": "playbook_on_play_start", "event_data": {}}, None, ()),
])
def test_events_are_read_by_what_they_decide(data: dict[str, Any], kind: str | None, tags: tuple[str, ...]) -> None:
    event = read_event(data)
    assert (event.kind if event else None) == kind
    assert not event or event.tags == tags


def test_texts_with_braces_are_marked_and_others_are_left() -> None:
    marked = mark_unsafe({"a": "{{ x }}", "b": ["plain", "{% y %}"], "n": 3})
    assert [type(v).__name__ for v in (marked["a"], *marked["b"], marked["n"])] == [
        "_UnsafeText", "str", "_UnsafeText", "int"]


def test_the_users_own_settings_win(request_: RunRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Host keys stay checked (ansible-runner would stop that), a named configuration stays, roles are the bundle's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ANSIBLE_CONFIG", "ANSIBLE_HOST_KEY_CHECKING", "ANSIBLE_SSH_ARGS"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "roles").mkdir()
    plain = environment(request_, "r")
    assert plain["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert plain["ANSIBLE_ROLES_PATH"] == str(tmp_path / "roles")
    assert "ServerAliveInterval=5" in plain["ANSIBLE_SSH_ARGS"]
    mine = tmp_path / "mine.cfg"
    mine.write_text("[defaults]\nhost_key_checking = no\n")
    monkeypatch.setenv("ANSIBLE_CONFIG", str(mine))
    monkeypatch.setenv("ANSIBLE_SSH_ARGS", "-o ServerAliveInterval=9")
    own = environment(request_, "r")
    assert (own["ANSIBLE_CONFIG"], own["ANSIBLE_HOST_KEY_CHECKING"]) == (str(mine), "False")
    assert own["ANSIBLE_SSH_ARGS"].startswith("-o ServerAliveInterval=9")


def test_leftovers_are_found_by_their_mark_and_ended() -> None:
    process = subprocess.Popen(["sleep", "60"], env={"PLANNER_RUN_ID": "planner-left.1.7", "PATH": "/usr/bin:/bin"})
    try:
        deadline = time.monotonic() + 10
        while not find_leftovers("planner-left.") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [item.pid for item in find_leftovers("planner-left.")] == [process.pid]
        assert not find_leftovers("planner-other.")
        assert wait_for_leftovers("planner-left.", limit_s=0.1)
        assert end_leftovers("planner-left.", grace_s=2) == ()
        assert process.wait(5) == -15
    finally:
        process.kill()
        process.wait()
