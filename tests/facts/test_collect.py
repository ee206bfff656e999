"""Discovery: equal stacks share a fact set, twins and unreadable nodes are left out with reason and hint."""

from __future__ import annotations

from typing import Any

import pytest

from planner.documents import canonical_json, dump_model, validate
from planner.errors import FactsError
from planner.facts.collect import collect_facts
from planner.facts.inventory import Host, Inventory
from planner.facts.schema import FactDocument
from planner.runner.port import HostOutcome
from tests.facts.documents import rhel_node, ubuntu_node
from tests.facts.fakes import FakeRunner

pytestmark = pytest.mark.usefixtures("stand_in_zip")


def _inventory(*names: str) -> Inventory:
    return Inventory("hosts.yml", tuple(Host(n, {"pool": "p"}, ("g",)) for n in names), "sha256:0")


def _collect(answers: dict[str, Any], failures: dict[str, Any] | None = None) -> FactDocument:
    names = sorted({*answers, *(failures or {})})
    return collect_facts(_inventory(*names), FakeRunner(answers, failures), package_globs=["cuda*"], created_at="now")


def test_equal_stacks_share_one_fact_set() -> None:
    """Two like nodes and another one make two fact sets; identity stays with the node."""
    document = _collect({"a": ubuntu_node("1" * 32), "b": ubuntu_node("2" * 32), "c": rhel_node("3" * 32)})
    assert [n.name for n in document.nodes] == ["a", "b", "c"]
    assert document.nodes[0].facts == document.nodes[1].facts != document.nodes[2].facts
    assert len(document.fact_sets) == 2
    assert document.nodes[0].identity.machine_id == "1" * 32
    assert (document.nodes[0].declared, document.nodes[0].groups) == ({"pool": "p"}, ("g",))
    assert document.unreadable == ()


def test_the_document_reads_back() -> None:
    """What is written is what the next verb reads."""
    document = _collect({"a": ubuntu_node(), "b": rhel_node()})
    raw = dump_model(document)
    assert validate(FactDocument, raw, name="facts.json") == document
    assert canonical_json(raw) == canonical_json(dump_model(_collect({"b": rhel_node(), "a": ubuntu_node()})))


def test_two_names_for_one_machine_are_both_left_out() -> None:
    """Each names the other, and a third machine is untouched."""
    document = _collect({"a": ubuntu_node("1" * 32), "alias": ubuntu_node("1" * 32), "b": ubuntu_node("2" * 32)})
    assert [n.name for n in document.nodes] == ["b"]
    reasons = {u.name: u.reason for u in document.unreadable}
    assert reasons.keys() == {"a", "alias"}
    assert "same machine as alias" in reasons["a"]
    assert "same machine as a " in reasons["alias"]
    assert all(u.hint and u.declared == {"pool": "p"} for u in document.unreadable)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (
            (HostOutcome.UNREACHABLE, {"msg": "ssh: connect to host 10.0.0.9 port 22: Connection refused"}),
            "Connection refused",
        ),
        ((HostOutcome.FAILED, {"msg": "Missing sudo password"}), "becoming root failed"),
        ((HostOutcome.FAILED, {"module_stderr": "/bin/sh: 1: python3: not found"}), "no usable Python"),
        (
            (HostOutcome.FAILED, {"module_stderr": "pyenv: python3.13: command not found\n\nNote: See 'pyenv help'"}),
            "no usable Python: pyenv: python3.13: command not found",
        ),
        (
            (
                HostOutcome.FAILED,
                {"stderr": "probe: Python 3.6 is too old, 3.8 or newer is needed", "msg": "non-zero return code"},
            ),
            "no usable Python",
        ),
        ((HostOutcome.FAILED, {"msg": "[Errno 28] No space left on device"}), "its disk is full"),
        ((HostOutcome.FAILED, {"msg": "Task timed out"}), "did not end in time"),
        ((HostOutcome.NOT_RUN, {}), "was not asked"),
    ],
)
def test_a_node_that_fails_is_reported(failure: tuple[HostOutcome, dict[str, Any]], reason: str) -> None:
    """Each cause has words and a hint; the other node is read all the same."""
    document = _collect({"good": ubuntu_node()}, {"bad": failure})
    assert [n.name for n in document.nodes] == ["good"]
    assert [u.name for u in document.unreadable] == ["bad"]
    assert reason in document.unreadable[0].reason
    assert document.unreadable[0].hint


@pytest.mark.parametrize("answer", ["", "segmentation fault", '{"schema": "other/1"}'])
def test_a_node_that_prints_nonsense_is_unreadable(answer: str) -> None:
    """Nothing is guessed from half an answer."""
    document = _collect({"good": ubuntu_node(), "odd": answer})
    assert [u.name for u in document.unreadable] == ["odd"]
    assert "not a document" in document.unreadable[0].reason


def test_ansible_that_cannot_start_is_an_error() -> None:
    """No host was asked: that is not a fleet of unreadable nodes."""
    with pytest.raises(FactsError, match="ended before any host"):
        _collect({}, {"a": (HostOutcome.NOT_RUN, {}), "b": (HostOutcome.NOT_RUN, {})})


def test_the_play_is_sent_with_probe_and_request(stand_in_zip: bytes) -> None:
    """The run directory holds the shipped play, the probe and the request; only the inventory's names are asked."""
    runner = FakeRunner({"a": ubuntu_node()})
    collect_facts(_inventory("a"), runner, package_globs=["nvidia*", "cuda*"], forks=3)
    assert runner.request_document == {"packages": ["cuda*", "nvidia*"]}
    assert runner.files["files/probe.zip"] == stand_in_zip
    assert b"Read the facts" in runner.files["discover.yml"]
    assert (runner.requests[0].limit, runner.requests[0].forks) == (("a",), 3)
