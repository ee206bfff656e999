#!/usr/bin/python
"""Ansible module, run on the controller: the records that a wave leaves, and that the next wave asks for."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: planner_record
short_description: Keep a node's record, or require those of a wave
description:
  - Writes records/WAVE/HOST.json on the controller, or checks that every host of a wave has a passing record of the
    same rollout, or that every host of several waves has a record at all.
options:
  action: {description: What to do., type: str, choices: [keep, require, kept], required: true}
  directory: {description: The bundle's directory of records., type: path, required: true}
  rollout: {description: Name of the rollout., type: str, required: true}
  wave: {description: Id of the wave., type: str}
  waves: {description: "For kept: wave -> its hosts.", type: dict, default: {}}
  hosts: {description: Whose records are required., type: list, elements: str, default: []}
  host: {description: Whose record is kept., type: str}
  record: {description: What is kept., type: dict, default: {}}
author: [planner]
"""

EXAMPLES = r"""
- name: Require the canaries' records
  planner_record:
    action: require
    directory: ../records
    rollout: prod-1a2b3c4d
    wave: w1
    hosts: [gpu01]
  delegate_to: localhost
"""

RETURN = r"""
path: {description: File of the record., type: str, returned: keep}
missing: {description: "Hosts without such a record, and why.", type: list, returned: require and kept}
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.planner_node import LeaseError, now, read_json, write_json


def missing_records(directory, rollout, wave, hosts, any_verdict=False):
    """Return ``host: reason`` for each host of a wave without a passing, or any, record of this rollout."""
    found = []
    for host in hosts:
        record = read_json(os.path.join(directory, wave, host + ".json"))
        if not record:
            found.append("%s: no record" % host)
        elif record.get("rollout") != rollout:
            found.append("%s: its record is of rollout %s" % (host, record.get("rollout")))
        elif record.get("verdict") != "pass" and not any_verdict:
            found.append("%s: %s" % (host, record.get("verdict")))
    return found


def keep(path, record, check_mode):
    """Write a record unless an equal one, time aside, is there; return whether it changed."""
    old = read_json(path)
    if {k: v for k, v in old.items() if k != "at"} == json.loads(json.dumps(record)):
        return False
    if not check_mode:
        write_json(path, dict(record, at=now()))
    return True


def main():
    """Entry point."""
    spec = {
        "action": {"type": "str", "required": True, "choices": ["keep", "require", "kept"]},
        "directory": {"type": "path", "required": True}, "rollout": {"type": "str", "required": True},
        "wave": {"type": "str"}, "waves": {"type": "dict", "default": {}},
        "hosts": {"type": "list", "elements": "str", "default": []},
        "host": {"type": "str"}, "record": {"type": "dict", "default": {}},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True,
                           required_if=[("action", "keep", ["host", "wave"]), ("action", "require", ["wave"])])
    params = module.params
    try:
        if params["action"] == "require":
            missing = missing_records(params["directory"], params["rollout"], params["wave"], params["hosts"])
            module.exit_json(changed=False, missing=missing)
        if params["action"] == "kept":
            module.exit_json(changed=False, missing=[
                told for wave, hosts in sorted(params["waves"].items())
                for told in missing_records(params["directory"], params["rollout"], wave, hosts, any_verdict=True)])
        path = os.path.join(params["directory"], params["wave"], params["host"] + ".json")
        record = dict(params["record"], schema="planner.record/1", rollout=params["rollout"], wave=params["wave"],
                      host=params["host"])
        module.exit_json(changed=keep(path, record, module.check_mode), path=path)
    except (LeaseError, OSError) as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
