"""The real runner: one ansible-runner call per request, its events turned into ours."""

from __future__ import annotations

import configparser
import os
import shlex
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from planner.diagnostics import Diagnostic
from planner.errors import ApplyError
from planner.runner.leftovers import MARK, end_leftovers
from planner.runner.parallel import run_together, split
from planner.runner.port import HostEvent, HostOutcome, RunRequest, RunResult

POLL_S = 1                     # how often ansible-runner asks whether to cancel
ARTIFACTS_KEPT = 40            # calls whose output stays under the artifacts directory
OUTPUT_TAIL = 4000             # characters
RESULT_BYTES_MAX = 64 * 2**20  # ansible-runner drops larger results; facts of a full node come near its default
# A link that is silent for half a minute is given up; the node's state is then unknown, not failed.
SSH_ARGS = "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=5 -o ServerAliveCountMax=6"

_KINDS = {"runner_on_start": "started", "runner_on_ok": "ok", "runner_on_failed": "failed",
          "runner_on_unreachable": "unreachable", "runner_on_skipped": "skipped"}


class _UnsafeText(str):
    """A text that Ansible must not take for a template."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes extra variables; knows texts that are not templates."""


_Dumper.add_representer(_UnsafeText, lambda dumper, text: dumper.represent_scalar("!unsafe", str(text)))


class AnsibleRunner:
    """Runs playbooks through ansible-runner; how to connect is said where Ansible has it said."""

    def run(self, request: RunRequest, *, on_event: Callable[[HostEvent], None] | None = None,
            cancelled: Callable[[], bool] | None = None) -> RunResult:
        """Run one playbook to its end; groups of the request run at the same time, each as a call of its own.

        A host of the limit for which Ansible's own summary is missing (cut off, never reached) is NOT_RUN: unknown.
        An exception of ``on_event`` cancels the call and is raised after it has ended.

        Raises:
            ApplyError: ansible-playbook is not there or cannot start.
        """
        require_ansible()
        requests = split(request)
        if len(requests) > 1:
            return run_together(requests, lambda r, hear, stop: self._run(r, on_event=hear, cancelled=stop),
                                on_event=on_event, cancelled=cancelled)
        return self._run(request, on_event=on_event, cancelled=cancelled)

    def _run(self, request: RunRequest, *, on_event: Callable[[HostEvent], None] | None = None,
             cancelled: Callable[[], bool] | None = None) -> RunResult:
        import ansible_runner  # slow to import; only commands that act need it

        hearer = _Hearer(on_event, cancelled)
        run_id = request.run_id or f"planner-{uuid.uuid4().hex[:12]}"
        with _private_directory(request, run_id) as private:
            artifacts = Path(request.artifacts).absolute() if request.artifacts else private / "artifacts"
            runner = ansible_runner.run(
                private_data_dir=str(private), artifact_dir=str(artifacts), ident=uuid.uuid4().hex,
                project_dir=str(Path(request.directory).absolute()),
                playbook=request.playbook, cmdline=_arguments(request, private), envvars=environment(request, run_id),
                settings={"suppress_ansible_output": True, "pexpect_timeout": POLL_S}, quiet=True,
                forks=request.forks, timeout=request.timeout_s or None, event_handler=hearer.hear,
                cancel_callback=hearer.stopped, status_handler=_forget_environment)
            if runner.status in ("canceled", "timeout"):
                end_leftovers(run_id)
            tail = _tail(Path(runner.config.artifact_dir) / "stdout")
            if request.artifacts:
                _prune(artifacts)
        if hearer.error is not None:
            raise hearer.error
        if runner.rc == 127:
            raise _cannot_start(tail)
        return RunResult(status=runner.status, return_code=int(runner.rc), failures=hearer.failures, output_tail=tail,
                         hosts={**dict.fromkeys(request.limit, HostOutcome.NOT_RUN), **hearer.outcomes()})


class _Hearer:
    """Turns ansible-runner's events into ours and remembers what decided each host."""

    def __init__(self, on_event: Callable[[HostEvent], None] | None, cancelled: Callable[[], bool] | None) -> None:
        self.failures: dict[str, HostEvent] = {}
        self.error: BaseException | None = None
        self._stats: dict[str, HostOutcome] = {}
        self._on_event = on_event
        self._cancelled = cancelled

    def hear(self, data: Mapping[str, Any]) -> bool:
        """Take one event; the answer False keeps ansible-runner from writing it to a file of its own."""
        try:
            if data.get("event") == "playbook_on_stats":
                self._stats = _outcomes(data.get("event_data", {}))
            elif (event := read_event(data)) is not None:
                if event.kind in ("failed", "unreachable"):
                    self.failures[event.host] = event
                if self._on_event is not None:
                    self._on_event(event)
        except BaseException as exc:  # raised again by run(), once Ansible has ended
            self.error = self.error or exc
        return False

    def stopped(self) -> bool:
        """Tell ansible-runner whether to end the call now."""
        return self.error is not None or bool(self._cancelled and self._cancelled())

    def outcomes(self) -> dict[str, HostOutcome]:
        """Return how each host ended: by Ansible's summary, else by what failed it."""
        early = {host: HostOutcome.UNREACHABLE if event.kind == "unreachable" else HostOutcome.FAILED
                 for host, event in self.failures.items()}
        return self._stats or early


def read_event(data: Mapping[str, Any]) -> HostEvent | None:
    """Return our form of one ansible-runner event, None when it is about no host's task.

    A failure that the play ignores is ``ok``: it decides nothing.
    """
    fields: Mapping[str, Any] = data.get("event_data") or {}
    kind = _KINDS.get(str(data.get("event")))
    host = fields.get("host")
    if kind is None or not host:
        return None
    told = fields.get("res")
    result: Mapping[str, Any] = told if isinstance(told, dict) else {}
    if kind == "failed" and fields.get("ignore_errors"):
        kind = "ok"
    elif kind == "ok" and result.get("changed"):
        kind = "changed"
    role = str(fields.get("role") or "")
    return HostEvent(host=str(host), task=str(fields.get("task") or ""), kind=kind, result=result,
                     tags=(role.removeprefix("planner_"),) if role.startswith("planner_") else (),
                     play=str(fields.get("play") or ""))


def _outcomes(stats: Mapping[str, Any]) -> dict[str, HostOutcome]:
    """Read Ansible's summary; a host that failed and was unreachable is unknown first of all."""
    found: dict[str, HostOutcome] = {}
    for key, outcome in (("processed", HostOutcome.OK), ("ok", HostOutcome.OK), ("failures", HostOutcome.FAILED),
                         ("dark", HostOutcome.UNREACHABLE)):
        found.update({str(host): outcome for host, count in (stats.get(key) or {}).items() if count})
    return found


def require_ansible() -> str:
    """Return the path of ansible-playbook.

    Raises:
        ApplyError: There is none in this Python's environment or on PATH.
    """
    found = shutil.which("ansible-playbook", path=_search_path())
    if found is None:
        raise _cannot_start("ansible-playbook was not found beside this Python nor on PATH")
    return found


def _cannot_start(why: str) -> ApplyError:
    return ApplyError(Diagnostic(code="ansible-not-started", summary="Ansible cannot start",
                                 why=tuple(why.strip().splitlines()[-5:]),
                                 hint="install it into planner's environment: pip install 'ansible-core>=2.19,<2.20'"))


def _search_path() -> str:
    # A planner called by its full path has its environment's bin directory not on PATH.
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def environment(request: RunRequest, run_id: str) -> dict[str, str]:
    """Return the variables set for ansible-playbook on top of this process's own; what the user has set wins."""
    own = Path(request.directory).absolute()
    config = users_config() or (own / "ansible.cfg" if (own / "ansible.cfg").is_file() else None)
    values = {
        "PATH": _search_path(),
        MARK: run_id,
        "ANSIBLE_PIPELINING": os.environ.get("ANSIBLE_PIPELINING", "True"),
        # OpenSSH takes the first value of an option: the user's own come first.
        "ANSIBLE_SSH_ARGS": f"{os.environ.get('ANSIBLE_SSH_ARGS', '')} {SSH_ARGS}".strip(),
        # ansible-runner would switch host key checking off.
        "ANSIBLE_HOST_KEY_CHECKING": os.environ.get("ANSIBLE_HOST_KEY_CHECKING", _host_key_checking(config)),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "MAX_EVENT_RES": str(RESULT_BYTES_MAX),
    }
    if config is not None:
        values["ANSIBLE_CONFIG"] = str(config)
    # A user's own ansible.cfg says how to connect; roles and modules are the bundle's all the same.
    for variable, folder in (("ANSIBLE_ROLES_PATH", "roles"), ("ANSIBLE_LIBRARY", "library"),
                             ("ANSIBLE_MODULE_UTILS", "module_utils")):
        if (own / folder).is_dir():
            values[variable] = str(own / folder)
    return values


def users_config() -> Path | None:
    """Return the ansible.cfg that Ansible would take where the user stands, system-wide ones left out."""
    named = os.environ.get("ANSIBLE_CONFIG")
    places = [Path(named)] if named else [Path.cwd() / "ansible.cfg", Path.home() / ".ansible.cfg"]
    return next((place.absolute() for place in places if place.is_file()), None)


def _host_key_checking(config: Path | None) -> str:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        if config is not None:
            parser.read_string(config.read_text(encoding="utf-8"))
        return str(parser.getboolean("defaults", "host_key_checking", fallback=True))
    except (OSError, ValueError, configparser.Error):
        return "True"


@contextmanager
def _private_directory(request: RunRequest, run_id: str) -> Iterator[Path]:
    """Lay out what ansible-runner reads: extra variables and the limit as files, so that no list is too long."""
    with tempfile.TemporaryDirectory(prefix="planner-run-") as folder:
        private = Path(folder)
        (private / "env").mkdir()
        extra = {"planner_run_id": run_id, **request.extra_vars}
        text = yaml.dump(mark_unsafe(extra), Dumper=_Dumper, default_flow_style=False)
        (private / "env" / "extravars").write_text(text, encoding="utf-8")
        (private / "limit").write_text("".join(f"{name}\n" for name in request.limit), encoding="utf-8")
        yield private


def mark_unsafe(value: Any) -> Any:
    """Return plain values in which every text that could start a template is one no more."""
    if isinstance(value, str):
        return _UnsafeText(value) if "{" in value or value.startswith("#jinja2:") else value
    if isinstance(value, Mapping):
        return {str(key): mark_unsafe(item) for key, item in value.items()}
    return [mark_unsafe(item) for item in value] if isinstance(value, list | tuple) else value


def _arguments(request: RunRequest, private: Path) -> str:
    # Given as arguments: ansible-runner would copy an inventory into its own directory and lose group_vars beside it.
    inventory = str(Path(request.inventory).absolute()) if Path(request.inventory).exists() else request.inventory
    words = ["--inventory", inventory]
    if request.limit:
        words += ["--limit", f"@{private / 'limit'}"]
    if request.tags:
        words += ["--tags", ",".join(request.tags)]
    if request.check:
        words.append("--check")
    return shlex.join(words)


def _forget_environment(status: Mapping[str, Any], runner_config: Any) -> None:
    """Remove ansible-runner's copy of the whole environment, which may hold passwords, as soon as it is written."""
    if status.get("status") == "running":
        (Path(runner_config.artifact_dir) / "command").unlink(missing_ok=True)


def _prune(artifacts: Path) -> None:
    """Keep the newest calls' output; ansible-runner's own rotation fails where several calls end together."""
    def age(folder: Path) -> float:
        try:
            return folder.stat().st_mtime
        except OSError:
            return 0.0

    for folder in sorted((p for p in artifacts.iterdir() if p.is_dir()), key=age)[:-ARTIFACTS_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _tail(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[-OUTPUT_TAIL:]
    except OSError:
        return ""
