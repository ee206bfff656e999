"""The operating system: release, C library, virtualisation, root file system, Secure Boot, automatic upgrades."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

_APT_LIKE = {"debian", "ubuntu"}
_DNF_LIKE = {"rhel", "fedora", "centos", "rocky", "almalinux", "ol", "amzn", "azurelinux", "mariner"}
_VOLATILE_ROOTS = {"nfs", "nfs4", "tmpfs", "ramfs", "rootfs", "squashfs", "cifs", "9p", "ceph", "fuse.glusterfs"}
_CONTAINERS = {"docker", "podman", "lxc", "lxc-libvirt", "systemd-nspawn", "rkt", "container-other", "proot", "pouch"}


@dataclass(frozen=True, slots=True)
class Unit:
    """One systemd unit; ``active`` is None when the unit does not exist."""

    active: bool | None
    enabled: bool


def parse_os_release(text: str) -> dict[str, str]:
    """Return the keys of ``/etc/os-release``; quotes and escapes removed, comments and broken lines left out."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or not re.fullmatch(r"[A-Z][A-Z0-9_]*", key):
            continue
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = re.sub(r"\\([\\\"$`'])", r"\1", value[1:-1])
        found[key] = value
    return found


def package_family(release: Mapping[str, str]) -> str:
    """Return ``apt``, ``dnf`` or ``""`` from the keys of os-release."""
    names = {release.get("ID", ""), *release.get("ID_LIKE", "").split()}
    if names & _APT_LIKE:
        return "apt"
    return "dnf" if names & _DNF_LIKE else ""


def parse_glibc(text: str) -> str | None:
    """Return the version in ``getconf GNU_LIBC_VERSION``: ``glibc 2.35`` -> ``2.35``."""
    found = re.search(r"glibc\s+(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else None


def parse_virtualisation(text: str, present: Collection[str], proc_version: str = "") -> str | None:
    """Return ``none``, ``kvm``, ``docker``, ``wsl`` …; None when it cannot be told.

    Args:
        text: Output of ``systemd-detect-virt``.
        present: Paths that exist on the node.
        proc_version: ``/proc/version``; WSL's kernel says so there even where systemd does not.
    """
    if "/dev/dxg" in present or re.search(r"microsoft.*wsl", proc_version, re.IGNORECASE):
        return "wsl"
    word = text.strip().splitlines()[0].strip() if text.strip() else ""
    if word and word != "none":
        return word
    if "/.dockerenv" in present:
        return "docker"
    if "/run/.containerenv" in present:
        return "podman"
    return word or None


def is_container(virtualisation: str | None) -> bool:
    """Tell whether a virtualisation word means a container, whose kernel and firmware are its host's."""
    return virtualisation in _CONTAINERS


def parse_root(mount: str, upper_mount: str | None) -> bool | None:
    """Tell whether the root file system forgets or is not the node's own.

    Args:
        mount: Line of ``/proc/self/mountinfo`` for ``/``.
        upper_mount: Line of the mount that holds an overlay's upper directory; None when it is not visible.

    Returns:
        True for network, memory and image roots, and for overlays that write to memory; False for disks; None for
        an overlay whose upper layer lies out of sight (a container).
    """
    kind = _mount_type(mount)
    if kind is None:
        return None
    if kind in _VOLATILE_ROOTS:
        return True
    if kind not in ("overlay", "aufs"):
        return False
    below = _mount_type(upper_mount or "")
    return None if below is None else below in _VOLATILE_ROOTS


def _mount_type(line: str) -> str | None:
    _, dash, rest = line.partition(" - ")
    return rest.split()[0] if dash and rest.split() else None


def parse_secure_boot(text: str, *, efi_byte: int | None, present: Collection[str]) -> bool | None:
    """Return whether Secure Boot is on; None when it cannot be told.

    Args:
        text: Output of ``mokutil --sb-state``, both streams.
        efi_byte: Last byte of the firmware variable, if it could be read.
        present: Paths that exist on the node. No EFI directory beside other firmware directories means a boot
            without EFI; an empty firmware directory (a container's mask) means nothing.
    """
    if re.search(r"SecureBoot enabled", text):
        return True
    if re.search(r"SecureBoot disabled|EFI variables are not supported|doesn't support Secure Boot", text):
        return False
    if efi_byte is not None:
        return efi_byte == 1
    others = {"/sys/firmware/acpi", "/sys/firmware/memmap"} & set(present)
    return False if others and "/sys/firmware/efi" not in present else None


def parse_units(text: str) -> dict[str, Unit]:
    """Return the units in the output of ``systemctl show -p Id,LoadState,ActiveState,UnitFileState``."""
    units = {}
    for block in re.split(r"\n\s*\n", text.strip()):
        keys = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        name = keys.get("Id", "")
        if name:
            loaded = keys.get("LoadState") == "loaded"
            units[name] = Unit(keys.get("ActiveState") in ("active", "activating", "reloading") if loaded else None,
                               loaded and keys.get("UnitFileState", "").startswith("enabled"))
    return units


def parse_auto_upgrades(periodic: str, units: Mapping[str, Unit], packages: Collection[str]) -> tuple[str, ...]:
    """Return the mechanisms that may upgrade packages by themselves, sorted.

    Args:
        periodic: Output of ``apt-config dump APT::Periodic``.
        units: systemd units of the node.
        packages: Names of installed packages.
    """
    found = set()
    interval = re.search(r'APT::Periodic::Unattended-Upgrade\s+"([^"]*)"', periodic)
    if interval and interval.group(1) not in ("", "0") and "unattended-upgrades" in packages:
        found.add("unattended-upgrades")
    for name, unit in units.items():
        if re.match(r"dnf5?-automatic", name) and (unit.active or unit.enabled):
            found.add("dnf-automatic")
    return tuple(sorted(found))


def parse_tool_version(text: str) -> str | None:
    """Return the first version in what a program prints about itself.

    Knows ``Docker version 28.2.2, build …``, ``containerd github.com/… v1.7.27 …``, ``apptainer version 1.3.4``,
    ``slurm 22.05.8``, ``Kubernetes v1.30.1`` and a bare ``3.5.0``.
    """
    found = re.search(r"(?:^|[\s:=v])v?(\d+\.\d+(?:\.\d+)*(?:[-+~][0-9A-Za-z.]+)*)", text)
    return found.group(1) if found else None
