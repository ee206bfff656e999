"""Starts nodes: cable, disk, identity, supervisor; and waits until they answer."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from planner.diagnostics import Diagnostic
from planner.errors import LabError
from planner.lab.registry import Entry
from planner.lab.spec import NodeSpec
from planner.lab.tools import HERE, run

DISK = "512m"               # limit of a node's own disk, a tmpfs
SERVER_PORT = 8080
_LOG_LINES = 15
_SERVER_WAIT_S = 20


def _detach(entry: Entry, log: Path, *argv: object) -> None:
    """Start a process that is nobody's child and stays when this one ends.

    Of the caller's environment it gets only where programs are, and the lab's mark.
    """
    environment = {"PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin", **entry.marks}
    with log.open("ab") as output:
        subprocess.run(["setsid", "--fork", *map(str, argv)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                       env=environment, check=True)


def start_network(entry: Entry) -> None:
    """Make the lab's bridge; only addresses of its own net are used."""
    run("ip", "-batch", "-", stdin=f"link add {entry.bridge} type bridge\nlink set {entry.bridge} up\n"
        f"addr add {entry.address}/24 dev {entry.bridge}\n")


def start_server(entry: Entry, directory: Path) -> None:
    """Serve ``directory/repository`` on the bridge and wait until the server answers."""
    _detach(entry, directory / "server.log", sys.executable, "-I", HERE / "server.py", directory / "repository",
            entry.address, SERVER_PORT, directory / "repository-faults")
    deadline = time.monotonic() + _SERVER_WAIT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((entry.address, SERVER_PORT), 0.5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise LabError(Diagnostic(code="lab-server", summary="the package server did not start", hint="planner lab down",
                              why=tuple((directory / "server.log").read_text(errors="replace").splitlines()[-5:])))


def prepare_node(entry: Entry, directory: Path, index: int, spec: NodeSpec, hosts: str) -> str:
    """Make a node's disk, identity and cable; returns its line for known_hosts. Nothing runs yet."""
    node = directory / "nodes" / spec.name
    (node / "disk").mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755,nodev", entry.namespace(spec.name), node / "disk")
    upper = node / "disk" / "upper"
    config = upper / "etc" / "planner-lab"
    for folder in (config / "fault", upper / "etc" / "ssh", upper / "root" / ".ssh"):
        folder.mkdir(parents=True)
    upper.chmod(0o755)
    (upper / "root").chmod(0o700)
    (upper / "root" / ".ssh").chmod(0o700)
    key = upper / "etc" / "ssh" / "ssh_host_ed25519_key"
    run("ssh-keygen", "-qt", "ed25519", "-N", "", "-C", spec.name, "-f", key)
    shutil.copy(directory / "id_ed25519.pub", upper / "root" / ".ssh" / "authorized_keys")
    (upper / "etc" / "hostname").write_text(spec.name + "\n", encoding="ascii")
    (upper / "etc" / "hosts").write_text(hosts, encoding="ascii")
    (upper / "etc" / "machine-id").write_text(uuid.uuid4().hex + "\n", encoding="ascii")
    (config / "gpus").write_text(f"{spec.gpus}\n", encoding="ascii")
    (config / "gpu-name").write_text(spec.gpu_name + "\n", encoding="utf-8")
    (config / "compute-capability").write_text(spec.compute_capability + "\n", encoding="ascii")
    (config / "memory-mib").write_text(f"{spec.memory_mib}\n", encoding="ascii")
    if spec.nvswitch:
        (config / "nvswitch").touch()
    for name, text in (("power", "on\n"), ("boot-delay", "1\n"), ("boot_id", ""), ("boots", "0\n")):
        (node / name).write_text(text, encoding="ascii")
    (node / "node.json").write_text(json.dumps({"index": index, "manager": spec.manager, "gpus": spec.gpus,
                                                "vars": dict(spec.machine_vars)}), encoding="utf-8")
    namespace, cable = entry.namespace(spec.name), entry.interface(index)
    run("ip", "-batch", "-", stdin=f"netns add {namespace}\n"
        f"link add {cable} type veth peer name eth0 netns {namespace}\nlink set {cable} master {entry.bridge} up\n")
    run("ip", "-n", namespace, "-batch", "-", stdin="link set lo up\n"
        f"addr add {entry.node_address(index)}/24 dev eth0\nlink set eth0 up\n")
    public = key.with_suffix(".pub").read_text(encoding="ascii").split()[:2]
    return f"{entry.node_address(index)},{spec.name} {' '.join(public)}\n"


def start_node(entry: Entry, directory: Path, name: str, layers: Sequence[Path]) -> None:
    """Start a node's supervisor, detached from this process: it outlives it until the lab is taken down."""
    node = directory / "nodes" / name
    _detach(entry, node / "log", "bash", HERE / "node" / "supervisor.sh", node, ":".join(map(str, layers)),
            entry.namespace(name))


def wait_for_ssh(addresses: Mapping[str, str], directory: Path, timeout_s: float) -> None:
    """Wait until every node's sshd says its first word.

    Args:
        addresses: Node -> address.
        directory: The lab's directory, for the logs of nodes that do not come.
        timeout_s: Longest wait.

    Raises:
        LabError: Some did not answer in time; carries the end of the first one's log.
    """
    deadline = time.monotonic() + timeout_s
    todo = dict(addresses)
    while todo:
        todo = {name: address for name, address in todo.items() if not answers_ssh(address)}
        if todo and time.monotonic() > deadline:
            log = directory / "nodes" / min(todo) / "log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
            raise LabError(Diagnostic(
                code="lab-node-silent", subject=f"node {min(todo)}", why=tuple(lines[-_LOG_LINES:]),
                summary=f"no SSH after {timeout_s:.0f} s: {', '.join(sorted(todo))}", hint="planner lab down"))
        if todo:
            time.sleep(0.05)


def answers_ssh(address: str, timeout_s: float = 0.5) -> bool:
    """Tell whether an SSH server answers there now."""
    try:
        with socket.create_connection((address, 22), timeout_s) as connection:
            connection.settimeout(1)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
