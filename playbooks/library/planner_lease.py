#!/usr/bin/python
"""Ansible module: the lease on a node, the marks of a rollout, and the guard against other hands' upgrades."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: planner_lease
short_description: Who may act on this node, and what has been done to it
description:
  - Takes, checks and releases the lease of a rollout on a node, and reads and writes the rollout's marks.
  - A lease of another rollout or owner, or one with a newer fencing token, is never overwritten.
  - Reading refuses, too, when this run may not act; it only writes nothing.
  - A turn tells whether a step may begin, from the marks of the steps before and after it.
  - The guard holds kernel packages and stops timers of automatic upgrades; only what the guard did is undone.
options:
  action:
    description: What to do.
    type: str
    choices: [read, take, check, turn, release, mark, guard, unguard]
    required: true
  rollout:
    description: Name of the rollout.
    type: str
    required: true
  owner:
    description: Who acts, for people.
    type: str
    required: true
  token:
    description: Fencing token; a newer one takes over, an older one is refused.
    type: int
    default: 0
  machine_id:
    description: The machine id that the plan was made for; empty means unknown.
    type: str
    default: ""
  key:
    description: Name of the mark.
    type: str
  value:
    description: Value of the mark; null removes it. Time and boot id are added.
    type: dict
  step:
    description: Id of the step whose turn is asked for.
    type: str
  steps:
    description: All steps of the node in order, each with id, disruption and quick_gate.
    type: list
    elements: dict
    default: []
  state_dir:
    description: Where lease and marks are kept.
    type: path
    default: /var/lib/planner
author: [planner]
"""

EXAMPLES = r"""
- name: Take the lease
  planner_lease:
    action: take
    rollout: prod-1a2b3c4d
    owner: anna@laptop
    token: 3
"""

RETURN = r"""
lease:
  description: The lease as it stands now.
  type: dict
  returned: always
marks:
  description: The marks of this rollout.
  type: dict
  returned: always
boot_id:
  description: Id of this boot.
  type: str
  returned: always
passed:
  description: Whether a later step has begun; this one must then be left alone.
  type: bool
  returned: for turn
unready:
  description: Why the step may not begin, one line each.
  type: list
  returned: for turn
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.planner_node import (
    LeaseError,
    boot_id,
    hold_lease,
    lease_arguments,
    now,
    read_marks,
    release_lease,
    step_turn,
    write_mark,
)

# Packages that bring another kernel, and timers that upgrade on their own: both would change a node in mid-rollout.
KERNEL_PACKAGE = re.compile(
    r"^linux-(image|headers|modules|generic|aws|azure|gcp|gke|ibm|intel|kvm|oracle|nvidia|virtual|lowlatency)"
    r"([-0-9].*)?$")
UPGRADE_TIMERS = ("apt-daily-upgrade.timer", "dnf-automatic.timer", "dnf-automatic-install.timer",
                  "dnf5-automatic.timer")


def kernel_packages(listing):
    """Return the installed kernel packages of a ``dpkg-query`` listing of ``name<TAB>status`` lines."""
    pairs = (line.split("\t") for line in listing.splitlines() if "\t" in line)
    return sorted(name for name, status in pairs if status == "installed" and KERNEL_PACKAGE.match(name))


def _output(module, argv):
    program = module.get_bin_path(argv[0])
    if not program:
        return ""
    return module.run_command([program] + argv[1:])[1]


def guard(module):
    """Hold kernel packages and stop upgrade timers; return whether anything changed. What was ours already stays."""
    params = module.params
    marks = read_marks(params)
    listing = _output(module, ["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Status}\n"])
    held = set(_output(module, ["apt-mark", "showhold"]).split())
    hold = [name for name in kernel_packages(listing) if name not in held - set(marks.get("held", []))]
    enabled = [t for t in UPGRADE_TIMERS if _output(module, ["systemctl", "is-enabled", t]).strip() == "enabled"]
    timers = sorted(set(enabled) | set(marks.get("timers", [])))
    missing = [name for name in hold if name not in held]
    if module.check_mode:
        return bool(missing or enabled)
    # The mark comes first: after a crash it must name everything that may have been done. What it names may for the
    # same reason not have been done yet, so the node decides what is left to do.
    changed = write_mark(params, "held", hold) | write_mark(params, "timers", timers)
    if missing:
        module.run_command([module.get_bin_path("apt-mark", required=True), "hold"] + missing, check_rc=True)
    if enabled:
        systemctl = module.get_bin_path("systemctl", required=True)
        module.run_command([systemctl, "disable", "--now"] + enabled, check_rc=True)
    return bool(changed or missing or enabled)


def unguard(module):
    """Undo what ``guard`` did; return whether anything changed."""
    params = module.params
    marks = read_marks(params)
    held, timers = marks.get("held", []), marks.get("timers", [])
    if module.check_mode:
        return bool(held or timers)
    # A package that has gone meanwhile is unknown to apt-mark, which then releases none.
    held = [name for name in _output(module, ["apt-mark", "showhold"]).split() if name in held] if held else []
    if held:
        module.run_command([module.get_bin_path("apt-mark", required=True), "unhold"] + held, check_rc=True)
    if timers:
        module.run_command([module.get_bin_path("systemctl", required=True), "enable", "--now"] + timers, check_rc=True)
    return write_mark(params, "held", None) | write_mark(params, "timers", None)


def perform(module):
    """Do one action; return (lease, changed)."""
    params, action = module.params, module.params["action"]
    if action == "release":
        return {}, False if module.check_mode else release_lease(params)
    lease, changed = hold_lease(params, module.check_mode or action == "read", must_exist=action != "take")
    if action == "mark" and not module.check_mode:
        value = params["value"]
        old = read_marks(params).get(params["key"])
        # Time and boot id tell when something was first marked so; a repeated act must not renew them.
        if value is not None and not (isinstance(old, dict) and all(old.get(k) == v for k, v in value.items())):
            value = dict({"at": now(), "boot_id": boot_id()}, **value)
        elif value is not None:
            value = old
        changed = write_mark(params, params["key"], value) or changed
    elif action == "guard":
        changed = guard(module) or changed
    elif action == "unguard":
        changed = unguard(module) or changed
    return lease, changed


def main():
    """Entry point."""
    spec = dict(
        lease_arguments(), key={"type": "str", "no_log": False}, value={"type": "dict"}, step={"type": "str"},
        steps={"type": "list", "elements": "dict", "default": []},
        action={"type": "str", "required": True,
                "choices": ["read", "take", "check", "turn", "release", "mark", "guard", "unguard"]},
    )
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True,
                           required_if=[("action", "mark", ["key"]), ("action", "turn", ["step", "steps"])])
    try:
        lease, changed = perform(module)
        marks, extra = read_marks(module.params), {}
        if module.params["action"] == "turn":
            extra = dict(zip(("passed", "unready"), step_turn(marks, module.params["steps"], module.params["step"])))
        module.exit_json(changed=changed, lease=lease, marks=marks, boot_id=boot_id(), **extra)
    except LeaseError as exc:
        module.fail_json(msg=str(exc), reason="lease")


if __name__ == "__main__":
    main()
