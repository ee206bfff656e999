"""A lab: real hosts in namespaces of this machine, started, broken and taken down by one object."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from planner.diagnostics import Diagnostic
from planner.errors import LabError
from planner.lab import registry, slurm, teardown
from planner.lab.faults import NODE_FILES, repository_fault, unknown_fault
from planner.lab.layers import flavour_layers, golden_layers
from planner.lab.nodes import DISK, prepare_node, start_network, start_node, start_server, wait_for_ssh
from planner.lab.processes import in_namespaces, init_of
from planner.lab.registry import Entry
from planner.lab.repository import PackageLists, build_repository
from planner.lab.spec import NODES_MAX, NodeSpec
from planner.lab.tools import require_lab, run

_SSH_WAIT_S = 90.0
_THREADS = 4
_FAULTS = "/etc/planner-lab/fault"


class Lab:
    """One lab on this machine; several objects, also in other processes, may speak to the same one."""

    def __init__(self, directory: Path, id: int | None = None) -> None:  # noqa: A002  # the word users type
        """Name a lab, running or to be started.

        Args:
            directory: Where its state lies: nodes, keys, inventory. Made at the start, removed at the end.
            id: Its number on this machine, which gives its bridge and addresses; None: whatever is free, or the one
                that runs in this directory.
        """
        self.directory = directory.absolute()
        self._id = id
        self._entry: Entry | None = None

    @classmethod
    def attach(cls, lab_id: int | None = None) -> Lab:
        """Return a running lab by its id; without one, the only one there is.

        Raises:
            LabError: There is none, or several.
        """
        entry = registry.find(lab_id)
        lab = cls(Path(entry.directory or "/nonexistent"), entry.id)
        lab._entry = entry
        return lab

    @property
    def entry(self) -> Entry:
        """Return the lab's record.

        Raises:
            LabError: It does not run.
        """
        if self._entry is None:
            here = [e for e in registry.entries() if e.directory == str(self.directory) and self._id in (None, e.id)]
            if not here:
                raise LabError(Diagnostic(code="no-lab", subject=str(self.directory), summary="no lab runs there",
                                          hint="planner lab up"))
            self._entry = here[0]
        return self._entry

    # --- up and down

    def up(
        self, specs: Sequence[NodeSpec], packages: PackageLists, *, say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Build what is missing, start all nodes in their first state and wait until their sshd answers.

        Args:
            specs: The nodes; their packages are offered by the repository, too.
            packages: By package manager, (name, version) of the stand-ins that the repository offers.
            say: Called with one line before each longer act.

        Raises:
            LabError: The machine cannot run a lab, a specification is wrong, or a node did not come; what had been
                started is gone again.
        """
        require_lab()
        self._check(specs)
        offered: dict[Literal["apt", "dnf"], set[tuple[str, str]]] = {m: set(pairs) for m, pairs in packages.items()}
        for spec in specs:
            offered.setdefault(spec.manager, set()).update(spec.packages.items())
        say("stand-in packages")
        repository = build_repository(offered)
        for manager in sorted({spec.manager for spec in specs}):
            say(f"root file system, {manager}")
            flavour_layers(manager)
        self._entry = registry.claim(self.directory, self._id)
        try:
            self._start(self._entry, specs, repository, say)
            registry.started(self._entry)
        except BaseException:
            self._take_back()
            raise

    def _check(self, specs: Sequence[NodeSpec]) -> None:
        names = [spec.name for spec in specs]
        bad = ""
        if not specs or len(specs) > NODES_MAX:
            bad = f"{len(specs)} nodes; a lab has 1 to {NODES_MAX}"
        elif len(set(names)) != len(names):
            bad = "two nodes have the same name"
        elif set(str(self.directory)) & set(":,\\ ="):
            bad = f"the directory {self.directory} has a character that mount options cannot hold"
        elif (self.directory / "nodes").exists():
            bad = f"{self.directory} holds another lab, or the rest of one"
        if bad:
            raise LabError(Diagnostic(code="lab-spec", summary=bad, hint="planner lab status"))

    def _start(self, entry: Entry, specs: Sequence[NodeSpec], repository: Path, say: Callable[[str], None]) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        registry.raise_limits(len(specs))
        (self.directory / "repository-faults").touch()
        self._serve(repository)
        run("ssh-keygen", "-qt", "ed25519", "-N", "", "-C", "planner-lab", "-f", self.directory / "id_ed25519")
        start_network(entry)
        start_server(entry, self.directory)
        say("first state of the nodes")
        with ThreadPoolExecutor(2) as pool:
            layers = list(pool.map(lambda s: golden_layers(s, repository, entry.address, entry.marks), specs))
        say(f"{len(specs)} nodes")
        hosts = f"127.0.0.1 localhost\n{entry.address} head repo.planner-lab\n" + "".join(
            f"{entry.node_address(i)} {spec.name}\n" for i, spec in enumerate(specs))
        with ThreadPoolExecutor(_THREADS) as pool:
            known = list(pool.map(lambda i: prepare_node(entry, self.directory, i, specs[i], hosts), range(len(specs))))
        (self.directory / "known_hosts").write_text("".join(known), encoding="ascii")
        self._write_inventory()
        for spec, stack in zip(specs, layers, strict=True):
            start_node(entry, self.directory, spec.name, stack)
        wait_for_ssh({name: self.address(name) for name in self.nodes()}, self.directory, _SSH_WAIT_S)

    def _take_back(self) -> None:
        """Remove what a failed start has left, without hiding why it failed."""
        assert self._entry is not None, "a lab without an id has started nothing"
        with contextlib.suppress(LabError):
            teardown.take_down(self._entry)
        self._entry = None

    def _serve(self, repository: Path) -> None:
        link = self.directory / "repository.new"
        link.unlink(missing_ok=True)
        link.symlink_to(repository)
        link.rename(self.directory / "repository")

    def publish(self, packages: PackageLists) -> None:
        """Replace what the running lab's repositories offer, at once for all nodes.

        Args:
            packages: As for ``up``; nothing that was offered before is kept unless it is named again.
        """
        self._node(next(iter(self.nodes()), ""))
        self._serve(build_repository(packages))

    def down(self) -> None:
        """End the lab; does nothing when it does not run. See ``teardown.take_down``."""
        try:
            entry = self.entry
        except LabError:
            return
        teardown.take_down(entry)
        self._entry = None

    @staticmethod
    def down_all() -> tuple[int, ...]:
        """End every lab on this machine, also those whose starter was killed; returns their ids."""
        found = registry.entries()
        for entry in found:
            teardown.take_down(entry)
        registry.restore_limits()
        return tuple(entry.id for entry in found)

    # --- what is there

    def nodes(self) -> tuple[str, ...]:
        """Return the names of all nodes, sorted."""
        return tuple(sorted(path.parent.name for path in (self.directory / "nodes").glob("*/node.json")))

    def _node(self, name: str) -> Path:
        path = self.directory / "nodes" / name
        if not (path / "node.json").is_file():
            raise LabError(Diagnostic(code="lab-node", subject=f"node {name}", summary="the lab has no such node",
                                      why=(", ".join(self.nodes()),), hint="planner lab status"))
        return path

    def _record(self, name: str) -> dict[str, Any]:
        record: dict[str, Any] = json.loads((self._node(name) / "node.json").read_text(encoding="utf-8"))
        return record

    def address(self, node: str) -> str:
        """Return a node's address."""
        return self.entry.node_address(int(self._record(node)["index"]))

    def machine_id(self, node: str) -> str:
        """Return a node's machine-id; it is set before the first boot."""
        return (self._node(node) / "disk/upper/etc/machine-id").read_text(encoding="ascii").strip()

    def boot_id(self, node: str) -> str:
        """Return the id of the node's present boot, read from outside."""
        return (self._node(node) / "boot_id").read_text(encoding="ascii").strip()

    @property
    def inventory_path(self) -> Path:
        """Return the Ansible inventory: addresses, key, known hosts."""
        return self.directory / "inventory.json"

    def _write_inventory(self) -> None:
        # Whatever the user's own SSH configuration says must not reach lab nodes.
        options = (f"-F /dev/null -o UserKnownHostsFile={self.directory}/known_hosts -o GlobalKnownHostsFile=/dev/null "
                   "-o StrictHostKeyChecking=yes -o IdentitiesOnly=yes")
        hosts = {name: {"ansible_host": self.address(name), **self._record(name)["vars"]} for name in self.nodes()}
        shared = {"ansible_user": "root", "ansible_ssh_private_key_file": str(self.directory / "id_ed25519"),
                  "ansible_ssh_common_args": options, "ansible_python_interpreter": "/usr/bin/python3"}
        document = {"all": {"hosts": hosts, "vars": shared}}
        self.inventory_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def pid(self, node: str) -> int | None:
        """Return the machine's pid of a node's systemd, None when the node is off or between two boots."""
        try:
            return init_of(int((self._node(node) / "supervisor").read_text(encoding="ascii")))
        except FileNotFoundError:
            return None

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what each node is and does now, looked at from outside."""
        found = {}
        for name in self.nodes():
            folder, record, pid = self._node(name), self._record(name), self.pid(name)
            inside = Path(f"/proc/{pid}/root") if pid else Path("/nonexistent")
            found[name] = {
                "address": self.address(name), "manager": record["manager"], "gpus": record["gpus"], "pid": pid,
                "power": _text(folder / "power"), "boots": int(_text(folder / "boots") or 0),
                "boot_id": self.boot_id(name),
                "kernel": _text(inside / "run/planner-lab/kernel-release"),
                "driver": _text(inside / "run/planner-lab/mod/nvidia"),
                "fabric_manager": _text(inside / "run/planner-lab/fabric"),
                "faults": sorted(p.name for p in (folder / "disk/upper" / _FAULTS[1:]).glob("*") if p.is_file()),
                "disk_mib": round(shutil.disk_usage(folder / "disk").used / 2**20, 1),
            }
        return found

    # --- acting on nodes

    def exec(self, node: str, *cmd: str, check: bool = True, stdin: str | None = None,
             timeout_s: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command inside a node, past its network and sshd; returns it with its output.

        Raises:
            LabError: The node is off, or (with ``check``) the command failed.
        """
        return run(*self.exec_command(node), *cmd, check=check, stdin=stdin, timeout_s=timeout_s)

    def exec_command(self, node: str) -> tuple[str, ...]:
        """Return the words that, before a command, run it inside a node.

        Raises:
            LabError: The node is off.
        """
        pid = self.pid(node)
        if pid is None:
            raise LabError(Diagnostic(code="lab-node-off", subject=f"node {node}", summary="the node does not run",
                                      hint=f"planner lab fault {node} power-on"))
        return ("nsenter", "-t", str(pid), "-m", "-u", "-i", "-n", "-p", "-C", "-T", "-r", "-w",
                "setpriv", "--bounding-set=-sys_module,-sys_time,-sys_rawio,-mknod", "env", "-i",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=dumb",
                "LC_ALL=C.UTF-8")

    def power(self, node: str, what: str) -> None:
        """Do what a board controller does: ``off`` and ``cycle`` cut the power at once, ``on`` gives it back."""
        if what not in ("on", "off", "cycle"):
            raise unknown_fault(node, f"power-{what}")
        (self._node(node) / "power").write_text(what + "\n", encoding="ascii")
        pid = self.pid(node) if what != "on" else None
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def link(self, node: str, what: str) -> None:
        """Pull a node's network cable (``down``) or put it back (``up``)."""
        if what not in ("up", "down"):
            raise unknown_fault(node, f"link-{what}")
        run("ip", "link", "set", self._cable(node), what)

    def _cable(self, node: str) -> str:
        return self.entry.interface(int(self._record(node)["index"]))

    def fault(self, node: str, what: str, arg: str | None = None) -> None:
        """Put a fault in place, or end one; the tables are in ``planner.lab.faults``.

        Args:
            node: A node, or ``repo`` for the package server.
            what: Name of the fault; ``clear`` ends one, or all that are kept.
            arg: Its argument.

        Raises:
            LabError: No such node or fault.
        """
        if node == "repo":
            self._fault_repository(what, arg or "")
        elif what in NODE_FILES:
            self._write(node, f"{_FAULTS}/{what}", f"{arg or ''}\n")
        elif what == "clear":
            if arg and arg not in NODE_FILES:
                raise unknown_fault(node, arg)
            self._remove(node, tuple(f"{_FAULTS}/{name}" for name in ([arg] if arg else NODE_FILES)))
            if not arg:
                (self._node(node) / "noboot").unlink(missing_ok=True)
                self._remove(node, ("/etc/planner-lab/clock-offset",))
        else:
            self._fault_outside(node, what, arg)

    def _fault_outside(self, node: str, what: str, arg: str | None) -> None:
        folder = self._node(node)
        word, _, rest = what.partition("-")
        if word == "power":
            self.power(node, rest)
        elif what in ("link-up", "link-down"):
            self.link(node, rest)
        elif what == "slow-link":
            run("tc", "qdisc", "replace", "dev", self._cable(node), "root", "tbf", "rate", f"{int(arg or 256)}kbit",
                "burst", "8kb", "latency", "400ms")
        elif what == "fast-link":
            run("tc", "qdisc", "del", "dev", self._cable(node), "root", check=False)
        elif what == "no-boot":
            (folder / "noboot").touch()
        elif what == "boot-delay":
            (folder / "boot-delay").write_text(f"{float(arg or 1):g}\n", encoding="ascii")
        elif what == "clock":
            self._write(node, "/etc/planner-lab/clock-offset", f"{int(arg or 0)}\n")
        elif what == "disk-full":
            used = shutil.disk_usage(folder / "disk").used // 1024
            run("mount", "-o", f"remount,size={used + int(arg or 0) * 1024 + 64}k", folder / "disk")
        elif what == "disk-free":
            run("mount", "-o", f"remount,size={DISK}", folder / "disk")
        elif what == "sshd-kill":
            self._kill_sshd(node)
        else:
            raise unknown_fault(node, what)

    def _fault_repository(self, what: str, argument: str) -> None:
        file = self.directory / "repository-faults"
        if what == "clear":
            file.write_text("", encoding="utf-8")
            return
        line = repository_fault(what, argument)
        with file.open("a", encoding="utf-8") as handle:
            handle.write(line)

    def _kill_sshd(self, node: str) -> None:
        pid = self.pid(node)
        for other in in_namespaces("pid", {str(Path(f"/proc/{pid}/ns/pid").readlink())}) if pid else ():
            if _text(Path(f"/proc/{other}/comm")) == "sshd":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(other, signal.SIGKILL)

    def _write(self, node: str, path: str, text: str) -> None:
        """Write a file of a node, also of one that is off: its disk is there."""
        if self.pid(node) is not None:
            self.exec(node, "sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1"', "sh", path, stdin=text)
            return
        file = self._node(node) / "disk" / "upper" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def _remove(self, node: str, paths: Sequence[str]) -> None:
        if self.pid(node) is not None:
            self.exec(node, "rm", "-f", *paths)
            return
        for path in paths:      # every fault was written in this lab, so no lower layer holds it
            (self._node(node) / "disk" / "upper" / path.lstrip("/")).unlink(missing_ok=True)

    def slurm(self, controller: str, workers: Sequence[str]) -> None:
        """Start a real Slurm: its controller on one node, slurmd with one GRES a GPU on the others; wait until idle.

        Raises:
            LabError: A node is missing, or Slurm does not come up.
        """
        gpus = {name: int(self._record(name)["gpus"]) for name in workers}
        slurm.start(self.exec, controller, gpus)


def _text(path: Path) -> str:
    """Return a small file's text without its newline, "" when it is not there."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
