"""Runs the probe on every node of an inventory and builds the fact document; what cannot be read is reported."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner import data
from planner.diagnostics import Diagnostic
from planner.documents import digest, dump_model
from planner.errors import FactsError
from planner.facts.assemble import assemble_facts, read_probe
from planner.facts.inventory import Host, Inventory
from planner.facts.schema import FactDocument, FactSet, Identity, NodeRecord, UnreadableNode
from planner.runner.port import HostEvent, HostOutcome, PlaybookRunner, RunRequest, RunResult

READ_TASK = "Read the facts"
PLAYBOOK = "discover.yml"
FORKS = 16
# One node's probe is bounded by its own limits; a fleet waits for its slowest round of forks.
PROBE_SECONDS = 540


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node could not be read, and the next command."""

    reason: str
    hint: str


@dataclass(slots=True)
class Answers:
    """What came back from one run over the nodes."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    received: dict[str, float] = field(default_factory=dict)      # controller's clock when the answer came


def collect_facts(
    inventory: Inventory, runner: PlaybookRunner, *, package_globs: Sequence[str], created_at: str = "",
    forks: int = FORKS, on_event: Callable[[HostEvent], None] | None = None,
) -> FactDocument:
    """Discover every host of an inventory.

    Args:
        inventory: Where the names come from; only its own hosts are contacted.
        runner: Runs the playbook.
        package_globs: Package names whose installed and available versions are wanted.
        created_at: ISO 8601 time written into the document.
        forks: Hosts read at the same time.
        on_event: Called for every event, for progress.

    Returns:
        The document. Unreachable and failing hosts, and names that share one machine-id, are in ``unreadable``.

    Raises:
        FactsError: Not one node could be asked, because Ansible itself failed.
    """
    answers = ask_nodes(inventory, runner, request={"packages": sorted(package_globs)}, forks=forks, on_event=on_event)
    return build_document(inventory, answers, created_at=created_at)


def build_document(inventory: Inventory, answers: Answers, *, created_at: str = "") -> FactDocument:
    """Turn the nodes' answers into a fact document; equal fact sets are stored once."""
    sets: dict[str, FactSet] = {}
    seen: dict[str, tuple[Host, str, Identity, str]] = {}
    refusals = dict(answers.refusals)
    for host in inventory.hosts:
        document = answers.documents.get(host.name)
        if document is None:
            refusals.setdefault(host.name, Refusal("it was not asked", "run planner discover again"))
            continue
        try:
            facts, identity = assemble_facts(document)
        except FactsError as exc:
            refusals[host.name] = Refusal(exc.diagnostics[0].summary, exc.diagnostics[0].hint)
            continue
        name = digest(dump_model(facts))
        sets[name] = facts
        seen[host.name] = (host, name, identity, str(document.get("observed_at", "")))
    refusals.update(_twins(seen))
    records = tuple(
        NodeRecord(name=name, facts=facts, identity=identity, observed_at=at, declared=dict(host.declared),
                   groups=host.groups)
        for name, (host, facts, identity, at) in sorted(seen.items()) if name not in refusals)
    declared = {host.name: dict(host.declared) for host in inventory.hosts}
    unreadable = tuple(UnreadableNode(name=name, reason=why.reason, hint=why.hint, declared=declared.get(name, {}))
                       for name, why in sorted(refusals.items()))
    used = {record.facts for record in records}
    return FactDocument(schema="planner.facts/1", created_at=created_at, inventory=inventory.path,
                        inventory_digest=inventory.digest, fact_sets={n: sets[n] for n in sorted(used)},
                        nodes=records, unreadable=unreadable)


def _twins(seen: Mapping[str, tuple[Host, str, Identity, str]]) -> dict[str, Refusal]:
    """Return a refusal for every name that shares its machine-id with another: acting on both would act twice."""
    by_machine: dict[str, list[str]] = {}
    for name, (_, _, identity, _) in seen.items():
        if identity.machine_id:
            by_machine.setdefault(identity.machine_id, []).append(name)
    return {
        name: Refusal(f"it is the same machine as {', '.join(n for n in names if n != name)} (machine-id {machine})",
                      "remove all but one of these names from the inventory; if they are clones, give each its own "
                      "machine-id: rm /etc/machine-id && systemd-machine-id-setup")
        for machine, names in by_machine.items() if len(names) > 1 for name in names}


def ask_nodes(
    inventory: Inventory, runner: PlaybookRunner, *, request: Mapping[str, Any], forks: int = FORKS,
    probe_argv: Sequence[str] = (), on_event: Callable[[HostEvent], None] | None = None,
    clock: Callable[[], float] | None = None, parse: Callable[[str], dict[str, Any]] = read_probe,
    probe_timeout_s: int = PROBE_SECONDS,
) -> Answers:
    """Run the probe on every host and return what each said, or why it said nothing.

    Args:
        inventory: Hosts to ask.
        runner: Runs the playbook.
        request: The probe's request.
        forks: Hosts asked at the same time.
        probe_argv: The probe's arguments instead of ``facts``; empty for facts.
        on_event: Called for every event.
        clock: Seconds since the epoch, for the time of each answer; None leaves the times out.
        parse: Reads what the probe printed.
        probe_timeout_s: Limit of the probe on one host.

    Raises:
        FactsError: Ansible ended before any host was asked.
    """
    answers = Answers()

    def hear(event: HostEvent) -> None:
        if event.task == READ_TASK and event.kind in ("ok", "changed"):
            try:
                answers.documents[event.host] = parse(str(event.result.get("stdout", "")))
            except FactsError as exc:
                answers.refusals[event.host] = Refusal(exc.diagnostics[0].summary, exc.diagnostics[0].hint)
            if clock is not None:
                answers.received[event.host] = clock()
        if on_event is not None:
            on_event(event)

    names = tuple(host.name for host in inventory.hosts)
    rounds = -(-len(names) // max(forks, 1))
    with _project(request) as folder:
        extra: dict[str, Any] = {"planner_probe_timeout_s": probe_timeout_s}
        if probe_argv:
            extra["planner_probe_argv"] = list(probe_argv)
        result = runner.run(RunRequest(
            directory=folder, playbook=PLAYBOOK, inventory=_absolute(inventory.path), limit=names, extra_vars=extra,
            forks=forks, timeout_s=rounds * (probe_timeout_s + 60)), on_event=hear)
    for name in names:
        if name not in answers.documents and name not in answers.refusals:
            answers.refusals[name] = _refusal(name, inventory.path, result)
    if not answers.documents and not any(o is not HostOutcome.NOT_RUN for o in result.hosts.values()):
        raise FactsError(Diagnostic(
            code="discovery-failed", subject=inventory.path,
            summary=f"Ansible ended before any host was asked ({result.status})",
            why=tuple(result.output_tail.strip().splitlines()[-5:]),
            hint=f"try: ansible all -i {inventory.path} -m ping"))
    return answers


def _absolute(path: str) -> str:
    """Return the inventory as the runner's own working directory needs it; ``host,`` stays as it is."""
    return str(Path(path).absolute()) if Path(path).exists() else path


@contextmanager
def _project(request: Mapping[str, Any]) -> Iterator[str]:
    """Lay out a private directory with the play, the probe and the request."""
    with tempfile.TemporaryDirectory(prefix="planner-discover-") as folder:
        place = Path(folder)
        (place / PLAYBOOK).write_bytes((data.data_dir("playbooks") / PLAYBOOK).read_bytes())
        files = place / "files"
        files.mkdir()
        (files / "probe.zip").write_bytes(data.probe_zip())
        (files / "request.json").write_text(json.dumps(request, sort_keys=True), encoding="utf-8")
        yield folder


def _refusal(name: str, inventory: str, result: RunResult) -> Refusal:
    """Say in words why one host gave no facts."""
    event = result.failures.get(name)
    message = _message(event) if event else ""
    outcome = result.hosts.get(name, HostOutcome.NOT_RUN)
    if outcome is HostOutcome.UNREACHABLE:
        return Refusal(f"it cannot be reached: {message or 'no answer'}",
                       f"try: ansible {name} -i {inventory} -m ansible.builtin.ping")
    for pattern, reason, hint in _CAUSES:
        if re.search(pattern, message, re.IGNORECASE):
            return Refusal(f"{reason}: {message}", hint)
    if outcome is HostOutcome.NOT_RUN:
        return Refusal(f"it was not asked: the run ended early ({result.status})", "run planner discover again")
    return Refusal(f"the probe failed: {message or 'no reason given'}", "see why: planner doctor")


_CAUSES = (
    (r"missing sudo password|incorrect sudo password|a password is required|sudo: |become",
     "becoming root failed", "allow sudo without a password there, or run with ANSIBLE_BECOME_PASSWORD_FILE set"),
    (r"too old|SyntaxError|minimum python|no python|interpreter.*not found|python[0-9.]*: (not found|no such|command)",
     "no usable Python", "install Python 3.8 or newer there, or set ansible_python_interpreter"),
    (r"no space left", "its disk is full", "make room on the node (df -h)"),
    (r"timed? ?out", "the probe did not end in time", "look for hung mounts and processes in state D on the node"),
)


_PREFIXES = re.compile(r"^(?:Task failed: |Action failed: |Failed to connect to the host via ssh: )+")


def _message(event: HostEvent) -> str:
    """Return the most telling line of a failed task."""
    result = event.result
    for key in ("stderr", "module_stderr", "msg", "module_stdout", "stdout"):
        text = str(result.get(key, "")).strip()
        if text and not text.startswith(("non-zero return code", "MODULE FAILURE")):
            return _PREFIXES.sub("", " ".join(_telling(text.splitlines()).split()))[:300]
    return str(result.get("msg", "")).strip()[:300]


def _telling(lines: Sequence[str]) -> str:
    """Return the last line, or the first that names a known cause: advice may follow it, as pyenv's does."""
    known = (line for line in (lines[-1], *lines) if any(re.search(p, line, re.IGNORECASE) for p, _, _ in _CAUSES))
    return next(known, lines[-1])
