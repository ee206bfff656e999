"""Nothing stays: after a normal end, a failed start, a starter killed at any moment; and never another lab's things."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.cli.main import invoke
from planner.errors import LabError
from planner.lab import registry
from planner.lab.lab import Lab
from planner.lab.spec import NodeSpec
from planner.lab.stacks import example_packages, example_specs
from planner.lab.teardown import leftovers

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("lab_machine")]


@pytest.fixture
def lab_id() -> Iterator[int]:
    """An id that no lab has now; whatever a test leaves there is ended."""
    taken = {entry.id for entry in registry.entries()}
    free = next(n for n in reversed(registry.IDS) if n not in taken and not Path(f"/sys/class/net/lab{n}br").exists())
    yield free
    for entry in registry.entries():
        if entry.id == free:
            Lab.attach(free).down()


def trace(lab_id: int, directory: Path) -> list[str]:
    """Return everything on this machine that belongs to a lab id, found without the lab's own code."""
    lines = [str(p) for p in (registry.ROOT / str(lab_id), directory) if p.exists()]
    lines += [p.name for p in Path("/run/netns").glob(f"lab{lab_id}-*")]
    lines += [p.name for p in Path("/sys/class/net").iterdir() if p.name.startswith((f"lab{lab_id}br", f"l{lab_id}v"))]
    lines += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]
    lines += [str(p) for p in Path("/sys/fs/cgroup").glob(f"**/lab{lab_id}-*")]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
        except OSError:
            continue
        if int(folder.name) != os.getpid() and (str(directory).encode() in words
                                                or f"PLANNER_LAB={lab_id}-".encode() in words):
            lines.append(f"process {folder.name}")
    return lines


def test_down_leaves_nothing_and_may_be_repeated(lab_id: int, tmp_path: Path) -> None:
    """Up, down, down again."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    before, others = limit.read_text(), registry.entries()
    lab = Lab(tmp_path / "run", lab_id)
    lab.up(example_specs(["apt", "dnf"], []), example_packages(["apt", "dnf"]))
    entry = lab.entry
    assert len(trace(lab_id, tmp_path / "run")) > 5
    assert leftovers(entry)
    lab.down()
    lab.down()
    assert trace(lab_id, tmp_path / "run") == []
    if not others and not registry.entries():
        assert limit.read_text() == before


@pytest.mark.parametrize("sign", ["starter", "server.log", "first state", "nodes/n02/node.json",
                                  "nodes/n04/supervisor"])
def test_starter_killed_at_any_moment(sign: str, lab_id: int, tmp_path: Path) -> None:
    """kill -9 of `lab up` as soon as a certain thing is there; `lab down` finds and ends the rest."""
    directory = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "planner", "lab", "up", "4", "--id", str(lab_id), "--dir", str(directory)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    place = {"starter": registry.ROOT / str(lab_id) / "lab.json", "first state": directory / "id_ed25519.pub"}.get(
        sign, directory / sign)
    deadline = time.monotonic() + 120
    while not place.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it got there"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert invoke(["lab", "down", "--id", str(lab_id)]) == 0
    assert trace(lab_id, directory) == []


def test_failed_start_takes_itself_back(lab_id: int, tmp_path: Path) -> None:
    """Packages that cannot be installed together: an error that says so, and nothing left."""
    both = {"libnvidia-compute-570-server": "570.1-1+standin", "libnvidia-compute-580-server": "580.1-1+standin"}
    lab = Lab(tmp_path / "run", lab_id)
    with pytest.raises(LabError) as caught:
        lab.up([NodeSpec("n01", packages=both)], {})
    assert caught.value.diagnostics[0].code == "lab-first-state"
    assert any("onflict" in line for line in caught.value.diagnostics[0].why)
    assert trace(lab_id, tmp_path / "run") == []


def test_two_labs_do_not_touch_each_other(lab_id: int, tmp_path: Path) -> None:
    """The end of one lab leaves the other's nodes running; an id cannot be taken twice."""
    first, second = Lab(tmp_path / "a", lab_id), Lab(tmp_path / "b")
    specs = example_specs(["apt"], [], bare=True)
    try:
        first.up(specs, {})
        second.up(specs, {})
        assert first.entry.bridge != second.entry.bridge
        with pytest.raises(LabError):
            Lab(tmp_path / "c", lab_id).up(specs, {})
        before = first.boot_id("n01")
        second.down()
        assert first.exec("n01", "true").returncode == 0
        assert first.boot_id("n01") == before
    finally:
        second.down()
        first.down()
    assert trace(lab_id, tmp_path / "a") == []


def test_command_line(lab_id: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """up, status, fault, exec, down: data on stdout, the rest on stderr, exit codes of what ran."""
    number = ["--id", str(lab_id)]
    assert invoke(["lab", "up", "1", "--bare", *number, "--dir", str(tmp_path / "run")]) == 0
    assert capfd.readouterr().out == f"{tmp_path}/run/inventory.json\n"
    assert invoke(["lab", "fault", *number, "n01", "dkms-fail"]) == 0
    assert invoke(["lab", "status", *number]) == 0
    row = capfd.readouterr().out.splitlines()[1].split()
    assert (row[1], row[3], row[4], row[-1]) == ("n01", "apt", "on", "dkms-fail")
    assert invoke(["lab", "exec", *number, "n01", "--", "sh", "-c", "echo here; exit 3"]) == 3
    assert capfd.readouterr().out == "here\n"
    assert invoke(["lab", "fault", *number, "n01", "no-such-fault"]) == 1
    assert "there is no such fault" in capfd.readouterr().err
    assert invoke(["lab", "slurm", "up", *number]) == 1
    assert "--head" in capfd.readouterr().err
    assert invoke(["lab", "down", *number]) == 0
    assert invoke(["lab", "exec", *number, "n01", "true"]) == 1
    assert trace(lab_id, tmp_path / "run") == []
