"""What the judges of a node's state share: reading a report that nobody vouches for, and collecting what they find."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .failures import WORST_FIRST, Verdict, failure
from .verdicts import GateResult

# What hangs over from before the change and makes nothing unusable now: told as inherited, the failure itself is not.
HANGS_OVER = frozenset({"FABRIC_NOT_READY", "GPU_LOST", "MPS_BAD"})
EVIDENCE_MAX = 20
SENTENCE_MAX = 500

_RANK = {verdict: place for place, verdict in enumerate(WORST_FIRST)}


class Findings:
    """Findings by gate and subject, in the order in which they came; one answer comes out for each."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], list[tuple[str, str]]] = {}
        self._notes: dict[tuple[str, str], list[str]] = {}

    def judged(self, gate: str, subject: str, *notes: str) -> None:
        """Say that the gate looked at the subject; where nothing else is found it passes, with the notes."""
        key = (gate, subject)
        self._codes.setdefault(key, [])
        self._notes.setdefault(key, []).extend(notes)

    def add(self, gate: str, subject: str, code: str, sentence: str, *, was: bool = False) -> None:
        """Add a finding; ``was``: the same was so before the change."""
        if was:
            sentence = f"{sentence} (it was so before the change)"
            code = "INHERITED" if code in HANGS_OVER else code
        self.judged(gate, subject)
        self._codes[gate, subject].append((code, sentence[:SENTENCE_MAX]))

    def skip(self, gate: str, subject: str, code: str, sentence: str) -> None:
        """Say why the gate does not look at the subject; something found there outweighs it."""
        self._codes.setdefault((gate, subject), []).append((code, sentence[:SENTENCE_MAX]))

    def results(self, passed_before: Mapping[tuple[str, str], bool | None]) -> list[GateResult]:
        """Return one result for each gate and subject: the worst code, and a sentence for each finding."""
        found = []
        for (gate, subject), codes in self._codes.items():
            key = (gate, subject)
            notes = self._notes.get(key, [])
            # A skip says that nothing was looked at: a look outweighs it.
            real = [each for each in codes if failure(each[0]).verdict is not Verdict.SKIP]
            counted = sorted(real or ([] if key in self._notes else codes), key=lambda c: _RANK[failure(c[0]).verdict])
            code = counted[0][0] if counted else "OK"
            words = [text if each == code else f"{text} [{each}]" for each, text in counted]
            found.append(GateResult(gate, subject, code, tuple((words + notes)[:EVIDENCE_MAX]), 1,
                                    passed_before.get(key)))
        return found


def proofs(results: list[GateResult]) -> dict[tuple[str, str], bool | None]:
    """Return for each gate and subject of a report from before the change whether it passed; None: nobody can tell."""
    unclear = (Verdict.SKIP, Verdict.INCONCLUSIVE, Verdict.ERROR)
    return {r.key: None if r.verdict in unclear else r.verdict in (Verdict.PASS, Verdict.WARN) for r in results}


def as_map(value: object) -> Mapping[str, Any]:
    """Return a mapping, empty for what is none."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: object) -> list[Any]:
    """Return a list, empty for what is none."""
    return list(value) if isinstance(value, (list, tuple)) else []


def as_maps(value: object) -> list[Mapping[str, Any]]:
    """Return the mappings of a list."""
    return [each for each in as_list(value) if isinstance(each, Mapping)]


def as_number(value: object) -> float | None:
    """Return a finite number, None for what is none; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return None
    return None if value in (float("inf"), float("-inf")) else value


def as_text(value: object) -> str:
    """Return a string, empty for what is none."""
    return value if isinstance(value, str) else ""


def gpu_label(gpu: Mapping[str, Any]) -> str:
    """Return what a GPU is called in results: its UUID, else its number."""
    return as_text(gpu.get("uuid")) or f"GPU {gpu.get('index')}"


def gpus_of(report: Mapping[str, Any], key: str = "nvml") -> dict[str, Mapping[str, Any]]:
    """Return the GPUs that can be told apart, by their label."""
    return {gpu_label(gpu): gpu for gpu in as_maps(as_map(report.get(key)).get("gpus"))}


def same_boot(report: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Return whether both reports are of one boot of the node."""
    boot = as_text(report.get("boot_id"))
    return bool(boot) and boot == before.get("boot_id")


def pci_key(text: object) -> str:
    """Return ``domain:bus:device`` as plain numbers: the log, sysfs and NVML write it in three ways."""
    numbers = re.findall(r"[0-9a-f]+", as_text(text).lower())[:4]
    parts = [int(number, 16) for number in numbers]
    return ":".join(f"{part:x}" for part in (parts if len(parts) > 2 else [0, *parts])[:3])
