"""Kernels: which one will boot, and for which the nvidia module is built."""

from __future__ import annotations

import re
from collections.abc import Collection

from planner.model.version import version_key


def parse_default_kernel(text: str) -> str | None:
    """Return the release in ``grubby --default-kernel``: ``/boot/vmlinuz-5.14.0-503.el9.x86_64`` -> the release."""
    found = re.search(r"vmlinu[xz]-(\S+)", text)
    return found.group(1) if found else None


def parse_next_boot(
    bootable: Collection[str], *, grubby: str = "", grub_default: str = "", grub_env: str = "",
) -> str | None:
    """Return the kernel that boots next, or None when the configuration does not tell.

    Args:
        bootable: Releases with an image under ``/boot``.
        grubby: Output of ``grubby --default-kernel``; decides where it answers.
        grub_default: Text of ``/etc/default/grub``.
        grub_env: Output of ``grub-editenv list``: a once-only ``next_entry``, or ``saved_entry``.
    """
    if told := parse_default_kernel(grubby):
        return told
    if not bootable:
        return None
    environment = dict(line.partition("=")[::2] for line in grub_env.splitlines() if "=" in line)
    if environment.get("next_entry", "").strip():
        return _entry(environment["next_entry"], bootable)
    setting = re.search(r"^\s*GRUB_DEFAULT=(.*)$", grub_default, re.MULTILINE)
    entry = setting.group(1).strip().strip("\"'") if setting else "0"
    if entry == "saved":
        entry = environment.get("saved_entry", "").strip() or "0"
    return _entry(entry, bootable)


def _entry(entry: str, bootable: Collection[str]) -> str | None:
    """Return the kernel a menu entry means: the first is the newest; a title names its release."""
    if entry in ("0", ""):
        return max(bootable, key=version_key)
    named = [release for release in bootable if release in entry]
    return max(named, key=len) if named else None


def parse_modinfo(text: str) -> dict[str, str]:
    """Return ``filename``, ``version``, ``license``, ``vermagic`` of ``modinfo``'s output, where there."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key in ("filename", "version", "license", "vermagic") and key not in found:
            found[key] = value.strip()
    return found


def parse_flavour(proc_version: str, licence: str) -> str | None:
    """Return ``open`` or ``proprietary``.

    Args:
        proc_version: ``/proc/driver/nvidia/version``; what is loaded decides.
        licence: The module file's licence field, for a node where nothing is loaded.
    """
    if "NVRM version" in proc_version:
        return "open" if "Open Kernel Module" in proc_version else "proprietary"
    if re.search(r"MIT|GPL", licence):
        return "open"
    return "proprietary" if licence.strip() == "NVIDIA" else None


def parse_proc_version(text: str) -> str | None:
    """Return the driver version in ``/proc/driver/nvidia/version``, as written there."""
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else None
