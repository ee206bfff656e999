"""``planner lab``: real hosts in namespaces of this machine, with stand-in GPUs and packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from planner.cli.inputs import FORMATS
from planner.diagnostics import Diagnostic
from planner.errors import LabError
from planner.lab import registry
from planner.lab.faults import fault_table
from planner.lab.lab import Lab
from planner.lab.spec import NODES_MAX, Manager
from planner.lab.stacks import example_packages, example_specs
from planner.report.console import format_table, print_json

_id_option = click.option("--id", "lab_id", type=int, help="Number of the lab; needed when several run.")


@click.group(epilog="""\b
Examples:
  planner lab up 4                       four nodes with driver, toolkit and libraries
  planner lab up --apt 4 --dnf 2 --gpu h100 --gpu a100
  planner lab exec n01 -- nvidia-smi
  planner lab fault n02 gpu-lost 3       then: planner lab fault n02 clear
  planner discover -i .lab/inventory.json --out facts.json
  planner lab down
""")
def lab() -> None:
    """Real hosts in namespaces of this machine (Linux, root), with stand-in GPUs and packages."""


@lab.command(epilog="""\b
Examples:
  planner lab up 8
  planner lab up --apt 4 --dnf 2 --gpu a100 --head
  planner lab up 2 --bare --id 7 --dir /tmp/lab7
""")
@click.argument("number", type=click.IntRange(1, NODES_MAX), required=False)
@click.option("--apt", "apt_nodes", type=click.IntRange(0, NODES_MAX), default=0, help="Nodes with apt, beside NUMBER.")
@click.option("--dnf", "dnf_nodes", type=click.IntRange(0, NODES_MAX), default=0, help="Nodes with dnf.")
@click.option("--gpu", "kinds", multiple=True, metavar="KIND",
              help="h100, a100 or v100; repeat it to give them out in turn. Default: h100.")
@click.option("--head", is_flag=True, help="Add a node without GPUs, for a scheduler.")
@click.option("--bare", is_flag=True, help="Install no packages at the start.")
@click.option("--id", "lab_id", type=int, help="Number of the lab. Default: the first that is free.")
@click.option("--dir", "directory", type=click.Path(path_type=Path, file_okay=False), default=Path(".lab"),
              show_default=True, help="Where its keys and inventory lie until it is taken down.")
def up(
    number: int | None, apt_nodes: int, dnf_nodes: int, kinds: tuple[str, ...], head: bool, bare: bool,
    lab_id: int | None, directory: Path,
) -> int:
    """Start NUMBER nodes (n01 …) and wait until they answer. Prints the path of their Ansible inventory.

    What is missing is built first: a root file system, once, and stand-in packages.
    """
    apt_total = apt_nodes + (number or 0) or (0 if dnf_nodes else 2)
    flavours: tuple[tuple[Manager, int], ...] = (("apt", apt_total), ("dnf", dnf_nodes))
    managers = [manager for manager, count in flavours for _ in range(count)]
    if len(managers) + head > NODES_MAX:
        raise click.UsageError(f"at most {NODES_MAX} nodes")
    started = Lab(directory, lab_id)
    specs = example_specs(managers, kinds, bare=bare, head=head)
    started.up(specs, example_packages(managers), say=lambda line: click.echo(f"lab: {line}", err=True))
    click.echo(f"lab: {started.entry.id} is up; end it with: planner lab down --id {started.entry.id}", err=True)
    click.echo(str(started.inventory_path))
    return 0


@lab.command()
@_id_option
@click.option("-o", "--output", type=FORMATS, default="table", help="Format of what is printed.")
def status(lab_id: int | None, output: str) -> int:
    """Show the labs on this machine and their nodes, looked at from outside."""
    entries = [entry for entry in registry.entries() if lab_id in (None, entry.id)]
    found = {str(entry.id): Lab.attach(entry.id).status() for entry in entries}
    if output == "json":
        labs = {str(entry.id): {"directory": entry.directory, "nodes": found[str(entry.id)]} for entry in entries}
        print_json({"schema": "planner.lab-status/1", "labs": labs})
    elif not found:
        click.echo("no lab runs on this machine", err=True)
    else:
        rows = [[key, name, node["address"], node["manager"], "on" if node["pid"] else "off", str(node["boots"]),
                 node["kernel"] or "-", node["driver"] or "-", " ".join(node["faults"]) or "-"]
                for key, nodes in found.items() for name, node in nodes.items()]
        header = ["LAB", "NODE", "ADDRESS", "PACKAGES", "POWER", "BOOTS", "KERNEL", "LOADED DRIVER", "FAULTS"]
        click.echo(format_table(header, rows))
    return 0


@lab.command()
@_id_option
@click.option("--all", "everything", is_flag=True, help="Every lab on this machine.")
def down(lab_id: int | None, everything: bool) -> int:
    """End a lab, also one whose starter was killed; nothing of it stays but the cache."""
    if everything:
        ended = Lab.down_all()
    elif lab_id is None and not registry.entries():
        ended = ()
    else:
        entry = registry.find(lab_id)
        Lab.attach(entry.id).down()
        ended = (entry.id,)
    click.echo("lab: ended " + ", ".join(map(str, ended)) if ended else "lab: none runs", err=True)
    return 0


@lab.command(epilog="\b\nFaults:\n" + fault_table())
@click.argument("node")
@click.argument("what")
@click.argument("argument", required=False)
@_id_option
def fault(node: str, what: str, argument: str | None, lab_id: int | None) -> int:
    """Let something go wrong on NODE, or end it with `clear`. NODE repo is the package server."""
    Lab.attach(lab_id).fault(node, what, argument)
    return 0


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("node")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@_id_option
def exec_command(node: str, command: tuple[str, ...], lab_id: int | None) -> int:
    """Run a command inside NODE, past its network. Exits with the command's own status."""
    words = [*Lab.attach(lab_id).exec_command(node), *command]
    sys.stdout.flush()
    return subprocess.run(words, check=False).returncode


@lab.group()
def slurm() -> None:
    """A real Slurm on the nodes of a lab."""


@slurm.command("up")
@click.option("--controller", help="Node for slurmctld. Default: the first one without GPUs.")
@_id_option
def slurm_up(controller: str | None, lab_id: int | None) -> int:
    """Start slurmctld on a node without GPUs and slurmd on all that have some; wait until they are idle."""
    running = Lab.attach(lab_id)
    nodes = running.status()
    heads = [name for name, node in nodes.items() if not node["gpus"]]
    chosen = controller or next(iter(heads), None)
    if chosen is None:
        raise LabError(Diagnostic(code="lab-slurm", hint="planner lab up --head",
                                  summary="every node of the lab has GPUs, and the controller needs one without"))
    running.slurm(chosen, [name for name, node in nodes.items() if node["gpus"] and name != chosen])
    click.echo(f"lab: Slurm is up, its controller is {chosen}", err=True)
    return 0


