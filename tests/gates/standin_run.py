"""The probe's one file as a real process on a stand-in node, in namespaces of its own.

The node's modules, PCI bus, device files, kernel log and loader cache are put over this machine's, and no other gate
of this machine is in its way. Nothing here needs root where users may make namespaces.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from planner.data import probe_zip
from tests.gates.standin_libraries import DRIVER, StandInNode

NONCE, HOST = "00c0ffee", "n1"
# Each place of this machine that the node's own file or directory is put over; toolkits of this machine are hidden.
COVERED = ("/sys/module", "/sys/bus/pci/devices", "/etc/ld.so.cache", "/run")
# Where the node's software lies: the same path on every node, as the comparison with the time before needs it.
SITE = "run/stand-in"
NODES = ("null", "zero", "full", "random", "urandom")
ENTER = f"""set -e
for node in {' '.join(NODES)}; do mount --bind "/dev/$node" "$PLANNER_STANDIN_DIR/dev/$node"; done
mount --rbind "$PLANNER_STANDIN_DIR/dev" /dev
for place in {' '.join(COVERED)}; do mount --bind "$PLANNER_STANDIN_DIR$place" "$place"; done
for place in /usr/local/cuda* /etc/cdi; do
  [ ! -d "$place" ] || mount --bind "$PLANNER_STANDIN_DIR/empty" "$place"
done
first="$PLANNER_STANDIN_DIR/bin/first"
if [ -x "$first" ]; then        # no child of the probe, but a stranger
  ("$first" "$PLANNER_STANDIN_DIR/ready" $$ >"$PLANNER_STANDIN_DIR/said" 2>&1 &)
  until [ -e "$PLANNER_STANDIN_DIR/ready" ]; do sleep 0.02; done
fi
exec "$@"
"""


@cache
def namespaces() -> tuple[str, ...]:
    """Return the command that enters namespaces, empty where this machine lets nobody do so."""
    for words in (("unshare", "-rmn", "--propagation", "private"), ("unshare", "-mn", "--propagation", "private")):
        if shutil.which("unshare") is None:
            break
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return words
    return ()


def furnish(node: StandInNode, gpus: int = 2, loaded: str | None = DRIVER, log: str = "") -> None:
    """Give the node what its files say: modules, GPUs on the bus, and one line in the kernel's log.

    Args:
        node: The node.
        gpus: GPUs on the PCI bus.
        loaded: Version of the module that runs; None is none.
        log: A line of the kernel's log.
    """
    node.write("sys/module/loop/.keep", "")
    node.write("sys/bus/pci/devices/.keep", "")
    for number in range(gpus):
        folder = f"sys/bus/pci/devices/0000:{16 + number:02x}:00.0"
        node.write(f"{folder}/vendor", "0x10de")
        node.write(f"{folder}/class", "0x030200")
    if loaded:
        node.write("sys/module/nvidia/version", loaded)
        node.write("sys/module/nvidia_uvm/.keep", "")
    devices = node.root / "dev"
    (devices / "shm").mkdir(parents=True)
    (node.root / "empty").mkdir()
    (devices / "fd").symlink_to("/proc/self/fd")
    drivers = ["nvidiactl", "nvidia-uvm", *(f"nvidia{number}" for number in range(gpus))] if loaded else []
    for name in (*NODES, *drivers):
        (devices / name).touch()
    (devices / "kmsg").write_text(f"4,0,0,-;stand-in\n{f'4,1,1000000,-;{log}' if log else ''}\n", encoding="utf-8")
    node.write("loader.conf", f"{node.lib}\ninclude /etc/ld.so.conf")
    (node.root / "etc").mkdir(exist_ok=True)
    subprocess.run([shutil.which("ldconfig") or "/sbin/ldconfig", "-X", "-f", node.root / "loader.conf", "-C",
                    node.root / "etc" / "ld.so.cache"], check=True, capture_output=True)


def command(node: StandInNode, probe: Path, request: Mapping[str, Any]) -> list[str]:
    """Return the command that runs the gate on the node."""
    run = [sys.executable, "-I", str(probe), "gate", "--request", json.dumps(request)]
    return [*namespaces(), "sh", "-c", ENTER, "sh", *run]


def environment(node: StandInNode, home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the probe's environment: what it may leave behind would lie below ``home``; the node's programs first."""
    for name in ("home", "tmp"):
        (home / name).mkdir(parents=True, exist_ok=True)
    found = {**node.environment(), "HOME": str(home / "home"), "TMPDIR": str(home / "tmp"),
             "PATH": f"{node.root}/bin:{os.environ['PATH']}", **(extra or {})}
    del found["LD_LIBRARY_PATH"]        # the loader's cache names the libraries, as on a node
    return found


def run_gate(node: StandInNode, probe: Path, request: Mapping[str, Any], home: Path,
             extra: Mapping[str, str] | None = None) -> str:
    """Run the gate on the node and return what it printed."""
    done = subprocess.run(command(node, probe, request), env=environment(node, home, extra), capture_output=True,
                          text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_probe(path: Path) -> Path:
    """Write the probe's one file."""
    path.write_bytes(probe_zip())
    return path
