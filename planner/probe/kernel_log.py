"""Reads what the kernel's log says of GPUs: Xid and SXid lines, and an API mismatch between driver and library."""

from __future__ import annotations

import os
import re
import time
from datetime import datetime, timezone
from typing import Any, Iterator

from .node import Node

KMSG = "/dev/kmsg"
RECORD_MAX = 8192
RECORDS_MAX = 400_000
READ_SECONDS = 2.0
KEPT_MAX = 200          # lines kept of each kind; ``dropped`` counts the rest
TEXT_MAX = 400

XID = re.compile(r"NVRM: Xid \(PCI:([0-9A-Fa-f:.]+)\): (\d+)(.*)", re.S)
SXID = re.compile(r"SXid \(PCI:([0-9A-Fa-f:.]+)\): (\d+)(.*)", re.S)
PID = re.compile(r"pid='?(\d+)")
NAME = re.compile(r"name=([^,]+)")
BLOCKED = re.compile(r"INFO: task (.+):(\d+) blocked (?:in .* )?for more than (\d+) seconds")
STAMPED = re.compile(r"^\[\s*(\d+\.\d+)\]\s?(.*)$")
JOURNAL = re.compile(r"^\S+ kernel: ")


def read_kernel_log(since: Any, node: Node | None = None) -> dict[str, Any]:
    """Return Xid, SXid and API mismatch lines since ``since``.

    Args:
        since: Seconds since boot, a time in ISO 8601, or None: since boot.
        node: The machine.

    Returns:
        ``source`` (kmsg | journalctl | dmesg | unreadable), ``complete`` (nothing of the time asked for was overwritten
        already), ``since_s``, ``xids`` and ``sxids`` ({"at_s", "pci", "number", "pid", "name", "text"}),
        ``api_mismatch`` ({"at_s", "text"}), ``blocked`` (tasks that the kernel itself calls stuck: {"at_s", "name",
        "pid", "seconds", "text"}), ``dropped``. Where no source can be read ``why`` says so; that is not the
        same as no lines.
    """
    node, begin = node or Node(), since_boot(since)
    answer: dict[str, Any] = {"source": "unreadable", "complete": False, "since_s": begin, "xids": [], "sxids": [],
                              "api_mismatch": [], "blocked": [], "dropped": 0, "why": []}
    lines, complete, why = _kmsg(node, begin)
    source = "kmsg"
    if lines is None or not complete:
        answer["why"] += [why] if why else []
        for program, argv in (("journalctl", ["journalctl", "-k", "-b", "-q", "--no-pager", "-o", "short-monotonic"]),
                              ("dmesg", ["dmesg"])):
            told, problem = _command(node, argv)
            if told is None:
                answer["why"].append(problem)
            elif lines is None or (program == "journalctl" and told and told[0][0] < lines[0][0]):
                # The ring buffer forgets; the journal may remember what came before.
                lines, source, complete = told, program, program == "journalctl"
                break
    if lines is None:
        return answer
    answer.update(source=source, complete=complete, why=[])
    _sort_out(answer, [line for line in lines if line[0] >= begin])
    return answer


def since_boot(since: Any) -> float:
    """Return seconds since boot for what a request names; 0 for None, for the time before boot and for nonsense."""
    if isinstance(since, bool) or since is None:
        return 0.0
    if isinstance(since, (int, float)):
        return max(0.0, float(since))
    try:
        moment = datetime.fromisoformat(str(since).replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return max(0.0, time.monotonic() - (time.time() - moment.timestamp()))


def _kmsg(node: Node, begin: float) -> tuple[list[tuple[float, str]] | None, bool, str]:
    """Return (lines or None, whether nothing since ``begin`` was overwritten, why not)."""
    try:
        stream = os.open(node.path(KMSG), os.O_RDONLY | os.O_NONBLOCK)
    except OSError as exc:
        return None, False, "%s: %s" % (KMSG, exc.strerror)
    lines: list[tuple[float, str]] = []
    first = None
    try:
        for record in _records(stream):
            head, _, text = record.partition(";")
            words = head.split(",")
            if len(words) < 3 or not words[1].isdigit() or not words[2].isdigit():
                continue
            first = int(words[1]) if first is None else first
            lines.append((int(words[2]) / 1e6, text.split("\n")[0].replace("\\x0a", " ")))
    except OSError as exc:
        return None, False, "%s: %s" % (KMSG, exc.strerror)
    finally:
        os.close(stream)
    if not lines:
        return None, False, "%s holds nothing" % KMSG
    return lines, first == 0 or lines[0][0] <= begin, "%s begins %.0f s after boot" % (KMSG, lines[0][0])


def _records(stream: int) -> Iterator[str]:
    deadline = time.monotonic() + READ_SECONDS
    for _ in range(RECORDS_MAX):
        try:
            data = os.read(stream, RECORD_MAX)
        except BlockingIOError:
            return
        except BrokenPipeError:     # a record was overwritten while we read
            continue
        if not data or time.monotonic() > deadline:
            return
        text = data.decode("utf-8", "replace")
        # A device gives one record a read; a plain file in its place gives all of them.
        yield from [text] if text.count(";") <= 1 else _split(text)


def _split(text: str) -> list[str]:
    return [line for line in text.split("\n") if re.match(r"\d+,\d+,\d+,", line)] or [text]


def _command(node: Node, argv: list[str]) -> tuple[list[tuple[float, str]] | None, str]:
    done = node.run(argv, 10.0)
    lines = []
    for raw in done["stdout"].splitlines():
        found = STAMPED.match(raw)
        if found:
            lines.append((float(found.group(1)), JOURNAL.sub("", found.group(2))))
    if lines:
        return lines, ""
    words = done.get("error") or done["stderr"].strip()[:TEXT_MAX] or "it prints nothing"
    return None, "%s: %s" % (argv[0], words)


def _sort_out(answer: dict[str, Any], lines: list[tuple[float, str]]) -> None:
    for at, text in lines:
        kept: dict[str, Any] = {"at_s": at, "text": text.strip()[:TEXT_MAX]}
        xid, sxid, blocked = XID.search(text), SXID.search(text), BLOCKED.search(text)
        if xid or sxid:
            found = xid or sxid
            assert found is not None
            pid, name = PID.search(found.group(3)), NAME.search(found.group(3))
            kept.update(pci=found.group(1), number=int(found.group(2)), pid=int(pid.group(1)) if pid else None,
                        name=name.group(1).strip() if name else None)
            _keep(answer, "xids" if xid else "sxids", kept)
        elif blocked:
            kept.update(name=blocked.group(1), pid=int(blocked.group(2)), seconds=int(blocked.group(3)))
            _keep(answer, "blocked", kept)
        elif "NVRM: API mismatch" in text:
            _keep(answer, "api_mismatch", kept)


def _keep(answer: dict[str, Any], kind: str, line: dict[str, Any]) -> None:
    """Keep the newest lines: an old storm must not hide what came after."""
    lines = answer[kind]
    lines.append(line)
    if len(lines) > KEPT_MAX:
        del lines[0]
        answer["dropped"] += 1
