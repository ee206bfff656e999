"""The node side: bounded acts, real processes, and syntax that the oldest interpreter reads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import planner.probe
from planner.facts.assemble import assemble_facts, read_probe
from planner.probe.__main__ import main
from planner.probe.observe_doctor import _release_url
from planner.probe.observe_files import _root_of, describe_toolkit
from planner.probe.observe_run import bounded, run_command
from planner.probe.pid import read_pid

SOURCES = sorted(Path(planner.probe.__file__).parent.glob("*.py"))


def _alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    """The whole process group goes, also a grandchild that holds the pipe open."""
    mark = tmp_path / "pid"
    started = time.monotonic()
    answer = run_command(["sh", "-c", f"sleep 60 & echo $! > {mark}; wait"], 1.0)
    assert (answer["rc"], answer["error"]) == (None, "timeout")
    assert time.monotonic() - started < 5
    grandchild = int(mark.read_text(encoding="utf-8"))
    while _alive(grandchild) and time.monotonic() - started < 5:
        time.sleep(0.01)      # a killed process closes its files a moment before it is gone
    assert not _alive(grandchild)


def test_a_missing_command_and_a_failing_one() -> None:
    """Neither raises; both are told apart."""
    assert run_command(["no-such-command-here"])["error"] == "not-found"
    failed = run_command(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (failed["rc"], failed["stdout"], failed["stderr"]) == (3, "out\n", "err\n")


def test_a_function_that_hangs_fails_or_dies_gives_the_fallback() -> None:
    """NVML may never come back, and may take its process with it."""
    assert bounded(lambda: {"x": [1]}, 5, None) == ({"x": [1]}, None)
    assert bounded(lambda: time.sleep(60), 0.2, {}) == ({}, "timeout")
    value, reason = bounded(lambda: {}["missing"], 5, [])
    assert value == []
    assert "KeyError" in str(reason)
    assert bounded(lambda: __import__("os")._exit(9), 5, 7) == (7, "ended without an answer")


def test_facts_of_this_machine_can_be_read() -> None:
    """The whole probe in a process of its own, as on a node."""
    run = subprocess.run(
        [sys.executable, "-m", "planner.probe", "facts", "--request", '{"packages": ["bash"]}'],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    document = read_probe(run.stdout)
    assert "access" not in document
    facts, _ = assemble_facts(document)
    assert facts.os.id
    assert facts.kernel.running == Path("/proc/sys/kernel/osrelease").read_text(encoding="utf-8").strip()
    assert facts.os.python == ".".join(map(str, sys.version_info[:3]))


@pytest.mark.parametrize(
    "arguments",
    [[], ["what"], ["pid"], ["pid", "x"], ["facts", "--reqest", "{}"], ["facts", "--request", "{"],
     ["facts", "--request", "[]"], ["facts", "--request", "@/no/such/file"]],
)  # fmt: skip
def test_wrong_use_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, the reason and the usage on standard error, nothing on standard output."""
    assert main(arguments) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "usage: probe" in seen.err


def test_an_old_interpreter_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A syntax error would tell nobody what to do."""
    monkeypatch.setattr(sys, "version_info", (3, 6, 15, "final", 0))
    assert main(["facts"]) == 3
    assert "Python 3.6 is too old, 3.8 or newer" in capsys.readouterr().err


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_sources_parse_as_the_oldest_python(path: Path) -> None:
    """3.8 is the floor; the entry itself is read by older ones, to be refused by name."""
    oldest = (3, 6) if path.name == "__main__.py" else (3, 8)
    ast.parse(path.read_text(encoding="utf-8"), feature_version=oldest)


def test_libraries_of_a_running_process(tmp_path: Path) -> None:
    """A real process that mapped a file with a CUDA library's name; the file is then replaced under it."""
    library = tmp_path / "libcuda.so.570.195.03"
    library.write_bytes(b"\0" * 4096)
    script = ("import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ); "
              "print(1, flush=True); input()")
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(library)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        expected = {"name": "libcuda", "version": "570.195.03", "path": str(library), "deleted": False}
        assert read_pid(child.pid)["libraries"] == [expected]
        library.unlink()
        assert read_pid(child.pid)["libraries"] == [expected | {"deleted": True}]
    finally:
        child.communicate(b"\n")
    assert "cannot read" in read_pid(child.pid)["error"]


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ("|x|http://d/debian/dists/b/main/binary-amd64/Packages", "http://d/debian/dists/b/InRelease"),
        ("|x|https://n/repos/ubuntu2204/x86_64/Packages", "https://n/repos/ubuntu2204/x86_64/InRelease"),
        ("|x|file:/srv/lab/./Packages.gz", "file:/srv/lab/InRelease"),
        ("nonsense", None),
    ],
)  # fmt: skip
def test_where_a_repository_keeps_its_release_file(line: str, url: str | None) -> None:
    """Archives with suites, and flat repositories."""
    assert _release_url(line) == url


def test_toolkits_on_disk(tmp_path: Path) -> None:
    """A directory is a toolkit when it has a version file or a compiler; runtime libraries alone are none."""
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64" / "libcudart.so.12").touch()
    assert describe_toolkit(str(tmp_path)) is None
    (tmp_path / "version.json").write_text('{"cuda": {"version": "12.8.1"}}', encoding="utf-8")
    found = describe_toolkit(str(tmp_path))
    assert found is not None
    assert json.loads(found["texts"]["version.json"])["cuda"]["version"] == "12.8.1"
    assert (
        _root_of("/usr/local/cuda-12.8/bin/")
        == _root_of("/usr/local/cuda-12.8/targets/x86_64-linux/lib")
        == "/usr/local/cuda-12.8"
    )
