"""Reads an Ansible inventory through Ansible's own command; keeps names, groups and ``planner_*`` variables only.

Everything else that a host variable may hold (it may be a decrypted secret) is dropped as soon as it is read.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.diagnostics import Diagnostic
from planner.documents import digest, parse_yaml
from planner.errors import InputError

Declared = Mapping[str, str | tuple[str, ...] | bool]

PREFIX = "planner_"
# What people may declare about a node, prefix removed. Another key is an error: a misspelt one would change a plan.
KNOWN_KEYS = (
    "pool", "environment", "failure_domain", "nvlink_domain", "comm_domain", "scheduler", "workloads",
    "workload_runtimes", "role", "node_image", "toolkit_module", "gpu_operator", "gpu_operator_driver", "vgpu_host",
    "vgpu_guest",
)
# Settings of the roles: Ansible reads them when a play runs. Accepted here by name, their values are not looked at.
ROLE_KEYS = (
    "slurm_node", "slurm_host", "kubernetes_node", "kubectl_host", "drain_hook", "undrain_hook", "drain_poll_s",
    "drain_timeout_s", "change_timeout_s", "reboot_timeout_s", "gate_timeout_s", "reboot_units", "reboot_modules",
    "python", "allow_local",
)
# planner_handover_MOVE: the user's own tasks for a step that no package manager makes; for the roles, too.
HANDOVER_KEY = re.compile(r"handover_[a-z0-9_]+\Z")
ENVIRONMENTS = ("staging", "production", "development")
CONNECTION_KEYS = ("ansible_connection", "ansible_host", "ansible_port")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
# As people may write it in a file: a name, with Ansible's ranges, and a port.
_WRITTEN_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]|\[[A-Za-z0-9]+:[A-Za-z0-9]+(?::\d+)?\])*(?::\d+)?\Z")
_ALSO_WRITTEN = re.compile(r"\[[A-Za-z0-9]+:[A-Za-z0-9]+(?::\d+)?\](?:[A-Za-z0-9._-])*(?::\d+)?\Z")
_TAGS = re.compile(r"!(vault-encrypted|vault|unsafe)\b")
_YAML = {".yml", ".yaml"}
_TEMPLATE = re.compile(r"\{\{|\{%|\{#")
TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Host:
    """One inventory name: what people declared about it, its groups, how it is reached."""

    name: str
    declared: Declared = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    connection: Mapping[str, str] = field(default_factory=dict)
    settings: tuple[str, ...] = ()     # names of the role settings it has, without their values

    @property
    def local(self) -> bool:
        """Whether Ansible acts on this host without SSH."""
        return self.connection.get("ansible_connection") == "local" or (
            self.name == "localhost" and "ansible_connection" not in self.connection)


@dataclass(frozen=True, slots=True)
class Inventory:
    """A read inventory; hosts sorted by name. ``digest`` covers names, groups and ``planner_*`` variables."""

    path: str
    hosts: tuple[Host, ...]
    digest: str


def load_inventory(path: str, *, limit: str = "") -> Inventory:
    """Read an inventory.

    Args:
        path: What Ansible takes with ``-i``: a file, a directory, a script or plugin file, or ``host,``.
        limit: Ansible's ``--limit`` pattern; empty means every host.

    Raises:
        InputError: It does not exist, cannot be parsed, has no hosts, has a name that is not plain, or a
            ``planner_*`` variable that planner does not know; names file and, where known, line.
    """
    files = _files(path)
    for file in files:
        _check_file(file)
    listing = _ask_ansible(path, limit)
    hosts = _hosts(listing, path, files)
    if not hosts:
        more = f" and the limit {limit!r}" if limit else ""
        raise _problem("empty-inventory", path, f"no host matches this inventory{more}",
                       f"add hosts to {path}" if not limit else f"see: ansible-inventory -i {path} --graph")
    content = [{"name": h.name, "groups": list(h.groups), "declared": _plain(h.declared)} for h in hosts]
    return Inventory(path, hosts, digest(content))


def _plain(declared: Declared) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in sorted(declared.items())}


def _problem(code: str, subject: str, summary: str, hint: str) -> InputError:
    return InputError(Diagnostic(code=code, subject=subject, summary=summary, hint=hint))


def _files(path: str) -> list[Path]:
    """Return the files of an inventory that people write: itself, or what lies in its directory."""
    place = Path(path)
    if "," in path and not place.exists():
        for name in filter(None, path.split(",")):
            _check_written(name.strip(), path)
        return []
    if not place.exists():
        raise _problem("inventory-missing", path, "no such inventory", "give an existing file or directory after -i")
    if place.is_dir():
        return sorted(p for p in place.rglob("*") if p.is_file() and not p.name.startswith("."))
    beside = [d for name in ("group_vars", "host_vars") if (d := place.parent / name).is_dir()]
    return [place, *sorted(p for d in beside for p in d.rglob("*") if p.is_file() and p.suffix in _YAML)]


def _check_file(file: Path) -> None:
    """Check a file before Ansible sees it, which would go on with what it understood."""
    if os.access(file, os.X_OK) and file.suffix not in _YAML | {".ini", ".json", ""}:
        return
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise _problem("inventory-unreadable", str(file), "is not text in UTF-8", f"convert or remove {file}") from None
    except OSError as exc:
        raise _problem("inventory-unreadable", str(file), exc.strerror or str(exc), f"make {file} readable") from exc
    if text.startswith(("$ANSIBLE_VAULT", "#!")):
        return
    if file.suffix in _YAML | {".json"}:
        value = parse_yaml(_TAGS.sub("", text), name=str(file))
        if value is None and not ({"group_vars", "host_vars"} & set(file.parts)):
            raise _problem("empty-inventory", str(file), "the file is empty", f"add hosts to {file}")
        for name in _names_in(value):
            _check_written(name, _where(file, text, name))
    elif file.suffix in {"", ".ini"} and not ({"group_vars", "host_vars"} & set(file.parts)):
        _check_ini(file, text)


def _names_in(value: Any) -> Iterator[str]:
    """Yield host names written in a YAML inventory, at any depth."""
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        if key == "hosts" and isinstance(inner, dict):
            yield from (str(name) for name in inner)
        elif key == "vars":
            continue
        elif isinstance(inner, dict):
            yield from _names_in(inner)


def _check_ini(file: Path, text: str) -> None:
    """Check names in an INI inventory: the first word of each line outside ``:vars`` and ``:children`` sections."""
    hosts = True
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        section = re.match(r"\[([^\]]+)\]\s*(?:[#;].*)?$", line)
        if section:
            hosts = not section.group(1).endswith((":vars", ":children"))
        elif hosts:
            name = re.split(r"\s+(?=[A-Za-z_]\w*=)|\s+[#;]", line, maxsplit=1)[0]
            _check_written(name, f"{file}:{number}")


def _check_written(name: str, where: str) -> None:
    if not _WRITTEN_NAME.match(name) and not _ALSO_WRITTEN.match(name):
        raise _bad_name(name, where)


def _bad_name(name: str, where: str) -> InputError:
    return _problem("bad-host-name", where, f"{name!r} is not a plain host name",
                    "use only letters, digits, '.', '_' and '-' in host names; put addresses into ansible_host")


def _where(file: Path, text: str, word: str) -> str:
    number = next((n for n, line in enumerate(text.splitlines(), 1) if word in line), None)
    return f"{file}:{number}" if number else str(file)


def ansible_command(name: str) -> str:
    """Return the path of one of Ansible's commands: the one installed beside this interpreter, else from PATH.

    Raises:
        InputError: It is not installed.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise _problem("no-ansible", name, "the command is not installed", "install it: pip install ansible-core")
    return found


def _ask_ansible(path: str, limit: str) -> dict[str, Any]:
    argv = [ansible_command("ansible-inventory"), "-i", path, "--list"]
    if limit:
        argv += ["--limit", limit]
    # Without these two Ansible warns about what it cannot parse and goes on with half a fleet.
    environment = os.environ | {"ANSIBLE_INVENTORY_UNPARSED_FAILED": "1", "ANSIBLE_NOCOLOR": "1",
                                "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1"}
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
                              env=environment, check=False)
    except subprocess.TimeoutExpired as exc:
        raise _problem("inventory-timeout", path, f"ansible-inventory did not end within {TIMEOUT_S} s",
                       f"run it by hand: ansible-inventory -i {path} --list") from exc
    if done.returncode != 0:
        raise _problem("bad-inventory", path, f"Ansible cannot read the inventory: {_last_error(done.stderr)}",
                       f"run it by hand: ansible-inventory -i {path} --list")
    try:
        listing = json.loads(done.stdout)
    except ValueError as exc:
        raise _problem("bad-inventory", path, "ansible-inventory printed no JSON",
                       f"run it by hand: ansible-inventory -i {path} --list") from exc
    return listing if isinstance(listing, dict) else {}


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR", "[ERROR]"))]
    return (errors or lines or ["no reason given"])[-1][:300]


def _hosts(listing: Mapping[str, Any], path: str, files: list[Path]) -> tuple[Host, ...]:
    variables = listing.get("_meta", {}).get("hostvars", {})
    groups = _groups(listing)
    names = set(variables) | {name for members in groups.values() for name in members}
    member_of: dict[str, set[str]] = {name: set() for name in names}
    for group, members in groups.items():
        for name in members if group not in ("all", "ungrouped") else ():
            member_of[name].add(group)
    result = []
    for name in sorted(names):
        if not NAME.match(name):
            raise _bad_name(name, _mention(files, name) or path)
        mine = variables.get(name, {})
        connection = {key: str(mine[key]) for key in CONNECTION_KEYS if key in mine}
        settings = tuple(key for key in ROLE_KEYS if PREFIX + key in mine)
        declared = _declared(name, mine, path, files)
        result.append(Host(name, declared, tuple(sorted(member_of[name])), connection, settings))
    return tuple(result)


def _groups(listing: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return group -> hosts, those of child groups included."""
    own = {g: v for g, v in listing.items() if g != "_meta" and isinstance(v, dict)}

    def members(group: str, above: frozenset[str]) -> set[str]:
        found = set(own.get(group, {}).get("hosts", ()))
        for child in own.get(group, {}).get("children", ()):
            if child not in above:
                found |= members(child, above | {child})
        return found

    return {group: members(group, frozenset({group})) for group in own}


def _mention(files: list[Path], word: str) -> str | None:
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if word in text:
            return _where(file, text, word)
    return None


def _declared(name: str, variables: Mapping[str, Any], path: str, files: list[Path]) -> Declared:
    """Return the ``planner_*`` variables of one host, prefix removed."""
    declared: dict[str, str | tuple[str, ...] | bool] = {}
    for variable in sorted(v for v in variables if v.startswith(PREFIX)):
        key = variable.removeprefix(PREFIX)
        if key in ROLE_KEYS or HANDOVER_KEY.match(key):
            continue
        if key not in KNOWN_KEYS:
            near = difflib.get_close_matches(key, KNOWN_KEYS + ROLE_KEYS, 1)
            known = ", ".join(PREFIX + k for k in KNOWN_KEYS)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known are: {known}"
            raise _problem("unknown-variable", _mention(files, variable) or path,
                           f"host {name} has a variable {variable} that planner does not know", hint)
        declared[key] = _value(variable, variables[variable], name, path, files)
    environment = declared.get("environment")
    if environment is not None and environment not in ENVIRONMENTS:
        raise _problem("bad-variable", _mention(files, f"{PREFIX}environment") or path,
                       f"host {name}: planner_environment is {environment!r}", f"use one of: {', '.join(ENVIRONMENTS)}")
    return declared


def _value(variable: str, value: Any, name: str, path: str, files: list[Path]) -> str | tuple[str, ...] | bool:
    if isinstance(value, bool):
        return value
    items = value if isinstance(value, list) else [value]
    where = _mention(files, variable) or path
    if any(not isinstance(item, (str, int, float)) or isinstance(item, bool) for item in items):
        raise _problem("bad-variable", where, f"host {name}: {variable} is neither text nor a list of texts",
                       f"write {variable} as text or as a list of texts")
    texts = [str(item) for item in items]
    if any(_TEMPLATE.search(text) for text in texts):
        raise _problem("bad-variable", where, f"host {name}: {variable} is a template, which planner does not render",
                       f"write the value of {variable} itself")
    return tuple(texts) if isinstance(value, list) else texts[0]
