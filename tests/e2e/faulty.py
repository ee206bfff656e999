"""Rollouts that meet trouble: small labs with a driver to change, and what nodes tell when looked at from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.lab.spec import NodeSpec
from planner.lab.stacks import example_packages, example_specs
from tests.e2e.conftest import COMMAND_S, Site, StartSite, wait

START, MIDDLE, END = "570.195.03", "580.95.05", "580.105.08"     # drivers of the example stacks, oldest first
UNITS = "systemctl list-units --no-legend --plain 'planner-step-*'"
BUILD_S = 10                                                    # how long a slow build of the module takes
MODULE = "nvidia-dkms-580-server"                                # the package that both newer drivers change


def small_site(start_site: StartSite, nodes: int) -> Site:
    """Start apt nodes with one GPU each and the oldest driver."""
    specs: list[NodeSpec] = [replace(spec, gpus=1) for spec in example_specs(["apt"] * nodes, ["v100"])]
    return start_site(specs, example_packages(["apt"]))


@contextmanager
def running(site: Site, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start ``planner WORDS…``; it does not outlive the block, whatever happens in it."""
    process = site.start(*words)
    try:
        yield process
    finally:
        if process.poll() is None:
            kill(process)


def from_another_machine(site: Site, *words: str | Path, code: int) -> subprocess.CompletedProcess[str]:
    """Run ``planner WORDS…`` as somebody who sits at another machine: its name and its processes are its own."""
    argv = ["unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
            'hostname elsewhere && exec "$@"', "sh", sys.executable, "-m", "planner", *map(str, words)]
    done = subprocess.run(argv, cwd=site.directory, env=site.environment(), stdin=subprocess.DEVNULL, check=False,
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == code, f"{words} ended with {done.returncode}, not {code}:\n{done.stdout}\n{done.stderr}"
    return done


BUILD = ("-f", "-x", f"sleep {BUILD_S}")      # the whole command line: Ansible runs a "sleep 0" of its own


def hold_builds(site: Site, process: subprocess.Popen[str], *nodes: str) -> None:
    """Wait until each node builds the driver's module in the middle of the package manager's work; stop it there."""
    held: set[str] = set()

    def all_held() -> bool:
        assert process.poll() is None, f"ended with {process.poll()}: {site.printed(process)}"
        held.update(node for node in set(nodes) - held
                    if site.lab.exec(node, "pkill", "-STOP", *BUILD, check=False).returncode == 0)
        return held == set(nodes)

    wait(all_held, f"the module is built on {', '.join(nodes)}", 240)


def slow_builds(site: Site, *nodes: str) -> None:
    """Make the builds of the driver's module long enough to be met."""
    for node in nodes:
        site.lab.fault(node, "dkms-seconds", str(BUILD_S))


def end_build(site: Site, node: str) -> None:
    """Let a held build end."""
    site.lab.exec(node, "pkill", "-CONT", *BUILD)


def driver_target(driver: str = END, **rollout: Any) -> dict[str, Any]:
    """Return a target that wants one driver; every batch is one node unless told otherwise, and nobody approves."""
    policy = {"max_unavailable": 1, "canary": 0, "soak_minutes": 0, "reboot_timeout_minutes": 1, **rollout}
    return {"name": f"lab-{driver}", "want": {"driver": driver}, "rollout": policy}


@dataclass(frozen=True)
class Seen:
    """What a node tells of itself, past planner and its network."""

    boot_id: str
    boots: int
    dpkg_log: str
    planner_files: str        # names and texts of lease and marks

    def acts(self, verb: str, package: str = MODULE) -> int:
        """Return how often dpkg did something with a package: install, upgrade, remove."""
        return sum(f" {verb} {package}:" in line for line in self.dpkg_log.splitlines())


def look(site: Site, node: str) -> Seen:
    """Look at a node."""
    status = site.lab.status()[node]
    files = site.say(node, "cat /var/lib/planner/lease.json /var/lib/planner/marks.json 2>/dev/null")
    return Seen(boot_id=status["boot_id"], boots=status["boots"], dpkg_log=site.say(node, "cat /var/log/dpkg.log"),
                planner_files=files)


def look_at_all(site: Site) -> dict[str, Seen]:
    """Look at every node."""
    return {name: look(site, name) for name in site.lab.nodes()}


def changed_once(before: Seen, after: Seen, verb: str = "install") -> None:
    """Assert that one rollout has changed a node exactly once: one package act, one reboot."""
    assert after.acts(verb) - before.acts(verb) == 1, after.dpkg_log
    others = {v: after.acts(v) - before.acts(v) for v in ("install", "upgrade", "remove") if v != verb}
    assert not any(others.values()), others
    assert after.boots - before.boots == 1, f"{after.boots - before.boots} boots"
    assert after.boot_id != before.boot_id


def given_back(site: Site, node: str) -> None:
    """Assert that nothing of a rollout is left on a node: no lease, hold, drain, stopped timer."""
    assert site.lease(node) == {}
    assert site.say(node, "apt-mark showhold") == ""
    left = {key for marks in site.marks(node).values() for key in marks} & {"held", "timers", "drained"}
    assert not left, left


def runs(site: Site, node: str, driver: str) -> None:
    """Assert that a driver is loaded and installed on a node, as the node itself says."""
    assert site.lab.status()[node]["driver"] == driver
    assert driver in site.say(node, f"dpkg-query -W -f '${{Version}} ${{db:Status-Status}}' {MODULE}")


def at_the_end(site: Site, before: Mapping[str, Seen], driver: str = END, verb: str = "install") -> None:
    """Assert that a rollout has brought every node to a driver, each exactly once, and has left nothing else."""
    for node, seen in look_at_all(site).items():
        changed_once(before[node], seen, verb)
        runs(site, node, driver)
        given_back(site, node)


def events(site: Site, process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Return what a running command has told so far; a line that is not whole yet is left out."""
    text, _ = site.printed(process)
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n") and line[0] == "{"]


def wait_for(site: Site, process: subprocess.Popen[str], seconds: float = 90.0, **fields: str) -> None:
    """Wait until a running command tells an event with these fields."""
    def told() -> bool:
        assert process.poll() is None, f"ended with {process.poll()} before {fields}: {site.printed(process)}"
        return any(fields.items() <= event.items() for event in events(site, process))
    wait(told, f"event {fields}", seconds)


def ended(process: subprocess.CompletedProcess[str]) -> Mapping[str, Any]:
    """Return the last event of a command that has ended: why the rollout stopped."""
    last: dict[str, Any] = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")][-1]
    return last


def kill(process: subprocess.Popen[str]) -> None:
    """End a process as the kernel does when memory runs out: no last word, its children are left alone."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def plan_digest(bundle: Path) -> str:
    """Return the digest of a bundle's plan, without the name of the hash."""
    digest: str = json.loads((bundle / "plan.json").read_text(encoding="utf-8"))["digest"]
    return digest.removeprefix("sha256:")


def has_journal(bundle: Path) -> bool:
    """Tell whether a rollout of this bundle has ever got as far as its journal."""
    return (bundle.parent / ".planner" / plan_digest(bundle)[:16] / "state.db").is_file()


@dataclass(frozen=True)
class Blow:
    """When a controller is killed: so many of its events after its start, and so many seconds after that."""

    events: int
    seconds: float


def end_to_end(site: Site, bundle: Path, blows: list[Blow]) -> list[str]:
    """Drive a rollout to its end; kill the controller at the moments of ``blows``, one a run.

    Returns:
        What was happening when each blow fell; those that were not needed stay in ``blows``.
    """
    told = []
    for _ in range(60):
        with running(site, "resume" if has_journal(bundle) else "apply", bundle) as process:
            if blows and _strike(site, process, blows[0]):
                last = [" ".join(e[k] for k in ("event", "call", "node", "phase", "state") if k in e)
                        for e in events(site, process)]
                told.append(f"{blows.pop(0)}: {last[-1] if last else 'not begun'}")
                continue
            done = site.finish(process, code=None)
        if done.returncode == 0:
            return told
        # A person approves; and a node that was in its reboot when the next run came needs one run more.
        why = ended(done)["why"]
        assert (done.returncode, why) in {(8, "approval"), (8, "unreachable")}, f"{done.stdout}\n{done.stderr}"
        if why == "approval":
            site.planner("approve", bundle)
    raise AssertionError(f"no end in sight: {told}")


def _strike(site: Site, process: subprocess.Popen[str], blow: Blow) -> bool:
    """Kill a controller at a moment; False when it ended before."""
    wait(lambda: process.poll() is not None or len(events(site, process)) >= blow.events, f"{blow}", COMMAND_S)
    try:
        process.wait(blow.seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        return True
    return False
