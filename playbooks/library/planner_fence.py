#!/usr/bin/python
"""Ansible module: marks of a rollout on nodes of Slurm or Kubernetes, which keep jobs to one half of a mixed domain."""

from __future__ import absolute_import, division, print_function

__metaclass__ = type

DOCUMENTATION = r"""
module: planner_fence
short_description: Mark which nodes of a communication domain are changed already
description:
  - Runs where the scheduler's own command line is (scontrol or kubectl).
  - Sets the mark of one changed node, and the opposite one on every node that changes later, unless it has one.
  - In Slurm a mark is a feature, C(MARK-new) or C(MARK-old); in Kubernetes the label C(MARK) with C(new) or C(old).
  - Touches no other feature and no other label; what is as it should be is not written again.
options:
  action:
    description: Set the marks as they are once C(node) is changed; or take the rollout's marks off all C(places).
    type: str
    choices: [set, remove]
    required: true
  by:
    description: The scheduler.
    type: str
    choices: [slurm, kubernetes]
    required: true
  mark:
    description: What the rollout's marks begin with.
    type: str
    required: true
  places:
    description: Host -> 0 where it is as wanted from the start, else the number of the batch that changes it.
    type: dict
    required: true
  names:
    description: Pairs of a host and the scheduler's name of it; without one, or with an empty one, the host's own.
    type: list
    elements: list
    default: []
  node:
    description: The host that goes back changed; for C(set).
    type: str
author: [planner]
"""

EXAMPLES = r"""
- name: Mark the changed node, and those that are not changed yet
  planner_fence:
    action: set
    by: slurm
    mark: planner-prod-1a2b3c4d
    node: gpu01
    places: {gpu01: 1, gpu02: 2}
  delegate_to: slurm-head
"""

RETURN = r"""
marked:
  description: Scheduler's name of a node -> half it was put into, "" for none; what was right already is left out.
  type: dict
  returned: always
"""

import getpass

from ansible.module_utils.basic import AnsibleModule

HALVES = ("new", "old")
TOGETHER = 200      # nodes in one command


class FenceError(Exception):
    """The scheduler could not be asked, or refused."""


def wanted_halves(places, node, have):
    """Return host -> half for every host whose mark has to change once ``node`` is changed.

    Hosts of earlier batches, and of its own, see to themselves; a later one that has a mark keeps it.

    Args:
        places: Host -> place, as the module's option.
        node: The host that is changed now.
        have: Host -> half it is marked with, or "".
    """
    wanted = {node: "new"}
    for host, place in places.items():
        if host == node or host not in have:
            continue
        if int(place) == 0:
            wanted[host] = "new"
        elif int(place) > int(places[node]) and not have[host]:
            wanted[host] = "old"
    return {host: half for host, half in wanted.items() if have.get(host) != half}


def read_features(listing):
    """Return node -> (available features, active features) of what ``scontrol --oneliner show node`` prints."""
    found = {}
    for line in listing.splitlines():
        words = {}
        for word in line.split():     # the first counts: a reason or a comment at the end may hold anything
            key, sign, value = word.partition("=")
            if sign:
                words.setdefault(key, value)
        if "NodeName" in words:
            found[words["NodeName"]] = tuple(
                [f for f in words.get(key, "").split(",") if f and f != "(null)"]
                for key in ("AvailableFeatures", "ActiveFeatures"))
    return found


def feature_updates(features, marks, mark):
    """Return (available, active) -> nodes that get exactly these; all features but the rollout's own stay in order.

    Args:
        features: As ``read_features`` returns them.
        marks: Node -> half, or "" for none.
        mark: What the rollout's features begin with.
    """
    own = ["%s-%s" % (mark, half) for half in HALVES]
    groups = {}
    for name in sorted(marks):
        lists = [[f for f in listed if f not in own] for listed in features[name]]
        if marks[name]:
            lists = [listed + ["%s-%s" % (mark, marks[name])] for listed in lists]
        groups.setdefault(tuple(",".join(listed) for listed in lists), []).append(name)
    return groups


class Slurm:
    """Marks as node features."""

    TOLD = ("Slurm did not let %s change the features of a node: %s; give this user the right to update nodes "
            "(Slurm operator or administrator), or take the marks out with rollout: {fence: false} in the target and "
            "keep jobs to one half yourself")

    def __init__(self, run, mark):
        """Keep what runs a command and what marks begin with."""
        self.run, self.mark, self.features = run, mark, {}

    def read(self, names):
        """Return node -> half or "", for those of some names that Slurm knows."""
        self.features = read_features(self.run(["scontrol", "--oneliner", "show", "node"], ""))
        return {name: next((half for half in HALVES if "%s-%s" % (self.mark, half) in self.features[name][1]), "")
                for name in names if name in self.features}

    def write(self, marks):
        """Give each node its half; ``""`` takes the mark off."""
        told = self.TOLD % (getpass.getuser(), "%s")
        for (available, active), names in sorted(feature_updates(self.features, marks, self.mark).items()):
            for start in range(0, len(names), TOGETHER):
                self.run(["scontrol", "update", "NodeName=" + ",".join(names[start:start + TOGETHER]),
                          "AvailableFeatures=" + available, "ActiveFeatures=" + active], told)


class Kubernetes:
    """Marks as values of one label."""

    TOLD = ("Kubernetes did not let this user label a node: %s; give it the right to patch nodes, or take the marks "
            "out with rollout: {fence: false} in the target and keep jobs to one half yourself")

    def __init__(self, run, mark):
        """Keep what runs a command and the label."""
        self.run, self.mark = run, mark

    def read(self, names):
        """Return node -> half or "", for those of some names that Kubernetes knows."""
        def listed(*selector):
            argv = ["kubectl", "get", "nodes", "-o", "name"] + list(selector)
            return set(line.rpartition("/")[2] for line in self.run(argv, "").split())

        known = listed()
        marked = {half: listed("-l", "%s=%s" % (self.mark, half)) for half in HALVES}
        return {name: next((half for half in HALVES if name in marked[half]), "") for name in names if name in known}

    def write(self, marks):
        """Give each node its half; ``""`` takes the mark off."""
        for half in HALVES + ("",):
            names = sorted(name for name in marks if marks[name] == half)
            word = ["%s=%s" % (self.mark, half), "--overwrite"] if half else [self.mark + "-"]
            for start in range(0, len(names), TOGETHER):
                self.run(["kubectl", "label", "nodes"] + names[start:start + TOGETHER] + word, self.TOLD)


def fence(scheduler, params, check_mode):
    """Bring the marks to where they belong; return the scheduler's name of a node -> half for what was not there.

    Raises:
        FenceError: The scheduler refuses, does not answer, or does not know the node.
    """
    places, node = params["places"], params["node"]
    name_of = {host: host for host in places}
    name_of.update({host: name for host, name in params["names"] if name and host in places})
    known = scheduler.read(sorted(name_of.values()))
    have = {host: known[name] for host, name in name_of.items() if name in known}
    if params["action"] == "remove":
        marks = {name_of[host]: "" for host, half in have.items() if half}
    elif node not in have:
        raise FenceError("%s knows no node %s; say its name there with planner_%s_node" % (
            params["by"].capitalize(), name_of.get(node, node), params["by"]))
    else:
        marks = {name_of[host]: half for host, half in wanted_halves(places, node, have).items()}
    if marks and not check_mode:
        scheduler.write(marks)
        found = scheduler.read(sorted(marks))
        wrong = sorted(name for name in marks if found.get(name) != marks[name])
        if wrong:
            raise FenceError("the scheduler took the marks but does not show them on %s" % ", ".join(wrong))
    return marks


def main():
    """Entry point."""
    spec = {
        "action": {"type": "str", "required": True, "choices": ["set", "remove"]},
        "by": {"type": "str", "required": True, "choices": ["slurm", "kubernetes"]},
        "mark": {"type": "str", "required": True}, "places": {"type": "dict", "required": True},
        "names": {"type": "list", "elements": "list", "default": []}, "node": {"type": "str"},
    }
    module = AnsibleModule(argument_spec=spec, required_if=[("action", "set", ["node"])], supports_check_mode=True)

    def run(argv, told):
        code, out, err = module.run_command(argv)
        if code:
            words = " ".join((err or out).split()) or "%s ended with %d" % (argv[0], code)
            raise FenceError(told % words if told else "%s: %s" % (" ".join(argv[:4]), words))
        return out

    try:
        scheduler = (Slurm if module.params["by"] == "slurm" else Kubernetes)(run, module.params["mark"])
        marked = fence(scheduler, module.params, module.check_mode)
        module.exit_json(changed=bool(marked), marked=marked)
    except FenceError as exc:
        module.fail_json(msg=str(exc))


if __name__ == "__main__":
    main()
