"""Children of the probe: side by side, bounded, gone with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from planner.probe.children import bounded, run_all
from planner.probe.observe_run import run_command
from planner.probe.scratch import scratch


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, within_s: float = 5.0) -> bool:
    end = time.monotonic() + within_s
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_each_answers_for_itself() -> None:
    def crash() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse() -> None:
        raise ValueError("no such thing")

    def leave() -> None:
        os._exit(0)

    found = run_all({"right": lambda: {"a": [1, 2]}, "crash": crash, "refuse": refuse, "leave": leave,
                     "large": lambda: "x" * 3_000_000}, 20)
    assert found["right"] == ({"a": [1, 2]}, None)
    assert found["crash"] == (None, f"killed by signal {signal.SIGKILL.value}")
    assert found["refuse"] == (None, "ValueError: no such thing")
    assert found["leave"] == (None, "ended without an answer")
    assert found["large"] == ("x" * 3_000_000, None)


def test_children_run_at_the_same_time(tmp_path: Path) -> None:
    def meet(mine: str, other: str) -> bool:
        (tmp_path / mine).touch()
        end = time.monotonic() + 20
        while not (tmp_path / other).exists() and time.monotonic() < end:
            time.sleep(0.01)
        return (tmp_path / other).exists()

    found = run_all({"a": lambda: meet("a", "b"), "b": lambda: meet("b", "a")}, 30)
    assert found == {"a": (True, None), "b": (True, None)}


def test_one_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    def hang() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (tmp_path / "pid").write_text(str(child.pid), encoding="ascii")
        time.sleep(600)

    assert run_all({"hang": hang, "quick": lambda: 1}, 3) == {"hang": (None, "timeout"), "quick": (1, None)}
    assert gone(int((tmp_path / "pid").read_text(encoding="ascii")))


def test_a_grandchild_that_keeps_the_pipe_does_not_keep_the_answer(tmp_path: Path) -> None:
    def fork_and_answer() -> int:
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        return pid

    value, reason = bounded(fork_and_answer, 20, 0)
    assert reason is None
    assert gone(value)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
def test_whoever_kills_the_parent_kills_all_and_no_file_stays(tmp_path: Path, blow: signal.Signals) -> None:
    program = f"""
import os, sys, time
sys.path.insert(0, {str(Path.cwd())!r})
from planner.probe.children import run_all
from planner.probe.observe_run import run_command
from planner.probe.scratch import scratch

def child():
    with open({str(tmp_path / 'child')!r}, 'w') as stream:
        stream.write(str(os.getpid()))
    with open(os.path.join(os.environ['TMPDIR'], 'left'), 'w') as stream:
        stream.write('x')
    sleep = 'import os, sys, time; open(sys.argv[1], "w").write(str(os.getpid())); time.sleep(600)'
    return run_command([sys.executable, '-c', sleep, {str(tmp_path / 'grand')!r}], 600)

with scratch():
    run_all({{'': child}}, 600)
"""
    files = tmp_path / "tmp"
    files.mkdir()
    with subprocess.Popen([sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(files)}) as process:
        end = time.monotonic() + 30
        while not ((tmp_path / "grand").exists() and (tmp_path / "grand").read_text(encoding="ascii")):
            assert time.monotonic() < end
            time.sleep(0.02)
        assert any(files.iterdir())
        process.send_signal(blow)
    for name in ("child", "grand"):
        assert gone(int((tmp_path / name).read_text(encoding="ascii")))
    end = time.monotonic() + 5
    while any(files.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(files.iterdir())


def test_scratch_gives_back_what_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with scratch() as path:
        assert os.environ["HOME"] == os.environ["TMPDIR"] == path
        run_command([sys.executable, "-c", "open(__import__('os').environ['TMPDIR'] + '/a', 'w').write('b')"])
        assert Path(path, "a").exists()
    assert os.environ["HOME"] == "/somewhere"
    assert not any(tmp_path.iterdir())
