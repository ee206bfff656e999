#!/usr/bin/python
"""Ansible module, run on the controller: the judgement on a gate report."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: planner_verdict
short_description: Judge what the probe saw of a node's GPUs
description:
  - Computes every kernel's output again from the nonce, and compares it and the versions with what was asked.
  - Does not fail by itself; the task after it decides what a verdict means.
options:
  report: {description: What the probe printed., type: str, required: true}
  request: {description: "What it was asked: profile, nonce, host, expect.", type: dict, required: true}
author: [planner]
"""

EXAMPLES = r"""
- name: Judge the gate
  planner_verdict:
    report: "{{ probe.stdout }}"
    request: {profile: quick, nonce: "00ff", host: gpu01, expect: {driver: "580.159.04", gpus: 8}}
  delegate_to: localhost
"""

RETURN = r"""
verdict: {description: "pass, fail or inconclusive", type: str, returned: always}
reasons: {description: "Why it is not a pass.", type: list, returned: always}
wrong_results: {description: "Whether a kernel gave a wrong result.", type: bool, returned: always}
notes: {description: "What a reader must know of a pass.", type: list, returned: always}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.planner_judge import judge_gate


def main():
    """Entry point."""
    module = AnsibleModule(argument_spec={"report": {"type": "str", "required": True},
                                          "request": {"type": "dict", "required": True}}, supports_check_mode=True)
    module.exit_json(changed=False, **judge_gate(module.params["report"], module.params["request"]))


if __name__ == "__main__":
    main()
