#!/usr/bin/python
"""Ansible module, run on the controller: the judgement on a gate report."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: planner_verdict
short_description: Judge what the probe saw of a node's GPUs, or of the site's own command
description:
  - Computes what every kernel had to answer again from the nonce, and compares it and the versions with what was asked.
  - Compares figures with those from before the change.
  - Does not fail by itself; the task after it decides what a verdict means.
options:
  report: {description: "What the probe printed; of a pair the JSON list of both.", type: str, required: true}
  request:
    description: "What it was asked: profile, nonce, host, expect; for a command argv, seconds, host, nonce; for a pair hosts, nonce, ranks, bytes."
    type: dict
    required: true
  of: {description: What was run., type: str, choices: [gate, canary, pair], default: gate}
  said: {description: "What came instead of a report, for a command.", type: str, default: ""}
  before: {description: "What the probe printed before the change, or nothing.", type: str, default: ""}
  earlier:
    description: "Attempts of this same run, the first one first: each a report and its request."
    type: list
    elements: dict
    default: []
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
verdict: {description: "pass, warn, fail, inconclusive, error, skip or hung", type: str, returned: always}
outcome: {description: "What a rollout goes by: pass, fail or inconclusive.", type: str, returned: always}
code: {description: "Code of the worst answer.", type: str, returned: always}
action: {description: "What it proposes.", type: str, returned: always}
allowed: {description: "What a person may choose instead.", type: list, returned: always}
exit_code: {description: "What planner gate run would end with.", type: int, returned: always}
reasons: {description: "Why it is not a pass.", type: list, returned: always}
notes: {description: "What a reader must know of a pass.", type: list, returned: always}
not_tried: {description: "What was not tried, and why.", type: list, returned: always}
wrong_results: {description: "Whether a kernel gave a wrong result.", type: bool, returned: always}
retry_after_s: {description: "Seconds of idle before a fresh attempt; 0 where none is asked for.", type: int,
                returned: always}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.planner_gates.canary import canary_verdict
from ansible.module_utils.planner_gates.judge import judge_gate
from ansible.module_utils.planner_gates.multi_node import pair_verdict


def main():
    """Entry point."""
    module = AnsibleModule(argument_spec={
        "report": {"type": "str", "required": True}, "request": {"type": "dict", "required": True},
        "of": {"type": "str", "choices": ["gate", "canary", "pair"], "default": "gate"},
        "said": {"type": "str", "default": ""}, "before": {"type": "str", "default": ""},
        "earlier": {"type": "list", "elements": "dict", "default": []}}, supports_check_mode=True)
    given = module.params
    if given["of"] == "canary":
        found = canary_verdict(given["report"], given["request"], given["said"])
    elif given["of"] == "pair":
        found = pair_verdict(given["report"], given["request"])
    else:
        earlier = [(str(each.get("report", "")), each.get("request") or {}) for each in given["earlier"]]
        found = judge_gate(given["report"], given["request"], given["before"], earlier)
    del found["results"]        # long, and computed again by whoever wants it
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
