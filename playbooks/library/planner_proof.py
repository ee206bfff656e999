#!/usr/bin/python
"""Ansible module: does a node, its cluster or the inventory show that a hand-over was done? Changes nothing."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: planner_proof
short_description: Read what shows that a step by other hands was done
description:
  - Reads files, runs commands that change nothing, or takes what the inventory says, and compares it with what is wanted.
  - Without a match a component is absent. Nothing is wanted of a proof without O(proofs[].wanted).
options:
  proofs:
    description:
      - Each has component, wanted and unwanted (values), where (node or cluster), one of file, argv and variable, and
        fields (name, regular expression with one group) with value, a template over the fields.
    type: list
    elements: dict
    required: true
  declared:
    description: Values of the inventory variables that proofs name.
    type: dict
    default: {}
  where:
    description: Proofs of other places are left out.
    type: str
    choices: [node, cluster]
    default: node
author: [planner]
"""

EXAMPLES = r"""
- name: Look whether the release was upgraded
  planner_proof:
    proofs:
      - component: os
        wanted: [ubuntu-24.04]
        file: /etc/os-release
        fields: {release: '^VERSION_ID="?([0-9.]+)'}
        value: "ubuntu-{release}"
"""

RETURN = r"""
found: {description: "Component -> values that show now.", type: dict, returned: always}
unmet: {description: "What does not show yet, or still shows, one line each.", type: list, returned: always}
"""

import re

from ansible.module_utils.basic import AnsibleModule

TEXT_BYTES_MAX = 4 * 1024 * 1024     # a command that prints more shows nothing


def read_value(text, fields, template):
    """Return the value that a text shows, "" when one of the fields is not in it."""
    value = template
    for name, pattern in fields.items():
        found = re.search(pattern, text, re.MULTILINE)
        if not found:
            return ""
        value = value.replace("{%s}" % name, found.group(1))
    return value


def said_values(said):
    """Return the values that an inventory variable holds: a text, a list of them, or nothing."""
    listed = said if isinstance(said, (list, tuple)) else [said]
    return [str(item) for item in listed if item not in (None, "")]


def unmet(component, found, wanted, unwanted):
    """Return what does not show yet or, once all of that shows, what still does; one line each."""
    shown = ", ".join(found) or "absent"
    lines = ["%s is %s, %s is planned" % (component, shown, value) for value in wanted if value not in found]
    return lines or ["%s still shows %s" % (component, value) for value in unwanted if value in found]


def read_text(module, proof):
    """Return (text, problem) of a file or a command."""
    if proof.get("file"):
        try:
            with open(proof["file"], errors="replace") as handle:
                return handle.read(TEXT_BYTES_MAX), ""
        except OSError as exc:
            return "", str(exc)
    argv = proof.get("argv") or []
    program = module.get_bin_path(argv[0]) if argv else None
    if not program:
        return "", "%s is not installed" % (argv[0] if argv else "no program")
    rc, out, err = module.run_command([program] + argv[1:], environ_update={"LC_ALL": "C", "LANGUAGE": "C"})
    return out[:TEXT_BYTES_MAX], "" if rc == 0 else (err.strip().splitlines() or ["it ended with %d" % rc])[-1]


def main():
    """Entry point."""
    module = AnsibleModule(supports_check_mode=True, argument_spec={
        "proofs": {"type": "list", "elements": "dict", "required": True},
        "declared": {"type": "dict", "default": {}},
        "where": {"type": "str", "choices": ["node", "cluster"], "default": "node"},
    })
    found, lines = {}, []
    for proof in module.params["proofs"]:
        if proof.get("where", "node") != module.params["where"]:
            continue
        problem = ""
        if proof.get("variable"):
            values = said_values(module.params["declared"].get(proof["variable"]))
        else:
            text, problem = read_text(module, proof)
            value = read_value(text, proof.get("fields") or {}, proof.get("value") or "")
            values = [value] if value else []
        found[proof["component"]] = values
        more = unmet(proof["component"], values, proof.get("wanted") or [], proof.get("unwanted") or [])
        lines += ["%s (%s)" % (line, problem) if problem else line for line in more]
    module.exit_json(changed=False, found=found, unmet=lines)


if __name__ == "__main__":
    main()
