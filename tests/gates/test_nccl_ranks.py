"""The probe's ``nccl`` as real processes on stand-in nodes: two ranks, every way to fail, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from planner.gates.multi_node import judge_pair
from planner.probe.nccl import find_libraries, read_log
from planner.probe.rank import run_rank
from tests.gates.standin_libraries import StandInNode
from tests.gates.standin_run import write_probe

NONCE, LABEL = "0123456789abcdef", "pair"
BASE = {"ranks": 2, "nonce": NONCE, "label": LABEL, "bytes": [8, 65536], "samples": 5, "seconds": 60}


class Fleet:
    """Two stand-in nodes and the probe's one file."""

    def __init__(self, compiled: Path, root: Path) -> None:
        self.root, self.nccl = root, root / "nccl"
        self.nccl.mkdir()
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
                        self.nccl / "libnccl.so.2", Path(__file__).with_name("standin_nccl.c")], check=True)
        self.probe = write_probe(root / "probe.zip")
        self.nodes = [StandInNode(compiled, root / name, gpus=1) for name in ("a", "b")]

    def start(self, rank: int, play: str = "", **more: Any) -> subprocess.Popen[str]:
        """Start one rank."""
        request = {**BASE, "rank": rank, "roots": [str(self.nccl)], **more}
        environment = {**self.nodes[rank].environment(), "STANDIN_NCCL": play}
        return subprocess.Popen([sys.executable, "-I", self.probe, "nccl", "--request", json.dumps(request)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    def pair(self, *plays: str, **more: Any) -> dict[str, Any]:
        """Run both ranks, the id handed over by a file; return what they said last."""
        path = self.root / "id"
        first = self.start(0, plays[0] if plays else "", id="make", id_file=str(path), **more)
        wait(lambda: path.exists() or first.poll() is not None)
        second = self.start(1, plays[1] if len(plays) > 1 else "", id=path.read_text(encoding="ascii"), **more)
        answers = {name: json.loads(p.communicate(timeout=90)[0].splitlines()[-1])
                   for name, p in (("a", first), ("b", second))}
        assert not path.exists()
        return answers


def wait(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def fleet(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(compiled, tmp_path_factory.mktemp("fleet"))


def test_two_ranks_add_up_exactly(fleet: Fleet) -> None:
    answers = fleet.pair()
    assert judge_pair(answers, BASE).code == "OK", judge_pair(answers, BASE)
    assert answers["a"]["nccl"]["version"] == "2.99.1"
    assert answers["a"]["nccl"]["loaded"] == [str(fleet.nccl / "libnccl.so.2")]
    assert answers["a"]["log"]["via"] == {"SHM/played": 1}
    assert "node7" not in json.dumps(answers)
    assert judge_pair(answers, {**BASE, "nonce": "f" * 16}).code == "REPORT_FOREIGN"


def test_one_wrong_bit_in_one_rank_is_seen(fleet: Fleet) -> None:
    attempt = judge_pair(fleet.pair("", "wrong"), BASE)
    assert attempt.code == "RESULT_WRONG"
    assert all(sentence.startswith("b: ") for sentence in attempt.evidence)


def test_a_rank_that_never_joins_ends_by_the_time_limit_and_keeps_its_log(fleet: Fleet) -> None:
    answers = fleet.pair("", "hang", seconds=3)
    assert [answer["status"] for answer in answers.values()] == ["timeout", "timeout"]
    assert answers["b"]["log"]["network"] == "stand-in"
    assert answers["b"]["nccl"]["version"] == "2.99.1"
    assert judge_pair(answers, BASE).code == "NCCL_HANG"


def test_a_refusal_and_a_crash_keep_their_words(fleet: Fleet) -> None:
    answers = fleet.pair("", "refuse", seconds=3)
    assert "ncclCommInitRank failed with 2 (stand-in error; nobody is there (stand-in))" in answers["b"]["reason"]
    assert judge_pair({"a": answers["b"], "b": answers["b"]}, BASE).code == "NCCL_ERROR"
    assert fleet.pair("", "crash", seconds=3)["b"]["reason"] == "killed by signal 6"


def test_who_gives_up_leaves_no_id_and_lets_nobody_wait(fleet: Fleet, tmp_path: Path) -> None:
    for roots, status in (("/nowhere", "skip"), (str(fleet.nccl), "error")):
        place = tmp_path / status
        process = fleet.start(0, "no-version", id="make", id_file=str(place), roots=[roots])
        answer = json.loads(process.communicate(timeout=90)[0].splitlines()[-1])
        assert (answer["status"], place.read_text(encoding="ascii")) == (status, "")
        assert "id_out" not in answer


def test_without_a_file_the_id_is_the_first_line(fleet: Fleet) -> None:
    process = fleet.start(0, ranks=1, id="make")
    first, last = (json.loads(line) for line in process.communicate(timeout=90)[0].splitlines())
    assert len(first["id"]) == 172
    assert last["status"] == "ok"


def test_a_killed_probe_leaves_no_process(fleet: Fleet) -> None:
    process = fleet.start(0, "hang", id="make")
    assert process.stdout is not None
    process.stdout.readline()       # the id is out: the child waits for the other rank
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    child = int(children.read_text(encoding="ascii").split()[0])
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    wait(lambda: not alive(child))


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_no_kernel_starts_on_a_gpu_that_somebody_holds(fleet: Fleet) -> None:
    fault = fleet.nodes[0].root / "etc" / "planner-lab" / "fault" / "gpu-busy"
    fleet.nodes[0].write("etc/planner-lab/fault/gpu-busy", "0 4242")
    try:
        answer = json.loads(fleet.start(0, id="make").communicate(timeout=90)[0].splitlines()[-1])
    finally:
        fault.unlink()
    assert (answer["status"], "4242" in answer["reason"]) == ("busy", True)
    assert judge_pair({"a": answer, "b": answer}, BASE).code == "ENV_FOREIGN_PROCESS"


def test_no_library_is_a_skip(fleet: Fleet) -> None:
    process = fleet.start(0, id="make", roots=[str(fleet.root / "none")])
    answer = json.loads(process.communicate(timeout=90)[0].splitlines()[-1])
    if answer["status"] == "ok":
        pytest.skip("this machine has an NCCL of its own")
    assert answer["status"] == "skip"
    assert judge_pair({"a": answer, "b": answer}, BASE).code == "PART_MISSING"


@pytest.mark.parametrize("request_", [
    {}, {"id": "x"}, {**BASE, "id": "make"}, {**BASE, "rank": 2, "id": "make"}, {**BASE, "rank": 0, "id": "AAAA"},
    {**BASE, "rank": "0", "id": "make"}, {**BASE, "rank": 0, "id": "make", "bytes": [7]},
    {**BASE, "rank": 0, "id": "make", "bytes": "8"}, {**BASE, "rank": 0, "id": "make", "gpus": "GPU-1"},
    {**BASE, "rank": 0, "id": "make", "seconds": -1}, {**BASE, "rank": True, "id": "make"},
])  # fmt: skip
def test_a_request_that_cannot_be_carried_out_is_an_error_with_words(request_: dict[str, Any]) -> None:
    answer = run_rank(request_)
    assert answer["status"] == "error"
    assert answer["reason"]


def test_libraries_are_found_in_wheels_and_roots(tmp_path: Path) -> None:
    site = tmp_path / "venv" / "lib" / "python3.12" / "site-packages" / "nvidia" / "nccl" / "lib"
    site.mkdir(parents=True)
    (site / "libnccl.so.2").write_bytes(b"x")
    other = tmp_path / "opt" / "lib"
    other.mkdir(parents=True)
    (other / "libnccl.so.2").symlink_to(site / "libnccl.so.2")
    found = find_libraries([], [str(tmp_path / "opt"), str(tmp_path / "venv"), str(tmp_path / "none[")])
    assert found[-1:] == [str(other / "libnccl.so.2")]      # the same file twice is one library
    assert str(site / "libnccl.so.2") not in found


def test_what_a_log_says_of_transports() -> None:
    text = ("n:1:2 [0] NCCL INFO NCCL version 2.28.9+cuda13.0\n"
            "n:1:2 [0] NCCL INFO NCCL_NVLS_ENABLE set by environment to 0.\n"
            + "n:1:2 [0] NCCL INFO Channel 00/24 : 0[0] -> 1[1] via P2P/CUMEM\n" * 24
            + "n:1:2 [1] NCCL INFO Channel 01/0 : 1[1] -> 0[0] [send] via NET/IB/0/GDRDMA\n"
            "n:1:2 [0] NCCL INFO Using network IB\n"
            "n:1:2 [0] NCCL WARN something\n")
    log = read_log(text)
    assert log["via"] == {"NET/IB": 1, "P2P/CUMEM": 24}
    assert (log["network"], log["nvls"]) == ("IB", False)
    assert len(log["lines"]) < 10
    assert read_log(text + "n:1:2 [0] NCCL INFO Connected NVLS tree\n")["nvls"] is True
