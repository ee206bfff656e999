"""Whole probe documents of real machines give facts, and nothing that tells one machine from another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.documents import dump_model
from planner.facts.assemble import assemble_facts, read_probe
from tests.facts.record import BOOT_ID, MACHINE_ID, scrub

FILES = sorted((Path(__file__).parent / "recorded").glob("*.json"))


def _load(path: Path) -> dict[str, Any]:
    recording = json.loads(path.read_text(encoding="utf-8"))
    assert recording["origin"].startswith("recorded: ")
    return read_probe(json.dumps(recording["document"]))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_recording_gives_facts(path: Path) -> None:
    """Operating system, kernel and owner are told, each GPU has a model, and the same text gives the same facts."""
    document = _load(path)
    facts, identity = assemble_facts(document)
    assert facts.os.id
    assert facts.os.arch in ("x86_64", "aarch64")
    assert facts.kernel.running
    assert facts.driver.owner in ("apt", "dnf", "runfile", "operator", "image", "none", None)
    assert (facts.driver.owner == "none") == (not facts.gpus and not facts.driver.userspace)
    assert all(g.model and g.compute_capability for g in facts.gpus)
    assert identity.machine_id == MACHINE_ID
    assert assemble_facts(_load(path)) == (facts, identity)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_recording_is_scrubbed(path: Path) -> None:
    """A recording that still names its machine is refused here, before it is published."""
    document = _load(path)
    assert scrub(document) == document


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_facts_hold_no_identity(path: Path) -> None:
    """Two machines with one stack share one fact set: changing identity and time changes nothing in it."""
    document = _load(path)
    facts, identity = assemble_facts(document)
    other = json.loads(json.dumps(document))
    other["files"]["/etc/machine-id"] = "1" * 32
    other["files"]["/proc/sys/kernel/random/boot_id"] = BOOT_ID.replace("0", "1")
    other["observed_at"], other["clock"], other["seconds"] = "2000-01-01T00:00:00Z", 0, 1
    for gpu in other["nvml"]["gpus"]:
        gpu.update(uuid="GPU-1", serial="1")
    assert dump_model(assemble_facts(other)[0]) == dump_model(facts)
    assert assemble_facts(other)[1] != identity


def test_the_debian_recording_reads_as_the_machine_was() -> None:
    """One recording is spelled out, so that a parser that goes silent is noticed."""
    facts, _ = assemble_facts(_load(Path(__file__).parent / "recorded" / "debian-12-no-gpu.json"))
    assert (facts.os.id, facts.os.version_id, facts.os.family, facts.os.glibc) == ("debian", "12", "apt", "2.36")
    assert facts.os.virtualisation == "docker"
    assert (facts.os.root_diskless, facts.os.secure_boot) == (False, False)
    assert facts.driver.nvml_error == "NVML Shared Library Not Found"
    assert [(t.version, t.path, t.default) for t in facts.toolkits] == [("13.0", "/usr/local/cuda-13.0", True)]
    assert facts.packages["openssl"] == "3.0.19-1~deb12u2"
    assert facts.available is not None
    assert facts.available["openssl"][0] == "3.0.22-1~deb12u2"
    assert facts.container_runtimes == {"docker": "28.2.2"}
