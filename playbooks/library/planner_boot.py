#!/usr/bin/python
"""Ansible module: may this node be rebooted, and did the boot bring the driver that was planned?"""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: planner_boot
short_description: The kernel that will boot, the module built for it, the driver that is loaded
description:
  - Finds the kernel that the boot loader will start, whether it is the wanted one, and whether a kernel module of the
    wanted version is built for it and, under Secure Boot, signed. Changes nothing.
options:
  kernel:
    description: Wanted release of the kernel, as uname -r prints it; empty means that any will do.
    type: str
    default: ""
  version:
    description: Wanted version of the module; empty means that any will do, or none.
    type: str
    default: ""
  module:
    description: Name of the kernel module.
    type: str
    default: nvidia
author: [planner]
"""

EXAMPLES = r"""
- name: Look at the next boot
  planner_boot:
    version: 580.105.08
    kernel: 6.8.0-100-generic
"""

RETURN = r"""
next_kernel: {description: Release of the kernel that will boot., type: str, returned: always}
running_kernel: {description: Release of the running kernel., type: str, returned: always}
built: {description: "Version of the module on disk for the next kernel, empty for none.", type: str, returned: always}
loaded: {description: "Version of the loaded module, empty for none.", type: str, returned: always}
boot_id: {description: Id of this boot., type: str, returned: always}
problems: {description: Why a reboot would not bring the wanted kernel or driver., type: list, returned: always}
"""

import glob
import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.planner_node import boot_id, read_first_line

SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def release_key(release):
    """Return the sort key of a kernel release: numbers by value, so that 6.8.0-100 follows 6.8.0-85."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|[a-z]+", release)]


def choose_kernel(installed, running, grubby="", grub_default="", grub_environment=""):
    """Return the release that will boot.

    Args:
        installed: Releases that have a kernel in /boot.
        running: Release of the running kernel; the answer when /boot shows none.
        grubby: Output of ``grubby --default-kernel``; decides where it answers.
        grub_default: Text of /etc/default/grub and of what is read after it; the last setting counts.
        grub_environment: Output of ``grub-editenv list``: ``next_entry`` counts once, ``saved_entry`` where
            GRUB_DEFAULT is ``saved``.
    """
    told = re.search(r"vmlinu[xz]-(\S+)", grubby)
    if told:
        return told.group(1)
    if not installed:
        return running
    entries = dict(line.partition("=")[::2] for line in grub_environment.splitlines() if "=" in line)
    settings = re.findall(r"^\s*GRUB_DEFAULT=[\"']?([^\"'\n]*)", grub_default, re.MULTILINE)
    default = settings[-1].strip() if settings else "0"
    entry = entries.get("next_entry", "") or (entries.get("saved_entry", "") if default == "saved" else default)
    named = [release for release in installed if release in entry]
    # The longest name wins: 6.8.0-85-generic-64k also contains 6.8.0-85-generic.
    return max(named, key=len) if named else max(installed, key=release_key)


def loaded_version(name):
    """Return the version of the loaded module, "" when it is not loaded or does not say."""
    version = read_first_line("/sys/module/%s/version" % name)
    if version or name != "nvidia":
        return version
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", read_first_line("/proc/driver/nvidia/version"))
    return found.group(1) if found else ""


def secure_boot():
    """Tell whether firmware enforces signatures (the fifth byte of the EFI variable)."""
    try:
        with open(SECURE_BOOT, "rb") as handle:
            return handle.read(5)[4:] == b"\x01"
    except OSError:
        return False


def find_problems(wanted, name, kernel, built, signer, enforced, wanted_kernel=""):
    """Return the reasons why a boot of ``kernel`` would not bring the wanted kernel and module version."""
    if wanted_kernel and kernel != wanted_kernel:
        return ["kernel %s will boot, %s is planned: make that the boot loader's default entry (grub-set-default, "
                "grubby --set-default), then go on" % (kernel, wanted_kernel)]
    if not wanted:
        return []
    if built != wanted:
        return ["kernel %s will boot, and its %s module is %s, not %s" % (kernel, name, built or "not built", wanted)]
    if enforced and not signer:
        return ["Secure Boot is on and the %s module for kernel %s is not signed" % (name, kernel)]
    return []


def grub_settings():
    """Return the settings that grub's menu is made from, in the order in which they are read."""
    texts = []
    for path in ["/etc/default/grub"] + sorted(glob.glob("/etc/default/grub.d/*.cfg")):
        try:
            with open(path) as handle:
                texts.append(handle.read())
        except (OSError, UnicodeDecodeError):
            continue
    return "\n".join(texts)


def main():
    """Entry point."""
    module = AnsibleModule(argument_spec={"version": {"type": "str", "default": ""},
                                          "kernel": {"type": "str", "default": ""},
                                          "module": {"type": "str", "default": "nvidia"}}, supports_check_mode=True)
    name = module.params["module"]

    def output(*argv):
        program = module.get_bin_path(argv[0])
        return module.run_command([program] + list(argv[1:]))[1].strip() if program else ""

    running = read_first_line("/proc/sys/kernel/osrelease") or os.uname().release
    installed = [os.path.basename(p).split("-", 1)[1] for p in glob.glob("/boot/vmlinu[xz]-*") if "rescue" not in p]
    kernel = choose_kernel(installed, running, output("grubby", "--default-kernel"), grub_settings(),
                           output("grub-editenv", "list") or output("grub2-editenv", "list"))
    built, signer = (output("modinfo", "-k", kernel, "-F", field, name) for field in ("version", "signer"))
    module.exit_json(
        changed=False, next_kernel=kernel, running_kernel=running, built=built, loaded=loaded_version(name),
        boot_id=boot_id(), problems=find_problems(module.params["version"], name, kernel, built, signer, secure_boot(),
                                                  module.params["kernel"]))


if __name__ == "__main__":
    main()
