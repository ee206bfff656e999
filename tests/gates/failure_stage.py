"""Runs plays of the failure table: a real probe on a stand-in node, judged by the controller's judge."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from planner.gates.judge import judge_gate
from tests.gates.failure_plays import Play
from tests.gates.standin_libraries import ROOT, Software, StandInNode
from tests.gates.standin_run import HOST, SITE, furnish, run_gate

# Wall time of this machine's processor, not of the GPUs that are played: no two runs of a busy machine agree on it.
BY_THE_PROCESSOR = ("launch_async_us", "launch_sync_us", "launch_cpu_us", "copy_cpu_us")


class Row(NamedTuple):
    """What the documents promise of one code."""

    verdict: str
    action: str
    exit_code: int


def tabled() -> dict[str, Row]:
    """Return code -> what docs/gate-verdicts.md promises; the code has no part in it."""
    text = (ROOT / "docs" / "gate-verdicts.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()
            if re.match(r"\| `[A-Z_0-9]+` \|", line)]
    return {row[0].strip("`"): Row(row[1], row[5].split(",")[0], int(row[6])) for row in rows}


def shown(results: list[dict[str, Any]], code: str) -> set[Row]:
    """Return what the results with a code say of themselves, whatever a policy makes of them."""
    return {Row(r["verdict"], r["actions"][0], r["exit_code"]) for r in results if r["code"] == code}


class Stage:
    """Runs plays; what a node said before the change is asked for once."""

    def __init__(self, compiled: Path, build: Software, probe: Path, root: Path) -> None:
        self.compiled, self.build, self.probe, self.root = compiled, build, probe, root
        self.known: dict[str, str] = {}
        self.runs = 0

    def node(self, play: Play) -> StandInNode:
        """Return a node that plays."""
        self.runs += 1
        node = StandInNode(self.compiled, self.root / str(self.runs) / "node", gpus=play.gpus, loaded=play.loaded,
                           plays=play.plays, faults=play.faults, config=play.config)
        furnish(node, gpus=play.gpus, loaded=play.loaded, log=play.log)
        for name, what in play.libraries.items():
            self._library(node.root / SITE / name, what.split())
        for name, text in {**{f"bin/{name}": text for name, text in play.programs.items()}, **play.files}.items():
            node.write(name, text.replace("{python}", sys.executable).replace(
                "{stuck}", str(self.compiled / "stuck")))
            (node.root / name).chmod(0o755 if text.startswith("#!") else 0o644)
        return node

    def _library(self, target: Path, words: list[str]) -> None:
        torn = words[0] == "torn"
        name, version, *fault = words[1:] if torn else words
        self.build(target, name, int(version), *fault)
        if torn:
            target.write_bytes(target.read_bytes()[:64])

    def report(self, play: Play, request: dict[str, Any]) -> str:
        """Return what the probe prints on a node that plays."""
        node = self.node(play)
        home = node.root.parent
        text = run_gate(node, self.probe, request, home, play.environment)
        assert [str(path) for name in ("home", "tmp") for path in (home / name).rglob("*")] == []
        return timed(text, play.kept)

    def before(self, play: Play) -> str:
        """Return the record from before the change."""
        key = repr(play)
        if key not in self.known:
            asked = {**play.request, "profile": play.profile, "nonce": "be", "host": HOST}
            self.known[key] = self.report(play, asked)
        return self.known[key]

    def judged(self, play: Play) -> tuple[dict[str, Any], dict[str, Any]]:
        """Run the gate as often as the play says; return (what was judged, the last report)."""
        gpus = {"expect": {"gpus": 2 if play.before is None else play.before.gpus}}
        before = None
        if play.before is not None:
            document = json.loads(self.before(play.before))
            if play.edit:
                play.edit(document)
            before = json.dumps(document)
        runs = []
        for number in range(1, play.attempts + 1):
            request = {"profile": play.profile, "nonce": f"c0ffee0{number}", "host": HOST, "attempt": number, **gpus,
                       **play.request}
            acts = play if number == 1 or not play.once or play.before is None else play.before
            text = self.report(acts, request)
            runs.append((play.spoil(text) if play.spoil else text, request))
        report = {} if play.spoil else json.loads(runs[-1][0])
        return judge_gate(runs[-1][0], runs[-1][1], before, runs[:-1]), report


def timed(text: str, kept: tuple[str, ...] = ()) -> str:
    """Set the figures that this machine's processor makes to one value, but for those that are ``kept``."""
    document = json.loads(text)
    for gpu in document.get("gpus") or ():
        for process in gpu.get("processes") or ():
            for result in process["results"]:
                for name in set(result["samples"]) & set(BY_THE_PROCESSOR) - set(kept):
                    result["samples"][name] = [20.0] * len(result["samples"][name])
    return json.dumps(document)
